//! The roster, and what this till remembers of others.

use super::*;
use crate::model::clock::Hlc;
use crate::model::op::{Body, Op};
use crate::model::roster::{Admit, Retire};
use crate::model::ticket::Made;
use crate::model::vector::VersionVector;
use crate::store::{Remember, RememberedPeer};
use crate::sync::MemberAck;

fn key(n: u8) -> ([u8; 32], TillId) {
    ([n; 32], TillId::of_public_key(&[n; 32]))
}

fn admit(n: u8, name: &str) -> Request {
    let (public_key, till) = key(n);
    Request::Admit { till, public_key, pos_id: format!("POS-{n}"), pos_name: name.to_owned() }
}

fn made(n: u8, at_ms: u64) -> Made {
    Made { till: key(n).1, pos_id: format!("POS-{n}"), at_ms, clock: ClockQuality::Trusted }
}

#[test]
fn retiring_wins_and_the_latest_name_stands_in_any_order() {
    let (public_key, till) = key(5);
    let named = |at_ms, name: &str| {
        Body::Admit(Admit { till, public_key, pos_id: "POS-5".into(), pos_name: name.into(), made: made(5, at_ms) })
    };
    let retired = |at_ms| Body::Retire(Retire { till, made: made(1, at_ms) });
    // Two admissions at the same time: the content decides.
    let bodies = [named(10, "a"), named(30, "b"), named(30, "c"), retired(20), retired(25)];
    let mut wanted = None;
    for turn in 0..bodies.len() {
        let mut db = Till::new(1);
        for round in 0..2 {
            let mut order: Vec<&Body> = bodies.iter().collect();
            order.rotate_left(turn);
            if round == 1 {
                order.reverse();
            }
            let ops: Vec<Op> = order.iter().map(|body| body.to_op(Hlc::from_ms(NOON))).collect();
            let origin = Origin(10 + round);
            db.ask(Request::Apply(OpBatch { origin, before: Head::default(), ops })).unwrap();
            let roster = db.reader().roster().unwrap();
            assert_eq!(&roster, wanted.get_or_insert_with(|| roster.clone()));
        }
    }
    let entry = wanted.unwrap().remove(0);
    let admitted = entry.admitted.unwrap();
    assert_eq!((entry.till, entry.retired_ms, admitted.at_ms), (till, Some(20), 10));
    assert!(["b", "c"].contains(&admitted.pos_name.as_str()));
}

#[test]
fn the_roster_is_told_only_what_is_new() {
    let mut till = Till::new(1);
    let retire = Request::Retire { till: key(2).1 };
    let asked = [admit(2, "Caisse"), admit(2, "Caisse"), admit(2, "Terrasse"), retire.clone(), retire];
    let changed: Vec<bool> = asked.map(|request| till.execute(vec![request]).committed.local.is_some()).into();
    assert_eq!(changed, [true, false, true, true, false]);
    let roster = till.reader().roster().unwrap();
    assert_eq!(roster.len(), 1);
    assert_eq!(roster[0].admitted.as_ref().unwrap().pos_name, "Terrasse");
    assert!(roster[0].retired_ms.is_some());
}

#[test]
fn an_admission_under_another_tills_key_is_left_out() {
    let mut till = Till::new(1);
    till.ask(admit(2, "Caisse")).unwrap();
    let forged = Admit {
        till: key(2).1,
        public_key: [9; 32],
        pos_id: "X".into(),
        pos_name: "X".into(),
        made: made(9, u64::MAX >> 20),
    };
    let ops = vec![Body::Admit(forged).to_op(Hlc::from_ms(NOON))];
    till.ask(Request::Apply(OpBatch { origin: Origin(9), before: Head::default(), ops })).unwrap();
    let admitted = till.reader().roster().unwrap().remove(0).admitted.unwrap();
    assert_eq!((admitted.public_key, admitted.pos_name.as_str()), ([2; 32], "Caisse"));
}

#[test]
fn sales_that_no_other_till_has_are_counted() {
    let mut till = Till::new(1);
    let origin = till.origin();
    // One reader throughout: it counts on from what it counted before.
    let reader = till.reader();
    let mut heads = vec![Head::default()];
    for n in 0..6u128 {
        till.sell(n, sale(&[(7, 1)]));
        till.ask(goods_in(100 + n, 7, 1)).unwrap();
        heads.push(till.head(origin));
        assert_eq!(reader.only_here(None).unwrap(), n as u64 + 1);
    }
    let ack = |till: &mut Till, n, head: Head| {
        let heads = VersionVector::from_iter([(origin, head)]);
        let ack = MemberAck { till: key(n).1, stamp: head.seq, level: 1, heads };
        till.ask(Request::Remember(Remember::Ack { ack, seen_run_ms: 0 })).unwrap();
    };
    ack(&mut till, 2, heads[2]);
    assert_eq!(reader.only_here(None).unwrap(), 4);
    ack(&mut till, 3, heads[5]);
    assert_eq!(reader.only_here(None).unwrap(), 1);
    ack(&mut till, 2, heads[1]);
    assert_eq!(reader.only_here(None).unwrap(), 1, "the furthest counts");
    till.sell(50, sale(&[(7, 1)]));
    assert_eq!(reader.only_here(None).unwrap(), 2);
    assert_eq!(till.reader().only_here(None).unwrap(), 2, "as counted afresh");
    assert_eq!(reader.only_here(Some((origin, heads[6].seq))).unwrap(), 1, "told, not kept yet");
    assert_eq!(reader.only_here(Some((Origin(9), 1_000))).unwrap(), 2, "of another log");
    assert_eq!(reader.only_here(Some((origin, 1_000))).unwrap(), 0);

    // Another branch of our log, or more than we have, is none of our sales.
    ack(&mut till, 4, Head { seq: heads[6].seq, hash: heads[5].hash });
    ack(&mut till, 5, Head { seq: 1_000, hash: heads[5].hash });
    assert_eq!(reader.only_here(None).unwrap(), 2);
    ack(&mut till, 3, Head::default());
    assert_eq!(reader.only_here(None).unwrap(), 6, "a till that lost its disk says so");
    till.ask(Request::Retire { till: key(2).1 }).unwrap();
    assert_eq!(reader.only_here(None).unwrap(), 7, "a retired till's card is no copy");
    assert_eq!(reader.acks().unwrap()[&key(2).1].heads.head(origin), heads[1]);
}

#[test]
fn peers_and_notes_are_kept() {
    let mut till = Till::new(1);
    let peer = |n: u8, last_seen_ms| RememberedPeer {
        till: key(n).1,
        name: format!("Caisse {n}"),
        addresses: vec!["192.168.1.21:3030".into(), "[fe80::1%2]:3030".into()],
        last_seen_ms,
    };
    for RememberedPeer { till: id, name, addresses, last_seen_ms } in [peer(2, 10), peer(3, 20), peer(2, 30)] {
        till.ask(Request::Remember(Remember::Peer { till: id, name, addresses, last_seen_ms })).unwrap();
    }
    let note = |value: Option<&str>| {
        Request::Remember(Remember::Note { key: "identity".into(), value: value.map(str::to_owned) })
    };
    till.ask(note(Some("a"))).unwrap();
    till.ask(note(Some("b"))).unwrap();
    till.restart();
    assert_eq!(till.reader().peers().unwrap(), [peer(2, 30), peer(3, 20)]);
    assert_eq!(till.reader().memory("identity").unwrap().as_deref(), Some("b"));
    till.ask(note(None)).unwrap();
    assert_eq!(till.reader().memory("identity").unwrap(), None);
}
