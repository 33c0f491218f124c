//! Two branches of one log: restored backups, cloned cards, and how tills that meet them agree.

use super::*;
use crate::model::vector::VersionVector;

/// Till 0 has sold and is copied to a till 2, and both sell on by themselves.
fn clones(copied: usize, sold: [usize; 2]) -> Shop {
    let mut shop = Shop::new(2);
    shop.sell(0, copied);
    let copy = shop.tills[0].mem.clone();
    shop.add_with(copy, 0, true);
    shop.sell(0, sold[0]);
    shop.sell(2, sold[1]);
    shop
}

#[test]
fn clones_that_both_sold_meet() {
    for (copied, sold) in [(200, [30, 7]), (0, [3, 4]), (1, [1, 1]), (64, [2, 700])] {
        let mut shop = clones(copied, sold);
        shop.link(0, 2);
        shop.link(1, 2);
        shop.run(5_000);
        shop.assert_equal();
        assert_eq!(shop.everywhere(), copied + sold[0] + sold[1]);
        assert!(shop.forks() > 0);
        let closes = shop.tills[0].mem.closes.clone();
        assert_eq!(closes.iter().collect::<Vec<_>>(), [Close { origin: origin(0), seq: copied as u64 }]);
        for till in [0, 2] {
            assert_ne!(shop.tills[till].mem.own, origin(0), "never written under again");
            shop.sell(till, 1);
        }
        shop.run(2_000);
        shop.assert_equal();
    }
}

#[test]
fn clones_that_never_meet_are_seen_where_their_branches_do() {
    for order in [[(0, 1), (1, 2)], [(1, 2), (0, 1)]] {
        let mut shop = clones(20, [5, 300]);
        for (a, b) in order {
            shop.link(a, b);
            shop.run(3_000);
        }
        shop.run(3_000);
        shop.assert_equal();
        assert_eq!(shop.everywhere(), 325);
    }
}

/// One branch goes on beyond the other before they meet: the head of the short one is a place below the head of the long one.
#[test]
fn a_branch_is_seen_by_a_head_below_ours() {
    let mut shop = clones(20, [300, 1]);
    shop.link(0, 1);
    shop.run(3_000);
    shop.link(1, 2);
    shop.run(5_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 321);
}

#[test]
fn both_clones_die_and_nothing_is_lost() {
    let mut shop = Shop::new(4);
    shop.sell(0, 50);
    let copy = shop.tills[0].mem.clone();
    let clone = shop.add_with(copy, 0, true);
    shop.sell(0, 10);
    shop.sell(clone, 20);
    for (a, b) in [(0, 1), (clone, 2)] {
        let link = shop.link(a, b);
        shop.run(3_000);
        shop.cut(link);
    }
    shop.tills.remove(clone);
    shop.tills.remove(0);
    shop.links.clear();
    // Tills 1, 2 and 3 are left, as 0, 1 and 2, in a line.
    shop.link(0, 2);
    shop.link(2, 1);
    shop.run(5_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 80);
}

#[test]
fn many_branches_become_logs_of_their_own() {
    let mut shop = Shop::new(1);
    shop.sell(0, 10);
    for i in 1..6 {
        let copy = shop.tills[i / 2].mem.clone();
        shop.add_with(copy, 0, true);
        (0..=i).for_each(|till| shop.sell(till, 3));
    }
    for i in 0..5 {
        shop.link(i, i + 1);
        shop.run(1_000);
    }
    shop.run(10_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 10 + 3 * (2 + 3 + 4 + 5 + 6));
}

#[test]
fn an_own_origin_that_is_ahead_elsewhere_is_left_at_once() {
    let mut shop = Shop::new(3);
    shop.sell(0, 5);
    let backup = shop.tills[0].mem.clone();
    shop.sell(0, 40);
    shop.link(0, 1);
    shop.run(1_000);
    shop.restart(0, Some(backup));
    shop.link(0, 1);
    shop.deliver();
    assert_ne!(shop.tills[0].mem.own, origin(0));
    shop.sell(0, 2);
    shop.run(3_000);
    assert!(shop.tills[0].events.iter().any(|e| matches!(e, Event::OwnOriginAhead { .. })));
    assert_eq!(shop.forks(), 0);
    shop.link(1, 2);
    shop.run(2_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 47);
    assert!(shop.tills[0].mem.closes.0.is_empty(), "nothing was written twice");
}

