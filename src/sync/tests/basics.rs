//! Links, pulls, pushes, and syncs on demand.

use super::*;

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
    // Until digests have been compared, and all have heard what all hold.
    shop.run(OWN_ACK_MS + 2 * ACKS_EVERY_MS);
    let (before, wakes) = (shop.messages, shop.wakes);
    shop.run(60_000);
    assert!(shop.wakes - wakes <= 3 * 20, "each till at most every three seconds: {}", shop.wakes - wakes);
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
    shop.tills[1].mem.broken = true;
    shop.sell(0, 3);
    shop.run(5_000);
    assert_eq!(shop.count(1, 0), 0);
    assert_eq!(shop.tills[0].replica.held_elsewhere(), 0, "not acknowledged");
    shop.tills[1].mem.broken = false;
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
    let fresh = shop.tills[0].mem.mint();
    shop.input(0, Input::Origin(fresh));
    shop.sell(0, 1);
    shop.deliver();
    shop.assert_equal();
    assert_eq!(shop.tills[1].replica.head(fresh).seq, 1);
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

#[test]
fn what_arrives_though_it_is_durable_gives_its_credit_back() {
    let mut shop = Shop::new(2);
    let link = shop.link(0, 1);
    shop.deliver();
    let op = |n: u8| Op { hlc: Hlc(1), kind: 1, schema: 1, body: vec![n; 100] };
    let batch = OpBatch { origin: Origin(77), before: Head::default(), ops: vec![op(1), op(2)] };
    let (origin, two) = (batch.origin, batch.after());
    let replica = &mut shop.tills[0].replica;
    let four = Head { seq: 4, hash: RunningHash([4; 8]) };
    let told = replica.handle(0, Input::Message { link, message: Message::Have(vec![(origin, four)]) });
    let wanted = |o: &Output| matches!(o, Output::Send { message: Message::Want { from: 1, .. }, .. });
    assert!(told.iter().any(wanted));
    // The ops come on another way, then from where they were wanted: the source must be able to go on to the next two.
    replica.handle(0, Input::Applied { origin, head: two });
    let told = replica.handle(0, Input::Message { link, message: Message::Ops(batch) });
    let credit = |o: &Output| matches!(o, Output::Send { message: Message::Credit { origin: Origin(77), .. }, .. });
    assert!(told.iter().any(credit), "{told:?}");
}
