//! A few tills in memory, under a virtual clock. The messages of a link arrive in order, links come and go.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::model::clock::Hlc;
use crate::model::op::Op;
use crate::model::vector::VersionVector;

struct Till {
    replica: Replica,
    logs: BTreeMap<Origin, Vec<Op>>,
    /// The head after each op of `logs`, so that long logs are not hashed again.
    heads: BTreeMap<Origin, Vec<Head>>,
    events: Vec<Event>,
    /// The store refuses to apply, as on a full disk.
    broken: bool,
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
    next_body: u32,
    ops_sent: u64,
    messages: u64,
}

impl Till {
    fn head_after(&mut self, origin: Origin, count: usize) -> Head {
        let heads = self.heads.entry(origin).or_default();
        for op in &self.logs[&origin][heads.len().min(count)..count] {
            let last = heads.last().copied().unwrap_or_default();
            heads.push(last.after_all(std::slice::from_ref(op)));
        }
        count.checked_sub(1).map_or_else(Head::default, |last| heads[last])
    }
}

fn origin(till: usize) -> Origin {
    Origin(till as u64 + 1)
}

impl Shop {
    fn new(n: usize) -> Self {
        let mut shop = Self::default();
        (0..n).for_each(|_| shop.add(true));
        shop
    }

    fn add(&mut self, auto_sync: bool) {
        let i = self.tills.len();
        let till = TillId([u8::try_from(i).unwrap(); 16]);
        let options = ReplicaOptions {
            till,
            boot: BootId(i as u64),
            origin: origin(i),
            heads: VersionVector::default(),
            auto_sync,
            acks: BTreeMap::new(),
            closes: Closes::default(),
            level: 1,
            stamp: 1,
            started: 0,
            uncovered: 0,
        };
        let replica = Replica::new(options);
        self.tills.push(Till { replica, logs: BTreeMap::new(), heads: BTreeMap::new(), events: vec![], broken: false });
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
                self.wire.push_back((link, message));
            }
            Output::Apply(batch) => self.apply(till, batch),
            Output::Read { link, origin, from, bytes_max } => {
                let start = usize::try_from(from).unwrap() - 1;
                let before = self.tills[till].head_after(origin, start);
                let log = &self.tills[till].logs[&origin];
                let mut bytes = 0;
                let fits = |op: &&Op| {
                    bytes += op.wire_len();
                    bytes <= bytes_max || bytes == op.wire_len()
                };
                let ops = log[start..].iter().take(BATCH_OPS_MAX).take_while(fits).cloned().collect();
                self.input(till, Input::Read { link, origin, batch: Some(OpBatch { origin, before, ops }) });
            }
            Output::Close { link, .. } => self.cut(link),
            Output::Event(event) => self.tills[till].events.push(event),
        }
    }

    fn apply(&mut self, till: usize, batch: OpBatch) {
        let broken = self.tills[till].broken;
        let log = self.tills[till].logs.entry(batch.origin).or_default();
        let len = log.len();
        let head = self.tills[till].head_after(batch.origin, len);
        if broken || head != batch.before {
            self.input(till, Input::NotApplied { origin: batch.origin, head: (!broken).then_some(head) });
            return;
        }
        let head = batch.after();
        self.tills[till].logs.entry(batch.origin).or_default().extend(batch.ops);
        self.input(till, Input::Applied { origin: batch.origin, head });
    }

    fn sell(&mut self, till: usize, count: usize) {
        let len = self.tills[till].logs.entry(origin(till)).or_default().len();
        let before = self.tills[till].head_after(origin(till), len);
        let ops: Vec<Op> = (0..count)
            .map(|_| {
                self.next_body += 1;
                let body = [self.next_body.to_be_bytes().to_vec(), vec![7; 500]].concat();
                Op { hlc: Hlc(1), kind: 1, schema: 1, body }
            })
            .collect();
        self.tills[till].logs.entry(origin(till)).or_default().extend(ops.clone());
        self.input(till, Input::Committed(OpBatch { origin: origin(till), before, ops }));
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

    fn deliver(&mut self) {
        let mut steps = 0;
        while let Some((link, message)) = self.wire.pop_front() {
            steps += 1;
            assert!(steps < 100_000, "messages without end");
            if let Some((_, other, peer)) = self.links.get(&link).copied()
                && !self.dead.contains(&link)
            {
                self.input(peer, Input::Message { link: other, message });
            }
        }
    }

    /// Lets time pass, from timer to timer.
    fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        let mut steps = 0;
        loop {
            self.deliver();
            steps += 1;
            assert!(steps < 10_000, "timers without end");
            let next = self.tills.iter().filter_map(|t| t.replica.next_tick()).min();
            let Some(next) = next.filter(|at| *at <= end) else { break };
            self.now = self.now.max(next);
            for till in 0..self.tills.len() {
                if self.tills[till].replica.next_tick().is_some_and(|at| at <= self.now) {
                    self.input(till, Input::Tick);
                }
            }
        }
        self.now = end;
    }

    fn assert_equal(&self) {
        for till in &self.tills[1..] {
            assert_eq!(till.replica.vector(), self.tills[0].replica.vector());
            assert_eq!(till.logs, self.tills[0].logs);
        }
    }

    fn count(&self, till: usize, origin_of: usize) -> usize {
        self.tills[till].logs.get(&origin(origin_of)).map_or(0, Vec::len)
    }
}

