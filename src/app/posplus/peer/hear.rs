//! What the till says, taken into the store.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use tracing::{debug, warn};

use super::super::differs;
use super::super::lately::Due;
use super::{NOTE_EVERY_MS, Peer};
use crate::api::PosplusDiffers;
use crate::app::clock;
use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::model::posplus::PosProduct;
use crate::store::{PosHeard, PosSaid, PosStock, Remember, Reply, Request, Store, StoreError};
use crate::wire::posplus::{Action, Body, PosMessage, parse_time};

/// A sale that comes later than its quantity was counted by that already, where this is not longer ago.
const COUNTED_MS: u64 = 30_000;
/// The catalogue is asked for at most this often, and a millisecond more for each product that it is known to have.
const ASK_EVERY_MS: u64 = 500;
/// Rows of lists that are remembered.
const LISTED_MAX: usize = 20_000;
/// Messages whose ids are remembered: each comes on both of two connections.
const IDS_MAX: usize = 4_096;
/// Products that are shown as having differed.
const DIFFERS_MAX: usize = 20;
/// Slack for zones and clocks where a till asks what has changed since a time.
const SINCE_SLACK_MS: u64 = 24 * 3_600_000;

/// How a till says something of a product.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Word {
    /// It has just changed there.
    Live,
    /// In a list of all that is there.
    Listed,
    /// In a list that a person there has ordered to be taken over.
    Ordered,
}

impl Peer {
    pub(super) async fn on_heard(&mut self, link: u64, message: Option<Result<PosMessage, String>>) {
        if !self.links.iter().any(|known| known.id == link) {
            return;
        }
        let is_last = self.links.last().is_some_and(|last| last.id == link);
        let message = match message {
            None => return self.all_lost().await,
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
                self.ponged().await;
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
            self.kept.hear(self.context.uptime.ms(), message);
        }
    }

