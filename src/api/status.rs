//! What the agent knows of itself, and what of it is told: `/v1/status`, `/v1/alerts`, `/healthz`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use serde::{Serialize, Serializer};
use tokio::time::timeout;

use crate::model::amount::Quantity;
use crate::model::clock::ClockQuality;
use crate::model::id::{BootId, Origin, StoreId, TillId, Uuid};
use crate::model::op::Seq;
use crate::store::Counts;

use super::alerts::PastAlert;
use super::entities::ListShape;
use super::firewall::{self, Counted};
use super::problem::{Kind, Problem};
use super::shape::Time;
use super::shop::{TillShape, TillSummary, TillView, tills};
use super::traffic::Traffic;
use super::{Api, Shared};

/// How long the store may take to show a sign of life.
const BEAT_TIME_MAX: Duration = Duration::from_secs(5);

/// The agent's own part of the status: plain data, kept up to date by the agent. Times are milliseconds since 1970.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AgentStatus {
    /// The till's human id.
    pub pos_id: String,
    /// Its human name.
    pub pos_name: String,
    /// The agent's version.
    pub version: String,
    /// The till's id: from its key.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub till: TillId,
    /// This start of the agent.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub boot_id: BootId,
    /// The store's id.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub store_id: StoreId,
    /// Its name.
    pub store_name: String,
    /// Its currency, ISO 4217.
    pub currency: String,
    /// Its time zone.
    pub time_zone: String,
    /// When the agent started.
    #[serde(rename = "startedAt", serialize_with = "as_time")]
    #[cfg_attr(test, schemars(with = "Time"))]
    pub started_at_ms: u64,
    /// Why the agent started.
    pub boot_reason: BootReason,
    /// What the system's clock is worth.
    pub clock: ClockQuality,
    /// Whether the till links with others.
    pub enabled: bool,
    /// Whether it exchanges ops without being asked.
    pub auto_sync: bool,
    /// Whether it listens for other tills.
    pub server_running: bool,
    /// Where it listens for other tills.
    pub listening: Option<String>,
    /// Whether it announces itself and looks for others.
    pub discovery_running: bool,
    /// How far some other till is known to hold what this till wrote: fresher than what the database remembers.
    #[serde(skip)]
    pub held_elsewhere: Option<(Origin, Seq)>,
    /// The state that the status LED shows, or would show.
    pub led: String,
    /// What it runs on.
    pub board: BoardStatus,
    /// The snapshot that is being taken of another till, where this one lacks what no till keeps as single changes any more.
    pub snapshot: Option<Snapshot>,
    /// All other tills of the store that it knows of.
    pub peers: Vec<Peer>,
    /// POSPlus tills that are or were connected. They are no tills of the store, and prove nothing.
    pub posplus: Vec<PosplusPeer>,
    /// Tills that wait to be admitted.
    pub pending: Vec<PendingTill>,
    /// What a person should know.
    pub alerts: Vec<Alert>,
    /// What has gone between this till and others since the start.
    pub traffic: Traffic,
    /// When all rows were last checked, and what was found.
    pub integrity: Integrity,
    /// The other tills of the store, as they say that they are.
    #[serde(skip)]
    pub shop: Vec<TillView>,
    /// Alerts that were raised, the oldest first.
    #[serde(skip)]
    pub history: Arc<Vec<PastAlert>>,
}

/// Why an agent started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum BootReason {
    /// For the first time on this database.
    #[default]
    First,
    /// After somebody had stopped it.
    Restart,
    /// After it had ended by itself, or was killed.
    Crash,
    /// With the box, which had been shut down in order.
    Reboot,
    /// With the box, which had not: its power was cut, or it hung.
    PowerCut,
    /// With the box, which its watchdog had reset.
    Watchdog,
}

impl BootReason {
    /// All of them.
    pub(super) const ALL: [Self; 6] =
        [Self::First, Self::Restart, Self::Crash, Self::Reboot, Self::PowerCut, Self::Watchdog];

    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Restart => "restart",
            Self::Crash => "crash",
            Self::Reboot => "reboot",
            Self::PowerCut => "powerCut",
            Self::Watchdog => "watchdog",
        }
    }
}

