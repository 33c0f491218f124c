//! The conversation with one POSPlus till: what it says goes into the store, what changes here is told to it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::seat::{Move, Seat};
use super::told::{Mark, Told};
use super::{Context, PeerStatus};
use crate::api::PosplusCounts as Counts;
use crate::app::clock;
use crate::mesh::PosplusLink;
use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::store::{PosHeard, PosNews, PosSaid, PosStock, Remember, Reply, Request, StoreError};
use crate::wire::posplus::{Action, Body, Catalogue, Kind, PAGE_ITEMS, PosMessage, parse_time};

/// A quantity waits this long for the sale that explains it: which of both POSPlus sends first is not said anywhere.
const GRACE_MS: u64 = 500;
/// A sale that comes later than its quantity was counted by that already, where this is not longer ago.
const COUNTED_MS: u64 = 30_000;
/// Quantities of rows that are not known yet, and quantities that wait for a sale.
const WAITING_MAX: usize = 1_000;
/// The catalogue is asked for at most this often.
const ASK_EVERY_MS: u64 = 3_000;
/// A heartbeat, as POSPlus sends it.
const PING_EVERY_MS: u64 = 30_000;
/// POSPlus tills that meet copy from each other some seconds later: then each is looked at again.
const COPIED_MS: u64 = 6_000;
/// Who only listens keeps what it hears for this long.
const KEEP_MS: u64 = 15_000;
/// And at most so many messages.
const KEEP_MAX: usize = 300;
/// How far behind a listener takes the speaker to be.
const LISTENER_LAG_MS: u64 = 10_000;
/// How far was told is written down at most this often.
const NOTE_EVERY_MS: u64 = 5_000;
/// Changes told at once.
const BATCH: usize = 64;
/// Messages whose ids are remembered: each comes on both of two connections.
const IDS_MAX: usize = 4_096;
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(100);
/// Slack for zones and clocks where a till asks what has changed since a time.
const SINCE_SLACK_MS: u64 = 24 * 3_600_000;

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
    /// Quantities that wait for the sale that explains them, or for their product.
    grace: HashMap<i64, (u64, PosStock)>,
    unknown: HashMap<i64, PosStock>,
    /// What quantities alone have moved lately, and when.
    counted: HashMap<Uuid, (u64, Quantity)>,
    /// Products that it was given, by sku, and with how many: it will say in which row it has them.
    given: HashMap<String, Quantity>,
    kept: VecDeque<(u64, PosMessage)>,
    /// Where changes and ledger stood lately, for who only listens.
    trail: VecDeque<(u64, Mark)>,
    ask_at: Option<u64>,
    asked: Option<u64>,
    ping_at: u64,
    look_at: u64,
    note_at: Option<u64>,
    noted: Mark,
    pump: bool,
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
            counts: Counts::default(),
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
            grace: HashMap::new(),
            unknown: HashMap::new(),
            counted: HashMap::new(),
            given: HashMap::new(),
            kept: VecDeque::new(),
            trail: VecDeque::new(),
            ask_at: None,
            asked: None,
            ping_at: 0,
            look_at: 0,
            note_at: None,
            noted: Mark::default(),
            pump: true,
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

    pub(super) async fn run(mut self, mut links: mpsc::Receiver<PosplusLink>) {
        self.told = Told::new(self.remembered().await);
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
            }
            self.on_time().await;
            self.publish();
        }
    }

    /// How far this till was told by what is written down; a till that is new here is told what changes from now on.
    async fn remembered(&self) -> Mark {
        let note = self.note();
        let read = self.context.store.read(move |reader| {
            let (cursor, ledger) = reader.posplus_now()?;
            let known = reader.memory(&note)?.and_then(|text| {
                let (cursor, ledger) = text.split_once(' ')?;
                Some(Mark { cursor: cursor.parse().ok()?, ledger: ledger.parse().ok()? })
            });
            Ok(known.unwrap_or(Mark { cursor, ledger }))
        });
        read.await.unwrap_or_default()
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
        self.told.disconnected();
        self.links.push(Link { id, outbox, reader });
        if !self.status.online {
            self.status.since_ms = clock::now().wall_ms;
        }
        (self.status.pos_name, self.status.address) = (pos_name, addr.to_string());
        self.status.online = true;
        let now = self.now();
        (self.ask_at, self.asked, self.ping_at) = (Some(now), None, now + PING_EVERY_MS);
        (self.look_at, self.pump, self.give, self.fresh) = (now, true, true, true);
    }

    fn all_lost(&mut self) {
        info!(peer = %self.pos_id, "P2P: POSPlus till {} is not connected any more", self.pos_id);
        self.links.clear();
        self.told.disconnected();
        self.grace.clear();
        self.counted.clear();
        self.status.online = false;
        self.look_at = self.now();
    }

    /// Sends on the connection that was opened last. Waits for room: only this conversation waits.
    async fn send(&mut self, body: Body) -> bool {
        let Some(link) = self.links.last() else { return false };
        link.outbox.send(body).await.is_ok()
    }

    async fn on_heard(&mut self, link: u64, message: Option<Result<PosMessage, String>>) {
        if !self.links.iter().any(|known| known.id == link) {
            return;
        }
        let is_last = self.links.last().is_some_and(|last| last.id == link);
        let message = match message {
            None => return self.all_lost(),
            Some(Err(why)) => {
                self.status.counts.refused += 1;
                if self.status.counts.refused.is_power_of_two() {
                    let times = self.status.counts.refused;
                    warn!(peer = %self.pos_id, "P2P: refused a message of POSPlus till {} ({times} by now): {why}", self.pos_id);
                }
                return;
            }
            Some(Ok(message)) => message,
        };
        self.status.last_seen_ms = clock::now().wall_ms;
        match message.body {
            Body::Pong if is_last => {
                if self.told.ponged() {
                    self.note_at.get_or_insert(self.context.uptime.ms() + NOTE_EVERY_MS);
                }
                self.pump = true;
                return;
            }
            Body::Pong => return,
            Body::Ping => {
                self.send(Body::Pong).await;
                return;
            }
            _ => {}
        }
        if message.source != self.pos_id {
            self.status.counts.refused += 1;
            warn!(peer = %self.pos_id, "P2P: POSPlus till {} speaks as {}: refused", self.pos_id, message.source);
            return;
        }
        if !self.is_new(&message.id) {
            return;
        }
        for error in &message.refused {
            self.status.counts.refused += 1;
            warn!(peer = %self.pos_id, "P2P: refused a part of what POSPlus till {} says: {error}", self.pos_id);
        }
        if self.seat.is_ours() {
            self.take_in(message).await;
        } else {
            if self.kept.len() >= KEEP_MAX {
                self.kept.pop_front();
            }
            // Lists are asked for again by who takes over.
            if matches!(message.body.kind(), Kind::Ticket | Kind::Stock | Kind::Customer)
                || matches!(message.body, Body::Product(..))
            {
                self.kept.push_back((self.context.uptime.ms(), message));
            }
        }
    }

    fn is_new(&mut self, id: &str) -> bool {
        let (set, order) = &mut self.ids;
        if !set.insert(id.to_owned()) {
            return false;
        }
        order.push_back(id.to_owned());
        if order.len() > IDS_MAX
            && let Some(oldest) = order.pop_front()
        {
            set.remove(&oldest);
        }
        true
    }

    /// Takes in what it says, as the one of our tills that does.
    async fn take_in(&mut self, message: PosMessage) {
        let counts = &mut self.status.counts;
        match message.body {
            Body::Ticket(ticket) => {
                counts.tickets_in += 1;
                // The products of a sale are told apart by their sku; a row that is not known is asked for.
                let heard = self.ask(PosSaid::Ticket(ticket)).await;
                for (product, delta) in heard.map(|heard| heard.moved).unwrap_or_default() {
                    self.sold(product, delta, &message.id).await;
                }
            }
            Body::Stock { product, quantity } => {
                counts.stock_in += 1;
                let stock = self.stock(quantity, &message.id);
                if self.grace.len() < WAITING_MAX || self.grace.contains_key(&product) {
                    let until = self.grace.get(&product).map_or(self.now() + GRACE_MS, |(until, _)| *until);
                    self.grace.insert(product, (until, stock));
                }
            }
            Body::Product(Action::Delete, product) => drop(self.ask(PosSaid::Deleted(product)).await),
            Body::Product(_, product) => self.product(*product, true, &message.id).await,
            Body::Customer(Action::Delete, _) => counts.ignored += 1,
            Body::Customer(_, customer) => {
                counts.customers_in += 1;
                self.ask(PosSaid::Customer(customer)).await;
            }
            Body::IncrementalResponse { catalogue, .. }
            | Body::FullResponse { catalogue, .. }
            | Body::Manual { catalogue, .. } => self.catalogue(catalogue, &message.id).await,
            Body::IncrementalRequest { since, .. } => {
                let since_ms = parse_time(&since).unwrap_or(0).saturating_sub(SINCE_SLACK_MS);
                self.answer(since_ms, Some(since)).await;
            }
            Body::FullRequest { .. } => self.answer(0, None).await,
            Body::Ignored(kind) => {
                counts.ignored += 1;
                debug!(peer = %self.pos_id, "P2P: POSPlus till {} says {kind}: ignored", self.pos_id);
            }
            Body::Hello { .. } | Body::Ping | Body::Pong => {}
        }
    }

    /// A sale has moved stock. Where the quantity that follows from it came first and was counted by itself, it is taken back.
    async fn sold(&mut self, product: Uuid, delta: Quantity, message: &str) {
        let now = self.now();
        let counted = self.counted.get_mut(&product).filter(|(at, _)| now.saturating_sub(*at) < COUNTED_MS);
        let has = self.told.has(product);
        let row = self.rows.iter().find(|(_, id)| **id == product).map(|(row, _)| *row);
        let (Some((_, moved)), Some(has), Some(row)) = (counted, has, row) else {
            return self.told.moved(product, delta);
        };
        if delta.0 >= 0 || moved.0 > delta.0 {
            return self.told.moved(product, delta);
        }
        moved.0 -= delta.0;
        let mut stock = self.stock(has, &format!("{message} again"));
        stock.before = Some(Quantity(has.0 + delta.0));
        self.ask(PosSaid::Stock { row, stock }).await;
    }

    fn stock(&self, quantity: Quantity, message: &str) -> PosStock {
        PosStock { quantity, before: None, told: self.told.read.ledger, message: message.to_owned() }
    }

    /// Asks the store to take something in; what is wrong with it is counted and said.
    async fn ask(&mut self, said: PosSaid) -> Option<PosHeard> {
        let request = Request::Posplus { pos_id: self.pos_id.clone(), said };
        loop {
            match self.context.store.submit(request.clone()).await {
                Ok(Reply::Posplus(heard)) => {
                    if let Some(theirs) = heard.differs {
                        self.status.counts.stock_conflicts += 1;
                        warn!(
                            peer = %self.pos_id,
                            "P2P: POSPlus till {} has {theirs} of product {:?}, here are {}: nobody can tell why; ours stays",
                            self.pos_id, heard.product, heard.stock
                        );
                    }
                    return Some(*heard);
                }
                Ok(_) | Err(StoreError::Closed) => return None,
                Err(StoreError::Rejected(why)) => {
                    self.status.counts.refused += 1;
                    warn!(peer = %self.pos_id, "P2P: what POSPlus till {} says is refused: {why}", self.pos_id);
                    return None;
                }
                Err(StoreError::Conflict(_) | StoreError::NotFound(_)) => return None,
                // A full disk is emptied some day, and a sale that was heard is not forgotten meanwhile.
                Err(error) => {
                    warn!("P2P: what POSPlus till {} says cannot be stored yet: {error}", self.pos_id);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn product(&mut self, product: crate::model::posplus::PosProduct, live: bool, message: &str) {
        self.status.counts.products_in += 1;
        let (row, quantity) = (product.row, product.stock);
        let given = self.given.remove(&product.sku);
        let mut stock = self.stock(quantity, message);
        stock.before = given.or_else(|| self.rows.get(&row).and_then(|id| self.told.has(*id)));
        if !live && !self.fresh && self.rows.contains_key(&row) {
            // POSPlus tills copy each other's quantities when they meet, without a word: what has moved in a later list is no sale, and
            // counting it would count one of another till's twice.
            stock.before = Some(quantity);
        }
        let Some(heard) = self.ask(PosSaid::Product { product: Box::new(product), live, stock }).await else { return };
        let Some(id) = heard.product else { return };
        self.rows.insert(row, id);
        self.told.said(id, quantity);
        if heard.ours_newer {
            self.tell_product(id).await;
        }
        self.level(id, row, heard.stock).await;
        if let Some(waiting) = self.unknown.remove(&row) {
            self.quantity(row, waiting).await;
        }
    }

    /// Tells it how many there are, where it has another number.
    async fn level(&mut self, product: Uuid, row: i64, ours: Quantity) {
        let ours = ours.max(Quantity(0));
        if self.told.has(product) != Some(ours) && self.send(Body::Stock { product: row, quantity: ours }).await {
            self.status.counts.stock_out += 1;
            self.fence(None, vec![(product, ours)]).await;
        }
    }

    async fn fence(&mut self, mark: Option<Mark>, stock: Vec<(Uuid, Quantity)>) {
        if self.send(Body::Ping).await {
            let now = self.now();
            self.ping_at = now + PING_EVERY_MS;
            self.told.pinged(now, mark, stock);
        }
    }

    async fn tell_product(&mut self, id: Uuid) {
        let pos_id = self.pos_id.clone();
        let read = self.context.store.read(move |reader| reader.posplus_product(&pos_id, id)).await;
        if let Ok(Some((product, known))) = read {
            let action = if known { Action::Update } else { Action::Create };
            self.status.counts.products_out += 1;
            self.send(Body::Product(action, Box::new(product))).await;
        }
    }

    /// A quantity that no sale has explained.
    async fn quantity(&mut self, row: i64, mut stock: PosStock) {
        let product = self.rows.get(&row).copied();
        stock.before = product.and_then(|id| self.told.has(id));
        stock.told = self.told.read.ledger;
        let quantity = stock.quantity;
        let Some(heard) = self.ask(PosSaid::Stock { row, stock: stock.clone() }).await else { return };
        match heard.product {
            Some(id) => {
                self.rows.insert(row, id);
                self.told.said(id, quantity);
                self.counted.retain(|_, (at, _)| self.context.uptime.ms().saturating_sub(*at) < COUNTED_MS);
                for (product, delta) in heard.moved {
                    let now = self.context.uptime.ms();
                    let (at, sum) = self.counted.entry(product).or_default();
                    (*at, sum.0) = (now, sum.0 + delta.0);
                }
                self.level(id, row, heard.stock).await;
            }
            None => {
                if self.unknown.len() < WAITING_MAX {
                    self.unknown.insert(row, stock);
                }
                self.ask_soon();
            }
        }
    }

    fn ask_soon(&mut self) {
        let after = self.asked.map_or(0, |asked| asked + ASK_EVERY_MS);
        self.ask_at.get_or_insert(self.context.uptime.ms().max(after));
    }

    async fn catalogue(&mut self, catalogue: Catalogue, message: &str) {
        debug!(
            peer = %self.pos_id,
            "P2P: POSPlus till {} has {} products and {} categories", self.pos_id, catalogue.products.len(), catalogue.categories.len()
        );
        for category in catalogue.categories {
            self.ask(PosSaid::Category(Box::new(category))).await;
        }
        for product in catalogue.products {
            self.product(product, false, message).await;
        }
        self.fresh = false;
        if std::mem::take(&mut self.give) {
            self.give_missing().await;
        }
    }

    /// Gives it the products that it does not have, and has it say in which rows it has put them.
    async fn give_missing(&mut self) {
        let (mut after, mut given) = (None, 0_usize);
        loop {
            let pos_id = self.pos_id.clone();
            let read = self.context.store.read(move |reader| {
                let categories =
                    if after.is_none() { reader.posplus_categories(&pos_id, PAGE_ITEMS)? } else { Vec::new() };
                Ok((reader.posplus_products(&pos_id, 0, true, after, PAGE_ITEMS)?, categories))
            });
            let Ok((page, categories)) = read.await else { return };
            given += page.items.len();
            if !page.items.is_empty() {
                self.given.extend(page.items.iter().map(|product| (product.sku.clone(), product.stock)));
                self.page(Catalogue { products: page.items, categories }, None).await;
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        if given > 0 {
            info!(peer = %self.pos_id, "P2P: gave POSPlus till {} {given} products that it did not have", self.pos_id);
            self.ask_soon();
        }
    }

    /// One answer of at most a hundred items, which says that there is no more: where it said otherwise, POSPlus would ask for what has
    /// changed since now.
    async fn page(&mut self, catalogue: Catalogue, since: Option<String>) {
        self.status.counts.products_out += catalogue.products.len() as u64;
        let since = since.unwrap_or_else(|| crate::wire::posplus::iso(0));
        let body = Body::IncrementalResponse { catalogue, since, has_more: false, synced_ms: clock::now().wall_ms };
        self.send(body).await;
    }

    /// Answers what has changed since a time, in as many answers as it takes.
    async fn answer(&mut self, since_ms: u64, since: Option<String>) {
        let mut after = None;
        loop {
            let pos_id = self.pos_id.clone();
            let read = self.context.store.read(move |reader| {
                let categories =
                    if after.is_none() { reader.posplus_categories(&pos_id, PAGE_ITEMS)? } else { Vec::new() };
                Ok((reader.posplus_products(&pos_id, since_ms, false, after, PAGE_ITEMS)?, categories))
            });
            let Ok((page, categories)) = read.await else { return };
            self.page(Catalogue { products: page.items, categories }, since.clone()).await;
            after = page.next;
            if after.is_none() {
                return;
            }
        }
    }

    async fn on_time(&mut self) {
        let now = self.now();
        if self.look_at <= now {
            self.look_at = now + 500;
            self.look(now).await;
        }
        if self.told.is_stalled(now) {
            self.all_lost();
        }
        let due: Vec<i64> = self.grace.iter().filter(|(_, (until, _))| *until <= now).map(|(row, _)| *row).collect();
        for row in due {
            if let Some((_, stock)) = self.grace.remove(&row) {
                self.quantity(row, stock).await;
            }
        }
        if !self.links.is_empty() {
            if self.ping_at <= now {
                self.fence(None, Vec::new()).await;
            }
            if self.seat.is_ours() && self.ask_at.is_some_and(|at| at <= now) {
                (self.ask_at, self.asked) = (None, Some(now));
                let requested_by = self.context.pos_id.clone();
                self.send(Body::FullRequest { requested_by, bidirectional: false }).await;
            }
            if self.seat.is_ours() && self.pump && self.told.can_send() {
                self.tell().await;
            }
        }
        if self.note_at.is_some_and(|at| at <= now) {
            self.note_at = None;
            self.write_down().await;
        }
    }

    async fn write_down(&mut self) {
        let read = self.told.read;
        if read == self.noted {
            return;
        }
        self.noted = read;
        let value = Some(format!("{} {}", read.cursor, read.ledger));
        let note = Remember::Note { key: self.note(), value };
        if let Err(error) = self.context.store.submit(Request::Remember(note)).await {
            warn!("how far POSPlus till {} was told could not be written down: {error}", self.pos_id);
        }
    }

    /// Tells it what has changed.
    async fn tell(&mut self) {
        let (pos_id, after) = (self.pos_id.clone(), self.told.sent.cursor);
        let read = self.context.store.read(move |reader| reader.posplus_outbox(&pos_id, after, BATCH)).await;
        let outbox = match read {
            Ok(outbox) => outbox,
            Err(error) => return warn!("P2P: what to tell POSPlus till {} cannot be read: {error}", self.pos_id),
        };
        self.pump = outbox.more;
        let mark = Mark { cursor: outbox.cursor, ledger: outbox.ledger };
        let mut stock = Vec::new();
        let mut sent = false;
        for news in outbox.news {
            sent |= self.tell_one(news, &mut stock).await;
        }
        if sent {
            self.fence(Some(mark), stock).await;
        } else if self.told.is_quiet() {
            // Nothing in it is for this till.
            (self.told.sent, self.told.read) = (mark, mark);
            self.note_at.get_or_insert(self.context.uptime.ms() + NOTE_EVERY_MS);
        } else {
            self.told.sent = mark;
        }
    }

    async fn tell_one(&mut self, news: PosNews, stock: &mut Vec<(Uuid, Quantity)>) -> bool {
        let counts = &mut self.status.counts;
        let body = match news {
            PosNews::Ticket(mut ticket) => {
                (ticket.user, ticket.session) = (self.context.user, self.context.session);
                counts.tickets_out += 1;
                Body::Ticket(ticket)
            }
            PosNews::Product(product, known) => {
                counts.products_out += 1;
                if !known {
                    self.given.insert(product.sku.clone(), product.stock);
                    self.ask_soon();
                }
                Body::Product(if known { Action::Update } else { Action::Create }, product)
            }
            PosNews::Deleted(product) => Body::Product(Action::Delete, product),
            PosNews::Category(category) => {
                let catalogue = Catalogue { products: Vec::new(), categories: vec![*category] };
                self.page(catalogue, None).await;
                return true;
            }
            PosNews::Customer(customer, known) => {
                Body::Customer(if known { Action::Update } else { Action::Create }, customer)
            }
            PosNews::Stock { product, row, quantity } => {
                if self.told.has(product) == Some(quantity) {
                    return false;
                }
                counts.stock_out += 1;
                stock.push((product, quantity));
                self.rows.insert(row, product);
                Body::Stock { product: row, quantity }
            }
        };
        self.send(body).await
    }

    /// Looks who speaks.
    async fn look(&mut self, now: u64) {
        let pos_id = self.pos_id.clone();
        let read = self.context.store.read(move |reader| Ok((reader.posplus_speaker(&pos_id)?, reader.posplus_now()?)));
        let Ok((speaker, (cursor, ledger))) = read.await else { return };
        let linked: BTreeSet<_> = self.context.linked.borrow().clone();
        let others = self.context.status.borrow().values().filter(|peer| peer.online).count();
        if others != std::mem::replace(&mut self.others, others) && others > 1 {
            self.ask_at = Some(self.ask_at.unwrap_or(now + COPIED_MS));
        }
        let was_ours = self.seat.is_ours();
        match self.seat.look(now, speaker, &linked, self.status.online) {
            Some(Move::Take) => {
                info!(peer = %self.pos_id, "P2P: this till speaks to POSPlus till {} from now on", self.pos_id);
                self.ask(PosSaid::Speaker(Some(self.context.till))).await;
                self.look_at = now;
            }
            Some(Move::Leave) => drop(self.ask(PosSaid::Speaker(None)).await),
            None => {}
        }
        match (was_ours, self.seat.is_ours()) {
            (false, true) => self.take_over(now).await,
            (_, true) => {}
            (_, false) => self.follow(now, Mark { cursor, ledger }, speaker.is_some_and(|till| linked.contains(&till))),
        }
    }

    /// Who listens takes the speaker to have told everything but the last few seconds.
    fn follow(&mut self, now: u64, mark: Mark, speaker_is_here: bool) {
        self.kept.retain(|(at, _)| now.saturating_sub(*at) < KEEP_MS);
        if !(speaker_is_here && self.status.online) {
            return;
        }
        self.trail.push_back((now, mark));
        while self.trail.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= LISTENER_LAG_MS)
            && let Some((_, mark)) = self.trail.pop_front()
        {
            self.told = Told::new(mark);
            self.note_at.get_or_insert(now + NOTE_EVERY_MS);
        }
    }

    async fn take_over(&mut self, now: u64) {
        self.trail.clear();
        (self.ask_at, self.asked, self.pump, self.give) = (Some(now), None, true, true);
        self.fresh = true;
        for (_, message) in std::mem::take(&mut self.kept) {
            self.take_in(message).await;
        }
    }

    fn publish(&mut self) {
        self.status.speaker = self.seat.is_ours();
        let status = &self.status;
        self.context.status.send_if_modified(|all| {
            let changed = all.get(&self.pos_id) != Some(status);
            if changed {
                all.insert(self.pos_id.clone(), status.clone());
            }
            changed
        });
    }
}
