//! Remarks: what the next version could bring. Built with the feature `next` alone, to show that tills of two versions make one store.

use serde::{Deserialize, Serialize};

use super::id::Uuid;
use super::ticket::Made;

/// An insert-once record: a text that a cashier leaves for the shop.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Note {
    /// Made by the client; a repeated post is the same note.
    pub id: Uuid,
    /// The text.
    pub text: String,
    /// By whom and when.
    pub made: Made,
}
