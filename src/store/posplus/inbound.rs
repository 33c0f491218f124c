//! From their words to our records.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::json;

use crate::model::amount::{Money, Quantity};
use crate::model::clock::ClockQuality;
use crate::model::id::{TillId, Uuid};
use crate::model::movement::{Movement, MovementKind};
use crate::model::op::Body;
use crate::model::posplus::{
    PosCategory, PosCustomer, PosLine, PosProduct, PosStatus, PosTicket, Thing, movement_of, speaker_of, till_of,
};
use crate::model::register::{EntityKind, Value};
use crate::model::ticket::{Line, Made, Payment, Sale, Ticket};

use super::super::entity::{self, Change};
use super::super::error::StoreError;
use super::super::request::Reply;
use super::super::stock;
use super::super::tickets;
use super::super::work::Work;
use super::{EXTRAS, IS, POS_ID, PosHeard, PosSaid, PosStock, ROW, SPEAKER, product_of_sku, thing_at};

type Fields = BTreeMap<String, Value>;

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn maybe(value: Option<&String>) -> Value {
    value.map_or(Value::Null, |value| text(value))
}

impl Work<'_> {
    /// Takes in what a POSPlus till said.
    pub(in crate::store) fn posplus(&mut self, pos_id: &str, said: PosSaid) -> Result<Reply, StoreError> {
        let heard = match said {
            PosSaid::Ticket(ticket) => self.pos_ticket(pos_id, &ticket)?,
            PosSaid::Product { product, live, stock } => self.pos_product(pos_id, &product, live, &stock)?,
            PosSaid::Deleted(product) => self.pos_deleted(pos_id, &product)?,
            PosSaid::Category(category) => self.pos_category(pos_id, &category)?,
            PosSaid::Customer(customer) => self.pos_customer(pos_id, &customer)?,
            PosSaid::Stock { row, stock } => match thing_at(self.conn, Thing::Product, pos_id, row)? {
                Some(product) => self.pos_stock(pos_id, product, &stock)?,
                None => PosHeard { unknown: true, ..PosHeard::default() },
            },
            PosSaid::Speaker(till) => self.pos_speaker(pos_id, till)?,
        };
        Ok(Reply::Posplus(Box::new(heard)))
    }

    /// Edits an entity in a POSPlus till's name; nothing where it is so already.
    fn pos_edit(&mut self, pos_id: &str, target: (EntityKind, Uuid), fields: Fields) -> Result<(), StoreError> {
        let registers = entity::registers(self.conn, target)?.unwrap_or_default();
        let hlc = self.tick();
        let entropy = &mut *self.entropy;
        let edit = registers.edit(target, fields, true, (hlc, pos_id), || entropy.u64());
        edit.map_or(Ok(()), |edit| self.author_edit(edit))
    }

    /// Remembers which of our things a row is.
    fn pos_alias(&mut self, pos_id: &str, thing: Thing, row: i64, id: Uuid) -> Result<(), StoreError> {
        if thing_at(self.conn, thing, pos_id, row)? == Some(id) {
            return Ok(());
        }
        let fields = [(IS, Value::Id(id)), (POS_ID, text(pos_id)), (ROW, Value::Int(row))];
        let fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
        self.pos_edit(pos_id, (EntityKind::Posplus, thing.alias(pos_id, row)), fields)
    }

    fn pos_speaker(&mut self, pos_id: &str, till: Option<TillId>) -> Result<PosHeard, StoreError> {
        let value = till.map_or(Value::Null, |till| Value::Text(till.to_string()));
        let by = self.author.pos_id.clone();
        self.pos_edit(&by, (EntityKind::Posplus, speaker_of(pos_id)), [(SPEAKER.to_owned(), value)].into())?;
        Ok(PosHeard::default())
    }

    /// By whom and when, of a movement that follows from a POSPlus till's words.
    fn pos_made(&self, pos_id: &str, at_ms: u64) -> Made {
        Made { till: till_of(pos_id), pos_id: pos_id.to_owned(), at_ms, clock: ClockQuality::Untrusted }
    }

    fn pos_ticket(&mut self, pos_id: &str, said: &PosTicket) -> Result<PosHeard, StoreError> {
        let id = said.record_id(pos_id);
        if tickets::find(self.conn, id)?.is_some() {
            return Ok(PosHeard::default());
        }
        let mut lines = Vec::with_capacity(said.lines.len());
        for line in &said.lines {
            lines.push(self.pos_line(pos_id, line)?);
        }
        let customer = match said.customer {
            Some(row) => thing_at(self.conn, Thing::Customer, pos_id, row)?,
            None => None,
        };
        let payments = said.payments.iter().map(|payment| Payment {
            method: payment.method,
            amount: payment.amount,
            reference: payment.reference.clone(),
        });
        let mut sale = Sale {
            cashier: Some(format!("POSPlus {}", said.user)),
            customer,
            notes: None,
            lines,
            payments: payments.collect(),
        };
        take_off(&mut sale, said.total);
        let differs = sale.totals().map(|totals| totals.total) != Some(said.total);
        sale.notes = differs.then(|| "the total that POSPlus says differs from its lines".to_owned());
        tickets::check(&sale)?;
        let made = self.pos_made(pos_id, said.created_ms);
        let (currency, previous) = (self.author.currency, [0; 32]);
        let ticket = Ticket { id, number: said.number.clone(), made, currency, sale, previous };
        let moved = ticket.movements().collect();
        let hlc = self.tick();
        let body = Body::Ticket(ticket);
        let op = self.op(&body, hlc)?;
        let rec = self.fold(&body, &op, &mut [0; 32])?;
        self.append(op, rec, None)?;
        self.flush_stock()?;
        if matches!(said.status, PosStatus::Cancelled | PosStatus::Refunded) {
            self.cancel(None, id, Some("POSPlus".to_owned()))?;
            self.flush_stock()?;
            return Ok(PosHeard::default());
        }
        Ok(PosHeard { moved, ..PosHeard::default() })
    }

    fn pos_line(&mut self, pos_id: &str, line: &PosLine) -> Result<Line, StoreError> {
        let known = thing_at(self.conn, Thing::Product, pos_id, line.product)?;
        let by_sku = if line.sku.is_empty() { None } else { product_of_sku(self.conn, &line.sku)? };
        // One that is not here yet is told of later, and has this id then.
        let by_name = (!line.sku.is_empty()).then(|| Thing::Product.of_key(&line.sku));
        let names = [&line.name, &line.sku];
        let name = names.into_iter().find(|name| !name.trim().is_empty()).cloned().unwrap_or_else(|| "?".to_owned());
        let gross = crate::model::amount::extend(line.quantity, line.unit_price).unwrap_or_default();
        Ok(Line {
            product: by_sku.or(known).or(by_name),
            sku: Some(line.sku.clone()).filter(|sku| !sku.is_empty()),
            name,
            quantity: line.quantity,
            unit_price: line.unit_price,
            discount: Money((gross.0 - line.total.0).clamp(0, gross.0)),
        })
    }

    fn pos_product(
        &mut self,
        pos_id: &str,
        said: &PosProduct,
        live: bool,
        stock: &PosStock,
    ) -> Result<PosHeard, StoreError> {
        let known = thing_at(self.conn, Thing::Product, pos_id, said.row)?;
        let by_sku = product_of_sku(self.conn, &said.sku)?;
        let id = by_sku.or(known).unwrap_or_else(|| Thing::Product.of_key(&said.sku));
        let target = (EntityKind::Product, id);
        let former = entity::registers(self.conn, target)?;
        let latest = former.as_ref().and_then(|registers| registers.latest().map(|head| head.hlc.ms()));
        let ours_newer = !live && latest.is_some_and(|at_ms| at_ms >= said.updated_ms);
        let fields = self.pos_fields(pos_id, said)?;
        let differs = former.as_ref().is_none_or(|registers| {
            !registers.is_alive() || fields.iter().any(|(field, value)| registers.value(field) != value)
        });
        // Taken away here, and still in a list there: that till is not told of it again, and does not bring it back.
        let gone = former.as_ref().is_some_and(|registers| !registers.is_alive()) && ours_newer;
        if differs && !ours_newer {
            fields
                .iter()
                .try_for_each(|(field, value)| super::super::fields::check(EntityKind::Product, field, value))?;
            self.pos_edit(pos_id, target, fields)?;
        }
        self.pos_alias(pos_id, Thing::Product, said.row, id)?;
        let before = if former.is_none() { Some(stock::total(self.conn, id)?) } else { stock.before };
        let mut heard = if known == Some(id) || before.is_some() {
            let fresh = PosStock { before, ..stock.clone() };
            self.pos_stock(pos_id, id, &fresh)?
        } else {
            self.pos_first_stock(pos_id, id, stock)?
        };
        heard.ours_newer = ours_newer && differs && !gone;
        Ok(heard)
    }

    fn pos_fields(&mut self, pos_id: &str, said: &PosProduct) -> Result<Fields, StoreError> {
        let mut fields = Fields::new();
        let mut put = |name: &str, value| fields.insert(name.to_owned(), value);
        put("sku", text(&said.sku));
        put("name", text(&said.name));
        put("barcode", maybe(said.barcode.as_ref()));
        put("price", Value::Int(said.price.0));
        put("cost", Value::Int(said.cost.0));
        put("unit", text(&said.unit));
        put("minStock", Value::Int(said.min_stock.0));
        put("active", Value::Bool(said.active));
        // POSPlus's other fields, so that a till of its own gets them back as they were.
        let extras = json!({
            "description": said.description, "discountRate": said.discount_rate, "maxStock": said.max_stock.0,
            "imageUrl": said.image,
        });
        put(EXTRAS, Value::Json(extras.to_string()));
        let known = thing_at(self.conn, Thing::Category, pos_id, said.category)?;
        let category = match (&said.category_name, known) {
            (Some(name), _) => Some(self.pos_category_of(pos_id, name)?),
            (None, known) => known,
        };
        if let Some(category) = category {
            fields.insert("categoryId".to_owned(), Value::Id(category));
        }
        Ok(fields)
    }

    /// The category of a name; made where there is none.
    fn pos_category_of(&mut self, pos_id: &str, name: &str) -> Result<Uuid, StoreError> {
        if let Some(id) = category_named(self.conn, name)? {
            return Ok(id);
        }
        let id = Thing::Category.of_key(name);
        self.pos_edit(pos_id, (EntityKind::Category, id), [("name".to_owned(), text(name))].into())?;
        Ok(id)
    }

    fn pos_deleted(&mut self, pos_id: &str, said: &PosProduct) -> Result<PosHeard, StoreError> {
        let id = match product_of_sku(self.conn, &said.sku)? {
            Some(id) => Some(id),
            None => thing_at(self.conn, Thing::Product, pos_id, said.row)?,
        };
        let Some(id) = id else { return Ok(PosHeard::default()) };
        let hlc = self.tick();
        let entropy = &mut *self.entropy;
        let target = (EntityKind::Product, id);
        let edit = entity::author(self.conn, target, &Change::Delete, (hlc, pos_id), &mut || entropy.u64())?;
        edit.map_or(Ok(()), |edit| self.author_edit(edit))?;
        Ok(PosHeard { product: Some(id), ..PosHeard::default() })
    }

    fn pos_category(&mut self, pos_id: &str, said: &PosCategory) -> Result<PosHeard, StoreError> {
        let known = thing_at(self.conn, Thing::Category, pos_id, said.row)?;
        let named = category_named(self.conn, &said.name)?;
        let id = named.or(known).unwrap_or_else(|| Thing::Category.of_key(&said.name));
        let target = (EntityKind::Category, id);
        let latest = entity::registers(self.conn, target)?.and_then(|r| r.latest().map(|head| head.hlc.ms()));
        if latest.is_none_or(|at_ms| at_ms < said.updated_ms) {
            let mut fields: Fields =
                [("name".to_owned(), text(&said.name)), ("active".to_owned(), Value::Bool(said.active))].into();
            if let Some(order) = said.display_order {
                fields.insert("displayOrder".to_owned(), Value::Int(order));
            }
            if let Some(parent) = said.parent
                && let Some(parent) = thing_at(self.conn, Thing::Category, pos_id, parent)?
            {
                fields.insert("parentId".to_owned(), Value::Id(parent));
            }
            self.pos_edit(pos_id, target, fields)?;
        }
        self.pos_alias(pos_id, Thing::Category, said.row, id)?;
        Ok(PosHeard::default())
    }

    fn pos_customer(&mut self, pos_id: &str, said: &PosCustomer) -> Result<PosHeard, StoreError> {
        // The number is what tills share; the row is gone by for one that is numbered anew.
        let numbered = Thing::Customer.of_key(&said.number);
        let known = thing_at(self.conn, Thing::Customer, pos_id, said.row)?;
        let is_here = entity::registers(self.conn, (EntityKind::Customer, numbered))?.is_some();
        let id = known.filter(|_| !is_here).unwrap_or(numbered);
        let parts = [&said.address, &said.postal_code, &said.city, &said.country].map(Option::as_deref);
        let address: Vec<&str> = parts.into_iter().flatten().collect();
        let fields = [
            ("firstName", text(&said.first_name)),
            ("lastName", text(&said.last_name)),
            ("companyName", maybe(said.company.as_ref())),
            ("email", maybe(said.email.as_ref())),
            ("phone", maybe(said.phone.as_ref())),
            ("address", if address.is_empty() { Value::Null } else { text(&address.join(", ")) }),
            ("notes", maybe(said.notes.as_ref())),
            ("active", Value::Bool(said.active)),
        ];
        let fields: Fields = fields.map(|(name, value)| (name.to_owned(), value)).into();
        fields.iter().try_for_each(|(field, value)| super::super::fields::check(EntityKind::Customer, field, value))?;
        self.pos_edit(pos_id, (EntityKind::Customer, id), fields)?;
        self.pos_alias(pos_id, Thing::Customer, said.row, id)?;
        Ok(PosHeard::default())
    }

    /// The first that this till says of a product that is here already: where both say another quantity, nobody can tell which sales are
    /// in which, and ours stays.
    fn pos_first_stock(&mut self, pos_id: &str, product: Uuid, said: &PosStock) -> Result<PosHeard, StoreError> {
        let ours = stock::total(self.conn, product)?;
        let never_moved = !self
            .conn
            .prepare_cached("SELECT 1 FROM stock WHERE product = ?1 AND idx IN (SELECT stock_idx FROM ledger)")?
            .exists([product.as_bytes()])?;
        if ours == said.quantity || never_moved {
            return self.pos_stock(pos_id, product, &PosStock { before: Some(ours), ..said.clone() });
        }
        let differs = Some(said.quantity);
        Ok(PosHeard { product: Some(product), stock: ours, differs, ..PosHeard::default() })
    }

    fn pos_stock(&mut self, pos_id: &str, product: Uuid, said: &PosStock) -> Result<PosHeard, StoreError> {
        let ours = stock::total(self.conn, product)?;
        let before = match said.before {
            Some(before) => before,
            None => match before(self.conn, pos_id, product, (ours, said))? {
                Some(before) => before,
                None => {
                    let differs = Some(said.quantity);
                    return Ok(PosHeard { product: Some(product), stock: ours, differs, ..PosHeard::default() });
                }
            },
        };
        let delta = Quantity(said.quantity.0 - before.0);
        let id = movement_of(pos_id, &said.message, product);
        let known = self.conn.prepare_cached("SELECT 1 FROM movement WHERE id = ?1")?.exists([id.as_bytes()])?;
        if delta.0 == 0 || known {
            return Ok(PosHeard { product: Some(product), stock: ours, ..PosHeard::default() });
        }
        let hlc = self.tick();
        let made = self.pos_made(pos_id, self.made(hlc).at_ms);
        let (kind, reference) = (MovementKind::Adjustment, Some(format!("POSPlus {pos_id}")));
        let movement = Movement { id, product, kind, quantity: delta, delta, replaces: Vec::new(), reference, made };
        let body = Body::Movement(movement);
        let op = self.op(&body, hlc)?;
        let rec = self.fold(&body, &op, &mut [0; 32])?;
        self.append(op, rec, None)?;
        self.flush_stock()?;
        let moved = vec![(product, delta)];
        let stock = stock::total(self.conn, product)?;
        Ok(PosHeard { product: Some(product), stock, moved, ..PosHeard::default() })
    }
}

