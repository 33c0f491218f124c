//! What all tasks of a mesh hold in common: the registry of links, the switch, the counters.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, timeout};

use super::dialler::Target;
use super::limiter::LogLimiter;
use super::link::{LinkHandle, LinkId};
use super::refused::Refused;
use super::{MeshConfig, MeshEvent, MeshStats, posplus};
use crate::model::id::{BootId, TillId};
use crate::wire::frame::Bye;
use crate::wire::hello::Hello;

/// The unit in which room for received messages is counted, in bytes.
const ROOM_UNIT_BYTES: usize = 1024;

/// The switch of a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    On,
    Off,
    /// For good.
    Stopping,
}

/// A link as the registry knows it.
struct Entry {
    handle: LinkHandle,
    boot: BootId,
    /// Where the till at the other end can be dialled, as far as the link tells.
    addresses: [SocketAddr; 2],
}

#[derive(Default)]
struct Registry {
    links: HashMap<LinkId, Entry>,
    denied: HashSet<TillId>,
    /// Addresses that some target's task is dialling.
    dialling: HashSet<SocketAddr>,
    last: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) dials: AtomicU64,
    pub(super) dials_failed: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) pending: AtomicUsize,
    pub(super) port: AtomicU16,
}

pub(super) struct Shared {
    pub(super) config: MeshConfig,
    pub(super) events: mpsc::Sender<MeshEvent>,
    pub(super) counters: Counters,
    /// Room for received messages, in units of [`ROOM_UNIT_BYTES`].
    room: Arc<Semaphore>,
    registry: Mutex<Registry>,
    pub(super) posplus: posplus::Registry,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    log: Mutex<LogLimiter<(&'static str, IpAddr)>>,
    mode: watch::Sender<Mode>,
    targets: watch::Sender<Vec<Target>>,
    /// Counts the calls of `dial_now`.
    kicks: watch::Sender<u64>,
    /// Counts the comings and goings of links.
    changes: watch::Sender<u64>,
    /// How many tasks run.
    tasks: watch::Sender<usize>,
}

impl Shared {
    pub(super) fn new(config: MeshConfig, events: mpsc::Sender<MeshEvent>) -> Arc<Self> {
        let mode = if config.enabled { Mode::On } else { Mode::Off };
        Arc::new(Self {
            room: Arc::new(Semaphore::new((config.limits.received_bytes / ROOM_UNIT_BYTES).max(1))),
            config,
            events,
            counters: Counters::default(),
            registry: Mutex::new(Registry::default()),
            posplus: posplus::Registry::default(),
            refused: Mutex::default(),
            log: Mutex::new(LogLimiter::new()),
            mode: watch::Sender::new(mode),
            targets: watch::Sender::default(),
            kicks: watch::Sender::default(),
            changes: watch::Sender::default(),
            tasks: watch::Sender::default(),
        })
    }

    /// Runs a task, counted until it ends or is dropped.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.send_modify(|count| *count += 1);
        let counted = Counted(Arc::clone(self));
        tokio::spawn(async move {
            let _counted = counted;
            task.await;
        });
    }

    /// Waits until no task runs, but no longer than `longest`.
    pub(super) async fn until_idle(&self, longest: Duration) {
        let mut tasks = self.tasks.subscribe();
        if timeout(longest, tasks.wait_for(|count| *count == 0)).await.is_err() {
            tracing::warn!("P2P: the mesh stops with links that did not close in time");
        }
    }

    /// What this till says of itself at this moment.
    pub(super) fn hello(&self) -> Hello {
        Hello { port: self.counters.port.load(Relaxed), ..(self.config.hello)() }
    }

    fn mode(&self) -> watch::Receiver<Mode> {
        self.mode.subscribe()
    }

    pub(super) fn targets(&self) -> watch::Receiver<Vec<Target>> {
        self.targets.subscribe()
    }

