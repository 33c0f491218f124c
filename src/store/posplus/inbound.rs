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
    PosCategory, PosLine, PosProduct, PosStatus, PosTicket, Thing, customer_in, movement_of, speaker_of, till_of,
};
use crate::model::register::{EntityKind, Registers, Value};
use crate::model::ticket::{Line, Made, Payment, Sale, Ticket};

use super::super::entity::{self, Change};
use super::super::error::StoreError;
use super::super::request::Reply;
use super::super::stock;
use super::super::tickets;
use super::super::work::Work;
use super::outbound;
use super::{
    EXTRAS, IS, POS_ID, PosHeard, PosSaid, PosStock, ROW, SAID, SPEAKER, TOLD, TOLD_MAX, alias_at, is_of, latest_ms,
    maybe, product_of_sku, text, text_of, thing_at, told_as, told_of,
};

type Fields = BTreeMap<String, Value>;

impl Work<'_> {
    /// Takes in what a POSPlus till said.
    pub(in crate::store) fn posplus(&mut self, pos_id: &str, said: PosSaid) -> Result<Reply, StoreError> {
        let heard = match said {
            PosSaid::Ticket(ticket) => self.pos_ticket(pos_id, &ticket)?,
            PosSaid::Product { product, live, stock } => self.pos_product(pos_id, &product, live, &stock)?,
            PosSaid::Deleted(product) => self.pos_deleted(pos_id, &product)?,
            PosSaid::Category { category, live } => self.pos_category(pos_id, &category, live)?,
            PosSaid::Customer(customer) => self.pos_customer(pos_id, &customer)?,
            PosSaid::Stock { row, stock } => match thing_at(self.conn, Thing::Product, pos_id, row)? {
                Some(product) => self.pos_stock(pos_id, product, &stock)?,
                None => PosHeard { unknown: true, ..PosHeard::default() },
            },
            PosSaid::Read(words) => self.pos_read(pos_id, words)?,
            PosSaid::Speaker(till) => self.pos_speaker(pos_id, till)?,
        };
        Ok(Reply::Posplus(Box::new(heard)))
    }

    /// Edits an entity in a POSPlus till's name; nothing where it is so already.
    pub(super) fn pos_edit(
        &mut self,
        pos_id: &str,
        target: (EntityKind, Uuid),
        fields: Fields,
    ) -> Result<(), StoreError> {
        let registers = entity::registers(self.conn, target)?.unwrap_or_default();
        let hlc = self.tick();
        let entropy = &mut *self.entropy;
        let edit = registers.edit(target, fields, true, (hlc, pos_id), || entropy.u64());
        edit.map_or(Ok(()), |edit| self.author_edit(edit))
    }

    /// Remembers which of our things a row is, and what else is known of it.
    pub(super) fn pos_alias(
        &mut self,
        pos_id: &str,
        thing: Thing,
        row: i64,
        id: Uuid,
        known: &[(&str, Value)],
    ) -> Result<(), StoreError> {
        let alias = alias_at(self.conn, thing, pos_id, row)?;
        if is_of(&alias) == Some(id) && known.iter().all(|(field, value)| alias.value(field) == value) {
            return Ok(());
        }
        let fields = [(IS, Value::Id(id)), (POS_ID, text(pos_id)), (ROW, Value::Int(row))];
        let fields = fields.into_iter().chain(known.iter().cloned()).map(|(name, value)| (name.to_owned(), value));
        self.pos_edit(pos_id, (EntityKind::Posplus, thing.alias(pos_id, row)), fields.collect())
    }

    /// Remembers what a till was told and has read.
    fn pos_read(&mut self, pos_id: &str, words: Vec<(Thing, i64, i64)>) -> Result<PosHeard, StoreError> {
        for (thing, row, content) in words {
            let alias = alias_at(self.conn, thing, pos_id, row)?;
            let mut told = told_of(&alias);
            let latest = told.last().copied().map_or_else(|| alias.value(SAID).clone(), Value::Int);
            let Some(id) = is_of(&alias).filter(|_| latest != Value::Int(content)) else { continue };
            told.push(content);
            let first = told.len().saturating_sub(TOLD_MAX);
            self.pos_alias(pos_id, thing, row, id, &[(TOLD, told_as(&told[first..]))])?;
        }
        Ok(PosHeard::default())
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
        let customer = said.customer.map(|row| self.pos_buyer(pos_id, row)).transpose()?;
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

    /// Who is in this row of its customers. No list tells of them, so a sale does not wait: one of whom nothing was said is found under this
    /// row as soon as something is, unless it is a customer who is here under another row's word.
    fn pos_buyer(&mut self, pos_id: &str, row: i64) -> Result<Uuid, StoreError> {
        if let Some(known) = thing_at(self.conn, Thing::Customer, pos_id, row)? {
            return Ok(known);
        }
        let id = customer_in(pos_id, row);
        self.pos_alias(pos_id, Thing::Customer, row, id, &[])?;
        Ok(id)
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
        let alias = alias_at(self.conn, Thing::Product, pos_id, said.row)?;
        let known = is_of(&alias);
        let by_sku = product_of_sku(self.conn, &said.sku)?;
        let id = by_sku.or(known).unwrap_or_else(|| Thing::Product.of_key(&said.sku));
        let target = (EntityKind::Product, id);
        let former = entity::registers(self.conn, target)?;
        let content = said.content(self.pos_category_name(pos_id, said)?.as_deref());
        let now_ms = self.tick().ms();
        let ours = match entity::view(self.conn, EntityKind::Product, id)? {
            Some(view) if view.alive => Some(outbound::content(self.conn, &view)?),
            _ => None,
        };
        let word = Word { alias: &alias, id, content, stamp_ms: said.updated_ms.min(now_ms) };
        let ours_newer = !live && former.as_ref().is_some_and(|former| word.is_older(former, ours));
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
        self.pos_alias(pos_id, Thing::Product, said.row, id, &word.kept(live))?;
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

    /// The name of a product's category, by its own word or by its row.
    fn pos_category_name(&self, pos_id: &str, said: &PosProduct) -> Result<Option<String>, StoreError> {
        if said.category_name.is_some() {
            return Ok(said.category_name.clone());
        }
        let Some(id) = thing_at(self.conn, Thing::Category, pos_id, said.category)? else { return Ok(None) };
        Ok(entity::registers(self.conn, (EntityKind::Category, id))?.and_then(|registers| text_of(&registers, "name")))
    }

    fn pos_category(&mut self, pos_id: &str, said: &PosCategory, live: bool) -> Result<PosHeard, StoreError> {
        let alias = alias_at(self.conn, Thing::Category, pos_id, said.row)?;
        let named = category_named(self.conn, &said.name)?;
        let id = named.or(is_of(&alias)).unwrap_or_else(|| Thing::Category.of_key(&said.name));
        let target = (EntityKind::Category, id);
        let former = entity::registers(self.conn, target)?;
        let ours = match entity::view(self.conn, EntityKind::Category, id)? {
            Some(view) if view.alive => Some(outbound::category(self.conn, pos_id, &view)?.content()),
            _ => None,
        };
        let now_ms = self.tick().ms();
        let word = Word { alias: &alias, id, content: said.content(), stamp_ms: said.updated_ms.min(now_ms) };
        if live || former.is_none_or(|former| !word.is_older(&former, ours)) {
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
        self.pos_alias(pos_id, Thing::Category, said.row, id, &word.kept(live))?;
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

/// What a till says of a thing, beside what it said and was told of it before.
struct Word<'a> {
    alias: &'a Registers,
    id: Uuid,
    content: i64,
    /// How new it is by that till's clock; never newer than now.
    stamp_ms: u64,
}

impl Word<'_> {
    /// Whether that till is known to have had this content of this thing.
    fn is_known(&self, content: i64) -> bool {
        let said = self.alias.value(SAID) == &Value::Int(content);
        is_of(self.alias) == Some(self.id) && (said || told_of(self.alias).contains(&content))
    }

    /// Whether what is here, with the content `ours`, counts more than what a list of that till says.
    fn is_older(&self, former: &Registers, ours: Option<i64>) -> bool {
        if self.is_known(self.content) {
            return true;
        }
        // Nobody here has changed it since that till had it as it is here.
        if ours.is_some_and(|ours| self.is_known(ours)) {
            return false;
        }
        latest_ms(former) >= self.stamp_ms
    }

    /// What is remembered of it. Who says what it was told may still refuse what it was told after; who says something else has its own.
    fn kept(&self, live: bool) -> Vec<(&'static str, Value)> {
        let said = Value::Int(self.content);
        let is_same = is_of(self.alias) == Some(self.id);
        if is_same && !live && self.alias.value(SAID) == &said {
            return Vec::new();
        }
        let told = if is_same && !live { told_of(self.alias) } else { Vec::new() };
        let after = told.iter().rposition(|content| *content == self.content).map_or(told.len(), |place| place + 1);
        vec![(SAID, said), (TOLD, told_as(&told[after..]))]
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
