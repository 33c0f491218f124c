//! Refunds and cancellations.

use rusqlite::Connection;

use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::model::op::{Body, kind};
use crate::model::ticket::{LINES_MAX, Refund, RefundLine, Refunded, Ticket};

use super::changes::{self, ChangeKind};
use super::conflicts::{self, Flag};
use super::digest;
use super::error::StoreError;
use super::record::{self, Place, Record, Table};
use super::request::Reply;
use super::tickets;
use super::work::Work;

const REFUNDS: Table = Table {
    find: "SELECT idx, hash, counts FROM refund WHERE id = ?1",
    set_aside: "UPDATE refund SET counts = 0 WHERE idx = ?1",
};

/// A refund before it has a time.
struct Draft {
    id: Uuid,
    cancel: bool,
    reason: Option<String>,
    lines: Vec<RefundLine>,
}

impl Work<'_> {
    /// Takes back some lines of a ticket.
    pub(super) fn refund(
        &mut self,
        id: Uuid,
        ticket: Uuid,
        lines: &[(u32, Quantity)],
        reason: Option<String>,
    ) -> Result<Reply, StoreError> {
        let same = |r: &Refund| {
            let taken = r.lines.iter().map(|l| (l.line, l.quantity));
            !r.cancel && r.ticket == ticket && r.reason == reason && taken.eq(lines.iter().copied())
        };
        if let Some(known) = self.known_refund(id, same)? {
            return self.refund_reply(known, false);
        }
        let sold = tickets::find(self.conn, ticket)?.ok_or(StoreError::NotFound("ticket"))?;
        if lines.is_empty() || lines.len() > LINES_MAX {
            return Err(StoreError::rejected("lines", format!("a refund has 1 to {LINES_MAX} lines")));
        }
        let mut refunded = Refunded::sum(&sold, &of_ticket(self.conn, ticket)?);
        let mut taken = Vec::with_capacity(lines.len());
        for (i, (line, quantity)) in lines.iter().enumerate() {
            let refund_line = refunded
                .take(&sold, *line, *quantity)
                .map_err(|message| StoreError::rejected(format!("lines[{i}]"), message))?;
            // The same line may be named again: then what is left is less.
            let (sum, paid) = &mut refunded.lines[*line as usize];
            sum.0 += refund_line.quantity.0;
            paid.0 += refund_line.amount.0;
            taken.push(refund_line);
        }
        self.take_back(&sold, Draft { id, cancel: false, reason, lines: taken })
    }

    /// Takes back all that is left of a ticket.
    pub(super) fn cancel(
        &mut self,
        id: Option<Uuid>,
        ticket: Uuid,
        reason: Option<String>,
    ) -> Result<Reply, StoreError> {
        // Without an id of the client's, a ticket has one cancellation, whatever reason is given the second time.
        let same = |r: &Refund| r.cancel && r.ticket == ticket && (id.is_none() || r.reason == reason);
        let id = id.unwrap_or_else(|| Uuid::new_v5(&ticket, b"cancel"));
        if let Some(known) = self.known_refund(id, same)? {
            return self.refund_reply(known, false);
        }
        let sold = tickets::find(self.conn, ticket)?.ok_or(StoreError::NotFound("ticket"))?;
        let lines = Refunded::sum(&sold, &of_ticket(self.conn, ticket)?).rest(&sold);
        if lines.is_empty() {
            return Err(StoreError::rejected("", "nothing is left of this ticket to cancel"));
        }
        self.take_back(&sold, Draft { id, cancel: true, reason, lines })
    }

    fn known_refund(&self, id: Uuid, same: impl Fn(&Refund) -> bool) -> Result<Option<Refund>, StoreError> {
        let known: Vec<Refund> = record::bodies(self.conn, "SELECT body FROM refund WHERE id = ?1", id)?;
        let other = !known.is_empty();
        match known.into_iter().find(same) {
            Some(refund) => Ok(Some(refund)),
            None if other => Err(StoreError::Conflict("refund")),
            None => Ok(None),
        }
    }

    fn take_back(&mut self, sold: &Ticket, draft: Draft) -> Result<Reply, StoreError> {
        let hlc = self.tick();
        let Draft { id, cancel, reason, lines } = draft;
        let refund = Refund { id, ticket: sold.id, made: self.made(hlc), cancel, reason, lines };
        let body = Body::Refund(refund.clone());
        let op = self.op(&body, hlc)?;
        let rec = self.fold(&body, &op, &mut [0; 32])?;
        self.append(op, rec, None)?;
        self.refund_reply(refund, true)
    }

    fn refund_reply(&self, refund: Refund, created: bool) -> Result<Reply, StoreError> {
        let view = tickets::view(self.conn, refund.ticket)?.ok_or(StoreError::NotFound("ticket"))?;
        Ok(Reply::Refund { view: Box::new(view), refund: Box::new(refund), created })
    }

    /// Stores a refund, ours or another's; gives its row.
    pub(super) fn insert_refund(&mut self, refund: &Refund, record: &Record<'_>) -> Result<i64, StoreError> {
        let place = record::place(self.conn, &REFUNDS, record)?;
        match place {
            Place::Known(idx) => return Ok(idx),
            Place::First => {}
            Place::Beaten(former) => self.flag_contents(refund, at(self.conn, former)?.as_ref())?,
            Place::Beats(former) => {
                let undone = at(self.conn, former)?;
                self.flag_contents(refund, undone.as_ref())?;
                for (product, delta) in undone.iter().flat_map(Refund::movements) {
                    self.shift((product, -delta), (kind::REFUND, former))?;
                }
                if let Some(undone) = undone.filter(|undone| undone.ticket != refund.ticket) {
                    check_over(self.conn, undone.ticket)?;
                }
            }
        }
        let made = &refund.made;
        self.conn
            .prepare_cached(
                "INSERT INTO refund (id, hash, counts, ticket, at_ms, pos_id, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((
                record.id.as_bytes(),
                record.hash,
                place.counts(),
                refund.ticket.as_bytes(),
                made.at_ms.cast_signed(),
                &made.pos_id,
                record.body,
            ))?;
        let idx = self.conn.last_insert_rowid();
        digest::note(self.conn, &record::REFUNDS, idx)?;
        if place.counts() {
            for (product, delta) in refund.movements() {
                self.shift((product, delta), (kind::REFUND, idx))?;
            }
            changes::record(self.conn, ChangeKind::Refund, idx)?;
            check_over(self.conn, refund.ticket)?;
        }
        Ok(idx)
    }

    /// Two tills that cancel one ticket at once agree: there is nothing for a person to choose.
    fn flag_contents(&self, refund: &Refund, other: Option<&Refund>) -> Result<(), StoreError> {
        if other.is_some_and(|other| other.cancel && refund.cancel && other.ticket == refund.ticket) {
            return Ok(());
        }
        conflicts::mark(self.conn, Flag::RefundContents, refund.id.as_bytes(), true)
    }
}

/// Marks a ticket of which more was refunded than sold, or takes the mark away.
pub(super) fn check_over(conn: &Connection, ticket: Uuid) -> Result<(), StoreError> {
    let refunds = of_ticket(conn, ticket)?;
    if refunds.is_empty() {
        return Ok(());
    }
    let over = tickets::find(conn, ticket)?.is_some_and(|sold| Refunded::sum(&sold, &refunds).is_over(&sold));
    conflicts::mark(conn, Flag::OverRefund, ticket.as_bytes(), over)
}

/// The refunds of a ticket that count, the oldest first: the same on all tills, whatever the order of arrival.
pub(super) fn of_ticket(conn: &Connection, ticket: Uuid) -> Result<Vec<Refund>, StoreError> {
    let mut refunds: Vec<Refund> =
        record::bodies(conn, "SELECT body FROM refund WHERE ticket = ?1 AND counts", ticket)?;
    refunds.sort_by_key(|refund| (refund.made.at_ms, refund.id));
    Ok(refunds)
}

/// The refund in a row.
pub(super) fn at(conn: &Connection, idx: i64) -> Result<Option<Refund>, StoreError> {
    record::body_at(conn, "SELECT body FROM refund WHERE idx = ?1", idx)
}
