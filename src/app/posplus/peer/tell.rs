//! What changes here, told to the till.

use tracing::{info, warn};

use super::super::told::Mark;
use super::hear::hash_of;
use super::{NOTE_EVERY_MS, PING_EVERY_MS, Peer};
use crate::app::clock;
use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::store::{PosNews, Remember, Request};
use crate::wire::posplus::{Action, Body, Catalogue, PAGE_ITEMS, iso};

/// A heartbeat of who only listens: how lately the till was there is all that such a one can go by.
const LISTENER_PING_EVERY_MS: u64 = 5_000;
/// Changes told at once.
const BATCH: usize = 64;

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
    pub(super) async fn tell(&mut self) {
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
                if !known {
                    let given = (product.stock, hash_of(&product));
                    if self.given.insert(product.sku.clone(), given) == Some(given) {
                        return false;
                    }
                    self.ask_soon();
                }
                self.status.counts.products_out += 1;
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

    pub(super) async fn tell_product(&mut self, id: Uuid) {
        let pos_id = self.pos_id.clone();
        let read = self.context.store.read(move |reader| reader.posplus_product(&pos_id, id)).await;
        if let Ok(Some((product, known))) = read {
            let action = if known { Action::Update } else { Action::Create };
            self.status.counts.products_out += 1;
            self.send(Body::Product(action, Box::new(product))).await;
        }
    }

    /// Tells it how many there are, where it has another number.
    pub(super) async fn level(&mut self, product: Uuid, row: i64, ours: Quantity) {
        let ours = ours.max(Quantity(0));
        if self.told.has(product) != Some(ours) && self.send(Body::Stock { product: row, quantity: ours }).await {
            self.status.counts.stock_out += 1;
            self.fence(None, vec![(product, ours)]).await;
        }
    }

    pub(super) async fn fence(&mut self, mark: Option<Mark>, stock: Vec<(Uuid, Quantity)>) {
        if self.send(Body::Ping).await {
            let now = self.now();
            self.ping_at = now + if self.seat.is_ours() { PING_EVERY_MS } else { LISTENER_PING_EVERY_MS };
            self.told.pinged(now, mark, stock);
        }
    }

    /// Sends on the connection that was opened last. Waits for room: only this conversation waits.
    pub(super) async fn send(&mut self, body: Body) -> bool {
        let Some(link) = self.links.last() else { return false };
        link.outbox.send(body).await.is_ok()
    }

    /// Gives it the products that it does not have, and has it say in which rows it has put them.
    pub(super) async fn give_missing(&mut self) {
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
                self.given
                    .extend(page.items.iter().map(|product| (product.sku.clone(), (product.stock, hash_of(product)))));
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
        let since = since.unwrap_or_else(|| iso(0));
        let body = Body::IncrementalResponse { catalogue, since, has_more: false, synced_ms: clock::now().wall_ms };
        self.send(body).await;
    }

    /// Answers what has changed since a time, in as many answers as it takes.
    pub(super) async fn answer(&mut self, since_ms: u64, since: Option<String>) {
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
}
