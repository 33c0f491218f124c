//! Conversations with a POSPlus till that does as it is told here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::super::{Context, PeerStatus};
use super::Peer;
use crate::app::clock::{self, Uptime};
use crate::mesh::PosplusLink;
use crate::model::amount::{Money, Quantity};
use crate::model::id::{TillId, Uuid};
use crate::model::level::LEVEL;
use crate::model::movement::MovementKind;
use crate::model::posplus::{PosLine, PosProduct, PosStatus, PosTicket, Thing};
use crate::model::register::{EntityKind, Value};
use crate::model::ticket::{Line, Sale};
use crate::store::{Author, Change, Request, Store, StoreOptions};
use crate::wire::posplus::{Action, Body, Catalogue, PosMessage};

/// Generous: what is waited for takes a second or two.
const PATIENCE: Duration = Duration::from_secs(120);
const POS: &str = "POS-P1";
const HOUR: u64 = 3_600_000;
/// Of 22 November 2026 in Tunis, in milliseconds since 1970.
const NOON: u64 = 1_795_345_200_000;

/// A till of ours, and a POSPlus till at the other end of a connection.
struct Talk {
    store: Store,
    say: mpsc::Sender<Result<PosMessage, String>>,
    told: mpsc::Receiver<Body>,
    status: watch::Receiver<BTreeMap<String, PeerStatus>>,
    /// What it answers to who asks for all.
    list: Vec<PosProduct>,
    /// How often it was asked.
    asked: usize,
    said: u64,
    _links: mpsc::Sender<PosplusLink>,
    _linked: watch::Sender<std::collections::BTreeSet<TillId>>,
    _dir: TempDir,
}

impl Talk {
    async fn begin() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let author = Author {
            till: TillId([1; 16]),
            public_key: [1; 32],
            pos_id: "POS-1".into(),
            pos_name: "Caisse 1".into(),
            currency: *b"TND",
            time_zone: jiff::tz::TimeZone::UTC,
        };
        let options = StoreOptions { path: dir.path().join("till.db"), author, level: LEVEL };
        let (events, _) = mpsc::unbounded_channel();
        let store = Store::spawn(options, Arc::new(clock::now), events).unwrap();
        let (linked, linked_seen) = watch::channel(Default::default());
        let (status, status_seen) = watch::channel(BTreeMap::new());
        let context = Context {
            uptime: Uptime::start(),
            till: TillId([1; 16]),
            pos_id: "POS-1".into(),
            user: 1,
            session: 1,
            zone: jiff::tz::TimeZone::get("Africa/Tunis").unwrap(),
            store: store.clone(),
            linked: linked_seen,
            status,
        };
        let (say, inbox) = mpsc::channel(4);
        let (outbox, told) = mpsc::channel(32);
        let addr = ([127, 0, 0, 1], 3030).into();
        let (pos_id, pos_name) = (POS.to_owned(), POS.to_owned());
        let link = PosplusLink { id: 1, pos_id, pos_name, addr, dialled_by_us: false, inbox, outbox };
        let (links, links_heard) = mpsc::channel(1);
        tokio::spawn(Peer::new(context, &link).run(links_heard));
        links.send(link).await.unwrap();
        let (list, asked, said) = (Vec::new(), 0, 0);
        Self { store, say, told, status: status_seen, list, asked, said, _links: links, _linked: linked, _dir: dir }
    }

    async fn say(&mut self, body: Body) {
        self.said += 1;
        let (id, source) = (format!("m{}", self.said), POS.to_owned());
        let message = PosMessage { id, at_ms: 0, source, body, refused: Vec::new() };
        self.say.send(Ok(message)).await.unwrap();
    }

    /// The next word that `pick` makes something of. Meanwhile it answers pings, and says what it has when it is asked.
    async fn hear<T>(&mut self, mut pick: impl FnMut(&mut Self, Body) -> Option<T>) -> T {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let body = tokio::time::timeout_at(until, self.told.recv()).await.expect("it is told").unwrap();
            match &body {
                Body::Ping => self.say(Body::Pong).await,
                Body::FullRequest { .. } => {
                    self.asked += 1;
                    let catalogue = Catalogue { products: self.list.clone(), categories: Vec::new() };
                    self.say(Body::FullResponse { catalogue, synced_ms: 0 }).await;
                }
                _ => {}
            }
            if let Some(picked) = pick(self, body) {
                return picked;
            }
        }
    }

    async fn until_asked(&mut self) {
        self.hear(|_, body| matches!(body, Body::FullRequest { .. }).then_some(())).await;
    }

    /// One of these products: as news, or in a page of what it does not have where its list was still being taken in when the product was made.
    async fn until_given(&mut self, skus: &[&str]) {
        let is_one = |told: &PosProduct| skus.contains(&told.sku.as_str());
        self.hear(|_, body| match body {
            Body::Product(Action::Create, told) => is_one(&told).then_some(()),
            Body::IncrementalResponse { catalogue, .. } => catalogue.products.iter().any(is_one).then_some(()),
            _ => None,
        })
        .await;
    }

    /// Goes on until something is so in the store.
    async fn until(
        &mut self,
        what: &str,
        mut is_so: impl FnMut(&crate::store::Reader) -> bool + Clone + Send + 'static,
    ) {
        let wait = async {
            loop {
                let mut is_so = is_so.clone();
                if self.store.read(move |reader| Ok(is_so(reader))).await.unwrap() {
                    return;
                }
                // Its pings come often enough for this to go on.
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                    () = self.hear(|_, _| Some(())) => {}
                }
            }
        };
        timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}"));
        let _ = &mut is_so;
    }

    async fn edit(&self, kind: EntityKind, id: Uuid, change: Change) {
        self.store.submit(Request::Edit { kind, id, change }).await.unwrap();
    }

    async fn reprice(&self, id: Uuid, price: i64) {
        self.edit(EntityKind::Product, id, Change::Patch([("price".to_owned(), Value::Int(price))].into())).await;
    }
}

