//! The mesh's sockets: listener, dialler, and links (WebSocket with Noise inside).
//!
//! # What it promises
//!
//! - A link carries whole messages of at most 1 MiB, opaque here, in order, each way, between two tills that have proved to
//!   hold the same store key and have agreed on a protocol. What is on the wire is in [`crate::wire::frame`].
//! - Nothing waits for a slow till. What is queued for one is bounded by [`Limits::queue_bytes`]; beyond, [`LinkHandle::try_send`]
//!   says [`SendError::Full`] and nothing is kept. What is received and not yet handled is bounded by
//!   [`Limits::received_bytes`] over all links; beyond, links stop reading.
//! - No stranger gets far: a handshake ends within [`Limits::handshake_deadline`], few run at once, each address is
//!   rate-limited, every length is checked before memory is taken, and a cause is logged at most once a minute and address.
//! - It never gives up: a taken port, an unreachable till, an exhausted file table are tried again for ever.
//! - Two links between the same two tills may exist for a moment, when both dial: which one stays is decided by the
//!   sync core, which then calls [`MeshHandle::close`] with [`Bye::Duplicate`](crate::wire::frame::Bye).
//!
//! # Layout
//!
//! ```text
//! listener   accepts, caps, rate-limits       dialler   targets, backoff, "is it linked already?"
//!      \                                          /
//!       handshake   upgrade, preamble, Noise, Hello
//!                          |
//!                        link    reads, writes, queue, goodbye
//! posplus    connections with POSPlus, plaintext, beside all that
//! shared     what all of them hold: registry of links, on/off, counters      limiter, backoff, noise, refused   parts
//! ```
//!
//! Everything runs as tasks of the runtime that [`spawn`] is called on, one for each link, dial target and handshake under way.

mod backoff;
mod dialler;
mod handshake;
mod limiter;
mod link;
mod listener;
mod noise;
mod posplus;
mod refused;
mod shared;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

pub use self::dialler::Target;
pub use self::link::{LinkEnd, LinkHandle, LinkId, Received, SendError};
pub use self::noise::{Identity, NoiseError, StoreKey};
pub use self::posplus::{DIAL_AFTER, PosplusDoor, PosplusLink};
pub use self::refused::Refused;
use self::shared::{Mode, Shared};
use crate::model::id::TillId;
use crate::wire::frame::Bye;
use crate::wire::hello::Hello;

/// What a till says of itself, asked anew for every handshake. The mesh sets `port` itself.
pub type HelloSource = Arc<dyn Fn() -> Hello + Send + Sync>;

/// What a mesh is made of.
#[derive(Clone)]
pub struct MeshConfig {
    /// The port to listen on, all addresses, IPv6 and IPv4; 0 for any free one.
    pub port: u16,
    /// This till's static key.
    pub identity: Identity,
    /// The store's key.
    pub key: StoreKey,
    /// What this till says of itself.
    pub hello: HelloSource,
    /// Whether the mesh is on from the start.
    pub enabled: bool,
    /// Its bounds.
    pub limits: Limits,
    /// Who may come in as POSPlus does.
    pub posplus: PosplusDoor,
}

impl fmt::Debug for MeshConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshConfig")
            .field("port", &self.port)
            .field("identity", &self.identity)
            .field("key", &self.key)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// The bounds of a mesh. The defaults are the product's; tests tighten them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a connection may take from its first byte to a valid Hello; reaching an address gets as long again.
    pub handshake_deadline: Duration,
    /// How many accepted connections may be in their handshake at once.
    pub pending: usize,
    /// How many of them from one address.
    pub pending_per_address: usize,
    /// How many connections an address may open in a row. One that becomes a link does not count.
    pub accept_burst: u32,
    /// How many connections a second an address may open in the long run.
    pub accept_per_second: u32,
    /// How many links there may be at once.
    pub links: usize,
    /// How many bytes may be queued for one link. A single message over it still goes out when nothing else is queued.
    pub queue_bytes: usize,
    /// How many bytes of messages, over all links, may be received and not yet dropped by who handles [`MeshEvent::Frame`].
    pub received_bytes: usize,
    /// How long to wait before binding a taken port again.
    pub listen_retry: Duration,
    /// The ceiling of the first wait before dialling again; it doubles up to `redial_max`.
    pub redial_first: Duration,
    /// The longest wait before dialling again: the config's `reconnectInterval`, and at most 30 s (see [`Limits::with_reconnect_interval`]).
    pub redial_max: Duration,
    /// The wait, doubled at most by chance, before dialling a till again that refused for a lasting cause such as another key.
    pub redial_refused: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_deadline: Duration::from_secs(3),
            pending: 8,
            pending_per_address: 4,
            accept_burst: 16,
            accept_per_second: 4,
            links: 64,
            queue_bytes: 512 * 1024,
            received_bytes: 2 * 1024 * 1024,
            listen_retry: Duration::from_secs(3),
            redial_first: Duration::from_millis(500),
            redial_max: Duration::from_secs(30),
            redial_refused: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// The same with the `reconnectInterval` of `pos-config.json`: the longest that an unreachable till waits to be dialled
    /// again. Waits begin at half a second and grow up to it, so that a lost till is back soon; more than 30 s is taken as 30 s.
    #[must_use]
    pub fn with_reconnect_interval(self, interval: Duration) -> Self {
        let redial_max = interval.clamp(self.redial_first, Duration::from_secs(30));
        Self { redial_max, ..self }
    }
}

