//! A shop that has seen everything: what the fixtures hold.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use tillmesh::model::amount::{Money, Quantity};
use tillmesh::model::clock::{ClockQuality, Hlc};
use tillmesh::model::id::{Origin, TillId, Uuid};
use tillmesh::model::movement::{Movement, MovementKind};
use tillmesh::model::op::{Body, Head, Op, OpBatch, RunningHash};
use tillmesh::model::register::{EntityKind, Value};
use tillmesh::model::ticket::{Line, Made, Payment, PaymentMethod, Sale, Ticket};
use tillmesh::store::{
    Author, Change, Code, ConflictId, Db, Entropy, Now, Reader, Remember, Reply, Request, StoreError, StoreOptions,
    TicketView, backup, restore,
};
use tillmesh::sync::MemberAck;

/// Noon of 22 November 2026 in Tunis, in milliseconds since 1970: the shop's first day.
const NOON: u64 = 1_795_345_200_000;
const DAY: u64 = 86_400_000;
/// Noon of the day before its last.
pub(crate) const MIDDLE_MS: u64 = NOON + DAY;
/// The evening of its last day.
pub(crate) const END_MS: u64 = NOON + 2 * DAY + 6 * 3_600_000;

pub(crate) const TEA: u128 = 1;
pub(crate) const COFFEE: u128 = 2;
const WATER: u128 = 3;
const CAKE: u128 = 4;
const GONE: u128 = 5;
const BACK: u128 = 6;
const DRINKS: u128 = 50;
const AMEL: u128 = 70;

/// Random numbers that are the same every time (SplitMix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Entropy for Seeded {
    fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

pub(crate) fn at(wall_ms: u64) -> (Now, Hlc) {
    (Now { wall_ms, quality: ClockQuality::Trusted }, Hlc::from_ms(wall_ms))
}

pub(crate) fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn key(n: u8) -> [u8; 32] {
    [n; 32]
}

fn till_id(n: u8) -> TillId {
    TillId::of_public_key(&key(n))
}

pub(crate) fn options(n: u8, path: &Path) -> StoreOptions {
    let author = Author {
        till: till_id(n),
        public_key: key(n),
        pos_id: format!("POS-{n}"),
        pos_name: format!("Caisse {n}"),
        currency: *b"TND",
        time_zone: TimeZone::get("Africa/Tunis").expect("a known zone"),
    };
    StoreOptions { path: path.to_owned(), author, level: tillmesh::model::level::LEVEL }
}

pub(crate) struct Till {
    pub(crate) db: Db,
    now_ms: u64,
    quality: ClockQuality,
}

impl Till {
    pub(crate) fn open(options: StoreOptions, now_ms: u64, seed: u64) -> Self {
        let db = Db::open(&options, at(now_ms).0, Box::new(Seeded(seed))).expect("the database opens");
        Self { db, now_ms, quality: ClockQuality::Trusted }
    }

    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, StoreError> {
        self.now_ms += 1_000;
        let now = Now { wall_ms: self.now_ms, quality: self.quality };
        self.db.execute(vec![request], now).replies.remove(0)
    }

    fn done(&mut self, request: Request) {
        let text = format!("{request:?}");
        if let Err(error) = self.ask(request) {
            panic!("{error}: {text}");
        }
    }

    pub(crate) fn sell(&mut self, id: u128, sale: Sale) -> TicketView {
        match self.ask(Request::Sell { id: uuid(id), sale }) {
            Ok(Reply::Ticket { view, created: true }) => *view,
            other => panic!("not sold: {other:?}"),
        }
    }

    pub(crate) fn reader(&self) -> Reader {
        self.db.reader().expect("a reader")
    }

