//! Stories of customers.

use super::super::super::tests::{NOON, Till, sale};
use super::super::super::{Change, Request};
use super::super::*;
use super::{HOUR, POS, hear, hear_as, hear_product, product, ticket};

fn person(row: i64, number: &str, name: &str) -> PosCustomer {
    PosCustomer {
        row,
        number: number.into(),
        first_name: name.into(),
        last_name: "Ben Ali".into(),
        company: None,
        email: None,
        phone: None,
        address: None,
        city: None,
        postal_code: None,
        country: None,
        active: true,
        notes: None,
        created_ms: NOON,
        updated_ms: NOON,
    }
}

fn customer(row: i64, number: &str, name: &str) -> PosSaid {
    PosSaid::Customer(Box::new(person(row, number, name)))
}

fn told(till: &mut Till, pos_id: &str, id: Uuid) -> PosCustomer {
    till.reader().posplus_customer(pos_id, id).unwrap().unwrap().0
}

#[test]
fn a_customer_is_told_by_the_number_before_the_row() {
    let mut till = Till::new(1);
    let name = |till: &mut Till, number: &str| {
        let target = (EntityKind::Customer, Thing::Customer.of_key(number));
        let registers = entity::registers(till.conn(), target).unwrap()?;
        Some(registers.value("firstName").clone())
    };
    let named = |name: &str| Some(Value::Text(name.into()));
    hear(&mut till, customer(4, "C-0004", "Sami"));
    hear(&mut till, customer(5, "C-0005", "Leila"));
    // Another till has her in another row, and its fourth row is she.
    let elsewhere = Request::Posplus { pos_id: "POS-P2".into(), said: customer(4, "C-0005", "Leïla") };
    till.ask(elsewhere).unwrap();
    assert_eq!((name(&mut till, "C-0004"), name(&mut till, "C-0005")), (named("Sami"), named("Leïla")));
    // Row 4 is another customer now, whose number is known.
    hear(&mut till, customer(4, "C-0005", "Leila"));
    assert_eq!((name(&mut till, "C-0004"), name(&mut till, "C-0005")), (named("Sami"), named("Leila")));
    // Numbered anew, it is the same customer.
    hear(&mut till, customer(4, "C-0009", "Lilia"));
    assert_eq!((name(&mut till, "C-0009"), name(&mut till, "C-0005")), (None, named("Lilia")));
}

#[test]
fn a_customer_goes_back_with_their_own_number_and_all_that_was_said() {
    let mut till = Till::new(1);
    let parts = |customer: PosCustomer| {
        (customer.number, customer.address, customer.city, customer.postal_code, customer.country, customer.row)
    };
    let sami = PosCustomer {
        address: Some("5, rue de Rome".into()),
        city: Some("Tunis".into()),
        postal_code: Some("1000".into()),
        country: Some("Tunisie".into()),
        ..person(4, "C-0004", "Sami")
    };
    let id = hear(&mut till, PosSaid::Customer(Box::new(sami.clone()))).customer.unwrap();
    let news = till.reader().posplus_outbox("POS-P2", 0, 100).unwrap().news;
    let [PosNews::Customer(elsewhere, false)] = news.as_slice() else { panic!("{news:?}") };
    assert_eq!((elsewhere.number.as_str(), elsewhere.city.as_deref()), ("C-0004", Some("Tunis")));
    assert_eq!(parts(told(&mut till, POS, id)), parts(sami.clone()));
    let registers = entity::registers(till.conn(), (EntityKind::Customer, id)).unwrap().unwrap();
    assert_eq!(registers.value("address"), &text("5, rue de Rome, 1000, Tunis, Tunisie"));
    // An address that is edited here goes out as it is: its parts are not known any more.
    let edit = Change::Patch([("address".to_owned(), text("7, rue de Marseille"))].into());
    till.ask(Request::Edit { kind: EntityKind::Customer, id, change: edit }).unwrap();
    let back = told(&mut till, POS, id);
    assert_eq!(
        (back.address.as_deref(), back.city, back.number.as_str()),
        (Some("7, rue de Marseille"), None, "C-0004")
    );
}

