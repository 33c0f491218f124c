//! The logs: for each origin the ops that are here, dense from 1.
//!
//! They grow ([`apply`]), are read to be sent ([`read`]), compared with a peer's ([`compare`]), cut where their origins end ([`ends`]),
//! compacted ([`compact`]), and put in from a snapshot ([`install`]).

mod apply;
mod compact;
mod compare;
mod ends;
mod hashes;
mod install;
mod mend;
mod read;
mod row;

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

pub(in crate::store) use self::apply::{held_key, held_op};
pub use self::compact::{KEEP_MS, LAPSE_MS};
pub(super) use self::compact::{member_clock, tickets_between};
pub(in crate::store) use self::install::discard_all as discard_staged;
pub(in crate::store) use self::mend::op_rows;
pub use self::read::{LogSizes, OpsRead};
pub(super) use self::row::Row;

use crate::model::clock::{Hlc, HybridClock};
use crate::model::close::{Close, Closes};
use crate::model::id::{Origin, TillId};
use crate::model::op::{Head, Op, RunningHash};

use super::error::StoreError;
use super::request::{Entropy, Now};

/// Whose log it is, as in the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
pub(super) enum Own {
    Other = 0,
    Ours = 1,
    Former = 2,
}

impl Own {
    const fn of_number(number: i64) -> Self {
        match number {
            1 => Self::Ours,
            2 => Self::Former,
            _ => Self::Other,
        }
    }
}

/// One origin's log: its row in the database.
#[derive(Clone, Debug)]
pub(in crate::store) struct Log {
    idx: i64,
    own: Own,
    head: Head,
    /// The greatest time in it.
    hlc: Hlc,
    /// The business day of the last own ticket (YYYYMMDD), and its number.
    day: i64,
    number: i64,
    /// The hash of its last ticket; zero where it has none.
    pub(in crate::store) tail: [u8; 32],
}

/// All logs.
#[derive(Debug)]
pub(in crate::store) struct Logs {
    /// The one that this database writes.
    pub(in crate::store) own: Origin,
    by_origin: BTreeMap<Origin, Log>,
    closes: Closes,
}

impl Logs {
    pub(in crate::store) fn load(conn: &Connection) -> Result<Self, StoreError> {
        let mut own = None;
        let mut by_origin = BTreeMap::new();
        let mut statement =
            conn.prepare_cached("SELECT origin, idx, own, head, hash, hlc, day, number, tail FROM origin")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let origin = origin_at(row, 0)?;
            let log = Log {
                idx: row.get(1)?,
                own: Own::of_number(row.get(2)?),
                head: row::head_at(row, 3)?,
                hlc: Hlc(row.get::<_, i64>(5)?.cast_unsigned()),
                day: row.get(6)?,
                number: row.get(7)?,
                tail: row.get(8)?,
            };
            if log.own == Own::Ours {
                own = Some(origin);
            }
            by_origin.insert(origin, log);
        }
        let own = own.ok_or_else(|| StoreError::Damaged("it has no origin of its own".into()))?;
        Ok(Self { own, by_origin, closes: closes(conn)? })
    }

    /// The till that writes the database; `None` where none has yet.
    pub(in crate::store) fn writer(conn: &Connection) -> Result<Option<TillId>, StoreError> {
        let till = conn.query_row("SELECT till FROM origin WHERE own = 1", [], |row| row.get(0)).optional()?;
        Ok(till.map(TillId))
    }

    /// Makes a fresh origin that the database writes under from now on. Its first four hex digits, which stand in ticket numbers, are
    /// no other known origin's.
    pub(in crate::store) fn mint(
        conn: &Connection,
        till: TillId,
        entropy: &mut dyn Entropy,
    ) -> Result<Origin, StoreError> {
        let known: Vec<String> = {
            let mut statement = conn.prepare_cached("SELECT origin FROM origin UNION SELECT origin FROM close")?;
            let rows = statement.query_map([], |row| origin_at(row, 0).map(|o| o.short()))?;
            rows.collect::<Result<_, _>>()?
        };
        let mut origin = Origin(entropy.u64());
        // Bounded, for a store that has worn out nearly all of them: then the digits are those of another.
        for _ in 0..1000 {
            if !known.contains(&origin.short()) {
                break;
            }
            origin = Origin(entropy.u64());
        }
        conn.execute("UPDATE origin SET own = 2 WHERE own = 1", [])?;
        insert_log(conn, origin, Own::Ours, RunningHash::default())?;
        conn.execute("UPDATE origin SET till = ?1 WHERE own = 1", [till.0])?;
        Ok(origin)
    }

    /// A clock that goes on after all times of our own, and after others' unless they are too far in the future.
    pub(in crate::store) fn clock(&self, now: Now) -> HybridClock {
        let (others, ours): (Vec<&Log>, Vec<&Log>) = self.by_origin.values().partition(|log| log.own == Own::Other);
        let mut clock = HybridClock::new(ours.iter().map(|log| log.hlc).max().unwrap_or_default());
        for log in others {
            clock.observe(log.hlc, now.wall_ms, now.quality);
        }
        clock
    }

    /// The hash of this till's last ticket; zero where it has none.
    pub(in crate::store) fn own_tail(&self) -> [u8; 32] {
        let own = &self.by_origin[&self.own];
        let formers = self.by_origin.values().filter(|log| log.own == Own::Former && log.tail != [0; 32]);
        match formers.max_by_key(|log| log.hlc) {
            Some(former) if own.tail == [0; 32] => former.tail,
            _ => own.tail,
        }
    }

    /// The next ticket number of a business day: gapless per day, also when the clock comes back to an earlier one.
    pub(in crate::store) fn next_number(&mut self, conn: &Connection, day: i64) -> Result<i64, StoreError> {
        let own = self.by_origin.get_mut(&self.own).expect("the own log is loaded with the others");
        if own.day != day {
            conn.execute("INSERT OR REPLACE INTO day_number VALUES (?1, ?2, ?3)", (own.idx, own.day, own.number))?;
            let last = conn
                .query_row("SELECT last FROM day_number WHERE origin_idx = ?1 AND day = ?2", (own.idx, day), |row| {
                    row.get(0)
                })
                .optional()?;
            (own.day, own.number) = (day, last.unwrap_or(0));
        }
        own.number += 1;
        Ok(own.number)
    }
}

