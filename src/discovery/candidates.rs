//! Which addresses to dial. Pure: no clock, no sockets.
//!
//! Four sources say where tills are: mDNS, the `peers` of the config, peers that tell of one another, and handshakes that proved
//! a till to be at an address. [`Candidates`] merges them into one target per till.
//!
//! **The latest word on an address wins.** Addresses move between tills (leases do), and every word but a handshake's may be
//! wrong or forged. A wrong one costs one dial: the handshake tells who is really there, and that is then the latest word. So an
//! address belongs to one target at most, and our own address, once dialled, to none.
//!
//! **Nothing expires by time**, because boards have no clock to trust and a till may lie in a drawer for months. What is no
//! longer announced is remembered; numbers are bounded, and the least credible goes first. A till that a handshake has proved
//! is never pushed out by any number of tills that were only announced.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use super::{DiscoveryEvent, Found, Kin};
use crate::model::id::TillId;

/// Tills followed at most.
pub const TILLS_MAX: usize = 256;
/// Addresses kept of one till at most, the latest word first.
pub const TILL_ADDRESSES_MAX: usize = 8;
/// Static addresses used at most.
const STATIC_MAX: usize = 64;
/// Addresses known to be our own, at most.
const OWN_MAX: usize = 64;

/// Whom to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKey {
    /// A till known by its id.
    Till(TillId),
    /// An address from the config at which no till is known yet.
    Address(SocketAddr),
}

/// Where to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Stable as long as the target exists: what the dialler keeps its backoff under.
    pub key: TargetKey,
    /// Addresses, the most credible first. Never empty; no address is in two targets.
    pub addresses: Vec<SocketAddr>,
}

/// All that is known of where tills are. See the module's page for how sources are weighed.
#[derive(Debug)]
pub struct Candidates {
    own: TillId,
    own_addresses: Vec<Claim>,
    statics: Vec<SocketAddr>,
    tills: HashMap<TillId, Till>,
    /// Services seen by mDNS and not lost: key to till.
    seen: HashMap<String, TillId>,
    /// Counts words, to tell the latest.
    words: u64,
}

/// What is known of one till.
#[derive(Debug, Default)]
struct Till {
    claims: Vec<Claim>,
}

/// Somebody's word that a till is at an address.
#[derive(Debug, Clone)]
struct Claim {
    address: SocketAddr,
    /// When it was said last, in words.
    said: u64,
    source: Source,
}

/// Who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// mDNS says so now, under this key.
    Seen(String),
    /// mDNS said so once, or a peer did.
    Heard,
    /// A handshake proved it.
    Proved,
}

impl Candidates {
    /// Nothing known yet, on the till `own`.
    #[must_use]
    pub fn new(own: TillId) -> Self {
        Self {
            own,
            own_addresses: Vec::new(),
            statics: Vec::new(),
            tills: HashMap::new(),
            seen: HashMap::new(),
            words: 0,
        }
    }

    /// The `peers` of the config, in place of those given before. Our own address among them does no harm, so that every till of
    /// a store may carry the same list. The first 64 count.
    pub fn set_static(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        self.statics = addresses.into_iter().take(STATIC_MAX).collect();
    }

    /// Takes in what discovery tells.
    pub fn on_discovery(&mut self, event: &DiscoveryEvent) {
        match event {
            DiscoveryEvent::Found(found) => self.found(found),
            DiscoveryEvent::Lost { key } => self.lost(key),
            // What was our address may be another till's by now.
            DiscoveryEvent::NetworkChanged => self.own_addresses.clear(),
            DiscoveryEvent::Ready | DiscoveryEvent::Failed { .. } => {}
        }
    }

    /// A peer of the store tells where it reaches a till. Saying the same again is not a later word.
    pub fn told(&mut self, till: TillId, addresses: impl IntoIterator<Item = SocketAddr>) {
        for address in addresses.into_iter().take(TILL_ADDRESSES_MAX) {
            if !self.claims_of(&till).iter().any(|c| c.address == address) {
                self.claim(till, address, Source::Heard);
            }
        }
    }

    /// A handshake at an address that **we dialled** has proved who listens there; it may be ourselves. The address from which a
    /// till dialled us is of no use: its port is an ephemeral one.
    pub fn reached(&mut self, till: TillId, address: SocketAddr) {
        self.claim(till, address, Source::Proved);
    }

    /// A till is no longer of the store.
    pub fn forget(&mut self, till: &TillId) {
        self.tills.remove(till);
        self.seen.retain(|_, t| t != till);
    }

    /// Proved addresses, in the order of the word, for [`restore`](Self::restore) after a restart. Link-local IPv6 is left out:
    /// interfaces are numbered anew at every boot.
    #[must_use]
    pub fn remembered(&self) -> Vec<(TillId, SocketAddr)> {
        let mut proved: Vec<(u64, TillId, SocketAddr)> = self
            .tills
            .iter()
            .flat_map(|(till, t)| t.claims.iter().map(|c| (*till, c)))
            .filter(|(_, claim)| claim.source == Source::Proved && !is_link_local_v6(&claim.address))
            .map(|(till, claim)| (claim.said, till, claim.address))
            .collect();
        proved.sort_unstable();
        proved.into_iter().map(|(_, till, address)| (till, address)).collect()
    }

