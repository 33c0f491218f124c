//! Tickets.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row};

use crate::model::amount::{MONEY_MAX, Money, QUANTITY_MAX};
use crate::model::id::Uuid;
use crate::model::mutant::Mutant;
use crate::model::op::{Body, kind};
use crate::model::ticket::{LINES_MAX, Line, PAYMENTS_MAX, Refund, Refunded, Sale, Ticket, TicketStatus, Totals};

use super::changes::{self, ChangeKind};
use super::conflicts::{self, Flag};
use super::digest;
use super::error::{Rejection, StoreError};
use super::reader::Reader;
use super::record::{self, Place, Record, Table};
use super::refunds;
use super::request::Reply;
use super::view::{Cursor, LIMIT_MAX, Page};
use super::work::Work;

/// Ticket rows that one call of [`Reader::tickets`] looks at.
const SCAN_MAX: i64 = 20_000;

/// Ticket rows that are looked at for a predecessor that is not the ticket before it in the log.
const CHAIN_SCAN_MAX: i64 = 5_000;
/// The most tickets of a day that are added up: more than a supermarket sells.
const DAY_MAX: i64 = 50_000;

/// Tickets before it in time that are looked at for a predecessor.
const NEAR_MAX: i64 = 64;

const TICKETS: Table = Table {
    find: "SELECT idx, hash, counts FROM ticket WHERE id = ?1",
    set_aside: "UPDATE ticket SET counts = 0 WHERE idx = ?1",
};

/// A ticket and what has become of it.
#[derive(Clone, PartialEq, Debug)]
pub struct TicketView {
    /// Its place in order of arrival.
    pub cursor: Cursor,
    /// The ticket.
    pub ticket: Ticket,
    /// Its refunds, in order of arrival.
    pub refunds: Vec<Refund>,
    /// What has become of it.
    pub status: TicketStatus,
    /// What it comes to.
    pub totals: Totals,
    /// SHA-256 of its canonical bytes: what the till's next ticket names.
    pub chain: [u8; 32],
}

/// Which tickets to list, in order of arrival.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TicketQuery {
    /// Go on after this place.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
    /// Not before this time, in milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Before this time, in milliseconds since 1970.
    pub to_ms: Option<u64>,
    /// Sold on the till of this human id.
    pub pos_id: Option<String>,
}

/// What a till has sold in some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DaySales {
    /// How many tickets.
    pub tickets: u64,
    /// What they add up to; as much as money can be where that is more.
    pub total: Money,
}

