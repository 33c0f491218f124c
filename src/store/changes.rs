//! What changed, in order of arrival, local and remote alike.
//!
//! A record has one row, an entity one for each change; but only its newest is read, with the entity as it is then: older ones are
//! superseded. So who goes on from any cursor, however old, misses nothing and is told nothing twice.

use std::collections::BTreeSet;

use rusqlite::Connection;

use crate::model::id::Uuid;
use crate::model::movement::Movement;
use crate::model::ticket::Refund;

use super::entity::{self, EntityView};
use super::error::StoreError;
use super::reader::Reader;
use super::tickets::{self, TicketView};
use super::view::{Cursor, LIMIT_MAX, Page};
use super::{refunds, stock};

/// The most rows looked at at once; superseded ones are looked at and left out.
const SCAN_MAX: usize = 10_000;

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
    let mut rows = conn.prepare_cached("SELECT n, kind, ref FROM change WHERE n > ?1 ORDER BY n LIMIT ?2")?;
    let after = i64::try_from(after.0).unwrap_or(i64::MAX);
    let mut rows = rows.query((after, SCAN_MAX as i64))?;
    let mut page = Page { items: Vec::new(), next: None };
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let cursor = Cursor(row.get::<_, i64>(0)?.cast_unsigned());
        page.items.extend(item(conn, cursor, ChangeKind::of_number(row.get(1)?)?, row.get(2)?)?);
        looked_at += 1;
        if page.items.len() == limit || looked_at == SCAN_MAX {
            page.next = Some(cursor);
            break;
        }
    }
    Ok(page)
}

/// What a row tells; `None` where a newer row of the same entity does.
fn item(conn: &Connection, cursor: Cursor, kind: ChangeKind, reference: i64) -> Result<Option<ChangeItem>, StoreError> {
    let distinct = |products: BTreeSet<Uuid>| products.into_iter().collect();
    Ok(match kind {
        ChangeKind::Ticket => tickets::view_at(conn, reference)?.map(|view| ChangeItem {
            cursor,
            kind,
            id: view.ticket.id,
            pos_id: view.ticket.made.pos_id.clone(),
            products: distinct(view.ticket.movements().map(|(product, _)| product).collect()),
            value: ChangeValue::Ticket(Box::new(view)),
        }),
        ChangeKind::Refund => refunds::at(conn, reference)?.map(|refund| ChangeItem {
            cursor,
            kind,
            id: refund.id,
            pos_id: refund.made.pos_id.clone(),
            products: distinct(refund.movements().map(|(product, _)| product).collect()),
            value: ChangeValue::Refund(Box::new(refund)),
        }),
        ChangeKind::Movement => stock::movement_at(conn, reference)?.map(|movement| ChangeItem {
            cursor,
            kind,
            id: movement.id,
            pos_id: movement.made.pos_id.clone(),
            products: vec![movement.product],
            value: ChangeValue::Movement(Box::new(movement)),
        }),
        ChangeKind::Product | ChangeKind::Category | ChangeKind::Customer => {
            let newest = entity::view_at(conn, reference)?.filter(|(_, newest)| *newest == cursor.0);
            newest.map(|(view, _)| ChangeItem {
                cursor,
                kind,
                id: view.id,
                pos_id: view.registers.latest().map(|head| head.by.clone()).unwrap_or_default(),
                products: Vec::new(),
                value: ChangeValue::Entity(Box::new(view)),
            })
        }
    })
}
