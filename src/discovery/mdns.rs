//! The part that talks to the network: one task over `mdns-sd`, whose thread owns the sockets.
//!
//! Wake-ups: the task sleeps on channels. The mDNS thread wakes for packets, for its few timers, and every
//! [`IP_CHECK_SECS`] to compare the addresses of the machine.

use std::collections::HashMap;
use std::time::Duration;

use mdns_sd::{DaemonEvent, HostnameResolutionEvent, Receiver, ScopedIp, ServiceDaemon, ServiceEvent};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::service::{self, Naming, SERVICE_TYPE};
use super::{DiscoveryConfig, DiscoveryError, DiscoveryEvent, Found};

/// How often the mDNS thread lists the machine's addresses, in seconds. A cable plugged in or a new lease is announced within
/// this time; each look is one netlink dump, so that 5 s costs 0.2 wake-ups a second, a hundredth of the idle budget.
const IP_CHECK_SECS: u32 = 5;
/// Our own announcement comes back 1 s after the start. Past this, nothing is being heard.
const DEAF_AFTER: Duration = Duration::from_secs(10);
/// When the announcement is sent a second time, after the start and after every new address. RFC 6762 section 8.3 wants at least
/// two, and the first over IPv6 is lost while duplicate address detection runs, up to 2 s. The mDNS library repeats by itself
/// only names without capital letters.
const ANNOUNCE_AGAIN_AFTER: Duration = Duration::from_secs(3);
/// How long a peer has to answer [`DiscoveryHandle::verify`]. RFC 6762 section 10.4 says 10 s; a till on a LAN answers in
/// milliseconds, two queries one second apart fit in, and a till wrongly dropped is found again by its next answer.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a host is asked for its addresses, with two queries one second apart.
const ADDRESSES_TIMEOUT: Duration = Duration::from_secs(3);
/// First and longest pause between two attempts to start.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Services followed at most. A shop has tens; what is beyond is a fault or an attack, and is ignored.
const SERVICES_MAX: usize = 256;
/// Verifications waiting to be sent. They are hints: beyond this they are dropped.
const VERIFY_QUEUE: usize = 32;
/// Goodbyes are sent within this time, or not at all.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(500);
/// [`DiscoveryHandle::shutdown`] returns within this time.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

/// Discovery over mDNS. See [`spawn`](Self::spawn).
#[derive(Debug)]
pub struct Discovery;

impl Discovery {
    /// Announces this till and reports others, until the handle is shut down or dropped.
    ///
    /// Needs a tokio runtime. Never fails: what does not work is retried with a growing pause and reported as
    /// [`DiscoveryEvent::Failed`]. Ends by itself when the receiver of `events` is gone. While `events` is full, discovery waits.
    #[must_use]
    pub fn spawn(config: DiscoveryConfig, events: mpsc::Sender<DiscoveryEvent>) -> DiscoveryHandle {
        let (wanted, seen) = watch::channel(Wanted { enabled: true, port: config.port, stop: false });
        let (verify, to_verify) = mpsc::channel(VERIFY_QUEUE);
        let actor = Actor {
            config,
            wanted: seen,
            to_verify,
            events,
            known: HashMap::new(),
            failure: None,
            naming: Naming::Given,
        };
        DiscoveryHandle { wanted, verify, task: tokio::spawn(actor.run()) }
    }
}

/// Controls a running [`Discovery`]. Dropping it stops discovery, goodbye included, without waiting for it.
#[derive(Debug)]
pub struct DiscoveryHandle {
    wanted: watch::Sender<Wanted>,
    verify: mpsc::Sender<String>,
    task: JoinHandle<()>,
}

impl DiscoveryHandle {
    /// Off says goodbye, stops browsing, reports everything known as lost and ends the mDNS thread; on starts again.
    pub fn set_enabled(&self, enabled: bool) {
        self.wanted.send_if_modified(|w| std::mem::replace(&mut w.enabled, enabled) != enabled);
    }

    /// Announces another port from now on.
    pub fn announce_port(&self, port: u16) {
        self.wanted.send_if_modified(|w| std::mem::replace(&mut w.port, port) != port);
    }

