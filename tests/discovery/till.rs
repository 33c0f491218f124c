//! A till that does nothing but discover: a process in a namespace, told what to do on its standard input, telling events as
//! lines of JSON on its standard output.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tillmesh::discovery::{Discovery, DiscoveryConfig, DiscoveryEvent, DiscoveryHandle};
use tillmesh::model::id::{StoreId, TillId, Uuid};
use tokio::sync::mpsc as events;

use crate::lan::Lan;

/// Set in the process that is a till: its [`Spec`]. In one that sends a packet: [`SEND`] and the address to send from.
const ROLE: &str = "TILLMESH_TEST_TILL";
const SEND: &str = "send ";
/// What stands before an event on standard output, where the test harness writes too.
const MARK: &str = "EVENT ";
/// Far more than anything takes on an idle machine.
const DEADLINE: Duration = Duration::from_secs(90);

/// What a till announces.
pub(crate) struct Spec {
    pub(crate) till: u8,
    pub(crate) instance: String,
    pub(crate) pos_id: String,
    pub(crate) store: u8,
    pub(crate) port: u16,
}

impl Spec {
    /// A till of store 1 on port 3030; all have the same host name, as copied cards do.
    pub(crate) fn new(till: u8) -> Self {
        Self { till, instance: format!("POSPlus-{till}"), pos_id: format!("POS-{till}"), store: 1, port: 3030 }
    }

    fn to_json(&self) -> String {
        json!([self.till, self.instance, self.pos_id, self.store, self.port]).to_string()
    }

    fn config(role: &str) -> DiscoveryConfig {
        let (till, instance, pos_id, store, port): (u8, String, String, u8, u16) =
            serde_json::from_str(role).expect("a spec");
        DiscoveryConfig {
            instance,
            hostname: "raspberrypi".into(),
            port,
            pos_id,
            version: "1.2.3".into(),
            proto: 1,
            store: StoreId(Uuid::from_bytes([store; 16])),
            till: TillId([till; 16]),
        }
    }
}

/// The id of till `n`, as the TXT record has it.
pub(crate) fn id(n: u8) -> String {
    TillId([n; 16]).to_string()
}

/// This binary again, in a namespace, as what `role` says.
fn again(lan: &Lan, namespace: u8, role: &str) -> Command {
    let exe = std::env::current_exe().expect("own path");
    let mut command = lan.command(namespace, exe.to_str().expect("UTF-8 path"));
    command.args(["--exact", "till_in_a_namespace", "--nocapture"]).env(ROLE, role);
    command
}

/// A process that multicasts the packet on its standard input.
pub(crate) fn sender(lan: &Lan, namespace: u8) -> Command {
    let mut command = again(lan, namespace, &format!("{SEND}10.77.0.{namespace}"));
    command.stdout(Stdio::null());
    command
}

/// Plays the till, if this process was started to be one.
pub(crate) fn run_if_asked() {
    let Ok(role) = std::env::var(ROLE) else { return };
    if let Some(address) = role.strip_prefix(SEND) {
        return send(address);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    runtime.block_on(play(Spec::config(&role)));
}

fn send(address: &str) {
    let mut packet = Vec::new();
    std::io::stdin().read_to_end(&mut packet).expect("packet");
    // Bound to an address: without a route for multicast, that is what chooses the interface.
    let socket = std::net::UdpSocket::bind((address, 0)).expect("socket");
    socket.send_to(&packet, "224.0.0.251:5353").expect("send");
}

async fn play(config: DiscoveryConfig) {
    let (tell, mut told) = events::channel(64);
    let (order, mut orders) = events::channel(8);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if order.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let discovery = Discovery::spawn(config, tell);
    loop {
        tokio::select! {
            Some(event) = told.recv() => print(&event),
            order = orders.recv() => match order.as_deref() {
                None | Some("stop") => return discovery.shutdown().await,
                Some(order) => obey(&discovery, order),
            },
        }
    }
}

fn obey(discovery: &DiscoveryHandle, order: &str) {
    match order.split_once(' ').unwrap_or((order, "")) {
        ("on", _) => discovery.set_enabled(true),
        ("off", _) => discovery.set_enabled(false),
        ("port", port) => discovery.announce_port(port.parse().expect("a port")),
        ("verify", key) => discovery.verify(key),
        _ => panic!("unknown order {order:?}"),
    }
}

fn print(event: &DiscoveryEvent) {
    let line = match event {
        DiscoveryEvent::Found(f) => json!({
            "event": "found", "key": f.key, "till": f.till.map(|t| t.to_string()), "pos_id": f.pos_id, "store": f.store,
            "proto": f.proto, "kin": format!("{:?}", f.kin), "addresses": f.addresses,
        }),
        DiscoveryEvent::Lost { key } => json!({ "event": "lost", "key": key }),
        DiscoveryEvent::NetworkChanged => json!({ "event": "networkChanged" }),
        DiscoveryEvent::Ready => json!({ "event": "ready" }),
        DiscoveryEvent::Failed { error } => json!({ "event": "failed", "error": error.to_string() }),
    };
    // Begins a line of its own: the harness may have written half of one.
    writeln!(std::io::stdout(), "\n{MARK}{line}").expect("standard output");
}

/// One event that a till told.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    value: Value,
    /// The till that its key stood for, when a `lost` has no more than a key.
    of: Option<String>,
}

