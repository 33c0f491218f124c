//! Compaction: bodies of ops that all live members of the store hold are deleted, from the oldest up; their running hashes are kept.
//!
//! A log's floor is the smallest ack of it by a live member, as far as that ack is on the branch that is here, and at most where the log
//! stood [`KEEP_MS`] ago. A member has lapsed when it was not heard of for [`LAPSE_MS`]. Both are in running time: no clock that jumps
//! lapses anyone or lets anything be deleted too early.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

use super::super::error::StoreError;
use super::super::memory::{acked, note_running};
use super::super::request::Reply;
use super::super::work::Work;
use super::apply::held_key;
use super::read::op_of_row;
use super::row::Row;
use super::{Own, hashes, origin_at};
use crate::model::id::{Origin, TillId};
use crate::model::mutant::Mutant;
use crate::model::op::{Head, RunningHash, Seq, kind};

/// Ops are kept for at least so long, in milliseconds of running time.
pub const KEEP_MS: u64 = 7 * DAY_MS;
/// A member that was not heard of for so long keeps nothing from being compacted, in milliseconds of running time.
pub const LAPSE_MS: u64 = 30 * DAY_MS;

/// How often it is noted where logs stand.
const DAY_MS: u64 = 24 * 3_600_000;

impl Work<'_> {
    /// Compacts at most `ops_max` ops.
    pub(in crate::store) fn compact(&mut self, run_ms: u64, ops_max: usize) -> Result<Reply, StoreError> {
        note_running(self.conn, run_ms, false)?;
        let members = self.live_members(run_ms)?;
        let kept = marked(self.conn, run_ms)?;
        let (mut ops, mut more) = (0, false);
        for (origin, log) in uncompacted(self.conn)? {
            let stood = kept.get(&log.idx).copied().unwrap_or(0);
            let floor = acked_by_all(self.conn, &members, origin, &log)?.min(stood);
            let left = (ops_max - ops) as u64;
            let upto = floor.min(log.floor.saturating_add(left));
            more |= upto < floor;
            if upto > log.floor {
                ops += (upto - log.floor) as usize;
                compact(self.conn, origin, log, upto)?;
            }
        }
        Ok(Reply::Compacted { ops, more })
    }

    /// The other tills of the roster that were heard of lately. One that is new to us counts from now on.
    fn live_members(&self, run_ms: u64) -> Result<Vec<TillId>, StoreError> {
        let now = member_clock(run_ms, self.now.wall_ms);
        let mut query = self.conn.prepare_cached(
            "SELECT r.till, m.seen_run_ms FROM roster r LEFT JOIN member m USING (till)
             WHERE r.retired_ms IS NULL AND r.till <> ?1",
        )?;
        let members: Vec<([u8; 16], Option<i64>)> =
            query.query_map([self.author.till.0], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let mut live = Vec::new();
        for (till, seen) in members {
            if seen.is_none() {
                self.conn.execute(
                    "INSERT INTO member (till, stamp, level, seen_run_ms) VALUES (?1, 0, 1, ?2)",
                    (till, now.cast_signed()),
                )?;
            }
            if seen.is_none_or(|seen| now.saturating_sub(seen.cast_unsigned()) <= LAPSE_MS) {
                live.push(TillId(till));
            }
        }
        Ok(live)
    }
}

/// What tells how long ago a member was heard of.
pub(in crate::store) fn member_clock(run_ms: u64, wall_ms: u64) -> u64 {
    if Mutant::LapseByWallClock.is_on() { wall_ms } else { run_ms }
}

fn uncompacted(conn: &Connection) -> Result<Vec<(Origin, Row)>, StoreError> {
    let origins: Vec<Origin> = {
        let mut query = conn.prepare_cached("SELECT origin FROM origin WHERE floor < head ORDER BY idx")?;
        query.query_map([], |row| origin_at(row, 0))?.collect::<Result<_, _>>()?
    };
    let mut logs = Vec::with_capacity(origins.len());
    for origin in origins {
        logs.extend(Row::of(conn, origin)?.map(|log| (origin, log)));
    }
    Ok(logs)
}