    /// Takes all that another till has, in batches.
    pub(crate) fn pull(&mut self, from: &Till, ops_max: usize) {
        let theirs = from.reader();
        for (origin, head) in theirs.vector().expect("a vector").0 {
            loop {
                let here = self.reader().vector().expect("a vector").head(origin);
                if here.seq >= head.seq {
                    break;
                }
                let batch = theirs.ops(origin, here.seq + 1, ops_max, usize::MAX).expect("ops").batch().expect("some");
                let after = batch.after();
                let reply = self.ask(Request::Apply(batch));
                assert!(matches!(reply, Ok(Reply::Applied { head, .. }) if head == after), "{reply:?}");
            }
        }
    }
}

/// A sale of so many units of some products at TND 1.500.
pub(crate) fn sale(lines: &[(u128, i64)]) -> Sale {
    let line = |(product, units): &(u128, i64)| Line {
        product: Some(uuid(*product)),
        sku: None,
        name: format!("Produit {product}"),
        quantity: Quantity::units(*units),
        unit_price: Money(1_500),
        discount: Money(0),
    };
    let paid = Payment { method: PaymentMethod::Cash, amount: Money(5_000), reference: None };
    Sale { cashier: None, customer: None, notes: None, lines: lines.iter().map(line).collect(), payments: vec![paid] }
}

/// A sale with all that a sale can have.
fn full_sale() -> Sale {
    let mut sale = Sale { cashier: Some("Amel".into()), customer: Some(uuid(AMEL)), ..sale(&[(TEA, 1), (COFFEE, 2)]) };
    sale.notes = Some("sans sucre, بدون سكر".into());
    sale.lines[0].sku = Some("THE".into());
    sale.lines[0].quantity = Quantity(1_250);
    sale.lines[1].discount = Money(300);
    sale.lines.push(Line { product: None, name: "Divers".into(), ..sale.lines[0].clone() });
    let card = Payment { method: PaymentMethod::Card, amount: Money(1), reference: Some("4711".into()) };
    sale.payments.push(card);
    sale
}

fn made(n: u8) -> Made {
    Made { till: till_id(n), pos_id: format!("POS-{n}"), at_ms: NOON, clock: ClockQuality::Trusted }
}

/// A ticket of a till whose database is nowhere.
pub(crate) fn foreign_ticket(id: u128, n: u8, previous: [u8; 32]) -> Ticket {
    let number = format!("POS-{n}-{id}");
    Ticket { id: uuid(id), number, made: made(n), currency: *b"TND", sale: sale(&[(TEA, 1)]), previous }
}

pub(crate) fn moved(id: u128, product: u128, kind: MovementKind, units: i64) -> Request {
    let reference = (units > 10).then(|| "BL 12".to_owned());
    Request::Move { id: uuid(id), product: uuid(product), kind, quantity: Quantity::units(units), reference }
}

fn text(value: &str) -> Value {
    Value::Text(value.into())
}

fn edit(kind: EntityKind, id: u128, change: Change) -> Request {
    Request::Edit { kind, id: uuid(id), change }
}

