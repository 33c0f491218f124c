//! The giver's side.

use std::path::PathBuf;

use super::super::db::Db;
use super::super::error::StoreError;
use super::super::reader::Reader;
use super::super::record::RECORDS;
use super::{rows, uncovered};
use crate::model::id::Origin;
use crate::model::op::Seq;
use crate::sync::{HASHES_MAX, Key, PART_BYTES_MAX, Part, PartDigest, SnapshotAnswer, SnapshotAsk, table};

/// The most snapshots given at once: each keeps the write-ahead log from being shortened.
const HELD_MAX: usize = 2;

/// A snapshot that nobody asks about for this long is given up.
const SILENCE_MS: u64 = 30_000;

/// The longest that a snapshot is held: what is missing then is asked for in another one.
const AGE_MS: u64 = 600_000;

/// The most rows of one part: few enough that a difference costs little, enough that a part is worth its commit.
const PART_ROWS_MAX: u32 = 256;

/// The most parts of one answer, so that each comes within the time that a taker waits.
const PARTS_MAX: usize = 128;

/// Gives snapshots: holds, for each link that has asked for one, a state of the database. On connections of its own, which never wait
/// for the writer.
#[derive(Debug)]
pub struct SnapshotGiver {
    path: PathBuf,
    held: Vec<Held>,
    last: u64,
}

/// A snapshot that is being given.
#[derive(Debug)]
struct Held {
    link: u64,
    snapshot: u64,
    /// In a read transaction.
    reader: Reader,
    begun_ms: u64,
    asked_ms: u64,
}

impl Db {
    /// What gives snapshots of this database.
    #[must_use]
    pub fn giver(&self) -> SnapshotGiver {
        SnapshotGiver::new(self.path().to_owned())
    }
}

impl SnapshotGiver {
    pub(in crate::store) fn new(path: PathBuf) -> Self {
        Self { path, held: Vec::new(), last: 0 }
    }

    /// Answers a question that came on a link. `now_ms` is of any clock that never goes back.
    pub fn answer(&mut self, link: u64, ask: SnapshotAsk, now_ms: u64) -> SnapshotAnswer {
        self.expire(now_ms);
        self.answer_or_fail(link, ask, now_ms).unwrap_or_else(|fault| {
            tracing::warn!(%fault, "no snapshot is given");
            SnapshotAnswer::NotNow
        })
    }

    /// A link is gone: its snapshot is given up.
    pub fn forget(&mut self, link: u64) {
        self.held.retain(|held| held.link != link);
    }

    /// Gives up what nobody asks about any more, and what has been held for too long.
    pub fn expire(&mut self, now_ms: u64) {
        self.held.retain(|held| {
            now_ms.saturating_sub(held.asked_ms) < SILENCE_MS && now_ms.saturating_sub(held.begun_ms) < AGE_MS
        });
    }

    /// Whether a snapshot is being given.
    #[must_use]
    pub fn is_giving(&self) -> bool {
        !self.held.is_empty()
    }

    fn answer_or_fail(&mut self, link: u64, ask: SnapshotAsk, now_ms: u64) -> Result<SnapshotAnswer, StoreError> {
        let snapshot = match ask {
            SnapshotAsk::Begin => return self.begin(link, now_ms),
            SnapshotAsk::Parts { snapshot, .. }
            | SnapshotAsk::Rows { snapshot, .. }
            | SnapshotAsk::Hashes { snapshot, .. }
            | SnapshotAsk::End { snapshot } => snapshot,
        };
        let Some(held) = self.held.iter_mut().find(|held| (held.link, held.snapshot) == (link, snapshot)) else {
            return Ok(SnapshotAnswer::None);
        };
        held.asked_ms = now_ms;
        match ask {
            SnapshotAsk::Parts { table, after, .. } => parts(&held.reader, table, after),
            SnapshotAsk::Rows { table, after, upto, .. } => rows_of(&held.reader, table, after, upto),
            SnapshotAsk::Hashes { origin, from, .. } => hashes(&held.reader, origin, from),
            SnapshotAsk::Begin | SnapshotAsk::End { .. } => {
                self.forget(link);
                Ok(SnapshotAnswer::None)
            }
        }
    }

