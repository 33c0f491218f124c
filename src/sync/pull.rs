//! Taking: which origin is pulled from which peer, and what becomes of ops that arrive.

use super::message::Message;
use super::replica::{Log, Replica};
use super::session::Session;
use super::{
    APPLY_RETRY_MS, LIVE_GRACE_MS, LinkId, MonoMs, Output, PULLS_PER_LINK_MAX, STALL_MS, STALL_PENALTY_MS, WINDOW_BYTES,
};
use crate::model::id::Origin;
use crate::model::mutant::Mutant;
use crate::model::op::{Head, OpBatch};

/// A stream that we asked for.
#[derive(Debug)]
pub(super) struct Pull {
    pub(super) link: LinkId,
    progress_at: MonoMs,
    /// Credit that the source holds.
    granted: u32,
    /// Bytes received whose ops are not durable yet, with the sequence number that makes them so.
    landing: Vec<(u64, u32)>,
}

impl Pull {
    /// `None` while the wait is for our own store.
    pub(super) fn stalls_at(&self) -> Option<MonoMs> {
        self.landing.is_empty().then_some(self.progress_at + STALL_MS)
    }

    /// Bytes of the link's window that it holds.
    fn in_flight(&self) -> u32 {
        self.granted + self.landing.iter().map(|(_, bytes)| bytes).sum::<u32>()
    }
}

/// What an arriving batch is to a log.
enum Arrival {
    Next(OpBatch),
    Known,
    Beyond,
    /// The log has another hash at this place.
    Fork(Head),
}

impl Replica {
    /// Opens a stream for every origin of which a peer has more, one source each.
    pub(super) fn pull(&mut self, now: MonoMs) {
        // An end that is not durable yet gives what is here another name: only then is it known what is lacking.
        if !self.is_active() || !self.ends.is_settled() {
            return;
        }
        let mut origins: Vec<Origin> = self.sessions.values().flat_map(|s| s.has.0.keys().copied()).collect();
        origins.sort_unstable();
        origins.dedup();
        for origin in origins {
            self.pull_origin(now, origin);
        }
    }

    fn pull_origin(&mut self, now: MonoMs, origin: Origin) {
        let (pending, live_from, gap_since, retry_at) = match self.logs.get(&origin) {
            Some(log) => (log.pending, log.live_from, log.gap_since, log.retry_at),
            None => Default::default(),
        };
        let most = self.sessions.values().map(|s| self.reach(s, origin)).max().unwrap_or(0);
        if most <= pending.seq {
            if let Some(log) = self.logs.get_mut(&origin) {
                log.gap_since = None;
                log.wake_at = None;
            }
            return;
        }
        let since = gap_since.unwrap_or(now);
        // Who pushes it to us and does not say that it stopped will push this too: peers that heard it first are not asked yet.
        let pusher = live_from.and_then(|link| self.sessions.get(&link));
        let is_pushed = pusher.is_some_and(|s| s.has.seq(origin) <= pending.seq);
        let not_before = retry_at.max(if is_pushed { since + LIVE_GRACE_MS } else { 0 });
        let entry = self.logs.entry(origin).or_default();
        entry.gap_since = Some(since);
        entry.wake_at = Some(not_before).filter(|at| *at > now);
        if entry.wake_at.is_some() || self.pulls.contains_key(&origin) || self.comes_by_snapshot(origin) {
            return;
        }
        let Some((link, credit)) = self.choose_source(now, origin, pending) else { return };
        self.pulls.insert(origin, Pull { link, progress_at: now, granted: credit, landing: vec![] });
        self.send(link, Message::Want { origin, from: pending.seq + 1, credit });
    }

    /// The peer that has more, did not stall of late, and gives us the fewest other streams.
    fn choose_source(&self, now: MonoMs, origin: Origin, pending: Head) -> Option<(LinkId, u32)> {
        let load = |link: &LinkId| self.pulls.values().filter(|p| p.link == *link).count();
        let free = |link: &LinkId| {
            let held: u32 = self.pulls.values().filter(|p| p.link == *link).map(Pull::in_flight).sum();
            WINDOW_BYTES.saturating_sub(held)
        };
        let has_more = |s: &Session| {
            s.ready
                && self.reach(s, origin) > pending.seq
                && !s.comparing.contains_key(&origin)
                && s.below.get(&origin).is_none_or(|floor| pending.seq >= *floor)
        };
        let (link, session) = self
            .sessions
            .iter()
            .filter(|(link, s)| has_more(s) && load(link) < PULLS_PER_LINK_MAX && free(link) > 0)
            .min_by_key(|(link, s)| (s.penalty_until > now, load(link), **link))?;
        let lacking = session.has.0.iter().filter(|(o, h)| h.seq > self.logs.get(o).map_or(0, |l| l.pending.seq));
        let streams = lacking.count().clamp(1, PULLS_PER_LINK_MAX);
        // A lone stream leaves a part of the window, so that a long one does not keep a short one waiting.
        let share = (WINDOW_BYTES / u32::try_from(streams).unwrap_or(1)).min(WINDOW_BYTES / 4 * 3);
        Some((*link, share.min(free(link))))
    }

    /// Streams of a peer that has less than it said end: its log was cut.
    pub(super) fn drop_idle_pulls(&mut self, link: LinkId) {
        let Some(session) = self.sessions.get(&link) else { return };
        let is_idle = |(origin, pull): (&Origin, &Pull)| {
            pull.link == link && pull.landing.is_empty() && self.reach(session, *origin) <= self.head(*origin).seq
        };
        let idle: Vec<Origin> = self.pulls.iter().filter(|entry| is_idle(*entry)).map(|(origin, _)| *origin).collect();
        idle.iter().for_each(|origin| drop(self.pulls.remove(origin)));
    }

