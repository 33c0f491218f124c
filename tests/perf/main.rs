//! What the hot paths cost in instructions. 'tests/run perf' runs each under callgrind, which counts what happens inside [`measured`] and
//! nothing else: the same on a busy machine as on a quiet one. `tests/perf/run` compares it with `tests/perf/reference`.
//!
//! `perf` prints the cases, `perf CASE` runs one.

#![allow(clippy::print_stdout, reason = "the cases are told there")]

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use tempfile::TempDir;
use tillmesh::model::amount::{Money, Quantity};
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::{TillId, Uuid};
use tillmesh::model::level::LEVEL;
use tillmesh::model::op::{Body, OpBatch};
use tillmesh::model::ticket::{Line, Payment, PaymentMethod, Sale};
use tillmesh::store::{Author, Db, Entropy, Now, Request, StoreOptions, TicketQuery};
use tillmesh::sync::Message;
use tillmesh::wire::message::{decode, encode};
use tillmesh::wire::posplus;

/// Noon of 22 November 2026 in Tunis, in milliseconds since 1970.
const NOON: u64 = 1_795_345_200_000;

/// Does something so many times, and nothing else.
type Work = Box<dyn FnMut()>;

/// A name, how many times the thing is done, and how it is made ready.
type Case = (&'static str, u32, fn(&Path) -> Work);

const CASES: [Case; 9] = [
    ("sale", 100, sale_by_sale),
    ("sales-in-one-commit", 256, sales_together),
    ("ops-applied", 500, ops_applied),
    ("start-with-2000-tickets", 1, start),
    ("tickets-read", 500, tickets_read),
    ("message-written", 5_000, message_written),
    ("message-read", 5_000, message_read),
    ("bodies-read", 5_000, bodies_read),
    ("posplus-messages-read", 1_000, posplus_read),
];

fn main() {
    let Some(name) = std::env::args().nth(1) else {
        return CASES.iter().for_each(|(name, times, _)| println!("{name} {times}"));
    };
    let (_, _, prepare) = CASES.iter().find(|(known, ..)| *known == name).expect("a case of this name");
    let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a temporary folder");
    measured(&mut *prepare(folder.path()));
}

/// What callgrind counts.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    std::hint::black_box(());
}

/// Numbers that are the same every time, far apart and all different.
struct Steps(u64);

impl Entropy for Steps {
    fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0
    }
}

fn now() -> Now {
    Now { wall_ms: NOON, quality: ClockQuality::Trusted }
}

fn open(folder: &Path, n: u8) -> Db {
    let author = Author {
        till: TillId::of_public_key(&[n; 32]),
        public_key: [n; 32],
        pos_id: format!("POS-{n}"),
        pos_name: format!("Caisse {n}"),
        currency: *b"TND",
        time_zone: TimeZone::get("Africa/Tunis").expect("a known zone"),
    };
    let path: PathBuf = folder.join(format!("till-{n}.db"));
    Db::open(&StoreOptions { path, author, level: LEVEL }, now(), Box::new(Steps(u64::from(n)))).expect("it opens")
}

/// Five lines, of products that are sold again and again.
fn sell(n: u128) -> Request {
    let line = |i: u128| Line {
        product: Some(Uuid::from_u128(1 + (n + i) % 200)),
        sku: Some(format!("SKU-{}", (n + i) % 200)),
        name: format!("Produit {}", (n + i) % 200),
        quantity: Quantity::units(1),
        unit_price: Money(1_500),
        discount: Money(0),
    };
    let paid = Payment { method: PaymentMethod::Cash, amount: Money(7_500), reference: None };
    let sale = Sale {
        cashier: Some("Amel".into()),
        customer: None,
        notes: None,
        lines: (0..5).map(line).collect(),
        payments: vec![paid],
    };
    Request::Sell { id: Uuid::from_u128(1 << 64 | n), sale }
}

/// Has a till do some things in one commit; what of it goes to others.
fn execute(db: &mut Db, requests: Vec<Request>) -> Option<OpBatch> {
    let executed = db.execute(requests, now());
    executed.replies.into_iter().for_each(|reply| drop(reply.expect("it is done")));
    executed.committed.local
}

/// A till with so many tickets.
fn with_tickets(folder: &Path, count: u128) -> Db {
    let mut db = open(folder, 1);
    for first in (0..count).step_by(100) {
        execute(&mut db, (first..count.min(first + 100)).map(sell).collect());
    }
    db
}

/// What a till tells others about 100 sales.
fn batch(folder: &Path) -> OpBatch {
    let mut other = open(folder, 2);
    execute(&mut other, (0..100).map(sell).collect()).expect("sales are told")
}

fn sale_by_sale(folder: &Path) -> Work {
    let mut db = with_tickets(folder, 500);
    Box::new(move || (1_000..1_100).for_each(|n| drop(execute(&mut db, vec![sell(n)]))))
}

fn sales_together(folder: &Path) -> Work {
    let mut db = with_tickets(folder, 500);
    Box::new(move || {
        for first in (1_000..1_256).step_by(64) {
            execute(&mut db, (first..first + 64).map(sell).collect());
        }
    })
}

fn ops_applied(folder: &Path) -> Work {
    let mut other = open(folder, 2);
    let told = |first: u128| execute(&mut other, (first..first + 100).map(sell).collect()).expect("sales are told");
    let batches: Vec<OpBatch> = (0..5).map(|n| n * 100).map(told).collect();
    let mut db = open(folder, 1);
    Box::new(move || batches.iter().for_each(|batch| drop(execute(&mut db, vec![Request::Apply(batch.clone())]))))
}

fn start(folder: &Path) -> Work {
    drop(with_tickets(folder, 2_000));
    let folder = folder.to_owned();
    Box::new(move || drop(open(&folder, 1)))
}

fn tickets_read(folder: &Path) -> Work {
    let db = with_tickets(folder, 500);
    Box::new(move || {
        let reader = db.reader().expect("a reader");
        let mut query = TicketQuery { after: None, limit: 50, from_ms: None, to_ms: None, pos_id: None };
        let mut read = 0;
        loop {
            let page = reader.tickets(&query).expect("tickets");
            read += page.items.len();
            query.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!(read, 500);
    })
}

fn message_written(folder: &Path) -> Work {
    let message = Message::Ops(batch(folder));
    Box::new(move || (0..50).for_each(|_| drop(std::hint::black_box(encode(&message)))))
}

fn message_read(folder: &Path) -> Work {
    let bytes = encode(&Message::Ops(batch(folder)));
    Box::new(move || (0..50).for_each(|_| drop(decode(&bytes).expect("a message"))))
}

fn bodies_read(folder: &Path) -> Work {
    let batch = batch(folder);
    Box::new(move || {
        for _ in 0..50 {
            batch.ops.iter().for_each(|op| drop(Body::from_op(op).expect("it is understood")));
        }
    })
}

fn posplus_read(_: &Path) -> Work {
    let messages: Vec<&[u8]> = include_str!("../golden/posplus.jsonl").lines().map(str::as_bytes).collect();
    let decimals = posplus::Decimals::of_currency("TND");
    Box::new(move || {
        for message in messages.iter().cycle().take(1_000) {
            posplus::decode(message, decimals).expect("a message");
        }
    })
}
