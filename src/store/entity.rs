//! The table that products, categories and customers share.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::model::amount::Quantity;
use crate::model::clock::Hlc;
use crate::model::id::Uuid;
use crate::model::register::{Edit, EntityKind, Registers, Value};

use super::error::StoreError;
use super::view::Cursor;

/// A change of an entity.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// Replaces all fields: those that are not named are cleared. Makes the entity where it is not there.
    Put(BTreeMap<String, Value>),
    /// Replaces some fields of an entity that is there.
    Patch(BTreeMap<String, Value>),
    /// Takes it away. A later edit brings it back.
    Delete,
}

/// A product, category or customer.
#[derive(Clone, PartialEq, Debug)]
pub struct EntityView {
    /// Its place in lists.
    pub cursor: Cursor,
    /// What it is.
    pub kind: EntityKind,
    /// Which one.
    pub id: Uuid,
    /// Its fields.
    pub registers: Registers,
    /// Whether it exists: not deleted.
    pub alive: bool,
    /// What is in stock, for a product.
    pub stock: Option<Quantity>,
}

/// Which entities to list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntityQuery {
    /// What they are.
    pub kind: EntityKind,
    /// Go on after this place.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
    /// With this stock-keeping unit.
    pub sku: Option<String>,
    /// With this barcode.
    pub barcode: Option<String>,
    /// In this category.
    pub category: Option<Uuid>,
    /// With this in their name, stock-keeping unit or barcode.
    pub q: Option<String>,
    /// Deleted ones as well.
    pub include_deleted: bool,
}

/// The edit that makes `change` on what is here; `None` where it is so already.
pub(super) fn author(
    conn: &Connection,
    target: (EntityKind, Uuid),
    change: &Change,
    made: (Hlc, &str),
    ids: &mut dyn FnMut() -> u64,
) -> Result<Option<Edit>, StoreError> {
    let _ = (conn, target, change, made, ids);
    Ok(None)
}

/// Joins an edit in, local or remote: registers, replaced ids, columns, contested, and a row in `change`.
pub(super) fn apply_edit(conn: &Connection, edit: &Edit) -> Result<(), StoreError> {
    let _ = (conn, edit);
    Ok(())
}

/// An entity, deleted or not.
pub(super) fn view(conn: &Connection, kind: EntityKind, id: Uuid) -> Result<Option<EntityView>, StoreError> {
    let _ = (conn, kind, id);
    Ok(None)
}
