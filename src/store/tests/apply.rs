//! Ops of other tills: any order of arrival, one state.

use proptest::prelude::*;

use super::super::{Change, OpsRead};
use super::*;
use crate::model::clock::{AHEAD_MS_MAX, Hlc};
use crate::model::movement::Movement;
use crate::model::op::{Body, Op, RunningHash, canonical, content_hash};
use crate::model::register::{EntityKind, Value};
use crate::model::ticket::{Made, Refund, RefundLine, Ticket};

fn made(n: u8) -> Made {
    Made { till: TillId([n; 16]), pos_id: format!("POS-{n}"), at_ms: NOON, clock: ClockQuality::Trusted }
}

fn ticket(id: u128, n: u8, units: i64) -> Ticket {
    let number = format!("POS-{n}-{units}");
    Ticket { id: uuid(id), number, made: made(n), currency: *b"TND", sale: sale(&[(7, units)]), previous: [0; 32] }
}

fn batch(origin: u64, bodies: &[Body]) -> OpBatch {
    let ops = bodies.iter().zip(1u64..).map(|(body, n)| body.to_op(Hlc::from_ms(NOON + n))).collect();
    OpBatch { origin: Origin(origin), before: Head::default(), ops }
}

fn apply(till: &mut Till, batch: OpBatch) -> Reply {
    till.ask(Request::Apply(batch)).unwrap()
}

/// A product of that id, code and price.
fn put(id: u128, sku: &str, price: i64) -> Request {
    let fields = [
        ("sku".to_owned(), Value::Text(sku.to_owned())),
        ("name".to_owned(), Value::Text(format!("Produit {sku}"))),
        ("price".to_owned(), Value::Int(price)),
    ];
    Request::Edit { kind: EntityKind::Product, id: uuid(id), change: Change::Put(fields.into()) }
}

/// Two tills that trade for a while.
fn two_tills() -> [Till; 2] {
    let mut tills = [Till::new(1), Till::new(2)];
    for n in 0..6u128 {
        for (i, till) in (1u128..).zip(&mut tills) {
            till.sell(100 * i + n, sale(&[(7, 1), (8 + n, 2)]));
            till.ask(goods_in(1_000 * i + n, 7, 3)).unwrap();
            till.ask(moved(2_000 * i + n, 7, MovementKind::Count, 5)).unwrap();
        }
        // Some edits know of the other till's, some do not; deletions among them.
        for (i, till) in (1i64..).zip(&mut tills) {
            till.ask(put(7, "A", 1_000 * i + n as i64)).unwrap();
            till.ask(put(20 + 100 * i as u128 + n, "B", 500)).unwrap();
            if n == 4 {
                till.ask(Request::Edit { kind: EntityKind::Product, id: uuid(7), change: Change::Delete }).unwrap();
            }
            let admit = Request::Admit {
                till: TillId::of_public_key(&[i as u8; 32]),
                public_key: [i as u8; 32],
                pos_id: format!("POS-{i}"),
                pos_name: format!("Caisse {}", n / 3),
            };
            till.ask(admit).unwrap();
        }
        if n == 3 {
            let [a, b] = &mut tills;
            a.pull(b, 3);
        }
    }
    let cancel = |ticket| Request::Cancel { id: None, ticket: uuid(ticket), reason: None };
    tills[0].ask(cancel(101)).unwrap();
    tills[0].ask(cancel(201)).unwrap();
    tills[1].ask(cancel(201)).unwrap();
    tills[1].ask(Request::Retire { till: TillId([9; 16]) }).unwrap();
    tills
}

#[test]
fn what_one_till_wrote_another_has_after_pulling() {
    let [mut a, mut b] = two_tills();
    let mut c = Till::new(3);
    c.pull(&mut a, 4);
    c.pull(&mut b, 2);
    a.pull(&mut b, 100);
    b.pull(&mut c, 1);
    let vector = a.reader().vector().unwrap();
    for till in [&mut b, &mut c] {
        assert_eq!(till.reader().vector().unwrap(), vector);
        assert_eq!(digest(till), digest(&mut a));
        for (origin, head) in &vector.0 {
            assert_eq!(till.ops(*origin, 1), a.ops(*origin, 1));
            assert_eq!(till.ops(*origin, 1).unwrap().after(), *head);
        }
    }
    c.restart();
    assert_eq!(digest(&mut c), digest(&mut a));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_order_of_arrival_does_not_matter(steps in prop::collection::vec((0usize..2, 1usize..5), 60)) {
        let mut tills = two_tills();
        let mut c = Till::new(3);
        for (from, ops_max) in steps {
            let theirs = tills[from].reader();
            for (origin, head) in theirs.vector().unwrap().0 {
                let next = c.head(origin).seq + 1;
                if next <= head.seq {
                    apply(&mut c, theirs.ops(origin, next, ops_max, usize::MAX).unwrap().batch().unwrap());
                }
            }
        }
        let [mut a, mut b] = tills;
        c.pull(&mut a, 50);
        c.pull(&mut b, 50);
        a.pull(&mut b, 50);
        prop_assert_eq!(digest(&mut c), digest(&mut a));
        prop_assert_eq!(c.reader().vector().unwrap(), a.reader().vector().unwrap());
    }
}

