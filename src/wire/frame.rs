//! What is frozen below the messages: the preamble, the parts of a message, and the goodbye.
//!
//! A link is a WebSocket of subprotocol [`SUBPROTOCOL`] that carries binary frames only:
//!
//! ```text
//! dialler   Preamble (in clear)                      4 magic, 1 version, 8 store hash, 4 key epoch, rest ignored
//! dialler   Noise message 1                          the three messages of XXpsk3, without payload
//! listener  Noise message 2
//! dialler   Noise message 3
//! both      parts: Noise(bytes, 1 mark)              mark: 0 the last part of a message, 1 more follow, 2 goodbye
//! ```
//!
//! The first message each way is the [`Hello`](super::hello::Hello). All integers are big-endian. A refusal before Noise has ended cannot be sealed: it is
//! told as the code of the WebSocket close frame, [`Bye::close_code`], and is a hint only.

use super::limits::{MESSAGE_BYTES_MAX, PART_BYTES_SENT};

/// The WebSocket subprotocol (RFC 6455, section 1.9) of the mesh.
pub const SUBPROTOCOL: &str = "tillmesh.1";

const PREAMBLE_MAGIC: [u8; 4] = *b"TMSH";
const PREAMBLE_VERSION: u8 = 1;
const PREAMBLE_BYTES: usize = 17;

/// What a dialler says in clear, so that a listener can refuse a stranger before any cryptography.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preamble {
    /// The store's short hash, as mDNS tells it: eight hex digits.
    pub store: [u8; 8],
    /// Which of the store's keys the dialler will prove to hold.
    pub key_epoch: u32,
}

impl Preamble {
    /// The preamble's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(PREAMBLE_BYTES);
        bytes.extend_from_slice(&PREAMBLE_MAGIC);
        bytes.push(PREAMBLE_VERSION);
        bytes.extend_from_slice(&self.store);
        bytes.extend_from_slice(&self.key_epoch.to_be_bytes());
        bytes
    }

    /// Reads a preamble; bytes after it are ignored.
    ///
    /// # Errors
    /// [`FrameError::Preamble`] where the bytes are not one.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let (head, _) = bytes.split_first_chunk::<PREAMBLE_BYTES>().ok_or(FrameError::Preamble)?;
        let [m0, m1, m2, m3, version, store @ .., e0, e1, e2, e3] = *head;
        if [m0, m1, m2, m3] != PREAMBLE_MAGIC || version != PREAMBLE_VERSION {
            return Err(FrameError::Preamble);
        }
        Ok(Self { store, key_epoch: u32::from_be_bytes([e0, e1, e2, e3]) })
    }
}

/// What stands last in the plaintext of every part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mark {
    /// The message ends here.
    Last = 0,
    /// The message goes on in the next part.
    More = 1,
    /// No part of a message: the code of a [`Bye`], after which nothing comes. It may stand between the parts of one.
    Bye = 2,
}

/// Cuts a message into parts. An empty message is one empty part.
pub fn parts(message: &[u8]) -> impl Iterator<Item = (&[u8], Mark)> {
    let count = message.len().div_ceil(PART_BYTES_SENT).max(1);
    (0..count).map(move |i| {
        let end = message.len().min((i + 1) * PART_BYTES_SENT);
        (&message[i * PART_BYTES_SENT..end], if i + 1 == count { Mark::Last } else { Mark::More })
    })
}

/// What the parts received so far amount to.
#[derive(Debug, PartialEq, Eq)]
pub enum Assembled {
    /// A message that is not whole yet.
    Partial,
    /// A whole message.
    Message(Vec<u8>),
    /// The peer ends the link.
    Bye(Bye),
}

/// Puts the parts of one direction of a link together. Holds at most one message's bytes that have been received: what is
/// announced costs nothing.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: Vec<u8>,
}

