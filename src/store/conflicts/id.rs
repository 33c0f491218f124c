//! The names of conflicts, as they stand in addresses of the API: the same on all tills, and as long as the conflict lasts.

use std::fmt;
use std::str::FromStr;

use crate::model::id::Uuid;
use crate::model::register::EntityKind;

/// Which conflict.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ConflictId {
    /// A field whose heads disagree.
    Field(EntityKind, Uuid, String),
    /// Several products have the same code.
    Duplicate(Code, String),
    /// More of this ticket was refunded than sold.
    OverRefund(Uuid),
    /// Records of other content under one id.
    Contents(RecordKind, Uuid),
    /// Counts of this product that did not know of each other.
    Counts(Uuid),
    /// A ticket whose predecessor is not here.
    Unchained(Uuid),
    /// Less than nothing of this product is in stock.
    NegativeStock(Uuid),
}

/// What is on a product to know it by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Code {
    /// Its stock-keeping unit.
    Sku,
    /// Its barcode.
    Barcode,
}

/// What kind of record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RecordKind {
    /// A ticket.
    Ticket,
    /// A refund.
    Refund,
    /// A movement.
    Movement,
}

const KINDS: [(&str, EntityKind); 4] = [
    ("product", EntityKind::Product),
    ("category", EntityKind::Category),
    ("customer", EntityKind::Customer),
    ("review", EntityKind::Review),
];

const RECORDS: [(&str, RecordKind); 3] =
    [("ticket", RecordKind::Ticket), ("refund", RecordKind::Refund), ("movement", RecordKind::Movement)];

impl ConflictId {
    /// The sort of conflict, as in the API and as the first part of the name.
    #[must_use]
    pub fn sort(&self) -> &'static str {
        match self {
            Self::Field(..) => "field",
            Self::Duplicate(Code::Sku, _) => "sku",
            Self::Duplicate(Code::Barcode, _) => "barcode",
            Self::OverRefund(_) => "over-refund",
            Self::Contents(..) => "contents",
            Self::Counts(_) => "counts",
            Self::Unchained(_) => "unchained",
            Self::NegativeStock(_) => "negative-stock",
        }
    }
}

impl fmt::Display for ConflictId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sort())?;
        match self {
            Self::Field(kind, id, field) => write!(f, ".{}.{id}.{}", name(&KINDS, kind), escaped(field)),
            Self::Duplicate(_, code) => write!(f, ".{}", escaped(code)),
            Self::Contents(kind, id) => write!(f, ".{}.{id}", name(&RECORDS, kind)),
            Self::OverRefund(id) | Self::Counts(id) | Self::Unchained(id) | Self::NegativeStock(id) => {
                write!(f, ".{id}")
            }
        }
    }
}

/// A text that names no conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("it is not the id of a conflict")]
pub struct NotAConflictId;

impl FromStr for ConflictId {
    type Err = NotAConflictId;

    fn from_str(text: &str) -> Result<Self, NotAConflictId> {
        let parts: Vec<&str> = text.split('.').collect();
        let id = match parts.as_slice() {
            ["field", kind, id, field] => Self::Field(named(&KINDS, kind)?, uuid(id)?, unescaped(field)?),
            ["sku", code] => Self::Duplicate(Code::Sku, unescaped(code)?),
            ["barcode", code] => Self::Duplicate(Code::Barcode, unescaped(code)?),
            ["contents", kind, id] => Self::Contents(named(&RECORDS, kind)?, uuid(id)?),
            ["over-refund", id] => Self::OverRefund(uuid(id)?),
            ["counts", id] => Self::Counts(uuid(id)?),
            ["unchained", id] => Self::Unchained(uuid(id)?),
            ["negative-stock", id] => Self::NegativeStock(uuid(id)?),
            _ => return Err(NotAConflictId),
        };
        Ok(id)
    }
}

fn name<T: PartialEq>(names: &[(&'static str, T)], wanted: &T) -> &'static str {
    names.iter().find(|(_, value)| value == wanted).map_or("", |(name, _)| name)
}

fn named<T: Copy>(names: &[(&str, T)], wanted: &str) -> Result<T, NotAConflictId> {
    names.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value).ok_or(NotAConflictId)
}

fn uuid(text: &str) -> Result<Uuid, NotAConflictId> {
    Uuid::parse_str(text).map_err(|_| NotAConflictId)
}

/// Any text as letters, digits, `-` and `_`; every other byte as `~` and two hex digits. Nothing of it means anything in a URL.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("~{byte:02x}"));
        }
    }
    escaped
}

fn unescaped(text: &str) -> Result<String, NotAConflictId> {
    let mut parts = text.split('~');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at_checked(2).ok_or(NotAConflictId)?;
        bytes.push(u8::from_str_radix(hex, 16).map_err(|_| NotAConflictId)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| NotAConflictId)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_id_reads_back_and_fits_an_address(text in any::<String>(), n in any::<u128>(), which in 0usize..8) {
            let id = Uuid::from_u128(n);
            let conflict = [
                ConflictId::Field(EntityKind::Product, id, text.clone()),
                ConflictId::Duplicate(Code::Sku, text.clone()),
                ConflictId::Duplicate(Code::Barcode, text),
                ConflictId::OverRefund(id),
                ConflictId::Contents(RecordKind::Movement, id),
                ConflictId::Counts(id),
                ConflictId::Unchained(id),
                ConflictId::NegativeStock(id),
            ][which].clone();
            let name = conflict.to_string();
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~".contains(&b)));
            prop_assert_eq!(name.parse(), Ok(conflict));
        }

        #[test]
        fn what_is_none_is_refused(text in "[a-z.~0-9-]{0,40}") {
            if let Ok(id) = text.parse::<ConflictId>() {
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }
        }
    }
}
