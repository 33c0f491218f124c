//! Clients that are stuck, slow or too many: a sale is not held up by them.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::till::{DEADLINE, TOKEN, Till, id, sale};

/// What a sale takes at most on a noisy machine. Any one of the stuck clients would hold it up for longer: their limits are 10 s and more.
const SALE_TIME_MAX: Duration = Duration::from_secs(8);

fn stuck(till: &Till, request: &str) -> TcpStream {
    let mut stream = till.connect();
    // Shut out at once is what some of them deserve.
    drop(stream.write_all(request.as_bytes()));
    stream
}

fn sells(till: &Till) {
    let began = Instant::now();
    till.call("POST", "/v1/tickets", &sale(&id(), None)).json(201);
    assert!(began.elapsed() < SALE_TIME_MAX, "a sale took {:?}", began.elapsed());
}

#[test]
fn a_sale_finds_its_way_past_stuck_clients() {
    let till = Till::start();
    let half_heads: Vec<_> = (0..100).map(|_| stuck(&till, "GET /v1/status HTTP/1.1\r\nhost: loc")).collect();
    sells(&till);
    let silent: Vec<_> = (0..100).map(|_| till.connect()).collect();
    sells(&till);
    let streams: Vec<_> =
        (0..40).map(|_| stuck(&till, "GET /v1/changes HTTP/1.1\r\nhost: localhost\r\n\r\n")).collect();
    sells(&till);
    let head = format!(
        "POST /v1/tickets HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 500\r\n\r\n{{"
    );
    let half_bodies: Vec<_> = (0..20).map(|_| stuck(&till, &head)).collect();
    sells(&till);
    assert_eq!(till.counts()[0], 4);
    drop((half_heads, silent, streams, half_bodies));
}

#[test]
fn streams_have_a_share_of_their_own() {
    let till = Till::start();
    let mut open = Vec::new();
    for _ in 0..16 {
        let mut stream = stuck(&till, "GET /v1/changes HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        open.push(stream);
    }
    let refused = till.get("/v1/changes");
    refused.problem(503);
    assert!(!refused.header("retry-after").is_empty());
    till.get("/v1/tickets").json(200);
    drop(open.pop());
    let began = Instant::now();
    loop {
        let mut stream = stuck(&till, "GET /v1/changes HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        if &status == b"HTTP/1.1 200" {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "the place of a closed stream is not given back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn who_asks_without_end_is_turned_away_and_a_sale_is_not() {
    let till = Till::start();
    let mut stream = till.connect();
    // One connection, as fast as it goes, with tokens that are guessed.
    const ASKED: usize = 4_000;
    let mut writer = stream.try_clone().unwrap();
    let asking = std::thread::spawn(move || {
        let ask = |n: usize| {
            let last = if n == ASKED { "connection: close\r\n" } else { "" };
            format!("GET /v1/nowhere HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {n}\r\n{last}\r\n")
        };
        (1..=ASKED).try_for_each(|n| writer.write_all(ask(n).as_bytes())).unwrap();
    });
    let mut heard = String::new();
    stream.read_to_string(&mut heard).unwrap();
    asking.join().unwrap();
    let answers: Vec<&str> = heard.match_indices("HTTP/1.1 ").map(|(at, _)| &heard[at + 9..at + 12]).collect();
    assert_eq!(answers.len(), ASKED);
    assert!(answers[..500].iter().all(|status| *status == "404"), "turned away too early");
    let refused = answers.iter().filter(|status| **status == "429").count();
    assert!(refused > 0 && answers.iter().all(|status| ["404", "429"].contains(status)));
    assert_eq!(heard.matches("retry-after: 1\r\n").count(), refused, "it says when to come again");
    // From the same address, with the token.
    for _ in 0..20 {
        sells(&till);
    }
    let began = Instant::now();
    while till.get("/v1/tickets").status != 200 {
        assert!(began.elapsed() < DEADLINE, "it is not let in again");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_body_that_does_not_come_is_given_up() {
    let till = Till::start();
    let head = format!(
        "POST /v1/tickets HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: 500\r\n\r\n{{"
    );
    let mut stream = stuck(&till, &head);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(till.counts()[0], 0);
}
