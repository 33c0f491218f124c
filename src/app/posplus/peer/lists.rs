//! Lists of all that is there, taken in and told a piece at a time: a sale waits for none of them.
//!
//! What a list says it says as of its place among that till's messages. So what it is compared with (how many that till had, what it had been
//! told) is written down when the list comes, and before anything newer about one of its products is taken in, the list's word on it is.

use std::collections::VecDeque;

use futures_util::future::join_all;
use tracing::{debug, info};

use super::hear::{Word, hash_of, take};
use super::tell::Walk;
use super::{Peer, clock};
use crate::model::amount::Quantity;
use crate::model::posplus::PosTicket;
use crate::store::PosSaid;
use crate::wire::posplus::{Body, Catalogue};

/// Products of a list that the store is asked about at once.
const BATCH: usize = 64;
/// Products in one answer to who asks for all. POSPlus answers with all that it has; with more than this, two answers are easier to read.
const ANSWER_ITEMS: usize = 5_000;

/// What of a list is still to be taken in.
enum Listed {
    Category(PosSaid),
    Product {
        row: i64,
        sku: String,
        quantity: Quantity,
        said: PosSaid,
    },
    /// The list is at its end.
    End,
}

/// What is still to be told.
enum Telling {
    /// What that till does not have, and how much of it so far.
    Missing { walk: Walk, given: usize },
    /// What has changed since a time, as that till wrote it.
    Since { walk: Walk, since: String },
    /// All there is.
    All { walk: Walk, all: Catalogue },
}

/// See the module's page.
#[derive(Default)]
pub(super) struct Lists {
    heard: VecDeque<Listed>,
    telling: VecDeque<Telling>,
}

impl Lists {
    /// Nothing more is told.
    pub(super) fn hush(&mut self) {
        self.telling.clear();
    }

    /// Those products that `pick` picks.
    fn products(&mut self, pick: impl Fn(i64, &str) -> bool) -> Vec<(i64, Quantity, PosSaid)> {
        let picked = |listed: &Listed| matches!(listed, Listed::Product { row, sku, .. } if pick(*row, sku));
        if !self.heard.iter().any(picked) {
            return Vec::new();
        }
        let (taken, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.heard).into_iter().partition(picked);
        self.heard = kept;
        let said = |listed| match listed {
            Listed::Product { row, quantity, said, .. } => Some((row, quantity, said)),
            _ => None,
        };
        taken.into_iter().filter_map(said).collect()
    }

    /// The next products, up to where something else comes.
    fn next_products(&mut self) -> Vec<(i64, Quantity, PosSaid)> {
        let mut taken = Vec::new();
        while taken.len() < BATCH
            && let Some(Listed::Product { .. }) = self.heard.front()
            && let Some(Listed::Product { row, quantity, said, .. }) = self.heard.pop_front()
        {
            taken.push((row, quantity, said));
        }
        taken
    }
}

impl Peer {
    /// A list has come.
    pub(super) async fn catalogue(&mut self, catalogue: Catalogue, word: Word, message: &str) {
        // What the one before it said of a product is known then.
        self.take_lists().await;
        debug!(
            peer = %self.pos_id,
            "P2P: POSPlus till {} has {} products and {} categories", self.pos_id, catalogue.products.len(), catalogue.categories.len()
        );
        let is_ordered = word == Word::Ordered;
        for category in catalogue.categories {
            let said = PosSaid::Category { category: Box::new(category), live: is_ordered };
            self.lists.heard.push_back(Listed::Category(said));
        }
        for product in catalogue.products {
            if self.is_news(&product) || is_ordered {
                let (row, sku, quantity) = (product.row, product.sku.clone(), product.stock);
                let said = self.prepare(product, word, message);
                self.lists.heard.push_back(Listed::Product { row, sku, quantity, said });
            }
        }
        self.lists.heard.push_back(Listed::End);
        self.fresh = false;
        self.told.has_said_all();
    }

    /// Takes in all that was heard: nothing of it is lost with the connection, or with the seat. A person may have ordered it.
    pub(super) async fn take_lists(&mut self) {
        while !self.lists.heard.is_empty() {
            self.take_piece().await;
        }
    }

    /// Whether a list is still being taken in.
    pub(super) fn hears_list(&self) -> bool {
        !self.lists.heard.is_empty()
    }

    /// Whether there is something to do about lists now.
    pub(super) fn has_lists(&self) -> bool {
        let room = self.links.last().is_some_and(|link| link.outbox.capacity() > 0);
        !self.lists.heard.is_empty() || (room && !self.lists.telling.is_empty())
    }