/// What a mesh tells. For one link: one `LinkUp`, its `Frame`s, one `LinkDown`, in this order.
#[derive(Debug)]
pub enum MeshEvent {
    /// A link is ready.
    LinkUp(Box<LinkUp>),
    /// A message came in. Dropping `bytes` makes room for more: hold on to them no longer than needed.
    Frame {
        /// The link.
        link: LinkId,
        /// The message.
        bytes: Received,
    },
    /// A link has ended. Nothing more can be sent on it.
    LinkDown {
        /// The link.
        link: LinkId,
        /// Why.
        end: LinkEnd,
    },
    /// A POSPlus till is connected. Its messages do not come as `Frame`s.
    Posplus(Box<PosplusLink>),
    /// The mesh listens.
    Listening {
        /// On this port.
        port: u16,
    },
    /// The mesh cannot listen, and tries again by itself. Told once for each different error. It dials all the same.
    ListenFailed {
        /// The port.
        port: u16,
        /// What the operating system says, and what to do.
        error: String,
    },
    /// A dialled address is this till itself. It is not dialled again until its target's addresses change.
    Ourselves {
        /// The address.
        addr: SocketAddr,
    },
    /// Connections of one address did not become links, all for one cause. Told at most once a minute for each.
    Refused {
        /// The other end.
        addr: SocketAddr,
        /// The cause of the latest.
        why: Refused,
        /// How many connections this stands for.
        times: u64,
    },
}

/// A link that is ready.
#[derive(Debug)]
pub struct LinkUp {
    /// Its number, never used again.
    pub link: LinkId,
    /// The till that proved itself at the other end.
    pub till: TillId,
    /// Its static public key (X25519).
    pub public_key: [u8; 32],
    /// What that till said of itself.
    pub hello: Hello,
    /// The protocol that both speak.
    pub proto: u16,
    /// The other end's address.
    pub addr: SocketAddr,
    /// Whether this till dialled.
    pub dialled_by_us: bool,
    /// What to send with.
    pub handle: LinkHandle,
}

/// What a mesh has done since its start, and how it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeshStats {
    /// Whether it is on.
    pub enabled: bool,
    /// The port that it listens on, if it does.
    pub port: Option<u16>,
    /// Links that are up.
    pub links: usize,
    /// Accepted connections in their handshake.
    pub pending: usize,
    /// Connections accepted from the network, whatever became of them.
    pub accepted: u64,
    /// Addresses dialled.
    pub dials: u64,
    /// Addresses dialled that did not answer.
    pub dials_failed: u64,
    /// Connections that did not become links, by [`Refused::label`].
    pub refused: BTreeMap<&'static str, u64>,
    /// Bytes of messages sent.
    pub bytes_sent: u64,
    /// Bytes of messages received.
    pub bytes_received: u64,
}

/// Starts a mesh on the current runtime. It ends with [`MeshHandle::shutdown`], or when the receiver of `events` is dropped.
///
/// # Panics
/// Outside of a tokio runtime.
#[must_use]
pub fn spawn(config: MeshConfig, events: mpsc::Sender<MeshEvent>) -> MeshHandle {
    let shared = Shared::new(config, events);
    shared.spawn(listener::run(Arc::clone(&shared)));
    shared.spawn(dialler::run(Arc::clone(&shared)));
    MeshHandle(shared)
}

/// Steers a mesh. Cheap to clone; nothing here waits but [`MeshHandle::shutdown`].
#[derive(Clone)]
pub struct MeshHandle(Arc<Shared>);

impl MeshHandle {
    /// Ends a link, telling the other till why. Its `LinkDown` follows. Nothing happens where it has ended.
    pub fn close(&self, link: LinkId, reason: Bye) {
        self.0.close(link, reason);
    }

    /// Sets whom to dial, for ever and until set otherwise. Targets that stay keep their backoff; links of those that are gone
    /// stay up.
    pub fn set_targets(&self, targets: Vec<Target>) {
        self.0.set_targets(targets);
    }

    /// Dials every target that is not linked at once, and starts its backoff afresh.
    pub fn dial_now(&self) {
        self.0.dial_now();
    }

    /// Switches the mesh off (no listening, no dialling, links closed) or on, at once.
    pub fn set_enabled(&self, enabled: bool) {
        self.0.set_mode(if enabled { Mode::On } else { Mode::Off });
    }

    /// Sets which tills are retired: their links are closed now, and refused from now on.
    pub fn set_denied(&self, denied: HashSet<TillId>) {
        self.0.set_denied(denied);
    }

    /// How the mesh stands.
    #[must_use]
    pub fn stats(&self) -> MeshStats {
        self.0.stats()
    }

    /// Ends the mesh: tells every linked till, and waits for the links to close, at most a second or so. Events must be taken
    /// meanwhile, or the wait runs to its end.
    pub async fn shutdown(&self) {
        self.0.set_mode(Mode::Stopping);
        self.0.until_idle(link::FAREWELL_MAX + Duration::from_millis(200)).await;
    }
}

impl fmt::Debug for MeshHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MeshHandle").field(&self.stats()).finish()
    }
}