    /// Asks the network whether a service is still there; if it does not answer within 3 s, it is reported as lost, and found
    /// again when it comes back. For a peer that our heartbeat has lost.
    ///
    /// A hint: when many wait already, or discovery is off, it is dropped.
    pub fn verify(&self, key: impl Into<String>) {
        // Full or ended: nothing is lost but a hint.
        let _ = self.verify.try_send(key.into());
    }

    /// Says goodbye and stops, within 1 s.
    pub async fn shutdown(self) {
        let Self { wanted, verify, mut task } = self;
        wanted.send_modify(|w| w.stop = true);
        drop(verify);
        if timeout(SHUTDOWN_TIMEOUT, &mut task).await.is_err() {
            tracing::warn!("P2P: discovery did not stop in time");
            task.abort();
        }
    }
}

/// The state that the handle asks for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    enabled: bool,
    port: u16,
    stop: bool,
}

/// Why a session ended.
enum End {
    /// The handle or the application is gone.
    Stopped,
    /// Switched off for now.
    Disabled,
    /// Another machine announces our name: start afresh under another, with empty caches.
    NameTaken,
    Failed(DiscoveryError),
}

impl From<DiscoveryError> for End {
    fn from(error: DiscoveryError) -> Self {
        Self::Failed(error)
    }
}

/// The mDNS thread. However the task ends, the thread says goodbye and ends too.
struct Daemon(ServiceDaemon);

impl Daemon {
    /// Says goodbye and waits until it is sent.
    async fn goodbye(self) {
        if let Ok(done) = self.0.shutdown() {
            // The packets are out, or the network is not there to take them.
            let _ = timeout(GOODBYE_TIMEOUT, done.recv_async()).await;
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already shut down is the usual answer.
        let _ = self.0.shutdown();
    }
}

/// One browse with all that it needs.
struct Session {
    daemon: Daemon,
    services: Receiver<ServiceEvent>,
    monitor: Receiver<DaemonEvent>,
    port: u16,
    /// Full name that we announce.
    name: String,
    announce_again_at: Option<Instant>,
    /// Hosts that are being asked for their addresses; the channel closes when that is over.
    asked: HashMap<String, Receiver<HostnameResolutionEvent>>,
    /// When silence becomes a failure; `None` once something was heard.
    deaf_at: Option<Instant>,
}

impl Session {
    /// Asks a host, of which no IPv4 address is known, for all that it has. What it answers comes as another `ServiceResolved`.
    ///
    /// A till that starts while others talk may catch the answer to their question over IPv6, and miss the one over IPv4. From
    /// then on it names the service as known when it browses, and so is never told the rest.
    fn ask_addresses(&mut self, host: &str) {
        self.asked.retain(|_, answers| !answers.is_disconnected());
        if self.asked.len() >= SERVICES_MAX || self.asked.contains_key(host) {
            return;
        }
        let timeout_ms = u64::try_from(ADDRESSES_TIMEOUT.as_millis()).ok();
        // Refused for a host outside `.local`, which mDNS does not answer for.
        if let Ok(answers) = self.daemon.0.resolve_hostname(host, timeout_ms) {
            self.asked.insert(host.to_owned(), answers);
        }
    }
}

struct Actor {
    config: DiscoveryConfig,
    wanted: watch::Receiver<Wanted>,
    to_verify: mpsc::Receiver<String>,
    events: mpsc::Sender<DiscoveryEvent>,
    /// What the application was told of each service.
    known: HashMap<String, Found>,
    /// The failure that the application was told of.
    failure: Option<DiscoveryError>,
    naming: Naming,
}

impl Actor {
    async fn run(mut self) {
        let mut pause = RETRY_FIRST;
        loop {
            let end = match self.until_enabled().await {
                Ok(port) => self.session(port, &mut pause).await,
                Err(end) => end,
            };
            let told = match end {
                End::Stopped => return,
                End::Disabled => self.lose_all().await,
                End::NameTaken => {
                    self.naming = Naming::Distinct;
                    self.lose_all().await
                }
                End::Failed(error) => self.fail(error, &mut pause).await,
            };
            if told.is_err() {
                return;
            }
        }
    }

