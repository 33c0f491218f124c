//! A shop under test: its network, its tills as processes, and the books that the rig keeps itself of everything that was
//! acknowledged. What the tills say is compared with these.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::lan::{self, Lan, Name};
use crate::lib::http::Answer;
use crate::lib::{Agent, Http, eventually};
use crate::rng::Rng;

/// The agent under test.
pub(crate) const AGENT: &str = env!("CARGO_BIN_EXE_tillmesh");

/// Another build of the agent, which the till of this name is given in its place: `TILLMESH_AGENT_A` and so on.
pub(crate) fn given_agent(name: Name) -> Option<String> {
    std::env::var(format!("TILLMESH_AGENT_{name}")).ok()
}
/// Where its local API listens when nothing else is configured.
pub(crate) const API: &str = "127.0.0.1:3031";
/// A till is up within this, on the slowest machine that we test on.
const START_MAX: Duration = Duration::from_secs(30);
/// The unit of times in /proc, which Linux tells programs in hundredths of a second whatever its own clock does.
const TICK_MS: u64 = 10;
/// How many requests at a time a bulk load makes: enough for commits to be shared.
const BULK_CLIENTS: usize = 12;

/// A request that changes something.
pub(crate) struct Write {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: Value,
}

/// One till: its box, which outlives the process that runs on it.
struct Till {
    folder: PathBuf,
    hostname: String,
    /// What names the box to its agent, as a board's serial number does.
    machine: String,
    /// The program.
    program: String,
    agent: Option<Agent>,
    token: String,
}

/// What was acknowledged to the till applications of the shop.
#[derive(Default)]
pub(crate) struct Books {
    /// Ticket id to number.
    pub(crate) tickets: BTreeMap<String, String>,
    /// Product to its stock in thousandths.
    pub(crate) stock: BTreeMap<String, i64>,
    /// Two tills write under one name and do not know it: a number may be given twice, the ids tell the tickets apart.
    pub(crate) has_twins: bool,
}

pub(crate) struct Shop {
    title: &'static str,
    began: Instant,
    pub(crate) lan: Lan,
    tills: BTreeMap<Name, Till>,
    pub(crate) books: Books,
    pub(crate) rng: Rng,
    /// The `store` object that its tills are given; made with the first that needs it.
    pub(crate) store: Value,
    /// What a scenario remembers from one step to a later one.
    pub(crate) notes: BTreeMap<&'static str, Value>,
    folder: TempDir,
}

