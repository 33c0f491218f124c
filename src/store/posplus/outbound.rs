//! From our records to their words.

use std::collections::{BTreeSet, HashMap};

use rusqlite::Connection;
use serde_json::Value as Json;

use crate::model::amount::{Money, Quantity};
use crate::model::id::Uuid;
use crate::model::posplus::{
    PosCategory, PosCustomer, PosLine, PosPayment, PosProduct, PosStatus, PosTicket, Thing, till_of,
};
use crate::model::register::{EntityKind, Registers, Value};
use crate::model::ticket::TicketStatus;

use super::super::changes::ChangeValue;
use super::super::entity::{self, EntityQuery, EntityView};
use super::super::error::StoreError;
use super::super::reader::Reader;
use super::super::stock;
use super::super::tickets::{self, TicketView};
use super::super::view::{Cursor, Page};
use super::customers::customer;
use super::{EXTRAS, latest_ms, ledger_end, row_of, row_or_ours, text_of};

/// Something to tell a POSPlus till.
#[derive(Clone, PartialEq, Debug)]
pub enum PosNews {
    /// A sale. User and session are the config's.
    Ticket {
        /// The sale.
        ticket: Box<PosTicket>,
        /// The record.
        id: Uuid,
        /// The change that brought it.
        cursor: u64,
        /// Whether that till has its products.
        rows: PosRows,
    },
    /// A product; whether that till is known to have it.
    Product(Box<PosProduct>, bool),
    /// A product that is gone.
    Deleted(Box<PosProduct>),
    /// A category.
    Category(Box<PosCategory>),
    /// A customer; whether that till is known to have it.
    Customer(Box<PosCustomer>, bool),
    /// What is in stock of a product that it has.
    Stock {
        /// The product.
        product: Uuid,
        /// Its row there.
        row: i64,
        /// How many.
        quantity: Quantity,
    },
}

/// Whether a POSPlus till has rows for the products of a sale. POSPlus loses a sale of a product that it does not have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PosRows {
    /// It has them all.
    Known,
    /// It will say in which row it has put one that it was given.
    Awaited,
    /// It will not: sold without a product, or one that was taken away before that till had it.
    Never,
}

/// What there is to tell a POSPlus till.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PosOutbox {
    /// In order.
    pub news: Vec<PosNews>,
    /// Go on after this change.
    pub cursor: u64,
    /// Where our ledger stood.
    pub ledger: i64,
    /// Whether there is more by now.
    pub more: bool,
}

impl Reader {
    /// What has changed after a place and was not said by that till itself. Stock goes last: as it is now.
    ///
    /// # Errors
    /// The database's.
    pub fn posplus_outbox(&self, pos_id: &str, after: u64, limit: usize) -> Result<PosOutbox, StoreError> {
        self.snapshot(|reader| {
            let conn = reader.conn();
            let page = reader.changes(Cursor(after), limit)?;
            let (mut news, mut moved) = (Vec::new(), BTreeSet::new());
            let mut cursor = after;
            for item in page.items {
                cursor = item.cursor.0;
                moved.extend(item.products);
                match item.value {
                    ChangeValue::Ticket(view) if view.ticket.made.till != till_of(pos_id) => {
                        let (ticket, rows) = ticket(conn, pos_id, &view)?;
                        news.push(PosNews::Ticket {
                            ticket: Box::new(ticket),
                            id: view.ticket.id,
                            cursor: item.cursor.0,
                            rows,
                        });
                    }
                    // It said this itself, as it is.
                    ChangeValue::Entity(view) if view.registers.latest().is_some_and(|head| head.by == pos_id) => {}
                    ChangeValue::Entity(view) => news.extend(entity_news(conn, pos_id, &view)?),
                    _ => {}
                }
            }
            for product in moved {
                if let Some(row) = row_of(conn, Thing::Product, pos_id, product)? {
                    news.push(PosNews::Stock { product, row, quantity: said(stock::total(conn, product)?) });
                }
            }
            // What lies between the last row that is shown and the end was superseded.
            let cursor = page.next.map_or(reader.last_change()?.max(cursor), |next| next.0);
            Ok(PosOutbox { news, cursor, ledger: ledger_end(conn)?, more: page.next.is_some() })
        })
    }

