//! Stories of words about addresses, and the targets that they end in.

use super::super::{DiscoveryEvent, Found, Kin};
use super::*;

/// One thing that candidates are told. Tills and addresses are small numbers.
#[derive(Debug, Clone)]
enum Step {
    Static(Vec<u8>),
    Heard { key: &'static str, till: u8, at: Vec<u8>, kin: Kin },
    Lost(&'static str),
    Told(u8, Vec<u8>),
    Reached(u8, u8),
    Forget(u8),
    NetworkChanged,
}
use Step::*;

const OWN: u8 = 0;

/// mDNS tells under the name `a` of a till of our store.
fn a(till: u8, at: &[u8]) -> Step {
    Heard { key: "a", till, at: at.to_vec(), kin: Kin::OurStore }
}

fn till(n: u8) -> TillId {
    TillId([n; 16])
}

fn at(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 168, 1, n], 3030))
}

fn found(key: &str, who: u8, addresses: &[u8], kin: Kin) -> DiscoveryEvent {
    DiscoveryEvent::Found(Found {
        key: key.to_owned(),
        pos_id: None,
        till: Some(till(who)),
        store: None,
        proto: Some(1),
        kin,
        addresses: addresses.iter().map(|&n| at(n)).collect(),
    })
}

fn apply(candidates: &mut Candidates, step: &Step) {
    match step {
        Static(addresses) => candidates.set_static(addresses.iter().map(|&n| at(n))),
        Heard { key, till, at, kin } => candidates.on_discovery(&found(key, *till, at, *kin)),
        Lost(key) => candidates.on_discovery(&DiscoveryEvent::Lost { key: (*key).to_owned() }),
        Told(who, addresses) => candidates.told(till(*who), addresses.iter().map(|&n| at(n))),
        Reached(who, address) => candidates.reached(till(*who), at(*address)),
        Forget(who) => candidates.forget(&till(*who)),
        NetworkChanged => candidates.on_discovery(&DiscoveryEvent::NetworkChanged),
    }
}

/// `T1@5,6` for a till, `@5` for an address without one.
fn show(candidates: &Candidates) -> String {
    let last_byte = |address: &SocketAddr| match address {
        SocketAddr::V4(v4) => v4.ip().octets()[3].to_string(),
        SocketAddr::V6(v6) => v6.to_string(),
    };
    let shown: Vec<String> = candidates
        .targets()
        .iter()
        .map(|target| {
            let addresses: Vec<String> = target.addresses.iter().map(last_byte).collect();
            match target.key {
                TargetKey::Till(id) => format!("T{}@{}", id.0[0], addresses.join(",")),
                TargetKey::Address(_) => format!("@{}", addresses.join(",")),
            }
        })
        .collect();
    shown.join(" ")
}

fn story(name: &str, steps: &[Step], targets: &str) {
    let mut candidates = Candidates::new(till(OWN));
    for step in steps {
        apply(&mut candidates, step);
    }
    assert_eq!(show(&candidates), targets, "{name}: {steps:?}");
}

#[test]
fn sources_are_merged_into_one_target_a_till() {
    story("nothing known", &[], "");
    story("static alone", &[Static(vec![5, 6, 5])], "@5 @6");
    story("mDNS keeps its order", &[a(1, &[5, 6])], "T1@5,6");
    story("a static address is the till's once that is known", &[Static(vec![5, 6]), a(1, &[5])], "@6 T1@5");
    story("told and seen", &[a(1, &[5]), Told(1, vec![6]), Told(2, vec![7])], "T1@6,5 T2@7");
    story("the same address told twice is there once", &[Told(1, vec![5, 5]), Told(1, vec![5])], "T1@5");
    story(
        "two names of one till",
        &[a(1, &[5]), Heard { key: "b", till: 1, at: vec![6], kin: Kin::OurStore }],
        "T1@6,5",
    );
    story("what answers is tried first", &[a(1, &[5, 6, 7]), Reached(1, 6)], "T1@6,5,7");
}

