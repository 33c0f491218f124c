//! Messages as bytes: postcard, the variant's position first. Golden bytes per protocol version are in `tests/golden`.

use crate::sync::Message;

pub use super::limits::MESSAGE_BYTES_MAX;

/// Bytes that are no message of this protocol version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Over [`MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes is over the limit")]
    TooLong(usize),
    /// Not decodable.
    #[error("a message does not decode: {0}")]
    Malformed(#[from] postcard::Error),
    /// More bytes than the message has.
    #[error("{0} bytes follow a message")]
    Trailing(usize),
}

/// The bytes of a message.
#[must_use]
pub fn encode(message: &Message) -> Vec<u8> {
    postcard::to_stdvec(message).expect("a message of plain data serialises into memory")
}

/// The message of some bytes. Allocates no more than the bytes hold.
///
/// # Errors
/// See [`MessageError`].
pub fn decode(bytes: &[u8]) -> Result<Message, MessageError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(MessageError::TooLong(bytes.len()));
    }
    let (message, rest) = postcard::take_from_bytes(bytes)?;
    if rest.is_empty() { Ok(message) } else { Err(MessageError::Trailing(rest.len())) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        // A `Have` that says it has 2^60 entries.
        let lie = [0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert!(matches!(decode(&lie), Err(MessageError::Malformed(_))));
        assert_eq!(decode(&vec![0; MESSAGE_BYTES_MAX + 1]), Err(MessageError::TooLong(MESSAGE_BYTES_MAX + 1)));
        assert_eq!(decode(&[4, 1, 0]), Err(MessageError::Trailing(1)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(message) = decode(&bytes) {
                prop_assert_eq!(decode(&encode(&message)), Ok(message));
            }
        }
    }
}
