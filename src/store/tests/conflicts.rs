//! Conflicts: each sort is seen on all tills whatever came first, and is gone on all once settled.

use super::catalogue::{edit, product};
use super::*;
use crate::model::clock::Hlc;
use crate::model::op::Body;
use crate::model::register::{ALIVE, EntityKind, Value};
use crate::model::ticket::{Made, Ticket};
use crate::store::{Change, Code, ConflictId, ConflictView, RecordKind, Says, Settle};

fn resolve(conflict: &ConflictId, value: Value) -> Request {
    Request::Resolve { conflict: conflict.clone(), value }
}

fn price(id: u128, price: i64) -> Request {
    edit(id, Change::Patch([("price".to_owned(), Value::Int(price))].into()))
}

fn sync(tills: &mut [Till]) {
    // The later hears of the earlier first, then the other way round: both orders of arrival.
    for (to, from) in [(1, 0), (0, 1)] {
        let [to, from] = tills.get_disjoint_mut([to, from]).unwrap();
        to.pull(from, 1);
    }
}

/// Two tills that have `before` in common, then each does its own, then they meet.
fn apart(before: Vec<Request>, alone: [Vec<Request>; 2]) -> [Till; 2] {
    let mut tills = [Till::new(1), Till::new(2)];
    let ask = |till: &mut Till, requests| till.execute(requests).replies.into_iter().for_each(|r| drop(r.unwrap()));
    ask(&mut tills[0], before);
    sync(&mut tills);
    for (till, requests) in tills.iter_mut().zip(alone) {
        ask(till, requests);
    }
    sync(&mut tills);
    assert_eq!(digest(&mut tills[0]), digest(&mut tills[1]));
    tills
}

/// The one conflict, the same on both tills.
fn only(tills: &mut [Till; 2]) -> ConflictView {
    let [a, b] = tills.each_mut().map(|till| {
        let reader = till.reader();
        let mut conflicts = reader.conflicts(10).unwrap();
        assert_eq!(reader.counts().unwrap().conflicts, conflicts.len() as u64);
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        let conflict = conflicts.remove(0);
        assert_eq!(reader.conflict(&conflict.id).unwrap().as_ref(), Some(&conflict));
        conflict
    });
    assert_eq!(a.id, b.id);
    assert_eq!(a.settle, b.settle);
    a
}

/// Settles on the second till; then it is gone on both.
fn settle(tills: &mut [Till; 2], conflict: &ConflictId, requests: Vec<Request>) {
    tills[1].execute(requests).replies.into_iter().for_each(|reply| drop(reply.unwrap()));
    sync(tills);
    for till in tills {
        let reader = till.reader();
        assert_eq!(reader.conflicts(10).unwrap(), []);
        assert_eq!(reader.conflict(conflict).unwrap(), None);
        assert_eq!(reader.counts().unwrap().conflicts, 0);
    }
}

#[test]
fn a_field_with_two_values() {
    let put = edit(1, Change::Put(product("A", "Thé")));
    let mut tills = apart(vec![put], [vec![price(1, 10)], vec![price(1, 20)]]);
    let conflict = only(&mut tills);
    assert_eq!(conflict.id, ConflictId::Field(EntityKind::Product, uuid(1), "price".into()));
    assert_eq!(conflict.settle, Settle::Choose);
    let sides: Vec<_> = conflict.sides.iter().map(|side| (side.pos_id.as_str(), side.says.clone())).collect();
    let says = |n| Says::Value(Value::Int(n));
    assert_eq!(sides.len(), 2);
    assert!(sides.contains(&("POS-1", says(10))) && sides.contains(&("POS-2", says(20))));
    let shown = tills[0].reader().entity(EntityKind::Product, uuid(1)).unwrap().unwrap();
    assert_eq!(conflict.sides[0].says, Says::Value(shown.registers.value("price").clone()), "the shown one is first");

    let refused = tills[0].ask(resolve(&conflict.id, Value::Text("20".into())));
    assert!(matches!(refused, Err(StoreError::Rejected(r)) if r.path == "value"));
    settle(&mut tills, &conflict.id, vec![resolve(&conflict.id, Value::Int(15))]);
    assert_eq!(tills[0].ask(resolve(&conflict.id, Value::Int(15))), Ok(Reply::Done), "a retry is safe");
    assert_eq!(tills[0].ask(resolve(&conflict.id, Value::Int(16))), Err(StoreError::NotFound("conflict")));
}

#[test]
fn two_tills_that_agree_are_no_conflict() {
    let put = edit(1, Change::Put(product("A", "Thé")));
    let mut tills = apart(vec![put], [vec![price(1, 10)], vec![price(1, 10)]]);
    for till in &mut tills {
        assert_eq!(till.reader().conflicts(10).unwrap(), []);
    }
}

