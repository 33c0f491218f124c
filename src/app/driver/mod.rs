//! The task that holds the replica: it hears the mesh, the store, discovery and the API, feeds the replica, and carries out what that
//! wants. One task, so that the replica needs no lock.

mod commands;
mod links;
mod look;
mod memory;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::alerts::Alerts;
use super::clock::{self, Uptime};
use crate::api::{AgentStatus, ApiCommand};
use crate::config::{Admission, ConfigManager};
use crate::discovery::{Candidates, DiscoveryEvent, DiscoveryHandle};
use crate::mesh::{LinkHandle, MeshEvent, MeshHandle};
use crate::model::id::TillId;
use crate::store::{Store, StoreEvent};
use crate::sync::{Input, LinkId, Output, Replica};
use crate::wire::hello::Hello;

use memory::Memory;

/// Status is published at most this often.
const PUBLISH_EVERY_MS: u64 = 200;

/// What a driver is made of.
pub(super) struct Parts {
    pub(super) uptime: Uptime,
    pub(super) config: ConfigManager,
    pub(super) till: TillId,
    pub(super) replica: Replica,
    pub(super) store: Store,
    pub(super) mesh: MeshHandle,
    pub(super) discovery: DiscoveryHandle,
    pub(super) candidates: Candidates,
    pub(super) alerts: Alerts,
    pub(super) status: watch::Sender<Arc<AgentStatus>>,
}

/// Where a driver hears.
pub(super) struct Ears {
    pub(super) mesh: mpsc::Receiver<MeshEvent>,
    pub(super) store: mpsc::UnboundedReceiver<StoreEvent>,
    pub(super) discovery: mpsc::Receiver<DiscoveryEvent>,
    pub(super) commands: mpsc::Receiver<ApiCommand>,
}

/// See the module's page.
pub(super) struct Driver {
    uptime: Uptime,
    /// Shared with the blocking thread that writes the file.
    config: Arc<std::sync::Mutex<ConfigManager>>,
    enabled: bool,
    admission: Admission,
    till: TillId,
    replica: Replica,
    store: Store,
    mesh: MeshHandle,
    discovery: DiscoveryHandle,
    candidates: Candidates,
    alerts: Alerts,
    links: HashMap<LinkId, Link>,
    roster: BTreeMap<TillId, Member>,
    retired: HashSet<TillId>,
    listening: Option<u16>,
    discovers: bool,
    memory: Memory,
    waiting_for_sync: Vec<oneshot::Sender<crate::api::Synced>>,
    /// What the store and the disk answered, to be fed to the replica.
    answers: mpsc::UnboundedSender<Answer>,
    status: watch::Sender<Arc<AgentStatus>>,
    started_ms: u64,
    changed: bool,
    published_ms: u64,
}

/// An answer that came in later.
enum Answer {
    Input(Input),
    Roster(Vec<crate::store::RosterEntry>),
    Counts(look::Counted),
    Enabled(bool),
}

/// A link that is up.
struct Link {
    handle: LinkHandle,
    hello: Hello,
    till: TillId,
    address: String,
    dialled_by_us: bool,
    since_ms: u64,
}

/// A till of the roster, other than this one.
#[derive(Clone, Debug, Default)]
struct Member {
    pos_id: String,
    pos_name: String,
    address: Option<String>,
    last_seen_ms: Option<u64>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> (Self, mpsc::UnboundedReceiver<impl Sized + use<>>) {
        let (answers, answered) = mpsc::unbounded_channel::<Answer>();
        let now_ms = clock::now().wall_ms;
        let (enabled, admission) = {
            let config = parts.config.config();
            (config.p2p.enabled, config.store.admission)
        };
        let driver = Self {
            uptime: parts.uptime,
            config: Arc::new(std::sync::Mutex::new(parts.config)),
            enabled,
            admission,
            till: parts.till,
            replica: parts.replica,
            store: parts.store,
            mesh: parts.mesh,
            discovery: parts.discovery,
            candidates: parts.candidates,
            alerts: parts.alerts,
            links: HashMap::new(),
            roster: BTreeMap::new(),
            retired: HashSet::new(),
            listening: None,
            discovers: false,
            memory: Memory::default(),
            waiting_for_sync: Vec::new(),
            answers,
            status: parts.status,
            started_ms: now_ms,
            changed: true,
            published_ms: 0,
        };
        (driver, answered)
    }
}
