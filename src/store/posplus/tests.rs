//! Stories of a POSPlus till and ours.

mod catalogue;
mod customers;

use super::super::tests::{NOON, Till, moved, sale, uuid};
use super::super::{Change, Reply, Request};
use super::*;
use crate::model::amount::Money;
use crate::model::movement::MovementKind;
use crate::model::posplus::{PosLine, PosStatus};
use crate::model::ticket::TicketStatus;

const POS: &str = "POS-P1";

fn product(row: i64, sku: &str, units: i64, updated_ms: u64) -> PosProduct {
    PosProduct {
        row,
        sku: sku.into(),
        barcode: None,
        name: format!("Thing {sku}"),
        description: Some("from there".into()),
        category: 3,
        category_name: Some("Boissons".into()),
        price: Money(4500),
        cost: Money(2000),
        discount_rate: 0,
        stock: Quantity::units(units),
        min_stock: Quantity(0),
        max_stock: Quantity::units(9),
        unit: "pièce".into(),
        active: true,
        image: None,
        created_ms: NOON - 1000,
        updated_ms,
    }
}

fn ticket(row: i64, number: &str, sku: &str, units: i64) -> PosTicket {
    let line = PosLine {
        row: 1,
        product: 12,
        name: "Jus".into(),
        sku: sku.into(),
        quantity: Quantity::units(units),
        unit_price: Money(4500),
        discount_rate: 0,
        discount: Money(0),
        total: Money(4500 * units),
    };
    PosTicket {
        row,
        number: number.into(),
        user: 1,
        customer: None,
        session: 1,
        subtotal: Money(4500 * units),
        discount: Money(0),
        total: Money(4500 * units),
        status: PosStatus::Completed,
        created: "2026-11-22T11:00:00.000Z".into(),
        created_ms: NOON,
        updated_ms: NOON,
        lines: vec![line],
        payments: vec![],
    }
}

fn said(quantity: i64, before: Option<i64>, told: i64, message: &str) -> PosStock {
    let before = before.map(Quantity::units);
    PosStock { quantity: Quantity::units(quantity), before, told, maybe_told: told, message: message.into() }
}

fn hear(till: &mut Till, what: PosSaid) -> PosHeard {
    hear_as(till, POS, what)
}

fn hear_as(till: &mut Till, pos_id: &str, what: PosSaid) -> PosHeard {
    match till.ask(Request::Posplus { pos_id: pos_id.into(), said: what }).unwrap() {
        Reply::Posplus(heard) => *heard,
        other => panic!("{other:?}"),
    }
}

fn hear_product(till: &mut Till, what: PosProduct, live: bool, message: &str) -> PosHeard {
    let stock = PosStock {
        quantity: what.stock,
        before: None,
        told: till.told(),
        maybe_told: till.told(),
        message: message.into(),
    };
    hear(till, PosSaid::Product { product: Box::new(what), live, stock })
}

impl Till {
    fn told(&mut self) -> i64 {
        self.reader().posplus_now().unwrap().1
    }

    fn in_stock(&mut self, id: Uuid) -> i64 {
        super::super::stock::total(self.conn(), id).unwrap().0 / 1000
    }
}

#[test]
fn a_product_comes_with_stock_and_category_and_goes_back_as_it_came() {
    let mut till = Till::new(1);
    let first = product(12, "JUS", 50, NOON);
    let heard = hear_product(&mut till, first.clone(), true, "m1");
    let id = heard.product.unwrap();
    assert_eq!((id, heard.stock), (Thing::Product.of_key("JUS"), Quantity::units(50)));
    hear_product(&mut till, first.clone(), false, "m2");
    assert_eq!(till.in_stock(id), 50);
    let (back, known) = till.reader().posplus_product(POS, id).unwrap().unwrap();
    assert!(known);
    assert_eq!((back.row, back.category_name, back.description), (12, first.category_name, first.description));
    assert_eq!((back.price, back.stock, back.max_stock), (first.price, first.stock, first.max_stock));
    // Another till of theirs has it in another row: it is the same product.
    let elsewhere = Request::Posplus {
        pos_id: "POS-P2".into(),
        said: PosSaid::Product {
            product: Box::new(product(7, "JUS", 50, NOON)),
            live: false,
            stock: said(50, None, 0, "m3"),
        },
    };
    till.ask(elsewhere).unwrap();
    assert_eq!((till.in_stock(id), till.reader().posplus_product("POS-P2", id).unwrap().unwrap().0.row), (50, 7));
}

