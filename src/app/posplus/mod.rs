//! POSPlus tills in the shop, beside the mesh: whom to dial, and a conversation with each.
//!
//! Nothing here is in a sale's way: each till has a task of its own, which asks the store for one thing at a time.

mod kept;
mod lately;
mod peer;
mod seat;
mod told;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tracing::info;

use super::clock::{self, Uptime};
use crate::api::{PosplusCounts, PosplusDiffers, PosplusPeer};
use crate::config::PosPlus;
use crate::discovery::{DiscoveryEvent, Kin};
use crate::mesh::{DIAL_AFTER, MeshHandle, PosplusLink, Refused};
use crate::model::id::TillId;
use crate::store::Store;

/// POSPlus tills that are kept a conversation with.
const PEERS_MAX: usize = 16;
/// Services that are dialled.
const SERVICES_MAX: usize = 64;
/// The longest wait between two dials: a till that is back is found again within POSPlus's own 10 s.
const REDIAL_MAX_MS: u64 = 5_000;
/// How often it is looked whom to dial.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// For how long it is shown that a quantity differed: a person counts the shelf meanwhile.
const DIFFERS_MS: u64 = 24 * 3_600_000;

/// What the driver hears.
#[derive(Debug)]
pub(super) enum News {
    /// A connection is up.
    Link(Box<PosplusLink>),
    /// mDNS.
    Discovery(DiscoveryEvent),
}

/// A POSPlus till as the status shows it.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct PeerStatus {
    pub(super) pos_id: String,
    pub(super) pos_name: String,
    pub(super) address: String,
    pub(super) online: bool,
    /// Whether this till speaks to it for all of ours.
    pub(super) speaker: bool,
    pub(super) since_ms: u64,
    pub(super) last_seen_ms: u64,
    /// Why it is not connected.
    pub(super) detail: Option<String>,
    pub(super) counts: PosplusCounts,
    /// The oldest first.
    pub(super) differs: Vec<PosplusDiffers>,
}

/// What all conversations share.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) uptime: Uptime,
    pub(super) till: TillId,
    pub(super) pos_id: String,
    /// User and session that exist in POSPlus's databases.
    pub(super) user: i64,
    pub(super) session: i64,
    pub(super) store: Store,
    /// Our tills that this one is linked with.
    pub(super) linked: watch::Receiver<BTreeSet<TillId>>,
    pub(super) status: watch::Sender<BTreeMap<String, PeerStatus>>,
}

/// The driver's end.
pub(super) struct Posplus {
    news: mpsc::Sender<News>,
    linked: watch::Sender<BTreeSet<TillId>>,
    status: watch::Receiver<BTreeMap<String, PeerStatus>>,
}

impl Posplus {
    /// Starts it, where it is turned on.
    pub(super) fn spawn(
        config: &PosPlus,
        pos_id: &str,
        (uptime, till): (Uptime, TillId),
        store: Store,
        mesh: MeshHandle,
    ) -> Option<Self> {
        if !config.enabled {
            return None;
        }
        let (news, heard) = mpsc::channel(64);
        let (linked, linked_seen) = watch::channel(BTreeSet::new());
        let (status, status_seen) = watch::channel(BTreeMap::new());
        let context = Context {
            uptime,
            till,
            pos_id: pos_id.to_owned(),
            user: config.user_id.unwrap_or(1),
            session: config.session_id.unwrap_or(1),
            store,
            linked: linked_seen,
            status,
        };
        let (allow, peers, services) = (config.allow.clone(), HashMap::new(), HashMap::new());
        let manager = Manager { context, mesh, allow, peers, services };
        tokio::spawn(manager.run(heard));
        Some(Self { news, linked, status: status_seen })
    }

    /// Tells it of something. What comes too fast is left out: mDNS says it again, and a connection that is dropped is made again.
    pub(super) fn tell(&self, news: News) {
        let _ = self.news.try_send(news);
    }

    /// Which of our tills are linked.
    pub(super) fn linked(&self, tills: BTreeSet<TillId>) {
        self.linked.send_if_modified(|known| {
            let changed = *known != tills;
            *known = tills;
            changed
        });
    }

    /// All POSPlus tills, for the status.
    pub(super) fn peers(&self) -> Vec<PosplusPeer> {
        let all = self.status.borrow();
        let lately = clock::now().wall_ms.saturating_sub(DIFFERS_MS);
        let shown = all.values().map(|peer| PosplusPeer {
            id: peer.pos_id.clone(),
            name: peer.pos_name.clone(),
            address: peer.address.clone(),
            authenticated: false,
            online: peer.online,
            speaker: peer.speaker,
            since_ms: peer.since_ms,
            last_seen_ms: peer.last_seen_ms,
            detail: peer.detail.clone(),
            counts: peer.counts,
            stock_differs: peer.differs.iter().rev().filter(|seen| seen.at_ms > lately).cloned().collect(),
        });
        shown.collect()
    }

    /// All POSPlus tills, and when that changes.
    pub(super) fn status(&self) -> watch::Receiver<BTreeMap<String, PeerStatus>> {
        self.status.clone()
    }
}

/// A service without our TXT record, at an address that is allowed.
struct Service {
    pos_id: String,
    address: SocketAddr,
    dial_at: u64,
    wait_ms: u64,
    dialling: Option<tokio::task::JoinHandle<Result<(), Refused>>>,
}

struct Manager {
    context: Context,
    mesh: MeshHandle,
    allow: Vec<std::net::IpAddr>,
    peers: HashMap<String, mpsc::Sender<PosplusLink>>,
    services: HashMap<String, Service>,
}

