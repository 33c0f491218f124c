//! What tills know of what others hold.

use super::*;

#[test]
fn the_ends_of_a_chain_learn_of_each_other() {
    let mut shop = Shop::new(3);
    shop.link(0, 1);
    shop.link(1, 2);
    shop.sell(0, 3);
    shop.sell(2, 4);
    shop.run(5_000);
    shop.assert_equal();
    let c = shop.tills[2].replica.till;
    shop.run(OWN_ACK_MS + ACKS_EVERY_MS);
    let held = shop.tills[0].replica.held_by(c).unwrap();
    assert_eq!(held.heads, shop.tills[2].mem.vector());
    assert_eq!(shop.tills[0].acks[&c], held, "the driver was told to keep it");
    // And it moves.
    shop.sell(0, 10);
    shop.run(OWN_ACK_MS + 2 * ACKS_EVERY_MS);
    assert_eq!(shop.tills[0].replica.held_by(c).unwrap().heads.seq(origin(0)), 13);
}

#[test]
fn a_lower_word_that_is_newer_counts() {
    let mut shop = Shop::new(3);
    shop.link(0, 1);
    shop.link(1, 2);
    shop.sell(2, 50);
    shop.run(OWN_ACK_MS + 2 * ACKS_EVERY_MS);
    let c = shop.tills[2].replica.till;
    assert_eq!(shop.tills[0].replica.held_by(c).unwrap().heads.seq(origin(2)), 50);
    // Its card is replaced: it holds nothing, and its clock is behind.
    let empty = Mem::new(9, Origin(900));
    shop.restart(2, Some(empty));
    let now = std::mem::replace(&mut shop.now, 0);
    let mem = shop.tills[2].mem.clone();
    let acks = BTreeMap::new();
    let replica = shop.replica(&mem, c, true, &acks);
    shop.now = now;
    shop.tills[2].replica = replica;
    shop.tills[2].mem.broken = true;
    shop.link(1, 2);
    shop.run(OWN_ACK_MS + 2 * ACKS_EVERY_MS);
    for till in 0..2 {
        assert_eq!(shop.tills[till].replica.held_by(c).unwrap().heads.seq(origin(2)), 0, "till {till}");
    }
}

#[test]
fn what_is_held_elsewhere_counts_tills_that_never_meet() {
    let mut shop = Shop::new(3);
    shop.link(0, 1);
    let far = shop.link(1, 2);
    shop.sell(0, 5);
    shop.run(5_000);
    assert_eq!(shop.tills[0].replica.held_elsewhere(), 5);
    shop.cut(far);
    // Till 1 loses its card: only till 2 holds the five.
    shop.tills[1].acks.clear();
    shop.restart(1, Some(Mem::new(9, Origin(900))));
    shop.tills[1].mem.broken = true;
    shop.link(0, 1);
    shop.run(5_000);
    assert_eq!(shop.tills[0].replica.held_elsewhere(), 0);
    shop.link(1, 2);
    shop.run(OWN_ACK_MS);
    assert_eq!(shop.tills[0].replica.held_elsewhere(), 5);
}

#[test]
fn an_idle_mesh_says_what_it_holds_once_an_hour() {
    let mut shop = Shop::new(3);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        shop.link(a, b);
    }
    shop.sell(0, 5);
    shop.run(2 * OWN_ACK_IDLE_MS);
    let told = |shop: &Shop| shop.tills[1].acks[&shop.tills[0].replica.till].stamp;
    let before = told(&shop);
    let messages = shop.messages;
    shop.run(OWN_ACK_IDLE_MS + ACKS_EVERY_MS);
    assert!(told(&shop) > before);
    // Pings and pongs of three links, and a few words of acks.
    let pings = 3 * 2 * 2 * (OWN_ACK_IDLE_MS + ACKS_EVERY_MS) / PING_AFTER_MS;
    assert!(shop.messages - messages < pings + 40, "{} {pings}", shop.messages - messages);
}
