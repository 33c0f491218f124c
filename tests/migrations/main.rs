//! Databases of earlier versions, opened by this one: nothing is lost, and selling and applying go on.
//!
//! `tests/fixtures` holds one database per schema, and what it reads as. Neither is ever edited. `TILLMESH_BLESS=1` writes those of
//! the present schema where there are none yet.

mod dump;
mod reading;
mod trade;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::TempDir;
use tillmesh::model::amount::Quantity;
use tillmesh::model::id::Origin;
use tillmesh::model::movement::MovementKind;
use tillmesh::model::op::{Body, Head, Op, OpBatch};
use tillmesh::store::{ConflictId, Db, Reply, Request, left_behind, take_over};

use reading::reading;
use trade::{Seeded, Till, at, options, sale, uuid};

fn fixture(schema: u32, kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/schema-{schema}.{kind}"))
}

/// The database of a schema, made anew in a folder of its own.
fn database_of(schema: u32) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("till.db");
    let sql = std::fs::read_to_string(fixture(schema, "sql")).expect("the schema has a fixture");
    dump::load(&path, &sql);
    (dir, path)
}

fn expected(schema: u32) -> String {
    std::fs::read_to_string(fixture(schema, "txt")).expect("the fixture says what it reads as")
}

/// The till of a fixture, opened by this version.
fn opened(path: &Path) -> Till {
    Till::open(options(1, path), trade::END_MS, 77)
}

/// The schemas of before this version's, and this version's.
fn schemas() -> (std::ops::Range<u32>, u32) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("till.db");
    drop(Till::open(options(1, &path), trade::END_MS, 1));
    let present = dump::version(&path);
    (1..present, present)
}

fn assert_reads_as(till: &Till, schema: u32) {
    let found = reading(&till.reader());
    let wanted = expected(schema);
    for (found, wanted) in found.lines().zip(wanted.lines()) {
        assert_eq!(found, wanted, "schema {schema}");
    }
    assert_eq!(found.lines().count(), wanted.lines().count(), "schema {schema}");
}

/// All schemas that have a fixture: those of before this version's at least.
fn with_fixture() -> Vec<u32> {
    static BLESSED: OnceLock<()> = OnceLock::new();
    let (before, present) = schemas();
    if std::env::var_os("TILLMESH_BLESS").is_some() {
        BLESSED.get_or_init(|| bless(present));
    }
    // What the next version could bring comes after a schema that is not released yet.
    let released = before.end - u32::from(cfg!(feature = "next"));
    let found: Vec<u32> = (1..=present).filter(|n| *n < released || fixture(*n, "sql").exists()).collect();
    assert!(!found.is_empty(), "there is a fixture");
    found
}

/// Writes the fixture of this version's schema, where there is none yet.
fn bless(present: u32) {
    if fixture(present, "sql").exists() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = trade::rich_database(dir.path());
    let till = opened(&path);
    std::fs::write(fixture(present, "txt"), reading(&till.reader())).expect("the fixtures can be written");
    drop(till);
    std::fs::write(fixture(present, "sql"), dump::dump(&path)).expect("the fixtures can be written");
}

#[test]
fn a_database_of_any_schema_reads_as_it_did() {
    let (_, present) = schemas();
    for schema in with_fixture() {
        let (_dir, path) = database_of(schema);
        assert_eq!(dump::version(&path), schema);
        let till = opened(&path);
        assert_reads_as(&till, schema);
        drop(till);
        // Once more: what the migration wrote is what the next start finds.
        assert_reads_as(&opened(&path), schema);
        assert_eq!((dump::version(&path), dump::complaints(&path)), (present, Vec::new()), "schema {schema}");
    }
}

