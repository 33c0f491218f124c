//! The tills of the store.

use rusqlite::Connection;

use crate::model::clock::Hlc;
use crate::model::roster::{Admit, Retire};

use super::error::StoreError;

/// Folds an admission in; whether it changed anything.
pub(super) fn apply_admit(conn: &Connection, admit: &Admit, hlc: Hlc) -> Result<bool, StoreError> {
    let _ = (conn, admit, hlc);
    Ok(false)
}

/// Folds a retirement in; whether it changed anything.
pub(super) fn apply_retire(conn: &Connection, retire: &Retire) -> Result<bool, StoreError> {
    let _ = (conn, retire);
    Ok(false)
}
