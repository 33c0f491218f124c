//! Products, categories, customers: registers in rows, lists, changes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::clock::Hlc;
use crate::model::op::{Body, canonical};
use crate::model::register::{ALIVE, Edit, EntityKind, Registers, Value, Write};
use crate::store::entity::{self, Columns};
use crate::store::{Change, ChangeValue, Cursor, EntityQuery, EntityView, Page, conflicts, schema};

type Fields = BTreeMap<String, Value>;

fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

pub(super) fn product(sku: &str, name: &str) -> Fields {
    fields([("sku", text(sku)), ("name", text(name)), ("price", Value::Int(1_500))])
}

pub(super) fn edit(id: u128, change: Change) -> Request {
    Request::Edit { kind: EntityKind::Product, id: uuid(id), change }
}

fn entity(reply: Result<Reply, StoreError>) -> EntityView {
    match reply {
        Ok(Reply::Entity(view)) => *view,
        other => panic!("no entity: {other:?}"),
    }
}

/// Edits of a few products and categories, as four tills make them that hear of one another now and then.
fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let step = (0usize..4, 0usize..4, (any::<bool>(), 0u128..3), 0usize..6, 0u8..3, 0u8..8, 0u64..8);
    prop::collection::vec(step, 1..40).prop_map(|steps| {
        let mut tills: Vec<Joined> = vec![Joined::default(); 4];
        let (mut made, mut entropy) = (Vec::new(), Seeded(1));
        for (at, from, (is_product, id), field, value, alive, time) in steps {
            if at != from {
                let theirs = tills[from].clone();
                tills[at].merge(&theirs);
            }
            let kind = if is_product { EntityKind::Product } else { EntityKind::Category };
            let values = match field {
                0 => [("sku".to_owned(), text(["", "A", "B"][usize::from(value)]))],
                1 => [("barcode".to_owned(), [Value::Null, text("1"), Value::Int(1)][usize::from(value)].clone())],
                2 => [("name".to_owned(), text(["Thé", "Café", "شاي"][usize::from(value)]))],
                3 => [("categoryId".to_owned(), Value::Id(uuid(value.into())))],
                4 => [("price".to_owned(), Value::Int(value.into()))],
                _ => [("of a later version".to_owned(), Value::Bool(value == 1))],
            };
            let (registers, _) = tills[at].0.entry((kind, uuid(id))).or_default();
            let by = format!("POS-{at}");
            let ids = || entropy.u64();
            if let Some(edit) = registers.edit((kind, uuid(id)), values, alive > 0, (Hlc(time), &by), ids) {
                tills[at].apply(&edit);
                made.push(edit);
            }
        }
        made
    })
}

/// What the model says of a set of edits: of each entity its registers, and the ids of its replaced writes.
#[derive(Clone, Default)]
struct Joined(BTreeMap<(EntityKind, Uuid), (Registers, BTreeSet<u64>)>);

impl Joined {
    fn apply(&mut self, edit: &Edit) {
        let (registers, replaced) = self.0.entry((edit.entity, edit.id)).or_default();
        let Ok(()) = registers.apply(edit, replaced);
    }

    fn merge(&mut self, other: &Self) {
        for (target, (theirs, ids)) in &other.0 {
            let (registers, replaced) = self.0.entry(*target).or_default();
            let ids: Vec<u64> = ids.iter().copied().collect();
            let Ok(()) = registers.join(theirs, &ids, replaced);
        }
    }
}

/// An entity's row, as text: its columns, and its registers' bytes.
type EntityRow = (i64, Vec<u8>, Columns, Vec<u8>, u64);

fn row_of((kind, id): (EntityKind, Uuid), registers: &Registers) -> EntityRow {
    let contested = conflicts::fields_of(kind, registers).count() as u64;
    (entity::number(kind), id.as_bytes().to_vec(), Columns::of(kind, registers), canonical(registers), contested)
}

