//! What a person should look at.
//!
//! Nothing of this stops a till or is refused: both sides of a conflict are kept, one is shown, and it stands here until it is settled.
//! It is found without looking at all records: the repositories keep marks (tables `contested`, `flag`, `unchained`) in the transaction
//! that brings a conflict about or settles it, so a list costs what it holds. Marks follow from what is here, never from its order.
//!
//! How one is settled, [`Settle`] says. What nothing but a person's word can settle (money was paid back twice) is settled by that word:
//! a [`EntityKind::Review`] that holds how many records the person saw.

use rusqlite::Connection;

use crate::model::amount::Quantity;
use crate::model::clock::Hlc;
use crate::model::id::Uuid;
use crate::model::movement::Movement;
use crate::model::register::{ALIVE, Edit, EntityKind, RegisterHead, Registers, Value};
use crate::model::ticket::{Made, Refund, Ticket};

use super::error::StoreError;
use super::reader::Reader;
use super::view::LIMIT_MAX;
use super::{counted, entity, fields, record, refunds, stock};

mod id;

pub use id::{Code, ConflictId, NotAConflictId, RecordKind};

/// The most sides shown of one conflict.
const SIDES_MAX: usize = 100;

/// A conflict.
#[derive(Clone, PartialEq, Debug)]
pub struct ConflictView {
    /// Which.
    pub id: ConflictId,
    /// How a person settles it.
    pub settle: Settle,
    /// What disagrees, at most 100; the side that is shown elsewhere, or counts, is the first one.
    pub sides: Vec<Side>,
}

/// How a conflict is settled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Settle {
    /// By [`super::Request::Resolve`] with the value that the field shall have.
    Choose,
    /// By [`super::Request::Resolve`] with [`Value::Null`]: a person has seen it.
    Seen,
    /// By editing or deleting one of the products.
    Edit,
    /// By counting the product's stock.
    Count,
}

/// A side of a conflict.
#[derive(Clone, PartialEq, Debug)]
pub struct Side {
    /// The human id of the till that made it; empty where it is a sum of many.
    pub pos_id: String,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What it says.
    pub says: Says,
}

/// What a side of a conflict says.
#[derive(Clone, PartialEq, Debug)]
pub enum Says {
    /// The field has this value. For the field `alive`: whether the entity exists.
    Value(Value),
    /// This product has the code.
    Product(Uuid),
    /// This ticket.
    Ticket(Box<Ticket>),
    /// This refund.
    Refund(Box<Refund>),
    /// This movement.
    Movement(Box<Movement>),
    /// So much is in stock.
    Stock(Quantity),
}

/// Marks in the table `flag`. The numbers are in the database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i64)]
pub(super) enum Flag {
    /// Two tickets of other content have this id.
    TicketContents = 1,
    /// Two refunds of other content have this id.
    RefundContents = 2,
    /// Two movements of other content have this id.
    MovementContents = 3,
    /// More of this ticket was refunded than sold.
    OverRefund = 4,
    /// Counts of this product that did not know of each other. Kept by `counted`.
    Counts = 5,
    /// Several products have this stock-keeping unit; the subject is its text. Kept by `entity`.
    Sku = 6,
    /// Several products have this barcode; the subject is its text. Kept by `entity`.
    Barcode = 7,
}

/// Sets or clears a mark: whether the conflict is there now. The subject is an id's 16 bytes, but for [`Flag::Sku`], [`Flag::Barcode`].
pub(super) fn mark(conn: &Connection, flag: Flag, subject: &[u8], on: bool) -> Result<(), StoreError> {
    let sql = if on {
        "INSERT OR IGNORE INTO flag (kind, subject) VALUES (?1, ?2)"
    } else {
        "DELETE FROM flag WHERE kind = ?1 AND subject = ?2"
    };
    conn.prepare_cached(sql)?.execute((flag as i64, subject))?;
    Ok(())
}

fn is_marked(conn: &Connection, flag: Flag, subject: &[u8]) -> Result<bool, StoreError> {
    let mut query = conn.prepare_cached("SELECT 1 FROM flag WHERE kind = ?1 AND subject = ?2")?;
    Ok(query.exists((flag as i64, subject))?)
}

