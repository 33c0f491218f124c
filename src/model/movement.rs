//! Stock movements that are not part of a sale. Stock is the sum of movements, so the order in which they arrive does not matter.

use serde::{Deserialize, Serialize};

use super::amount::Quantity;
use super::id::Uuid;
use super::ticket::Made;

/// Why stock moved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MovementKind {
    /// Goods came in: adds.
    In,
    /// Goods went out: takes away.
    Out,
    /// Signed correction.
    Adjustment,
    /// Sold elsewhere than by a ticket: takes away.
    Sale,
    /// Brought back: adds.
    Return,
    /// Broken, expired, stolen: takes away.
    Loss,
    /// Counted: sets, by the difference to what the counting till saw.
    Count,
}

impl MovementKind {
    /// The change of stock that `quantity` of this kind makes where `seen` is in stock.
    ///
    /// # Errors
    /// Says what is allowed, where only a positive quantity makes sense.
    pub fn delta(self, quantity: Quantity, seen: Quantity) -> Result<Quantity, &'static str> {
        match self {
            Self::Adjustment => Ok(quantity),
            Self::Count if quantity.0 < 0 => Err("a count is zero or more"),
            Self::Count => Ok(Quantity(quantity.0 - seen.0)),
            _ if quantity.0 <= 0 => Err("a quantity is more than zero for this type"),
            Self::In | Self::Return => Ok(quantity),
            Self::Out | Self::Sale | Self::Loss => Ok(-quantity),
        }
    }
}

/// An insert-once record: stock of one product changed by `delta`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Movement {
    /// Made by the client; a repeated post is the same movement.
    pub id: Uuid,
    /// The product; it may be one that this till has never seen.
    pub product: Uuid,
    /// Why.
    pub kind: MovementKind,
    /// What the client said: the quantity, before the sign of the kind.
    pub quantity: Quantity,
    /// The change of stock.
    pub delta: Quantity,
    /// A count names the counts of the same product that it replaces: those that no other had replaced where it was made. Where more
    /// than one is left unreplaced, tills counted without knowing of each other: a conflict, settled by counting again.
    pub replaces: Vec<Uuid>,
    /// The client's reference.
    pub reference: Option<String>,
    /// By whom and when.
    pub made: Made,
}
