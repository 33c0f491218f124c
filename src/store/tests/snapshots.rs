//! Snapshots: one till gives, another takes, part by part.

use proptest::prelude::*;

use super::super::snapshot::{UNCOVERED_ENTITY, uncovered_records};
use super::super::{Change, SnapshotGiver};
use super::*;
use crate::model::clock::Hlc;
use crate::model::close::Close;
use crate::model::op::{Body, Op, RunningHash};
use crate::model::register::{Edit, EntityKind, Value, Write};
use crate::sync::{Key, LogHeader, Part, SnapshotAnswer, SnapshotAsk, Taking, Unfinished, part_digest, table};

/// A product of that id, code and price.
fn put(id: u128, sku: &str, price: i64) -> Request {
    let fields = [
        ("sku".to_owned(), Value::Text(sku.to_owned())),
        ("name".to_owned(), Value::Text(format!("Produit {sku}"))),
        ("price".to_owned(), Value::Int(price)),
    ];
    Request::Edit { kind: EntityKind::Product, id: uuid(id), change: Change::Put(fields.into()) }
}

fn admit(n: u8) -> Request {
    let key = [n; 32];
    let (pos_id, pos_name) = (format!("POS-{n}"), format!("Caisse {n}"));
    Request::Admit { till: TillId::of_public_key(&key), public_key: key, pos_id, pos_name }
}

/// A question about a snapshot, as a taker asks it.
struct Giver<'a> {
    giver: &'a mut SnapshotGiver,
    link: u64,
    snapshot: u64,
}

/// What a taker has been given so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Fetched {
    rows: usize,
    parts: usize,
}

impl<'a> Giver<'a> {
    fn begin(giver: &'a mut SnapshotGiver, link: u64) -> (Self, SnapshotAnswer) {
        let begun = giver.answer(link, SnapshotAsk::Begin, 0);
        let SnapshotAnswer::Begun { snapshot, .. } = begun else { panic!("no snapshot: {begun:?}") };
        (Self { giver, link, snapshot }, begun)
    }

    fn parts(&mut self, table: u16, after: Key) -> (Vec<Part>, bool) {
        let ask = SnapshotAsk::Parts { snapshot: self.snapshot, table, after };
        match self.giver.answer(self.link, ask, 0) {
            SnapshotAnswer::Parts { parts, last, .. } => (parts, last),
            other => panic!("no parts: {other:?}"),
        }
    }

    fn hashes(&mut self, origin: Origin, from: u64) -> Vec<RunningHash> {
        let ask = SnapshotAsk::Hashes { snapshot: self.snapshot, origin, from };
        match self.giver.answer(self.link, ask, 0) {
            SnapshotAnswer::Hashes { hashes, .. } => hashes,
            other => panic!("no hashes: {other:?}"),
        }
    }

    fn rows(&mut self, table: u16, after: Key, upto: Key) -> Vec<Op> {
        let ask = SnapshotAsk::Rows { snapshot: self.snapshot, table, after, upto };
        match self.giver.answer(self.link, ask, 0) {
            SnapshotAnswer::Rows { rows, .. } => rows,
            other => panic!("no rows: {other:?}"),
        }
    }
}

/// All parts, but not the logs.
const ROWS_ALONE: usize = usize::MAX - 1;

/// Takes what differs of a snapshot, of at most so many parts; whether that was all.
fn take(till: &mut Till, giver: &mut SnapshotGiver, session: u64, parts_max: usize) -> (Fetched, bool) {
    let (mut giver, begun) = Giver::begin(giver, session);
    let SnapshotAnswer::Begun { closes, logs, tables, .. } = begun else { unreachable!() };
    let mut fetched = Fetched::default();
    for (table, _) in tables {
        let mut after = Key::new();
        loop {
            let (parts, last) = giver.parts(table, after.clone());
            let differ = till.reader().differing_parts(table, &after, &parts).unwrap();
            for (place, part) in parts.iter().enumerate() {
                let before = std::mem::replace(&mut after, part.upto.clone());
                let what = if differ.contains(&place) {
                    if fetched.parts >= parts_max {
                        return (fetched, false);
                    }
                    let rows = giver.rows(table, before, part.upto.clone());
                    assert_eq!((part_digest(&rows), rows.len() as u32), (part.digest, part.rows));
                    fetched = Fetched { rows: fetched.rows + rows.len(), parts: fetched.parts + 1 };
                    Taking::Rows { table, rows }
                } else {
                    Taking::Same { table, after: before, upto: part.upto.clone() }
                };
                till.ask(Request::Take { session, what }).unwrap();
            }
            if last {
                break;
            }
        }
    }
    if parts_max == ROWS_ALONE {
        return (fetched, false);
    }
    finish(till, session, (closes, logs), &mut giver);
    (fetched, true)
}