#[test]
fn the_version_before_goes_on_from_the_copy_of_before() {
    for schema in with_fixture() {
        let (dir, path) = database_of(schema);
        let before = opened_reading(&path);
        let copy = dir.path().join("till.db.before-update");
        let (_, present) = schemas();
        assert_eq!(copy.exists(), schema < present, "schema {schema}");
        if schema == present {
            continue;
        }
        assert_eq!((dump::version(&copy), dump::version(&path)), (schema, present));
        // A version later than this one had the database: this one is what the box fell back to.
        std::fs::copy(&path, &copy).expect("a copy");
        Till::open(options(1, &path), trade::END_MS, 78).sell(90_001, sale(&[(trade::TEA, 3)]));
        let later = opened_reading(&path);
        assert!(later.len() > before.len());
        dump::set_version(&path, present + 1);
        let left =
            tillmesh::store::go_back(&path, &mut Seeded(5)).expect("it goes back").expect("a database is moved aside");
        assert_eq!((dump::version(&left), dump::version(&path)), (present + 1, present));
        assert_eq!(opened_reading(&path), before, "schema {schema}");
        assert_eq!(tillmesh::store::go_back(&path, &mut Seeded(5)).expect("nothing to do"), None);
        assert_eq!(left_behind(&path), std::slice::from_ref(&left));
        taken_over(&path, &left);
        assert_eq!(opened_reading(&path), later, "schema {schema}");
    }
}

/// What was sold on a version that did not stay is on the one that it fell back to, once, also where that is ended in the middle of it.
fn taken_over(path: &Path, left: &Path) {
    let mut till = opened(path);
    let ops = |till: &Till| -> u64 { till.reader().vector().expect("a vector").0.values().map(|head| head.seq).sum() };
    let before = ops(&till);
    let copy = left.with_extension("again");
    std::fs::copy(left, &copy).expect("a copy");
    take_over(&mut till.db, path, at(trade::END_MS + 60_000).0);
    let after = ops(&till);
    assert!(after > before && left_behind(path).is_empty());
    std::fs::rename(&copy, left).expect("it is there again");
    take_over(&mut till.db, path, at(trade::END_MS + 70_000).0);
    assert!(ops(&till) == after && left_behind(path).is_empty());
    // What is no database keeps its name.
    std::fs::write(left, "nothing").expect("a file");
    take_over(&mut till.db, path, at(trade::END_MS + 80_000).0);
    assert_eq!(left_behind(path), [left]);
    std::fs::remove_file(left).expect("it goes");
}

/// What a database reads as, but for what a fresh origin changes.
fn opened_reading(path: &Path) -> Vec<String> {
    let till = opened(path);
    reading::tickets(&till.reader()).iter().map(|view| format!("{:?}", view.ticket)).collect()
}

/// Of the till's present log: the number of the next ticket that it sells at a time.
fn next_number(till: &Till, wall_ms: u64) -> String {
    let day = match wall_ms {
        trade::END_MS => "20261124",
        _ => "20261123",
    };
    let day = format!("POS-1-{}-{day}-", till.db.origin().short());
    let given = reading::tickets(&till.reader()).iter().filter(|t| t.ticket.number.starts_with(&day)).count();
    assert!(given > 0, "the fixture has tickets of {day}");
    format!("{day}{:04}", given + 1)
}

#[test]
fn selling_goes_on_after_a_migration() {
    for (schema, now_ms) in with_fixture().into_iter().flat_map(|n| [(n, trade::END_MS), (n, trade::MIDDLE_MS)]) {
        let (_dir, path) = database_of(schema);
        let mut till = Till::open(options(1, &path), now_ms, 78);
        let (own, before) = (till.db.origin(), till.reader().vector().expect("a vector"));
        let number = next_number(&till, now_ms);
        let tickets = reading::tickets(&till.reader());
        let last = tickets.into_iter().rfind(|t| t.ticket.number.contains(&own.short())).expect("it sold");
        let stock = till.reader().stock(uuid(trade::TEA)).expect("a stock");
        let view = till.sell(90_001, sale(&[(trade::TEA, 3)]));
        assert_eq!((view.ticket.number, view.ticket.previous), (number, last.chain), "schema {schema}");
        let reader = till.reader();
        assert_eq!(reader.stock(uuid(trade::TEA)).expect("a stock"), Quantity(stock.0 - 3_000));
        assert_eq!(reader.vector().expect("a vector").head(own).seq, before.head(own).seq + 1);
        // A repeated request from before the migration is still the same sale.
        let again = till.ask(Request::Sell { id: last.ticket.id, sale: last.ticket.sale.clone() });
        assert!(matches!(again, Ok(Reply::Ticket { created: false, .. })), "schema {schema}: {again:?}");
    }
}

