//! Totals of stock against what moved them: found wrong by the scrub, and mended from the ledger and its records.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use serde::de::DeserializeOwned;

use super::error::StoreError;
use super::record;
use super::request::Reply;
use super::work::Work;
use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::model::movement::Movement;
use crate::model::op::kind;
use crate::model::ticket::{Refund, Ticket};

/// What moved stock: the kind of its op, and its row.
type Source = (u16, i64);

/// Products whose total is not the sum of what the ledger says, in one pass over it: without an index by product, each would be one.
pub(super) fn wrong_totals(conn: &Connection) -> Result<Vec<Uuid>, StoreError> {
    let mut sums: HashMap<i64, i64> = HashMap::new();
    let mut ledger = conn.prepare("SELECT stock_idx, delta FROM ledger")?;
    let mut rows = ledger.query([])?;
    while let Some(row) = rows.next()? {
        let (stock, delta): (i64, i64) = (row.get(0)?, row.get(1).unwrap_or_default());
        let sum = sums.entry(stock).or_default();
        *sum = sum.wrapping_add(delta);
    }
    let mut totals = conn.prepare("SELECT idx, product, total FROM stock ORDER BY idx")?;
    let mut rows = totals.query([])?;
    let mut wrong = Vec::new();
    while let Some(row) = rows.next()? {
        let sum = sums.get(&row.get(0)?).copied().unwrap_or_default();
        if row.get(2).ok() != Some(sum) {
            wrong.push(Uuid::from_slice(record::bytes(row, 1)?).unwrap_or_default());
        }
    }
    Ok(wrong)
}

impl Work<'_> {
    /// Makes a product's ledger what its records say, and its total their sum. A record that cannot be read keeps what the ledger says of
    /// it: it is mended by a snapshot.
    pub(super) fn recount(&mut self, product: Uuid) -> Result<Reply, StoreError> {
        let mut sources: BTreeMap<Source, (i64, i64)> = BTreeMap::new();
        {
            let mut ledger = self.conn.prepare(
                "SELECT n, delta, src_kind, src_idx FROM ledger WHERE stock_idx = (SELECT idx FROM stock WHERE product = ?1)
                 ORDER BY n",
            )?;
            let mut rows = ledger.query([product.as_bytes()])?;
            while let Some(row) = rows.next()? {
                let source = sources.entry((row.get(2)?, row.get(3)?)).or_insert((row.get(0)?, 0));
                source.1 = source.1.wrapping_add(row.get(1).unwrap_or_default());
            }
        }
        let mut total = 0i64;
        for (source, (first, said)) in sources {
            let moved = moved_by(self.conn, source, product)?.map_or(said, |moved| moved.0);
            if moved != said {
                let missing = moved.wrapping_sub(said);
                self.conn.execute("UPDATE ledger SET delta = delta + ?2 WHERE n = ?1", (first, missing))?;
            }
            total = total.wrapping_add(moved);
        }
        let changed = self.conn.execute(
            "UPDATE stock SET total = ?2 WHERE product = ?1 AND total IS NOT ?2",
            (product.as_bytes(), total),
        )?;
        tracing::warn!(%product, total, changed = changed > 0, "a total of stock was damaged: it was counted again");
        Ok(Reply::Done)
    }
}

/// By how much a record moves a product's stock; `None` where there is no telling.
fn moved_by(conn: &Connection, (src_kind, idx): Source, product: Uuid) -> Result<Option<Quantity>, StoreError> {
    let of_lines = |lines: Vec<(Uuid, Quantity)>| {
        Quantity(lines.iter().filter(|(id, _)| *id == product).map(|(_, delta)| delta.0).sum())
    };
    Ok(match src_kind {
        kind::TICKET => counting(conn, "SELECT counts, body FROM ticket WHERE idx = ?1", idx)?
            .map(|ticket: Option<Ticket>| of_lines(ticket.iter().flat_map(Ticket::movements).collect())),
        kind::REFUND => counting(conn, "SELECT counts, body FROM refund WHERE idx = ?1", idx)?
            .map(|refund: Option<Refund>| of_lines(refund.iter().flat_map(Refund::movements).collect())),
        _ => counting(conn, "SELECT counts, body FROM movement WHERE idx = ?1", idx)?.map(
            |movement: Option<Movement>| {
                of_lines(movement.iter().map(|movement| (movement.product, movement.delta)).collect())
            },
        ),
    })
}

/// The record in a row: `Some(None)` where another content of its id counts, `None` where it cannot be read.
fn counting<T: DeserializeOwned>(
    conn: &Connection,
    sql: &'static str,
    idx: i64,
) -> Result<Option<Option<T>>, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([idx])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    if !row.get::<_, bool>(0)? {
        return Ok(Some(None));
    }
    Ok(record::decode(record::bytes(row, 1)?).ok().map(Some))
}
