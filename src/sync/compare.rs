//! Forks: seen wherever two branches of a log meet, and narrowed down to the place where they part.
//!
//! Every head that a peer tells at or below ours is compared with the running hash that our log has there. Most are heads that both
//! tills have been at: our own, or one of the last ([`TRAIL_MAX`](super::TRAIL_MAX)) that we passed, so a steady mesh reads nothing. For any
//! other the store is asked, once. A head beyond ours is compared when ours has got there, or by the hash before the first op that comes.

use super::message::Message;
use super::replica::Replica;
use super::session::{Comparing, Session};
use super::{COMPARE_MS, Comparison, Event, LinkId, MonoMs, Output};
use crate::model::close::Close;
use crate::model::id::Origin;
use crate::model::mutant::Mutant;
use crate::model::op::{Head, Seq};

impl Replica {
    /// Compares what a peer told of a log with what is here.
    pub(super) fn check(&mut self, now: MonoMs, link: LinkId, origin: Origin) {
        if let Some(session) = self.sessions.get(&link) {
            self.check_head(now, link, origin, session.has.head(origin));
        }
    }

    pub(super) fn check_head(&mut self, now: MonoMs, link: LinkId, origin: Origin, told: Head) {
        let Some(session) = self.sessions.get(&link) else { return };
        let till = session.till;
        if told.seq == 0 || session.agreed.get(&origin) == Some(&told) || self.stands_still(origin) {
            return;
        }
        // Beyond an end the peer has yet to cut its log: it will tell the head that it has then.
        if self.end_of(origin).is_some_and(|end| told.seq > end) {
            return;
        }
        let log = self.logs.get(&origin);
        let ours = log.map(|log| log.durable).unwrap_or_default();
        if told.seq > ours.seq {
            if origin == self.origin {
                self.leave_own(now, till);
            }
            return;
        }
        if told == ours || Mutant::SkipHashCheck.is_on() || log.is_some_and(|log| log.trail.contains(&told)) {
            self.agree(link, origin, told);
        } else {
            self.compare(now, link, origin, told);
        }
    }

    /// Our log has gone past heads that peers told earlier.
    pub(super) fn check_passed(&mut self, now: MonoMs, origin: Origin, was: Seq, is: Seq) {
        let passed = |s: &Session| (was + 1..=is).contains(&s.has.seq(origin));
        for link in self.sessions.iter().filter(|(_, s)| passed(s)).map(|(link, _)| *link).collect::<Vec<_>>() {
            self.check(now, link, origin);
        }
    }

    /// Has the store look at a place that a peer told, unless a comparison of that log with that peer is under way.
    pub(super) fn compare(&mut self, now: MonoMs, link: LinkId, origin: Origin, mark: Head) {
        let stands_still = self.stands_still(origin);
        let Some(session) = self.sessions.get_mut(&link).filter(|_| !stands_still) else { return };
        if session.comparing.contains_key(&origin) {
            return;
        }
        let comparing = Comparing { until: now + COMPARE_MS, reading: true, mark: Some(mark), ..Comparing::default() };
        session.comparing.insert(origin, comparing);
        self.out.push(Output::Compare { link, origin, marks: vec![mark] });
    }

    pub(super) fn on_probe(&mut self, now: MonoMs, link: LinkId, origin: Origin, marks: Vec<Head>) {
        if self.stands_still(origin) || !self.logs.contains_key(&origin) {
            return;
        }
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let comparing = session.comparing.entry(origin).or_default();
        comparing.until = now + COMPARE_MS;
        if comparing.reading {
            comparing.next = Some(marks);
        } else {
            comparing.reading = true;
            self.out.push(Output::Compare { link, origin, marks });
        }
    }

    pub(super) fn on_compared(&mut self, now: MonoMs, link: LinkId, origin: Origin, found: Comparison) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let till = session.till;
        let Some(comparing) = session.comparing.get_mut(&origin) else { return };
        comparing.reading = false;
        comparing.until = now + COMPARE_MS;
        let mark = comparing.mark.take();
        let is_void = std::mem::take(&mut comparing.is_void);
        if let Some(marks) = comparing.next.take().filter(|_| is_void || !matches!(found, Comparison::Parted(_))) {
            comparing.reading = true;
            self.out.push(Output::Compare { link, origin, marks });
            return;
        }
        match found {
            Comparison::Parted(seq) if !is_void => {
                session.comparing.remove(&origin);
                self.event(Event::Fork { origin, seen_at: till });
                self.end(now, vec![Close { origin, seq }]);
            }
            Comparison::Narrow(marks) if !is_void => self.send(link, Message::Probe { origin, marks }),
            _ => {
                session.comparing.remove(&origin);
                if let Some(mark) = mark.filter(|_| !is_void) {
                    self.agree(link, origin, mark);
                }
                // The peer may have told another head meanwhile.
                self.check(now, link, origin);
                self.pull(now);
            }
        }
    }

    fn agree(&mut self, link: LinkId, origin: Origin, head: Head) {
        if let Some(session) = self.sessions.get_mut(&link) {
            session.agreed.insert(origin, head);
        }
    }

    /// A peer that does not answer a probe has cut the log meanwhile, or cannot: looked at again.
    pub(super) fn check_comparisons(&mut self, now: MonoMs, link: LinkId) {
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let late = |c: &Comparing| c.until <= now;
        let over: Vec<Origin> = session.comparing.iter().filter(|(_, c)| late(c)).map(|(origin, _)| *origin).collect();
        for origin in over {
            if let Some(session) = self.sessions.get_mut(&link) {
                session.comparing.remove(&origin);
            }
            self.check(now, link, origin);
            self.pull(now);
        }
    }
}
