//! An agent as a process of its own, on loopback, with a data folder on the disk.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::client::Client;
use crate::process;

/// The agent that is measured: the release build, which cargo makes for the benchmark, or another one.
pub(crate) fn agent() -> PathBuf {
    std::env::var_os("TILLMESH_AGENT").map_or_else(|| env!("CARGO_BIN_EXE_tillmesh").into(), PathBuf::from)
}

const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(20);

/// Where a till is reached. Free when it was chosen.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    mesh: u16,
    api: u16,
}

impl Ports {
    pub(crate) fn free() -> Result<Self> {
        Ok(Self { mesh: free_port()?, api: free_port()? })
    }
}

/// A port that no program has, given once. Below those that Linux gives to outgoing connections: many tills have many.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    loop {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        ensure!(port < 32_000, "no port is free");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
}

/// A running agent. Dropped, it is killed.
pub(crate) struct Till {
    child: Child,
    folder: PathBuf,
    api: SocketAddr,
    token: String,
}

impl Till {
    /// Starts an agent on a folder, made where it is not there yet, and waits until its local API answers.
    pub(crate) fn start(folder: &Path, store: &Value, ports: Ports, peers: &[Ports]) -> Result<Self> {
        Self::start_on(folder, store, ports, peers, None)
    }

    /// The same; a folder that is made is given a copy of a database, which is then another till's, under an origin of its own.
    pub(crate) fn start_on(
        folder: &Path,
        store: &Value,
        ports: Ports,
        peers: &[Ports],
        database: Option<&Path>,
    ) -> Result<Self> {
        if !folder.exists() {
            provision(folder, store, ports, peers)?;
            if let Some(database) = database {
                fs::copy(database, folder.join("till.db"))?;
            }
        }
        let log = File::options().create(true).append(true).open(folder.with_extension("log"))?;
        let child = Command::new(agent())
            .args(["run", "--data-dir"])
            .arg(folder)
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| agent().display().to_string())?;
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.api));
        let mut till = Self { child, folder: folder.to_owned(), api, token: String::new() };
        till.wait_until_it_answers().with_context(|| till.last_words())?;
        Ok(till)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let end = Instant::now() + START_MAX;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended with {status}");
            }
            if Client::new(self.api, "").get("/healthz").and_then(|answer| answer.ok()).is_ok() {
                break;
            }
            ensure!(Instant::now() < end, "the agent does not answer within {START_MAX:?}");
            thread::sleep(Duration::from_millis(2));
        }
        let token = fs::read_to_string(self.folder.join("api-token")).context("api-token")?;
        token.trim().clone_into(&mut self.token);
        Ok(())
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.api, &self.token)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.join("till.db")
    }

    pub(crate) fn status(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.client().get("/v1/status")?.ok()?)?)
    }

    /// Waits until a link with another till is ready.
    pub(crate) fn wait_for_link(&self, within: Duration) -> Result<()> {
        self.wait_for_links(1, within)
    }

    /// Waits until as many links are ready.
    pub(crate) fn wait_for_links(&self, wanted: u64, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        while self.status()?["connectedPeers"].as_u64().is_none_or(|peers| peers < wanted) {
            ensure!(Instant::now() < end, "not {wanted} links within {within:?}; {}", self.last_words());
            thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Bytes of messages that it has sent to other tills since it started.
    pub(crate) fn sent(&self) -> Result<u64> {
        self.status()?["traffic"]["bytesSent"].as_u64().context("the status tells of no traffic")
    }

    /// Cuts it off from all others, or lets it link again.
    pub(crate) fn set_linked(&self, linked: bool) -> Result<()> {
        let body = json!({ "enabled": linked }).to_string();
        self.client().post("/v1/p2p/enabled", &body)?.ok().map(drop)
    }

    pub(crate) fn usage(&self) -> Result<process::Usage> {
        process::Usage::of(self.pid())
    }

    /// The end of the agent's log, for an error.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.folder.with_extension("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("its log ends with:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    /// Asks it to end and waits.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, Signal::TERM)?;
        let end = Instant::now() + STOP_MAX;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "the agent still runs {STOP_MAX:?} after SIGTERM");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Till {
    fn drop(&mut self) {
        // One that has ended by itself is what we want; nobody is left to tell of any other failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn provision(folder: &Path, store: &Value, ports: Ports, peers: &[Ports]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let config = json!({
        "posId": name, "posName": name, "posType": "desktop", "createdAt": "2025-11-20T00:00:00.000Z",
        "p2p": {"enabled": true, "port": ports.mesh, "discoveryEnabled": false, "autoSync": true, "reconnectInterval": 1000},
        "store": store,
        "peers": peers.iter().map(|peer| format!("127.0.0.1:{}", peer.mesh)).collect::<Vec<_>>(),
        "api": {"listen": format!("127.0.0.1:{}", ports.api)},
    });
    Ok(fs::write(folder.join("pos-config.json"), config.to_string())?)
}

/// A store, minted by the agent.
pub(crate) fn new_store() -> Result<Value> {
    let output = Command::new(agent()).args(["store", "new", "--json"]).output().context("tillmesh store new")?;
    ensure!(output.status.success(), "tillmesh store new: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("tillmesh store new --json prints no JSON")
}