    fn begin(&mut self, link: u64, now_ms: u64) -> Result<SnapshotAnswer, StoreError> {
        self.forget(link);
        if self.held.len() >= HELD_MAX {
            return Ok(SnapshotAnswer::NotNow);
        }
        let reader = Reader::open(&self.path)?;
        reader.hold()?;
        if uncovered::count(reader.conn())? > 0 {
            return Ok(SnapshotAnswer::NotNow);
        }
        self.last += 1;
        let begun = SnapshotAnswer::Begun {
            snapshot: self.last,
            closes: reader.closes()?.iter().collect(),
            logs: reader.log_headers()?,
            tables: tables(&reader)?,
        };
        self.held.push(Held { link, snapshot: self.last, reader, begun_ms: now_ms, asked_ms: now_ms });
        Ok(begun)
    }
}

/// The tables in the order in which they are taken, and about how many rows each has: first what a till needs to sell.
fn tables(reader: &Reader) -> Result<Vec<(u16, u64)>, StoreError> {
    let number = |sql: &str| -> Result<u64, StoreError> {
        Ok(reader.conn().query_row(sql, [], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    let mut tables = vec![
        (table::ROSTER, number("SELECT count(*) FROM roster")?),
        (table::ENTITY, number("SELECT coalesce(max(idx), 0) FROM entity")?),
    ];
    for records in RECORDS {
        // Rows of records are never deleted.
        tables.push((records.table, number(&format!("SELECT coalesce(max(idx), 0) FROM {}", records.name))?));
    }
    tables.push((table::HELD, number("SELECT count(*) FROM held")?));
    Ok(tables)
}

/// Divides a table: as many rows to a part as fit, so that parts follow from the rows before and in them.
fn parts(reader: &Reader, table: u16, after: Key) -> Result<SnapshotAnswer, StoreError> {
    let mut parts: Vec<Part> = Vec::new();
    let mut open = Open::default();
    let mut last = true;
    rows::scan(reader.conn(), table, &after, &mut |row| {
        refuse_damaged(row)?;
        if open.rows > 0 && (open.rows >= PART_ROWS_MAX || open.bytes + row.wire_len() > PART_BYTES_MAX) {
            parts.push(std::mem::take(&mut open).close());
            if parts.len() >= PARTS_MAX {
                last = false;
                return Ok(false);
            }
        }
        open.add(row);
        Ok(true)
    })?;
    if open.rows > 0 {
        parts.push(open.close());
    }
    Ok(SnapshotAnswer::Parts { table, after, parts, last })
}

/// A part that rows are being put in.
#[derive(Default)]
struct Open {
    upto: Key,
    rows: u32,
    bytes: usize,
    digest: PartDigest,
}

impl Open {
    fn add(&mut self, row: &rows::Row<'_>) {
        self.upto.clone_from(&row.key);
        self.rows += 1;
        self.bytes += row.wire_len();
        self.digest.add(&row.hash());
    }

    fn close(self) -> Part {
        let (rows, digest) = self.digest.finish();
        Part { upto: self.upto, rows, digest }
    }
}

fn rows_of(reader: &Reader, table: u16, after: Key, upto: Key) -> Result<SnapshotAnswer, StoreError> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    rows::scan(reader.conn(), table, &after, &mut |row| {
        refuse_damaged(row)?;
        bytes += row.wire_len();
        // A range that is no part is cut short; who asks finds out by the digest.
        let fits = row.key <= upto && (rows.is_empty() || bytes <= PART_BYTES_MAX);
        if fits {
            rows.push(row.to_op());
        }
        Ok(fits)
    })?;
    Ok(SnapshotAnswer::Rows { table, after, upto, rows })
}

fn hashes(reader: &Reader, origin: Origin, from: Seq) -> Result<SnapshotAnswer, StoreError> {
    let hashes = reader.hashes(origin, from, HASHES_MAX)?;
    Ok(SnapshotAnswer::Hashes { origin, from, hashes })
}

/// Damage does not spread: until the row is whole again, others give snapshots.
fn refuse_damaged(row: &rows::Row<'_>) -> Result<(), StoreError> {
    if row.sound { Ok(()) } else { Err(StoreError::Damaged("a row that a snapshot should give".into())) }
}