#[test]
fn a_sale_there_is_one_record_whoever_hears_it_and_its_stock_counts_once() {
    let (mut a, mut b) = (Till::new(1), Till::new(2));
    for till in [&mut a, &mut b] {
        hear_product(till, product(12, "JUS", 50, NOON), true, "m1");
    }
    let id = Thing::Product.of_key("JUS");
    let sold = ticket(7, "T20261122-0001", "JUS", 5);
    let heard = hear(&mut a, PosSaid::Ticket(Box::new(sold.clone())));
    assert_eq!(heard.moved, [(id, Quantity::units(-5))]);
    hear(&mut b, PosSaid::Ticket(Box::new(sold.clone())));
    assert_eq!(hear(&mut a, PosSaid::Ticket(Box::new(sold))).moved, []);
    // The quantity that it says after it is what we have by the ticket.
    hear(&mut a, PosSaid::Stock { row: 12, stock: said(45, Some(45), 0, "m2") });
    let origin = a.origin();
    b.pull(&mut a, 100);
    assert!(b.head(origin).seq > 0);
    assert_eq!((a.in_stock(id), b.in_stock(id)), (45, 45));
    // The same number on another of their tills, or of another row, is another sale.
    hear(&mut a, PosSaid::Ticket(Box::new(ticket(8, "T20261122-0001", "JUS", 1))));
    assert_eq!((a.in_stock(id), a.reader().tickets(&all()).unwrap().items.len()), (44, 2));
}

fn all() -> super::super::TicketQuery {
    super::super::TicketQuery { limit: 100, ..Default::default() }
}

#[test]
fn sales_of_both_sides_at_once_add_up() {
    let mut till = Till::new(1);
    let id = hear_product(&mut till, product(12, "JUS", 100, NOON), true, "m1").product.unwrap();
    let told = till.told();
    till.ask(moved(1, id.as_u128(), MovementKind::Out, 3)).unwrap();
    // It has not heard of ours yet, and says what it has after selling 5: without a word from the connection, this follows from the ledger.
    let heard = hear(&mut till, PosSaid::Stock { row: 12, stock: said(95, None, told, "m2") });
    assert_eq!(heard.moved, [(id, Quantity::units(-5))]);
    assert_eq!(till.in_stock(id), 92);
    // The same message again moves nothing.
    hear(&mut till, PosSaid::Stock { row: 12, stock: said(95, None, told, "m2") });
    assert_eq!(till.in_stock(id), 92);
    // It was told 97 and then says it again: nothing has moved there.
    assert_eq!(hear(&mut till, PosSaid::Stock { row: 12, stock: said(97, Some(97), told, "m3") }).moved, []);
}

#[test]
fn a_quantity_that_nobody_can_explain_is_shown_and_ours_stays() {
    let mut till = Till::new(1);
    let fields = [("sku", "JUS"), ("name", "Jus")].map(|(n, v)| (n.to_owned(), Value::Text(v.into())));
    let mut fields: std::collections::BTreeMap<_, _> = fields.into();
    fields.insert("price".into(), Value::Int(4000));
    till.ask(Request::Edit { kind: EntityKind::Product, id: uuid(9), change: Change::Put(fields) }).unwrap();
    till.ask(moved(1, 9, MovementKind::In, 40)).unwrap();
    let heard = hear_product(&mut till, product(12, "JUS", 50, NOON - HOUR), false, "m1");
    assert_eq!((heard.product, heard.differs), (Some(uuid(9)), Some(Quantity::units(50))));
    assert!(heard.ours_newer);
    assert_eq!(till.in_stock(uuid(9)), 40);
    let news = till.reader().posplus_product(POS, uuid(9)).unwrap().unwrap().0;
    assert_eq!((news.row, news.price), (12, Money(4000)));
}

const HOUR: u64 = 3_600_000;