    /// Takes in a piece of what was heard; once all of it is in, tells a piece of what is to be told: what it has just said is newer.
    pub(super) async fn work_lists(&mut self) {
        self.take_piece().await;
        if !self.hears_list() && self.links.last().is_some_and(|link| link.outbox.capacity() > 0) {
            self.tell_listed().await;
        }
    }

    async fn take_piece(&mut self) {
        let products = self.lists.next_products();
        if !products.is_empty() {
            return self.take_listed(products).await;
        }
        match self.lists.heard.pop_front() {
            Some(Listed::Category(said)) => drop(self.ask(said).await),
            Some(Listed::End) if std::mem::take(&mut self.give) => {
                self.lists.telling.push_back(Telling::Missing { walk: Walk::new(0, true), given: 0 });
            }
            _ => {}
        }
    }

    /// What lists say of these products is taken in before what is newer.
    pub(super) async fn take_listed_of(&mut self, row: i64, sku: &str) {
        let products = self.lists.products(|n, of| n == row || (!sku.is_empty() && of == sku));
        self.take_listed(products).await;
    }

    /// The same of all that was sold.
    pub(super) async fn take_listed_of_sale(&mut self, ticket: &PosTicket) {
        let sold = |row, sku: &str| ticket.lines.iter().any(|line| line.product == row || line.sku == sku);
        let products = self.lists.products(sold);
        self.take_listed(products).await;
    }

    /// Together, so that they are committed together.
    async fn take_listed(&mut self, products: Vec<(i64, Quantity, PosSaid)>) {
        let (store, pos_id) = (self.context.store.clone(), self.pos_id.clone());
        let (about, said): (Vec<_>, Vec<_>) =
            products.into_iter().map(|(row, quantity, said)| ((row, quantity), said)).unzip();
        self.status.counts.products_in += about.len() as u64;
        let taken = join_all(said.into_iter().map(|said| take(&store, &pos_id, said))).await;
        for ((row, quantity), taken) in about.into_iter().zip(taken) {
            if let Some(heard) = self.judge(taken).await {
                self.settle(row, quantity, heard).await;
            }
        }
    }

    /// It has asked what has changed since a time: as many answers as it takes.
    pub(super) fn answer(&mut self, since_ms: u64, since: String) {
        self.lists.telling.push_back(Telling::Since { walk: Walk::new(since_ms, false), since });
    }

    /// It has asked what there is: all at once, as POSPlus does, where it is not too much for that.
    pub(super) fn answer_all(&mut self) {
        self.lists.telling.push_back(Telling::All { walk: Walk::new(0, false), all: Catalogue::default() });
    }

    async fn tell_listed(&mut self) {
        let Some(telling) = self.lists.telling.pop_front() else { return };
        let more = match telling {
            Telling::Missing { walk, given } => self.tell_missing(walk, given).await,
            Telling::Since { walk, since } => self.tell_since(walk, since).await,
            Telling::All { walk, all } => self.tell_all(walk, all).await,
        };
        self.lists.telling.extend(more);
    }

    /// Gives it some of the products and categories that it does not have; after the last has it say in which rows it has put them.
    async fn tell_missing(&mut self, mut walk: Walk, mut given: usize) -> Option<Telling> {
        let Some(catalogue) = self.next_page(&mut walk).await else {
            if given > 0 {
                info!(peer = %self.pos_id, "P2P: gave POSPlus till {} {given} products that it did not have", self.pos_id);
                self.ask_soon();
            }
            return None;
        };
        given += catalogue.products.len();
        let products = catalogue.products.iter();
        self.given.extend(products.map(|product| (product.sku.clone(), (product.stock, hash_of(product)))));
        if !(catalogue.products.is_empty() && catalogue.categories.is_empty()) {
            self.page(catalogue, None).await;
        }
        Some(Telling::Missing { walk, given })
    }

    async fn tell_since(&mut self, mut walk: Walk, since: String) -> Option<Telling> {
        let catalogue = self.next_page(&mut walk).await?;
        self.page(catalogue, Some(since.clone())).await;
        Some(Telling::Since { walk, since })
    }

    async fn tell_all(&mut self, mut walk: Walk, mut all: Catalogue) -> Option<Telling> {
        let page = self.next_page(&mut walk).await;
        let is_last = page.is_none();
        if let Some(page) = page {
            all.products.extend(page.products);
            all.categories.extend(page.categories);
        }
        if is_last || all.products.len() >= ANSWER_ITEMS {
            let mut catalogue = std::mem::take(&mut all);
            self.status.counts.products_out += catalogue.products.len() as u64;
            for product in &mut catalogue.products {
                self.carries_stock(product);
                self.date(product);
            }
            self.send(Body::FullResponse { catalogue, synced_ms: clock::now().wall_ms }).await;
        }
        (!is_last).then_some(Telling::All { walk, all })
    }
}
