//! The tills of the store.

use rusqlite::Connection;

use crate::model::roster::{Admit, Retire};

use super::error::StoreError;

/// Folds an admission in; whether it changed anything.
pub(super) fn apply_admit(conn: &Connection, admit: &Admit) -> Result<bool, StoreError> {
    let _ = (conn, admit);
    Ok(false)
}

/// Folds a retirement in; whether it changed anything.
pub(super) fn apply_retire(conn: &Connection, retire: &Retire) -> Result<bool, StoreError> {
    let _ = (conn, retire);
    Ok(false)
}
