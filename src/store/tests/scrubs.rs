//! Rows that a card has damaged are found, and mended or had again.

use super::super::{Change, Damage, OpsRead, ScrubPlace};
use super::*;
use crate::model::op::{RunningHash, Seq};
use crate::model::register::{EntityKind, Value};
use crate::sync::table;

/// A whole pass, a few rows at a time.
fn scrub(till: &mut Till) -> Vec<Damage> {
    let reader = till.reader();
    let (mut place, mut damaged, mut steps) = (Some(ScrubPlace::default()), Vec::new(), 0);
    while let Some(at) = place {
        let step = reader.scrub(at, 7).unwrap();
        damaged.extend(step.damaged);
        (place, steps) = (step.next, steps + 1);
        assert!(steps < 500, "no end of the pass");
    }
    damaged
}

fn put(id: u128, price: i64) -> Request {
    let text = |text: &str| Value::Text(text.to_owned());
    let fields = [("sku", text("S")), ("name", text("Café")), ("price", Value::Int(price))];
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    Request::Edit { kind: EntityKind::Product, id: uuid(id), change: Change::Put(fields.into()) }
}

/// Two tills with the same; sales at odd places of the log, edits at even ones.
fn two_tills() -> [Till; 2] {
    let (mut a, mut b) = (Till::new(1), Till::new(2));
    for n in 0..20u128 {
        a.sell(100 + n, sale(&[(7, 1)]));
        a.ask(put(n % 3, n as i64)).unwrap();
    }
    b.sell(900, sale(&[(7, 1)]));
    b.pull(&mut a, 50);
    [a, b]
}

fn damage(till: &mut Till, sql: &str) {
    assert_eq!(till.conn().execute(sql, []).unwrap(), 1, "{sql}");
}

fn hash_at(till: &mut Till, origin: Origin, seq: Seq) -> RunningHash {
    till.reader().hashes(origin, seq, 1).unwrap()[0]
}

#[test]
fn a_sound_database_has_nothing_to_mend() {
    let [mut a, mut b] = two_tills();
    assert_eq!((scrub(&mut a), scrub(&mut b)), (vec![], vec![]));
    let origin = a.origin();
    let before = a.ops(origin, 1);
    a.ask(Request::Mend { origin, seq: 4 }).unwrap();
    a.ask(Request::Mend { origin, seq: 4_000 }).unwrap();
    a.ask(Request::Mend { origin: Origin(4), seq: 1 }).unwrap();
    assert_eq!(a.ops(origin, 1), before);
}

#[test]
fn damaged_records_and_entities_are_found() {
    let [_, mut b] = two_tills();
    damage(&mut b, "UPDATE ticket SET body = x'01' || substr(body, 2) WHERE idx = 9");
    damage(&mut b, "UPDATE entity SET registers = substr(registers, 2) WHERE idx = 2");
    let id = |till: &mut Till, sql: &str| Uuid::from_bytes(till.conn().query_row(sql, [], |row| row.get(0)).unwrap());
    let ticket = id(&mut b, "SELECT id FROM ticket WHERE idx = 9");
    let entity = id(&mut b, "SELECT id FROM entity WHERE idx = 2");
    let found =
        [Damage::Record { table: table::TICKET, id: ticket }, Damage::Entity { kind: EntityKind::Product, id: entity }];
    assert_eq!(scrub(&mut b), found, "the op that refers to the ticket is mended with it");
}

#[test]
fn damaged_stock_is_found_and_counted_again() {
    let product = uuid(7);
    for sql in [
        "UPDATE stock SET total = total + 1",
        "UPDATE stock SET total = x'00'",
        "UPDATE ledger SET delta = delta - 5000 WHERE n = 3",
        "UPDATE ledger SET delta = x'00' WHERE n = 3",
    ] {
        let [mut a, mut b] = two_tills();
        let lines = vec![(0, Quantity::units(1))];
        a.ask(Request::Refund { id: uuid(800), ticket: uuid(103), lines, reason: None }).unwrap();
        b.pull(&mut a, 50);
        a.pull(&mut b, 50);
        let right = b.reader().stock(product).unwrap();
        damage(&mut b, sql);
        assert_eq!(scrub(&mut b), [Damage::Stock { product }], "{sql}");
        b.ask(Request::Recount { product }).unwrap();
        assert_eq!(scrub(&mut b), []);
        assert_eq!(b.reader().stock(product).unwrap(), right, "{sql}");
        assert_eq!(digest(&mut b), digest(&mut a));
        b.sell(950, sale(&[(7, 1)]));
        assert_eq!(b.reader().stock(product).unwrap().0, right.0 - 1000);
    }
}

