//! Backup and restore: consistent copies made while selling goes on, and their way back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::db::{lock, tune};
use super::error::StoreError;
use super::leftover;
use super::logs::Logs;
use super::request::Entropy;
use super::schema;

/// Writes a consistent, checked copy of a database to a new file, which its owner alone can read. Selling goes on in the meantime:
/// the copy is of the moment at which this began.
///
/// # Errors
/// Where `to` exists already, the disk fails, or the database is damaged; then no copy is left behind.
pub fn backup(database: &Path, to: &Path) -> Result<(), StoreError> {
    if to.try_exists()? {
        return Err(StoreError::Io(format!("{} exists already", to.display())));
    }
    let partial = beside(to, ".partial");
    remove(&partial)?;
    let done = copy(database, &partial).and_then(|()| check(&partial)).and_then(|()| {
        File::open(&partial)?.sync_all()?;
        fs::rename(&partial, to)?;
        sync_folder(to)
    });
    remove(&partial)?;
    done
}

/// Puts a copy in the place of a till's database. The present one is moved aside, never deleted; gives its new name.
///
/// The copy gets a fresh origin to write under, since ops that the till made after the copy may be on other tills: they come back from
/// there.
///
/// # Errors
/// [`StoreError::Locked`] where an agent runs on the database; [`StoreError::NotADatabase`], [`StoreError::TooNew`] or
/// [`StoreError::Damaged`] where the copy is of no use: then the present database is as it was.
pub fn restore(from: &Path, database: &Path, entropy: &mut dyn Entropy) -> Result<Option<PathBuf>, StoreError> {
    replace(from, database, entropy, BEFORE_RESTORE)
}

/// Behind a database's name, and before a number: one in whose place a copy was put.
const BEFORE_RESTORE: &str = ".before-restore-";

fn replace(from: &Path, database: &Path, entropy: &mut dyn Entropy, stem: &str) -> Result<Option<PathBuf>, StoreError> {
    let _lock = lock(database)?;
    let staged = beside(database, ".restoring");
    remove_all(&staged)?;
    let prepared = stage(from, &staged, entropy);
    if prepared.is_err() {
        remove_all(&staged)?;
    }
    prepared?;
    let aside = set_aside(database, stem)?;
    fs::rename(&staged, database)?;
    sync_folder(database)?;
    Ok(aside)
}

/// Keeps a copy of a database that is about to be brought to this version's form: the version before refuses it after that. One copy is
/// kept, the newest. Where there is no room for it the till goes on without: it is to sell.
pub(super) fn keep_before_migration(conn: &Connection, database: &Path) -> Result<(), StoreError> {
    if !(1..schema::VERSION).contains(&schema::version(conn)?) {
        return Ok(());
    }
    let copy = before_migration(database);
    if let Err(error) = remove(&copy).and_then(|()| backup(database, &copy)) {
        tracing::warn!(%error, "no copy of the database as it was before this version could be kept");
    }
    Ok(())
}

/// For a version that an update fell back to: where the database is of a later form, the copy of before takes its place, with a fresh
/// origin. The later one is moved aside: what was sold meanwhile is in it, see [`super::left_behind`]. Gives its new name; `None` where
/// there is nothing to do, or no copy.
///
/// # Errors
/// As [`restore`].
pub fn go_back(database: &Path, entropy: &mut dyn Entropy) -> Result<Option<PathBuf>, StoreError> {
    let copy = before_migration(database);
    if !database.try_exists()? || !copy.try_exists()? {
        return Ok(None);
    }
    let found = schema::version(&Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?)?;
    if found > schema::VERSION { replace(&copy, database, entropy, leftover::NOT_KEPT) } else { Ok(None) }
}

fn before_migration(database: &Path) -> PathBuf {
    beside(database, ".before-update")
}

/// Whether a till's database is sound, agent or no agent: every page of it is looked at.
///
/// # Errors
/// [`StoreError::Damaged`] with what SQLite found first; as for any database that cannot be read.
pub fn verify(database: &Path) -> Result<(), StoreError> {
    check(database)
}

