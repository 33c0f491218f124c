//! What a database holds, read past the store: by SQL, on a connection of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, types::ValueRef};
use tillmesh::model::id::{Origin, TillId, Uuid, hex};
use tillmesh::model::note::Note;
use tillmesh::model::op::{Body, Op, Seq, content_hash, kind};
use tillmesh::store::LAPSE_MS;

use crate::books::Key;

/// What must be equal where all is received, table by table: a name, and what is selected.
const STATE: &[(&str, &str)] = &[
    ("tickets", "SELECT id, hash, counts FROM ticket ORDER BY id, hash"),
    ("refunds", "SELECT id, hash, counts FROM refund ORDER BY id, hash"),
    ("movements", "SELECT id, hash, counts FROM movement ORDER BY id, hash"),
    ("counts", "SELECT product, replaces, id FROM counted ORDER BY product, replaces, id"),
    ("stock", "SELECT product, total FROM stock WHERE total <> 0 ORDER BY product"),
    ("entities", "SELECT kind, id, alive, sku, barcode, category, search, registers FROM entity ORDER BY kind, id"),
    ("replaced", "SELECT id FROM replaced ORDER BY id"),
    ("roster", "SELECT till, public_key, pos_id, pos_name, rank, admitted_ms, retired_ms FROM roster ORDER BY till"),
    // Remarks of a later version are held by some: see `notes`.
    ("held", "SELECT hash FROM held WHERE kind <> 8 ORDER BY hash"),
    ("flags", "SELECT kind, subject FROM flag ORDER BY kind, subject"),
    (
        "unchained",
        "SELECT previous, ticket.hash FROM unchained JOIN ticket ON ticket.idx = ticket_idx ORDER BY previous, ticket.hash",
    ),
];

/// A record of a database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Row {
    pub(crate) counts: bool,
    pub(crate) body: Body,
}

/// Records by id and content hash.
pub(crate) type Rows = BTreeMap<Key, Row>;

/// A database, opened for looking.
pub(crate) struct Look(Connection);