/// The fields of an entity that disagree. Those of a deleted one are nobody's business, unless the deletion itself is in question.
pub(super) fn fields_of(kind: EntityKind, registers: &Registers) -> impl Iterator<Item = (&str, &[RegisterHead])> {
    // What tills say of POSPlus's tills settles itself: the latest word counts.
    let counts = !matches!(kind, EntityKind::Review | EntityKind::Posplus)
        && (registers.is_alive() || registers.conflicts().any(|(field, _)| field == ALIVE));
    registers.conflicts().filter(move |_| counts)
}

/// The edit that settles a conflict, for the caller to append and apply as any other: it replaces all heads of the field. `None` where
/// it is settled so already. Writes nothing. `ids` gives random numbers.
///
/// # Errors
/// [`StoreError::NotFound`] where there is no such conflict; [`StoreError::Rejected`] for a value that the field does not take, or where
/// it is settled otherwise, see [`Settle`].
pub(super) fn author(
    conn: &Connection,
    conflict: &ConflictId,
    value: &Value,
    made: (Hlc, &str),
    ids: &mut dyn FnMut() -> u64,
) -> Result<Option<Edit>, StoreError> {
    match conflict {
        ConflictId::Field(kind, id, field) => author_field(conn, (*kind, *id), field, value, made, ids),
        ConflictId::Duplicate(..) => Err(StoreError::rejected("", "edit or delete one of the products")),
        ConflictId::Counts(_) | ConflictId::NegativeStock(_) => {
            Err(StoreError::rejected("", "count the product's stock"))
        }
        ConflictId::OverRefund(id) | ConflictId::Contents(_, id) | ConflictId::Unchained(id) => {
            let Some(seen) = in_question(conn, conflict)? else { return Err(StoreError::NotFound("conflict")) };
            if *value != Value::Null {
                return Err(StoreError::rejected("value", "there is nothing to choose: leave it out"));
            }
            let target = (EntityKind::Review, *id);
            let registers = entity::registers(conn, target)?.unwrap_or_default();
            Ok(registers.edit(target, [(review_field(conflict), Value::Int(seen))], true, made, ids))
        }
    }
}

fn author_field(
    conn: &Connection,
    target: (EntityKind, Uuid),
    field: &str,
    value: &Value,
    made: (Hlc, &str),
    ids: &mut dyn FnMut() -> u64,
) -> Result<Option<Edit>, StoreError> {
    let registers = entity::registers(conn, target)?.ok_or(StoreError::NotFound("conflict"))?;
    let Some((_, heads)) = fields_of(target.0, &registers).find(|(name, _)| *name == field) else {
        let settled = registers.value(field) == value && registers.shown(field).is_some();
        return if settled { Ok(None) } else { Err(StoreError::NotFound("conflict")) };
    };
    // Of a field that a later version knows, one of its own values is all that can be known to be right.
    let is_one_of_them = heads.iter().any(|head| head.value == *value);
    if field == ALIVE {
        let Value::Bool(alive) = value else { return Err(StoreError::rejected("value", "true or false")) };
        return Ok(registers.edit(target, [], *alive, made, ids));
    }
    if fields::is_known(target.0, field) {
        fields::check(target.0, field, value).map_err(|fault| StoreError::rejected("value", fault.message))?;
    } else if !is_one_of_them {
        return Err(StoreError::rejected("value", "one of the values in conflict"));
    }
    Ok(registers.edit(target, [(field.to_owned(), value.clone())], registers.is_alive(), made, ids))
}

/// The field of a review that settles this conflict.
fn review_field(conflict: &ConflictId) -> String {
    match conflict {
        ConflictId::Contents(RecordKind::Ticket, _) => "ticketContents",
        ConflictId::Contents(RecordKind::Refund, _) => "refundContents",
        ConflictId::Contents(RecordKind::Movement, _) => "movementContents",
        ConflictId::OverRefund(_) => "overRefund",
        _ => "unchained",
    }
    .to_owned()
}

