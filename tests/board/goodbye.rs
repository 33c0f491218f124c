//! What a till that is stopped says by mDNS, heard on a network of its own.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_reuseaddr, set_socket_reuseport};
use rustix::net::{AddressFamily, SocketType, bind, socket};
use serde_json::json;

use super::leds::Root;
use super::service::{PATIENCE, Plan, Service, tool};

/// Set for the run of this test that is inside the network.
const INSIDE: &str = "TILLMESH_TEST_INSIDE";
const MDNS: (Ipv4Addr, u16) = (Ipv4Addr::new(224, 0, 0, 251), 5353);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PTR: u16 = 12;

#[test]
fn a_stop_says_goodbye_by_mdns() {
    needs_root!();
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let this = std::env::current_exe().unwrap();
    let name = "goodbye::a_stop_says_goodbye_by_mdns";
    let mut command = Command::new("unshare");
    command.arg("--net").arg(this).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn inside() {
    for words in [
        "link set lo up",
        "link add till0 type veth peer name far0",
        "addr add 10.77.0.1/24 dev till0",
        "link set far0 up",
        "link set till0 up",
        "route add 224.0.0.0/4 dev till0",
    ] {
        tool("ip", &words.split(' ').collect::<Vec<_>>(), Path::new("/"));
    }
    let listener = listen();
    let config = json!({"p2p": {"port": 3030, "discoveryEnabled": true}});
    let mut till = Service::start_with(&Root::of(""), Plan { config, ..Plan::default() });
    let end = Instant::now() + PATIENCE;
    while !heard(&listener).iter().any(|lifetime| *lifetime > 0) {
        assert!(Instant::now() < end, "it does not announce itself; {}", till.log());
    }
    let took = till.stop();
    assert!(took < Duration::from_secs(2), "{took:?}");
    // It has ended: what it said is here.
    let mut lifetimes = Vec::new();
    while let more @ [_, ..] = &heard(&listener)[..] {
        lifetimes.extend_from_slice(more);
    }
    assert!(lifetimes.contains(&0), "{lifetimes:?}; {}", till.log());
}

fn listen() -> UdpSocket {
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    set_socket_reuseaddr(&socket, true).unwrap();
    set_socket_reuseport(&socket, true).unwrap();
    bind(&socket, &std::net::SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, MDNS.1)).unwrap();
    let socket = UdpSocket::from(socket);
    socket.join_multicast_v4(&MDNS.0, &ADDRESS).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    socket
}

/// The lifetimes that packets give the till's service until none comes for a moment.
fn heard(listener: &UdpSocket) -> Vec<u32> {
    let (mut lifetimes, mut buffer) = (Vec::new(), [0; 9_000]);
    while lifetimes.is_empty() {
        let Ok((length, _)) = listener.recv_from(&mut buffer) else { break };
        lifetimes = of_service(&buffer[..length]);
    }
    lifetimes
}

/// The lifetimes of the answers that point from the service's name to a till (RFC 1035, 4.1). A lifetime of 0 is a goodbye.
fn of_service(packet: &[u8]) -> Vec<u32> {
    let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let (questions, answers) = (word(4), word(6));
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(packet, at) + 4;
    }
    let mut lifetimes = Vec::new();
    for _ in 0..answers {
        let fixed = after_name(packet, at);
        let of_service = packet[at..].starts_with(b"\x0c_posplus-p2p") || packet[at] >= 0xc0;
        if word(fixed) == PTR && of_service {
            lifetimes.push(u32::from(word(fixed + 4)) << 16 | u32::from(word(fixed + 6)));
        }
        at = fixed + 10 + usize::from(word(fixed + 8));
    }
    lifetimes
}

/// Where a name ends: after its last label, or after a pointer to the rest of it.
fn after_name(packet: &[u8], mut at: usize) -> usize {
    loop {
        match packet[at] {
            0 => return at + 1,
            length if length >= 0xc0 => return at + 2,
            length => at += 1 + usize::from(length),
        }
    }
}
