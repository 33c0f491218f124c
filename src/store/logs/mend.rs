//! Ops that the card has damaged: found by their running hash, and mended or let go.

use rusqlite::Connection;

use super::super::error::StoreError;
use super::super::record::{RECORDS, bytes};
use super::super::request::Reply;
use super::super::work::Work;
use super::compact::compact;
use super::read::op_of_row;
use super::row::Row;
use crate::model::id::Origin;
use crate::model::op::{Op, RunningHash, Seq, content_hash};

/// An op as it is stored.
pub(in crate::store) struct OpRow {
    pub(in crate::store) seq: Seq,
    /// The running hash before it, as it is stored.
    before: RunningHash,
    /// The running hash after it, as it is stored.
    hash: RunningHash,
    /// `None` where it cannot be read.
    op: Option<Op>,
    /// Whether its body is a record's, and that one is damaged: then it is mended there.
    waits: bool,
}

impl OpRow {
    /// Whether it is what was once put in, as far as it can be told.
    pub(in crate::store) fn is_sound(&self) -> bool {
        self.waits || self.computed() == Some(self.hash)
    }

    fn computed(&self) -> Option<RunningHash> {
        self.op.as_ref().map(|op| self.before.after(op))
    }
}

/// Goes through the retained ops of a log beyond one, at most so many.
pub(in crate::store) fn op_rows(
    conn: &Connection,
    origin: Origin,
    after: Seq,
    limit: i64,
    see: &mut dyn FnMut(OpRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let Some(log) = Row::of(conn, origin)? else { return Ok(()) };
    let after = after.max(log.floor);
    if after >= log.head.seq {
        return Ok(());
    }
    let mut before = log.hash_at(conn, after)?;
    let mut rows = conn.prepare_cached(
        "SELECT hlc, kind, schema, body, rec, seq, hash FROM op WHERE origin_idx = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
    )?;
    let mut rows = rows.query((log.idx, after.cast_signed(), limit))?;
    while let Some(row) = rows.next()? {
        let op = op_of_row(conn, row).ok();
        let hash = RunningHash(row.get(6).unwrap_or_default());
        let waits = match row.get(4)? {
            Some(rec) => is_damaged(conn, row.get(1)?, rec)?,
            None => false,
        };
        see(OpRow { seq: row.get::<_, i64>(5)?.cast_unsigned(), before, hash, op, waits })?;
        before = hash;
    }
    Ok(())
}

/// Whether a record is not what its hash says.
fn is_damaged(conn: &Connection, kind: u16, idx: i64) -> Result<bool, StoreError> {
    let Some(records) = RECORDS.iter().find(|records| records.kind == kind) else { return Ok(false) };
    let sql = format!("SELECT hash, body FROM {} WHERE idx = ?1", records.name);
    let mut rows = conn.prepare_cached(&sql)?;
    let mut rows = rows.query([idx])?;
    let Some(row) = rows.next()? else { return Ok(false) };
    Ok(content_hash(bytes(row, 1)?) != bytes(row, 0)?)
}

/// An op, and the one after it where there is one.
fn op_and_next(conn: &Connection, origin: Origin, seq: Seq) -> Result<Option<(OpRow, Option<OpRow>)>, StoreError> {
    let mut rows = Vec::new();
    op_rows(conn, origin, seq.saturating_sub(1), 2, &mut |row| {
        rows.push(row);
        Ok(())
    })?;
    let mut rows = rows.into_iter();
    Ok(rows.next().filter(|row| row.seq == seq).map(|row| (row, rows.next())))
}

impl Work<'_> {
    /// Mends an op that the scrub found damaged.
    pub(in crate::store) fn mend(&mut self, origin: Origin, seq: Seq) -> Result<Reply, StoreError> {
        let Some(log) = Row::of(self.conn, origin)? else { return Ok(Reply::Done) };
        let Some((row, next)) = op_and_next(self.conn, origin, seq)? else { return Ok(Reply::Done) };
        if row.is_sound() {
            return Ok(Reply::Done);
        }
        // What comes after it says whether its content or its hash is damaged.
        let is_right = |hash: RunningHash| match &next {
            Some(next) => next.op.as_ref().is_some_and(|op| hash.after(op) == next.hash),
            None => hash == log.head.hash,
        };
        let hash = row.computed().filter(|hash| is_right(*hash));
        tracing::warn!(%origin, seq, mended = hash.is_some(), "an op was damaged: what it did is in the state");
        if let Some(hash) = hash.or((seq == log.head.seq).then_some(log.head.hash)) {
            self.conn.prepare_cached("UPDATE op SET hash = ?3 WHERE origin_idx = ?1 AND seq = ?2")?.execute((
                log.idx,
                seq.cast_signed(),
                hash.0,
            ))?;
        }
        if hash.is_none() {
            compact(self.conn, origin, log, seq)?;
        }
        Ok(Reply::Done)
    }
}
