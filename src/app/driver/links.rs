//! Between the mesh and the replica, and between the replica and the store.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use tracing::{debug, info, warn};

use super::super::alerts::Code;
use super::super::clock;
use super::super::posplus::News;
use super::{Driver, Link, Member, Waiting};
use crate::config::Admission;
use crate::discovery::TargetKey;
use crate::mesh::{LinkEnd, LinkUp, MeshEvent, Refused, SendError};
use crate::model::close::Closes;
use crate::model::id::TillId;
use crate::store::StoreEvent;
use crate::sync::{CloseReason, Event, Input, KnownPeer, LinkId, Output, SnapshotProgress};
use crate::wire::frame::Bye;
use crate::wire::hello::{FEATURE_STATUS, Refusal};
use crate::wire::message;

/// What a person can mend about a till that is refused.
const REFUSALS: [Code; 3] = [Code::CurrencyMismatch, Code::WrongStoreKey, Code::VersionTooOld];

impl Driver {
    pub(super) fn on_mesh(&mut self, event: MeshEvent) {
        match event {
            MeshEvent::LinkUp(up) => self.on_link_up(*up),
            MeshEvent::Frame { link, bytes } => match message::decode(&bytes) {
                Ok(message) => {
                    drop(bytes);
                    self.feed(Input::Message { link: LinkId(link.0), message });
                }
                Err(error) => {
                    warn!(
                        "P2P: {} sent what is no message: {error}",
                        self.links.get(&LinkId(link.0)).map_or("a till", |l| &l.hello.pos_name)
                    );
                    self.mesh.close(link, Bye::Violation);
                }
            },
            MeshEvent::LinkDown { link, end } => self.on_link_down(LinkId(link.0), &end),
            MeshEvent::Posplus(link) => {
                self.doorstep.linked(link.addr.ip());
                if let Some(posplus) = &self.posplus {
                    posplus.tell(News::Link(link));
                }
            }
            MeshEvent::Listening { port } => {
                self.listening = Some(port);
                self.discovery.announce_port(port);
                self.set_alert(Code::PortInUse, "", None);
            }
            MeshEvent::ListenFailed { port, error } => {
                self.listening = None;
                self.set_alert(Code::PortInUse, "", Some(format!("port {port}: {error}")));
            }
            MeshEvent::Ourselves { addr } => {
                self.candidates.reached(self.till, addr);
                self.retarget();
            }
            MeshEvent::Refused { addr, why, times } => {
                warn!(peer = %addr, "P2P: refused {addr} ({times} times): {why}");
                self.doorstep.refused(self.uptime.ms(), addr.ip(), &why);
                self.alert_refused(&addr.ip().to_string(), &why);
            }
        }
        self.changed = true;
    }

    /// A refusal that a person can mend stands as an alert until that address links, or tries no more.
    fn alert_refused(&mut self, address: &str, why: &Refused) {
        let code = match why {
            Refused::Refusal(Refusal::Currency { .. }) | Refused::Told(Bye::Currency) => Code::CurrencyMismatch,
            Refused::WrongKey | Refused::Told(Bye::WrongKey) => Code::WrongStoreKey,
            Refused::Refusal(Refusal::TooOld { .. } | Refusal::TooNew { .. })
            | Refused::Told(Bye::TooOld | Bye::TooNew) => Code::VersionTooOld,
            _ => return,
        };
        self.alert_happened(code, address, format!("{address}: {why}"));
    }

