//! What changed, in order of arrival, local and remote alike.
//!
//! A record has one row, and so has an entity: that of its newest change, which is read with the entity as it is then. So who goes on
//! from any cursor, however old, misses nothing and is told nothing twice.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::model::id::Uuid;
use crate::model::movement::Movement;
use crate::model::ticket::Refund;

use super::db::last_change;
use super::entity::{self, EntityView};
use super::error::StoreError;
use super::reader::Reader;
use super::tickets::{self, TicketView};
use super::view::{Cursor, LIMIT_MAX, Page};
use super::{refunds, stock};

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
    /// Products whose stock it moved, each once.
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

/// Notes a change of an entity, in place of its last one; gives its place.
pub(super) fn supersede(conn: &Connection, kind: ChangeKind, reference: i64) -> Result<u64, StoreError> {
    let n = record(conn, kind, reference)?;
    conn.prepare_cached("DELETE FROM change WHERE n = (SELECT change FROM entity WHERE idx = ?1)")?
        .execute([reference])?;
    Ok(n)
}

impl ChangeKind {
    fn of_number(number: i64) -> Result<Self, StoreError> {
        [Self::Ticket, Self::Refund, Self::Movement, Self::Product, Self::Category, Self::Customer]
            .into_iter()
            .find(|kind| *kind as i64 == number)
            .ok_or_else(|| StoreError::Damaged(format!("change of kind {number}")))
    }
}

impl Reader {
    /// What changed after a place. [`Page::next`] is `None` where there is no more by now: go on later after the last item, or after the
    /// same place where there is none.
    ///
    /// # Errors
    /// The database's.
    pub fn changes(&self, after: Cursor, limit: usize) -> Result<Page<ChangeItem>, StoreError> {
        self.snapshot(|reader| page(reader.conn(), after, limit.clamp(1, LIMIT_MAX)))
    }
}

fn page(conn: &Connection, after: Cursor, limit: usize) -> Result<Page<ChangeItem>, StoreError> {
    let after = i64::try_from(after.0).unwrap_or(i64::MAX);
    let mut rows = conn.prepare_cached("SELECT n, kind, ref FROM change WHERE n > ?1 ORDER BY n LIMIT ?2")?;
    let mut rows = rows.query((after, limit as i64))?;
    let (mut items, mut last) = (Vec::new(), after);
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let kind = ChangeKind::of_number(row.get(1)?)?;
        items.extend(value(conn, kind, row.get(2)?)?.map(|value| ChangeItem::of(last, kind, value)));
    }
    let last = last.cast_unsigned();
    Ok(Page { items, next: (last < last_change(conn)?).then_some(Cursor(last)) })
}

fn value(conn: &Connection, kind: ChangeKind, reference: i64) -> Result<Option<ChangeValue>, StoreError> {
    Ok(match kind {
        ChangeKind::Ticket => tickets::view_at(conn, reference)?.map(Box::new).map(ChangeValue::Ticket),
        ChangeKind::Refund => refunds::at(conn, reference)?.map(Box::new).map(ChangeValue::Refund),
        ChangeKind::Movement => stock::movement_at(conn, reference)?.map(Box::new).map(ChangeValue::Movement),
        ChangeKind::Product | ChangeKind::Category | ChangeKind::Customer => {
            entity::view_at(conn, reference)?.map(Box::new).map(ChangeValue::Entity)
        }
    })
}

impl ChangeItem {
    fn of(n: i64, kind: ChangeKind, value: ChangeValue) -> Self {
        let (id, pos_id, products): (_, _, BTreeSet<Uuid>) = match &value {
            ChangeValue::Ticket(view) => {
                let products = view.ticket.movements().map(|(product, _)| product).collect();
                (view.ticket.id, view.ticket.made.pos_id.clone(), products)
            }
            ChangeValue::Refund(refund) => {
                let products = refund.movements().map(|(product, _)| product).collect();
                (refund.id, refund.made.pos_id.clone(), products)
            }
            ChangeValue::Movement(movement) => (movement.id, movement.made.pos_id.clone(), [movement.product].into()),
            ChangeValue::Entity(view) => {
                let by = view.registers.latest().map(|head| head.by.clone()).unwrap_or_default();
                (view.id, by, BTreeSet::new())
            }
        };
        let cursor = Cursor(n.cast_unsigned());
        Self { cursor, kind, id, pos_id, value, products: products.into_iter().collect() }
    }
}