fn put(texts: &[(&str, &str)], price: Option<i64>) -> Change {
    let texts = texts.iter().map(|(name, text)| ((*name).to_owned(), Value::Text((*text).to_owned())));
    Change::Put(texts.chain(price.map(|price| ("price".to_owned(), Value::Int(price)))).collect())
}

fn product(row: i64, sku: &str, price: i64, units: i64) -> PosProduct {
    PosProduct {
        row,
        sku: sku.into(),
        barcode: None,
        name: sku.into(),
        description: None,
        category: 1,
        category_name: None,
        price: Money(price),
        cost: Money(0),
        discount_rate: 0,
        stock: Quantity::units(units),
        min_stock: Quantity(0),
        max_stock: Quantity(0),
        unit: "pièce".into(),
        active: true,
        image: None,
        created_ms: 0,
        updated_ms: clock::now().wall_ms,
    }
}

fn sale(product: Option<Uuid>) -> Sale {
    let line = Line {
        product,
        sku: Some("CAF".into()),
        name: "Café".into(),
        quantity: Quantity::units(1),
        unit_price: Money(1_500),
        discount: Money(0),
    };
    Sale { cashier: None, customer: None, notes: None, lines: vec![line], payments: vec![] }
}

fn has_price(id: Uuid, price: i64) -> impl FnMut(&crate::store::Reader) -> bool + Clone + Send + 'static {
    move |reader| {
        let product = reader.posplus_product(POS, id).unwrap();
        product.is_some_and(|(product, _)| product.price == Money(price))
    }
}