/// How many records are in question in a conflict that a person's word settles; `None` where there is no such conflict, settled or not.
fn in_question(conn: &Connection, conflict: &ConflictId) -> Result<Option<i64>, StoreError> {
    let (flag, id, sql) = match conflict {
        ConflictId::OverRefund(id) => {
            (Flag::OverRefund, id, "SELECT count(*) FROM refund WHERE ticket = ?1 AND counts")
        }
        ConflictId::Contents(RecordKind::Ticket, id) => {
            (Flag::TicketContents, id, "SELECT count(*) FROM ticket WHERE id = ?1")
        }
        ConflictId::Contents(RecordKind::Refund, id) => {
            (Flag::RefundContents, id, "SELECT count(*) FROM refund WHERE id = ?1")
        }
        ConflictId::Contents(RecordKind::Movement, id) => {
            (Flag::MovementContents, id, "SELECT count(*) FROM movement WHERE id = ?1")
        }
        ConflictId::Unchained(id) => {
            let sql = "SELECT 1 FROM unchained WHERE ticket_idx IN (SELECT idx FROM ticket WHERE id = ?1)";
            return Ok(conn.prepare_cached(sql)?.exists([id.as_bytes()])?.then_some(1));
        }
        _ => return Ok(None),
    };
    if !is_marked(conn, flag, id.as_bytes())? {
        return Ok(None);
    }
    Ok(Some(conn.prepare_cached(sql)?.query_row([id.as_bytes()], |row| row.get(0))?))
}

/// Whether a person has looked at all the records in question.
fn is_seen(conn: &Connection, conflict: &ConflictId, id: Uuid, in_question: i64) -> Result<bool, StoreError> {
    let review = entity::registers(conn, (EntityKind::Review, id))?.unwrap_or_default();
    Ok(review.value(&review_field(conflict)) == &Value::Int(in_question))
}

impl Reader {
    /// Conflicts that are not settled: fields first, less than nothing in stock last. At most `limit`, and never more than 1000: settle
    /// some to see more.
    ///
    /// # Errors
    /// The database's.
    pub fn conflicts(&self, limit: usize) -> Result<Vec<ConflictView>, StoreError> {
        self.snapshot(|reader| {
            let conn = reader.conn();
            let ids = ids(conn, limit.clamp(1, LIMIT_MAX))?;
            ids.into_iter().filter_map(|id| find(conn, id).transpose()).collect()
        })
    }

    /// A conflict; `None` where there is none of that id, or it is settled.
    ///
    /// # Errors
    /// The database's.
    pub fn conflict(&self, id: &ConflictId) -> Result<Option<ConflictView>, StoreError> {
        self.snapshot(|reader| find(reader.conn(), id.clone()))
    }
}

/// Conflicts that are not settled, at most `limit`, in an order that is the same on all tills.
fn ids(conn: &Connection, limit: usize) -> Result<Vec<ConflictId>, StoreError> {
    let mut ids = Vec::new();
    let mut contested = conn
        .prepare_cached("SELECT entity_idx FROM contested CROSS JOIN entity ON idx = entity_idx ORDER BY kind, id")?;
    let mut rows = contested.query([])?;
    while let Some(row) = rows.next()? {
        if ids.len() >= limit {
            break;
        }
        if let Some(view) = entity::view_at(conn, row.get(0)?)? {
            let fields = fields_of(view.kind, &view.registers);
            ids.extend(fields.map(|(field, _)| ConflictId::Field(view.kind, view.id, field.to_owned())));
        }
    }
    for conflict in flagged(conn)?.into_iter().chain(unchained(conn)?) {
        if ids.len() >= limit {
            break;
        }
        if is_open(conn, &conflict)? {
            ids.push(conflict);
        }
    }
    let mut below = conn.prepare_cached("SELECT product FROM stock WHERE total < 0 ORDER BY product LIMIT ?1")?;
    let below = below.query_map([limit as i64], |row| Ok(Uuid::from_bytes(row.get(0)?)))?;
    for product in below {
        ids.push(ConflictId::NegativeStock(product?));
    }
    ids.truncate(limit);
    Ok(ids)
}

/// Conflicts by the table `flag`, seen ones included.
fn flagged(conn: &Connection) -> Result<Vec<ConflictId>, StoreError> {
    let mut flags = conn.prepare_cached("SELECT kind, subject FROM flag ORDER BY kind, subject")?;
    let mut rows = flags.query([])?;
    let mut conflicts = Vec::new();
    while let Some(row) = rows.next()? {
        let (kind, subject): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        conflicts.push(of_mark(kind, subject)?);
    }
    Ok(conflicts)
}

/// Conflicts by the table `unchained`, seen ones included.
fn unchained(conn: &Connection) -> Result<Vec<ConflictId>, StoreError> {
    let mut unchained = conn.prepare_cached(
        "SELECT DISTINCT ticket.id FROM unchained JOIN ticket ON ticket.idx = unchained.ticket_idx ORDER BY ticket.id",
    )?;
    let unchained = unchained.query_map([], |row| Ok(ConflictId::Unchained(Uuid::from_bytes(row.get(0)?))))?;
    Ok(unchained.collect::<Result<_, _>>()?)
}