/// What the last check of all rows found.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Integrity {
    /// When it ended; null before the first.
    #[serde(rename = "checkedAt", serialize_with = "maybe_time")]
    #[cfg_attr(test, schemars(with = "Option<Time>"))]
    pub checked_ms: Option<u64>,
    /// Rows that it found damaged: they are fetched again from another till.
    pub damaged: u64,
}

/// The box, as far as it tells of itself. Null is what it does not tell.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Board"))]
pub struct BoardStatus {
    /// What people call the board.
    pub name: String,
    /// The name of the board's file.
    pub profile: String,
    /// What the board calls itself.
    pub model: Option<String>,
    /// Where its status LED is lit; null where there is none.
    pub led: Option<String>,
    /// The processor's temperature.
    pub temperature_celsius: Option<f64>,
    /// Whether its voltage is too low now.
    pub undervoltage: Option<bool>,
    /// How much of the card's life is used, in percent; 100 and more is beyond it.
    pub card_used_percent: Option<u8>,
    /// What is left of the disk that holds the data, in bytes.
    pub disk_bytes_free: Option<u64>,
    /// The size of that disk, in bytes.
    pub disk_bytes: Option<u64>,
    /// Whether that disk has turned read-only.
    pub disk_read_only: Option<bool>,
    /// Whether the watchdog is armed that restarts a box that hangs.
    pub watchdog: Option<bool>,
    /// Whether it has a clock that runs on while the power is off.
    pub battery_clock: Option<bool>,
}

/// Another till.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Peer {
    /// Its human id.
    pub id: String,
    /// Its human name.
    pub name: String,
    /// Its id, once it has proved it.
    #[serde(serialize_with = "maybe_text")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub till: Option<TillId>,
    /// Where it is linked, or was last seen.
    pub address: Option<String>,
    /// The agent's version there.
    pub version: Option<String>,
    /// Whether it is linked and ready.
    pub online: bool,
    /// What its link is doing.
    pub state: PeerState,
    /// Why it is not ready, in words.
    pub detail: Option<String>,
    /// When its state began.
    #[serde(rename = "since", serialize_with = "maybe_time")]
    #[cfg_attr(test, schemars(with = "Option<Time>"))]
    pub since_ms: Option<u64>,
    /// When it was last heard of.
    #[serde(rename = "lastSeen", serialize_with = "maybe_time")]
    #[cfg_attr(test, schemars(with = "Option<Time>"))]
    pub last_seen_ms: Option<u64>,
    /// The last ping's round trip, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// How many ops it has that we have not.
    pub behind: u64,
    /// How many ops we have that it has not.
    pub ahead: u64,
    /// Bytes of messages sent on its present link.
    pub bytes_sent: u64,
    /// Bytes of messages received on it.
    pub bytes_received: u64,
}

/// A POSPlus till.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PosplusPeer {
    /// What it says that its `posId` is.
    pub id: String,
    /// What it calls itself.
    pub name: String,
    /// Its address.
    pub address: String,
    /// Always false: it cannot prove who it is.
    pub authenticated: bool,
    /// Whether it is connected with this till.
    pub online: bool,
    /// Whether this till speaks to it for all of the store's.
    pub speaker: bool,
    /// Since when it has been connected, or was.
    #[serde(rename = "since", serialize_with = "as_time")]
    #[cfg_attr(test, schemars(with = "Time"))]
    pub since_ms: u64,
    /// When it was last heard of.
    #[serde(rename = "lastSeen", serialize_with = "as_time")]
    #[cfg_attr(test, schemars(with = "Time"))]
    pub last_seen_ms: u64,
    /// Why it is not connected, where that is known: for a person.
    pub detail: Option<String>,
    /// What has gone over the connection.
    pub counts: PosplusCounts,
    /// Products of which it and we had other quantities, and nobody could tell why: the newest of the last day, at most
    /// 20. Ours stayed, and it was told so: somebody should count them.
    pub stock_differs: Vec<PosplusDiffers>,
}

/// A product of which a POSPlus till had another quantity.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PosplusDiffers {
    /// Its id.
    pub product_id: Uuid,
    /// Its sku.
    pub sku: String,
    /// Its name.
    pub name: String,
    /// How many the POSPlus till had.
    pub theirs: Quantity,
    /// How many there were here, which both have now.
    pub ours: Quantity,
    /// When that was seen.
    #[serde(rename = "at", serialize_with = "as_time")]
    #[cfg_attr(test, schemars(with = "Time"))]
    pub at_ms: u64,
}

