//! How tills find one another: mDNS, static seeds from the config, addresses that peers tell, remembered addresses.
//!
//! Two parts that the application joins:
//! - [`Discovery`] announces this till by DNS-SD (RFC 6763) over multicast DNS (RFC 6762), browses for others, and reports what
//!   it hears as [`DiscoveryEvent`]s;
//! - [`Candidates`] (pure) merges those events with all other sources of addresses into the list of targets that the mesh dials.
//!
//! **mDNS is a hint, never an identity.** Anyone on the LAN can announce anything. What is heard here decides only which
//! addresses are tried; who is there, the handshake tells.
//!
//! # What mDNS does not tell
//! - A till that is killed and comes back on the same port raises no event: its records never left the caches. The mesh must
//!   dial again by itself.
//! - A till that dies without a goodbye stays in the caches for two minutes. [`DiscoveryHandle::verify`] asks for it again and
//!   shortens that to three seconds.
//! - The name of a service says nothing: on a conflict the responder renames itself to `NAME (2)`. Only the TXT record counts.

mod candidates;
mod mdns;
mod service;

use std::net::SocketAddr;

pub use candidates::{Candidates, TILL_ADDRESSES_MAX, TILLS_MAX, Target, TargetKey};
pub use mdns::{Discovery, DiscoveryHandle};
pub use service::{SERVICE_TYPE, TxtKey};

use crate::model::id::{StoreId, TillId};

/// What this till announces.
#[derive(Debug, Clone)]
pub struct DiscoveryConfig {
    /// Instance name, as `posName` in the config has it; by default `POSPlus-<hostname>`. Cut to the 63 bytes of a DNS label.
    pub instance: String,
    /// Host name of this machine, without a domain. See [`SERVICE_TYPE`] for the host record that is made of it.
    pub hostname: String,
    /// TCP port that the mesh listens on.
    pub port: u16,
    /// TXT `id`: the till's human name. Not unique: two tills may carry the same.
    pub pos_id: String,
    /// TXT `version`: of this program.
    pub version: String,
    /// TXT `proto`: the highest protocol version spoken.
    pub proto: u16,
    /// Store; its [short hash](StoreId::short_hash) goes into TXT `store`.
    pub store: StoreId,
    /// Till, in TXT `till`. Announcements that carry it are our own, and are never reported.
    pub till: TillId,
}

/// What discovery tells the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoveryEvent {
    /// A service is there, or what it announces has changed: its addresses, its port, its TXT record.
    Found(Found),
    /// A service said goodbye, expired, failed to [verify](DiscoveryHandle::verify), or discovery was switched off.
    Lost {
        /// Key of the [`Found`] that is no more.
        key: String,
    },
    /// An address of this machine came or went: whoever backs off should dial at once.
    NetworkChanged,
    /// Announcements are heard: discovery works. Ends a `Failed`.
    Ready,
    /// Discovery does not work. It is tried again by itself, and this is not repeated for the same cause.
    Failed {
        /// Why, and what to do about it.
        error: DiscoveryError,
    },
}

/// A service that was found. Untrusted: anyone on the LAN can send one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Full name of the service: the handle for [`DiscoveryEvent::Lost`] and [`DiscoveryHandle::verify`], and nothing more.
    pub key: String,
    /// TXT `id`, without control characters.
    pub pos_id: Option<String>,
    /// TXT `till`.
    pub till: Option<TillId>,
    /// TXT `store`: short hash of the store id.
    pub store: Option<String>,
    /// TXT `proto`. `None`: not a tillmesh till.
    pub proto: Option<u16>,
    /// Whose it is, judging by the TXT record.
    pub kin: Kin,
    /// Where it listens: IPv4, then global IPv6, then link-local IPv6 with its scope. Never empty, no duplicates, at most
    /// [`TILL_ADDRESSES_MAX`].
    pub addresses: Vec<SocketAddr>,
}

/// Whose a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kin {
    /// A till that announces our store.
    OurStore,
    /// A tillmesh till of another store, or of none that it tells: not to be dialled.
    OtherStore,
    /// Without TXT `proto`: POSPlus, or something that looks like it.
    Posplus,
}

/// Why discovery does not work. None of them stops the till from selling; tills listed under `peers` are dialled all the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The mDNS thread does not start.
    #[error("mDNS does not start: {0}. The machine may be out of memory, threads or file descriptors")]
    Start(String),
    /// The announcement is refused by the mDNS library.
    #[error("this till cannot be announced: {0}. Check posName and the host name")]
    Announce(String),
    /// Not even our own announcement comes back.
    #[error(
        "nothing is heard on UDP port 5353, not even this till's own announcement: another program may hold the port for itself, \
         a firewall may block multicast, or no network interface is up"
    )]
    Deaf,
    /// The mDNS thread stopped delivering.
    #[error(
        "mDNS stopped delivering: more services are announced on this network than can be followed, or its thread has ended"
    )]
    Interrupted,
}
