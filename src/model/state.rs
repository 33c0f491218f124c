//! Parts of the state as they travel in a snapshot, beside the insert-once records. Each joins into what is there, like an op, and can be
//! carried by one: a till that took rows of a snapshot which nobody can finish any more authors them itself.

use serde::{Deserialize, Serialize};

use super::id::{TillId, Uuid};
use super::op::BODY_APPLY_MAX;
use super::register::{EntityKind, Registers};

/// The most replaced ids in one [`State::Entity`].
pub const REPLACED_MAX: usize = 4096;

/// About the most bytes of heads in one [`State::Entity`]; one head may be longer.
const HEADS_BYTES_MAX: usize = 64 * 1024;

/// The longest body that carries a [`State`]: a head may be as long as an edit, and [`REPLACED_MAX`] ids go with it.
pub const STATE_BYTES_MAX: usize = BODY_APPLY_MAX + 64 * 1024;

/// A part of the state. Grows at its end only.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum State {
    /// An entity; where it is too long for one op, a part of it: parts join in any order.
    Entity {
        /// What it is.
        kind: EntityKind,
        /// Which one.
        id: Uuid,
        /// Its heads.
        registers: Registers,
        /// Ids of its writes that have been replaced, ascending; at most [`REPLACED_MAX`]. They go with the heads, so that no head that
        /// was replaced is ever shown, and no field is ever empty between two.
        replaced: Vec<u64>,
    },
    /// A till of the roster.
    Member(Member),
}

impl State {
    /// An entity whole, in as many parts as it takes: at least one. `replaced` is ascending.
    #[must_use]
    pub fn of_entity(kind: EntityKind, id: Uuid, registers: Registers, replaced: &[u64]) -> Vec<Self> {
        let registers = registers.split(HEADS_BYTES_MAX);
        let count = registers.len().max(replaced.len().div_ceil(REPLACED_MAX));
        let ids = replaced.chunks(REPLACED_MAX).map(<[u64]>::to_vec).chain(std::iter::repeat(Vec::new()));
        registers
            .into_iter()
            .chain(std::iter::repeat_with(Registers::default))
            .zip(ids)
            .take(count)
            .map(|(registers, replaced)| Self::Entity { kind, id, registers, replaced })
            .collect()
    }
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
