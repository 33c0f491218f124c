//! Snapshots: new tills, cut in the middle, givers that die, damage; and what they leave behind.

use super::*;

/// A till that has sold `sold` and compacted all but the last few, and an empty one.
fn compacted(sold: usize) -> Shop {
    let mut shop = Shop::new(2);
    shop.sell(0, sold);
    shop.tills[0].mem.compact(origin(0), sold as u64 - 5);
    shop
}

impl Shop {
    /// Goes on until a till has taken rows of a snapshot, and not all.
    fn run_into_snapshot(&mut self, till: usize) {
        for _ in 0..10_000 {
            if self.tills[till].mem.uncovered() > 20 {
                return;
            }
            if !self.step() {
                self.run(1);
            }
        }
        panic!("no snapshot is taken");
    }

    fn over(&self, till: usize) -> Vec<bool> {
        let over = |e: &Event| if let Event::SnapshotOver { complete } = e { Some(*complete) } else { None };
        self.tills[till].events.iter().filter_map(over).collect()
    }
}

#[test]
fn a_new_till_gets_a_snapshot_and_then_sells_like_the_others() {
    let mut shop = compacted(300);
    shop.link(0, 1);
    shop.run(3_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 300);
    assert_eq!((shop.over(1), shop.ops_sent), (vec![true], 0));
    let first = shop.tills[1].events.iter().find_map(|e| if let Event::Snapshot(p) = e { Some(*p) } else { None });
    assert_eq!(first.map(|p| (p.from, p.of)), Some((shop.tills[0].replica.till, 300)));
    shop.sell(0, 3);
    shop.sell(1, 3);
    shop.run(2_000);
    shop.assert_equal();
    assert_eq!(shop.over(1), [true], "once");
}

#[test]
fn other_origins_are_pulled_while_a_snapshot_is_taken() {
    let mut shop = compacted(300);
    shop.add(true);
    shop.link(0, 1);
    shop.link(1, 2);
    shop.run_into_snapshot(1);
    shop.sell(2, 4);
    shop.sell(1, 2);
    shop.run(3_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 306);
}

#[test]
fn cut_in_the_middle_another_giver_goes_on() {
    let mut shop = compacted(300);
    shop.add(true);
    shop.link(0, 2);
    shop.run(3_000);
    let first = shop.link(0, 1);
    shop.link(2, 1);
    shop.run_into_snapshot(1);
    let taken = shop.tills[1].mem.uncovered();
    let asked = |shop: &Shop| shop.rows_asked;
    let before = asked(&shop);
    shop.cut(first);
    shop.run(5_000);
    assert_eq!(shop.tills[1].mem.bodies(), shop.tills[2].mem.bodies());
    assert_eq!(shop.tills[1].mem.uncovered(), 0);
    assert_eq!(shop.over(1), [false, true]);
    let parts = asked(&shop) - before;
    assert!(parts <= 300 / 8 + 1 - taken / 8, "what was taken is not sent again: {parts}");
}

#[test]
fn a_restart_in_the_middle_goes_on() {
    let mut shop = compacted(300);
    shop.link(0, 1);
    shop.run_into_snapshot(1);
    shop.restart(1, None);
    assert!(shop.tills[1].mem.uncovered() > 20);
    shop.link(0, 1);
    shop.run(3_000);
    shop.assert_equal();
    assert_eq!(shop.tills[1].mem.uncovered(), 0);
}

#[test]
fn after_a_restart_the_end_of_another_snapshot_covers_none_of_the_earlier_ones_rows() {
    let mut shop = compacted(300);
    shop.add(true);
    shop.sell(2, 60);
    shop.tills[2].mem.compact(origin(2), 55);
    shop.link(0, 1);
    shop.run_into_snapshot(1);
    let taken = shop.tills[1].mem.uncovered();
    shop.restart(1, None);
    shop.link(2, 1);
    shop.run(3_000);
    assert_eq!(shop.over(1).last(), Some(&true));
    assert_eq!(shop.tills[1].mem.uncovered(), taken);
    shop.link(0, 1);
    shop.run(5_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 360);
}

