//! The table that products, categories and customers (and reviews) share: one row an entity, its registers in canonical bytes.
//!
//! A row's columns follow from its registers alone, and these from the set of edits that came, in any order. A row is never deleted,
//! so that `idx` is a place in lists that stays.

use std::collections::BTreeMap;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};

use crate::model::amount::Quantity;
use crate::model::clock::Hlc;
use crate::model::id::Uuid;
use crate::model::op::{BODY_APPLY_MAX, canonical};
use crate::model::register::{Edit, EntityKind, Registers, Value, WRITES_MAX};

use super::error::StoreError;
use super::fields::{check, fields, is_known};
use super::reader::Reader;
use super::search::folded;
use super::view::{Cursor, LIMIT_MAX, Page};
use super::{categories, customers, posplus, products, stock};

mod join;

pub(super) use join::{Joined, apply_edit, each, join_state, own_replaced_ids, replaced_ids};

/// The most rows that one part of a list looks at: a search for what is rare answers with fewer items than asked for, and where to go on.
const SCAN_MAX: i64 = 20_000;

/// The most fields that clients write of one entity over its life, cleared ones included: each has a head for ever.
const FIELDS_MAX: usize = 512;

/// A change of an entity.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Replaces all fields: those that are not named are cleared, but for fields that only a later version knows. Makes the entity
    /// where it is not there, or brings it back.
    Put(BTreeMap<String, Value>),
    /// Replaces some fields of an entity that is there.
    Patch(BTreeMap<String, Value>),
    /// Takes it away. A later edit brings it back.
    Delete,
}

/// A product, category or customer.
#[derive(Clone, PartialEq, Debug)]
pub struct EntityView {
    /// Its place in lists.
    pub cursor: Cursor,
    /// What it is.
    pub kind: EntityKind,
    /// Which one.
    pub id: Uuid,
    /// Its fields.
    pub registers: Registers,
    /// Whether it exists: not deleted.
    pub alive: bool,
    /// What is in stock, for a product.
    pub stock: Option<Quantity>,
}

/// Which entities to list, in order of arrival. All that is given must hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntityQuery {
    /// What they are.
    pub kind: EntityKind,
    /// Go on after this place.
    pub after: Option<Cursor>,
    /// At most so many, and never more than [`LIMIT_MAX`].
    pub limit: usize,
    /// With this stock-keeping unit. Products that are not deleted alone have one, and so for barcode and category.
    pub sku: Option<String>,
    /// With this barcode.
    pub barcode: Option<String>,
    /// In this category.
    pub category: Option<Uuid>,
    /// With this in one of the texts that they are found by (product: name, stock-keeping unit, barcode; category: name; customer:
    /// names, company, e-mail, telephone number), whatever its capitals and Latin accents.
    pub q: Option<String>,
    /// Deleted ones as well.
    pub include_deleted: bool,
}

impl EntityQuery {
    /// All that are not deleted, from the first on.
    #[must_use]
    pub fn all(kind: EntityKind, limit: usize) -> Self {
        let (sku, barcode, category, q) = (None, None, None, None);
        Self { kind, after: None, limit, sku, barcode, category, q, include_deleted: false }
    }
}

/// What an entity is found by; follows from its registers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Columns {
    pub(super) alive: bool,
    pub(super) sku: Option<String>,
    pub(super) barcode: Option<String>,
    pub(super) category: Option<Uuid>,
    pub(super) search: String,
}

impl Columns {
    pub(super) fn of(kind: EntityKind, registers: &Registers) -> Self {
        match kind {
            EntityKind::Product => products::columns(registers),
            EntityKind::Category => categories::columns(registers),
            EntityKind::Customer => customers::columns(registers),
            EntityKind::Review => Self { alive: registers.is_alive(), ..Self::default() },
            EntityKind::Posplus => posplus::columns(registers),
        }
    }

    /// Without the codes and the category, where it is deleted: these are for the living.
    pub(super) fn of_the_living(self) -> Self {
        if self.alive { self } else { Self { sku: None, barcode: None, category: None, ..self } }
    }
}

/// The number of a kind in the database.
pub(super) const fn number(kind: EntityKind) -> i64 {
    match kind {
        EntityKind::Product => 1,
        EntityKind::Category => 2,
        EntityKind::Customer => 3,
        EntityKind::Review => 4,
        EntityKind::Posplus => 5,
    }
}

pub(super) fn of_number(number: i64) -> Result<EntityKind, StoreError> {
    [EntityKind::Product, EntityKind::Category, EntityKind::Customer, EntityKind::Review, EntityKind::Posplus]
        .into_iter()
        .find(|kind| self::number(*kind) == number)
        .ok_or_else(|| StoreError::Damaged(format!("entity of kind {number}")))
}

const fn noun(kind: EntityKind) -> &'static str {
    match kind {
        EntityKind::Product => "product",
        EntityKind::Category => "category",
        EntityKind::Customer => "customer",
        EntityKind::Review => "review",
        EntityKind::Posplus => "row of a POSPlus till",
    }
}

