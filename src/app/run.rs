//! One till, from start to stop: parse, check, open, bind, spawn, stop.

use std::fs;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{info, warn};

use super::alerts::{Alerts, Code, History};
use super::board::{self, BoardLink};
use super::boot::{RUN_NOTE, Run};
use super::clock::{self, Uptime};
use super::driver::memory::HISTORY_NOTE;
use super::driver::upkeep::{INTEGRITY_NOTE, SCRUB_NOTE, Upkeep, read_integrity};
use super::driver::{Driver, Ears, Parts};
use super::life;
use super::machine::{MACHINE_NOTE, Machine};
use super::posplus::Posplus;
use super::shop::Shop;
use super::update::{self, BoxPlaces, Desk};
use crate::api::{self, AgentStatus, ApiCommand, ApiContext, BoardStatus, BootReason, Integrity, LogRing, Traffic};
use crate::board::led::LedState;
use crate::board::supervisor::Supervisor;
use crate::config::{Config, ConfigManager, ConfigNotice, DataDir, RememberedIdentity, TokenScope};
use crate::discovery::{Candidates, Discovery, DiscoveryConfig};
use crate::mesh::{self, Identity, Limits, MeshConfig, PosplusDoor, StoreKey};
use crate::model::close::Closes;
use crate::model::id::{BootId, TillId};
use crate::model::level::LEVEL;
use crate::store::{self, Author, Clock, Remember, Request, Store, StoreEvent, StoreOptions};
use crate::sync::{MemberAck, Replica, ReplicaOptions, Unfinished};
use crate::wire::hello::{FEATURE_STATUS, Hello};
use crate::wire::posplus::Decimals;
use crate::wire::{PROTO_MAX, PROTO_MIN};

/// The note under which the database keeps who the till is.
pub(super) const IDENTITY_NOTE: &str = "identity";
/// How long a stop may take for the goodbyes...
const FAREWELL_MAX: Duration = Duration::from_millis(1_400);
/// ...and for the database: 2 s in all. What was answered is on the disk already.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// What an agent is started with.
#[derive(Debug)]
pub struct RunOptions {
    /// Where the till keeps its files.
    pub folder: DataDir,
    /// Recent log lines, for the API.
    pub log: LogRing,
    /// A folder with a text for each thing that could not be set up when the box was started (on the image: `tillmesh setup`, firewall).
    pub box_problems: Option<PathBuf>,
}

/// Runs an agent until `stop` completes.
///
/// # Errors
/// What keeps it from starting, with what to do. Once it has started it runs on, whatever fails.
pub async fn run(options: RunOptions, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let RunOptions { folder, log, box_problems } = options;
    folder.create()?;
    let _lock = folder.lock()?;
    let uptime = Uptime::start();
    update::go_back(&BoxPlaces::of_environment(), &folder.database())?;
    let (manager, notices) = open_config(&folder)?;
    let (task, board) = board::start(uptime, &manager.config().led.board, folder.path(), BoxPlaces::of_environment());
    let mut alerts = notice_alerts(&notices, uptime);
    for (subject, text) in box_problems.as_deref().map(read_problems).unwrap_or_default() {
        warn!("{subject}: {text}");
        alerts.set(uptime.ms(), clock::now().wall_ms, Code::BoxSetup, &subject, Some(text));
    }
    let outcome = live(uptime, manager, alerts, board, folder, log, stop).await;
    task.end(outcome.is_ok()).await;
    outcome
}