#[test]
fn an_entity_that_is_written_again_while_damaged_is_what_the_ops_say() {
    let [mut a, mut b] = two_tills();
    damage(&mut b, "UPDATE entity SET registers = x'ffff' WHERE idx = 2");
    a.ask(put(1, 99)).unwrap();
    b.pull(&mut a, 50);
    a.pull(&mut b, 50);
    assert_eq!(scrub(&mut b), []);
    assert_eq!(digest(&mut b), digest(&mut a));
    assert_eq!(b.reader().digest().unwrap(), a.reader().digest().unwrap());
}

#[test]
fn a_damaged_hash_is_written_again() {
    for seq in [1, 10, 11, 40] {
        let [mut a, mut b] = two_tills();
        let origin = a.origin();
        damage(&mut b, &format!("UPDATE op SET hash = zeroblob(8) WHERE seq = {seq} AND origin_idx = 2"));
        let found = scrub(&mut b);
        assert_eq!(found.first(), Some(&Damage::Op { origin, seq }), "{found:?}");
        for damage in found {
            let Damage::Op { origin, seq } = damage else { panic!("{damage:?}") };
            b.ask(Request::Mend { origin, seq }).unwrap();
        }
        assert_eq!(scrub(&mut b), []);
        assert_eq!(b.ops(origin, 1), a.ops(origin, 1));
    }
}

#[test]
fn a_damaged_op_is_not_sent_and_its_log_goes_on_above_it() {
    for seq in [2, 20, 40] {
        let [mut a, mut b] = two_tills();
        let (origin, right) = (a.origin(), a.reader().hashes(a.origin(), 1, 100).unwrap());
        damage(&mut b, &format!("UPDATE op SET body = x'00' WHERE seq = {seq} AND origin_idx = 2"));
        assert_eq!(scrub(&mut b), [Damage::Op { origin, seq }]);
        let before = b.ops(origin, 1).map_or(0, |batch| batch.ops.len() as u64);
        assert_eq!(before, seq - 1, "up to it they are sent");
        assert!(matches!(b.reader().ops(origin, seq, 1, 1), Err(StoreError::Damaged(_))));
        b.ask(Request::Mend { origin, seq }).unwrap();
        assert_eq!(scrub(&mut b), []);
        assert_eq!(b.reader().ops(origin, 1, 1, 1).unwrap(), OpsRead::Compacted(seq));
        assert_eq!(b.reader().hashes(origin, 1, 100).unwrap(), right);
        assert_eq!(b.ops(origin, seq + 1), a.ops(origin, seq + 1));
        assert_eq!(hash_at(&mut b, origin, seq), hash_at(&mut a, origin, seq));
        a.sell(500, sale(&[(7, 1)]));
        b.pull(&mut a, 5);
        a.pull(&mut b, 5);
        assert_eq!(digest(&mut b), digest(&mut a));
    }
}

#[test]
fn what_a_till_writes_itself_goes_on_after_its_last_op_was_damaged() {
    let mut till = Till::new(1);
    till.ask(put(1, 1)).unwrap();
    till.ask(put(1, 2)).unwrap();
    let origin = till.origin();
    damage(&mut till, "UPDATE op SET body = x'00', hash = x'0000000000000000' WHERE seq = 2");
    till.ask(Request::Mend { origin, seq: 2 }).unwrap();
    let head = till.head(origin);
    assert_eq!(hash_at(&mut till, origin, 2), head.hash);
    till.ask(put(1, 3)).unwrap();
    assert_eq!(scrub(&mut till), []);
    assert_eq!(till.ops(origin, 3).unwrap().before, head);
}