    /// Products that changed since a time, in that till's words, some after a place.
    ///
    /// # Errors
    /// The database's.
    pub fn posplus_products(
        &self,
        pos_id: &str,
        since_ms: u64,
        missing_only: bool,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<PosProduct>, StoreError> {
        self.snapshot(|reader| {
            let mut query = EntityQuery::all(EntityKind::Product, limit);
            query.after = after;
            let page = reader.entities(&query)?;
            let (mut items, mut rows) = (Vec::new(), HashMap::new());
            for view in &page.items {
                let row = row_of(reader.conn(), Thing::Product, pos_id, view.id)?;
                let is_wanted = if missing_only { row.is_none() } else { latest_ms(&view.registers) >= since_ms };
                if is_wanted {
                    items.push(product(reader.conn(), pos_id, view, row, &mut rows)?);
                }
            }
            Ok(Page { items, next: page.next })
        })
    }

    /// Categories in that till's words, some after a place.
    ///
    /// # Errors
    /// The database's.
    pub fn posplus_categories(
        &self,
        pos_id: &str,
        missing_only: bool,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page<PosCategory>, StoreError> {
        self.snapshot(|reader| {
            let mut query = EntityQuery::all(EntityKind::Category, limit);
            query.after = after;
            let page = reader.entities(&query)?;
            let mut items = Vec::new();
            for view in &page.items {
                if !missing_only || row_of(reader.conn(), Thing::Category, pos_id, view.id)?.is_none() {
                    items.push(category(reader.conn(), pos_id, view)?);
                }
            }
            Ok(Page { items, next: page.next })
        })
    }

    /// One sale in that till's words, and whether that till has its products.
    ///
    /// # Errors
    /// The database's.
    pub fn posplus_ticket(&self, pos_id: &str, id: Uuid) -> Result<Option<(PosTicket, PosRows)>, StoreError> {
        self.snapshot(|reader| {
            let view = tickets::view(reader.conn(), id)?;
            view.map(|view| ticket(reader.conn(), pos_id, &view)).transpose()
        })
    }

    /// One product in that till's words.
    ///
    /// # Errors
    /// The database's.
    pub fn posplus_product(&self, pos_id: &str, id: Uuid) -> Result<Option<(PosProduct, bool)>, StoreError> {
        self.snapshot(|reader| {
            let Some(view) = entity::view(reader.conn(), EntityKind::Product, id)? else { return Ok(None) };
            let row = row_of(reader.conn(), Thing::Product, pos_id, id)?;
            Ok(Some((product(reader.conn(), pos_id, &view, row, &mut HashMap::new())?, row.is_some())))
        })
    }
}

/// POSPlus knows no less than nothing in stock.
fn said(quantity: Quantity) -> Quantity {
    quantity.max(Quantity(0))
}

fn entity_news(conn: &Connection, pos_id: &str, view: &EntityView) -> Result<Option<PosNews>, StoreError> {
    Ok(match view.kind {
        EntityKind::Product => {
            let row = row_of(conn, Thing::Product, pos_id, view.id)?;
            let product = Box::new(product(conn, pos_id, view, row, &mut HashMap::new())?);
            match (view.alive, row) {
                (true, row) => Some(PosNews::Product(product, row.is_some())),
                (false, Some(_)) => Some(PosNews::Deleted(product)),
                (false, None) => None,
            }
        }
        EntityKind::Category if view.alive => Some(PosNews::Category(Box::new(category(conn, pos_id, view)?))),
        EntityKind::Customer if view.alive => {
            let row = row_of(conn, Thing::Customer, pos_id, view.id)?;
            Some(PosNews::Customer(Box::new(customer(conn, view, row)?), row.is_some()))
        }
        _ => None,
    })
}

fn number(registers: &Registers, field: &str) -> i64 {
    match registers.value(field) {
        Value::Int(n) => *n,
        _ => 0,
    }
}

/// A product in that till's words. Its category's row is looked for among all that is in that category, so who tells of many products at once
/// remembers it in `rows`.
fn product(
    conn: &Connection,
    pos_id: &str,
    view: &EntityView,
    row: Option<i64>,
    rows: &mut HashMap<Uuid, Option<i64>>,
) -> Result<PosProduct, StoreError> {
    let category = match view.registers.value("categoryId") {
        Value::Id(id) => match rows.get(id) {
            Some(known) => *known,
            None => {
                let known = row_of(conn, Thing::Category, pos_id, *id)?;
                rows.insert(*id, known);
                known
            }
        },
        _ => None,
    };
    product_in(conn, view, row, category)
}

/// What tells the contents of a product of ours apart, in POSPlus's words.
pub(super) fn content(conn: &Connection, view: &EntityView) -> Result<i64, StoreError> {
    let product = product_in(conn, view, None, None)?;
    Ok(product.content(product.category_name.as_deref()))
}

fn product_in(
    conn: &Connection,
    view: &EntityView,
    row: Option<i64>,
    category: Option<i64>,
) -> Result<PosProduct, StoreError> {
    let r = &view.registers;
    // POSPlus has no product without a category; the first is there from its first start.
    let category = category.unwrap_or(1);
    let category_name = match r.value("categoryId") {
        Value::Id(id) => {
            let registers = entity::registers(conn, (EntityKind::Category, *id))?.unwrap_or_default();
            text_of(&registers, "name")
        }
        _ => None,
    };
    let extras: Json = match r.value(EXTRAS) {
        Value::Json(json) => serde_json::from_str(json).unwrap_or_default(),
        _ => Json::Null,
    };
    let extra_text = |key: &str| extras[key].as_str().map(str::to_owned);
    Ok(PosProduct {
        row: row_or_ours(row, view.cursor),
        sku: text_of(r, "sku").unwrap_or_default(),
        barcode: text_of(r, "barcode"),
        name: text_of(r, "name").unwrap_or_default(),
        description: extra_text("description"),
        category,
        category_name,
        price: Money(number(r, "price")),
        cost: Money(number(r, "cost")),
        discount_rate: extras["discountRate"].as_i64().unwrap_or(0),
        stock: said(view.stock.unwrap_or_default()),
        min_stock: Quantity(number(r, "minStock")),
        max_stock: Quantity(extras["maxStock"].as_i64().unwrap_or(0)),
        unit: text_of(r, "unit").unwrap_or_else(|| "pièce".to_owned()),
        active: r.value("active") != &Value::Bool(false),
        image: extra_text("imageUrl"),
        created_ms: latest_ms(r),
        updated_ms: latest_ms(r),
    })
}

pub(super) fn category(conn: &Connection, pos_id: &str, view: &EntityView) -> Result<PosCategory, StoreError> {
    let r = &view.registers;
    let parent = match r.value("parentId") {
        Value::Id(id) => row_of(conn, Thing::Category, pos_id, *id)?,
        _ => None,
    };
    let order = number(r, "displayOrder");
    Ok(PosCategory {
        row: row_or_ours(row_of(conn, Thing::Category, pos_id, view.id)?, view.cursor),
        name: text_of(r, "name").unwrap_or_default(),
        description: None,
        parent,
        display_order: (order > 0).then_some(order),
        active: r.value("active") != &Value::Bool(false),
        created_ms: latest_ms(r),
        updated_ms: latest_ms(r),
    })
}

/// In which row a POSPlus till has what was sold; or why in none.
fn sold_in(conn: &Connection, pos_id: &str, product: Option<Uuid>) -> Result<Result<i64, PosRows>, StoreError> {
    let Some(id) = product else { return Ok(Err(PosRows::Never)) };
    if let Some(row) = row_of(conn, Thing::Product, pos_id, id)? {
        return Ok(Ok(row));
    }
    let is_gone = entity::registers(conn, (EntityKind::Product, id))?.is_some_and(|registers| !registers.is_alive());
    Ok(Err(if is_gone { PosRows::Never } else { PosRows::Awaited }))
}

/// A sale as that till is told of it. It is to be told where that till has all its products; else lines name no row.
fn ticket(conn: &Connection, pos_id: &str, view: &TicketView) -> Result<(PosTicket, PosRows), StoreError> {
    let sale = &view.ticket.sale;
    let row = row_or_ours(None, view.cursor);
    let (mut lines, mut rows) = (Vec::with_capacity(sale.lines.len()), PosRows::Known);
    for (line, n) in sale.lines.iter().zip(1..) {
        let product = sold_in(conn, pos_id, line.product)?.unwrap_or_else(|why| {
            rows = rows.max(why);
            0
        });
        lines.push(PosLine {
            row: row.saturating_mul(1000).saturating_add(n),
            product,
            name: line.name.clone(),
            sku: line.sku.clone().unwrap_or_default(),
            quantity: line.quantity,
            unit_price: line.unit_price,
            discount_rate: 0,
            discount: line.discount,
            total: line.total().unwrap_or_default(),
        });
    }
    let payments = sale.payments.iter().zip(1..).map(|(payment, n)| PosPayment {
        row: row.saturating_mul(1000).saturating_add(n),
        method: payment.method,
        amount: payment.amount.max(Money(0)),
        reference: payment.reference.clone(),
    });
    let customer = match sale.customer {
        Some(id) => row_of(conn, Thing::Customer, pos_id, id)?,
        None => None,
    };
    let created_ms = view.ticket.made.at_ms;
    let ticket = PosTicket {
        row,
        number: view.ticket.number.clone(),
        user: 1,
        customer,
        session: 1,
        subtotal: view.totals.subtotal,
        discount: view.totals.discount,
        total: view.totals.total,
        status: match view.status {
            TicketStatus::Completed => PosStatus::Completed,
            TicketStatus::Cancelled => PosStatus::Cancelled,
            TicketStatus::Refunded => PosStatus::Refunded,
            TicketStatus::PartiallyRefunded => PosStatus::PartiallyRefunded,
        },
        created: String::new(),
        created_ms,
        updated_ms: created_ms,
        lines,
        payments: payments.collect(),
    };
    Ok((ticket, rows))
}