    fn on_link_up(&mut self, up: LinkUp) {
        let (link, till) = (LinkId(up.link.0), up.till);
        let name = up.hello.pos_name.clone();
        if !self.admits(till) {
            info!(peer = %till, "P2P: {name} ({till}) waits to be admitted");
            let waiting = Waiting {
                address: up.addr.to_string(),
                pos_id: up.hello.pos_id.clone(),
                pos_name: name,
                public_key: up.public_key,
            };
            self.pending.insert(till, waiting);
            self.mesh.close(up.link, Bye::Busy);
            return;
        }
        let mut listens_at = up.addr;
        if up.dialled_by_us {
            self.candidates.reached(till, up.addr);
        } else {
            listens_at.set_port(up.hello.port);
            if up.hello.port != 0 {
                self.candidates.told(till, [listens_at]);
            }
        }
        if till == self.till {
            warn!(peer = %up.addr, "P2P: another box, at {}, has this till's key", up.addr);
            self.set_alert(Code::Fork, "key", Some(format!("another box, at {}, has this till's key", up.addr)));
        }
        let boot = up.hello.boot;
        debug!(peer = %till, "P2P: link {} to {name} at {}, dialled by us: {}", link.0, up.addr, up.dialled_by_us);
        let member = self.members.entry(till).or_default();
        *member = Member {
            pos_id: up.hello.pos_id.clone(),
            pos_name: name,
            address: Some(listens_at.to_string()),
            last_seen_ms: Some(clock::now().wall_ms),
        };
        let takes_status = up.hello.features & FEATURE_STATUS != 0;
        let entry = Link {
            handle: up.handle,
            hello: up.hello,
            till,
            address: listens_at.to_string(),
            since_ms: clock::now().wall_ms,
        };
        self.links.insert(link, entry);
        self.traffic.links_made += 1;
        if takes_status {
            self.shop.link_up(self.uptime.ms(), link, till);
        }
        self.clear_refusals();
        self.feed(Input::LinkUp { link, till, boot, dialled_by_us: up.dialled_by_us });
        self.tell_known();
        self.retarget();
    }

    /// A till that is linked is refused no more, at none of its addresses: it may have been refused at another one than it is linked at,
    /// and that be known to be its own only later.
    pub(super) fn clear_refusals(&mut self) {
        if !REFUSALS.iter().any(|code| self.alerts.is_set(*code)) {
            return;
        }
        let linked: HashSet<TillId> = self.links.values().map(|link| link.till).collect();
        let targets = self.candidates.targets().into_iter();
        let theirs = targets.filter(|target| matches!(target.key, TargetKey::Till(till) if linked.contains(&till)));
        let known = theirs.flat_map(|target| target.addresses);
        let at_links = self.links.values().filter_map(|link| link.address.parse().ok());
        let ips: BTreeSet<String> = known.chain(at_links).map(|address: SocketAddr| address.ip().to_string()).collect();
        for code in REFUSALS {
            self.alerts.keep(code, |ip| !ips.contains(ip));
        }
        self.changed = true;
    }

    /// With manual admission only tills of the roster are linked. A till that knows no other yet is the one that joins: it takes whom it
    /// meets, and waits for them to admit it.
    fn admits(&self, till: TillId) -> bool {
        self.admission == Admission::Auto || self.admitted.is_empty() || self.admitted.contains(&till)
    }

    fn on_link_down(&mut self, link: LinkId, end: &LinkEnd) {
        let Some(gone) = self.links.remove(&link) else { return };
        debug!(peer = %gone.till, "P2P: link {} to {} ended: {end}", link.0, gone.hello.pos_name);
        self.traffic.links_lost += 1;
        self.shop.link_down(link);
        if let Some(member) = self.members.get_mut(&gone.till) {
            member.last_seen_ms = Some(clock::now().wall_ms);
        }
        self.store.forget_link(link.0);
        self.feed(Input::LinkDown { link });
    }

