//! What is replicated. Pure: no I/O, no clock, no randomness; see the crate's page for the arrows.
//!
//! Everything replicated is one of two shapes, and both merge as a join (associative, commutative, idempotent): insert-once records
//! with a UUID ([`ticket`], [`movement`], [`roster`]), and multi-value registers ([`register`]). The laws are tested in [`laws`].

pub mod amount;
pub mod clock;
pub mod close;
pub mod currency;
pub mod id;
#[cfg(test)]
mod laws;
pub mod level;
pub mod movement;
pub mod mutant;
#[cfg(feature = "next")]
pub mod note;
pub mod op;
pub mod posplus;
pub mod register;
pub mod roster;
pub mod state;
pub mod ticket;
pub mod vector;
