//! What is looked at in a database.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use sha2::{Digest, Sha256};
use tillmesh::model::movement::Movement;
use tillmesh::model::op::Head;
use tillmesh::model::ticket::{Refund, Ticket};
use tillmesh::store::{OpsRead, Reader, Reply, Request};

use crate::till::{Till, fresh_id, sale};

/// A hash of every row of every table.
pub(crate) type State = [u8; 32];

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

fn texts(conn: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}

/// The state of a database: two with the same one differ in nothing. What was staged of a snapshot's logs is not in it: a start drops that.
pub(crate) fn state(path: &Path) -> rusqlite::Result<State> {
    let conn = connect(path)?;
    let mut hash = Sha256::new();
    for table in texts(&conn, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")? {
        hash.update(table.as_bytes());
        let which = match table.as_str() {
            "staged" => "WHERE 0",
            "hashes" => "WHERE origin_idx NOT IN (SELECT idx FROM staged)",
            _ => "",
        };
        let mut statement = conn.prepare(&format!("SELECT * FROM {table} {which}"))?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                let (sort, bytes): (u8, &[u8]) = match row.get_ref(column)? {
                    ValueRef::Null => (0, &[]),
                    ValueRef::Integer(n) => (1, &n.to_be_bytes()),
                    ValueRef::Real(n) => (2, &n.to_be_bytes()),
                    ValueRef::Text(text) => (3, text),
                    ValueRef::Blob(blob) => (4, blob),
                };
                hash.update([sort]);
                hash.update((bytes.len() as u64).to_be_bytes());
                hash.update(bytes);
            }
        }
    }
    Ok(hash.finalize().into())
}

/// Whether SQLite finds its pages, rows and indexes as they should be.
pub(crate) fn is_whole(path: &Path) -> Result<(), String> {
    let found = connect(path).and_then(|conn| texts(&conn, "PRAGMA integrity_check"));
    match found {
        Ok(found) if found == ["ok"] => Ok(()),
        Ok(found) => Err(found.join("; ")),
        Err(error) => Err(error.to_string()),
    }
}

