//! Products, categories and customers.
//!
//! Their registers are named as their JSON fields; a product's free fields are registers named `extra.<key>`, so that two tills that
//! set different keys do not disagree.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::model::amount::{Money, QUANTITY_MAX, Quantity};
use crate::model::id::Uuid;
use crate::model::register::{EntityKind, Registers, Value};
use crate::store::{CODE_CHARS_MAX, EMAIL_CHARS_MAX, EXTRA, EntityView, NAME_CHARS_MAX, NOTES_CHARS_MAX};

use super::super::extract::{Field, FreeFields};
use super::super::limits::{EXTRA_BYTES_MAX, EXTRA_FIELDS_MAX};
use super::super::problem::{Faults, Problem};
use super::{Time, check_name, check_text};

/// One kind of entity, in the API.
pub(in super::super) trait Entity: 'static {
    /// Its kind in the store.
    const KIND: EntityKind;
    /// Its name, as in problems.
    const WHAT: &'static str;
    /// What clients send.
    type Input: DeserializeOwned + Send;
    /// What they read.
    type Shape: Serialize + Send;

    /// Checks what a client sent and notes what it says.
    fn fill(fields: &mut Fields<'_>, input: Self::Input);

    /// As clients read it.
    fn shape(view: EntityView) -> Self::Shape;
}

/// The fields that a request writes.
pub(in super::super) struct Fields<'a> {
    id: Uuid,
    /// For a change of an entity that is here: what it has now. Without it, needed fields must be named.
    present: Option<&'a Registers>,
    faults: Faults,
    values: BTreeMap<String, Value>,
}

impl<'a> Fields<'a> {
    /// Checks the input for an entity: a whole one, or, where it is `present`, a change of it.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(in super::super) fn check<E: Entity>(
        id: Uuid,
        present: Option<&'a Registers>,
        input: E::Input,
    ) -> Result<BTreeMap<String, Value>, Problem> {
        let mut fields = Fields { id, present, faults: Faults::default(), values: BTreeMap::new() };
        super::check_id(&mut fields.faults, "id", id);
        E::fill(&mut fields, input);
        fields.faults.or(fields.values)
    }

    fn needed<T>(&mut self, name: &str, field: Field<T>, check: impl FnOnce(&mut Faults, T) -> Value) {
        match field {
            Field::Absent if self.present.is_none() => self.faults.add(name, "this field is needed"),
            Field::Cleared => self.faults.add(name, "this field cannot be cleared"),
            field => self.optional(name, field, check),
        }
    }

    fn optional<T>(&mut self, name: &str, field: Field<T>, check: impl FnOnce(&mut Faults, T) -> Value) {
        let value = match field {
            Field::Absent => return,
            Field::Cleared => Value::Null,
            Field::Set(value) => check(&mut self.faults, value),
        };
        self.values.insert(name.to_owned(), value);
    }

    fn text(&mut self, name: &'static str, field: Field<String>, len_max: usize) {
        self.optional(name, field, |faults, text| {
            check_text(faults, || name.to_owned(), &text, len_max);
            Value::Text(text)
        });
    }

    fn extra(&mut self, field: Field<FreeFields>) {
        let FreeFields(fields) = match field {
            Field::Absent => return,
            Field::Cleared => return self.clear_extra(),
            Field::Set(fields) => fields,
        };
        let faults = &mut self.faults;
        let extra = || "extra".to_owned();
        faults.require(
            fields.len() <= EXTRA_FIELDS_MAX,
            extra,
            &format!("at most {EXTRA_FIELDS_MAX} fields are allowed"),
        );
        let mut bytes = 0;
        for (key, json) in fields {
            check_name(faults, || format!("extra.{key}"), &key, CODE_CHARS_MAX);
            let value = if json.is_null() { Value::Null } else { Value::Json(json.to_string()) };
            bytes += key.len() + if let Value::Json(text) = &value { text.len() } else { 0 };
            self.values.insert(format!("{EXTRA}{key}"), value);
        }
        faults.require(bytes <= EXTRA_BYTES_MAX, extra, &format!("at most {EXTRA_BYTES_MAX} bytes are allowed"));
    }

    fn clear_extra(&mut self) {
        let present = self.present.into_iter().flat_map(Registers::fields);
        self.values
            .extend(present.filter(|(name, _)| name.starts_with(EXTRA)).map(|(n, _)| (n.to_owned(), Value::Null)));
    }
}

fn name(path: &'static str, len_max: usize) -> impl FnOnce(&mut Faults, String) -> Value {
    move |faults, text| {
        check_name(faults, || path.to_owned(), &text, len_max);
        Value::Text(text)
    }
}

