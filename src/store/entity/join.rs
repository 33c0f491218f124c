//! How edits, and what other tills have of an entity, join into its row.

use rusqlite::{Connection, OptionalExtension, Row};

use super::super::changes::{self, ChangeKind};
use super::super::conflicts::{self, Flag};
use super::super::error::StoreError;
use super::super::{digest, record};
use super::{Columns, decoded, number, of_number};
use crate::model::clock::Hlc;
use crate::model::id::Uuid;
use crate::model::mutant::Mutant;
use crate::model::op::{Body, Op, canonical, kind};
use crate::model::register::{Edit, EntityKind, Registers, Replaced};
use crate::model::state::State;
use crate::sync::table;

/// What joining came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Joined {
    /// The entity's row.
    pub(in crate::store) idx: i64,
    /// Whether anything is other than before.
    pub(in crate::store) changed: bool,
}

/// Joins an edit in, local or remote, in any order and repeatedly: registers, replaced ids, columns, conflicts, digest, and a row in
/// `change` where the entity is not as before.
pub(in crate::store) fn apply_edit(conn: &Connection, edit: &Edit) -> Result<Joined, StoreError> {
    join(conn, (edit.entity, edit.id), |registers, replaced| registers.apply(edit, replaced))
}

/// Joins in what another till has of an entity, likewise.
pub(in crate::store) fn join_state(
    conn: &Connection,
    target: (EntityKind, Uuid),
    registers: &Registers,
    ids: &[u64],
) -> Result<Joined, StoreError> {
    join(conn, target, |ours, replaced| ours.join(registers, ids, replaced))
}

