//! Stock: movements, running totals, and the ledger that says what moved them.

use std::collections::{BTreeMap, HashMap};

use rusqlite::{Connection, OptionalExtension};

use crate::model::amount::{QUANTITY_MAX, Quantity};
use crate::model::id::Uuid;
use crate::model::movement::{Movement, MovementKind};
use crate::model::mutant::Mutant;
use crate::model::op::{Body, kind};
use crate::model::ticket::{Refund, Ticket};

use super::changes::{self, ChangeKind};
use super::conflicts::{self, Flag};
use super::counted;
use super::digest;
use super::error::StoreError;
use super::reader::Reader;
use super::record::{self, Place, Record, Table};
use super::request::Reply;
use super::view::{Cursor, LIMIT_MAX, Page};
use super::work::Work;

/// Products whose row is remembered; forgotten all at once when there are more.
const ROWS_MAX: usize = 20_000;

/// Ledger rows that one call of [`Reader::stock_history`] looks at.
const SCAN_MAX: i64 = 200_000;

const MOVEMENTS: Table = Table {
    find: "SELECT idx, hash, counts FROM movement WHERE id = ?1",
    set_aside: "UPDATE movement SET counts = 0 WHERE idx = ?1",
};

/// One line of a product's stock history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StockEntry {
    /// Its place in order of arrival.
    pub cursor: Cursor,
    /// The change.
    pub delta: Quantity,
    /// When it was made, in milliseconds since 1970.
    pub at_ms: u64,
    /// The human id of the till that made it.
    pub pos_id: String,
    /// What moved it. An entry may be undone by a later one of the same cause: where other content under the same id counts instead.
    pub cause: StockCause,
}

/// What moved stock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StockCause {
    /// A ticket.
    Ticket {
        /// Its id.
        id: Uuid,
        /// Its number.
        number: String,
    },
    /// A refund.
    Refund {
        /// Its id.
        id: Uuid,
        /// The ticket's id.
        ticket: Uuid,
    },
    /// A movement of its own.
    Movement {
        /// Its id.
        id: Uuid,
        /// Why.
        kind: MovementKind,
        /// The client's reference.
        reference: Option<String>,
    },
}

/// The rows of products in the table of totals, and what the request has moved so far: a product sold on ten tickets of one batch is
/// written once.
#[derive(Debug, Default)]
pub(super) struct StockRows {
    by_product: HashMap<Uuid, i64>,
    moved: BTreeMap<i64, i64>,
}

impl StockRows {
    fn row(&mut self, conn: &Connection, product: Uuid) -> Result<i64, StoreError> {
        if let Some(row) = self.by_product.get(&product) {
            return Ok(*row);
        }
        let known = conn
            .prepare_cached("SELECT idx FROM stock WHERE product = ?1")?
            .query_row([product.as_bytes()], |row| row.get(0))
            .optional()?;
        let row = match known {
            Some(row) => row,
            None => {
                conn.prepare_cached("INSERT INTO stock (product, total) VALUES (?1, 0)")?
                    .execute([product.as_bytes()])?;
                conn.last_insert_rowid()
            }
        };
        if self.by_product.len() >= ROWS_MAX {
            self.by_product.clear();
        }
        self.by_product.insert(product, row);
        Ok(row)
    }
}

impl Work<'_> {
    /// Moves stock of one product, on account of a record.
    pub(super) fn shift(
        &mut self,
        (product, delta): (Uuid, Quantity),
        (kind, record): (u16, i64),
    ) -> Result<(), StoreError> {
        let row = self.memory.stock.row(self.conn, product)?;
        self.conn
            .prepare_cached("INSERT INTO ledger (stock_idx, delta, src_kind, src_idx) VALUES (?1, ?2, ?3, ?4)")?
            .execute((row, delta.0, kind, record))?;
        *self.memory.stock.moved.entry(row).or_default() += delta.0;
        Ok(())
    }

    /// Writes the totals that the request has moved.
    pub(super) fn flush_stock(&mut self) -> Result<(), StoreError> {
        if self.memory.stock.moved.is_empty() {
            return Ok(());
        }
        let mut statement = self.conn.prepare_cached("UPDATE stock SET total = total + ?2 WHERE idx = ?1")?;
        while let Some((row, delta)) = self.memory.stock.moved.pop_first() {
            statement.execute((row, delta))?;
        }
        Ok(())
    }

    /// Records a movement of stock.
    pub(super) fn move_stock(
        &mut self,
        id: Uuid,
        product: Uuid,
        kind: MovementKind,
        quantity: Quantity,
        reference: Option<String>,
    ) -> Result<Reply, StoreError> {
        let reply =
            |conn: &Connection, created| total(conn, product).map(|stock| Reply::Stock { product, stock, created });
        let same =
            |m: &Movement| (m.product, m.kind, m.quantity, &m.reference) == (product, kind, quantity, &reference);
        let known: Vec<Movement> = record::bodies(self.conn, "SELECT body FROM movement WHERE id = ?1", id)?;
        if known.iter().any(same) {
            return reply(self.conn, false);
        }
        if !known.is_empty() {
            return Err(StoreError::Conflict("stock movement"));
        }
        if quantity.0.unsigned_abs() > QUANTITY_MAX as u64 {
            return Err(StoreError::rejected("quantity", "a quantity is at most 1000000000"));
        }
        let delta = kind
            .delta(quantity, total(self.conn, product)?)
            .map_err(|message| StoreError::rejected("quantity", message))?;
        let replaces = if kind == MovementKind::Count { counted::heads(self.conn, product)? } else { Vec::new() };
        let hlc = self.tick();
        let movement = Movement { id, product, kind, quantity, delta, replaces, reference, made: self.made(hlc) };
        let body = Body::Movement(movement);
        let op = self.op(&body, hlc)?;
        if let Err(reason) = record::read(&op) {
            return Err(StoreError::rejected("quantity", reason.to_string()));
        }
        let rec = self.fold(&body, &op, &mut [0; 32])?;
        self.append(op, rec, None)?;
        self.flush_stock()?;
        reply(self.conn, true)
    }

    /// Stores a movement, ours or another's; gives its row.
    pub(super) fn insert_movement(&mut self, movement: &Movement, record: &Record<'_>) -> Result<i64, StoreError> {
        let place = record::place(self.conn, &MOVEMENTS, record)?;
        match place {
            Place::Known(idx) => {
                if Mutant::CountTwice.is_on() {
                    self.shift((movement.product, movement.delta), (kind::MOVEMENT, idx))?;
                }
                return Ok(idx);
            }
            Place::First => {}
            Place::Beaten(_) => conflicts::mark(self.conn, Flag::MovementContents, movement.id.as_bytes(), true)?,
            Place::Beats(former) => {
                conflicts::mark(self.conn, Flag::MovementContents, movement.id.as_bytes(), true)?;
                if let Some(undone) = movement_at(self.conn, former)? {
                    self.shift((undone.product, -undone.delta), (kind::MOVEMENT, former))?;
                    counted::remove(self.conn, &undone)?;
                }
            }
        }
        let made = &movement.made;
        self.conn
            .prepare_cached(
                "INSERT INTO movement (id, hash, counts, at_ms, pos_id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                record.id.as_bytes(),
                record.hash,
                place.counts(),
                made.at_ms.cast_signed(),
                &made.pos_id,
                record.body,
            ))?;
        let idx = self.conn.last_insert_rowid();
        digest::note(self.conn, &record::MOVEMENTS, idx)?;
        if place.counts() {
            self.shift((movement.product, movement.delta), (kind::MOVEMENT, idx))?;
            counted::insert(self.conn, movement)?;
            changes::record(self.conn, ChangeKind::Movement, idx)?;
        }
        Ok(idx)
    }
}

