//! Two tills that belong together.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::sleep;

use super::super::{LinkEnd, MeshEvent, Refused, SendError};
use super::{Recipe, linked, till};
use crate::wire::frame::Bye;
use crate::wire::limits::MESSAGE_BYTES_MAX;

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i % 253) as u8 ^ seed).collect()
}

#[tokio::test]
async fn two_tills_link_and_exchange_the_longest_messages_both_ways() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    let (at_a, at_b) = linked(&mut a, &mut b).await;
    assert!(at_a.dialled_by_us && !at_b.dialled_by_us);
    assert_eq!((at_a.hello.pos_name.as_str(), at_b.hello.pos_name.as_str()), ("b", "a"));
    assert_eq!((at_a.hello.port, at_b.hello.port), (b.port, a.port));
    assert_eq!((at_a.proto, at_b.proto), (1, 1));
    assert_ne!(at_a.till, at_b.till);
    for length in [0, 1, 70_000, MESSAGE_BYTES_MAX] {
        at_a.handle.try_send(pattern(length, 1)).unwrap();
        at_b.handle.try_send(pattern(length, 2)).unwrap();
        let (to_a, to_b) = tokio::join!(a.message(), b.message());
        assert!(to_a == pattern(length, 2) && to_b == pattern(length, 1), "{length} bytes");
    }
    assert_eq!(at_a.handle.try_send(vec![0; MESSAGE_BYTES_MAX + 1]), Err(SendError::TooLong));
    a.until(|stats| stats.bytes_sent == stats.bytes_received && stats.bytes_sent > MESSAGE_BYTES_MAX as u64).await;
}

#[tokio::test]
async fn messages_keep_their_order() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    let (at_a, _) = linked(&mut a, &mut b).await;
    for i in 0..2000u32 {
        at_a.handle.try_send(i.to_be_bytes().to_vec()).unwrap();
    }
    for i in 0..2000u32 {
        assert_eq!(b.message().await, i.to_be_bytes());
    }
}

#[tokio::test]
async fn a_closed_link_tells_both_why() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    let (at_a, at_b) = linked(&mut a, &mut b).await;
    b.mesh.close(at_b.link, Bye::Duplicate);
    assert_eq!(a.down().await, LinkEnd::Theirs(Bye::Duplicate));
    assert_eq!(b.down().await, LinkEnd::Ours(Bye::Duplicate));
    assert_eq!(at_a.handle.try_send(vec![1]), Err(SendError::Closed));
    assert_eq!(at_b.handle.try_send(vec![1]), Err(SendError::Closed));
    assert_eq!(at_b.handle.queued_bytes(), 0);
    let again = a.up().await;
    assert!(again.link > at_a.link, "a link's number is never used again");
}

#[tokio::test]
async fn a_stopping_till_says_goodbye() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    linked(&mut a, &mut b).await;
    let ends = a.shut_down().await;
    assert_eq!(b.down().await, LinkEnd::Theirs(Bye::Shutdown));
    assert!(ends.iter().all(|end| *end == LinkEnd::Ours(Bye::Shutdown)), "{ends:?}");
}

#[tokio::test]
async fn a_till_that_does_not_read_fills_its_queue_and_nothing_else() {
    const LIMIT: usize = 300_000;
    let mut a = Recipe::new("a").limits(|limits| limits.queue_bytes = LIMIT).start().await;
    let mut b = Recipe::new("b").limits(|limits| limits.received_bytes = 64 * 1024).start().await;
    let mut c = till("c").await;
    let (to_b, _) = linked(&mut a, &mut b).await;
    c.dials(&a);
    let (to_c, _) = tokio::join!(a.up(), c.up());
    // Until the network's own buffers and b's room are full.
    let mut sent = 0u32;
    let mut idle = 0;
    while idle < 20 {
        match to_b.handle.try_send([&sent.to_be_bytes(), pattern(40_000, 0).as_slice()].concat()) {
            Ok(()) => (sent, idle) = (sent + 1, 0),
            Err(error) => {
                assert_eq!(error, SendError::Full);
                idle += 1;
                sleep(Duration::from_millis(5)).await;
            }
        }
        assert!(to_b.handle.queued_bytes() <= LIMIT);
        assert!(sent < 10_000, "the network swallows everything");
    }
    to_c.handle.try_send(b"not held up".to_vec()).unwrap();
    assert_eq!(c.message().await, b"not held up");
    for i in 0..sent {
        assert_eq!(b.message().await[..4], i.to_be_bytes());
    }
    a.until(|_| to_b.handle.queued_bytes() == 0).await;
}

