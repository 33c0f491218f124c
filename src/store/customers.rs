//! Customers.

use crate::model::register::{Registers, Value};

use super::entity::Columns;
use super::fields::{CODE_CHARS_MAX, EMAIL_CHARS_MAX, Field, FieldType, NAME_CHARS_MAX, NOTES_CHARS_MAX};
use super::search::folded_all;

/// A customer's fields.
pub(super) const FIELDS: &[Field] = &[
    Field::required("firstName", FieldType::Text(NAME_CHARS_MAX)),
    Field::required("lastName", FieldType::Text(NAME_CHARS_MAX)),
    Field::optional("companyName", FieldType::Text(NAME_CHARS_MAX)),
    Field::optional("email", FieldType::Text(EMAIL_CHARS_MAX)),
    Field::optional("phone", FieldType::Text(CODE_CHARS_MAX)),
    Field::optional("address", FieldType::Text(NOTES_CHARS_MAX)),
    Field::optional("notes", FieldType::Text(NOTES_CHARS_MAX)),
    Field::optional("active", FieldType::Bool),
];

/// What a customer is found by: names in either order, company, e-mail, telephone number as written and by its digits alone.
pub(super) fn columns(registers: &Registers) -> Columns {
    let text = |field: &str| match registers.value(field) {
        Value::Text(text) => text.as_str(),
        _ => "",
    };
    let (first, last, phone) = (text("firstName"), text("lastName"), text("phone"));
    let digits: String = phone.chars().filter(char::is_ascii_digit).collect();
    let names = format!("{first} {last} {first}");
    let search = folded_all([names.trim(), text("companyName"), text("email"), phone, &digits]);
    Columns { alive: registers.is_alive(), search, ..Columns::default() }
}
