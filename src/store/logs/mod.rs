//! The op log: own ops are appended, others' are applied, both are read to be sent.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};

use crate::model::clock::{Hlc, HybridClock, Observed};
use crate::model::id::{Origin, TillId};
use crate::model::op::{Body, Head, HoldReason, Op, OpBatch, RunningHash, Seq, kind};
use crate::model::vector::VersionVector;

use crate::store::entity;
use crate::store::error::StoreError;
use crate::store::reader::Reader;
use crate::store::record::{self, Record};
use crate::store::request::{ClockAhead, Committed, Entropy, Now, Reply};
use crate::store::roster;
use crate::store::work::Work;

/// Whose log it is, as in the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
enum Own {
    Other = 0,
    Ours = 1,
    Former = 2,
}

/// One origin's log: its row in the database.
#[derive(Clone, Debug)]
pub(super) struct Log {
    idx: i64,
    own: Own,
    head: Head,
    /// The greatest time in it.
    hlc: Hlc,
    /// The business day of the last own ticket (YYYYMMDD), and its number.
    day: i64,
    number: i64,
    /// The hash of its last ticket; zero where it has none.
    pub(super) tail: [u8; 32],
}

/// All logs.
#[derive(Debug)]
pub(super) struct Logs {
    /// The one that this database writes.
    pub(super) own: Origin,
    by_origin: BTreeMap<Origin, Log>,
}

impl Logs {
    pub(super) fn load(conn: &Connection) -> Result<Self, StoreError> {
        let mut own = None;
        let mut by_origin = BTreeMap::new();
        let mut statement =
            conn.prepare_cached("SELECT origin, idx, own, head, hash, hlc, day, number, tail FROM origin")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let origin = origin_at(row, 0)?;
            let log = Log {
                idx: row.get(1)?,
                own: match row.get(2)? {
                    1 => Own::Ours,
                    2 => Own::Former,
                    _ => Own::Other,
                },
                head: Head { seq: row.get::<_, i64>(3)?.cast_unsigned(), hash: RunningHash(row.get(4)?) },
                hlc: Hlc(row.get::<_, i64>(5)?.cast_unsigned()),
                day: row.get(6)?,
                number: row.get(7)?,
                tail: row.get(8)?,
            };
            if log.own == Own::Ours {
                own = Some(origin);
            }
            by_origin.insert(origin, log);
        }
        let own = own.ok_or_else(|| StoreError::Damaged("it has no origin of its own".into()))?;
        Ok(Self { own, by_origin })
    }

    /// The till that writes the database; `None` where none has yet.
    pub(super) fn writer(conn: &Connection) -> Result<Option<TillId>, StoreError> {
        let till = conn.query_row("SELECT till FROM origin WHERE own = 1", [], |row| row.get(0)).optional()?;
        Ok(till.map(TillId))
    }

    /// Makes a fresh origin that the database writes under from now on. Its first four hex digits, which stand in ticket numbers, are
    /// no other known origin's.
    pub(super) fn mint(conn: &Connection, till: TillId, entropy: &mut dyn Entropy) -> Result<Origin, StoreError> {
        let known: Vec<String> = {
            let mut statement = conn.prepare_cached("SELECT origin FROM origin")?;
            let rows = statement.query_map([], |row| origin_at(row, 0).map(|o| o.short()))?;
            rows.collect::<Result<_, _>>()?
        };
        let mut origin = Origin(entropy.u64());
        // Bounded, for a store that has worn out nearly all of them: then the digits are those of another.
        for _ in 0..1000 {
            if !known.contains(&origin.short()) {
                break;
            }
            origin = Origin(entropy.u64());
        }
        conn.execute("UPDATE origin SET own = 2 WHERE own = 1", [])?;
        insert_log(conn, origin, Own::Ours, RunningHash::default())?;
        conn.execute("UPDATE origin SET till = ?1 WHERE own = 1", [till.0])?;
        Ok(origin)
    }

    /// A clock that goes on after all times of our own, and after others' unless they are too far in the future.
    pub(super) fn clock(&self, now: Now) -> HybridClock {
        let (others, ours): (Vec<&Log>, Vec<&Log>) = self.by_origin.values().partition(|log| log.own == Own::Other);
        let mut clock = HybridClock::new(ours.iter().map(|log| log.hlc).max().unwrap_or_default());
        for log in others {
            clock.observe(log.hlc, now.wall_ms, now.quality);
        }
        clock
    }

    /// The hash of this till's last ticket; zero where it has none.
    pub(super) fn own_tail(&self) -> [u8; 32] {
        let own = &self.by_origin[&self.own];
        let former = self.by_origin.values().filter(|log| log.own == Own::Former).max_by_key(|log| log.hlc);
        match former {
            Some(former) if own.tail == [0; 32] => former.tail,
            _ => own.tail,
        }
    }

    /// The next ticket number of a business day: gapless per day, also when the clock comes back to an earlier one.
    pub(super) fn next_number(&mut self, conn: &Connection, day: i64) -> Result<i64, StoreError> {
        let own = self.by_origin.get_mut(&self.own).expect("the own log is loaded with the others");
        if own.day != day {
            conn.execute("INSERT OR REPLACE INTO day_number VALUES (?1, ?2, ?3)", (own.idx, own.day, own.number))?;
            let last = conn
                .query_row("SELECT last FROM day_number WHERE origin_idx = ?1 AND day = ?2", (own.idx, day), |row| {
                    row.get(0)
                })
                .optional()?;
            (own.day, own.number) = (day, last.unwrap_or(0));
        }
        own.number += 1;
        Ok(own.number)
    }
}