impl Look {
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags).map(Self).map_err(|error| error.to_string())
    }

    /// The state as text, table by table.
    pub(crate) fn state(&self) -> Result<BTreeMap<&'static str, String>, String> {
        STATE.iter().map(|(name, sql)| Ok((*name, self.text(sql)?))).collect()
    }

    fn text(&self, sql: &str) -> Result<String, String> {
        let read = || -> Result<String, rusqlite::Error> {
            let mut statement = self.0.prepare(sql)?;
            let columns = statement.column_count();
            let mut rows = statement.query([])?;
            let mut text = String::new();
            while let Some(row) = rows.next()? {
                for column in 0..columns {
                    match row.get_ref(column)? {
                        ValueRef::Null => text.push('-'),
                        ValueRef::Integer(n) => drop(write!(text, "{n}")),
                        ValueRef::Real(n) => drop(write!(text, "{n}")),
                        ValueRef::Text(t) => text.push_str(&String::from_utf8_lossy(t)),
                        ValueRef::Blob(b) => text.push_str(&hex(b)),
                    }
                    text.push(' ');
                }
                text.push('\n');
            }
            Ok(text)
        };
        read().map_err(|error| format!("{sql}: {error}"))
    }

    /// Ids and content hashes of all records.
    pub(crate) fn records(&self) -> Result<BTreeSet<Key>, String> {
        let sql =
            "SELECT id, hash FROM ticket UNION ALL SELECT id, hash FROM refund UNION ALL SELECT id, hash FROM movement";
        let read = || -> Result<BTreeSet<_>, rusqlite::Error> {
            let mut statement = self.0.prepare(sql)?;
            statement.query_map([], |row| Ok((Uuid::from_bytes(row.get(0)?), row.get(1)?)))?.collect()
        };
        let mut records: BTreeSet<Key> = read().map_err(|error| error.to_string())?;
        records.extend(self.notes()?.into_keys());
        Ok(records)
    }

    /// Remarks, applied or held.
    pub(crate) fn notes(&self) -> Result<BTreeMap<Key, Note>, String> {
        let read = || -> Result<Vec<Vec<u8>>, rusqlite::Error> {
            let mut statement = self.0.prepare("SELECT body FROM note UNION SELECT body FROM held WHERE kind = 8")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        let bodies = read().map_err(|error| error.to_string())?;
        let note = |body: Vec<u8>| {
            let hash = content_hash(&body);
            match Body::from_op(&Op { hlc: Default::default(), kind: kind::NOTE, schema: 1, body }) {
                Ok(Body::Note(note)) => Ok(((note.id, hash), note)),
                other => Err(format!("a remark is not readable: {other:?}")),
            }
        };
        bodies.into_iter().map(note).collect()
    }

    /// How many remarks are held.
    pub(crate) fn held_notes(&self) -> Result<i64, String> {
        let count = self.0.query_row("SELECT count(*) FROM held WHERE kind = 8", [], |row| row.get(0));
        count.map_err(|error| error.to_string())
    }

    /// All records with their content; a row twice is an error.
    pub(crate) fn rows(&self) -> Result<Rows, String> {
        let mut rows = Rows::new();
        for (table, number) in [("ticket", kind::TICKET), ("refund", kind::REFUND), ("movement", kind::MOVEMENT)] {
            let sql = format!("SELECT id, hash, counts, body FROM {table}");
            let mut statement = self.0.prepare(&sql).map_err(|error| error.to_string())?;
            let found = statement
                .query_map([], |row| {
                    Ok((row.get::<_, [u8; 16]>(0)?, row.get(1)?, row.get(2)?, row.get::<_, Vec<u8>>(3)?))
                })
                .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                .map_err(|error| error.to_string())?;
            for (id, hash, counts, body) in found {
                let op = Op { hlc: Default::default(), kind: number, schema: 1, body };
                let body = Body::from_op(&op).map_err(|reason| format!("a {table} is not readable: {reason}"))?;
                if rows.insert((Uuid::from_bytes(id), hash), Row { counts, body }).is_some() {
                    return Err(format!("{table} {} is there twice", Uuid::from_bytes(id)));
                }
            }
        }
        Ok(rows)
    }

    /// What is in stock, by product.
    pub(crate) fn stock(&self) -> Result<BTreeMap<Uuid, i64>, String> {
        let read = || -> Result<BTreeMap<_, _>, rusqlite::Error> {
            let mut statement = self.0.prepare("SELECT product, total FROM stock WHERE total <> 0")?;
            statement.query_map([], |row| Ok((Uuid::from_bytes(row.get(0)?), row.get(1)?)))?.collect()
        };
        read().map_err(|error| error.to_string())
    }

    /// How far each log is compacted.
    pub(crate) fn floors(&self) -> Result<Vec<(Origin, Seq)>, String> {
        let read = || -> Result<Vec<_>, rusqlite::Error> {
            let mut statement = self.0.prepare("SELECT origin, floor FROM origin WHERE floor > 0")?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
            rows.map(|row| row.map(|(origin, floor)| (Origin(origin.cast_unsigned()), floor.cast_unsigned()))).collect()
        };
        read().map_err(|error| error.to_string())
    }

    /// The tills that were heard of in the time after which one has lapsed.
    pub(crate) fn heard_of(&self, run_ms: u64) -> Result<BTreeSet<TillId>, String> {
        let read = || -> Result<BTreeSet<_>, rusqlite::Error> {
            let mut statement = self.0.prepare("SELECT till FROM member WHERE seen_run_ms + ?1 >= ?2")?;
            let tills = statement.query_map([LAPSE_MS.cast_signed(), run_ms.cast_signed()], |row| row.get(0))?;
            tills.map(|till| till.map(TillId)).collect()
        };
        read().map_err(|error| error.to_string())
    }

    /// Whether SQLite finds the file sound.
    pub(crate) fn is_sound(&self) -> Result<(), String> {
        let verdict = self.text("PRAGMA integrity_check(3)")?;
        if verdict.trim() == "ok" { Ok(()) } else { Err(verdict) }
    }
}

/// The first line in which two texts differ.
pub(crate) fn difference(one: &str, other: &str) -> String {
    let only = |a: &str, b: &str| {
        let there: BTreeSet<&str> = b.lines().collect();
        let lines: Vec<&str> = a.lines().filter(|line| !there.contains(line)).take(2).collect();
        lines.join(" | ").chars().take(700).collect::<String>()
    };
    format!("only here: {}; only there: {}", only(one, other), only(other, one))
}
