//! The tables, and how a database of an earlier version becomes one of this.
//!
//! Migrations only go forward, all that are due in one transaction; `PRAGMA user_version` is the number of those done. A released
//! migration is never edited: a change is a new one at the end.
//!
//! Rows are written for the card, not for the reader: a sale dirties as few pages as it can. So a record's canonical bytes are stored
//! once (in its own table; the op refers to it by `rec`), the ledger has no index by product, and a log's head, hash, clock and ticket
//! counter are one row.

use rusqlite::Connection;

use super::error::StoreError;
use super::{digest, entity};

/// Says in the file's header that it is a till's database.
pub(super) const APPLICATION_ID: i32 = 0x7469_6c6c;

/// The schema that this version writes.
pub const VERSION: u32 = MIGRATIONS.len() as u32;

/// From one version to the next.
struct Migration {
    sql: &'static str,
    /// What SQL alone cannot do: after the SQL of all that are due, and in the same transaction.
    then: fn(&Connection) -> Result<(), StoreError>,
}

impl Migration {
    const fn of(sql: &'static str) -> Self {
        Self { sql, then: |_| Ok(()) }
    }
}

/// From version n to n + 1, at index n.
const MIGRATIONS: &[Migration] = &[
    Migration::of(V1),
    Migration { sql: V2, then: sum_up },
    #[cfg(feature = "next")]
    Migration::of(NEXT),
];

/// What the next version could bring: remarks.
#[cfg(feature = "next")]
const NEXT: &str = "
CREATE TABLE note (idx INTEGER PRIMARY KEY, id BLOB NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL);
CREATE INDEX note_id ON note (id);
";

/// What schema 2 keeps besides, from what schema 1 had.
fn sum_up(conn: &Connection) -> Result<(), StoreError> {
    entity::own_replaced_ids(conn)?;
    digest::renew(conn)
}

const V1: &str = "
-- Logs. own: 1 = this database authors it, 2 = it did before, 0 = another's. till = who authors it, for an own one. base = running
-- hash before op 1.
-- day, number: the business day (YYYYMMDD) of the last own ticket and the last number given on it. tail = hash of the log's last ticket.
CREATE TABLE origin (
    idx INTEGER PRIMARY KEY, origin INTEGER NOT NULL UNIQUE, own INTEGER NOT NULL, till BLOB, base BLOB NOT NULL,
    head INTEGER NOT NULL, hash BLOB NOT NULL, floor INTEGER NOT NULL, hlc INTEGER NOT NULL,
    day INTEGER NOT NULL, number INTEGER NOT NULL, tail BLOB NOT NULL);
-- Last numbers of other days than the present one of an own log: the clock may come back to them.
CREATE TABLE day_number (
    origin_idx INTEGER NOT NULL, day INTEGER NOT NULL, last INTEGER NOT NULL,
    PRIMARY KEY (origin_idx, day)) WITHOUT ROWID;
-- Ops. hash = running hash after it. Insert-once records: body is NULL, rec is the record's rowid.
CREATE TABLE op (
    origin_idx INTEGER NOT NULL, seq INTEGER NOT NULL, hlc INTEGER NOT NULL, kind INTEGER NOT NULL, schema INTEGER NOT NULL,
    hash BLOB NOT NULL, body BLOB, rec INTEGER,
    PRIMARY KEY (origin_idx, seq)) WITHOUT ROWID;
-- Ops that this version cannot apply, by hash of kind, schema and body.
CREATE TABLE held (
    hash BLOB PRIMARY KEY, origin_idx INTEGER NOT NULL, seq INTEGER NOT NULL, reason TEXT NOT NULL) WITHOUT ROWID;