impl Assembler {
    /// Takes the plaintext of the next part.
    ///
    /// # Errors
    /// A part that no till of any version sends. The link is beyond repair.
    pub fn push(&mut self, mut part: Vec<u8>) -> Result<Assembled, FrameError> {
        match part.pop() {
            Some(mark) if mark == Mark::Bye as u8 => {
                Ok(Assembled::Bye(part.first().map_or(Bye::Other(0), |code| Bye::from_code(*code))))
            }
            Some(mark) if mark == Mark::More as u8 && part.is_empty() => Err(FrameError::EmptyPart),
            Some(mark) if mark == Mark::More as u8 => {
                self.append(&part)?;
                Ok(Assembled::Partial)
            }
            Some(mark) if mark == Mark::Last as u8 && self.partial.is_empty() => Ok(Assembled::Message(part)),
            Some(mark) if mark == Mark::Last as u8 => {
                self.append(&part)?;
                Ok(Assembled::Message(std::mem::take(&mut self.partial)))
            }
            Some(mark) => Err(FrameError::Mark(mark)),
            None => Err(FrameError::EmptyPart),
        }
    }

    fn append(&mut self, part: &[u8]) -> Result<(), FrameError> {
        if self.partial.len() + part.len() > MESSAGE_BYTES_MAX {
            return Err(FrameError::MessageTooLong);
        }
        self.partial.extend_from_slice(part);
        Ok(())
    }
}

/// Bytes that are not what must stand there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first frame is no preamble of this transport.
    #[error("the first frame is not the preamble of a till")]
    Preamble,
    /// A part that holds nothing and says that more follows, or has no mark.
    #[error("an empty part of a message")]
    EmptyPart,
    /// A mark that does not exist.
    #[error("a part of a message with the unknown mark {0}")]
    Mark(u8),
    /// The parts together exceed [`MESSAGE_BYTES_MAX`].
    #[error("a message of more than {MESSAGE_BYTES_MAX} bytes")]
    MessageTooLong,
}

/// Why a till ends a link: the reason that it tells the other. Codes are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bye {
    /// The agent stops or restarts.
    Shutdown,
    /// The mesh is switched off on that till.
    Disabled,
    /// Two links between the same two tills; the other one stays.
    Duplicate,
    /// A newer link of the same till took this one's place.
    Replaced,
    /// The heartbeat stopped.
    Silent,
    /// The till is retired from the store.
    Retired,
    /// The till belongs to another store.
    Store,
    /// The stores count in different currencies.
    Currency,
    /// The receiver of this goodbye speaks only protocols that the sender no longer speaks.
    TooOld,
    /// The receiver of this goodbye speaks only protocols that the sender does not speak yet.
    TooNew,
    /// The dialler reached itself.
    Ourselves,
    /// The receiver broke the protocol.
    Violation,
    /// The dialler does not hold the store key.
    WrongKey,
    /// The dialler holds a key of another epoch.
    KeyEpoch,
    /// No room for another link at the moment.
    Busy,
    /// A code of a later version; 0 where there was none.
    Other(u8),
}

impl Bye {
    const CODES: [(u8, Self); 15] = [
        (1, Self::Shutdown),
        (2, Self::Disabled),
        (3, Self::Duplicate),
        (4, Self::Replaced),
        (5, Self::Silent),
        (6, Self::Retired),
        (7, Self::Store),
        (8, Self::Currency),
        (9, Self::TooOld),
        (10, Self::TooNew),
        (11, Self::Ourselves),
        (12, Self::Violation),
        (13, Self::WrongKey),
        (14, Self::KeyEpoch),
        (15, Self::Busy),
    ];

    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Other(code) => code,
            known => Self::CODES.iter().find(|(_, bye)| *bye == known).map_or(0, |(code, _)| *code),
        }
    }

    /// The reason of a code; [`Bye::Other`] where this version does not know it.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        Self::CODES.iter().find(|(known, _)| *known == code).map_or(Self::Other(code), |(_, bye)| *bye)
    }

    /// The code as a WebSocket close code of the private range (RFC 6455, section 7.4.2).
    #[must_use]
    pub fn close_code(self) -> u16 {
        4000 + u16::from(self.code())
    }

    /// The reason that a WebSocket close code stands for, if it is one of ours.
    #[must_use]
    pub fn from_close_code(code: u16) -> Option<Self> {
        let code = u8::try_from(code.checked_sub(4000)?).ok()?;
        (code != 0).then(|| Self::from_code(code))
    }

    /// Whether the cause stays until a person does something, so that dialling again soon is of no use.
    #[must_use]
    pub fn is_lasting(self) -> bool {
        matches!(
            self,
            Self::Retired
                | Self::Store
                | Self::Currency
                | Self::TooOld
                | Self::TooNew
                | Self::Violation
                | Self::WrongKey
                | Self::KeyEpoch
        )
    }
}