#[test]
fn a_full_mesh_carries_each_op_once_per_link_and_at_once() {
    let mut shop = Shop::new(4);
    for (a, b) in [(0, 1), (2, 0), (0, 3), (1, 2), (3, 1), (2, 3)] {
        shop.link(a, b);
    }
    shop.deliver();
    for round in 0..10 {
        shop.sell(round % 4, 1 + round % 3);
        shop.deliver();
        shop.assert_equal();
        shop.run(100);
    }
    shop.run(3_000);
    assert_eq!(shop.ops_sent, 3 * shop.tills[0].replica.vector().0.values().map(|h| h.seq).sum::<u64>());
    assert!(shop.tills.iter().all(|t| t.replica.duplicates() == 0));
    assert_eq!(shop.tills[0].replica.held_elsewhere(), shop.count(0, 0) as u64);
}

#[test]
fn an_idle_mesh_says_little() {
    let mut shop = Shop::new(3);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        shop.link(a, b);
    }
    shop.sell(0, 5);
    shop.run(5_000);
    let before = shop.messages;
    shop.run(60_000);
    assert!(shop.tills.iter().all(|t| t.replica.peers().all(|p| p.round_trip_ms.is_some())));
    // Three links, a ping and a pong each way at most every three seconds.
    assert!(shop.messages - before <= 3 * 2 * 2 * 20, "{}", shop.messages - before);
    assert!(shop.messages > before);
}

#[test]
fn catch_up_by_pull_is_bounded_and_complete() {
    let mut shop = Shop::new(2);
    shop.sell(0, 5_000);
    shop.sell(1, 3_000);
    shop.link(0, 1);
    shop.run(2_000);
    shop.assert_equal();
    assert_eq!(shop.ops_sent, 8_000, "each op once");
    shop.sell(0, 1);
    shop.deliver();
    assert_eq!(shop.count(1, 0), 5_001, "live again after catch-up");
}

#[test]
fn a_line_relays_within_two_seconds() {
    let mut shop = Shop::new(3);
    shop.link(0, 1);
    shop.link(1, 2);
    shop.run(1_000);
    for _ in 0..5 {
        shop.sell(0, 1);
        shop.sell(2, 2);
        shop.run(2_000);
        shop.assert_equal();
    }
}

#[test]
fn a_partition_heals() {
    let mut shop = Shop::new(5);
    let mut between = vec![];
    for a in 0..5 {
        for b in a + 1..5 {
            let link = shop.link(a, b);
            if a < 2 && b >= 2 {
                between.push((a, b, link));
            }
        }
    }
    shop.run(1_000);
    for (_, _, link) in &between {
        shop.cut(*link);
    }
    (0..5).for_each(|till| shop.sell(till, 40));
    shop.run(5_000);
    assert_eq!(shop.count(4, 0), 0);
    for (a, b, _) in between {
        shop.link(a, b);
    }
    shop.run(2_000);
    shop.assert_equal();
}

