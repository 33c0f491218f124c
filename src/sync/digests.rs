//! Digests: tills that hold the same ops must have the same state. Where they have not, somebody is told, and each takes the other's
//! snapshot: what either lacks is joined in.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Message, StateDigest};
use super::peers::round_up;
use super::replica::Replica;
use super::{DIGEST_EVERY_MS, Event, LinkId, MonoMs, Output, REPAIR_EVERY_MS};
use crate::model::id::TillId;

/// What our state adds up to, and who has another.
#[derive(Debug)]
pub(super) struct Digests {
    own: Option<StateDigest>,
    /// Something has changed since the store was last asked.
    is_old: bool,
    asked_at: MonoMs,
    diverged: BTreeSet<TillId>,
    /// When a snapshot was last taken for this.
    repaired: BTreeMap<TillId, MonoMs>,
}

impl Digests {
    pub(super) fn new(now: MonoMs) -> Self {
        let (diverged, repaired) = Default::default();
        Self { own: None, is_old: true, asked_at: now, diverged, repaired }
    }

    pub(super) fn moved(&mut self) {
        self.is_old = true;
    }
}

impl Replica {
    pub(super) fn digest_due(&self) -> Option<MonoMs> {
        let is_wanted = self.digests.is_old && self.sessions.values().any(|s| s.ready);
        is_wanted.then(|| round_up(self.digests.asked_at + DIGEST_EVERY_MS))
    }

    pub(super) fn check_digest(&mut self, now: MonoMs) {
        if self.digest_due().is_some_and(|due| due <= now) {
            self.digests.is_old = false;
            self.digests.asked_at = now;
            self.out.push(Output::Digest);
        }
    }

    /// The store has added up; not while rows are uncovered.
    pub(super) fn on_own_digest(&mut self, now: MonoMs, digest: Option<StateDigest>) {
        self.on_counted(digest.is_some());
        let Some(digest) = digest else {
            self.digests.is_old = true;
            return;
        };
        self.digests.own = Some(digest);
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.send_digest(link);
            self.compare_digests(now, link);
        }
    }

    /// Tells a peer that has become ready what our state adds up to, unless that is about to be added up anew.
    pub(super) fn tell_digest(&mut self, link: LinkId) {
        if !self.digests.is_old {
            self.send_digest(link);
        }
    }

    fn send_digest(&mut self, link: LinkId) {
        let is_ready = self.sessions.get(&link).is_some_and(|s| s.ready);
        if let Some(digest) = self.digests.own.clone().filter(|_| is_ready) {
            self.send(link, Message::Digest(digest));
        }
    }

    pub(super) fn on_digest(&mut self, now: MonoMs, link: LinkId, digest: StateDigest) {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.digest = Some(digest);
            self.compare_digests(now, link);
        }
    }

    /// Compares what both tills added up of the same ops, over the tables that both know.
    fn compare_digests(&mut self, now: MonoMs, link: LinkId) {
        let Some(session) = self.sessions.get(&link) else { return };
        let (Some(ours), Some(theirs)) = (&self.digests.own, &session.digest) else { return };
        if ours.vector != theirs.vector {
            return;
        }
        let till = session.till;
        let theirs: BTreeMap<u16, u128> = theirs.sums.iter().copied().collect();
        let differ = ours.sums.iter().any(|(table, sum)| theirs.get(table).is_some_and(|other| other != sum));
        let was = self.digests.diverged.contains(&till);
        if differ != was {
            self.event(Event::Divergence { till, differ });
        }
        if !differ {
            self.digests.diverged.remove(&till);
            return;
        }
        self.digests.diverged.insert(till);
        let last = self.digests.repaired.get(&till);
        if last.is_none_or(|last| last + REPAIR_EVERY_MS <= now) {
            self.digests.repaired.insert(till, now);
            self.repair_from(till);
        }
    }
}
