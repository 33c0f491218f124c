//! Strangers, and members that misbehave.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use super::super::handshake::{self, Established};
use super::super::shared::Shared;
use super::super::{LinkEnd, MeshEvent, Refused, SendError, StoreKey};
use super::{PATIENCE, Recipe, Till, linked, till};
use crate::model::id::{StoreId, Uuid};
use crate::wire::frame::{Bye, Mark, Preamble, SUBPROTOCOL};
use crate::wire::hello::Refusal;
use crate::wire::limits::MESSAGE_BYTES_MAX;

/// Another machine than the tills' own: 127.0.0.2.
async fn stranger(victim: &Till) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    timeout(PATIENCE, socket.connect(victim.addr())).await.unwrap().unwrap()
}

/// A stranger that speaks WebSocket with our subprotocol.
async fn upgraded(victim: &Till) -> WebSocketStream<TcpStream> {
    let mut request = "ws://till/".into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
    client_async(request, stranger(victim).await).await.unwrap().0
}

/// Waits until the other end has closed.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("closed by the till");
}

/// A member of the store, handshake done, that sends what it likes.
async fn member(victim: &mut Till) -> Established {
    let (events, _) = mpsc::channel(1);
    let shared = Shared::new(Recipe::new("member").build(), events);
    let stream = TcpStream::connect(victim.addr()).await.unwrap();
    let established = handshake::dial(&shared, stream, victim.addr()).await.unwrap();
    victim.up().await;
    *established
}

/// Whether the till still links with another, and carries a message.
async fn still_works(a: &mut Till) {
    let mut b = till("b").await;
    b.dials(a);
    let (at_b, _) = tokio::join!(b.up(), a.up());
    at_b.handle.try_send(b"still here".to_vec()).unwrap();
    assert_eq!(a.message().await, b"still here");
}

#[tokio::test]
async fn another_store_key_is_refused_and_both_say_so() {
    let mut a = till("a").await;
    let mut b = Recipe::new("b").config(|config| config.key.secret = [8; 32]).start().await;
    b.dials(&a);
    assert_eq!(a.refused().await, Refused::WrongKey);
    assert_eq!(b.refused().await, Refused::Told(Bye::WrongKey));
    a.until(|stats| stats.refused["wrong-key"] >= 3).await;
    assert_eq!((a.mesh.stats().links, b.mesh.stats().links), (0, 0));
    while let Ok(event) = a.events.try_recv() {
        assert!(!matches!(event, MeshEvent::Refused { .. }), "told more than once a minute: {event:?}");
    }
}

#[tokio::test]
async fn another_store_and_another_key_epoch_are_refused() {
    let mut a = till("a").await;
    let mut b = Recipe::new("b").hello(|hello| hello.store = StoreId(Uuid::nil())).start().await;
    b.dials(&a);
    assert_eq!(a.refused().await, Refused::Store);
    assert_eq!(b.refused().await, Refused::Told(Bye::Store));
    let mut c =
        Recipe::new("c").config(|config| config.key = StoreKey { epoch: 3, ..config.key.clone() }).start().await;
    c.dials(&a);
    assert_eq!(a.refused().await, Refused::KeyEpoch { ours: 0, theirs: 3 });
    assert_eq!(c.refused().await, Refused::Told(Bye::KeyEpoch));
}

#[tokio::test]
async fn another_currency_is_refused_and_both_say_why() {
    let mut a = till("a").await;
    let mut b = Recipe::new("b").hello(|hello| hello.currency = *b"EUR").start().await;
    b.dials(&a);
    let (at_a, at_b) = tokio::join!(a.refused(), b.refused());
    assert_eq!(at_a, Refused::Refusal(Refusal::Currency { ours: "TND".into(), theirs: "EUR".into() }));
    assert_eq!(at_b, Refused::Refusal(Refusal::Currency { ours: "EUR".into(), theirs: "TND".into() }));
    assert!(at_a.to_string().contains("\"store.currency\""), "{at_a}");
}

#[tokio::test]
async fn a_till_without_a_common_protocol_is_refused() {
    let mut a = till("a").await;
    let mut b = Recipe::new("b").hello(|hello| (hello.proto_min, hello.proto_max) = (4, 5)).start().await;
    b.dials(&a);
    let (at_a, at_b) = tokio::join!(a.refused(), b.refused());
    assert_eq!(at_a, Refused::Refusal(Refusal::TooNew { ours_max: 1, theirs_min: 4 }));
    assert_eq!(at_b, Refused::Refusal(Refusal::TooOld { ours_min: 4, theirs_max: 1 }));
}

