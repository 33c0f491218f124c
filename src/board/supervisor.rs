//! What systemd is told: sd_notify(3), over its datagram socket.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Who started the agent and waits for word of it. Nobody, outside of a service.
#[derive(Debug)]
pub struct Supervisor {
    socket: Option<UnixDatagram>,
    /// How long it waits between two signs of life.
    patience: Option<Duration>,
}

impl Supervisor {
    /// As the environment says: `$NOTIFY_SOCKET`, `$WATCHDOG_USEC`, `$WATCHDOG_PID`.
    #[must_use]
    pub fn of_environment() -> Self {
        let text = |name| std::env::var(name).ok();
        let socket = std::env::var_os("NOTIFY_SOCKET").and_then(|path| match connect(&path) {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("NOTIFY_SOCKET cannot be used: {error}");
                None
            }
        });
        let patience = patience(text("WATCHDOG_USEC").as_deref(), text("WATCHDOG_PID").as_deref(), std::process::id());
        Self { socket, patience }
    }

    /// One that listens at a path.
    #[cfg(test)]
    pub(crate) fn at(path: &std::path::Path) -> io::Result<Self> {
        Ok(Self { socket: Some(connect(path.as_os_str())?), patience: None })
    }

    /// The agent has started: its API listens.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// The agent is ending.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// The start goes on and needs more time: this long from now.
    pub fn more_time(&self, time: Duration) {
        self.say(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()));
    }

    /// How often a sign of life is due: three for each time that it is waited for.
    #[must_use]
    pub fn alive_every(&self) -> Option<Duration> {
        self.patience.filter(|_| self.socket.is_some()).map(|patience| patience / 3)
    }

    /// Best effort: whoever does not read it will act on its own.
    fn say(&self, words: &str) {
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(words.as_bytes())
        {
            tracing::debug!("{words} was not heard: {error}");
        }
    }
}

/// A path, or a name of the abstract namespace behind an `@`.
fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path if path.starts_with(b"/") => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "neither a path nor an abstract name")),
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    // Nothing of the till waits for its supervisor.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// For whom the watchdog runs is said too: a child inherits the variables and is not meant.
fn patience(usec: Option<&str>, pid: Option<&str>, ours: u32) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid.parse() == Ok(ours));
    let usec: u64 = usec?.parse().ok().filter(|usec| *usec > 0 && meant)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn it_is_told_by_path_and_by_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let by_path = UnixDatagram::bind(&path).unwrap();
        let name = format!("tillmesh-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
        let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
        for (address, listener) in [(path.into_os_string(), by_path), (format!("@{name}").into(), by_name)] {
            let supervisor = Supervisor { socket: Some(connect(&address).unwrap()), patience: None };
            supervisor.ready();
            supervisor.alive();
            supervisor.stopping();
            assert_eq!([heard(&listener), heard(&listener), heard(&listener)], ["READY=1", "WATCHDOG=1", "STOPPING=1"]);
        }
        assert!(connect(OsStr::new("relative")).is_err());
    }

    #[test]
    fn the_watchdog_is_for_whom_it_names() {
        assert_eq!(patience(Some("9000000"), Some("7"), 7), Some(Duration::from_secs(9)));
        assert_eq!(patience(Some("9000000"), None, 7), Some(Duration::from_secs(9)));
        for (usec, pid) in [(Some("9000000"), Some("8")), (None, Some("7")), (Some("0"), None), (Some("x"), None)] {
            assert_eq!(patience(usec, pid, 7), None);
        }
    }
}