#[tokio::test]
async fn a_sale_waits_for_the_row_of_what_was_sold_and_one_that_never_has_a_row_is_left_out() {
    let mut talk = Talk::begin().await;
    talk.until_asked().await;
    let coffee = Uuid::from_u128(1);
    talk.edit(EntityKind::Product, coffee, put(&[("sku", "CAF"), ("name", "Café")], Some(1_500))).await;
    talk.store.submit(Request::Sell { id: Uuid::from_u128(11), sale: sale(None) }).await.unwrap();
    talk.store.submit(Request::Sell { id: Uuid::from_u128(12), sale: sale(Some(coffee)) }).await.unwrap();
    // It is given the product, is asked twice before it says in which row it has put it; stock and the like go on meanwhile.
    let told = talk
        .hear(|talk, body| {
            if talk.asked >= 3 && talk.list.is_empty() {
                talk.list = vec![product(31, "CAF", 1_500, 0)];
                // Any word of a row that is not known has it asked again.
                let message = PosMessage {
                    id: "again".into(),
                    at_ms: 0,
                    source: POS.into(),
                    body: Body::Stock { product: 31, quantity: Quantity(0) },
                    refused: Vec::new(),
                };
                talk.say.try_send(Ok(message)).unwrap();
            }
            if let Body::FullRequest { .. } = body
                && talk.asked == 2
            {
                let body = Body::Stock { product: 99, quantity: Quantity(0) };
                let message = PosMessage { id: "more".into(), at_ms: 0, source: POS.into(), body, refused: Vec::new() };
                talk.say.try_send(Ok(message)).unwrap();
            }
            match body {
                Body::Ticket(ticket) => Some((ticket, talk.list.len())),
                _ => None,
            }
        })
        .await;
    assert_eq!((told.0.lines[0].product, told.1), (31, 1), "told before it had a row");
    let counts = talk.status.borrow()[POS].counts;
    assert_eq!((counts.tickets_out, counts.tickets_left_out), (1, 1));
}

#[tokio::test]
async fn who_asks_for_all_is_told_all_at_once_and_asked_back_where_it_wants_that() {
    let mut talk = Talk::begin().await;
    talk.until_asked().await;
    for n in 0..120_u32 {
        let name = format!("Rayon {n}");
        talk.edit(EntityKind::Category, Uuid::from_u128(1_000 + u128::from(n)), put(&[("name", &name)], None)).await;
        let sku = format!("S{n}");
        let product = put(&[("sku", &sku), ("name", &sku)], Some(100));
        talk.edit(EntityKind::Product, Uuid::from_u128(2_000 + u128::from(n)), product).await;
    }
    talk.say(Body::FullRequest { requested_by: POS.into(), bidirectional: true }).await;
    let before = talk.asked;
    let (products, categories) = talk
        .hear(|_, body| match body {
            Body::FullResponse { catalogue, .. } => Some((catalogue.products.len(), catalogue.categories.len())),
            _ => None,
        })
        .await;
    assert_eq!((products, categories), (120, 120));
    if talk.asked == before {
        talk.until_asked().await;
    }
    // Since a time, in pages; all categories here too.
    talk.say(Body::IncrementalRequest { since: "1970-01-01T00:00:00.000Z".into(), requested_by: POS.into() }).await;
    let (mut products, mut categories) = (0, 0);
    while products < 120 || categories < 120 {
        talk.hear(|_, body| match body {
            Body::IncrementalResponse { catalogue, since, .. }
                if since.starts_with("1970") && !catalogue.products.is_empty() =>
            {
                assert!(catalogue.products.len() <= 100 && catalogue.categories.len() <= 100);
                products += catalogue.products.len();
                categories += catalogue.categories.len();
                Some(())
            }
            _ => None,
        })
        .await;
    }
}

#[tokio::test]
async fn what_a_person_there_orders_counts_and_a_stale_list_does_not() {
    let mut talk = Talk::begin().await;
    talk.until_asked().await;
    talk.list = vec![product(12, "JUS", 4_500, 5)];
    talk.say(Body::Product(Action::Create, Box::new(talk.list[0].clone()))).await;
    let id = Thing::Product.of_key("JUS");
    talk.until("it is here", has_price(id, 4_500)).await;
    // It takes over neither of two prices that it is told, as a clock an hour ahead has it; then one of them, late.
    for price in [5_000, 6_000] {
        talk.reprice(id, price).await;
        talk.hear(|_, body| {
            matches!(body, Body::Product(Action::Update, told) if told.price == Money(price)).then_some(())
        })
        .await;
        talk.hear(|_, body| (body == Body::Ping).then_some(())).await;
    }
    for stale in [4_500, 5_000] {
        let late = PosProduct { updated_ms: clock::now().wall_ms + HOUR, ..product(12, "JUS", stale, 5) };
        talk.list = vec![late.clone()];
        let catalogue = Catalogue { products: vec![late], categories: vec![] };
        talk.say(Body::FullResponse { catalogue, synced_ms: 0 }).await;
        // It is told again.
        talk.hear(|_, body| {
            matches!(body, Body::Product(Action::Update, told) if told.price == Money(6_000)).then_some(())
        })
        .await;
    }
    let ordered = PosProduct { updated_ms: clock::now().wall_ms - 24 * HOUR, ..product(12, "JUS", 4_500, 5) };
    let catalogue = Catalogue { products: vec![ordered], categories: vec![] };
    talk.say(Body::Manual { catalogue, session: "POS-P1-1".into(), initiator: POS.into() }).await;
    talk.until("the order counts", has_price(id, 4_500)).await;
}

