//! Stories of products and categories: which word counts.

use super::super::super::tests::{NOON, Till};
use super::super::super::{Change, Request};
use super::super::*;
use super::{HOUR, POS, hear, hear_as, hear_product, product};
use crate::model::amount::Money;

/// A price here.
fn price(till: &mut Till, id: Uuid) -> i64 {
    let registers = entity::registers(till.conn(), (EntityKind::Product, id)).unwrap().unwrap();
    match registers.value("price") {
        Value::Int(price) => *price,
        other => panic!("{other:?}"),
    }
}

fn reprice(till: &mut Till, id: Uuid, price: i64) {
    let change = Change::Patch([("price".to_owned(), Value::Int(price))].into());
    till.ask(Request::Edit { kind: EntityKind::Product, id, change }).unwrap();
}

/// A list of that till says the product at a price, stamped so; gives the price here after, and whether that till is to be told.
fn listed(till: &mut Till, price_there: i64, updated_ms: u64) -> (i64, bool) {
    let said = PosProduct { price: Money(price_there), ..product(12, "JUS", 50, updated_ms) };
    let heard = hear_product(till, said, false, "list");
    (price(till, heard.product.unwrap()), heard.ours_newer)
}

#[test]
fn what_a_list_says_again_is_no_change_whatever_its_stamp() {
    let mut till = Till::new(1);
    let id = hear_product(&mut till, product(12, "JUS", 50, NOON), true, "m1").product.unwrap();
    reprice(&mut till, id, 5_000);
    // POSPlus stamps what it copies with the local time, an hour ahead of UTC in Tunis.
    assert_eq!(listed(&mut till, 4_500, NOON + HOUR), (5_000, true));
    // It is told 5.000, and has read it; then it is 6.000 here.
    let (told, _) = till.reader().posplus_product(POS, id).unwrap().unwrap();
    let content = told.content(told.category_name.as_deref());
    hear(&mut till, PosSaid::Read(vec![(Thing::Product, 12, content)]));
    reprice(&mut till, id, 6_000);
    // It may not have taken over what it has read, by its clock.
    assert_eq!(listed(&mut till, 4_500, NOON + 2 * HOUR), (6_000, true));
    let (told, _) = till.reader().posplus_product(POS, id).unwrap().unwrap();
    hear(&mut till, PosSaid::Read(vec![(Thing::Product, 12, told.content(told.category_name.as_deref()))]));
    assert_eq!(listed(&mut till, 5_000, NOON + 2 * HOUR), (6_000, true));
    // Live, a person there has just said it.
    let said = PosProduct { price: Money(4_500), ..product(12, "JUS", 50, NOON - HOUR) };
    hear_product(&mut till, said, true, "m2");
    assert_eq!(price(&mut till, id), 4_500);
    // After that, what it was told before is a change.
    assert_eq!(listed(&mut till, 5_000, NOON - HOUR), (5_000, false));
}

#[test]
fn where_one_side_alone_has_changed_it_counts_by_whatever_clock() {
    let mut till = Till::new(1);
    let id = hear_product(&mut till, product(12, "JUS", 50, NOON), true, "m1").product.unwrap();
    // Its clock is a day slow.
    assert_eq!(listed(&mut till, 4_800, NOON - 24 * HOUR), (4_800, false));
    // Both have changed: the stamps decide, and what is from the future is from now.
    reprice(&mut till, id, 5_000);
    assert_eq!(listed(&mut till, 4_900, NOON - 1), (5_000, true));
    assert_eq!(listed(&mut till, 4_900, NOON + HOUR), (5_000, true), "said before");
    till.now_ms += 1_000;
    assert_eq!(listed(&mut till, 4_700, NOON + HOUR), (4_700, false));
    // That stamp has not moved our own clock: the next word of ours is not the older for it.
    reprice(&mut till, id, 5_500);
    let registers = entity::registers(till.conn(), (EntityKind::Product, id)).unwrap().unwrap();
    assert!(latest_ms(&registers) < NOON + HOUR);
}

#[test]
fn a_row_that_is_another_product_by_now_knows_nothing_of_it() {
    let mut till = Till::new(1);
    let juice = hear_product(&mut till, product(12, "JUS", 50, NOON), true, "m1").product.unwrap();
    let bread = hear_product(&mut till, product(13, "PAN", 50, NOON), true, "m2").product.unwrap();
    reprice(&mut till, bread, 300);
    // Row 12 holds bread now, at the price of before: older than ours by its stamp.
    let said = PosProduct { name: "Thing PAN".into(), ..product(12, "PAN", 50, NOON - HOUR) };
    assert!(hear_product(&mut till, said, false, "m3").ours_newer);
    assert_eq!((price(&mut till, juice), price(&mut till, bread)), (4_500, 300));
}

