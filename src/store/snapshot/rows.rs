//! The rows of a snapshot's tables, in key order.

use rusqlite::Connection;

use super::super::error::StoreError;
use super::super::logs::held_key;
use super::super::record::{RECORDS, Records, bytes};
use super::super::{digest, entity, roster};
use crate::model::clock::Hlc;
use crate::model::id::Uuid;
use crate::model::mutant::Mutant;
use crate::model::op::{Body, Op, SCHEMA, content_hash};
use crate::model::register::{EntityKind, Registers};
use crate::model::state::State;
use crate::sync::{Key, row_hash, table};

/// Where one part of an id's rows ends and the rest of a key begins.
const ID_BYTES: usize = 16;

/// A row as it travels.
pub(super) struct Row<'a> {
    pub(super) key: Key,
    pub(super) hlc: Hlc,
    pub(super) kind: u16,
    pub(super) schema: u16,
    pub(super) body: &'a [u8],
    /// SHA-256 of the body.
    pub(super) content: [u8; 32],
    /// Whether it is what was once put in.
    pub(super) sound: bool,
}

impl Row<'_> {
    /// What a part adds up of it.
    pub(super) fn hash(&self) -> [u8; 32] {
        row_hash(self.kind, self.schema, &self.content)
    }

    pub(super) fn wire_len(&self) -> usize {
        self.body.len() + 16
    }

    pub(super) fn to_op(&self) -> Op {
        Op { hlc: self.hlc, kind: self.kind, schema: self.schema, body: self.body.to_vec() }
    }
}

/// Looks at a row; whether to go on.
pub(super) type See<'a> = &'a mut dyn FnMut(&Row<'_>) -> Result<bool, StoreError>;

/// Goes through a table in key order, beyond a key. A table that this version does not know has no rows.
pub(super) fn scan(conn: &Connection, table: u16, after: &[u8], see: See<'_>) -> Result<(), StoreError> {
    if let Some(records) = RECORDS.iter().find(|records| records.table == table) {
        return scan_records(conn, records, after, see);
    }
    match table {
        table::ENTITY => scan_entities(conn, after, see),
        table::ROSTER => scan_roster(conn, after, see),
        table::HELD => scan_held(conn, after, see),
        _ => Ok(()),
    }
}

/// A record's id, or what a peer calls so, and the rest of its key.
pub(super) fn split_key(key: &[u8]) -> (&[u8], &[u8]) {
    key.split_at(key.len().min(ID_BYTES))
}

fn scan_records(conn: &Connection, records: &Records, after: &[u8], see: See<'_>) -> Result<(), StoreError> {
    let sql = format!(
        "SELECT id, hash, body FROM {} WHERE id >= ?1 AND (id > ?1 OR hash > ?2) ORDER BY id, hash",
        records.name
    );
    let mut rows = conn.prepare_cached(&sql)?;
    let mut rows = rows.query(split_key(after))?;
    while let Some(row) = rows.next()? {
        let (id, hash, body) = (bytes(row, 0)?, bytes(row, 1)?, bytes(row, 2)?);
        let content = content_hash(body);
        let row = Row {
            key: [id, hash].concat(),
            hlc: Hlc::default(),
            kind: records.kind,
            schema: SCHEMA,
            body,
            content,
            sound: hash == content,
        };
        if !see(&row)? {
            break;
        }
    }
    Ok(())
}

fn scan_entities(conn: &Connection, after: &[u8], see: See<'_>) -> Result<(), StoreError> {
    let kind = after.first().copied().unwrap_or_default();
    let id = after.get(1..).map_or(&[][..], |rest| split_key(rest).0);
    let sql = "SELECT idx, kind, id, registers, sum FROM entity WHERE (kind, id) >= (?1, ?2) ORDER BY kind, id";
    let mut rows = conn.prepare_cached(sql)?;
    let mut rows = rows.query((kind, id))?;
    while let Some(row) = rows.next()? {
        let (kind, id) = (entity::of_number(row.get(1)?)?, Uuid::from_bytes(row.get(2)?));
        let heads = bytes(row, 3)?;
        let is_sound = digest::is_sound(kind, id, heads, bytes(row, 4)?);
        let registers = postcard::from_bytes::<Registers>(heads).ok().filter(|_| is_sound);
        let sound = registers.is_some();
        for (n, state) in (0u16..).zip(parts_of(conn, row.get(0)?, (kind, id), registers.unwrap_or_default())?) {
            let key = entity_key(kind, id, n);
            if key.as_slice() > after && !see(&row_of_state(key, &state, sound))? {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// An entity as it travels. None where neither a head nor a replaced id is here.
pub(super) fn parts_of(
    conn: &Connection,
    idx: i64,
    (kind, id): (EntityKind, Uuid),
    registers: Registers,
) -> Result<Vec<Op>, StoreError> {
    let replaced = entity::replaced_ids(conn, idx)?;
    let replaced = if Mutant::SnapshotWithoutReplaced.is_on() { Vec::new() } else { replaced };
    let parts = State::of_entity(kind, id, registers, &replaced);
    Ok(parts.into_iter().map(|state| Body::State(state).to_op(Hlc::default())).collect())
}

fn entity_key(kind: EntityKind, id: Uuid, part: u16) -> Key {
    let kind = entity::number(kind).to_be_bytes();
    [&kind[kind.len() - 1..], id.as_bytes(), &part.to_be_bytes()].concat()
}

fn row_of_state(key: Key, op: &Op, sound: bool) -> Row<'_> {
    let content = content_hash(&op.body);
    Row { key, hlc: op.hlc, kind: op.kind, schema: op.schema, body: &op.body, content, sound }
}

fn scan_roster(conn: &Connection, after: &[u8], see: See<'_>) -> Result<(), StoreError> {
    for member in roster::members(conn)? {
        let key = member.till.0.to_vec();
        let op = Body::State(State::Member(member)).to_op(Hlc::default());
        if key.as_slice() > after && !see(&row_of_state(key, &op, true))? {
            break;
        }
    }
    Ok(())
}

fn scan_held(conn: &Connection, after: &[u8], see: See<'_>) -> Result<(), StoreError> {
    let sql = "SELECT hash, hlc, kind, schema, body FROM held WHERE hash > ?1 ORDER BY hash";
    let mut rows = conn.prepare_cached(sql)?;
    let mut rows = rows.query([after])?;
    while let Some(row) = rows.next()? {
        let hlc = Hlc(row.get::<_, i64>(1)?.cast_unsigned());
        let op = Op { hlc, kind: row.get(2)?, schema: row.get(3)?, body: row.get(4)? };
        let key: Key = row.get(0)?;
        let sound = key == held_key(&op);
        if !see(&row_of_state(key, &op, sound))? {
            break;
        }
    }
    Ok(())
}
