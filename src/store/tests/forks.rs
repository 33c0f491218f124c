//! One origin, two contents: logs end where they part, and all that was sold is on every till, once.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::model::clock::Hlc;
use crate::model::close::{Close, Closes, branch_name};
use crate::model::op::{Body, RunningHash};
use crate::model::roster::Retire;
use crate::model::ticket::Made;
use crate::model::vector::VersionVector;
use crate::sync::Comparison;

pub(super) fn logs(till: &mut Till) -> (VersionVector, Closes) {
    (till.reader().vector().unwrap(), till.reader().closes().unwrap())
}

/// Where the logs of two tills part, found as over a link; and how many probes that took.
pub(super) fn parted(a: &mut Till, b: &mut Till, origin: Origin) -> (Comparison, usize) {
    let readers = [a.reader(), b.reader()];
    let mut marks = Vec::new();
    for probes in 0..20 {
        match readers[probes % 2].compare(origin, &marks).unwrap() {
            Comparison::Narrow(narrower) => marks = narrower,
            found => return (found, probes),
        }
    }
    panic!("no end of probes");
}

/// Links two tills until both hold the same: ends of origins first, then forks, then ops, as the replica does.
pub(super) fn meet(a: &mut Till, b: &mut Till) {
    for _ in 0..30 {
        for _ in 0..2 {
            let closes: Vec<Close> = a.reader().closes().unwrap().iter().collect();
            b.ask(Request::End(closes)).unwrap();
            std::mem::swap(a, b);
        }
        let forked = logs(a).0.0.into_keys().find_map(|origin| match parted(a, b, origin).0 {
            Comparison::Parted(seq) => Some(Close { origin, seq }),
            _ => None,
        });
        if let Some(close) = forked {
            a.ask(Request::End(vec![close])).unwrap();
            continue;
        }
        if logs(a) == logs(b) {
            return;
        }
        a.pull(b, 3);
        b.pull(a, 3);
    }
    panic!("they do not become equal: {:?} {:?}", logs(a), logs(b));
}

fn sold(till: &mut Till) -> BTreeSet<Uuid> {
    let page = till.reader().tickets(&crate::store::TicketQuery { limit: 1000, ..Default::default() }).unwrap();
    page.items.iter().map(|view| view.ticket.id).collect()
}

fn sell(till: &mut Till, ids: impl IntoIterator<Item = u128>) {
    ids.into_iter().for_each(|id| drop(till.sell(id, sale(&[(7, 1)]))));
}

/// Four tills meet in an order until all hold the same.
fn converge(tills: &mut [Till], order: &[(usize, usize)]) {
    for (i, j) in order.iter().cycle().take(3 * order.len()) {
        let [a, b] = tills.get_disjoint_mut([*i, *j]).unwrap();
        meet(a, b);
    }
    let wanted = (logs(&mut tills[0]), digest(&mut tills[0]));
    for till in tills {
        assert_eq!((logs(till), digest(till)), wanted);
    }
}

/// A till whose card was cloned twice, at different times; all sold on. A fourth till has pulled from the first.
fn cloned() -> [Till; 4] {
    let mut a = Till::new(1);
    sell(&mut a, 1..=3);
    let mut early = a.clone_card(11);
    sell(&mut a, 4..=5);
    let mut late = a.clone_card(12);
    sell(&mut a, 6..=8);
    sell(&mut early, 21..=22);
    sell(&mut late, 31..=31);
    let mut peer = Till::new(2);
    peer.pull(&mut a, 2);
    sell(&mut peer, 41..=42);
    [a, early, late, peer]
}

const ORDERS: [&[(usize, usize)]; 4] =
    [&[(0, 1), (1, 2), (2, 3)], &[(0, 2), (2, 1), (1, 3)], &[(3, 2), (3, 1), (3, 0)], &[(1, 3), (2, 3), (0, 1)]];

