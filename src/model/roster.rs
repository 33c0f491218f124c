//! The roster: which tills belong to the store. A till enters by [`Admit`] and leaves for good by [`Retire`]; both are ops, so the
//! roster is the same on all tills. Retiring wins over admitting, whatever the order of arrival.

use serde::{Deserialize, Serialize};

use super::id::TillId;
use super::ticket::Made;

/// A till enters the roster, or tells its new name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admit {
    /// The till.
    pub till: TillId,
    /// Its static public key (X25519).
    pub public_key: [u8; 32],
    /// Its human id, as in `pos-config.json`.
    pub pos_id: String,
    /// Its human name.
    pub pos_name: String,
    /// By whom and when.
    pub made: Made,
}

/// A till leaves the roster and is never linked again under that key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Retire {
    /// The till.
    pub till: TillId,
    /// By whom and when.
    pub made: Made,
}
