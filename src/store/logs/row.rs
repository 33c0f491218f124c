//! One log as the database has it, and its running hashes: those of retained ops in their rows, those of compacted ones packed.

use rusqlite::{Connection, OptionalExtension, Row as Sql};

use super::super::error::StoreError;
use super::{Own, hashes};
use crate::model::clock::Hlc;
use crate::model::id::Origin;
use crate::model::op::{Head, RunningHash, Seq};

/// A log's row in the database, or of one that is about to be put in.
#[derive(Clone, Debug)]
pub(in crate::store) struct Row {
    pub(in crate::store) idx: i64,
    pub(in crate::store) own: Own,
    /// The running hash before op 1.
    pub(in crate::store) base: RunningHash,
    pub(in crate::store) head: Head,
    /// The last compacted op; 0 where none is.
    pub(in crate::store) floor: Seq,
    /// The greatest time in it, as far as it is known.
    pub(in crate::store) hlc: Hlc,
    /// The hash of its last ticket; zero where it is not known.
    pub(in crate::store) tail: [u8; 32],
    /// Tickets of it that were compacted while no other till had them.
    pub(in crate::store) alone: i64,
}

impl Row {
    /// The log of an origin.
    pub(in crate::store) fn of(conn: &Connection, origin: Origin) -> Result<Option<Self>, StoreError> {
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

    /// The running hash after an op; that before the first at 0.
    pub(in crate::store) fn hash_at(&self, conn: &Connection, seq: Seq) -> Result<RunningHash, StoreError> {
        match seq {
            0 => Ok(self.base),
            _ if seq == self.head.seq => Ok(self.head.hash),
            _ => self.hashes(conn, seq, seq)?.pop().ok_or_else(|| self.missing(seq)),
        }
    }

    /// The running hashes of the ops from one to another; empty where `upto` is before `from`.
    pub(in crate::store) fn hashes(
        &self,
        conn: &Connection,
        from: Seq,
        upto: Seq,
    ) -> Result<Vec<RunningHash>, StoreError> {
        let mut all = hashes::read(conn, self.idx, from, upto.min(self.floor))?;
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

    /// Puts it into the table of logs under this name.
    pub(in crate::store) fn insert(&self, conn: &Connection, origin: Origin) -> Result<(), StoreError> {
        conn.prepare_cached(
            "INSERT INTO origin (idx, origin, own, base, head, hash, floor, hlc, day, number, tail, alone)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, ?9, ?10)",
        )?
        .execute((
            self.idx,
            origin.0.cast_signed(),
            self.own as i64,
            self.base.0,
            self.head.seq.cast_signed(),
            self.head.hash.0,
            self.floor.cast_signed(),
            self.hlc.0.cast_signed(),
            self.tail,
            self.alone,
        ))?;
        Ok(())
    }

    /// Writes what may have changed.
    pub(in crate::store) fn update(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached(
            "UPDATE origin SET own = ?2, head = ?3, hash = ?4, floor = ?5, hlc = ?6, tail = ?7, alone = ?8 WHERE idx = ?1",
        )?
        .execute((
            self.idx,
            self.own as i64,
            self.head.seq.cast_signed(),
            self.head.hash.0,
            self.floor.cast_signed(),
            self.hlc.0.cast_signed(),
            self.tail,
            self.alone,
        ))?;
        Ok(())
    }

    /// Takes it out of the table of logs; its ops and hashes stay.
    pub(in crate::store) fn take_out(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached("DELETE FROM origin WHERE idx = ?1")?.execute([self.idx])?;
        Ok(())
    }

    /// Deletes it with all that belongs to it.
    pub(in crate::store) fn discard(self, conn: &Connection) -> Result<(), StoreError> {
        self.take_out(conn)?;
        for sql in [
            "DELETE FROM op WHERE origin_idx = ?1",
            "DELETE FROM hashes WHERE origin_idx = ?1",
            "DELETE FROM mark WHERE origin_idx = ?1",
            "DELETE FROM day_number WHERE origin_idx = ?1",
        ] {
            conn.prepare_cached(sql)?.execute([self.idx])?;
        }
        Ok(())
    }

    fn missing(&self, seq: Seq) -> StoreError {
        StoreError::Damaged(format!("the log in row {} lacks the hash of op {seq}", self.idx))
    }
}

/// The head in two columns: number and hash.
pub(super) fn head_at(row: &Sql<'_>, column: usize) -> rusqlite::Result<Head> {
    Ok(Head { seq: row.get::<_, i64>(column)?.cast_unsigned(), hash: RunningHash(row.get(column + 1)?) })
}