impl Work<'_> {
    /// Records a sale.
    pub(super) fn sell(&mut self, id: Uuid, sale: Sale) -> Result<Reply, StoreError> {
        check(&sale)?;
        let known: Vec<Ticket> = record::bodies(self.conn, "SELECT body FROM ticket WHERE id = ?1", id)?;
        if known.iter().any(|ticket| ticket.sale == sale) {
            return self.ticket_reply(id, false);
        }
        if !known.is_empty() {
            return Err(StoreError::Conflict("ticket"));
        }
        let hlc = self.tick();
        let made = self.made(hlc);
        let day = self.business_day(made.at_ms);
        let previous = self.memory.logs.own_tail();
        let number = self.memory.logs.next_number(self.conn, day)?;
        let number = format!("{}-{}-{day:08}-{number:04}", made.pos_id, self.memory.logs.own.short());
        let ticket = Ticket { id, number, made, currency: self.author.currency, sale, previous };
        let body = Body::Ticket(ticket);
        let op = self.op(&body, hlc)?;
        // Our own predecessor is the one just looked up.
        let mut tail = previous;
        let rec = self.fold(&body, &op, &mut tail)?;
        self.append(op, rec, Some(tail))?;
        self.ticket_reply(id, true)
    }

    fn ticket_reply(&self, id: Uuid, created: bool) -> Result<Reply, StoreError> {
        let view = view(self.conn, id)?.ok_or(StoreError::NotFound("ticket"))?;
        Ok(Reply::Ticket { view: Box::new(view), created })
    }

    /// Stores a ticket, ours or another's; gives its row. `tail` is the ticket before it in the log that brings it; `None` where no log
    /// does.
    pub(super) fn insert_ticket(
        &mut self,
        ticket: &Ticket,
        record: &Record<'_>,
        tail: Option<[u8; 32]>,
    ) -> Result<i64, StoreError> {
        let place = record::place(self.conn, &TICKETS, record)?;
        match place {
            Place::Known(idx) => {
                if Mutant::CountTwice.is_on() {
                    for (product, delta) in ticket.movements() {
                        self.shift((product, delta), (kind::TICKET, idx))?;
                    }
                }
                // A row of a snapshot, whose predecessor was not looked for everywhere: here it is, just before it in the log.
                if tail == Some(ticket.previous) && self.memory.chain.awaited.remove(&ticket.previous) {
                    self.conn.execute("DELETE FROM unchained WHERE previous = ?1", [ticket.previous])?;
                }
                return Ok(idx);
            }
            Place::First => {}
            Place::Beaten(_) => conflicts::mark(self.conn, Flag::TicketContents, ticket.id.as_bytes(), true)?,
            Place::Beats(former) => {
                conflicts::mark(self.conn, Flag::TicketContents, ticket.id.as_bytes(), true)?;
                if let Some(undone) = at(self.conn, former)? {
                    for (product, delta) in undone.movements() {
                        self.shift((product, -delta), (kind::TICKET, former))?;
                    }
                }
            }
        }
        self.conn
            .prepare_cached(
                "INSERT INTO ticket (id, hash, counts, at_ms, pos_id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                record.id.as_bytes(),
                record.hash,
                place.counts(),
                ticket.made.at_ms.cast_signed(),
                &ticket.made.pos_id,
                record.body,
            ))?;
        let idx = self.conn.last_insert_rowid();
        digest::note(self.conn, &record::TICKETS, idx)?;
        self.link(ticket, record, idx, tail)?;
        if place.counts() {
            for (product, delta) in ticket.movements() {
                self.shift((product, delta), (kind::TICKET, idx))?;
            }
            changes::record(self.conn, ChangeKind::Ticket, idx)?;
            refunds::check_over(self.conn, ticket.id)?;
        }
        Ok(idx)
    }

    /// Checks the chain of a till's tickets: each names the one before. A break is marked, never held.
    fn link(
        &mut self,
        ticket: &Ticket,
        record: &Record<'_>,
        idx: i64,
        tail: Option<[u8; 32]>,
    ) -> Result<(), StoreError> {
        let chain = &mut self.memory.chain;
        if chain.awaited.remove(&record.hash) {
            self.conn.execute("DELETE FROM unchained WHERE previous = ?1", [record.hash])?;
        }
        let before = chain.last(ticket.made.till, record.hash);
        // A database's first ticket names none.
        let names_none = ticket.previous == [0; 32];
        let follows = tail == Some(ticket.previous) || before == Some(ticket.previous);
        if names_none || follows || is_near(self.conn, ticket)? {
            return Ok(());
        }
        // The till may have gone on under a fresh origin: then the predecessor is in another log, anywhere. That is once per log, and
        // worth a long scan; a break within a log is not, since a till with a fault may have many. Rows of a snapshot come in no order:
        // most that is missing is yet to come, and for the rest there is one scan when all are here.
        let rows_max = match tail {
            None => 0,
            Some(tail) if tail == [0; 32] => i64::MAX,
            Some(_) => CHAIN_SCAN_MAX,
        };
        if rows_max > 0 && is_here(self.conn, &ticket.previous, rows_max)? {
            return Ok(());
        }
        self.memory.chain.awaited.insert(ticket.previous);
        self.conn
            .prepare_cached("INSERT OR IGNORE INTO unchained (previous, ticket_idx) VALUES (?1, ?2)")?
            .execute((ticket.previous, idx))?;
        Ok(())
    }

    /// Looks once more for all predecessors that are awaited, anywhere: all rows of a snapshot are here.
    pub(super) fn look_for_awaited(&mut self) -> Result<(), StoreError> {
        let awaited = &mut self.memory.chain.awaited;
        if awaited.is_empty() {
            return Ok(());
        }
        let mut hashes = self.conn.prepare("SELECT hash FROM ticket")?;
        let mut rows = hashes.query([])?;
        while let Some(row) = rows.next()? {
            let hash: [u8; 32] = row.get(0)?;
            if awaited.remove(&hash) {
                self.conn.execute("DELETE FROM unchained WHERE previous = ?1", [hash])?;
            }
        }
        Ok(())
    }
}

