//! Customers, both ways.
//!
//! The number is what POSPlus's tills share, and what a customer is known by. POSPlus has fields of a customer that ours has not, its number
//! among them: they are kept in an entity beside the customer's, as they were said, and go back as they came.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};

use crate::model::id::Uuid;
use crate::model::posplus::{PosCustomer, Thing, customer_in, details_of, number_of};
use crate::model::register::{EntityKind, Registers, Value};

use super::super::entity::{self, EntityView};
use super::super::error::StoreError;
use super::super::fields;
use super::super::reader::Reader;
use super::super::work::Work;
use super::{IS, PosHeard, is_of, latest_ms, maybe, row_of, row_or_ours, text, text_of, thing_at};

/// The fields of what is kept beside a customer: as POSPlus said them,
const NUMBER: &str = "number";
const STREET: &str = "address";
const CITY: &str = "city";
const POSTAL_CODE: &str = "postalCode";
const COUNTRY: &str = "country";
/// what our address was made of them,
const JOINED: &str = "joined";
/// how new they were by that till's clock, in milliseconds since 1970, and the edit of the customer that was made of them.
const UPDATED: &str = "updated";
const EDIT: &str = "edit";

/// The digits of an id that are in the number of a customer of ours.
const DIGITS: usize = 12;

impl Work<'_> {
    pub(super) fn pos_customer(&mut self, pos_id: &str, said: &PosCustomer) -> Result<PosHeard, StoreError> {
        // The number is what tills share; the row is gone by for one that is numbered anew.
        let known = thing_at(self.conn, Thing::Customer, pos_id, said.row)?;
        let id = match numbered(self.conn, &said.number)?.or(known) {
            Some(id) => id,
            None => fresh(self.conn, pos_id, said)?,
        };
        let (target, beside) = ((EntityKind::Customer, id), (EntityKind::Posplus, details_of(id)));
        let here = entity::registers(self.conn, target)?.unwrap_or_default();
        let details = entity::registers(self.conn, beside)?.unwrap_or_default();
        let updated_ms = said.updated_ms.min(self.tick().ms());
        if newest_ms(&here, &details) > updated_ms {
            self.pos_alias(pos_id, Thing::Customer, said.row, id, &[])?;
            return Ok(PosHeard { customer: Some(id), ours_newer: true, ..PosHeard::default() });
        }
        let joined = joined(said);
        let fields: Fields = named([
            ("firstName", text(&said.first_name)),
            ("lastName", text(&said.last_name)),
            ("companyName", maybe(said.company.as_ref())),
            ("email", maybe(said.email.as_ref())),
            ("phone", maybe(said.phone.as_ref())),
            ("address", maybe(joined.as_ref())),
            ("notes", maybe(said.notes.as_ref())),
            ("active", Value::Bool(said.active)),
        ]);
        fields.iter().try_for_each(|(field, value)| fields::check(EntityKind::Customer, field, value))?;
        self.pos_edit(pos_id, target, fields)?;
        let edited = entity::registers(self.conn, target)?.unwrap_or_default();
        let kept = named([
            (NUMBER, text(&said.number)),
            (STREET, maybe(said.address.as_ref())),
            (CITY, maybe(said.city.as_ref())),
            (POSTAL_CODE, maybe(said.postal_code.as_ref())),
            (COUNTRY, maybe(said.country.as_ref())),
            (JOINED, maybe(joined.as_ref())),
            (UPDATED, Value::Int(i64::try_from(updated_ms).unwrap_or(i64::MAX))),
            (EDIT, latest_edit(&edited)),
        ]);
        self.pos_edit(pos_id, beside, kept)?;
        if Thing::Customer.of_key(&said.number) != id && own_number(id) != said.number {
            let whose = (EntityKind::Posplus, number_of(&said.number));
            self.pos_edit(pos_id, whose, named([(IS, Value::Id(id))]))?;
        }
        self.pos_alias(pos_id, Thing::Customer, said.row, id, &[])?;
        Ok(PosHeard { customer: Some(id), ..PosHeard::default() })
    }
}

type Fields = BTreeMap<String, Value>;

fn named<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    fields.map(|(name, value)| (name.to_owned(), value)).into()
}

/// The number of a customer to whom POSPlus has given none.
fn own_number(id: Uuid) -> String {
    format!("C-{}", &id.simple().to_string()[..DIGITS])
}

