//! A sync on demand: what a till with `autoSync` off does when it is asked to.

use super::replica::Replica;
use super::{EPISODE_MS, Event, MonoMs};

/// A sync on demand.
#[derive(Debug)]
pub(super) struct Episode {
    pub(super) until: MonoMs,
    pub(super) received: u64,
}

impl Replica {
    /// Whether ops are exchanged now.
    pub(super) fn is_active(&self) -> bool {
        self.auto_sync || self.episode.is_some()
    }

    pub(super) fn on_sync_now(&mut self, now: MonoMs) {
        self.episode = Some(Episode { until: now + EPISODE_MS, received: 0 });
        if self.sessions.is_empty() {
            self.end_episode(now, false);
            return;
        }
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.say_all(now, link);
        }
        self.pull(now);
        self.end_episode_when_equal(now);
    }

    /// A sync on demand is over when all that linked tills told of is here, and all that we have is there.
    pub(super) fn end_episode_when_equal(&mut self, now: MonoMs) {
        if self.episode.is_some()
            && self.ends.is_settled()
            && self.taker.run.is_none()
            && self.sessions.values().all(|s| s.ready && self.behind(s) == 0 && self.ahead(s) == 0)
        {
            self.end_episode(now, true);
        }
    }

    pub(super) fn end_episode_when_late(&mut self, now: MonoMs) {
        if self.episode.as_ref().is_some_and(|e| e.until <= now) {
            self.end_episode(now, false);
        }
    }

    /// A snapshot that gets on may take longer than a sync on demand otherwise does.
    pub(super) fn extend_episode(&mut self, now: MonoMs) {
        if let Some(episode) = &mut self.episode {
            episode.until = episode.until.max(now + EPISODE_MS);
        }
    }

    fn end_episode(&mut self, now: MonoMs, complete: bool) {
        let Some(episode) = self.episode.take() else { return };
        self.event(Event::Synced { received: episode.received, complete });
        if !self.auto_sync {
            self.drop_snapshot(now);
            self.pulls.clear();
            for session in self.sessions.values_mut() {
                session.serves.clear();
                session.pushed.clear();
            }
        }
    }
}
