//! When nobody is left who could finish a snapshot: what it has brought is authored.

use rusqlite::types::Value;

use super::super::entity;
use super::super::error::StoreError;
use super::super::logs::held_op;
use super::super::record::{RECORDS, Records};
use super::super::request::Reply;
use super::super::roster;
use super::super::work::Work;
use super::rows;
use super::uncovered::{self, Uncovered};
use crate::model::clock::Hlc;
use crate::model::id::TillId;
use crate::model::mutant::Mutant;
use crate::model::op::{Body, Op, SCHEMA};
use crate::model::state::State;
use crate::sync::table;

impl Work<'_> {
    /// Authors uncovered rows under our own origin. They are in the state already; others join them in as they join all.
    pub(in crate::store) fn adopt(&mut self, rows_max: usize) -> Result<Reply, StoreError> {
        if Mutant::NeverAdopt.is_on() {
            return Ok(Reply::Adopted { left: 0 });
        }
        for uncovered in uncovered::some(self.conn, rows_max)? {
            self.adopt_row(&uncovered)?;
            uncovered::remove(self.conn, &uncovered)?;
        }
        let left = uncovered::count(self.conn)?;
        // No more rows come out of order: what was not found then may be here all the same.
        if left == 0 {
            self.look_for_awaited()?;
        }
        Ok(Reply::Adopted { left })
    }

    fn adopt_row(&mut self, uncovered: &Uncovered) -> Result<(), StoreError> {
        if let Some(records) = RECORDS.iter().find(|records| records.table == uncovered.table) {
            let Value::Integer(idx) = uncovered.row else { return Err(unknown(uncovered)) };
            let op = self.record_op(records, idx)?;
            return self.append(op, Some(idx), None);
        }
        let ops = match (uncovered.table, &uncovered.row) {
            (table::ENTITY, Value::Integer(idx)) => {
                let (kind, id, registers) = entity::registers_at(self.conn, *idx)?;
                rows::parts_of(self.conn, *idx, (kind, id), registers)?
            }
            (table::ROSTER, Value::Blob(till)) => {
                let till = TillId(till.as_slice().try_into().map_err(|_| unknown(uncovered))?);
                let member = roster::member(self.conn, till)?.ok_or_else(|| unknown(uncovered))?;
                vec![Body::State(State::Member(member)).to_op(Hlc::default())]
            }
            (table::HELD, Value::Blob(key)) => {
                let key = key.as_slice().try_into().map_err(|_| unknown(uncovered))?;
                // Held no more: this version applied it, and noted what that changed.
                held_op(self.conn, key)?.into_iter().collect()
            }
            _ => return Err(unknown(uncovered)),
        };
        for op in ops {
            let hlc = self.tick();
            self.append(Op { hlc, ..op }, None, None)?;
        }
        Ok(())
    }

    fn record_op(&mut self, records: &Records, idx: i64) -> Result<Op, StoreError> {
        let sql = format!("SELECT body FROM {} WHERE idx = ?1", records.name);
        let body = self.conn.prepare_cached(&sql)?.query_row([idx], |row| row.get(0))?;
        Ok(Op { hlc: self.tick(), kind: records.kind, schema: SCHEMA, body })
    }
}

fn unknown(uncovered: &Uncovered) -> StoreError {
    StoreError::Damaged(format!("an uncovered row of table {}", uncovered.table))
}