/// Spreads what is taken off the whole over the lines, from the last one.
fn take_off(sale: &mut Sale, total: Money) {
    let Some(totals) = sale.totals() else { return };
    let mut off = (totals.total.0 - total.0).max(0);
    for line in sale.lines.iter_mut().rev() {
        let Some(left) = line.total() else { return };
        let taken = off.min(left.0);
        line.discount.0 += taken;
        off -= taken;
    }
}

/// What a POSPlus till had before it said how many it has, by what it was told: POSPlus knows no less than nothing. Nothing where nobody knows
/// how far it was told, and what it says is none of what it may have been told: a movement against a guess would be wrong for good.
fn before(
    conn: &Connection,
    pos_id: &str,
    product: Uuid,
    (ours, said): (Quantity, &PosStock),
) -> Result<Option<Quantity>, StoreError> {
    let untold = untold(conn, pos_id, product, said.told)?;
    let mut had = Quantity(ours.0 - untold.iter().map(|(_, delta)| delta).sum::<i64>());
    let certain = had.max(Quantity(0));
    let is_certain = said.maybe_told != i64::MAX || untold.is_empty() || certain == said.quantity;
    let later = untold.into_iter().take_while(|(n, _)| *n <= said.maybe_told).map(|(_, delta)| {
        had.0 += delta;
        had.max(Quantity(0))
    });
    let told = later.filter(|had| *had == said.quantity).last();
    Ok(told.or(is_certain.then_some(certain)))
}

