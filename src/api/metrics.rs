//! `GET /metrics`: what monitoring scrapes, in Prometheus' text format. It says what `/v1/status` says, and counts.
//!
//! Names follow <https://prometheus.io/docs/practices/naming/>: a prefix, base units, `_total` on counters, `_info` on what is text.
//! Counters begin anew with the agent, as Prometheus expects of them.

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TEXT_FORMAT, TextEncoder,
};

use crate::model::clock::ClockQuality;

use super::Api;
use super::firewall;
use super::problem::{Kind, Problem};
use super::status::{AgentStatus, BoardStatus, BootReason, Integrity, Peer, Severity, Sight, see};
use super::traffic::Traffic;

/// Upper bounds of how long a write took, in seconds: from a fast disk's commit to where a cashier waits.
const WRITE_SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The states of the LED, as the status names them.
const LED_STATES: [&str; 8] = ["fault", "starting", "disabled", "solo", "alone", "partial", "syncing", "connected"];

/// What the API itself counts.
pub(super) struct Counters {
    registry: Registry,
    requests: IntCounterVec,
    sales: IntCounter,
    writes: Histogram,
}

impl Counters {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let requests =
            Opts::new("tillmesh_api_requests_total", "Requests that the local API answered, by status class.");
        let requests = IntCounterVec::new(requests, &["class"]).expect("a fixed name");
        let sales =
            IntCounter::new("tillmesh_sales_acknowledged_total", "Sales stored and acknowledged for the first time.")
                .expect("a fixed name");
        let writes = "From a checked write to its durable answer, the wait for the disk included.";
        let writes = HistogramOpts::new("tillmesh_write_duration_seconds", writes).buckets(WRITE_SECONDS.to_vec());
        let writes = Histogram::with_opts(writes).expect("a fixed name and growing bounds");
        let all: [Box<dyn Collector>; 3] =
            [Box::new(requests.clone()), Box::new(sales.clone()), Box::new(writes.clone())];
        for one in all {
            registry.register(one).expect("three names");
        }
        // Classes that are not there cannot be alerted upon.
        for class in ["2xx", "3xx", "4xx", "5xx"] {
            requests.with_label_values(&[class]);
        }
        Self { registry, requests, sales, writes }
    }

    pub(super) fn sold(&self) {
        self.sales.inc();
    }

    pub(super) fn wrote(&self, seconds: f64) {
        self.writes.observe(seconds);
    }
}

/// Counts answers by the class of their status.
pub(super) async fn count(State(api): State<Api>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let class = match response.status().as_u16() {
        ..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    };
    api.counters.requests.with_label_values(&[class]).inc();
    response
}

/// Always answers, like the status: a till whose database fails is the one that pages.
pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, Problem> {
    let sight = see(&api).await;
    let page = render(&api.counters, &sight);
    let text = page.map_err(|error| Problem::new(Kind::Internal, format!("the metrics do not render: {error}")))?;
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response())
}

fn render(counters: &Counters, sight: &Sight) -> prometheus::Result<String> {
    let page = Page(Registry::new());
    let agent = &*sight.agent;
    page.identity(agent)?;
    page.mesh(agent)?;
    page.peers(&agent.peers)?;
    page.traffic(&agent.traffic)?;
    page.alerts(agent)?;
    page.store(sight)?;
    page.integrity(&agent.integrity)?;
    page.firewall()?;
    page.board(&agent.board)?;
    let families = [counters.registry.gather(), page.0.gather()].concat();
    TextEncoder::new().encode_to_string(&families)
}

/// One scrape's values.
struct Page(Registry);

impl Page {
    fn gauge(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let gauge = Gauge::new(name, help)?;
        gauge.set(value);
        self.0.register(Box::new(gauge))
    }

    fn truth(&self, name: &str, help: &str, holds: bool) -> prometheus::Result<()> {
        self.gauge(name, help, if holds { 1.0 } else { 0.0 })
    }

    /// A value that may not be known: then there is no such metric.
    fn known(&self, name: &str, help: &str, value: Option<f64>) -> prometheus::Result<()> {
        value.map_or(Ok(()), |value| self.gauge(name, help, value))
    }

    fn counter(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let counter = IntCounter::new(name, help)?;
        counter.inc_by(value);
        self.0.register(Box::new(counter))
    }

    fn counters<'a>(
        &self,
        (name, help): (&str, &str),
        label: &str,
        rows: impl IntoIterator<Item = (&'a str, u64)>,
    ) -> prometheus::Result<()> {
        let family = IntCounterVec::new(Opts::new(name, help), &[label])?;
        for (value, times) in rows {
            family.with_label_values(&[value]).inc_by(times);
        }
        self.0.register(Box::new(family))
    }