#[test]
fn what_changes_nothing_is_no_op() {
    let mut till = Till::new(1);
    let admit = |name: &str| Request::Admit {
        till: TillId::of_public_key(&[2; 32]),
        public_key: [2; 32],
        pos_id: "POS-2".into(),
        pos_name: name.into(),
    };
    let requests = [put(7, "A", 5), admit("Bar"), admit("Terrasse"), Request::Retire { till: TillId([3; 16]) }];
    for request in requests {
        let first = till.execute(vec![request.clone()]);
        assert_eq!(first.committed.local.map(|batch| batch.ops.len()), Some(1), "{request:?}");
        assert_eq!(first.committed.roster, !matches!(request, Request::Edit { .. }));
        let again = till.execute(vec![request.clone()]);
        assert!(again.replies[0].is_ok() && again.committed.local.is_none(), "{request:?}");
    }
    assert_eq!(till.ask(put(7, "A", 6)).map(|_| ()), Ok(()));
    let of_another_key =
        Request::Admit { till: TillId([2; 16]), public_key: [2; 32], pos_id: "POS-2".into(), pos_name: "Bar".into() };
    assert!(matches!(till.ask(of_another_key), Err(StoreError::Rejected(_))));
    let missing = Request::Edit { kind: EntityKind::Product, id: uuid(8), change: Change::Delete };
    assert!(matches!(till.ask(missing), Err(StoreError::NotFound(_))));
}

#[test]
fn what_does_not_continue_a_log_is_not_stored() {
    let mut till = Till::new(1);
    let whole =
        batch(9, &[Body::Ticket(ticket(1, 2, 1)), Body::Ticket(ticket(2, 2, 1)), Body::Ticket(ticket(3, 2, 1))]);
    let part = |from: usize, to: usize| OpBatch {
        before: Head::default().after_all(&whole.ops[..from]),
        ops: whole.ops[from..to].to_vec(),
        ..whole
    };
    let nothing = Reply::NotContinuing { origin: whole.origin, head: Head::default() };
    assert_eq!(apply(&mut till, part(1, 2)), nothing, "a gap at the beginning");
    assert!(matches!(apply(&mut till, part(0, 1)), Reply::Applied { held: 0, .. }));
    let here = Reply::NotContinuing { origin: whole.origin, head: part(0, 1).after() };
    let before = digest(&mut till);
    assert_eq!(apply(&mut till, part(0, 1)), here, "known already");
    assert_eq!(apply(&mut till, part(2, 3)), here, "a gap");
    let mut other_branch = part(1, 3);
    other_branch.before.hash = RunningHash([1; 8]);
    assert_eq!(apply(&mut till, other_branch), here, "another branch");
    assert_eq!(digest(&mut till), before);
    assert!(matches!(apply(&mut till, part(1, 3)), Reply::Applied { .. }));
    assert_eq!(till.ops(whole.origin, 1).unwrap(), whole);
}

#[test]
fn reads_of_the_log_keep_their_limits() {
    let mut till = Till::new(1);
    (1..=5).for_each(|id| drop(till.sell(id, sale(&[(7, 1)]))));
    let origin = till.origin();
    let reader = till.reader();
    let len = reader.ops(origin, 2, 1, usize::MAX).unwrap().batch().unwrap().ops[0].wire_len();
    assert_eq!(reader.ops(origin, 2, 3, usize::MAX).unwrap().batch().unwrap().ops.len(), 3);
    assert_eq!(reader.ops(origin, 2, 9, 2 * len).unwrap().batch().unwrap().ops.len(), 2);
    assert_eq!(reader.ops(origin, 2, 9, 0).unwrap().batch().unwrap().ops.len(), 1);
    assert_eq!(reader.ops(origin, 5, 9, usize::MAX).unwrap().batch().unwrap().before.seq, 4);
    assert_eq!(reader.ops(origin, 6, 9, usize::MAX).unwrap(), OpsRead::Nothing);
    assert_eq!(reader.ops(Origin(5), 1, 9, usize::MAX).unwrap(), OpsRead::Nothing);
}

