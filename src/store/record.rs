//! What insert-once records (tickets, refunds, movements) have in common: the content decides, not the order of arrival.

use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;

use crate::model::amount::{MONEY_MAX, Money, QUANTITY_MAX, Quantity};
use crate::model::clock::TIME_MS_MAX;
use crate::model::id::{TillId, Uuid};
use crate::model::level;
use crate::model::mutant::Mutant;
use crate::model::op::{Body, HoldReason, Op, content_hash, kind};
use crate::model::state::{Admission, Member, REPLACED_MAX, State};
use crate::model::ticket::{LINES_MAX, Made, PAYMENTS_MAX, Refund, Ticket};
use crate::sync::table;

use super::error::StoreError;

/// A record's id, content hash and canonical bytes.
pub(super) struct Record<'a> {
    pub(super) id: Uuid,
    pub(super) hash: [u8; 32],
    pub(super) body: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn new(id: Uuid, body: &'a [u8]) -> Self {
        Self { id, hash: content_hash(body), body }
    }
}

/// The statements of one table of records.
pub(super) struct Table {
    pub(super) find: &'static str,
    pub(super) set_aside: &'static str,
}

/// A table of insert-once records, for what is alike in all of them.
#[derive(Debug)]
pub(super) struct Records {
    /// Its number in snapshots and digests.
    pub(super) table: u16,
    /// The kind of ops that carry its records.
    pub(super) kind: u16,
    /// Its name in the database.
    pub(super) name: &'static str,
}

pub(super) const TICKETS: Records = Records { table: table::TICKET, kind: kind::TICKET, name: "ticket" };
pub(super) const REFUNDS: Records = Records { table: table::REFUND, kind: kind::REFUND, name: "refund" };
pub(super) const MOVEMENTS: Records = Records { table: table::MOVEMENT, kind: kind::MOVEMENT, name: "movement" };

#[cfg(feature = "next")]
pub(super) const NOTES: Records = Records { table: table::NOTE, kind: kind::NOTE, name: "note" };

/// All tables of records.
pub(super) const RECORDS: &[Records] = &[
    TICKETS,
    REFUNDS,
    MOVEMENTS,
    #[cfg(feature = "next")]
    NOTES,
];

/// Where a record stands among those of its id. Of several contents the smaller hash counts: alone it moves stock and is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// This very content is here, in this row.
    Known(i64),
    /// The first of its id.
    First,
    /// The record in this row goes on counting.
    Beaten(i64),
    /// The record in this row counted until now, and has been set aside.
    Beats(i64),
}

impl Place {
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::First | Self::Beats(_))
    }
}

/// Finds the place of an arriving record, and makes room for it.
pub(super) fn place(conn: &Connection, table: &Table, record: &Record<'_>) -> Result<Place, StoreError> {
    let mut counting: Option<(i64, [u8; 32])> = None;
    {
        let mut statement = conn.prepare_cached(table.find)?;
        let mut rows = statement.query([record.id.as_bytes()])?;
        while let Some(row) = rows.next()? {
            let (idx, hash, counts): (i64, [u8; 32], bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
            if hash == record.hash {
                return Ok(Place::Known(idx));
            }
            if counts {
                counting = Some((idx, hash));
            }
        }
    }
    match counting {
        None => Ok(Place::First),
        Some((idx, hash)) if hash < record.hash || Mutant::FirstContentCounts.is_on() => Ok(Place::Beaten(idx)),
        Some((idx, _)) => {
            conn.prepare_cached(table.set_aside)?.execute([idx])?;
            Ok(Place::Beats(idx))
        }
    }
}

/// Reads canonical bytes that this store has written.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, StoreError> {
    postcard::from_bytes(body).map_err(|error| StoreError::Damaged(format!("a record does not decode: {error}")))
}

/// What an op says, where a till of `level` can apply it.
///
/// # Errors
/// Why it must be held.
pub(super) fn read_at(op: &Op, level: u16) -> Result<Body, HoldReason> {
    if level::of_kind(op.kind) > level {
        return Err(HoldReason::Unknown { kind: op.kind, schema: op.schema });
    }
    read(op)
}

