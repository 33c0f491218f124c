//! How much there is of everything.

use rusqlite::Connection;

use crate::model::register::EntityKind;

use super::error::StoreError;
use super::reader::Reader;
use super::{conflicts, entity};

/// How much there is of everything. Cheap to ask for: nothing grows with the number of sales.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Tickets.
    pub tickets: u64,
    /// Refunds and cancellations.
    pub refunds: u64,
    /// Products that are not deleted.
    pub products: u64,
    /// Categories that are not deleted.
    pub categories: u64,
    /// Customers that are not deleted.
    pub customers: u64,
    /// Ops that this version cannot apply.
    pub held: u64,
    /// Conflicts, for a person to look at.
    pub conflicts: u64,
    /// Those of them where more of a ticket was refunded than sold.
    pub over_refunds: u64,
    /// Those of them where less than nothing of a product is in stock.
    pub negative_stocks: u64,
    /// Ops of all logs, compacted ones included.
    pub ops: u64,
    /// Ops of all logs that are kept one by one.
    pub ops_kept: u64,
    /// The size of the database, in bytes, without its write-ahead log.
    pub bytes: u64,
    /// How much of it is free for what comes, in bytes.
    pub bytes_free: u64,
}

impl Reader {
    /// How much there is of everything.
    ///
    /// # Errors
    /// The database's.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.snapshot(|reader| counts(reader.conn()))
    }
}

fn counts(conn: &Connection) -> Result<Counts, StoreError> {
    let number = |sql: &str| -> Result<u64, StoreError> {
        Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    let living = |kind: EntityKind| -> Result<u64, StoreError> {
        let mut query = conn.prepare_cached("SELECT count(*) FROM entity WHERE kind = ?1 AND alive = 1")?;
        Ok(query.query_row([entity::number(kind)], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    // Rows of records are never deleted, so their last number is how many there are.
    let records = |table: &str| -> Result<u64, StoreError> {
        let rows = number(&format!("SELECT coalesce(max(idx), 0) FROM {table}"))?;
        let aside = number(&format!("SELECT count(*) FROM {table} WHERE NOT counts"))?;
        Ok(rows - aside)
    };
    let open = conflicts::count(conn)?;
    Ok(Counts {
        tickets: records("ticket")?,
        refunds: records("refund")?,
        products: living(EntityKind::Product)?,
        categories: living(EntityKind::Category)?,
        customers: living(EntityKind::Customer)?,
        held: number("SELECT count(*) FROM held")?,
        conflicts: open.all,
        over_refunds: open.over_refunds,
        negative_stocks: open.negative_stocks,
        // Logs of a snapshot that is being taken are not ours yet.
        ops: number("SELECT coalesce(sum(head), 0) FROM origin WHERE own < 3")?,
        ops_kept: number("SELECT coalesce(sum(head - floor), 0) FROM origin WHERE own < 3")?,
        bytes: number("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?,
        bytes_free: number("SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size")?,
    })
}