    /// Waits until discovery is wanted; the port to announce.
    async fn until_enabled(&mut self) -> Result<u16, End> {
        let wanted = self.wanted.wait_for(|w| w.stop || w.enabled).await.map_err(|_| End::Stopped)?;
        if wanted.stop { Err(End::Stopped) } else { Ok(wanted.port) }
    }

    async fn session(&mut self, port: u16, pause: &mut Duration) -> End {
        // What was asked before this thread knew anything is void.
        while self.to_verify.try_recv().is_ok() {}
        let mut session = match self.start(port) {
            Ok(session) => session,
            Err(error) => return error.into(),
        };
        let end = loop {
            if let Err(end) = self.step(&mut session, pause).await {
                break end;
            }
        };
        session.daemon.goodbye().await;
        end
    }

    fn start(&self, port: u16) -> Result<Session, DiscoveryError> {
        let failed = |e: mdns_sd::Error| DiscoveryError::Start(e.to_string());
        let daemon = Daemon(ServiceDaemon::new().map_err(failed)?);
        let monitor = daemon.0.monitor().map_err(failed)?;
        daemon.0.set_ip_check_interval(IP_CHECK_SECS).map_err(failed)?;
        let services = daemon.0.browse(SERVICE_TYPE).map_err(failed)?;
        let deaf_at = Some(Instant::now() + DEAF_AFTER);
        let mut session = Session {
            daemon,
            services,
            monitor,
            port,
            name: String::new(),
            announce_again_at: Some(Instant::now() + ANNOUNCE_AGAIN_AFTER),
            asked: HashMap::new(),
            deaf_at,
        };
        self.announce(&mut session)?;
        Ok(session)
    }

    fn announce(&self, session: &mut Session) -> Result<(), DiscoveryError> {
        let refused = |e: mdns_sd::Error| DiscoveryError::Announce(e.to_string());
        let info = service::announcement(&self.config, self.naming, session.port).map_err(refused)?;
        info.get_fullname().clone_into(&mut session.name);
        session.daemon.0.register(info).map_err(refused)
    }

    /// Waits for the next thing to happen, and does what it asks for.
    async fn step(&mut self, session: &mut Session, pause: &mut Duration) -> Result<(), End> {
        self.obey(session)?;
        let (deaf_at, announce_again_at) = (session.deaf_at, session.announce_again_at);
        tokio::select! {
            changed = self.wanted.changed() => changed.map_err(|_| End::Stopped),
            () = self.events.closed() => Err(End::Stopped),
            event = session.services.recv_async() => {
                let event = event.map_err(|_| DiscoveryError::Interrupted)?;
                if matches!(event, ServiceEvent::ServiceResolved(_)) && session.deaf_at.take().is_some() {
                    *pause = RETRY_FIRST;
                    self.failure = None;
                    self.emit(DiscoveryEvent::Ready).await?;
                }
                self.on_service(session, event).await
            }
            event = session.monitor.recv_async() => {
                self.on_daemon(session, event.map_err(|_| DiscoveryError::Interrupted)?).await
            }
            Some(key) = self.to_verify.recv() => {
                // The command queue of the thread is full: a hint is lost.
                let _ = session.daemon.0.verify(key, VERIFY_TIMEOUT);
                Ok(())
            }
            () = at(announce_again_at) => {
                session.announce_again_at = None;
                Ok(self.announce(session)?)
            }
            () = at(deaf_at) => Err(DiscoveryError::Deaf.into()),
        }
    }

    /// Brings the session to what the handle asks for. Called at every step, not only when told of a change, because waiting in
    /// [`emit`](Self::emit) takes notice of changes too.
    fn obey(&mut self, session: &mut Session) -> Result<(), End> {
        let wanted = *self.wanted.borrow();
        if wanted.stop {
            return Err(End::Stopped);
        }
        if !wanted.enabled {
            return Err(End::Disabled);
        }
        if wanted.port != session.port {
            session.port = wanted.port;
            self.announce(session)?;
        }
        Ok(())
    }