#[test]
fn an_older_word_about_a_customer_loses_and_a_newer_one_counts() {
    let mut till = Till::new(1);
    let mut say = |updated_ms: u64, name: &str, pos_id: &str| {
        let said = PosCustomer { updated_ms, ..person(4, "C-0004", name) };
        let heard = hear_as(&mut till, pos_id, PosSaid::Customer(Box::new(said)));
        let shown = told(&mut till, pos_id, heard.customer.unwrap()).first_name;
        (shown, heard.ours_newer)
    };
    // All by a clock that is an hour slow: against its own words it counts as it runs.
    assert_eq!(say(NOON - HOUR, "Sami", POS), ("Sami".into(), false));
    assert_eq!(say(NOON - HOUR - 1, "Samuel", POS), ("Sami".into(), true));
    assert_eq!(say(NOON - HOUR + 1, "Sammy", POS), ("Sammy".into(), false));
    assert_eq!(say(NOON - HOUR, "Samir", "POS-P2"), ("Sammy".into(), true));
    // A stamp in the future is no newer than now.
    assert_eq!(say(NOON + 5 * HOUR, "Soumaya", POS), ("Soumaya".into(), false));
    till.now_ms += 60_000;
    let id = Thing::Customer.of_key("C-0004");
    let edit = Change::Patch([("firstName".to_owned(), text("Sonia"))].into());
    till.ask(Request::Edit { kind: EntityKind::Customer, id, change: edit }).unwrap();
    let said = PosCustomer { updated_ms: NOON + 50_000, ..person(4, "C-0004", "Samira") };
    assert!(hear(&mut till, PosSaid::Customer(Box::new(said))).ours_newer);
    assert_eq!(told(&mut till, POS, id).first_name, "Sonia");
}

#[test]
fn a_customer_of_ours_is_known_again_by_the_number_that_was_given_out() {
    let mut till = Till::new(1);
    let id = Uuid::from_u128(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    let fields = [("firstName", "Amel"), ("lastName", "Trabelsi")].map(|(name, value)| (name.to_owned(), text(value)));
    till.ask(Request::Edit { kind: EntityKind::Customer, id, change: Change::Put(fields.into()) }).unwrap();
    let (out, known) = till.reader().posplus_customer(POS, id).unwrap().unwrap();
    assert_eq!((out.number.as_str(), known), ("C-0123456789ab", false));
    till.now_ms += 1_000;
    let back = PosCustomer { updated_ms: NOON + 900, ..person(31, &out.number, "Amel") };
    assert_eq!(hear(&mut till, PosSaid::Customer(Box::new(back))).customer, Some(id));
    assert_eq!(told(&mut till, POS, id).row, 31);
    // Given another number there, another till of theirs knows her by it.
    hear(&mut till, customer(31, "C-0031", "Amel"));
    let renumbered = PosCustomer { updated_ms: NOON + 2_000, ..person(31, "C-0031", "Amel") };
    hear(&mut till, PosSaid::Customer(Box::new(renumbered)));
    let elsewhere = PosCustomer { updated_ms: NOON + 2_000, ..person(7, "C-0031", "Amel") };
    assert_eq!(hear_as(&mut till, "POS-P2", PosSaid::Customer(Box::new(elsewhere))).customer, Some(id));
    // Who gets a number that was another's once is somebody else.
    hear(&mut till, customer(1, "C-1", "One"));
    hear(&mut till, customer(1, "C-2", "One"));
    let two = hear(&mut till, customer(2, "C-1", "Two")).customer.unwrap();
    assert_eq!(told(&mut till, POS, Thing::Customer.of_key("C-1")).number, "C-2");
    assert_eq!(
        (told(&mut till, POS, two).first_name.as_str(), told(&mut till, POS, two).number.as_str()),
        ("Two", "C-1")
    );
}

#[test]
fn a_sale_names_its_customer_though_nothing_was_said_of_them_before() {
    let mut till = Till::new(1);
    hear_product(&mut till, product(12, "JUS", 5, NOON), true, "m1");
    let mut sold = ticket(7, "T20261122-0001", "JUS", 1);
    sold.customer = Some(4);
    hear(&mut till, PosSaid::Ticket(Box::new(sold)));
    let named = till.reader().tickets(&super::all()).unwrap().items[0].ticket.sale.customer;
    assert_eq!(hear(&mut till, customer(4, "C-0004", "Sami")).customer, named);
    // And known by the number from then on.
    assert_eq!(hear_as(&mut till, "POS-P2", customer(9, "C-0004", "Sami")).customer, named);
    let mut ours = sale(&[(1, 1)]);
    ours.customer = named;
    till.sell(1, ours);
    let outbox = till.reader().posplus_outbox(POS, 0, 100).unwrap().news;
    let buyer = outbox.iter().find_map(|news| match news {
        PosNews::Ticket { ticket, .. } => ticket.customer,
        _ => None,
    });
    assert_eq!(buyer, Some(4));
}