/// Takes the hashes and heads of logs that go beyond ours.
fn finish(till: &mut Till, session: u64, (closes, logs): (Vec<Close>, Vec<LogHeader>), giver: &mut Giver<'_>) {
    for log in &logs {
        let ours = till.head(log.origin);
        if ours.seq >= log.head.seq {
            continue;
        }
        let agrees = ours.seq > 0 && giver.hashes(log.origin, ours.seq)[0] == ours.hash;
        let mut from = if agrees { ours.seq + 1 } else { 1 };
        while from <= log.head.seq {
            let hashes = giver.hashes(log.origin, from);
            let after = from + hashes.len() as u64;
            let what = Taking::Hashes { origin: log.origin, base: log.base, from, hashes };
            till.ask(Request::Take { session, what }).unwrap();
            from = after;
        }
    }
    till.ask(Request::Take { session, what: Taking::Logs { closes, logs } }).unwrap();
}

/// Takes all rows of a snapshot, but not its logs.
fn give_up(till: &mut Till, giver: &mut SnapshotGiver, session: u64) {
    let (_, whole) = take(till, giver, session, ROWS_ALONE);
    assert!(!whole);
}

fn foreign(origin: u64, bodies: Vec<Body>) -> Request {
    let ops = bodies.iter().zip(1u64..).map(|(body, n)| body.to_op(Hlc::from_ms(NOON + n))).collect();
    Request::Apply(OpBatch { origin: Origin(origin), before: Head::default(), ops })
}

/// All that a snapshot can hold. `n` makes the same shop with other contents of its records.
fn trade(till: &mut Till, n: u64) {
    let base = u128::from(n) * 1_000;
    for i in 0..40u128 {
        till.sell(base + i, sale(&[(i % 5, 1), (6, 2)]));
        till.ask(goods_in(base + 500 + i, i % 5, 3)).unwrap();
        till.ask(put(i % 20, &format!("S{}", i % 18), i as i64 + n as i64)).unwrap();
    }
    till.ask(Request::Cancel { id: None, ticket: uuid(base + 3), reason: None }).unwrap();
    let back = vec![(1, Quantity::units(1))];
    till.ask(Request::Refund { id: uuid(base + 900), ticket: uuid(base + 4), lines: back, reason: None }).unwrap();
    till.ask(moved(base + 901, 2, MovementKind::Count, 9)).unwrap();
    till.ask(Request::Edit { kind: EntityKind::Product, id: uuid(7), change: Change::Delete }).unwrap();
    till.ask(admit(n as u8)).unwrap();
    till.ask(Request::Retire { till: TillId([n as u8 + 100; 16]) }).unwrap();
    // Another content under a known id, a field that was written at the same time, and what no version knows yet.
    let Some(view) = till.reader().ticket(uuid(base + 5)).unwrap() else { panic!("no ticket") };
    let mut other = view.ticket;
    other.sale.notes = Some(format!("other {n}"));
    let write = Write { field: "price".into(), id: 77 + n, replaces: vec![], value: Value::Int(5) };
    let (entity, id, by) = (EntityKind::Product, uuid(1), "POS-8".to_owned());
    let edit = Edit { entity, id, hlc: Hlc::from_ms(NOON), by, writes: vec![write] };
    till.ask(foreign(50 + n, vec![Body::Ticket(other), Body::Edit(edit)])).unwrap();
    let unknown = Op { hlc: Hlc::from_ms(NOON), kind: 900, schema: 1, body: vec![n as u8; 40] };
    let batch = OpBatch { origin: Origin(70 + n), before: Head::default(), ops: vec![unknown] };
    till.ask(Request::Apply(batch)).unwrap();
}