    pub(super) fn on_store(&mut self, event: StoreEvent) {
        self.changed = true;
        match event {
            StoreEvent::Committed(committed) => {
                self.stored.is_old = true;
                if let Some(origin) = committed.origin {
                    warn!("this database writes under a new origin, {origin}, from now on");
                    self.feed(Input::Origin(origin));
                }
                if let Some(batch) = committed.local {
                    self.traffic.ops_written += batch.ops.len() as u64;
                    self.feed(Input::Committed(batch));
                }
                for (origin, head) in committed.heads {
                    let before = self.replica.head(origin).seq;
                    self.traffic.ops_applied += head.seq.saturating_sub(before);
                    self.feed(Input::Applied { origin, head });
                }
                if let Some(logs) = committed.logs {
                    self.alert_ends(&logs.closes);
                    self.feed(Input::Logs { vector: logs.vector, closes: logs.closes });
                }
                if committed.roster {
                    self.read_roster();
                }
                for ahead in committed.ahead {
                    let who = ahead.till.map_or_else(|| ahead.origin.to_string(), |till| self.name_of(till));
                    self.alert_happened(Code::PeerClockAhead, &who, who.clone());
                }
            }
            StoreEvent::Health(fault) => {
                match &fault {
                    Some(error) => warn!("the store fails: {error}"),
                    None => info!("the store works again"),
                }
                self.set_alert(Code::StoreFault, "", fault.map(|error| error.to_string()));
            }
        }
    }

    /// The card takes long over a write, or has done it. Whoever waits for a sale is to see why.
    pub(super) fn on_silence(&mut self, silent: Option<Duration>) {
        let cause = silent.map(|since| format!("the disk has not answered for {} s", since.as_secs()));
        self.set_alert(Code::StoreFault, "disk", cause);
    }

    /// Also where another till found the fork: whoever looks at any till is to see it.
    fn alert_ends(&mut self, closes: &Closes) {
        for close in closes.iter().filter(|close| self.closes.is_news(*close)).collect::<Vec<_>>() {
            let origin = close.origin.to_string();
            self.set_alert(Code::Fork, &origin, Some(format!("origin {origin} ends after change {}", close.seq)));
        }
        self.closes.clone_from(closes);
    }

    /// Feeds the replica and carries out what it wants.
    pub(super) fn feed(&mut self, input: Input) {
        for output in self.replica.handle(self.uptime.ms(), input) {
            match output {
                Output::Send { link, message } => self.send(link, &message::encode(&message)),
                Output::Apply(batch) => self.apply(batch),
                Output::Read { link, origin, from, bytes_max } => self.read_ops(link, origin, from, bytes_max),
                Output::End(closes) => self.end(closes),
                Output::LeaveOrigin(origin) => self.leave_origin(origin),
                Output::Compare { link, origin, marks } => self.compare(link, origin, marks),
                Output::Ask { link, ask } => self.answer_ask(link, ask),
                Output::CompareParts { session, table, after, parts } => {
                    self.compare_parts(session, table, after, parts);
                }
                Output::Take { session, what } => self.take(session, what),
                Output::Adopt => self.adopt(),
                Output::Digest => self.digest(),
                Output::Close { link, reason } => self.close(link, reason),
                Output::Event(event) => self.on_event(event),
            }
        }
    }

    pub(super) fn send(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(entry) = self.links.get(&link) else { return };
        // What the replica has in flight to a peer is bounded below the queue: a peer that fills it reads nothing at all.
        if entry.handle.try_send(bytes.to_vec()) == Err(SendError::Full) {
            warn!(peer = %entry.till, "P2P: {} does not read what it is sent", entry.hello.pos_name);
            entry.handle.close(Bye::Busy);
        }
    }

    fn close(&mut self, link: LinkId, reason: CloseReason) {
        let Some(entry) = self.links.get(&link) else { return };
        let bye = match reason {
            CloseReason::Duplicate => Bye::Duplicate,
            CloseReason::Ourselves => Bye::Ourselves,
            CloseReason::Silent => Bye::Silent,
            CloseReason::Replaced => Bye::Replaced,
            CloseReason::Violation => Bye::Violation,
        };
        if reason == CloseReason::Silent {
            warn!(peer = %entry.till, "P2P: {} has been silent for too long", entry.hello.pos_name);
        }
        entry.handle.close(bye);
    }

