//! The scrub: a slow pass over what is stored, to find rows that the card has damaged before somebody needs them.
//!
//! A damaged record or entity is had again by taking a snapshot of any till: its part differs, and taking its row writes it again. A
//! damaged op is not needed: the state has what it did. Its hash is mended where it is the hash that is damaged; else the log is compacted
//! up to it ([`super::Request::Mend`]), and who lacks the op takes a snapshot. A total of stock follows from the records, and is counted
//! again ([`super::Request::Recount`]).

use rusqlite::{Connection, OptionalExtension};

use super::error::StoreError;
use super::logs::op_rows;
use super::reader::Reader;
use super::record::{RECORDS, Records, bytes};
use super::{digest, entity, recount};
use crate::model::id::{Origin, Uuid};
use crate::model::op::{Seq, content_hash};
use crate::model::register::EntityKind;

/// A place in a pass of the scrub; by default its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScrubPlace {
    /// Which of the tables: those of records, then entities, then stock, then logs.
    table: usize,
    /// The last row that was looked at; for logs, the last of them that is done.
    after: i64,
    /// The last op that was looked at, of the log after that.
    seq: Seq,
}

/// A row that is not what was once put in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// A ticket, refund or movement.
    Record {
        /// Its table: see [`crate::sync::table`].
        table: u16,
        /// Its id.
        id: Uuid,
    },
    /// A product, category, customer or whatever else is made of fields.
    Entity {
        /// What it is.
        kind: EntityKind,
        /// Which one.
        id: Uuid,
    },
    /// How many of a product are in stock.
    Stock {
        /// Which one.
        product: Uuid,
    },
    /// An op of a log.
    Op {
        /// Whose log.
        origin: Origin,
        /// Its place there.
        seq: Seq,
    },
}

/// What came of a step of the scrub.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScrubStep {
    /// Where to go on; `None` where the pass is over.
    pub next: Option<ScrubPlace>,
    /// What was found.
    pub damaged: Vec<Damage>,
}

impl Reader {
    /// Looks at rows from a place on, about `rows_max` of them; at stock all at once.
    ///
    /// # Errors
    /// The database's; also where it is damaged below its rows.
    pub fn scrub(&self, place: ScrubPlace, rows_max: usize) -> Result<ScrubStep, StoreError> {
        self.snapshot(|reader| {
            let conn = reader.conn();
            let limit = i64::try_from(rows_max.max(1)).unwrap_or(i64::MAX);
            let mut damaged = Vec::new();
            let after = match RECORDS.get(place.table) {
                Some(records) => scrub_records(conn, records, (place.after, limit), &mut damaged)?,
                None if place.table == RECORDS.len() => scrub_entities(conn, (place.after, limit), &mut damaged)?,
                None if place.table == RECORDS.len() + 1 => {
                    damaged.extend(recount::wrong_totals(conn)?.into_iter().map(|product| Damage::Stock { product }));
                    None
                }
                None => return Ok(ScrubStep { next: scrub_log(conn, place, limit, &mut damaged)?, damaged }),
            };
            let next = match after {
                Some(after) => ScrubPlace { after, ..place },
                None => ScrubPlace { table: place.table + 1, ..ScrubPlace::default() },
            };
            Ok(ScrubStep { next: Some(next), damaged })
        })
    }
}

/// The last row looked at; `None` at the table's end.
fn scrub_records(
    conn: &Connection,
    records: &Records,
    (after, limit): (i64, i64),
    damaged: &mut Vec<Damage>,
) -> Result<Option<i64>, StoreError> {
    let sql = format!("SELECT idx, id, hash, body FROM {} WHERE idx > ?1 ORDER BY idx LIMIT ?2", records.name);
    let mut rows = conn.prepare_cached(&sql)?;
    let mut rows = rows.query((after, limit))?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        last = Some(row.get(0)?);
        if content_hash(bytes(row, 3)?) != bytes(row, 2)? {
            damaged.push(Damage::Record {
                table: records.table,
                id: Uuid::from_slice(bytes(row, 1)?).unwrap_or_default(),
            });
        }
    }
    Ok(last)
}

fn scrub_entities(
    conn: &Connection,
    (after, limit): (i64, i64),
    damaged: &mut Vec<Damage>,
) -> Result<Option<i64>, StoreError> {
    let sql = "SELECT idx, kind, id, registers, sum FROM entity WHERE idx > ?1 ORDER BY idx LIMIT ?2";
    let mut rows = conn.prepare_cached(sql)?;
    let mut rows = rows.query((after, limit))?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        last = Some(row.get(0)?);
        let (kind, id) = (entity::of_number(row.get(1)?)?, Uuid::from_bytes(row.get(2)?));
        if !digest::is_sound(kind, id, bytes(row, 3)?, bytes(row, 4)?) {
            damaged.push(Damage::Entity { kind, id });
        }
    }
    Ok(last)
}

/// Looks at ops of one log.
fn scrub_log(
    conn: &Connection,
    place: ScrubPlace,
    limit: i64,
    damaged: &mut Vec<Damage>,
) -> Result<Option<ScrubPlace>, StoreError> {
    let mut next = conn.prepare_cached("SELECT idx, origin FROM origin WHERE idx > ?1 ORDER BY idx LIMIT 1")?;
    let log = next.query_row([place.after], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))).optional()?;
    let Some((idx, origin)) = log else { return Ok(None) };
    let origin = Origin(origin.cast_unsigned());
    let mut last = None;
    op_rows(conn, origin, place.seq, limit, &mut |op| {
        last = Some(op.seq);
        if !op.is_sound() {
            damaged.push(Damage::Op { origin, seq: op.seq });
        }
        Ok(())
    })?;
    Ok(Some(match last {
        Some(seq) => ScrubPlace { seq, ..place },
        None => ScrubPlace { after: idx, seq: 0, ..place },
    }))
}