/// A restored till sells before it meets anybody, then meets the till that had its lost sales.
#[test]
fn a_restored_backup_that_has_sold_is_a_fork() {
    let mut shop = Shop::new(2);
    shop.sell(0, 5);
    let backup = shop.tills[0].mem.clone();
    shop.sell(0, 40);
    shop.link(0, 1);
    shop.run(1_000);
    shop.restart(0, Some(backup));
    shop.sell(0, 3);
    shop.link(0, 1);
    shop.run(5_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 48);
    assert_eq!(shop.tills[1].mem.closes.end(origin(0)), Some(5));
}

/// A restored till that meets only a till which has nothing of it hears there what it said itself.
#[test]
fn what_we_said_ourselves_shows_that_we_lost_it() {
    let mut shop = Shop::new(3);
    shop.sell(0, 5);
    let backup = shop.tills[0].mem.clone();
    shop.sell(0, 40);
    let link = shop.link(0, 1);
    shop.run(1_000);
    shop.cut(link);
    // Till 2 cannot store what it hears of, but knows who holds it.
    shop.tills[2].mem.broken = true;
    let link = shop.link(1, 2);
    shop.run(1_000);
    shop.cut(link);
    shop.restart(0, Some(backup));
    shop.link(0, 2);
    shop.deliver();
    assert_ne!(shop.tills[0].mem.own, origin(0));
}

#[test]
fn closes_are_told_before_the_heads_that_build_on_them() {
    let mut shop = clones(20, [5, 6]);
    shop.link(0, 2);
    shop.run(5_000);
    let link = shop.link(0, 1);
    let first = shop.wire.iter().find(|(at, _)| *at == link).map(|(_, message)| message.clone());
    assert!(matches!(first, Some(Message::Closes(closes)) if closes.len() == 1));
    let (sent, forks) = (shop.ops_sent, shop.forks());
    shop.run(3_000);
    shop.link(1, 2);
    shop.run(1_000);
    shop.assert_equal();
    assert_eq!(shop.ops_sent - sent, 31, "nothing is pulled twice");
    assert_eq!(shop.forks(), forks, "a known fork is no news");
}

#[test]
fn a_store_that_cannot_end_an_origin_is_asked_again() {
    let mut shop = clones(20, [5, 6]);
    shop.tills[0].mem.broken = true;
    shop.link(0, 2);
    shop.run(3_000);
    let vector = shop.tills[0].replica.vector();
    assert_eq!(vector.seq(origin(0)), 25, "not before it is durable");
    shop.tills[0].mem.broken = false;
    shop.link(1, 2);
    shop.run(10_000);
    shop.assert_equal();
}

#[test]
fn a_probe_that_is_not_answered_is_asked_again() {
    let mut shop = clones(50, [5, 6]);
    shop.link(0, 2);
    shop.deliver_some(|message| !matches!(message, Message::Probe { .. }));
    assert_eq!(shop.tills[0].mem.closes.0.len(), 0);
    shop.link(1, 2);
    shop.run(15_000);
    shop.assert_equal();
}

#[test]
fn in_a_healthy_mesh_nothing_is_compared_by_the_store() {
    let mut shop = Shop::new(4);
    for a in 0..4 {
        for b in a + 1..4 {
            shop.link(a, b);
        }
    }
    for round in 0..400usize {
        shop.sell(round % 4, 1 + round % 3);
        if round % 3 == 0 {
            shop.run(40);
        }
    }
    shop.run(3_000);
    shop.assert_equal();
    assert_eq!(shop.compared, 0);
}