#[test]
fn a_giver_that_dies_for_good_leaves_rows_that_are_adopted() {
    let mut shop = compacted(300);
    shop.add(true);
    shop.tills[1].mem.own = Origin(50);
    shop.restart(1, None);
    let link = shop.link(0, 1);
    shop.run_into_snapshot(1);
    let taken = shop.tills[1].mem.uncovered();
    shop.cut(link);
    shop.tills.remove(0);
    shop.links.clear();
    // The one that has rows of the dead one is till 0 now, and an empty one till 1.
    shop.run(ADOPT_AFTER_MS / 2);
    assert_eq!(shop.tills[0].mem.uncovered(), taken, "somebody might still finish it");
    shop.link(0, 1);
    shop.run(ADOPT_TRIED_MS + 5_000);
    assert_eq!(shop.tills[0].mem.uncovered(), 0, "who is here has tried");
    shop.run(3_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere() as u64, taken);
}

#[test]
fn a_till_alone_adopts_too_and_after_a_restart() {
    let mut shop = compacted(300);
    let link = shop.link(0, 1);
    shop.run_into_snapshot(1);
    shop.cut(link);
    shop.restart(1, None);
    shop.run(ADOPT_AFTER_MS + 5_000);
    assert_eq!(shop.tills[1].mem.uncovered(), 0);
    shop.link(0, 1);
    shop.run(5_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 300);
}

/// Both took rows of a till that died, and each needs what the other has compacted: neither gives before it is whole.
#[test]
fn two_that_wait_for_each_other_adopt() {
    let mut shop = compacted(200);
    shop.add(true);
    for till in [1, 2] {
        shop.sell(till, 50);
        let own = shop.tills[till].mem.own;
        shop.tills[till].mem.compact(own, 50);
        let link = shop.link(0, till);
        shop.wire.retain(|(l, _)| *l == link);
        shop.run_into_snapshot(till);
        shop.cut(link);
    }
    shop.tills.remove(0);
    shop.links.clear();
    shop.link(0, 1);
    shop.run(ADOPT_PUT_OFF_MS / 2);
    assert!(shop.tills.iter().all(|till| till.mem.uncovered() > 0), "the other may only be busy");
    shop.run(ADOPT_PUT_OFF_MS);
    shop.assert_equal();
    assert!(shop.tills.iter().all(|till| till.mem.uncovered() == 0));
}

#[test]
fn once_all_is_covered_nobody_else_is_asked() {
    let mut shop = compacted(300);
    for till in 2..5 {
        shop.add(true);
        shop.link(0, till);
        shop.run(3_000);
    }
    let first = shop.link(0, 1);
    shop.run_into_snapshot(1);
    shop.cut(first);
    let begun = shop.begun;
    for till in 2..5 {
        shop.link(till, 1);
    }
    shop.run(2 * ADOPT_AFTER_MS);
    assert_eq!(shop.tills[1].mem.uncovered(), 0);
    shop.assert_equal();
    assert_eq!(shop.begun - begun, 1);
    assert_eq!(shop.adopted, 0);
}

#[test]
fn a_silent_giver_is_left_for_another() {
    let mut shop = compacted(300);
    shop.add(true);
    shop.link(0, 2);
    shop.run(3_000);
    let first = shop.link(0, 1);
    shop.run_into_snapshot(1);
    shop.link(2, 1);
    // It answers everything but questions about its snapshot.
    shop.deaf = Some(first);
    shop.run(SNAPSHOT_STALL_MS + 5_000);
    assert_eq!(shop.over(1), [false, true]);
    shop.assert_equal();
}

#[test]
fn snapshots_both_ways_merge() {
    let mut shop = Shop::new(2);
    for till in 0..2 {
        shop.sell(till, 100);
        shop.tills[till].mem.compact(origin(till), 90);
    }
    shop.link(0, 1);
    shop.run(30_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 200);
}

#[test]
fn a_fork_is_seen_though_both_sides_are_compacted() {
    for sold in [[30, 7], [7, 30], [20, 20]] {
        let mut shop = Shop::new(2);
        shop.sell(0, 100);
        let copy = shop.tills[0].mem.clone();
        shop.add_with(copy, 0, true);
        for (till, more) in [(0, sold[0]), (2, sold[1])] {
            shop.sell(till, more);
            shop.tills[till].mem.compact(origin(0), 100 + more as u64);
        }
        shop.link(0, 1);
        shop.link(2, 1);
        shop.run(60_000);
        shop.assert_equal();
        assert_eq!(shop.everywhere(), 100 + sold[0] + sold[1]);
        assert!(shop.tills[0].mem.closes.end(origin(0)).is_some());
    }
}

