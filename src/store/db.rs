//! The writing side: one connection, one writer, one transaction per call.
//!
//! Nothing here reads a clock or the system's randomness: both are arguments, so that a simulation drives it as the agent does.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::model::clock::HybridClock;
use crate::model::id::Origin;
use crate::model::mutant::Mutant;

use super::backup::keep_before_migration;
use super::error::StoreError;
use super::logs::{Logs, discard_staged};
use super::reader::Reader;
use super::request::{Committed, Entropy, Executed, Now, Reply, Request, StoreOptions};
use super::schema;
use super::stock::StockRows;
use super::work::{Chain, Work};

const _: () = assert!(rusqlite::ffi::SQLITE_VERSION_NUMBER >= 3_051_003, "SQLite 3.51.3 or later is needed");

/// The write-ahead log is moved into the database by the commit that finds so many pages in it, where there was no pause before.
const LOG_PAGES_MAX: u32 = 1000;

/// So many pages are worth moving in a pause: fewer would be written to the card again and again, more might not wait for a pause.
const LOG_PAGES_WORTH: i64 = LOG_PAGES_MAX as i64 / 2;

/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 128;

/// The database's writer. It holds the lock of the database for as long as it lives.
///
/// It writes under one origin. A fresh one is minted when the database is made or restored, when it was written by another till (a
/// cloned card), and when a peer turns out to hold ops of our origin that are not here (commits that a lying card lost): so the same
/// place in a log is never written twice.
pub struct Db {
    pub(super) conn: Connection,
    options: StoreOptions,
    pub(super) entropy: Box<dyn Entropy>,
    memory: InMemory,
    /// As the database says; what is in memory may be of a commit that failed.
    origin: Origin,
    /// Set by a rollback: what is in memory must be read again.
    stale: bool,
    _lock: File,
}

/// What the database says, kept in memory; the truth is the database's after every savepoint.
pub(super) struct InMemory {
    pub(super) clock: HybridClock,
    pub(super) logs: Logs,
    pub(super) stock: StockRows,
    pub(super) chain: Chain,
}

impl InMemory {
    fn load(conn: &Connection, now: Now) -> Result<Self, StoreError> {
        let logs = Logs::load(conn)?;
        let clock = logs.clock(now);
        Ok(Self { clock, logs, stock: StockRows::default(), chain: Chain::load(conn)? })
    }

    /// The clock is kept: it only grows, and what it has issued may have been seen.
    fn reload(&mut self, conn: &Connection) -> Result<(), StoreError> {
        self.logs = Logs::load(conn)?;
        self.stock = StockRows::default();
        self.chain = Chain::load(conn)?;
        Ok(())
    }
}

impl std::fmt::Debug for Db {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Db").field("path", &self.options.path).field("stale", &self.stale).finish_non_exhaustive()
    }
}

impl Db {
    /// Opens the database, making it where it is not there, and tries again what an earlier version held.
    ///
    /// # Errors
    /// [`StoreError::Locked`] at once where another agent has it; [`StoreError::TooNew`], [`StoreError::NotADatabase`],
    /// [`StoreError::Damaged`] where it is none of ours; or the disk's.
    pub fn open(options: &StoreOptions, now: Now, mut entropy: Box<dyn Entropy>) -> Result<Self, StoreError> {
        let lock = lock(&options.path)?;
        let mut conn = connect(&options.path)?;
        keep_before_migration(&conn, &options.path)?;
        schema::migrate(&mut conn)?;
        ensure_origin(&mut conn, options, entropy.as_mut())?;
        let memory = InMemory::load(&conn, now)?;
        let origin = memory.logs.own;
        let mut db = Self { conn, options: options.clone(), entropy, memory, origin, stale: false, _lock: lock };
        db.transact(now, |work, total| {
            discard_staged(work.conn)?;
            let taken = work.retry_held()?;
            total.merge(std::mem::take(&mut work.done));
            Ok(taken)
        })?;
        Ok(db)
    }

    /// Does all requests in one transaction, each in its own savepoint: one that fails leaves the others alone. When this returns, what
    /// is reported as done is on the disk.
    ///
    /// Where the database or its disk fails, all requests of the call fail with it, and nothing of them is stored. The next call tries
    /// again by itself.
    pub fn execute(&mut self, requests: Vec<Request>, now: Now) -> Executed {
        let count = requests.len();
        let done = self.transact(now, |work, total| {
            requests.into_iter().map(|request| work.in_savepoint(request, total)).collect::<Result<Vec<_>, _>>()
        });
        match done {
            Ok((replies, committed)) => Executed { replies, committed },
            Err(fault) => Executed { replies: vec![Err(fault); count], committed: Committed::default() },
        }
    }