#[tokio::test]
async fn a_link_that_does_not_read_can_still_be_closed() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    let (to_b, _) = linked(&mut a, &mut b).await;
    while b.mesh.stats().bytes_received < 4_000_000 && to_b.handle.try_send(vec![0; 100_000]) != Err(SendError::Full) {
        sleep(Duration::from_millis(1)).await;
    }
    a.mesh.close(to_b.link, Bye::Silent);
    assert_eq!(a.down().await, LinkEnd::Ours(Bye::Silent));
}

#[tokio::test]
async fn switching_off_closes_everything_and_on_opens_it_again() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    linked(&mut a, &mut b).await;
    b.mesh.set_enabled(false);
    assert_eq!(a.down().await, LinkEnd::Theirs(Bye::Disabled));
    assert_eq!(b.down().await, LinkEnd::Ours(Bye::Disabled));
    b.until(|stats| !stats.enabled && stats.port.is_none() && stats.links == 0).await;
    let failed = a.mesh.stats().dials_failed;
    a.until(|stats| stats.dials_failed > failed + 2).await;
    b.mesh.set_enabled(true);
    let port = b.wait(|event| if let MeshEvent::Listening { port } = event { Some(port) } else { None }).await;
    assert_eq!(port, b.port);
    tokio::join!(a.up(), b.up());
}

#[tokio::test]
async fn a_mesh_that_starts_switched_off_does_nothing_until_switched_on() {
    let mut a = Recipe::new("a").config(|config| config.enabled = false).start_blind();
    let mut b = till("b").await;
    a.dials(&b);
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!((a.mesh.stats().dials, a.mesh.stats().port), (0, None));
    a.mesh.set_enabled(true);
    tokio::join!(a.up(), b.up());
}

#[tokio::test]
async fn a_retired_till_is_cut_off_at_once_and_kept_out() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    let (_, at_b) = linked(&mut a, &mut b).await;
    b.mesh.set_denied(HashSet::from([at_b.till]));
    assert_eq!(a.down().await, LinkEnd::Theirs(Bye::Retired));
    assert_eq!(b.refused().await, Refused::Retired);
    assert_eq!(a.refused().await, Refused::Told(Bye::Retired));
    assert_eq!(b.mesh.stats().links, 0);
    b.mesh.set_denied(HashSet::new());
    tokio::join!(a.up(), b.up());
}

#[tokio::test]
async fn there_are_only_so_many_links() {
    let mut a = Recipe::new("a").limits(|limits| limits.links = 1).start().await;
    let (mut b, mut c) = (till("b").await, till("c").await);
    linked(&mut b, &mut a).await;
    c.dials(&a);
    assert_eq!(a.refused().await, Refused::Busy);
    let b_ends = b.shut_down().await;
    assert!(b_ends.iter().all(|end| *end == LinkEnd::Ours(Bye::Shutdown)), "{b_ends:?}");
    let up = a.up().await;
    assert_eq!(up.hello.pos_name, "c");
    up.handle.try_send(b"welcome".to_vec()).unwrap();
    assert_eq!(c.message().await, b"welcome");
}

#[tokio::test]
async fn a_mesh_whose_events_nobody_takes_ends() {
    let (mut a, mut b) = (till("a").await, till("b").await);
    linked(&mut a, &mut b).await;
    drop(a.events);
    assert_eq!(b.down().await, LinkEnd::Theirs(Bye::Shutdown));
    let failed = b.mesh.stats().dials_failed;
    b.targets(&[&format!("127.0.0.1:{}", a.port)]);
    b.until(|stats| stats.dials_failed > failed).await;
}
