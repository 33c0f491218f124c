//! The replica: its state, and where each input goes.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{KnownPeer, MemberAck, Message};
use super::pull::Pull;
use super::session::{PeerView, Session};
use super::{
    ACK_BYTES, CloseReason, DEAD_AFTER_MS, EPISODE_MS, Event, HAVE_MAX, Input, LinkId, MonoMs, Output, PEERS_MAX,
    PING_AFTER_MS, TIMER_GRAIN_MS,
};
use crate::model::close::Closes;
use crate::model::id::{BootId, Origin, TillId};
use crate::model::op::{Head, OpBatch, Seq};
use crate::model::vector::VersionVector;

/// What a replica is given at its start.
#[derive(Clone, Debug)]
pub struct ReplicaOptions {
    /// This till.
    pub till: TillId,
    /// This run.
    pub boot: BootId,
    /// The origin under which this till writes.
    pub origin: Origin,
    /// Durable heads.
    pub heads: VersionVector,
    /// Whether ops are exchanged whenever there is a link, or on [`Input::SyncNow`] alone.
    pub auto_sync: bool,
    /// What other tills are known to hold, from earlier runs.
    pub acks: BTreeMap<TillId, MemberAck>,
    /// Ends of origins.
    pub closes: Closes,
    /// The highest level of ops that this till applies.
    pub level: u16,
    /// Milliseconds of the hybrid clock at `started`: the stamps of our acks go on from there.
    pub stamp: u64,
    /// When the replica is made.
    pub started: MonoMs,
    /// How many rows of a snapshot that was not finished are here, uncovered.
    pub uncovered: u64,
}

/// One origin's log, as far as syncing it needs to know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Log {
    pub(super) durable: Head,
    /// After the batches that the store is applying.
    pub(super) pending: Head,
    /// Two contents at one place: left alone.
    pub(super) forked: bool,
    /// Its author pushes it to us on this link.
    pub(super) live_from: Option<LinkId>,
    /// A peer has had more than we since then.
    pub(super) gap_since: Option<MonoMs>,
    /// The store could not apply; not before then again.
    pub(super) retry_at: MonoMs,
    /// A pull was put off until then.
    pub(super) wake_at: Option<MonoMs>,
}

/// A sync on demand.
#[derive(Debug)]
pub(super) struct Episode {
    until: MonoMs,
    received: u64,
}

/// The part of a till that decides what to ask, send, apply and close. See the module's page.
#[derive(Debug)]
pub struct Replica {
    pub(super) till: TillId,
    pub(super) boot: BootId,
    pub(super) origin: Origin,
    pub(super) auto_sync: bool,
    pub(super) logs: BTreeMap<Origin, Log>,
    pub(super) sessions: BTreeMap<LinkId, Session>,
    pub(super) pulls: BTreeMap<Origin, Pull>,
    pub(super) episode: Option<Episode>,
    pub(super) acks: BTreeMap<TillId, MemberAck>,
    pub(super) known: Vec<KnownPeer>,
    pub(super) next_ping: u64,
    pub(super) duplicates: u64,
    pub(super) out: Vec<Output>,
}

impl Replica {
    /// A replica without links.
    #[must_use]
    pub fn new(options: ReplicaOptions) -> Self {
        let log = |head: &Head| Log { durable: *head, pending: *head, ..Log::default() };
        Self {
            till: options.till,
            boot: options.boot,
            origin: options.origin,
            auto_sync: options.auto_sync,
            logs: options.heads.0.iter().map(|(o, h)| (*o, log(h))).collect(),
            sessions: BTreeMap::new(),
            pulls: BTreeMap::new(),
            episode: None,
            acks: options.acks,
            known: Vec::new(),
            next_ping: 0,
            duplicates: 0,
            out: Vec::new(),
        }
    }

    /// Takes one input and answers with what is to be done, in order.
    pub fn handle(&mut self, now: MonoMs, input: Input) -> Vec<Output> {
        match input {
            Input::LinkUp { link, till, boot, dialled_by_us } => self.on_link_up(now, link, till, boot, dialled_by_us),
            Input::LinkDown { link } => self.on_link_down(now, link),
            Input::Message { link, message } => self.on_message(now, link, message),
            Input::Committed(batch) => self.on_committed(now, batch),
            Input::Applied { origin, head } => self.on_applied(now, origin, head),
            Input::NotApplied { origin, head } => self.on_not_applied(now, origin, head),
            Input::Read { link, origin, batch } => self.on_read(link, origin, batch),
            Input::SyncNow => self.on_sync_now(now),
            Input::Origin(origin) => self.on_origin(origin),
            Input::Known(known) => self.on_known(known),
            Input::Tick => {}
            _ => {}
        }
        self.run_timers(now);
        std::mem::take(&mut self.out)
    }

