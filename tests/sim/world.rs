//! One run: tills on disks in memory, the network between them, clients and faults, in virtual time. Everything that happens is an event
//! of one queue, and every choice is the seed's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::tz::TimeZone;
use tempfile::TempDir;
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::{BootId, Origin, TillId, Uuid};
use tillmesh::model::level::LEVEL;
use tillmesh::model::op::Seq;
use tillmesh::model::vector::VersionVector;
use tillmesh::store::{Author, Now, StoreError, StoreOptions};
use tillmesh::sync::{Event as SyncEvent, LinkId, MonoMs};

use crate::books::{Books, Key};
use crate::dump::Look;
use crate::faults::Trouble;
use crate::glue::{self, Agent, ClientId, Effect, Told};
use crate::net::{End, Frame, Net};
use crate::plan::Plan;
use crate::report::{Recording, Report, Tallying};
use crate::rng::{Rng, Tally};
use crate::trade::Trade;
use crate::vfs::{Disk, Fault, Image};

/// Virtual time begins here: milliseconds since 1970 at noon of 22 November 2026 in Tunis.
const EPOCH_MS: u64 = 1_795_345_200_000;

/// No agent takes a clock for right that says less: as the agent's own clock does. A month before, so that a clock that goes back a day is
/// believed.
const RELEASED_MS: u64 = EPOCH_MS - 30 * 86_400_000;

/// What may be under way on one link and direction at the most: the windows of push and pull, and what is said beside ops.
const PIPE_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A run that comes to so many events goes in a circle.
const EVENTS_MAX: u64 = 4_000_000;

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A frame may have arrived that this end sent.
    Arrive {
        link: LinkId,
        from: usize,
    },
    /// The stream turns out to be broken, for this end.
    Broken {
        link: LinkId,
        end: usize,
    },
    Tick {
        till: usize,
        boot: BootId,
    },
    Commit {
        till: usize,
        boot: BootId,
    },
    Tell {
        till: usize,
        boot: BootId,
        told: Told,
    },
    /// The reader's turn.
    Look {
        till: usize,
        boot: BootId,
        look: glue::Look,
    },
    Dial {
        from: usize,
        to: usize,
    },
    Boot {
        till: usize,
    },
    Trade,
    /// A fault begins or ends.
    Trouble(Trouble),
}

/// A till: its box, its card, and the agent while it runs.
pub(crate) struct Till {
    pub(crate) author: Author,
    pub(crate) folder: PathBuf,
    pub(crate) disk: Disk,
    pub(crate) agent: Option<Agent>,
    /// The highest level of ops that its version applies.
    pub(crate) level: u16,
    /// A copy of its card, made a while ago, and the records on it.
    pub(crate) backup: Option<(Image, BTreeSet<Key>)>,
    /// Running time that has passed while it was off: as after years of use.
    pub(crate) leap_ms: u64,
    /// How far its logs were compacted when that was last looked at.
    pub(crate) floors: Option<BTreeMap<Origin, Seq>>,
    /// It was not there all the time with all that it ever held: others need not have waited for it.
    pub(crate) late: bool,
    /// Where its logs stood when that was last looked at.
    pub(crate) heads: VersionVector,
    /// How far its clock is off, in milliseconds.
    pub(crate) clock_off_ms: i64,
    pub(crate) clock: ClockQuality,
    /// Records on its card, as far as the agent knew before it stopped.
    pub(crate) card: BTreeSet<Key>,
    /// It is no part of the shop any more: its card is gone, or it was retired.
    pub(crate) gone: bool,
    /// How its disk fails, if it does.
    pub(crate) failing: Option<Fault>,
    /// Faults of its disk that have been counted.
    pub(crate) fired: u64,
    tally: Arc<Mutex<Tally>>,
}