#[test]
fn a_deletion_beside_an_edit() {
    for alive in [true, false] {
        let put = edit(1, Change::Put(product("A", "Thé")));
        let mut tills = apart(vec![put], [vec![edit(1, Change::Delete)], vec![price(1, 20)]]);
        let conflict = only(&mut tills);
        assert_eq!(conflict.id, ConflictId::Field(EntityKind::Product, uuid(1), ALIVE.into()));
        settle(&mut tills, &conflict.id, vec![resolve(&conflict.id, Value::Bool(alive))]);
        let view = tills[0].reader().entity(EntityKind::Product, uuid(1)).unwrap().unwrap();
        assert_eq!(view.alive, alive);
    }
}

#[test]
fn fields_of_what_is_deleted_are_no_conflict() {
    let put = edit(1, Change::Put(product("A", "Thé")));
    let mut tills = apart(vec![put], [vec![price(1, 10)], vec![price(1, 20)]]);
    let conflict = only(&mut tills);
    settle(&mut tills, &conflict.id, vec![edit(1, Change::Delete)]);
}

#[test]
fn two_products_with_one_code() {
    let with_barcode = |sku: &str| {
        let mut fields = product(sku, "Thé");
        fields.insert("barcode".into(), Value::Text("619".into()));
        Change::Put(fields)
    };
    let mut tills = apart(vec![], [vec![edit(1, with_barcode("A"))], vec![edit(2, with_barcode("B"))]]);
    let conflict = only(&mut tills);
    assert_eq!(conflict.id, ConflictId::Duplicate(Code::Barcode, "619".into()));
    assert_eq!(conflict.settle, Settle::Edit);
    assert_eq!(
        conflict.sides.iter().map(|side| &side.says).collect::<Vec<_>>(),
        [&Says::Product(uuid(1)), &Says::Product(uuid(2))]
    );
    assert!(matches!(tills[0].ask(resolve(&conflict.id, Value::Null)), Err(StoreError::Rejected(_))));
    settle(&mut tills, &conflict.id, vec![edit(1, Change::Put(product("A", "Thé")))]);

    let put = |id, sku| edit(id, Change::Put(product(sku, "Thé")));
    let mut tills = apart(vec![put(1, "x/1")], [vec![put(2, "x/1"), put(3, "y")], vec![put(3, "z")]]);
    // Product 3 has got two skus besides.
    let conflicts = tills[0].reader().conflicts(10).unwrap();
    assert_eq!(conflicts.len(), 2);
    assert_eq!(tills[0].reader().counts().unwrap().conflicts, 2);
    let duplicate = ConflictId::Duplicate(Code::Sku, "x/1".into());
    assert_eq!(conflicts[1].id, duplicate);
    settle(&mut tills, &duplicate, vec![edit(2, Change::Delete), put(3, "y")]);
}

#[test]
fn refunded_twice_and_a_third_time() {
    let sell = Request::Sell { id: uuid(1), sale: sale(&[(7, 2)]) };
    let refund = |id, units| {
        let lines = vec![(0, Quantity::units(units))];
        Request::Refund { id: uuid(id), ticket: uuid(1), lines, reason: None }
    };
    let mut third = Till::new(3);
    let mut tills = apart(vec![goods_in(90, 7, 9), sell], [vec![refund(2, 2)], vec![refund(3, 1)]]);
    let conflict = only(&mut tills);
    assert_eq!(
        (&conflict.id, conflict.settle, conflict.sides.len()),
        (&ConflictId::OverRefund(uuid(1)), Settle::Seen, 2)
    );
    assert!(matches!(tills[0].ask(resolve(&conflict.id, Value::Int(2))), Err(StoreError::Rejected(_))));
    settle(&mut tills, &conflict.id, vec![resolve(&conflict.id, Value::Null)]);
    let changes = tills[0].reader().last_change().unwrap();
    tills[0].ask(resolve(&conflict.id, Value::Null)).unwrap();
    assert_eq!(tills[0].reader().last_change().unwrap(), changes, "a retry is safe");

    // A third till had refunded as well, before it heard of the others: it is raised again.
    let origin = tills[0].origin();
    let sold = tills[0].ops(origin, 1).unwrap();
    let sold = OpBatch { ops: sold.ops.into_iter().take(2).collect(), ..sold };
    third.ask(Request::Apply(sold)).unwrap();
    third.ask(refund(4, 1)).unwrap();
    tills[0].pull(&mut third, 1);
    sync(&mut tills);
    let conflict = only(&mut tills);
    assert_eq!(conflict.sides.len(), 3);
    settle(&mut tills, &conflict.id, vec![resolve(&conflict.id, Value::Null)]);
}