fn rows(conn: &Connection) -> Vec<EntityRow> {
    let sql = "SELECT kind, id, alive, sku, barcode, category, search, registers, ifnull(fields, 0) FROM entity
               LEFT JOIN contested ON entity_idx = idx ORDER BY kind, id";
    let mut statement = conn.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| {
        let category = row.get::<_, Option<[u8; 16]>>(5)?.map(Uuid::from_bytes);
        let (alive, sku, barcode, search) = (row.get(2)?, row.get(3)?, row.get(4)?, row.get(6)?);
        let columns = Columns { alive, sku, barcode, category, search };
        Ok((row.get(0)?, row.get(1)?, columns, row.get(7)?, row.get::<_, i64>(8)?.cast_unsigned()))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

fn column(conn: &Connection, sql: &str) -> Vec<i64> {
    conn.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn codes(rows: &[EntityRow], code: impl Fn(&Columns) -> &Option<String>) -> i64 {
    let mut known = BTreeMap::new();
    for code in rows.iter().filter_map(|row| code(&row.2).as_ref()) {
        *known.entry(code).or_insert(0) += 1;
    }
    known.values().filter(|n| **n > 1).count() as i64
}

/// Joins in what a till has that took some of the edits, in parts.
fn join_state(conn: &Connection, some: &[&Edit]) {
    let mut joined = Joined::default();
    some.iter().for_each(|edit| joined.apply(edit));
    for ((kind, id), (registers, replaced)) in joined.0 {
        let ids: Vec<u64> = replaced.into_iter().collect();
        // Parts need not come in order, nor the replaced ids with the heads.
        entity::join_state(conn, (kind, id), &Registers::default(), &ids).unwrap();
        for part in registers.split(60).iter().rev() {
            entity::join_state(conn, (kind, id), part, &[]).unwrap();
        }
    }
}

proptest! {
    #[test]
    fn rows_are_the_join_of_edits_and_states_in_any_order(made in edits(), keys in prop::collection::vec(any::<u32>(), 40)) {
        let mut joined = Joined::default();
        made.iter().for_each(|edit| joined.apply(edit));
        let mut shuffled: Vec<(u32, &Edit)> = keys.iter().copied().zip(&made).collect();
        shuffled.sort_by_key(|(key, _)| *key);
        let mut conn = Connection::open_in_memory().unwrap();
        schema::migrate(&mut conn).unwrap();
        for (key, edit) in &shuffled {
            match key % 5 {
                0 => join_state(&conn, &made.iter().skip(*key as usize / 5 % made.len()).collect::<Vec<_>>()),
                1 => join_state(&conn, &[edit]),
                2 => {
                    entity::apply_edit(&conn, edit).unwrap();
                }
                _ => {}
            }
            entity::apply_edit(&conn, edit).unwrap();
        }
        let before = column(&conn, "SELECT max(n) FROM change");
        for edit in &made {
            prop_assert!(!entity::apply_edit(&conn, edit).unwrap().changed);
        }
        join_state(&conn, &made.iter().collect::<Vec<_>>());

        let wanted: Vec<EntityRow> = joined.0.iter().map(|(target, (registers, _))| row_of(*target, registers)).collect();
        prop_assert_eq!(rows(&conn), wanted.clone());
        let replaced: BTreeSet<u64> =
            column(&conn, "SELECT id FROM replaced").into_iter().map(i64::cast_unsigned).collect();
        prop_assert_eq!(replaced, joined.0.values().flat_map(|(_, replaced)| replaced.clone()).collect());
        prop_assert_eq!(column(&conn, "SELECT max(n) FROM change"), before, "what is known is no change");
        let superseded = column(&conn, "SELECT count(*) FROM change WHERE n NOT IN (SELECT change FROM entity)");
        prop_assert_eq!(superseded[0], 0);
        let marks = column(&conn, "SELECT count(*) FROM flag GROUP BY kind HAVING kind = 6 UNION ALL SELECT 0");
        prop_assert_eq!(marks[0], codes(&wanted, |columns| &columns.sku));
        let marks = column(&conn, "SELECT count(*) FROM flag GROUP BY kind HAVING kind = 7 UNION ALL SELECT 0");
        prop_assert_eq!(marks[0], codes(&wanted, |columns| &columns.barcode));
    }
}

#[test]
fn a_put_replaces_a_patch_changes_a_delete_takes_away_and_a_put_brings_back() {
    let mut till = Till::new(1);
    let mut whole = product("C1", "Café");
    whole.extend(fields([("barcode", text("6191")), ("extra.colour", Value::Json("\"noir\"".into()))]));
    let view = entity(till.ask(edit(1, Change::Put(whole.clone()))));
    assert!(view.alive);
    assert_eq!(view.stock, Some(Quantity(0)));
    let ops = |till: &mut Till| {
        let origin = till.origin();
        till.head(origin).seq
    };
    let before = ops(&mut till);
    till.ask(edit(1, Change::Put(whole))).unwrap();
    assert_eq!(ops(&mut till), before, "a repeated put is one op");

    let view = entity(till.ask(edit(1, Change::Patch(fields([("price", Value::Int(9))])))));
    assert_eq!((view.registers.value("price"), view.registers.value("barcode")), (&Value::Int(9), &text("6191")));
    let view = entity(till.ask(edit(1, Change::Put(product("C1", "Café")))));
    assert_eq!((view.registers.value("barcode"), view.registers.value("extra.colour")), (&Value::Null, &Value::Null));

    assert!(!entity(till.ask(edit(1, Change::Delete))).alive);
    assert!(!entity(till.ask(edit(1, Change::Delete))).alive, "a retry is safe");
    let patched = till.ask(edit(1, Change::Patch(fields([("price", Value::Int(1))]))));
    assert_eq!(patched, Err(StoreError::NotFound("product")));
    assert_eq!(till.ask(edit(2, Change::Delete)), Err(StoreError::NotFound("product")));
    let query = EntityQuery::all(EntityKind::Product, 10);
    assert_eq!(till.reader().entities(&query).unwrap().items.len(), 0);
    let all = till.reader().entities(&EntityQuery { include_deleted: true, ..query }).unwrap();
    assert_eq!(all.items.len(), 1);
    assert!(entity(till.ask(edit(1, Change::Put(product("C1", "Café"))))).alive);
    assert_eq!(till.reader().counts().unwrap().products, 1);
}

#[test]
fn what_a_client_may_not_write_is_refused_whole() {
    let mut till = Till::new(1);
    let path = |till: &mut Till, change| match till.ask(edit(1, change)) {
        Err(StoreError::Rejected(rejection)) => rejection.path,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(path(&mut till, Change::Put(fields([("sku", text("A")), ("price", Value::Int(1))]))), "name");
    for (field, value) in [("price", Value::Int(-1)), ("colour", Value::Null), (ALIVE, Value::Bool(false))] {
        let mut whole = product("A", "Thé");
        whole.insert(field.to_owned(), value);
        assert_eq!(path(&mut till, Change::Put(whole)), field);
    }
    let many = (0..300).map(|n| (format!("extra.{n}"), Value::Json("1".into())));
    assert_eq!(path(&mut till, Change::Put(product("A", "Thé").into_iter().chain(many).collect())), "extra");
    let large = (0..9).map(|n| (format!("extra.{n}"), Value::Json(format!("\"{}\"", "x".repeat(32_000)))));
    assert_eq!(path(&mut till, Change::Put(product("A", "Thé").into_iter().chain(large).collect())), "extra");
    assert_eq!(till.reader().counts().unwrap().ops, 0);
    let review = Request::Edit { kind: EntityKind::Review, id: uuid(1), change: Change::Put(Fields::new()) };
    assert!(matches!(till.ask(review), Err(StoreError::NotFound(_))));
}

#[test]
fn fields_of_a_later_version_are_kept_and_relayed() {
    let (mut a, mut b, mut c) = (Till::new(1), Till::new(2), Till::new(3));
    a.ask(edit(1, Change::Put(product("C1", "Café")))).unwrap();
    let write = |field: &str, id, value| Write { field: field.to_owned(), id, replaces: vec![], value };
    let later = Edit {
        entity: EntityKind::Product,
        id: uuid(1),
        hlc: Hlc::from_ms(NOON),
        by: "POS-9".into(),
        writes: vec![write("vatRate", 7, Value::Int(19)), write(ALIVE, 8, Value::Bool(true))],
    };
    let origin = Origin(99);
    let ops = vec![Body::Edit(later).to_op(Hlc::from_ms(NOON))];
    let batch = OpBatch { origin, before: Head::default(), ops };
    a.ask(Request::Apply(batch.clone())).unwrap();
    a.ask(edit(1, Change::Put(product("C1", "Café noir")))).unwrap();
    b.pull(&mut a, 1);
    c.pull(&mut b, 10);
    assert_eq!(c.ops(origin, 1), Some(batch));
    let view = c.reader().entity(EntityKind::Product, uuid(1)).unwrap().unwrap();
    assert_eq!(view.registers.value("vatRate"), &Value::Int(19));
    assert_eq!(view.registers.value("name"), &text("Café noir"));
}

#[test]
fn lists_find_by_code_category_and_text() {
    let mut till = Till::new(1);
    for (n, (sku, name, barcode, category)) in [
        ("CAF-1", "Café crème", "619100", 50),
        ("CAF-2", "CAFE noir", "619200", 50),
        ("THE-1", "شاي بالنعناع", "619300", 51),
    ]
    .into_iter()
    .enumerate()
    {
        let mut values = product(sku, name);
        values.extend(fields([("barcode", text(barcode)), ("categoryId", Value::Id(uuid(category)))]));
        till.ask(edit(n as u128, Change::Put(values))).unwrap();
    }
    let person =
        fields([("firstName", text("Amélie")), ("lastName", text("Ben Salah")), ("phone", text("+216 20-123"))]);
    till.ask(Request::Edit { kind: EntityKind::Customer, id: uuid(9), change: Change::Put(person) }).unwrap();

    let found = |till: &mut Till, query: EntityQuery| -> Vec<u128> {
        let page = till.reader().entities(&query).unwrap();
        assert_eq!(page.next, None);
        page.items.iter().map(|view| view.id.as_u128()).collect()
    };
    let all = || EntityQuery::all(EntityKind::Product, 10);
    let q = |q: &str| EntityQuery { q: Some(q.to_owned()), ..all() };
    assert_eq!(found(&mut till, EntityQuery { sku: Some("CAF-2".into()), ..all() }), [1]);
    assert_eq!(found(&mut till, EntityQuery { barcode: Some("619300".into()), ..all() }), [2]);
    assert_eq!(found(&mut till, EntityQuery { category: Some(uuid(50)), ..all() }), [0, 1]);
    assert_eq!(found(&mut till, EntityQuery { category: Some(uuid(50)), ..q("NOIR") }), [1]);
    assert_eq!(found(&mut till, EntityQuery { category: Some(uuid(50)), barcode: Some("619300".into()), ..all() }), []);
    assert_eq!(found(&mut till, q("cafe")), [0, 1]);
    assert_eq!(found(&mut till, q(" CRÈME ")), [0]);
    assert_eq!(found(&mut till, q("نعناع")), [2]);
    assert_eq!(found(&mut till, q("6193")), [2]);
    assert_eq!(found(&mut till, q("%")), []);
    assert_eq!(found(&mut till, q("  ")), [0, 1, 2]);
    for text in ["salah amelie", "21620123", "+216 20"] {
        let query = EntityQuery { q: Some(text.into()), ..EntityQuery::all(EntityKind::Customer, 10) };
        assert_eq!(found(&mut till, query), [9], "{text}");
    }
    till.ask(edit(1, Change::Delete)).unwrap();
    assert_eq!(found(&mut till, EntityQuery { sku: Some("CAF-2".into()), ..all() }), []);
    assert_eq!(found(&mut till, q("cafe")), [0]);
    assert_eq!(found(&mut till, EntityQuery { include_deleted: true, ..q("cafe") }), [0, 1]);
}

#[test]
fn paging_gives_each_row_once_while_rows_change() {
    let mut till = Till::new(1);
    let put = |n: u128| edit(n, Change::Put(product(&format!("P-{n}"), "Produit")));
    till.execute((0..20).map(put).collect());
    let (mut seen, mut query) = (Vec::new(), EntityQuery::all(EntityKind::Product, 3));
    for n in 0u128.. {
        let Page { items, next } = till.reader().entities(&query).unwrap();
        assert!(items.len() <= 3);
        seen.extend(items.iter().map(|view| view.id.as_u128()));
        let Some(next) = next else { break };
        query.after = Some(next);
        // One that was seen, one that was not, a new one, and one that goes.
        let renamed = |n| edit(n, Change::Patch(fields([("name", text("Autre"))])));
        till.execute(vec![renamed(0), renamed(17), put(100 + n), edit(18 - n, Change::Delete)]);
    }
    let once: BTreeSet<u128> = seen.iter().copied().collect();
    assert_eq!(once.len(), seen.len(), "none twice: {seen:?}");
    assert!((0..11).chain([19]).all(|n| once.contains(&n)), "all that were there throughout: {seen:?}");
}

#[test]
fn whoever_resumes_from_any_cursor_ends_with_the_newest_of_each() {
    let mut till = Till::new(1);
    till.ask(goods_in(500, 1, 4)).unwrap();
    for n in 0..12u128 {
        till.ask(edit(n % 3, Change::Put(product(&format!("P{}", n % 3), &format!("Nom {n}"))))).unwrap();
        till.sell(600 + n, sale(&[(1, 1), (1, 2), (2, 1)]));
    }
    let last = till.reader().last_change().unwrap();
    for start in 0..=last {
        for limit in [1, 3, 1000] {
            let (mut after, mut names, mut rows) = (Cursor(start), BTreeMap::new(), 0);
            loop {
                let page = till.reader().changes(after, limit).unwrap();
                for item in page.items {
                    assert!(item.cursor > after, "in order");
                    after = item.cursor;
                    rows += 1;
                    match item.value {
                        ChangeValue::Entity(view) => {
                            assert_eq!((item.pos_id.as_str(), item.id), ("POS-1", view.id));
                            assert!(names.insert(view.id, view.registers.value("name").clone()).is_none(), "told once");
                        }
                        ChangeValue::Ticket(_) => assert_eq!(item.products, [uuid(1), uuid(2)]),
                        _ => assert_eq!(item.products, [uuid(1)]),
                    }
                }
                let Some(next) = page.next else { break };
                after = next;
            }
            let told = |n: u128| names.get(&uuid(n)) == Some(&text(&format!("Nom {}", n + 9)));
            // The last changes: product 0, a sale, product 1, a sale, product 2, a sale.
            assert!((0..3).all(|n| told(n) == (start < last - 5 + 2 * n as u64)), "from {start}: {names:?}");
            assert!(rows <= 16, "superseded rows are left out");
        }
    }
    assert_eq!(till.reader().changes(Cursor(u64::MAX), 1).unwrap().items, []);
}

#[test]
fn lists_use_an_index_in_their_order() {
    let mut conn = Connection::open_in_memory().unwrap();
    schema::migrate(&mut conn).unwrap();
    let all = EntityQuery::all(EntityKind::Product, 10);
    let sku = EntityQuery { sku: Some("A".into()), q: Some("x".into()), ..all.clone() };
    let barcode = EntityQuery { barcode: Some("A".into()), ..all.clone() };
    let category = EntityQuery { category: Some(uuid(1)), include_deleted: true, ..all.clone() };
    let deleted = EntityQuery { include_deleted: true, ..all.clone() };
    for (query, index) in [
        (all, "entity_alive (kind=? AND alive=? AND rowid>? AND rowid<?)"),
        (sku, "entity_sku (sku=? AND rowid>? AND rowid<?)"),
        (barcode, "entity_barcode (barcode=? AND rowid>? AND rowid<?)"),
        (category, "entity_category (category=? AND rowid>? AND rowid<?)"),
        (deleted, "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
    ] {
        let plan = entity::plan(&conn, &query);
        assert!(plan.len() == 1 && plan[0].ends_with(index), "{query:?}: {plan:?}");
    }
}

#[test]
fn a_call_looks_at_a_bounded_number_of_rows_and_says_where_to_go_on() {
    let mut till = Till::new(1);
    let rows = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 25000)";
    let entities = format!(
        "{rows} INSERT INTO entity (kind, id, alive, search, change, registers)
         SELECT 1, randomblob(16), 1, 'thé', 0, x'00' FROM n"
    );
    till.conn().execute_batch(&entities).unwrap();
    till.ask(edit(1, Change::Put(product("A", "Café")))).unwrap();

    let (reader, mut calls) = (till.reader(), 0);
    let mut query = EntityQuery { q: Some("café".into()), ..EntityQuery::all(EntityKind::Product, 5) };
    let found = loop {
        calls += 1;
        let page = reader.entities(&query).unwrap();
        match page.next {
            Some(next) => query.after = Some(next),
            None => break page.items,
        }
    };
    assert_eq!((calls, found.len(), found[0].id), (2, 1, uuid(1)));
}
