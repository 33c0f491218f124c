//! What the state adds up to: tills that hold the same ops compare these sums, and whoever differs has a fault.
//!
//! A sum is of the first 16 bytes of a SHA-256 for each row, modulo 2^128: so it does not know the order, and is kept up by adding and
//! taking away. Entities, replaced ids: in the transaction that changes them. Records are never deleted, so their sum is kept up to a row
//! number, and the few rows beyond are added when it is asked for: a sale writes no page for it. Stock and roster are summed up when
//! asked for; there is a row a product and a row a till.

use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use crate::model::id::Uuid;
use crate::model::level;
use crate::model::op::{canonical, content_hash};
use crate::model::register::EntityKind;
use crate::sync::{STOCK_SUM, StateDigest, table, vector_hash};

use super::error::StoreError;
use super::reader::Reader;
use super::record::{RECORDS, Records, blob};
use super::snapshot::uncovered;
use super::{entity, roster};

/// The sum of a table of records goes on in steps of so many rows.
const STEP: i64 = 256;

/// The canonical bytes of registers without a head.
const NO_HEADS: &[u8] = &[0];

/// The part of a hash that is summed up.
pub(super) fn share(hash: &[u8; 32]) -> u128 {
    let mut first = [0; 16];
    first.copy_from_slice(&hash[..16]);
    u128::from_be_bytes(first)
}

/// The share of an entity, from the canonical bytes of its registers; nothing where it has no heads yet.
pub(super) fn entity_share(kind: EntityKind, id: Uuid, registers: &[u8]) -> u128 {
    if registers == NO_HEADS {
        return 0;
    }
    let hash = Sha256::new().chain_update(canonical(&(kind, id))).chain_update(registers).finalize();
    share(&hash.into())
}

/// Whether an entity's row is what was once put in: its registers are those that its share was made of.
pub(super) fn is_sound(kind: EntityKind, id: Uuid, registers: &[u8], share: &[u8]) -> bool {
    entity_share(kind, id, registers).to_be_bytes() == share
}

/// The share of an id that was replaced.
pub(super) fn replaced_share(kind: EntityKind, id: Uuid, replaced: u64) -> u128 {
    share(&content_hash(&canonical(&(kind, id, replaced))))
}

/// Adds to the sum of a table.
pub(super) fn add(conn: &Connection, table: u16, delta: u128) -> Result<(), StoreError> {
    if delta == 0 {
        return Ok(());
    }
    let (sum, upto) = kept(conn, table)?;
    keep(conn, table, sum.wrapping_add(delta), upto)
}

/// Takes note of a record that was put in: now and then, its table's sum goes on up to it.
pub(super) fn note(conn: &Connection, records: &Records, idx: i64) -> Result<(), StoreError> {
    if idx % STEP != 0 {
        return Ok(());
    }
    let (sum, upto) = kept(conn, records.table)?;
    keep(conn, records.table, sum.wrapping_add(sum_between(conn, records, upto, idx)?), idx)
}

/// Sums a table of records up anew: the hash of a row of it was damaged, and nobody knows since when.
pub(super) fn renew_records(conn: &Connection, records: &Records) -> Result<(), StoreError> {
    let last = conn.query_row(&format!("SELECT coalesce(max(idx), 0) FROM {}", records.name), [], |row| row.get(0))?;
    keep(conn, records.table, sum_between(conn, records, 0, last)?, last)
}

/// Sums everything up anew that there is in schema 2, as after the migration to it.
pub(super) fn renew(conn: &Connection) -> Result<(), StoreError> {
    for records in RECORDS.iter().filter(|records| level::of_kind(records.kind) <= 1) {
        renew_records(conn, records)?;
    }
    let mut sum = 0u128;
    let mut share_of = conn.prepare("UPDATE entity SET sum = ?2 WHERE idx = ?1")?;
    entity::each(conn, |idx, kind, id, registers| {
        let share = entity_share(kind, id, registers);
        sum = sum.wrapping_add(share);
        share_of.execute((idx, share.to_be_bytes()))?;
        Ok(())
    })?;
    keep(conn, table::ENTITY, sum, 0)?;
    keep(conn, table::REPLACED, sum_of_replaced(conn)?, 0)
}

/// Sums the shares of the entities up anew: one was damaged.
pub(super) fn renew_entities(conn: &Connection) -> Result<(), StoreError> {
    let mut shares = conn.prepare("SELECT sum FROM entity")?;
    let shares = shares.query_map([], |row| Ok(u128::from_be_bytes(row.get(0).unwrap_or_default())))?;
    let sum = shares.map(|share| Ok(share?)).try_fold(0, added)?;
    keep(conn, table::ENTITY, sum, 0)
}

/// The tables of records that a digest names. What a later level brought is named once it is there: a till of an earlier level, which
/// holds it, does not name it.
fn told_of(conn: &Connection) -> Result<Vec<&'static Records>, StoreError> {
    let mut told = Vec::new();
    for records in RECORDS {
        let is_there = level::of_kind(records.kind) <= 1
            || conn.prepare_cached(&format!("SELECT 1 FROM {} LIMIT 1", records.name))?.exists([])?;
        told.extend(is_there.then_some(records));
    }
    Ok(told)
}