impl Manager {
    async fn run(mut self, mut heard: mpsc::Receiver<News>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                news = heard.recv() => match news {
                    Some(News::Link(link)) => self.on_link(*link).await,
                    Some(News::Discovery(event)) => self.on_discovery(&event),
                    None => return,
                },
                _ = look.tick(), if !self.services.is_empty() => self.dial_due().await,
            }
        }
    }

    async fn on_link(&mut self, link: PosplusLink) {
        let kind = if link.dialled_by_us { "dialled" } else { "accepted" };
        info!(peer = %link.pos_id, "P2P: POSPlus till {} \"{}\" at {}, {kind}, unauthenticated", link.pos_id, link.pos_name, link.addr);
        self.peers.retain(|_, peer| !peer.is_closed());
        if self.peers.len() >= PEERS_MAX && !self.peers.contains_key(&link.pos_id) {
            tracing::warn!("P2P: more than {PEERS_MAX} POSPlus tills: {} is left out", link.pos_id);
            return;
        }
        let context = &self.context;
        let peer = self.peers.entry(link.pos_id.clone()).or_insert_with(|| {
            let (links, links_heard) = mpsc::channel(4);
            let talk = peer::Peer::new(context.clone(), &link);
            tokio::spawn(talk.run(links_heard));
            links
        });
        let _ = peer.send(link).await;
    }

    fn on_discovery(&mut self, event: &DiscoveryEvent) {
        match event {
            DiscoveryEvent::Found(found) if found.kin == Kin::Posplus => {
                let allowed = found.addresses.iter().find(|a| self.allow.contains(&a.ip().to_canonical())).copied();
                let pos_id = found.pos_id.clone().filter(|id| *id != self.context.pos_id);
                let (Some(address), Some(pos_id)) = (allowed, pos_id.clone()) else {
                    if allowed.is_none() {
                        let address = found.addresses.first().copied();
                        if let Some((address, pos_id)) = address.zip(pos_id) {
                            show_absent(&self.context, &pos_id, address, &Refused::PosplusAddress.to_string());
                        }
                        info!(
                            "P2P: {} at {:?} announces itself as POSPlus does, and is not in \"posplus.allow\": not dialled",
                            found.key, found.addresses
                        );
                    }
                    return;
                };
                if self.services.len() >= SERVICES_MAX && !self.services.contains_key(&found.key) {
                    return;
                }
                let now = self.context.uptime.ms();
                let fresh = self.services.get(&found.key).is_none_or(|known| known.address != address);
                if fresh {
                    info!(peer = %pos_id, "P2P: found POSPlus till {pos_id} at {address}");
                    let dial_at = now + dial_after_ms();
                    let service = Service { pos_id, address, dial_at, wait_ms: 1_000, dialling: None };
                    self.services.insert(found.key.clone(), service);
                }
            }
            DiscoveryEvent::NetworkChanged => {
                let at = self.context.uptime.ms() + dial_after_ms();
                self.services.values_mut().for_each(|service| service.dial_at = service.dial_at.min(at));
            }
            // A till whose goodbye was heard may come back at the same place without being found again: it is dialled all the same.
            _ => {}
        }
    }

    /// Dials those that have not dialled by themselves.
    async fn dial_due(&mut self) {
        let now = self.context.uptime.ms();
        let online: BTreeSet<String> = {
            let status = self.context.status.borrow();
            status.values().filter(|peer| peer.online).map(|peer| peer.pos_id.clone()).collect()
        };
        let enabled = self.mesh.stats().enabled;
        for service in self.services.values_mut() {
            if online.contains(&service.pos_id) || !enabled {
                (service.dial_at, service.wait_ms) = (now + dial_after_ms(), 1_000);
                continue;
            }
            if let Some(dialling) = service.dialling.take_if(|dialling| dialling.is_finished()) {
                let failed = dialling.await.ok().and_then(Result::err);
                service.dial_at = now + if failed.is_none() { dial_after_ms() } else { service.wait_ms };
                if let Some(why) = failed {
                    show_absent(&self.context, &service.pos_id, service.address, &format!("dialled: {why}"));
                }
                service.wait_ms = (service.wait_ms * 2).min(REDIAL_MAX_MS);
            }
            if service.dialling.is_none() && service.dial_at <= now {
                let (mesh, address) = (self.mesh.clone(), service.address);
                service.dialling = Some(tokio::spawn(async move { mesh.dial_posplus(address).await }));
            }
        }
    }
}

/// Shows a till that is not connected, and why.
fn show_absent(context: &Context, pos_id: &str, address: SocketAddr, why: &str) {
    context.status.send_if_modified(|all| {
        if all.len() >= SERVICES_MAX && !all.contains_key(pos_id) {
            return false;
        }
        let wall_ms = clock::now().wall_ms;
        let peer = all.entry(pos_id.to_owned()).or_insert_with(|| PeerStatus {
            pos_id: pos_id.to_owned(),
            pos_name: pos_id.to_owned(),
            address: address.to_string(),
            online: false,
            speaker: false,
            since_ms: wall_ms,
            last_seen_ms: wall_ms,
            detail: None,
            counts: PosplusCounts::default(),
            differs: Vec::new(),
        });
        let changed = !peer.online && peer.detail.as_deref() != Some(why);
        if changed {
            peer.detail = Some(why.to_owned());
        }
        changed
    });
}

fn dial_after_ms() -> u64 {
    DIAL_AFTER.as_millis() as u64
}
