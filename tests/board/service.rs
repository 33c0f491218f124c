//! A service manager that does with an agent what systemd does, by what the unit says: it is told when the agent is ready and alive, kills
//! one that falls silent, and runs what is to run after the end.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::leds::Root;
use super::lib::{Agent, Http, eventually};

/// On a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The LED is out of date no longer than this: the promise.
pub(crate) const LIE_MAX: Duration = Duration::from_secs(15);

const AGENT: &str = env!("CARGO_BIN_EXE_tillmesh");
const UNIT: &str = include_str!("../../config/systemd/tillmesh.service");

/// What the unit says.
pub(crate) fn unit(key: &str) -> &'static str {
    let value = UNIT.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("the unit has no {key}"))
}

fn seconds(key: &str) -> Duration {
    Duration::from_secs(unit(key).parse().unwrap())
}

/// A command of the unit, of the program under test.
fn command(key: &str) -> Command {
    let mut words = unit(key).split(' ');
    assert_eq!(words.next(), Some("/usr/bin/tillmesh"));
    let mut command = Command::new(AGENT);
    command.args(words);
    command
}

/// A till under the service manager.
pub(crate) struct Service {
    folder: TempDir,
    root: PathBuf,
    socket: UnixDatagram,
    pub(crate) agent: Agent,
    pub(crate) http: Http,
    /// Where its local API listens, and the token that it wants.
    pub(crate) api: String,
    pub(crate) token: String,
    pub(crate) mesh: u16,
    /// All that it has said so far.
    pub(crate) heard: Vec<String>,
    alive: Instant,
}

/// What a till is started with.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) config: Value,
    pub(crate) environment: Vec<(&'static str, String)>,
    /// Put before the command, its words.
    pub(crate) wrapper: Vec<String>,
    /// Where its data are, if that is not a folder of its own.
    pub(crate) data: Option<PathBuf>,
}

impl Service {
    pub(crate) fn start(root: &Root) -> Self {
        Self::start_with(root, Plan::default())
    }