#[test]
fn both_sides_dial_and_one_link_stays() {
    let mut shop = Shop::new(2);
    shop.link(0, 1);
    shop.link(1, 0);
    shop.link(1, 0);
    shop.run(100);
    assert_eq!(shop.links.len() / 2, 1);
    let dialler = shop.links.values().map(|(a, _, _)| *a).min();
    assert_eq!(dialler, Some(0), "the one that the smaller till id dialled");
    assert!(!shop.tills[0].events.iter().any(|e| matches!(e, Event::PeerGone(_))));
    shop.sell(1, 1);
    shop.deliver();
    shop.assert_equal();
}

#[test]
fn two_links_dialled_by_one_side_become_one() {
    let mut shop = Shop::new(2);
    shop.link(1, 0);
    shop.link(1, 0);
    shop.run(100);
    assert_eq!(shop.links.len() / 2, 1);
}

#[test]
fn we_know_ourselves_by_boot_id() {
    let mut shop = Shop::new(1);
    let (till, boot) = (shop.tills[0].replica.till, shop.tills[0].replica.boot);
    let out = shop.tills[0].replica.handle(0, Input::LinkUp { link: LinkId(9), till, boot, dialled_by_us: true });
    assert_eq!(out, [Output::Close { link: LinkId(9), reason: CloseReason::Ourselves }]);
}

#[test]
fn a_silent_peer_is_dead_within_ten_seconds() {
    let mut shop = Shop::new(2);
    let link = shop.link(0, 1);
    shop.run(60_000);
    assert_eq!(shop.links.len(), 2, "a living one stays");
    let other = shop.links[&link].1;
    shop.dead = vec![link, other];
    shop.run(10_000);
    assert!(shop.links.is_empty());
    assert!(shop.tills[0].events.contains(&Event::PeerGone(shop.tills[1].replica.till)));
}

#[test]
fn a_new_run_replaces_a_dead_link_in_a_second() {
    let mut shop = Shop::new(2);
    let old = shop.link(0, 1);
    shop.deliver();
    shop.dead = vec![old, shop.links[&old].1];
    shop.tills[1].replica.boot = BootId(77);
    shop.link(0, 1);
    shop.run(1_500);
    assert!(!shop.links.contains_key(&old));
    assert_eq!(shop.links.len(), 2);
}

#[test]
fn a_stalled_source_is_changed() {
    let mut shop = Shop::new(3);
    shop.sell(0, 2_000);
    let first = shop.link(0, 1);
    shop.run(2_000);
    shop.cut(first);
    let stalled = shop.link(0, 2);
    shop.link(1, 2);
    // What till 0 says still arrives in part: its Have did, its ops do not.
    shop.wire.retain(|(link, message)| *link != stalled || matches!(message, Message::Have(_)));
    shop.deliver_except_ops_from(stalled);
    shop.dead = vec![stalled];
    shop.run(8_000);
    assert_eq!(shop.count(2, 0), 2_000);
}