/// The edit that makes `change` on what is here, for the caller to append and [`apply_edit`]; `None` where it is so already. Writes
/// nothing. `ids` gives random numbers.
///
/// # Errors
/// [`StoreError::Rejected`] with the field's name as path, [`StoreError::NotFound`].
pub(super) fn author(
    conn: &Connection,
    target: (EntityKind, Uuid),
    change: &Change,
    made: (Hlc, &str),
    ids: &mut dyn FnMut() -> u64,
) -> Result<Option<Edit>, StoreError> {
    let registers = registers(conn, target)?.unwrap_or_default();
    let values = match change {
        Change::Put(values) => put(target.0, &registers, values)?,
        Change::Patch(_) | Change::Delete if registers.latest().is_none() => {
            return Err(StoreError::NotFound(noun(target.0)));
        }
        Change::Patch(_) if !registers.is_alive() => return Err(StoreError::NotFound(noun(target.0))),
        Change::Patch(values) => values.clone(),
        Change::Delete => BTreeMap::new(),
    };
    for (field, value) in &values {
        check(target.0, field, value)?;
    }
    let edit = registers.edit(target, values, *change != Change::Delete, made, ids);
    edit.map(|edit| within_limits(&registers, edit)).transpose()
}

/// All values that a put writes: the given ones, and nothing into the other fields that this version writes.
fn put(
    kind: EntityKind,
    registers: &Registers,
    values: &BTreeMap<String, Value>,
) -> Result<BTreeMap<String, Value>, StoreError> {
    if let Some(missing) = fields(kind).iter().find(|field| field.required && !values.contains_key(field.name)) {
        return Err(StoreError::rejected(missing.name, "it must be there"));
    }
    if fields(kind).is_empty() {
        return Err(StoreError::NotFound(noun(kind)));
    }
    let cleared = registers.fields().map(|(field, _)| field).filter(|field| is_known(kind, field));
    let mut all: BTreeMap<_, _> = cleared.map(|field| (field.to_owned(), Value::Null)).collect();
    all.extend(values.clone());
    Ok(all)
}

fn within_limits(registers: &Registers, edit: Edit) -> Result<Edit, StoreError> {
    let fresh = edit.writes.iter().filter(|write| registers.shown(&write.field).is_none()).count();
    if edit.writes.len() > WRITES_MAX || registers.fields().count() + fresh > FIELDS_MAX {
        return Err(StoreError::rejected("extra", "too many fields"));
    }
    if canonical(&edit).len() > BODY_APPLY_MAX {
        return Err(StoreError::rejected("extra", format!("more than {BODY_APPLY_MAX} bytes in one request")));
    }
    Ok(edit)
}

/// The registers of an entity that was written at least once.
pub(super) fn registers(conn: &Connection, target: (EntityKind, Uuid)) -> Result<Option<Registers>, StoreError> {
    let registers = conn
        .prepare_cached("SELECT registers FROM entity WHERE kind = ?1 AND id = ?2")?
        .query_row((number(target.0), target.1.as_bytes()), |row| decoded(row, 0))
        .optional()?;
    Ok(registers)
}

/// The entity in a row.
pub(super) fn registers_at(conn: &Connection, idx: i64) -> Result<(EntityKind, Uuid, Registers), StoreError> {
    let mut query = conn.prepare_cached("SELECT kind, id, registers FROM entity WHERE idx = ?1")?;
    let (kind, id, registers) =
        query.query_row([idx], |row| Ok((row.get(0)?, Uuid::from_bytes(row.get(1)?), decoded(row, 2)?)))?;
    Ok((of_number(kind)?, id, registers))
}

fn decoded(row: &Row<'_>, column: usize) -> rusqlite::Result<Registers> {
    let bytes = row.get_ref(column)?.as_blob()?;
    postcard::from_bytes(bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(error))
    })
}

/// The columns that [`viewed`] reads.
const VIEW: &str = "SELECT idx, kind, id, registers FROM entity";

/// An entity, deleted or not.
pub(super) fn view(conn: &Connection, kind: EntityKind, id: Uuid) -> Result<Option<EntityView>, StoreError> {
    let sql = format!("{VIEW} WHERE kind = ?1 AND id = ?2");
    let mut rows = conn.prepare_cached(&sql)?;
    let mut rows = rows.query((number(kind), id.as_bytes()))?;
    Ok(rows.next()?.map(|row| viewed(conn, row)).transpose()?.flatten())
}

/// The entity in a row.
pub(super) fn view_at(conn: &Connection, idx: i64) -> Result<Option<EntityView>, StoreError> {
    let sql = format!("{VIEW} WHERE idx = ?1");
    let mut rows = conn.prepare_cached(&sql)?;
    let mut rows = rows.query([idx])?;
    Ok(rows.next()?.map(|row| viewed(conn, row)).transpose()?.flatten())
}