impl Log {
    fn save(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached(
            "UPDATE origin SET head = ?2, hash = ?3, hlc = ?4, day = ?5, number = ?6, tail = ?7 WHERE idx = ?1",
        )?
        .execute((
            self.idx,
            self.head.seq.cast_signed(),
            self.head.hash.0,
            self.hlc.0.cast_signed(),
            self.day,
            self.number,
            self.tail,
        ))?;
        Ok(())
    }

    /// Puts an op at the end. `rec` is the row of the insert-once record that it carries; its body is kept there.
    fn push(&mut self, conn: &Connection, op: &Op, rec: Option<i64>) -> Result<(), StoreError> {
        self.head = Head { seq: self.head.seq + 1, hash: self.head.hash.after(op) };
        self.hlc = self.hlc.max(op.hlc);
        conn.prepare_cached(
            "INSERT INTO op (origin_idx, seq, hlc, kind, schema, hash, body, rec) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            self.idx,
            self.head.seq.cast_signed(),
            op.hlc.0.cast_signed(),
            op.kind,
            op.schema,
            self.head.hash.0,
            rec.is_none().then_some(&op.body),
            rec,
        ))?;
        Ok(())
    }
}

fn insert_log(conn: &Connection, origin: Origin, own: Own, base: RunningHash) -> Result<i64, StoreError> {
    conn.execute(
        "INSERT INTO origin (origin, own, base, head, hash, floor, hlc, day, number, tail)
         VALUES (?1, ?2, ?3, 0, ?3, 0, 0, 0, 0, zeroblob(32))",
        (origin.0.cast_signed(), own as i64, base.0),
    )?;
    Ok(conn.last_insert_rowid())
}

fn origin_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Origin> {
    Ok(Origin(row.get::<_, i64>(column)?.cast_unsigned()))
}

