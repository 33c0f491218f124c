//! What goes wrong: faults begin at a choice of the seed, and end after a while.

use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::TillId;
use tillmesh::model::level::LEVEL;
use tillmesh::store::Request;
use tillmesh::sync::LinkId;

use crate::vfs::Fault;
use crate::world::{Event, World};

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// The most tills of a shop in a run.
pub(crate) const TILLS_MAX: usize = 8;

/// A sort of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    PowerCut,
    Kill,
    Partition,
    OneWay,
    Cut,
    Swallow,
    DiskFull,
    WriteErrors,
    ReadErrors,
    ClockBack,
    ClockAhead,
    ClockHour,
    ClockLost,
    Join,
    Retire,
    /// A week and more of running time passes for all tills.
    Week,
    /// A month of running time passes for all tills but one, which is off for so long.
    Lapse,
    /// The card is copied as it is, for later.
    Copy,
    /// The earlier copy of the card is put in its place, by hand.
    OldCard,
    /// The earlier copy is put in its place by `restore`.
    Restore,
    /// The card is copied into another box, which starts with it and its key.
    Clone,
    /// The same, but the other box notices and takes a key of its own.
    NoticedClone,
    /// The card is dead; the box starts with an empty one and the same key.
    Wipe,
    /// The card is dead, and another box with another key takes its place.
    Replace,
    /// A till gets a later version.
    Update,
}

/// How a fault ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Trouble {
    Unblock(Vec<(usize, usize)>),
    Mend(usize),
    Clock(usize),
    /// A month has passed for all but this till.
    Lapse(usize),
    /// A till is dead for good.
    Dead(usize),
    /// A link is cut.
    Cut(LinkId),
}

impl World {
    /// Something goes wrong.
    pub(crate) fn begin_trouble(&mut self) -> Result<(), String> {
        let Some(kind) = self.rng.weighted(&self.plan.kinds) else { return Ok(()) };
        match kind {
            Kind::PowerCut => self.halt(true),
            Kind::Kill => self.halt(false),
            Kind::Partition => self.partition(false),
            Kind::OneWay => self.partition(true),
            Kind::Cut => self.cut_link(),
            Kind::Swallow => self.swallow(),
            Kind::DiskFull => self.fail_disk(Fault::Full),
            Kind::WriteErrors => self.fail_disk(Fault::Write),
            Kind::ReadErrors => self.fail_disk(Fault::Read),
            Kind::ClockBack => self.turn_clock("clock back a day", -DAY_MS, true),
            Kind::ClockAhead => self.turn_clock("clock ahead ten years", 3650 * DAY_MS, true),
            Kind::ClockHour => self.turn_clock("clock ahead an hour", 60 * MINUTE_MS, true),
            Kind::ClockLost => self.turn_clock("clock at 1970", -100 * 365 * DAY_MS, false),
            Kind::Join => self.join(),
            Kind::Retire => self.retire(),
            Kind::Week => self.week(),
            Kind::Lapse => self.lapse(),
            Kind::Copy => self.copy_card(),
            Kind::OldCard => self.old_card(),
            Kind::Restore => self.restore()?,
            Kind::Clone => self.clone_card(false),
            Kind::NoticedClone => self.clone_card(true),
            Kind::Wipe => self.wipe(),
            Kind::Replace => self.replace(),
            Kind::Update => self.update(),
        }
        Ok(())
    }

    /// A till that runs.
    pub(crate) fn running(&mut self) -> Option<usize> {
        let running: Vec<usize> = (0..self.tills.len()).filter(|n| self.tills[*n].agent.is_some()).collect();
        self.rng.pick(&running).copied()
    }

    /// Tills that are part of the shop.
    pub(crate) fn present(&self) -> Vec<usize> {
        (0..self.tills.len()).filter(|n| !self.tills[*n].gone).collect()
    }

    fn halt(&mut self, power_cut: bool) {
        let Some(till) = self.running() else { return };
        let name = if power_cut { "power cut" } else { "kill" };
        self.say(|| format!("till {till}: {name}"));
        self.count(name);
        self.stop(till, power_cut);
        let wait = if self.rng.odds(300) { self.rng.within(5_000..=20_000) } else { self.rng.within(200..=3_000) };
        self.plan_at(wait, Event::Boot { till });
    }

    /// Tills that are of an earlier version.
    fn outdated(&self) -> Vec<usize> {
        self.present().into_iter().filter(|n| self.tills[*n].level < LEVEL).collect()
    }

    fn update(&mut self) {
        let outdated = self.outdated();
        if let Some(till) = self.rng.pick(&outdated).copied() {
            self.update_till(till);
        }
    }