/// `None` for an entity of which no head has come yet.
fn viewed(conn: &Connection, row: &Row<'_>) -> Result<Option<EntityView>, StoreError> {
    let (kind, id) = (of_number(row.get(1)?)?, Uuid::from_bytes(row.get(2)?));
    let registers = decoded(row, 3)?;
    if registers.is_empty() {
        return Ok(None);
    }
    let alive = registers.is_alive();
    let stock = match kind {
        EntityKind::Product => Some(stock::total(conn, id)?),
        _ => None,
    };
    let cursor = Cursor(row.get::<_, i64>(0)?.cast_unsigned());
    Ok(Some(EntityView { cursor, kind, id, registers, alive, stock }))
}

fn list(conn: &Connection, query: &EntityQuery) -> Result<Page<EntityView>, StoreError> {
    let limit = query.limit.clamp(1, LIMIT_MAX);
    let after = i64::try_from(query.after.unwrap_or_default().0).unwrap_or(i64::MAX);
    let q = query.q.as_deref().map(folded).filter(|q| !q.is_empty());
    // Rows are never deleted, so a window of places is a bound on the rows looked at.
    let scans = q.is_some() || query.include_deleted;
    let until = if scans { after.saturating_add(SCAN_MAX) } else { i64::MAX };
    let conditions = conditions(query, q);
    let values = conditions.iter().map(|(_, value)| value);
    let place = [number(query.kind), after, until].map(Sql::Integer);
    let most = Sql::Integer(limit as i64 + 1);
    let values = place.iter().chain(values).chain([&most]);
    let mut items = Vec::new();
    let mut rows = conn.prepare_cached(&list_sql(query, &conditions))?;
    let mut rows = rows.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        items.extend(viewed(conn, row)?);
    }
    let next = if items.len() > limit {
        items.truncate(limit);
        items.last().map(|last| last.cursor)
    } else {
        let end: Option<i64> = conn.prepare_cached("SELECT max(idx) FROM entity")?.query_row([], |row| row.get(0))?;
        (until < end.unwrap_or(0)).then(|| Cursor(until.cast_unsigned()))
    };
    Ok(Page { items, next })
}

/// What must hold besides kind and place, and the values.
fn conditions(query: &EntityQuery, q: Option<String>) -> Vec<(&'static str, Sql)> {
    let category = query.category.map(|id| Sql::Blob(id.as_bytes().to_vec()));
    [
        (" AND sku = ?", query.sku.clone().map(Sql::Text)),
        (" AND barcode = ?", query.barcode.clone().map(Sql::Text)),
        (" AND category = ?", category),
        (" AND instr(search, ?) > 0", q.map(Sql::Text)),
    ]
    .into_iter()
    .filter_map(|(condition, value)| Some((condition, value?)))
    .collect()
}

/// Whatever is asked for, an index is used in the order of `idx`; a plus keeps a column from being taken for one.
fn list_sql(query: &EntityQuery, conditions: &[(&'static str, Sql)]) -> String {
    let coded = query.sku.is_some() || query.barcode.is_some() || query.category.is_some();
    let of_kind = match (query.include_deleted, coded) {
        // Of one that has no head yet there is nothing to show.
        (true, _) => "+kind = ? AND registers <> x'00'",
        (false, true) => "+kind = ? AND +alive = 1",
        (false, false) => "kind = ? AND alive = 1",
    };
    let conditions: String = conditions.iter().map(|(condition, _)| *condition).collect();
    format!("{VIEW} WHERE {of_kind} AND idx > ? AND idx <= ?{conditions} ORDER BY idx LIMIT ?")
}

/// How SQLite goes about a list.
#[cfg(test)]
pub(super) fn plan(conn: &Connection, query: &EntityQuery) -> Vec<String> {
    let sql = format!("EXPLAIN QUERY PLAN {}", list_sql(query, &conditions(query, query.q.clone())));
    let mut statement = conn.prepare(&sql).expect("the statement is sound");
    statement.raw_query().mapped(|row| row.get(3)).map(|line| line.expect("a plan is text")).collect()
}

impl Reader {
    /// A product, category or customer; deleted or not, see [`EntityView::alive`]. `None` where it was never written.
    ///
    /// # Errors
    /// The database's.
    pub fn entity(&self, kind: EntityKind, id: Uuid) -> Result<Option<EntityView>, StoreError> {
        self.snapshot(|reader| view(reader.conn(), kind, id))
    }

    /// A part of a list. Who goes on from [`Page::next`] to the end has each entity exactly once that was there all the time, whatever is
    /// edited meanwhile.
    ///
    /// # Errors
    /// The database's.
    pub fn entities(&self, query: &EntityQuery) -> Result<Page<EntityView>, StoreError> {
        self.snapshot(|reader| list(reader.conn(), query))
    }
}
