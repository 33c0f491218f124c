//! Where origins end: logs are cut there, and what is beyond goes on under the name of its branch.
//!
//! A close is no op. Closes join by minimum, and each is applied to what is here in the transaction that takes it in, so no log ever
//! goes beyond its end. A branch's name follows from its content: tills that cut alike have it alike, whoever came first. Where a log
//! of that name is here already, the two are joined: of one chain the longer stays; where they part, the name ends there too.

use rusqlite::{Connection, OptionalExtension};

use super::super::error::StoreError;
use super::super::request::{LogsNow, Reply};
use super::super::work::Work;
use super::row::Row;
use super::{Logs, Own, free_idx, hashes};
use crate::model::clock::Hlc;
use crate::model::close::{Close, Closes, branch_name};
use crate::model::id::Origin;
use crate::model::mutant::Mutant;
use crate::model::op::{Head, Seq, kind};

/// Logs being cut, named and joined, within one request.
pub(super) struct Surgery<'a> {
    pub(super) conn: &'a Connection,
    pub(super) closes: Closes,
    own: Origin,
    /// Whether our own origin has ended, or goes further than we know: it must never be written under again.
    leave: bool,
    changed: bool,
    next_idx: i64,
    /// Logs that have a name and no place yet.
    named: Vec<(Origin, Row)>,
}

impl<'a> Surgery<'a> {
    fn new(conn: &'a Connection, logs: &Logs) -> Result<Self, StoreError> {
        let next_idx = free_idx(conn)?;
        let (closes, own) = (logs.closes.clone(), logs.own);
        Ok(Self { conn, closes, own, leave: false, changed: false, next_idx, named: Vec::new() })
    }

    /// Takes a close in, and cuts the log that is here.
    pub(super) fn end(&mut self, close: Close) -> Result<(), StoreError> {
        let Close { origin, seq } = close;
        if !self.closes.is_news(close) {
            return Ok(());
        }
        self.closes.0.insert(origin, seq);
        self.conn
            .prepare_cached("INSERT OR REPLACE INTO close (origin, seq) VALUES (?1, ?2)")?
            .execute((origin.0.cast_signed(), seq.cast_signed()))?;
        self.changed = true;
        self.leave |= origin == self.own;
        if let Some(log) = Row::of(self.conn, origin)?
            && log.head.seq > seq
        {
            log.take_out(self.conn)?;
            let (common, branch) = self.cut(log, seq)?;
            if let Some(common) = common {
                common.insert(self.conn, origin)?;
            }
            self.name(close, branch)?;
        }
        Ok(())
    }

    /// Puts a log in under a name: cut where that has ended, joined with what is here under it. What comes of that by other names follows
    /// with [`Self::place_named`].
    pub(super) fn place(&mut self, origin: Origin, log: Row) -> Result<(), StoreError> {
        let Some(log) = self.cut_at_end(origin, log)? else { return Ok(()) };
        self.changed = true;
        let Some(here) = Row::of(self.conn, origin)? else { return log.insert(self.conn, origin) };
        match self.parted(&here, &log)? {
            None => self.join(origin, here, log),
            Some(seq) => {
                let close = Close { origin, seq };
                self.end(close)?;
                let (common, branch) = self.cut(log, seq)?;
                self.name(close, branch)?;
                match (common, Row::of(self.conn, origin)?) {
                    (Some(common), Some(here)) => self.join(origin, here, common),
                    _ => Ok(()),
                }
            }
        }
    }

    /// A log has come to go further than it did here.
    pub(super) fn note_growth(&mut self, origin: Origin) {
        self.changed = true;
        self.leave |= origin == self.own;
    }

    /// Gives all branches their places.
    pub(super) fn place_named(&mut self) -> Result<(), StoreError> {
        while let Some((name, branch)) = self.named.pop() {
            self.place(name, branch)?;
        }
        Ok(())
    }

    fn cut_at_end(&mut self, origin: Origin, log: Row) -> Result<Option<Row>, StoreError> {
        match self.closes.end(origin) {
            Some(seq) if log.head.seq > seq => {
                let (common, branch) = self.cut(log, seq)?;
                self.name(Close { origin, seq }, branch)?;
                Ok(common)
            }
            _ => Ok(Some(log)),
        }
    }

    fn name(&mut self, close: Close, branch: Row) -> Result<(), StoreError> {
        if Mutant::DropBeyondClose.is_on() {
            return branch.discard(self.conn);
        }
        let name = branch_name(close, branch.hash_at(self.conn, 1)?);
        tracing::info!(origin = %close.origin, ends = close.seq, %name, "an origin has ended: its log goes on as a branch");
        self.named.push((name, branch));
        Ok(())
    }