fn assert_equal(a: &mut Till, b: &mut Till) {
    assert_eq!(a.reader().vector().unwrap(), b.reader().vector().unwrap());
    let (ours, theirs) = (digest(a), digest(b));
    let only = |all: &[String], of: &[String]| all.iter().filter(|row| !of.contains(row)).cloned().collect::<Vec<_>>();
    assert_eq!((only(&ours, &theirs), only(&theirs, &ours)), (vec![], vec![]));
    assert_eq!((a.reader().uncovered().unwrap(), b.reader().uncovered().unwrap()), (0, 0));
    for till in [&mut *a, &mut *b] {
        let reader = till.reader();
        assert_eq!(reader.digest().unwrap(), Some(reader.recomputed_digest().unwrap()));
    }
    assert_eq!(a.reader().digest().unwrap(), b.reader().digest().unwrap());
    let conflicts = |till: &mut Till| {
        let mut ids: Vec<String> =
            till.reader().conflicts(1000).unwrap().into_iter().map(|c| format!("{:?}", c.id)).collect();
        ids.sort();
        ids
    };
    assert_eq!(conflicts(a), conflicts(b));
}

#[test]
fn a_new_till_takes_all_of_a_shop() {
    let (mut giver, mut taker) = (Till::new(1), Till::new(2));
    trade(&mut giver, 1);
    let mut gives = giver.db().giver();
    let (fetched, whole) = take(&mut taker, &mut gives, 1, usize::MAX);
    assert!(whole && fetched.rows > 100, "{fetched:?}");
    assert_equal(&mut giver, &mut taker);
    assert_eq!(taker.reader().counts().unwrap().held, 1);
    let again = take(&mut taker, &mut gives, 2, usize::MAX);
    assert_eq!(again, (Fetched::default(), true), "all is the same by now");
    // A restart finds the same.
    taker.restart();
    assert_equal(&mut giver, &mut taker);
}

#[test]
fn after_a_cut_another_giver_gives_only_what_is_missing() {
    let (mut one, mut other, mut taker) = (Till::new(1), Till::new(2), Till::new(3));
    trade(&mut one, 1);
    other.pull(&mut one, 50);
    // More than one part a table.
    let sales = (0..600u128).map(|n| Request::Sell { id: uuid(50_000 + n), sale: sale(&[(7, 1)]) }).collect();
    assert!(one.execute(sales).replies.iter().all(Result::is_ok));
    other.pull(&mut one, 100);
    let (first, whole) = take(&mut taker, &mut one.db().giver(), 1, 4);
    assert!(!whole && taker.reader().uncovered().unwrap() > 0);
    assert_eq!(taker.reader().digest().unwrap(), None);
    let asked = taker.db().giver().answer(9, SnapshotAsk::Begin, 0);
    assert_eq!(asked, SnapshotAnswer::NotNow, "who is not whole gives none");
    taker.restart();
    let (second, whole) = take(&mut taker, &mut other.db().giver(), 2, usize::MAX);
    assert!(whole);
    let (all, _) = take(&mut Till::new(4), &mut other.db().giver(), 1, usize::MAX);
    assert_eq!((first.parts + second.parts, first.rows + second.rows), (all.parts, all.rows));
    assert_equal(&mut other, &mut taker);
}

#[test]
fn two_tills_that_traded_apart_take_of_each_other() {
    let (mut a, mut b) = (Till::new(1), Till::new(2));
    trade(&mut a, 1);
    trade(&mut b, 2);
    take(&mut b, &mut a.db().giver(), 1, usize::MAX);
    take(&mut a, &mut b.db().giver(), 1, usize::MAX);
    assert_equal(&mut a, &mut b);
}

