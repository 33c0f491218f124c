//! Links: which stay, which are dead.

use super::message::{KnownPeer, Message};
use super::pull::Pull;
use super::replica::Replica;
use super::session::Session;
use super::{
    CloseReason, DEAD_AFTER_MS, Event, LinkId, MEASURE_EVERY_MS, MonoMs, Output, PEERS_MAX, PING_AFTER_MS, PROBE_MS,
    TIMER_GRAIN_MS,
};
use crate::model::id::{BootId, TillId};

impl Replica {
    pub(super) fn on_link_up(&mut self, now: MonoMs, link: LinkId, till: TillId, boot: BootId, dialled_by_us: bool) {
        if boot == self.boot {
            self.out.push(Output::Close { link, reason: CloseReason::Ourselves });
            return;
        }
        self.sessions.insert(link, Session::new(now, till, boot, dialled_by_us));
        let closes = self.known_closes();
        self.say_closes(link, &closes);
        self.say_all(now, link);
        self.begin_gossip(now, link);
        if !self.known.is_empty() {
            self.send(link, Message::Peers(self.known.clone()));
        }
        self.probe_older_boots(now, till, boot);
    }

    pub(super) fn on_link_down(&mut self, now: MonoMs, link: LinkId) {
        let Some(session) = self.sessions.remove(&link) else { return };
        self.pulls.retain(|_, pull| pull.link != link);
        if self.taker.run.as_ref().is_some_and(|run| run.link == link) {
            self.fail_snapshot(now);
        }
        for log in self.logs.values_mut().filter(|l| l.live_from == Some(link)) {
            log.live_from = None;
        }
        if session.ready && !self.sessions.values().any(|s| s.till == session.till && s.ready) {
            self.event(Event::PeerGone(session.till));
        }
        self.pull(now);
    }

    /// Of two links to one run of a till, the one dialled by the smaller till id stays. The other is closed once that one is ready, so
    /// that there is never a moment without a link. Both tills decide alike.
    pub(super) fn close_duplicates(&mut self, now: MonoMs, till: TillId) {
        let ours = self.till;
        let by_the_smaller = |s: &Session| s.dialled_by_us == (ours < s.till);
        let ready: Vec<LinkId> =
            self.sessions.iter().filter(|(_, s)| s.till == till && s.ready).map(|(link, _)| *link).collect();
        let mut losers = Vec::new();
        for link in &ready {
            let session = &self.sessions[link];
            let better = |other: &&LinkId| {
                let rival = &self.sessions[*other];
                let same_dialler = rival.dialled_by_us == session.dialled_by_us;
                // Link numbers are ours alone: of two links that one side dialled, only that side chooses.
                let better = if same_dialler { session.dialled_by_us && *other < link } else { by_the_smaller(rival) };
                rival.boot == session.boot && better
            };
            if ready.iter().any(|other| better(&other)) {
                losers.push(*link);
            }
        }
        for link in losers {
            self.close(now, link, CloseReason::Duplicate);
        }
    }

    /// A till that started anew is not kept out by its dead link: the old one must answer at once. Where it does, there are two live
    /// clones, and both stay linked.
    fn probe_older_boots(&mut self, now: MonoMs, till: TillId, boot: BootId) {
        let older: Vec<LinkId> =
            self.sessions.iter().filter(|(_, s)| s.till == till && s.boot != boot).map(|(link, _)| *link).collect();
        for link in older {
            if let Some(session) = self.sessions.get_mut(&link) {
                session.heartbeat.probe_until = Some(now + PROBE_MS);
            }
            self.ping(now, link);
        }
    }

    pub(super) fn ping(&mut self, now: MonoMs, link: LinkId) {
        let n = self.next_ping;
        self.next_ping += 1;
        if let Some(session) = self.sessions.get_mut(&link) {
            session.heartbeat.pinged = Some((n, now));
        }
        self.send(link, Message::Ping(n));
    }

