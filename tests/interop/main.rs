//! Intruders on the mesh's port: clients made with `ws` from npm, and some that keep to no protocol at all. Each is shut out, and
//! while it tries, two tills go on selling.
//!
//! Needs node, and `npm ci` in this folder: `tests/run interop` does both.

#[path = "../lib/mod.rs"]
mod lib;

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use lib::{Agent, Http, eventually};

const AGENT: &str = env!("CARGO_BIN_EXE_tillmesh");
/// On a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(30);
/// What an agent's memory may grow by while an intruder pours into it.
const GROWTH_MAX_KB: u64 = 64 * 1024;

/// A till on loopback, with ports of its own.
struct Till {
    mesh: u16,
    http: Http,
    agent: Agent,
    log: PathBuf,
}

/// Two tills of one store that know each other's address.
struct Pair {
    a: Till,
    b: Till,
    _folder: TempDir,
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start(folder: &Path, name: &str, store: &Value, mesh: u16, peer: u16) -> Result<Till> {
    let (data, log, api) = (folder.join(name), folder.join(format!("{name}.log")), free_port()?);
    fs::create_dir_all(&data)?;
    let config = json!({
        "posName": name, "store": store, "peers": [format!("127.0.0.1:{peer}")],
        "p2p": { "port": mesh, "discoveryEnabled": false }, "api": { "listen": format!("127.0.0.1:{api}") },
    });
    fs::write(data.join("pos-config.json"), config.to_string())?;
    let agent =
        Agent::spawn(Command::new(AGENT).args(["run", "--data-dir"]).arg(&data).env_remove("JOURNAL_STREAM"), &log)?;
    let address = format!("127.0.0.1:{api}");
    eventually(PATIENCE, &format!("{name} answers"), || {
        Http::new(&address, "").call("GET", "/healthz", None)?.ok().map(drop)
    })
    .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    let http = Http::new(&address, &fs::read_to_string(data.join("api-token"))?);
    Ok(Till { mesh, http, agent, log })
}

impl Pair {
    fn new() -> Result<Self> {
        let output = Command::new(AGENT).args(["store", "new", "--json"]).output()?;
        let mut store: Value = serde_json::from_slice(&output.stdout).context("tillmesh store new --json")?;
        if store["store"].is_object() {
            store = store["store"].take();
        }
        let folder = tempfile::tempdir()?;
        let (one, two) = (free_port()?, free_port()?);
        let a = start(folder.path(), "A", &store, one, two)?;
        let b = start(folder.path(), "B", &store, two, one)?;
        let pair = Self { a, b, _folder: folder };
        pair.linked()?;
        Ok(pair)
    }

    fn linked(&self) -> Result<Duration> {
        eventually(PATIENCE, "A and B are linked", || {
            for till in [&self.a, &self.b] {
                let count = till.http.call("GET", "/v1/status", None)?.ok()?["connectedPeers"].clone();
                ensure!(count == 1, "{count} peers");
            }
            Ok(())
        })
    }

    /// A sale on A is on B.
    fn sell(&self) -> Result<()> {
        let id = Uuid::new_v4();
        let line = json!({ "name": "Café", "quantity": 1, "unitPrice": 2500 });
        let sale = json!({ "id": id, "lines": [line], "payments": [{ "method": "cash", "amount": 2500 }] });
        self.a.http.call("POST", "/v1/tickets", Some(&sale))?.ok()?;
        eventually(PATIENCE, "A's sale is on B", || {
            self.b.http.call("GET", &format!("/v1/tickets/{id}"), None)?.ok().map(drop)
        })
        .map(drop)
    }

    /// Both end when asked, as tills that are well do.
    fn stop(mut self) -> Result<()> {
        for till in [&mut self.a, &mut self.b] {
            let status = till.agent.stop(PATIENCE)?;
            ensure!(status.success(), "ended with {status}");
        }
        Ok(())
    }
}

impl Till {
    /// Resident memory of the agent.
    fn memory_kb(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.agent.pid()?.as_raw_nonzero()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("no VmRSS")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
    }
}

/// Sends the intruder to A.
fn intrude(way: &str, port: u16) -> Result<Child> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop");
    ensure!(folder.join("node_modules/ws").exists(), "run `npm ci` in tests/interop, or `tests/run interop`");
    let mut command = Command::new("node");
    command.arg(folder.join("intruder.mjs")).args([way, "127.0.0.1", &port.to_string()]);
    command.stdout(Stdio::piped()).spawn().context("node")
}

/// How far in an intruder may come.
#[derive(PartialEq)]
enum Door {
    /// Not even a WebSocket.
    Shut,
    /// A WebSocket, and not a word on it.
    Ajar,
}

/// The intruder is shut out, is told nothing, and disturbs nobody.
fn shut_out(way: &str, door: Door) -> Result<()> {
    let pair = Pair::new()?;
    pair.sell()?;
    let before = pair.a.memory_kb()?;
    let intruder = intrude(way, pair.a.mesh)?;
    for _ in 0..5 {
        pair.sell()?;
    }
    let output = intruder.wait_with_output()?;
    let outcome: Value = serde_json::from_slice(&output.stdout).context("the intruder said nothing")?;
    let log = || fs::read_to_string(&pair.a.log).unwrap_or_default();
    let entered = outcome["in"].as_str().context("the intruder does not say how far it came")?;
    ensure!(outcome["out"] != "still there" && entered != "talk", "{outcome}\n{}", log());
    ensure!(door == Door::Ajar || entered.is_empty(), "{outcome}");
    let growth = pair.a.memory_kb()?.saturating_sub(before);
    ensure!(growth < GROWTH_MAX_KB, "A grew by {growth} KB: {outcome}");
    pair.sell()?;
    pair.linked()?;
    let lines = log().lines().count();
    ensure!(lines < 200, "A wrote {lines} lines into its log:\n{}", log());
    pair.stop()
}

/// A test for each way in.
macro_rules! ways {
    ($($name:ident $way:literal $door:ident;)*) => {
        $(
            #[test]
            fn $name() -> Result<()> {
                shut_out($way, Door::$door)
            }
        )*
    };
}

ways! {
    a_client_without_the_subprotocol "no-subprotocol" Shut;
    a_client_of_another_subprotocol "other-subprotocol" Shut;
    plain_text_where_the_handshake_should_be "plain-text" Ajar;
    a_wrong_handshake "wrong-handshake" Ajar;
    an_empty_handshake "empty-handshake" Ajar;
    a_client_that_says_nothing "silent" Ajar;
    a_flood_of_big_frames "big-frames" Ajar;
    a_flood_of_pings "pings" Ajar;
    a_message_of_endless_fragments "fragments" Ajar;
    a_crowd_of_three_hundred "crowd" Ajar;
    a_frame_that_announces_a_gigabyte "huge-frame" Ajar;
    a_request_that_drips "drip" Shut;
    a_request_without_an_end "endless-head" Shut;
}
