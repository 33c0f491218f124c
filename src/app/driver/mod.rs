//! The task that holds the replica: it hears the mesh, the store, discovery and the API, feeds the replica, and carries out what that
//! wants. One task, so that the replica needs no lock.

mod board;
mod carry;
mod commands;
mod doctor;
mod doorstep;
mod links;
mod look;
pub(super) mod memory;
mod shop;
pub(super) mod upkeep;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use super::alerts::{Alerts, Code, History};
use super::board::{BoardLink, Report};
use super::clock::{self, Uptime};
use super::posplus::{News, Posplus};
use super::run::IDENTITY_NOTE;
use super::shop::Shop;
use crate::api::{AgentStatus, ApiCommand, Traffic};
use crate::board::led::LedState;
use crate::board::pattern::Steady;
use crate::config::{Admission, ConfigManager};
use crate::discovery::{Candidates, DiscoveryEvent, DiscoveryHandle, Kin, TargetKey};
use crate::mesh::{LinkHandle, MeshEvent, MeshHandle, Target};
use crate::model::close::Closes;
use crate::model::id::TillId;
use crate::store::{Counts, Remember, RememberedPeer, Request, RosterEntry, Store, StoreEvent};
use crate::sync::{Input, LinkId, Replica, SnapshotProgress};
use crate::wire::hello::Hello;

use doorstep::Doorstep;
use memory::Memory;
use upkeep::Upkeep;

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
    /// Those that were raised before.
    pub(super) history: History,
    /// How other tills are.
    pub(super) shop: Shop,
    pub(super) status: watch::Sender<Arc<AgentStatus>>,
    /// Where tills were when this one last ran.
    pub(super) remembered: Vec<RememberedPeer>,
    /// How this till enters the roster.
    pub(super) admission: Request,
    pub(super) upkeep: Upkeep,
    /// POSPlus tills, where they are let in.
    pub(super) posplus: Option<Posplus>,
    /// Ends of origins that the database knows.
    pub(super) closes: Closes,
    pub(super) board: BoardLink,
}

/// Where a driver hears.
pub(super) struct Ears {
    pub(super) mesh: mpsc::Receiver<MeshEvent>,
    pub(super) store: mpsc::UnboundedReceiver<StoreEvent>,
    /// For how long the store's thread has not answered, where that is a fault.
    pub(super) silence: watch::Receiver<Option<Duration>>,
    pub(super) discovery: mpsc::Receiver<DiscoveryEvent>,
    pub(super) commands: mpsc::Receiver<ApiCommand>,
    pub(super) board: watch::Receiver<Report>,
}

/// See the module's page.
pub(super) struct Driver {
    uptime: Uptime,
    /// Shared with the blocking thread that writes the file.
    config: Arc<Mutex<ConfigManager>>,
    enabled: bool,
    discovery_enabled: bool,
    admission: Admission,
    own_admission: Request,
    /// The config's `peers` that are host names: the dialler looks them up.
    named_peers: Vec<String>,
    till: TillId,
    replica: Replica,
    store: Store,
    mesh: MeshHandle,
    discovery: DiscoveryHandle,
    candidates: Candidates,
    alerts: Alerts,
    history: History,
    shop: Shop,
    stored: shop::Stored,
    links: HashMap<LinkId, Link>,
    /// Other tills that are known: of the roster, or linked.
    members: BTreeMap<TillId, Member>,
    /// Other tills of the roster.
    admitted: HashSet<TillId>,
    /// Tills that hold the store key and wait for an operator.
    pending: BTreeMap<TillId, Waiting>,
    /// What mDNS calls a till.
    found: HashMap<TillId, String>,
    listening: Option<u16>,
    memory: Memory,
    upkeep: Upkeep,
    posplus: Option<Posplus>,
    /// Those that are not let in.
    doorstep: Doorstep,
    /// Ends of origins that have been told of.
    closes: Closes,
    /// The snapshot that is being taken.
    snapshot: Option<SnapshotProgress>,
    /// What the store and the disk answered, to be fed to the replica.
    answers: mpsc::UnboundedSender<Answer>,
    answered: mpsc::UnboundedReceiver<Answer>,
    status: watch::Sender<Arc<AgentStatus>>,
    /// What the LED is to show.
    show: watch::Sender<LedState>,
    led: Steady,
    /// The part of the status that stays.
    base: AgentStatus,
    /// Something that status shows has changed.
    changed: bool,
    published_ms: Option<u64>,
    /// When alerts were last looked at.
    looked_ms: u64,
    /// What has been counted; what the mesh counts is put in when it is told.
    traffic: Traffic,
}