#[test]
fn what_nobody_finishes_is_authored_and_then_everywhere() {
    let (mut dying, mut heir, mut third) = (Till::new(1), Till::new(2), Till::new(3));
    trade(&mut dying, 1);
    let sales = (0..300u128).map(|n| Request::Sell { id: uuid(50_000 + n), sale: sale(&[(7, 1)]) }).collect();
    assert!(dying.execute(sales).replies.iter().all(Result::is_ok));
    let mut gives = dying.db().giver();
    take(&mut heir, &mut gives, 1, 3);
    let rest = heir.reader().uncovered().unwrap();
    assert!(rest > 20, "{rest}");
    assert_eq!(heir.reader().unfinished().unwrap(), Unfinished { rows: rest, session: 1 });
    heir.restart();
    assert_eq!(heir.reader().unfinished().unwrap(), Unfinished { rows: rest, session: 1 });
    let mut left = rest;
    while left > 0 {
        let Ok(Reply::Adopted { left: now }) = heir.ask(Request::Adopt { rows_max: 64 }) else { panic!("not adopted") };
        assert_eq!(now, left.saturating_sub(64));
        left = now;
    }
    let origin = heir.origin();
    assert!(heir.head(origin).seq >= rest);
    third.pull(&mut heir, 100);
    assert_equal(&mut heir, &mut third);
    // It was not dead after all: what it has comes again, under two origins, and counts once.
    third.pull(&mut dying, 100);
    dying.pull(&mut third, 100);
    assert_equal(&mut dying, &mut third);
}

#[test]
fn rows_of_another_snapshot_are_covered_only_where_this_one_has_them() {
    let (mut one, mut other, mut taker) = (Till::new(1), Till::new(2), Till::new(3));
    trade(&mut one, 1);
    one.sell(40_000, sale(&[(7, 1)]));
    other.pull(&mut one, 50);
    one.sell(40_001, sale(&[(7, 1)]));
    one.ask(put(3, "S3", 99)).unwrap();
    let mut gives = one.db().giver();
    // All of the first giver's rows, but not its logs.
    give_up(&mut taker, &mut gives, 1);
    let before = taker.reader().uncovered().unwrap();
    let (fetched, _) = take(&mut taker, &mut other.db().giver(), 2, usize::MAX);
    assert!(fetched.parts > 0 && before > 2);
    // The ticket and the price that the second giver has not.
    assert_eq!(taker.reader().uncovered().unwrap(), 2);
    taker.ask(Request::Adopt { rows_max: 10 }).unwrap();
    other.pull(&mut taker, 10);
    assert_eq!(digest(&mut other), digest(&mut one));
    assert_equal(&mut other, &mut taker);
}

/// What a later version says is held by who takes it of a snapshot, given on, and applied after the update.
#[cfg(feature = "next")]
#[test]
fn what_a_later_version_has_goes_through_an_earlier_one() {
    let (mut newer, mut older, mut third) = (Till::new(1), Till::new(2), Till::new(3));
    older.options.level = 1;
    older.restart();
    newer.ask(Request::Note { id: uuid(5), text: "closed at noon".into() }).unwrap();
    trade(&mut newer, 1);
    take(&mut older, &mut newer.db().giver(), 1, usize::MAX);
    assert_eq!(older.reader().counts().unwrap().held, 2);
    take(&mut third, &mut older.db().giver(), 1, usize::MAX);
    assert_equal(&mut newer, &mut third);
    older.options.level = 2;
    older.restart();
    assert_equal(&mut newer, &mut older);
    assert_eq!(older.reader().notes().unwrap(), newer.reader().notes().unwrap());
}

/// An update in the middle of a snapshot: what came as held is applied, and is as uncovered as it was.
#[cfg(feature = "next")]
#[test]
fn what_is_held_of_an_unfinished_snapshot_is_applied_after_the_update() {
    let (mut newer, mut older, mut third) = (Till::new(1), Till::new(2), Till::new(3));
    newer.ask(Request::Note { id: uuid(5), text: "closed at noon".into() }).unwrap();
    trade(&mut newer, 1);
    older.options.level = 1;
    older.restart();
    // All of the giver's rows, but not its logs.
    give_up(&mut older, &mut newer.db().giver(), 1);
    let rest = older.reader().uncovered().unwrap();
    assert_eq!(older.reader().notes().unwrap(), []);
    older.options.level = 2;
    older.restart();
    let notes = newer.reader().notes().unwrap();
    assert_eq!((older.reader().notes().unwrap(), notes.len()), (notes.clone(), 1));
    assert_eq!(older.reader().counts().unwrap().held, 1, "what no version knows");
    assert_eq!(older.reader().uncovered().unwrap(), rest);
    while older.reader().uncovered().unwrap() > 0 {
        older.ask(Request::Adopt { rows_max: 64 }).unwrap();
    }
    third.pull(&mut older, 100);
    assert_equal(&mut older, &mut third);
    assert_eq!(third.reader().notes().unwrap(), notes);
}

