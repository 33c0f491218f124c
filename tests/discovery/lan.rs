//! A bridge with tills on it, each in a network namespace of its own.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Why this machine cannot run the test: not root, or a tool missing.
pub(crate) fn missing(tools: &[&str]) -> Option<String> {
    let absent: Vec<&str> = tools.iter().copied().filter(|tool| !on_path(tool)).collect();
    if !absent.is_empty() {
        return Some(format!("not installed: {}", absent.join(", ")));
    }
    let probe = namespace_name(0);
    if run("ip", &["netns", "add", &probe]).is_err() {
        return Some("network namespaces cannot be made: not root?".to_owned());
    }
    run("ip", &["netns", "del", &probe]).err()
}

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(tool).is_file())
}

/// Says why a test did not run; in CI that is a failure.
pub(crate) fn skip(reason: &str) {
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must run this: {reason}");
    // Not `eprintln!`, which the harness would swallow.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}

fn namespace_name(n: u32) -> String {
    static LANS: AtomicU32 = AtomicU32::new(0);
    format!("tmd-{}-{}-{n}", std::process::id(), LANS.fetch_add(1, Ordering::Relaxed))
}

/// Namespaces `1..=n` with `eth0` at `10.77.0.<n>/24` and loopback up, on one bridge. Removed when dropped.
pub(crate) struct Lan {
    /// The first is the bridge's.
    namespaces: Vec<String>,
}

impl Lan {
    pub(crate) fn new(tills: u8) -> Self {
        let mut lan = Self { namespaces: Vec::new() };
        for n in 0..=tills {
            let name = namespace_name(n.into());
            run("ip", &["netns", "add", &name]).expect("namespace");
            lan.namespaces.push(name);
            lan.ip_in(n, "link set lo up");
        }
        // A bridge that learns at once, and floods multicast as a plain switch does.
        lan.ip_in(0, "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0");
        lan.ip_in(0, "link set br0 up");
        for n in 1..=tills {
            let (bridge, till) = (&lan.namespaces[0], &lan.namespaces[usize::from(n)]);
            let port = format!("p{n}");
            run("ip", &["link", "add", &port, "netns", bridge, "type", "veth", "peer", "name", "eth0", "netns", till])
                .expect("cable");
            lan.ip_in(0, &format!("link set {port} master br0 up"));
            lan.ip_in(n, &format!("address add 10.77.0.{n}/24 dev eth0"));
            lan.ip_in(n, "link set eth0 up");
        }
        lan
    }

    /// Runs `ip` with these words in a till's namespace.
    pub(crate) fn ip_in(&self, till: u8, words: &str) {
        let mut args = vec!["-n", &self.namespaces[usize::from(till)]];
        args.extend(words.split(' '));
        run("ip", &args).expect("ip");
    }

    /// A program to be run in a till's namespace.
    pub(crate) fn command(&self, till: u8, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespaces[usize::from(till)], program]);
        command
    }

    /// Sends an mDNS packet from a till's namespace.
    pub(crate) fn multicast(&self, till: u8, packet: &[u8]) {
        let mut sender = crate::till::sender(self, till).stdin(Stdio::piped()).spawn().expect("sender");
        sender.stdin.take().expect("piped").write_all(packet).expect("packet");
        assert!(sender.wait().expect("sender").success());
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for name in &self.namespaces {
            let _ = run("ip", &["netns", "del", name]);
        }
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let said = Command::new(program).args(args).stdin(Stdio::null()).output().map_err(|e| format!("{program}: {e}"))?;
    if said.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", args.join(" "), String::from_utf8_lossy(&said.stderr)))
}
