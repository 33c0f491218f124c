//! Reading logs: where they stand, and their ops to be sent.

use rusqlite::{Connection, Row as Sql};

use crate::model::clock::Hlc;
use crate::model::close::Closes;
use crate::model::id::Origin;
use crate::model::op::{Head, Op, OpBatch, RunningHash, Seq};
use crate::model::vector::VersionVector;
use crate::sync::LogHeader;

use super::super::error::StoreError;
use super::super::reader::Reader;
use super::super::record::RECORDS;
use super::row::{Row, head_at};
use super::{closes, origin_at};

/// The op of a row of hlc, kind, schema, body and rec.
pub(super) fn op_of_row(conn: &Connection, row: &Sql<'_>) -> Result<Op, StoreError> {
    let mut op = Op {
        hlc: Hlc(row.get::<_, i64>(0)?.cast_unsigned()),
        kind: row.get(1)?,
        schema: row.get(2)?,
        body: row.get::<_, Option<Vec<u8>>>(3)?.unwrap_or_default(),
    };
    if let Some(rec) = row.get::<_, Option<i64>>(4)? {
        let records = RECORDS.iter().find(|records| records.kind == op.kind);
        let records = records.ok_or_else(|| StoreError::Damaged(format!("an op of kind {} with a record", op.kind)))?;
        let sql = format!("SELECT body FROM {} WHERE idx = ?1", records.name);
        op.body = conn.prepare_cached(&sql)?.query_row([rec], |row| row.get(0))?;
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
        let heads = statement.query_map([], |row| Ok((origin_at(row, 0)?, head_at(row, 1)?)))?;
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

    /// The greatest time that this till has written.
    ///
    /// # Errors
    /// The database's.
    pub fn high_water(&self) -> Result<Hlc, StoreError> {
        let mut query = self.conn().prepare_cached("SELECT coalesce(max(hlc), 0) FROM origin WHERE own IN (1, 2)")?;
        Ok(Hlc(query.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned()))
    }

    /// Ops of one log from a place on, to be sent: at least one, at most `ops_max`, no more than fit `bytes_max` on the wire beyond
    /// the first.
    ///
    /// # Errors
    /// The database's.
    pub fn ops(&self, origin: Origin, from: Seq, ops_max: usize, bytes_max: usize) -> Result<OpsRead, StoreError> {
        self.snapshot(|reader| reader.ops_now(origin, from.max(1), ops_max.max(1), bytes_max))
    }

    fn ops_now(&self, origin: Origin, from: Seq, ops_max: usize, bytes_max: usize) -> Result<OpsRead, StoreError> {
        let conn = self.conn();
        let Some(log) = Row::of(conn, origin)? else { return Ok(OpsRead::Nothing) };
        if from > log.head.seq {
            return Ok(OpsRead::Nothing);
        }
        if from <= log.floor {
            return Ok(OpsRead::Compacted(log.floor));
        }
        let hash = log.hash_at(conn, from - 1)?;
        let mut batch = OpBatch { origin, before: Head { seq: from - 1, hash }, ops: Vec::new() };
        let (mut bytes, mut after) = (0, hash);
        let mut statement = conn.prepare_cached(
            "SELECT hlc, kind, schema, body, rec, hash FROM op WHERE origin_idx = ?1 AND seq >= ?2 ORDER BY seq LIMIT ?3",
        )?;
        let limit = i64::try_from(ops_max).unwrap_or(i64::MAX);
        let mut rows = statement.query((log.idx, from.cast_signed(), limit))?;
        while let Some(row) = rows.next()? {
            let op = op_of_row(conn, row)?;
            after = after.after(&op);
            // A damaged op, sent, would be another branch of the log. See [`super::mend`].
            if after.0 != row.get::<_, [u8; 8]>(5)? {
                let seq = from + batch.ops.len() as u64;
                return match batch.ops.is_empty() {
                    true => Err(StoreError::Damaged(format!("op {seq} of {origin}"))),
                    false => Ok(OpsRead::Batch(batch)),
                };
            }
            bytes += op.wire_len();
            if bytes > bytes_max && !batch.ops.is_empty() {
                break;
            }
            batch.ops.push(op);
        }
        Ok(if batch.ops.is_empty() { OpsRead::Nothing } else { OpsRead::Batch(batch) })
    }

    /// Where origins end.
    ///
    /// # Errors
    /// The database's.
    pub fn closes(&self) -> Result<Closes, StoreError> {
        closes(self.conn())
    }

    /// All logs that have ops, compacted or not, as a snapshot tells them.
    ///
    /// # Errors
    /// The database's.
    pub fn log_headers(&self) -> Result<Vec<LogHeader>, StoreError> {
        let mut statement = self
            .conn()
            .prepare_cached("SELECT origin, base, head, hash, hlc, tail FROM origin WHERE head > 0 ORDER BY origin")?;
        let headers = statement.query_map([], |row| {
            Ok(LogHeader {
                origin: origin_at(row, 0)?,
                base: RunningHash(row.get(1)?),
                head: head_at(row, 2)?,
                hlc: Hlc(row.get::<_, i64>(4)?.cast_unsigned()),
                tail: row.get(5)?,
            })
        })?;
        Ok(headers.collect::<Result<_, _>>()?)
    }

    /// The running hashes of a log from a place on, at most `hashes_max`; none where it has none there.
    ///
    /// # Errors
    /// The database's.
    pub fn hashes(&self, origin: Origin, from: Seq, hashes_max: usize) -> Result<Vec<RunningHash>, StoreError> {
        self.snapshot(|reader| {
            let Some(log) = Row::of(reader.conn(), origin)? else { return Ok(Vec::new()) };
            let from = from.max(1);
            let upto = log.head.seq.min(from.saturating_add(hashes_max as u64) - 1);
            log.hashes(reader.conn(), from, upto)
        })
    }

    /// How much the logs hold, and what the database takes on the disk.
    ///
    /// # Errors
    /// The database's.
    pub fn log_sizes(&self) -> Result<LogSizes, StoreError> {
        self.snapshot(|reader| {
            let conn = reader.conn();
            let number = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::cast_unsigned);
            let page = number("PRAGMA page_size")?;
            Ok(LogSizes {
                retained_ops: number("SELECT ifnull(sum(head - floor), 0) FROM origin")?,
                compacted_ops: number("SELECT ifnull(sum(floor), 0) FROM origin")?,
                file_bytes: number("PRAGMA page_count")? * page,
                free_bytes: number("PRAGMA freelist_count")? * page,
            })
        })
    }
}

/// What came of [`Reader::ops`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OpsRead {
    /// These.
    Batch(OpBatch),
    /// They are compacted, up to this one and perhaps further: a snapshot has what they did.
    Compacted(Seq),
    /// The log has none there.
    Nothing,
}

impl OpsRead {
    /// The ops, where there are some.
    #[must_use]
    pub fn batch(self) -> Option<OpBatch> {
        match self {
            Self::Batch(batch) => Some(batch),
            Self::Compacted(_) | Self::Nothing => None,
        }
    }
}

/// What the logs hold, and what the database takes on the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LogSizes {
    /// Ops that are here.
    pub retained_ops: u64,
    /// Ops of which only the running hash is left.
    pub compacted_ops: u64,
    /// The database's pages, used or free, without the write-ahead log.
    pub file_bytes: u64,
    /// Those of them that are free to be written again.
    pub free_bytes: u64,
}