#[test]
fn two_contents_under_one_id() {
    let sell = |units| Request::Sell { id: uuid(1), sale: sale(&[(7, units)]) };
    let stocked = || vec![goods_in(90, 7, 9), goods_in(91, 7, 9), Request::Sell { id: uuid(5), sale: sale(&[(7, 9)]) }];
    let refund = |units| {
        let lines = vec![(0, Quantity::units(units))];
        Request::Refund { id: uuid(2), ticket: uuid(5), lines, reason: None }
    };
    for (one, other, kind, id) in [
        (sell(1), sell(2), RecordKind::Ticket, 1),
        (refund(1), refund(2), RecordKind::Refund, 2),
        (goods_in(3, 7, 1), goods_in(3, 7, 2), RecordKind::Movement, 3),
    ] {
        let mut tills = apart(stocked(), [vec![one], vec![other]]);
        let conflict = only(&mut tills);
        assert_eq!(conflict.id, ConflictId::Contents(kind, uuid(id)));
        assert_eq!((conflict.settle, conflict.sides.len()), (Settle::Seen, 2));
        settle(&mut tills, &conflict.id, vec![resolve(&conflict.id, Value::Null)]);
        let counts = tills[0].reader().counts().unwrap();
        assert_eq!(
            (counts.tickets, counts.refunds),
            if id == 3 {
                (1, 0)
            } else if id == 2 {
                (1, 1)
            } else {
                (2, 0)
            }
        );
    }
}

#[test]
fn two_tills_count_one_shelf() {
    let count = |id, units| moved(id, 7, MovementKind::Count, units);
    let mut tills = apart(vec![count(1, 5)], [vec![count(2, 6)], vec![count(3, 7), count(4, 8)]]);
    let conflict = only(&mut tills);
    assert_eq!((&conflict.id, conflict.settle), (&ConflictId::Counts(uuid(7)), Settle::Count));
    let counted: Vec<Quantity> = conflict
        .sides
        .iter()
        .map(|side| match &side.says {
            Says::Movement(movement) => movement.quantity,
            other => panic!("no movement: {other:?}"),
        })
        .collect();
    assert_eq!(counted, [Quantity::units(6), Quantity::units(8)]);
    settle(&mut tills, &conflict.id, vec![count(5, 4)]);
    assert_eq!(tills[0].stock(7), Quantity::units(4));
}

#[test]
fn less_than_nothing_in_stock() {
    let sell = |id| Request::Sell { id: uuid(id), sale: sale(&[(7, 2)]) };
    let mut tills = apart(vec![goods_in(90, 7, 3)], [vec![sell(1)], vec![sell(2)]]);
    let conflict = only(&mut tills);
    assert_eq!((&conflict.id, conflict.settle), (&ConflictId::NegativeStock(uuid(7)), Settle::Count));
    assert_eq!(conflict.sides[0].says, Says::Stock(Quantity::units(-1)));
    settle(&mut tills, &conflict.id, vec![moved(3, 7, MovementKind::Count, 2)]);
}

#[test]
fn a_ticket_whose_predecessor_is_not_here() {
    let made = Made { till: TillId([9; 16]), pos_id: "POS-9".into(), at_ms: NOON, clock: ClockQuality::Trusted };
    let ticket =
        Ticket { id: uuid(1), number: "n".into(), made, currency: *b"TND", sale: sale(&[]), previous: [3; 32] };
    let ops = vec![Body::Ticket(ticket).to_op(Hlc::from_ms(NOON))];
    let stray = Request::Apply(OpBatch { origin: Origin(9), before: Head::default(), ops });
    let mut tills = apart(vec![], [vec![stray.clone()], vec![stray]]);
    let conflict = only(&mut tills);
    assert_eq!((&conflict.id, conflict.settle), (&ConflictId::Unchained(uuid(1)), Settle::Seen));
    assert_eq!(conflict.sides[0].pos_id, "POS-9");
    settle(&mut tills, &conflict.id, vec![resolve(&conflict.id, Value::Null)]);
}

#[test]
fn a_list_of_conflicts_is_bounded() {
    let mut till = Till::new(1);
    let requests = (0..30).map(|n| Request::Sell { id: uuid(n), sale: sale(&[(n, 1)]) }).collect();
    till.execute(requests);
    assert_eq!(till.reader().conflicts(20).unwrap().len(), 20);
    assert_eq!(till.reader().counts().unwrap().conflicts, 30);
    let none = ConflictId::OverRefund(uuid(1));
    assert_eq!(till.ask(resolve(&none, Value::Null)), Err(StoreError::NotFound("conflict")));
}

/// As while a snapshot of 100,000 tickets comes, of which the status is asked all the while.
#[test]
fn very_many_broken_chains_are_counted_without_a_look_at_each() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    let marks = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
                 INSERT INTO unchained SELECT randomblob(32), n FROM n";
    till.conn().execute(marks, [30_000]).unwrap();
    let (many, few) = (till.reader().counts().unwrap().conflicts, 900);
    // The product's stock is below zero as well.
    assert_eq!(many, 30_001);
    till.conn().execute("DELETE FROM unchained WHERE ticket_idx > ?1", [few]).unwrap();
    // Of these, one has a ticket.
    assert_eq!(till.reader().counts().unwrap().conflicts, 2);
}
