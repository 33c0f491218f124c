//! Stock: movements, running totals, the ledger.

use rusqlite::Connection;

use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::model::movement::{Movement, MovementKind};

use super::error::StoreError;
use super::view::Cursor;

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
    /// What moved it.
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

/// What is in stock.
pub(super) fn total(conn: &Connection, product: Uuid) -> Result<Quantity, StoreError> {
    let total = conn
        .prepare_cached("SELECT total FROM stock WHERE product = ?1")?
        .query_row([product.as_bytes()], |row| row.get(0));
    match total {
        Ok(total) => Ok(Quantity(total)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(Quantity(0)),
        Err(error) => Err(error.into()),
    }
}

/// The movement in a row.
pub(super) fn movement_at(conn: &Connection, idx: i64) -> Result<Option<Movement>, StoreError> {
    let _ = (conn, idx);
    Ok(None)
}
