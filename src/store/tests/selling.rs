//! Sales, refunds, movements of one till.

use super::super::{Cursor, StockCause, TicketQuery};
use super::*;
use crate::model::ticket::TicketStatus;

fn refund(id: u128, ticket: u128, line: u32, units: i64) -> Request {
    let lines = vec![(line, Quantity::units(units))];
    Request::Refund { id: uuid(id), ticket: uuid(ticket), lines, reason: None }
}

fn cancel(id: Option<u128>, ticket: u128) -> Request {
    Request::Cancel { id: id.map(uuid), ticket: uuid(ticket), reason: None }
}

fn rejected_at(reply: Result<Reply, StoreError>) -> String {
    match reply {
        Err(StoreError::Rejected(rejection)) => rejection.path,
        other => panic!("not rejected: {other:?}"),
    }
}

#[test]
fn a_sale_has_a_number_totals_and_moves_stock() {
    let mut till = Till::new(1);
    till.ask(goods_in(90, 7, 10)).unwrap();
    let view = till.sell(1, sale(&[(7, 2), (8, 1)]));
    assert_eq!(view.ticket.number, format!("POS-1-{}-20261122-0001", till.origin().short()));
    assert_eq!((view.totals.total, view.totals.due), (Money(4_500), Money(-500)));
    assert_eq!(view.status, TicketStatus::Completed);
    assert_eq!(view.chain, view.ticket.hash());
    assert_eq!((till.stock(7), till.stock(8)), (Quantity::units(8), Quantity::units(-1)));
    assert_eq!(till.reader().ticket(uuid(1)).unwrap(), Some(view));
}

#[test]
fn a_repeated_post_is_the_same_sale_and_other_content_is_refused() {
    let mut till = Till::new(1);
    let first = till.sell(1, sale(&[(7, 2)]));
    let (origin, head) = (till.origin(), {
        let o = till.origin();
        till.head(o)
    });
    let again = till.ask(Request::Sell { id: uuid(1), sale: sale(&[(7, 2)]) }).unwrap();
    assert_eq!(again, Reply::Ticket { view: Box::new(first), created: false });
    let other = till.ask(Request::Sell { id: uuid(1), sale: sale(&[(7, 3)]) });
    assert_eq!(other, Err(StoreError::Conflict("ticket")));
    assert_eq!((till.stock(7), till.head(origin)), (Quantity::units(-2), head));

    let moved = goods_in(5, 7, 4);
    assert!(matches!(till.ask(moved.clone()), Ok(Reply::Stock { created: true, .. })));
    assert!(matches!(till.ask(moved), Ok(Reply::Stock { created: false, .. })));
    assert_eq!(till.ask(goods_in(5, 7, 5)), Err(StoreError::Conflict("stock movement")));
    assert_eq!(till.stock(7), Quantity::units(2));

    assert!(matches!(till.ask(refund(6, 1, 0, 1)), Ok(Reply::Refund { created: true, .. })));
    assert!(matches!(till.ask(refund(6, 1, 0, 1)), Ok(Reply::Refund { created: false, .. })));
    assert_eq!(till.ask(refund(6, 1, 0, 2)), Err(StoreError::Conflict("refund")));
    assert_eq!(till.stock(7), Quantity::units(3));
}