pub(crate) struct World {
    pub(crate) now: MonoMs,
    /// Weeks that have passed at once, on every clock.
    pub(crate) leapt_ms: u64,
    queue: BTreeMap<(MonoMs, u64), Event>,
    queued: u64,
    pub(crate) tills: Vec<Till>,
    pub(crate) net: Net,
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) books: Books,
    pub(crate) trade: Trade,
    pub(crate) report: Report,
    steps: Option<Vec<String>>,
    /// Messages are steps too.
    pub(super) talkative: bool,
    pub(crate) calm: bool,
    folder: TempDir,
}

impl World {
    pub(crate) fn new(seed: u64, recording: Recording) -> Result<Self, String> {
        let mut rng = Rng::new(seed);
        let plan = Plan::of(seed, &mut rng);
        let trade = Trade::new(&mut rng);
        let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        let mut world = Self {
            now: 1_000,
            leapt_ms: 0,
            queue: BTreeMap::new(),
            queued: 0,
            tills: Vec::new(),
            net: Net::default(),
            rng,
            plan,
            books: Books::default(),
            trade,
            report: Report::default(),
            steps: (recording != Recording::Off).then(Vec::new),
            talkative: recording == Recording::Messages,
            calm: false,
            folder,
        };
        let plan = format!("{:?}", world.plan);
        world.say(|| plan);
        for _ in 0..world.plan.tills {
            world.add_till();
        }
        world.plan_at(500, Event::Trade);
        Ok(world)
    }

    // ------------------------------------------------------------------------------------------------- tills

    /// A new box with an empty card, which starts soon. Its number.
    pub(crate) fn add_till(&mut self) -> usize {
        let number = self.tills.len();
        let key = self.key();
        let author = Author {
            till: TillId::of_public_key(&key),
            public_key: key,
            pos_id: format!("POS-{number}"),
            pos_name: format!("Caisse {number}"),
            currency: *b"TND",
            time_zone: TimeZone::get("Africa/Tunis").unwrap_or(TimeZone::UTC),
        };
        let level = self.first_level();
        self.add_box(author, level)
    }

    fn first_level(&mut self) -> u16 {
        if self.rng.odds(self.plan.older) { 1 } else { LEVEL }
    }

    pub(crate) fn key(&mut self) -> [u8; 32] {
        let mut key = [0; 32];
        for part in key.chunks_mut(8) {
            part.copy_from_slice(&self.rng.next().to_le_bytes());
        }
        key
    }

    /// A box whose till is this one, with an empty card.
    pub(crate) fn add_box(&mut self, author: Author, level: u16) -> usize {
        let number = self.tills.len();
        let folder = self.folder.path().join(number.to_string());
        // A folder that cannot be made shows at the first start.
        drop(std::fs::create_dir(&folder));
        let disk = Disk::insert(&folder);
        let tally = Arc::new(Mutex::new(Tally::default()));
        disk.watch(Box::new(Tallying(tally.clone())));
        let clock_off_ms = 0;
        self.tills.push(Till {
            author,
            folder,
            disk,
            agent: None,
            level,
            backup: None,
            leap_ms: 0,
            floors: None,
            late: self.now > 1_000,
            heads: VersionVector::default(),
            clock_off_ms,
            clock: ClockQuality::Trusted,
            card: BTreeSet::new(),
            gone: false,
            failing: None,
            fired: 0,
            tally,
        });
        let wait = self.rng.within(0..=400);
        self.plan_at(wait, Event::Boot { till: number });
        for other in 0..number {
            for (from, to) in [(number, other), (other, number)] {
                let wait = self.rng.within(10..=1500);
                self.plan_at(wait, Event::Dial { from, to });
            }
        }
        number
    }

    pub(crate) fn wall(&self, till: usize) -> Now {
        let till = &self.tills[till];
        let wall = (EPOCH_MS + self.leapt_ms + self.now).saturating_add_signed(till.clock_off_ms);
        let sane = wall >= RELEASED_MS;
        let quality = if sane { till.clock } else { ClockQuality::Untrusted };
        Now { wall_ms: wall.max(RELEASED_MS), quality }
    }