    fn rows<'a, const N: usize>(
        &self,
        (name, help): (&str, &str),
        labels: [&str; N],
        rows: impl IntoIterator<Item = ([&'a str; N], f64)>,
    ) -> prometheus::Result<()> {
        let family = GaugeVec::new(Opts::new(name, help), &labels)?;
        for (values, value) in rows {
            family.with_label_values(&values).set(value);
        }
        self.0.register(Box::new(family))
    }

    fn identity(&self, agent: &AgentStatus) -> prometheus::Result<()> {
        let build = ("tillmesh_build_info", "The agent's version; always 1.");
        self.rows(build, ["version"], [([agent.version.as_str()], 1.0)])?;
        let (till, store) = (agent.till.to_string(), agent.store_id.to_string());
        let values = [&agent.pos_id, &agent.pos_name, &till, &store, &agent.store_name, &agent.board.name];
        let names = ["pos_id", "pos_name", "till", "store_id", "store_name", "board"];
        let help = "Who this till is; always 1.";
        self.rows(("tillmesh_till_info", help), names, [(values.map(String::as_str), 1.0)])?;
        let started = seconds(agent.started_at_ms);
        self.gauge("tillmesh_start_time_seconds", "When the agent started, since 1970.", started)?;
        let why = BootReason::ALL.map(|reason| ([reason.word()], f64::from(u8::from(agent.boot_reason == reason))));
        self.rows(("tillmesh_start_reason", "Why the agent started: 1 at one of the reasons."), ["reason"], why)?;
        let trusted = agent.clock == ClockQuality::Trusted;
        self.truth("tillmesh_clock_trusted", "Whether the till's clock is known to be right.", trusted)
    }

    fn mesh(&self, agent: &AgentStatus) -> prometheus::Result<()> {
        self.truth("tillmesh_p2p_enabled", "Whether the till links with others.", agent.enabled)?;
        self.truth("tillmesh_p2p_listening", "Whether other tills can reach this one's port.", agent.server_running)?;
        let announcing = agent.discovery_running;
        self.truth("tillmesh_discovery_running", "Whether tills are looked for by mDNS.", announcing)?;
        let led = ("tillmesh_led_state", "What the status LED shows: 1 at one of the states.");
        self.rows(led, ["state"], LED_STATES.map(|state| ([state], f64::from(u8::from(agent.led == state)))))?;
        self.gauge("tillmesh_peers", "Other tills of the store.", agent.peers.len() as f64)?;
        let linked = agent.peers.iter().filter(|peer| peer.online).count();
        self.gauge("tillmesh_peers_connected", "Those of them that are linked and ready.", linked as f64)?;
        let posplus = agent.posplus.iter().filter(|peer| peer.online).count();
        self.gauge("tillmesh_posplus_peers_connected", "POSPlus tills that are connected.", posplus as f64)?;
        self.gauge("tillmesh_pending_tills", "Tills that wait to be admitted.", agent.pending.len() as f64)
    }

    fn peers(&self, peers: &[Peer]) -> prometheus::Result<()> {
        let ids: Vec<String> = peers.iter().map(|p| p.till.map(|till| till.to_string()).unwrap_or_default()).collect();
        let all = |what: fn(&Peer) -> Option<f64>| {
            let rows = peers.iter().zip(&ids);
            rows.filter_map(move |(peer, till)| Some(([till.as_str(), peer.id.as_str()], what(peer)?)))
        };
        let labels = ["till", "peer"];
        let up = ("tillmesh_peer_up", "Whether a till of the store is linked and ready.");
        self.rows(up, labels, all(|peer| Some(f64::from(u8::from(peer.online)))))?;
        let behind = ("tillmesh_peer_behind_ops", "Ops that it has and this till lacks.");
        self.rows(behind, labels, all(|peer| Some(peer.behind as f64)))?;
        let ahead = ("tillmesh_peer_ahead_ops", "Ops that this till has and it lacks.");
        self.rows(ahead, labels, all(|peer| Some(peer.ahead as f64)))?;
        let round_trip = ("tillmesh_peer_round_trip_seconds", "The last ping's round trip.");
        self.rows(round_trip, labels, all(|peer| peer.rtt_ms.map(|ms| ms / 1000.0)))?;
        let seen = ("tillmesh_peer_last_seen_timestamp_seconds", "When it was last heard of, since 1970.");
        self.rows(seen, labels, all(|peer| peer.last_seen_ms.map(seconds)))
    }

    fn traffic(&self, traffic: &Traffic) -> prometheus::Result<()> {
        for (name, help, value) in [
            ("tillmesh_links_made_total", "Links that became ready.", traffic.links_made),
            ("tillmesh_links_lost_total", "Links that ended.", traffic.links_lost),
            ("tillmesh_ops_written_total", "Ops that this till wrote.", traffic.ops_written),
            ("tillmesh_ops_applied_total", "Ops of other tills that this one stored.", traffic.ops_applied),
            ("tillmesh_mesh_connections_accepted_total", "Connections accepted from the network.", traffic.accepted),
            ("tillmesh_mesh_dials_total", "Addresses dialled.", traffic.dials),
            ("tillmesh_mesh_dials_failed_total", "Addresses dialled that did not answer.", traffic.dials_failed),
            ("tillmesh_mesh_sent_bytes_total", "Bytes of messages sent to other tills.", traffic.bytes_sent),
            ("tillmesh_mesh_received_bytes_total", "Bytes of messages received from them.", traffic.bytes_received),
        ] {
            self.counter(name, help, value)?;
        }
        let refused = ("tillmesh_mesh_refused_total", "Connections that did not become links, by cause.");
        self.counters(refused, "reason", traffic.refused.iter().map(|(reason, times)| (reason.as_str(), *times)))
    }

    /// What the last check of all rows found; where there was none yet, only that it found nothing.
    fn integrity(&self, found: &Integrity) -> prometheus::Result<()> {
        let checked = "When all rows were last checked, since 1970.";
        self.known("tillmesh_integrity_check_timestamp_seconds", checked, found.checked_ms.map(seconds))?;
        self.gauge("tillmesh_integrity_damaged_rows", "Rows that it found damaged.", found.damaged as f64)
    }

    /// What the box's firewall has counted, where the box tells.
    fn firewall(&self) -> prometheus::Result<()> {
        let Some(counted) = firewall::counters() else { return Ok(()) };
        let packets = ("tillmesh_firewall_packets_total", "Packets that a counter of the box's firewall has seen.");
        self.counters(packets, "counter", counted.iter().map(|(name, counted)| (name.as_str(), counted.packets)))?;
        let bytes = ("tillmesh_firewall_bytes_total", "Their bytes.");
        self.counters(bytes, "counter", counted.iter().map(|(name, counted)| (name.as_str(), counted.bytes)))
    }

    fn alerts(&self, agent: &AgentStatus) -> prometheus::Result<()> {
        let rows = agent.alerts.iter().map(|alert| {
            let subject = alert.subject.as_deref().unwrap_or_default();
            ([alert.code.as_str(), alert.severity.word(), subject], 1.0)
        });
        let help = "What a person should know and do, while it is so; always 1.";
        self.rows(("tillmesh_alert", help), ["code", "severity", "subject"], rows)?;
        let counted = [Severity::Info, Severity::Warning, Severity::Critical].map(|severity| {
            let count = agent.alerts.iter().filter(|alert| alert.severity == severity).count();
            ([severity.word()], count as f64)
        });
        self.rows(("tillmesh_alerts", "How many of them there are."), ["severity"], counted)
    }

    fn store(&self, sight: &Sight) -> prometheus::Result<()> {
        let stores = sight.fault.is_none();
        self.truth("tillmesh_store_healthy", "Whether sales can be stored.", stores)?;
        let Some((counts, only_here)) = &sight.counts else { return Ok(()) };
        let rows = [
            (["ticket"], counts.tickets as f64),
            (["refund"], counts.refunds as f64),
            (["product"], counts.products as f64),
            (["category"], counts.categories as f64),
            (["customer"], counts.customers as f64),
        ];
        self.rows(("tillmesh_store_records", "What the database holds."), ["entity"], rows)?;
        for (name, help, value) in [
            ("tillmesh_store_ops", "Ops of all tills, compacted ones included.", counts.ops),
            ("tillmesh_store_ops_kept", "Ops that are kept one by one.", counts.ops_kept),
            ("tillmesh_store_ops_held", "Ops that this version cannot apply.", counts.held),
            ("tillmesh_conflicts", "Things for a person to settle.", counts.conflicts),
            ("tillmesh_store_size_bytes", "The database's size.", counts.bytes),
            ("tillmesh_store_free_bytes", "How much of that is free for what comes.", counts.bytes_free),
            ("tillmesh_sales_only_here", "Sales that no other till has on its disk yet.", *only_here),
        ] {
            self.gauge(name, help, value as f64)?;
        }
        Ok(())
    }

    fn board(&self, board: &BoardStatus) -> prometheus::Result<()> {
        let truth = |value: Option<bool>| value.map(|holds| f64::from(u8::from(holds)));
        for (name, help, value) in [
            ("tillmesh_temperature_celsius", "The processor's temperature.", board.temperature_celsius),
            ("tillmesh_undervoltage", "Whether the board's voltage is too low now.", truth(board.undervoltage)),
            (
                "tillmesh_card_used_ratio",
                "How much of the card's life is used; 1 and more is beyond it.",
                board.card_used_percent.map(|percent| f64::from(percent) / 100.0),
            ),
            ("tillmesh_disk_free_bytes", "What is left of the data's disk.", board.disk_bytes_free.map(|b| b as f64)),
            ("tillmesh_disk_size_bytes", "The size of that disk.", board.disk_bytes.map(|b| b as f64)),
            ("tillmesh_disk_read_only", "Whether that disk has turned read-only.", truth(board.disk_read_only)),
            ("tillmesh_watchdog_armed", "Whether a box that hangs is restarted.", truth(board.watchdog)),
        ] {
            self.known(name, help, value)?;
        }
        self.truth("tillmesh_led_present", "Whether there is a status LED that can be lit.", board.led.is_some())
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
