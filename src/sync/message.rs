//! What tills say to each other once a link is open.

use serde::{Deserialize, Serialize};

use crate::model::id::{Origin, TillId};
use crate::model::op::{Head, OpBatch, Seq};

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
}

/// A till and where it was last reached.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct KnownPeer {
    /// The till.
    pub till: TillId,
    /// `address:port`, the till's listening port.
    pub address: String,
}
