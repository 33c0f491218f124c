//! What this till alone remembers: acks, peers, notes. Never replicated.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension};

use crate::model::id::{Origin, TillId};
use crate::model::op::{Head, RunningHash, Seq};
use crate::model::vector::VersionVector;

use crate::sync::MemberAck;

use super::error::StoreError;
use super::logs::{Row, member_clock, tickets_between};
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
pub(super) fn remember(conn: &Connection, what: &Remember, wall_ms: u64) -> Result<(), StoreError> {
    match what {
        Remember::Ack { ack, seen_run_ms } => {
            note_running(conn, *seen_run_ms, false)?;
            remember_ack(conn, ack, member_clock(*seen_run_ms, wall_ms))
        }
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
        Remember::Note { key, value: Some(value) } => remember_note(conn, key, value),
        Remember::Note { key, value: None } => {
            conn.prepare_cached("DELETE FROM memory WHERE key = ?1")?.execute([key])?;
            Ok(())
        }
    }
}

/// Between addresses in the database: no address has it.
const SEPARATOR: &str = "\n";

fn remember_note(conn: &Connection, key: &str, value: &str) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO memory (key, value) VALUES (?1, ?2)
         ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value <> excluded.value",
    )?
    .execute((key, value))?;
    Ok(())
}

/// When it was said and heard is written with news alone, or after an hour.
fn remember_ack(conn: &Connection, ack: &MemberAck, seen_ms: u64) -> Result<(), StoreError> {
    let till = ack.till.0;
    let mut upsert = conn.prepare_cached(
        "INSERT INTO ack (till, origin, seq, hash) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (till, origin) DO UPDATE SET seq = excluded.seq, hash = excluded.hash
         WHERE (seq, hash) <> (excluded.seq, excluded.hash)",
    )?;
    let mut news = 0;
    for (origin, head) in &ack.heads.0 {
        news += upsert.execute((till, origin.0.cast_signed(), head.seq.cast_signed(), head.hash.0))?;
    }
    let mut known = conn.prepare_cached("SELECT origin FROM ack WHERE till = ?1")?;
    let origins: Vec<i64> = known.query_map([till], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for origin in origins.into_iter().filter(|origin| !ack.heads.0.contains_key(&Origin(origin.cast_unsigned()))) {
        news += conn.prepare_cached("DELETE FROM ack WHERE till = ?1 AND origin = ?2")?.execute((till, origin))?;
    }
    conn.prepare_cached(
        "INSERT INTO member (till, stamp, level, seen_run_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (till) DO UPDATE SET stamp = excluded.stamp, level = excluded.level,
             seen_run_ms = max(seen_run_ms, excluded.seen_run_ms)
         WHERE ?5 OR level <> excluded.level OR seen_run_ms + ?6 <= excluded.seen_run_ms",
    )?
    .execute((
        till,
        ack.stamp.cast_signed(),
        ack.level,
        seen_ms.cast_signed(),
        news > 0,
        RUNNING_EVERY_MS.cast_signed(),
    ))?;
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
pub(super) struct Tallies(RefCell<BTreeMap<Origin, Tally>>);

#[derive(Clone, Copy, Debug)]
struct Tally {
    after: Seq,
    until: Seq,
    tickets: u64,
}

impl Tallies {
    /// How many tickets lie in a log after an op, which is not before its floor.
    fn count(&self, conn: &Connection, origin: Origin, log: &Row, after: Seq) -> Result<u64, StoreError> {
        let until = log.head.seq;
        let former = self.0.borrow().get(&origin).copied();
        let tickets = match former {
            // What was compacted since cannot be counted again.
            Some(former)
                if log.floor <= former.after && former.after <= after && (after..=until).contains(&former.until) =>
            {
                let gone = tickets_between(conn, log.idx, former.after, after)?;
                former.tickets + tickets_between(conn, log.idx, former.until, until)? - gone
            }
            _ => tickets_between(conn, log.idx, after, until)?,
        };
        self.0.borrow_mut().insert(origin, Tally { after, until, tickets });
        Ok(tickets)
    }
}

/// The greatest place in an own log up to which some other till of the store has it on its disk: one that is not retired, on the branch
/// that is here.
pub(super) fn acked(conn: &Connection, origin: Origin, log: &Row) -> Result<Seq, StoreError> {
    let mut acks = conn.prepare_cached(
        "SELECT seq, hash FROM ack WHERE origin = ?1 AND seq <= ?2
         AND till NOT IN (SELECT till FROM roster WHERE retired_ms IS NOT NULL) ORDER BY seq DESC",
    )?;
    let mut acks = acks.query((origin.0.cast_signed(), log.head.seq.cast_signed()))?;
    while let Some(row) = acks.next()? {
        let (seq, hash) = (row.get::<_, i64>(0)?.cast_unsigned(), RunningHash(row.get(1)?));
        if log.hash_at(conn, seq)? == hash {
            return Ok(seq);
        }
    }
    Ok(0)
}

/// The key under which it is kept how long this database's agent has run.
const RUNNING: &str = "running_ms";

/// How much longer the agent must have run for that to be written again: an idle till leaves its card alone.
const RUNNING_EVERY_MS: u64 = 3_600_000;

/// Keeps how long this database's agent has run in all, in milliseconds; at most hourly, unless it must be `exact`.
pub(super) fn note_running(conn: &Connection, run_ms: u64, exact: bool) -> Result<(), StoreError> {
    let known = running(conn)?;
    if run_ms > known && (exact || run_ms - known >= RUNNING_EVERY_MS) {
        remember_note(conn, RUNNING, &run_ms.to_string())?;
    }
    Ok(())
}

pub(super) fn running(conn: &Connection) -> Result<u64, StoreError> {
    Ok(note(conn, RUNNING)?.and_then(|text| text.parse().ok()).unwrap_or(0))
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
            let origins: Vec<Origin> = {
                let mut own = conn.prepare_cached("SELECT origin FROM origin WHERE own > 0 AND head > 0")?;
                own.query_map([], |row| Ok(Origin(row.get::<_, i64>(0)?.cast_unsigned())))?.collect::<Result<_, _>>()?
            };
            let mut only_here = 0;
            for origin in origins {
                let Some(log) = Row::of(conn, origin)? else { continue };
                let told = told.filter(|(of, _)| *of == origin).map_or(0, |(_, seq)| seq);
                let acked = acked(conn, origin, &log)?.max(told);
                // What was compacted was held by others then, but for what was counted.
                let compacted = if acked < log.floor { log.alone.cast_unsigned() } else { 0 };
                only_here += compacted + reader.tallies().count(conn, origin, &log, acked.max(log.floor))?;
            }
            Ok(only_here)
        })
    }

    /// How long this database's agent has run in all, in milliseconds, as last kept: up to an hour less than it was.
    ///
    /// # Errors
    /// The database's.
    pub fn running_ms(&self) -> Result<u64, StoreError> {
        running(self.conn())
    }

    /// What other tills have on their disks, as they last told.
    ///
    /// # Errors
    /// The database's.
    pub fn acks(&self) -> Result<BTreeMap<TillId, MemberAck>, StoreError> {
        let mut query = self.conn().prepare_cached(
            "SELECT a.till, a.origin, a.seq, a.hash, ifnull(m.stamp, 0), ifnull(m.level, 1)
             FROM ack a LEFT JOIN member m USING (till)",
        )?;
        let mut rows = query.query([])?;
        let mut acks: BTreeMap<TillId, MemberAck> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let seq = row.get::<_, i64>(2)?.cast_unsigned();
            let (origin, head) = (row.get::<_, i64>(1)?, Head { seq, hash: RunningHash(row.get(3)?) });
            let (till, stamp, level) = (TillId(row.get(0)?), row.get::<_, i64>(4)?.cast_unsigned(), row.get(5)?);
            let none = || MemberAck { till, stamp, level, heads: VersionVector::default() };
            acks.entry(till).or_insert_with(none).heads.0.insert(Origin(origin.cast_unsigned()), head);
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