#[test]
fn a_fork_in_the_middle_of_a_snapshot_begins_it_again() {
    let mut shop = compacted(300);
    let copy = shop.tills[0].mem.clone();
    let clone = shop.add_with(copy, 0, true);
    shop.sell(0, 10);
    shop.sell(clone, 11);
    shop.link(0, 1);
    shop.run_into_snapshot(1);
    shop.link(clone, 0);
    shop.run(30_000);
    shop.assert_equal();
    assert_eq!(shop.everywhere(), 321);
}

/// The heads that the peer tells leave the forked log out; its snapshot does not.
#[test]
fn a_fork_that_only_the_snapshot_shows_is_settled_before_its_logs_are_put_in() {
    for sold in [[30, 7], [7, 30], [12, 12]] {
        let mut shop = Shop::new(4);
        shop.sell(0, 20);
        let copy = shop.tills[0].mem.clone();
        let clone = shop.add_with(copy, 0, true);
        shop.sell(0, sold[0]);
        shop.sell(clone, sold[1]);
        shop.sell(3, 40);
        for (a, b) in [(0, 1), (clone, 3)] {
            let link = shop.link(a, b);
            shop.run(3_000);
            shop.cut(link);
        }
        shop.tills[clone].mem.compact(origin(3), 40);
        shop.garble = Some(|message| match message {
            Message::Have(heads) => heads.retain(|(of, _)| *of != origin(0)),
            // Nothing comes of comparing for now.
            Message::Probe { .. } => *message = Message::Ping(0),
            _ => {}
        });
        shop.link(1, clone);
        shop.run(SNAPSHOT_STALL_MS / 2);
        assert!(shop.tills[1].mem.uncovered() > 0, "all has come but the logs");
        assert_eq!(shop.tills[1].mem.closes.0.len(), 0);
        shop.garble = Some(|message| {
            if let Message::Have(heads) = message {
                heads.retain(|(of, _)| *of != origin(0));
            }
        });
        shop.run(60_000);
        assert_eq!(shop.tills[1].mem.closes.end(origin(0)), Some(20));
        assert_eq!(shop.tills[1].mem.uncovered(), 0);
        shop.garble = None;
        for till in [0, 2, 3] {
            shop.link(1, till);
        }
        shop.run(30_000);
        shop.assert_equal();
        assert_eq!(shop.everywhere(), 60 + sold[0] + sold[1]);
    }
}

#[test]
fn a_damaged_row_is_fetched_again() {
    let mut shop = Shop::new(2);
    shop.link(0, 1);
    shop.sell(0, 100);
    shop.run(3_000);
    let sound = shop.tills[1].mem.bodies();
    shop.tills[1].mem.damage();
    assert_ne!(shop.tills[1].mem.bodies(), sound);
    shop.input(1, Input::Repair);
    shop.run(3_000);
    assert_eq!(shop.tills[1].mem.bodies(), sound);
    let messages = shop.messages;
    shop.run(20_000);
    assert!(shop.messages - messages < 60, "once");
}

#[test]
fn divergence_is_told_mended_and_told_to_be_over() {
    let mut shop = Shop::new(2);
    shop.link(0, 1);
    shop.sell(0, 100);
    shop.run(2 * DIGEST_EVERY_MS);
    shop.tills[1].mem.lose_a_row();
    shop.sell(0, 1);
    shop.run(3 * DIGEST_EVERY_MS);
    shop.assert_equal();
    for (till, other) in [(0, 1), (1, 0)] {
        let other = shop.tills[other].replica.till;
        let told: Vec<&Event> =
            shop.tills[till].events.iter().filter(|e| matches!(e, Event::Divergence { .. })).collect();
        let event = |differ| Event::Divergence { till: other, differ };
        assert_eq!(told, [&event(true), &event(false)], "till {till}");
    }
}

#[test]
fn without_auto_sync_snapshots_are_taken_on_demand_only() {
    let mut shop = compacted(300);
    let till = shop.add(false);
    shop.link(0, till);
    shop.run(5_000);
    assert_eq!(shop.tills[till].mem.bodies().len(), 0);
    shop.input(till, Input::SyncNow);
    shop.run(5_000);
    assert_eq!(shop.tills[till].mem.bodies().len(), 300);
    assert!(shop.tills[till].events.contains(&Event::Synced { received: 0, complete: true }));
}

#[test]
fn a_part_that_does_not_add_up_is_not_taken() {
    let mut shop = compacted(300);
    shop.add(true);
    shop.link(0, 2);
    shop.run(3_000);
    shop.link(0, 1);
    shop.garble = Some(|message| {
        if let Message::Answer(SnapshotAnswer::Rows { rows, .. }) = message {
            rows[0].body[9] ^= 1;
        }
    });
    shop.run(3_000);
    assert_eq!(shop.tills[1].mem.bodies().len(), 0);
    shop.garble = None;
    shop.link(2, 1);
    shop.run(3_000);
    shop.assert_equal();
    let over = shop.over(1);
    assert_eq!((over.first(), over.last()), (Some(&false), Some(&true)));
}