/// From the database on, until `stop` completes; the LED shows already that the agent starts.
async fn live(
    uptime: Uptime,
    manager: ConfigManager,
    alerts: Alerts,
    board: BoardLink,
    folder: DataDir,
    log: LogRing,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let supervisor = Arc::new(Supervisor::of_environment());
    let (opened, store_heard) = open(uptime, manager, alerts, board, &folder, &supervisor).await?;
    let (store, this_run) = (opened.store.clone(), opened.run.clone());
    let [read, admin] = TokenScope::ALL.map(|scope| folder.load_or_create_api_token(scope));
    let tokens = api::Tokens::new(admin?.as_str(), read?.as_str());
    let listener = bind_api(&opened.manager).await?;
    announce_start(opened.manager.config(), opened.identity.till(), listener.local_addr()?, &folder);

    let (commands, commands_heard) = mpsc::channel(32);
    let (silent, silence) = watch::channel(None);
    let (driver, ears, status) = assemble(opened, store_heard, silence, commands_heard)?;
    let (stop_driver, driver_stops) = oneshot::channel::<()>();
    let driver = tokio::spawn(driver.run(ears, driver_stops));
    let (stop_api, api_stops) = oneshot::channel::<()>();
    let updates = Arc::new(Desk::new(BoxPlaces::of_environment(), folder.path()));
    let context =
        ApiContext { store: store.clone(), tokens, status, commands, log, data_dir: folder.path().to_owned(), updates };
    let server = tokio::spawn(api::serve(listener, context, async {
        let _ = api_stops.await;
    }));

    supervisor.ready();
    tokio::spawn(life::show(supervisor.clone(), store.clone(), silent));

    let mut driver = driver;
    let outcome = tokio::select! {
        () = stop => Ok(()),
        // Without it the LED and the status would stand still. Whoever started us starts us again.
        ended = &mut driver => Err(anyhow::anyhow!("the agent's main task has ended: {ended:?}")),
    };
    info!("stopping");
    supervisor.stopping();
    let _ = stop_api.send(());
    let _ = stop_driver.send(());
    let talk = async {
        if outcome.is_ok() {
            let _ = driver.await;
        }
        let _ = server.await;
    };
    let _ = tokio::time::timeout(FAREWELL_MAX, talk).await;
    let close = async {
        if outcome.is_ok() {
            let note = Remember::Note { key: RUN_NOTE.into(), value: Some(this_run.stopped().to_note()) };
            let _ = store.submit(Request::Remember(note)).await;
        }
        store.close().await;
    };
    let _ = tokio::time::timeout(CLOSE_MAX, close).await;
    info!("stopped");
    outcome
}

/// What must be there before anything is bound.
struct Opened {
    uptime: Uptime,
    manager: ConfigManager,
    alerts: Alerts,
    identity: Identity,
    store: Store,
    known: Known,
    board: BoardLink,
    run: Run,
    boot_reason: BootReason,
}

async fn open(
    uptime: Uptime,
    manager: ConfigManager,
    mut alerts: Alerts,
    board: BoardLink,
    folder: &DataDir,
    supervisor: &Supervisor,
) -> anyhow::Result<(Opened, mpsc::UnboundedReceiver<StoreEvent>)> {
    let machine = Machine::this();
    let moved = leave_identity_of_other_box(folder, &machine)?;
    let identity = Identity::from_private(*folder.load_or_create_till_key()?.as_bytes())?;
    let (events, heard) = mpsc::unbounded_channel();
    let clock: Clock = Arc::new(clock::now);
    let options = store_options(folder, manager.config(), &identity);
    let opening = tokio::task::spawn_blocking(move || Store::spawn(options, clock, events));
    let store = life::start(supervisor, opening).await?;
    for left in store::left_behind(&folder.database()) {
        let text = format!(
            "not all that was sold on a version that did not stay could be taken over; it is in {}",
            left.display()
        );
        alerts.set(uptime.ms(), clock::now().wall_ms, Code::UpdateFailed, "database", Some(text));
    }
    let run = Run::begins();
    let last_run = store.read(|reader| reader.memory(RUN_NOTE)).await?;
    let boot_reason = run.reason(last_run.as_deref());
    let identity_json = manager.identity_json();
    for (key, value) in [(IDENTITY_NOTE, identity_json), (MACHINE_NOTE, machine.to_note()), (RUN_NOTE, run.to_note())] {
        let note = Remember::Note { key: key.into(), value: Some(value) };
        if let Err(error) = store.submit(Request::Remember(note)).await {
            // A full disk does not keep a till from starting: what it has sold can still be read and fetched.
            warn!("the database could not be told who this till is: {error}");
        }
    }
    let known = Known::read(&store).await?;
    if moved {
        alerts.set(uptime.ms(), clock::now().wall_ms, Code::Clone, "", Some(String::new()));
    }
    Ok((Opened { uptime, manager, alerts, identity, store, known, board, run, boot_reason }, heard))
}

