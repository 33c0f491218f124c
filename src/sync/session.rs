//! What is known of one link and its peer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::acks::Gossip;
use super::giving::Asks;
use super::message::StateDigest;
use super::{HAVE_EVERY_MS, MonoMs, NEWS_DELAY_MS, WINDOW_BYTES};
use crate::model::id::{BootId, Origin, TillId};
use crate::model::op::{Head, Seq};
use crate::model::vector::VersionVector;

/// One link.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) till: TillId,
    pub(super) boot: BootId,
    pub(super) dialled_by_us: bool,
    /// The peer has told what it has.
    pub(super) ready: bool,
    /// Durable heads of the peer, as far as it told.
    pub(super) has: VersionVector,
    pub(super) heartbeat: Heartbeat,
    pub(super) announce: Announce,
    /// Streams that the peer asked for, and the stream of our own ops.
    pub(super) serves: BTreeMap<Origin, Serve>,
    /// Our own ops that were pushed and not yet acknowledged: last sequence number and bytes.
    pub(super) pushed: VecDeque<(Seq, u32)>,
    /// Not preferred as a source until then.
    pub(super) penalty_until: MonoMs,
    /// For each log the last head of the peer that was found on our branch.
    pub(super) agreed: BTreeMap<Origin, Head>,
    /// Logs that are being compared with the peer's.
    pub(super) comparing: BTreeMap<Origin, Comparing>,
    pub(super) gossip: Gossip,
    /// Logs that the peer has compacted, and up to where, as far as we asked for the ops.
    pub(super) below: BTreeMap<Origin, Seq>,
    /// What it asks about a snapshot of ours.
    pub(super) asks: Asks,
    /// What its state added up to when it last said so.
    pub(super) digest: Option<StateDigest>,
}

/// A comparison of one log with a peer's.
#[derive(Debug, Default)]
pub(super) struct Comparing {
    /// The peer, or our store, must have answered by then.
    pub(super) until: MonoMs,
    /// Our store is looking.
    pub(super) reading: bool,
    /// The place of the peer's that it is looking at, where that is but one.
    pub(super) mark: Option<Head>,
    /// The log has changed since: what the store will say is of no use.
    pub(super) is_void: bool,
    /// A probe that came meanwhile.
    pub(super) next: Option<Vec<Head>>,
}

#[derive(Debug)]
pub(super) struct Heartbeat {
    pub(super) last_heard: MonoMs,
    pub(super) pinged: Option<(u64, MonoMs)>,
    /// Must be heard from by then, or another link of the same till takes over.
    pub(super) probe_until: Option<MonoMs>,
    pub(super) round_trip_ms: Option<u64>,
}

/// The heads that a peer has yet to be told of.
#[derive(Debug, Default)]
pub(super) struct Announce {
    pub(super) origins: BTreeSet<Origin>,
    due: Option<MonoMs>,
    last: Option<MonoMs>,
    /// Bytes of ops received from the peer and durable since the last `Have`.
    pub(super) unacked_bytes: u32,
}

/// A stream of one origin's ops to the peer.
#[derive(Debug)]
pub(super) struct Serve {
    pub(super) next: Seq,
    pub(super) credit: i64,
    pub(super) reading: bool,
    /// The peer stands at our head: new ops of our own are pushed.
    pub(super) live: bool,
}

impl Session {
    pub(super) fn new(now: MonoMs, till: TillId, boot: BootId, dialled_by_us: bool) -> Self {
        Self {
            till,
            boot,
            dialled_by_us,
            ready: false,
            has: VersionVector::default(),
            heartbeat: Heartbeat { last_heard: now, pinged: None, probe_until: None, round_trip_ms: None },
            announce: Announce::default(),
            serves: BTreeMap::new(),
            pushed: VecDeque::new(),
            penalty_until: 0,
            agreed: BTreeMap::new(),
            comparing: BTreeMap::new(),
            gossip: Gossip::default(),
            below: BTreeMap::new(),
            asks: Asks::default(),
            digest: None,
        }
    }

    /// The peer told where a log stands.
    pub(super) fn hear(&mut self, origin: Origin, head: Head) {
        if head.seq == 0 {
            self.has.0.remove(&origin);
        } else {
            self.has.0.insert(origin, head);
        }
    }

    /// The log changes: what is being found out about it is of no use any more.
    pub(super) fn drop_comparison(&mut self, origin: Origin) {
        match self.comparing.get_mut(&origin) {
            Some(comparing) if comparing.reading => {
                comparing.is_void = true;
                comparing.next = None;
            }
            _ => drop(self.comparing.remove(&origin)),
        }
    }

    pub(super) fn pushed_bytes(&self) -> u32 {
        self.pushed.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Whether `bytes` more may be pushed. A single op longer than the window may, when nothing else is in flight.
    pub(super) fn may_push(&self, bytes: u32) -> bool {
        self.pushed.is_empty() || self.pushed_bytes().saturating_add(bytes) <= WINDOW_BYTES
    }
}

impl Announce {
    /// A head has changed. News are told soon, acknowledgements with the next `Have`.
    pub(super) fn add(&mut self, now: MonoMs, origin: Origin, news: bool) {
        self.origins.insert(origin);
        let soon = now + if news { NEWS_DELAY_MS } else { HAVE_EVERY_MS };
        let due = soon.max(self.last.map_or(0, |last| last + HAVE_EVERY_MS));
        self.due = Some(self.due.map_or(due, |d| d.min(due)));
    }

    pub(super) fn hurry(&mut self, now: MonoMs) {
        self.due = Some(now);
    }

    pub(super) fn due(&self) -> Option<MonoMs> {
        self.due.filter(|_| !self.origins.is_empty())
    }

    pub(super) fn take(&mut self, now: MonoMs) -> BTreeSet<Origin> {
        self.due = None;
        self.last = Some(now);
        self.unacked_bytes = 0;
        std::mem::take(&mut self.origins)
    }
}

/// What status shows of a linked peer.
#[derive(Clone, PartialEq, Debug)]
pub struct PeerView {
    /// The till.
    pub till: TillId,
    /// The link.
    pub link: super::LinkId,
    /// Whether it has told what it has.
    pub ready: bool,
    /// Round trip of the last ping, in milliseconds.
    pub round_trip_ms: Option<u64>,
    /// When it was last heard.
    pub last_heard: MonoMs,
    /// Ops that it has and we lack.
    pub behind: u64,
    /// Ops that we have and it lacks.
    pub ahead: u64,
}
