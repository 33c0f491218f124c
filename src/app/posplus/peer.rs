//! The conversation with one POSPlus till: what it says goes into the store, what changes here is told to it.

mod hear;
mod lead;
mod lists;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::info;

use self::lists::Lists;
use super::kept::Kept;
use super::lately::Lately;
use super::seat::Seat;
use super::told::{Batch, FENCE_MS, Mark, Told};
use super::waiting::Waiting;
use super::{Context, PeerStatus};
use crate::api::PosplusCounts as Counts;
use crate::app::clock;
use crate::mesh::PosplusLink;
use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::model::posplus::Thing;
use crate::wire::posplus::{Body, PosMessage};

/// A heartbeat, where nothing else was told: see [`crate::mesh`]'s page about POSPlus for why it differs from theirs.
const PING_EVERY_MS: u64 = 15_000;
// A loss is seen within POSPlus's own 35 s.
const _: () = assert!(PING_EVERY_MS + FENCE_MS < 35_000);
/// How far was told is written down at most this often.
const NOTE_EVERY_MS: u64 = 5_000;
/// How long its first list is waited for.
const FIRST_LIST_MS: u64 = 5_000;
/// Between two looks at who speaks.
const LOOK_MS: u64 = 500;
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(100);

struct Link {
    id: u64,
    outbox: mpsc::Sender<Body>,
    reader: tokio::task::JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        // The connection ends when its inbox is let go.
        self.reader.abort();
    }
}

/// What comes from one of the connections; nothing when it has ended.
type Heard = (u64, Option<Result<PosMessage, String>>);

/// A sale that is not told yet.
struct Held {
    /// The change that brought it.
    cursor: u64,
    id: Uuid,
    until: u64,
}

/// See the module's page.
pub(super) struct Peer {
    context: Context,
    pos_id: String,
    status: PeerStatus,
    links: Vec<Link>,
    heard: mpsc::Receiver<Heard>,
    hear: mpsc::Sender<Heard>,
    ids: (HashSet<String>, VecDeque<String>),
    seat: Seat,
    told: Told,
    /// Rows whose product is known.
    rows: HashMap<i64, Uuid>,
    /// Quantities that wait for the sale that explains them...
    lately: Lately,
    /// ...and for their product.
    unknown: Waiting,
    /// Sales that wait until that till has a row for each of their products.
    held: Vec<Held>,
    held_look_at: u64,
    /// What it was sent since the last ping, of which things.
    words: Vec<(Thing, i64, i64)>,
    /// What quantities alone have moved lately, and when.
    counted: HashMap<Uuid, (u64, Quantity)>,
    /// What its last list said of each row.
    listed: HashMap<i64, u64>,
    /// Products that it was given, by sku: with how many, and what else was said of them. It will say in which row it has them.
    given: HashMap<String, (Quantity, u64)>,
    kept: Kept,
    lists: Lists,
    /// Where changes and ledger stood lately, for who only listens.
    trail: VecDeque<(u64, Mark)>,
    /// When a ping was sent that it has answered.
    proven: u64,
    ask_at: Option<u64>,
    asked: Option<u64>,
    ping_at: u64,
    look_at: u64,
    note_at: Option<u64>,
    noted: Mark,
    pump: bool,
    /// It has asked what changed since a time, in milliseconds since 1970 and as it wrote that; it waits until its own list is here...
    asks_since: Option<(u64, String)>,
    /// ...or what there is at all.
    asks_all: bool,
    /// Products that it does not have are given to it with its next list.
    give: bool,
    /// Its next list is the first of this connection.
    fresh: bool,
    /// POSPlus tills that are connected.
    others: usize,
}

impl Peer {
    pub(super) fn new(context: Context, link: &PosplusLink) -> Self {
        let (hear, heard) = mpsc::channel(4);
        let now = context.uptime.ms();
        let wall_ms = clock::now().wall_ms;
        let status = PeerStatus {
            pos_id: link.pos_id.clone(),
            pos_name: link.pos_name.clone(),
            address: link.addr.to_string(),
            online: false,
            speaker: false,
            since_ms: wall_ms,
            last_seen_ms: wall_ms,
            detail: None,
            counts: Counts::default(),
            differs: Vec::new(),
        };
        Self {
            seat: Seat::new(context.till, now),
            pos_id: link.pos_id.clone(),
            context,
            status,
            links: Vec::new(),
            heard,
            hear,
            ids: Default::default(),
            told: Told::default(),
            rows: HashMap::new(),
            lately: Lately::default(),
            unknown: Waiting::default(),
            held: Vec::new(),
            held_look_at: 0,
            words: Vec::new(),
            counted: HashMap::new(),
            listed: HashMap::new(),
            given: HashMap::new(),
            kept: Kept::default(),
            lists: Lists::default(),
            trail: VecDeque::new(),
            proven: 0,
            ask_at: None,
            asked: None,
            ping_at: 0,
            look_at: 0,
            note_at: None,
            noted: Mark::default(),
            pump: true,
            asks_since: None,
            asks_all: false,
            give: false,
            fresh: true,
            others: 0,
        }
    }