#[test]
fn branches_of_branches_are_alike_on_all_tills_whoever_meets_first() {
    for order in ORDERS {
        let mut tills = cloned();
        let origin = tills[0].origin();
        converge(&mut tills, order);
        assert_eq!(sold(&mut tills[0]).len(), 3 + 2 + 3 + 2 + 1 + 2);
        assert_eq!(tills[0].stock(7), Quantity::units(-13));
        let closes = tills[0].reader().closes().unwrap();
        assert_eq!(closes.end(origin), Some(3), "the smallest counts");
        let fresh: BTreeSet<Origin> = tills.iter_mut().map(Till::origin).collect();
        assert!(fresh.len() == 4 && !fresh.contains(&origin));
        // They go on, also after a restart.
        tills[0].restart();
        for (till, id) in tills.iter_mut().zip(51..) {
            let ticket = till.sell(id, sale(&[(7, 1)])).ticket;
            assert!(ticket.number.contains(&till.origin().short()));
            assert_ne!(ticket.previous, [0; 32], "the chain goes on");
        }
        converge(&mut tills, order);
        assert_eq!(sold(&mut tills[1]).len(), 17);
        assert!(digest(&mut tills[1]).iter().all(|row| !row.starts_with("flag") && !row.starts_with("unchained")));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn the_order_of_meetings_does_not_matter(order in prop::collection::vec((0usize..4, 0usize..4), 1..6)) {
        let mut order: Vec<_> = order.into_iter().filter(|(i, j)| i != j).collect();
        order.extend([(0, 1), (1, 2), (2, 3)]);
        let mut tills = cloned();
        converge(&mut tills, &order);
        prop_assert_eq!(sold(&mut tills[0]).len(), 13);
        prop_assert_eq!(tills[3].stock(7), Quantity::units(-13));
    }
}

#[test]
fn logs_without_a_common_op_end_at_nothing() {
    let mut tills = [Till::new(1), Till::new(1), Till::new(3)];
    let origin = tills[0].origin();
    assert_eq!(tills[1].origin(), origin);
    sell(&mut tills[0], [1, 2]);
    sell(&mut tills[1], [3]);
    tills[1].db().entropy = Box::new(Seeded(99));
    converge(&mut tills, &[(0, 1), (1, 2)]);
    let (vector, closes) = logs(&mut tills[2]);
    assert_eq!((closes.end(origin), vector.seq(origin), vector.0.len()), (Some(0), 0, 2));
    assert_eq!(sold(&mut tills[2]).len(), 3);
    // What is offered of it is ignored.
    let made = Made { till: TillId([9; 16]), pos_id: "X".into(), at_ms: NOON, clock: ClockQuality::Trusted };
    let op = Body::Retire(Retire { till: TillId([9; 16]), made }).to_op(Hlc::from_ms(NOON));
    let batch = OpBatch { origin, before: Head::default(), ops: vec![op] };
    let reply = tills[2].ask(Request::Apply(batch)).unwrap();
    assert_eq!(reply, Reply::Applied { origin, head: Head::default(), held: 0 });
    assert_eq!(logs(&mut tills[2]).0, vector);
}

#[test]
fn an_end_cuts_names_and_tells() {
    let mut till = Till::new(1);
    sell(&mut till, 1..=5);
    let origin = till.origin();
    let ops = till.ops(origin, 1).unwrap();
    let hashes = till.reader().hashes(origin, 1, 100).unwrap();
    let close = Close { origin, seq: 3 };
    let done = till.execute(vec![
        Request::Sell { id: uuid(6), sale: sale(&[(7, 1)]) },
        Request::End(vec![close]),
        Request::Sell { id: uuid(7), sale: sale(&[(7, 1)]) },
        Request::End(vec![Close { origin, seq: 4 }]),
    ]);
    let fresh = till.origin();
    assert_eq!(done.committed.origin, Some(fresh));
    let local = done.committed.local.unwrap();
    assert_eq!((local.origin, local.before, local.ops.len()), (fresh, Head::default(), 1));
    let name = branch_name(close, hashes[3]);
    let now = done.committed.logs.unwrap();
    assert_eq!(done.committed.heads, []);
    assert_eq!((now.vector.clone(), now.closes.clone()), logs(&mut till));
    assert_eq!((now.vector.seq(origin), now.vector.seq(name), now.vector.seq(fresh)), (3, 3, 1));
    assert_eq!(now.closes.end(origin), Some(3), "the smallest counts");
    assert_eq!(till.ops(origin, 1).unwrap(), OpBatch { ops: ops.ops[..3].to_vec(), ..ops.clone() });
    let branch = till.ops(name, 1).unwrap();
    assert_eq!((branch.before, &branch.ops[..2]), (Head { seq: 0, hash: hashes[2] }, &ops.ops[3..]));
    assert_eq!(branch.after(), now.vector.head(name));
    // What is beyond the end is ignored, what is up to there is not.
    let mut peer = Till::new(2);
    peer.ask(Request::End(vec![close])).unwrap();
    let head = ops.before.after_all(&ops.ops[..3]);
    assert_eq!(peer.ask(Request::Apply(ops.clone())), Ok(Reply::Applied { origin, head, held: 0 }));
    let beyond = OpBatch { origin, before: head, ops: ops.ops[3..].to_vec() };
    assert_eq!(peer.ask(Request::Apply(beyond)), Ok(Reply::Applied { origin, head, held: 0 }));
    assert_eq!(peer.head(origin), head);
    // Once more changes nothing, and tells nothing.
    let again = peer.execute(vec![Request::End(vec![close])]);
    assert_eq!((again.committed.logs, again.committed.origin), (None, None));
}

#[test]
fn an_origin_that_a_peer_has_more_of_is_left_once() {
    let mut till = Till::new(1);
    let former = till.origin();
    let done = till.execute(vec![
        Request::Sell { id: uuid(1), sale: sale(&[(7, 1)]) },
        Request::LeaveOrigin(former),
        Request::Sell { id: uuid(2), sale: sale(&[(7, 1)]) },
    ]);
    let fresh = till.origin();
    assert_eq!(done.committed.origin, Some(fresh));
    assert_eq!(done.committed.local.map(|batch| batch.origin), Some(fresh));
    assert_eq!(done.committed.heads, [(former, till.head(former))], "told as another's");
    let again = till.execute(vec![Request::LeaveOrigin(former)]);
    assert_eq!((again.committed.origin, till.origin()), (None, fresh));
    // An end beyond all that is here ends it as well: the ops up to there are elsewhere.
    till.ask(Request::End(vec![Close { origin: fresh, seq: 9 }])).unwrap();
    assert_ne!(till.origin(), fresh);
    till.restart();
    assert_ne!(till.origin(), fresh);
}

#[test]
fn a_branch_that_is_here_by_its_name_is_joined_with_what_is_cut() {
    // The branch came under its name, shorter or longer than what the cut finds under the former one.
    for (told, here) in [(2, 4), (4, 2), (3, 3)] {
        let mut a = Till::new(1);
        sell(&mut a, 1..=7);
        let origin = a.origin();
        let whole = a.ops(origin, 1).unwrap();
        let close = Close { origin, seq: 3 };
        let common = whole.before.after_all(&whole.ops[..3]);
        let first = common.after_all(&whole.ops[3..4]).hash;
        let name = branch_name(close, first);
        let mut till = Till::new(2);
        let branch =
            OpBatch { origin: name, before: Head { seq: 0, hash: common.hash }, ops: whole.ops[3..3 + told].to_vec() };
        till.ask(Request::Apply(branch)).unwrap();
        till.ask(Request::Apply(OpBatch { ops: whole.ops[..3 + here].to_vec(), ..whole.clone() })).unwrap();
        till.ask(Request::End(vec![close])).unwrap();
        assert_eq!(till.ops(name, 1).unwrap().ops, whole.ops[3..3 + told.max(here)]);
        assert_eq!(till.head(name).seq, told.max(here) as u64);
        assert_eq!(sold(&mut till).len(), 3 + told.max(here));
        till.restart();
    }
}

/// A log of many ops that cost little, the same up to some place in all logs of that length.
pub(super) fn long(n: u64, parts_after: u64, branch: u64) -> OpBatch {
    let op = |seq: u64| {
        let at_ms = if seq > parts_after { NOON + branch } else { NOON };
        let made = Made { till: TillId([9; 16]), pos_id: "POS-9".into(), at_ms, clock: ClockQuality::Trusted };
        Body::Retire(Retire { till: TillId([9; 16]), made }).to_op(Hlc::from_ms(NOON + seq))
    };
    OpBatch { origin: Origin(9), before: Head::default(), ops: (1..=n).map(op).collect() }
}

#[test]
fn the_place_where_long_logs_part_is_found_in_few_steps() {
    const OPS: u64 = 5_000;
    for (ours, theirs, parts_after) in
        [(OPS, OPS, 0), (OPS, OPS, 1), (OPS, 4_000, 2_345), (OPS, 900, 899), (OPS, OPS, OPS - 1)]
    {
        let mut tills = [Till::new(1), Till::new(2)];
        for (till, n, branch) in [(0, ours, 1), (1, theirs, 2)] {
            tills[till].ask(Request::Apply(long(n, parts_after, branch))).unwrap();
        }
        for (a, b) in [(0, 1), (1, 0)] {
            let [a, b] = tills.get_disjoint_mut([a, b]).unwrap();
            let (found, probes) = parted(a, b, Origin(9));
            assert_eq!(found, Comparison::Parted(parts_after));
            assert!(probes <= 4, "{probes}");
        }
    }
    let mut tills = [Till::new(1), Till::new(2)];
    tills[0].ask(Request::Apply(long(OPS, OPS, 1))).unwrap();
    tills[1].ask(Request::Apply(long(700, 700, 1))).unwrap();
    for (a, b) in [(0, 1), (1, 0)] {
        let [a, b] = tills.get_disjoint_mut([a, b]).unwrap();
        let (found, probes) = parted(a, b, Origin(9));
        assert!(found == Comparison::Same && probes <= 4, "{found:?} {probes}");
    }
    assert_eq!(tills[0].reader().compare(Origin(8), &[]).unwrap(), Comparison::Unknown);
    let elsewhere = Head { seq: 1, hash: RunningHash([1; 8]) };
    assert_eq!(tills[0].reader().compare(Origin(9), &[elsewhere]).unwrap(), Comparison::Parted(0));
}
