//! Rows of a snapshot whose logs are not put in yet: the state is ahead of its logs by them.
//!
//! Each is noted with the snapshot (its session) that brought it, and covered when that snapshot's logs are put in. What a snapshot that
//! was cut off has brought is covered by a later one only where that one has the very same: otherwise it is authored, see
//! [`super::adopt`].

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use super::super::error::StoreError;
use super::super::reader::Reader;
use crate::model::mutant::Mutant;
use crate::sync::Unfinished;

/// A row of the state: its table, and what tells it from others there.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::store) struct Uncovered {
    pub(in crate::store) table: u16,
    /// The row number of a record or entity, a till, the hash of what is held.
    pub(in crate::store) row: Value,
}

/// How many there are.
pub(in crate::store) fn count(conn: &Connection) -> Result<u64, StoreError> {
    let count: i64 = conn.prepare_cached("SELECT count(*) FROM uncovered")?.query_row([], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// Some of them.
pub(super) fn some(conn: &Connection, rows_max: usize) -> Result<Vec<Uncovered>, StoreError> {
    let mut query = conn.prepare_cached("SELECT tbl, ref FROM uncovered ORDER BY tbl, ref LIMIT ?1")?;
    let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let rows = query.query_map([limit], |row| Ok(Uncovered { table: row.get(0)?, row: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The session that a row is of, where it is uncovered.
pub(super) fn session(conn: &Connection, of: &Uncovered) -> Result<Option<u64>, StoreError> {
    let mut query = conn.prepare_cached("SELECT session FROM uncovered WHERE tbl = ?1 AND ref = ?2")?;
    let session = query.query_row((of.table, &of.row), |row| row.get::<_, i64>(0)).optional()?;
    Ok(session.map(i64::cast_unsigned))
}

/// Notes a row as of this session.
pub(super) fn note(conn: &Connection, of: &Uncovered, session: u64) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO uncovered (tbl, ref, session) VALUES (?1, ?2, ?3)")?.execute((
        of.table,
        &of.row,
        session.cast_signed(),
    ))?;
    Ok(())
}

/// A row has been authored.
pub(super) fn remove(conn: &Connection, of: &Uncovered) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM uncovered WHERE tbl = ?1 AND ref = ?2")?.execute((of.table, &of.row))?;
    Ok(())
}

/// The logs of this session's snapshot are put in.
pub(in crate::store) fn cover(conn: &Connection, session: u64) -> Result<(), StoreError> {
    let others =
        conn.prepare_cached("SELECT 1 FROM uncovered WHERE session <> ?1 LIMIT 1")?.exists([session.cast_signed()])?;
    if !others || Mutant::CoverAll.is_on() {
        // All at once: SQLite then frees the pages without going through the rows.
        conn.execute("DELETE FROM uncovered", [])?;
    } else {
        conn.execute("DELETE FROM uncovered WHERE session = ?1", [session.cast_signed()])?;
    }
    Ok(())
}

impl Reader {
    /// How many rows of snapshots are here whose logs are not: the state is ahead of its logs by them.
    ///
    /// # Errors
    /// The database's.
    pub fn uncovered(&self) -> Result<u64, StoreError> {
        count(self.conn())
    }

    /// What snapshots that were not finished have left.
    ///
    /// # Errors
    /// The database's.
    pub fn unfinished(&self) -> Result<Unfinished, StoreError> {
        let sessions = "SELECT coalesce(max(session), 0) FROM uncovered";
        let session: i64 = self.conn().query_row(sessions, [], |row| row.get(0))?;
        Ok(Unfinished { rows: self.uncovered()?, session: session.cast_unsigned() })
    }
}