    pub(crate) fn start_with(root: &Root, plan: Plan) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = plan.data.clone().unwrap_or_else(|| folder.path().join("data"));
        let ports: [u16; 2] = [(); 2].map(|()| free_port());
        let mut config = json!({
            "p2p": { "port": ports[0], "discoveryEnabled": false }, "api": { "listen": format!("127.0.0.1:{}", ports[1]) },
        });
        for (key, value) in plan.config.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("pos-config.json"), config.to_string()).unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let start = command("ExecStart");
        let words = plan.wrapper.iter().map(Into::into).chain([start.get_program().to_owned()]);
        let mut words = words.chain(start.get_args().map(ToOwned::to_owned));
        let mut whole = Command::new(words.next().unwrap());
        whole.args(words).envs(plan.environment);
        whole.env("STATE_DIRECTORY", &data).env("TILLMESH_ROOT", root.path());
        whole.env("NOTIFY_SOCKET", folder.path().join("notify"));
        whole.env("WATCHDOG_USEC", seconds("WatchdogSec").as_micros().to_string());
        let agent = Agent::spawn(&mut whole, &folder.path().join("log")).unwrap();
        let api = format!("127.0.0.1:{}", ports[1]);
        let mut service = Self {
            root: root.path().to_owned(),
            socket,
            agent,
            http: Http::new(&api, ""),
            api,
            token: String::new(),
            mesh: ports[0],
            heard: Vec::new(),
            alive: Instant::now(),
            folder,
        };
        service.hears("READY=1");
        // In a mount namespace of its own nobody else can read it, nor needs to.
        service.token = fs::read_to_string(data.join("api-token")).unwrap_or_default();
        service.http = service.client();
        service
    }

    pub(crate) fn client(&self) -> Http {
        Http::new(&self.api, &self.token)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Its data folder, if that is one of its own.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Hears one message, if one comes in time.
    fn hear(&mut self, within: Duration) -> bool {
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 256];
        match self.socket.recv(&mut buffer) {
            Ok(length) => {
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if matches!(message.as_str(), "WATCHDOG=1" | "READY=1") {
                    self.alive = Instant::now();
                }
                self.heard.push(message);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// Waits for a message.
    pub(crate) fn hears(&mut self, message: &str) {
        let end = Instant::now() + PATIENCE;
        while self.heard.last().is_none_or(|last| last != message) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(self.hear(left), "{message} was not said; heard {:?}; log:\n{}", self.heard, self.log());
        }
    }

    /// Hears a sign of life before the supervisor would end it.
    pub(crate) fn lives(&mut self) {
        let (patience, heard) = (seconds("WatchdogSec"), self.heard.len());
        while self.heard.len() == heard {
            let left = patience.saturating_sub(self.alive.elapsed());
            assert!(self.hear(left), "no sign of life; log:\n{}", self.log());
        }
        assert_eq!(self.heard.last().map(String::as_str), Some("WATCHDOG=1"));
    }

    /// Watches until the agent has been silent for too long, and ends it as the unit says.
    pub(crate) fn watch_until_silent(&mut self) {
        let (patience, end) = (seconds("WatchdogSec"), Instant::now() + 2 * PATIENCE);
        while self.alive.elapsed() < patience {
            let left = patience.saturating_sub(self.alive.elapsed());
            self.hear(left);
            assert!(Instant::now() < end, "it goes on saying that it lives: {:?}", self.heard);
        }
        let pid = self.agent.pid().unwrap();
        kill_process(pid, Signal::ABORT).unwrap();
        kill_process(pid, Signal::CONT).unwrap();
        if self.agent.exit(seconds("TimeoutAbortSec")).unwrap().is_none() {
            self.agent.kill().unwrap();
        }
        self.after("watchdog");
    }

    /// A power cut, as far as a process can have one.
    pub(crate) fn kill(&mut self) {
        self.agent.kill().unwrap();
        self.after("signal");
    }

    /// A clean stop; gives how long it took.
    pub(crate) fn stop(&mut self) -> Duration {
        let began = Instant::now();
        let status = self.agent.stop(PATIENCE).unwrap();
        let took = began.elapsed();
        while self.hear(Duration::ZERO) {}
        self.after(result(status));
        took
    }

    /// What the unit has run after the end.
    fn after(&self, result: &str) {
        let mut command = command("ExecStopPost");
        command.env("STATE_DIRECTORY", self.data()).env("TILLMESH_ROOT", &self.root);
        let output = command.env("SERVICE_RESULT", result).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn status(&self) -> Value {
        self.http.call("GET", "/v1/status", None).unwrap().ok().unwrap()
    }

    /// The codes of the alerts that are raised.
    pub(crate) fn alerts(&self) -> Vec<String> {
        let status = self.status();
        let alerts = status["alerts"].as_array().unwrap();
        alerts.iter().map(|alert| alert["code"].as_str().unwrap().to_owned()).collect()
    }
}

fn result(status: ExitStatus) -> &'static str {
    match (status.code(), status.signal()) {
        (Some(0), _) => "success",
        (Some(_), _) => "exit-code",
        _ => "signal",
    }
}

/// A store that tills share.
pub(crate) fn new_store() -> Value {
    let made = Command::new(AGENT).args(["store", "new", "--json"]).output().unwrap();
    serde_json::from_slice(&made.stdout).unwrap()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until an LED does something.
pub(crate) fn shows(root: &Root, led: &str, what: &str) {
    shows_within(PATIENCE, root, led, what);
}

pub(crate) fn shows_within(deadline: Duration, root: &Root, led: &str, what: &str) {
    eventually(deadline, &format!("{led} shows {what}"), || {
        let shown = root.shows(led);
        anyhow::ensure!(shown == what, "it shows {shown}");
        Ok(())
    })
    .unwrap();
}

/// Runs a tool of the system; gives its output.
pub(crate) fn tool(name: &str, arguments: &[&str], folder: &Path) -> String {
    let output =
        Command::new(name).args(arguments).current_dir(folder).output().unwrap_or_else(|e| panic!("{name}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name} {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