fn category(row: i64, name: &str, parent: Option<i64>, order: i64, updated_ms: u64) -> Box<PosCategory> {
    Box::new(PosCategory {
        row,
        name: name.into(),
        description: None,
        parent,
        display_order: Some(order),
        active: true,
        created_ms: NOON,
        updated_ms,
    })
}

fn listed_category(till: &mut Till, category: Box<PosCategory>) {
    hear(till, PosSaid::Category { category, live: false });
}

fn category_field(till: &mut Till, id: Uuid, field: &str) -> Value {
    entity::registers(till.conn(), (EntityKind::Category, id)).unwrap().unwrap().value(field).clone()
}

#[test]
fn categories_have_their_place_and_go_by_name() {
    let mut till = Till::new(1);
    listed_category(&mut till, category(3, "Boissons", None, 2, NOON));
    listed_category(&mut till, category(4, "Jus", Some(3), 1, NOON));
    let [drinks, juices] = ["Boissons", "Jus"].map(|name| Thing::Category.of_key(name));
    assert_eq!(category_field(&mut till, juices, "parentId"), Value::Id(drinks));
    assert_eq!(category_field(&mut till, drinks, "displayOrder"), Value::Int(2));
    // Another till has it in another row; a row above that is not known is left out.
    let jus = category(9, "Jus", Some(8), 1, NOON);
    hear_as(&mut till, "POS-P2", PosSaid::Category { category: jus, live: false });
    let there = till.reader().posplus_categories("POS-P2", false, None, 100).unwrap().items;
    let there: Vec<_> = there.into_iter().map(|it| (it.name, it.row < OUR_ROWS, it.parent, it.display_order)).collect();
    assert_eq!(there, [("Boissons".into(), false, None, Some(2)), ("Jus".into(), true, None, Some(1))]);
    let here = till.reader().posplus_categories(POS, false, None, 100).unwrap().items;
    assert_eq!(here[1].parent, Some(3));
    // A product that names its category, without the category's having been told of.
    let bread = PosProduct { category: 77, category_name: Some("Boulangerie".into()), ..product(13, "PAN", 1, NOON) };
    hear_product(&mut till, bread, true, "m1");
    assert_eq!(category_field(&mut till, Thing::Category.of_key("Boulangerie"), "name"), text("Boulangerie"));
    // One of ours by this name is the one.
    let ours = Uuid::from_u128(5);
    let change = Change::Put([("name".to_owned(), text("Épicerie"))].into());
    till.ask(Request::Edit { kind: EntityKind::Category, id: ours, change }).unwrap();
    listed_category(&mut till, category(6, "Épicerie", None, 0, NOON));
    let here = till.reader().posplus_categories(POS, false, None, 100).unwrap().items;
    assert_eq!(here.iter().filter(|it| it.name == "Épicerie").map(|it| it.row).collect::<Vec<_>>(), [6]);
}

#[test]
fn a_stale_list_renames_no_category_and_an_order_does() {
    let mut till = Till::new(1);
    listed_category(&mut till, category(3, "Boissons", None, 1, NOON));
    let id = Thing::Category.of_key("Boissons");
    let change = Change::Patch([("name".to_owned(), text("Boissons fraîches"))].into());
    till.ask(Request::Edit { kind: EntityKind::Category, id, change }).unwrap();
    listed_category(&mut till, category(3, "Boissons", None, 1, NOON + HOUR));
    assert_eq!(category_field(&mut till, id, "name"), text("Boissons fraîches"));
    let ordered = PosSaid::Category { category: category(3, "Boissons", None, 1, NOON - HOUR), live: true };
    hear(&mut till, ordered);
    assert_eq!(category_field(&mut till, id, "name"), text("Boissons"));
}

#[test]
fn more_than_a_hundred_categories_are_all_told() {
    let mut till = Till::new(1);
    for n in 0..130 {
        let change = Change::Put([("name".to_owned(), text(&format!("Rayon {n}")))].into());
        till.ask(Request::Edit { kind: EntityKind::Category, id: Uuid::from_u128(n), change }).unwrap();
    }
    listed_category(&mut till, category(1, "Rayon 7", None, 0, NOON));
    let mut count = |missing_only: bool| {
        let (mut after, mut pages) = (None, Vec::new());
        loop {
            let page = till.reader().posplus_categories(POS, missing_only, after, 100).unwrap();
            pages.push(page.items.len());
            after = page.next;
            if after.is_none() {
                return pages;
            }
        }
    };
    assert_eq!((count(false), count(true)), (vec![100, 30], vec![99, 30]));
}