    pub(super) fn on_ops(&mut self, now: MonoMs, link: LinkId, mut batch: OpBatch) {
        let origin = batch.origin;
        let bytes = u32::try_from(batch.wire_len()).unwrap_or(u32::MAX);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let told = batch.after();
        if session.has.seq(origin) < told.seq {
            session.has.0.insert(origin, told);
        }
        if !self.is_active() {
            return;
        }
        self.check(now, link, origin);
        if self.stands_still(origin) {
            return;
        }
        let end = self.end_of(origin).unwrap_or(u64::MAX);
        batch.ops.truncate(usize::try_from(end.saturating_sub(batch.before.seq)).unwrap_or(usize::MAX));
        let after = if told.seq > end { batch.after() } else { told };
        let pulled = self.pulls.get_mut(&origin).filter(|p| p.link == link);
        let is_pulled = pulled.is_some();
        if let Some(pull) = pulled {
            pull.progress_at = now;
            pull.granted = pull.granted.saturating_sub(bytes);
            pull.landing.push((after.seq, bytes));
        }
        let log = self.logs.entry(origin).or_default();
        if !is_pulled {
            log.live_from = Some(link);
        }
        match arrival(log, batch) {
            Arrival::Next(part) => {
                log.pending = after;
                log.note(after);
                log.gap_since = None;
                if let Some(session) = self.sessions.get_mut(&link) {
                    session.announce.unacked_bytes = session.announce.unacked_bytes.saturating_add(bytes);
                }
                self.out.push(Output::Apply(part));
                if Mutant::AckBeforeCommit.is_on() {
                    self.on_applied(now, origin, after);
                }
            }
            Arrival::Known => {
                self.duplicates += 1;
                // What is durable already gives its credit back at once: nothing else may ever become durable without it.
                self.refill(now, origin);
            }
            Arrival::Beyond => self.pull(now),
            Arrival::Fork(met) => {
                if self.pulls.get(&origin).is_some_and(|pull| pull.link == link) {
                    self.pulls.remove(&origin);
                }
                self.compare(now, link, origin, met);
                self.pull(now);
            }
        }
    }

    /// Gives the source of an origin as much credit back as has become durable.
    pub(super) fn refill(&mut self, now: MonoMs, origin: Origin) {
        let head = self.head(origin);
        let Some(pull) = self.pulls.get_mut(&origin) else { return };
        let mut bytes = 0u32;
        pull.landing.retain(|(seq, landed)| {
            let durable = *seq <= head.seq;
            bytes = bytes.saturating_add(if durable { *landed } else { 0 });
            !durable
        });
        let link = pull.link;
        let most = self.sessions.get(&link).map_or(0, |s| self.reach(s, origin));
        if most <= head.seq {
            self.pulls.remove(&origin);
        } else if bytes > 0
            && let Some(pull) = self.pulls.get_mut(&origin)
        {
            pull.granted = pull.granted.saturating_add(bytes);
            pull.progress_at = now;
            self.send(link, Message::Credit { origin, bytes });
        }
    }

    pub(super) fn on_not_applied(&mut self, now: MonoMs, origin: Origin, head: Option<Head>) {
        let end = self.end_of(origin).unwrap_or(u64::MAX);
        let log = self.logs.entry(origin).or_default();
        // This answer may be older than the last `Logs`: it never takes anything back.
        if let Some(head) = head.filter(|head| head.seq > log.durable.seq && head.seq <= end) {
            log.durable = head;
        }
        log.pending = log.durable;
        let durable = log.durable.seq;
        log.trail.retain(|place| place.seq <= durable);
        log.retry_at = now + APPLY_RETRY_MS;
        log.gap_since = Some(now);
        log.wake_at = Some(log.retry_at);
        self.pulls.remove(&origin);
    }

    pub(super) fn check_pulls(&mut self, now: MonoMs) {
        let stalled: Vec<Origin> = self
            .pulls
            .iter()
            .filter(|(_, p)| p.stalls_at().is_some_and(|at| at <= now))
            .map(|(origin, _)| *origin)
            .collect();
        for origin in &stalled {
            if let Some(pull) = self.pulls.remove(origin)
                && let Some(session) = self.sessions.get_mut(&pull.link)
            {
                session.penalty_until = now + STALL_PENALTY_MS;
            }
        }
        let mut due = false;
        for log in self.logs.values_mut().filter(|log| log.wake_at.is_some_and(|at| at <= now)) {
            log.wake_at = None;
            due = true;
        }
        if !stalled.is_empty() || due {
            self.pull(now);
        }
    }
}

/// Compares a batch with where the log stands, and cuts off what is known.
fn arrival(log: &Log, mut batch: OpBatch) -> Arrival {
    let at = log.pending;
    if batch.before.seq > at.seq {
        return if Mutant::AcceptGap.is_on() { Arrival::Next(batch) } else { Arrival::Beyond };
    }
    let known = usize::try_from(at.seq - batch.before.seq).unwrap_or(usize::MAX);
    if known > batch.ops.len() {
        return Arrival::Known;
    }
    let rest = batch.ops.split_off(known);
    let met = batch.after();
    // An empty log takes the offered hash as its base: a renamed log does not start from zero.
    if at.seq > 0 && met.hash != at.hash && !Mutant::SkipHashCheck.is_on() {
        return Arrival::Fork(met);
    }
    if rest.is_empty() {
        return Arrival::Known;
    }
    Arrival::Next(OpBatch { origin: batch.origin, before: met, ops: rest })
}