/// Whose number it is.
fn numbered(conn: &Connection, number: &str) -> Result<Option<Uuid>, StoreError> {
    if let Some(id) = is_of(&entity::registers(conn, (EntityKind::Posplus, number_of(number)))?.unwrap_or_default()) {
        return Ok(Some(id));
    }
    let made = Thing::Customer.of_key(number);
    if entity::registers(conn, (EntityKind::Customer, made))?.is_some() {
        // Unless that one has another number by now.
        let kept = entity::registers(conn, (EntityKind::Posplus, details_of(made)))?.unwrap_or_default();
        return Ok(text_of(&kept, NUMBER).is_none_or(|kept| kept == number).then_some(made));
    }
    let Some(digits) = number.strip_prefix("C-").filter(|digits| digits.len() == DIGITS) else { return Ok(None) };
    let bound = |digit: &str| Uuid::parse_str(&format!("{digits}{}", digit.repeat(32 - DIGITS)));
    let (Ok(first), Ok(last)) = (bound("0"), bound("f")) else { return Ok(None) };
    let kind = entity::number(EntityKind::Customer);
    let id = conn
        .prepare_cached("SELECT id FROM entity WHERE kind = ?1 AND id BETWEEN ?2 AND ?3 ORDER BY id LIMIT 1")?
        .query_row((kind, first.as_bytes(), last.as_bytes()), |row| row.get(0))
        .optional()?;
    Ok(id.map(Uuid::from_bytes))
}

/// The id of a customer that is not here: it follows from the number, unless that was another's once.
fn fresh(conn: &Connection, pos_id: &str, said: &PosCustomer) -> Result<Uuid, StoreError> {
    let made = Thing::Customer.of_key(&said.number);
    let taken = entity::registers(conn, (EntityKind::Customer, made))?.is_some();
    Ok(if taken { customer_in(pos_id, said.row) } else { made })
}

/// The latest edit.
fn latest_edit(registers: &Registers) -> Value {
    registers.latest().map_or(Value::Null, |head| Value::Int(head.hlc.0.cast_signed()))
}

/// How new what is here is: by the clock of the POSPlus till that said it, unless it was edited since.
fn newest_ms(here: &Registers, details: &Registers) -> u64 {
    match details.value(UPDATED) {
        Value::Int(updated) if details.value(EDIT) == &latest_edit(here) => u64::try_from(*updated).unwrap_or(0),
        _ => latest_ms(here),
    }
}

/// Our address of the parts of theirs.
fn joined(said: &PosCustomer) -> Option<String> {
    let parts = [&said.address, &said.postal_code, &said.city, &said.country].map(Option::as_deref);
    let parts: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// A customer in POSPlus's words.
pub(super) fn customer(conn: &Connection, view: &EntityView, row: Option<i64>) -> Result<PosCustomer, StoreError> {
    let r = &view.registers;
    let kept = entity::registers(conn, (EntityKind::Posplus, details_of(view.id)))?.unwrap_or_default();
    let address = text_of(r, "address");
    let is_theirs = address == text_of(&kept, JOINED);
    let part = |field: &str| text_of(&kept, field).filter(|_| is_theirs);
    Ok(PosCustomer {
        row: row_or_ours(row, view.cursor),
        number: text_of(&kept, NUMBER).unwrap_or_else(|| own_number(view.id)),
        first_name: text_of(r, "firstName").unwrap_or_default(),
        last_name: text_of(r, "lastName").unwrap_or_default(),
        company: text_of(r, "companyName"),
        email: text_of(r, "email"),
        phone: text_of(r, "phone"),
        address: if is_theirs { part(STREET) } else { address },
        city: part(CITY),
        postal_code: part(POSTAL_CODE),
        country: part(COUNTRY),
        active: r.value("active") != &Value::Bool(false),
        notes: text_of(r, "notes"),
        created_ms: latest_ms(r),
        updated_ms: latest_ms(r),
    })
}

impl Reader {
    /// One customer in that till's words, and whether it is known to have it.
    ///
    /// # Errors
    /// The database's.
    pub fn posplus_customer(&self, pos_id: &str, id: Uuid) -> Result<Option<(PosCustomer, bool)>, StoreError> {
        self.snapshot(|reader| {
            let Some(view) = entity::view(reader.conn(), EntityKind::Customer, id)? else { return Ok(None) };
            let row = row_of(reader.conn(), Thing::Customer, pos_id, id)?;
            Ok(Some((customer(reader.conn(), &view, row)?, row.is_some())))
        })
    }
}