    /// Whether writing works: commits a change of nothing.
    ///
    /// # Errors
    /// Why it does not.
    pub fn probe(&mut self, now: Now) -> Result<(), StoreError> {
        self.transact(now, |work, _| {
            work.conn.execute("UPDATE origin SET own = own WHERE own = 1", []).map_err(Into::into)
        })
        .map(|_| ())
    }

    /// Opens a connection for reading, which never waits for this one.
    ///
    /// # Errors
    /// The database's.
    pub fn reader(&self) -> Result<Reader, StoreError> {
        Reader::open(&self.options.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.options.path
    }

    /// The origin that this database writes under.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Moves the write-ahead log into the database, as before a rest.
    ///
    /// # Errors
    /// The database's.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Moves the write-ahead log into the database where it has grown enough to be worth it, so that no later commit has to. Gives
    /// whether it did.
    ///
    /// # Errors
    /// The database's. Nothing is lost: the log stays, and is moved later.
    pub(super) fn tidy_log(&self) -> Result<bool, StoreError> {
        if self.log_pages()? < LOG_PAGES_WORTH {
            return Ok(false);
        }
        self.conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(true)
    }

    /// Pages of the write-ahead log that are not in the database yet.
    pub(super) fn log_pages(&self) -> Result<i64, StoreError> {
        let pages = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
        Ok(self.conn.prepare_cached("PRAGMA wal_checkpoint(NOOP)")?.query_row([], pages)?)
    }

    /// Gives back the memory of pages that are kept at hand: the system has them too, as long as it has room.
    pub(super) fn rest(&self) {
        if let Err(error) = self.conn.execute_batch("PRAGMA shrink_memory") {
            tracing::debug!(%error, "memory is kept");
        }
    }

    fn transact<T>(
        &mut self,
        now: Now,
        run: impl FnOnce(&mut Work<'_>, &mut Committed) -> Result<T, StoreError>,
    ) -> Result<(T, Committed), StoreError> {
        if self.stale {
            self.memory.reload(&self.conn)?;
            self.stale = false;
        }
        let mut total = Committed::default();
        let outcome = command(&self.conn, "BEGIN IMMEDIATE").and_then(|()| {
            let mut work = Work::new(&self.conn, &mut self.memory, &self.options, self.entropy.as_mut(), now);
            let value = run(&mut work, &mut total)?;
            if total.logs.is_some() {
                // As they are at the end: they say all that single heads would.
                total.logs = Some(work.memory.logs.now());
                total.heads.clear();
            }
            total.last_change = last_change(&self.conn)?;
            command(&self.conn, "COMMIT")?;
            Ok(value)
        });
        match outcome {
            Ok(value) => {
                self.origin = self.memory.logs.own;
                Ok((value, total))
            }
            Err(fault) => {
                self.stale = true;
                // SQLite has rolled back already after some failures; a failure here leaves a transaction that BEGIN reports next.
                if !self.conn.is_autocommit()
                    && let Err(error) = command(&self.conn, "ROLLBACK")
                {
                    tracing::warn!(%error, "the transaction could not be rolled back");
                }
                Err(fault)
            }
        }
    }
}

impl Work<'_> {
    /// Does one request. The outer error is a fault that ends the transaction.
    fn in_savepoint(
        &mut self,
        request: Request,
        total: &mut Committed,
    ) -> Result<Result<Reply, StoreError>, StoreError> {
        command(self.conn, "SAVEPOINT request")?;
        let reply = self.run(request).and_then(|reply| self.settle().map(|()| reply));
        match reply {
            Ok(reply) => {
                command(self.conn, "RELEASE request")?;
                total.merge(std::mem::take(&mut self.done));
                Ok(Ok(reply))
            }
            Err(fault) if fault.ends_commit() => Err(fault),
            Err(refusal) => {
                command(self.conn, "ROLLBACK TO request")?;
                command(self.conn, "RELEASE request")?;
                self.done = Committed::default();
                self.memory.reload(self.conn)?;
                Ok(Err(refusal))
            }
        }
    }
}

impl Committed {
    fn merge(&mut self, other: Self) {
        match (self.local.take(), other.local) {
            (Some(mut batch), Some(more)) if batch.origin == more.origin => {
                batch.ops.extend(more.ops);
                self.local = Some(batch);
            }
            (Some(former), Some(more)) => {
                // The origin has changed in between: what was written under the former one is told as another's.
                self.heads.push((former.origin, former.after()));
                self.local = Some(more);
            }
            (local, more) => self.local = local.or(more),
        }
        for (origin, head) in other.heads {
            self.heads.retain(|(known, _)| *known != origin);
            self.heads.push((origin, head));
        }
        self.roster |= other.roster;
        self.ahead.extend(other.ahead);
        self.held += other.held;
        self.origin = other.origin.or(self.origin);
        self.logs = other.logs.or(self.logs.take());
    }
}

/// What all connections have in common.
pub(super) fn tune(conn: &Connection) -> Result<(), StoreError> {
    conn.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Without this guarantee SQLite prepares a statement again whenever a value that might sway its plan is bound: a ticket's id, a
    // LIMIT. That was a third of the work of a catch-up.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.pragma_update(None, "synchronous", if Mutant::NoSync.is_on() { "NORMAL" } else { "FULL" })?;
    conn.execute_batch(
        "PRAGMA cache_size = -1536; PRAGMA mmap_size = 0;
         PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA busy_timeout = 2000;",
    )?;
    if Mutant::NoSync.is_on() {
        conn.pragma_update(None, "synchronous", "NORMAL")?;
    }
    Ok(())
}

/// Opens a database for writing.
pub(super) fn connect(path: &Path) -> Result<Connection, StoreError> {
    // Made by us, so that it is never readable by others; SQLite's own files beside it take its mode.
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    write_again(&beside(path, "-wal"))?;
    let conn = Connection::open(path)?;
    // The page size counts for a new file only, and before anything else.
    conn.pragma_update(None, "page_size", 4096)?;
    tune(&conn)?;
    schema::version(&conn)?;
    use_write_ahead_log(&conn)?;
    conn.pragma_update(None, "wal_autocheckpoint", LOG_PAGES_MAX)?;
    conn.pragma_update(None, "journal_size_limit", 4 << 20)?;
    Ok(conn)
}

/// Without it SQLite goes on with a rollback journal, by which a power cut may undo what was committed.
fn use_write_ahead_log(conn: &Connection) -> Result<(), StoreError> {
    let mut statement = conn.prepare("PRAGMA journal_mode = WAL")?;
    let mut rows = statement.query([])?;
    let mode: Option<String> = rows.next()?.map(|row| row.get(0)).transpose()?;
    // The change is committed after the row that tells of it: only the end of the rows says that it was.
    while rows.next()?.is_some() {}
    match mode.as_deref() {
        Some("wal") => Ok(()),
        other => Err(StoreError::Io(format!("the journal mode is {other:?} and cannot be changed"))),
    }
}

/// Writes a write-ahead log that was left behind once more, as it is. Where a sync of it has failed, Linux keeps showing what was written
/// and never writes it: SQLite would take a commit in it for one that is on the disk, add to it, and lose both in a power cut.
fn write_again(log: &Path) -> Result<(), StoreError> {
    let file = match OpenOptions::new().read(true).write(true).open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let (mut at, mut buffer) = (0, vec![0; 64 * 1024]);
    loop {
        let read = file.read_at(&mut buffer, at)?;
        if read == 0 {
            return Ok(file.sync_data()?);
        }
        file.write_all_at(&buffer[..read], at)?;
        at += read as u64;
    }
}

/// The file of a database whose name ends so.
fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

/// Takes the lock of a database; it is free again when the file is dropped, also by a kill.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(beside(path, ".lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

/// Sees to it that the database has an origin, of this till.
fn ensure_origin(conn: &mut Connection, options: &StoreOptions, entropy: &mut dyn Entropy) -> Result<(), StoreError> {
    let transaction = conn.transaction()?;
    let till = options.author.till;
    if Logs::writer(&transaction)? != Some(till) {
        Logs::mint(&transaction, till, entropy)?;
    }
    transaction.commit()?;
    Ok(())
}

fn command(conn: &Connection, sql: &'static str) -> Result<(), StoreError> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}

pub(super) fn last_change(conn: &Connection) -> Result<u64, StoreError> {
    let n: Option<i64> = conn.prepare_cached("SELECT max(n) FROM change")?.query_row([], |row| row.get(0))?;
    Ok(n.unwrap_or(0).cast_unsigned())
}
