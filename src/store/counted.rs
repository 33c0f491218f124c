//! Counts of stock: which are replaced by none. More than one for a product means that tills counted without knowing of each other.

use rusqlite::Connection;

use crate::model::id::Uuid;
use crate::model::movement::{Movement, MovementKind};

use super::conflicts::{self, Flag};
use super::error::StoreError;

/// The counts of a product that no other replaces, by id: what a new count names as replaced.
pub(super) fn heads(conn: &Connection, product: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let mut query = conn.prepare_cached(
        "SELECT DISTINCT id FROM counted AS one WHERE product = ?1
         AND NOT EXISTS (SELECT 1 FROM counted WHERE product = ?1 AND replaces = one.id) ORDER BY id",
    )?;
    let ids = query.query_map([product.as_bytes()], |row| row.get::<_, [u8; 16]>(0))?;
    Ok(ids.map(|id| id.map(Uuid::from_bytes)).collect::<Result<_, _>>()?)
}

/// Notes a movement that counts from now on. Nothing to do where it is no count of stock.
pub(super) fn insert(conn: &Connection, movement: &Movement) -> Result<(), StoreError> {
    change(conn, movement, "INSERT OR IGNORE INTO counted (product, replaces, id) VALUES (?1, ?2, ?3)")
}

/// Forgets a movement that no longer counts, because one of other content under its id does.
pub(super) fn remove(conn: &Connection, movement: &Movement) -> Result<(), StoreError> {
    change(conn, movement, "DELETE FROM counted WHERE product = ?1 AND replaces = ?2 AND id = ?3")
}

fn change(conn: &Connection, movement: &Movement, sql: &str) -> Result<(), StoreError> {
    if movement.kind != MovementKind::Count {
        return Ok(());
    }
    let mut statement = conn.prepare_cached(sql)?;
    let none: &[u8] = &[];
    if movement.replaces.is_empty() {
        statement.execute((movement.product.as_bytes(), none, movement.id.as_bytes()))?;
    }
    for replaced in &movement.replaces {
        statement.execute((movement.product.as_bytes(), replaced.as_bytes(), movement.id.as_bytes()))?;
    }
    let contested = heads(conn, movement.product)?.len() > 1;
    conflicts::mark(conn, Flag::Counts, movement.product.as_bytes(), contested)
}