/// An answer that came in later.
enum Answer {
    Input(Input),
    Upkeep(upkeep::Done),
    Roster(Vec<RosterEntry>),
    /// What the database holds, and how many sales are here alone; none where it cannot be read.
    Stored(Option<(Counts, u64)>),
    Enabled {
        enabled: bool,
        /// What the database is to remember of the config.
        identity: String,
    },
}

/// A link that is up.
struct Link {
    handle: LinkHandle,
    hello: Hello,
    till: TillId,
    address: String,
    since_ms: u64,
}

/// A till that waits to be admitted.
#[derive(Clone)]
struct Waiting {
    address: String,
    pos_id: String,
    pos_name: String,
    public_key: [u8; 32],
}

/// Another till.
#[derive(Clone, Debug, Default)]
struct Member {
    pos_id: String,
    pos_name: String,
    address: Option<String>,
    last_seen_ms: Option<u64>,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        let (answers, answered) = mpsc::unbounded_channel();
        let config = parts.config.config().clone();
        let base = AgentStatus::clone(&parts.status.borrow());
        let mut candidates = parts.candidates;
        let is_literal = |text: &String| text.parse::<SocketAddr>().is_ok();
        let (literal, named): (Vec<_>, Vec<_>) = config.peers.iter().map(ToString::to_string).partition(is_literal);
        candidates.set_static(literal.iter().filter_map(|text| text.parse().ok()));
        let mut driver = Self {
            uptime: parts.uptime,
            enabled: config.p2p.enabled,
            discovery_enabled: config.p2p.discovery_enabled,
            config: Arc::new(Mutex::new(parts.config)),
            admission: config.store.admission,
            named_peers: named,
            till: parts.till,
            replica: parts.replica,
            store: parts.store,
            mesh: parts.mesh,
            discovery: parts.discovery,
            candidates,
            alerts: parts.alerts,
            history: parts.history,
            shop: parts.shop,
            stored: shop::Stored::default(),
            links: HashMap::new(),
            members: BTreeMap::new(),
            admitted: HashSet::new(),
            pending: BTreeMap::new(),
            found: HashMap::new(),
            listening: None,
            memory: Memory::default(),
            upkeep: parts.upkeep,
            posplus: parts.posplus,
            doorstep: Doorstep::default(),
            closes: parts.closes,
            snapshot: None,
            answers,
            answered,
            base,
            status: parts.status,
            show: parts.board.show,
            led: Steady::new(LedState::Starting),
            changed: true,
            published_ms: None,
            looked_ms: 0,
            traffic: Traffic::default(),
            own_admission: parts.admission,
        };
        driver.recall(parts.remembered);
        driver.know_board(parts.board.board);
        let report = parts.board.reports.borrow().clone();
        driver.on_board(report);
        driver
    }

    fn recall(&mut self, remembered: Vec<RememberedPeer>) {
        self.addresses_known(remembered.iter().map(|peer| (peer.till, peer.addresses.clone())));
        for peer in remembered {
            let member = Member {
                pos_id: String::new(),
                pos_name: peer.name,
                address: peer.addresses.last().cloned(),
                last_seen_ms: Some(peer.last_seen_ms),
            };
            self.members.insert(peer.till, member);
        }
    }

    /// Runs until `stop` completes, then says goodbye on links and on mDNS.
    pub(super) async fn run(mut self, mut ears: Ears, stop: oneshot::Receiver<()>) {
        self.retarget();
        self.read_roster();
        self.admit_ourselves(self.own_admission.clone());
        tokio::select! {
            _ = stop => {}
            () = self.listen(&mut ears) => {}
        }
        info!("P2P: batches that arrived twice: {}", self.replica.duplicates());
        let mesh = self.mesh.clone();
        tokio::select! {
            () = mesh.shutdown() => {}
            () = self.listen(&mut ears) => {}
        }
        self.discovery.shutdown().await;
    }

    async fn listen(&mut self, ears: &mut Ears) {
        let mut posplus = self.posplus.as_ref().map(Posplus::status);
        loop {
            self.on_time();
            let wake = self.next_wake();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(self.uptime.at(at).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(event) = ears.mesh.recv() => self.on_mesh(event),
                Some(event) = ears.store.recv() => self.on_store(event),
                Ok(()) = ears.silence.changed() => {
                    let silent = *ears.silence.borrow_and_update();
                    self.on_silence(silent);
                }
                Some(answer) = self.answered.recv() => self.on_answer(answer),
                Some(event) = ears.discovery.recv() => self.on_discovery(event),
                Some(command) = ears.commands.recv() => self.on_command(command),
                Ok(()) = ears.board.changed() => {
                    let report = ears.board.borrow_and_update().clone();
                    self.on_board(report);
                }
                () = changed(&mut posplus) => self.changed = true,
                () = sleep => {}
            }
        }
    }

    fn on_time(&mut self) {
        let now = self.uptime.ms();
        if self.replica.next_tick().is_some_and(|at| at <= now) {
            self.feed(Input::Tick);
        }
        self.keep_acks(now);
        self.keep_history(now);
        self.keep_up(now);
        self.look(now);
        self.speak(now);
    }

    fn next_wake(&self) -> Option<u64> {
        [
            self.replica.next_tick(),
            self.memory.due(),
            self.history.due(),
            self.shop.due(),
            self.next_question(),
            self.upkeep.due(),
            self.alerts.next(self.looked_ms),
            self.next_publish(),
            self.led.next(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Input(input) => self.feed(input),
            Answer::Upkeep(done) => self.on_upkeep(done),
            Answer::Roster(roster) => self.on_roster(roster),
            Answer::Stored(stored) => return self.on_stored(stored),
            Answer::Enabled { enabled, identity } => {
                self.remember(Remember::Note { key: IDENTITY_NOTE.into(), value: Some(identity) });
                self.on_enabled(enabled);
            }
        }
        self.changed = true;
    }

    fn on_discovery(&mut self, event: DiscoveryEvent) {
        match &event {
            DiscoveryEvent::Found(found) => {
                if let (Kin::OurStore, Some(till)) = (found.kin, found.till) {
                    debug!(peer = %till, "P2P: found {} at {:?}", found.key, found.addresses);
                    self.found.insert(till, found.key.clone());
                }
            }
            DiscoveryEvent::Lost { key } => self.found.retain(|_, k| k != key),
            DiscoveryEvent::NetworkChanged => self.mesh.dial_now(),
            DiscoveryEvent::Ready => self.set_alert(Code::MulticastBlocked, "", None),
            DiscoveryEvent::Failed { error } => {
                warn!("P2P: discovery fails: {error}");
                self.set_alert(Code::MulticastBlocked, "", Some(error.to_string()));
            }
        }
        self.candidates.on_discovery(&event);
        self.doorstep.on_discovery(&event);
        if let Some(posplus) = &self.posplus {
            posplus.tell(News::Discovery(event));
        }
        self.clear_refusals();
        self.retarget();
        self.changed = true;
    }

    /// A till whose link is lost may be gone: what mDNS still says of it is looked at again, for it expires after minutes only.
    fn verify_found(&self, till: TillId) {
        if let Some(key) = self.found.get(&till) {
            self.discovery.verify(key.clone());
        }
    }

    /// Gives the dialler all that is known of where tills are.
    fn retarget(&mut self) {
        let named = self.named_peers.iter().map(|peer| Target { name: peer.clone(), addresses: vec![peer.clone()] });
        let found = self.candidates.targets().into_iter().map(|target| {
            let name = match target.key {
                TargetKey::Till(till) => till.to_string(),
                TargetKey::Address(address) => address.to_string(),
            };
            Target { name, addresses: target.addresses.iter().map(ToString::to_string).collect() }
        });
        self.mesh.set_targets(named.chain(found).collect());
        self.keep_addresses();
    }

    /// What people call a till.
    fn name_of(&self, till: TillId) -> String {
        match self.members.get(&till) {
            Some(member) if !member.pos_name.is_empty() => member.pos_name.clone(),
            Some(member) if !member.pos_id.is_empty() => member.pos_id.clone(),
            _ => till.to_string(),
        }
    }

    fn set_alert(&mut self, code: Code, subject: &str, cause: Option<String>) {
        self.alerts.set(self.uptime.ms(), clock::now().wall_ms, code, subject, cause);
        self.changed = true;
    }

    fn alert_happened(&mut self, code: Code, subject: &str, cause: String) {
        self.alerts.happened(self.uptime.ms(), clock::now().wall_ms, code, subject, cause);
        self.changed = true;
    }
}

/// Ends when what it watches has changed; never where there is nothing.
async fn changed<T>(watched: &mut Option<watch::Receiver<T>>) {
    let alive = match watched {
        Some(receiver) => receiver.changed().await.is_ok(),
        None => false,
    };
    if !alive {
        std::future::pending().await
    }
}