impl Log {
    fn save(&self, conn: &Connection) -> Result<(), StoreError> {
        conn.prepare_cached(
            "UPDATE origin SET head = ?2, hash = ?3, hlc = ?4, day = ?5, number = ?6, tail = ?7 WHERE idx = ?1",
        )?
        .execute((
            self.idx,
            self.head.seq.cast_signed(),
            self.head.hash.0,
            self.hlc.0.cast_signed(),
            self.day,
            self.number,
            self.tail,
        ))?;
        Ok(())
    }

    /// Puts an op at the end. `rec` is the row of the insert-once record that it carries; its body is kept there.
    fn push(&mut self, conn: &Connection, op: &Op, rec: Option<i64>) -> Result<(), StoreError> {
        self.head = Head { seq: self.head.seq + 1, hash: self.head.hash.after(op) };
        self.hlc = self.hlc.max(op.hlc);
        conn.prepare_cached(
            "INSERT INTO op (origin_idx, seq, hlc, kind, schema, hash, body, rec) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            self.idx,
            self.head.seq.cast_signed(),
            op.hlc.0.cast_signed(),
            op.kind,
            op.schema,
            self.head.hash.0,
            rec.is_none().then_some(&op.body),
            rec,
        ))?;
        Ok(())
    }
}

/// Where origins end.
fn closes(conn: &Connection) -> Result<Closes, StoreError> {
    let mut statement = conn.prepare_cached("SELECT origin, seq FROM close")?;
    let closes = statement
        .query_map([], |row| Ok(Close { origin: origin_at(row, 0)?, seq: row.get::<_, i64>(1)?.cast_unsigned() }))?;
    Ok(closes.collect::<Result<_, _>>()?)
}

fn insert_log(conn: &Connection, origin: Origin, own: Own, base: RunningHash) -> Result<i64, StoreError> {
    let idx = free_idx(conn)?;
    conn.execute(
        "INSERT INTO origin (idx, origin, own, base, head, hash, floor, hlc, day, number, tail)
         VALUES (?1, ?2, ?3, ?4, 0, ?4, 0, 0, 0, 0, zeroblob(32))",
        (idx, origin.0.cast_signed(), own as i64, base.0),
    )?;
    Ok(idx)
}

/// A row number that no log has, nor one that is being taken.
fn free_idx(conn: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT 1 + max(ifnull((SELECT max(idx) FROM origin), 0), ifnull((SELECT max(idx) FROM staged), 0))";
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}

fn origin_at(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Origin> {
    Ok(Origin(row.get::<_, i64>(column)?.cast_unsigned()))
}