/// What must hold in every state, computed from the ops and records themselves.
pub(crate) fn is_sound(till: &Till) -> Result<(), String> {
    let reader = till.reader().map_err(|error| error.to_string())?;
    logs(&reader)?;
    let conn = connect(&till.path()).map_err(|error| error.to_string())?;
    stock(&conn)?;
    match reader.digest() {
        Ok(Some(kept)) => {
            let found = reader.recomputed_digest().map_err(|error| error.to_string())?;
            if kept == found { Ok(()) } else { Err(format!("the digest is {kept:?}, and should be {found:?}")) }
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Logs are dense, and their hashes are those of their ops.
fn logs(reader: &Reader) -> Result<(), String> {
    let text = |error: tillmesh::store::StoreError| error.to_string();
    for header in reader.log_headers().map_err(text)? {
        let (origin, mut at) = (header.origin, Head { seq: 0, hash: header.base });
        let hashes = reader.hashes(origin, 1, usize::MAX).map_err(text)?;
        if hashes.len() as u64 != header.head.seq {
            return Err(format!("{origin} has {} hashes and {} ops", hashes.len(), header.head.seq));
        }
        let read = |from| reader.ops(origin, from, usize::MAX, usize::MAX).map_err(text);
        let mut found = read(1)?;
        if let OpsRead::Compacted(floor) = found {
            at = Head { seq: floor, hash: hashes[floor as usize - 1] };
            found = read(floor + 1)?;
        }
        if let Some(batch) = found.batch() {
            if batch.before != at {
                return Err(format!("{origin} goes on after {:?}, not after {at:?}", batch.before));
            }
            for op in &batch.ops {
                at = at.after_all(std::slice::from_ref(op));
                if hashes[at.seq as usize - 1] != at.hash {
                    return Err(format!("the hash of op {} of {origin} is not that of its ops", at.seq));
                }
            }
        }
        if at != header.head {
            return Err(format!("{origin} stands at {:?}, its ops end at {at:?}", header.head));
        }
    }
    Ok(())
}

/// Stock is the sum of its ledger, and of the movements of the records that count.
fn stock(conn: &Connection) -> Result<(), String> {
    let kept = sums(conn, "SELECT product, total FROM stock").map_err(|error| error.to_string())?;
    let ledger = "SELECT product, sum(delta) FROM ledger JOIN stock ON stock_idx = idx GROUP BY product";
    let ledger = sums(conn, ledger).map_err(|error| error.to_string())?;
    let mut moved: BTreeMap<[u8; 16], i64> = BTreeMap::new();
    let mut add = |product: uuid::Uuid, delta: i64| *moved.entry(product.into_bytes()).or_default() += delta;
    let bodies = |table: &str| -> rusqlite::Result<Vec<Vec<u8>>> {
        let mut statement = conn.prepare(&format!("SELECT body FROM {table} WHERE counts"))?;
        statement.query_map([], |row| row.get(0))?.collect()
    };
    for body in bodies("ticket").map_err(|error| error.to_string())? {
        let ticket: Ticket = postcard::from_bytes(&body).map_err(|error| error.to_string())?;
        ticket.movements().for_each(|(product, delta)| add(product, delta.0));
    }
    for body in bodies("refund").map_err(|error| error.to_string())? {
        let refund: Refund = postcard::from_bytes(&body).map_err(|error| error.to_string())?;
        refund.movements().for_each(|(product, delta)| add(product, delta.0));
    }
    for body in bodies("movement").map_err(|error| error.to_string())? {
        let movement: Movement = postcard::from_bytes(&body).map_err(|error| error.to_string())?;
        add(movement.product, movement.delta.0);
    }
    moved.retain(|_, total| *total != 0);
    for (name, found) in [("the ledger", &ledger), ("the records", &moved)] {
        if *found != kept {
            return Err(format!("stock is {kept:?}, but {name} come to {found:?}"));
        }
    }
    Ok(())
}

fn sums(conn: &Connection, sql: &str) -> rusqlite::Result<BTreeMap<[u8; 16], i64>> {
    let mut statement = conn.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut sums: BTreeMap<_, _> = rows.collect::<rusqlite::Result<_>>()?;
    sums.retain(|_, total| *total != 0);
    Ok(sums)
}

/// What a person sees: the same after a fault and a repeated request as without them, though times and hashes differ.
pub(crate) fn meaning(till: &Till) -> rusqlite::Result<Vec<String>> {
    let conn = connect(&till.path())?;
    let mut all = Vec::new();
    for sql in [
        "SELECT 'ticket ' || hex(id) || ' ' || counts FROM ticket ORDER BY 1",
        "SELECT 'refund ' || hex(id) || ' ' || counts FROM refund ORDER BY 1",
        "SELECT 'movement ' || hex(id) || ' ' || counts FROM movement ORDER BY 1",
        "SELECT 'stock ' || hex(product) || ' ' || total FROM stock WHERE total <> 0 ORDER BY 1",
        "SELECT 'entity ' || hex(id) || ' ' || alive || ' ' || ifnull(sku, '') FROM entity ORDER BY 1",
        "SELECT 'logs of ' || own || ': ' || count(*) || ' ' || sum(head) FROM origin GROUP BY own ORDER BY 1",
        "SELECT 'held ' || hex(hash) FROM held ORDER BY 1",
        "SELECT 'roster ' || hex(till) || ifnull(pos_name, '') || (retired_ms IS NULL) FROM roster ORDER BY 1",
        "SELECT 'note ' || key || value FROM memory ORDER BY 1",
        "SELECT 'flag ' || kind || hex(subject) FROM flag ORDER BY 1",
    ] {
        all.extend(texts(&conn, sql)?);
    }
    Ok(all)
}

/// The till sells, and its log goes on where it stood: no place in it is written twice.
pub(crate) fn sells_on(till: &mut Till) -> Result<uuid::Uuid, String> {
    let text = |error: tillmesh::store::StoreError| error.to_string();
    let own = till.db().origin();
    let before = till.reader().and_then(|reader| reader.vector()).map_err(text)?.head(own);
    let id = fresh_id();
    match till.ask(Request::Sell { id, sale: sale(1, 1) }) {
        Ok(Reply::Ticket { created: true, .. }) => {}
        other => return Err(format!("it does not sell: {other:?}")),
    }
    let reader = till.reader().map_err(text)?;
    let after = reader.vector().map_err(text)?.head(own);
    let batch = reader.ops(own, before.seq + 1, usize::MAX, usize::MAX).map_err(text)?.batch();
    let batch = batch.ok_or("the sale is in no log")?;
    if (batch.before, batch.ops.len(), batch.after()) != (before, 1, after) {
        return Err(format!("the log went on from {before:?} to {after:?} by {batch:?}"));
    }
    Ok(id)
}