#[test]
fn what_a_till_said_itself_is_not_told_to_it() {
    let mut till = Till::new(1);
    let id = hear_product(&mut till, product(12, "JUS", 50, NOON), true, "m1").product.unwrap();
    hear(&mut till, PosSaid::Ticket(Box::new(ticket(7, "T20261122-0001", "JUS", 5))));
    till.sell(1, sale(&[(id.as_u128(), 2)]));
    let told = till.reader().posplus_outbox(POS, 0, 100).unwrap();
    let (mut tickets, mut stock) = (Vec::new(), Vec::new());
    for news in &told.news {
        match news {
            PosNews::Ticket { ticket, .. } => tickets.push(ticket.lines[0].product),
            PosNews::Stock { row, quantity, .. } => stock.push((*row, quantity.0 / 1000)),
            other => assert!(matches!(other, PosNews::Category(_)), "{other:?}"),
        }
    }
    assert_eq!((tickets, stock), (vec![12], vec![(12, 43)]));
    assert!(!till.reader().posplus_outbox(POS, told.cursor, 100).unwrap().more);
    // Its other till is told of both sales.
    let other = till.reader().posplus_outbox("POS-P2", 0, 100).unwrap();
    assert_eq!(other.news.iter().filter(|news| matches!(news, PosNews::Ticket { .. })).count(), 2);
}

#[test]
fn a_row_that_is_not_known_is_said_to_be_so_and_who_speaks_is_remembered() {
    let mut till = Till::new(1);
    assert!(hear(&mut till, PosSaid::Stock { row: 99, stock: said(5, None, 0, "m") }).unknown);
    hear(&mut till, PosSaid::Speaker(Some(TillId([1; 16]))));
    assert_eq!(till.reader().posplus_speaker(POS).unwrap(), Some(TillId([1; 16])));
    hear(&mut till, PosSaid::Speaker(None));
    assert_eq!(till.reader().posplus_speaker(POS).unwrap(), None);
}

#[test]
fn who_takes_over_makes_no_movement_against_a_guess() {
    let mut till = Till::new(1);
    let id = hear_product(&mut till, product(12, "JUS", 61, NOON), true, "m1").product.unwrap();
    let told = till.told();
    let taken_over = |quantity: i64| PosStock {
        maybe_told: i64::MAX,
        ..said(quantity, None, told, &format!("take-over {quantity}"))
    };
    let hear_stock = |till: &mut Till, stock| {
        let heard = hear(till, PosSaid::Stock { row: 12, stock });
        (heard.moved.len(), heard.differs.map(|differs| differs.0 / 1000))
    };
    // Two are sold here and five there; whether the speaker before has told of ours, nobody knows: both are explained, and 81 is not.
    till.ask(moved(1, id.as_u128(), MovementKind::Out, 2)).unwrap();
    hear(&mut till, PosSaid::Ticket(Box::new(ticket(7, "T20261122-0001", "JUS", 5))));
    for (quantity, conflict) in [(56, None), (54, None), (81, Some(81)), (59, Some(59))] {
        let heard = hear_stock(&mut till, taken_over(quantity));
        assert_eq!((heard, till.in_stock(id)), ((0, conflict), 54), "{quantity}");
    }
    // Where nothing was to be told, what it had is certain: someone has counted, or it has sold while it was away.
    let now = PosStock { told: till.told(), ..taken_over(50) };
    assert_eq!((hear_stock(&mut till, now), till.in_stock(id)), ((1, None), 50));
}

#[test]
fn what_is_taken_away_goes_by_the_sku_before_the_row() {
    let mut till = Till::new(1);
    let juice = hear_product(&mut till, product(12, "JUS", 5, NOON), true, "m1").product.unwrap();
    let bread = hear_product(&mut till, product(13, "PAN", 5, NOON), true, "m2").product.unwrap();
    // Row 12 is another product there by now.
    hear(&mut till, PosSaid::Deleted(Box::new(product(12, "PAN", 5, NOON))));
    let alive = |till: &mut Till, id| {
        entity::registers(till.conn(), (EntityKind::Product, id)).unwrap().is_some_and(|registers| registers.is_alive())
    };
    assert_eq!((alive(&mut till, juice), alive(&mut till, bread)), (true, false));
}