async fn bind_api(manager: &ConfigManager) -> anyhow::Result<TcpListener> {
    let address = manager.config().api.listen;
    TcpListener::bind(address).await.with_context(|| {
        format!(
            "the local API cannot listen on {address}: another program may use the port; change api.listen in {}",
            manager.path().display()
        )
    })
}

/// Starts mesh and discovery, and puts together the driver with what it hears.
fn assemble(
    opened: Opened,
    store: mpsc::UnboundedReceiver<StoreEvent>,
    silence: watch::Receiver<Option<Duration>>,
    commands: mpsc::Receiver<ApiCommand>,
) -> anyhow::Result<(Driver, Ears, watch::Receiver<Arc<AgentStatus>>)> {
    let Opened { uptime, manager, alerts, identity, store: handle, known, board, boot_reason, .. } = opened;
    let reports = board.reports.clone();
    let config = manager.config().clone();
    let (till, public_key) = (identity.till(), *identity.public());
    let mut boot = [0; 8];
    getrandom::fill(&mut boot).map_err(|e| anyhow::anyhow!("the system gives no randomness: {e}"))?;
    let boot = BootId(u64::from_be_bytes(boot));
    let stamp = known.stamp.max(clock::now().wall_ms);
    let replica = Replica::new(ReplicaOptions {
        till,
        boot,
        origin: known.origin,
        heads: known.heads,
        auto_sync: config.p2p.auto_sync,
        acks: known.acks,
        closes: known.closes.clone(),
        level: LEVEL,
        stamp,
        started: uptime.ms(),
        unfinished: known.unfinished,
    });
    let upkeep = Upkeep::new(known.running_ms, known.scrubbed_ms, uptime.ms());
    let mut candidates = Candidates::new(till);
    let proved = known.peers.iter().flat_map(|p| p.addresses.iter().filter_map(|a| Some((p.till, a.parse().ok()?))));
    candidates.restore(proved);

    let (mesh_events, mesh_heard) = mpsc::channel(64);
    let mesh = mesh::spawn(mesh_config(&config, identity, boot), mesh_events);
    let (discovery_events, discovery_heard) = mpsc::channel(64);
    let discovery = Discovery::spawn(discovery_config(&config, till), discovery_events);
    discovery.set_enabled(config.p2p.enabled && config.p2p.discovery_enabled);

    let first = AgentStatus { boot_reason, integrity: known.integrity, ..first_status(&config, till, boot) };
    let (status, status_seen) = watch::channel(Arc::new(first));
    let admission =
        Request::Admit { till, public_key, pos_id: config.pos_id.clone(), pos_name: config.pos_name.clone() };
    let posplus = Posplus::spawn(&config, (uptime, till), handle.clone(), mesh.clone());
    let driver = Driver::new(Parts {
        uptime,
        till,
        replica,
        store: handle,
        mesh,
        discovery,
        candidates,
        alerts,
        history: known.history,
        shop: Shop::new(till, stamp),
        status,
        remembered: known.peers,
        admission,
        upkeep,
        posplus,
        closes: known.closes,
        config: manager,
        board,
    });
    let ears = Ears { mesh: mesh_heard, store, silence, discovery: discovery_heard, commands, board: reports };
    Ok((driver, ears, status_seen))
}