#[test]
fn a_log_whose_hashes_do_not_end_in_its_head_is_not_taken() {
    let mut shop = compacted(300);
    shop.link(0, 1);
    shop.garble = Some(|message| {
        if let Message::Answer(SnapshotAnswer::Begun { logs, .. }) = message {
            logs[0].head.hash.0[0] ^= 1;
        }
    });
    shop.run(3_000);
    assert_eq!(shop.tills[1].mem.vector().0.len(), 0);
    shop.garble = None;
    shop.run(40_000);
    shop.assert_equal();
}

#[test]
fn givers_that_are_busy_are_asked_every_few_seconds() {
    let mut shop = compacted(300);
    shop.link(0, 1);
    shop.garble = Some(|message| {
        if let Message::Answer(answer) = message {
            *answer = SnapshotAnswer::NotNow;
        }
    });
    shop.run(60_000);
    let first = shop.begun;
    assert!((8..=10).contains(&first), "{first}");
    shop.run(60_000);
    assert!((6..=8).contains(&(shop.begun - first)));
    shop.garble = None;
    shop.run(GIVER_BUSY_MAX_MS + 2_000);
    shop.assert_equal();
}

#[test]
fn givers_that_fail_are_asked_less_and_less() {
    let mut shop = compacted(300);
    shop.link(0, 1);
    shop.garble = Some(|message| {
        if let Message::Answer(answer) = message {
            *answer = SnapshotAnswer::None;
        }
    });
    let begun = |shop: &Shop| shop.begun;
    shop.run(60_000);
    let first = begun(&shop);
    assert!((4..=8).contains(&first), "{first}");
    shop.run(60_000);
    assert!((1..=3).contains(&(begun(&shop) - first)));
    shop.garble = None;
    shop.run(GIVER_RETRY_MAX_MS + 5_000);
    shop.assert_equal();
}

/// Questions of one peer: the store has one at a time, and of those that wait the newest is answered.
#[test]
fn a_peer_that_asks_too_much_waits() {
    let mut shop = compacted(300);
    let link = shop.link(1, 0);
    let at_giver = shop.links[&link].1;
    shop.run(3_000);
    let mut ask =
        |ask| shop.tills[0].replica.handle(9_000, Input::Message { link: at_giver, message: Message::Ask(ask) });
    let asked = |outputs: &[Output]| outputs.iter().filter(|o| matches!(o, Output::Ask { .. })).count();
    assert_eq!(asked(&ask(SnapshotAsk::Begin)), 1);
    for snapshot in 0..100 {
        assert_eq!(asked(&ask(SnapshotAsk::Hashes { snapshot, origin: origin(0), from: 1 })), 0);
    }
    let answer = Input::Answer { link: at_giver, answer: SnapshotAnswer::NotNow };
    let outputs = shop.tills[0].replica.handle(9_000, answer.clone());
    let newest = SnapshotAsk::Hashes { snapshot: 99, origin: origin(0), from: 1 };
    assert_eq!(outputs, [Output::Ask { link: at_giver, ask: newest }], "nobody waits for the first answer");
    let told = Output::Send { link: at_giver, message: Message::Answer(SnapshotAnswer::NotNow) };
    assert_eq!(shop.tills[0].replica.handle(9_000, answer), [told]);
}

/// The end of a snapshot and the beginning of the next, on their way together.
#[test]
fn the_answer_to_an_end_is_not_told() {
    let mut shop = compacted(300);
    let link = shop.link(1, 0);
    let at_giver = shop.links[&link].1;
    shop.run(3_000);
    for ask in [SnapshotAsk::End { snapshot: 1 }, SnapshotAsk::Begin] {
        shop.tills[0].replica.handle(9_000, Input::Message { link: at_giver, message: Message::Ask(ask) });
    }
    let answer = |answer| Input::Answer { link: at_giver, answer };
    assert_eq!(shop.tills[0].replica.handle(9_000, answer(SnapshotAnswer::None)), []);
    let told = Output::Send { link: at_giver, message: Message::Answer(SnapshotAnswer::NotNow) };
    assert_eq!(shop.tills[0].replica.handle(9_000, answer(SnapshotAnswer::NotNow)), [told]);
}
