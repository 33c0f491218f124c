//! What members of the store hold, as they said: of linked ones by their `Have`, of others by what is passed on.
//!
//! Each member says now and then, with a stamp, what it holds durably, and everybody passes the newest word of everybody on. So also tills
//! that never meet learn of each other, which is what the compaction floor and "how many sales are on this till alone" are made of.

use std::collections::BTreeMap;

use super::message::{MemberAck, Message};
use super::peers::round_up;
use super::replica::Replica;
use super::{ACKS_EVERY_MS, ACKS_MAX, Event, HAVE_MAX, LinkId, MonoMs, OWN_ACK_IDLE_MS, OWN_ACK_MS};
use crate::model::id::{Origin, TillId};
use crate::model::op::{Head, Seq};
use crate::model::vector::VersionVector;

/// What other members hold.
#[derive(Debug)]
pub(super) struct Acks {
    of: BTreeMap<TillId, MemberAck>,
    /// Our own word, as it was last told.
    own: MemberAck,
    own_at: MonoMs,
    /// Heads have moved since.
    own_is_old: bool,
    /// Stamps are the time since `started`, and this.
    base: u64,
    started: MonoMs,
}

/// What one link told and was told of members: the greatest stamp of each.
#[derive(Debug, Default)]
pub(super) struct Gossip {
    told: BTreeMap<TillId, u64>,
    last: Option<MonoMs>,
    due: Option<MonoMs>,
}

impl Gossip {
    pub(super) fn due(&self) -> Option<MonoMs> {
        self.due
    }

    fn want(&mut self, now: MonoMs) {
        let soon = self.last.map_or(now, |last| (last + ACKS_EVERY_MS).max(now));
        self.due = Some(self.due.map_or(round_up(soon), |due| due.min(round_up(soon))));
    }

    fn note(&mut self, till: TillId, stamp: u64) {
        let told = self.told.entry(till).or_default();
        *told = stamp.max(*told);
    }
}

impl Acks {
    pub(super) fn new(of: BTreeMap<TillId, MemberAck>, till: TillId, level: u16, stamp: u64, started: MonoMs) -> Self {
        let of = of.into_iter().filter(|(member, _)| *member != till).collect();
        let own = MemberAck { till, stamp: 0, level, heads: VersionVector::default() };
        Self { of, own, own_at: started, own_is_old: true, base: stamp, started }
    }

    /// Our hybrid clock, as stamps go by.
    pub(super) fn stamp(&self, now: MonoMs) -> u64 {
        self.base + now.saturating_sub(self.started)
    }

    /// A linked till told a head itself; whether that is other than what was known.
    pub(super) fn hear(&mut self, till: TillId, origin: Origin, head: Head) -> bool {
        let first = || MemberAck { till, stamp: 0, level: 1, heads: VersionVector::default() };
        let held = self.of.entry(till).or_insert_with(first);
        if head.seq == 0 {
            held.heads.0.remove(&origin).is_some()
        } else {
            held.heads.0.insert(origin, head) != Some(head)
        }
    }

    pub(super) fn of(&self, till: TillId) -> Option<&MemberAck> {
        self.of.get(&till)
    }

    /// The greatest place of an origin's log, up to `own`, that some other till holds.
    pub(super) fn most(&self, origin: Origin, own: Seq) -> Seq {
        self.of.values().map(|held| held.heads.seq(origin)).filter(|seq| *seq <= own).max().unwrap_or(0)
    }

    pub(super) fn moved(&mut self) {
        self.own_is_old = true;
    }

    pub(super) fn due(&self) -> MonoMs {
        round_up(self.own_at + if self.own_is_old { OWN_ACK_MS } else { OWN_ACK_IDLE_MS })
    }
}

impl Replica {
    /// On a new link: our own word as it is now, and all others'.
    pub(super) fn begin_gossip(&mut self, now: MonoMs, link: LinkId) {
        if self.acks.own_is_old && self.ends.is_settled() {
            self.renew_own_ack(now);
        }
        self.gossip(now, link);
    }