/// One commit applied ops and cut them off again: its two pieces of news come in either order.
#[test]
fn a_head_that_was_cut_off_again_is_not_believed() {
    let mut shop = Shop::new(1);
    let head = |seq: u64| Head { seq, hash: RunningHash([u8::try_from(seq).unwrap(); 8]) };
    let foreign = Origin(77);
    shop.input(0, Input::Applied { origin: foreign, head: head(40) });
    let vector: VersionVector = [(foreign, head(50)), (Origin(78), head(10))].into_iter().collect();
    let closes: Closes = [Close { origin: foreign, seq: 50 }].into_iter().collect();
    shop.input(0, Input::Logs { vector: vector.clone(), closes });
    shop.input(0, Input::Applied { origin: foreign, head: head(60) });
    shop.input(0, Input::NotApplied { origin: foreign, head: Some(head(60)) });
    shop.input(0, Input::NotApplied { origin: Origin(78), head: Some(head(3)) });
    assert_eq!(shop.tills[0].replica.vector(), vector);
}

/// A peer that has not heard of an end yet offers what is beyond it.
#[test]
fn what_is_beyond_an_end_is_not_pulled() {
    let foreign = Origin(77);
    let mut peer = Mem::new(1, foreign);
    let ops = (0..10).map(|n| Op { hlc: Hlc(1), kind: 1, schema: 1, body: vec![n] }).collect();
    let batch = peer.commit(ops);
    let mut shop = Shop::new(1);
    shop.tills[0].mem.closes = [Close { origin: foreign, seq: 5 }].into_iter().collect();
    shop.restart(0, None);
    let replica = &mut shop.tills[0].replica;
    let link = LinkId(1);
    replica.handle(0, Input::LinkUp { link, till: TillId([9; 16]), boot: BootId(99), dialled_by_us: true });
    let have = Message::Have(vec![(foreign, batch.after())]);
    let outputs = replica.handle(0, Input::Message { link, message: have });
    let is_want = |o: &Output| matches!(o, Output::Send { message: Message::Want { .. }, .. });
    assert!(outputs.iter().any(is_want));
    assert_eq!(replica.peers().next().map(|p| p.behind), Some(5));
    let outputs = replica.handle(0, Input::Message { link, message: Message::Ops(batch.clone()) });
    let [Output::Apply(applied)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(applied.ops, batch.ops[..5]);
    let outputs = replica.handle(0, Input::Applied { origin: foreign, head: applied.after() });
    assert_eq!(outputs, [], "no more is asked for");
    assert_eq!(replica.peers().next().map(|p| p.behind), Some(0));
}

/// The store looks at a log, which is cut before the replica hears what it found.
#[test]
fn what_was_found_of_a_log_that_has_changed_since_is_void() {
    let head = |seq: u64, n: u8| Head { seq, hash: RunningHash([n; 8]) };
    let foreign = Origin(77);
    let mut shop = Shop::new(1);
    let replica = &mut shop.tills[0].replica;
    let link = LinkId(1);
    replica.handle(0, Input::LinkUp { link, till: TillId([9; 16]), boot: BootId(99), dialled_by_us: true });
    replica.handle(0, Input::Applied { origin: foreign, head: head(40, 1) });
    let mut have = |seq, n| {
        let message = Message::Have(vec![(foreign, head(seq, n))]);
        shop.tills[0].replica.handle(0, Input::Message { link, message })
    };
    let asked = |outputs: Vec<Output>, mark| {
        let compare = Output::Compare { link, origin: foreign, marks: vec![mark] };
        outputs.contains(&compare)
    };
    assert!(asked(have(20, 2), head(20, 2)));
    let vector: VersionVector = [(foreign, head(30, 3))].into_iter().collect();
    let closes: Closes = [Close { origin: foreign, seq: 30 }].into_iter().collect();
    shop.tills[0].replica.handle(0, Input::Logs { vector, closes });
    let same = Input::Compared { link, origin: foreign, found: Comparison::Same };
    assert!(asked(shop.tills[0].replica.handle(0, same.clone()), head(20, 2)), "looked at again");
    let parted = Input::Compared { link, origin: foreign, found: Comparison::Parted(7) };
    let end = Output::End(vec![Close { origin: foreign, seq: 7 }]);
    assert!(shop.tills[0].replica.handle(0, parted).contains(&end));
}

impl Shop {
    /// Delivers only some of the messages; the others are lost.
    fn deliver_some(&mut self, passes: impl Fn(&Message) -> bool) {
        for _ in 0..10_000 {
            self.wire.retain(|(_, message)| passes(message));
            if !self.step() {
                return;
            }
        }
        panic!("messages without end");
    }
}