#[test]
fn a_giver_holds_two_snapshots_for_a_while() {
    let mut till = Till::new(1);
    trade(&mut till, 1);
    let mut giver = till.db().giver();
    let begin = |giver: &mut SnapshotGiver, link, now_ms| match giver.answer(link, SnapshotAsk::Begin, now_ms) {
        SnapshotAnswer::Begun { snapshot, .. } => Some(snapshot),
        SnapshotAnswer::NotNow => None,
        other => panic!("{other:?}"),
    };
    let parts = |giver: &mut SnapshotGiver, link, snapshot, now_ms| {
        let ask = SnapshotAsk::Parts { snapshot, table: table::TICKET, after: vec![] };
        matches!(giver.answer(link, ask, now_ms), SnapshotAnswer::Parts { .. })
    };
    let one = begin(&mut giver, 1, 0).unwrap();
    let two = begin(&mut giver, 2, 0).unwrap();
    assert_eq!(begin(&mut giver, 3, 0), None);
    // What is sold meanwhile is not in it.
    let before = giver.answer(1, SnapshotAsk::Parts { snapshot: one, table: table::TICKET, after: vec![] }, 1);
    till.sell(60_000, sale(&[(7, 1)]));
    let after = giver.answer(1, SnapshotAsk::Parts { snapshot: one, table: table::TICKET, after: vec![] }, 2);
    assert_eq!(before, after);
    assert!(!parts(&mut giver, 2, one, 3), "it is another link's");
    assert!(parts(&mut giver, 2, two, 3));
    giver.forget(2);
    assert!(!parts(&mut giver, 2, two, 4));
    assert!(begin(&mut giver, 3, 4).is_some());
    // Asked again and again, a snapshot lives for ten minutes; not asked, for half a minute.
    let (mut now, mut lived) = (4, 0);
    while parts(&mut giver, 1, one, now) {
        (lived, now) = (now, now + 20_000);
    }
    assert!((580_000..620_000).contains(&lived), "{lived}");
    assert!(!giver.is_giving());
    let one = begin(&mut giver, 1, now).unwrap();
    assert_eq!(giver.answer(1, SnapshotAsk::End { snapshot: one }, now), SnapshotAnswer::None);
    assert!(!giver.is_giving());
}

#[test]
fn a_damaged_row_is_not_given_and_is_written_again_when_it_is_taken() {
    for (table, damage) in [
        (table::TICKET, "UPDATE ticket SET body = zeroblob(60) WHERE id = x'000000000000000000000000000003ea'"),
        (table::TICKET, "UPDATE ticket SET hash = zeroblob(32) WHERE id = x'000000000000000000000000000003ea'"),
        (table::MOVEMENT, "UPDATE movement SET body = x'00' WHERE idx = 3"),
        (table::ENTITY, "UPDATE entity SET registers = x'ff' WHERE idx = 2"),
        (table::ENTITY, "UPDATE entity SET sum = zeroblob(16) WHERE idx = 2"),
    ] {
        let (mut whole, mut damaged) = (Till::new(1), Till::new(2));
        trade(&mut whole, 1);
        damaged.pull(&mut whole, 50);
        assert_equal(&mut whole, &mut damaged);
        assert_eq!(damaged.conn().execute(damage, []).unwrap(), 1, "{damage}");
        let mut giver = damaged.db().giver();
        let snapshot = match giver.answer(1, SnapshotAsk::Begin, 0) {
            SnapshotAnswer::Begun { snapshot, .. } => snapshot,
            other => panic!("{other:?}"),
        };
        let asked = giver.answer(1, SnapshotAsk::Parts { snapshot, table, after: vec![] }, 0);
        assert_eq!(asked, SnapshotAnswer::NotNow, "{damage}");
        let (fetched, _) = take(&mut damaged, &mut whole.db().giver(), 1, usize::MAX);
        assert_eq!(fetched.parts, 1, "{damage}");
        assert_equal(&mut whole, &mut damaged);
    }
}