#[test]
fn what_is_not_understood_is_held_and_passed_on() {
    let mut till = Till::new(1);
    let known = Body::Ticket(ticket(1, 2, 1)).to_op(Hlc::from_ms(NOON));
    let ops = vec![
        Op { hlc: Hlc::from_ms(NOON), kind: 999, schema: 3, body: b"of a later version".to_vec() },
        Op { hlc: Hlc::from_ms(NOON), kind: 1, schema: 1, body: b"not a ticket".to_vec() },
        Op { hlc: Hlc::from_ms(NOON), kind: 1, schema: 1, body: vec![0; 300 * 1024] },
        known,
    ];
    let sent = OpBatch { origin: Origin(9), before: Head::default(), ops };
    let executed = till.execute(vec![Request::Apply(sent.clone())]);
    assert_eq!(executed.replies[0], Ok(Reply::Applied { origin: Origin(9), head: sent.after(), held: 3 }));
    assert_eq!(executed.committed.held, 3);
    assert_eq!(till.stock(7), Quantity::units(-1));
    till.restart();
    assert_eq!(till.ops(Origin(9), 1).unwrap(), sent);
    let mut third = Till::new(3);
    third.pull(&mut till, 10);
    assert_eq!(digest(&mut third), digest(&mut till));
}

#[test]
fn numbers_that_would_overflow_are_held() {
    let mut till = Till::new(1);
    let mut bad = ticket(1, 2, 1);
    bad.sale.lines[0].quantity = Quantity(i64::MIN);
    let movement = Movement {
        id: uuid(2),
        product: uuid(7),
        kind: MovementKind::Adjustment,
        quantity: Quantity(1),
        delta: Quantity(i64::MAX),
        replaces: vec![],
        reference: None,
        made: made(2),
    };
    let mut late = ticket(3, 2, 1);
    late.made.at_ms = u64::MAX;
    let reply = apply(&mut till, batch(9, &[Body::Ticket(bad), Body::Movement(movement), Body::Ticket(late)]));
    assert!(matches!(reply, Reply::Applied { held: 3, .. }), "{reply:?}");
    assert_eq!(till.stock(7), Quantity(0));
}

#[test]
fn what_a_later_version_understands_is_applied_when_it_opens() {
    let mut till = Till::new(1);
    let sent = batch(9, &[Body::Ticket(ticket(1, 2, 4))]);
    // As if this version had not known tickets: the op is there, held, and nothing of it in the state.
    let mut unknown = sent.clone();
    unknown.ops[0].kind = 999;
    apply(&mut till, unknown.clone());
    till.conn().execute_batch("UPDATE held SET kind = 1").unwrap();
    till.restart();
    assert_eq!(till.stock(7), Quantity::units(-4));
    assert_eq!(till.ops(Origin(9), 1).unwrap(), unknown, "the log is as it came");
    assert!(digest(&mut till).iter().all(|row| !row.contains("held")));
}