#[test]
fn numbers_have_no_gaps_when_a_request_of_the_batch_fails() {
    let mut till = Till::new(1);
    let bad = Sale { lines: vec![], ..sale(&[]) };
    let refused = Request::Refund { id: uuid(50), ticket: uuid(99), lines: vec![], reason: None };
    let executed = till.execute(vec![
        Request::Sell { id: uuid(1), sale: sale(&[(7, 1)]) },
        Request::Sell { id: uuid(2), sale: bad },
        refused,
        Request::Sell { id: uuid(1), sale: sale(&[(7, 9)]) },
        Request::Sell { id: uuid(3), sale: sale(&[(7, 1)]) },
    ]);
    let numbers: Vec<Option<String>> = executed
        .replies
        .iter()
        .map(|reply| match reply {
            Ok(Reply::Ticket { view, .. }) => Some(view.ticket.number[view.ticket.number.len() - 4..].to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [Some("0001".into()), None, None, None, Some("0002".into())]);
    assert_eq!(executed.committed.local.unwrap().ops.len(), 2);
    assert_eq!(till.stock(7), Quantity::units(-2));
}

#[test]
fn a_request_that_fails_late_leaves_no_number_and_no_stock() {
    let mut till = Till::new(1);
    // Too long to be an op, which shows only when the ticket has its number.
    let long = Sale { notes: Some("x".repeat(300_000)), ..sale(&[(7, 1)]) };
    let executed = till
        .execute(vec![Request::Sell { id: uuid(1), sale: long }, Request::Sell { id: uuid(2), sale: sale(&[(7, 1)]) }]);
    assert!(matches!(executed.replies[0], Err(StoreError::Rejected(_))));
    assert!(matches!(&executed.replies[1], Ok(Reply::Ticket { view, .. }) if view.ticket.number.ends_with("-0001")));
    assert_eq!(till.stock(7), Quantity::units(-1));
}

#[test]
fn numbers_go_by_the_day_of_the_store_also_when_the_clock_comes_back() {
    let mut till = Till::new(1);
    let number = |till: &mut Till, id: u128, now_ms: u64| {
        till.now_ms = now_ms;
        let number = till.sell(id, sale(&[(7, 1)])).ticket.number;
        number[number.len() - 13..].to_owned()
    };
    assert_eq!(number(&mut till, 1, NOON), "20261122-0001");
    // 23:30 UTC is half past midnight in Tunis.
    assert_eq!(number(&mut till, 2, NOON + 23 * HOUR / 2), "20261122-0002");
    assert_eq!(number(&mut till, 3, NOON + 25 * HOUR / 2), "20261123-0001");
    assert_eq!(number(&mut till, 4, NOON), "20261122-0003");
    till.restart();
    assert_eq!(number(&mut till, 5, NOON + 13 * HOUR), "20261123-0002");
    assert_eq!(number(&mut till, 6, NOON + 1), "20261122-0004");
}

#[test]
fn a_restart_keeps_the_clock_the_number_the_head_and_the_chain() {
    let mut till = Till::new(1);
    let first = till.sell(1, sale(&[(7, 1)]));
    let origin = till.origin();
    let before = (till.head(origin), till.ops(origin, 1).unwrap());
    till.now_ms = NOON - 48 * HOUR;
    till.restart();
    assert_eq!((till.origin(), (till.head(origin), till.ops(origin, 1).unwrap())), (origin, before));
    till.sell(2, sale(&[(7, 1)]));
    let ops = till.ops(origin, 1).unwrap().ops;
    assert!(ops[1].hlc > ops[0].hlc, "times only grow, whatever the wall clock says");
    assert_eq!(till.reader().ticket(uuid(2)).unwrap().unwrap().ticket.previous, first.chain);
    assert!(digest(&mut till).iter().all(|row| !row.contains("unchained")));
}

#[test]
fn an_untrusted_clock_gives_times_in_order() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    let now = Now { wall_ms: 1_000, quality: ClockQuality::Untrusted };
    till.db().execute(vec![Request::Sell { id: uuid(2), sale: sale(&[(7, 1)]) }], now);
    let view = till.reader().ticket(uuid(2)).unwrap().unwrap();
    assert!(view.ticket.made.at_ms >= NOON);
    assert_eq!(view.ticket.made.clock, ClockQuality::Untrusted);
}

#[test]
fn refunds_add_up_and_no_more_than_was_sold() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 3), (8, 1)]));
    let Ok(Reply::Refund { view, refund: taken, .. }) = till.ask(refund(10, 1, 0, 2)) else { panic!("refused") };
    assert_eq!((view.status, taken.amount()), (TicketStatus::PartiallyRefunded, Money(3_000)));
    assert_eq!(rejected_at(till.ask(refund(11, 1, 0, 2))), "lines[0]");
    assert_eq!(rejected_at(till.ask(refund(11, 1, 5, 1))), "lines[0]");
    assert_eq!(till.ask(refund(11, 77, 0, 1)), Err(StoreError::NotFound("ticket")));
    // The same line twice in one refund is counted together.
    let twice = vec![(0, Quantity::units(1)), (0, Quantity::units(1))];
    let twice = Request::Refund { id: uuid(12), ticket: uuid(1), lines: twice, reason: None };
    assert_eq!(rejected_at(till.ask(twice)), "lines[1]");
    let Ok(Reply::Refund { view, refund: rest, .. }) = till.ask(cancel(None, 1)) else { panic!("refused") };
    assert_eq!((view.status, rest.amount()), (TicketStatus::Cancelled, Money(3_000)));
    assert!(matches!(till.ask(cancel(None, 1)), Ok(Reply::Refund { created: false, .. })));
    assert_eq!(rejected_at(till.ask(cancel(Some(13), 1))), "");
    assert_eq!((till.stock(7), till.stock(8)), (Quantity(0), Quantity(0)));
}