fn join(
    conn: &Connection,
    (kind, id): (EntityKind, Uuid),
    change: impl FnOnce(&mut Registers, &mut ReplacedIds<'_>) -> Result<(), StoreError>,
) -> Result<Joined, StoreError> {
    let row = conn
        .prepare_cached("SELECT idx, registers, sum FROM entity WHERE kind = ?1 AND id = ?2")?
        .query_row((number(kind), id.as_bytes()), |row| {
            Ok((row.get::<_, i64>(0)?, sound(row, kind, id)?, u128::from_be_bytes(row.get(2).unwrap_or_default())))
        })
        .optional()?;
    let (idx, sound, share) = match row {
        Some(row) => row,
        None => (insert(conn, kind, id)?, Some(Registers::default()), 0),
    };
    let mut replaced = ReplacedIds { conn, kind, id, idx, share: 0 };
    let damaged = sound.is_none();
    let before = match sound {
        Some(registers) => registers,
        None => replayed(&mut replaced)?,
    };
    let mut after = before.clone();
    change(&mut after, &mut replaced)?;
    digest::add(conn, table::REPLACED, replaced.share)?;
    if after != before || damaged {
        save(conn, &replaced, (&before, share), &after)?;
    }
    if damaged {
        tracing::warn!(%id, "an entity's row was damaged: it is what the ops that are here say");
        update_columns(conn, idx, &Columns::of(kind, &after))?;
        digest::renew_entities(conn)?;
    }
    Ok(Joined { idx, changed: after != before || replaced.share != 0 || damaged })
}

/// The registers in a row, where they are what its sum says.
fn sound(row: &Row<'_>, kind: EntityKind, id: Uuid) -> rusqlite::Result<Option<Registers>> {
    let [registers, sum] = [row.get_ref(1)?, row.get_ref(2)?].map(|column| column.as_bytes().unwrap_or_default());
    let is_sound = digest::is_sound(kind, id, registers, sum);
    is_sound.then(|| decoded(row, 1)).transpose()
}

/// What the ops that are here made of an entity.
fn replayed(replaced: &mut ReplacedIds<'_>) -> Result<Registers, StoreError> {
    let target = (replaced.kind, replaced.id);
    let mut registers = Registers::default();
    let mut ops = replaced.conn.prepare("SELECT hlc, kind, schema, body FROM op WHERE kind IN (?1, ?2)")?;
    let mut rows = ops.query([kind::EDIT, kind::STATE])?;
    while let Some(row) = rows.next()? {
        let hlc = Hlc(row.get::<_, i64>(0)?.cast_unsigned());
        let op = Op { hlc, kind: row.get(1)?, schema: row.get(2)?, body: row.get(3)? };
        match record::read(&op) {
            Ok(Body::Edit(edit)) if (edit.entity, edit.id) == target => registers.apply(&edit, replaced)?,
            Ok(Body::State(State::Entity { kind, id, registers: theirs, replaced: ids })) if (kind, id) == target => {
                registers.join(&theirs, &ids, replaced)?;
            }
            _ => {}
        }
    }
    Ok(registers)
}

/// Writes what follows from an entity's registers. The former ones come with their share of the digest.
fn save(
    conn: &Connection,
    of: &ReplacedIds<'_>,
    (before, former): (&Registers, u128),
    after: &Registers,
) -> Result<(), StoreError> {
    let (kind, id, idx) = (of.kind, of.id, of.idx);
    let change = match change_kind(kind) {
        Some(change) => changes::supersede(conn, change, idx)?,
        None => 0,
    };
    let bytes = canonical(after);
    let share = digest::entity_share(kind, id, &bytes);
    digest::add(conn, table::ENTITY, share.wrapping_sub(former))?;
    conn.prepare_cached("UPDATE entity SET change = ?2, registers = ?3, sum = ?4 WHERE idx = ?1")?.execute((
        idx,
        change.cast_signed(),
        bytes,
        share.to_be_bytes(),
    ))?;
    let (old, new) = (Columns::of(kind, before), Columns::of(kind, after));
    // Apart from the rest: most edits change a price, and naming these columns would write all their indexes again.
    if old != new {
        update_columns(conn, idx, &new)?;
    }
    let contested = conflicts::fields_of(kind, after).count();
    if contested != conflicts::fields_of(kind, before).count() {
        contest(conn, idx, contested)?;
    }
    for flag in [Flag::Sku, Flag::Barcode] {
        recount(conn, flag, &old, &new)?;
    }
    Ok(())
}

fn insert(conn: &Connection, kind: EntityKind, id: Uuid) -> Result<i64, StoreError> {
    conn.prepare_cached(
        "INSERT INTO entity (kind, id, alive, search, change, registers) VALUES (?1, ?2, 0, '', 0, x'00')",
    )?
    .execute((number(kind), id.as_bytes()))?;
    Ok(conn.last_insert_rowid())
}

fn update_columns(conn: &Connection, idx: i64, columns: &Columns) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE entity SET alive = ?2, sku = ?3, barcode = ?4, category = ?5, search = ?6 WHERE idx = ?1",
    )?
    .execute((
        idx,
        columns.alive,
        &columns.sku,
        &columns.barcode,
        columns.category.as_ref().map(|id| id.as_bytes().as_slice()),
        &columns.search,
    ))?;
    Ok(())
}

fn change_kind(kind: EntityKind) -> Option<ChangeKind> {
    match kind {
        EntityKind::Product => Some(ChangeKind::Product),
        EntityKind::Category => Some(ChangeKind::Category),
        EntityKind::Customer => Some(ChangeKind::Customer),
        EntityKind::Review | EntityKind::Posplus => None,
    }
}

fn contest(conn: &Connection, idx: i64, fields: usize) -> Result<(), StoreError> {
    if fields == 0 {
        conn.prepare_cached("DELETE FROM contested WHERE entity_idx = ?1")?.execute([idx])?;
    } else {
        let sql = "INSERT OR REPLACE INTO contested (entity_idx, fields) VALUES (?1, ?2)";
        conn.prepare_cached(sql)?.execute((idx, fields as i64))?;
    }
    Ok(())
}