fn price(path: &'static str) -> impl FnOnce(&mut Faults, Money) -> Value {
    move |faults, amount| {
        faults.require(amount.0 >= 0, || path.to_owned(), "a price is zero or more");
        Value::Int(amount.0)
    }
}

fn flag(_: &mut Faults, value: bool) -> Value {
    Value::Bool(value)
}

/// Products.
pub(in super::super) struct Product;

/// A product as clients write it. `null` clears a field; `PUT` clears those that are not named, `PATCH` leaves them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct ProductInput {
    sku: Field<String>,
    name: Field<String>,
    price: Field<Money>,
    barcode: Field<String>,
    cost: Field<Money>,
    category_id: Field<Uuid>,
    unit: Field<String>,
    min_stock: Field<Quantity>,
    #[cfg(feature = "next")]
    #[cfg_attr(test, schemars(skip))]
    allergens: Field<String>,
    active: Field<bool>,
    extra: Field<FreeFields>,
}

/// A product as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Product"))]
pub(in super::super) struct ProductShape {
    id: Uuid,
    sku: Option<String>,
    name: Option<String>,
    price: Option<Money>,
    barcode: Option<String>,
    cost: Option<Money>,
    category_id: Option<Uuid>,
    unit: Option<String>,
    min_stock: Option<Quantity>,
    #[cfg(feature = "next")]
    #[cfg_attr(test, schemars(skip))]
    #[serde(skip_serializing_if = "Option::is_none")]
    allergens: Option<String>,
    active: bool,
    extra: BTreeMap<String, Json>,
    #[cfg_attr(test, schemars(with = "super::QuantitySum"))]
    stock: Quantity,
    updated_at: Time,
    /// The till of the latest edit.
    updated_by: String,
}

impl Entity for Product {
    const KIND: EntityKind = EntityKind::Product;
    const WHAT: &'static str = "product";
    type Input = ProductInput;
    type Shape = ProductShape;

    fn fill(fields: &mut Fields<'_>, input: ProductInput) {
        fields.needed("sku", input.sku, name("sku", CODE_CHARS_MAX));
        fields.needed("name", input.name, name("name", NAME_CHARS_MAX));
        fields.needed("price", input.price, price("price"));
        fields.optional("barcode", input.barcode, name("barcode", CODE_CHARS_MAX));
        fields.optional("cost", input.cost, price("cost"));
        fields.optional("categoryId", input.category_id, |_, id| Value::Id(id));
        fields.text("unit", input.unit, CODE_CHARS_MAX);
        fields.optional("minStock", input.min_stock, |faults, quantity| {
            faults.require(quantity.0 >= 0, || "minStock".to_owned(), "a quantity of zero or more");
            Value::Int(quantity.0)
        });
        #[cfg(feature = "next")]
        fields.text("allergens", input.allergens, NAME_CHARS_MAX);
        fields.optional("active", input.active, flag);
        fields.extra(input.extra);
    }

    fn shape(view: EntityView) -> ProductShape {
        let registers = &view.registers;
        let (updated_at, updated_by) = updated(registers);
        ProductShape {
            id: view.id,
            sku: text(registers, "sku"),
            name: text(registers, "name"),
            price: int(registers, "price").map(Money),
            barcode: text(registers, "barcode"),
            cost: int(registers, "cost").map(Money),
            category_id: id(registers, "categoryId"),
            unit: text(registers, "unit"),
            min_stock: int(registers, "minStock").filter(|n| n.abs() <= QUANTITY_MAX).map(Quantity),
            #[cfg(feature = "next")]
            allergens: text(registers, "allergens"),
            active: active(registers),
            extra: extra(registers),
            stock: view.stock.unwrap_or_default(),
            updated_at,
            updated_by,
        }
    }
}

/// Categories.
pub(in super::super) struct Category;

/// A category as clients write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct CategoryInput {
    name: Field<String>,
    parent_id: Field<Uuid>,
    display_order: Field<i32>,
    active: Field<bool>,
}

/// A category as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Category"))]
pub(in super::super) struct CategoryShape {
    id: Uuid,
    name: Option<String>,
    parent_id: Option<Uuid>,
    display_order: Option<i64>,
    active: bool,
    updated_at: Time,
    /// The till of the latest edit.
    updated_by: String,
}

impl Entity for Category {
    const KIND: EntityKind = EntityKind::Category;
    const WHAT: &'static str = "category";
    type Input = CategoryInput;
    type Shape = CategoryShape;

