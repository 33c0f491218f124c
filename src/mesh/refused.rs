//! Why a connection did not become a link.

use tokio_tungstenite::tungstenite;

use super::noise::NoiseError;
use crate::wire::frame::{Bye, FrameError};
use crate::wire::hello::{HelloError, Refusal};

/// Why a connection, dialled or accepted, did not become a link. The texts say what to do where there is something to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many handshakes are under way as may be at once, in all or from this address; or as many links.
    #[error("too many connections at once")]
    Busy,
    /// The address connects more often than any till does.
    #[error("too many connections in a short time from this address")]
    RateLimited,
    /// The handshake did not end in time.
    #[error("the handshake did not end in time: no till, or a very slow network")]
    Deadline,
    /// The connection ended in the handshake.
    #[error("the connection was lost in the handshake: {0}")]
    Lost(String),
    /// What is at the other end does not speak WebSocket as a till does.
    #[error("not a tillmesh agent: {0}")]
    NotTillmesh(String),
    /// A WebSocket without our subprotocol.
    #[error("the other end does not speak the WebSocket subprotocol tillmesh.1: not a tillmesh agent")]
    Subprotocol,
    /// It speaks as POSPlus does, and such links are off.
    #[error(
        "it connects as POSPlus does (no WebSocket subprotocol), and \"posplus.enabled\" is off in pos-config.json: turn it on while POSPlus \
         tills are in the shop"
    )]
    PosplusOff,
    /// It speaks as POSPlus does, and its address is not among those that may.
    #[error(
        "it connects as POSPlus does (no WebSocket subprotocol), and its address is not in \"posplus.allow\" of pos-config.json: add it if \
         it is a POSPlus till of this shop"
    )]
    PosplusAddress,
    /// It claims to be this very till.
    #[error("a POSPlus till says that it has this till's own posId: give one of them another")]
    PosplusOurId,
    /// It claims to be another till of the store.
    #[error(
        "a POSPlus till says that it has the posId {0} of a till of this store: give one of them another, or retire the till that is gone"
    )]
    PosplusTillId(String),
    /// The first bytes of the transport are wrong.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The Hello is wrong.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The dialler named another store.
    #[error("the till belongs to another store: give both the same \"store\" in pos-config.json")]
    Store,
    /// The dialler named another key epoch.
    #[error(
        "the till holds store key {theirs}, this one holds {ours}: give both the same \"store\" in pos-config.json"
    )]
    KeyEpoch {
        /// The epoch of this till's key.
        ours: u32,
        /// The epoch that the dialler named.
        theirs: u32,
    },
    /// The store key of the other end is not ours.
    #[error("the till does not hold this store's key: give both the same \"store\" in pos-config.json")]
    WrongKey,
    /// The cipher cannot be set up here.
    #[error("cipher: {0}")]
    Cipher(NoiseError),
    /// The till is retired from the store.
    #[error("the till is retired from the store: admit it again if that was a mistake")]
    Retired,
    /// Both are tills with the same key, and still cannot work together.
    #[error(transparent)]
    Refusal(#[from] Refusal),
    /// The other end refused, and said why.
    #[error("the till at the other end refuses: {0}")]
    Told(Bye),
}

impl Refused {
    /// A short name for counters and for grouping log lines.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::RateLimited => "rate-limited",
            Self::Deadline => "deadline",
            Self::Lost(_) => "lost",
            Self::NotTillmesh(_) => "not-tillmesh",
            Self::Subprotocol => "subprotocol",
            Self::PosplusOff => "posplus-off",
            Self::PosplusAddress => "posplus-address",
            Self::PosplusOurId => "posplus-our-id",
            Self::PosplusTillId(_) => "posplus-till-id",
            Self::Frame(_) | Self::Hello(_) => "garbage",
            Self::Store | Self::Refusal(Refusal::Store { .. }) => "store",
            Self::KeyEpoch { .. } => "key-epoch",
            Self::WrongKey => "wrong-key",
            Self::Cipher(_) => "cipher",
            Self::Retired => "retired",
            Self::Refusal(Refusal::Ourselves) => "ourselves",
            Self::Refusal(Refusal::Currency { .. }) => "currency",
            Self::Refusal(Refusal::TooOld { .. } | Refusal::TooNew { .. }) => "protocol",
            Self::Told(_) => "told",
        }
    }

    /// Whether the cause stays until a person does something, so that dialling again soon is of no use.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Busy | Self::RateLimited | Self::Deadline | Self::Lost(_) | Self::Cipher(_) => false,
            Self::Told(bye) => bye.is_lasting(),
            _ => true,
        }
    }

    /// Whether the other end is this very agent.
    pub(super) fn is_ourselves(&self) -> bool {
        matches!(self, Self::Refusal(Refusal::Ourselves) | Self::Told(Bye::Ourselves))
    }

    /// What to tell the other end, if it is worth telling.
    pub(super) fn bye(&self) -> Option<Bye> {
        match self {
            Self::Busy | Self::RateLimited => Some(Bye::Busy),
            Self::NotTillmesh(_) | Self::Frame(_) | Self::Hello(_) => Some(Bye::Violation),
            Self::Store => Some(Bye::Store),
            Self::KeyEpoch { .. } => Some(Bye::KeyEpoch),
            Self::WrongKey => Some(Bye::WrongKey),
            Self::Retired => Some(Bye::Retired),
            Self::Refusal(refusal) => Some(refusal.bye()),
            Self::PosplusOff | Self::PosplusAddress | Self::PosplusOurId | Self::PosplusTillId(_) => None,
            Self::Deadline | Self::Lost(_) | Self::Subprotocol | Self::Cipher(_) | Self::Told(_) => None,
        }
    }
}

impl From<NoiseError> for Refused {
    fn from(error: NoiseError) -> Self {
        match error {
            NoiseError::Decrypt => Self::WrongKey,
            other => Self::Cipher(other),
        }
    }
}

impl From<tungstenite::Error> for Refused {
    fn from(error: tungstenite::Error) -> Self {
        use tungstenite::Error as E;
        use tungstenite::error::ProtocolError as P;
        match error {
            E::Io(error) => Self::Lost(error.to_string()),
            E::ConnectionClosed
            | E::AlreadyClosed
            | E::Protocol(P::ResetWithoutClosingHandshake | P::HandshakeIncomplete) => {
                Self::Lost("closed by the other end".to_owned())
            }
            E::Protocol(P::SecWebSocketSubProtocolError(_)) => Self::Subprotocol,
            // As a listener: our own answer to a client without the subprotocol. As a dialler: the answer of some web server.
            E::Http(_) => Self::Subprotocol,
            other => Self::NotTillmesh(other.to_string()),
        }
    }
}
