//! The reading side: a connection of its own, which never waits for the writer. What can be read stands in each repository's file.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::db::{last_change, tune};
use super::error::StoreError;
use super::memory::Tallies;

/// Reads the database as it was after the last commit.
#[derive(Debug)]
pub struct Reader {
    conn: Connection,
    tallies: Tallies,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let conn =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        tune(&conn)?;
        conn.pragma_update(None, "query_only", true)?;
        // Lists are read once and in order: what the reader would keep, the system keeps too.
        conn.pragma_update(None, "cache_size", -512)?;
        Ok(Self { conn, tallies: Tallies::default() })
    }

    pub(super) fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// The newest change cursor.
    ///
    /// # Errors
    /// The database's.
    pub fn last_change(&self) -> Result<u64, StoreError> {
        last_change(&self.conn)
    }

    /// Holds the state of now until the reader is dropped.
    pub(super) fn hold(&self) -> Result<(), StoreError> {
        self.conn.execute_batch("BEGIN")?;
        // A transaction begins with its first reading.
        self.last_change().map(drop)
    }

    pub(super) fn conn(&self) -> &Connection {
        &self.conn
    }

    /// Runs several reads on one state of the database. May be nested: the outermost one decides the state.
    ///
    /// # Errors
    /// What `read` fails with, or the database's.
    pub fn snapshot<T>(&self, read: impl FnOnce(&Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if !self.conn.is_autocommit() {
            return read(self);
        }
        let transaction = self.conn.unchecked_transaction()?;
        let result = read(self);
        transaction.finish()?;
        result
    }
}
