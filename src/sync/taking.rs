//! When a snapshot is taken, from whom, and what becomes of rows whose snapshot nobody can finish any more.
//!
//! A snapshot is needed where ops that we lack are compacted at the peer that we asked ([`Message::Below`]), where rows are damaged, where a
//! peer with the same ops has another state, and where rows of an unfinished snapshot are here. A giver that fails is not asked again for a
//! while, so that another one is. What was taken already compares equal with the next giver's.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Message, SnapshotAnswer, SnapshotAsk};
use super::replica::Replica;
use super::session::Session;
use super::snapshot::Run;
use super::{
    ADOPT_AFTER_MS, ADOPT_PUT_OFF_MS, ADOPT_RETRY_MS, ADOPT_TRIED_MS, Event, GIVER_BUSY_MAX_MS, GIVER_RETRY_MAX_MS,
    GIVER_RETRY_MS, LinkId, MonoMs, Output, SnapshotProgress,
};
use crate::model::id::{Origin, TillId};
use crate::model::mutant::Mutant;
use crate::model::op::Seq;

/// What is being taken, and what is to be.
#[derive(Debug, Default)]
pub(super) struct Taker {
    pub(super) run: Option<Run>,
    last_session: u64,
    /// Rows of earlier snapshots may be here, uncovered.
    leftover: bool,
    /// The store is adding up, which tells whether there are any: it does not while there are.
    is_counting: bool,
    /// Whose snapshot has been taken whole since.
    tried: BTreeSet<TillId>,
    /// Rows are damaged here: anybody's snapshot will do.
    repair: bool,
    /// Whose state differs from ours.
    repair_from: BTreeSet<TillId>,
    failures: BTreeMap<TillId, Failure>,
    /// When something of a snapshot was last taken.
    active_at: MonoMs,
    /// The store was asked to adopt, and is asked again then.
    adopting_until: Option<MonoMs>,
}

/// What snapshots that were not finished have left in the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Unfinished {
    /// How many rows are uncovered.
    pub rows: u64,
    /// The greatest number of a session whose rows are there. Later ones are counted on from here: were a number given twice, the
    /// end of the later snapshot would cover rows of the earlier one that it does not have.
    pub session: u64,
}

/// A giver that is not asked for a while.
#[derive(Clone, Copy, Debug, Default)]
struct Failure {
    times: u32,
    /// How often it has put off a snapshot since it last began or failed one.
    put_off: u32,
    until: MonoMs,
}

impl Taker {
    pub(super) fn new(now: MonoMs, unfinished: Unfinished) -> Self {
        let Unfinished { rows, session } = unfinished;
        Self { leftover: rows > 0, last_session: session, active_at: now, ..Self::default() }
    }

    /// Whether rows of earlier snapshots may be here.
    pub(super) fn has_leftover(&self) -> bool {
        self.leftover
    }

    fn is_wanted(&self) -> bool {
        self.leftover || self.repair || !self.repair_from.is_empty()
    }

    /// Whether a till's snapshot is wanted whatever ops it holds.
    fn is_wanted_from(&self, till: TillId) -> bool {
        let may_cover = self.leftover && !self.is_counting && !self.tried.contains(&till);
        self.repair || self.repair_from.contains(&till) || may_cover
    }

    fn is_failing(&self, now: MonoMs, till: TillId) -> bool {
        self.failures.get(&till).is_some_and(|failure| failure.until > now)
    }
}