/// Where logs stood [`KEEP_MS`] ago, by row; 0 where one is left out. Notes where they stand now, once a day.
fn marked(conn: &Connection, run_ms: u64) -> Result<BTreeMap<i64, Seq>, StoreError> {
    let last: Option<i64> = conn.query_row("SELECT max(run_ms) FROM mark", [], |row| row.get(0))?;
    if last.is_none_or(|last| last.cast_unsigned() + DAY_MS <= run_ms) {
        let noted = conn.execute(
            "INSERT OR IGNORE INTO mark (run_ms, origin_idx, head) SELECT ?1, idx, head FROM origin WHERE floor < head",
            [run_ms.cast_signed()],
        )?;
        if noted > 0 {
            note_running(conn, run_ms, true)?;
        }
    }
    let Some(before) = run_ms.checked_sub(KEEP_MS) else { return Ok(BTreeMap::new()) };
    let then: Option<i64> =
        conn.query_row("SELECT max(run_ms) FROM mark WHERE run_ms <= ?1", [before.cast_signed()], |row| row.get(0))?;
    let Some(then) = then else { return Ok(BTreeMap::new()) };
    conn.execute("DELETE FROM mark WHERE run_ms < ?1", [then])?;
    let mut query = conn.prepare_cached("SELECT origin_idx, head FROM mark WHERE run_ms = ?1")?;
    let marks = query.query_map([then], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
    Ok(marks.collect::<Result<_, _>>()?)
}

/// How far all of them have a log on their disks.
fn acked_by_all(conn: &Connection, members: &[TillId], origin: Origin, log: &Row) -> Result<Seq, StoreError> {
    let mut acks = Vec::with_capacity(members.len());
    for till in members {
        acks.push(ack_of(conn, *till, origin, log)?);
    }
    let floor = if Mutant::FloorOfTheFastest.is_on() { acks.iter().max() } else { acks.iter().min() };
    Ok(floor.copied().unwrap_or(log.head.seq))
}

/// How far a member has a log on its disk. An ack that is of another branch, or of more than is here to compare it with, moves nothing.
fn ack_of(conn: &Connection, till: TillId, origin: Origin, log: &Row) -> Result<Seq, StoreError> {
    let ack = conn
        .prepare_cached("SELECT seq, hash FROM ack WHERE till = ?1 AND origin = ?2")?
        .query_row((till.0, origin.0.cast_signed()), |row| {
            Ok(Head { seq: row.get::<_, i64>(0)?.cast_unsigned(), hash: RunningHash(row.get(1)?) })
        })
        .optional()?;
    match ack {
        None => Ok(0),
        Some(ack) if ack.seq > log.head.seq => Ok(log.floor),
        Some(ack) if log.hash_at(conn, ack.seq)? == ack.hash => Ok(ack.seq),
        Some(_) => Ok(log.floor),
    }
}

/// Deletes a log's ops up to one, and packs their hashes.
pub(super) fn compact(conn: &Connection, origin: Origin, mut log: Row, upto: Seq) -> Result<(), StoreError> {
    let packed = log.hashes(conn, log.floor + 1, upto)?;
    if packed.len() as u64 != upto - log.floor {
        return Err(StoreError::Damaged(format!("the log of {origin} has a gap below op {upto}")));
    }
    if log.own != Own::Other {
        let acked = acked(conn, origin, &log)?;
        log.alone += tickets_between(conn, log.idx, acked.max(log.floor), upto)?.cast_signed();
    }
    if Mutant::CompactHeld.is_on() {
        forget_held(conn, &log, upto)?;
    }
    hashes::write(conn, log.idx, log.floor + 1, &packed)?;
    conn.prepare_cached("DELETE FROM op WHERE origin_idx = ?1 AND seq <= ?2")?
        .execute((log.idx, upto.cast_signed()))?;
    log.floor = upto;
    log.update(conn)
}

/// How many tickets lie in a stretch of a log.
pub(in crate::store) fn tickets_between(conn: &Connection, idx: i64, after: Seq, upto: Seq) -> Result<u64, StoreError> {
    let count: i64 = conn
        .prepare_cached("SELECT count(*) FROM op WHERE origin_idx = ?1 AND seq > ?2 AND seq <= ?3 AND kind = ?4")?
        .query_row((idx, after.cast_signed(), upto.cast_signed(), kind::TICKET), |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

fn forget_held(conn: &Connection, log: &Row, upto: Seq) -> Result<(), StoreError> {
    let mut query =
        conn.prepare_cached("SELECT hlc, kind, schema, body, rec FROM op WHERE origin_idx = ?1 AND seq <= ?2")?;
    let mut rows = query.query((log.idx, upto.cast_signed()))?;
    while let Some(row) = rows.next()? {
        let key = held_key(&op_of_row(conn, row)?);
        conn.execute("DELETE FROM held WHERE hash = ?1", [key])?;
    }
    Ok(())
}