#[test]
fn what_became_of_a_sale_there_is_so_here() {
    let mut till = Till::new(1);
    let id = hear_product(&mut till, product(12, "JUS", 50, NOON), true, "m1").product.unwrap();
    let all = [
        (PosStatus::Cancelled, TicketStatus::Cancelled, 50),
        (PosStatus::Refunded, TicketStatus::Cancelled, 50),
        // Not paid yet: the goods are gone all the same.
        (PosStatus::Pending, TicketStatus::Completed, 45),
        // By how much is said nowhere; its stock says what came back.
        (PosStatus::PartiallyRefunded, TicketStatus::Completed, 40),
        (PosStatus::Completed, TicketStatus::Completed, 35),
    ];
    for ((said, is, left), row) in all.into_iter().zip(1..) {
        let sold = PosTicket { status: said, ..ticket(row, "T20261122-0001", "JUS", 5) };
        let record = sold.record_id(POS);
        let heard = hear(&mut till, PosSaid::Ticket(Box::new(sold)));
        let moves = is == TicketStatus::Completed;
        assert_eq!((heard.moved.len(), till.in_stock(id)), (usize::from(moves), left), "{said:?}");
        assert_eq!(till.reader().ticket(record).unwrap().unwrap().status, is, "{said:?}");
    }
}

#[test]
fn what_is_taken_off_the_whole_is_taken_off_the_lines_from_the_last() {
    let mut till = Till::new(1);
    let mut sold = ticket(1, "T20261122-0001", "JUS", 2);
    sold.lines.push(PosLine {
        row: 2,
        sku: "PAN".into(),
        total: Money(4500),
        quantity: Quantity::units(1),
        ..sold.lines[0].clone()
    });
    (sold.subtotal, sold.discount, sold.total) = (Money(13_500), Money(6_000), Money(7_500));
    hear(&mut till, PosSaid::Ticket(Box::new(sold.clone())));
    let view = till.reader().ticket(sold.record_id(POS)).unwrap().unwrap();
    let discounts: Vec<i64> = view.ticket.sale.lines.iter().map(|line| line.discount.0).collect();
    assert_eq!((discounts, view.totals.total, view.ticket.sale.notes), (vec![1_500, 4_500], Money(7_500), None));
    // A total that is more than its lines come to is said beside it.
    let more = PosTicket { row: 2, total: Money(20_000), ..sold };
    hear(&mut till, PosSaid::Ticket(Box::new(more.clone())));
    let view = till.reader().ticket(more.record_id(POS)).unwrap().unwrap();
    assert!(view.ticket.sale.notes.is_some());
}

#[test]
fn a_sale_is_told_where_that_till_has_a_row_for_what_was_sold() {
    let mut till = Till::new(1);
    let put = |till: &mut Till, id: u128, change: Change| {
        till.ask(Request::Edit { kind: EntityKind::Product, id: uuid(id), change }).unwrap();
    };
    let fields = |sku: &str| {
        let texts = [("sku", sku), ("name", sku)].map(|(name, value)| (name.to_owned(), text(value)));
        Change::Put(texts.into_iter().chain([("price".to_owned(), Value::Int(1_500))]).collect())
    };
    let rows = |till: &mut Till, id: u128, sold: crate::model::ticket::Sale| {
        till.sell(id, sold);
        till.reader().posplus_ticket(POS, uuid(id)).unwrap().unwrap().1
    };
    put(&mut till, 1, fields("CAF"));
    put(&mut till, 2, fields("THE"));
    put(&mut till, 2, Change::Delete);
    assert_eq!(rows(&mut till, 11, sale(&[(1, 1)])), PosRows::Awaited);
    // Not here yet itself.
    assert_eq!(rows(&mut till, 12, sale(&[(9, 1)])), PosRows::Awaited);
    assert_eq!(rows(&mut till, 13, sale(&[(2, 1), (1, 1)])), PosRows::Never);
    let mut free = sale(&[(1, 1)]);
    free.lines[0].product = None;
    assert_eq!(rows(&mut till, 14, free), PosRows::Never);
    // It says in which row it has put it.
    hear_product(&mut till, product(31, "CAF", 0, NOON), false, "m1");
    let (told, rows) = till.reader().posplus_ticket(POS, uuid(11)).unwrap().unwrap();
    assert_eq!((rows, told.lines[0].product), (PosRows::Known, 31));
    assert_eq!(till.reader().posplus_ticket(POS, uuid(99)).unwrap(), None);
}