#[test]
fn of_two_contents_under_one_id_the_smaller_hash_counts_whatever_comes_first() {
    let contents = [ticket(1, 2, 1), ticket(1, 3, 5)];
    let smaller = contents.iter().min_by_key(|t| t.hash()).unwrap();
    let mut digests = Vec::new();
    for order in [[0, 1], [1, 0]] {
        let mut till = Till::new(1);
        for i in order {
            apply(&mut till, batch(10 + i as u64, &[Body::Ticket(contents[i].clone())]));
        }
        assert_eq!(till.stock(7), -smaller.sale.lines[0].quantity);
        assert_eq!(&till.reader().ticket(uuid(1)).unwrap().unwrap().ticket, smaller);
        assert!(digest(&mut till).iter().any(|row| row.contains("flag")), "a person is told");
        let same = till.ask(Request::Sell { id: uuid(1), sale: contents[0].sale.clone() });
        assert!(matches!(same, Ok(Reply::Ticket { created: false, .. })), "both contents are known");
        digests.push(digest(&mut till));
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn two_tills_that_cancel_one_ticket_at_once_agree() {
    let mut a = Till::new(1);
    let mut b = Till::new(2);
    a.sell(1, sale(&[(7, 2)]));
    b.pull(&mut a, 10);
    for till in [&mut a, &mut b] {
        till.ask(Request::Cancel { id: None, ticket: uuid(1), reason: None }).unwrap();
    }
    a.pull(&mut b, 10);
    b.pull(&mut a, 10);
    assert_eq!((a.stock(7), digest(&mut a)), (Quantity(0), digest(&mut b)));
    assert!(digest(&mut a).iter().all(|row| !row.contains("flag")), "there is nothing to choose");
}

#[test]
fn a_refund_may_come_before_its_ticket() {
    let sold = ticket(1, 2, 2);
    let line = RefundLine { line: 0, quantity: Quantity::units(3), product: Some(uuid(7)), amount: Money(4_500) };
    let refund = Refund { id: uuid(2), ticket: uuid(1), made: made(3), cancel: false, reason: None, lines: vec![line] };
    let mut till = Till::new(1);
    apply(&mut till, batch(11, &[Body::Refund(refund)]));
    assert_eq!(till.stock(7), Quantity::units(3));
    assert_eq!(till.reader().ticket(uuid(1)).unwrap(), None);
    assert!(digest(&mut till).iter().all(|row| !row.contains("flag")));
    apply(&mut till, batch(10, &[Body::Ticket(sold)]));
    let view = till.reader().ticket(uuid(1)).unwrap().unwrap();
    assert_eq!((view.refunds.len(), till.stock(7)), (1, Quantity::units(1)));
    assert!(digest(&mut till).iter().any(|row| row.contains("flag")), "more was refunded than sold");
}

#[test]
fn a_missing_predecessor_is_marked_until_it_comes() {
    let first = ticket(1, 2, 1);
    let mut second = ticket(2, 2, 1);
    second.previous = content_hash(&canonical(&first));
    let mut till = Till::new(1);
    // The till went on under a fresh origin: its logs come in any order.
    apply(&mut till, batch(11, &[Body::Ticket(second.clone())]));
    assert!(digest(&mut till).iter().any(|row| row.contains("unchained")));
    till.restart();
    apply(&mut till, batch(10, &[Body::Ticket(first.clone())]));
    let after = digest(&mut till);
    assert!(after.iter().all(|row| !row.contains("unchained")));
    let mut other = Till::new(3);
    apply(&mut other, batch(10, &[Body::Ticket(first)]));
    apply(&mut other, batch(11, &[Body::Ticket(second)]));
    assert_eq!(digest(&mut other), after);
}

#[test]
fn a_clock_too_far_ahead_is_told_and_does_not_advance_ours() {
    let mut till = Till::new(1);
    let mut ahead = batch(9, &[Body::Ticket(ticket(1, 2, 1))]);
    ahead.ops[0].hlc = Hlc::from_ms(NOON + AHEAD_MS_MAX + HOUR);
    let executed = till.execute(vec![Request::Apply(ahead)]);
    let [told] = executed.committed.ahead[..] else { panic!("{executed:?}") };
    assert_eq!((told.origin, told.till, told.at_ms), (Origin(9), Some(TillId([2; 16])), NOON + AHEAD_MS_MAX + HOUR));
    for id in [5, 6] {
        till.sell(id, sale(&[(7, 1)]));
        let own = till.origin();
        let last = till.ops(own, 1).unwrap().ops.pop().unwrap();
        assert!(last.hlc < Hlc::from_ms(NOON + AHEAD_MS_MAX));
        till.restart();
    }
}

#[test]
fn ops_of_ours_that_we_have_lost_make_us_write_under_a_fresh_origin() {
    let mut till = Till::new(1);
    let mut peer = Till::new(2);
    till.sell(1, sale(&[(7, 1)]));
    let copy = copy_of(&till, "before");
    crate::store::backup(&till.options.path, &copy).unwrap();
    till.sell(2, sale(&[(7, 1)]));
    peer.pull(&mut till, 10);
    // A card that lies about what it has written, and a power cut.
    till.db = None;
    std::fs::rename(&copy, &till.options.path).unwrap();
    till.open();
    let origin = till.origin();
    let lost = peer.ops(origin, till.head(origin).seq + 1).unwrap();
    let executed = till.execute(vec![Request::Apply(lost)]);
    let fresh = till.origin();
    assert_eq!(executed.committed.origin, Some(fresh));
    assert_ne!(fresh, origin);
    till.sell(3, sale(&[(7, 1)]));
    peer.pull(&mut till, 10);
    assert_eq!((digest(&mut peer), peer.stock(7)), (digest(&mut till), Quantity::units(-3)));
}
