//! Operations: the envelope that every till stores and relays, and the bodies that this version understands.
//!
//! Bodies are postcard. Its rules for change: enums grow at their end only; a body struct never changes within a `schema`, a new
//! shape is a new schema number; so golden bytes (in `tests/golden`) stay readable for ever.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::clock::Hlc;
use super::id::{Origin, TillId, hex};
use super::level;
use super::movement::Movement;
#[cfg(feature = "next")]
use super::note::Note;
use super::register::Edit;
use super::roster::{Admit, Retire};
use super::state::{STATE_BYTES_MAX, State};
use super::ticket::{Refund, Ticket};

/// The longest body that this version applies, in bytes. A longer one (up to [`BODY_CARRY_MAX`]) is held: stored and relayed.
pub const BODY_APPLY_MAX: usize = 256 * 1024;

/// The longest body that is carried at all, in bytes: it must fit a frame.
pub const BODY_CARRY_MAX: usize = 960 * 1024;

/// A position in an origin's log, dense from 1; 0 is "nothing yet".
pub type Seq = u64;

/// The running hash of a log: after each op the first 8 bytes of SHA-256 over the hash before, hlc, kind, schema, length and body.
///
/// The state carried from op to op is these 8 bytes alone, so that every position whose 8 bytes are kept can be continued and
/// compared, also after compaction. Members of a store trust one another: 64 bits are for accidents, not for attackers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct RunningHash(pub [u8; 8]);

impl RunningHash {
    /// The hash after `op`.
    #[must_use]
    pub fn after(self, op: &Op) -> Self {
        let digest = Sha256::new()
            .chain_update(self.0)
            .chain_update(op.hlc.0.to_be_bytes())
            .chain_update(op.kind.to_be_bytes())
            .chain_update(op.schema.to_be_bytes())
            .chain_update((op.body.len() as u64).to_be_bytes())
            .chain_update(&op.body)
            .finalize();
        let mut hash = [0; 8];
        hash.copy_from_slice(&digest[..8]);
        Self(hash)
    }

    /// The hash after all of `ops`.
    #[must_use]
    pub fn after_all<'a>(self, ops: impl IntoIterator<Item = &'a Op>) -> Self {
        ops.into_iter().fold(self, Self::after)
    }
}

impl std::fmt::Debug for RunningHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Where a log stands: its last sequence number and the running hash after it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Head {
    /// The last sequence number; 0 where the log is empty.
    pub seq: Seq,
    /// The running hash after it.
    pub hash: RunningHash,
}

impl Head {
    /// The head after `ops`.
    #[must_use]
    pub fn after_all(self, ops: &[Op]) -> Self {
        Self { seq: self.seq + ops.len() as u64, hash: self.hash.after_all(ops) }
    }
}

/// One operation, as it is stored, sent and hashed. Its place (origin, sequence number) is the log's, not its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Op {
    /// When it was made.
    pub hlc: Hlc,
    /// What it is: one of [`kind`], or one that a later version knows.
    pub kind: u16,
    /// The shape of the body, per kind.
    pub schema: u16,
    /// The body's canonical bytes.
    #[serde(with = "bytes")]
    pub body: Vec<u8>,
}

impl Op {
    /// About how many bytes it takes on the wire.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.body.len() + 16
    }
}

/// A run of one origin's ops, and the hash before the first: what is sent, applied, read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OpBatch {
    /// Whose log.
    pub origin: Origin,
    /// The head that the first op continues.
    pub before: Head,
    /// In order, without gaps.
    pub ops: Vec<Op>,
}

impl OpBatch {
    /// The head after the last op.
    #[must_use]
    pub fn after(&self) -> Head {
        self.before.after_all(&self.ops)
    }

    /// About how many bytes it takes on the wire.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.ops.iter().map(Op::wire_len).sum::<usize>() + 24
    }
}

/// The kinds that this version applies. Numbers are for ever.
pub mod kind {
    /// A sale: [`super::Ticket`].
    pub const TICKET: u16 = 1;
    /// A refund or cancellation: [`super::Refund`].
    pub const REFUND: u16 = 2;
    /// A stock movement of its own: [`super::Movement`].
    pub const MOVEMENT: u16 = 3;
    /// Register writes of one entity: [`super::Edit`].
    pub const EDIT: u16 = 4;
    /// A till enters the roster: [`super::Admit`].
    pub const ADMIT: u16 = 5;
    /// A till leaves the roster for good: [`super::Retire`].
    pub const RETIRE: u16 = 6;
    /// A part of the state: [`super::State`].
    pub const STATE: u16 = 7;
    /// A remark: [`super::Note`].
    #[cfg(feature = "next")]
    pub const NOTE: u16 = 8;
}