    /// Stops a till, in the middle of whatever it does, and starts it with the later version.
    fn update_till(&mut self, till: usize) {
        self.count("update");
        self.say(|| format!("till {till} is updated"));
        let power_cut = self.rng.odds(300);
        self.stop(till, power_cut);
        self.tills[till].level = LEVEL;
        let wait = self.rng.within(200..=3_000);
        self.plan_at(wait, Event::Boot { till });
    }

    /// Updates what is left to be updated; whether there was something.
    pub(crate) fn update_all(&mut self) -> bool {
        let outdated = self.outdated();
        outdated.iter().for_each(|till| self.update_till(*till));
        !outdated.is_empty()
    }

    fn partition(&mut self, one_way: bool) {
        let present = self.present();
        if present.len() < 2 {
            return;
        }
        let (near, far): (Vec<usize>, Vec<usize>) = present.iter().partition(|_| self.rng.odds(500));
        let mut pairs: Vec<(usize, usize)> = near.iter().flat_map(|a| far.iter().map(move |b| (*a, *b))).collect();
        if !one_way {
            pairs.extend(pairs.clone().into_iter().map(|(a, b)| (b, a)));
        }
        if pairs.is_empty() {
            return;
        }
        self.count(if one_way { "partition one way" } else { "partition" });
        self.say(|| format!("nothing passes from {near:?} to {far:?}{}", if one_way { "" } else { " and back" }));
        pairs.iter().for_each(|(from, to)| self.net.block(*from, *to));
        let wait = if self.rng.odds(500) { self.rng.within(500..=4_000) } else { self.rng.within(10_000..=40_000) };
        self.plan_at(wait, Event::Trouble(Trouble::Unblock(pairs)));
    }

    fn any_link(&mut self) -> Option<LinkId> {
        let links: Vec<LinkId> = self.net.links.keys().copied().collect();
        self.rng.pick(&links).copied()
    }

    fn cut_link(&mut self) {
        let Some(link) = self.any_link() else { return };
        self.count("link cut");
        self.say(|| format!("link {} is cut", link.0));
        self.link_down(link, 0);
        self.link_down(link, 1);
    }

    fn swallow(&mut self) {
        let Some(link) = self.any_link() else { return };
        let from = self.rng.below(2) as usize;
        if let Some(entry) = self.net.links.get_mut(&link) {
            entry.pipes[from].swallows = true;
        }
        self.count("link swallows");
        self.say(|| format!("link {} swallows all from its end {from}", link.0));
    }

    fn fail_disk(&mut self, fault: Fault) {
        let Some(till) = self.running() else { return };
        let after = self.rng.within(0..=12);
        let times = if fault == Fault::Full || self.rng.odds(300) { u64::MAX } else { self.rng.within(1..=3) };
        self.say(|| format!("till {till}: {fault:?} fails after {after} operations"));
        self.tills[till].failing = Some(fault);
        self.tills[till].disk.fail(fault, after, times);
        let wait = self.rng.within(300..=6_000);
        self.plan_at(wait, Event::Trouble(Trouble::Mend(till)));
    }

    /// A fault of a disk counts when it was met.
    pub(crate) fn mend(&mut self, till: usize) {
        let entry = &mut self.tills[till];
        entry.disk.mend();
        let fired = entry.disk.fired();
        let met = fired > std::mem::replace(&mut entry.fired, fired);
        match entry.failing.take().filter(|_| met) {
            Some(Fault::Full) => self.count("disk full"),
            Some(Fault::Write) => self.count("write error"),
            Some(Fault::Read) => self.count("read error"),
            None => {}
        }
    }

    fn turn_clock(&mut self, name: &'static str, by_ms: i64, trusted: bool) {
        let present = self.present();
        let Some(till) = self.rng.pick(&present).copied() else { return };
        self.count(name);
        self.say(|| format!("till {till}: {name}"));
        self.tills[till].clock_off_ms = by_ms;
        self.tills[till].clock = if trusted { ClockQuality::Trusted } else { ClockQuality::Untrusted };
        let wait = self.rng.within(2_000..=60_000);
        self.plan_at(wait, Event::Trouble(Trouble::Clock(till)));
    }

    /// A week in which one of the clocks may be wrong by an hour, all of it.
    fn week(&mut self) {
        if self.rng.odds(250) {
            self.turn_clock("clock ahead an hour for a week", 60 * MINUTE_MS, true);
        }
        self.pass_time("a week passes", 8 * DAY_MS.unsigned_abs(), None);
    }

