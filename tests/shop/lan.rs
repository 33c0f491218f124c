//! A shop's network: one switch in a network namespace of its own, and one namespace for each till, joined by a cable that can
//! be pulled; or, for what a switch cannot do to frames, a [`Hub`] in its place. Everything is named after this process and the scenario, so that rigs run side by side.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::hub::{Air, Counts, Hub};
use crate::tap;

const PREFIX: &str = "tillshop";
/// Where `ip netns` keeps the namespaces that it named.
const NAMESPACES: &str = "/run/netns";

/// A till of the shop, by its letter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Name(pub(crate) char);

pub(crate) const A: Name = Name('A');
pub(crate) const B: Name = Name('B');
pub(crate) const C: Name = Name('C');
pub(crate) const D: Name = Name('D');
pub(crate) const E: Name = Name('E');
/// As many as one shop has in a scenario.
pub(crate) const ALL: [Name; 16] = [
    A,
    B,
    C,
    D,
    E,
    Name('F'),
    Name('G'),
    Name('H'),
    Name('I'),
    Name('J'),
    Name('K'),
    Name('L'),
    Name('M'),
    Name('N'),
    Name('O'),
    Name('P'),
];

impl Name {
    /// 0 for A, 1 for B.
    fn index(self) -> u8 {
        (self.0 as u8).wrapping_sub(b'A')
    }