impl Work<'_> {
    /// Appends an op of our own. The record that it carries is in its table already.
    pub(super) fn append(&mut self, op: Op, rec: Option<i64>, tail: Option<[u8; 32]>) -> Result<(), StoreError> {
        let logs = &mut self.memory.logs;
        let own = logs.by_origin.get_mut(&logs.own).expect("the own log is loaded with the others");
        let before = own.head;
        own.push(self.conn, &op, rec)?;
        own.tail = tail.unwrap_or(own.tail);
        self.appended = true;
        self.done.local.get_or_insert_with(|| OpBatch { origin: logs.own, before, ops: Vec::new() }).ops.push(op);
        Ok(())
    }

    /// Writes what the request has changed in memory alone: to be called once, at its end.
    pub(super) fn settle(&mut self) -> Result<(), StoreError> {
        self.flush_stock()?;
        if self.done.local.is_some() {
            self.memory.logs.by_origin[&self.memory.logs.own].save(self.conn)?;
        }
        Ok(())
    }

    /// Applies ops that continue a log exactly; the rest of the store never sees a gap or another branch.
    pub(super) fn apply(&mut self, batch: OpBatch) -> Result<Reply, StoreError> {
        let OpBatch { origin, before, ops } = batch;
        let head = self.memory.logs.by_origin.get(&origin).map(|log| log.head);
        // An origin that is new here may be the renamed end of a fork: it brings the hash before its first op.
        let continues = head.map_or(before.seq == 0, |head| head == before);
        if !continues || (origin == self.memory.logs.own && self.appended) {
            return Ok(Reply::NotContinuing { origin, head: head.unwrap_or_default() });
        }
        if ops.is_empty() {
            return Ok(Reply::Applied { origin, head: before, held: 0 });
        }
        if origin == self.memory.logs.own {
            self.leave_origin()?;
        }
        let mut log = match self.memory.logs.by_origin.remove(&origin) {
            Some(log) => log,
            None => self.new_log(origin, before.hash)?,
        };
        let held_before = self.done.held;
        let applied = ops.iter().try_for_each(|op| self.apply_one(&mut log, origin, op));
        let head = log.head;
        let saved = applied.and_then(|()| log.save(self.conn));
        self.memory.logs.by_origin.insert(origin, log);
        saved?;
        self.done.heads.push((origin, head));
        Ok(Reply::Applied { origin, head, held: self.done.held - held_before })
    }

    /// A peer holds ops of our own origin that are not here: we have lost them, so we must never write under it again.
    fn leave_origin(&mut self) -> Result<(), StoreError> {
        let fresh = Logs::mint(self.conn, self.author.till, self.entropy)?;
        tracing::warn!(origin = %fresh, "a peer has ops of ours that are not here: writing under a fresh origin");
        self.memory.logs = Logs::load(self.conn)?;
        self.done.origin = Some(fresh);
        Ok(())
    }

    fn new_log(&mut self, origin: Origin, base: RunningHash) -> Result<Log, StoreError> {
        let idx = insert_log(self.conn, origin, Own::Other, base)?;
        let head = Head { seq: 0, hash: base };
        Ok(Log { idx, own: Own::Other, head, hlc: Hlc::default(), day: 0, number: 0, tail: [0; 32] })
    }

    fn apply_one(&mut self, log: &mut Log, origin: Origin, op: &Op) -> Result<(), StoreError> {
        let read = record::read(op);
        if self.memory.clock.observe(op.hlc, self.now.wall_ms, self.now.quality) == Observed::TooFarAhead {
            let till = read.as_ref().ok().and_then(Body::till);
            note_ahead(&mut self.done, ClockAhead { origin, till, at_ms: op.hlc.ms() });
        }
        match read {
            Ok(body) => {
                let rec = self.fold(&body, op, &mut log.tail)?;
                log.push(self.conn, op, rec)
            }
            Err(reason) => {
                log.push(self.conn, op, None)?;
                self.hold(op, reason)
            }
        }
    }

    /// Folds what an op says into the state; gives the row of an insert-once record. `tail` is the last ticket of the op's log.
    pub(super) fn fold(&mut self, body: &Body, op: &Op, tail: &mut [u8; 32]) -> Result<Option<i64>, StoreError> {
        let rec = match body {
            Body::Ticket(ticket) => {
                let record = Record::new(ticket.id, &op.body);
                let idx = self.insert_ticket(ticket, &record, *tail)?;
                *tail = record.hash;
                Some(idx)
            }
            Body::Refund(refund) => Some(self.insert_refund(refund, &Record::new(refund.id, &op.body))?),
            Body::Movement(movement) => Some(self.insert_movement(movement, &Record::new(movement.id, &op.body))?),
            Body::Edit(edit) => {
                entity::apply_edit(self.conn, edit)?;
                None
            }
            Body::Admit(admit) => {
                self.done.roster |= roster::apply_admit(self.conn, admit)?;
                None
            }
            Body::Retire(retire) => {
                self.done.roster |= roster::apply_retire(self.conn, retire)?;
                None
            }
            Body::State(_) => None,
            #[cfg(feature = "next")]
            Body::Note(_) => None,
        };
        Ok(rec)
    }

    /// Keeps what this version cannot apply, with bytes of its own. Of several times of one content the first counts, whatever came first.
    pub(super) fn hold(&mut self, op: &Op, reason: HoldReason) -> Result<(), StoreError> {
        self.conn
            .prepare_cached(
                "INSERT INTO held (hash, hlc, kind, schema, body, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (hash) DO UPDATE SET hlc = excluded.hlc WHERE hlc > excluded.hlc",
            )?
            .execute((held_key(op), op.hlc.0.cast_signed(), op.kind, op.schema, &op.body, reason.to_string()))?;
        self.done.held += 1;
        Ok(())
    }

    /// Applies held ops that this version understands; how many.
    pub(super) fn retry_held(&mut self) -> Result<usize, StoreError> {
        let keys: Vec<[u8; 32]> = {
            let mut statement = self.conn.prepare("SELECT hash FROM held")?;
            statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        let mut taken = 0;
        for key in keys {
            let op = held_op(self.conn, key)?;
            let Ok(body) = record::read(&op) else { continue };
            // Its place in the chain of tickets is not known any more: a predecessor that is here is found by its hash.
            self.fold(&body, &op, &mut [0; 32])?;
            self.conn.execute("DELETE FROM held WHERE hash = ?1", [key])?;
            taken += 1;
        }
        self.settle()?;
        Ok(taken)
    }
}