    fn boot(&mut self, number: usize) -> Result<(), String> {
        if self.tills[number].gone || self.tills[number].agent.is_some() {
            return Ok(());
        }
        let wall = self.wall(number);
        let mut rng = self.rng.fork(self.queued << 8 | number as u64);
        let till = &self.tills[number];
        let options = till.options();
        // As the store does with a real file, which this disk is not.
        let written = till.disk.write_again("till.db-wal");
        let held = |look: Result<Look, String>| look.and_then(|look| look.held_notes()).unwrap_or(0);
        let waiting = till.level == LEVEL && self.plan.older > 0 && held(Look::open(&options.path)) > 0;
        let opened = if written {
            Agent::open(&options, self.now, wall, &mut rng)
        } else {
            Err(StoreError::Io("its log cannot be written again".to_owned()))
        };
        match opened {
            Ok(mut agent) => {
                self.say(|| format!("till {number} starts, boot {}, origin {}", agent.boot, agent.origin()));
                agent.leap(std::mem::take(&mut self.tills[number].leap_ms), self.now);
                if waiting && held(Look::open(&options.path)) == 0 {
                    self.see("applied after an update", 1);
                }
                self.tills[number].agent = Some(agent);
                self.check_card(number)?;
                self.check_floors(number, false)?;
                self.plan_commit(number);
                self.settle(number);
                Ok(())
            }
            Err(error) if error.is_fault() => {
                self.say(|| format!("till {number} cannot start: {error}"));
                let wait = self.rng.within(800..=1500);
                self.plan_at(wait, Event::Boot { till: number });
                Ok(())
            }
            Err(error) => Err(format!("till {number} does not start: {error}")),
        }
    }

    /// Stops a till. Where the power is cut, what was not synced is lost, and nobody is told; else its links end.
    pub(crate) fn stop(&mut self, number: usize, power_cut: bool) {
        let Some(agent) = self.tills[number].agent.take() else { return };
        let me = End { till: number, boot: agent.boot };
        let links: Vec<(LinkId, usize)> =
            self.net.links.iter().filter_map(|(id, link)| Some((*id, link.end_of(me.till, me.boot)?))).collect();
        if power_cut {
            let mut rng = self.rng.fork(self.queued ^ 0x00c0_ffee);
            self.tills[number].disk.crash(&mut || rng.next());
        }
        drop(agent);
        for (link, end) in links {
            if !power_cut {
                self.post(link, end, Frame::End);
            }
            self.net.leave(link, end);
        }
    }

    // ------------------------------------------------------------------------------------------------ events

    pub(crate) fn plan_at(&mut self, wait: MonoMs, event: Event) {
        self.queued += 1;
        self.queue.insert((self.now + wait, self.queued), event);
    }

    /// Notes a step, where steps are recorded.
    pub(crate) fn say(&mut self, text: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(steps) = &mut self.steps {
            steps.push(format!("{:>9.3}  {}", now as f64 / 1000.0, text()));
        }
    }

    pub(crate) fn take_steps(&mut self) -> Vec<String> {
        self.steps.take().unwrap_or_default()
    }

    /// Counts a fault that has happened.
    pub(crate) fn count(&mut self, fault: &'static str) {
        *self.report.faults.entry(fault).or_default() += 1;
    }

    /// Counts what the tills have done about something.
    pub(crate) fn see(&mut self, what: &'static str, times: u64) {
        *self.report.seen.entry(what).or_default() += times;
    }

    /// Does the next event; whether there was one.
    pub(crate) fn step(&mut self) -> Result<bool, String> {
        let Some(((at, _), event)) = self.queue.pop_first() else { return Ok(false) };
        self.now = at;
        self.report.events += 1;
        if self.report.events > EVENTS_MAX {
            return Err("the tills never come to rest".to_owned());
        }
        self.report.tally.add(at);
        match event {
            Event::Arrive { link, from } => self.arrive(link, from),
            Event::Broken { link, end } => self.link_down(link, end),
            Event::Tick { till, boot } => self.with(till, boot, |agent, now| {
                if agent.tick_at.is_some_and(|at| at <= now) {
                    agent.tick_at = None;
                    agent.tick(now);
                }
            }),
            Event::Commit { till, boot } => self.commit(till, boot)?,
            Event::Tell { till, boot, told } => self.tell(till, boot, told)?,
            Event::Look { till, boot, look } => self.with(till, boot, |agent, now| {
                let seen = agent.look(look, now);
                agent.feed(now, seen);
            }),
            Event::Dial { from, to } => self.dial(from, to),
            Event::Boot { till } => self.boot(till)?,
            Event::Trade => self.trade()?,
            Event::Trouble(trouble) => self.end_trouble(trouble),
        }
        if self.net.bytes_max > PIPE_BYTES_MAX {
            return Err(format!("{} bytes are under way on one link", self.net.bytes_max));
        }
        Ok(true)
    }

