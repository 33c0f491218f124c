//! POSPlus's messages: JSON texts. Pure, like the rest of [`crate::wire`].
//!
//! What is sent has the keys in POSPlus's order, and numbers as JavaScript writes them. What is received is judged: a text that is too long or
//! too deep, a field that is missing or of another type, a number that is not finite, negative where that means nothing, or absurd, is an
//! error that names the field; the connection goes on. Numbers are rounded to the currency's decimals and to thousandths. In a list each
//! item is judged alone, so that one bad product does not keep out the others.

mod message;
mod number;
#[cfg(test)]
mod tests;
mod things;
mod time;

pub use message::{Action, Body, Catalogue, Envelope, PosMessage, decode, encode};
pub use number::{Decimals, NumberError};
pub use time::{iso, parse as parse_time};

/// The longest message that is read, in bytes: some 10,000 products.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The longest WebSocket message that is taken from the socket, in bytes. What is between is refused, and the connection goes on; what is
/// longer ends it.
pub const SOCKET_BYTES_MAX: usize = 16 << 20;
/// How deep brackets may be nested: POSPlus's own have five levels.
pub const DEPTH_MAX: usize = 16;
/// The most items in a list of a message.
pub const ITEMS_MAX: usize = 20_000;
/// The most of each kind in one answer to a catch-up, as POSPlus has it.
pub const PAGE_ITEMS: usize = 100;

/// Why a message is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PosError {
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes: at most {MESSAGE_BYTES_MAX} are read")]
    TooLong(usize),
    /// Deeper than [`DEPTH_MAX`].
    #[error("brackets nested deeper than {DEPTH_MAX}")]
    TooDeep,
    /// Not JSON.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// Not as it should be at a place.
    #[error("{path}: {what}")]
    Field {
        /// Where, as in `data.lines[0].quantity`.
        path: String,
        /// What is wrong there.
        what: String,
    },
}

impl PosError {
    fn at(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Field { path: path.into(), what: what.into() }
    }
}
