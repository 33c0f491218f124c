//! A few tills in memory, under a virtual clock. The messages of a link arrive in order, links come and go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::model::clock::Hlc;
use crate::model::op::Op;

use mem::Mem;

mod basics;
mod forks;
mod gossip;
mod limits;
mod mem;
mod random;
mod snaps;
mod snapshots;

struct Till {
    replica: Replica,
    mem: Mem,
    events: Vec<Event>,
    /// What the store is asked to write, in order.
    writes: VecDeque<Output>,
    /// What it is asked to read.
    reads: VecDeque<Output>,
    /// What other tills hold, as it was kept.
    acks: BTreeMap<TillId, MemberAck>,
    auto_sync: bool,
}

#[derive(Default)]
struct Shop {
    now: MonoMs,
    tills: Vec<Till>,
    links: BTreeMap<LinkId, (usize, LinkId, usize)>,
    wire: VecDeque<(LinkId, Message)>,
    /// A link on which nothing arrives any more, though it is open.
    dead: Vec<LinkId>,
    next_link: u64,
    next_boot: u64,
    next_body: u32,
    ops_sent: u64,
    messages: u64,
    /// Places of logs that stores were asked to look up.
    compared: u64,
    /// Parts of snapshots that were asked for.
    rows_asked: u64,
    /// How often stores were asked to adopt rows.
    adopted: u64,
    /// How often timers woke a till.
    wakes: u64,
    /// Snapshots that were asked for.
    begun: u64,
    /// A link on which no question about a snapshot arrives.
    deaf: Option<LinkId>,
    /// Does something to messages on their way.
    garble: Option<fn(&mut Message)>,
    /// Chooses what comes next; 0: everything in order.
    random: u64,
}

fn origin(till: usize) -> Origin {
    Origin(till as u64 + 1)
}

impl Shop {
    fn new(n: usize) -> Self {
        let mut shop = Self::default();
        for _ in 0..n {
            shop.add(true);
        }
        shop
    }

    fn add(&mut self, auto_sync: bool) -> usize {
        let till = self.tills.len();
        self.add_with(Mem::new(till as u64, origin(till)), till, auto_sync)
    }

    /// A till with this database; `key` is whose key it has.
    fn add_with(&mut self, mut mem: Mem, key: usize, auto_sync: bool) -> usize {
        mem.id = self.tills.len() as u64;
        let acks = BTreeMap::new();
        let replica = self.replica(&mem, TillId([u8::try_from(key).unwrap(); 16]), auto_sync, &acks);
        let (writes, reads) = Default::default();
        self.tills.push(Till { replica, mem, events: vec![], writes, reads, acks, auto_sync });
        self.tills.len() - 1
    }

    fn replica(&mut self, mem: &Mem, till: TillId, auto_sync: bool, acks: &BTreeMap<TillId, MemberAck>) -> Replica {
        self.next_boot += 1;
        Replica::new(ReplicaOptions {
            till,
            boot: BootId(self.next_boot),
            origin: mem.own,
            heads: mem.vector(),
            auto_sync,
            acks: acks.clone(),
            closes: mem.closes.clone(),
            level: 1,
            stamp: 1 + self.now,
            started: self.now,
            unfinished: mem.unfinished(),
        })
    }

    /// Ends a till's run and starts it again, perhaps with another database.
    fn restart(&mut self, till: usize, mem: Option<Mem>) {
        for link in self.links.iter().filter(|(_, (at, _, _))| *at == till).map(|(link, _)| *link).collect::<Vec<_>>() {
            self.cut(link);
        }
        let mut mem = mem.unwrap_or_else(|| self.tills[till].mem.clone());
        mem.id = till as u64 + 100 * (self.next_boot + 1);
        mem.stop();
        let (key, auto_sync, acks) =
            (self.tills[till].replica.till, self.tills[till].auto_sync, self.tills[till].acks.clone());
        let replica = self.replica(&mem, key, auto_sync, &acks);
        let (writes, reads) = Default::default();
        self.tills[till] = Till { replica, mem, events: vec![], writes, reads, acks, auto_sync };
    }

    fn input(&mut self, till: usize, input: Input) {
        for output in self.tills[till].replica.handle(self.now, input) {
            self.carry_out(till, output);
        }
    }

    fn carry_out(&mut self, till: usize, output: Output) {
        match output {
            Output::Send { link, message } => {
                self.messages += 1;
                if let Message::Ops(batch) = &message {
                    self.ops_sent += batch.ops.len() as u64;
                    assert!(batch.ops.len() <= BATCH_OPS_MAX);
                }
                self.rows_asked += u64::from(matches!(message, Message::Ask(SnapshotAsk::Rows { .. })));
                self.begun += u64::from(message == Message::Ask(SnapshotAsk::Begin));
                assert!(message.is_allowed(), "{message:?}");
                self.wire.push_back((link, message));
            }
            Output::Close { link, reason } => {
                assert!(reason != CloseReason::Violation || self.garble.is_some());
                self.cut(link);
            }
            Output::Event(event) => {
                if let Event::PeerHas(member) = event {
                    let ack = self.tills[till].replica.held_by(member).unwrap();
                    self.tills[till].acks.insert(member, ack);
                }
                self.tills[till].events.push(event);
            }
            Output::Apply(_) | Output::End(_) | Output::LeaveOrigin(_) | Output::Take { .. } | Output::Adopt => {
                self.tills[till].writes.push_back(output);
            }
            Output::Read { .. }
            | Output::Compare { .. }
            | Output::Ask { .. }
            | Output::CompareParts { .. }
            | Output::Digest => {
                self.tills[till].reads.push_back(output);
            }
        }
    }

