//! Categories of products: a tree by `parentId`. Two tills can make a loop of it while apart; it is kept as it is, for clients to show flat.

use crate::model::register::{Registers, Value};

use super::entity::Columns;
use super::fields::{Field, FieldType, NAME_CHARS_MAX};
use super::search::folded_all;

/// A category's fields.
pub(super) const FIELDS: &[Field] = &[
    Field::required("name", FieldType::Text(NAME_CHARS_MAX)),
    Field::optional("parentId", FieldType::Id),
    Field::optional("displayOrder", FieldType::Order),
    Field::optional("active", FieldType::Bool),
];

/// What a category is found by.
pub(super) fn columns(registers: &Registers) -> Columns {
    let name = match registers.value("name") {
        Value::Text(name) => name.as_str(),
        _ => "",
    };
    Columns { alive: registers.is_alive(), search: folded_all([name]), ..Columns::default() }
}
