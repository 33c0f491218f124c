//! A till's database in memory, as it is after its first start.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use tempfile::TempDir;
use tillmesh::model::amount::{Money, Quantity};
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::{TillId, Uuid};
use tillmesh::model::level::LEVEL;
use tillmesh::model::ticket::{Line, Payment, PaymentMethod, Sale};
use tillmesh::store::{Author, Db, Entropy, Now, Reader, Reply, Request, StoreError, StoreOptions};

/// Noon of 22 November 2026 in Tunis, in milliseconds since 1970.
pub const NOON: u64 = 1_795_345_200_000;

/// Where temporary files are kept: in memory, where the system has such a place.
pub fn folder() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).expect("a temporary folder")
}

pub fn author(n: u8) -> Author {
    Author {
        till: TillId::of_public_key(&[n; 32]),
        public_key: [n; 32],
        pos_id: format!("POS-{n}"),
        pos_name: format!("Caisse {n}"),
        currency: *b"TND",
        time_zone: TimeZone::get("Africa/Tunis").expect("a known zone"),
    }
}

/// Random numbers that are the same every time (SplitMix64).
pub struct Seeded(pub u64);

impl Entropy for Seeded {
    fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Databases of tills, each made once and copied for every run.
pub struct Templates {
    folder: TempDir,
    made: Vec<Vec<u8>>,
}

impl Templates {
    pub fn new(tills: u8) -> Self {
        let folder = folder();
        let make = |n: u8| {
            let path = folder.path().join(format!("template-{n}.db"));
            let db = Db::open(&options(n, path.clone()), now(), Box::new(Seeded(u64::from(n)))).expect("it is made");
            db.checkpoint().expect("it rests");
            drop(db);
            std::fs::read(path).expect("it is there")
        };
        let made = (0..tills).map(make).collect();
        Self { folder, made }
    }

    /// A till as it is after its first start.
    pub fn till(&self, n: u8) -> Till {
        let path = self.folder.path().join(format!("till-{n}.db"));
        for beside in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{beside}", path.display()));
        }
        std::fs::write(&path, &self.made[usize::from(n)]).expect("it is written");
        Till(Db::open(&options(n, path), now(), Box::new(Seeded(100 + u64::from(n)))).expect("it opens"))
    }
}

fn options(n: u8, path: PathBuf) -> StoreOptions {
    StoreOptions { path, author: author(n), level: LEVEL }
}

fn now() -> Now {
    Now { wall_ms: NOON, quality: ClockQuality::Trusted }
}

pub struct Till(pub Db);

impl Till {
    pub fn ask(&mut self, request: Request) -> Result<Reply, StoreError> {
        self.0.execute(vec![request], now()).replies.remove(0)
    }

    pub fn reader(&self) -> Reader {
        self.0.reader().expect("a reader")
    }
}

/// A sale of so many units of some products at TND 1.500.
pub fn sale(lines: &[(Uuid, i64)]) -> Sale {
    let line = |(product, units): &(Uuid, i64)| Line {
        product: Some(*product),
        sku: None,
        name: "Produit".into(),
        quantity: Quantity::units(*units),
        unit_price: Money(1_500),
        discount: Money(0),
    };
    let paid = Payment { method: PaymentMethod::Cash, amount: Money(5_000), reference: None };
    Sale { cashier: None, customer: None, notes: None, lines: lines.iter().map(line).collect(), payments: vec![paid] }
}