    async fn on_service(&mut self, session: &mut Session, event: ServiceEvent) -> Result<(), End> {
        match event {
            ServiceEvent::ServiceResolved(resolved) => {
                if service::till_of(&resolved) == Some(self.config.till) {
                    return self.lose(&resolved.fullname).await;
                }
                self.check_name(session, &resolved.fullname)?;
                if !resolved.addresses.iter().any(ScopedIp::is_ipv4) {
                    session.ask_addresses(&resolved.host);
                }
                match service::read(&resolved, &self.config.store.short_hash()) {
                    Some(found) => self.found(found).await,
                    None => self.lose(&resolved.fullname).await,
                }
            }
            ServiceEvent::ServiceRemoved(_, key) => self.lose(&key).await,
            _ => Ok(()),
        }
    }

    /// What to do when another machine has a name.
    ///
    /// The mDNS library would rename us too, but on the interfaces with a conflict alone. On the others, loopback among them, it
    /// goes on under the old name, and from then on takes the other machine for ourselves.
    fn check_name(&self, session: &Session, taken: &str) -> Result<(), End> {
        if self.naming == Naming::Distinct || !session.name.eq_ignore_ascii_case(taken) {
            return Ok(());
        }
        tracing::warn!(name = taken, "P2P: another machine announces our name: give every till a posName of its own");
        Err(End::NameTaken)
    }

    async fn on_daemon(&mut self, session: &mut Session, event: DaemonEvent) -> Result<(), End> {
        match event {
            DaemonEvent::IpAdd(ip) => {
                tracing::info!(%ip, "P2P: this till has a new address");
                session.announce_again_at = Some(Instant::now() + ANNOUNCE_AGAIN_AFTER);
                self.emit(DiscoveryEvent::NetworkChanged).await
            }
            DaemonEvent::IpDel(ip) => {
                tracing::info!(%ip, "P2P: this till has lost an address");
                self.emit(DiscoveryEvent::NetworkChanged).await
            }
            DaemonEvent::NameChange(change) => self.check_name(session, &change.original),
            DaemonEvent::Error(error) => Err(DiscoveryError::Announce(error.to_string()).into()),
            _ => Ok(()),
        }
    }

    async fn found(&mut self, found: Found) -> Result<(), End> {
        match self.known.get(&found.key) {
            Some(known) if *known == found => return Ok(()),
            None if self.known.len() >= SERVICES_MAX => return Ok(()),
            _ => {}
        }
        self.known.insert(found.key.clone(), found.clone());
        self.emit(DiscoveryEvent::Found(found)).await
    }

    async fn lose(&mut self, key: &str) -> Result<(), End> {
        match self.known.remove(key) {
            Some(known) => self.emit(DiscoveryEvent::Lost { key: known.key }).await,
            None => Ok(()),
        }
    }

    async fn lose_all(&mut self) -> Result<(), End> {
        for key in std::mem::take(&mut self.known).into_keys() {
            self.emit(DiscoveryEvent::Lost { key }).await?;
        }
        Ok(())
    }

    /// Tells of a failure once, forgets what was heard, and pauses.
    async fn fail(&mut self, error: DiscoveryError, pause: &mut Duration) -> Result<(), End> {
        self.lose_all().await?;
        if self.failure.as_ref() != Some(&error) {
            tracing::warn!(%error, "P2P: discovery failed");
            self.failure = Some(error.clone());
            self.emit(DiscoveryEvent::Failed { error }).await?;
        }
        let resume_at = Instant::now() + *pause;
        *pause = (*pause * 2).min(RETRY_MAX);
        tokio::select! {
            () = sleep_until(resume_at) => Ok(()),
            // Switched off and on by a person: no reason to let him wait.
            changed = self.wanted.changed() => changed.map_err(|_| End::Stopped),
        }
    }

    /// Hands an event over, unless everything is being stopped.
    async fn emit(&mut self, event: DiscoveryEvent) -> Result<(), End> {
        tokio::select! {
            sent = self.events.send(event) => sent.map_err(|_| End::Stopped),
            _ = self.wanted.wait_for(|w| w.stop) => Err(End::Stopped),
        }
    }
}

/// Sleeps until then; for ever where there is no then.
async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
