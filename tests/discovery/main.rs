//! Discovery on real networks: tills in network namespaces joined by a bridge, with cables that come out and Debian's avahi as
//! the other implementation.
//!
//! Needs root, iproute2, avahi-daemon, avahi-utils and dbus. Where they are missing the tests say so and pass, except in CI
//! (`CI=true`), where they fail.

mod avahi;
mod lan;
mod packet;
mod till;

use std::time::Duration;

use avahi::Avahi;
use lan::Lan;
use till::{Spec, Till};

/// Leaves the test where the machine cannot run it.
macro_rules! needs {
    ($($tool:literal),*) => {
        if let Some(reason) = lan::missing(&[$($tool),*]) {
            lan::skip(&reason);
            return;
        }
    };
}

/// Not a test of its own: the till that the others run inside a namespace, by starting this very binary again.
#[test]
fn till_in_a_namespace() {
    till::run_if_asked();
}

#[test]
fn tills_find_one_another_and_hear_goodbyes() {
    needs!("ip");
    let lan = Lan::new(2);
    let mut a = Till::start(&lan, 1, Spec::new(1));
    let mut b = Till::start(&lan, 2, Spec { port: 4040, ..Spec::new(2) });
    a.expect("ready", |e| e.is("ready"));
    let seen = a.expect("b at its IPv4 address", |e| e.found(2) && e.at(0) == "10.77.0.2:4040");
    assert_eq!(seen.text("kin"), "OurStore");
    assert_eq!(seen.text("pos_id"), "POS-2");
    let seen = a.expect("b with its link-local address and scope", |e| e.found(2) && e.link_local().is_some());
    assert_eq!(seen.at(0), "10.77.0.2:4040", "IPv4 stays first");
    b.expect("a", |e| e.found(1) && e.at(0) == "10.77.0.1:3030");

    b.say("port 4041");
    a.expect("b at its new port", |e| e.found(2) && e.at(0) == "10.77.0.2:4041");
    b.say("off");
    a.expect("b's goodbye", |e| e.lost(2));
    b.expect("a lost with the switch", |e| e.lost(1));
    b.say("on");
    a.expect("b again", |e| e.found(2) && e.at(0) == "10.77.0.2:4041");
    b.expect("a again", |e| e.found(1));
    b.stop();
    a.expect("b's last goodbye", |e| e.lost(2));
}

#[test]
fn a_killed_till_is_verified_away_and_found_when_it_is_back() {
    needs!("ip");
    let lan = Lan::new(2);
    let mut a = Till::start(&lan, 1, Spec::new(1));
    let mut b = Till::start(&lan, 2, Spec::new(2));
    let key = a.expect("b", |e| e.found(2)).text("key").to_owned();
    b.kill();
    a.say(&format!("verify {key}"));
    a.expect("b gone", |e| e.lost(2));
    let _b = Till::start(&lan, 2, Spec::new(2));
    a.expect("b back on the same port", |e| e.found(2) && e.at(0) == "10.77.0.2:3030");
}

#[test]
fn a_cable_out_and_in_and_a_new_address_are_survived() {
    needs!("ip");
    let lan = Lan::new(2);
    let mut a = Till::start(&lan, 1, Spec::new(1));
    let mut b = Till::start(&lan, 2, Spec::new(2));
    a.expect("b", |e| e.found(2) && e.at(0) == "10.77.0.2:3030");
    b.expect("a", |e| e.found(1) && e.at(0) == "10.77.0.1:3030");

    lan.ip_in(2, "link set eth0 down");
    b.expect("a unreachable", |e| e.lost(1));
    lan.ip_in(2, "link set eth0 up");
    b.expect("a again", |e| e.found(1) && e.at(0) == "10.77.0.1:3030");
    b.rewind();
    b.expect("the network changed", |e| e.is("networkChanged"));

    lan.ip_in(2, "address add 10.77.0.22/24 dev eth0");
    lan.ip_in(2, "address del 10.77.0.2/24 dev eth0");
    // Deleting the first address of a subnet takes the others with it, unless the kernel is told to promote them.
    lan.ip_in(2, "address replace 10.77.0.22/24 dev eth0");
    a.expect("b at its new address", |e| e.found(2) && e.addresses().contains(&"10.77.0.22:3030"));
}

#[test]
fn a_till_that_starts_without_a_cable_is_found_once_it_has_one() {
    needs!("ip");
    let lan = Lan::new(2);
    lan.ip_in(2, "link set eth0 down");
    let mut a = Till::start(&lan, 1, Spec::new(1));
    let mut b = Till::start(&lan, 2, Spec::new(2));
    a.expect("ready", |e| e.is("ready"));
    b.expect("ready on loopback alone", |e| e.is("ready"));
    lan.ip_in(2, "link set eth0 up");
    a.expect("b", |e| e.found(2) && e.at(0) == "10.77.0.2:3030");
    b.expect("a", |e| e.found(1) && e.at(0) == "10.77.0.1:3030");
}

