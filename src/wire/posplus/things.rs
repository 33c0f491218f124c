//! Tickets, products, categories and customers, both ways.

use serde_json::{Map, Value};

use super::number::{Decimals, ROW_MAX, decimal, quantity, rate};
use super::time::{iso, parse};
use super::{ITEMS_MAX, PosError};
use crate::model::amount::{Money, Quantity};
use crate::model::posplus::{PosCategory, PosCustomer, PosLine, PosPayment, PosProduct, PosStatus, PosTicket};
use crate::model::ticket::{LINES_MAX, PAYMENTS_MAX, PaymentMethod};

/// The longest code (sku, number), in characters.
const CODE_CHARS_MAX: usize = 100;
/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 200;
/// The longest of all other texts, in characters.
const TEXT_CHARS_MAX: usize = 2000;

/// An object of a message, and where it stands there.
pub(super) struct Object<'a> {
    path: String,
    map: &'a Map<String, Value>,
}

impl<'a> Object<'a> {
    pub(super) fn new(path: impl Into<String>, value: &'a Value) -> Result<Self, PosError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self { path, map }),
            other => Err(PosError::at(path, format!("an object is needed, not {}", sort_of(other)))),
        }
    }

    fn wrong(&self, key: &str, what: impl Into<String>) -> PosError {
        PosError::at(format!("{}.{key}", self.path), what)
    }

    /// A value that is there and not null.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn need(&self, key: &str) -> Result<&'a Value, PosError> {
        self.get(key).ok_or_else(|| self.wrong(key, "it must be there"))
    }

    fn text_of(&self, key: &str, value: &'a Value, chars_max: usize) -> Result<&'a str, PosError> {
        let Value::String(text) = value else {
            return Err(self.wrong(key, format!("a text is needed, not {}", sort_of(value))));
        };
        if text.chars().count() > chars_max {
            return Err(self.wrong(key, format!("at most {chars_max} characters")));
        }
        Ok(text)
    }

    /// A text that must be there.
    pub(super) fn text(&self, key: &str, chars_max: usize) -> Result<String, PosError> {
        Ok(self.text_of(key, self.need(key)?, chars_max)?.to_owned())
    }

    /// A text that must be there and say something.
    pub(super) fn word(&self, key: &str, chars_max: usize) -> Result<String, PosError> {
        let text = self.text(key, chars_max)?;
        if text.trim().is_empty() { Err(self.wrong(key, "it must not be empty")) } else { Ok(text) }
    }

    /// A text that may be missing or empty.
    fn maybe(&self, key: &str, chars_max: usize) -> Result<Option<String>, PosError> {
        let text = self.get(key).map(|value| self.text_of(key, value, chars_max)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()).map(str::to_owned))
    }

    fn float(&self, key: &str) -> Result<f64, PosError> {
        let value = self.need(key)?;
        value.as_f64().ok_or_else(|| self.wrong(key, format!("a number is needed, not {}", sort_of(value))))
    }

    fn money(&self, key: &str, decimals: Decimals) -> Result<Money, PosError> {
        decimals.money(self.float(key)?).map_err(|error| self.wrong(key, error.to_string()))
    }

    pub(super) fn quantity(&self, key: &str) -> Result<Quantity, PosError> {
        quantity(self.float(key)?).map_err(|error| self.wrong(key, error.to_string()))
    }

    fn rate(&self, key: &str) -> Result<i64, PosError> {
        if self.get(key).is_none() {
            return Ok(0);
        }
        rate(self.float(key)?).map_err(|error| self.wrong(key, error.to_string()))
    }

    /// A row number.
    pub(super) fn row(&self, key: &str) -> Result<i64, PosError> {
        let value = self.need(key)?;
        let whole = value.as_i64().or_else(|| value.as_f64().filter(|f| f.fract() == 0.0).map(|f| f as i64));
        whole
            .filter(|row| (0..=ROW_MAX).contains(row))
            .ok_or_else(|| self.wrong(key, "a whole number from 0 to 9007199254740991 is needed"))
    }

    fn maybe_row(&self, key: &str) -> Result<Option<i64>, PosError> {
        self.get(key).map(|_| self.row(key)).transpose()
    }

    /// True or false; SQLite has 1 and 0.
    pub(super) fn flag(&self, key: &str) -> Result<bool, PosError> {
        match self.need(key)? {
            Value::Bool(flag) => Ok(*flag),
            Value::Number(n) if n.as_i64() == Some(0) => Ok(false),
            Value::Number(n) if n.as_i64() == Some(1) => Ok(true),
            other => Err(self.wrong(key, format!("true or false is needed, not {}", sort_of(other)))),
        }
    }

    /// A time that must be there.
    pub(super) fn time(&self, key: &str) -> Result<u64, PosError> {
        parse(&self.text(key, CODE_CHARS_MAX)?)
            .ok_or_else(|| self.wrong(key, "a time is needed, as 2025-11-23T10:00:00.000Z"))
    }

    /// A list that must be there, each item read by `read`.
    fn list<T>(
        &self,
        key: &str,
        most: usize,
        read: impl Fn(&Object<'_>) -> Result<T, PosError>,
    ) -> Result<Vec<T>, PosError> {
        let value = self.need(key)?;
        let Value::Array(items) = value else {
            return Err(self.wrong(key, format!("a list is needed, not {}", sort_of(value))));
        };
        if items.len() > most.min(ITEMS_MAX) {
            return Err(self.wrong(key, format!("at most {most} items")));
        }
        let items = items.iter().enumerate();
        items.map(|(n, item)| read(&Object::new(format!("{}.{key}[{n}]", self.path), item)?)).collect()
    }
}