impl std::fmt::Display for Bye {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Shutdown => "the agent stops",
            Self::Disabled => "the mesh is switched off",
            Self::Duplicate => "a second link between the same tills",
            Self::Replaced => "replaced by a newer link",
            Self::Silent => "no sign of life",
            Self::Retired => "the till is retired from the store",
            Self::Store => "not the same store",
            Self::Currency => "not the same currency",
            Self::TooOld => "protocol too old: update tillmesh on this till",
            Self::TooNew => "protocol too new: update tillmesh on the other till",
            Self::Ourselves => "the till reached itself",
            Self::Violation => "protocol broken",
            Self::WrongKey => "not the same store key",
            Self::KeyEpoch => "a store key of another epoch",
            Self::Busy => "no room for another link",
            Self::Other(code) => return write!(f, "reason {code}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plaintext of a part as it is sealed.
    fn plain(bytes: &[u8], mark: u8) -> Vec<u8> {
        [bytes, &[mark]].concat()
    }

    #[test]
    fn the_preamble_is_frozen() {
        let preamble = Preamble { store: *b"0a1b2c3d", key_epoch: 0x0102_0304 };
        let golden = b"TMSH\x010a1b2c3d\x01\x02\x03\x04";
        assert_eq!(preamble.encode(), golden);
        assert_eq!(Preamble::decode(&[golden.as_slice(), b"later"].concat()), Ok(preamble));
        for cut in 0..golden.len() {
            assert_eq!(Preamble::decode(&golden[..cut]), Err(FrameError::Preamble));
        }
        assert_eq!(Preamble::decode(b"GET / HTTP/1.1\r\n\r\n\r\n"), Err(FrameError::Preamble));
    }

    #[test]
    fn a_message_survives_its_parts() {
        for length in [0, 1, PART_BYTES_SENT - 1, PART_BYTES_SENT, PART_BYTES_SENT + 1, MESSAGE_BYTES_MAX] {
            let message: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            let mut assembler = Assembler::default();
            let mut whole = Vec::new();
            for (bytes, mark) in parts(&message) {
                assert!(bytes.len() <= PART_BYTES_SENT);
                match assembler.push(plain(bytes, mark as u8)).unwrap() {
                    Assembled::Message(bytes) => whole.push(bytes),
                    Assembled::Partial => assert_eq!(mark, Mark::More),
                    Assembled::Bye(bye) => panic!("{bye}"),
                }
            }
            assert_eq!(whole, [message]);
        }
    }

    #[test]
    fn parts_have_limits() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(Vec::new()), Err(FrameError::EmptyPart));
        assert_eq!(assembler.push(plain(b"", 1)), Err(FrameError::EmptyPart));
        assert_eq!(assembler.push(plain(b"x", 9)), Err(FrameError::Mark(9)));
        let part = vec![0; PART_BYTES_SENT];
        let pushed = (0..=MESSAGE_BYTES_MAX / PART_BYTES_SENT).map(|_| assembler.push(plain(&part, 1)));
        assert_eq!(pushed.last(), Some(Err(FrameError::MessageTooLong)));
    }

    #[test]
    fn a_goodbye_may_interrupt_a_message() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.push(plain(b"begun", 1)), Ok(Assembled::Partial));
        assert_eq!(assembler.push(vec![2, 2]), Ok(Assembled::Bye(Bye::Disabled)));
        assert_eq!(assembler.push(vec![200, 7, 2]), Ok(Assembled::Bye(Bye::Other(200))));
        assert_eq!(assembler.push(vec![2]), Ok(Assembled::Bye(Bye::Other(0))));
    }

    #[test]
    fn goodbye_codes_are_frozen() {
        for code in 0..=u8::MAX {
            assert_eq!(Bye::from_code(code).code(), code);
        }
        assert_eq!(Bye::Currency.code(), 8);
        assert_eq!(Bye::from_close_code(4013), Some(Bye::WrongKey));
        assert_eq!(Bye::from_close_code(1000), None);
        assert_eq!(Bye::from_close_code(4000), None);
        assert_eq!(Bye::from_close_code(4256), None);
    }
}
