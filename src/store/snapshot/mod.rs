//! Snapshots: the state, table by table, in parts that two tills compare; what differs is sent and joined in.
//!
//! A snapshot is a diff. The giver ([`SnapshotGiver`]) holds one state of its database and answers questions about it; the taker compares
//! parts with its own rows ([`super::Reader::differing_parts`]) and asks for the rows of those that differ. So whoever goes on after a
//! cut, a reboot, or with another giver, is sent only what is still missing.
//!
//! # Invariants
//!
//! - What a row says follows from the bytes that are stored, never from a stored hash: a damaged row differs from a sound one, and
//!   nobody is given a damaged one.
//! - A row is joined in by the code that folds ops. What it changed stays *uncovered* until the logs that it is the state of are put in:
//!   see [`uncovered`].
//! - Neither side ever holds more than a part in memory.

mod adopt;
mod compare;
mod giver;
mod rows;
mod take;
mod thread;
pub(super) mod uncovered;

pub use giver::SnapshotGiver;
#[cfg(test)]
pub(super) use take::{UNCOVERED_ENTITY, uncovered_records};
pub(super) use thread::Giving;