#[tokio::test]
async fn a_client_without_the_subprotocol_is_refused() {
    let mut a = till("a").await;
    for (offered, why) in [
        (Some("soap"), Refused::Subprotocol),
        (Some("tillmesh.2, chat"), Refused::Subprotocol),
        (None, Refused::PosplusOff),
    ] {
        let mut request = "ws://till/".into_client_request().unwrap();
        if let Some(offered) = offered {
            request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
        }
        match client_async(request, stranger(&a).await).await {
            Err(SocketError::Http(response)) => assert_eq!(response.status(), 400),
            other => panic!("{other:?}"),
        }
        // One line a minute and cause: the second of a cause is counted alone.
        if offered != Some("tillmesh.2, chat") {
            assert_eq!(a.refused().await, why);
        }
    }
    still_works(&mut a).await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_with_the_subprotocol_is_refused() {
    let mut a = till("a").await;
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    a.targets(&[&server.local_addr().unwrap().to_string()]);
    let serve = async {
        loop {
            let (stream, _) = server.accept().await.unwrap();
            let _ = accept_async(stream).await;
        }
    };
    tokio::select! {
        why = a.refused() => assert_eq!(why, Refused::Subprotocol),
        () = serve => {}
    }
}

#[tokio::test]
async fn garbage_is_refused() {
    let mut a = till("a").await;
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET / HTTP/1.0\r\n\r\n", &[0; 4096]] {
        let mut stream = stranger(&a).await;
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        closed(&mut stream).await;
    }
    assert!(matches!(a.refused().await, Refused::NotTillmesh(_)));
    let preamble = Preamble { store: *b"00000000", key_epoch: 0 }.encode();
    for garbage in [Message::text("hello"), Message::binary(vec![7; 100]), Message::binary(preamble)] {
        let mut socket = upgraded(&a).await;
        socket.send(garbage).await.unwrap();
        assert!(matches!(socket.next().await, Some(Ok(Message::Close(Some(_))))));
    }
    still_works(&mut a).await;
}

#[tokio::test]
async fn a_right_preamble_with_a_wrong_handshake_is_refused() {
    let mut a = till("a").await;
    let store = StoreId(Uuid::from_bytes([5; 16])).short_hash();
    let preamble = Preamble { store: store.as_bytes().try_into().unwrap(), key_epoch: 0 };
    for noise in [vec![], vec![1; 31], vec![0; 32], vec![0xee; 60_000]] {
        let mut socket = upgraded(&a).await;
        socket.send(Message::binary(preamble.encode())).await.unwrap();
        socket.send(Message::binary(noise)).await.unwrap();
        // The third message, for those that got a second.
        let _ = socket.send(Message::binary(vec![0; 64])).await;
        while let Ok(Some(Ok(_))) = timeout(PATIENCE, socket.next()).await {}
    }
    assert_eq!(a.refused().await, Refused::WrongKey);
    still_works(&mut a).await;
}

#[tokio::test]
async fn a_frame_header_of_a_gigabyte_is_refused_at_once() {
    let mut a = till("a").await;
    // Fin and binary; masked, 64-bit length; a length; a mask. The rest never comes.
    for length in [1u64 << 30, u64::MAX, 65_536] {
        let mut stream = upgraded(&a).await.into_inner();
        stream.write_all(&[&[0x82, 0xff][..], &length.to_be_bytes(), &[1, 2, 3, 4]].concat()).await.unwrap();
        closed(&mut stream).await;
    }
    match a.refused().await {
        Refused::NotTillmesh(why) => assert!(why.contains("too long"), "{why}"),
        other => panic!("{other}"),
    }
    assert_eq!(a.refusals("deadline"), 0, "not by the deadline");
}

#[tokio::test]
async fn a_slow_loris_is_cut_off_while_others_link() {
    let mut a = Recipe::new("a").limits(|limits| limits.handshake_deadline = Duration::from_secs(1)).start().await;
    let mut loris = stranger(&a).await;
    loris.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut silent = upgraded(&a).await;
    a.until(|stats| stats.pending == 2).await;
    still_works(&mut a).await;
    let drip = async {
        // A byte now and then does not move the deadline.
        while loris.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, drip).await.expect("cut off");
    while let Ok(Some(Ok(_))) = timeout(PATIENCE, silent.next()).await {}
    a.until(|stats| stats.pending == 0).await;
    assert_eq!(a.refusals("deadline"), 2);
}

