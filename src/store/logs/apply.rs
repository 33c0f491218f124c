//! Logs grow: own ops are appended, others' are applied, all are folded into the state.

use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use crate::model::clock::{Hlc, Observed};
use crate::model::id::Origin;
use crate::model::mutant::Mutant;
use crate::model::op::{Body, Head, HoldReason, Op, OpBatch, RunningHash};
use crate::model::posplus::is_posplus;
use crate::model::state::State;

use super::super::entity;
use super::super::error::StoreError;
use super::super::record::{self, Record};
use super::super::request::{ClockAhead, Committed, Reply};
use super::super::roster;
use super::super::work::Work;
use super::{Log, Logs, Own, insert_log};

impl Work<'_> {
    /// Appends an op of our own. The record that it carries is in its table already.
    pub(in crate::store) fn append(
        &mut self,
        op: Op,
        rec: Option<i64>,
        tail: Option<[u8; 32]>,
    ) -> Result<(), StoreError> {
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
    pub(in crate::store) fn settle(&mut self) -> Result<(), StoreError> {
        self.flush_stock()?;
        if self.done.local.is_some() {
            self.memory.logs.by_origin[&self.memory.logs.own].save(self.conn)?;
        }
        Ok(())
    }

    /// Applies ops that continue a log exactly; the rest of the store never sees a gap or another branch.
    pub(in crate::store) fn apply(&mut self, batch: OpBatch) -> Result<Reply, StoreError> {
        let OpBatch { origin, before, mut ops } = batch;
        let head = self.memory.logs.by_origin.get(&origin).map(|log| log.head);
        if !continues(head, before) || (origin == self.memory.logs.own && self.appended) {
            return Ok(Reply::NotContinuing { origin, head: head.unwrap_or_default() });
        }
        if let Some(end) = self.memory.logs.closes.end(origin) {
            // What is beyond comes by the name of its branch.
            ops.truncate(usize::try_from(end.saturating_sub(before.seq)).unwrap_or(usize::MAX));
        }
        if ops.is_empty() {
            return Ok(Reply::Applied { origin, head: before, held: 0 });
        }
        if origin == self.memory.logs.own && !Mutant::KeepOrigin.is_on() {
            self.leave_origin()?;
        }
        let mut log = match self.memory.logs.by_origin.remove(&origin) {
            Some(log) => log,
            None => self.new_log(origin, before.hash)?,
        };
        if Mutant::AcceptGap.is_on() {
            log.head = before;
        }
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
    pub(super) fn leave_origin(&mut self) -> Result<(), StoreError> {
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
        let read = record::read_at(op, self.level);
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
    pub(in crate::store) fn fold(
        &mut self,
        body: &Body,
        op: &Op,
        tail: &mut [u8; 32],
    ) -> Result<Option<i64>, StoreError> {
        let rec = match body {
            Body::Ticket(ticket) => {
                let record = Record::new(ticket.id, &op.body);
                let idx = self.insert_ticket(ticket, &record, Some(*tail))?;
                // A POSPlus till's sale is in the log of who heard it, and no link of that till's chain.
                if !is_posplus(ticket.made.till) {
                    *tail = record.hash;
                }
                Some(idx)
            }
            Body::Refund(refund) => Some(self.insert_refund(refund, &Record::new(refund.id, &op.body))?),
            Body::Movement(movement) => Some(self.insert_movement(movement, &Record::new(movement.id, &op.body))?),
            Body::Edit(edit) => {
                entity::apply_edit(self.conn, edit)?;
                None
            }
            Body::Admit(admit) => {
                self.done.roster |= roster::apply_admit(self.conn, admit)?.shown;
                None
            }
            Body::Retire(retire) => {
                self.done.roster |= roster::apply_retire(self.conn, retire)?.shown;
                None
            }
            Body::State(State::Entity { kind, id, registers, replaced }) => {
                entity::join_state(self.conn, (*kind, *id), registers, replaced)?;
                None
            }
            Body::State(State::Member(member)) => {
                self.done.roster |= roster::join(self.conn, member)?.shown;
                None
            }
            #[cfg(feature = "next")]
            Body::Note(note) => Some(self.insert_note(&Record::new(note.id, &op.body))?),
        };
        Ok(rec)
    }

    /// Keeps what this version cannot apply, with bytes of its own. Of several times of one content the first counts, whatever came first.
    pub(in crate::store) fn hold(&mut self, op: &Op, reason: HoldReason) -> Result<(), StoreError> {
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
    pub(in crate::store) fn retry_held(&mut self) -> Result<usize, StoreError> {
        if Mutant::NeverRetryHeld.is_on() {
            return Ok(0);
        }
        let keys: Vec<[u8; 32]> = {
            let mut statement = self.conn.prepare("SELECT hash FROM held")?;
            statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        let mut taken = 0;
        for key in keys {
            let Some(op) = held_op(self.conn, key)? else { continue };
            let Ok(body) = record::read_at(&op, self.level) else { continue };
            self.conn.execute("DELETE FROM held WHERE hash = ?1", [key])?;
            if !self.take_up(key, &op)? {
                // Its place in the chain of tickets is not known any more: a predecessor that is here is found by its hash.
                self.fold(&body, &op, &mut [0; 32])?;
            }
            taken += 1;
        }
        self.settle()?;
        Ok(taken)
    }
}

/// Whether ops with this head before them may be stored.
fn continues(head: Option<Head>, before: Head) -> bool {
    // An origin that is new here may be the branch of a fork: it brings the hash before its first op.
    let head = head.unwrap_or(if before.seq == 0 { before } else { Head::default() });
    head == before
        || (Mutant::SkipHashCheck.is_on() && head.seq == before.seq)
        || (Mutant::AcceptGap.is_on() && head.seq < before.seq)
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
pub(in crate::store) fn held_key(op: &Op) -> [u8; 32] {
    let place = Sha256::new().chain_update(op.kind.to_be_bytes()).chain_update(op.schema.to_be_bytes());
    place.chain_update(&op.body).finalize().into()
}

/// What is held under a key.
pub(in crate::store) fn held_op(conn: &Connection, key: [u8; 32]) -> Result<Option<Op>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT hlc, kind, schema, body FROM held WHERE hash = ?1")?;
    let op = statement.query_row([key], |row| {
        let hlc = Hlc(row.get::<_, i64>(0)?.cast_unsigned());
        Ok(Op { hlc, kind: row.get(1)?, schema: row.get(2)?, body: row.get(3)? })
    });
    Ok(op.optional()?)
}
