//! Tills as processes, driven by their command line and HTTP API.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take: a slow machine with much else to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for a condition; fails with `what` once patience is over.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The program, with nothing of this machine's own settings.
pub(crate) fn tillmesh(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillmesh"));
    command.env("HOME", home).env("TMPDIR", home);
    for name in ["STATE_DIRECTORY", "XDG_STATE_HOME", "JOURNAL_STREAM", "TILLMESH_LOG"] {
        command.env_remove(name);
    }
    // A box to be updated only where a test makes one.
    for (name, place) in [("BOX_RUN", "box"), ("BOX_RECORD", "record/update.json"), ("UPDATE_KEYS", "update.keys")] {
        command.env(format!("TILLMESH_{name}"), home.join(place));
    }
    command
}

/// Standard output of a command that succeeds.
pub(crate) fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Standard error of a command that ends with an exit code.
pub(crate) fn fails(output: Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

/// Ports that nobody listens on.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
}

/// Whether a process is there and not merely waiting to be collected.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // pid (name) state ppid
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

/// The processes that a process has started.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        fields.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes.filter(is_child).collect()
}

/// A process whose end is the end of the test, and whose output is kept.
pub(crate) struct Process {
    child: Child,
    output: PathBuf,
}

impl Process {
    /// Starts it; both its outputs go to one file.
    pub(crate) fn start(command: &mut Command, output: PathBuf) -> Self {
        let file = File::create(&output).unwrap();
        command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), output }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub(crate) fn said(&self) -> String {
        let mut text = Vec::new();
        File::open(&self.output).unwrap().read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until it has written a text.
    pub(crate) fn says(&mut self, text: &str) {
        wait_for(&format!("{text:?}; it said:\n{}", self.said()), || {
            if self.said().contains(text) {
                return Some(());
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.said());
            None
        });
    }

    /// Waits for its end.
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait_for("its end", || self.child.try_wait().unwrap())
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A clean stop.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        self.end()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Where the test failed half way; it has ended already otherwise.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A till's data folder, and its agent while one runs.
pub(crate) struct Till {
    pub(crate) home: TempDir,
    pub(crate) api: String,
    pub(crate) process: Option<Process>,
}

impl Till {
    /// A folder that has nothing but a config with free ports.
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let [mesh, api] = free_ports();
        let till = Self { home, api: format!("127.0.0.1:{api}"), process: None };
        fs::create_dir(till.folder()).unwrap();
        let config = json!({"p2p": {"port": mesh, "discoveryEnabled": false}, "api": {"listen": till.api}});
        fs::write(till.folder().join("pos-config.json"), config.to_string()).unwrap();
        till
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.home.path().join("till")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// A command with this till's folder.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = tillmesh(self.home.path());
        command.args(words).arg("--data-dir").arg(self.folder());
        command
    }

    /// What such a command does.
    pub(crate) fn does(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Starts the agent and waits until it answers.
    pub(crate) fn start(&mut self) {
        let process = Process::start(&mut self.command(&["run"]), self.path("output"));
        let process = self.process.insert(process);
        let url = format!("http://{}/healthz", self.api);
        wait_for("the agent's answer", || {
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "the agent ended: {}", process.said());
            ureq::get(&url).call().ok()
        });
    }

    pub(crate) fn agent(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    fn token(&self) -> String {
        let token = fs::read_to_string(self.folder().join("api-token")).unwrap();
        format!("Bearer {}", token.trim())
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let url = format!("http://{}{path}", self.api);
        ureq::get(&url).call().unwrap().body_mut().read_json().unwrap()
    }

    /// The HTTP status of a read.
    pub(crate) fn status_of(&self, path: &str) -> u16 {
        match ureq::get(&format!("http://{}{path}", self.api)).call() {
            Ok(response) => response.status().as_u16(),
            Err(ureq::Error::StatusCode(code)) => code,
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a document; returns the answer, also where it is a problem.
    pub(crate) fn post(&self, path: &str, value: &Value) -> Value {
        post(&format!("http://{}{path}", self.api), &self.token(), value)
    }

    /// Sells one thing; returns the ticket.
    pub(crate) fn sell(&self, id: &str) -> Value {
        sell(&format!("http://{}", self.api), &self.token(), id)
    }
}

fn post(url: &str, authorization: &str, value: &Value) -> Value {
    let request = ureq::post(url).header("Authorization", authorization);
    let request = request.config().http_status_as_error(false).build();
    request.send_json(value).unwrap().body_mut().read_json().unwrap()
}

/// Sells one thing at a till; returns the ticket.
pub(crate) fn sell(url: &str, authorization: &str, id: &str) -> Value {
    let sale = json!({
        "id": id, "lines": [{"name": "Café", "quantity": 1, "unitPrice": 1500}],
        "payments": [{"method": "cash", "amount": 1500}],
    });
    let ticket = post(&format!("{url}/v1/tickets"), authorization, &sale);
    assert_eq!(ticket["id"], id, "{ticket}");
    ticket
}