    /// Takes in what [`remembered`](Self::remembered) gave before the restart. To be called before anything else is known.
    pub fn restore(&mut self, remembered: impl IntoIterator<Item = (TillId, SocketAddr)>) {
        for (till, address) in remembered {
            self.claim(till, address, Source::Proved);
        }
    }

    /// Whom to dial where: static addresses without a known till first, then tills, the most credible first.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let holders = self.holders();
        let mut targets = Vec::new();
        for &address in &self.statics {
            let key = TargetKey::Address(address);
            if !holders.contains_key(&address) && !targets.iter().any(|t: &Target| t.key == key) {
                targets.push(Target { key, addresses: vec![address] });
            }
        }
        let mut tills: Vec<(&TillId, &Till)> = self.tills.iter().collect();
        tills.sort_unstable_by_key(|(id, till)| (Reverse(till.credit()), **id));
        for (id, till) in tills {
            let addresses: Vec<SocketAddr> = till
                .claims
                .iter()
                .map(|c| c.address)
                .filter(|a| holders.get(a).is_some_and(|(_, holder)| holder == id))
                .collect();
            if !addresses.is_empty() {
                targets.push(Target { key: TargetKey::Till(*id), addresses });
            }
        }
        targets
    }

    /// Who holds each address by the latest word on it; ours are held by ourselves.
    fn holders(&self) -> BTreeMap<SocketAddr, (u64, TillId)> {
        let mut holders = BTreeMap::new();
        let own = self.own_addresses.iter().map(|c| (self.own, c));
        let others = self.tills.iter().flat_map(|(till, t)| t.claims.iter().map(|c| (*till, c)));
        for (till, claim) in own.chain(others) {
            let word = (claim.said, till);
            let latest = holders.entry(claim.address).or_insert(word);
            *latest = word.max(*latest);
        }
        holders
    }

    fn found(&mut self, found: &Found) {
        let till = match (found.kin, found.till) {
            (Kin::OurStore, Some(till)) if till != self.own => till,
            // Not one of ours to dial, or no longer: the name may have been one's until now.
            _ => return self.lost(&found.key),
        };
        self.lost(&found.key);
        // In reverse, so that the first is the latest word.
        for &address in found.addresses.iter().take(TILL_ADDRESSES_MAX).rev() {
            self.claim(till, address, Source::Seen(found.key.clone()));
        }
        if self.tills.contains_key(&till) {
            self.seen.insert(found.key.clone(), till);
        }
    }

    /// What was seen is remembered.
    fn lost(&mut self, key: &str) {
        let Some(till) = self.seen.remove(key).and_then(|till| self.tills.get_mut(&till)) else { return };
        for claim in &mut till.claims {
            if matches!(&claim.source, Source::Seen(k) if k == key) {
                claim.source = Source::Heard;
            }
        }
    }

    fn claims_of(&self, till: &TillId) -> &[Claim] {
        if *till == self.own {
            return &self.own_addresses;
        }
        self.tills.get(till).map_or(&[], |t| &t.claims)
    }

    /// Takes in one word, the latest. Proof is not unproved by a lesser word.
    fn claim(&mut self, till: TillId, address: SocketAddr, source: Source) {
        self.words += 1;
        let claim = Claim { address, said: self.words, source };
        if till == self.own {
            put_first(&mut self.own_addresses, claim, OWN_MAX);
            return;
        }
        if !self.tills.contains_key(&till) && !self.make_room(&claim) {
            return;
        }
        put_first(&mut self.tills.entry(till).or_default().claims, claim, TILL_ADDRESSES_MAX);
    }

    /// Room for one more till, by dropping the least credible, unless the newcomer is even less so.
    fn make_room(&mut self, newcomer: &Claim) -> bool {
        if self.tills.len() < TILLS_MAX {
            return true;
        }
        let least = self.tills.iter().map(|(id, till)| (till.credit(), *id)).min();
        match least {
            Some((credit, id)) if credit < newcomer.credit() => {
                self.forget(&id);
                true
            }
            _ => false,
        }
    }
}

impl Till {
    fn credit(&self) -> Credit {
        self.claims.iter().map(Claim::credit).max().unwrap_or_default()
    }
}

impl Claim {
    fn credit(&self) -> Credit {
        let proved = self.source == Source::Proved;
        let live = matches!(self.source, Source::Seen(_));
        Credit { proved, live, said: self.said }
    }
}

/// How much a till's presence is to be believed, the greatest most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Credit {
    proved: bool,
    live: bool,
    said: u64,
}

/// Puts a claim in front, in place of an older one of the same address. When there are too many, the oldest goes that is
/// neither it nor the last proved one.
fn put_first(claims: &mut Vec<Claim>, mut claim: Claim, max: usize) {
    if let Some(at) = claims.iter().position(|c| c.address == claim.address) {
        let older = claims.remove(at);
        if older.source == Source::Proved {
            claim.source = Source::Proved;
        }
    }
    claims.insert(0, claim);
    if claims.len() > max {
        let last_proved = claims.iter().position(|c| c.source == Source::Proved);
        let oldest = if last_proved == Some(claims.len() - 1) { claims.len() - 2 } else { claims.len() - 1 };
        claims.remove(oldest);
    }
}

fn is_link_local_v6(address: &SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local())
}

#[cfg(test)]
#[path = "candidates_tests.rs"]
mod tests;