    fn fill(fields: &mut Fields<'_>, input: CategoryInput) {
        fields.needed("name", input.name, name("name", NAME_CHARS_MAX));
        let own = fields.id;
        fields.optional("parentId", input.parent_id, |faults, parent| {
            faults.require(parent != own, || "parentId".to_owned(), "a category is not its own parent");
            Value::Id(parent)
        });
        fields.optional("displayOrder", input.display_order, |_, order| Value::Int(order.into()));
        fields.optional("active", input.active, flag);
    }

    fn shape(view: EntityView) -> CategoryShape {
        let registers = &view.registers;
        let (updated_at, updated_by) = updated(registers);
        CategoryShape {
            id: view.id,
            name: text(registers, "name"),
            parent_id: id(registers, "parentId"),
            display_order: int(registers, "displayOrder"),
            active: active(registers),
            updated_at,
            updated_by,
        }
    }
}

/// Customers.
pub(in super::super) struct Customer;

/// A customer as clients write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct CustomerInput {
    first_name: Field<String>,
    last_name: Field<String>,
    company_name: Field<String>,
    email: Field<String>,
    phone: Field<String>,
    address: Field<String>,
    notes: Field<String>,
    active: Field<bool>,
}

/// A customer as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Customer"))]
pub(in super::super) struct CustomerShape {
    id: Uuid,
    first_name: Option<String>,
    last_name: Option<String>,
    company_name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    address: Option<String>,
    notes: Option<String>,
    active: bool,
    updated_at: Time,
    /// The till of the latest edit.
    updated_by: String,
}

impl Entity for Customer {
    const KIND: EntityKind = EntityKind::Customer;
    const WHAT: &'static str = "customer";
    type Input = CustomerInput;
    type Shape = CustomerShape;

    fn fill(fields: &mut Fields<'_>, input: CustomerInput) {
        fields.needed("firstName", input.first_name, name("firstName", NAME_CHARS_MAX));
        fields.needed("lastName", input.last_name, name("lastName", NAME_CHARS_MAX));
        fields.text("companyName", input.company_name, NAME_CHARS_MAX);
        fields.text("email", input.email, EMAIL_CHARS_MAX);
        fields.text("phone", input.phone, CODE_CHARS_MAX);
        fields.text("address", input.address, NOTES_CHARS_MAX);
        fields.text("notes", input.notes, NOTES_CHARS_MAX);
        fields.optional("active", input.active, flag);
    }

    fn shape(view: EntityView) -> CustomerShape {
        let registers = &view.registers;
        let (updated_at, updated_by) = updated(registers);
        CustomerShape {
            id: view.id,
            first_name: text(registers, "firstName"),
            last_name: text(registers, "lastName"),
            company_name: text(registers, "companyName"),
            email: text(registers, "email"),
            phone: text(registers, "phone"),
            address: text(registers, "address"),
            notes: text(registers, "notes"),
            active: active(registers),
            updated_at,
            updated_by,
        }
    }
}

// A register may hold a value of another type, written by a later version: it is kept, and here not shown.

fn text(registers: &Registers, field: &str) -> Option<String> {
    match registers.value(field) {
        Value::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn int(registers: &Registers, field: &str) -> Option<i64> {
    match registers.value(field) {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

fn id(registers: &Registers, field: &str) -> Option<Uuid> {
    match registers.value(field) {
        Value::Id(id) => Some(*id),
        _ => None,
    }
}

fn active(registers: &Registers) -> bool {
    registers.value("active") != &Value::Bool(false)
}

fn extra(registers: &Registers) -> BTreeMap<String, Json> {
    let free = registers.fields().filter_map(|(name, _)| Some((name, name.strip_prefix(EXTRA)?)));
    free.map(|(name, key)| (key.to_owned(), json(EntityKind::Product, name, registers.value(name))))
        .filter(|(_, value)| !value.is_null())
        .collect()
}

fn updated(registers: &Registers) -> (Time, String) {
    registers.latest().map_or((Time(0), String::new()), |head| (Time(head.hlc.ms()), head.by.clone()))
}

/// Whether a field is a quantity: in registers thousandths, in JSON units.
fn is_quantity(kind: EntityKind, field: &str) -> bool {
    (kind, field) == (EntityKind::Product, "minStock")
}

/// The value of a field, in JSON.
pub(in super::super) fn json(kind: EntityKind, field: &str, value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(number) if is_quantity(kind, field) => serde_json::to_value(Quantity(*number)).unwrap_or(Json::Null),
        Value::Int(number) => Json::from(*number),
        Value::Text(text) => Json::String(text.clone()),
        Value::Id(id) => Json::String(id.to_string()),
        Value::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| Json::String(text.clone())),
    }
}