#[test]
fn counting_settles_the_counts_of_before() {
    for schema in with_fixture() {
        let (_dir, path) = database_of(schema);
        let mut till = opened(&path);
        let conflicts = |till: &Till| -> Vec<ConflictId> {
            let found = till.reader().conflicts(1000).expect("conflicts").into_iter().map(|c| c.id);
            found.filter(|id| id.sort() == "counts").collect()
        };
        assert_eq!(conflicts(&till), [ConflictId::Counts(uuid(trade::COFFEE))]);
        for (id, product) in [(92_000, trade::COFFEE), (92_001, trade::TEA)] {
            till.ask(trade::moved(id, product, MovementKind::Count, 5)).expect("it is counted");
        }
        assert_eq!(conflicts(&till), [], "schema {schema}");
    }
}

#[test]
fn what_comes_again_under_another_origin_changes_nothing() {
    for schema in with_fixture() {
        let (_dir, path) = database_of(schema);
        let mut till = opened(&path);
        let before = reading::state(&till.reader());
        let vector = till.reader().vector().expect("a vector");
        let log =
            |origin| till.reader().ops(origin, 1, usize::MAX, usize::MAX).expect("a log").batch().expect("ops").ops;
        let ops: Vec<Op> = vector.0.keys().flat_map(|origin| log(*origin)).collect();
        let count = ops.len();
        let mut head = Head::default();
        for (n, op) in (1..).zip(ops) {
            let again = OpBatch { origin: Origin(u64::MAX), before: head, ops: vec![op] };
            head = again.after();
            assert!(matches!(till.ask(Request::Apply(again)), Ok(Reply::Applied { .. })));
            let after = reading::state(&till.reader());
            let after = after.replace(&format!("ops {}", count + n), &format!("ops {count}"));
            assert_eq!(after, before, "schema {schema}, op {n}");
        }
    }
}

#[test]
fn logs_of_others_go_on_after_a_migration() {
    for schema in with_fixture() {
        let (_dir, path) = database_of(schema);
        let mut till = opened(&path);
        let own = till.db.origin();
        let vector = till.reader().vector().expect("a vector");
        for (n, (origin, head)) in (1u128..).zip(vector.0).filter(|(_, (origin, _))| *origin != own) {
            assert_log_goes_on(&mut till, n, origin, head);
        }
        drop(till);
        assert_eq!(dump::complaints(&path), Vec::<String>::new(), "schema {schema}");
        let dir = tempfile::tempdir().expect("a folder");
        let mut peer = Till::open(options(9, &dir.path().join("till.db")), trade::END_MS, 9);
        peer.pull(&opened(&path), 7);
        assert_eq!(reading::shared(&peer.reader()), reading::shared(&opened(&path).reader()), "schema {schema}");
    }
}

/// The log takes what continues it, and nothing else; the whole of it is there to be sent.
fn assert_log_goes_on(till: &mut Till, n: u128, origin: Origin, head: Head) {
    let ticket = trade::foreign_ticket(91_000 + n, 5, [0; 32]);
    let next = OpBatch { origin, before: head, ops: vec![Body::Ticket(ticket).to_op(at(trade::END_MS).1)] };
    let gap = OpBatch { before: Head { seq: head.seq + 1, ..head }, ..next.clone() };
    assert!(matches!(till.ask(Request::Apply(gap)), Ok(Reply::NotContinuing { head: here, .. }) if here == head));
    let after = next.after();
    let reply = till.ask(Request::Apply(next));
    assert!(matches!(reply, Ok(Reply::Applied { head, .. }) if head == after), "{origin}: {reply:?}");
    let whole = till.reader().ops(origin, 1, usize::MAX, usize::MAX).expect("a log").batch().expect("it holds ops");
    assert_eq!((whole.after(), whole.ops.len() as u64), (after, after.seq));
}

#[test]
fn a_second_start_of_a_fixture_mints_no_origin() {
    for schema in with_fixture() {
        let (_dir, path) = database_of(schema);
        let own = opened(&path).db.origin();
        assert_eq!(opened(&path).db.origin(), own, "schema {schema}");
        // Another till's hands: a cloned card.
        let clone = Db::open(&options(8, &path), at(trade::END_MS).0, Box::new(Seeded(8))).expect("it opens");
        assert_ne!(clone.origin(), own, "schema {schema}");
    }
}