#[tokio::test]
async fn only_so_many_handshakes_run_at_once() {
    let limits = |limits: &mut super::Limits| {
        (limits.pending, limits.pending_per_address) = (5, 3);
        limits.handshake_deadline = Duration::from_secs(3600);
    };
    let mut a = Recipe::new("a").limits(limits).start().await;
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(stranger(&a).await);
    }
    a.until(|stats| stats.refused.get("busy") == Some(&17)).await;
    assert_eq!(a.mesh.stats().pending, 3, "as many as one address may have");
    // Another address still gets in.
    still_works(&mut a).await;
    for _ in 0..20 {
        held.push(TcpStream::connect(a.addr()).await.unwrap());
    }
    a.until(|stats| stats.accepted == 41).await;
    assert_eq!(a.mesh.stats().pending, 5, "as many as there may be in all");
    drop(held);
    a.until(|stats| stats.pending == 0).await;
    still_works(&mut a).await;
}

#[tokio::test]
async fn an_address_that_connects_too_often_is_limited_and_told_once() {
    let mut a =
        Recipe::new("a").limits(|limits| (limits.accept_burst, limits.accept_per_second) = (10, 0)).start().await;
    for _ in 0..60 {
        closed_after_garbage(&a).await;
    }
    a.until(|stats| stats.refused.get("rate-limited") == Some(&50)).await;
    // Tills at other addresses link and link again without being limited.
    for _ in 0..15 {
        let mut b = till("b").await;
        let (at_b, _) = linked(&mut b, &mut a).await;
        b.mesh.close(at_b.link, Bye::Silent);
        b.mesh.set_targets(vec![]);
        a.down().await;
        b.shut_down().await;
    }
    while let Ok(event) = a.events.try_recv() {
        assert!(!matches!(event, MeshEvent::Refused { why: Refused::RateLimited, .. }), "told twice");
    }
}

async fn closed_after_garbage(victim: &Till) {
    let mut stream = stranger(victim).await;
    let _ = stream.write_all(b"\r\n\r\nnonsense\r\n\r\n").await;
    closed(&mut stream).await;
}

#[tokio::test]
async fn a_member_that_breaks_the_protocol_is_cut_off() {
    let mut a = till("a").await;
    let mut evil = member(&mut a).await;
    evil.socket.send(Message::binary(vec![0; 200])).await.unwrap();
    assert!(matches!(a.down().await, LinkEnd::Violation(_)), "a frame that does not decrypt");
    let mut evil = member(&mut a).await;
    evil.socket.send(Message::text("{}")).await.unwrap();
    assert!(matches!(a.down().await, LinkEnd::Violation(_)), "a text frame");
    let mut evil = member(&mut a).await;
    let part = evil.sealer.seal(b"", Mark::More).unwrap();
    evil.socket.send(Message::binary(part)).await.unwrap();
    assert!(matches!(a.down().await, LinkEnd::Violation(_)), "an empty part");
    // It is told so.
    let told = loop {
        match timeout(PATIENCE, evil.socket.next()).await.unwrap() {
            Some(Ok(Message::Binary(frame))) => break evil.opener.open(&frame).unwrap(),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(told, [Bye::Violation.code(), Mark::Bye as u8]);
    still_works(&mut a).await;
}

#[tokio::test]
async fn a_member_whose_message_never_ends_is_cut_off() {
    let mut a = till("a").await;
    let mut evil = member(&mut a).await;
    for _ in 0..=MESSAGE_BYTES_MAX / 60_000 {
        let part = evil.sealer.seal(&[0; 60_000], Mark::More).unwrap();
        if evil.socket.send(Message::binary(part)).await.is_err() {
            break;
        }
    }
    match a.down().await {
        LinkEnd::Violation(why) => assert!(why.contains("more than 1048576 bytes"), "{why}"),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_member_that_floods_waits_until_it_is_handled() {
    let mut a = Recipe::new("a").limits(|limits| limits.received_bytes = 100_000).start().await;
    let mut b = till("b").await;
    let (at_b, at_a) = linked(&mut b, &mut a).await;
    // Nobody takes a's events: what it holds is bounded by its room and its channel, the rest stays at b.
    while at_b.handle.try_send(vec![7; 10_000]) != Err(SendError::Full) || a.mesh.stats().bytes_received == 0 {
        tokio::task::yield_now().await;
    }
    let stalled = at_b.handle.queued_bytes();
    assert!(stalled > 0);
    assert!(a.mesh.stats().bytes_received < 1_000_000, "{:?}", a.mesh.stats());
    // The other direction is not held up.
    at_a.handle.try_send(b"slowly, please".to_vec()).unwrap();
    assert_eq!(b.message().await, b"slowly, please");
    for _ in 0..100 {
        assert_eq!(a.message().await, vec![7; 10_000]);
        let _ = at_b.handle.try_send(vec![7; 10_000]);
    }
}