fn of_mark(kind: i64, subject: Vec<u8>) -> Result<ConflictId, StoreError> {
    let damaged = || StoreError::Damaged(format!("a mark of kind {kind}"));
    if kind == Flag::Sku as i64 || kind == Flag::Barcode as i64 {
        let code = if kind == Flag::Sku as i64 { Code::Sku } else { Code::Barcode };
        return Ok(ConflictId::Duplicate(code, String::from_utf8(subject).map_err(|_| damaged())?));
    }
    let id = Uuid::from_slice(&subject).map_err(|_| damaged())?;
    [
        (Flag::TicketContents, ConflictId::Contents(RecordKind::Ticket, id)),
        (Flag::RefundContents, ConflictId::Contents(RecordKind::Refund, id)),
        (Flag::MovementContents, ConflictId::Contents(RecordKind::Movement, id)),
        (Flag::OverRefund, ConflictId::OverRefund(id)),
        (Flag::Counts, ConflictId::Counts(id)),
    ]
    .into_iter()
    .find_map(|(flag, conflict)| (flag as i64 == kind).then_some(conflict))
    .ok_or_else(damaged)
}

/// Whether a marked conflict is not settled by a person's word.
fn is_open(conn: &Connection, conflict: &ConflictId) -> Result<bool, StoreError> {
    let (ConflictId::OverRefund(id) | ConflictId::Contents(_, id) | ConflictId::Unchained(id)) = conflict else {
        return Ok(true);
    };
    match in_question(conn, conflict)? {
        Some(records) => Ok(!is_seen(conn, conflict, *id, records)?),
        None => Ok(false),
    }
}

/// Conflicts that are not settled, in numbers.
pub(super) struct Open {
    pub(super) all: u64,
    /// Tickets of which more was refunded than sold.
    pub(super) over_refunds: u64,
    /// Products with less than nothing in stock.
    pub(super) negative_stocks: u64,
}

/// How many conflicts are not settled.
pub(super) fn count(conn: &Connection) -> Result<Open, StoreError> {
    let number = |sql: &str| -> Result<u64, StoreError> {
        Ok(conn.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.cast_unsigned())
    };
    let fields = number("SELECT coalesce(sum(fields), 0) FROM contested")?;
    let below = number("SELECT count(*) FROM stock WHERE total < 0")?;
    let mut open = Open { all: fields + below, over_refunds: 0, negative_stocks: below };
    let mut marked = flagged(conn)?;
    // While rows of a snapshot come, most tickets are without the one before them: nobody has looked through so many.
    match number("SELECT count(DISTINCT ticket_idx) FROM unchained")? {
        many if many > LIMIT_MAX as u64 => open.all += many,
        _ => marked.extend(unchained(conn)?),
    }
    for conflict in marked {
        let counts = u64::from(is_open(conn, &conflict)?);
        open.all += counts;
        open.over_refunds += if matches!(conflict, ConflictId::OverRefund(_)) { counts } else { 0 };
    }
    Ok(open)
}

/// A conflict that is not settled.
fn find(conn: &Connection, id: ConflictId) -> Result<Option<ConflictView>, StoreError> {
    let (settle, sides) = match &id {
        ConflictId::Field(kind, entity, field) => (Settle::Choose, heads(conn, (*kind, *entity), field)?),
        ConflictId::Duplicate(code, text) => (Settle::Edit, products(conn, *code, text)?),
        ConflictId::Counts(product) => (Settle::Count, counts(conn, *product)?),
        ConflictId::NegativeStock(product) => {
            let total = stock::total(conn, *product)?;
            let side = Side { pos_id: String::new(), at_ms: 0, says: Says::Stock(total) };
            (Settle::Count, if total.0 < 0 { vec![side] } else { Vec::new() })
        }
        ConflictId::OverRefund(_) | ConflictId::Contents(..) | ConflictId::Unchained(_) if !is_open(conn, &id)? => {
            return Ok(None);
        }
        ConflictId::OverRefund(ticket) => {
            let refunds = refunds::of_ticket(conn, *ticket)?;
            (Settle::Seen, refunds.into_iter().map(Side::of_refund).collect())
        }
        ConflictId::Contents(kind, record) => (Settle::Seen, contents(conn, *kind, *record)?),
        ConflictId::Unchained(ticket) => {
            let tickets = record::bodies(conn, "SELECT body FROM ticket WHERE id = ?1 AND counts", *ticket)?;
            (Settle::Seen, tickets.into_iter().map(Side::of_ticket).collect())
        }
    };
    Ok((!sides.is_empty()).then_some(ConflictView { id, settle, sides }))
}