/// What has gone over the connections with a POSPlus till since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PosplusCounts {
    /// Tickets heard.
    pub tickets_in: u64,
    /// Tickets told.
    pub tickets_out: u64,
    /// Tickets that were not told: POSPlus has no row for something in them, and would lose them.
    pub tickets_left_out: u64,
    /// Products heard, those of lists included.
    pub products_in: u64,
    /// Products told.
    pub products_out: u64,
    /// Quantities heard.
    pub stock_in: u64,
    /// Quantities told.
    pub stock_out: u64,
    /// Customers heard.
    pub customers_in: u64,
    /// Messages of types that mean nothing here.
    pub ignored: u64,
    /// Messages, or parts of some, that were refused.
    pub refused: u64,
    /// Quantities that could not be explained: ours stayed.
    pub stock_conflicts: u64,
}

/// What a peer's link is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum PeerState {
    /// No link, none being made: off, or not seen yet.
    Offline,
    /// Being dialled, or between two tries.
    Connecting,
    /// Proving who is who.
    Handshaking,
    /// Linked, exchanging what one of the two lacks.
    Syncing,
    /// Linked, nothing to exchange.
    Connected,
    /// Will not be linked: another currency, retired, too old.
    Refused,
}

/// How far the taking of a snapshot is.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "SnapshotProgress"))]
pub struct Snapshot {
    /// The human name of the till that gives it.
    pub from: String,
    /// Rows that are here.
    pub rows: u64,
    /// About how many it has.
    pub of: u64,
}

/// A till that waits to be admitted.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PendingTill {
    /// Its id.
    #[serde(serialize_with = "as_text")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub till: TillId,
    /// Its human id, as it says.
    pub pos_id: String,
    /// Its human name, as it says.
    pub pos_name: String,
    /// Where it is.
    pub address: String,
    /// The short code that both tills show.
    pub code: String,
}

/// What a person should know, and do.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Alert {
    /// Names the kind; for programs.
    pub code: String,
    /// How pressing it is.
    pub severity: Severity,
    /// When its cause began.
    #[serde(rename = "since", serialize_with = "as_time")]
    #[cfg_attr(test, schemars(with = "Time"))]
    pub since_ms: u64,
    /// Which till or file, where there can be several.
    pub subject: Option<String>,
    /// What it is and what to do, in English.
    pub message: String,
    /// The same in each language.
    pub messages: Words,
    /// The cause in its own words.
    pub detail: Option<String>,
}

/// How pressing an alert is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Someone should see to it.
    Warning,
    /// Sales or their safety suffer.
    Critical,
}

impl Severity {
    /// The word in the API.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One text in the languages of the shops.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Words {
    /// English.
    pub en: String,
    /// French.
    pub fr: String,
    /// Arabic.
    pub ar: String,
}

fn as_text<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

fn maybe_text<T: std::fmt::Display, S: Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(ToString::to_string).serialize(serializer)
}

pub(super) fn as_time<S: Serializer>(ms: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    Time(*ms).serialize(serializer)
}

pub(super) fn maybe_time<S: Serializer>(ms: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    ms.map(Time).serialize(serializer)
}

/// The whole status.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Status"))]
pub(super) struct StatusShape {
    #[serde(flatten)]
    agent: AgentStatus,
    /// Now, on this till.
    now: Time,
    /// Peers that are online, POSPlus tills included.
    connected_peers: usize,
    /// Peers known, POSPlus tills included.
    total_peers: usize,
    /// Null where the database cannot be read: see `store`.
    counts: Option<CountsShape>,
    /// Sales that no other till has on its disk yet.
    only_here: Option<u64>,
    store: StoreShape,
    /// What this box's firewall has counted; null where the box does not tell the agent.
    firewall: Option<BTreeMap<String, Counted>>,
    /// All tills of the store, the one that answers first, as they say themselves: told over the mesh within seconds.
    tills: Vec<TillShape>,
}