/// What is in stock.
pub(super) fn total(conn: &Connection, product: Uuid) -> Result<Quantity, StoreError> {
    let total = conn
        .prepare_cached("SELECT total FROM stock WHERE product = ?1")?
        .query_row([product.as_bytes()], |row| row.get(0))
        .optional()?;
    Ok(Quantity(total.unwrap_or(0)))
}

/// The movement in a row.
pub(super) fn movement_at(conn: &Connection, idx: i64) -> Result<Option<Movement>, StoreError> {
    record::body_at(conn, "SELECT body FROM movement WHERE idx = ?1", idx)
}

impl Reader {
    /// What is in stock of a product: the sum of all movements that are here. May be less than zero.
    ///
    /// # Errors
    /// The database's.
    pub fn stock(&self, product: Uuid) -> Result<Quantity, StoreError> {
        total(self.conn(), product)
    }

    /// What moved a product's stock, the newest first; `after` goes on towards older ones.
    ///
    /// # Errors
    /// The database's.
    pub fn stock_history(
        &self,
        product: Uuid,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<StockEntry>, StoreError> {
        self.snapshot(|reader| reader.stock_history_now(product, after, limit.clamp(1, LIMIT_MAX)))
    }

    fn stock_history_now(
        &self,
        product: Uuid,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<StockEntry>, StoreError> {
        let conn = self.conn();
        let newest: i64 = conn.query_row("SELECT coalesce(max(n), 0) FROM ledger", [], |row| row.get(0))?;
        // There is no index by product: a sale would dirty one page a line. So a call looks at a bounded stretch.
        let below = after.map_or(newest + 1, |cursor| cursor.0.cast_signed().clamp(1, newest + 1));
        let down_to = (below - SCAN_MAX).max(1);
        let mut statement = conn.prepare_cached(
            "SELECT n, delta, src_kind, src_idx FROM ledger WHERE n >= ?1 AND n < ?2
             AND stock_idx = (SELECT idx FROM stock WHERE product = ?3) ORDER BY n DESC LIMIT ?4",
        )?;
        let mut rows = statement.query((down_to, below, product.as_bytes(), limit as i64))?;
        let mut items = Vec::new();
        while let Some(row) = rows.next()? {
            let cursor = Cursor(row.get::<_, i64>(0)?.cast_unsigned());
            items.extend(entry(conn, cursor, Quantity(row.get(1)?), (row.get(2)?, row.get(3)?))?);
        }
        let next = match items.last() {
            Some(last) if items.len() >= limit => Some(last.cursor),
            _ => (down_to > 1).then_some(Cursor(down_to.cast_unsigned())),
        };
        Ok(Page { items, next })
    }
}

fn entry(
    conn: &Connection,
    cursor: Cursor,
    delta: Quantity,
    (src_kind, src_idx): (u16, i64),
) -> Result<Option<StockEntry>, StoreError> {
    let found = match src_kind {
        kind::TICKET => record::body_at(conn, "SELECT body FROM ticket WHERE idx = ?1", src_idx)?
            .map(|t: Ticket| (t.made, StockCause::Ticket { id: t.id, number: t.number })),
        kind::REFUND => record::body_at(conn, "SELECT body FROM refund WHERE idx = ?1", src_idx)?
            .map(|r: Refund| (r.made, StockCause::Refund { id: r.id, ticket: r.ticket })),
        _ => movement_at(conn, src_idx)?
            .map(|m| (m.made, StockCause::Movement { id: m.id, kind: m.kind, reference: m.reference })),
    };
    Ok(found.map(|(made, cause)| StockEntry { cursor, delta, at_ms: made.at_ms, pos_id: made.pos_id, cause }))
}
