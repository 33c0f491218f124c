//! Cables, partitions, addresses: what is cut off sells on, and catches up.

use std::collections::BTreeSet;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::lan::{A, B, C, D, E, Name};
use crate::shop::Shop;
use crate::step::Step::{self, *};
use crate::{Scenario, is_full};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "partition",
            tills: 5,
            shows: "five tills cut into 2 + 3, busy on both sides, then healed",
            steps: partition,
        },
        Scenario {
            name: "line",
            tills: 3,
            shows: "defect 14: a till in the middle passes on what it hears",
            steps: line,
        },
        Scenario {
            name: "redial",
            tills: 2,
            shows: "defect 10: a failed re-dial is tried again, and again",
            steps: redial,
        },
        Scenario {
            name: "steady-links",
            tills: 3,
            shows: "defect 9: both sides dial, one link stays",
            steps: steady_links,
        },
        Scenario {
            name: "new-address",
            tills: 2,
            shows: "a till that moves to another address is found again",
            steps: new_address,
        },
        Scenario {
            name: "link-local",
            tills: 2,
            shows: "defect 15: link-local IPv6, beside IPv4 and alone",
            steps: link_local,
        },
        Scenario { name: "other-port", tills: 2, shows: "defect 17: p2p.port is honoured", steps: other_port },
        Scenario { name: "solo", tills: 1, shows: "a store of one till sells, and raises no alarm", steps: solo },
    ]
}

fn partition() -> Vec<Step> {
    let mut steps = vec![
        Start(&[A, B, C, D, E]),
        Linked(&[A, B, C, D, E], 10),
        Product(A, "Café", 2500),
        Product(B, "Thé", 2000),
        Product(C, "Eau", 1000),
        StockIn(D, "Café", 100),
        Agree(&[A, B, C, D, E], 10),
    ];
    for _ in 0..if is_full() { 6 } else { 2 } {
        steps.extend([
            Split(&[&[A, B], &[C, D, E]]),
            Peers(A, 1, 10),
            Peers(E, 2, 10),
            Trade(&[A, B], 60),
            Trade(&[C, D, E], 60),
            // Both sides change the same field of the same product.
            Edit(A, "Café", json!({ "price": 2600 })),
            Edit(E, "Café", json!({ "price": 2700 })),
            Heal,
            Agree(&[A, B, C, D, E], 15),
            Linked(&[A, B, C, D, E], 15),
            Check("the same conflicts are shown on all tills", same_conflicts),
        ]);
    }
    steps
}

fn same_conflicts(shop: &mut Shop) -> Result<()> {
    let ids = |till: Name| -> Result<BTreeSet<String>> {
        Ok(shop.list(till, "/v1/conflicts")?.iter().map(|conflict| conflict["id"].to_string()).collect())
    };
    let reference = ids(A)?;
    ensure!(!reference.is_empty(), "the two prices of Café are no conflict");
    for till in [B, C, D, E] {
        ensure!(ids(till)? == reference, "{till} shows {:?}, A shows {reference:?}", ids(till)?);
    }
    Ok(())
}

fn line() -> Vec<Step> {
    vec![
        Line(B),
        Start(&[A, B, C]),
        Linked(&[A, B], 10),
        Linked(&[B, C], 10),
        Product(A, "Café", 2500),
        InStock(&[C], "Café", 0, 5),
        Sell(A, "Café", 2, 20),
        Sell(C, "Café", 1, 20),
        Edit(C, "Café", json!({ "price": 2600 })),
        Agree(&[A, B, C], 5),
        Check("A and C are not linked", |shop| {
            for till in [A, C] {
                let count = shop.status(till)?["connectedPeers"].clone();
                ensure!(count == 1, "{till} has {count} peers");
            }
            Ok(())
        }),
        Note("what the ends sell while the middle is off goes round it once they hear each other"),
        Kill(B),
        Sell(A, "Café", 1, 5),
        Sell(C, "Café", 1, 5),
        Heal,
        Agree(&[A, C], 15),
        Note("and the middle catches up from either"),
        Start(&[B]),
        Agree(&[A, B, C], 15),
        Linked(&[A, B, C], 15),
    ]
}

fn redial() -> Vec<Step> {
    vec![
        Note("no mDNS: A knows B's address from its config"),
        Config(A, json!({ "p2p": { "discoveryEnabled": false }, "peers": [B.address()] })),
        Config(B, json!({ "p2p": { "discoveryEnabled": false } })),
        Start(&[A]),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 5),
        Check("12 s of dialling a box that is off", |_| {
            thread::sleep(Duration::from_secs(12));
            Ok(())
        }),
        Start(&[B]),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
        Note("the cable: nothing answers at all, not even with a refusal"),
        Unplug(B),
        Peers(A, 0, 10),
        Sell(A, "Café", 1, 5),
        Sell(B, "Café", 1, 5),
        Check("12 s of dialling into silence", |_| {
            thread::sleep(Duration::from_secs(12));
            Ok(())
        }),
        Plug(B),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
    ]
}

