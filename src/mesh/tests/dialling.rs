//! Finding each other, again and again.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use super::super::{LinkEnd, MeshEvent, Target};
use super::{Recipe, linked, till};
use crate::wire::frame::Bye;

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_till_that_comes_back_is_dialled_again() {
    let mut a = till("a").await;
    let recipe = Recipe::new("b");
    let mut b = recipe.clone().start().await;
    linked(&mut a, &mut b).await;
    let addr = b.addr();
    b.shut_down().await;
    assert_eq!(a.down().await, LinkEnd::Theirs(Bye::Shutdown));
    let failed = a.mesh.stats().dials_failed;
    a.until(|stats| stats.dials_failed > failed + 3).await;
    let mut b = recipe.config(|config| config.port = addr.port()).start().await;
    let (at_a, _) = tokio::join!(a.up(), b.up());
    assert_eq!(at_a.addr, addr);
}

#[tokio::test]
async fn a_taken_port_is_told_and_waited_for() {
    let squatter = TcpSocket::new_v4().unwrap();
    squatter.bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    let squatter = squatter.listen(1).unwrap();
    let taken = squatter.local_addr().unwrap().port();
    let mut b = Recipe::new("b").config(|config| config.port = taken).start_blind();
    let failed = |event| if let MeshEvent::ListenFailed { port, error } = event { Some((port, error)) } else { None };
    let (port, error) = b.wait(failed).await;
    assert_eq!(port, taken);
    assert!(error.contains("another program uses the port"), "{error}");
    assert_eq!(b.mesh.stats().port, None);
    // It dials all the same.
    let mut a = till("a").await;
    let (at_b, _) = linked(&mut b, &mut a).await;
    at_b.handle.try_send(b"selling goes on".to_vec()).unwrap();
    assert_eq!(a.message().await, b"selling goes on");
    drop(squatter);
    // Told once: the next word on the port is that it listens.
    let port = b.wait(|event| match event {
        MeshEvent::Listening { port } => Some(port),
        MeshEvent::ListenFailed { error, .. } => panic!("told twice: {error}"),
        _ => None,
    });
    assert_eq!(port.await, taken);
}

#[tokio::test]
async fn all_addresses_of_a_target_are_tried() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    let (dead, alive) = (nobody().await.to_string(), b.addr().to_string());
    a.targets(&[&dead, "no port", "127.0.0.1:99999", &alive]);
    let (at_a, _) = tokio::join!(a.up(), b.up());
    assert_eq!(at_a.addr, b.addr());
}

#[tokio::test]
async fn names_and_ipv6_are_dialled() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    a.targets(&[&format!("localhost:{}", b.port)]);
    tokio::join!(a.up(), b.up());
    if TcpListener::bind("[::1]:0").await.is_ok() {
        let mut c = till("c").await;
        c.targets(&[&format!("[::1]:{}", b.port)]);
        let (at_c, at_b) = tokio::join!(c.up(), b.up());
        assert!(at_c.addr.is_ipv6() && at_b.addr.is_ipv6());
    }
}

#[tokio::test]
async fn a_till_does_not_link_with_itself() {
    let mut a = till("a").await;
    a.dials(&a);
    let addr = a.addr();
    let ourselves = |event| match event {
        MeshEvent::Ourselves { addr } => Some(addr),
        MeshEvent::LinkUp(up) => panic!("{up:?}"),
        _ => None,
    };
    assert_eq!(a.wait(ourselves).await, addr);
    a.until(|stats| stats.pending == 0).await;
    let dials = a.mesh.stats().dials;
    // Another target is dialled again and again meanwhile; the till itself is not.
    let dead = nobody().await;
    let target = |name: &str, addr: SocketAddr| Target { name: name.to_owned(), addresses: vec![addr.to_string()] };
    a.mesh.set_targets(vec![target("other", addr), target("dead", dead)]);
    a.until(|stats| stats.dials_failed >= 5).await;
    let stats = a.mesh.stats();
    assert_eq!(stats.dials - dials, stats.dials_failed, "every dial since was at the dead address");
    assert_eq!((a.refusals("ourselves"), stats.links), (0, 0));
    a.mesh.dial_now();
    assert_eq!(a.wait(ourselves).await, addr, "asked to, it looks again");
}