/// What moved stock after a place of the ledger, but for what that till did itself: where, and by how much.
fn untold(conn: &Connection, pos_id: &str, product: Uuid, after: i64) -> Result<Vec<(i64, i64)>, StoreError> {
    let mut query = conn.prepare_cached(
        "SELECT l.n, l.delta FROM ledger l
         LEFT JOIN ticket t ON l.src_kind = 1 AND t.idx = l.src_idx
         LEFT JOIN refund r ON l.src_kind = 2 AND r.idx = l.src_idx
         LEFT JOIN movement m ON l.src_kind = 3 AND m.idx = l.src_idx
         WHERE l.n > ?1 AND l.stock_idx = (SELECT idx FROM stock WHERE product = ?2)
         AND coalesce(t.pos_id, r.pos_id, m.pos_id) <> ?3 ORDER BY l.n",
    )?;
    let rows = query.query_map((after, product.as_bytes(), pos_id), |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The category of this very name: the smallest id, where several have it. A shop has few.
fn category_named(conn: &Connection, name: &str) -> Result<Option<Uuid>, StoreError> {
    let made = Thing::Category.of_key(name);
    let own = entity::registers(conn, (EntityKind::Category, made))?;
    if own.is_some_and(|registers| registers.is_alive() && registers.value("name") == &text(name)) {
        return Ok(Some(made));
    }
    let kind = entity::number(EntityKind::Category);
    let folded = super::super::search::folded(name);
    let mut query = conn
        .prepare_cached("SELECT id FROM entity WHERE kind = ?1 AND alive = 1 AND instr(search, ?2) > 0 ORDER BY id")?;
    let ids = query.query_map((kind, folded), |row| row.get(0))?.collect::<Result<Vec<[u8; 16]>, _>>()?;
    for id in ids.into_iter().map(Uuid::from_bytes) {
        let registers = entity::registers(conn, (EntityKind::Category, id))?.unwrap_or_default();
        if registers.value("name") == &text(name) {
            return Ok(Some(id));
        }
    }
    Ok(None)
}