#[tokio::test]
async fn a_quantity_of_a_row_that_is_not_known_waits_for_its_product() {
    let mut talk = Talk::begin().await;
    talk.until_asked().await;
    let id = Uuid::from_u128(1);
    talk.edit(EntityKind::Product, id, put(&[("sku", "CAF"), ("name", "Café")], Some(1_500))).await;
    // It is given the product, and a person there counts seven of it before it has said in which row it is.
    talk.until_given(&["CAF"]).await;
    talk.say(Body::Stock { product: 31, quantity: Quantity::units(7) }).await;
    // It is asked because of that, after what was under way already.
    let before = talk.asked;
    while talk.asked < before + 2 {
        talk.until_asked().await;
        if talk.asked == before + 1 {
            talk.list = vec![product(31, "CAF", 1_500, 7)];
            talk.say(Body::Stock { product: 99, quantity: Quantity(0) }).await;
        }
    }
    talk.until("seven are here", move |reader| reader.stock(id).unwrap() == Quantity::units(7)).await;
}

fn sold(row: i64, sku: &str, units: i64) -> PosTicket {
    let line = PosLine {
        row: 1,
        product: row,
        name: sku.into(),
        sku: sku.into(),
        quantity: Quantity::units(units),
        unit_price: Money(100),
        discount_rate: 0,
        discount: Money(0),
        total: Money(100 * units),
    };
    PosTicket {
        row: 1,
        number: "T20261123-0001".into(),
        user: 1,
        customer: None,
        session: 1,
        subtotal: Money(100 * units),
        discount: Money(0),
        total: Money(100 * units),
        status: PosStatus::Completed,
        created: "2026-11-23T11:00:00.000Z".into(),
        created_ms: NOON,
        updated_ms: NOON,
        lines: vec![line],
        payments: vec![],
    }
}

#[tokio::test]
async fn a_sale_waits_for_no_list_and_what_the_list_says_of_it_is_older() {
    const PRODUCTS: i64 = 1_500;
    let mut talk = Talk::begin().await;
    talk.list = (1..=PRODUCTS).map(|row| product(row, &format!("S{row}"), 100, 50)).collect();
    talk.until_asked().await;
    let ticket = sold(PRODUCTS, &format!("S{PRODUCTS}"), 2);
    let (record, id) = (ticket.record_id(POS), Thing::Product.of_key(&format!("S{PRODUCTS}")));
    talk.say(Body::Ticket(Box::new(ticket))).await;
    talk.say(Body::Stock { product: PRODUCTS, quantity: Quantity::units(48) }).await;
    let (first, behind) = mpsc::unbounded_channel();
    talk.until("the sale is here", move |reader| {
        let here = reader.ticket(record).unwrap().is_some();
        if here {
            first.send(reader.counts().unwrap().products).unwrap();
        }
        here
    })
    .await;
    let at_the_sale = { behind }.recv().await.unwrap();
    assert!(at_the_sale < PRODUCTS as u64, "it waited for the whole list");
    talk.until("all are here", |reader| reader.counts().unwrap().products == PRODUCTS as u64).await;
    talk.until("the quantity beside the sale was weighed", move |reader| {
        reader.stock(id).unwrap() == Quantity::units(48) && reader.stock_history(id, None, 9).unwrap().items.len() == 2
    })
    .await;
}

