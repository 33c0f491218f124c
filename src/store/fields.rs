//! The fields that this version knows of products, categories and customers: what a client may write into them.
//!
//! Fields that a later version knows are kept, shown and relayed as they came; they are only not written here.

use crate::model::amount::{MONEY_MAX, QUANTITY_MAX};
use crate::model::register::{EntityKind, Value};

use super::error::Rejection;
use super::{categories, customers, products};

/// The first part of the names of a product's free fields; each is a field of its own, of [`Value::Json`].
pub const EXTRA: &str = "extra.";

/// The longest name of a free field, [`EXTRA`] included, in bytes.
pub const EXTRA_NAME_BYTES_MAX: usize = 106;

/// The longest value of a free field, in bytes of JSON.
pub const EXTRA_BYTES_MAX: usize = 32 * 1024;

/// The longest code (stock-keeping unit, barcode, unit, telephone number), in characters.
pub const CODE_CHARS_MAX: usize = 100;

/// The longest name, in characters.
pub const NAME_CHARS_MAX: usize = 200;

/// The longest e-mail address, in characters (RFC 5321 leaves 254).
pub const EMAIL_CHARS_MAX: usize = 254;

/// The longest notes or address, in characters.
pub const NOTES_CHARS_MAX: usize = 2000;

/// The smallest amount or order that a JSON number holds exactly in every client.
const MONEY_MIN: i64 = -MONEY_MAX;

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldType {
    /// [`Value::Text`] of at most so many characters; not empty where the field is required.
    Text(usize),
    /// [`Value::Int`], minor units: zero or more, at most [`MONEY_MAX`].
    Money,
    /// [`Value::Int`], thousandths: zero or more, at most [`QUANTITY_MAX`].
    Quantity,
    /// [`Value::Int`]: a place among others, of magnitude at most [`MONEY_MAX`].
    Order,
    /// [`Value::Bool`].
    Bool,
    /// [`Value::Id`]: another entity. It may be one that is not here.
    Id,
}

/// A field that this version knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    /// Its name, as in the API.
    pub name: &'static str,
    /// What it holds.
    pub holds: FieldType,
    /// Whether it must be there and cannot be cleared.
    pub required: bool,
}

impl Field {
    pub(super) const fn required(name: &'static str, holds: FieldType) -> Self {
        Self { name, holds, required: true }
    }

    pub(super) const fn optional(name: &'static str, holds: FieldType) -> Self {
        Self { name, holds, required: false }
    }
}

/// The fields of a kind of entity. Products have free ones besides, see [`EXTRA`].
#[must_use]
pub fn fields(kind: EntityKind) -> &'static [Field] {
    match kind {
        EntityKind::Product => products::FIELDS,
        EntityKind::Category => categories::FIELDS,
        EntityKind::Customer => customers::FIELDS,
        EntityKind::Review | EntityKind::Posplus => &[],
    }
}

/// Whether a client of this version writes the field: a put that leaves it out clears it.
pub(super) fn is_known(kind: EntityKind, name: &str) -> bool {
    fields(kind).iter().any(|field| field.name == name) || (kind == EntityKind::Product && name.starts_with(EXTRA))
}

/// Checks what a client wants to write into a field.
///
/// # Errors
/// Says what is allowed; the path is the field's name.
pub(super) fn check(kind: EntityKind, name: &str, value: &Value) -> Result<(), Rejection> {
    let field = fields(kind).iter().find(|field| field.name == name);
    let fault = match (field, value) {
        (Some(field), Value::Null) if field.required => Some("it must be there".to_owned()),
        (Some(_), Value::Null) => None,
        (Some(field), value) => type_fault(field, value),
        (None, _) if kind == EntityKind::Product && name.starts_with(EXTRA) => extra_fault(name, value),
        (None, _) => Some("there is no such field".to_owned()),
    };
    match fault {
        Some(message) => Err(Rejection { path: name.to_owned(), message }),
        None => Ok(()),
    }
}

fn type_fault(field: &Field, value: &Value) -> Option<String> {
    let allowed = match (field.holds, value) {
        (FieldType::Text(_), Value::Text(text)) if field.required && text.trim().is_empty() => "it must not be empty",
        (FieldType::Text(max), Value::Text(text)) => {
            return (text.chars().count() > max).then(|| format!("at most {max} characters"));
        }
        (FieldType::Money, Value::Int(0..=MONEY_MAX))
        | (FieldType::Quantity, Value::Int(0..=QUANTITY_MAX))
        | (FieldType::Order, Value::Int(MONEY_MIN..=MONEY_MAX))
        | (FieldType::Bool, Value::Bool(_))
        | (FieldType::Id, Value::Id(_)) => return None,
        (FieldType::Text(_), _) => "a text",
        (FieldType::Money, _) => "an amount in minor units, 0 to 9007199254740991",
        (FieldType::Quantity, _) => "a quantity, 0 to 1000000000",
        (FieldType::Order, _) => "an integer of magnitude at most 9007199254740991",
        (FieldType::Bool, _) => "true or false",
        (FieldType::Id, _) => "the id of another entity",
    };
    Some(allowed.to_owned())
}

fn extra_fault(name: &str, value: &Value) -> Option<String> {
    if !(EXTRA.len() + 1..=EXTRA_NAME_BYTES_MAX).contains(&name.len()) {
        return Some(format!("a free field's name has 1 to {} bytes", EXTRA_NAME_BYTES_MAX - EXTRA.len()));
    }
    match value {
        Value::Null => None,
        Value::Json(json) if json.len() > EXTRA_BYTES_MAX => Some(format!("at most {EXTRA_BYTES_MAX} bytes of JSON")),
        Value::Json(json) if serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok() => None,
        _ => Some("a JSON text".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str, value: Value) -> Option<String> {
        check(EntityKind::Product, name, &value).err().map(|rejection| rejection.to_string())
    }

    #[test]
    fn values_are_of_the_type_and_size_of_their_field() {
        assert_eq!(fault("name", Value::Text("Café".into())), None);
        assert_eq!(fault("name", Value::Null).as_deref(), Some("name: it must be there"));
        assert_eq!(fault("name", Value::Text(" ".into())).as_deref(), Some("name: it must not be empty"));
        assert_eq!(fault("name", Value::Text("é".repeat(201))).as_deref(), Some("name: at most 200 characters"));
        assert!(fault("price", Value::Int(-1)).is_some());
        assert!(fault("price", Value::Text("1".into())).is_some());
        assert_eq!(fault("minStock", Value::Int(1500)), None);
        assert_eq!(fault("barcode", Value::Null), None);
        assert!(fault("colour", Value::Null).is_some());
        assert_eq!(fault("extra.colour", Value::Json("\"red\"".into())), None);
        assert!(fault("extra.colour", Value::Json("red".into())).is_some());
        assert!(fault("extra.", Value::Json("1".into())).is_some());
        assert!(check(EntityKind::Customer, "extra.x", &Value::Json("1".into())).is_err());
    }
}