fn kept(conn: &Connection, table: u16) -> Result<(u128, i64), StoreError> {
    let row = conn
        .prepare_cached("SELECT sum, upto FROM digest WHERE tbl = ?1")?
        .query_row([table], |row| Ok((row.get::<_, [u8; 16]>(0)?, row.get(1)?)))
        .optional()?;
    Ok(row.map_or((0, 0), |(sum, upto)| (u128::from_be_bytes(sum), upto)))
}

fn keep(conn: &Connection, table: u16, sum: u128, upto: i64) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO digest (tbl, sum, upto) VALUES (?1, ?2, ?3)")?.execute((
        table,
        sum.to_be_bytes(),
        upto,
    ))?;
    Ok(())
}

fn sum_between(conn: &Connection, records: &Records, after: i64, upto: i64) -> Result<u128, StoreError> {
    let sql = format!("SELECT hash FROM {} WHERE idx > ?1 AND idx <= ?2", records.name);
    let mut hashes = conn.prepare_cached(&sql)?;
    let hashes = hashes.query_map([after, upto], |row| row.get::<_, [u8; 32]>(0))?;
    hashes.map(|hash| Ok(share(&hash?))).try_fold(0, added)
}

fn added(sum: u128, share: Result<u128, StoreError>) -> Result<u128, StoreError> {
    Ok(sum.wrapping_add(share?))
}

fn sum_of_replaced(conn: &Connection) -> Result<u128, StoreError> {
    let mut ids = conn.prepare("SELECT kind, entity.id, replaced.id FROM replaced JOIN entity ON idx = entity_idx")?;
    let mut rows = ids.query([])?;
    let mut sum = 0u128;
    while let Some(row) = rows.next()? {
        let (kind, id) = (entity::of_number(row.get(0)?)?, Uuid::from_bytes(row.get(1)?));
        sum = sum.wrapping_add(replaced_share(kind, id, row.get::<_, i64>(2)?.cast_unsigned()));
    }
    Ok(sum)
}

fn sum_of_stock(conn: &Connection) -> Result<u128, StoreError> {
    let mut totals = conn.prepare_cached("SELECT product, total FROM stock WHERE total <> 0")?;
    let mut rows = totals.query([])?;
    let mut sum = 0u128;
    while let Some(row) = rows.next()? {
        let total = i128::from(row.get::<_, i64>(1)?).cast_unsigned();
        sum = sum.wrapping_add(share(&content_hash(blob(row, 0)?)).wrapping_mul(total));
    }
    Ok(sum)
}

fn sum_of_roster(conn: &Connection) -> Result<u128, StoreError> {
    let members = roster::members(conn)?;
    Ok(members.iter().fold(0, |sum, member| sum.wrapping_add(share(&content_hash(&canonical(member))))))
}

impl Reader {
    /// What the state adds up to; `None` while rows of a snapshot are uncovered: then it is not the state of its logs.
    ///
    /// # Errors
    /// The database's.
    pub fn digest(&self) -> Result<Option<StateDigest>, StoreError> {
        self.snapshot(|reader| {
            let conn = reader.conn();
            if uncovered::count(conn)? > 0 {
                return Ok(None);
            }
            let mut sums = Vec::new();
            for records in told_of(conn)? {
                let (sum, upto) = kept(conn, records.table)?;
                sums.push((records.table, sum.wrapping_add(sum_between(conn, records, upto, i64::MAX)?)));
            }
            for table in [table::ENTITY, table::REPLACED] {
                sums.push((table, kept(conn, table)?.0));
            }
            reader.told(sums).map(Some)
        })
    }

    /// The same from the rows themselves, and whatever is uncovered: goes through the whole database.
    ///
    /// # Errors
    /// The database's; [`StoreError::Damaged`] for a row that cannot be read.
    pub fn recomputed_digest(&self) -> Result<StateDigest, StoreError> {
        self.snapshot(|reader| {
            let conn = reader.conn();
            let mut sums = Vec::new();
            for records in told_of(conn)? {
                let mut bodies = conn.prepare(&format!("SELECT body FROM {}", records.name))?;
                let mut rows = bodies.query([])?;
                let mut sum = 0u128;
                while let Some(row) = rows.next()? {
                    sum = sum.wrapping_add(share(&content_hash(blob(row, 0)?)));
                }
                sums.push((records.table, sum));
            }
            let mut sum = 0u128;
            entity::each(conn, |_, kind, id, registers| {
                sum = sum.wrapping_add(entity_share(kind, id, registers));
                Ok(())
            })?;
            sums.push((table::ENTITY, sum));
            sums.push((table::REPLACED, sum_of_replaced(conn)?));
            reader.told(sums)
        })
    }

    /// With what is summed up when it is asked for, and the logs that it is of.
    fn told(&self, mut sums: Vec<(u16, u128)>) -> Result<StateDigest, StoreError> {
        sums.push((table::ROSTER, sum_of_roster(self.conn())?));
        sums.push((STOCK_SUM, sum_of_stock(self.conn())?));
        Ok(StateDigest { vector: vector_hash(&self.vector()?), sums })
    }
}