    fn on_event(&mut self, event: Event) {
        self.changed = true;
        match event {
            Event::PeerReady(till) => info!(peer = %till, "P2P: connected to {}", self.name_of(till)),
            Event::PeerGone(till) => {
                info!(peer = %till, "P2P: connection to {} lost", self.name_of(till));
                self.verify_found(till);
            }
            Event::PeerHas(till) => {
                self.stored.is_old = true;
                self.memory.note_ack(self.uptime.ms(), till);
            }
            Event::StatusTold { link, told } => self.shop.hear(self.uptime.ms(), clock::now().wall_ms, link, told),
            Event::PeersTold(peers) => self.on_told(peers),
            Event::Fork { origin, seen_at } => {
                let who = self.name_of(seen_at);
                warn!(
                    "P2P: two contents under origin {origin}, one of them at {who}: its branches get names of their own"
                );
                self.set_alert(Code::Fork, &origin.to_string(), Some(format!("origin {origin}, seen at {who}")));
            }
            Event::OwnOriginAhead { seen_at } => {
                let who = self.name_of(seen_at);
                warn!("P2P: {who} has more of this till's own changes than this till: its database is an old copy");
                self.set_alert(Code::Fork, "", Some(format!("{who} has more of this till's own changes than itself")));
            }
            Event::Snapshot(progress) => self.on_snapshot(progress),
            Event::SnapshotOver { complete } => {
                info!("P2P: {}", if complete { "a snapshot was taken whole" } else { "a snapshot broke off" });
                self.snapshot = None;
                if complete && self.alerts.is_set(Code::StoreDamaged) {
                    self.scrub_now();
                }
            }
            Event::Divergence { till, differ } => {
                let who = self.name_of(till);
                if differ {
                    warn!(peer = %till, "P2P: {who} holds the same changes and another state: comparing and fetching again");
                    // What follows from records, stock above all, is mended here.
                    self.scrub_now();
                }
                self.set_alert(Code::Divergence, &till.to_string(), differ.then_some(who));
            }
            Event::Synced { received, complete } => {
                info!("P2P: synchronised on demand, {received} changes received, complete: {complete}");
            }
        }
    }

    fn on_snapshot(&mut self, progress: SnapshotProgress) {
        let who = self.name_of(progress.from);
        let tenth = |p: &SnapshotProgress| p.rows.min(p.of) * 10 / p.of.max(1);
        if self.snapshot.as_ref().is_none_or(|before| tenth(before) != tenth(&progress)) {
            info!("P2P: taking a snapshot from {who}: {} of about {} rows are here", progress.rows, progress.of);
        }
        self.snapshot = Some(progress);
    }

    fn on_told(&mut self, peers: Vec<KnownPeer>) {
        for peer in peers.into_iter().filter(|p| p.till != self.till) {
            if let Ok(address) = peer.address.parse() {
                self.candidates.told(peer.till, [address]);
            }
        }
        self.retarget();
    }

    /// Tells peers of the tills that we are linked to, and where those listen. A link-local address means nothing on another machine.
    fn tell_known(&mut self) {
        let known = self.links.values().filter(|l| l.hello.port != 0 && !is_link_local(&l.address));
        let known = known.map(|l| KnownPeer { till: l.till, address: l.address.clone() }).collect();
        self.feed(Input::Known(known));
    }
}

fn is_link_local(address: &str) -> bool {
    match address.parse() {
        Ok(SocketAddr::V6(v6)) => v6.ip().is_unicast_link_local(),
        Ok(SocketAddr::V4(v4)) => v4.ip().is_link_local(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_link_local;

    #[test]
    fn addresses_that_mean_nothing_elsewhere_are_known() {
        for local in ["[fe80::1%2]:3030", "[fe80::1]:3030", "169.254.3.4:3030"] {
            assert!(is_link_local(local), "{local}");
        }
        for wide in ["192.168.1.20:3030", "[fd00::1]:3030", "[2001:db8::1]:3030"] {
            assert!(!is_link_local(wide), "{wide}");
        }
    }
}