#[test]
fn what_is_gone_is_remembered_behind_what_is_there() {
    story("lost, not forgotten", &[a(1, &[5]), Lost("a")], "T1@5");
    story("never known, lost", &[Lost("a")], "");
    story("an address changes", &[a(1, &[5]), a(1, &[6])], "T1@6,5");
    story("those that are there come first", &[a(1, &[5]), Lost("a"), Told(2, vec![6]), a(3, &[7])], "T3@7 T2@6 T1@5");
    story("a proved one before all", &[Reached(1, 5), a(2, &[6])], "T1@5 T2@6");
    story("retired", &[a(1, &[5]), Reached(1, 5), Forget(1), Lost("a")], "");
    story("a name passes to another till", &[a(1, &[5]), a(2, &[6])], "T2@6 T1@5");
    story(
        "a name passes to another store",
        &[a(1, &[5]), Heard { key: "a", till: 2, at: vec![6], kin: Kin::OtherStore }],
        "T1@5",
    );
}

#[test]
fn the_latest_word_on_an_address_wins() {
    story("a lease moves to another till", &[Reached(1, 5), a(2, &[5])], "T2@5");
    story("a forged word is corrected by the handshake", &[Reached(1, 5), a(2, &[5]), Reached(1, 5)], "T1@5");
    story("gossip repeated is not a later word", &[Told(1, vec![5]), Reached(2, 5), Told(1, vec![5])], "T2@5");
    story("a till that lost one keeps the rest", &[Told(1, vec![6, 5]), a(2, &[5])], "T2@5 T1@6");
}

#[test]
fn ourselves_and_others_are_left_out() {
    story("our own announcement", &[a(OWN, &[5])], "");
    story("our address in the list", &[Static(vec![5, 6]), Reached(OWN, 5)], "@6");
    story("peers tell us of ourselves", &[Static(vec![5]), Told(OWN, vec![5])], "");
    story("our address became another's", &[Reached(OWN, 5), Told(1, vec![5])], "T1@5");
    story("our address may have changed", &[Static(vec![5]), Reached(OWN, 5), NetworkChanged], "@5");
    for kin in [Kin::OtherStore, Kin::Posplus] {
        story("not of our store", &[Heard { key: "a", till: 1, at: vec![5], kin }], "");
    }
}

#[test]
fn addresses_of_a_till_are_bounded_and_the_proved_one_stays() {
    let mut candidates = Candidates::new(till(OWN));
    candidates.reached(till(1), at(1));
    for n in 2..100 {
        candidates.told(till(1), [at(n)]);
    }
    let targets = candidates.targets();
    assert_eq!(targets.len(), 1);
    assert_eq!(targets[0].addresses.len(), TILL_ADDRESSES_MAX);
    assert_eq!(targets[0].addresses[0], at(99));
    assert_eq!(targets[0].addresses.last(), Some(&at(1)));
}

#[test]
fn a_flood_of_announcements_pushes_out_no_proved_till() {
    let mut candidates = Candidates::new(till(OWN));
    candidates.reached(till(1), at(1));
    for n in 0..2000_u16 {
        let mut id = [0xee; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        let DiscoveryEvent::Found(mut one) = found("x", 1, &[], Kin::OurStore) else { unreachable!() };
        one.key = format!("x{n}");
        one.till = Some(TillId(id));
        one.addresses = vec![SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 3030))];
        candidates.on_discovery(&DiscoveryEvent::Found(one));
    }
    let targets = candidates.targets();
    assert_eq!(targets.len(), TILLS_MAX);
    assert_eq!(targets[0].key, TargetKey::Till(till(1)));
    assert_eq!(candidates.seen.len(), TILLS_MAX - 1);
    // A word without proof takes no place from one that is announced.
    candidates.told(till(2), [at(2)]);
    assert!(!candidates.targets().iter().any(|t| t.key == TargetKey::Till(till(2))));
    candidates.reached(till(2), at(2));
    assert!(candidates.targets().iter().any(|t| t.key == TargetKey::Till(till(2))));
}

#[test]
fn proved_addresses_outlive_a_restart() {
    let mut before = Candidates::new(till(OWN));
    before.reached(till(1), at(5));
    before.reached(till(2), at(6));
    before.reached(till(1), at(7));
    before.reached(till(3), "[fe80::1%2]:3030".parse().unwrap());
    before.reached(till(OWN), at(9));
    before.told(till(4), [at(8)]);
    let remembered = before.remembered();
    assert_eq!(remembered, [(till(1), at(5)), (till(2), at(6)), (till(1), at(7))]);
    let mut after = Candidates::new(till(OWN));
    after.restore(remembered);
    assert_eq!(show(&after), "T1@7,5 T2@6");
}
