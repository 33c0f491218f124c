//! The replica: its state, and where each input goes.

use std::collections::{BTreeMap, VecDeque};

use super::acks::Acks;
use super::digests::Digests;
use super::ends::Ends;
use super::episode::Episode;
use super::message::{KnownPeer, MemberAck, Message};
use super::pull::Pull;
use super::session::{PeerView, Session};
use super::taking::{Taker, Unfinished};
use super::{ACK_BYTES, CloseReason, Event, Input, LinkId, MonoMs, Output, PEERS_MAX, TRAIL_MAX};
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
    /// What snapshots that were not finished have left.
    pub unfinished: Unfinished,
}

/// One origin's log, as far as syncing it needs to know.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) durable: Head,
    /// After the batches that the store is applying.
    pub(super) pending: Head,
    /// Some of the last places of it whose hash is at hand, so that what peers say of them costs no reading.
    pub(super) trail: VecDeque<Head>,
    /// Its author pushes it to us on this link.
    pub(super) live_from: Option<LinkId>,
    /// A peer has had more than we since then.
    pub(super) gap_since: Option<MonoMs>,
    /// The store could not apply; not before then again.
    pub(super) retry_at: MonoMs,
    /// A pull was put off until then.
    pub(super) wake_at: Option<MonoMs>,
}

impl Log {
    pub(super) fn at(head: Head) -> Self {
        Self { durable: head, pending: head, ..Self::default() }
    }

    /// Remembers a place.
    pub(super) fn note(&mut self, head: Head) {
        if self.trail.len() == TRAIL_MAX {
            self.trail.pop_front();
        }
        self.trail.push_back(head);
    }
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
    pub(super) acks: Acks,
    pub(super) ends: Ends,
    pub(super) taker: Taker,
    pub(super) digests: Digests,
    pub(super) known: Vec<KnownPeer>,
    pub(super) next_ping: u64,
    pub(super) duplicates: u64,
    pub(super) out: Vec<Output>,
}

impl Replica {
    /// A replica without links.
    #[must_use]
    pub fn new(options: ReplicaOptions) -> Self {
        let ReplicaOptions { till, level, stamp, started, .. } = options;
        Self {
            till,
            boot: options.boot,
            origin: options.origin,
            auto_sync: options.auto_sync,
            logs: options.heads.0.iter().map(|(origin, head)| (*origin, Log::at(*head))).collect(),
            sessions: BTreeMap::new(),
            pulls: BTreeMap::new(),
            episode: None,
            acks: Acks::new(options.acks, till, level, stamp, started),
            ends: Ends::new(options.closes),
            taker: Taker::new(started, options.unfinished),
            digests: Digests::new(started),
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
            Input::Logs { vector, closes } => self.on_logs(now, &vector, &closes),
            Input::Compared { link, origin, found } => self.on_compared(now, link, origin, found),
            Input::Origin(origin) => self.on_origin(now, origin),
            Input::Known(known) => self.on_known(known),
            Input::ReadBelow { link, origin, floor } => self.on_read_below(link, origin, floor),
            Input::Answer { link, answer } => self.on_store_answer(link, answer),
            Input::PartsCompared { session, differ } => self.on_parts_compared(now, session, &differ),
            Input::Taken { session, done } => self.on_taken(now, session, done),
            Input::Adopted { left } => self.on_adopted(left),
            Input::Digest(digest) => self.on_own_digest(now, digest),
            Input::Repair => self.on_repair(),
            Input::Tick => {}
        }
        self.run_timers(now);
        std::mem::take(&mut self.out)
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
        self.sessions.iter().map(|(link, session)| PeerView {
            till: session.till,
            link: *link,
            ready: session.ready,
            round_trip_ms: session.heartbeat.round_trip_ms,
            last_heard: session.heartbeat.last_heard,
            behind: self.behind(session),
            ahead: self.ahead(session),
        })
    }

    /// The greatest sequence number of our own origin that some other till is known to hold durably. What a linked till told has been
    /// compared with our log, or is being compared; what was passed on of others is taken at its word, up to our head.
    #[must_use]
    pub fn held_elsewhere(&self) -> Seq {
        self.acks.most(self.origin, self.head(self.origin).seq)
    }

    /// The origin under which this till writes.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// What a till is known to hold durably, as it said.
    #[must_use]
    pub fn held_by(&self, till: TillId) -> Option<MemberAck> {
        self.acks.of(till).cloned()
    }

    /// Ops that arrived though we had them: none in a healthy full mesh.
    #[must_use]
    pub fn duplicates(&self) -> u64 {
        self.duplicates
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
        if !message.is_allowed() {
            self.close(now, link, CloseReason::Violation);
            return;
        }
        match message {
            Message::Have(heads) => self.on_have(now, link, heads),
            Message::Want { origin, from, credit } => self.on_want(link, origin, from, credit),
            Message::Credit { origin, bytes } => self.on_credit(link, origin, bytes),
            Message::Ops(batch) => self.on_ops(now, link, batch),
            Message::Closes(closes) => self.end(now, closes),
            Message::Acks(acks) => self.on_acks(now, link, acks),
            Message::Probe { origin, marks } => self.on_probe(now, link, origin, marks),
            Message::Ping(n) => self.on_ping(now, link, n),
            Message::Pong(n) => self.on_pong(now, link, n),
            Message::Peers(mut peers) => {
                peers.truncate(PEERS_MAX);
                self.event(Event::PeersTold(peers));
            }
            Message::Status(told) => self.event(Event::StatusTold { link, told }),
            Message::Below { origin, floor } => self.on_below(now, link, origin, floor),
            Message::Ask(ask) => self.on_ask(link, ask),
            Message::Answer(answer) => self.on_snapshot_answer(now, link, answer),
            Message::Digest(digest) => self.on_digest(now, link, digest),
        }
    }

    fn on_committed(&mut self, now: MonoMs, batch: OpBatch) {
        let head = batch.after();
        if self.is_cut(batch.origin, head) {
            return;
        }
        let log = self.logs.entry(batch.origin).or_default();
        log.durable = head;
        log.pending = head;
        log.note(head);
        self.acks.moved();
        self.digests.moved();
        self.push_own(now, &batch);
    }

    pub(super) fn on_applied(&mut self, now: MonoMs, origin: Origin, head: Head) {
        if self.is_cut(origin, head) {
            return;
        }
        let log = self.logs.entry(origin).or_default();
        let was = log.durable.seq;
        if head.seq <= was {
            return;
        }
        log.durable = head;
        log.retry_at = 0;
        if log.pending.seq < head.seq {
            log.pending = head;
        }
        self.acks.moved();
        self.digests.moved();
        if let Some(episode) = &mut self.episode {
            episode.received += head.seq - was;
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
        self.check_passed(now, origin, was, head.seq);
        self.serve_all(origin);
        self.pull(now);
        self.end_episode_when_equal(now);
    }
}
