//! What goes over the wires of a shop: dialling, links, frames and what becomes of them.

use tillmesh::sync::{Input, LinkId, Message};
use tillmesh::wire::message;

use crate::net::{End, Frame};
use crate::trade::line;
use crate::world::{Event, World};

impl World {
    pub(crate) fn dial(&mut self, from: usize, to: usize) {
        let wait = self.rng.within(300..=2500);
        if !self.tills[from].gone && !self.tills[to].gone {
            self.plan_at(wait, Event::Dial { from, to });
        }
        let (Some(dialler), Some(acceptor)) = (&self.tills[from].agent, &self.tills[to].agent) else { return };
        let denied = dialler.denied.contains(&acceptor.till) || acceptor.denied.contains(&dialler.till);
        let ends = [End { till: from, boot: dialler.boot }, End { till: to, boot: acceptor.boot }];
        let cut = self.net.is_blocked(from, to) || self.net.is_blocked(to, from);
        // Now and then a till dials though it is linked: an address that it did not know to be the same till's.
        if denied || cut || (self.net.has_link(ends[0], to) && !self.rng.odds(10)) {
            return;
        }
        let tills = [dialler.till, acceptor.till];
        let slow = self.rng.odds(self.plan.slow_links);
        let link = self.net.connect(ends[0], ends[1], &mut self.rng, slow);
        if slow {
            self.count("slow link");
        }
        self.say(|| format!("link {}: till {from} to till {to}", link.0));
        for n in 0..2 {
            let (till, boot) = (tills[1 - n], ends[1 - n].boot);
            self.with(ends[n].till, ends[n].boot, |agent, now| {
                agent.feed(now, Input::LinkUp { link, till, boot, dialled_by_us: n == 0 });
            });
        }
    }

    pub(crate) fn post(&mut self, link: LinkId, end: usize, frame: Frame) {
        let Some(entry) = self.net.links.get(&link) else { return };
        let other = entry.ends[1 - end];
        // A box that has started anew says that it knows of no such stream.
        if !entry.open[1 - end] && self.tills[other.till].agent.is_some() {
            self.plan_at(20, Event::Broken { link, end });
        }
        if let Some(at) = self.net.send(link, end, frame, self.now, &mut self.rng) {
            self.plan_at(at - self.now, Event::Arrive { link, from: end });
        }
    }

    pub(crate) fn arrive(&mut self, link: LinkId, from: usize) {
        if self.plan.scrambles && !self.calm && self.rng.odds(15) {
            self.net.swap_next(link, from);
            self.count("messages swapped");
        }
        let Some(frame) = self.net.receive(link, from, self.now) else { return };
        match frame {
            Frame::End => self.link_down(link, 1 - from),
            Frame::Bytes(bytes) => {
                let twice = self.plan.scrambles && !self.calm && self.rng.odds(15);
                self.deliver(link, from, &bytes);
                if twice {
                    self.count("message doubled");
                    self.deliver(link, from, &bytes);
                }
            }
        }
    }

    fn deliver(&mut self, link: LinkId, from: usize, bytes: &[u8]) {
        let Some(entry) = self.net.links.get(&link) else { return };
        let end = entry.ends[1 - from];
        if !entry.open[1 - from] {
            return;
        }
        match message::decode(bytes) {
            Ok(message) => {
                if self.talkative && !matches!(message, Message::Ping(_) | Message::Pong(_)) {
                    let sender = entry.ends[from].till;
                    self.say(|| format!("till {sender} to till {} on {}: {}", end.till, link.0, line(&message, 400)));
                }
                self.with(end.till, end.boot, |agent, now| agent.hear(now, link, message));
            }
            Err(error) => {
                self.say(|| format!("till {} is sent what is no message: {error}", end.till));
                self.link_down(link, 1 - from);
            }
        }
    }

    /// A link is gone, for one of its ends.
    pub(crate) fn link_down(&mut self, link: LinkId, end: usize) {
        let Some(entry) = self.net.links.get(&link) else { return };
        let me = entry.ends[end];
        if !entry.open[end] {
            return;
        }
        self.net.leave(link, end);
        self.with(me.till, me.boot, |agent, now| agent.feed(now, Input::LinkDown { link }));
    }

    /// Plans anew what waits on wires that let through again.
    pub(crate) fn wake_wires(&mut self) {
        for (link, from, at) in self.net.waiting() {
            self.plan_at(at.saturating_sub(self.now), Event::Arrive { link, from });
        }
    }
}
