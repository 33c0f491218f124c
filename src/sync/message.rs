//! What tills say to each other once a link is open.

use serde::{Deserialize, Serialize};

use crate::model::clock::Hlc;
use crate::model::close::Close;
use crate::model::id::{Origin, TillId};
use crate::model::op::{Head, Op, OpBatch, RunningHash, Seq};
use crate::model::vector::VersionVector;

/// A message. Variants are added at the end only: their position is their number on the wire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Durable heads, of all origins or of those that changed since the last one. At most [`super::HAVE_MAX`].
    Have(Vec<(Origin, Head)>),
    /// Send one origin's ops from here on, so many bytes at first. Ends an earlier stream of that origin.
    Want {
        /// Whose log.
        origin: Origin,
        /// The first sequence number.
        from: Seq,
        /// So many bytes may be sent.
        credit: u32,
    },
    /// More may be sent of a stream.
    Credit {
        /// Whose log.
        origin: Origin,
        /// So many bytes more.
        bytes: u32,
    },
    /// Ops, with the head before the first.
    Ops(OpBatch),
    /// Answer with the same number.
    Ping(u64),
    /// The answer.
    Pong(u64),
    /// Tills that we know, and where.
    Peers(Vec<KnownPeer>),
    /// Ends of origins, all on a new link and those that are new later. Told before the [`Message::Have`] that builds on them. At most
    /// [`super::CLOSES_MAX`].
    Closes(Vec<Close>),
    /// What members of the store hold durably, as they said themselves: passed on, so that tills which never meet count too. At most
    /// [`super::ACKS_MAX`].
    Acks(Vec<MemberAck>),
    /// Our running hashes at some places of a log that differs from the receiver's, ascending. Who holds the log too compares, and
    /// either closes the origin or answers with a narrower probe. At most [`super::MARKS_MAX`].
    Probe {
        /// Whose log.
        origin: Origin,
        /// Places and the hashes there; the first is one where both may agree.
        marks: Vec<Head>,
    },
    /// The ops that were wanted are compacted here: a snapshot has what they did.
    Below {
        /// Whose log.
        origin: Origin,
        /// The last compacted one.
        floor: Seq,
    },
    /// A question about a snapshot. One at a time: the next is asked when the answer is there.
    Ask(SnapshotAsk),
    /// The answer.
    Answer(SnapshotAnswer),
    /// What our state adds up to, for who holds the same ops.
    Digest(StateDigest),
    /// How tills are, as they said themselves: passed on, so that one address shows the whole shop. Told only to peers whose Hello has
    /// the feature. At most [`super::STATUS_MAX`].
    Status(Vec<TillStatus>),
}

/// How a till is, as it said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TillStatus {
    /// The till.
    pub till: TillId,
    /// When it said so: of two, the greater is the newer. Milliseconds of its hybrid clock.
    pub stamp: u64,
    /// A JSON object, as the local API tells it. Passed on as it is, so that what a later version adds gets everywhere. At most
    /// [`super::STATUS_BYTES_MAX`] bytes.
    pub body: Vec<u8>,
}

/// What a member of the store holds durably.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MemberAck {
    /// The member.
    pub till: TillId,
    /// When it said so: of two, the greater is the newer. Milliseconds of the member's hybrid clock.
    pub stamp: u64,
    /// The highest level of ops that it applies.
    pub level: u16,
    /// Its durable heads.
    pub heads: VersionVector,
}

/// Tables of a snapshot, by number: a later version may have more.
pub mod table {
    /// Tickets; keyed by their UUID and content hash.
    pub const TICKET: u16 = 1;
    /// Refunds; keyed likewise.
    pub const REFUND: u16 = 2;
    /// Movements; keyed likewise.
    pub const MOVEMENT: u16 = 3;
    /// Entities; keyed by their kind's number (one byte), their UUID, and the number of the part (two bytes) where one is too long for
    /// one row. With the ids of their replaced writes.
    pub const ENTITY: u16 = 4;
    /// Ids of replaced writes: in a [`super::StateDigest`] alone, since they travel with their entities.
    pub const REPLACED: u16 = 5;
    /// The roster; keyed by till id.
    pub const ROSTER: u16 = 6;
    /// Held ops and rows; keyed by the hash of their kind, schema and body.
    pub const HELD: u16 = 7;
    /// Remarks; keyed as tickets are.
    #[cfg(feature = "next")]
    pub const NOTE: u16 = 8;
}