fn heads(conn: &Connection, target: (EntityKind, Uuid), field: &str) -> Result<Vec<Side>, StoreError> {
    let Some(registers) = entity::registers(conn, target)? else { return Ok(Vec::new()) };
    let Some((_, heads)) = fields_of(target.0, &registers).find(|(name, _)| *name == field) else {
        return Ok(Vec::new());
    };
    let mut heads: Vec<&RegisterHead> = heads.iter().collect();
    heads.sort_by_key(|head| std::cmp::Reverse((head.hlc, head.id)));
    Ok(heads.into_iter().take(SIDES_MAX).map(Side::of_head).collect())
}

/// The products that have a code, in an order that is the same on all tills; one or none is no conflict.
fn products(conn: &Connection, code: Code, text: &str) -> Result<Vec<Side>, StoreError> {
    let sql = match code {
        Code::Sku => "SELECT idx FROM entity WHERE sku = ?1 ORDER BY id LIMIT ?2",
        Code::Barcode => "SELECT idx FROM entity WHERE barcode = ?1 ORDER BY id LIMIT ?2",
    };
    let mut rows = conn.prepare_cached(sql)?;
    let rows: Vec<i64> = rows.query_map((text, SIDES_MAX as i64), |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut sides = Vec::new();
    for idx in rows {
        if let Some(view) = entity::view_at(conn, idx)?
            && let Some(latest) = view.registers.latest()
        {
            sides.push(Side { says: Says::Product(view.id), ..Side::of_head(latest) });
        }
    }
    Ok(if sides.len() > 1 { sides } else { Vec::new() })
}

/// The counts of a product that none replaces; one or none is no conflict.
fn counts(conn: &Connection, product: Uuid) -> Result<Vec<Side>, StoreError> {
    let heads = counted::heads(conn, product)?;
    if heads.len() < 2 {
        return Ok(Vec::new());
    }
    let mut sides = Vec::new();
    for id in heads.into_iter().take(SIDES_MAX) {
        let counts = record::bodies(conn, "SELECT body FROM movement WHERE id = ?1 AND counts", id)?;
        sides.extend(counts.into_iter().map(Side::of_movement));
    }
    Ok(sides)
}

/// The contents under one id, the one that counts first.
fn contents(conn: &Connection, kind: RecordKind, id: Uuid) -> Result<Vec<Side>, StoreError> {
    Ok(match kind {
        RecordKind::Ticket => {
            let tickets = record::bodies(conn, "SELECT body FROM ticket WHERE id = ?1 ORDER BY hash LIMIT 100", id)?;
            tickets.into_iter().map(Side::of_ticket).collect()
        }
        RecordKind::Refund => {
            let refunds = record::bodies(conn, "SELECT body FROM refund WHERE id = ?1 ORDER BY hash LIMIT 100", id)?;
            refunds.into_iter().map(Side::of_refund).collect()
        }
        RecordKind::Movement => {
            let moves = record::bodies(conn, "SELECT body FROM movement WHERE id = ?1 ORDER BY hash LIMIT 100", id)?;
            moves.into_iter().map(Side::of_movement).collect()
        }
    })
}

impl Side {
    fn of_head(head: &RegisterHead) -> Self {
        Self { pos_id: head.by.clone(), at_ms: head.hlc.ms(), says: Says::Value(head.value.clone()) }
    }

    fn of_record(made: &Made, says: Says) -> Self {
        Self { pos_id: made.pos_id.clone(), at_ms: made.at_ms, says }
    }

    fn of_ticket(ticket: Ticket) -> Self {
        Self::of_record(&ticket.made.clone(), Says::Ticket(Box::new(ticket)))
    }

    fn of_refund(refund: Refund) -> Self {
        Self::of_record(&refund.made.clone(), Says::Refund(Box::new(refund)))
    }

    fn of_movement(movement: Movement) -> Self {
        Self::of_record(&movement.made.clone(), Says::Movement(Box::new(movement)))
    }
}