-- Insert-once records. hash = SHA-256 of body. Of two contents under one id the smaller hash counts.
CREATE TABLE ticket (
    idx INTEGER PRIMARY KEY, id BLOB NOT NULL, hash BLOB NOT NULL, counts INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, pos_id TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX ticket_id ON ticket (id);
CREATE INDEX ticket_at ON ticket (at_ms);
CREATE INDEX ticket_aside ON ticket (counts) WHERE NOT counts;
CREATE TABLE refund (
    idx INTEGER PRIMARY KEY, id BLOB NOT NULL, hash BLOB NOT NULL, counts INTEGER NOT NULL,
    ticket BLOB NOT NULL, at_ms INTEGER NOT NULL, pos_id TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX refund_id ON refund (id);
CREATE INDEX refund_ticket ON refund (ticket);
CREATE INDEX refund_aside ON refund (counts) WHERE NOT counts;
CREATE TABLE movement (
    idx INTEGER PRIMARY KEY, id BLOB NOT NULL, hash BLOB NOT NULL, counts INTEGER NOT NULL,
    at_ms INTEGER NOT NULL, pos_id TEXT NOT NULL, body BLOB NOT NULL);
CREATE INDEX movement_id ON movement (id);
-- Counts of stock (movements of that kind that count), one row for each count that they replace (empty: none). See store::counted.
CREATE TABLE counted (
    product BLOB NOT NULL, replaces BLOB NOT NULL, id BLOB NOT NULL,
    PRIMARY KEY (product, replaces, id)) WITHOUT ROWID;
-- Running totals in thousandths, and what moved them. src_kind is the op kind, src_idx the record.
CREATE TABLE stock (idx INTEGER PRIMARY KEY, product BLOB NOT NULL UNIQUE, total INTEGER NOT NULL);
CREATE TABLE ledger (
    n INTEGER PRIMARY KEY, stock_idx INTEGER NOT NULL, delta INTEGER NOT NULL, src_kind INTEGER NOT NULL, src_idx INTEGER NOT NULL);
-- For a person to look at. kind: see store::Flag, which says what subject is.
CREATE TABLE flag (kind INTEGER NOT NULL, subject BLOB NOT NULL, PRIMARY KEY (kind, subject)) WITHOUT ROWID;
-- Tickets whose predecessor in their till's chain is not here (yet).
CREATE TABLE unchained (
    previous BLOB NOT NULL, ticket_idx INTEGER NOT NULL, PRIMARY KEY (previous, ticket_idx)) WITHOUT ROWID;
-- Products, categories, customers, reviews. change = its newest row in change (0: none). The columns after alive are for finding: all
-- but search are NULL for what is deleted; search is folded text, see store::search.
CREATE TABLE entity (
    idx INTEGER PRIMARY KEY, kind INTEGER NOT NULL, id BLOB NOT NULL, alive INTEGER NOT NULL,
    sku TEXT, barcode TEXT, category BLOB, search TEXT NOT NULL, change INTEGER NOT NULL, registers BLOB NOT NULL,
    UNIQUE (kind, id));
CREATE INDEX entity_alive ON entity (kind, alive);
CREATE INDEX entity_sku ON entity (sku) WHERE sku IS NOT NULL;
CREATE INDEX entity_barcode ON entity (barcode) WHERE barcode IS NOT NULL;
CREATE INDEX entity_category ON entity (category) WHERE category IS NOT NULL;
-- Entities with fields whose heads disagree, and how many fields.
CREATE TABLE contested (entity_idx INTEGER PRIMARY KEY, fields INTEGER NOT NULL);
CREATE TABLE replaced (id INTEGER PRIMARY KEY);
-- What changed, in order of arrival. kind: see store::ChangeKind. ref = idx of the record or entity.
CREATE TABLE change (n INTEGER PRIMARY KEY, kind INTEGER NOT NULL, ref INTEGER NOT NULL);
-- How far another till has an origin's log on its disk.
CREATE TABLE ack (
    till BLOB NOT NULL, origin INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (till, origin)) WITHOUT ROWID;
CREATE TABLE peer (
    till BLOB PRIMARY KEY, name TEXT NOT NULL, addresses TEXT NOT NULL, last_seen_ms INTEGER NOT NULL) WITHOUT ROWID;
-- rank orders the admissions of a till: the greatest gives its name. NULLs: retired before it was admitted here.
CREATE TABLE roster (
    till BLOB PRIMARY KEY, public_key BLOB, pos_id TEXT, pos_name TEXT, rank BLOB, admitted_ms INTEGER,
    retired_ms INTEGER) WITHOUT ROWID;
CREATE TABLE memory (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
";

const V2: &str = "
-- Running hashes of compacted ops, kept for good: 8 bytes each, 120 to a row; that of op n is in chunk (n - 1) / 120. So are those of
-- logs that are being taken.
CREATE TABLE hashes (
    origin_idx INTEGER NOT NULL, chunk INTEGER NOT NULL, hashes BLOB NOT NULL,
    PRIMARY KEY (origin_idx, chunk)) WITHOUT ROWID;
-- Logs that are being taken from a snapshot. idx is no idx of origin, until the log is put in. after, hash: a place in our log of that
-- name where it agrees with this one, and the hash there (0: none, hash = base); the hashes of the ops from there to head are here.
CREATE TABLE staged (
    idx INTEGER PRIMARY KEY, session INTEGER NOT NULL, origin INTEGER NOT NULL UNIQUE, base BLOB NOT NULL,
    after INTEGER NOT NULL, hash BLOB NOT NULL, head INTEGER NOT NULL);
-- Where origins end: the last op that all branches have in common.
CREATE TABLE close (origin INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
-- Other tills, as their acks tell. stamp, level: see sync::MemberAck. seen_run_ms = when one was last heard of, in this agent's running
-- time.
CREATE TABLE member (
    till BLOB PRIMARY KEY, stamp INTEGER NOT NULL, level INTEGER NOT NULL, seen_run_ms INTEGER NOT NULL) WITHOUT ROWID;
-- How far logs went at some moments of this agent's running time; those that were compacted to their head are left out.
CREATE TABLE mark (
    run_ms INTEGER NOT NULL, origin_idx INTEGER NOT NULL, head INTEGER NOT NULL,
    PRIMARY KEY (run_ms, origin_idx)) WITHOUT ROWID;
-- Tickets of an own log that were compacted while no other till had them.
ALTER TABLE origin ADD COLUMN alone INTEGER NOT NULL DEFAULT 0;
-- Rows taken from a snapshot whose logs are not put in yet. tbl: see sync::table. ref = idx of the record or entity, till, hash of what
-- is held.
CREATE TABLE uncovered (
    tbl INTEGER NOT NULL, ref NOT NULL, session INTEGER NOT NULL, PRIMARY KEY (tbl, ref)) WITHOUT ROWID;
-- What the rows of a table add up to: 16 bytes, big-endian. tbl: see sync::table. upto: the last row in it, for records. sum of an
-- entity: its share.
CREATE TABLE digest (tbl INTEGER PRIMARY KEY, sum BLOB NOT NULL, upto INTEGER NOT NULL);
ALTER TABLE entity ADD COLUMN sum BLOB NOT NULL DEFAULT x'00000000000000000000000000000000';
-- Ops, and rows of snapshots, that this version cannot apply, by hash of kind, schema and body. With bytes of their own: the op that
-- brought one may be compacted.
ALTER TABLE held RENAME TO held_of_1;
CREATE TABLE held (
    hash BLOB PRIMARY KEY NOT NULL, hlc INTEGER NOT NULL, kind INTEGER NOT NULL, schema INTEGER NOT NULL, body BLOB NOT NULL,
    reason TEXT NOT NULL);
INSERT INTO held SELECT h.hash, o.hlc, o.kind, o.schema, o.body, h.reason
    FROM held_of_1 h JOIN op o ON o.origin_idx = h.origin_idx AND o.seq = h.seq;
DROP TABLE held_of_1;
-- Ids of replaced writes, by entity.
DROP TABLE replaced;
CREATE TABLE replaced (entity_idx INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY (entity_idx, id)) WITHOUT ROWID;
-- From now on a change is deleted when it is superseded.
DELETE FROM change WHERE kind > 3 AND n <> (SELECT change FROM entity WHERE idx = ref);
";

/// Brings a database to [`VERSION`].
///
/// # Errors
/// [`StoreError::TooNew`] for one of a later version, [`StoreError::NotADatabase`] for one of another program.
pub(super) fn migrate(conn: &mut Connection) -> Result<(), StoreError> {
    migrate_with(conn, MIGRATIONS)
}

fn migrate_with(conn: &mut Connection, migrations: &[Migration]) -> Result<(), StoreError> {
    let known = migrations.len() as u32;
    let found = version(conn)?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    let due = &migrations[found as usize..];
    if due.is_empty() {
        return Ok(());
    }
    // What SQL cannot do is done by today's code, which knows today's tables: after all of them are there.
    let transaction = conn.transaction()?;
    due.iter().try_for_each(|migration| transaction.execute_batch(migration.sql))?;
    due.iter().try_for_each(|migration| (migration.then)(&transaction))?;
    transaction.pragma_update(None, "user_version", known)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()?;
    Ok(())
}

/// The schema of a database; 0 for an empty one.
///
/// # Errors
/// [`StoreError::NotADatabase`] for a database of another program.
pub(super) fn version(conn: &Connection) -> Result<u32, StoreError> {
    let version: u32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: u32 = conn.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION_ID && (version, application, tables) != (0, 0, 0) {
        return Err(StoreError::NotADatabase(conn.path().unwrap_or("the file").to_owned()));
    }
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(conn: &Connection) -> u32 {
        conn.query_row("SELECT count(*) FROM sqlite_schema WHERE type = 'table'", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn an_empty_database_becomes_one_of_this_version_once() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        let made = tables(&conn);
        assert!(made > 15);
        migrate(&mut conn).unwrap();
        assert_eq!((version(&conn).unwrap(), tables(&conn)), (VERSION, made));
    }

    #[test]
    fn rows_survive_a_later_migration_and_a_broken_one_changes_nothing() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate_with(&mut conn, &[Migration::of(V1)]).unwrap();
        conn.execute("INSERT INTO memory VALUES ('k', 'v')", []).unwrap();
        let add = "ALTER TABLE memory ADD COLUMN extra INTEGER NOT NULL DEFAULT 7";
        let fail: fn(&Connection) -> Result<(), StoreError> = |_| Err(StoreError::NotFound("it"));
        for broken in
            [Migration::of("ALTER TABLE memory ADD COLUMN extra; SELECT nonsense"), Migration { sql: add, then: fail }]
        {
            assert!(migrate_with(&mut conn, &[Migration::of(V1), broken]).is_err());
            assert_eq!(version(&conn).unwrap(), 1);
        }
        migrate_with(&mut conn, &[Migration::of(V1), Migration::of(add)]).unwrap();
        let row: (String, i64) =
            conn.query_row("SELECT value, extra FROM memory", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!((version(&conn).unwrap(), row), (2, ("v".to_owned(), 7)));
        let older = migrate_with(&mut conn, &[Migration::of(V1)]);
        assert_eq!(older, Err(StoreError::TooNew { found: 2, known: 1 }));
    }

    #[test]
    fn schema_2_gives_what_is_held_bytes_of_its_own_and_drops_superseded_changes() {
        let mut conn = Connection::open_in_memory().unwrap();
        migrate_with(&mut conn, &[Migration::of(V1)]).unwrap();
        conn.execute_batch(
            "INSERT INTO op VALUES (3, 1, 50, 900, 2, x'0102030405060708', x'aabb', NULL), (3, 2, 60, 1, 1, x'00', NULL, 4);
             INSERT INTO held VALUES (x'11', 3, 1, 'later');
             INSERT INTO entity (idx, kind, id, alive, search, change, registers) VALUES (1, 2, x'22', 0, '', 3, x'00');
             INSERT INTO change VALUES (1, 5, 1), (2, 1, 7), (3, 5, 1), (4, 3, 7);",
        )
        .unwrap();
        migrate_with(&mut conn, &[Migration::of(V1), Migration::of(V2)]).unwrap();
        let lines = |sql: &str| -> Vec<String> {
            let mut rows = conn.prepare(sql).unwrap();
            rows.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
        };
        let held = "SELECT format('%s %d %d %d %s %s', hex(hash), hlc, kind, schema, hex(body), reason) FROM held";
        assert_eq!(lines(held), ["11 50 900 2 AABB later"]);
        assert_eq!(
            lines("SELECT format('%d %d %d', n, kind, ref) FROM change ORDER BY n"),
            ["2 1 7", "3 5 1", "4 3 7"]
        );
        assert_eq!(lines("SELECT format('%d %s', seq, hex(body)) FROM op ORDER BY seq"), ["1 AABB", "2 "]);
    }

    #[test]
    fn the_database_of_another_program_is_left_alone() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert!(matches!(migrate(&mut conn), Err(StoreError::NotADatabase(_))));
        assert_eq!(tables(&conn), 1);
    }
}
