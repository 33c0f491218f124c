//! Dials the targets, each for ever.
//!
//! A target is a till by one name and all addresses under which it may be found. Its task tries the addresses in turn, IPv4
//! first, and rests while any link leads to one of them, whoever dialled it. After a failure it waits: full jitter below a
//! ceiling that doubles from [`Limits::redial_first`](super::Limits) to `redial_max`. An address that refuses for a lasting
//! cause rests for `redial_refused`; one that is this till itself rests until the target's addresses change or
//! [`dial_now`](super::MeshHandle::dial_now).

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::backoff::{Backoff, between};
use super::link::{LinkEnd, LinkHandle};
use super::listener::{socket, tune};
use super::refused::Refused;
use super::shared::Shared;
use super::{MeshEvent, handshake, link};
use crate::model::id::{BootId, TillId};

/// How long a name may take to resolve.
const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// A link that lives that long counts as a success: the backoff begins afresh after it.
const STABLE: Duration = Duration::from_secs(10);

/// How long a target rests whose till is linked under an address that the target does not list. Not for ever: another till
/// may have taken the target's address over.
const LINKED_ELSEWHERE: Duration = Duration::from_secs(600);

/// Whom to dial: a till, and all addresses under which it may be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Tells targets apart and stands in the log. A target whose addresses change is dialled at once and keeps its backoff.
    pub name: String,
    /// `host:port`, `192.0.2.1:port`, `[2001:db8::1]:port` or, link-local, `[fe80::1%eth0]:port`. Tried in this order, but IPv4 first.
    pub addresses: Vec<String>,
}

/// The socket addresses of a target's addresses, IPv4 first.
async fn resolve_all(name: &str, addresses: &[String]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for address in addresses {
        match resolve(address).await {
            Ok(more) => found.extend(more),
            Err(error) => tracing::debug!("P2P: address {address} of {name}: {error}"),
        }
    }
    let mut seen = HashSet::new();
    found.retain(|address| seen.insert(*address));
    found.sort_by_key(SocketAddr::is_ipv6);
    found
}

async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "not host:port");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    // The system's resolver also knows the names of interfaces in scopes.
    Ok(timeout(RESOLVE_MAX, lookup_host((host, port))).await??.collect())
}

/// Keeps one task for each target while the mesh exists.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut targets = shared.targets();
    let mut running: HashMap<String, (watch::Sender<Vec<String>>, AbortHandle)> = HashMap::new();
    let mut tasks = JoinSet::new();
    loop {
        let mut wanted: HashMap<String, Vec<String>> =
            targets.borrow_and_update().iter().map(|target| (target.name.clone(), target.addresses.clone())).collect();
        running.retain(|name, (addresses, task)| match wanted.remove(name) {
            Some(now) => {
                addresses.send_if_modified(|old| std::mem::replace(old, now) != *old);
                true
            }
            None => {
                task.abort();
                false
            }
        });
        for (name, addresses) in wanted {
            let (sender, receiver) = watch::channel(addresses);
            let task = tasks.spawn(Dialling::new(&shared, name.clone(), receiver).run());
            running.insert(name, (sender, task));
        }
        tokio::select! {
            changed = targets.changed() => if changed.is_err() { return },
            Some(_) = tasks.join_next() => {}
            () = shared.until_stopped() => return,
        }
    }
}

/// What became of going through a target's addresses.
enum Outcome {
    Linked(LinkHandle),
    /// No link came of it; dial again after the backoff.
    Failed,
    /// All addresses rest, until then if at all.
    Resting(Option<Instant>),
}

/// The task of a target.
struct Dialling {
    shared: Arc<Shared>,
    name: String,
    addresses: watch::Receiver<Vec<String>>,
    backoff: Backoff,
    kicks: watch::Receiver<u64>,
    /// Addresses that are not dialled until then, or, where there is no then, at all.
    resting: HashMap<SocketAddr, Option<Instant>>,
    /// Who was there the last time, and when that was seen.
    last: Option<(TillId, BootId, Instant)>,
}

