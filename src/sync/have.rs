//! Telling what is here, and hearing what is there.

use std::collections::BTreeSet;

use super::message::Message;
use super::replica::Replica;
use super::{CLOSES_MAX, Event, HAVE_MAX, LinkId, MonoMs};
use crate::model::close::Close;
use crate::model::id::Origin;
use crate::model::op::Head;

impl Replica {
    pub(super) fn on_have(&mut self, now: MonoMs, link: LinkId, heads: Vec<(Origin, Head)>) {
        let mut moved = false;
        for (origin, head) in heads {
            let Some(session) = self.sessions.get_mut(&link) else { return };
            session.hear(origin, head);
            if origin == self.origin {
                session.pushed.retain(|(seq, _)| *seq > head.seq);
            }
            let till = session.till;
            moved |= self.acks.hear(till, origin, head);
            self.check(now, link, origin);
        }
        if moved && let Some(session) = self.sessions.get(&link) {
            self.event(Event::PeerHas(session.till));
        }
        self.on_ready(now, link);
        self.drop_idle_pulls(link);
        self.go_live(link);
        self.pull(now);
        self.end_episode_when_equal(now);
    }

    fn on_ready(&mut self, now: MonoMs, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&link).filter(|s| !s.ready) else { return };
        session.ready = true;
        let till = session.till;
        self.ping(now, link);
        self.close_duplicates(now, till);
        self.event(Event::PeerReady(till));
        self.tell_digest(link);
    }

    /// Tells a peer all heads, or, while ops are not exchanged, none: the peer then neither pulls nor pushes.
    pub(super) fn say_all(&mut self, now: MonoMs, link: LinkId) {
        let heads = if self.is_active() { self.vector().0 } else { Default::default() };
        let heads: Vec<(Origin, Head)> = heads.into_iter().filter(|(origin, _)| !self.is_ending(*origin)).collect();
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.announce.take(now);
        if heads.is_empty() {
            self.send(link, Message::Have(vec![]));
        }
        for part in heads.chunks(HAVE_MAX) {
            self.send(link, Message::Have(part.to_vec()));
        }
    }

    /// Tells a peer the heads that have changed. A log that is gone is told as empty.
    pub(super) fn say_news(&mut self, now: MonoMs, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let origins: BTreeSet<Origin> = session.announce.take(now);
        // Where an origin is about to end, its new head is told when that is durable.
        let told = origins.into_iter().filter(|origin| !self.is_ending(*origin));
        let mut heads: Vec<(Origin, Head)> = told.map(|origin| (origin, self.head(origin))).collect();
        let later = heads.split_off(heads.len().min(HAVE_MAX));
        self.send(link, Message::Have(heads));
        if let Some(session) = self.sessions.get_mut(&link) {
            later.into_iter().for_each(|(origin, _)| session.announce.add(now, origin, true));
        }
    }

    pub(super) fn say_closes(&mut self, link: LinkId, closes: &[Close]) {
        for part in closes.chunks(CLOSES_MAX) {
            self.send(link, Message::Closes(part.to_vec()));
        }
    }
}
