//! Who is not of the store: other keys, other currencies, no handshake at all.

use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::Scenario;
use crate::lan::{A, B, C};
use crate::shop::{Shop, new_store};
use crate::step::Step::{self, *};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "wrong-key",
            tills: 3,
            shows: "defect 11: a till with another store key is shut out",
            steps: wrong_key,
        },
        Scenario {
            name: "plaintext",
            tills: 3,
            shows: "defect 11: nobody injects sales in the clear",
            steps: plaintext,
        },
        Scenario {
            name: "two-currencies",
            tills: 2,
            shows: "a till of another currency is refused, and it is said why",
            steps: two_currencies,
        },
    ]
}

fn wrong_key() -> Vec<Step> {
    vec![
        Check("C has the store's id and name, but another key", |shop| {
            let other = new_store("TND")?;
            let key = other["key"].clone();
            ensure!(key.is_string(), "a store without a key: {other}");
            shop.provision(C, &json!({ "store": { "key": key } }))
        }),
        Config(C, json!({ "peers": [A.address(), B.address()] })),
        Start(&[A, B, C]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 10),
        Agree(&[A, B], 5),
        Alert(C, &["wrongStoreKey"], 10),
        Check("nothing of the shop is on C, and nothing of C on the shop, for 5 s", |shop| apart(shop, 5)),
        Check("C still sells by itself", |shop| {
            let sale = shop.sale("Café", 1);
            shop.send(C, &sale).map(drop)
        }),
        Agree(&[A, B], 5),
    ]
}

fn apart(shop: &Shop, seconds: u64) -> Result<()> {
    thread::sleep(Duration::from_secs(seconds));
    let stranger = shop.status(C)?;
    ensure!(stranger["connectedPeers"] == 0, "C has peers: {stranger}");
    ensure!(stranger["counts"]["tickets"] == 0, "C has tickets: {stranger}");
    for till in [A, B] {
        let status = shop.status(till)?;
        ensure!(status["connectedPeers"] == 1, "{till} has {} peers", status["connectedPeers"]);
    }
    Ok(())
}

fn two_currencies() -> Vec<Step> {
    vec![
        Note("someone typed the store by hand, with another currency"),
        Config(B, json!({ "store": { "currency": "EUR" } })),
        Start(&[A, B]),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 5),
        Alert(A, &["currencyMismatch"], 10),
        Alert(B, &["currencyMismatch"], 10),
        Check("B has none of A's tickets", |shop| {
            let status = shop.status(B)?;
            ensure!(status["counts"]["tickets"] == 0 && status["connectedPeers"] == 0, "{status}");
            Ok(())
        }),
        Note("put right, they are one shop"),
        Stop(B),
        Check("B's data is moved away: money in euros cannot become dinars", |shop| {
            Ok(std::fs::remove_dir_all(shop.folder(B))?)
        }),
        Start(&[B]),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
        NoAlert(A, &["currencyMismatch"], 20),
    ]
}

fn plaintext() -> Vec<Step> {
    vec![
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 3),
        Agree(&[A, B], 5),
        Check("C speaks POSPlus's plain JSON: refused before a word of it", |shop| {
            let answer = shop.lan.inside(C, || upgrade(None))?;
            ensure!(!answer.starts_with("HTTP/1.1 101"), "answered: {answer}");
            Ok(())
        }),
        Check("C names our subprotocol and then sends garbage: shut out", |shop| {
            shop.lan.inside(C, || garbage().context("garbage"))
        }),
        Check("C opens forty connections and says nothing", |shop| {
            let address = format!("{}:3030", A.address());
            let silent = shop.lan.inside(C, || {
                Ok((0..40).filter_map(|_| TcpStream::connect(&address).ok()).collect::<Vec<TcpStream>>())
            })?;
            shop.sell_many(A, "Café", 1, 5)?;
            shop.sell_many(B, "Café", 1, 5)?;
            shop.agree(&[A, B], Duration::from_secs(20))?;
            drop(silent);
            Ok(())
        }),
        Note("a new link is still made afterwards"),
        Kill(B),
        Start(&[B]),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
        Check("C's till does not exist for A", |shop| {
            let status = shop.status(A)?;
            ensure!(status["totalPeers"] == 1, "{status}");
            Ok(())
        }),
    ]
}

/// Asks A for a WebSocket, and gives the answer's head.
fn upgrade(subprotocol: Option<&str>) -> Result<String> {
    let (_, head) = open(subprotocol)?;
    Ok(head)
}

fn open(subprotocol: Option<&str>) -> Result<(TcpStream, String)> {
    let address = format!("{}:3030", A.address());
    let mut stream = TcpStream::connect(&address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let protocol = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n")).unwrap_or_default();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{protocol}\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    Ok((stream, String::from_utf8_lossy(&head).into_owned()))
}

/// A binary frame of noise where the handshake should be; the link must end.
fn garbage() -> Result<()> {
    let (mut stream, head) = open(Some("tillmesh.1"))?;
    if !head.starts_with("HTTP/1.1 101") {
        return Ok(());
    }
    // Masked with zeroes, which the protocol allows.
    let mut frame = vec![0x82, 0x80 | 64, 0, 0, 0, 0];
    frame.extend([0xa5; 64]);
    // It may have hung up already.
    let _ = stream.write_all(&frame);
    let mut rest = Vec::new();
    stream.take(1 << 16).read_to_end(&mut rest).context("the link stays open")?;
    ensure!(rest.len() < 1 << 16, "it goes on talking");
    Ok(())
}