/// Whether the client may record this sale.
pub(super) fn check(sale: &Sale) -> Result<(), Rejection> {
    let refuse = |path: String, message: &str| Err(Rejection { path, message: message.to_owned() });
    if sale.lines.is_empty() || sale.lines.len() > LINES_MAX {
        return refuse("lines".into(), &format!("a ticket has 1 to {LINES_MAX} lines"));
    }
    if sale.payments.len() > PAYMENTS_MAX {
        return refuse("payments".into(), &format!("a ticket has at most {PAYMENTS_MAX} payments"));
    }
    for (i, line) in sale.lines.iter().enumerate() {
        if let Err((field, message)) = check_line(line) {
            return refuse(format!("lines[{i}].{field}"), message);
        }
    }
    for (i, payment) in sale.payments.iter().enumerate() {
        if !is_money(payment.amount) {
            return refuse(format!("payments[{i}].amount"), "an amount is at most 9007199254740991 minor units");
        }
    }
    if sale.totals().is_none() {
        return refuse("lines".into(), "the total is at most 9007199254740991 minor units");
    }
    Ok(())
}

fn check_line(line: &Line) -> Result<(), (&'static str, &'static str)> {
    if line.quantity.0 <= 0 || line.quantity.0 > QUANTITY_MAX {
        return Err(("quantity", "a quantity is more than zero and at most 1000000000"));
    }
    if line.unit_price.0 < 0 || !is_money(line.unit_price) {
        return Err(("unitPrice", "a price is zero or more and at most 9007199254740991 minor units"));
    }
    let gross = line.gross().ok_or(("quantity", "quantity times price is at most 9007199254740991 minor units"))?;
    if line.discount.0 < 0 || line.discount > gross {
        return Err(("discount", "a discount is zero or more and at most quantity times price"));
    }
    Ok(())
}

fn is_money(amount: Money) -> bool {
    amount.0.unsigned_abs() <= MONEY_MAX as u64
}

/// Whether the predecessor of a ticket is among those made shortly before it, on whatever till.
fn is_near(conn: &Connection, ticket: &Ticket) -> Result<bool, StoreError> {
    let mut near = conn.prepare_cached(
        "SELECT 1 FROM (SELECT hash FROM ticket INDEXED BY ticket_at WHERE at_ms <= ?1 ORDER BY at_ms DESC LIMIT ?2)
         WHERE hash = ?3",
    )?;
    Ok(near.exists((ticket.made.at_ms.cast_signed(), NEAR_MAX, ticket.previous))?)
}

/// Whether a ticket of this hash is among the newest rows.
fn is_here(conn: &Connection, hash: &[u8; 32], rows_max: i64) -> Result<bool, StoreError> {
    let newest: i64 = conn.query_row("SELECT coalesce(max(idx), 0) FROM ticket", [], |row| row.get(0))?;
    let sql = "SELECT 1 FROM ticket WHERE idx > ?2 AND hash = ?1 ORDER BY idx DESC LIMIT 1";
    let found = conn.query_row(sql, (hash, newest.saturating_sub(rows_max)), |_| Ok(())).optional()?;
    Ok(found.is_some())
}

/// The ticket in a row.
fn at(conn: &Connection, idx: i64) -> Result<Option<Ticket>, StoreError> {
    record::body_at(conn, "SELECT body FROM ticket WHERE idx = ?1", idx)
}

/// The ticket that counts under an id.
pub(super) fn find(conn: &Connection, id: Uuid) -> Result<Option<Ticket>, StoreError> {
    Ok(record::bodies(conn, "SELECT body FROM ticket WHERE id = ?1 AND counts", id)?.pop())
}

/// The ticket that counts under an id, and what has become of it.
pub(super) fn view(conn: &Connection, id: Uuid) -> Result<Option<TicketView>, StoreError> {
    one_view(conn, "SELECT idx, hash, body FROM ticket WHERE id = ?1 AND counts", id.as_bytes())
}

/// The ticket in a row, or the one that counts in its place.
pub(super) fn view_at(conn: &Connection, idx: i64) -> Result<Option<TicketView>, StoreError> {
    let sql = "SELECT idx, hash, body FROM ticket WHERE id = (SELECT id FROM ticket WHERE idx = ?1) AND counts";
    one_view(conn, sql, idx)
}

fn one_view(conn: &Connection, sql: &'static str, key: impl rusqlite::ToSql) -> Result<Option<TicketView>, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([key])?;
    rows.next()?.map(|row| view_of_row(conn, row)).transpose()
}

