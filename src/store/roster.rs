//! The tills of the store.
//!
//! What is kept of a till is a join of what came of it: the least times, the name of the admission with the greatest rank. So it is the
//! same on all tills whatever came first, and retiring wins.

use rusqlite::{Connection, OptionalExtension};

use crate::model::id::TillId;
use crate::model::op::{canonical, content_hash};
use crate::model::roster::{Admit, Retire};

use super::error::StoreError;
use super::reader::Reader;

/// A till of the store, as far as ops tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RosterEntry {
    /// The till.
    pub till: TillId,
    /// What its newest admission says; `None` where it was retired before its admission came here.
    pub admitted: Option<Admitted>,
    /// When it was first retired, in milliseconds since 1970. Such a till is never linked again, whatever its admission says.
    pub retired_ms: Option<u64>,
}

/// What an admission says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    /// The till's static public key (X25519).
    pub public_key: [u8; 32],
    /// Its human id.
    pub pos_id: String,
    /// Its human name.
    pub pos_name: String,
    /// When it was first admitted, in milliseconds since 1970.
    pub at_ms: u64,
}

/// Whether an admission that is about to be made would tell nothing new.
pub(super) fn is_admitted(conn: &Connection, admit: &Admit) -> Result<bool, StoreError> {
    let admitted = entry(conn, admit.till)?.and_then(|entry| entry.admitted);
    Ok(admitted.is_some_and(|known| (known.pos_id, known.pos_name) == (admit.pos_id.clone(), admit.pos_name.clone())))
}

/// Whether a till is retired.
pub(super) fn is_retired(conn: &Connection, till: TillId) -> Result<bool, StoreError> {
    Ok(entry(conn, till)?.is_some_and(|entry| entry.retired_ms.is_some()))
}

/// Folds an admission in; whether it changed what is shown: a till that is new, or has another name. One whose till id is not that of
/// its key is left out.
pub(super) fn apply_admit(conn: &Connection, admit: &Admit) -> Result<bool, StoreError> {
    if TillId::of_public_key(&admit.public_key) != admit.till {
        return Ok(false);
    }
    let before = entry(conn, admit.till)?;
    conn.prepare_cached(
        "INSERT INTO roster (till, public_key, pos_id, pos_name, rank, admitted_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (till) DO UPDATE SET public_key = excluded.public_key, pos_id = excluded.pos_id,
             pos_name = excluded.pos_name, rank = excluded.rank
         WHERE rank IS NULL OR rank < excluded.rank",
    )?
    .execute((
        admit.till.0,
        admit.public_key,
        &admit.pos_id,
        &admit.pos_name,
        rank(admit),
        admit.made.at_ms.cast_signed(),
    ))?;
    conn.prepare_cached(
        "UPDATE roster SET admitted_ms = ?2 WHERE till = ?1 AND (admitted_ms IS NULL OR admitted_ms > ?2)",
    )?
    .execute((admit.till.0, admit.made.at_ms.cast_signed()))?;
    let name = |entry: Option<RosterEntry>| {
        entry.and_then(|entry| entry.admitted).map(|admitted| (admitted.pos_id, admitted.pos_name))
    };
    Ok(name(before) != name(entry(conn, admit.till)?))
}

/// Orders the admissions of one till: by time, then by content.
fn rank(admit: &Admit) -> Vec<u8> {
    [admit.made.at_ms.to_be_bytes().as_slice(), &content_hash(&canonical(admit))].concat()
}

/// Folds a retirement in; whether the till was not retired before.
pub(super) fn apply_retire(conn: &Connection, retire: &Retire) -> Result<bool, StoreError> {
    let before = entry(conn, retire.till)?.and_then(|entry| entry.retired_ms);
    conn.prepare_cached(
        "INSERT INTO roster (till, retired_ms) VALUES (?1, ?2)
         ON CONFLICT (till) DO UPDATE SET retired_ms = excluded.retired_ms
         WHERE retired_ms IS NULL OR retired_ms > excluded.retired_ms",
    )?
    .execute((retire.till.0, retire.made.at_ms.cast_signed()))?;
    Ok(before.is_none())
}

const SELECT: &str = "SELECT till, public_key, pos_id, pos_name, admitted_ms, retired_ms FROM roster";

fn entry(conn: &Connection, till: TillId) -> Result<Option<RosterEntry>, StoreError> {
    Ok(conn.prepare_cached(&format!("{SELECT} WHERE till = ?1"))?.query_row([till.0], of_row).optional()?)
}

fn of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<RosterEntry> {
    let admitted = match row.get::<_, Option<[u8; 32]>>(1)? {
        Some(public_key) => Some(Admitted {
            public_key,
            pos_id: row.get(2)?,
            pos_name: row.get(3)?,
            at_ms: row.get::<_, i64>(4)?.cast_unsigned(),
        }),
        None => None,
    };
    let retired_ms = row.get::<_, Option<i64>>(5)?.map(i64::cast_unsigned);
    Ok(RosterEntry { till: TillId(row.get(0)?), admitted, retired_ms })
}

impl Reader {
    /// All tills that were ever admitted or retired, by id.
    ///
    /// # Errors
    /// The database's.
    pub fn roster(&self) -> Result<Vec<RosterEntry>, StoreError> {
        let mut query = self.conn().prepare_cached(&format!("{SELECT} ORDER BY till"))?;
        Ok(query.query_map([], of_row)?.collect::<Result<_, _>>()?)
    }
}