    /// When [`Input::Tick`] is due at the latest, if nothing else comes.
    #[must_use]
    pub fn next_tick(&self) -> Option<MonoMs> {
        let links = self.sessions.values().flat_map(|s| {
            let heartbeat =
                Some(s.heartbeat.last_heard.max(s.heartbeat.pinged.map_or(0, |(_, at)| at)) + PING_AFTER_MS);
            let dead = Some(s.heartbeat.last_heard + DEAD_AFTER_MS);
            [heartbeat.map(round_up), dead.map(round_up), s.heartbeat.probe_until, s.announce.due()]
        });
        let pulls = self.pulls.values().map(Pull::stalls_at);
        let waits = self.logs.values().map(|log| log.wake_at);
        let episode = self.episode.as_ref().map(|e| e.until);
        links.chain(pulls).chain(waits).chain([episode]).flatten().min()
    }

    /// What this till holds durably.
    #[must_use]
    pub fn vector(&self) -> VersionVector {
        self.logs.iter().map(|(origin, log)| (*origin, log.durable)).collect()
    }

    /// Where an origin's log stands here, durably.
    #[must_use]
    pub fn head(&self, origin: Origin) -> Head {
        self.logs.get(&origin).map(|l| l.durable).unwrap_or_default()
    }

    /// The linked peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        let ours = self.vector();
        self.sessions.iter().map(move |(link, session)| PeerView {
            till: session.till,
            link: *link,
            ready: session.ready,
            round_trip_ms: session.heartbeat.round_trip_ms,
            last_heard: session.heartbeat.last_heard,
            behind: ours.behind(&session.has),
            ahead: session.has.behind(&ours),
        })
    }

    /// The greatest sequence number of our own origin that some other till is known to hold durably.
    #[must_use]
    pub fn held_elsewhere(&self) -> Seq {
        let own = self.head(self.origin).seq;
        self.acks.values().map(|held| held.heads.seq(self.origin)).filter(|seq| *seq <= own).max().unwrap_or(0)
    }

    /// The origin under which this till writes.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What a till is known to hold durably, as it said.
    #[must_use]
    pub fn held_by(&self, till: TillId) -> Option<MemberAck> {
        self.acks.get(&till).cloned()
    }

    /// Ops that arrived though we had them: none in a healthy full mesh.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Whether ops are exchanged now.
    pub(super) fn is_active(&self) -> bool {
        self.auto_sync || self.episode.is_some()
    }

    pub(super) fn send(&mut self, link: LinkId, message: Message) {
        self.out.push(Output::Send { link, message });
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    fn on_message(&mut self, now: MonoMs, link: LinkId, message: Message) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.heartbeat.last_heard = now;
        session.heartbeat.probe_until = None;
        match message {
            Message::Have(heads) => self.on_have(now, link, heads),
            Message::Want { origin, from, credit } => self.on_want(link, origin, from, credit),
            Message::Credit { origin, bytes } => self.on_credit(link, origin, bytes),
            Message::Ops(batch) => self.on_ops(now, link, batch),
            Message::Ping(n) => self.on_ping(now, link, n),
            Message::Pong(n) => self.on_pong(now, link, n),
            Message::Peers(mut peers) => {
                peers.truncate(PEERS_MAX);
                self.event(Event::PeersTold(peers));
            }
            _ => {}
        }
    }

    fn on_have(&mut self, now: MonoMs, link: LinkId, heads: Vec<(Origin, Head)>) {
        if heads.len() > HAVE_MAX {
            self.out.push(Output::Close { link, reason: CloseReason::Violation });
            return;
        }
        let mut more = false;
        for (origin, head) in heads {
            let Some(session) = self.sessions.get_mut(&link) else { return };
            session.has.0.insert(origin, head);
            if origin == self.origin {
                session.pushed.retain(|(seq, _)| *seq > head.seq);
            }
            let till = session.till;
            let ours = self.logs.get(&origin).map(|l| l.durable).unwrap_or_default();
            if head.seq > 0 && ours.seq == head.seq && ours.hash != head.hash {
                self.on_fork(origin, link);
            } else if origin == self.origin && head.seq > ours.seq {
                self.on_own_origin_ahead(link);
            } else {
                let held = self.acks.entry(till).or_insert_with(|| MemberAck {
                    till,
                    stamp: 0,
                    level: 1,
                    heads: VersionVector::default(),
                });
                more |= head.seq > held.heads.seq(origin);
                if head.seq >= held.heads.seq(origin) {
                    held.heads.0.insert(origin, head);
                }
            }
        }
        if more && let Some(session) = self.sessions.get(&link) {
            self.event(Event::PeerHas(session.till));
        }
        self.on_ready(now, link);
        self.go_live(link);
        self.pull(now);
        self.end_episode_when_equal();
    }

    fn on_ready(&mut self, now: MonoMs, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&link).filter(|s| !s.ready) else { return };
        session.ready = true;
        let till = session.till;
        self.ping(now, link);
        self.close_duplicates(now, till);
        self.event(Event::PeerReady(till));
    }

    pub(super) fn on_fork(&mut self, origin: Origin, link: LinkId) {
        let log = self.logs.entry(origin).or_default();
        let Some(session) = self.sessions.get(&link) else { return };
        if !log.forked {
            log.forked = true;
            let seen_at = session.till;
            self.pulls.remove(&origin);
            self.event(Event::Fork { origin, seen_at });
        }
    }

    fn on_own_origin_ahead(&mut self, link: LinkId) {
        let own = self.logs.entry(self.origin).or_default();
        let Some(session) = self.sessions.get(&link) else { return };
        if !own.forked {
            own.forked = true;
            let seen_at = session.till;
            self.event(Event::OwnOriginAhead { seen_at });
        }
    }

    fn on_committed(&mut self, now: MonoMs, batch: OpBatch) {
        let head = batch.after();
        let log = self.logs.entry(batch.origin).or_default();
        log.durable = head;
        log.pending = head;
        self.push_own(now, &batch);
    }

    fn on_applied(&mut self, now: MonoMs, origin: Origin, head: Head) {
        let log = self.logs.entry(origin).or_default();
        let more = head.seq.saturating_sub(log.durable.seq);
        if more == 0 {
            return;
        }
        log.durable = head;
        log.retry_at = 0;
        if let Some(episode) = &mut self.episode {
            episode.received += more;
        }
        self.refill(now, origin);
        if self.is_active() {
            for session in self.sessions.values_mut() {
                let news = session.has.seq(origin) < head.seq;
                session.announce.add(now, origin, news);
                if session.announce.unacked_bytes >= ACK_BYTES {
                    session.announce.hurry(now);
                }
            }
        }
        self.serve_all(origin);
        self.pull(now);
        self.end_episode_when_equal();
    }

    fn on_origin(&mut self, origin: Origin) {
        self.origin = origin;
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            if let Some(session) = self.sessions.get_mut(&link) {
                session.pushed.clear();
            }
            self.go_live(link);
        }
    }

    fn on_sync_now(&mut self, now: MonoMs) {
        self.episode = Some(Episode { until: now + EPISODE_MS, received: 0 });
        if self.sessions.is_empty() {
            self.end_episode(false);
            return;
        }
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.say_all(now, link);
        }
        self.pull(now);
        self.end_episode_when_equal();
    }

    /// Tells a peer all heads, or, while ops are not exchanged, none: the peer then neither pulls nor pushes.
    pub(super) fn say_all(&mut self, now: MonoMs, link: LinkId) {
        let heads: Vec<(Origin, Head)> = if self.is_active() { self.vector().0.into_iter().collect() } else { vec![] };
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.announce.take(now);
        if heads.is_empty() {
            self.send(link, Message::Have(vec![]));
        }
        for part in heads.chunks(HAVE_MAX) {
            self.send(link, Message::Have(part.to_vec()));
        }
    }

    pub(super) fn say_news(&mut self, now: MonoMs, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let origins: BTreeSet<Origin> = session.announce.take(now);
        let mut heads: Vec<(Origin, Head)> =
            origins.into_iter().filter_map(|o| self.logs.get(&o).map(|log| (o, log.durable))).collect();
        let later = heads.split_off(heads.len().min(HAVE_MAX));
        self.send(link, Message::Have(heads));
        if let Some(session) = self.sessions.get_mut(&link) {
            later.into_iter().for_each(|(origin, _)| session.announce.add(now, origin, true));
        }
    }

    /// A sync on demand is over when all that linked tills told of is here, and all that we have is there.
    fn end_episode_when_equal(&mut self) {
        let ours = self.vector();
        let equal = |s: &Session| s.ready && ours.behind(&s.has) == 0 && s.has.behind(&ours) == 0;
        if self.episode.is_some() && self.sessions.values().all(equal) {
            self.end_episode(true);
        }
    }

    pub(super) fn end_episode_when_late(&mut self, now: MonoMs) {
        if self.episode.as_ref().is_some_and(|e| e.until <= now) {
            self.end_episode(false);
        }
    }

    fn end_episode(&mut self, complete: bool) {
        let Some(episode) = self.episode.take() else { return };
        self.event(Event::Synced { received: episode.received, complete });
        if !self.auto_sync {
            self.pulls.clear();
            for session in self.sessions.values_mut() {
                session.serves.clear();
                session.pushed.clear();
            }
        }
    }
}

pub(super) fn round_up(time: MonoMs) -> MonoMs {
    time.div_ceil(TIMER_GRAIN_MS) * TIMER_GRAIN_MS
}