impl Shop {
    fn deliver_except_ops_from(&mut self, link: LinkId) {
        let batch = std::mem::take(&mut self.wire);
        for (at, message) in batch {
            if let Some((_, other, peer)) = self.links.get(&at).copied()
                && !(at == link && matches!(message, Message::Ops(_)))
            {
                self.input(peer, Input::Message { link: other, message });
            }
        }
        self.wire.retain(|(l, m)| *l != link || !matches!(m, Message::Ops(_)));
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let mut shop = Shop::new(2);
    shop.link(0, 1);
    shop.deliver();
    shop.tills[1].broken = true;
    shop.sell(0, 3);
    shop.run(5_000);
    assert_eq!(shop.count(1, 0), 0);
    assert_eq!(shop.tills[0].replica.held_elsewhere(), 0, "not acknowledged");
    shop.tills[1].broken = false;
    shop.run(3_000);
    shop.assert_equal();
}

#[test]
fn a_slow_peer_is_not_pushed_to_beyond_the_window() {
    let mut shop = Shop::new(2);
    let link = shop.link(0, 1);
    shop.deliver();
    let mut waiting = 0;
    for _ in 0..2_000 {
        shop.sell(0, 1);
    }
    for (on, message) in &shop.wire {
        if let (true, Message::Ops(batch)) = (*on == link, message) {
            waiting += batch.wire_len();
        }
    }
    assert!(waiting > 0 && waiting <= WINDOW_BYTES as usize, "{waiting}");
    shop.run(3_000);
    shop.assert_equal();
}

#[test]
fn without_auto_sync_ops_are_exchanged_on_demand_only() {
    let mut shop = Shop::new(1);
    shop.add(false);
    shop.link(0, 1);
    shop.sell(0, 3);
    shop.sell(1, 2);
    shop.run(5_000);
    assert_eq!((shop.count(0, 1), shop.count(1, 0)), (0, 0));
    for round in 1..=2u64 {
        shop.input(1, Input::SyncNow);
        shop.run(3_000);
        shop.assert_equal();
        let synced: Vec<&Event> = shop.tills[1].events.iter().filter(|e| matches!(e, Event::Synced { .. })).collect();
        assert_eq!(synced.len() as u64, round);
        assert_eq!(synced.last(), Some(&&Event::Synced { received: if round == 1 { 3 } else { 4 }, complete: true }));
        shop.sell(0, 4);
        shop.sell(1, 4);
        shop.run(3_000);
        assert_eq!(shop.count(1, 0), if round == 1 { 3 } else { 7 });
    }
    assert_eq!(shop.links.len(), 2, "the link stays");
}

#[test]
fn a_new_origin_is_pushed_like_the_first() {
    let mut shop = Shop::new(2);
    shop.link(0, 1);
    shop.sell(0, 1);
    shop.run(2_000);
    let fresh = Origin(99);
    shop.input(0, Input::Origin(fresh));
    let op = Op { hlc: Hlc(2), kind: 1, schema: 1, body: vec![5] };
    shop.tills[0].logs.insert(fresh, vec![op.clone()]);
    shop.input(0, Input::Committed(OpBatch { origin: fresh, before: Head::default(), ops: vec![op] }));
    shop.deliver();
    shop.assert_equal();
    assert_eq!(shop.tills[1].replica.head(fresh).seq, 1);
}

#[test]
fn a_fork_is_seen_and_left_alone() {
    let mut shop = Shop::new(3);
    shop.sell(0, 2);
    // A copy of till 0's database goes on by itself.
    shop.tills[2].logs = shop.tills[0].logs.clone();
    let forged = Op { hlc: Hlc(9), kind: 1, schema: 1, body: vec![1] };
    let mut branch = shop.tills[0].logs[&origin(0)].clone();
    branch.push(forged);
    shop.sell(0, 1);
    shop.tills[2].logs.insert(origin(0), branch.clone());
    let head = Head::default().after_all(&branch);
    shop.input(2, Input::Applied { origin: origin(0), head });
    shop.link(0, 1);
    shop.run(1_000);
    shop.sell(1, 1);
    shop.link(1, 2);
    shop.run(3_000);
    assert!(shop.tills[1].events.iter().any(|e| matches!(e, Event::Fork { .. })));
    assert_eq!(shop.count(1, 0), 3);
    assert_eq!(shop.count(2, 1), 1, "other origins go on");
}

#[test]
fn tills_tell_of_others() {
    let mut shop = Shop::new(2);
    let known = vec![KnownPeer { till: TillId([9; 16]), address: "10.0.0.9:3030".into() }];
    shop.input(0, Input::Known(known.clone()));
    shop.link(0, 1);
    shop.deliver();
    assert!(shop.tills[1].events.contains(&Event::PeersTold(known)));
}
