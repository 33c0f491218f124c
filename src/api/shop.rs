//! The whole shop from one till: what each till tells all others of itself, and what of that `/v1/status` shows.
//!
//! A till's word goes over the mesh as JSON and is passed on as it came. What is read here of another version's word has defaults, so that
//! neither an older nor a newer till breaks it.

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::clock::ClockQuality;
use crate::model::id::TillId;
use crate::store::Counts;

use super::shape::Time;
use super::status::{AgentStatus, Words, maybe_time};

/// The most alerts, and the most other tills, that a till tells of.
const TOLD_MAX: usize = 48;
/// Free space is told in steps of this many bytes: a sale that takes a page is no news to other tills.
const DISK_STEP: u64 = 16 << 20;

/// How a till is, in its own words.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TillSummary {
    /// The till's human id.
    pub pos_id: String,
    /// Its human name.
    pub pos_name: String,
    /// The agent's version.
    pub version: String,
    /// What people call its board.
    pub board: String,
    /// When the agent started, by the till's own clock.
    #[serde(rename = "startedAt", serialize_with = "maybe_time", deserialize_with = "from_time")]
    #[cfg_attr(test, schemars(with = "Option<Time>"))]
    pub started_ms: Option<u64>,
    /// Why it started: see `bootReason` of the status.
    pub boot_reason: String,
    /// Whether something that knows the time has set its clock: `trusted` or `untrusted`.
    pub clock: String,
    /// Whether it links with others.
    pub enabled: bool,
    /// Whether it listens for other tills.
    pub server_running: bool,
    /// Whether it announces itself and looks for others.
    pub discovery_running: bool,
    /// What its status LED shows, or would show.
    pub led: String,
    /// What a person should know, the gravest first.
    pub alerts: Vec<TillAlert>,
    /// What its database holds; null where it cannot be read.
    pub counts: Option<TillCounts>,
    /// Sales that no other till has on its disk yet.
    pub only_here: Option<u64>,
    /// Whether it can store sales.
    pub healthy: bool,
    /// What is left of its disk, in bytes, in steps of 16 MiB.
    pub disk_bytes_free: Option<u64>,
    /// Whether it is taking a snapshot of another till.
    pub taking_snapshot: bool,
    /// The other tills that it knows.
    pub peers: Vec<TillLink>,
}

/// An alert of another till.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TillAlert {
    /// Names the kind.
    pub code: String,
    /// How pressing it is: `info`, `warning` or `critical`.
    pub severity: String,
    /// When its cause began, by that till's clock.
    #[serde(rename = "since", serialize_with = "maybe_time", deserialize_with = "from_time")]
    #[cfg_attr(test, schemars(with = "Option<Time>"))]
    pub since_ms: Option<u64>,
    /// Which till or file, where there can be several.
    pub subject: Option<String>,
    /// What it is and what to do, as far as the till that answers knows: not sent with it.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Words>,
}

/// What another till's database holds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TillCounts {
    /// Tickets of all tills.
    pub tickets: u64,
    /// Living products.
    pub products: u64,
    /// Living customers.
    pub customers: u64,
    /// Ops of all tills.
    pub ops: u64,
    /// Ops that its version cannot apply.
    pub held: u64,
    /// Things for a person to settle.
    pub conflicts: u64,
    /// The database's size.
    pub bytes: u64,
}

/// A link of another till, as it sees it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TillLink {
    /// The till at the other end.
    pub till: String,
    /// Whether it is linked and ready.
    pub online: bool,
    /// How many ops that one has that this one has not.
    pub behind: u64,
    /// How many ops this one has that that one has not.
    pub ahead: u64,
}

/// A till of the store, as far as this one knows.
#[derive(Clone, PartialEq, Debug)]
pub struct TillView {
    /// The till.
    pub till: TillId,
    /// When what follows was heard, in milliseconds since 1970; none where it has told nothing: its version does not, or it was never
    /// met.
    pub heard_ms: Option<u64>,
    /// What it said.
    pub summary: Option<TillSummary>,
}

