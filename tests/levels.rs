//! Tills of two versions in one shop: what the newer one says is kept, passed on and applied after the update. Needs the feature `next`.
#![allow(clippy::unwrap_used, reason = "the helpers of these tests are tests too: what they unwrap fails them")]

use std::path::PathBuf;

use jiff::tz::TimeZone;
use tempfile::TempDir;
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::{Origin, TillId, Uuid};
use tillmesh::model::op::Head;
use tillmesh::model::register::{EntityKind, Value};
use tillmesh::model::vector::VersionVector;
use tillmesh::store::{Author, Change, Db, Entropy, Now, OpsRead, Remember, Reply, Request, StoreError, StoreOptions};
use tillmesh::sync::MemberAck;

const NOW: Now = Now { wall_ms: 1_795_345_200_000, quality: ClockQuality::Trusted };

struct Counter(u64);

impl Entropy for Counter {
    fn u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0
    }
}

struct Till {
    n: u8,
    db: Db,
    path: PathBuf,
}

fn id_of(n: u8) -> TillId {
    TillId::of_public_key(&[n; 32])
}

impl Till {
    fn open(folder: &TempDir, n: u8, level: u16) -> Self {
        let path = folder.path().join(format!("{n}.db"));
        let author = Author {
            till: id_of(n),
            public_key: [n; 32],
            pos_id: format!("POS-{n}"),
            pos_name: format!("Caisse {n}"),
            currency: *b"TND",
            time_zone: TimeZone::UTC,
        };
        let options = StoreOptions { path: path.clone(), author, level };
        let db = Db::open(&options, NOW, Box::new(Counter(n.into()))).unwrap();
        Self { n, db, path }
    }

    /// Stops, and starts again with another version.
    fn update(self, folder: &TempDir, level: u16) -> Self {
        let Self { n, db, path } = self;
        drop(db);
        assert!(path.exists());
        Self::open(folder, n, level)
    }

    fn ask(&mut self, request: Request) -> Result<Reply, StoreError> {
        self.db.execute(vec![request], NOW).replies.remove(0)
    }

    fn admit(&mut self, n: u8) {
        let (pos_id, pos_name) = (format!("POS-{n}"), format!("Caisse {n}"));
        self.ask(Request::Admit { till: id_of(n), public_key: [n; 32], pos_id, pos_name }).unwrap();
    }

    fn hear(&mut self, n: u8, level: u16) {
        let ack = MemberAck { till: id_of(n), stamp: u64::from(level), level, heads: VersionVector::default() };
        self.ask(Request::Remember(Remember::Ack { ack, seen_run_ms: 0 })).unwrap();
    }

    fn note(&mut self, n: u128) -> Result<Reply, StoreError> {
        self.ask(Request::Note { id: Uuid::from_u128(n), text: "the printer is out of paper".into() })
    }

    fn head(&self, origin: Origin) -> Head {
        self.db.reader().unwrap().vector().unwrap().head(origin)
    }

    /// Pulls all of a log.
    fn pull(&mut self, from: &Self, origin: Origin) {
        let next = self.head(origin).seq + 1;
        let read = from.db.reader().unwrap().ops(origin, next, 1_000, usize::MAX).unwrap();
        if let OpsRead::Batch(batch) = read {
            self.ask(Request::Apply(batch)).unwrap();
        }
        assert_eq!(self.head(origin), from.head(origin));
    }
}

#[test]
fn what_a_newer_till_says_is_held_passed_on_and_applied_after_the_update() {
    let folder = tempfile::tempdir().unwrap();
    let mut newer = Till::open(&folder, 1, 2);
    newer.note(7).unwrap();
    let origin = newer.db.origin();

    let mut older = Till::open(&folder, 2, 1);
    older.pull(&newer, origin);
    assert_eq!(older.db.reader().unwrap().counts().unwrap().held, 1);
    assert_eq!(older.db.reader().unwrap().notes().unwrap(), []);

    // A third till has it from the older one, as it came.
    let mut third = Till::open(&folder, 3, 2);
    third.pull(&older, origin);
    let notes = newer.db.reader().unwrap().notes().unwrap();
    assert_eq!((third.db.reader().unwrap().notes().unwrap(), notes.len()), (notes.clone(), 1));

    let older = older.update(&folder, 2);
    assert_eq!(older.db.reader().unwrap().notes().unwrap(), notes);
    assert_eq!(older.db.reader().unwrap().counts().unwrap().held, 0);
}

#[test]
fn nothing_is_said_that_a_live_till_of_the_roster_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut till = Till::open(&folder, 1, 2);
    till.admit(1);
    till.note(1).unwrap();
    till.admit(2);
    let refused = |reply: Result<Reply, StoreError>| match reply {
        Err(StoreError::Rejected(rejection)) => rejection.message,
        other => panic!("not refused: {other:?}"),
    };
    // Not heard of yet: it may be of the first version.
    assert_eq!(refused(till.note(2)), "update these tills first: POS-2");
    till.hear(2, 1);
    assert!(refused(till.note(2)).contains("POS-2"));
    let product = |field: &str, value: &str| {
        let values = [(field.to_owned(), Value::Text(value.into()))].into();
        Request::Edit { kind: EntityKind::Product, id: Uuid::from_u128(9), change: Change::Patch(values) }
    };
    let all = [("sku", "A"), ("name", "Cake")].map(|(field, value)| (field.to_owned(), Value::Text(value.into())));
    let all = all.into_iter().chain([("price".to_owned(), Value::Int(5))]).collect();
    let id = Uuid::from_u128(9);
    till.ask(Request::Edit { kind: EntityKind::Product, id, change: Change::Put(all) }).unwrap();
    assert!(refused(till.ask(product("allergens", "nuts"))).contains("POS-2"));
    till.ask(product("name", "Nut cake")).unwrap();

    till.hear(2, 2);
    till.note(2).unwrap();
    till.ask(product("allergens", "nuts")).unwrap();
    assert_eq!(till.db.reader().unwrap().notes().unwrap().len(), 2);

    // A field that a till does not know is kept and passed on like any other.
    let mut older = Till::open(&folder, 4, 1);
    let origin = till.db.origin();
    older.pull(&till, origin);
    let view = older.db.reader().unwrap().entity(EntityKind::Product, id).unwrap().unwrap();
    assert_eq!(view.registers.value("allergens"), &Value::Text("nuts".into()));
}

#[test]
fn a_retired_till_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut till = Till::open(&folder, 1, 2);
    till.admit(2);
    assert!(till.note(1).is_err());
    till.ask(Request::Retire { till: id_of(2) }).unwrap();
    till.note(1).unwrap();
}