impl Replica {
    pub(super) fn on_below(&mut self, now: MonoMs, link: LinkId, origin: Origin, floor: Seq) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.below.insert(origin, floor);
        if self.pulls.get(&origin).is_some_and(|pull| pull.link == link) {
            self.pulls.remove(&origin);
        }
        self.pull(now);
    }

    pub(super) fn on_repair(&mut self) {
        self.taker.repair = true;
    }

    pub(super) fn repair_from(&mut self, till: TillId) {
        self.taker.repair_from.insert(till);
    }

    /// Whether a peer has the op of an origin that we lack next, but compacted.
    fn is_below(&self, session: &Session, origin: Origin) -> bool {
        let head = self.head(origin).seq;
        session.below.get(&origin).is_some_and(|floor| head < *floor) && self.reach(session, origin) > head
    }

    /// Origins whose next op some peer has compacted.
    fn needed(&self) -> BTreeSet<Origin> {
        let of = |s: &Session| s.below.keys().copied().filter(|origin| self.is_below(s, *origin)).collect::<Vec<_>>();
        self.sessions.values().flat_map(of).collect()
    }

    /// Floors that we have passed do not matter any more.
    pub(super) fn forget_floors(&mut self) {
        let logs = &self.logs;
        let head = |origin: &Origin| logs.get(origin).map_or(0, |log| log.durable.seq);
        self.sessions.values_mut().for_each(|s| s.below.retain(|origin, floor| head(origin) < *floor));
    }

    /// The store has added up the state, or could not for rows that are uncovered.
    pub(super) fn on_counted(&mut self, is_covered: bool) {
        self.taker.is_counting = false;
        if self.taker.run.is_none() {
            // An earlier count may have been made before the last rows came, and be heard after them: this one puts it right.
            self.taker.leftover = !is_covered;
        }
    }

    /// Whether an origin's ops come with the snapshot that is being taken.
    pub(super) fn comes_by_snapshot(&self, origin: Origin) -> bool {
        self.taker.run.is_some() && self.sessions.values().any(|s| self.is_below(s, origin))
    }

    /// The peers whose snapshot is of use, the best first: who compacted what we lack, then who has it, then who failed least.
    fn givers(&self) -> Vec<LinkId> {
        let needed = self.needed();
        if needed.is_empty() && !self.taker.is_wanted() {
            return Vec::new();
        }
        let has = |s: &Session| needed.iter().any(|origin| self.reach(s, *origin) > self.head(*origin).seq);
        let taker = &self.taker;
        let useful = self.sessions.iter().filter(|(_, s)| s.ready && (has(s) || taker.is_wanted_from(s.till)));
        let mut givers: Vec<(bool, bool, u32, LinkId)> = useful
            .map(|(link, s)| {
                let failed = taker.failures.get(&s.till).map_or(0, |failure| failure.times);
                (!has(s), s.below.is_empty(), failed, *link)
            })
            .collect();
        givers.sort_unstable();
        givers.into_iter().map(|(_, _, _, link)| link).collect()
    }

    /// Begins to take a snapshot where one is needed and somebody may give it.
    pub(super) fn take_what_is_needed(&mut self, now: MonoMs) {
        if self.taker.run.is_some() || !self.is_active() || !self.ends.is_settled() {
            return;
        }
        let is_free = |link: &LinkId| !self.taker.is_failing(now, self.sessions[link].till);
        let Some(link) = self.givers().into_iter().find(is_free) else { return };
        let till = self.sessions[&link].till;
        self.taker.last_session += 1;
        let session = self.taker.last_session;
        self.taker.adopting_until = None;
        self.taker.run = Some(Run::new(now, session, link, till));
        self.send(link, Message::Ask(SnapshotAsk::Begin));
    }

    /// The snapshot that is being taken cannot be gone on with. Its giver is not asked again for a while.
    pub(super) fn fail_snapshot(&mut self, now: MonoMs) {
        self.leave_giver(now, GIVER_RETRY_MAX_MS, false);
    }

    /// The giver has none to give for now: it is busy, or not whole itself. Tills may wait for each other so, in a ring, until one adopts
    /// what it has, and then the others are to have it soon: so it is asked again sooner than one that fails.
    pub(super) fn put_off_snapshot(&mut self, now: MonoMs) {
        self.leave_giver(now, GIVER_BUSY_MAX_MS, true);
    }

    fn leave_giver(&mut self, now: MonoMs, wait_max: MonoMs, put_off: bool) {
        let Some(till) = self.taker.run.as_ref().map(|run| run.till) else { return };
        let failure = self.taker.failures.entry(till).or_default();
        failure.until = now + (GIVER_RETRY_MS << failure.times.min(4)).min(wait_max);
        failure.times += 1;
        failure.put_off = if put_off { failure.put_off + 1 } else { 0 };
        self.drop_snapshot(now);
    }

    /// Ends the taking of a snapshot: what it brought stays, uncovered.
    pub(super) fn drop_snapshot(&mut self, now: MonoMs) {
        let Some(run) = self.taker.run.take() else { return };
        if run.brought {
            self.taker.leftover = true;
            self.taker.tried.clear();
        }
        self.end_run(&run, false);
        self.pull(now);
    }

    /// All of a snapshot is here.
    pub(super) fn complete_snapshot(&mut self, now: MonoMs) {
        let Some(run) = self.taker.run.take() else { return };
        self.taker.tried.insert(run.till);
        self.taker.repair = false;
        self.taker.repair_from.remove(&run.till);
        // Were it needed again at once, it would be of no use again.
        self.taker.failures.insert(run.till, Failure { until: now + GIVER_RETRY_MS, ..Failure::default() });
        self.end_run(&run, true);
        self.forget_floors();
        if self.taker.leftover {
            self.taker.is_counting = true;
            self.out.push(Output::Digest);
        }
        self.pull(now);
        self.end_episode_when_equal(now);
    }

    fn end_run(&mut self, run: &Run, complete: bool) {
        if self.sessions.contains_key(&run.link)
            && let Some(snapshot) = run.number()
        {
            self.send(run.link, Message::Ask(SnapshotAsk::End { snapshot }));
        }
        if run.told_at.is_some() {
            self.event(Event::SnapshotOver { complete });
        }
    }

    /// Something was taken: others wait a little longer before they give it up.
    pub(super) fn note_taken(&mut self, now: MonoMs) {
        self.taker.active_at = now;
        self.digests.moved();
        self.extend_episode(now);
    }

    /// Tells how far the snapshot is.
    pub(super) fn tell_progress(&mut self, now: MonoMs) {
        let Some(run) = self.taker.run.as_mut().filter(|run| run.may_tell(now)) else { return };
        run.told_at = Some(now);
        let progress = SnapshotProgress { from: run.till, rows: run.rows, of: run.of.max(run.rows) };
        self.event(Event::Snapshot(progress));
    }

    pub(super) fn on_snapshot_answer(&mut self, now: MonoMs, link: LinkId, answer: SnapshotAnswer) {
        if self.taker.run.as_ref().is_some_and(|run| run.link == link) {
            self.on_answer(now, answer);
        }
    }

    fn adopts_at(&self) -> Option<MonoMs> {
        let taker = &self.taker;
        let puts_off = |till| taker.failures.get(&till).is_some_and(|failure| failure.put_off > 1);
        // Nobody is linked: somebody may come.
        let mut wait = None;
        for till in self.sessions.values().filter(|s| s.ready).map(|s| s.till) {
            let of_this = match taker.tried.contains(&till) {
                true => ADOPT_TRIED_MS,
                false if puts_off(till) => ADOPT_PUT_OFF_MS,
                false => ADOPT_AFTER_MS,
            };
            wait = wait.max(Some(of_this));
        }
        let wait = wait.unwrap_or(ADOPT_AFTER_MS);
        let due = taker.adopting_until.unwrap_or(taker.active_at + wait);
        (taker.leftover && taker.run.is_none() && !Mutant::NeverAdopt.is_on()).then_some(due)
    }

    /// Rows whose snapshot nobody has finished for long enough become ops of our own: harmless, for a row joins wherever it comes from.
    fn adopt(&mut self, now: MonoMs) {
        if self.adopts_at().is_some_and(|due| due <= now) {
            self.taker.adopting_until = Some(now + ADOPT_RETRY_MS);
            self.out.push(Output::Adopt);
        }
    }

    pub(super) fn on_adopted(&mut self, left: u64) {
        self.digests.moved();
        let is_adopting = self.taker.adopting_until.take().is_some();
        // While a snapshot is taken, what is uncovered may be its own.
        self.taker.leftover = left > 0 && (self.taker.leftover || self.taker.run.is_none());
        self.taker.adopting_until = (is_adopting && self.taker.leftover).then_some(0);
    }

    pub(super) fn check_snapshots(&mut self, now: MonoMs) {
        self.settle_snapshot(now);
        if self.taker.run.as_ref().is_some_and(|run| run.until <= now) {
            self.fail_snapshot(now);
        }
        self.take_what_is_needed(now);
        self.adopt(now);
    }

    /// When a snapshot is next to be looked after.
    pub(super) fn snapshots_due(&self) -> Option<MonoMs> {
        if let Some(run) = &self.taker.run {
            return Some(run.until);
        }
        let tried_at = |link: LinkId| self.taker.failures.get(&self.sessions[&link].till).map_or(0, |f| f.until);
        let may_take = self.is_active() && self.ends.is_settled();
        let again = if may_take { self.givers().into_iter().map(tried_at).min() } else { None };
        [again, self.adopts_at()].into_iter().flatten().min()
    }
}
