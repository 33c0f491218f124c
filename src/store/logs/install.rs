//! Putting in the logs of a snapshot: their ends, hashes and heads, not their ops.
//!
//! Hashes come first and are kept aside ([`Work::stage_hashes`]); with the last step of the snapshot all logs are put in at once
//! ([`Work::install`]). A head is never overwritten by one that does not continue it: where a log parts from ours, its origin ends there.

use rusqlite::{Connection, OptionalExtension};

use super::super::error::StoreError;
use super::super::work::Work;
use super::ends::Surgery;
use super::row::{Row, head_at};
use super::{Own, free_idx, hashes};
use crate::model::close::Close;
use crate::model::id::Origin;
use crate::model::mutant::Mutant;
use crate::model::op::{Head, RunningHash, Seq};
use crate::sync::LogHeader;

/// A log of which hashes have come.
struct Staged {
    idx: i64,
    base: RunningHash,
    /// Up to here it is as our log of that name.
    after: Head,
    /// The last op whose hash is here.
    head: Seq,
}

impl Staged {
    fn of(conn: &Connection, origin: Origin) -> Result<Option<Self>, StoreError> {
        let mut query = conn.prepare_cached("SELECT idx, base, after, hash, head FROM staged WHERE origin = ?1")?;
        let staged = query.query_row([origin.0.cast_signed()], |row| {
            Ok(Self {
                idx: row.get(0)?,
                base: RunningHash(row.get(1)?),
                after: head_at(row, 2)?,
                head: row.get::<_, i64>(4)?.cast_unsigned(),
            })
        });
        Ok(staged.optional()?)
    }

    /// Makes one that begins as our log of that name, up to an op.
    fn begin(
        conn: &Connection,
        session: u64,
        (origin, base): (Origin, RunningHash),
        after: Seq,
    ) -> Result<Self, StoreError> {
        let hash = match Row::of(conn, origin)? {
            _ if after == 0 => base,
            Some(here) if here.head.seq >= after => here.hash_at(conn, after)?,
            _ => return Err(unfit(origin)),
        };
        let staged = Self { idx: free_idx(conn)?, base, after: Head { seq: after, hash }, head: after };
        conn.prepare_cached(
            "INSERT INTO staged (idx, session, origin, base, after, hash, head) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?5)",
        )?
        .execute((
            staged.idx,
            session.cast_signed(),
            origin.0.cast_signed(),
            base.0,
            after.cast_signed(),
            hash.0,
        ))?;
        Ok(staged)
    }

    /// The hash after an op that is not before [`Self::after`].
    fn hash_at(&self, conn: &Connection, seq: Seq) -> Result<RunningHash, StoreError> {
        if seq == self.after.seq {
            return Ok(self.after.hash);
        }
        let hash = hashes::read(conn, self.idx, seq, seq)?.pop();
        hash.ok_or_else(|| StoreError::Damaged(format!("the log taken in row {} lacks the hash of op {seq}", self.idx)))
    }

    /// Its hashes stay: they are those of a log now.
    fn take_out(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached("DELETE FROM staged WHERE idx = ?1")?.execute([self.idx])?;
        Ok(())
    }

    fn discard(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached("DELETE FROM hashes WHERE origin_idx = ?1")?.execute([self.idx])?;
        self.take_out(conn)
    }
}

/// Drops what was taken for another snapshot than this.
fn discard_others(conn: &Connection, session: u64) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM hashes WHERE origin_idx IN (SELECT idx FROM staged WHERE session <> ?1)")?
        .execute([session.cast_signed()])?;
    conn.prepare_cached("DELETE FROM staged WHERE session <> ?1")?.execute([session.cast_signed()])?;
    Ok(())
}

/// Drops what was taken for any snapshot, as at a start: none goes on then.
pub(in crate::store) fn discard_all(conn: &Connection) -> Result<(), StoreError> {
    // Deleting all rows writes a page even where there are none.
    if !conn.prepare_cached("SELECT 1 FROM staged LIMIT 1")?.exists([])? {
        return Ok(());
    }
    conn.prepare_cached("DELETE FROM hashes WHERE origin_idx IN (SELECT idx FROM staged)")?.execute([])?;
    conn.prepare_cached("DELETE FROM staged")?.execute([])?;
    Ok(())
}

/// The snapshot must be begun anew: our logs are not as they were, or its hashes are not all here.
fn unfit(origin: Origin) -> StoreError {
    StoreError::rejected("logs", format!("the hashes taken of {origin} do not fit what is here: begin anew"))
}