    /// The store does one thing.
    fn work(&mut self, till: usize, output: Output) {
        self.adopted += u64::from(output == Output::Adopt);
        self.compared += u64::from(matches!(output, Output::Compare { .. }));
        for input in self.tills[till].mem.work(output) {
            self.input(till, input);
        }
    }

    fn sell(&mut self, till: usize, count: usize) {
        let ops: Vec<Op> = (0..count)
            .map(|_| {
                self.next_body += 1;
                let body = [self.next_body.to_be_bytes().to_vec(), vec![7; 500]].concat();
                Op { hlc: Hlc(1), kind: 1, schema: 1, body }
            })
            .collect();
        let batch = self.tills[till].mem.commit(ops);
        self.input(till, Input::Committed(batch));
    }

    /// Opens a link, dialled by `a`, and answers with its number at `a`.
    fn link(&mut self, a: usize, b: usize) -> LinkId {
        let (at_a, at_b) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        self.links.insert(at_a, (a, at_b, b));
        self.links.insert(at_b, (b, at_a, a));
        for (me, link, peer, dialled_by_us) in [(a, at_a, b, true), (b, at_b, a, false)] {
            let (till, boot) = (self.tills[peer].replica.till, self.tills[peer].replica.boot);
            self.input(me, Input::LinkUp { link, till, boot, dialled_by_us });
        }
        at_a
    }

    fn cut(&mut self, link: LinkId) {
        let Some((a, other, b)) = self.links.remove(&link) else { return };
        self.links.remove(&other);
        self.wire.retain(|(l, _)| *l != link && *l != other);
        self.input(a, Input::LinkDown { link });
        self.input(b, Input::LinkDown { link: other });
    }

    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// One step of some store or link; `false` where there is none to make.
    fn step(&mut self) -> bool {
        let tills = self.tills.len();
        let first = if self.random == 0 { 0 } else { usize::try_from(self.next_random()).unwrap() % (3 * tills) };
        for i in (first..3 * tills).chain(0..first) {
            let (till, what) = (i % tills, i / tills);
            let next = match what {
                0 => self.tills[till].writes.pop_front(),
                1 => self.tills[till].reads.pop_front(),
                _ => {
                    if self.step_wire((self.random != 0).then_some(till)) {
                        return true;
                    }
                    None
                }
            };
            if let Some(output) = next {
                self.work(till, output);
                return true;
            }
        }
        false
    }

    /// The next message arrives: of all, or of those that a till sent.
    fn step_wire(&mut self, from: Option<usize>) -> bool {
        let is_from = |link: &LinkId| from.is_none_or(|from| self.links.get(link).is_none_or(|(at, _, _)| *at == from));
        let mine: Vec<LinkId> = self.wire.iter().map(|(link, _)| *link).filter(|link| is_from(link)).collect();
        if mine.is_empty() {
            return false;
        }
        let at = if from.is_none() { 0 } else { usize::try_from(self.next_random()).unwrap() % mine.len() };
        let place = self.wire.iter().position(|(link, _)| *link == mine[at]).unwrap();
        let (link, mut message) = self.wire.remove(place).unwrap();
        if let Some(garble) = self.garble {
            garble(&mut message);
        }
        if let Some((_, other, peer)) = self.links.get(&link).copied()
            && !self.dead.contains(&link)
            && !(self.deaf == Some(link) && matches!(message, Message::Answer(_)))
        {
            self.input(peer, Input::Message { link: other, message });
        }
        true
    }

    fn deliver(&mut self) {
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 300_000, "messages without end");
        }
    }

    /// Lets time pass, from timer to timer.
    fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        let mut steps = 0;
        loop {
            self.deliver();
            steps += 1;
            assert!(steps < 20_000, "timers without end");
            let next = self.tills.iter().filter_map(|t| t.replica.next_tick()).min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            for till in 0..self.tills.len() {
                if self.tills[till].replica.next_tick().is_some_and(|at| at <= self.now) {
                    self.wakes += 1;
                    self.input(till, Input::Tick);
                }
            }
        }
        self.now = end;
    }

    /// All tills have the same logs and the same rows, and their replicas know it.
    fn assert_equal(&self) {
        let first = &self.tills[0];
        for till in &self.tills {
            assert_eq!(till.replica.vector(), till.mem.vector());
            assert_eq!(till.mem.vector(), first.mem.vector());
            assert_eq!(till.mem.closes, first.mem.closes);
            assert!(till.mem.bodies() == first.mem.bodies(), "rows differ");
            assert_eq!(till.replica.origin(), till.mem.own);
        }
    }

    fn count(&self, till: usize, origin_of: usize) -> usize {
        usize::try_from(self.tills[till].mem.head(origin(origin_of)).seq).unwrap()
    }

    /// How many of its rows are on every till.
    fn everywhere(&self) -> usize {
        let sets: Vec<BTreeSet<Vec<u8>>> = self.tills.iter().map(|t| t.mem.bodies().into_iter().collect()).collect();
        sets[0].iter().filter(|body| sets.iter().all(|set| set.contains(*body))).count()
    }

    fn forks(&self) -> usize {
        self.tills.iter().flat_map(|t| &t.events).filter(|e| matches!(e, Event::Fork { .. })).count()
    }
}
