//! Ends of origins: learned from peers or found by comparing, made durable by the store, then told. And our own origin, which is left
//! where a peer has more of it than we.
//!
//! From [`Output::End`] to [`Input::Logs`](super::Input::Logs) the origins concerned stand still: they are neither pulled, served, pushed
//! nor told. What the store has in its queue by then is applied before the end cuts it off, so nothing is lost on the way.

use std::collections::{BTreeMap, BTreeSet};

use super::replica::{Log, Replica};
use super::session::Session;
use super::{END_RETRY_MS, Event, LinkId, MonoMs, Output};
use crate::model::close::{Close, Closes};
use crate::model::id::{Origin, TillId};
use crate::model::mutant::Mutant;
use crate::model::op::{Head, Seq};
use crate::model::vector::VersionVector;

/// Where origins end.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Durable.
    known: Closes,
    /// Given to the store, not durable yet.
    pending: BTreeMap<Origin, Seq>,
    /// Our own origin is to be left, and the store has not yet said under which one it writes instead.
    leaving: bool,
    /// When the store is asked again.
    again_at: Option<MonoMs>,
}

impl Ends {
    pub(super) fn new(known: Closes) -> Self {
        Self { known, ..Self::default() }
    }

    /// Whether all known ends are durable.
    pub(super) fn is_settled(&self) -> bool {
        self.pending.is_empty() && !self.leaving
    }

    pub(super) fn due(&self) -> Option<MonoMs> {
        self.again_at.filter(|_| !self.is_settled())
    }

    fn end(&self, origin: Origin) -> Option<Seq> {
        [self.known.end(origin), self.pending.get(&origin).copied()].into_iter().flatten().min()
    }
}

impl Replica {
    /// Whether the store is about to end this origin.
    pub(super) fn is_ending(&self, origin: Origin) -> bool {
        self.ends.pending.contains_key(&origin)
    }

    /// Whether nothing is to be exchanged of this origin now.
    pub(super) fn stands_still(&self, origin: Origin) -> bool {
        self.is_ending(origin) || (self.ends.leaving && origin == self.origin)
    }

    /// Where an origin ends, durably or soon.
    pub(super) fn end_of(&self, origin: Origin) -> Option<Seq> {
        self.ends.end(origin)
    }

    /// Whether a head is beyond a durable end: the same commit that moved the log there cut it again, and `Logs` has said so.
    pub(super) fn is_cut(&self, origin: Origin, head: Head) -> bool {
        self.ends.known.end(origin).is_some_and(|end| head.seq > end)
    }

    /// How far a peer's log goes that we can take: what is beyond an end counts for nothing.
    pub(super) fn reach(&self, session: &Session, origin: Origin) -> Seq {
        let told = session.has.seq(origin);
        self.end_of(origin).map_or(told, |end| told.min(end))
    }

    /// How many ops a peer has that we lack.
    pub(super) fn behind(&self, session: &Session) -> u64 {
        let lacking = |origin: &Origin| self.reach(session, *origin).saturating_sub(self.head(*origin).seq);
        session.has.0.keys().map(lacking).sum()
    }

    /// How many ops we have that a peer lacks.
    pub(super) fn ahead(&self, session: &Session) -> u64 {
        self.logs.iter().map(|(origin, log)| log.durable.seq.saturating_sub(session.has.seq(*origin))).sum()
    }

    /// Has the store end origins, as far as that is news.
    pub(super) fn end(&mut self, now: MonoMs, closes: Vec<Close>) {
        let mut news = closes;
        news.retain(|close| close.is_before(self.end_of(close.origin)));
        if news.is_empty() {
            return;
        }
        for Close { origin, seq } in &news {
            self.ends.pending.insert(*origin, *seq);
            self.rest(*origin);
        }
        self.ends.again_at = Some(now + END_RETRY_MS);
        self.out.push(Output::End(news));
    }

