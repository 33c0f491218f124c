//! Levels: which kinds of ops and which fields a till understands.
//!
//! A version that brings a new kind of op, or a new field of an entity, has a level of its own. Each till tells its level with its acks.
//! What a live till of the roster does not understand is not emitted: see [`crate::store`], which knows the roster. A till that joins or
//! returns later, and does not understand it, holds it.

use super::op::kind;

/// The level of this version.
pub const LEVEL: u16 = if cfg!(feature = "next") { 2 } else { 1 };

/// The level that brought a kind of op.
#[must_use]
pub fn of_kind(kind: u16) -> u16 {
    match kind {
        kind::TICKET..=kind::STATE => 1,
        #[cfg(feature = "next")]
        kind::NOTE => 2,
        _ => u16::MAX,
    }
}