/// What an op says, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// See [`kind::TICKET`].
    Ticket(Ticket),
    /// See [`kind::REFUND`].
    Refund(Refund),
    /// See [`kind::MOVEMENT`].
    Movement(Movement),
    /// See [`kind::EDIT`].
    Edit(Edit),
    /// See [`kind::ADMIT`].
    Admit(Admit),
    /// See [`kind::RETIRE`].
    Retire(Retire),
    /// See [`kind::STATE`].
    State(State),
    /// See [`kind::NOTE`].
    #[cfg(feature = "next")]
    Note(Note),
}

/// Why an op is held rather than applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HoldReason {
    /// Made by a later version.
    #[error("its kind {kind} schema {schema} is not known to this version: update this till")]
    Unknown {
        /// The op's kind.
        kind: u16,
        /// The op's schema.
        schema: u16,
    },
    /// Its bytes do not decode.
    #[error("its body of kind {kind} does not decode")]
    Malformed {
        /// The op's kind.
        kind: u16,
    },
    /// Over [`BODY_APPLY_MAX`], or [`STATE_BYTES_MAX`].
    #[error("its body of {bytes} bytes is over the limit")]
    TooLarge {
        /// The body's length.
        bytes: usize,
    },
}

/// The schema of all bodies that this version writes.
pub const SCHEMA: u16 = 1;

impl Body {
    /// The op that says this.
    #[must_use]
    pub fn to_op(&self, hlc: Hlc) -> Op {
        let (kind, body) = match self {
            Self::Ticket(b) => (kind::TICKET, canonical(b)),
            Self::Refund(b) => (kind::REFUND, canonical(b)),
            Self::Movement(b) => (kind::MOVEMENT, canonical(b)),
            Self::Edit(b) => (kind::EDIT, canonical(b)),
            Self::Admit(b) => (kind::ADMIT, canonical(b)),
            Self::Retire(b) => (kind::RETIRE, canonical(b)),
            Self::State(b) => (kind::STATE, canonical(b)),
            #[cfg(feature = "next")]
            Self::Note(b) => (kind::NOTE, canonical(b)),
        };
        Op { hlc, kind, schema: SCHEMA, body }
    }

    /// Reads an op.
    ///
    /// # Errors
    /// Says why the op must be held: an unknown kind or schema, bytes that do not decode, a body over the limit.
    pub fn from_op(op: &Op) -> Result<Self, HoldReason> {
        let most = if op.kind == kind::STATE { STATE_BYTES_MAX } else { BODY_APPLY_MAX };
        if op.body.len() > most {
            return Err(HoldReason::TooLarge { bytes: op.body.len() });
        }
        if op.schema != SCHEMA || level::of_kind(op.kind) > level::LEVEL {
            return Err(HoldReason::Unknown { kind: op.kind, schema: op.schema });
        }
        let body = match op.kind {
            kind::TICKET => decode(&op.body).map(Self::Ticket),
            kind::REFUND => decode(&op.body).map(Self::Refund),
            kind::MOVEMENT => decode(&op.body).map(Self::Movement),
            kind::EDIT => decode(&op.body).map(Self::Edit),
            kind::ADMIT => decode(&op.body).map(Self::Admit),
            kind::RETIRE => decode(&op.body).map(Self::Retire),
            #[cfg(feature = "next")]
            kind::NOTE => decode(&op.body).map(Self::Note),
            _ => decode(&op.body).map(Self::State),
        };
        body.ok_or(HoldReason::Malformed { kind: op.kind })
    }

    /// Which till made it, where the content says so.
    #[must_use]
    pub fn till(&self) -> Option<TillId> {
        match self {
            Self::Ticket(b) => Some(b.made.till),
            Self::Refund(b) => Some(b.made.till),
            Self::Movement(b) => Some(b.made.till),
            Self::Edit(_) | Self::State(_) => None,
            #[cfg(feature = "next")]
            Self::Note(b) => Some(b.made.till),
            Self::Admit(b) => Some(b.till),
            Self::Retire(b) => Some(b.till),
        }
    }
}

/// The canonical bytes of a body: postcard.
#[must_use]
pub fn canonical<T: Serialize>(body: &T) -> Vec<u8> {
    postcard::to_stdvec(body).expect("a body of plain data serialises into memory")
}

/// The content hash of a record: SHA-256 of its canonical bytes.
#[must_use]
pub fn content_hash(canonical_bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(canonical_bytes).into()
}

/// Canonical means one encoding only: what decodes but encodes otherwise, or has bytes left over, is refused.
fn decode<T: Serialize + for<'de> Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    let (body, rest) = postcard::take_from_bytes::<T>(bytes).ok()?;
    (rest.is_empty() && canonical(&body) == bytes).then_some(body)
}

/// Bytes as one postcard byte string rather than a sequence of numbers.
mod bytes {
    use serde::{Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        struct Bytes;
        impl<'de> de::Visitor<'de> for Bytes {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_borrowed_bytes<E: de::Error>(self, bytes: &'de [u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