#[test]
fn a_sale_that_breaks_a_rule_says_where() {
    let mut till = Till::new(1);
    let mut refused = |change: &dyn Fn(&mut Sale)| {
        let mut wrong = sale(&[(7, 1), (8, 1)]);
        change(&mut wrong);
        rejected_at(till.ask(Request::Sell { id: uuid(1), sale: wrong }))
    };
    assert_eq!(refused(&|s| s.lines.clear()), "lines");
    assert_eq!(refused(&|s| s.lines = vec![s.lines[0].clone(); 1001]), "lines");
    assert_eq!(refused(&|s| s.payments = vec![s.payments[0].clone(); 101]), "payments");
    assert_eq!(refused(&|s| s.lines[1].quantity = Quantity(0)), "lines[1].quantity");
    assert_eq!(refused(&|s| s.lines[1].quantity = Quantity(i64::MAX)), "lines[1].quantity");
    assert_eq!(refused(&|s| s.lines[0].unit_price = Money(-1)), "lines[0].unitPrice");
    assert_eq!(refused(&|s| s.lines[0].discount = Money(1_501)), "lines[0].discount");
    assert_eq!(refused(&|s| s.payments[0].amount = Money(i64::MIN)), "payments[0].amount");
    assert_eq!(till.reader().tickets(&TicketQuery::default()).unwrap().items, []);
}

#[test]
fn movements_follow_their_kind_and_history_says_why() {
    let mut till = Till::new(1);
    till.ask(goods_in(1, 7, 10)).unwrap();
    till.ask(moved(2, 7, MovementKind::Loss, 1)).unwrap();
    till.sell(3, sale(&[(7, 4)]));
    till.ask(refund(4, 3, 0, 1)).unwrap();
    let reply = till.ask(moved(5, 7, MovementKind::Count, 8)).unwrap();
    assert_eq!(reply, Reply::Stock { product: uuid(7), stock: Quantity::units(8), created: true });
    assert_eq!(rejected_at(till.ask(moved(6, 7, MovementKind::Out, -1))), "quantity");
    let huge = Request::Move {
        id: uuid(6),
        product: uuid(7),
        kind: MovementKind::Adjustment,
        quantity: Quantity(i64::MIN),
        reference: None,
    };
    assert_eq!(rejected_at(till.ask(huge)), "quantity");

    let reader = till.reader();
    let newest = reader.stock_history(uuid(7), None, 2).unwrap();
    let deltas = |page: &[crate::store::StockEntry]| page.iter().map(|e| e.delta.0 / 1000).collect::<Vec<_>>();
    assert_eq!(deltas(&newest.items), [2, 1]);
    assert!(matches!(newest.items[1].cause, StockCause::Refund { ticket, .. } if ticket == uuid(3)));
    let rest = reader.stock_history(uuid(7), newest.next, 10).unwrap();
    assert_eq!((deltas(&rest.items), rest.next), (vec![-4, -1, 10], None));
    assert!(matches!(rest.items[1].cause, StockCause::Movement { kind: MovementKind::Loss, .. }));
    assert_eq!(reader.stock_history(uuid(99), None, 10).unwrap().items, []);
}

#[test]
fn tickets_are_paged_in_order_of_arrival() {
    let mut till = Till::new(1);
    let mut other = Till::new(2);
    (1..=5).for_each(|id| drop(till.sell(id, sale(&[(7, 1)]))));
    other.now_ms = NOON - 24 * HOUR;
    (6..=8).for_each(|id| drop(other.sell(id, sale(&[(7, 1)]))));
    till.pull(&mut other, 10);
    let reader = till.reader();
    let ids = |query: &TicketQuery| {
        let page = reader.tickets(query).unwrap();
        (page.items.iter().map(|view| view.ticket.id.as_u128()).collect::<Vec<_>>(), page.next)
    };
    let query = TicketQuery { limit: 3, ..TicketQuery::default() };
    let (first, next) = ids(&query);
    assert_eq!(first, [1, 2, 3]);
    let (second, next) = ids(&TicketQuery { after: next, ..query.clone() });
    assert_eq!(second, [4, 5, 6]);
    let (third, next) = ids(&TicketQuery { after: next, ..query.clone() });
    assert_eq!((third, next), (vec![7, 8], None));

    let all = TicketQuery { limit: 100, ..TicketQuery::default() };
    assert_eq!(ids(&TicketQuery { pos_id: Some("POS-2".into()), ..all.clone() }).0, [6, 7, 8]);
    assert_eq!(ids(&TicketQuery { from_ms: Some(NOON), ..all.clone() }).0, [1, 2, 3, 4, 5]);
    assert_eq!(ids(&TicketQuery { to_ms: Some(NOON), ..all.clone() }).0, [6, 7, 8]);
    assert_eq!(ids(&TicketQuery { to_ms: Some(5), ..all.clone() }), (vec![], None));
    assert_eq!(ids(&TicketQuery { after: Some(Cursor(u64::MAX)), ..all }), (vec![], None));
}