fn note_ahead(done: &mut Committed, found: ClockAhead) {
    match done.ahead.iter_mut().find(|known| known.origin == found.origin) {
        Some(known) => {
            known.at_ms = known.at_ms.max(found.at_ms);
            known.till = known.till.or(found.till);
        }
        None => done.ahead.push(found),
    }
}

/// Under which what is held is kept: the hash of its content.
pub(super) fn held_key(op: &Op) -> [u8; 32] {
    let place = Sha256::new().chain_update(op.kind.to_be_bytes()).chain_update(op.schema.to_be_bytes());
    place.chain_update(&op.body).finalize().into()
}

fn held_op(conn: &Connection, key: [u8; 32]) -> Result<Op, StoreError> {
    let mut statement = conn.prepare_cached("SELECT hlc, kind, schema, body FROM held WHERE hash = ?1")?;
    let op = statement.query_row([key], |row| {
        let hlc = Hlc(row.get::<_, i64>(0)?.cast_unsigned());
        Ok(Op { hlc, kind: row.get(1)?, schema: row.get(2)?, body: row.get(3)? })
    })?;
    Ok(op)
}

fn op_of_row(row: &Row<'_>) -> rusqlite::Result<(Op, Option<i64>)> {
    let op = Op {
        hlc: Hlc(row.get::<_, i64>(1)?.cast_unsigned()),
        kind: row.get(2)?,
        schema: row.get(3)?,
        body: row.get::<_, Option<Vec<u8>>>(4)?.unwrap_or_default(),
    };
    Ok((op, row.get(5)?))
}