/// A till in `/v1/status`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Till"))]
pub(super) struct TillShape {
    /// Its id.
    till: String,
    /// Its human id.
    id: String,
    /// Its human name.
    name: String,
    /// Whether it is the one that answers.
    here: bool,
    /// Whether it is linked with the one that answers.
    online: bool,
    /// When it said what follows, by the clock of the till that answers; null where it has said nothing yet.
    #[serde(serialize_with = "maybe_time")]
    #[cfg_attr(test, schemars(with = "Option<Time>"))]
    heard: Option<u64>,
    /// How it is, in its own words: up to some seconds old, more where it is away.
    told: Option<TillSummary>,
}

impl TillSummary {
    /// What is told of a till. `stored`: what its database holds, and how many sales are on it alone.
    #[must_use]
    pub fn of(agent: &AgentStatus, stored: Option<(&Counts, u64)>, healthy: bool) -> Self {
        let mut alerts: Vec<&super::Alert> = agent.alerts.iter().collect();
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        let alerts = alerts.into_iter().take(TOLD_MAX).map(|alert| TillAlert {
            code: alert.code.clone(),
            severity: alert.severity.word().to_owned(),
            since_ms: Some(alert.since_ms),
            subject: alert.subject.clone(),
            messages: None,
        });
        let known = agent.peers.iter().filter_map(|peer| Some((peer.till?, peer)));
        let peers = known.take(TOLD_MAX).map(|(till, peer)| TillLink {
            till: till.to_string(),
            online: peer.online,
            behind: peer.behind,
            ahead: peer.ahead,
        });
        Self {
            pos_id: agent.pos_id.clone(),
            pos_name: agent.pos_name.clone(),
            version: agent.version.clone(),
            board: agent.board.name.clone(),
            started_ms: Some(agent.started_at_ms),
            boot_reason: agent.boot_reason.word().to_owned(),
            clock: match agent.clock {
                ClockQuality::Trusted => "trusted".to_owned(),
                ClockQuality::Untrusted => "untrusted".to_owned(),
            },
            enabled: agent.enabled,
            server_running: agent.server_running,
            discovery_running: agent.discovery_running,
            led: agent.led.clone(),
            alerts: alerts.collect(),
            counts: stored.map(|(counts, _)| TillCounts::of(counts)),
            only_here: stored.map(|(_, only_here)| only_here),
            healthy,
            disk_bytes_free: agent.board.disk_bytes_free.map(|free| free - free % DISK_STEP),
            taking_snapshot: agent.snapshot.is_some(),
            peers: peers.collect(),
        }
    }

    /// Whether it says that it is linked with a till.
    #[must_use]
    pub fn is_linked_with(&self, till: TillId) -> bool {
        let till = till.to_string();
        self.peers.iter().any(|peer| peer.online && peer.till == till)
    }
}

impl TillCounts {
    fn of(counts: &Counts) -> Self {
        Self {
            tickets: counts.tickets,
            products: counts.products,
            customers: counts.customers,
            ops: counts.ops,
            held: counts.held,
            conflicts: counts.conflicts,
            bytes: counts.bytes,
        }
    }
}

/// All tills of the store, the one that answers first.
pub(super) fn tills(agent: &AgentStatus, own: TillSummary, now_ms: u64) -> Vec<TillShape> {
    let here = TillShape {
        till: agent.till.to_string(),
        id: agent.pos_id.clone(),
        name: agent.pos_name.clone(),
        here: true,
        online: true,
        heard: Some(now_ms),
        told: Some(own),
    };
    let others = agent.shop.iter().map(|view| {
        let peer = agent.peers.iter().find(|peer| peer.till == Some(view.till));
        let told = |of: fn(&TillSummary) -> &String| view.summary.as_ref().map(of).filter(|text| !text.is_empty());
        TillShape {
            till: view.till.to_string(),
            id: told(|s| &s.pos_id).or(peer.map(|p| &p.id)).cloned().unwrap_or_default(),
            name: told(|s| &s.pos_name).or(peer.map(|p| &p.name)).cloned().unwrap_or_default(),
            here: false,
            online: peer.is_some_and(|peer| peer.online),
            heard: view.heard_ms,
            told: view.summary.clone(),
        }
    });
    std::iter::once(here).chain(others).collect()
}

/// A time that is not understood is not known.
fn from_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse::<Time>().ok()).map(|time| time.0))
}