/// Marks and clears codes that several products have, where this change gave or took one.
fn recount(conn: &Connection, flag: Flag, old: &Columns, new: &Columns) -> Result<(), StoreError> {
    let (old, new, sql) = match flag {
        Flag::Barcode => {
            (&old.barcode, &new.barcode, "SELECT count(*) FROM (SELECT 1 FROM entity WHERE barcode = ?1 LIMIT 2)")
        }
        _ => (&old.sku, &new.sku, "SELECT count(*) FROM (SELECT 1 FROM entity WHERE sku = ?1 LIMIT 2)"),
    };
    if old == new {
        return Ok(());
    }
    let mut products = conn.prepare_cached(sql)?;
    for code in [old, new].into_iter().flatten() {
        let several = products.query_row([code], |row| row.get::<_, i64>(0))? > 1;
        conflicts::mark(conn, flag, code.as_bytes(), several)?;
    }
    Ok(())
}

/// The ids of an entity's writes that have been replaced.
struct ReplacedIds<'a> {
    conn: &'a Connection,
    kind: EntityKind,
    id: Uuid,
    idx: i64,
    /// What the new ones add to the digest.
    share: u128,
}

impl Replaced for ReplacedIds<'_> {
    type Error = StoreError;

    fn contains(&self, id: u64) -> Result<bool, StoreError> {
        let mut query = self.conn.prepare_cached("SELECT 1 FROM replaced WHERE entity_idx = ?1 AND id = ?2")?;
        Ok(query.exists((self.idx, id.cast_signed()))?)
    }

    fn insert(&mut self, id: u64) -> Result<(), StoreError> {
        if Mutant::ForgetReplaced.is_on() {
            return Ok(());
        }
        let mut insert = self.conn.prepare_cached("INSERT OR IGNORE INTO replaced (entity_idx, id) VALUES (?1, ?2)")?;
        if insert.execute((self.idx, id.cast_signed()))? > 0 {
            self.share = self.share.wrapping_add(digest::replaced_share(self.kind, self.id, id));
        }
        Ok(())
    }
}

/// The ids of an entity's writes that have been replaced, ascending.
pub(in crate::store) fn replaced_ids(conn: &Connection, idx: i64) -> Result<Vec<u64>, StoreError> {
    let mut query = conn.prepare_cached("SELECT id FROM replaced WHERE entity_idx = ?1")?;
    let ids = query.query_map([idx], |row| Ok(row.get::<_, i64>(0)?.cast_unsigned()))?;
    let mut ids: Vec<u64> = ids.collect::<Result<_, _>>()?;
    // The database has them as signed numbers.
    ids.sort_unstable();
    Ok(ids)
}

/// Goes through all entities that have heads: row, kind, id, canonical bytes of the registers.
pub(in crate::store) fn each(
    conn: &Connection,
    mut see: impl FnMut(i64, EntityKind, Uuid, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut query = conn.prepare("SELECT idx, kind, id, registers FROM entity")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        see(row.get(0)?, of_number(row.get(1)?)?, Uuid::from_bytes(row.get(2)?), record::blob(row, 3)?)?;
    }
    Ok(())
}

/// Schema 1 did not know whose replaced ids were; the edits do, which it never compacted.
pub(in crate::store) fn own_replaced_ids(conn: &Connection) -> Result<(), StoreError> {
    let mut edits = conn.prepare("SELECT hlc, schema, body FROM op WHERE kind = ?1")?;
    let mut rows = edits.query([kind::EDIT])?;
    while let Some(row) = rows.next()? {
        let hlc = Hlc(row.get::<_, i64>(0)?.cast_unsigned());
        let op = Op { hlc, kind: kind::EDIT, schema: row.get(1)?, body: row.get(2)? };
        let Ok(Body::Edit(edit)) = record::read(&op) else { continue };
        let mut own = conn.prepare_cached(
            "INSERT OR IGNORE INTO replaced (entity_idx, id) SELECT idx, ?3 FROM entity WHERE kind = ?1 AND id = ?2",
        )?;
        for id in edit.writes.iter().flat_map(|write| &write.replaces) {
            own.execute((number(edit.entity), edit.id.as_bytes(), id.cast_signed()))?;
        }
    }
    Ok(())
}