impl Dialling {
    fn new(shared: &Arc<Shared>, name: String, addresses: watch::Receiver<Vec<String>>) -> Self {
        let limits = &shared.config.limits;
        Self {
            shared: Arc::clone(shared),
            name,
            addresses,
            backoff: Backoff::new(limits.redial_first, limits.redial_max),
            kicks: shared.kicks(),
            resting: HashMap::new(),
            last: None,
        }
    }

    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while shared.until_on().await {
            let listed = self.addresses.borrow_and_update().clone();
            let addresses = resolve_all(&self.name, &listed).await;
            let mut changes = shared.changes();
            if let Some(until) = self.linked(&addresses) {
                tokio::select! {
                    _ = changes.changed() => {}
                    _ = self.addresses.changed() => self.resting.clear(),
                    () = until_maybe(until) => {}
                }
                continue;
            }
            self.kicks.mark_unchanged();
            let outcome = tokio::select! {
                outcome = self.try_all(&addresses) => outcome,
                () = shared.until_off() => continue,
            };
            match outcome {
                Outcome::Linked(handle) => self.follow(&handle, &addresses).await,
                Outcome::Failed => self.pause().await,
                Outcome::Resting(until) => self.rest(until).await,
            }
        }
    }

    /// Whether a link leads to the target, and until when to believe that.
    fn linked(&self, addresses: &[SocketAddr]) -> Option<Option<Instant>> {
        if self.shared.is_linked(addresses) {
            return Some(None);
        }
        let (till, boot, seen) = self.last?;
        let until = seen + LINKED_ELSEWHERE;
        (until > Instant::now() && self.shared.is_linked_to(till, boot)).then_some(Some(until))
    }

    async fn try_all(&mut self, addresses: &[SocketAddr]) -> Outcome {
        // Another target may name the same till: one of them dials.
        let Some(_reserved) = self.shared.reserve(addresses) else { return Outcome::Failed };
        let now = Instant::now();
        self.resting.retain(|address, until| addresses.contains(address) && until.is_none_or(|until| until > now));
        for addr in addresses {
            if self.resting.contains_key(addr) {
                continue;
            }
            self.shared.counters.dials.fetch_add(1, Relaxed);
            match dial(&self.shared, *addr).await {
                Ok((handle, boot)) => {
                    self.last = Some((handle.till(), boot, Instant::now()));
                    return Outcome::Linked(handle);
                }
                Err(DialError::Unreachable(error)) => {
                    self.shared.counters.dials_failed.fetch_add(1, Relaxed);
                    tracing::debug!("P2P: {} does not answer at {addr}: {error}", self.name);
                }
                Err(DialError::Refused(why)) => self.refused(*addr, why),
            }
        }
        if addresses.is_empty() || addresses.iter().any(|address| !self.resting.contains_key(address)) {
            return Outcome::Failed;
        }
        Outcome::Resting(self.resting.values().flatten().min().copied())
    }

    fn refused(&mut self, addr: SocketAddr, why: Refused) {
        if why.is_ourselves() {
            self.resting.insert(addr, None);
            // Where the channel is full, the address is found out again another time.
            let _ = self.shared.events.try_send(MeshEvent::Ourselves { addr });
        } else if why.is_lasting() {
            self.rest_address(addr);
        }
        self.shared.refuse(addr, why);
    }

    fn rest_address(&mut self, addr: SocketAddr) {
        let least = self.shared.config.limits.redial_refused;
        self.resting.insert(addr, Some(Instant::now() + between(least, 2 * least, random())));
    }

    /// Waits for the end of the link that was dialled.
    async fn follow(&mut self, handle: &LinkHandle, addresses: &[SocketAddr]) {
        let since = Instant::now();
        let end = handle.ended().await;
        if since.elapsed() >= STABLE {
            self.backoff.reset();
        }
        let lasting = match end {
            LinkEnd::Theirs(bye) => bye.is_lasting(),
            LinkEnd::Violation(_) => true,
            LinkEnd::Ours(_) | LinkEnd::Lost(_) => false,
        };
        if lasting {
            addresses.iter().for_each(|address| self.rest_address(*address));
        }
        if self.linked(addresses).is_none() {
            self.pause().await;
        }
    }

    /// Waits for the backoff.
    async fn pause(&mut self) {
        let wait = self.backoff.next(random());
        self.rest(Some(Instant::now() + wait)).await;
    }

    /// Waits until then, or for `dial_now`, which lets every address be tried afresh.
    async fn rest(&mut self, until: Option<Instant>) {
        tokio::select! {
            () = until_maybe(until) => {}
            () = self.shared.until_off() => {}
            Ok(()) = self.addresses.changed() => self.resting.clear(),
            Ok(()) = self.kicks.changed() => {
                self.backoff.reset();
                self.resting.clear();
            }
        }
    }
}

enum DialError {
    Unreachable(io::Error),
    Refused(Refused),
}

async fn dial(shared: &Arc<Shared>, addr: SocketAddr) -> Result<(LinkHandle, BootId), DialError> {
    let connect = async { socket(addr.ip())?.connect(addr).await };
    let stream = timeout(shared.config.limits.handshake_deadline, connect)
        .await
        .map_err(io::Error::from)
        .flatten()
        .map_err(DialError::Unreachable)?;
    tune(&stream);
    let established = handshake::dial(shared, stream, addr).await.map_err(DialError::Refused)?;
    let boot = established.hello.boot;
    let handle = link::start(shared, established).await.map_err(DialError::Refused)?;
    Ok((handle, boot))
}

async fn until_maybe(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Randomness for jitter; where the system has none, the middle will do.
fn random() -> u64 {
    getrandom::u64().unwrap_or(u64::MAX / 2)
}