fn view_of_row(conn: &Connection, row: &Row<'_>) -> Result<TicketView, StoreError> {
    let ticket: Ticket = record::decode(record::blob(row, 2)?)?;
    let refunds = refunds::of_ticket(conn, ticket.id)?;
    let status = Refunded::sum(&ticket, &refunds).status(&ticket);
    let totals =
        ticket.sale.totals().ok_or_else(|| StoreError::Damaged("a ticket's total is over the limit".into()))?;
    let cursor = Cursor(row.get::<_, i64>(0)?.cast_unsigned());
    Ok(TicketView { cursor, ticket, refunds, status, totals, chain: row.get(1)? })
}

impl Reader {
    /// A ticket and what has become of it.
    ///
    /// # Errors
    /// The database's.
    pub fn ticket(&self, id: Uuid) -> Result<Option<TicketView>, StoreError> {
        self.snapshot(|reader| view(reader.conn(), id))
    }

    /// What each till, by its human id, has sold from a time on (milliseconds since 1970), by the clocks of the tills that sold.
    ///
    /// # Errors
    /// The database's.
    pub fn sales_by_till(&self, from_ms: u64) -> Result<BTreeMap<String, DaySales>, StoreError> {
        self.snapshot(|reader| sales_by_till(reader.conn(), from_ms))
    }

    /// Tickets in order of arrival, so that who goes on after the last one misses none, also of those that other tills sold earlier.
    ///
    /// # Errors
    /// The database's.
    pub fn tickets(&self, query: &TicketQuery) -> Result<Page<TicketView>, StoreError> {
        self.snapshot(|reader| page(reader.conn(), query))
    }
}

fn page(conn: &Connection, query: &TicketQuery) -> Result<Page<TicketView>, StoreError> {
    let limit = query.limit.clamp(1, LIMIT_MAX);
    let from = query.from_ms.map_or(0, |ms| ms.min(i64::MAX as u64).cast_signed());
    let to = query.to_ms.map_or(i64::MAX, |ms| ms.min(i64::MAX as u64).cast_signed());
    // Where there is a time, its index says between which rows to look. It holds no bodies, so going through it is cheap.
    let (first, last): (Option<i64>, Option<i64>) = if query.from_ms.is_some() || query.to_ms.is_some() {
        conn.prepare_cached(
            "SELECT min(idx), max(idx) FROM ticket INDEXED BY ticket_at WHERE at_ms >= ?1 AND at_ms < ?2",
        )?
        .query_row((from, to), |row| Ok((row.get(0)?, row.get(1)?)))?
    } else {
        conn.prepare_cached("SELECT 0, max(idx) FROM ticket")?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?
    };
    let (Some(first), Some(last)) = (first, last) else { return Ok(Page { items: Vec::new(), next: None }) };
    let after = query.after.map_or(0, |cursor| cursor.0.min(i64::MAX as u64).cast_signed()).max(first - 1);
    let up_to = last.min(after.saturating_add(SCAN_MAX));
    let mut statement = conn.prepare_cached(
        "SELECT idx, hash, body FROM ticket WHERE idx > ?1 AND idx <= ?2 AND counts AND at_ms >= ?3 AND at_ms < ?4
         AND (?5 IS NULL OR pos_id = ?5) ORDER BY idx LIMIT ?6",
    )?;
    let mut rows = statement.query((after, up_to, from, to, &query.pos_id, limit as i64))?;
    let mut items = Vec::new();
    while let Some(row) = rows.next()? {
        items.push(view_of_row(conn, row)?);
    }
    let next = match items.last() {
        Some(item) if items.len() >= limit => Some(item.cursor),
        _ => Some(Cursor(up_to.cast_unsigned())),
    };
    Ok(Page { items, next: next.filter(|cursor| cursor.0 < last.cast_unsigned()) })
}

fn sales_by_till(conn: &Connection, from_ms: u64) -> Result<BTreeMap<String, DaySales>, StoreError> {
    let mut statement = conn
        .prepare_cached("SELECT pos_id, body FROM ticket INDEXED BY ticket_at WHERE at_ms >= ?1 AND counts LIMIT ?2")?;
    let mut rows = statement.query((from_ms.min(i64::MAX as u64).cast_signed(), DAY_MAX))?;
    let mut sold: BTreeMap<String, DaySales> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let ticket: Ticket = record::decode(record::blob(row, 1)?)?;
        let sales = sold.entry(row.get(0)?).or_default();
        sales.tickets += 1;
        let total = ticket.sale.totals().map(|totals| totals.total).unwrap_or_default();
        sales.total = Money(sales.total.0.saturating_add(total.0).min(MONEY_MAX));
    }
    Ok(sold)
}
