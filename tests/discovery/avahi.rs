//! Debian's avahi in a namespace, on a message bus of its own, so that neither meets the machine's.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lan::Lan;

const DEADLINE: Duration = Duration::from_secs(90);
const SERVICE: &str = "_posplus-p2p._tcp";
/// One try of `avahi-browse`: it ends by itself once the caches are told, unless the daemon hangs.
const BROWSE_SECS: &str = "10";

const BUS_CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=@DIR@/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy>
</busconfig>"#;

const DAEMON_CONFIG: &str = "[server]\nhost-name=avahi\nallow-interfaces=eth0\nuse-ipv4=yes\nuse-ipv6=yes\nenable-dbus=yes\n\
    [publish]\npublish-hinfo=no\npublish-workstation=no\n";

/// A process that ends with the test.
pub(crate) struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a program"))
    }

    pub(crate) fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// An avahi daemon that runs. Fields end in this order.
pub(crate) struct Avahi<'lan> {
    _daemon: Running,
    _bus: Running,
    lan: &'lan Lan,
    namespace: u8,
    dir: tempfile::TempDir,
}

impl<'lan> Avahi<'lan> {
    pub(crate) fn start(lan: &'lan Lan, namespace: u8) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = |name: &str, content: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, content.replace("@DIR@", &dir.path().display().to_string())).expect("a file");
            path.display().to_string()
        };
        let bus = file("bus.conf", BUS_CONFIG);
        let config = file("avahi.conf", DAEMON_CONFIG);
        let bus = Running::start(Command::new("dbus-daemon").args(["--nofork", "--nopidfile", "--config-file", &bus]));
        wait_for("the bus", || dir.path().join("bus").exists());
        // Its pid file has one place for the whole machine. `ip netns exec` gives a mount namespace of its own: hide the place.
        let script = "mount -t tmpfs none /run && mkdir /run/avahi-daemon && exec avahi-daemon -f \"$0\" --no-rlimits --no-drop-root --no-chroot";
        let mut daemon = lan.command(namespace, "sh");
        daemon.args(["-c", script, &config]).env("DBUS_SYSTEM_BUS_ADDRESS", bus_address(dir.path()));
        let daemon = Running::start(&mut daemon);
        Self { _daemon: daemon, _bus: bus, lan, namespace, dir }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.lan.command(self.namespace, program);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus_address(self.dir.path()));
        command
    }

    /// Publishes a service of our type until the returned process ends.
    pub(crate) fn publish(&self, name: &str, port: u16, txt: &[&str]) -> Running {
        Running::start(self.command("avahi-publish").args(["-s", name, SERVICE, &port.to_string()]).args(txt))
    }

    /// The lines of `avahi-browse -rpt` that tell of a resolved service.
    fn browse(&self) -> Vec<String> {
        let said = self
            .command("timeout")
            .args([BROWSE_SECS, "avahi-browse", "-rpt", SERVICE])
            .output()
            .expect("avahi-browse");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        said.lines().filter(|line| line.starts_with('=')).map(str::to_owned).collect()
    }

    /// Browses until a line is as wanted.
    pub(crate) fn browse_until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let mut line = None;
        wait_for(what, || {
            line = self.browse().into_iter().find(|line| wanted(line));
            line.is_some()
        });
        line.expect("waited for")
    }

    /// Browses until no line has this text.
    pub(crate) fn browse_until_gone(&self, what: &str, text: &str) {
        wait_for(what, || !self.browse().iter().any(|line| line.contains(text)));
    }
}

fn bus_address(dir: &Path) -> String {
    format!("unix:path={}/bus", dir.display())
}

fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !there() {
        assert!(Instant::now() < deadline, "waiting for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