/// Seen on a busy machine: a price told while a list was being taken in went over one that had been changed there later; and what it did not have
/// by its first list was given while a second one said that it has it.
#[tokio::test]
async fn nothing_is_told_until_a_list_is_taken_in_whole() {
    const PRODUCTS: i64 = 1_000;
    let mut talk = Talk::begin().await;
    let list = |from: i64| (from..from + PRODUCTS).map(|row| product(row, &format!("S{row}"), 100, 50)).collect();
    talk.edit(EntityKind::Product, Uuid::from_u128(1), put(&[("sku", "X"), ("name", "X")], Some(1))).await;
    talk.list = list(1);
    let second = Catalogue { products: list(1 + PRODUCTS), categories: Vec::new() };
    talk.until_asked().await;
    talk.say(Body::FullResponse { catalogue: second, synced_ms: 0 }).await;
    talk.say(Body::Ping).await;
    talk.hear(|_, body| (body == Body::Pong).then_some(())).await;
    let taken = talk.status.borrow()[POS].counts.products_in;
    assert!(taken < 2 * PRODUCTS as u64, "both lists were in before there was anything to tell");
    talk.edit(EntityKind::Product, Uuid::from_u128(2), put(&[("sku", "Y"), ("name", "Y")], Some(1))).await;
    talk.until_given(&["X", "Y"]).await;
    let here = talk.store.read(|reader| Ok(reader.counts()?.products)).await.unwrap();
    assert_eq!(here, 2 * PRODUCTS as u64 + 2);
}

/// Seen once: what is told of a product tells how many there are, too, and went over a sale of it that crossed it.
#[tokio::test]
async fn a_sale_that_crosses_a_price_is_told_back() {
    let mut talk = Talk::begin().await;
    talk.list = vec![product(12, "JUS", 4_500, 20)];
    talk.until_asked().await;
    let id = Thing::Product.of_key("JUS");
    talk.until("it is here", has_price(id, 4_500)).await;
    talk.reprice(id, 5_000).await;
    talk.hear(|_, body| {
        matches!(body, Body::Product(Action::Update, told) if told.stock == Quantity::units(20)).then_some(())
    })
    .await;
    // It sells before it has read that, and then has twenty again.
    let mut ticket = sold(12, "JUS", 3);
    ticket.number = "T20261123-0007".into();
    talk.say(Body::Ticket(Box::new(ticket))).await;
    talk.say(Body::Stock { product: 12, quantity: Quantity::units(17) }).await;
    let told =
        talk.hear(|_, body| if let Body::Stock { product: 12, quantity } = body { Some(quantity) } else { None }).await;
    assert_eq!(told, Quantity::units(17));
}

/// What is on its way counts, not what it had before that.
#[tokio::test]
async fn a_quantity_is_told_back_while_another_is_on_its_way() {
    let mut talk = Talk::begin().await;
    talk.list = vec![product(12, "JUS", 4_500, 20)];
    talk.until_asked().await;
    let product = Thing::Product.of_key("JUS");
    talk.until("it is here", has_price(product, 4_500)).await;
    for (n, kind, expected) in [(1, MovementKind::Loss, 17), (2, MovementKind::In, 20)] {
        let (id, quantity) = (Uuid::from_u128(n), Quantity::units(3));
        talk.store.submit(Request::Move { id, product, kind, quantity, reference: None }).await.unwrap();
        // It answers no ping meanwhile.
        let told = async {
            loop {
                if let Body::Stock { quantity, .. } = talk.told.recv().await.unwrap() {
                    return quantity;
                }
            }
        };
        assert_eq!(timeout(PATIENCE, told).await.expect("it is told"), Quantity::units(expected));
    }
}

#[tokio::test]
async fn what_was_ordered_counts_though_the_connection_ends_behind_it() {
    const PRODUCTS: i64 = 1_000;
    let mut talk = Talk::begin().await;
    talk.until_asked().await;
    let products = (1..=PRODUCTS).map(|row| product(row, &format!("S{row}"), 100, 50)).collect();
    let catalogue = Catalogue { products, categories: Vec::new() };
    talk.say(Body::Manual { catalogue, session: "POS-P1-1".into(), initiator: POS.into() }).await;
    talk.say = mpsc::channel(1).0;
    let all = async {
        while talk.store.read(|reader| Ok(reader.counts()?.products)).await.unwrap() < PRODUCTS as u64 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, all).await.expect("all that was ordered is here");
}
