//! Refunds and cancellations.

use rusqlite::Connection;

use crate::model::ticket::Refund;

use super::error::StoreError;

/// The refund in a row.
pub(super) fn at(conn: &Connection, idx: i64) -> Result<Option<Refund>, StoreError> {
    let _ = (conn, idx);
    Ok(None)
}