#[tokio::test]
async fn an_address_that_is_linked_is_not_dialled() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    let (_, at_b) = linked(&mut a, &mut b).await;
    let dead = nobody().await;
    let back = SocketAddr::new(at_b.addr.ip(), at_b.hello.port);
    let target = |name: &str, addr: SocketAddr| Target { name: name.to_owned(), addresses: vec![addr.to_string()] };
    b.mesh.set_targets(vec![target("back", back), target("dead", dead)]);
    b.until(|stats| stats.dials_failed >= 5).await;
    let stats = b.mesh.stats();
    assert_eq!(stats.dials, stats.dials_failed, "only the dead address is dialled");
    // Once the link is gone, it is.
    a.mesh.set_targets(vec![]);
    b.mesh.close(at_b.link, Bye::Silent);
    let (at_a, at_b) = tokio::join!(a.up(), b.up());
    assert!(at_b.dialled_by_us && !at_a.dialled_by_us);
}

#[tokio::test]
async fn two_targets_of_one_till_make_one_link() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    let targets = ["mdns", "config", "remembered"]
        .map(|name| Target { name: name.to_owned(), addresses: vec![b.addr().to_string()] });
    a.mesh.set_targets(targets.to_vec());
    tokio::join!(a.up(), b.up());
    let dead = nobody().await.to_string();
    a.mesh.set_targets([&targets[..], &[Target { name: "dead".to_owned(), addresses: vec![dead] }]].concat());
    a.until(|stats| stats.dials_failed >= 5).await;
    assert_eq!((a.mesh.stats().links, b.mesh.stats().links), (1, 1));
    assert_eq!(b.mesh.stats().accepted, 1);
}

#[tokio::test]
async fn dial_now_does_not_wait_for_the_backoff() {
    let hour = std::time::Duration::from_secs(3600);
    let slow = Recipe::new("a").limits(|limits| (limits.redial_first, limits.redial_max) = (hour, hour));
    let mut a = slow.start().await;
    let dead = nobody().await;
    a.targets(&[&dead.to_string()]);
    a.until(|stats| stats.dials_failed == 1).await;
    let mut b = Recipe::new("b").config(|config| config.port = dead.port()).start().await;
    a.mesh.dial_now();
    tokio::join!(a.up(), b.up());
    assert_eq!(a.mesh.stats().dials, 2);
}

#[tokio::test]
async fn new_addresses_of_a_target_are_dialled_at_once() {
    let hour = std::time::Duration::from_secs(3600);
    let slow = Recipe::new("a").limits(|limits| (limits.redial_first, limits.redial_max) = (hour, hour));
    let (mut a, mut b) = (slow.start().await, till("b").await);
    a.targets(&[&nobody().await.to_string()]);
    a.until(|stats| stats.dials_failed == 1).await;
    a.dials(&b);
    tokio::join!(a.up(), b.up());
}

#[tokio::test]
async fn a_till_linked_under_another_address_is_not_dialled() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    // Each dials the other under an address that the other's link does not show; then one of the two links is closed.
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], b.port)).to_string();
    a.targets(&[&elsewhere]);
    let (first, _) = tokio::join!(a.up(), b.up());
    b.targets(&[&SocketAddr::from(([127, 0, 0, 3], a.port)).to_string()]);
    tokio::join!(a.up(), b.up());
    a.mesh.close(first.link, Bye::Duplicate);
    assert_eq!(a.down().await, LinkEnd::Ours(Bye::Duplicate));
    let dead = nobody().await.to_string();
    let target = |name: &str, address: String| Target { name: name.to_owned(), addresses: vec![address] };
    a.mesh.set_targets(vec![target("other", elsewhere), target("dead", dead)]);
    a.until(|stats| stats.dials_failed >= 5).await;
    assert_eq!(a.mesh.stats().dials - a.mesh.stats().dials_failed, 1);
    assert_eq!((a.mesh.stats().links, b.mesh.stats().links), (1, 1));
}
