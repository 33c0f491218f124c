//! What this till alone remembers: acks, peers, notes. Never replicated.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use crate::model::id::{Origin, TillId};
use crate::model::op::{Head, RunningHash, Seq, kind};
use crate::model::vector::VersionVector;

use crate::sync::MemberAck;

use super::error::StoreError;
use super::reader::Reader;

/// Something to keep. Never replicated.
#[derive(Clone, PartialEq, Debug)]
pub enum Remember {
    /// Another till has these logs on its disk, this far, and no others: replaces what it said before.
    Ack {
        /// What it said.
        ack: MemberAck,
        /// How long this database's agent had run in all when that was heard, in milliseconds.
        seen_run_ms: u64,
    },
    /// Where another till was last seen.
    Peer {
        /// The till.
        till: TillId,
        /// Its human name.
        name: String,
        /// Its addresses.
        addresses: Vec<String>,
        /// When, in milliseconds since 1970.
        last_seen_ms: u64,
    },
    /// A text under a key; `None` forgets it.
    Note {
        /// The key.
        key: String,
        /// The text.
        value: Option<String>,
    },
}

/// Another till, as last seen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RememberedPeer {
    /// The till.
    pub till: TillId,
    /// Its human name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// When, in milliseconds since 1970.
    pub last_seen_ms: u64,
}

/// Keeps it. What is known already is not written again.
pub(super) fn remember(conn: &Connection, what: &Remember) -> Result<(), StoreError> {
    match what {
        Remember::Ack { ack, .. } => remember_ack(conn, ack.till, &ack.heads),
        Remember::Peer { till, name, addresses, last_seen_ms } => {
            let addresses = addresses.join(SEPARATOR);
            conn.prepare_cached(
                "INSERT INTO peer (till, name, addresses, last_seen_ms) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (till) DO UPDATE SET name = excluded.name, addresses = excluded.addresses,
                     last_seen_ms = excluded.last_seen_ms
                 WHERE (name, addresses, last_seen_ms) <> (excluded.name, excluded.addresses, excluded.last_seen_ms)",
            )?
            .execute((till.0, name, addresses, last_seen_ms.cast_signed()))?;
            Ok(())
        }
        Remember::Note { key, value: Some(value) } => {
            conn.prepare_cached(
                "INSERT INTO memory (key, value) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
            )?
            .execute((key, value))?;
            Ok(())
        }
        Remember::Note { key, value: None } => {
            conn.prepare_cached("DELETE FROM memory WHERE key = ?1")?.execute([key])?;
            Ok(())
        }
    }
}

/// Between addresses in the database: no address has it.
const SEPARATOR: &str = "\n";