    fn now(&self) -> u64 {
        self.context.uptime.ms()
    }

    fn note(&self) -> String {
        format!("posplus {}", self.pos_id)
    }

    fn differs_note(&self) -> String {
        format!("posplus-differs {}", self.pos_id)
    }

    pub(super) async fn run(mut self, mut links: mpsc::Receiver<PosplusLink>) {
        self.told = Told::new(self.remembered().await);
        self.status.differs = self.remembered_differs().await;
        self.noted = self.told.read;
        let mut changes = self.context.store.changes();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let busy = !self.links.is_empty() || self.status.online || self.seat.is_ours();
            tokio::select! {
                link = links.recv() => match link {
                    Some(link) => self.on_link(link),
                    None => break,
                },
                Some((id, message)) = self.heard.recv() => self.on_heard(id, message).await,
                changed = changes.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    self.pump = true;
                }
                _ = tick.tick(), if busy => {}
                () = std::future::ready(()), if self.has_lists() => self.work_lists().await,
            }
            self.on_time().await;
            self.publish();
        }
    }

    fn on_link(&mut self, link: PosplusLink) {
        let PosplusLink { id, pos_name, addr, mut inbox, outbox, .. } = link;
        let hear = self.hear.clone();
        let reader = tokio::spawn(async move {
            while let Some(message) = inbox.recv().await {
                if hear.send((id, Some(message))).await.is_err() {
                    return;
                }
            }
            let _ = hear.send((id, None)).await;
        });
        // What was sent on the connection before is told again on this one: the pongs of both would be counted as one row.
        self.forget_sent();
        self.links.push(Link { id, outbox, reader });
        if !self.status.online {
            self.status.since_ms = clock::now().wall_ms;
        }
        (self.status.pos_name, self.status.address) = (pos_name, addr.to_string());
        self.status.online = true;
        let now = self.now();
        (self.ask_at, self.asked, self.ping_at) = (Some(now), None, now);
        (self.look_at, self.pump, self.give, self.fresh) = (now, true, true, true);
    }

    fn forget_sent(&mut self) {
        self.told.disconnected();
        self.words.clear();
        self.held.clear();
    }

    async fn all_lost(&mut self) {
        self.take_lists().await;
        info!(peer = %self.pos_id, "P2P: POSPlus till {} is not connected any more", self.pos_id);
        self.links.clear();
        self.forget_sent();
        self.lately.clear();
        self.unknown.clear();
        self.given.clear();
        self.lists.hush();
        self.counted.clear();
        self.status.online = false;
        self.look_at = self.now();
    }

    async fn on_time(&mut self) {
        let now = self.now();
        if self.look_at <= now {
            self.look_at = now + LOOK_MS;
            self.look(now).await;
        }
        if self.told.is_stalled(now) {
            self.all_lost().await;
        }
        for due in self.lately.due(now) {
            self.quantity(due).await;
        }
        if !self.links.is_empty() {
            if self.ping_at <= now {
                self.fence(Batch::default()).await;
            }
            if self.seat.is_ours() && !self.hears_list() && self.ask_at.is_some_and(|at| at <= now) {
                (self.ask_at, self.asked) = (None, Some(now));
                let requested_by = self.context.pos_id.clone();
                self.send(Body::FullRequest { requested_by, bidirectional: false }).await;
            }
            // Before its first list is here, a quantity told would hide what it has sold unheard; before the list is taken in whole, a price told
            // would go over one that was changed there later.
            let waits = self.hears_list() || self.fresh && self.asked.is_none_or(|asked| now < asked + FIRST_LIST_MS);
            if self.seat.is_ours() && !waits {
                if std::mem::take(&mut self.asks_all) {
                    self.answer_all();
                }
                if let Some((since_ms, since)) = self.asks_since.take() {
                    self.answer(since_ms, since);
                }
                if self.held_look_at <= now && self.told.can_send() {
                    self.release(now).await;
                }
                if self.pump && self.told.can_send() {
                    self.tell().await;
                }
            }
        }
        if self.note_at.is_some_and(|at| at <= now) {
            self.note_at = None;
            self.write_down().await;
        }
    }

    fn publish(&mut self) {
        self.status.speaker = self.seat.is_ours();
        let status = &mut self.status;
        self.context.status.send_if_modified(|all| {
            let detail = all.get(&self.pos_id).and_then(|shown| shown.detail.clone());
            status.detail = detail.filter(|_| !status.online);
            let changed = all.get(&self.pos_id) != Some(&*status);
            if changed {
                all.insert(self.pos_id.clone(), status.clone());
            }
            changed
        });
    }
}