    /// The side that pings first keeps the other from ever pinging: so the other measures now and then, while it is awake.
    pub(super) fn on_ping(&mut self, now: MonoMs, link: LinkId, n: u64) {
        self.send(link, Message::Pong(n));
        let pinged = self.sessions.get(&link).and_then(|s| s.heartbeat.pinged);
        if pinged.is_none_or(|(_, at)| at + MEASURE_EVERY_MS <= now) {
            self.ping(now, link);
        }
    }

    pub(super) fn on_pong(&mut self, now: MonoMs, link: LinkId, n: u64) {
        let Some(heartbeat) = self.sessions.get_mut(&link).map(|s| &mut s.heartbeat) else { return };
        if let Some((expected, at)) = heartbeat.pinged
            && expected == n
        {
            heartbeat.round_trip_ms = Some(now.saturating_sub(at));
        }
    }

    pub(super) fn on_known(&mut self, mut known: Vec<KnownPeer>) {
        known.sort();
        known.dedup();
        known.truncate(PEERS_MAX);
        if known == self.known {
            return;
        }
        self.known = known;
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.send(link, Message::Peers(self.known.clone()));
        }
    }

    pub(super) fn run_timers(&mut self, now: MonoMs) {
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.check_heartbeat(now, link);
            self.check_comparisons(now, link);
            if self.sessions.get(&link).is_some_and(|s| s.announce.due().is_some_and(|due| due <= now)) {
                self.say_news(now, link);
            }
        }
        self.check_ends(now);
        self.check_gossip(now);
        self.end_episode_when_late(now);
        self.check_pulls(now);
        self.check_digest(now);
        self.check_snapshots(now);
    }

    /// When [`Input::Tick`](super::Input::Tick) is due at the latest, if nothing else comes.
    #[must_use]
    pub fn next_tick(&self) -> Option<MonoMs> {
        let links = self.sessions.values().flat_map(|s| {
            let last = s.heartbeat.last_heard.max(s.heartbeat.pinged.map_or(0, |(_, at)| at));
            let heartbeat = Some(round_up(last + PING_AFTER_MS));
            let dead = Some(round_up(s.heartbeat.last_heard + DEAD_AFTER_MS));
            let compared = s.comparing.values().map(|c| c.until).min();
            [heartbeat, dead, s.heartbeat.probe_until, s.announce.due(), compared, s.gossip.due()]
        });
        let pulls = self.pulls.values().map(Pull::stalls_at);
        let waits = self.logs.values().map(|log| log.wake_at);
        let episode = self.episode.as_ref().map(|e| e.until);
        let own_ack = (!self.sessions.is_empty() && self.ends.is_settled()).then(|| self.acks.due());
        let others = [episode, self.ends.due(), own_ack, self.digest_due(), self.snapshots_due()];
        links.chain(pulls).chain(waits).chain(others).flatten().min()
    }

    fn check_heartbeat(&mut self, now: MonoMs, link: LinkId) {
        let Some(heartbeat) = self.sessions.get_mut(&link).map(|s| &mut s.heartbeat) else { return };
        let silent = round_up(heartbeat.last_heard + DEAD_AFTER_MS) <= now;
        let replaced = heartbeat.probe_until.is_some_and(|until| until <= now);
        if silent || replaced {
            self.close(now, link, if replaced { CloseReason::Replaced } else { CloseReason::Silent });
            return;
        }
        let last = heartbeat.last_heard.max(heartbeat.pinged.map_or(0, |(_, at)| at));
        if round_up(last + PING_AFTER_MS) <= now {
            self.ping(now, link);
        }
    }

    pub(super) fn close(&mut self, now: MonoMs, link: LinkId, reason: CloseReason) {
        self.out.push(Output::Close { link, reason });
        self.on_link_down(now, link);
    }
}

pub(super) fn round_up(time: MonoMs) -> MonoMs {
    time.div_ceil(TIMER_GRAIN_MS) * TIMER_GRAIN_MS
}
