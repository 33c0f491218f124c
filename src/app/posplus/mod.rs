//! POSPlus tills in the shop, beside the mesh: whom to dial, and a conversation with each.
//!
//! Nothing here is in a sale's way: each till has a task of its own, which asks the store for one thing at a time.

mod differs;
mod kept;
mod lately;
mod peer;
mod seat;
mod told;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, watch};
use tracing::info;

use super::clock::{self, Uptime};
use crate::api::{PosplusCounts, PosplusDiffers, PosplusPeer};
use crate::config::Config;
use crate::discovery::{DiscoveryEvent, Found, Kin};
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
    /// The shop's.
    pub(super) zone: TimeZone,
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
        config: &Config,
        (uptime, till): (Uptime, TillId),
        store: Store,
        mesh: MeshHandle,
    ) -> Option<Self> {
        let Config { posplus, pos_id, store: shop, .. } = config;
        if !posplus.enabled {
            return None;
        }
        let (news, heard) = mpsc::channel(64);
        let (linked, linked_seen) = watch::channel(BTreeSet::new());
        let (status, status_seen) = watch::channel(BTreeMap::new());
        let context = Context {
            uptime,
            till,
            pos_id: pos_id.clone(),
            user: posplus.user_id.unwrap_or(1),
            session: posplus.session_id.unwrap_or(1),
            zone: shop.time_zone.clone(),
            store,
            linked: linked_seen,
            status,
        };
        let (allow, peers, services) = (posplus.allow.clone(), HashMap::new(), HashMap::new());
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

/// Why a service that announces itself as POSPlus does is not dialled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
enum NotDialled {
    #[error("is not in \"posplus.allow\" of pos-config.json: add its address if it is a POSPlus till of this shop")]
    NotAllowed,
    #[error("does not say which till it is (no \"id\" in its TXT record)")]
    NoId,
    #[error("says our own posId: two tills have one, so give one of them another in its pos-config.json")]
    OwnId,
}

/// Whom to dial, and where.
fn dialled(found: &Found, own: &str, allow: &[IpAddr]) -> Result<(String, SocketAddr), NotDialled> {
    let allowed = found.addresses.iter().find(|a| allow.contains(&a.ip().to_canonical()));
    match (found.pos_id.as_deref(), allowed) {
        (Some(id), _) if id == own => Err(NotDialled::OwnId),
        (_, None) => Err(NotDialled::NotAllowed),
        (None, _) => Err(NotDialled::NoId),
        (Some(id), Some(address)) => Ok((id.to_owned(), *address)),
    }
}

struct Manager {
    context: Context,
    mesh: MeshHandle,
    allow: Vec<IpAddr>,
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
            DiscoveryEvent::Found(found) if found.kin == Kin::Posplus => self.on_found(found),
            DiscoveryEvent::NetworkChanged => {
                let at = self.context.uptime.ms() + dial_after_ms();
                self.services.values_mut().for_each(|service| service.dial_at = service.dial_at.min(at));
            }
            // A till whose goodbye was heard may come back at the same place without being found again: it is dialled all the same.
            _ => {}
        }
    }

    fn on_found(&mut self, found: &Found) {
        let (pos_id, address) = match dialled(found, &self.context.pos_id, &self.allow) {
            Ok(dialled) => dialled,
            Err(why) => {
                if why == NotDialled::NotAllowed
                    && let Some((address, pos_id)) = found.addresses.first().zip(found.pos_id.as_ref())
                {
                    show_absent(&self.context, pos_id, *address, &Refused::PosplusAddress.to_string());
                }
                info!(
                    "P2P: {} at {:?} announces itself as POSPlus does, and {why}: not dialled",
                    found.key, found.addresses
                );
                return;
            }
        };
        if self.services.len() >= SERVICES_MAX && !self.services.contains_key(&found.key) {
            return;
        }
        if self.services.get(&found.key).is_none_or(|known| known.address != address) {
            info!(peer = %pos_id, "P2P: found POSPlus till {pos_id} at {address}");
            let dial_at = self.context.uptime.ms() + dial_after_ms();
            let service = Service { pos_id, address, dial_at, wait_ms: 1_000, dialling: None };
            self.services.insert(found.key.clone(), service);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_dialled_is_told_why() {
        let found = |pos_id: Option<&str>, address: &str| Found {
            key: "x".into(),
            pos_id: pos_id.map(str::to_owned),
            till: None,
            store: None,
            proto: None,
            kin: Kin::Posplus,
            addresses: vec![address.parse().expect("an address")],
        };
        let allow: [IpAddr; 1] = ["10.0.0.2".parse().expect("an address")];
        let judge = |pos_id, address| dialled(&found(pos_id, address), "TM-1", &allow).map(|(id, _)| id);
        assert_eq!(judge(Some("POS-1"), "10.0.0.2:3030"), Ok("POS-1".into()));
        assert_eq!(judge(Some("POS-1"), "10.0.0.3:3030"), Err(NotDialled::NotAllowed));
        assert_eq!(judge(None, "10.0.0.2:3030"), Err(NotDialled::NoId));
        // Two tills with one posId are told of wherever the other is.
        assert_eq!(judge(Some("TM-1"), "10.0.0.3:3030"), Err(NotDialled::OwnId));
    }
}
