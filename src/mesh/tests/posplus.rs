//! POSPlus tills at the door: who may come in, and how many.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::super::posplus::PosplusLink;
use super::{MeshEvent, PATIENCE, Recipe, Till};
use crate::mesh::{PosplusDoor, Refused};
use crate::wire::posplus::{Body, Decimals, Envelope, encode};

type Socket = WebSocketStream<TcpStream>;

async fn open_till() -> Till {
    let door = PosplusDoor {
        enabled: true,
        allow: vec!["127.0.0.1".parse().unwrap()],
        pos_id: "POS-a".into(),
        ..PosplusDoor::shut()
    };
    Recipe::new("a").config(|config| config.posplus = door).start().await
}

async fn upgraded(till: &Till) -> Socket {
    let stream = TcpStream::connect(till.addr()).await.unwrap();
    client_async("ws://till/", stream).await.unwrap().0
}

/// A POSPlus till that connects and says who it is.
async fn hello(till: &Till, pos_id: &str) -> Socket {
    let mut socket = upgraded(till).await;
    say(&mut socket, pos_id, &Body::Hello { ack: false, pos_id: pos_id.into(), pos_name: pos_id.into() }).await;
    socket
}

/// Where it is not let in, that shows later.
async fn say(socket: &mut Socket, pos_id: &str, body: &Body) {
    let envelope = Envelope { id: "1", at_ms: 0, source: pos_id };
    let _ = socket.send(Message::Text(encode(&envelope, body, Decimals::of_currency("TND")).into())).await;
}

async fn link(till: &mut Till) -> PosplusLink {
    till.wait(|event| if let MeshEvent::Posplus(link) = event { Some(*link) } else { None }).await
}

async fn closed(mut socket: Socket) {
    while let Some(Ok(_)) = timeout(PATIENCE, socket.next()).await.expect("the connection ends") {}
}

#[tokio::test]
async fn who_claims_to_be_a_till_of_the_store_is_refused_and_counted() {
    let mut a = open_till().await;
    a.mesh.set_till_ids(["POS-b".to_owned()].into());
    let own = hello(&a, "POS-a").await;
    assert_eq!(a.refused().await, Refused::PosplusOurId);
    let other = hello(&a, "POS-b").await;
    let why = a.refused().await;
    assert_eq!(why, Refused::PosplusTillId("POS-b".into()));
    assert!(why.to_string().contains("POS-b"), "{why}");
    assert_eq!(a.refusals("posplus-till-id"), 1);
    closed(own).await;
    closed(other).await;
    // A till joins whose id one has that is connected.
    let socket = hello(&a, "POS-c").await;
    let mut up = link(&mut a).await;
    assert_eq!(up.pos_id, "POS-c");
    a.mesh.set_till_ids(["POS-b".to_owned(), "POS-c".to_owned()].into());
    assert!(timeout(PATIENCE, up.inbox.recv()).await.expect("it is cut off").is_none());
    a.until(|stats| stats.refused["posplus-till-id"] == 2).await;
    closed(socket).await;
}

#[tokio::test]
async fn one_address_has_four_connections_and_those_that_are_there_stay() {
    let mut a = open_till().await;
    let mut sockets = Vec::new();
    let mut links = Vec::new();
    for _ in 0..4 {
        sockets.push(hello(&a, "POS-P").await);
        links.push(link(&mut a).await);
    }
    for _ in 0..20 {
        // Upgraded, and then let go.
        closed(upgraded(&a).await).await;
    }
    assert_eq!(a.refused().await, Refused::Busy);
    assert_eq!(a.refusals("busy"), 20);
    say(&mut sockets[0], "POS-P", &Body::Ping).await;
    let heard = timeout(PATIENCE, links[0].inbox.recv()).await.expect("it is read").expect("it is up");
    assert_eq!(heard.map(|message| message.body), Ok(Body::Ping));
    // Where one goes, another may come.
    drop(links.pop());
    closed(sockets.pop().unwrap()).await;
    let came = async {
        loop {
            let socket = hello(&a, "POS-P").await;
            tokio::select! {
                biased;
                event = a.events.recv() => match event {
                    Some(MeshEvent::Posplus(link)) => return (socket, link),
                    _ => drop(socket),
                },
                () = tokio::time::sleep(std::time::Duration::from_millis(200)) => drop(socket),
            }
        }
    };
    let (_socket, link) = timeout(PATIENCE, came).await.expect("there is room again");
    assert_eq!(link.pos_id, "POS-P");
}