    fn renew_own_ack(&mut self, now: MonoMs) {
        let stamp = self.acks.stamp(now).max(self.acks.own.stamp + 1);
        self.acks.own.heads = self.vector();
        self.acks.own.stamp = stamp;
        self.acks.own_at = now;
        self.acks.own_is_old = false;
        self.sessions.values_mut().for_each(|s| s.gossip.want(now));
    }

    pub(super) fn check_gossip(&mut self, now: MonoMs) {
        if !self.sessions.is_empty() && self.acks.due() <= now && self.ends.is_settled() {
            self.renew_own_ack(now);
        }
        let due = |s: &super::session::Session| s.gossip.due.is_some_and(|due| due <= now);
        for link in self.sessions.iter().filter(|(_, s)| due(s)).map(|(link, _)| *link).collect::<Vec<_>>() {
            self.gossip(now, link);
        }
    }

    /// Tells a peer what is newer than what was said on its link.
    fn gossip(&mut self, now: MonoMs, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let gossip = &mut session.gossip;
        gossip.due = None;
        let all = std::iter::once(&self.acks.own).chain(self.acks.of.values());
        let news: Vec<MemberAck> =
            all.filter(|a| a.stamp > gossip.told.get(&a.till).copied().unwrap_or(0)).cloned().collect();
        if news.is_empty() {
            return;
        }
        gossip.last = Some(now);
        news.iter().for_each(|ack| gossip.note(ack.till, ack.stamp));
        for part in split(news) {
            self.send(link, Message::Acks(part));
        }
    }

    pub(super) fn on_acks(&mut self, now: MonoMs, link: LinkId, acks: Vec<MemberAck>) {
        for ack in acks {
            self.on_ack(now, link, ack);
        }
    }

    fn on_ack(&mut self, now: MonoMs, link: LinkId, ack: MemberAck) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        session.gossip.note(ack.till, ack.stamp);
        let teller = session.till;
        let own = ack.heads.seq(self.origin);
        if self.end_of(self.origin).map_or(own, |end| own.min(end)) > self.head(self.origin).seq {
            self.leave_own(now, teller);
        }
        if ack.till == self.till {
            self.on_own_word(now, ack.stamp);
            return;
        }
        let member = ack.till;
        let is_linked = self.sessions.values().any(|s| s.till == member && s.ready);
        let known = self.acks.of.get(&member);
        let is_newer = known.is_none_or(|known| ack.stamp > known.stamp);
        let mut next = ack;
        match known {
            // Its own word counts whatever its stamp: its clock may have gone back.
            Some(known) if teller == member => next.stamp = next.stamp.max(known.stamp),
            // Its own link is fresher than what others pass on.
            Some(known) if is_newer && is_linked => next.heads = known.heads.clone(),
            _ if !is_newer => return,
            _ => {}
        }
        if self.acks.of.insert(member, next.clone()).as_ref() != Some(&next) {
            self.event(Event::PeerHas(member));
        }
        if is_newer {
            let stamp = next.stamp;
            let others = self.sessions.values_mut().filter(|s| s.gossip.told.get(&member).is_none_or(|t| *t < stamp));
            others.for_each(|s| s.gossip.want(now));
        }
    }

    /// Somebody passes on what we said ourselves. Where that is newer than we can have said, our clock has gone back since: we speak
    /// again, later than that.
    fn on_own_word(&mut self, now: MonoMs, stamp: u64) {
        if stamp > self.acks.stamp(now).max(self.acks.own.stamp) {
            self.acks.base = stamp.saturating_sub(now.saturating_sub(self.acks.started)).saturating_add(1);
            self.renew_own_ack(now);
        }
    }
}

/// Parts that fit a message each.
fn split(acks: Vec<MemberAck>) -> Vec<Vec<MemberAck>> {
    let mut parts: Vec<Vec<MemberAck>> = Vec::new();
    let mut heads = 0;
    for ack in acks {
        heads += ack.heads.0.len();
        match parts.last_mut().filter(|part| part.len() < ACKS_MAX && heads <= HAVE_MAX) {
            Some(part) => part.push(ack),
            None => {
                heads = ack.heads.0.len();
                parts.push(vec![ack]);
            }
        }
    }
    parts
}