/// A product's id: the same wherever it is asked.
pub(crate) fn product_id(name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

/// A JSON quantity in thousandths.
pub(crate) fn thousandths(value: &Value) -> Result<i64> {
    let number = value.as_f64().with_context(|| format!("not a quantity: {value}"))?;
    Ok((number * 1000.0).round() as i64)
}

impl Shop {
    pub(crate) fn new(title: &'static str, scenario: usize, names: &[Name], seed: u64) -> Result<Self> {
        let lan = Lan::new(scenario, names)?;
        let folder = tempfile::Builder::new().prefix(&format!("{}-", lan::prefix())).tempdir()?;
        let tills = names.iter().map(|name| {
            let hostname = format!("caisse-{name}").to_lowercase();
            let (folder, machine) = (folder.path().join(name.to_string()), format!("box-{name}"));
            let program = given_agent(*name).unwrap_or_else(|| AGENT.to_owned());
            (*name, Till { folder, hostname, machine, program, agent: None, token: String::new() })
        });
        let tills = tills.collect();
        let (books, notes, rng) = (Books::default(), BTreeMap::new(), Rng::new(seed));
        Ok(Self { title, began: Instant::now(), lan, tills, books, rng, store: Value::Null, notes, folder })
    }

    /// Prints a line of the scenario's story.
    pub(crate) fn say(&self, text: &str) {
        println!("[{} {:5.1}s] {text}", self.title, self.began.elapsed().as_secs_f64());
    }

    // ------------------------------------------------------------------------------------------------- boxes

    fn till(&self, name: Name) -> &Till {
        &self.tills[&name]
    }

    fn till_mut(&mut self, name: Name) -> Result<&mut Till> {
        self.tills.get_mut(&name).with_context(|| format!("no till {name}"))
    }

    pub(crate) fn names(&self) -> Vec<Name> {
        self.tills.keys().copied().collect()
    }

    pub(crate) fn folder(&self, name: Name) -> PathBuf {
        self.till(name).folder.clone()
    }

    pub(crate) fn set_hostname(&mut self, name: Name, hostname: &str) -> Result<()> {
        hostname.clone_into(&mut self.till_mut(name)?.hostname);
        Ok(())
    }

    /// Puts the till's agent into a box of that name.
    pub(crate) fn set_machine(&mut self, name: Name, machine: &str) -> Result<()> {
        machine.clone_into(&mut self.till_mut(name)?.machine);
        Ok(())
    }

    /// Gives the till another program from its next start on: an update, or the version before.
    pub(crate) fn set_program(&mut self, name: Name, program: &str) -> Result<()> {
        program.clone_into(&mut self.till_mut(name)?.program);
        Ok(())
    }

    /// The till's config as it is on its disk.
    pub(crate) fn config(&self, name: Name) -> Result<Value> {
        let path = self.folder(name).join("pos-config.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Merges into the till's config file (RFC 7396), as whoever provisions it would; for a till that is not running.
    pub(crate) fn provision(&mut self, name: Name, patch: &Value) -> Result<()> {
        let folder = self.folder(name);
        fs::create_dir_all(&folder)?;
        if self.store.is_null() {
            self.store = new_store("TND")?;
        }
        let mut config = self.config(name).unwrap_or_else(|_| json!({ "store": self.store }));
        merge(&mut config, patch);
        Ok(fs::write(folder.join("pos-config.json"), serde_json::to_string_pretty(&config)?)?)
    }

    pub(crate) fn log(&self, name: Name) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    fn log_path(&self, name: Name) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    // --------------------------------------------------------------------------------------------- processes

    /// The agent's command on this till's network, under its hostname; ended with the rig, however that ends.
    pub(crate) fn command(&self, name: Name, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.lan.namespace(name), "unshare", "--uts"])
            .args(["setpriv", "--pdeathsig", "KILL", "sh", "-c", "hostname \"$0\" && exec \"$@\""])
            .args([&self.till(name).hostname, &self.till(name).program])
            .args(words)
            .env("TILLMESH_MACHINE", &self.till(name).machine)
            .env_remove("JOURNAL_STREAM");
        command
    }

    /// Switches the till on and waits until its local API answers; a till without a config is given the shop's store.
    pub(crate) fn start(&mut self, name: Name) -> Result<()> {
        if !self.folder(name).join("pos-config.json").exists() {
            self.provision(name, &json!({}))?;
        }
        self.start_as_it_is(name)
    }

    /// Switches the till on, config or none.
    pub(crate) fn start_as_it_is(&mut self, name: Name) -> Result<()> {
        self.spawn(name)?;
        self.answering(name)
    }

    /// Switches the till on and does not wait.
    pub(crate) fn spawn(&mut self, name: Name) -> Result<()> {
        let folder = self.folder(name);
        fs::create_dir_all(&folder)?;
        let mut command = self.command(name, &["run", "--data-dir", &folder.to_string_lossy()]);
        let agent = Agent::spawn(&mut command, &self.log_path(name))?;
        self.till_mut(name)?.agent = Some(agent);
        Ok(())
    }

    /// Waits until the till's local API answers.
    pub(crate) fn answering(&mut self, name: Name) -> Result<()> {
        eventually(START_MAX, &format!("{name} answers"), || self.call(name, "GET", "/healthz", None)?.ok().map(drop))?;
        let path = self.folder(name).join("api-token");
        self.till_mut(name)?.token = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(())
    }

    /// Kills it in the middle of whatever it does; one that has ended by itself before is a failure.
    pub(crate) fn kill_running(&mut self, name: Name) -> Result<()> {
        let agent = self.till_mut(name)?.agent.as_mut().context("not running")?;
        if let Some(status) = agent.exit(Duration::ZERO)? {
            bail!("{name} had ended by itself: {status}");
        }
        self.kill(name)
    }

    /// The power of the box is gone, kernel and all: its peers are told nothing. For a shop on the hub; the till is to be let
    /// through again, and started.
    pub(crate) fn power_off(&mut self, name: Name) -> Result<()> {
        let others: Vec<Name> = self.names().into_iter().filter(|other| *other != name).collect();
        self.lan.split(&[&others, &[name]])?;
        self.kill(name)?;
        self.lan.reboot(name)
    }

    pub(crate) fn kill(&mut self, name: Name) -> Result<()> {
        self.till_mut(name)?.agent.take().context("not running")?.kill()
    }

    /// Its processor does nothing while something else is done; its kernel still answers.
    pub(crate) fn while_held(&self, name: Name, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let pid = self.till(name).agent.as_ref().context("not running")?.pid()?;
        kill_process(pid, Signal::STOP)?;
        let done = work();
        kill_process(pid, Signal::CONT)?;
        done
    }

    pub(crate) fn stop(&mut self, name: Name) -> Result<()> {
        let mut agent = self.till_mut(name)?.agent.take().context("not running")?;
        let status = agent.stop(Duration::from_secs(20))?;
        ensure!(status.success(), "{name} ended with {status}");
        Ok(())
    }

    /// Processor time that the till's process has used since it started.
    pub(crate) fn cpu(&self, name: Name) -> Result<Duration> {
        let stat = self.proc(name, "stat")?;
        // Fields 14 and 15 of proc(5), user and system; the third follows the command's name, which is in brackets.
        let (_, fields) = stat.rsplit_once(") ").context("no command in /proc/.../stat")?;
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or_default()).sum();
        Ok(Duration::from_millis(ticks * TICK_MS))
    }

    /// Memory of the till's process that is in the machine's now, shared or not, in KiB.
    pub(crate) fn memory_kib(&self, name: Name) -> Result<u64> {
        let status = self.proc(name, "status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    fn proc(&self, name: Name, file: &str) -> Result<String> {
        let pid = self.till(name).agent.as_ref().context("not running")?.pid()?;
        let path = format!("/proc/{}/{file}", pid.as_raw_nonzero());
        fs::read_to_string(&path).context(path)
    }

    /// The agents that ended though nobody ended them.
    pub(crate) fn crashed(&mut self) -> Result<Vec<Name>> {
        let mut found = Vec::new();
        for (name, till) in &mut self.tills {
            if let Some(agent) = &mut till.agent
                && agent.exit(Duration::ZERO)?.is_some()
            {
                found.push(*name);
            }
        }
        Ok(found)
    }

    // --------------------------------------------------------------------------------------------- local API

    /// What a client of the till shows it.
    pub(crate) fn token(&self, name: Name) -> &str {
        &self.till(name).token
    }

    pub(crate) fn call(&self, name: Name, method: &str, path: &str, body: Option<&Value>) -> Result<Answer> {
        let token = &self.till(name).token;
        self.lan.inside(name, || Http::new(API, token).call(method, path, body)).with_context(|| format!("till {name}"))
    }

    pub(crate) fn get(&self, name: Name, path: &str) -> Result<Value> {
        self.call(name, "GET", path, None)?.ok().with_context(|| format!("till {name}: GET {path}"))
    }

    /// A change that must be acknowledged.
    pub(crate) fn send(&self, name: Name, write: &Write) -> Result<Value> {
        let answer = self.call(name, write.method, &write.path, Some(&write.body))?;
        answer.ok().with_context(|| format!("till {name}: {} {}", write.method, write.path))
    }

    /// Many changes, several at a time; all must be acknowledged. The answers in the order of the changes.
    pub(crate) fn send_all(&self, name: Name, writes: &[Write]) -> Result<Vec<Value>> {
        let token = &self.till(name).token;
        let share = writes.len().div_ceil(BULK_CLIENTS).max(1);
        thread::scope(|scope| {
            let threads: Vec<_> = writes
                .chunks(share)
                .map(|chunk| {
                    scope.spawn(move || {
                        self.lan.inside(name, || {
                            let http = Http::new(API, token);
                            let one = |write: &Write| http.call(write.method, &write.path, Some(&write.body))?.ok();
                            chunk.iter().map(one).collect::<Result<Vec<Value>>>()
                        })
                    })
                })
                .collect();
            let mut answers = Vec::new();
            for thread in threads {
                answers.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
            }
            Ok(answers)
        })
    }

    /// Everything of a list, page after page.
    pub(crate) fn list(&self, name: Name, path: &str) -> Result<Vec<Value>> {
        let token = &self.till(name).token;
        self.lan.inside(name, || {
            let http = Http::new(API, token);
            let mut items = Vec::new();
            let mut after = String::new();
            loop {
                let page = http.call("GET", &format!("{path}?limit=500{after}"), None)?.ok()?;
                items.extend(
                    page["items"].as_array().with_context(|| format!("{path}: no items: {page}"))?.iter().cloned(),
                );
                match &page["next"] {
                    Value::Null => return Ok(items),
                    Value::String(cursor) => after = format!("&after={cursor}"),
                    cursor => after = format!("&after={cursor}"),
                }
            }
        })
    }

    pub(crate) fn status(&self, name: Name) -> Result<Value> {
        self.get(name, "/v1/status")
    }

    /// The till's alerts, each as code and message.
    pub(crate) fn alerts(&self, name: Name) -> Result<Vec<String>> {
        let status = self.status(name)?;
        let alerts = status["alerts"].as_array().context("no alerts in the status")?;
        Ok(alerts.iter().map(|alert| format!("{}: {}", alert["code"], alert["message"])).collect())
    }

    /// The last lines of every till's log.
    pub(crate) fn print_logs(&self) {
        for name in self.names() {
            let log = self.log(name);
            let lines: Vec<&str> = log.lines().collect();
            println!("---- till {name}, last lines of {}", lines.len());
            for line in &lines[lines.len().saturating_sub(40)..] {
                println!("     {line}");
            }
        }
    }
}

/// A store, as `tillmesh store new` makes it for whoever provisions the tills.
pub(crate) fn new_store(currency: &str) -> Result<Value> {
    let words =
        ["store", "new", "--json", "--name", "Café Central", "--currency", currency, "--time-zone", "Africa/Tunis"];
    let output = Command::new(AGENT).args(words).output().context("tillmesh store new")?;
    if !output.status.success() {
        bail!("tillmesh store new: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut store: Value =
        serde_json::from_slice(&output.stdout).context("tillmesh store new --json prints no JSON")?;
    // Printed either bare or as the piece of config that it is.
    Ok(if store["store"].is_object() { store["store"].take() } else { store })
}

/// JSON merge patch: objects merge, `null` removes, anything else replaces.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let Value::Object(into) = into else { return };
    for (key, value) in patch {
        if value.is_null() {
            into.remove(key);
        } else {
            merge(into.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