fn with_body(conn: &Connection, mut op: Op, rec: Option<i64>) -> Result<Op, StoreError> {
    if let Some(rec) = rec {
        let sql = match op.kind {
            kind::TICKET => "SELECT body FROM ticket WHERE idx = ?1",
            kind::REFUND => "SELECT body FROM refund WHERE idx = ?1",
            _ => "SELECT body FROM movement WHERE idx = ?1",
        };
        op.body = conn.prepare_cached(sql)?.query_row([rec], |row| row.get(0))?;
    }
    Ok(op)
}

impl Reader {
    /// For each origin, how far its log goes here.
    ///
    /// # Errors
    /// The database's.
    pub fn vector(&self) -> Result<VersionVector, StoreError> {
        let mut statement = self.conn().prepare_cached("SELECT origin, head, hash FROM origin")?;
        let heads = statement.query_map([], |row| {
            let head = Head { seq: row.get::<_, i64>(1)?.cast_unsigned(), hash: RunningHash(row.get(2)?) };
            Ok((origin_at(row, 0)?, head))
        })?;
        Ok(heads.collect::<Result<VersionVector, _>>()?)
    }

    /// The origin that this database writes under.
    ///
    /// # Errors
    /// The database's.
    pub fn origin(&self) -> Result<Origin, StoreError> {
        let mut statement = self.conn().prepare_cached("SELECT origin FROM origin WHERE own = 1")?;
        Ok(statement.query_row([], |row| origin_at(row, 0))?)
    }

    /// Ops of one log from a place on, to be sent: at least one, at most `ops_max`, no more than fit `bytes_max` on the wire beyond
    /// the first. `None` where the log has none there.
    ///
    /// # Errors
    /// The database's.
    pub fn ops(
        &self,
        origin: Origin,
        from: Seq,
        ops_max: usize,
        bytes_max: usize,
    ) -> Result<Option<OpBatch>, StoreError> {
        self.snapshot(|reader| reader.ops_now(origin, from.max(1), ops_max.max(1), bytes_max))
    }

    fn ops_now(
        &self,
        origin: Origin,
        from: Seq,
        ops_max: usize,
        bytes_max: usize,
    ) -> Result<Option<OpBatch>, StoreError> {
        let Some((log_idx, before)) = self.before(origin, from)? else { return Ok(None) };
        let mut batch = OpBatch { origin, before, ops: Vec::new() };
        let mut bytes = 0;
        let mut statement = self.conn().prepare_cached(
            "SELECT seq, hlc, kind, schema, body, rec FROM op WHERE origin_idx = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
        )?;
        let limit = i64::try_from(ops_max).unwrap_or(i64::MAX);
        let mut rows = statement.query((log_idx, from.cast_signed(), limit))?;
        while let Some(row) = rows.next()? {
            let (op, rec) = op_of_row(row)?;
            let op = with_body(self.conn(), op, rec)?;
            bytes += op.wire_len();
            if bytes > bytes_max && !batch.ops.is_empty() {
                break;
            }
            batch.ops.push(op);
        }
        Ok((!batch.ops.is_empty()).then_some(batch))
    }

    /// The log's row, and the head before an op of it.
    fn before(&self, origin: Origin, from: Seq) -> Result<Option<(i64, Head)>, StoreError> {
        let conn = self.conn();
        let log: Option<(i64, [u8; 8])> = conn
            .prepare_cached("SELECT idx, base FROM origin WHERE origin = ?1")?
            .query_row([origin.0.cast_signed()], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((log_idx, base)) = log else { return Ok(None) };
        let seq = from - 1;
        if seq == 0 {
            return Ok(Some((log_idx, Head { seq, hash: RunningHash(base) })));
        }
        let hash: Option<[u8; 8]> = conn
            .prepare_cached("SELECT hash FROM op WHERE origin_idx = ?1 AND seq = ?2")?
            .query_row((log_idx, seq.cast_signed()), |row| row.get(0))
            .optional()?;
        Ok(hash.map(|hash| (log_idx, Head { seq, hash: RunningHash(hash) })))
    }
}