/// What an op says, where this version can apply it: its numbers are within the limits of the model, so that no sum overflows.
///
/// # Errors
/// Why it must be held.
pub(super) fn read(op: &Op) -> Result<Body, HoldReason> {
    let body = Body::from_op(op)?;
    let sound = match &body {
        Body::Ticket(ticket) => sound_ticket(ticket),
        Body::Refund(refund) => sound_refund(refund),
        Body::Movement(movement) => {
            quantity(movement.quantity) && money(Money(movement.delta.0)) && made(&movement.made)
        }
        Body::Admit(admit) => made(&admit.made),
        Body::Retire(retire) => made(&retire.made),
        Body::State(State::Entity { registers, replaced, .. }) => {
            registers.is_sound() && replaced.len() <= REPLACED_MAX && replaced.is_sorted_by(|a, b| a < b)
        }
        Body::State(State::Member(member)) => sound_member(member),
        Body::Edit(_) => true,
        #[cfg(feature = "next")]
        Body::Note(note) => made(&note.made),
    };
    if sound { Ok(body) } else { Err(HoldReason::Malformed { kind: op.kind }) }
}

fn sound_ticket(ticket: &Ticket) -> bool {
    let sale = &ticket.sale;
    made(&ticket.made)
        && sale.lines.len() <= LINES_MAX
        && sale.payments.len() <= PAYMENTS_MAX
        && sale.lines.iter().all(|l| quantity(l.quantity) && money(l.unit_price) && money(l.discount))
        && sale.payments.iter().all(|p| money(p.amount))
        && sale.totals().is_some()
}

fn sound_refund(refund: &Refund) -> bool {
    made(&refund.made)
        && refund.lines.len() <= LINES_MAX
        && refund.lines.iter().all(|l| quantity(l.quantity) && money(l.amount))
}

fn sound_member(member: &Member) -> bool {
    let time = |ms: u64| ms <= TIME_MS_MAX;
    let is_theirs = |a: &Admission| TillId::of_public_key(&a.public_key) == member.till && time(a.first_ms);
    member.admission.as_ref().is_none_or(is_theirs) && member.retired_ms.is_none_or(time)
}

fn quantity(quantity: Quantity) -> bool {
    quantity.0.unsigned_abs() <= QUANTITY_MAX as u64
}

fn money(amount: Money) -> bool {
    amount.0.unsigned_abs() <= MONEY_MAX as u64
}

fn made(made: &Made) -> bool {
    made.at_ms <= TIME_MS_MAX
}

/// The record in a row; `sql` selects its body by row number.
pub(super) fn body_at<T: DeserializeOwned>(
    conn: &Connection,
    sql: &'static str,
    idx: i64,
) -> Result<Option<T>, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([idx])?;
    match rows.next()? {
        Some(row) => decode(blob(row, 0)?).map(Some),
        None => Ok(None),
    }
}

/// The records that a statement selects: their bodies, in its first column.
pub(super) fn bodies<T: DeserializeOwned>(
    conn: &Connection,
    sql: &'static str,
    id: Uuid,
) -> Result<Vec<T>, StoreError> {
    let mut statement = conn.prepare_cached(sql)?;
    let mut rows = statement.query([id.as_bytes()])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(decode(blob(row, 0)?)?);
    }
    Ok(found)
}

/// A blob of a row, without a copy.
pub(super) fn blob<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], StoreError> {
    row.get_ref(column)?.as_blob().map_err(|error| StoreError::Damaged(error.to_string()))
}

/// The bytes of a column, whatever the card has made of it: for where damage is looked for.
pub(super) fn bytes<'r>(row: &'r Row<'_>, column: usize) -> Result<&'r [u8], StoreError> {
    Ok(row.get_ref(column)?.as_bytes().unwrap_or_default())
}