/// A key in a table of a snapshot. Empty: before all.
pub type Key = Vec<u8>;

/// A question about a snapshot, which the giver holds for this link.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SnapshotAsk {
    /// Make one. Ends an earlier one of this link.
    Begin,
    /// How is a table divided into parts, from a key on?
    Parts {
        /// The snapshot's number.
        snapshot: u64,
        /// Of which table.
        table: u16,
        /// Beyond this key.
        after: Key,
    },
    /// The rows of one part.
    Rows {
        /// The snapshot's number.
        snapshot: u64,
        /// Of which table.
        table: u16,
        /// Beyond this key.
        after: Key,
        /// Up to and with this one.
        upto: Key,
    },
    /// Running hashes of a log.
    Hashes {
        /// The snapshot's number.
        snapshot: u64,
        /// Whose log.
        origin: Origin,
        /// From this sequence number on.
        from: Seq,
    },
    /// No more is wanted of it.
    End {
        /// The snapshot's number.
        snapshot: u64,
    },
}

/// An answer about a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SnapshotAnswer {
    /// It is made.
    Begun {
        /// Its number, for further questions.
        snapshot: u64,
        /// The ends of origins that it knows.
        closes: Vec<Close>,
        /// The logs whose ops it is the state of.
        logs: Vec<LogHeader>,
        /// Its tables, in the order in which they are to be taken, and about how many rows each has.
        tables: Vec<(u16, u64)>,
    },
    /// A table's parts, in key order.
    Parts {
        /// Of which table.
        table: u16,
        /// Beyond this key.
        after: Key,
        /// At most [`super::PARTS_MAX`].
        parts: Vec<Part>,
        /// Whether the table has no more.
        last: bool,
    },
    /// The rows of a part, in key order.
    Rows {
        /// Of which table.
        table: u16,
        /// Beyond this key.
        after: Key,
        /// Up to and with this one.
        upto: Key,
        /// As ops without a place; the time is zero but for held ones.
        rows: Vec<Op>,
    },
    /// Running hashes, as many as fit.
    Hashes {
        /// Whose log.
        origin: Origin,
        /// That of the first.
        from: Seq,
        /// One for each op.
        hashes: Vec<RunningHash>,
    },
    /// There is none of that number (any more): begin anew, or elsewhere.
    None,
    /// Not now: this till has too many to give, or is not whole itself.
    NotNow,
}

/// A log in a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogHeader {
    /// Whose.
    pub origin: Origin,
    /// The running hash before its first op.
    pub base: RunningHash,
    /// Where it stands.
    pub head: Head,
    /// The greatest time in it.
    pub hlc: Hlc,
    /// The hash of its last ticket; zero where it has none.
    pub tail: [u8; 32],
}

/// A part of a table of a snapshot. Where parts end follows from the rows alone, so that tills that hold the same rows divide them alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// Its last key.
    pub upto: Key,
    /// How many rows it has.
    pub rows: u32,
    /// The first 16 bytes of SHA-256 over the content hashes of its rows, in key order.
    pub digest: [u8; 16],
}

/// What a till's state adds up to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StateDigest {
    /// The first 8 bytes of SHA-256 over the version vector that it is of.
    pub vector: [u8; 8],
    /// By table (and [`STOCK_SUM`]): the sum of the first 16 bytes of the rows' hashes, modulo 2^128. Tables that one side does not name
    /// are not compared.
    pub sums: Vec<(u16, u128)>,
}

/// The number under which a [`StateDigest`] sums up stock.
pub const STOCK_SUM: u16 = 100;

/// A till and where it was last reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct KnownPeer {
    /// The till.
    pub till: TillId,
    /// `address:port`, the till's listening port.
    pub address: String,
}