    /// Its address when it is first plugged in.
    pub(crate) fn address(self) -> String {
        format!("10.77.0.{}", 11 + self.index())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Several tills, for a step's line.
pub(crate) fn letters(names: &[Name]) -> String {
    names.iter().map(Name::to_string).collect::<Vec<_>>().join(", ")
}

/// A till's network, for threads that stay on it.
pub(crate) struct Place(PathBuf);

impl Place {
    /// Moves this thread there.
    pub(crate) fn enter(&self) -> Result<()> {
        let namespace = fs::File::open(&self.0).with_context(|| self.0.display().to_string())?;
        Ok(move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?)
    }
}

pub(crate) struct Lan {
    prefix: String,
    /// The tills, and each one's address.
    tills: BTreeMap<Name, String>,
    /// Where it stands in for the switch.
    hub: Option<Hub>,
}

impl Lan {
    /// Builds switch, namespaces and cables; all tills are plugged in.
    pub(crate) fn new(scenario: usize, names: &[Name]) -> Result<Self> {
        let prefix = format!("{}-{scenario}", prefix());
        let lan = Self { prefix, tills: names.iter().map(|name| (*name, name.address())).collect(), hub: None };
        let switch = lan.switch();
        ip(&format!("netns add {switch}"))?;
        // Snooping needs a querier, which a shop's switch does not have either.
        let bridges =
            (0..names.len()).map(|n| format!("link add br{n} type bridge mcast_snooping 0\nlink set br{n} up"));
        ip_in(&switch, &bridges.collect::<Vec<_>>().join("\n"))?;
        for name in names {
            let namespace = lan.namespace(*name);
            ip(&format!("netns add {namespace}"))?;
            ip_in(
                &switch,
                &format!(
                    "link add v{name} type veth peer name eth0 netns {namespace}\nlink set v{name} master br0\nlink set v{name} up"
                ),
            )?;
            ip_in(&namespace, &format!("link set lo up\naddr add {}/24 dev eth0\nlink set eth0 up", name.address()))?;
        }
        Ok(lan)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.prefix)
    }

    pub(crate) fn namespace(&self, name: Name) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// The address that the till has now.
    pub(crate) fn address(&self, name: Name) -> &str {
        &self.tills[&name]
    }

    /// Pulls the cable at the switch.
    pub(crate) fn unplug(&self, name: Name) -> Result<()> {
        ip_in(&self.switch(), &format!("link set v{name} down"))
    }

    pub(crate) fn plug(&self, name: Name) -> Result<()> {
        ip_in(&self.switch(), &format!("link set v{name} up"))
    }

    /// Puts a hub in the switch's place: every till gets a new network card.
    pub(crate) fn use_hub(&mut self, seed: u64) -> Result<()> {
        let cables: Vec<String> = self.tills.keys().map(|name| format!("link del v{name}")).collect();
        ip_in(&self.switch(), &cables.join("\n"))?;
        let hub = Hub::new(seed)?;
        for name in self.tills.keys() {
            self.plug_into(&hub, *name)?;
        }
        self.hub = Some(hub);
        Ok(())
    }

    fn plug_into(&self, hub: &Hub, name: Name) -> Result<()> {
        hub.plug(name.index(), self.inside(name, || tap::open("eth0"))?)?;
        let address = self.address(name);
        ip_in(&self.namespace(name), &format!("link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up"))
    }

    fn hub(&self) -> Result<&Hub> {
        self.hub.as_ref().context("this needs the hub")
    }

    pub(crate) fn set_air(&self, air: Air) -> Result<()> {
        self.hub()?.set_air(air);
        Ok(())
    }

    /// What the hub has done to frames so far.
    pub(crate) fn counts(&self) -> Result<Counts> {
        Ok(self.hub()?.counts())
    }

    /// The box's kernel is gone with every connection that it had, and another one is there in its stead, with another network
    /// card. For a box that the hub does not let through, or it would say goodbye; its agent has ended.
    pub(crate) fn reboot(&self, name: Name) -> Result<()> {
        let (hub, namespace) = (self.hub()?, self.namespace(name));
        hub.unplug(name.index())?;
        ip(&format!("netns del {namespace}"))?;
        ip(&format!("netns add {namespace}"))?;
        self.plug_into(hub, name)
    }

    /// Cuts the shop in parts that do not hear each other; cables stay in.
    pub(crate) fn split(&self, parts: &[&[Name]]) -> Result<()> {
        if let Some(hub) = &self.hub {
            let ports = |(part, names): (usize, &&[Name])| names.iter().map(move |name| (name.index(), part)).collect();
            hub.split(parts.iter().enumerate().flat_map::<Vec<_>, _>(ports).collect());
            return Ok(());
        }
        let moves = (0..)
            .zip(parts)
            .flat_map(|(n, part)| part.iter().map(move |name| format!("link set v{name} master br{n}")));
        ip_in(&self.switch(), &moves.collect::<Vec<_>>().join("\n"))
    }

    /// Only the middle hears all; the others hear the middle alone.
    pub(crate) fn line(&self, middle: Name) -> Result<()> {
        self.isolate(|name| name != middle)
    }

    /// One switch again.
    pub(crate) fn heal(&self) -> Result<()> {
        if let Some(hub) = &self.hub {
            hub.split(HashMap::new());
            return Ok(());
        }
        self.isolate(|_| false)?;
        let names: Vec<Name> = self.tills.keys().copied().collect();
        self.split(&[&names])
    }

    fn isolate(&self, isolated: impl Fn(Name) -> bool) -> Result<()> {
        let word = |name: Name| if isolated(name) { "on" } else { "off" };
        let lines =
            self.tills.keys().map(|name| format!("link set v{name} type bridge_slave isolated {}", word(*name)));
        ip_in(&self.switch(), &lines.collect::<Vec<_>>().join("\n"))
    }

    /// The router gives the till another address.
    pub(crate) fn readdress(&mut self, name: Name, address: &str) -> Result<()> {
        let old = self.tills.insert(name, address.to_owned()).context("no such till")?;
        ip_in(&self.namespace(name), &format!("addr del {old}/24 dev eth0\naddr add {address}/24 dev eth0"))
    }

    /// Takes the till's IPv4 address away: what is left is link-local IPv6.
    pub(crate) fn unaddress(&self, name: Name) -> Result<()> {
        ip_in(&self.namespace(name), &format!("addr del {}/24 dev eth0", self.address(name)))
    }

    pub(crate) fn address_again(&self, name: Name) -> Result<()> {
        ip_in(&self.namespace(name), &format!("addr add {}/24 dev eth0", self.address(name)))
    }

    /// The till's network.
    pub(crate) fn place(&self, name: Name) -> Place {
        Place(Path::new(NAMESPACES).join(self.namespace(name)))
    }

    /// Runs something on the till's network, on a thread of its own.
    pub(crate) fn inside<T: Send>(&self, name: Name, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let place = self.place(name);
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                place.enter()?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let names = self.tills.keys().map(|name| self.namespace(*name)).chain([self.switch()]);
        for namespace in names {
            // Where it was built in part only, there is less to clear away.
            let _ = ip(&format!("netns del {namespace}"));
        }
    }
}

/// What this process calls its own things by.
pub(crate) fn prefix() -> String {
    format!("{PREFIX}-{}", std::process::id())
}

/// Clears away what a rig left that was killed itself: namespaces, and folders.
pub(crate) fn sweep() -> Result<()> {
    for name in left_over(Path::new(NAMESPACES))? {
        ip(&format!("netns del {name}"))?;
    }
    let folders = std::env::temp_dir();
    for name in left_over(&folders)? {
        fs::remove_dir_all(folders.join(name))?;
    }
    Ok(())
}

/// Names in a folder that bear the prefix of a rig that is no more.
fn left_over(folder: &Path) -> Result<Vec<String>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<Result<_>>()?;
    let owner = |name: &str| name.strip_prefix(PREFIX)?.strip_prefix('-')?.split('-').next().map(str::to_owned);
    Ok(names.into_iter().filter(|name| owner(name).is_some_and(|pid| is_dead(&pid))).collect())
}

/// Whether no process of this id runs; one that nobody has waited for is dead.
fn is_dead(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the command's name, which is in brackets and may hold anything.
    stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with('Z'))
}

/// `ip` with these words.
fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output().context("ip")?;
    if !output.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// `ip` inside a namespace, one command a line.
fn ip_in(namespace: &str, lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-n", namespace, "-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("ip")?;
    child.stdin.take().context("no pipe")?.write_all(format!("{lines}\n").as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip -n {namespace}: {lines}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
