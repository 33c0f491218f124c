//! Parts of the state as they travel in a snapshot, beside the insert-once records. Each joins into what is there, like an op, and can be
//! carried by one: a till that took rows of a snapshot which nobody can finish any more authors them itself.

use serde::{Deserialize, Serialize};

use super::id::{TillId, Uuid};
use super::register::{EntityKind, Registers};

/// The most replaced ids in one [`State::Replaced`].
pub const REPLACED_MAX: usize = 8192;

/// A part of the state. Grows at its end only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum State {
    /// All heads of one entity.
    Entity {
        /// What it is.
        kind: EntityKind,
        /// Which one.
        id: Uuid,
        /// Its fields.
        registers: Registers,
    },
    /// Ids of writes that have been replaced, ascending; at most [`REPLACED_MAX`].
    Replaced(Vec<u64>),
    /// A till of the roster.
    Member(Member),
}

/// What came of the admissions and retirements of a till: each part is a minimum or a maximum.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Member {
    /// The till.
    pub till: TillId,
    /// The admission that gives its name; `None` where none is known.
    pub admission: Option<Admission>,
    /// When it was first retired, in milliseconds since 1970.
    pub retired_ms: Option<u64>,
}

/// See [`Member::admission`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Admission {
    /// The till's static public key (X25519).
    pub public_key: [u8; 32],
    /// Its human id.
    pub pos_id: String,
    /// Its human name.
    pub pos_name: String,
    /// Orders the admissions of a till: the greatest gives its name.
    pub rank: Vec<u8>,
    /// When it was first admitted, in milliseconds since 1970.
    pub first_ms: u64,
}