fn steady_links() -> Vec<Step> {
    vec![
        Start(&[A, B, C]),
        Linked(&[A, B, C], 10),
        Check("each pair settles on one connection, and keeps it", one_connection_each),
        Note("also when all are switched on in the same moment"),
        Kill(A),
        Kill(B),
        Kill(C),
        Check("A, B and C at once", |shop| {
            [A, B, C].into_iter().try_for_each(|till| shop.spawn(till))?;
            [A, B, C].into_iter().try_for_each(|till| shop.answering(till))
        }),
        Linked(&[A, B, C], 10),
        Check("each pair settles on one connection, and keeps it", one_connection_each),
    ]
}

/// Connections of the mesh as the kernel sees them: the same single one for each pair, for a while.
fn one_connection_each(shop: &mut Shop) -> Result<()> {
    let tills = [A, B, C];
    let now = |shop: &Shop| -> Result<Vec<BTreeSet<String>>> {
        tills.iter().map(|till| shop.lan.inside(*till, || mesh_connections(3030))).collect()
    };
    let two_each = |all: &[BTreeSet<String>]| all.iter().all(|connections| connections.len() == 2);
    crate::lib::eventually(Duration::from_secs(20), "two connections at each of three tills", || {
        let all = now(shop)?;
        ensure!(two_each(&all), "{all:?}");
        Ok(())
    })?;
    let (first, end) = (now(shop)?, Instant::now() + Duration::from_secs(if is_full() { 60 } else { 10 }));
    while Instant::now() < end {
        thread::sleep(Duration::from_millis(250));
        let all = now(shop)?;
        ensure!(all == first, "links came or went: {first:?}, then {all:?}");
    }
    Ok(())
}

/// Established TCP connections of this thread's network to or from the port, each as its pair of ends.
fn mesh_connections(port: u16) -> Result<BTreeSet<String>> {
    const ESTABLISHED: &str = "01";
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, local, remote, state, ..] = words[..] else { continue };
            let on_port = |end: &str| end.ends_with(&format!(":{port:04X}"));
            if state == ESTABLISHED && (on_port(local) || on_port(remote)) {
                found.insert(format!("{local} {remote}"));
            }
        }
    }
    Ok(found)
}

fn new_address() -> Vec<Step> {
    vec![
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Agree(&[A, B], 5),
        Readdress(B, "10.77.0.99"),
        Sell(A, "Café", 1, 3),
        Sell(B, "Café", 1, 3),
        Agree(&[A, B], 15),
        Linked(&[A, B], 10),
        Note("both move at once"),
        Readdress(A, "10.77.0.98"),
        Readdress(B, "10.77.0.97"),
        Sell(A, "Café", 1, 3),
        Sell(B, "Café", 1, 3),
        Agree(&[A, B], 20),
        Linked(&[A, B], 10),
    ]
}

fn link_local() -> Vec<Step> {
    vec![
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Sell(B, "Café", 1, 1),
        Agree(&[A, B], 5),
        Note("no router, no DHCP: link-local IPv6 is all there is"),
        Stop(A),
        Stop(B),
        Check("A and B lose their IPv4 addresses", |shop| {
            shop.lan.unaddress(A)?;
            shop.lan.unaddress(B)
        }),
        Start(&[A, B]),
        Sell(A, "Café", 1, 3),
        Sell(B, "Café", 1, 3),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
    ]
}

fn other_port() -> Vec<Step> {
    vec![
        Config(A, json!({ "p2p": { "port": 4040 } })),
        Config(B, json!({ "p2p": { "port": 5050 } })),
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Check("the link is on a configured port", |shop| {
            for till in [A, B] {
                let count = |port| shop.lan.inside(till, move || Ok(mesh_connections(port)?.len()));
                let (on_4040, on_5050, on_3030) = (count(4040)?, count(5050)?, count(3030)?);
                ensure!(on_4040 + on_5050 >= 1 && on_3030 == 0, "{till}: {on_4040} + {on_5050}, and {on_3030} on 3030");
            }
            Ok(())
        }),
        Product(A, "Café", 2500),
        Sell(B, "Café", 1, 1),
        Agree(&[A, B], 5),
    ]
}

fn solo() -> Vec<Step> {
    vec![
        Start(&[A]),
        Product(A, "Café", 2500),
        StockIn(A, "Café", 10),
        Sell(A, "Café", 1, 10),
        Agree(&[A], 5),
        Check("the LED says solo, and there is no alert", |shop| {
            // A till is alone for a minute before that would be an alert.
            thread::sleep(Duration::from_secs(if is_full() { 70 } else { 3 }));
            let status = shop.status(A)?;
            ensure!(
                status["led"].as_str().is_some_and(|led| led.eq_ignore_ascii_case("solo")),
                "LED {}",
                status["led"]
            );
            let alerts = shop.alerts(A)?;
            ensure!(!alerts.iter().any(|alert| alert.contains("isconnected")), "{alerts:?}");
            ensure!(status["totalPeers"] == 0, "{status}");
            Ok(())
        }),
        Stop(A),
        Start(&[A]),
        Agree(&[A], 5),
    ]
}