fn remember_ack(conn: &Connection, till: TillId, vector: &VersionVector) -> Result<(), StoreError> {
    let mut upsert = conn.prepare_cached(
        "INSERT INTO ack (till, origin, seq, hash) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (till, origin) DO UPDATE SET seq = excluded.seq, hash = excluded.hash
         WHERE (seq, hash) <> (excluded.seq, excluded.hash)",
    )?;
    for (origin, head) in &vector.0 {
        upsert.execute((till.0, origin.0.cast_signed(), head.seq.cast_signed(), head.hash.0))?;
    }
    let mut known = conn.prepare_cached("SELECT origin FROM ack WHERE till = ?1")?;
    let origins: Vec<i64> = known.query_map([till.0], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for origin in origins.into_iter().filter(|origin| !vector.0.contains_key(&Origin(origin.cast_unsigned()))) {
        conn.prepare_cached("DELETE FROM ack WHERE till = ?1 AND origin = ?2")?.execute((till.0, origin))?;
    }
    Ok(())
}

/// A note.
pub(super) fn note(conn: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let mut query = conn.prepare_cached("SELECT value FROM memory WHERE key = ?1")?;
    Ok(query.query_row([key], |row| row.get(0)).optional()?)
}

/// How many tickets lie in a stretch of each own log, as last counted: so that the next count looks at what has moved since, and not at
/// a year of sales again.
#[derive(Debug, Default)]
pub(super) struct Tallies(RefCell<BTreeMap<i64, Tally>>);

#[derive(Clone, Copy, Debug)]
struct Tally {
    after: Seq,
    until: Seq,
    tickets: u64,
}

impl Tallies {
    fn count(&self, conn: &Connection, log: i64, after: Seq, until: Seq) -> Result<u64, StoreError> {
        let former = self.0.borrow().get(&log).copied();
        let tickets = match former {
            Some(former) if former.after <= after && after <= former.until && former.until <= until => {
                let gone = tickets_between(conn, log, former.after, after)?;
                former.tickets + tickets_between(conn, log, former.until, until)? - gone
            }
            _ => tickets_between(conn, log, after, until)?,
        };
        self.0.borrow_mut().insert(log, Tally { after, until, tickets });
        Ok(tickets)
    }
}

fn tickets_between(conn: &Connection, log: i64, after: Seq, until: Seq) -> Result<u64, StoreError> {
    let count: i64 = conn
        .prepare_cached("SELECT count(*) FROM op WHERE origin_idx = ?1 AND seq > ?2 AND seq <= ?3 AND kind = ?4")?
        .query_row((log, after.cast_signed(), until.cast_signed(), kind::TICKET), |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

/// The greatest place in an own log up to which some other till of the store has it on its disk: one that is not retired, on the branch
/// that is here.
fn acked(conn: &Connection, log: i64, origin: i64) -> Result<Seq, StoreError> {
    let mut acks = conn.prepare_cached(
        "SELECT seq, hash FROM ack WHERE origin = ?1
         AND till NOT IN (SELECT till FROM roster WHERE retired_ms IS NOT NULL) ORDER BY seq DESC",
    )?;
    let mut acks = acks.query([origin])?;
    while let Some(row) = acks.next()? {
        let (seq, hash): (i64, [u8; 8]) = (row.get(0)?, row.get(1)?);
        let is_ours = conn
            .prepare_cached("SELECT 1 FROM op WHERE origin_idx = ?1 AND seq = ?2 AND hash = ?3")?
            .exists((log, seq, hash))?;
        if is_ours {
            return Ok(seq.cast_unsigned());
        }
    }
    Ok(0)
}

impl Reader {
    /// How many sales of this till no other till has on its disk, as far as acks tell: what would be lost with this card. `told` is what
    /// some other till has told to hold of an origin since acks were last kept.
    ///
    /// # Errors
    /// The database's.
    pub fn only_here(&self, told: Option<(Origin, Seq)>) -> Result<u64, StoreError> {
        self.snapshot(|reader| {
            let conn = reader.conn();
            let mut logs = conn.prepare_cached("SELECT idx, origin, head FROM origin WHERE own > 0")?;
            let mut logs = logs.query([])?;
            let mut only_here = 0;
            while let Some(row) = logs.next()? {
                let (log, origin, head): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let told = told.filter(|(of, _)| of.0.cast_signed() == origin).map_or(0, |(_, seq)| seq);
                let acked = acked(conn, log, origin)?.max(told);
                only_here += reader.tallies().count(conn, log, acked, head.cast_unsigned())?;
            }
            Ok(only_here)
        })
    }

    /// What other tills have on their disks, as they last told.
    ///
    /// # Errors
    /// The database's.
    pub fn acks(&self) -> Result<BTreeMap<TillId, MemberAck>, StoreError> {
        let mut query = self.conn().prepare_cached("SELECT till, origin, seq, hash FROM ack")?;
        let mut rows = query.query([])?;
        let mut acks: BTreeMap<TillId, MemberAck> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let seq = row.get::<_, i64>(2)?.cast_unsigned();
            let (origin, head) = (row.get::<_, i64>(1)?, Head { seq, hash: RunningHash(row.get(3)?) });
            let till = TillId(row.get(0)?);
            let entry = acks.entry(till).or_insert_with(|| MemberAck {
                till,
                stamp: 0,
                level: 1,
                heads: VersionVector::default(),
            });
            entry.heads.0.insert(Origin(origin.cast_unsigned()), head);
        }
        Ok(acks)
    }

    /// Other tills as last seen, the latest first.
    ///
    /// # Errors
    /// The database's.
    pub fn peers(&self) -> Result<Vec<RememberedPeer>, StoreError> {
        let sql = "SELECT till, name, addresses, last_seen_ms FROM peer ORDER BY last_seen_ms DESC, till";
        let mut query = self.conn().prepare_cached(sql)?;
        let peers = query.query_map([], |row| {
            let addresses: String = row.get(2)?;
            Ok(RememberedPeer {
                till: TillId(row.get(0)?),
                name: row.get(1)?,
                addresses: addresses.split(SEPARATOR).filter(|a| !a.is_empty()).map(str::to_owned).collect(),
                last_seen_ms: row.get::<_, i64>(3)?.cast_unsigned(),
            })
        })?;
        Ok(peers.collect::<Result<_, _>>()?)
    }

    /// The note under a key.
    ///
    /// # Errors
    /// The database's.
    pub fn memory(&self, key: &str) -> Result<Option<String>, StoreError> {
        note(self.conn(), key)
    }
}

/// The note under a key in a database, whether or not an agent has it open.
///
/// # Errors
/// The database's.
pub fn read_note(database: &Path, key: &str) -> Result<Option<String>, StoreError> {
    Reader::open(database)?.memory(key)
}

/// The till that writes a database; `None` where none has yet.
///
/// # Errors
/// The database's.
pub fn read_writer(database: &Path) -> Result<Option<TillId>, StoreError> {
    let reader = Reader::open(database)?;
    let mut query = reader.conn().prepare("SELECT till FROM origin WHERE own = 1")?;
    Ok(query.query_row([], |row| row.get(0)).optional()?.map(TillId))
}