fn sort_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Writes objects: keys in order, what is `None` left out.
#[derive(Default)]
pub(super) struct Writer(Map<String, Value>);

impl Writer {
    pub(super) fn put(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    fn maybe(self, key: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    fn money(self, key: &str, money: Money, decimals: Decimals) -> Self {
        self.put(key, Value::Number(decimals.number(money)))
    }

    pub(super) fn thousandths(self, key: &str, n: i64) -> Self {
        self.put(key, Value::Number(decimal(n, 1000)))
    }

    pub(super) fn done(self) -> Value {
        Value::Object(self.0)
    }
}

pub(super) fn read_ticket(o: &Object<'_>, decimals: Decimals) -> Result<PosTicket, PosError> {
    let lines = o.list("lines", LINES_MAX, |line| read_line(line, decimals))?;
    if lines.is_empty() {
        return Err(o.wrong("lines", "a ticket has at least one line"));
    }
    Ok(PosTicket {
        row: o.row("id")?,
        number: o.word("ticketNumber", CODE_CHARS_MAX)?,
        user: o.row("userId")?,
        customer: o.maybe_row("customerId")?,
        session: o.row("sessionId")?,
        subtotal: o.money("subtotal", decimals)?,
        discount: o.money("discountAmount", decimals)?,
        total: o.money("totalAmount", decimals)?,
        status: read_status(o)?,
        created: o.text("createdAt", CODE_CHARS_MAX)?,
        created_ms: o.time("createdAt")?,
        updated_ms: o.time("updatedAt")?,
        lines,
        payments: o.list("payments", PAYMENTS_MAX, |payment| read_payment(payment, decimals))?,
    })
}

const STATUSES: [(PosStatus, &str); 5] = [
    (PosStatus::Pending, "pending"),
    (PosStatus::Completed, "completed"),
    (PosStatus::Cancelled, "cancelled"),
    (PosStatus::Refunded, "refunded"),
    (PosStatus::PartiallyRefunded, "partially_refunded"),
];

fn read_status(o: &Object<'_>) -> Result<PosStatus, PosError> {
    let word = o.text("status", CODE_CHARS_MAX)?;
    let known = STATUSES.iter().find(|(_, known)| *known == word);
    known.map(|(status, _)| *status).ok_or_else(|| o.wrong("status", "there is no such status"))
}

fn read_line(o: &Object<'_>, decimals: Decimals) -> Result<PosLine, PosError> {
    let quantity = o.quantity("quantity")?;
    if quantity.0 == 0 {
        return Err(o.wrong("quantity", "it must be more than zero"));
    }
    Ok(PosLine {
        row: o.row("id")?,
        product: o.row("productId")?,
        name: o.text("productName", NAME_CHARS_MAX)?,
        sku: o.text("productSku", CODE_CHARS_MAX)?,
        quantity,
        unit_price: o.money("unitPrice", decimals)?,
        discount_rate: o.rate("discountRate")?,
        discount: o.money("discountAmount", decimals)?,
        total: o.money("totalAmount", decimals)?,
    })
}

const METHODS: [(PaymentMethod, &str); 5] = [
    (PaymentMethod::Cash, "cash"),
    (PaymentMethod::Card, "card"),
    (PaymentMethod::Transfer, "transfer"),
    (PaymentMethod::Check, "check"),
    (PaymentMethod::Other, "other"),
];

fn read_payment(o: &Object<'_>, decimals: Decimals) -> Result<PosPayment, PosError> {
    let word = o.text("method", CODE_CHARS_MAX)?;
    let method = METHODS.iter().find(|(_, known)| *known == word).map(|(method, _)| *method);
    Ok(PosPayment {
        row: o.row("id")?,
        method: method.ok_or_else(|| o.wrong("method", "there is no such method"))?,
        amount: o.money("amount", decimals)?,
        reference: o.maybe("reference", TEXT_CHARS_MAX)?,
    })
}

/// A ticket as POSPlus has it; lines and payments name it by its own row.
pub(super) fn write_ticket(ticket: &PosTicket, decimals: Decimals) -> Value {
    let created = iso(ticket.created_ms);
    let lines: Vec<Value> = ticket
        .lines
        .iter()
        .map(|line| {
            Writer::default()
                .put("id", line.row)
                .put("ticketId", ticket.row)
                .put("productId", line.product)
                .put("productName", line.name.as_str())
                .put("productSku", line.sku.as_str())
                .thousandths("quantity", line.quantity.0)
                .money("unitPrice", line.unit_price, decimals)
                .thousandths("discountRate", line.discount_rate)
                .money("discountAmount", line.discount, decimals)
                .money("totalAmount", line.total, decimals)
                .put("createdAt", created.as_str())
                .done()
        })
        .collect();
    let payments: Vec<Value> = ticket
        .payments
        .iter()
        .map(|payment| {
            Writer::default()
                .put("id", payment.row)
                .put("ticketId", ticket.row)
                .put("method", word(&METHODS, payment.method))
                .money("amount", payment.amount, decimals)
                .maybe("reference", payment.reference.as_deref())
                .put("createdAt", created.as_str())
                .done()
        })
        .collect();
    Writer::default()
        .put("id", ticket.row)
        .put("ticketNumber", ticket.number.as_str())
        .put("userId", ticket.user)
        .maybe("customerId", ticket.customer)
        .money("subtotal", ticket.subtotal, decimals)
        .money("discountAmount", ticket.discount, decimals)
        .money("totalAmount", ticket.total, decimals)
        .put("sessionId", ticket.session)
        .put("status", word(&STATUSES, ticket.status))
        .put("createdAt", created.as_str())
        .put("updatedAt", iso(ticket.updated_ms))
        .put("lines", lines)
        .put("payments", payments)
        .done()
}

/// The word of a variant.
fn word<T: PartialEq>(words: &[(T, &'static str)], wanted: T) -> &'static str {
    words.iter().find(|(known, _)| *known == wanted).map_or("other", |(_, word)| word)
}

pub(super) fn read_product(o: &Object<'_>, decimals: Decimals) -> Result<PosProduct, PosError> {
    let or_zero = |key: &str| if o.get(key).is_some() { o.quantity(key) } else { Ok(Quantity(0)) };
    Ok(PosProduct {
        row: o.row("id")?,
        sku: o.word("sku", CODE_CHARS_MAX)?,
        barcode: o.maybe("barcode", CODE_CHARS_MAX)?,
        name: o.word("name", NAME_CHARS_MAX)?,
        description: o.maybe("description", TEXT_CHARS_MAX)?,
        category: o.row("categoryId")?,
        category_name: o.maybe("categoryName", NAME_CHARS_MAX)?,
        price: o.money("price", decimals)?,
        cost: o.money("cost", decimals)?,
        discount_rate: o.rate("discountRate")?,
        stock: o.quantity("stock")?,
        min_stock: or_zero("minStock")?,
        max_stock: or_zero("maxStock")?,
        unit: o.text("unit", CODE_CHARS_MAX)?,
        active: o.flag("isActive")?,
        image: o.maybe("imageUrl", TEXT_CHARS_MAX)?,
        created_ms: o.time("createdAt")?,
        updated_ms: o.time("updatedAt")?,
    })
}

pub(super) fn write_product(product: &PosProduct, decimals: Decimals) -> Value {
    Writer::default()
        .put("id", product.row)
        .put("sku", product.sku.as_str())
        .maybe("barcode", product.barcode.as_deref())
        .put("name", product.name.as_str())
        .maybe("description", product.description.as_deref())
        .put("categoryId", product.category)
        .maybe("categoryName", product.category_name.as_deref())
        .money("price", product.price, decimals)
        .money("cost", product.cost, decimals)
        .thousandths("discountRate", product.discount_rate)
        .thousandths("stock", product.stock.0)
        .thousandths("minStock", product.min_stock.0)
        .thousandths("maxStock", product.max_stock.0)
        .put("unit", product.unit.as_str())
        .put("isActive", product.active)
        .maybe("imageUrl", product.image.as_deref())
        .put("createdAt", iso(product.created_ms))
        .put("updatedAt", iso(product.updated_ms))
        .done()
}

pub(super) fn read_category(o: &Object<'_>) -> Result<PosCategory, PosError> {
    Ok(PosCategory {
        row: o.row("id")?,
        name: o.word("name", NAME_CHARS_MAX)?,
        description: o.maybe("description", TEXT_CHARS_MAX)?,
        parent: o.maybe_row("parentId")?,
        display_order: o.maybe_row("displayOrder")?,
        active: o.flag("isActive")?,
        created_ms: o.time("createdAt")?,
        updated_ms: o.time("updatedAt")?,
    })
}

pub(super) fn write_category(category: &PosCategory) -> Value {
    Writer::default()
        .put("id", category.row)
        .put("name", category.name.as_str())
        .maybe("description", category.description.as_deref())
        .maybe("parentId", category.parent)
        .maybe("displayOrder", category.display_order)
        .put("isActive", category.active)
        .put("createdAt", iso(category.created_ms))
        .put("updatedAt", iso(category.updated_ms))
        .done()
}

pub(super) fn read_customer(o: &Object<'_>) -> Result<PosCustomer, PosError> {
    Ok(PosCustomer {
        row: o.row("id")?,
        number: o.word("customerNumber", CODE_CHARS_MAX)?,
        first_name: o.word("firstName", NAME_CHARS_MAX)?,
        last_name: o.word("lastName", NAME_CHARS_MAX)?,
        company: o.maybe("companyName", NAME_CHARS_MAX)?,
        email: o.maybe("email", 254)?,
        phone: o.maybe("phone", CODE_CHARS_MAX)?,
        address: o.maybe("address", TEXT_CHARS_MAX)?,
        city: o.maybe("city", NAME_CHARS_MAX)?,
        postal_code: o.maybe("postalCode", CODE_CHARS_MAX)?,
        country: o.maybe("country", NAME_CHARS_MAX)?,
        active: o.flag("isActive")?,
        notes: o.maybe("notes", TEXT_CHARS_MAX)?,
        created_ms: o.time("createdAt")?,
        updated_ms: o.time("updatedAt")?,
    })
}

pub(super) fn write_customer(customer: &PosCustomer) -> Value {
    Writer::default()
        .put("id", customer.row)
        .put("customerNumber", customer.number.as_str())
        .put("firstName", customer.first_name.as_str())
        .put("lastName", customer.last_name.as_str())
        .maybe("companyName", customer.company.as_deref())
        .maybe("email", customer.email.as_deref())
        .maybe("phone", customer.phone.as_deref())
        .maybe("address", customer.address.as_deref())
        .maybe("city", customer.city.as_deref())
        .maybe("postalCode", customer.postal_code.as_deref())
        .maybe("country", customer.country.as_deref())
        .put("isActive", customer.active)
        .maybe("notes", customer.notes.as_deref())
        .put("createdAt", iso(customer.created_ms))
        .put("updatedAt", iso(customer.updated_ms))
        .done()
}
