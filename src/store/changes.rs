//! What changed, in order of arrival, local and remote alike.

use rusqlite::Connection;

use crate::model::id::Uuid;
use crate::model::movement::Movement;
use crate::model::ticket::Refund;

use super::entity::EntityView;
use super::error::StoreError;
use super::tickets::TicketView;
use super::view::Cursor;

/// What kind of thing changed. The numbers are in the database.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(i64)]
pub enum ChangeKind {
    /// A ticket came.
    Ticket = 1,
    /// A refund came.
    Refund = 2,
    /// Stock moved by itself.
    Movement = 3,
    /// A product changed.
    Product = 4,
    /// A category changed.
    Category = 5,
    /// A customer changed.
    Customer = 6,
}

/// One change.
#[derive(Clone, PartialEq, Debug)]
pub struct ChangeItem {
    /// Its place: go on after it.
    pub cursor: Cursor,
    /// What changed.
    pub kind: ChangeKind,
    /// Its id.
    pub id: Uuid,
    /// The human id of the till that made the change.
    pub pos_id: String,
    /// How it is now.
    pub value: ChangeValue,
    /// Products whose stock it moved.
    pub products: Vec<Uuid>,
}

/// How the thing that changed is now.
#[derive(Clone, PartialEq, Debug)]
pub enum ChangeValue {
    /// A ticket.
    Ticket(Box<TicketView>),
    /// A refund.
    Refund(Box<Refund>),
    /// A movement.
    Movement(Box<Movement>),
    /// A product, category or customer.
    Entity(Box<EntityView>),
}

/// Notes a change of the record or entity whose row is `reference`; gives its place.
pub(super) fn record(conn: &Connection, kind: ChangeKind, reference: i64) -> Result<u64, StoreError> {
    conn.prepare_cached("INSERT INTO change (kind, ref) VALUES (?1, ?2)")?.execute((kind as i64, reference))?;
    Ok(conn.last_insert_rowid().cast_unsigned())
}
