//! A till on a disk of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;
use tempfile::TempDir;
use tillmesh::model::amount::{Money, Quantity};
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::{TillId, Uuid};
use tillmesh::model::level::LEVEL;
use tillmesh::model::mutant::Mutant;
use tillmesh::model::ticket::{Line, Payment, PaymentMethod, Sale};
use tillmesh::store::{Author, Db, Entropy, Executed, Now, Reader, Reply, Request, StoreError, StoreOptions};

use crate::vfs::{Disk, Image};

/// The evening of the last day of the fixture's shop, in milliseconds since 1970.
const EVENING: u64 = 1_795_345_200_000 + 2 * 86_400_000 + 7 * 3_600_000;

/// Random numbers that are the same every time (SplitMix64).
#[derive(Clone)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Randomness that is the same for every attempt at one thing.
struct Steady(Arc<AtomicU64>);

impl Entropy for Steady {
    fn u64(&mut self) -> u64 {
        Seeded(self.0.fetch_add(1, Ordering::Relaxed)).next()
    }
}

/// The till of this number. 1 is the fixture's.
pub(crate) fn till_id(n: u8) -> TillId {
    TillId::of_public_key(&[n; 32])
}

pub(crate) struct Till {
    number: u8,
    folder: TempDir,
    pub(crate) disk: Disk,
    db: Option<Db>,
    now_ms: u64,
    /// How many things have been done: what the randomness follows from.
    done: u64,
    entropy: Arc<AtomicU64>,
}

impl Till {
    /// Till 1, off, with these files on its disk.
    pub(crate) fn with(files: Image) -> Self {
        Self::numbered(1, files)
    }

    /// A till of this number, off, with these files on its disk.
    pub(crate) fn numbered(number: u8, files: Image) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let disk = Disk::insert(folder.path());
        disk.replace(files);
        Self { number, folder, disk, db: None, now_ms: EVENING, done: 0, entropy: Arc::default() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("till.db")
    }

    /// Puts other files on the disk, as of another power cut.
    pub(crate) fn replace(&mut self, files: Image) {
        self.disk.replace(files);
        self.db = None;
    }

    /// Starts, also after a start that failed.
    pub(crate) fn open(&mut self) -> Result<(), StoreError> {
        self.db = None;
        self.steady();
        let author = Author {
            till: till_id(self.number),
            public_key: [self.number; 32],
            pos_id: format!("POS-{}", self.number),
            pos_name: format!("Caisse {}", self.number),
            currency: *b"TND",
            time_zone: TimeZone::get("Africa/Tunis").expect("a known zone"),
        };
        // As the store does with a real file, which this disk is not.
        if !self.disk.write_again("till.db-wal") {
            return Err(StoreError::Io("the log cannot be written again".to_owned()));
        }
        let options = StoreOptions { path: self.path(), author, level: LEVEL };
        self.db = Some(Db::open(&options, self.now(), Box::new(Steady(Arc::clone(&self.entropy))))?);
        self.done += 1;
        Ok(())
    }

    /// Stops in order.
    pub(crate) fn close(&mut self) {
        self.db = None;
    }

    fn steady(&self) {
        self.entropy.store((u64::from(self.number) << 56) + (self.done << 32), Ordering::Relaxed);
    }

    fn now(&self) -> Now {
        Now { wall_ms: self.now_ms, quality: ClockQuality::Trusted }
    }

    pub(crate) fn db(&mut self) -> &mut Db {
        self.db.as_mut().expect("it is open")
    }

    pub(crate) fn reader(&self) -> Result<Reader, StoreError> {
        self.db.as_ref().expect("it is open").reader()
    }

    pub(crate) fn execute(&mut self, requests: Vec<Request>) -> Executed {
        self.now_ms += 1_000;
        self.steady();
        let now = self.now();
        let executed = self.db().execute(requests, now);
        if executed.replies.iter().all(Result::is_ok) {
            self.done += 1;
        }
        executed
    }

    /// Does one request.
    pub(crate) fn ask(&mut self, request: Request) -> Result<Reply, StoreError> {
        self.execute(vec![request]).replies.remove(0)
    }

    pub(crate) fn switch(mutant: Option<Mutant>) {
        Mutant::switch(mutant);
    }
}

/// A folder is asked for more often than the system likes to make random names.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// An id that nobody else uses.
pub(crate) fn fresh_id() -> Uuid {
    Uuid::from_u128(u128::from(COUNT.fetch_add(1, Ordering::Relaxed)) | 0xf5 << 96)
}

pub(crate) fn uuid(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

/// A sale of so many units of a product at TND 1.500.
pub(crate) fn sale(product: u128, units: i64) -> Sale {
    let line = Line {
        product: Some(uuid(product)),
        sku: None,
        name: format!("Produit {product}"),
        quantity: Quantity::units(units),
        unit_price: Money(1_500),
        discount: Money(0),
    };
    let paid = Payment { method: PaymentMethod::Cash, amount: Money(5_000), reference: None };
    Sale { cashier: None, customer: None, notes: None, lines: vec![line], payments: vec![paid] }
}
