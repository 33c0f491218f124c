//! Stories of the store as a whole, on files.

mod apply;
mod backups;
mod catalogue;
mod compaction;
mod conflicts;
mod digests;
mod faults;
mod forks;
mod installs;
mod log;
mod members;
mod scrubs;
mod selling;
mod snapshots;
mod surgery;
mod threads;

use std::path::PathBuf;

use jiff::tz::TimeZone;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Author, Db, Entropy, Executed, Now, Reader, Reply, Request, StoreError, StoreOptions, TicketView, backup};
use crate::model::amount::{Money, Quantity};
use crate::model::clock::ClockQuality;
use crate::model::id::{Origin, TillId, Uuid};
use crate::model::level::LEVEL;
use crate::model::movement::MovementKind;
use crate::model::op::{Head, OpBatch};
use crate::model::ticket::{Line, Payment, PaymentMethod, Sale};

/// Noon of 22 November 2026 in Tunis, in milliseconds since 1970.
pub(super) const NOON: u64 = 1_795_345_200_000;

pub(super) const HOUR: u64 = 3_600_000;

/// Random numbers that are the same every time.
pub(super) struct Seeded(pub(super) u64);

impl Entropy for Seeded {
    fn u64(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

pub(super) fn at(wall_ms: u64) -> Now {
    Now { wall_ms, quality: ClockQuality::Trusted }
}

pub(super) fn author(n: u8) -> Author {
    Author {
        till: TillId([n; 16]),
        public_key: [n; 32],
        pos_id: format!("POS-{n}"),
        pos_name: format!("Caisse {n}"),
        currency: *b"TND",
        time_zone: TimeZone::get("Africa/Tunis").unwrap(),
    }
}

/// A till's database in a folder of its own.
pub(super) struct Till {
    pub(super) db: Option<Db>,
    pub(super) options: StoreOptions,
    pub(super) now_ms: u64,
    seed: u64,
    pub(super) dir: TempDir,
}

impl Till {
    pub(super) fn new(n: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { path: dir.path().join("till.db"), author: author(n), level: LEVEL };
        let mut till = Self { db: None, options, now_ms: NOON, seed: u64::from(n) << 32, dir };
        till.open();
        till
    }

    /// Another till on a copy of this one's database, as after cloning its card.
    pub(super) fn clone_card(&self, seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { path: dir.path().join("till.db"), ..self.options.clone() };
        backup(&self.options.path, &options.path).unwrap();
        let mut till = Self { db: None, options, now_ms: self.now_ms, seed: seed << 40, dir };
        till.open();
        till
    }

    pub(super) fn open(&mut self) {
        self.seed += 1;
        self.db = Some(Db::open(&self.options, at(self.now_ms), Box::new(Seeded(self.seed))).unwrap());
    }

    /// As after a stop of the agent.
    pub(super) fn restart(&mut self) {
        self.db = None;
        self.open();
    }

    pub(super) fn db(&mut self) -> &mut Db {
        self.db.as_mut().unwrap()
    }

    pub(super) fn conn(&mut self) -> &Connection {
        &self.db().conn
    }

    pub(super) fn reader(&mut self) -> Reader {
        self.db().reader().unwrap()
    }

    pub(super) fn origin(&mut self) -> Origin {
        self.db().origin()
    }

    pub(super) fn execute(&mut self, requests: Vec<Request>) -> Executed {
        self.now_ms += 1;
        let now = at(self.now_ms);
        self.db().execute(requests, now)
    }

    pub(super) fn ask(&mut self, request: Request) -> Result<Reply, StoreError> {
        self.execute(vec![request]).replies.pop().unwrap()
    }

    pub(super) fn sell(&mut self, id: u128, sale: Sale) -> TicketView {
        match self.ask(Request::Sell { id: uuid(id), sale }) {
            Ok(Reply::Ticket { view, created: true }) => *view,
            other => panic!("not sold: {other:?}"),
        }
    }

    pub(super) fn stock(&mut self, product: u128) -> Quantity {
        self.reader().stock(uuid(product)).unwrap()
    }

    /// All that a till has of an origin from a place on.
    pub(super) fn ops(&mut self, origin: Origin, from: u64) -> Option<OpBatch> {
        self.reader().ops(origin, from, usize::MAX, usize::MAX).unwrap().batch()
    }

    /// Takes all that another till has, in batches of `ops_max`.
    pub(super) fn pull(&mut self, from: &mut Till, ops_max: usize) {
        let theirs = from.reader();
        for (origin, head) in theirs.vector().unwrap().0 {
            while self.head(origin).seq < head.seq {
                let next = self.head(origin).seq + 1;
                let batch = theirs.ops(origin, next, ops_max, usize::MAX).unwrap().batch().unwrap();
                let after = batch.after();
                let reply = self.ask(Request::Apply(batch)).unwrap();
                assert!(matches!(reply, Reply::Applied { head, .. } if head == after), "{reply:?}");
            }
        }
    }

    pub(super) fn head(&mut self, origin: Origin) -> Head {
        self.reader().vector().unwrap().head(origin)
    }
}

pub(super) fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// A sale of so many units of some products at TND 1.500.
pub(super) fn sale(lines: &[(u128, i64)]) -> Sale {
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

pub(super) fn goods_in(id: u128, product: u128, units: i64) -> Request {
    moved(id, product, MovementKind::In, units)
}

pub(super) fn moved(id: u128, product: u128, kind: MovementKind, units: i64) -> Request {
    let (id, product, quantity) = (uuid(id), uuid(product), Quantity::units(units));
    Request::Move { id, product, kind, quantity, reference: None }
}

/// All that tills with the same ops must agree on.
pub(super) fn digest(till: &mut Till) -> Vec<String> {
    let conn = till.conn();
    let mut all = Vec::new();
    for sql in [
        "SELECT 'stock', hex(product), total FROM stock WHERE total <> 0 ORDER BY 2",
        "SELECT 'ticket', hex(hash), counts FROM ticket ORDER BY 2",
        "SELECT 'refund', hex(hash), counts FROM refund ORDER BY 2",
        "SELECT 'movement', hex(hash), counts FROM movement ORDER BY 2",
        "SELECT 'entity', hex(id), hex(registers) FROM entity ORDER BY 2",
        "SELECT 'flag', kind, hex(subject) FROM flag ORDER BY 2, 3",
        "SELECT 'unchained', hex(previous), hex(hash) FROM unchained JOIN ticket ON idx = ticket_idx ORDER BY 2, 3",
        "SELECT 'held', hex(hash), reason FROM held ORDER BY 2",
        "SELECT 'roster', hex(till), ifnull(pos_id, '') || ifnull(retired_ms, '') FROM roster ORDER BY 2",
    ] {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| {
            let cell = |i| {
                row.get::<_, rusqlite::types::Value>(i).map(|value| match value {
                    rusqlite::types::Value::Text(text) => text,
                    other => format!("{other:?}"),
                })
            };
            Ok(format!("{} {} {}", cell(0)?, cell(1)?, cell(2)?))
        });
        all.extend(rows.unwrap().map(Result::unwrap));
    }
    all
}

pub(super) fn copy_of(till: &Till, name: &str) -> PathBuf {
    till.dir.path().join(name)
}