    pub(super) fn kicks(&self) -> watch::Receiver<u64> {
        self.kicks.subscribe()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Ends when the mesh is no longer on, or nobody takes its events.
    pub(super) async fn until_off(&self) {
        let mut mode = self.mode();
        tokio::select! {
            _ = mode.wait_for(|mode| *mode != Mode::On) => {}
            () = self.events.closed() => {}
        }
    }

    /// Ends when the mesh is on: true. False where it will not be on again.
    pub(super) async fn until_on(&self) -> bool {
        let mut mode = self.mode();
        tokio::select! {
            biased;
            () = self.events.closed() => false,
            mode = mode.wait_for(|mode| *mode != Mode::Off) => mode.is_ok_and(|mode| *mode == Mode::On),
        }
    }

    /// Ends when the mesh ends.
    pub(super) async fn until_stopped(&self) {
        let mut mode = self.mode();
        tokio::select! {
            _ = mode.wait_for(|mode| *mode == Mode::Stopping) => {}
            () = self.events.closed() => {}
        }
    }

    pub(super) fn set_targets(&self, targets: Vec<Target>) {
        self.targets.send_if_modified(|old| {
            let changed = *old != targets;
            *old = targets;
            changed
        });
    }

    pub(super) fn dial_now(&self) {
        self.kicks.send_modify(|count| *count += 1);
    }

    /// Turns the switch. Stopping is for good. Under the registry's lock, so that no link slips in between.
    pub(super) fn set_mode(&self, mode: Mode) {
        let registry = self.registry();
        let changed = self.mode.send_if_modified(|old| {
            let changed = *old != mode && *old != Mode::Stopping;
            *old = if changed { mode } else { *old };
            changed
        });
        let bye = match mode {
            Mode::On => return,
            Mode::Off => Bye::Disabled,
            Mode::Stopping => Bye::Shutdown,
        };
        if changed {
            registry.links.values().for_each(|entry| entry.handle.close(bye));
        }
    }

    pub(super) fn set_denied(&self, denied: HashSet<TillId>) {
        let mut registry = self.registry();
        registry.denied = denied;
        for entry in registry.links.values().filter(|entry| registry.denied.contains(&entry.handle.till())) {
            entry.handle.close(Bye::Retired);
        }
    }

    pub(super) fn is_denied(&self, till: TillId) -> bool {
        self.registry().denied.contains(&till)
    }

    pub(super) fn close(&self, link: LinkId, bye: Bye) {
        if let Some(entry) = self.registry().links.get(&link) {
            entry.handle.close(bye);
        }
    }

    /// Takes a link into the registry.
    pub(super) fn register(&self, till: TillId, hello: &Hello, addr: SocketAddr) -> Result<LinkHandle, Bye> {
        let mut registry = self.registry();
        match *self.mode.borrow() {
            Mode::On if registry.denied.contains(&till) => return Err(Bye::Retired),
            Mode::On if registry.links.len() >= self.config.limits.links => return Err(Bye::Busy),
            Mode::On => {}
            Mode::Off => return Err(Bye::Disabled),
            Mode::Stopping => return Err(Bye::Shutdown),
        }
        registry.last += 1;
        let id = LinkId(registry.last);
        let handle = LinkHandle::new(id, till, self.config.limits.queue_bytes);
        let mut dialled = addr;
        dialled.set_port(hello.port);
        let entry = Entry { handle: handle.clone(), boot: hello.boot, addresses: [addr, dialled] };
        registry.links.insert(id, entry);
        self.changes.send_modify(|count| *count += 1);
        Ok(handle)
    }

    pub(super) fn deregister(&self, link: LinkId) {
        self.registry().links.remove(&link);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Claims addresses for dialling until the claim is dropped; nothing where one of them is claimed already.
    pub(super) fn reserve(self: &Arc<Self>, addresses: &[SocketAddr]) -> Option<Reserved> {
        let mut registry = self.registry();
        if addresses.iter().any(|address| registry.dialling.contains(address)) {
            return None;
        }
        registry.dialling.extend(addresses);
        Some(Reserved { shared: Arc::clone(self), addresses: addresses.to_vec() })
    }

    /// Whether a link leads to one of these addresses.
    pub(super) fn is_linked(&self, addresses: &[SocketAddr]) -> bool {
        self.registry().links.values().any(|entry| entry.addresses.iter().any(|linked| addresses.contains(linked)))
    }

    /// Whether a link leads to this start of this till.
    pub(super) fn is_linked_to(&self, till: TillId, boot: BootId) -> bool {
        self.registry().links.values().any(|entry| entry.handle.till() == till && entry.boot == boot)
    }

    /// Waits for room for a received message. The longest fits, whatever the limit is.
    pub(super) async fn room_for(&self, bytes: usize) -> Option<tokio::sync::OwnedSemaphorePermit> {
        let units =
            bytes.div_ceil(ROOM_UNIT_BYTES).clamp(1, (self.config.limits.received_bytes / ROOM_UNIT_BYTES).max(1));
        Arc::clone(&self.room).acquire_many_owned(u32::try_from(units).ok()?).await.ok()
    }

    /// Counts a connection that did not become a link, and tells it if it is time.
    pub(super) fn refuse(&self, addr: SocketAddr, why: Refused) {
        if why.is_ourselves() {
            tracing::debug!("P2P: {addr} is this till itself");
            return;
        }
        *lock(&self.refused).entry(why.label()).or_default() += 1;
        let Some(times) = lock(&self.log).count((why.label(), addr.ip()), Instant::now()) else { return };
        tracing::warn!(peer = %addr, times, "P2P: no link with {addr}: {why}");
        // Where the channel is full, links need its room more than this does.
        let _ = self.events.try_send(MeshEvent::Refused { addr, why, times });
    }

    pub(super) fn stats(&self) -> MeshStats {
        let counters = &self.counters;
        let port = counters.port.load(Relaxed);
        MeshStats {
            enabled: *self.mode.borrow() == Mode::On,
            port: (port != 0).then_some(port),
            links: self.registry().links.len(),
            pending: counters.pending.load(Relaxed),
            accepted: counters.accepted.load(Relaxed),
            dials: counters.dials.load(Relaxed),
            dials_failed: counters.dials_failed.load(Relaxed),
            refused: lock(&self.refused).clone(),
            bytes_sent: counters.bytes_sent.load(Relaxed),
            bytes_received: counters.bytes_received.load(Relaxed),
        }
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }
}

/// A claim on addresses, see [`Shared::reserve`].
pub(super) struct Reserved {
    shared: Arc<Shared>,
    addresses: Vec<SocketAddr>,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let mut registry = self.shared.registry();
        self.addresses.iter().for_each(|address| _ = registry.dialling.remove(address));
    }
}

struct Counted(Arc<Shared>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.tasks.send_modify(|count| *count -= 1);
    }
}

/// Locks; what a panicked task left behind is whole, because no code that can panic runs under a lock.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
