//! What the state adds up to.

use proptest::prelude::*;

use super::super::{Change, digest as sums};
use super::*;
use crate::model::register::{EntityKind, Value};
use crate::sync::{STOCK_SUM, table};

fn edit(id: u128, price: i64) -> Request {
    let fields = [
        ("sku".to_owned(), Value::Text(format!("S{id}"))),
        ("name".to_owned(), Value::Text("Café".to_owned())),
        ("price".to_owned(), Value::Int(price)),
    ];
    Request::Edit { kind: EntityKind::Product, id: uuid(id), change: Change::Put(fields.into()) }
}

/// Something that a till does, by number.
fn step(till: &mut Till, n: u128, what: u8) {
    let id = n % 4;
    let request = match what {
        0 => Request::Sell { id: uuid(1_000 + n), sale: sale(&[(id, 1), (id + 1, 2)]) },
        1 => edit(id, n as i64),
        2 => Request::Edit { kind: EntityKind::Product, id: uuid(id), change: Change::Delete },
        3 => moved(2_000 + n, id, MovementKind::Count, n as i64),
        4 => goods_in(3_000 + n, id, 7),
        5 => Request::Cancel { id: None, ticket: uuid(1_000 + n / 2), reason: None },
        _ => Request::Retire { till: TillId([n as u8; 16]) },
    };
    // Some of it is refused: what is not there cannot be deleted.
    drop(till.ask(request));
}

fn assert_kept(till: &mut Till) {
    let reader = till.reader();
    assert_eq!(reader.digest().unwrap(), Some(reader.recomputed_digest().unwrap()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn sums_are_kept_up_and_the_same_on_every_till(steps in prop::collection::vec((0usize..2, 0u8..8), 1..60)) {
        let mut tills = [Till::new(1), Till::new(2)];
        for (n, (at, what)) in (0u128..).zip(steps) {
            let [a, b] = &mut tills;
            match (what, at) {
                (7, 0) => a.pull(b, 3),
                (7, _) => b.pull(a, 3),
                _ => step(&mut tills[at], n, what),
            }
            assert_kept(&mut tills[at]);
        }
        let [mut a, mut b] = tills;
        a.pull(&mut b, 5);
        b.pull(&mut a, 5);
        assert_kept(&mut a);
        prop_assert_eq!(a.reader().digest().unwrap(), b.reader().digest().unwrap());
    }
}

#[test]
fn a_sum_of_many_records_goes_on_in_steps() {
    let mut till = Till::new(1);
    let sales = (0..600u128).map(|n| Request::Sell { id: uuid(n), sale: sale(&[(7, 1)]) }).collect();
    assert!(till.execute(sales).replies.iter().all(Result::is_ok));
    assert_kept(&mut till);
    let upto: i64 = till.conn().query_row("SELECT upto FROM digest WHERE tbl = 1", [], |row| row.get(0)).unwrap();
    assert_eq!(upto, 512);
    // As after a migration.
    let kept = till.reader().digest().unwrap();
    till.conn().execute_batch("DELETE FROM digest; UPDATE entity SET sum = zeroblob(16)").unwrap();
    sums::renew(till.conn()).unwrap();
    assert_eq!(till.reader().digest().unwrap(), kept);
}

#[test]
fn every_part_of_the_state_counts() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    till.ask(edit(7, 1)).unwrap();
    till.ask(edit(7, 2)).unwrap();
    till.ask(Request::Retire { till: TillId([9; 16]) }).unwrap();
    let kept = till.reader().digest().unwrap().unwrap();
    for (number, sql) in [
        (table::TICKET, "UPDATE ticket SET hash = zeroblob(32)"),
        (table::ROSTER, "UPDATE roster SET retired_ms = 1"),
        (STOCK_SUM, "UPDATE stock SET total = total + 1"),
    ] {
        till.conn().execute_batch(sql).unwrap();
        let other = till.reader().digest().unwrap().unwrap();
        let differ: Vec<u16> = kept.sums.iter().zip(&other.sums).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        assert!(differ.contains(&number), "{number}: {differ:?}");
    }
    let recomputed = |till: &mut Till| till.reader().recomputed_digest().unwrap();
    let before = recomputed(&mut till);
    till.conn().execute_batch("UPDATE entity SET registers = x'00'; DELETE FROM replaced").unwrap();
    let after = recomputed(&mut till);
    let sum = |digest: &crate::sync::StateDigest, number| digest.sums.iter().find(|(n, _)| *n == number).unwrap().1;
    for number in [table::ENTITY, table::REPLACED] {
        assert_ne!(sum(&before, number), 0);
        assert_eq!(sum(&after, number), 0);
    }
}