impl Event {
    pub(crate) fn is(&self, event: &str) -> bool {
        self.text("event") == event
    }

    pub(crate) fn found(&self, till: u8) -> bool {
        self.is("found") && self.of == Some(id(till))
    }

    pub(crate) fn lost(&self, till: u8) -> bool {
        self.is("lost") && self.of == Some(id(till))
    }

    pub(crate) fn text(&self, key: &str) -> &str {
        self.value[key].as_str().unwrap_or_default()
    }

    pub(crate) fn addresses(&self) -> Vec<&str> {
        self.value["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The address at this place; empty where there is none.
    pub(crate) fn at(&self, place: usize) -> &str {
        self.addresses().get(place).copied().unwrap_or_default()
    }

    /// A link-local address with its scope.
    pub(crate) fn link_local(&self) -> Option<&str> {
        self.addresses().into_iter().find(|a| a.starts_with("[fe80::") && a.contains('%'))
    }
}

/// A till that runs. Killed when dropped.
pub(crate) struct Till {
    process: Child,
    orders: ChildStdin,
    lines: mpsc::Receiver<Value>,
    told: Vec<Event>,
    /// How many of `told` have been looked at.
    read: usize,
}

impl Till {
    pub(crate) fn start(lan: &Lan, namespace: u8, spec: Spec) -> Self {
        let mut process = again(lan, namespace, &spec.to_json())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a till");
        let orders = process.stdin.take().expect("piped");
        let out = BufReader::new(process.stdout.take().expect("piped"));
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(event) = line.strip_prefix(MARK) {
                    let event = serde_json::from_str(event).expect("JSON");
                    if tell.send(event).is_err() {
                        return;
                    }
                }
            }
        });
        Self { process, orders, lines, told: Vec::new(), read: 0 }
    }

    /// Waits for an event after those already waited for.
    pub(crate) fn expect(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        self.expect_while(what, DEADLINE, || (), wanted)
    }

    /// The same, doing something at once and then every so often until it comes.
    pub(crate) fn expect_while(
        &mut self,
        what: &str,
        every: Duration,
        mut act: impl FnMut(),
        wanted: impl Fn(&Event) -> bool,
    ) -> Event {
        let deadline = Instant::now() + DEADLINE;
        act();
        loop {
            while let Some(event) = self.told.get(self.read) {
                self.read += 1;
                if wanted(event) {
                    return event.clone();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(every)) {
                Ok(value) => self.take_in(value),
                Err(mpsc::RecvTimeoutError::Timeout) if !left.is_zero() => act(),
                Err(error) => panic!("waiting for {what}: {error}; told so far:{}", self.story()),
            }
        }
    }

    /// Looks at everything again from the beginning.
    pub(crate) fn rewind(&mut self) {
        self.read = 0;
    }

    fn take_in(&mut self, value: Value) {
        let key = &value["key"];
        let earlier = self.told.iter().rev().find(|e| e.is("found") && e.value["key"] == *key);
        let of = match value["till"].as_str() {
            Some(till) => Some(till.to_owned()),
            None => earlier.and_then(|e| e.of.clone()),
        };
        self.told.push(Event { value, of });
    }

    fn story(&self) -> String {
        self.told.iter().fold(String::new(), |mut story, event| {
            let _ = write!(story, "\n  {}", event.value);
            story
        })
    }

    pub(crate) fn say(&mut self, order: &str) {
        writeln!(self.orders, "{order}").expect("a till that listens");
    }

    /// Ends it in order, goodbye included.
    pub(crate) fn stop(&mut self) {
        self.say("stop");
        assert!(self.process.wait().expect("an end").success());
    }

    /// Ends it at once, as a power cut does.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("kill");
        self.process.wait().expect("an end");
    }
}

impl Drop for Till {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