    async fn ponged(&mut self) {
        self.pump = true;
        let Some(ponged) = self.told.ponged() else { return };
        self.proven = ponged.sent_at;
        if ponged.news {
            self.note_at.get_or_insert(self.context.uptime.ms() + NOTE_EVERY_MS);
        }
        if !ponged.words.is_empty() {
            self.ask(PosSaid::Read(ponged.words)).await;
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
    pub(super) async fn take_in(&mut self, message: PosMessage) {
        let counts = &mut self.status.counts;
        match message.body {
            Body::Ticket(ticket) => {
                counts.tickets_in += 1;
                self.take_listed_of_sale(&ticket).await;
                // What it names by rows that are not known needs no waiting: products have their sku beside it, and a customer is found under
                // the row as soon as something is said of them.
                let heard = self.ask(PosSaid::Ticket(ticket)).await;
                for (product, delta) in heard.map(|heard| heard.moved).unwrap_or_default() {
                    self.sold(product, delta, &message.id).await;
                }
            }
            Body::Stock { product, quantity } => {
                counts.stock_in += 1;
                self.take_listed_of(product, "").await;
                self.said(product, quantity, &message.id);
            }
            Body::Product(Action::Delete, product) => {
                self.take_listed_of(product.row, &product.sku).await;
                self.ask(PosSaid::Deleted(product)).await;
            }
            Body::Product(_, product) => self.product(*product, &message.id).await,
            Body::Customer(Action::Delete, _) => counts.ignored += 1,
            Body::Customer(_, customer) => {
                counts.customers_in += 1;
                let heard = self.ask(PosSaid::Customer(customer)).await.filter(|heard| heard.ours_newer);
                if let Some(customer) = heard.and_then(|heard| heard.customer) {
                    self.tell_customer(customer).await;
                }
            }
            Body::IncrementalResponse { catalogue, .. } | Body::FullResponse { catalogue, .. } => {
                self.catalogue(catalogue, Word::Listed, &message.id).await;
            }
            // A person there has ordered it: it counts whatever its stamps.
            Body::Manual { catalogue, .. } => self.catalogue(catalogue, Word::Ordered, &message.id).await,
            Body::IncrementalRequest { since, .. } => {
                let since_ms = parse_time(&since).unwrap_or(0).saturating_sub(SINCE_SLACK_MS);
                self.asks_since = Some((since_ms, since));
            }
            Body::FullRequest { bidirectional, .. } => {
                self.asks_all = true;
                if bidirectional {
                    self.ask_soon();
                }
            }
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
        let row = self.rows.iter().find(|(_, id)| **id == product).map(|(row, _)| *row);
        let moved = row.map_or(delta, |row| self.lately.sold(now, row, delta));
        let counted = self.counted.get_mut(&product).filter(|(at, _)| now.saturating_sub(*at) < COUNTED_MS);
        let has = self.told.has(product);
        let (Some((_, counted)), Some(has), Some(row)) = (counted, has, row) else {
            return self.told.moved(product, moved);
        };
        if delta.0 >= 0 || counted.0 > delta.0 || moved != delta {
            return self.told.moved(product, moved);
        }
        counted.0 -= delta.0;
        let mut stock = self.stock(has, &format!("{message} again"));
        stock.before = Some(Quantity(has.0 + delta.0));
        self.ask(PosSaid::Stock { row, stock }).await;
    }

    /// It has so many by its own word, from here on.
    fn said(&mut self, row: i64, quantity: Quantity, message: &str) {
        let product = self.rows.get(&row).copied();
        let has = product.and_then(|product| self.told.has(product));
        let taken = self.lately.said(self.now(), row, quantity, has, message);
        if let Some(product) = product.filter(|_| taken) {
            self.told.said(product, quantity);
        }
    }

    fn stock(&self, quantity: Quantity, message: &str) -> PosStock {
        let (told, maybe_told) = self.told.ledger();
        PosStock { quantity, before: None, told, maybe_told, message: message.to_owned() }
    }

    /// Asks the store to take something in; what is wrong with it is counted and said.
    pub(super) async fn ask(&mut self, said: PosSaid) -> Option<PosHeard> {
        let taken = take(&self.context.store, &self.pos_id, said).await;
        self.judge(taken).await
    }

    pub(super) async fn judge(&mut self, taken: Result<PosHeard, StoreError>) -> Option<PosHeard> {
        match taken {
            Ok(heard) => {
                if let Some(theirs) = heard.differs {
                    self.differs(&heard, theirs).await;
                }
                Some(heard)
            }
            Err(StoreError::Rejected(why)) => {
                self.status.counts.refused += 1;
                warn!(peer = %self.pos_id, "P2P: what POSPlus till {} says is refused: {why}", self.pos_id);
                None
            }
            Err(_) => None,
        }
    }

    /// Shows a quantity that nobody can explain.
    async fn differs(&mut self, heard: &PosHeard, theirs: Quantity) {
        let Some(product_id) = heard.product else { return };
        let pos_id = self.pos_id.clone();
        let read = self.context.store.read(move |reader| reader.posplus_product(&pos_id, product_id)).await;
        let (sku, name) = match read {
            Ok(Some((product, _))) => (product.sku, product.name),
            _ => (product_id.to_string(), String::new()),
        };
        warn!(
            peer = %self.pos_id,
            "P2P: POSPlus till {} has {theirs} of {sku} {name:?}, here are {}: nobody can tell why; ours stays",
            self.pos_id, heard.stock
        );
        let status = &mut self.status;
        status.counts.stock_conflicts += 1;
        status.differs.retain(|seen| seen.product_id != product_id);
        if status.differs.len() >= DIFFERS_MAX {
            status.differs.remove(0);
        }
        let at_ms = clock::now().wall_ms;
        status.differs.push(PosplusDiffers { product_id, sku, name, theirs, ours: heard.stock, at_ms });
        let value = Some(differs::to_note(&status.differs));
        let note = Remember::Note { key: self.differs_note(), value };
        if let Err(error) = self.context.store.submit(Request::Remember(note)).await {
            warn!("what is to be counted beside POSPlus till {} could not be written down: {error}", self.pos_id);
        }
    }

    pub(super) async fn remembered_differs(&self) -> Vec<PosplusDiffers> {
        let note = self.differs_note();
        let read = self.context.store.read(move |reader| reader.memory(&note)).await;
        read.ok().flatten().map(|note| differs::from_note(&note)).unwrap_or_default()
    }

    async fn product(&mut self, product: PosProduct, message: &str) {
        let (row, quantity) = (product.row, product.stock);
        self.take_listed_of(row, &product.sku).await;
        self.status.counts.products_in += 1;
        let said = self.prepare(product, Word::Live, message);
        if let Some(heard) = self.ask(said).await {
            self.settle(row, quantity, heard).await;
        }
    }

    /// What to ask the store about a product that it tells of.
    pub(super) fn prepare(&mut self, product: PosProduct, word: Word, message: &str) -> PosSaid {
        let (row, quantity) = (product.row, product.stock);
        let given = self.given.remove(&product.sku).map(|(quantity, _)| quantity);
        // Two of our tills that ask for its list at the same time make one movement of what they find.
        let listed = format!("{quantity} {}", product.updated_ms);
        let mut stock = self.stock(quantity, if word == Word::Live { message } else { &listed });
        let product_known = self.rows.get(&row);
        // POSPlus tills copy each other's quantities when they meet, without a word: what has moved in a later list is no sale, and counting it
        // would count one of another till's twice. Nor is it where a sale of it has just been heard.
        let copied = word != Word::Live && !self.fresh && (product_known.is_some() || given.is_some());
        stock.before = match product_known.and_then(|id| self.told.has(*id)) {
            _ if copied || self.lately.knows(row) => Some(quantity),
            None => given,
            has => has,
        };
        if let Some(id) = product_known.copied() {
            self.told.said(id, quantity);
        }
        PosSaid::Product { product: Box::new(product), live: word != Word::Listed, stock }
    }

    /// Goes on with what the store has answered about a product.
    pub(super) async fn settle(&mut self, row: i64, quantity: Quantity, heard: PosHeard) {
        let Some(id) = heard.product else { return };
        // What was known when it said so was taken note of then.
        if self.rows.insert(row, id) != Some(id) {
            self.told.said(id, quantity);
        }
        if heard.ours_newer {
            self.tell_product(id).await;
        }
        self.level(id, row, heard.stock).await;
        if let Some(waiting) = self.unknown.take(self.now(), row, quantity) {
            self.stock_of(row, waiting).await;
        }
    }

    /// A quantity that no sale has explained.
    pub(super) async fn quantity(&mut self, due: Due) {
        let mut stock = self.stock(due.quantity, &due.message);
        stock.before = due.before;
        self.stock_of(due.row, stock).await;
    }

    async fn stock_of(&mut self, row: i64, stock: PosStock) {
        let Some(heard) = self.ask(PosSaid::Stock { row, stock: stock.clone() }).await else { return };
        match heard.product {
            Some(id) => {
                if self.rows.insert(row, id).is_none() {
                    self.told.said(id, stock.quantity);
                }
                self.counted.retain(|_, (at, _)| self.context.uptime.ms().saturating_sub(*at) < COUNTED_MS);
                for (product, delta) in heard.moved {
                    let now = self.context.uptime.ms();
                    let (at, sum) = self.counted.entry(product).or_default();
                    (*at, sum.0) = (now, sum.0 + delta.0);
                }
                self.level(id, row, heard.stock).await;
            }
            None => {
                self.unknown.wait(self.context.uptime.ms(), row, stock);
                self.ask_soon();
            }
        }
    }

    /// Whether a list tells something of a product that the list before it did not.
    pub(super) fn is_news(&mut self, product: &PosProduct) -> bool {
        let hash = hash_of(product);
        if self.listed.len() >= LISTED_MAX {
            self.listed.clear();
        }
        let known = self.listed.insert(product.row, hash) == Some(hash);
        let has = self.rows.get(&product.row).and_then(|id| self.told.has(*id));
        self.fresh || !known || has != Some(product.stock)
    }

    pub(super) fn ask_soon(&mut self) {
        let after = self.asked.map_or(0, |asked| asked + ASK_EVERY_MS + self.rows.len() as u64);
        self.ask_by(self.now().max(after));
    }

    /// The catalogue is asked for at this time at the latest.
    pub(super) fn ask_by(&mut self, at: u64) {
        self.ask_at = Some(self.ask_at.map_or(at, |asked| asked.min(at)));
    }
}

/// What tells two words about a product apart.
pub(super) fn hash_of(product: &PosProduct) -> u64 {
    let mut hasher = DefaultHasher::new();
    product.hash(&mut hasher);
    hasher.finish()
}

/// Has the store take in something. A full disk is emptied some day, and a sale that was heard is not forgotten meanwhile.
pub(super) async fn take(store: &Store, pos_id: &str, said: PosSaid) -> Result<PosHeard, StoreError> {
    let request = Request::Posplus { pos_id: pos_id.to_owned(), said };
    loop {
        match store.submit(request.clone()).await {
            Ok(Reply::Posplus(heard)) => return Ok(*heard),
            Ok(_) => return Err(StoreError::Closed),
            Err(
                error @ (StoreError::Closed
                | StoreError::Rejected(_)
                | StoreError::Conflict(_)
                | StoreError::NotFound(_)),
            ) => return Err(error),
            Err(error) => {
                warn!("P2P: what POSPlus till {pos_id} says cannot be stored yet: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