fn product(id: u128, sku: &str, price: i64) -> Request {
    let fields = [
        ("sku", text(sku)),
        ("name", text(&format!("Produit {sku}"))),
        ("price", Value::Int(price)),
        ("categoryId", Value::Id(uuid(DRINKS))),
        ("extra.colour", Value::Json("{\"a\":[1,2]}".into())),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    edit(EntityKind::Product, id, Change::Put(fields))
}

fn patch(kind: EntityKind, id: u128, field: &str, value: Value) -> Request {
    edit(kind, id, Change::Patch([(field.to_owned(), value)].into()))
}

fn admit(n: u8, pos_name: &str) -> Request {
    Request::Admit { till: till_id(n), public_key: key(n), pos_id: format!("POS-{n}"), pos_name: pos_name.into() }
}

fn refund(id: u128, ticket: u128, units: i64) -> Request {
    let (id, ticket, lines) = (uuid(id), uuid(ticket), vec![(0, Quantity::units(units))]);
    Request::Refund { id, ticket, lines, reason: Some("froid".into()) }
}

fn cancel(ticket: u128) -> Request {
    Request::Cancel { id: None, ticket: uuid(ticket), reason: None }
}

fn first_day(till: &mut Till) {
    let category = [("name".to_owned(), text("Boissons")), ("displayOrder".to_owned(), Value::Int(3))].into();
    let customer = [("firstName".to_owned(), text("Amel")), ("lastName".to_owned(), text("Ben Salah"))].into();
    till.done(admit(1, "Bar"));
    till.done(admit(2, "Terrasse"));
    till.done(edit(EntityKind::Category, DRINKS, Change::Put(category)));
    till.done(edit(EntityKind::Customer, AMEL, Change::Put(customer)));
    for (id, sku) in [(TEA, "THE"), (COFFEE, "CAF"), (WATER, "EAU"), (CAKE, "GAT"), (GONE, "OLD"), (BACK, "NEW")] {
        till.done(product(id, sku, 1_500));
        till.done(moved(1_000 + id, id, MovementKind::In, 20));
    }
    till.done(moved(1_100, TEA, MovementKind::Count, 18));
    till.done(moved(1_101, TEA, MovementKind::Loss, 1));
    till.done(moved(1_102, TEA, MovementKind::Adjustment, -2));
    till.sell(100, full_sale());
    (101..=106).for_each(|id| drop(till.sell(id, sale(&[(TEA, 2), (WATER, 1)]))));
    till.done(refund(200, 101, 1));
    till.done(cancel(102));
}

/// Both tills at once, out of each other's sight.
fn apart(a: &mut Till, b: &mut Till) {
    for (n, till) in [(1, &mut *a), (2, &mut *b)] {
        till.done(patch(EntityKind::Product, TEA, "price", Value::Int(1_600 + n)));
        till.done(patch(EntityKind::Product, CAKE, "name", text(&format!("Gâteau {n}"))));
        till.done(product(10 + n as u128, "DEUX", 700));
        till.done(moved(2_000 + n as u128, COFFEE, MovementKind::Count, 10 + n));
        till.sell(500, sale(&[(COFFEE, n)]));
        till.done(refund(210 + n as u128, 103, 2));
        till.done(cancel(104));
    }
    a.done(edit(EntityKind::Product, WATER, Change::Delete));
    b.done(patch(EntityKind::Product, WATER, "price", Value::Int(900)));
    a.done(edit(EntityKind::Product, GONE, Change::Delete));
    a.done(edit(EntityKind::Product, BACK, Change::Delete));
    b.sell(501, sale(&[(CAKE, 30)]));
}

/// Ops of tills that no database here is of: what this version cannot apply, a ticket without its predecessor, the renamed end of a
/// fork.
fn strangers(till: &mut Till) {
    let hlc = |n: u64| Hlc::from_ms(NOON + n);
    let movement = Movement {
        id: uuid(3_000),
        product: uuid(TEA),
        kind: MovementKind::Adjustment,
        quantity: Quantity(1),
        delta: Quantity(i64::MAX),
        replaces: vec![],
        reference: None,
        made: made(3),
    };
    let ops = vec![
        Body::Ticket(foreign_ticket(3_001, 3, [0; 32])).to_op(hlc(1)),
        Op { hlc: hlc(2), kind: 700, schema: 1, body: b"a later version".to_vec() },
        Op { hlc: hlc(3), kind: 1, schema: 9, body: vec![1, 2, 3] },
        Op { hlc: hlc(4), kind: 1, schema: 1, body: b"no ticket".to_vec() },
        Body::Movement(movement).to_op(hlc(5)),
        Body::Ticket(foreign_ticket(3_002, 3, [7; 32])).to_op(hlc(6)),
    ];
    till.done(Request::Apply(OpBatch { origin: Origin(3 << 48), before: Head::default(), ops }));
    let before = Head { seq: 0, hash: RunningHash([4; 8]) };
    let ops = vec![Body::Ticket(foreign_ticket(3_003, 4, [0; 32])).to_op(hlc(7))];
    till.done(Request::Apply(OpBatch { origin: Origin(4 << 48), before, ops }));
    till.done(Request::Retire { till: till_id(3) });
}

fn settle_some(till: &mut Till) {
    let price = ConflictId::Field(EntityKind::Product, uuid(TEA), "price".into());
    till.done(Request::Resolve { conflict: price, value: Value::Int(1_700) });
    till.done(Request::Resolve { conflict: ConflictId::OverRefund(uuid(103)), value: Value::Null });
    let left = till.reader().conflicts(100).expect("conflicts");
    for wanted in ["field", "sku", "contents", "counts", "unchained", "negative-stock"] {
        assert!(left.iter().any(|conflict| conflict.id.sort() == wanted), "no {wanted} in {left:?}");
    }
    assert!(left.iter().any(|conflict| conflict.id == ConflictId::Duplicate(Code::Sku, "DEUX".into())));
}

fn remember(till: &mut Till, other: &Till) {
    let heads = other.reader().vector().expect("a vector");
    let ack = MemberAck { till: till_id(2), stamp: NOON, level: 1, heads };
    till.done(Request::Remember(Remember::Ack { ack, seen_run_ms: 0 }));
    for n in [2, 3] {
        let addresses = vec![format!("192.168.1.2{n}:3030"), format!("[fe80::{n}%eth0]:3030")];
        let name = format!("Caisse {n}");
        till.done(Request::Remember(Remember::Peer {
            till: till_id(n),
            name,
            addresses,
            last_seen_ms: NOON + u64::from(n),
        }));
    }
    for (key, value) in [("cursor", "17"), ("secret", "{\"epoch\":2}")] {
        till.done(Request::Remember(Remember::Note { key: key.into(), value: Some(value.into()) }));
    }
}

/// Makes the database of till 1, closed; gives its path.
pub(crate) fn rich_database(dir: &Path) -> PathBuf {
    let (path, old) = (dir.join("rich.db"), dir.join("rich.old.db"));
    let mut a = Till::open(options(1, &path), NOON, 1);
    let mut b = Till::open(options(2, &dir.join("other.db")), NOON + 400, 2);
    first_day(&mut a);
    b.pull(&a, 5);
    apart(&mut a, &mut b);
    b.pull(&a, 4);
    a.pull(&b, 3);
    b.done(product(BACK, "NEW", 2_000));
    a.pull(&b, 3);
    // The next day, then the clock falls back to the first, then it is the next day again.
    for (days, quality, id) in
        [(1, ClockQuality::Trusted, 110), (0, ClockQuality::Untrusted, 120), (1, ClockQuality::Trusted, 130)]
    {
        (a.now_ms, a.quality) = (a.now_ms.max(NOON) % DAY + NOON / DAY * DAY + days * DAY, quality);
        (id..id + 3).for_each(|id| drop(a.sell(id, sale(&[(TEA, 1)]))));
    }
    // A backup, three sales that another till has, and the backup restored: a second origin of its own.
    backup(&path, &old).expect("a backup");
    (140..143).for_each(|id| drop(a.sell(id, sale(&[(COFFEE, 1)]))));
    b.pull(&a, 2);
    drop(a);
    restore(&old, &path, &mut Seeded(10)).expect("it is restored");
    let mut a = Till::open(options(1, &path), MIDDLE_MS, 11);
    a.sell(150, sale(&[(TEA, 1)]));
    a.sell(153, sale(&[(TEA, 1)]));
    a.now_ms = MIDDLE_MS + DAY;
    a.pull(&b, 2);
    strangers(&mut a);
    settle_some(&mut a);
    a.sell(151, full_sale());
    a.done(refund(220, 100, 1));
    a.done(admit(2, "Jardin"));
    remember(&mut a, &b);
    a.sell(152, sale(&[(TEA, 1)]));
    a.db.checkpoint().expect("it rests");
    drop(a);
    path
}