fn copy(database: &Path, to: &Path) -> Result<(), StoreError> {
    // Made by us, so that it is never readable by others; SQLite takes an empty file.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let conn = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    tune(&conn)?;
    conn.execute("VACUUM INTO ?1", [text(to)?])?;
    Ok(())
}

/// Whether a file is a sound database of a till, of a schema that this version knows.
fn check(file: &Path) -> Result<(), StoreError> {
    let conn = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let found = match schema::version(&conn) {
        Ok(0) => Err(StoreError::NotADatabase(file.display().to_string())),
        // What SQLite cannot read at all is not a damaged till, it is another file.
        Err(StoreError::Damaged(_)) => Err(StoreError::NotADatabase(file.display().to_string())),
        other => other,
    }?;
    if found > schema::VERSION {
        return Err(StoreError::TooNew { found, known: schema::VERSION });
    }
    let verdict: String = conn.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::Damaged(verdict)) }
}

/// Makes the file that will be the database: beside it, whole, on the disk.
fn stage(from: &Path, staged: &Path, entropy: &mut dyn Entropy) -> Result<(), StoreError> {
    check(from)?;
    // By SQLite and not byte for byte: the copy may have been taken with its write-ahead log.
    copy(from, staged)?;
    check(staged)?;
    let mut conn = Connection::open(staged)?;
    tune(&conn)?;
    schema::migrate(&mut conn)?;
    let transaction = conn.transaction()?;
    let till = Logs::writer(&transaction)?.ok_or_else(|| StoreError::Damaged("it has no origin of its own".into()))?;
    Logs::mint(&transaction, till, entropy)?;
    transaction.commit()?;
    conn.close().map_err(|(_, error)| error)?;
    File::open(staged)?.sync_all()?;
    Ok(())
}

/// Gives the present database another name. Its write-ahead log must not meet the file that comes in its place.
fn set_aside(database: &Path, stem: &str) -> Result<Option<PathBuf>, StoreError> {
    if !database.try_exists()? {
        remove_all(database)?;
        return Ok(None);
    }
    let aside = free_name(database, stem)?;
    if let Err(error) = fold_log(database) {
        tracing::warn!(%error, "the present database cannot be read: it is moved aside with its write-ahead log");
    }
    let log = beside(database, "-wal");
    if log.try_exists()? {
        fs::rename(&log, beside(&aside, "-wal"))?;
    }
    remove(&beside(database, "-shm"))?;
    // Both names for a moment, so that there is a database under its own name at every instant; where the file system can.
    fs::hard_link(database, &aside).or_else(|_| fs::rename(database, &aside))?;
    Ok(Some(aside))
}

/// Moves the write-ahead log into the database, so that it is one file.
fn fold_log(database: &Path) -> Result<(), StoreError> {
    let conn = Connection::open(database)?;
    conn.query_row("PRAGMA journal_mode = DELETE", [], |_| Ok(()))?;
    conn.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// The first of `<database><stem>1`, `2`, ... that is free.
fn free_name(database: &Path, stem: &str) -> Result<PathBuf, StoreError> {
    for n in 1..10_000 {
        let name = beside(database, &format!("{stem}{n}"));
        if !name.try_exists()? {
            return Ok(name);
        }
    }
    Err(StoreError::Io("there are too many databases of former restores: delete some".into()))
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn remove_all(database: &Path) -> Result<(), StoreError> {
    ["", "-journal", "-wal", "-shm"].iter().try_for_each(|suffix| remove(&beside(database, suffix)))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

pub(super) fn sync_folder(file: &Path) -> Result<(), StoreError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    Ok(())
}

fn text(path: &Path) -> Result<&str, StoreError> {
    path.to_str().ok_or_else(|| StoreError::Io(format!("{} is not UTF-8", path.display())))
}
