//! Rows of a snapshot whose logs are not put in yet: the state is ahead of its logs by them.

use rusqlite::Connection;

use super::super::error::StoreError;

/// How many there are.
pub(in crate::store) fn count(conn: &Connection) -> Result<u64, StoreError> {
    let count: i64 = conn.prepare_cached("SELECT count(*) FROM uncovered")?.query_row([], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}