    fn pass_time(&mut self, name: &'static str, by_ms: u64, but: Option<usize>) {
        self.count(name);
        self.say(|| name.to_owned());
        self.leapt_ms += by_ms;
        for till in self.present().into_iter().filter(|till| Some(*till) != but) {
            let now = self.now;
            match &mut self.tills[till].agent {
                Some(agent) => agent.leap(by_ms, now),
                None => self.tills[till].leap_ms += by_ms,
            }
            self.settle(till);
        }
    }

    /// A till is off for so long that the others do not wait for it any more.
    fn lapse(&mut self) {
        let present = self.present();
        let Some(till) = self.running().filter(|_| present.len() > 1) else { return };
        self.stop(till, false);
        self.tills[till].late = true;
        let wait = self.rng.within(5_000..=30_000);
        self.plan_at(wait, Event::Boot { till });
        let before = self.rng.within(2_000..=wait);
        self.plan_at(before, Event::Trouble(Trouble::Lapse(till)));
    }

    fn join(&mut self) {
        if self.tills.len() < TILLS_MAX {
            let till = self.add_till();
            self.count("join");
            self.say(|| format!("till {till} joins"));
        }
    }

    /// A till is retired: the shop goes on without it, and with those of its sales that others hold.
    fn retire(&mut self) {
        let present = self.present();
        if present.len() < 4 {
            return;
        }
        let Some(till) = self.rng.pick(&present).copied() else { return };
        let id = self.tills[till].author.till;
        let Some(by) = self.running().filter(|by| self.tills[*by].author.till != id) else { return };
        self.count("retirement");
        self.say(|| format!("till {till} is retired at till {by}"));
        let retired: TillId = self.tills[till].author.till;
        for other in (0..self.tills.len()).filter(|n| self.tills[*n].author.till == retired).collect::<Vec<_>>() {
            self.take_away(other);
        }
        let client = self.trade.next_client();
        self.ask(by, client, Request::Retire { till: retired });
    }

    /// While a till takes a snapshot, its giver may die, or the link to it be cut.
    pub(crate) fn disturb_snapshot(&mut self, taker: usize, giver: TillId) {
        if self.calm || !self.rng.odds(250) {
            return;
        }
        let wait = self.rng.within(0..=150);
        let links: Vec<(LinkId, usize)> = self
            .net
            .links
            .iter()
            .filter_map(|(id, link)| {
                let end = (0..2).find(|n| link.ends[*n].till == taker && link.open[*n])?;
                let other = link.ends[1 - end].till;
                (self.tills[other].author.till == giver).then_some((*id, other))
            })
            .collect();
        let Some((link, other)) = self.rng.pick(&links).copied() else { return };
        let trouble = if self.rng.odds(300) { Trouble::Dead(other) } else { Trouble::Cut(link) };
        self.plan_at(wait, Event::Trouble(trouble));
    }

    pub(crate) fn end_trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Unblock(pairs) => {
                pairs.iter().for_each(|(from, to)| self.net.unblock(*from, *to));
                self.wake_wires();
            }
            Trouble::Mend(till) => self.mend(till),
            Trouble::Lapse(till) => self.pass_time("a till lapses", 31 * DAY_MS.unsigned_abs(), Some(till)),
            Trouble::Dead(till) => {
                if !self.calm && !self.tills[till].gone && self.present().len() > 1 {
                    self.count("giver of a snapshot dies");
                    self.say(|| format!("till {till} is dead for good"));
                    self.take_away(till);
                }
            }
            Trouble::Cut(link) => {
                if !self.calm && self.net.links.contains_key(&link) {
                    self.count("link cut in a snapshot");
                    self.link_down(link, 0);
                    self.link_down(link, 1);
                }
            }
            Trouble::Clock(till) => {
                self.tills[till].clock_off_ms = 0;
                self.tills[till].clock = ClockQuality::Trusted;
            }
        }
    }

    /// Ends all that is wrong: what is left of the shop must become equal.
    pub(crate) fn heal(&mut self) {
        self.calm = true;
        self.net.heal();
        if self.plan.scrambles {
            // A stream that broke its promise to keep the order may leave its ends with a wrong idea of each other, for as long as it
            // lives: never with wrong data.
            for link in self.net.links.keys().copied().collect::<Vec<_>>() {
                self.link_down(link, 0);
                self.link_down(link, 1);
            }
        }
        self.wake_wires();
        for till in self.present() {
            self.mend(till);
            self.end_trouble(Trouble::Clock(till));
            self.plan_at(10, Event::Boot { till });
        }
    }
}
