//! Asks the system. Everything here blocks; nothing takes longer than a few seconds. What the system does not tell is left out.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::clock::RELEASED_MS;
use super::facts::{Firewall, Holder, Network, Outcome, Probe, SystemFacts};
use super::nft;

/// How long a till may take to take a connection.
const DIAL_TIME_MAX: Duration = Duration::from_millis(1_500);
/// The most addresses that are dialled: at once, so that it takes no longer than one.
const PROBES_MAX: usize = 16;
/// State of a socket that listens, in `/proc/net/tcp` (include/net/tcp_states.h).
const LISTENING: &str = "0A";
/// A complete entry of `/proc/net/arp` (include/uapi/linux/if_arp.h, `ATF_COM`).
const COMPLETE: u32 = 0x2;

/// Where and what to look at.
#[derive(Debug)]
pub(in super::super) struct Place {
    pub(in super::super) mesh_port: u16,
    pub(in super::super) api_port: u16,
    pub(in super::super) folder: PathBuf,
    /// Where tills should be that are not linked.
    pub(in super::super) dial: Vec<SocketAddr>,
}

/// All that any user may see.
pub(in super::super) fn gather(place: &Place) -> SystemFacts {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut facts = SystemFacts {
        mesh_port: place.mesh_port,
        api_port: place.api_port,
        networks: networks(),
        probes: probes(&place.dial),
        disk_bytes_free: disk_bytes_free(&place.folder),
        clock_sane: since_1970.as_millis() >= u128::from(RELEASED_MS),
        ..SystemFacts::default()
    };
    look_at_privileged(&mut facts);
    facts
}

/// What root sees more of than the agent's user: who holds the ports, and the firewall.
pub(in super::super) fn look_at_privileged(facts: &mut SystemFacts) {
    let found = holders(&[facts.mesh_port, facts.api_port]);
    let knows = |holder: &Holder| holder.pid.is_some();
    if facts.holders.is_empty() || found.iter().any(knows) {
        facts.holders = found;
    }
    match firewall(facts.mesh_port) {
        Firewall::Unknown => {}
        known => facts.firewall = known,
    }
}

fn disk_bytes_free(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

// ------------------------------------------------------------------------------------------------------------ networks

fn networks() -> Vec<Network> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let v4 = read("/proc/net/route");
    let v6 = read("/proc/net/if_inet6");
    let found: Vec<Network> = v4.lines().skip(1).filter_map(route).chain(v6.lines().filter_map(interface6)).collect();
    let mut seen = HashSet::new();
    found.into_iter().filter(|n| seen.insert((n.interface.clone(), n.address, n.prefix))).collect()
}

/// A line of `/proc/net/route` that leads through no router: interface, destination, gateway, flags, ..., mask as the eighth. Numbers are
/// hexadecimal, addresses as they lie in memory.
fn route(line: &str) -> Option<Network> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok().map(|n| u32::from_be_bytes(n.to_ne_bytes()));
    let (destination, gateway, mask) = (number(1)?, number(2)?, number(7)?);
    (gateway == 0 && mask != 0).then(|| Network {
        interface: fields[0].to_owned(),
        address: IpAddr::V4(Ipv4Addr::from_bits(destination)),
        prefix: u8::try_from(mask.leading_ones()).unwrap_or(32),
    })
}

/// A line of `/proc/net/if_inet6`: address, index, length of the prefix, scope, flags, interface.
fn interface6(line: &str) -> Option<Network> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [address, _, prefix, _, _, name] = fields.as_slice() else { return None };
    let address = Ipv6Addr::from_bits(u128::from_str_radix(address, 16).ok()?);
    if address.is_loopback() || address.is_unicast_link_local() {
        return None;
    }
    let prefix = u8::from_str_radix(prefix, 16).ok()?;
    let host = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    let address = IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !host));
    Some(Network { interface: (*name).to_owned(), address, prefix })
}

// -------------------------------------------------------------------------------------------------------------- probes

fn probes(addresses: &[SocketAddr]) -> Vec<Probe> {
    let dialled: Vec<(SocketAddr, Outcome)> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            addresses.iter().take(PROBES_MAX).map(|address| (*address, scope.spawn(|| dial(*address)))).collect();
        threads.into_iter().filter_map(|(address, thread)| Some((address, thread.join().ok()?))).collect()
    });
    let arp = fs::read_to_string("/proc/net/arp").unwrap_or_default();
    let neighbours: HashMap<IpAddr, bool> = arp.lines().skip(1).filter_map(neighbour).collect();
    let probe = |(address, outcome): (SocketAddr, Outcome)| Probe {
        address,
        outcome,
        neighbour: neighbours.get(&address.ip().to_canonical()).copied(),
    };
    dialled.into_iter().map(probe).collect()
}