    /// Ends every stream of an origin.
    fn rest(&mut self, origin: Origin) {
        self.pulls.remove(&origin);
        for session in self.sessions.values_mut() {
            session.serves.remove(&origin);
            session.agreed.remove(&origin);
            session.drop_comparison(origin);
        }
        if origin == self.origin {
            self.sessions.values_mut().for_each(|s| s.pushed.clear());
        }
    }

    /// All logs and ends as the store has them: begins again what concerns those that have changed, and tells peers.
    pub(super) fn on_logs(&mut self, now: MonoMs, vector: &VersionVector, closes: &Closes) {
        let news: Vec<Close> = closes.iter().filter(|close| self.ends.known.join(*close)).collect();
        let known = &self.ends.known;
        self.ends.pending.retain(|origin, seq| known.end(*origin).is_none_or(|end| end > *seq));
        let mut changed: BTreeSet<Origin> = self.logs.keys().chain(vector.0.keys()).copied().collect();
        changed.retain(|origin| self.head(*origin) != vector.head(*origin));
        for origin in &changed {
            self.rest(*origin);
            match vector.0.get(origin) {
                Some(head) => drop(self.logs.insert(*origin, Log::at(*head))),
                None => drop(self.logs.remove(origin)),
            }
        }
        self.acks.moved();
        self.digests.moved();
        self.forget_floors();
        if !news.is_empty() {
            self.begin_snapshot_again(now);
        }
        // An end of a log that does not go so far changes no head, but its streams were ended when it was heard of.
        changed.extend(news.iter().map(|close| close.origin));
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.say_closes(link, &news);
            self.say_changed(now, link, &changed);
            for origin in &changed {
                self.check(now, link, *origin);
            }
            self.go_live(link);
        }
        self.pull(now);
        self.end_episode_when_equal(now);
    }

    fn say_changed(&mut self, now: MonoMs, link: LinkId, changed: &BTreeSet<Origin>) {
        let is_active = self.is_active();
        let Some(session) = self.sessions.get_mut(&link).filter(|_| is_active && !changed.is_empty()) else { return };
        changed.iter().for_each(|origin| session.announce.add(now, *origin, true));
        session.announce.hurry(now);
    }

    /// A till has more of our own origin than we: this database is older than what it once said.
    pub(super) fn leave_own(&mut self, now: MonoMs, seen_at: TillId) {
        if self.stands_still(self.origin) || Mutant::KeepOrigin.is_on() {
            return;
        }
        self.ends.leaving = true;
        self.ends.again_at = Some(now + END_RETRY_MS);
        self.rest(self.origin);
        self.out.push(Output::LeaveOrigin(self.origin));
        self.event(Event::OwnOriginAhead { seen_at });
    }

    pub(super) fn on_origin(&mut self, now: MonoMs, origin: Origin) {
        // The former one is another's from now on: it may be pulled, and is served like any other.
        let former = std::mem::replace(&mut self.origin, origin);
        self.rest(former);
        self.ends.leaving = false;
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.sessions.get_mut(&link).into_iter().for_each(|s| s.pushed.clear());
            self.check(now, link, former);
            self.go_live(link);
        }
        self.pull(now);
    }

    /// The store has not done what it was asked to: its disk may have been full.
    pub(super) fn check_ends(&mut self, now: MonoMs) {
        if self.ends.due().is_none_or(|due| due > now) {
            return;
        }
        self.ends.again_at = Some(now + END_RETRY_MS);
        let pending = self.ends.pending.iter().map(|(origin, seq)| Close { origin: *origin, seq: *seq });
        let closes: Vec<Close> = pending.collect();
        if !closes.is_empty() {
            self.out.push(Output::End(closes));
        }
        if self.ends.leaving {
            self.out.push(Output::LeaveOrigin(self.origin));
        }
    }

    /// All durable ends.
    pub(super) fn known_closes(&self) -> Vec<Close> {
        self.ends.known.iter().collect()
    }
}
