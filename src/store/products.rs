//! Products.

use crate::model::register::{Registers, Value};

use super::entity::Columns;
use super::fields::{CODE_CHARS_MAX, Field, FieldType, NAME_CHARS_MAX};
use super::search::folded_all;

/// A product's fields. Its stock is no field: it is the sum of movements.
pub(super) const FIELDS: &[Field] = &[
    Field::required("sku", FieldType::Text(CODE_CHARS_MAX)),
    Field::required("name", FieldType::Text(NAME_CHARS_MAX)),
    Field::required("price", FieldType::Money),
    Field::optional("barcode", FieldType::Text(CODE_CHARS_MAX)),
    Field::optional("cost", FieldType::Money),
    Field::optional("categoryId", FieldType::Id),
    Field::optional("unit", FieldType::Text(CODE_CHARS_MAX)),
    Field::optional("minStock", FieldType::Quantity),
    Field::optional("active", FieldType::Bool),
    #[cfg(feature = "next")]
    Field::optional(super::notes::NEXT_FIELD, FieldType::Text(NAME_CHARS_MAX)),
];

/// What a product is found by.
pub(super) fn columns(registers: &Registers) -> Columns {
    let text = |field: &str| match registers.value(field) {
        Value::Text(text) => text.as_str(),
        _ => "",
    };
    let code = |field: &str| Some(text(field)).filter(|code| !code.is_empty()).map(str::to_owned);
    let category = match registers.value("categoryId") {
        Value::Id(id) => Some(*id),
        _ => None,
    };
    let search = folded_all([text("name"), text("sku"), text("barcode")]);
    Columns { alive: registers.is_alive(), sku: code("sku"), barcode: code("barcode"), category, search }
        .of_the_living()
}