fn dial(address: SocketAddr) -> Outcome {
    match TcpStream::connect_timeout(&address, DIAL_TIME_MAX) {
        Ok(_) => Outcome::Connected,
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Refused,
            ErrorKind::PermissionDenied => Outcome::Prohibited,
            // ICMP says that a firewall forbids it as it says that there is no such box; a router's word comes for another network.
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => Outcome::Unreachable,
            _ => Outcome::Silent,
        },
    }
}

/// A line of `/proc/net/arp`: address, type, flags, ...
fn neighbour(line: &str) -> Option<(IpAddr, bool)> {
    let mut fields = line.split_whitespace();
    let address = fields.next()?.parse().ok()?;
    let flags = u32::from_str_radix(fields.nth(1)?.trim_start_matches("0x"), 16).ok()?;
    Some((address, flags & COMPLETE != 0))
}

// ------------------------------------------------------------------------------------------------- ports and firewall

/// Programs that listen on one of some ports, but for this one.
fn holders(ports: &[u16]) -> Vec<Holder> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let listening: HashMap<String, u16> =
        tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| listener(line, ports)).collect();
    let mut found = Vec::new();
    let mut owned = HashSet::new();
    if !listening.is_empty() {
        for (pid, inode) in sockets() {
            let Some(port) = listening.get(&inode) else { continue };
            owned.insert(inode);
            let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|name| name.trim().to_owned());
            found.push(Holder { port: *port, pid: Some(pid), program });
        }
    }
    let hidden = listening.iter().filter(|(inode, _)| !owned.contains(*inode));
    found.extend(hidden.map(|(_, port)| Holder { port: *port, pid: None, program: None }));
    found.sort_by_key(|holder| (holder.port, holder.pid));
    found.dedup();
    found
}

/// The inode and the port of a line of `/proc/net/tcp` that listens on one of some ports.
fn listener(line: &str, ports: &[u16]) -> Option<(String, u16)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
    let wanted = *fields.get(3)? == LISTENING && ports.contains(&port);
    wanted.then(|| Some(((*fields.get(9)?).to_owned(), port))).flatten()
}

/// The sockets of the processes that this user may look into: process and inode.
fn sockets() -> Vec<(u32, String)> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        for open in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let link = fs::read_link(open.path()).unwrap_or_default();
            let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
            found.extend(inode.map(|inode| (pid, inode.to_owned())));
        }
    }
    found
}

/// The rules of nftables, iptables' included, which Debian keeps in there.
fn firewall(port: u16) -> Firewall {
    for program in ["nft", "/usr/sbin/nft"] {
        let asked = Command::new(program).args(["-j", "list", "ruleset"]).stdin(Stdio::null()).output();
        match asked {
            Ok(answer) if answer.status.success() => return nft::judge(&String::from_utf8_lossy(&answer.stdout), port),
            Ok(_) => return Firewall::Unknown,
            Err(_) => {}
        }
    }
    Firewall::Unknown
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernels_tables_are_read() {
        let line = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0";
        if cfg!(target_endian = "little") {
            let network = route(line).unwrap();
            assert_eq!((network.address.to_string().as_str(), network.prefix), ("192.168.1.0", 24));
        }
        assert!(route("eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0").is_none(), "a default route");
        let line = "fd000000000000000000000000000007 02 40 00 80     eth0";
        assert_eq!(interface6(line).unwrap().address.to_string(), "fd00::");
        assert!(interface6("00000000000000000000000000000001 01 80 10 80       lo").is_none());
        let arp = |flags: &str| neighbour(&format!("10.0.0.2 0x1 {flags} aa:bb:cc:dd:ee:ff * eth0"));
        assert_eq!(arp("0x2"), Some(("10.0.0.2".parse().unwrap(), true)));
        assert_eq!(arp("0x0"), Some(("10.0.0.2".parse().unwrap(), false)));
    }

    #[test]
    fn who_listens_and_how_a_dial_ends_is_seen() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let found = holders(&[address.port()]);
        assert_eq!((found.len(), found[0].pid), (1, Some(std::process::id())));
        assert_eq!(dial(address), Outcome::Connected);
        drop(held);
        assert_eq!(dial(address), Outcome::Refused);
        assert!(disk_bytes_free(Path::new("/")).is_some());
    }
}