    /// Divides a log after an op that is before its head: what is up to there (`None` where that is nothing), and the rest. Neither is in
    /// the table of logs then.
    fn cut(&mut self, log: Row, after: Seq) -> Result<(Option<Row>, Row), StoreError> {
        let conn = self.conn;
        let own = if log.own == Own::Other { Own::Other } else { Own::Former };
        if after == 0 {
            return Ok((None, Row { own, ..log }));
        }
        let idx = self.next_idx;
        self.next_idx += 1;
        let end = Head { seq: after, hash: log.hash_at(conn, after)? };
        conn.prepare_cached("UPDATE op SET origin_idx = ?2, seq = seq - ?3 WHERE origin_idx = ?1 AND seq > ?3")?
            .execute((log.idx, idx, after.cast_signed()))?;
        hashes::copy(conn, (log.idx, after + 1, log.floor), (idx, 1))?;
        hashes::truncate(conn, log.idx, after.min(log.floor))?;
        let is_compacted = log.floor > after;
        let branch = Row {
            idx,
            own,
            base: end.hash,
            head: Head { seq: log.head.seq - after, hash: log.head.hash },
            floor: log.floor.saturating_sub(after),
            alone: if is_compacted { log.alone } else { 0 },
            ..log
        };
        let common = Row {
            head: end,
            floor: log.floor.min(after),
            hlc: last_time(conn, log.idx)?,
            tail: last_ticket(conn, log.idx)?,
            alone: if is_compacted { 0 } else { log.alone },
            ..log
        };
        Ok((Some(common), branch))
    }

    /// After which op two logs part; `None` where they agree as far as both go.
    fn parted(&self, a: &Row, b: &Row) -> Result<Option<Seq>, StoreError> {
        let agree = |seq| Ok::<_, StoreError>(a.hash_at(self.conn, seq)? == b.hash_at(self.conn, seq)?);
        let (mut same, mut differ) = (0, a.head.seq.min(b.head.seq));
        // An empty log takes any base.
        if differ == 0 || agree(differ)? {
            return Ok(None);
        }
        if !agree(0)? {
            return Ok(Some(0));
        }
        while differ - same > 1 {
            let middle = same + (differ - same) / 2;
            *(if agree(middle)? { &mut same } else { &mut differ }) = middle;
        }
        Ok(Some(same))
    }

    /// Makes one log of two of one chain: the longer stays, with ops of the shorter where they continue it downwards.
    fn join(&mut self, origin: Origin, here: Row, other: Row) -> Result<(), StoreError> {
        let conn = self.conn;
        let is_longer = other.head.seq > here.head.seq;
        if is_longer {
            self.note_growth(origin);
        }
        let own = if here.own == Own::Other { other.own } else { here.own };
        let (mut long, short) = if is_longer { (other, here) } else { (here, other) };
        if short.floor < long.floor && long.floor <= short.head.seq {
            conn.prepare_cached("UPDATE op SET origin_idx = ?2 WHERE origin_idx = ?1 AND seq <= ?3")?.execute((
                short.idx,
                long.idx,
                long.floor.cast_signed(),
            ))?;
            hashes::truncate(conn, long.idx, short.floor)?;
            long.floor = short.floor;
        }
        long = Row { own, hlc: long.hlc.max(short.hlc), alone: long.alone.max(short.alone), ..long };
        short.discard(conn)?;
        if is_longer { long.insert(conn, origin) } else { long.update(conn) }
    }
}

fn last_time(conn: &Connection, idx: i64) -> Result<Hlc, StoreError> {
    let last: Option<i64> =
        conn.prepare_cached("SELECT max(hlc) FROM op WHERE origin_idx = ?1")?.query_row([idx], |row| row.get(0))?;
    Ok(Hlc(last.unwrap_or(0).cast_unsigned()))
}

/// The hash of a log's last ticket; zero where that is compacted: who follows it is found by a longer search.
fn last_ticket(conn: &Connection, idx: i64) -> Result<[u8; 32], StoreError> {
    let rec: Option<i64> = conn
        .prepare_cached(
            "SELECT rec FROM op WHERE origin_idx = ?1 AND kind = ?2 AND rec IS NOT NULL ORDER BY seq DESC LIMIT 1",
        )?
        .query_row((idx, kind::TICKET), |row| row.get(0))
        .optional()?;
    let Some(rec) = rec else { return Ok([0; 32]) };
    Ok(conn.prepare_cached("SELECT hash FROM ticket WHERE idx = ?1")?.query_row([rec], |row| row.get(0))?)
}

impl Work<'_> {
    /// Ends origins.
    pub(in crate::store) fn end(&mut self, closes: &[Close]) -> Result<Reply, StoreError> {
        self.operate(|surgery| closes.iter().try_for_each(|close| surgery.end(*close)))?;
        Ok(Reply::Done)
    }

    /// Writes under a fresh origin from now on, if `origin` is ours still.
    pub(in crate::store) fn leave(&mut self, origin: Origin) -> Result<Reply, StoreError> {
        if origin == self.memory.logs.own && !Mutant::KeepOrigin.is_on() {
            self.leave_origin()?;
        }
        Ok(Reply::Done)
    }

    /// Changes logs otherwise than by growth, and reads them again.
    pub(super) fn operate(
        &mut self,
        run: impl FnOnce(&mut Surgery<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut surgery = Surgery::new(self.conn, &self.memory.logs)?;
        run(&mut surgery)?;
        surgery.place_named()?;
        if surgery.changed {
            if surgery.leave {
                self.done.origin = Some(Logs::mint(self.conn, self.author.till, self.entropy)?);
            }
            self.memory.logs = Logs::load(self.conn)?;
            self.done.logs = Some(self.memory.logs.now());
        }
        Ok(())
    }
}

impl Logs {
    /// Where all logs stand, and where they end.
    pub(in crate::store) fn now(&self) -> LogsNow {
        let vector = self.by_origin.iter().map(|(origin, log)| (*origin, log.head)).collect();
        LogsNow { vector, closes: self.closes.clone() }
    }
}
