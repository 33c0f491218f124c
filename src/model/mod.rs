//! What is replicated. Pure: no I/O, no clock, no randomness; see the crate's page for the arrows.

pub mod id;
