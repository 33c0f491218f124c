//! One log as the database has it, and its running hashes: those of retained ops in their rows, those of compacted ones packed.

use rusqlite::{Connection, OptionalExtension, Row as Sql};

use super::super::error::StoreError;
use super::{Own, origin_at};
use crate::model::clock::Hlc;
use crate::model::id::Origin;
use crate::model::op::{Head, RunningHash, Seq};

/// Running hashes in one row of the table `hashes`. Four such rows fill a page.
const CHUNK: u64 = 120;
const BYTES: u64 = 8;

/// A log's row in the database, or of one that is about to be put in.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) idx: i64,
    pub(super) own: Own,
    /// The running hash before op 1.
    pub(super) base: RunningHash,
    pub(super) head: Head,
    /// The last compacted op; 0 where none is.
    pub(super) floor: Seq,
    /// The greatest time in it, or a greater one.
    pub(super) hlc: Hlc,
    /// The hash of its last ticket; zero where it is not known.
    pub(super) tail: [u8; 32],
    /// Tickets of it that were compacted while no other till had them.
    pub(super) alone: i64,
}

impl Row {
    /// The log of an origin.
    pub(super) fn of(conn: &Connection, origin: Origin) -> Result<Option<Self>, StoreError> {
        let mut statement = conn.prepare_cached(
            "SELECT idx, own, base, head, hash, floor, hlc, tail, alone FROM origin WHERE origin = ?1",
        )?;
        let row = statement.query_row([origin.0.cast_signed()], |row| {
            Ok(Self {
                idx: row.get(0)?,
                own: Own::of_number(row.get(1)?),
                base: RunningHash(row.get(2)?),
                head: head_at(row, 3)?,
                floor: row.get::<_, i64>(5)?.cast_unsigned(),
                hlc: Hlc(row.get::<_, i64>(6)?.cast_unsigned()),
                tail: row.get(7)?,
                alone: row.get(8)?,
            })
        });
        Ok(row.optional()?)
    }

    /// All logs.
    pub(super) fn all(conn: &Connection) -> Result<Vec<(Origin, Self)>, StoreError> {
        let origins: Vec<Origin> = {
            let mut statement = conn.prepare_cached("SELECT origin FROM origin ORDER BY idx")?;
            statement.query_map([], |row| origin_at(row, 0))?.collect::<Result<_, _>>()?
        };
        let mut all = Vec::with_capacity(origins.len());
        for origin in origins {
            all.extend(Self::of(conn, origin)?.map(|row| (origin, row)));
        }
        Ok(all)
    }

    /// The running hash after an op; that before the first at 0.
    pub(super) fn hash_at(&self, conn: &Connection, seq: Seq) -> Result<RunningHash, StoreError> {
        match seq {
            0 => Ok(self.base),
            _ if seq == self.head.seq => Ok(self.head.hash),
            _ => self.hashes(conn, seq, seq)?.pop().ok_or_else(|| self.missing(seq)),
        }
    }

    /// The running hashes of the ops from one to another; empty where `upto` is before `from`.
    pub(super) fn hashes(&self, conn: &Connection, from: Seq, upto: Seq) -> Result<Vec<RunningHash>, StoreError> {
        let mut all = packed(conn, self.idx, from, upto.min(self.floor))?;
        let mut statement =
            conn.prepare_cached("SELECT hash FROM op WHERE origin_idx = ?1 AND seq >= ?2 AND seq <= ?3 ORDER BY seq")?;
        let first = from.max(self.floor + 1);
        let retained = statement
            .query_map((self.idx, first.cast_signed(), upto.cast_signed()), |row| row.get(0).map(RunningHash))?;
        for hash in retained {
            all.push(hash?);
        }
        Ok(all)
    }

    fn missing(&self, seq: Seq) -> StoreError {
        StoreError::Damaged(format!("the log in row {} lacks the hash of op {seq}", self.idx))
    }
}

/// The head in two columns: number and hash.
pub(super) fn head_at(row: &Sql<'_>, column: usize) -> rusqlite::Result<Head> {
    Ok(Head { seq: row.get::<_, i64>(column)?.cast_unsigned(), hash: RunningHash(row.get(column + 1)?) })
}

/// Packed hashes of the ops from one to another.
pub(super) fn packed(conn: &Connection, idx: i64, from: Seq, upto: Seq) -> Result<Vec<RunningHash>, StoreError> {
    let mut all = Vec::new();
    let mut statement = conn.prepare_cached("SELECT hashes FROM hashes WHERE origin_idx = ?1 AND chunk = ?2")?;
    let mut next = from;
    while next <= upto {
        let chunk = (next - 1) / CHUNK;
        let last = upto.min((chunk + 1) * CHUNK);
        let bytes: Vec<u8> = statement.query_row((idx, chunk.cast_signed()), |row| row.get(0))?;
        let place = |seq: Seq| ((seq - 1 - chunk * CHUNK) * BYTES) as usize;
        let wanted = bytes.get(place(next)..place(last + 1)).ok_or_else(|| {
            StoreError::Damaged(format!("the packed hashes of ops {next} to {last} in row {idx} are cut short"))
        })?;
        all.extend(wanted.as_chunks::<8>().0.iter().map(|hash| RunningHash(*hash)));
        next = last + 1;
    }
    Ok(all)
}
