//! Bytes to messages and back. Pure: no runtime, socket, clock or randomness.
//!
//! Two layers. What every version of tillmesh speaks alike, for ever, is here by hand, byte by byte: [`frame`] (the
//! preamble in clear, the parts that a message is cut into, the goodbye) and [`hello`] (who is there, and which protocol both
//! speak). All else is a [`message`] of the protocol that the two Hellos settle on; to the mesh it is opaque bytes.

pub mod frame;
pub mod hello;
pub mod limits;
pub mod message;
pub mod posplus;

/// The oldest protocol that this version speaks.
pub const PROTO_MIN: u16 = 1;
/// The newest protocol that this version speaks.
pub const PROTO_MAX: u16 = 1;
