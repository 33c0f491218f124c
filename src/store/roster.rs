//! The tills of the store.
//!
//! What is kept of a till is a join of what came of it: the least times, the name of the admission with the greatest rank. So it is the
//! same on all tills whatever came first, and retiring wins.

use rusqlite::{Connection, OptionalExtension};

use crate::model::id::TillId;
use crate::model::op::{canonical, content_hash};
use crate::model::roster::{Admit, Retire};
use crate::model::state::{Admission, Member};

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

/// What joining came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Joined {
    /// Whether anything is other than before.
    pub(super) changed: bool,
    /// Whether what is shown is: a till is new, has another name, or is retired.
    pub(super) shown: bool,
}

/// Folds an admission in. One whose till id is not that of its key is left out.
pub(super) fn apply_admit(conn: &Connection, admit: &Admit) -> Result<Joined, StoreError> {
    if TillId::of_public_key(&admit.public_key) != admit.till {
        return Ok(Joined { changed: false, shown: false });
    }
    let Admit { till, public_key, pos_id, pos_name, made } = admit.clone();
    let admission = Admission { public_key, pos_id, pos_name, rank: rank(admit), first_ms: made.at_ms };
    join(conn, &Member { till, admission: Some(admission), retired_ms: None })
}

/// Orders the admissions of one till: by time, then by content.
fn rank(admit: &Admit) -> Vec<u8> {
    [admit.made.at_ms.to_be_bytes().as_slice(), &content_hash(&canonical(admit))].concat()
}

/// Folds a retirement in.
pub(super) fn apply_retire(conn: &Connection, retire: &Retire) -> Result<Joined, StoreError> {
    join(conn, &Member { till: retire.till, admission: None, retired_ms: Some(retire.made.at_ms) })
}

/// Folds in what another till knows of one.
pub(super) fn join(conn: &Connection, arriving: &Member) -> Result<Joined, StoreError> {
    let before = member(conn, arriving.till)?;
    let mut after = before.clone().unwrap_or(Member { till: arriving.till, admission: None, retired_ms: None });
    after.retired_ms = [after.retired_ms, arriving.retired_ms].into_iter().flatten().min();
    if let Some(theirs) = &arriving.admission {
        let ours = after.admission.get_or_insert_with(|| theirs.clone());
        let first_ms = ours.first_ms.min(theirs.first_ms);
        // The rank ends with a hash of the content, so equal ranks are one admission; from bytes of a peer they might not be.
        let order = |a: &Admission| (a.rank.clone(), a.pos_id.clone(), a.pos_name.clone());
        if order(ours) < order(theirs) {
            ours.clone_from(theirs);
        }
        ours.first_ms = first_ms;
    }
    let changed = before.as_ref() != Some(&after);
    if changed {
        save(conn, &after)?;
    }
    let shown = |member: &Member| {
        let name = member.admission.as_ref().map(|a| (a.pos_id.clone(), a.pos_name.clone()));
        (name, member.retired_ms.is_some())
    };
    Ok(Joined { changed, shown: before.as_ref().map(shown) != Some(shown(&after)) })
}

fn save(conn: &Connection, member: &Member) -> Result<(), StoreError> {
    let admission = member.admission.as_ref();
    conn.prepare_cached(
        "INSERT OR REPLACE INTO roster (till, public_key, pos_id, pos_name, rank, admitted_ms, retired_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        member.till.0,
        admission.map(|a| a.public_key),
        admission.map(|a| &a.pos_id),
        admission.map(|a| &a.pos_name),
        admission.map(|a| &a.rank),
        admission.map(|a| a.first_ms.cast_signed()),
        member.retired_ms.map(u64::cast_signed),
    ))?;
    Ok(())
}

const MEMBER: &str = "SELECT till, public_key, pos_id, pos_name, rank, admitted_ms, retired_ms FROM roster";

/// All that is kept of a till.
pub(super) fn member(conn: &Connection, till: TillId) -> Result<Option<Member>, StoreError> {
    Ok(conn.prepare_cached(&format!("{MEMBER} WHERE till = ?1"))?.query_row([till.0], member_of_row).optional()?)
}

/// All that is kept of the tills, by id: there are few.
pub(super) fn members(conn: &Connection) -> Result<Vec<Member>, StoreError> {
    let mut query = conn.prepare_cached(&format!("{MEMBER} ORDER BY till"))?;
    Ok(query.query_map([], member_of_row)?.collect::<Result<_, _>>()?)
}

fn member_of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Member> {
    let admission = match row.get::<_, Option<[u8; 32]>>(1)? {
        Some(public_key) => Some(Admission {
            public_key,
            pos_id: row.get(2)?,
            pos_name: row.get(3)?,
            rank: row.get(4)?,
            first_ms: row.get::<_, i64>(5)?.cast_unsigned(),
        }),
        None => None,
    };
    let retired_ms = row.get::<_, Option<i64>>(6)?.map(i64::cast_unsigned);
    Ok(Member { till: TillId(row.get(0)?), admission, retired_ms })
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