    /// Does something with an agent, if that run of it is still there, and carries out what it wants.
    pub(crate) fn with(&mut self, till: usize, boot: BootId, act: impl FnOnce(&mut Agent, MonoMs)) {
        let now = self.now;
        if let Some(agent) = self.tills[till].agent.as_mut().filter(|agent| agent.boot == boot) {
            act(agent, now);
            self.settle(till);
        }
    }

    /// Carries out what an agent wants, and plans what it waits for.
    pub(crate) fn settle(&mut self, number: usize) {
        while let Some(agent) = &mut self.tills[number].agent {
            let boot = agent.boot;
            let effects = agent.effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(number, boot, effect);
            }
        }
        let Some(agent) = &mut self.tills[number].agent else { return };
        let boot = agent.boot;
        if let Some(at) = agent.next_tick()
            && agent.tick_at.is_none_or(|planned| at < planned)
        {
            let at = at.max(self.now);
            agent.tick_at = Some(at);
            self.plan_at(at - self.now, Event::Tick { till: number, boot });
        }
        self.plan_commit(number);
    }

    fn carry_out(&mut self, number: usize, boot: BootId, effect: Effect) {
        match effect {
            Effect::Send { link, bytes } => {
                let Some(end) = self.net.links.get(&link).and_then(|l| l.end_of(number, boot)) else { return };
                self.report.tally.bytes(&bytes);
                self.post(link, end, Frame::Bytes(bytes));
            }
            Effect::Close { link, reason } => {
                let Some(end) = self.net.links.get(&link).and_then(|l| l.end_of(number, boot)) else { return };
                self.say(|| format!("till {number} closes link {}: {reason:?}", link.0));
                self.post(link, end, Frame::End);
                self.link_down(link, end);
            }
            Effect::Look(look) => {
                let wait = self.rng.below(4);
                self.plan_at(wait, Event::Look { till: number, boot, look });
            }
            Effect::Event(event) => self.on_sync_event(number, &event),
        }
    }

    fn on_sync_event(&mut self, number: usize, event: &SyncEvent) {
        match event {
            SyncEvent::Fork { .. } => self.see("fork seen", 1),
            SyncEvent::OwnOriginAhead { .. } => self.see("own origin ahead", 1),
            SyncEvent::Snapshot(progress) => self.disturb_snapshot(number, progress.from),
            SyncEvent::SnapshotOver { complete: true } => self.see("snapshot taken", 1),
            SyncEvent::SnapshotOver { complete: false } => self.see("snapshot given up", 1),
            SyncEvent::Divergence { differ: true, .. } => self.see("divergence", 1),
            _ => {}
        }
        if !matches!(
            event,
            SyncEvent::PeerHas(_) | SyncEvent::PeersTold(_) | SyncEvent::PeerReady(_) | SyncEvent::PeerGone(_)
        ) {
            self.say(|| format!("till {number}: {event:?}"));
        }
    }

    // ------------------------------------------------------------------------------------------------- store

    pub(crate) fn plan_commit(&mut self, number: usize) {
        let slow = self.plan.slow_cards && self.rng.odds(20);
        let wait = if slow { self.rng.within(100..=700) } else { self.rng.within(0..=6) };
        let Some(agent) = &mut self.tills[number].agent else { return };
        if agent.waiting() > 0 && !agent.commit_planned {
            agent.commit_planned = true;
            let boot = agent.boot;
            self.plan_at(wait, Event::Commit { till: number, boot });
        }
    }

    fn commit(&mut self, number: usize, boot: BootId) -> Result<(), String> {
        let jobs_max = if self.rng.odds(700) { 200 } else { self.rng.within(1..=4) as usize };
        let wait = self.rng.within(0..=4);
        let (now, wall) = (self.now, self.wall(number));
        let till = &mut self.tills[number];
        let Some(agent) = till.agent.as_mut().filter(|agent| agent.boot == boot) else { return Ok(()) };
        agent.commit_planned = false;
        let told = agent.commit(jobs_max, now, wall);
        let is_new = |id: &Option<Uuid>| {
            id.is_none_or(|id| till.card.range((id, [0; 32])..).next().is_none_or(|key| key.0 != id))
        };
        let said_later = told.later.iter().any(is_new);
        till.card.extend(told.records.iter().copied());
        self.books.number(told.numbers.iter().cloned());
        let at = agent.told_at.max(now + wait);
        agent.told_at = at;
        if told.compacted > 0 {
            self.see("ops compacted", told.compacted as u64);
            self.say(|| format!("till {number} has compacted {} ops", told.compacted));
        }
        if let Some(origin) = told.kept {
            return Err(format!("till {number} writes under {origin}, of which it knows that others have more"));
        }
        if told.compacted > 0 || told.changed {
            self.check_floors(number, !told.changed)?;
        }
        if told.adopted {
            self.see("rows adopted", 1);
        }
        if said_later {
            self.see("said what came with an update", 1);
            self.check_understood(number)?;
        }
        if told.failed {
            self.say(|| format!("till {number}: its disk fails"));
        }
        self.plan_at(at - now, Event::Tell { till: number, boot, told });
        self.settle(number);
        Ok(())
    }

    fn tell(&mut self, number: usize, boot: BootId, told: Told) -> Result<(), String> {
        let Told { inputs, answers, .. } = told;
        self.with(number, boot, |agent, now| inputs.into_iter().for_each(|input| agent.feed(now, input)));
        self.close_denied(number);
        if self.tills[number].agent.as_ref().is_some_and(|agent| agent.boot == boot) {
            for (client, reply) in answers {
                self.answer(number, client, &reply)?;
            }
        }
        Ok(())
    }

    /// Links to tills that were retired end.
    fn close_denied(&mut self, number: usize) {
        let Some(agent) = &self.tills[number].agent else { return };
        if agent.denied.is_empty() {
            return;
        }
        let me = End { till: number, boot: agent.boot };
        let ended: Vec<(LinkId, usize)> = self
            .net
            .links
            .iter()
            .filter_map(|(id, link)| Some((*id, link.end_of(me.till, me.boot)?, link.ends)))
            .filter(|(_, end, ends)| agent.denied.contains(&self.tills[ends[1 - end].till].author.till))
            .map(|(id, end, _)| (id, end))
            .collect();
        for (link, end) in ended {
            self.post(link, end, Frame::End);
            self.link_down(link, end);
        }
    }

    /// Asks a till for something as a client does, and remembers what was asked.
    pub(crate) fn ask(&mut self, number: usize, client: ClientId, request: tillmesh::store::Request) {
        self.report.operations += 1;
        let Some(agent) = &mut self.tills[number].agent else { return };
        agent.submit(client, request);
        self.plan_commit(number);
    }

    /// What is known of a run at its end.
    pub(crate) fn finish(&mut self) -> Report {
        let mut report = std::mem::take(&mut self.report);
        for till in &self.tills {
            report.tally.add(till.tally.lock().unwrap_or_else(PoisonError::into_inner).0);
        }
        report.mix = self.plan.mix;
        report.tills = self.plan.tills;
        report.virtual_ms = self.now;
        report.acknowledged = self.books.acknowledged();
        report
    }
}

impl Till {
    pub(crate) fn options(&self) -> StoreOptions {
        StoreOptions { path: self.folder.join("till.db"), author: self.author.clone(), level: self.level }
    }
}
