//! What POSPlus tills say becomes our records and edits, and what is here becomes words of theirs.
//!
//! Which of our things a row of a POSPlus till is, is an entity of its own ([`EntityKind::Posplus`]), replicated like any other, so that any
//! of our tills can talk to any of theirs. Its id follows from (posId, kind, row). It is never emitted before a POSPlus till was heard.
//!
//! Its clock is not to be trusted: POSPlus stamps what it copies with the local time, as if that were UTC. So an alias also keeps what that
//! till said last of the thing, and what it was told since, as hashes of the content. What a list says and is one of these is no change,
//! whatever its stamp; where only one side has changed, that side counts; only where both have do stamps decide, and none is taken to be
//! newer than now.
//!
//! A quantity that such a till says is absolute. It becomes a movement by the difference to what that till last said or was told: see
//! [`PosStock`]. So sales on both sides add up.

mod customers;
mod inbound;
mod outbound;
#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension};

use crate::model::amount::Quantity;
use crate::model::id::{TillId, Uuid};
use crate::model::posplus::{PosCategory, PosCustomer, PosProduct, PosTicket, Thing, speaker_of};
use crate::model::register::{EntityKind, Registers, Value};

use super::entity::{self, Columns};
use super::error::StoreError;
use super::reader::Reader;
use super::view::Cursor;

pub use outbound::{PosNews, PosOutbox, PosRows};

/// The field of an alias that says which thing it is.
const IS: &str = "is";
/// The fields of an alias that say what its id is made of.
const POS_ID: &str = "posId";
const ROW: &str = "row";
/// The fields of an alias that say by its content what that till said last of the thing, and what it was told since: numbers in a text, the
/// latest last. It may have refused what it was told, by its clock, so all of these are contents that it may have.
const SAID: &str = "said";
const TOLD: &str = "told";
/// The most contents that are kept of what a till was told of one thing since it said something itself.
const TOLD_MAX: usize = 8;
/// The field that says which of our tills speaks to a POSPlus till.
const SPEAKER: &str = "speaker";
/// The free field of a product in which those of POSPlus's fields are kept that ours has not.
const EXTRAS: &str = "extra.posplus";

/// Something that a POSPlus till said.
#[derive(Clone, PartialEq, Debug)]
pub enum PosSaid {
    /// It sold.
    Ticket(Box<PosTicket>),
    /// It has this product.
    Product {
        /// The product.
        product: Box<PosProduct>,
        /// Whether it has just changed there, or a person there has ordered it to count; else it is one of a list, and the newer of both
        /// counts.
        live: bool,
        /// What it has of it.
        stock: PosStock,
    },
    /// It has taken this product away.
    Deleted(Box<PosProduct>),
    /// It has this category.
    Category {
        /// The category.
        category: Box<PosCategory>,
        /// Whether a person there has ordered it to count; else it is one of a list, and the newer of both counts.
        live: bool,
    },
    /// It has this customer.
    Customer(Box<PosCustomer>),
    /// It has so many of the product in this row.
    Stock {
        /// The row.
        row: i64,
        /// How many.
        stock: PosStock,
    },
    /// It has read what it was told of the things in these rows: what, as content.
    Read(Vec<(Thing, i64, i64)>),
    /// Which of our tills speaks to it from now on; none where this one has lost it.
    Speaker(Option<TillId>),
}