/// What the database holds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Counts"))]
pub(super) struct CountsShape {
    tickets: u64,
    refunds: u64,
    products: u64,
    categories: u64,
    customers: u64,
    /// Ops of all tills, compacted ones included.
    ops: u64,
    /// Those of them that are kept one by one, for tills that may lack them.
    ops_kept: u64,
    /// Those at or below the floors of their logs: what they did is kept, and 8 bytes of hash each.
    ops_compacted: u64,
    /// Ops that this version cannot apply, kept for one that can.
    held: u64,
    /// Things for a person to settle.
    conflicts: u64,
    /// The database's size.
    bytes: u64,
    /// How much of it is free for what comes.
    bytes_free: u64,
}

/// How the database is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "StoreState"))]
pub(super) struct StoreShape {
    /// Whether sales can be stored.
    healthy: bool,
    /// Why not.
    fault: Option<String>,
}

impl From<Counts> for CountsShape {
    fn from(counts: Counts) -> Self {
        Self {
            tickets: counts.tickets,
            refunds: counts.refunds,
            products: counts.products,
            categories: counts.categories,
            customers: counts.customers,
            ops: counts.ops,
            ops_kept: counts.ops_kept,
            ops_compacted: counts.ops.saturating_sub(counts.ops_kept),
            held: counts.held,
            conflicts: counts.conflicts,
            bytes: counts.bytes,
            bytes_free: counts.bytes_free,
        }
    }
}

/// What is seen of the whole till at one moment.
pub(super) struct Sight {
    pub(super) agent: Arc<AgentStatus>,
    /// What the database holds, and how many sales no other till has; none where it cannot be read.
    pub(super) counts: Option<(Counts, u64)>,
    /// Why sales cannot be stored, or the database not be read.
    pub(super) fault: Option<String>,
}

/// Always answers: a till whose database fails is the one that is asked.
pub(super) async fn see(api: &Shared) -> Sight {
    let agent: Arc<AgentStatus> = api.context.status.borrow().clone();
    let told = agent.held_elsewhere;
    let read = api.read(move |reader| Ok((reader.counts()?, reader.only_here(told)?))).await;
    let (counts, unreadable) = match read {
        Ok(counts) => (Some(counts), None),
        Err(problem) => (None, Some(problem.detail().to_owned())),
    };
    Sight { agent, counts, fault: fault(api).or(unreadable) }
}

pub(super) async fn status(State(api): State<Api>) -> Json<StatusShape> {
    let Sight { agent, counts, fault } = see(&api).await;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let own = TillSummary::of(&agent, counts.as_ref().map(|(counts, only_here)| (counts, *only_here)), fault.is_none());
    Json(StatusShape {
        now: Time(now_ms),
        tills: tills(&agent, own, now_ms),
        connected_peers: agent.peers.iter().filter(|peer| peer.online).count()
            + agent.posplus.iter().filter(|peer| peer.online).count(),
        total_peers: agent.peers.len() + agent.posplus.len(),
        firewall: firewall::counters(),
        only_here: counts.as_ref().map(|(_, only_here)| *only_here),
        counts: counts.map(|(counts, _)| counts.into()),
        store: StoreShape { healthy: fault.is_none(), fault },
        agent: Arc::unwrap_or_clone(agent),
    })
}

fn fault(api: &Shared) -> Option<String> {
    api.context.store.health().borrow().fault.as_ref().map(ToString::to_string)
}

pub(super) async fn alerts(State(api): State<Api>) -> Json<ListShape<Alert>> {
    Json(ListShape::whole(api.context.status.borrow().alerts.clone()))
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Health"))]
pub(super) struct HealthShape {
    status: &'static str,
}

/// Whether the till can store sales now.
pub(super) async fn healthz(State(api): State<Api>) -> Result<Json<HealthShape>, Problem> {
    let ill = |detail: String| Problem::new(Kind::StoreUnavailable, detail).retry_after(10);
    if let Some(fault) = fault(&api) {
        return Err(ill(fault));
    }
    match timeout(BEAT_TIME_MAX, api.context.store.beat()).await {
        Ok(alive) => alive?,
        Err(_) => return Err(ill("the disk does not answer".to_owned())),
    }
    Ok(Json(HealthShape { status: "ok" }))
}