impl Work<'_> {
    /// Keeps running hashes of a log of a snapshot, from that of op `from` on, until all is here.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] where they continue neither those that came before nor the log that is here.
    pub(in crate::store) fn stage_hashes(
        &mut self,
        session: u64,
        (origin, base): (Origin, RunningHash),
        from: Seq,
        hashes: &[RunningHash],
    ) -> Result<(), StoreError> {
        let conn = self.conn;
        discard_others(conn, session)?;
        let after = from.checked_sub(1).ok_or_else(|| unfit(origin))?;
        let staged = match Staged::of(conn, origin)? {
            Some(staged) if staged.head == after && staged.base == base => staged,
            other => {
                other.map_or(Ok(()), |other| other.discard(conn))?;
                Staged::begin(conn, session, (origin, base), after)?
            }
        };
        hashes::write(conn, staged.idx, from, hashes)?;
        conn.prepare_cached("UPDATE staged SET head = ?2 WHERE idx = ?1")?
            .execute((staged.idx, (after + hashes.len() as u64).cast_signed()))?;
        Ok(())
    }

    /// Puts in the ends and logs of a snapshot whose rows are here, and whose hashes are where its logs go beyond ours.
    ///
    /// # Errors
    /// [`StoreError::Rejected`] where hashes are missing: a log has been cut since they came, or parts from ours below our head. Then
    /// nothing has changed, and the snapshot must be begun anew.
    pub(in crate::store) fn install(
        &mut self,
        session: u64,
        closes: &[Close],
        logs: &[LogHeader],
    ) -> Result<(), StoreError> {
        discard_others(self.conn, session)?;
        self.operate(|surgery| {
            closes.iter().try_for_each(|close| surgery.end(*close))?;
            surgery.place_named()?;
            logs.iter().filter(|log| log.head.seq > 0).try_for_each(|log| surgery.install(log))
        })?;
        discard_all(self.conn)?;
        // Who put it in waits to be told, also where all was here already.
        self.done.logs = Some(self.memory.logs.now());
        Ok(())
    }
}

impl Surgery<'_> {
    fn install(&mut self, header: &LogHeader) -> Result<(), StoreError> {
        let (conn, origin, head) = (self.conn, header.origin, header.head);
        let here = Row::of(conn, origin)?;
        if Mutant::SnapshotOverwrites.is_on() && here.as_ref().is_some_and(|here| here.head != head) {
            return self.overwrite(header);
        }
        if let Some(here) = &here
            && here.head.seq >= head.seq
            && here.hash_at(conn, head.seq)? == head.hash
        {
            return Ok(());
        }
        let Some(staged) = Staged::of(conn, origin)? else { return Err(unfit(origin)) };
        if (staged.head, staged.base) != (head.seq, header.base) || staged.hash_at(conn, head.seq)? != head.hash {
            return Err(unfit(origin));
        }
        staged.take_out(conn)?;
        let log = Row {
            idx: staged.idx,
            own: Own::Other,
            base: header.base,
            head,
            floor: head.seq,
            hlc: header.hlc,
            tail: header.tail,
            alone: 0,
        };
        if staged.after.seq == 0 {
            return self.place(origin, log);
        }
        let here = here.filter(|here| here.head.seq >= staged.after.seq).ok_or_else(|| unfit(origin))?;
        if here.hash_at(conn, staged.after.seq)? != staged.after.hash {
            return Err(unfit(origin));
        }
        let continues = head.seq > here.head.seq && staged.hash_at(conn, here.head.seq)? == here.head.hash;
        if continues && self.closes.end(origin).is_none_or(|end| head.seq <= end) {
            return self.extend(origin, here, log);
        }
        let common = here.hashes(conn, 1, staged.after.seq)?;
        let beyond = hashes::read(conn, log.idx, staged.after.seq + 1, head.seq)?;
        hashes::write(conn, log.idx, 1, &common)?;
        hashes::write(conn, log.idx, staged.after.seq + 1, &beyond)?;
        self.place(origin, log)
    }

    /// Puts in the longer log of one chain whose hashes below our head are here alone. Its ops are not: ours would leave a gap.
    fn extend(&mut self, origin: Origin, mut here: Row, longer: Row) -> Result<(), StoreError> {
        let conn = self.conn;
        let next = here.head.seq + 1;
        hashes::write(conn, here.idx, here.floor + 1, &here.hashes(conn, here.floor + 1, here.head.seq)?)?;
        hashes::copy(conn, (longer.idx, next, longer.head.seq), (here.idx, next))?;
        conn.prepare_cached("DELETE FROM op WHERE origin_idx = ?1")?.execute([here.idx])?;
        here = Row { head: longer.head, floor: longer.floor, hlc: here.hlc.max(longer.hlc), tail: longer.tail, ..here };
        here.update(conn)?;
        longer.discard(conn)?;
        self.note_growth(origin);
        Ok(())
    }

    /// The deliberate bug: heads are put in as they come.
    fn overwrite(&mut self, header: &LogHeader) -> Result<(), StoreError> {
        let Some(here) = Row::of(self.conn, header.origin)? else { return Ok(()) };
        self.conn.execute("DELETE FROM op WHERE origin_idx = ?1", [here.idx])?;
        Row { head: header.head, floor: header.head.seq, ..here }.update(self.conn)
    }
}
