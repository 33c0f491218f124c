//! What the disk and plain SQLite cost: the baselines.
//!
//! The floor inserts the very rows that an agent's database holds into an empty one of the same schema: no network, no hashing, no
//! look-ups, prepared statements, rows in order. It reads them from that database, so it stays the same work whatever the schema becomes.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use crate::samples::timed;

/// Appends of a probe, in bytes: one page.
const PAGE: usize = 4096;

/// What it costs to have a page on the disk for good, in milliseconds: `count` times appended and fdatasync'ed, with a rest before each. A
/// processor that has rested takes longer.
pub(crate) fn fsync(folder: &Path, count: usize, rest: Duration) -> Result<Vec<f64>> {
    let path = folder.join("fsync-probe");
    let mut file = File::create(&path)?;
    let page = [0x5a; PAGE];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        thread::sleep(rest);
        let ((), time) = timed(|| {
            file.write_all(&page)?;
            Ok(file.sync_data()?)
        })?;
        times.push(time);
    }
    fs::remove_file(&path)?;
    Ok(times)
}

struct Table {
    name: String,
    rows: Vec<Vec<Value>>,
}

/// All rows of a database, and how to make its tables.
pub(crate) struct Rows {
    schema: Vec<String>,
    tables: Vec<Table>,
}

impl Rows {
    /// Reads them; the database may be in use.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let conn = open_to_look(path)?;
        // One state of all tables.
        conn.execute_batch("BEGIN")?;
        let mut select = conn.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
        let schema = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
        let mut select = conn.prepare(names)?;
        let names = select.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        let tables = names.into_iter().map(|name| read_table(&conn, name)).collect::<Result<_>>()?;
        Ok(Self { schema, tables })
    }

    /// Inserts all rows into a new database, in `parts` transactions of equal size; gives how long each took, in milliseconds.
    pub(crate) fn insert(&self, path: &Path, parts: usize) -> Result<Vec<f64>> {
        self.insert_slowly(path, parts, Duration::ZERO)
    }

    /// The same with a rest before each transaction.
    pub(crate) fn insert_slowly(&self, path: &Path, parts: usize, rest: Duration) -> Result<Vec<f64>> {
        let conn = create(path)?;
        for sql in &self.schema {
            conn.execute_batch(sql)?;
        }
        let mut inserts = Vec::new();
        for table in &self.tables {
            let columns = table.rows.first().map_or(0, Vec::len);
            if columns > 0 {
                let places = vec!["?"; columns].join(", ");
                inserts.push((conn.prepare(&format!("INSERT INTO {} VALUES ({places})", table.name))?, &table.rows));
            }
        }
        let mut times = Vec::with_capacity(parts);
        for part in 0..parts {
            thread::sleep(rest);
            let ((), time) = timed(|| {
                conn.execute_batch("BEGIN IMMEDIATE")?;
                for (insert, rows) in &mut inserts {
                    for row in &rows[rows.len() * part / parts..rows.len() * (part + 1) / parts] {
                        insert.execute(params_from_iter(row))?;
                    }
                }
                Ok(conn.execute_batch("COMMIT")?)
            })?;
            times.push(time);
        }
        drop(inserts);
        remove(conn, path)?;
        Ok(times)
    }
}

fn read_table(conn: &Connection, name: String) -> Result<Table> {
    let mut select = conn.prepare(&format!("SELECT * FROM {name}"))?;
    let columns = select.column_count();
    let rows = select
        .query_map([], |row| (0..columns).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>())?
        .collect::<Result<_, _>>()?;
    Ok(Table { name, rows })
}

/// An empty database as durable as an agent's.
pub(crate) fn create(path: &Path) -> Result<Connection> {
    let conn = Connection::open(path)?;
    conn.execute_batch(
        "PRAGMA page_size = 4096; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = OFF;",
    )?;
    Ok(conn)
}

pub(crate) fn remove(conn: Connection, path: &Path) -> Result<()> {
    conn.close().map_err(|(_, error)| error)?;
    fs::remove_file(path).with_context(|| path.display().to_string())
}

/// Inserts `count` bodies, one row each under its id, so many a transaction: the least that any till could do, without features. Gives
/// the time in milliseconds.
pub(crate) fn bare(path: &Path, bodies: &[(uuid::Uuid, String)], each: usize) -> Result<f64> {
    let conn = create(path)?;
    conn.execute_batch("CREATE TABLE ticket (idx INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, body TEXT NOT NULL)")?;
    let ((), time) = timed(|| {
        let mut insert = conn.prepare("INSERT INTO ticket (id, body) VALUES (?1, ?2)")?;
        for some in bodies.chunks(each) {
            conn.execute_batch("BEGIN IMMEDIATE")?;
            for (id, body) in some {
                insert.execute((id.as_bytes(), body))?;
            }
            conn.execute_batch("COMMIT")?;
        }
        Ok(())
    })?;
    remove(conn, path)?;
    Ok(time)
}

/// Counts a till's tickets from outside, many times a second, at no cost to the agent.
pub(crate) struct Counter(Connection);

impl Counter {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        Ok(Self(open_to_look(path)?))
    }

    /// The rows of tickets so far: they are numbered from 1 and never deleted.
    pub(crate) fn tickets(&self) -> Result<u64> {
        let mut select = self.0.prepare_cached("SELECT ifnull(max(idx), 0) FROM ticket")?;
        Ok(u64::try_from(select.query_row([], |row| row.get::<_, i64>(0))?)?)
    }

    /// Ops of all tills that are here, compacted ones included.
    pub(crate) fn ops(&self) -> Result<u64> {
        self.sum("SELECT ifnull(sum(head), 0) FROM origin")
    }

    /// How many of them are compacted.
    pub(crate) fn compacted(&self) -> Result<u64> {
        self.sum("SELECT ifnull(sum(floor), 0) FROM origin")
    }

    fn sum(&self, sql: &str) -> Result<u64> {
        Ok(u64::try_from(self.0.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?)?)
    }
}

fn open_to_look(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).with_context(|| path.display().to_string())
}
