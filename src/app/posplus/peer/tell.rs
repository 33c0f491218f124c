//! What changes here, told to the till.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tracing::warn;

use super::super::told::{Batch, Mark};
use super::hear::hash_of;
use super::{Held, NOTE_EVERY_MS, PING_EVERY_MS, Peer};
use crate::app::clock;
use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::model::posplus::{PosProduct, PosTicket, Thing};
use crate::store::{Cursor, PosNews, PosRows, Remember, Request};
use crate::wire::posplus::{Action, Body, Catalogue, PAGE_ITEMS, iso};

/// A heartbeat of who only listens: how lately the till was there is all that such a one can go by.
const LISTENER_PING_EVERY_MS: u64 = 5_000;
/// Changes told at once.
const BATCH: usize = 64;
/// How long a sale waits until that till has said in which rows it has put what was sold: as long as its list of 5,000 products takes twice.
const HOLD_MS: u64 = 20_000;
/// Sales that wait at once; one beyond them is left out.
const HELD_MAX: usize = 64;
/// Between two looks at them.
const HELD_LOOK_MS: u64 = 250;

impl Peer {
    /// How far this till was told by what is written down; a till that is new here is told what changes from now on.
    pub(super) async fn remembered(&self) -> Mark {
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

    pub(super) async fn write_down(&mut self) {
        let read = self.told.safe();
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
    pub(super) async fn tell(&mut self) {
        let (pos_id, after) = (self.pos_id.clone(), self.told.sent.cursor);
        let read = self.context.store.read(move |reader| reader.posplus_outbox(&pos_id, after, BATCH)).await;
        let outbox = match read {
            Ok(outbox) => outbox,
            Err(error) => return warn!("P2P: what to tell POSPlus till {} cannot be read: {error}", self.pos_id),
        };
        self.pump = outbox.more;
        let mark = Mark { cursor: outbox.cursor, ledger: outbox.ledger };
        let mut sent = false;
        for news in outbox.news {
            sent |= self.tell_one(news).await;
        }
        if sent {
            self.fence(Batch { mark: Some(mark), ..Batch::default() }).await;
        } else if self.told.is_quiet() {
            // Nothing in it is for this till.
            (self.told.sent, self.told.read) = (mark, mark);
            self.note_at.get_or_insert(self.context.uptime.ms() + NOTE_EVERY_MS);
        } else {
            self.told.sent = mark;
        }
    }

    async fn tell_one(&mut self, news: PosNews) -> bool {
        let counts = &mut self.status.counts;
        let body = match news {
            PosNews::Ticket { ticket, rows: PosRows::Known, .. } => return self.tell_ticket(ticket).await,
            PosNews::Ticket { id, cursor, rows: PosRows::Awaited, .. } if self.held.len() < HELD_MAX => {
                self.hold(id, cursor);
                return false;
            }
            PosNews::Ticket { ticket, .. } => {
                self.leave_out(&ticket);
                return false;
            }
            PosNews::Product(mut product, known) => {
                if !known {
                    let given = (product.stock, hash_of(&product));
                    if self.given.insert(product.sku.clone(), given) == Some(given) {
                        return false;
                    }
                    self.ask_soon();
                } else {
                    self.words.push(word_of(&product));
                    self.carries_stock(&product);
                }
                self.status.counts.products_out += 1;
                self.date(&mut product);
                Body::Product(if known { Action::Update } else { Action::Create }, product)
            }
            PosNews::Deleted(product) => Body::Product(Action::Delete, product),
            PosNews::Category(category) => {
                self.words.push((Thing::Category, category.row, category.content()));
                let catalogue = Catalogue { products: Vec::new(), categories: vec![*category] };
                self.page(catalogue, None).await;
                return true;
            }
            PosNews::Customer(customer, known) => {
                Body::Customer(if known { Action::Update } else { Action::Create }, customer)
            }
            PosNews::Stock { product, row, quantity } => {
                if self.told.will_have(product) == Some(quantity) {
                    return false;
                }
                counts.stock_out += 1;
                self.told.sends(product, quantity);
                self.rows.insert(row, product);
                Body::Stock { product: row, quantity }
            }
        };
        self.send(body).await
    }

    pub(super) async fn tell_product(&mut self, id: Uuid) {
        let pos_id = self.pos_id.clone();
        let read = self.context.store.read(move |reader| reader.posplus_product(&pos_id, id)).await;
        if let Ok(Some((mut product, known))) = read {
            let action = if known { Action::Update } else { Action::Create };
            self.date(&mut product);
            self.status.counts.products_out += 1;
            if known {
                self.words.push(word_of(&product));
                self.told.sends(id, product.stock);
            }
            self.send(Body::Product(action, Box::new(product))).await;
        }
    }

    /// What is told of a product bears the time at which it is told, see [`stamp`].
    pub(super) fn date(&self, product: &mut PosProduct) {
        product.updated_ms = product.updated_ms.max(stamp(clock::now().wall_ms, &self.context.zone));
    }

    /// All that is told of a product tells how many there are, over what that till sells meanwhile.
    pub(super) fn carries_stock(&mut self, product: &PosProduct) {
        if let Some(id) = self.rows.get(&product.row) {
            self.told.sends(*id, product.stock);
        }
    }

    pub(super) async fn tell_customer(&mut self, id: Uuid) {
        let pos_id = self.pos_id.clone();
        let read = self.context.store.read(move |reader| reader.posplus_customer(&pos_id, id)).await;
        if let Ok(Some((customer, known))) = read {
            let action = if known { Action::Update } else { Action::Create };
            self.send(Body::Customer(action, Box::new(customer))).await;
        }
    }

    async fn tell_ticket(&mut self, mut ticket: Box<PosTicket>) -> bool {
        (ticket.user, ticket.session) = (self.context.user, self.context.session);
        self.status.counts.tickets_out += 1;
        self.send(Body::Ticket(ticket)).await
    }

    /// A sale waits until that till has said in which rows it has put what was sold. It is given what it does not have, and asked.
    fn hold(&mut self, id: Uuid, cursor: u64) {
        self.told.hold(cursor);
        self.held.push(Held { cursor, id, until: self.now() + HOLD_MS });
        self.give = true;
        self.ask_soon();
    }

    /// POSPlus would lose it: a line without a product breaks a rule of its database.
    fn leave_out(&mut self, ticket: &PosTicket) {
        self.status.counts.tickets_left_out += 1;
        warn!(
            peer = %self.pos_id,
            "P2P: sale {} is not told to POSPlus till {}, which has no row for something in it", ticket.number, self.pos_id
        );
    }

    /// Tells sales that have waited, where that till has all their products by now; leaves out those that have waited too long.
    pub(super) async fn release(&mut self, now: u64) {
        self.held_look_at = now + HELD_LOOK_MS;
        let mut released = Vec::new();
        for held in std::mem::take(&mut self.held) {
            let (pos_id, id) = (self.pos_id.clone(), held.id);
            let read = self.context.store.read(move |reader| reader.posplus_ticket(&pos_id, id)).await;
            match read {
                Ok(Some((ticket, PosRows::Known))) => {
                    if self.tell_ticket(Box::new(ticket)).await {
                        released.push(held.cursor);
                    }
                }
                Ok(Some((_, PosRows::Awaited))) | Err(_) if now < held.until => self.held.push(held),
                Ok(Some((ticket, _))) => {
                    self.leave_out(&ticket);
                    self.told.drop_held(held.cursor);
                }
                Ok(None) | Err(_) => self.told.drop_held(held.cursor),
            }
        }
        if !released.is_empty() {
            self.fence(Batch { released, ..Batch::default() }).await;
        }
    }

    /// Tells it how many there are, where it has another number.
    pub(super) async fn level(&mut self, product: Uuid, row: i64, ours: Quantity) {
        let ours = ours.max(Quantity(0));
        if self.told.will_have(product) != Some(ours) && self.send(Body::Stock { product: row, quantity: ours }).await {
            self.status.counts.stock_out += 1;
            self.told.sends(product, ours);
            self.fence(Batch::default()).await;
        }
    }

    /// Sends a ping, the answer to which says that what was sent before is read.
    pub(super) async fn fence(&mut self, batch: Batch) {
        let words = std::mem::take(&mut self.words);
        if self.send(Body::Ping).await {
            let now = self.now();
            self.ping_at = now + if self.seat.is_ours() { PING_EVERY_MS } else { LISTENER_PING_EVERY_MS };
            self.told.pinged(now, Batch { words, ..batch });
        }
    }

    /// Sends on the connection that was opened last. Waits for room: only this conversation waits.
    pub(super) async fn send(&mut self, body: Body) -> bool {
        let Some(link) = self.links.last() else { return false };
        link.outbox.send(body).await.is_ok()
    }

    /// One answer of at most a hundred items, which says that there is no more: where it said otherwise, POSPlus would ask for what has
    /// changed since now.
    pub(super) async fn page(&mut self, mut catalogue: Catalogue, since: Option<String>) {
        self.status.counts.products_out += catalogue.products.len() as u64;
        for product in &mut catalogue.products {
            self.carries_stock(product);
            self.date(product);
        }
        let since = since.unwrap_or_else(|| iso(0));
        let body = Body::IncrementalResponse { catalogue, since, has_more: false, synced_ms: clock::now().wall_ms };
        self.send(body).await;
    }

    /// The next items of the catalogue in that till's words, at most a hundred of each kind.
    pub(super) async fn next_page(&self, walk: &mut Walk) -> Option<Catalogue> {
        let (pos_id, asked) = (self.pos_id.clone(), *walk);
        if asked.categories.is_none() && asked.products.is_none() {
            return None;
        }
        let read = self.context.store.read(move |reader| {
            let mut next = Walk { categories: None, products: None, ..asked };
            let mut catalogue = Catalogue::default();
            if let Some(after) = asked.categories {
                let page = reader.posplus_categories(&pos_id, asked.missing_only, after, PAGE_ITEMS)?;
                (catalogue.categories, next.categories) = (page.items, page.next.map(Some));
            }
            if let Some(after) = asked.products {
                let page = reader.posplus_products(&pos_id, asked.since_ms, asked.missing_only, after, PAGE_ITEMS)?;
                (catalogue.products, next.products) = (page.items, page.next.map(Some));
            }
            Ok((catalogue, next))
        });
        match read.await {
            Ok((catalogue, next)) => {
                *walk = next;
                Some(catalogue)
            }
            Err(error) => {
                warn!("P2P: the catalogue cannot be read for POSPlus till {}: {error}", self.pos_id);
                None
            }
        }
    }
}

/// Where a walk through the catalogue stands: after which item to go on, of each kind that is not all told.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    since_ms: u64,
    missing_only: bool,
    categories: Option<Option<Cursor>>,
    products: Option<Option<Cursor>>,
}

impl Walk {
    pub(super) const fn new(since_ms: u64, missing_only: bool) -> Self {
        Self { since_ms, missing_only, categories: Some(None), products: Some(None) }
    }
}

/// The local time of a moment, as if it were UTC.
///
/// A POSPlus till takes only what bears a later time than its row has, and it stamps a row that it touches, also by what it is told, with its
/// own local time without a zone. So in a zone ahead of UTC what bears the true time is refused: for an hour after midnight where times are
/// compared as text, as POSPlus does, and always where they are not.
fn stamp(wall_ms: u64, zone: &TimeZone) -> u64 {
    let at = i64::try_from(wall_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    let ahead_s = u64::try_from(zone.to_offset(at).seconds()).unwrap_or(0);
    wall_ms + ahead_s * 1_000
}

/// What is remembered of a product that was told.
fn word_of(product: &PosProduct) -> (Thing, i64, i64) {
    (Thing::Product, product.row, product.content(product.category_name.as_deref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_after_midnight_is_later_than_what_a_till_has_stamped() {
        let tunis = TimeZone::get("Africa/Tunis").unwrap();
        // Half past eleven in the evening of 23 November 2026 by UTC.
        let now = 1_795_476_600_000;
        assert_eq!(iso(now), "2026-11-23T23:30:00.000Z");
        assert!(iso(stamp(now, &tunis)).as_str() > "2026-11-24 00:30:00");
        assert_eq!(stamp(now, &TimeZone::get("America/Lima").unwrap()), now);
    }
}