/// Opens the config with what the database remembers of it.
fn open_config(folder: &DataDir) -> anyhow::Result<(ConfigManager, Vec<ConfigNotice>)> {
    use crate::config::Memory;
    let memory = if !folder.has_database()? {
        Memory::NoDatabase
    } else {
        match store::read_note(&folder.database(), IDENTITY_NOTE)? {
            None => Memory::Blank,
            Some(text) => match RememberedIdentity::from_json(&text) {
                Ok(identity) => Memory::Identity(Box::new(identity)),
                Err(problems) => {
                    warn!("the identity that the database remembers is not usable: {problems}");
                    Memory::Blank
                }
            },
        }
    };
    let (manager, notices) = ConfigManager::open(folder, memory)?;
    for notice in &notices {
        match notice {
            ConfigNotice::Created | ConfigNotice::OwnStore => info!("{notice}"),
            _ => warn!("{notice}"),
        }
    }
    Ok((manager, notices))
}

/// Where the data folder woke up in another box than the one that its database remembers, its key goes aside: the other box may be alive,
/// and two tills of one key would write under one name. The store mints a fresh origin for the new key. A restored database of another
/// till, beside a key of this one, needs none of that.
fn leave_identity_of_other_box(folder: &DataDir, machine: &Machine) -> anyhow::Result<bool> {
    if !folder.has_database()? {
        return Ok(false);
    }
    let note = store::read_note(&folder.database(), MACHINE_NOTE)?;
    let other = note.and_then(|note| Machine::of_note(&note)).is_some_and(|known| machine.is_other_than(&known));
    let key = Identity::from_private(*folder.load_or_create_till_key()?.as_bytes())?;
    let moved = other && store::read_writer(&folder.database())? == Some(key.till());
    if moved && let Some(aside) = folder.set_aside_till_key()? {
        warn!("this data was another box's: this till takes a new key; the former one is {}", aside.display());
    }
    Ok(moved)
}

fn notice_alerts(notices: &[ConfigNotice], uptime: Uptime) -> Alerts {
    let mut alerts = Alerts::default();
    for notice in notices {
        let code = match notice {
            ConfigNotice::Created | ConfigNotice::OwnStore => continue,
            ConfigNotice::Damaged { .. } | ConfigNotice::Missing | ConfigNotice::NotSaved { .. } => Code::ConfigDamaged,
            ConfigNotice::BadValues(_) => Code::ConfigInvalid,
            ConfigNotice::ExampleKey | ConfigNotice::Exposed => Code::StoreKeyExposed,
        };
        alerts.set(uptime.ms(), clock::now().wall_ms, code, "", Some(notice.to_string()));
    }
    alerts
}

/// The texts of a folder by the names of their files; none where there is no such folder.
fn read_problems(folder: &Path) -> Vec<(String, String)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut problems: Vec<_> = entries
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), text.trim().to_owned()))
        })
        .collect();
    problems.sort();
    problems
}

fn store_options(folder: &DataDir, config: &Config, identity: &Identity) -> StoreOptions {
    let author = Author {
        till: identity.till(),
        public_key: *identity.public(),
        pos_id: config.pos_id.clone(),
        pos_name: config.pos_name.clone(),
        currency: currency(config),
        time_zone: config.store.time_zone.clone(),
    };
    StoreOptions { path: folder.database(), author, level: LEVEL }
}

fn currency(config: &Config) -> [u8; 3] {
    config.store.currency.as_bytes().try_into().expect("the config takes currencies of three letters only")
}