/// A quantity that a POSPlus till says.
#[derive(Clone, PartialEq, Debug)]
pub struct PosStock {
    /// How many it has.
    pub quantity: Quantity,
    /// How many it had by what it last said or was told, where this connection knows.
    pub before: Option<Quantity>,
    /// Up to where in our ledger it was told of everything: what it had follows from that, where the connection does not know.
    pub told: i64,
    /// Up to where in our ledger it may have been told: where what it says is what was here at some place between, it was told up to there.
    /// `i64::MAX` where another of our tills spoke until now: then what is none of these is a conflict, not a movement.
    pub maybe_told: i64,
    /// The id of the message: of one message one movement is made.
    pub message: String,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PosHeard {
    /// The product that it was about.
    pub product: Option<Uuid>,
    /// The customer that it was about.
    pub customer: Option<Uuid>,
    /// Changes of stock that it made here.
    pub moved: Vec<(Uuid, Quantity)>,
    /// What is in stock of the product now.
    pub stock: Quantity,
    /// Whether ours is newer, and that till should be told.
    pub ours_newer: bool,
    /// Whether it is about a row that is not known: to be said again once that till has told of the product.
    pub unknown: bool,
    /// What that till has, where it cannot be told how its quantity and ours came to differ: ours stays.
    pub differs: Option<Quantity>,
}

/// What an entity of this kind is found by: the thing that it stands for.
pub(super) fn columns(registers: &Registers) -> Columns {
    Columns { alive: registers.is_alive(), category: is_of(registers), ..Columns::default() }.of_the_living()
}

/// What is known of a row.
fn alias_at(conn: &Connection, thing: Thing, pos_id: &str, row: i64) -> Result<Registers, StoreError> {
    Ok(entity::registers(conn, (EntityKind::Posplus, thing.alias(pos_id, row)))?.unwrap_or_default())
}

/// Which of our things an alias stands for.
fn is_of(alias: &Registers) -> Option<Uuid> {
    match alias.value(IS) {
        Value::Id(id) => Some(*id),
        _ => None,
    }
}

/// What a till was told of a thing since it said something of it itself, the latest last.
fn told_of(alias: &Registers) -> Vec<i64> {
    match alias.value(TOLD) {
        Value::Text(text) => text.split(' ').filter_map(|n| n.parse().ok()).collect(),
        _ => Vec::new(),
    }
}

fn told_as(contents: &[i64]) -> Value {
    let words: Vec<String> = contents.iter().map(i64::to_string).collect();
    if words.is_empty() { Value::Null } else { Value::Text(words.join(" ")) }
}

/// Which of our things a row is.
fn thing_at(conn: &Connection, thing: Thing, pos_id: &str, row: i64) -> Result<Option<Uuid>, StoreError> {
    Ok(is_of(&alias_at(conn, thing, pos_id, row)?))
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn maybe(value: Option<&String>) -> Value {
    value.map_or(Value::Null, |value| text(value))
}

fn text_of(registers: &Registers, field: &str) -> Option<String> {
    match registers.value(field) {
        Value::Text(text) if !text.is_empty() => Some(text.clone()),
        _ => None,
    }
}

fn latest_ms(registers: &Registers) -> u64 {
    registers.latest().map_or(0, |head| head.hlc.ms())
}

/// Rows of our things that a POSPlus till does not have begin here: beyond those of any shop's database.
const OUR_ROWS: i64 = 1_000_000_000;

fn row_or_ours(row: Option<i64>, cursor: Cursor) -> i64 {
    row.unwrap_or_else(|| OUR_ROWS.saturating_add_unsigned(cursor.0))
}

/// In which row a POSPlus till has one of our things: the first, where it has it twice.
fn row_of(conn: &Connection, thing: Thing, pos_id: &str, id: Uuid) -> Result<Option<i64>, StoreError> {
    let kind = entity::number(EntityKind::Posplus);
    let mut query =
        conn.prepare_cached("SELECT id, registers FROM entity WHERE category = ?1 AND +kind = ?2 ORDER BY idx")?;
    let mut rows = query.query((id.as_bytes(), kind))?;
    let mut found: Option<i64> = None;
    while let Some(row) = rows.next()? {
        let alias = Uuid::from_bytes(row.get(0)?);
        let registers = super::record::decode::<Registers>(row.get_ref(1)?.as_blob().unwrap_or_default())?;
        if let (Value::Text(pos), Value::Int(n)) = (registers.value(POS_ID), registers.value(ROW))
            && pos == pos_id
            && thing.alias(pos_id, *n) == alias
        {
            found = Some(found.map_or(*n, |first| first.min(*n)));
        }
    }
    Ok(found)
}

/// The product of a stock-keeping unit: the smallest id, where several have it.
fn product_of_sku(conn: &Connection, sku: &str) -> Result<Option<Uuid>, StoreError> {
    let kind = entity::number(EntityKind::Product);
    let id = conn
        .prepare_cached("SELECT id FROM entity WHERE sku = ?1 AND +kind = ?2 ORDER BY id LIMIT 1")?
        .query_row((sku, kind), |row| row.get(0))
        .optional()?;
    Ok(id.map(Uuid::from_bytes))
}

/// Where our ledger stands.
fn ledger_end(conn: &Connection) -> Result<i64, StoreError> {
    Ok(conn.prepare_cached("SELECT coalesce(max(n), 0) FROM ledger")?.query_row([], |row| row.get(0))?)
}

impl Reader {
    /// Which of our tills speaks to a POSPlus till, by the latest word.
    ///
    /// # Errors
    /// The database's.
    pub fn posplus_speaker(&self, pos_id: &str) -> Result<Option<TillId>, StoreError> {
        let said = entity::registers(self.conn(), (EntityKind::Posplus, speaker_of(pos_id)))?.unwrap_or_default();
        Ok(match said.value(SPEAKER) {
            Value::Text(till) => till.parse().ok(),
            _ => None,
        })
    }

    /// Where changes and ledger stand: what a POSPlus till that has been told everything was told.
    ///
    /// # Errors
    /// The database's.
    pub fn posplus_now(&self) -> Result<(u64, i64), StoreError> {
        self.snapshot(|reader| Ok((reader.last_change()?, ledger_end(reader.conn())?)))
    }
}
