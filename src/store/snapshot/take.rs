//! The taker's side: rows of a part join what is here, durably, before the snapshot's logs are put in.

use rusqlite::OptionalExtension;
use rusqlite::types::Value;

use super::super::entity;
use super::super::error::StoreError;
use super::super::logs::held_key;
use super::super::record::{self, MOVEMENTS, RECORDS, REFUNDS, Record, Records, TICKETS, bytes};
use super::super::request::Reply;
use super::super::work::Work;
use super::super::{digest, roster};
use super::rows::{self, split_key};
use super::uncovered::{self, Uncovered};
use crate::model::id::TillId;
use crate::model::op::{Body, HoldReason, Op};
use crate::model::state::State;
use crate::sync::{Key, Taking, table};

/// An entity that is uncovered. CROSS JOIN: by its id first, for all products of a shop may be uncovered. The plus takes the affinity of the
/// row number away: a comparison that had one could not use the key of a column that has none.
pub(in crate::store) const UNCOVERED_ENTITY: &str =
    "SELECT idx FROM entity CROSS JOIN uncovered ON tbl = ?1 AND ref = +idx WHERE kind = ?2 AND id = ?3";

/// The uncovered records of a part, of this table. As above: a part's rows are few, the uncovered ones may be all.
pub(in crate::store) fn uncovered_records(name: &str) -> String {
    format!(
        "SELECT idx FROM {name} CROSS JOIN uncovered ON tbl = ?1 AND ref = +idx
         WHERE id >= ?2 AND (id > ?2 OR hash > ?3) AND id <= ?4 AND (id < ?4 OR hash <= ?5)"
    )
}

/// What came of joining a row in.
struct Joined {
    of: Uncovered,
    changed: bool,
}