#[test]
fn a_machine_without_any_interface_says_so_until_it_has_one() {
    needs!("ip");
    let lan = Lan::new(1);
    lan.ip_in(1, "link set eth0 down");
    lan.ip_in(1, "link set lo down");
    let mut a = Till::start(&lan, 1, Spec::new(1));
    let failed = a.expect("a failure", |e| e.is("failed"));
    assert!(failed.text("error").contains("UDP port 5353"), "{}", failed.text("error"));
    lan.ip_in(1, "link set lo up");
    a.expect("ready", |e| e.is("ready"));
}

#[test]
fn tills_on_one_machine_find_one_another_with_and_without_a_network() {
    needs!("ip");
    let lan = Lan::new(1);
    lan.ip_in(1, "link set eth0 down");
    let mut tills: Vec<Till> =
        (1..=3).map(|n| Till::start(&lan, 1, Spec { port: 3030 + u16::from(n), ..Spec::new(n) })).collect();
    for (n, till) in (1..).zip(&mut tills) {
        for other in (1..=3).filter(|other| *other != n) {
            let address = format!("127.0.0.1:{}", 3030 + u16::from(other));
            till.expect("a neighbour on loopback", |e| e.found(other) && e.at(0) == address);
            till.rewind();
        }
    }
    lan.ip_in(1, "link set eth0 up");
    tills[0].expect("a neighbour on the network, not on loopback", |e| {
        e.found(2) && e.at(0) == "10.77.0.1:3032" && !e.addresses().iter().any(|a| a.starts_with("127."))
    });
}

#[test]
fn tills_of_one_name_and_one_host_name_are_told_apart() {
    needs!("ip");
    let lan = Lan::new(3);
    let same = |n| Spec { instance: "Caisse n° 1".into(), pos_id: "POS-001".into(), ..Spec::new(n) };
    let mut a = Till::start(&lan, 1, same(1));
    a.expect("ready", |e| e.is("ready"));
    let mut b = Till::start(&lan, 2, same(2));
    a.expect("b under another name", |e| {
        e.found(2) && e.at(0) == "10.77.0.2:3030" && !e.addresses().contains(&"10.77.0.1:3030")
    });
    b.expect("a", |e| e.found(1) && e.at(0) == "10.77.0.1:3030" && !e.addresses().contains(&"10.77.0.2:3030"));
    let mut c = Till::start(&lan, 3, Spec { store: 9, ..Spec::new(3) });
    for (till, at) in [(1, "10.77.0.1:3030"), (2, "10.77.0.2:3030")] {
        let seen = c.expect("a till of another store", |e| e.found(till) && e.at(0) == at);
        assert_eq!(seen.text("kin"), "OtherStore");
        c.rewind();
    }
}

#[test]
fn avahi_sees_us_and_we_see_what_avahi_publishes() {
    needs!("ip", "avahi-daemon", "avahi-browse", "avahi-publish", "dbus-daemon");
    let lan = Lan::new(2);
    let mut a = Till::start(&lan, 1, Spec { instance: "Caisse No. 1 é".into(), ..Spec::new(1) });
    a.expect("ready", |e| e.is("ready"));
    let avahi = Avahi::start(&lan, 2);
    let line = avahi
        .browse_until("our service over IPv4", |line| line.contains(";IPv4;") && line.contains(";10.77.0.1;3030;"));
    for txt in ["\"id=POS-1\"", "\"version=1.2.3\"", "\"proto=1\"", "\"store=", &format!("\"till={}\"", till::id(1))] {
        assert!(line.contains(txt), "{txt} in {line}");
    }
    assert!(line.contains("Caisse\\032No\\.\\0321\\032\\195\\169"), "{line}");

    let mut publishing = avahi.publish("POSPlus-pc", 3031, &["id=POS-002", "version=1.0.0"]);
    let seen = a.expect("avahi's service", |e| e.text("pos_id") == "POS-002" && e.at(0) == "10.77.0.2:3031");
    assert_eq!(seen.text("kin"), "Posplus");
    let key = seen.text("key").to_owned();
    publishing.end();
    a.expect("avahi's goodbye", |e| e.is("lost") && e.text("key") == key);

    a.stop();
    avahi.browse_until_gone("our goodbye", ";10.77.0.1;3030;");
}

#[test]
fn a_host_record_without_local_is_accepted() {
    needs!("ip");
    let lan = Lan::new(2);
    let mut a = Till::start(&lan, 1, Spec::new(1));
    a.expect("ready", |e| e.is("ready"));
    // As bonjour-service of POSPlus does: the bare host name, with its address in the same packet.
    let announcement = packet::announcement("POSPlus-bare", "DESKTOP-1", [10, 77, 0, 2], 3030, &["id=POS-003"]);
    let seen = a.expect_while(
        "the bare host",
        Duration::from_millis(500),
        || lan.multicast(2, &announcement),
        |e| e.is("found") && e.text("pos_id") == "POS-003",
    );
    assert_eq!(seen.addresses(), ["10.77.0.2:3030"]);
}