fn mesh_config(config: &Config, identity: Identity, boot: BootId) -> MeshConfig {
    let hello = Hello {
        store: config.store.id,
        currency: currency(config),
        proto_min: PROTO_MIN,
        proto_max: PROTO_MAX,
        features: FEATURE_STATUS,
        boot,
        hlc: 0,
        clock: crate::model::clock::ClockQuality::Untrusted,
        port: 0,
        pos_id: config.pos_id.clone(),
        pos_name: config.pos_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let hello = move || {
        let now = clock::now();
        Hello { hlc: crate::model::clock::Hlc::from_ms(now.wall_ms).0, clock: now.quality, ..hello.clone() }
    };
    MeshConfig {
        port: config.p2p.port,
        identity,
        key: StoreKey { epoch: 0, secret: *config.store.key.as_bytes() },
        hello: Arc::new(hello),
        enabled: config.p2p.enabled,
        limits: Limits::default().with_reconnect_interval(config.p2p.reconnect_interval),
        posplus: PosplusDoor {
            enabled: config.posplus.enabled,
            allow: config.posplus.allow.clone(),
            pos_id: config.pos_id.clone(),
            pos_name: config.pos_name.clone(),
            decimals: Decimals::of_currency(&config.store.currency),
        },
    }
}

fn discovery_config(config: &Config, till: TillId) -> DiscoveryConfig {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    DiscoveryConfig {
        instance: config.pos_name.clone(),
        hostname,
        port: config.p2p.port,
        pos_id: config.pos_id.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        proto: PROTO_MAX,
        store: config.store.id,
        till,
    }
}

/// The status until the driver has looked.
fn first_status(config: &Config, till: TillId, boot: BootId) -> AgentStatus {
    let now = clock::now();
    AgentStatus {
        pos_id: config.pos_id.clone(),
        pos_name: config.pos_name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        till,
        boot_id: boot,
        store_id: config.store.id,
        store_name: config.store.name.clone(),
        currency: config.store.currency.clone(),
        time_zone: config.store.time_zone_name().to_owned(),
        started_at_ms: now.wall_ms,
        boot_reason: BootReason::default(),
        clock: now.quality,
        enabled: config.p2p.enabled,
        auto_sync: config.p2p.auto_sync,
        server_running: false,
        listening: None,
        discovery_running: false,
        led: LedState::Starting.name().to_owned(),
        board: BoardStatus::default(),
        held_elsewhere: None,
        snapshot: None,
        peers: Vec::new(),
        posplus: Vec::new(),
        pending: Vec::new(),
        alerts: Vec::new(),
        traffic: Traffic::default(),
        integrity: Integrity::default(),
        shop: Vec::new(),
        history: Arc::default(),
    }
}

fn announce_start(config: &Config, till: TillId, api: SocketAddr, folder: &DataDir) {
    info!("tillmesh {} is till {} \"{}\" ({till})", env!("CARGO_PKG_VERSION"), config.pos_id, config.pos_name);
    let store = &config.store;
    info!("store \"{}\" {} in {}, time zone {}", store.name, store.id, store.currency, store.time_zone_name());
    info!("data in {}, local API on http://{api}, mesh on port {}", folder.path().display(), config.p2p.port);
}

/// What the database knows of syncing at the start.
struct Known {
    origin: crate::model::id::Origin,
    heads: crate::model::vector::VersionVector,
    acks: std::collections::BTreeMap<TillId, MemberAck>,
    peers: Vec<store::RememberedPeer>,
    closes: Closes,
    unfinished: Unfinished,
    /// How long this database's agent has run in all, and had when the database was last scrubbed.
    running_ms: u64,
    scrubbed_ms: u64,
    /// The greatest time that the database remembers.
    stamp: u64,
    /// Alerts that were raised before this start.
    history: History,
    /// What the last check of all rows found.
    integrity: Integrity,
}

impl Known {
    async fn read(store: &Store) -> Result<Self, store::StoreError> {
        store
            .read(|reader| {
                Ok(Self {
                    origin: reader.origin()?,
                    heads: reader.vector()?,
                    acks: reader.acks()?,
                    peers: reader.peers()?,
                    closes: reader.closes()?,
                    unfinished: reader.unfinished()?,
                    running_ms: reader.running_ms()?,
                    scrubbed_ms: reader.memory(SCRUB_NOTE)?.and_then(|text| text.parse().ok()).unwrap_or(0),
                    stamp: reader.high_water()?.ms(),
                    integrity: read_integrity(reader.memory(INTEGRITY_NOTE)?.as_deref()),
                    history: History::of_note(reader.memory(HISTORY_NOTE)?.as_deref(), clock::now().wall_ms),
                })
            })
            .await
    }
}