impl Work<'_> {
    /// Takes something of a peer's snapshot in.
    pub(in crate::store) fn take(&mut self, session: u64, what: &Taking) -> Result<Reply, StoreError> {
        match what {
            Taking::Rows { rows, .. } => self.take_rows(session, rows),
            Taking::Same { table, after, upto } => self.take_same(session, *table, (after, upto)),
            Taking::Hashes { origin, base, from, hashes } => {
                self.stage_hashes(session, (*origin, *base), *from, hashes).map(|()| Reply::Done)
            }
            Taking::Logs { closes, logs } => {
                self.install(session, closes, logs)?;
                uncovered::cover(self.conn, session)?;
                self.look_for_awaited().map(|()| Reply::Done)
            }
        }
    }

    /// Joins the rows of a part in. What they change is uncovered from now on.
    fn take_rows(&mut self, session: u64, rows: &[Op]) -> Result<Reply, StoreError> {
        for op in rows {
            let joined = self.take_row(op)?;
            let former = uncovered::session(self.conn, &joined.of)?;
            let is_theirs = match former {
                None => joined.changed,
                // What an unfinished snapshot brought is in this one too only where this one has just that.
                Some(former) => former != session && self.is_just(&joined.of, op)?,
            };
            if is_theirs {
                uncovered::note(self.conn, &joined.of, session)?;
            }
        }
        Ok(Reply::Done)
    }

    /// Joins in what was held of a snapshot that was not finished, and is understood now: what it changes is uncovered in its place.
    /// False where it was not of such a snapshot.
    pub(in crate::store) fn take_up(&mut self, key: [u8; 32], op: &Op) -> Result<bool, StoreError> {
        let held = Uncovered { table: table::HELD, row: Value::Blob(key.to_vec()) };
        let Some(session) = uncovered::session(self.conn, &held)? else { return Ok(false) };
        uncovered::remove(self.conn, &held)?;
        let joined = self.take_row(op)?;
        if joined.changed {
            uncovered::note(self.conn, &joined.of, session)?;
        }
        Ok(true)
    }

    fn take_row(&mut self, op: &Op) -> Result<Joined, StoreError> {
        let body = match record::read_at(op, self.level) {
            Ok(body) => body,
            Err(reason) => return self.take_held(op, reason),
        };
        match &body {
            Body::Ticket(ticket) => {
                let record = Record::new(ticket.id, &op.body);
                self.take_record(&TICKETS, &record, |work| work.insert_ticket(ticket, &record, None))
            }
            Body::Refund(refund) => {
                let record = Record::new(refund.id, &op.body);
                self.take_record(&REFUNDS, &record, |work| work.insert_refund(refund, &record))
            }
            Body::Movement(movement) => {
                let record = Record::new(movement.id, &op.body);
                self.take_record(&MOVEMENTS, &record, |work| work.insert_movement(movement, &record))
            }
            #[cfg(feature = "next")]
            Body::Note(note) => {
                let record = Record::new(note.id, &op.body);
                self.take_record(&record::NOTES, &record, |work| work.insert_note(&record))
            }
            Body::Edit(edit) => entity::apply_edit(self.conn, edit).map(Joined::of_entity),
            Body::State(State::Entity { kind, id, registers, replaced }) => {
                entity::join_state(self.conn, (*kind, *id), registers, replaced).map(Joined::of_entity)
            }
            Body::Admit(admit) => {
                roster::apply_admit(self.conn, admit).map(|joined| self.of_member(admit.till, joined))
            }
            Body::Retire(retire) => {
                roster::apply_retire(self.conn, retire).map(|joined| self.of_member(retire.till, joined))
            }
            Body::State(State::Member(member)) => {
                roster::join(self.conn, member).map(|joined| self.of_member(member.till, joined))
            }
        }
    }

    fn of_member(&mut self, till: TillId, joined: roster::Joined) -> Joined {
        self.done.roster |= joined.shown;
        Joined { of: Uncovered { table: table::ROSTER, row: Value::Blob(till.0.to_vec()) }, changed: joined.changed }
    }

    fn take_record(
        &mut self,
        records: &Records,
        record: &Record<'_>,
        insert: impl FnOnce(&mut Self) -> Result<i64, StoreError>,
    ) -> Result<Joined, StoreError> {
        let known = self.known(records, record)?;
        let idx = match known {
            Some(idx) => idx,
            None => insert(self)?,
        };
        Ok(Joined { of: Uncovered { table: records.table, row: Value::Integer(idx) }, changed: known.is_none() })
    }

    /// The row of this very record, where it is here. It is whole then: what is damaged of it is written again.
    fn known(&self, records: &Records, record: &Record<'_>) -> Result<Option<i64>, StoreError> {
        let name = records.name;
        let mut query = self.conn.prepare_cached(&format!("SELECT idx, hash, body FROM {name} WHERE id = ?1"))?;
        let mut rows = query.query([record.id.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let (idx, hash, body): (i64, _, _) = (row.get(0)?, bytes(row, 1)?, bytes(row, 2)?);
            match (hash == record.hash, body == record.body) {
                (true, true) => return Ok(Some(idx)),
                (false, false) => continue,
                _ => tracing::warn!(id = %record.id, table = name, "a row was damaged: written again"),
            }
            let sql = format!("UPDATE {name} SET hash = ?2, body = ?3 WHERE idx = ?1");
            self.conn.execute(&sql, (idx, record.hash, record.body))?;
            if hash != record.hash {
                digest::renew_records(self.conn, records)?;
            }
            return Ok(Some(idx));
        }
        Ok(None)
    }

    fn take_held(&mut self, op: &Op, reason: HoldReason) -> Result<Joined, StoreError> {
        let key = held_key(op);
        let known = self.conn.prepare_cached("SELECT 1 FROM held WHERE hash = ?1")?.exists([key])?;
        self.hold(op, reason)?;
        let of = Uncovered { table: table::HELD, row: Value::Blob(key.to_vec()) };
        Ok(Joined { of, changed: !known })
    }

    /// Whether our row is just the giver's: then its snapshot covers it.
    fn is_just(&self, of: &Uncovered, op: &Op) -> Result<bool, StoreError> {
        match (of.table, &of.row) {
            (table::ENTITY, Value::Integer(idx)) => {
                let (kind, id, registers) = entity::registers_at(self.conn, *idx)?;
                let parts = rows::parts_of(self.conn, *idx, (kind, id), registers)?;
                // One that travels in parts is authored rather than watched part by part.
                Ok(matches!(&parts[..], [only] if only.body == op.body))
            }
            (table::ROSTER, _) => {
                let ours = match record::read_at(op, self.level) {
                    Ok(Body::State(State::Member(theirs))) => roster::member(self.conn, theirs.till)? == Some(theirs),
                    _ => false,
                };
                Ok(ours)
            }
            _ => Ok(true),
        }
    }

    /// A part of a table is here as it is there: what is uncovered in it is of this session from now on.
    fn take_same(&mut self, session: u64, table: u16, (after, upto): (&[u8], &[u8])) -> Result<Reply, StoreError> {
        if !self.conn.prepare_cached("SELECT 1 FROM uncovered WHERE tbl = ?1 LIMIT 1")?.exists([table])? {
            return Ok(Reply::Done);
        }
        let rows = if let Some(records) = RECORDS.iter().find(|records| records.table == table) {
            self.uncovered_records(records, after, upto)?
        } else if table == table::ENTITY {
            self.uncovered_entities(after, upto)?
        } else {
            let sql = "SELECT ref FROM uncovered WHERE tbl = ?1 AND ref > ?2 AND ref <= ?3";
            let mut query = self.conn.prepare_cached(sql)?;
            query.query_map((table, after, upto), |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        for row in rows {
            uncovered::note(self.conn, &Uncovered { table, row }, session)?;
        }
        Ok(Reply::Done)
    }

    fn uncovered_records(&self, records: &Records, after: &[u8], upto: &[u8]) -> Result<Vec<Value>, StoreError> {
        let sql = uncovered_records(records.name);
        let mut query = self.conn.prepare_cached(&sql)?;
        let ((from, beyond), (to, until)) = (split_key(after), split_key(upto));
        let rows = query.query_map((records.table, from, beyond, to, until), |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Uncovered entities that lie in a range whole, and travel as one row: see [`Self::is_just`].
    fn uncovered_entities(&self, after: &[u8], upto: &[u8]) -> Result<Vec<Value>, StoreError> {
        let mut whole: Vec<Key> = Vec::new();
        rows::scan(self.conn, table::ENTITY, after, &mut |row| {
            let (entity, part) = row.key.split_at(row.key.len() - 2);
            let in_range = row.key.as_slice() <= upto;
            if part == [0, 0] && in_range {
                whole.push(entity.to_vec());
            } else if whole.last().is_some_and(|last| last == entity) {
                whole.pop();
            }
            Ok(in_range)
        })?;
        let mut idx = self.conn.prepare_cached(UNCOVERED_ENTITY)?;
        let mut rows = Vec::new();
        for entity in whole {
            let found = idx.query_row((table::ENTITY, entity[0], &entity[1..]), |row| row.get(0)).optional()?;
            rows.extend(found);
        }
        Ok(rows)
    }
}

impl Joined {
    fn of_entity(joined: entity::Joined) -> Self {
        let of = Uncovered { table: table::ENTITY, row: Value::Integer(joined.idx) };
        Self { of, changed: joined.changed }
    }
}
