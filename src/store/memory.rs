//! What this till alone remembers: acks, peers, notes.

use rusqlite::Connection;

use crate::model::id::TillId;
use crate::model::vector::VersionVector;

use super::error::StoreError;

/// Something to keep. Never replicated.
#[derive(Clone, PartialEq, Debug)]
pub enum Remember {
    /// Another till has these logs on its disk, this far.
    Ack {
        /// The till.
        till: TillId,
        /// Its heads.
        vector: VersionVector,
    },
    /// Where another till was last seen.
    Peer {
        /// The till.
        till: TillId,
        /// Its human name.
        name: String,
        /// Its addresses.
        addresses: Vec<String>,
        /// When, in milliseconds since 1970.
        last_seen_ms: u64,
    },
    /// A text under a key; `None` forgets it.
    Note {
        /// The key.
        key: String,
        /// The text.
        value: Option<String>,
    },
}

/// Keeps it.
pub(super) fn remember(conn: &Connection, what: &Remember) -> Result<(), StoreError> {
    let _ = (conn, what);
    Ok(())
}

/// A note.
pub(super) fn note(conn: &Connection, key: &str) -> Result<Option<String>, StoreError> {
    let _ = (conn, key);
    Ok(None)
}