/// Takes all that another till has: ops where they are there, else a snapshot.
fn catch_up(taker: &mut Till, giver: &mut Till, session: u64) {
    let theirs = giver.reader();
    let is_there = |(origin, head): (&Origin, &Head)| {
        let next = taker.head(*origin).seq + 1;
        next > head.seq || theirs.ops(*origin, next, 1, 1).unwrap().batch().is_some()
    };
    if theirs.vector().unwrap().0.iter().all(is_there) {
        taker.pull(giver, 20);
    } else {
        let (_, whole) = take(taker, &mut giver.db().giver(), session, usize::MAX);
        assert!(whole);
    }
}

/// Else a resumed snapshot of 10,000 products goes through all of them for each of them, and sales wait for it.
#[test]
fn an_uncovered_row_is_found_by_its_key() {
    let mut till = Till::new(1);
    let queries = ["ticket", "refund", "movement"].map(|table| (table, uncovered_records(table)));
    for (table, sql) in queries.into_iter().chain([("entity", UNCOVERED_ENTITY.to_owned())]) {
        let mut plan = till.conn().prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let places = plan.parameter_count();
        let steps = plan.query_map(rusqlite::params_from_iter(vec![1; places]), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        assert!(steps[0].starts_with(&format!("SEARCH {table} ")), "{steps:?}");
        assert!(steps[1].starts_with("SEARCH uncovered ") && steps[1].ends_with("(tbl=? AND ref=?)"), "{steps:?}");
    }
}

/// Rows of a snapshot come by id, and clocks jump: a ticket may come long after the one that it names, and not be near it in time either.
#[test]
fn a_chain_is_whole_once_the_rows_of_a_snapshot_have_a_log_though_the_giver_died() {
    let mut giver = Till::new(1);
    for (id, hours) in [(2, 1), (1, 3), (3, 2)] {
        giver.now_ms = NOON + hours * HOUR;
        giver.sell(id, sale(&[(7, 1)]));
    }
    let unchained = |till: &mut Till| digest(till).iter().filter(|row| row.starts_with("unchained")).count();
    for heir_takes_the_logs in [true, false] {
        let mut heir = Till::new(2);
        take(&mut heir, &mut giver.db().giver(), 1, ROWS_ALONE);
        assert_eq!(unchained(&mut heir), 1, "the story is about nothing");
        if heir_takes_the_logs {
            heir.pull(&mut giver, 20);
        } else {
            heir.ask(Request::Adopt { rows_max: 1 }).unwrap();
            assert_eq!(unchained(&mut heir), 1, "more rows may come");
            heir.ask(Request::Adopt { rows_max: 64 }).unwrap();
        }
        assert_eq!(unchained(&mut heir), 0);
        heir.restart();
        assert_eq!(unchained(&mut heir), 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn ops_and_snapshots_in_any_order_make_one_state(steps in prop::collection::vec((0usize..3, 0usize..3, 0usize..6), 1..12)) {
        let mut tills = [Till::new(1), Till::new(2), Till::new(3)];
        trade(&mut tills[0], 1);
        trade(&mut tills[1], 2);
        for (n, (to, from, parts)) in (0u128..).zip(steps) {
            tills[to].sell(70_000 + n, sale(&[(3, 1)]));
            tills[to].ask(put(n % 4, "Z", n as i64)).unwrap();
            let Ok([taker, giver]) = tills.get_disjoint_mut([to, from]) else { continue };
            if giver.reader().uncovered().unwrap() > 0 {
                giver.ask(Request::Adopt { rows_max: usize::MAX }).unwrap();
            }
            match parts {
                0 => catch_up(taker, giver, n as u64 + 1),
                1 => drop(take(taker, &mut giver.db().giver(), n as u64 + 1, usize::MAX)),
                _ => drop(take(taker, &mut giver.db().giver(), n as u64 + 1, parts)),
            }
        }
        for till in &mut tills {
            till.ask(Request::Adopt { rows_max: usize::MAX }).unwrap();
        }
        let [a, b, c] = &mut tills;
        for session in 100..103 {
            catch_up(a, b, session);
            catch_up(b, c, session);
            catch_up(c, a, session);
        }
        assert_equal(a, b);
        assert_equal(b, c);
    }
}
