//! The stream of changes: nothing lost, nothing told twice, wherever the connection breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use super::till::{DEADLINE, Till, id, sale};

#[derive(Debug, Clone)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

/// A connection to the stream.
struct Stream(BufReader<TcpStream>);

impl Stream {
    /// As a browser would: the last id goes in the header.
    fn open(till: &Till, query: &str, last_id: Option<&str>) -> Self {
        let mut stream = till.connect();
        let last_id = last_id.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        // HTTP/1.0: the body comes as it is, without chunks.
        write!(stream, "GET /v1/changes{query} HTTP/1.0\r\nhost: localhost\r\n{last_id}\r\n").unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{line}");
        while line.trim() != "" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        Self(reader)
    }

    /// The next event that has data; `None` at the end of the stream. Remembers every id.
    fn next(&mut self, last_id: &mut Option<String>) -> Option<Event> {
        let (mut name, mut data) = (String::new(), String::new());
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ").unwrap_or((line.trim_end(), "")) {
                ("id", id) => *last_id = Some(id.to_owned()),
                ("event", event) => name = event.to_owned(),
                ("data", text) => data.push_str(text),
                ("", _) if !data.is_empty() => {
                    let data = serde_json::from_str(&data).unwrap();
                    return Some(Event { name, id: last_id.clone().unwrap(), data });
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, n: usize) -> Vec<Event> {
        let mut last_id = None;
        (0..n).map(|_| self.next(&mut last_id).expect("the stream goes on")).collect()
    }
}

#[test]
fn all_that_happens_is_told_in_the_shapes_of_the_api() {
    let (till, other) = (Till::start(), Till::second());
    let (coffee, drinks, amel, ticket) = (id(), id(), id(), id());
    let product = format!("/v1/products/{coffee}");
    till.call("PUT", &product, &json!({ "sku": "CAFE", "name": "Café", "price": 1 })).json(200);
    till.call("POST", &format!("{product}/stock"), &json!({ "id": id(), "type": "in", "quantity": 100 })).json(201);
    let mut stream = Stream::open(&till, "", None);
    // Values are those of the moment of telling, so each step is told before the next is made.
    let mut events = stream.take(2);
    till.call("POST", "/v1/tickets", &sale(&ticket, Some(&coffee))).json(201);
    events.extend(stream.take(2));
    till.call("POST", &format!("/v1/tickets/{ticket}/cancel"), &Value::Null).json(201);
    events.extend(stream.take(2));
    other.call("PUT", &format!("/v1/categories/{drinks}"), &json!({ "name": "Boissons" })).json(200);
    other.call("PUT", &format!("/v1/customers/{amel}"), &json!({ "firstName": "Amel", "lastName": "B" })).json(200);
    other.carry_to(&till);
    events.extend(stream.take(2));
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names, ["product", "stock", "ticket", "stock", "refund", "stock", "category", "customer"]);
    for (event, (entity_id, origin)) in events.iter().zip([
        (&coffee, "POS-1"),
        (&coffee, "POS-1"),
        (&ticket, "POS-1"),
        (&coffee, "POS-1"),
        (&String::new(), "POS-1"),
        (&coffee, "POS-1"),
        (&drinks, "POS-2"),
        (&amel, "POS-2"),
    ]) {
        assert_eq!((&event.data["entity"], &event.data["origin"]), (&json!(event.name), &json!(origin)));
        assert!(entity_id.is_empty() || event.data["id"] == json!(entity_id), "{event:?}");
    }
    let stocks: Vec<_> = events.iter().filter(|e| e.name == "stock").map(|e| &e.data["value"]["stock"]).collect();
    assert_eq!(stocks, [&json!(100), &json!(98), &json!(100)]);
    assert_eq!(events[4].data["value"]["ticketId"], json!(ticket));
    assert_eq!(events[7].data["value"], till.get(&format!("/v1/customers/{amel}")).json(200));
    till.call("DELETE", &product, &Value::Null).json(204);
    let gone = &stream.take(1)[0];
    assert_eq!((gone.name.as_str(), &gone.data["value"]), ("product", &Value::Null));
}

#[test]
fn from_now_on_means_from_the_moment_of_asking() {
    let till = Till::start();
    till.call("POST", "/v1/tickets", &sale(&id(), None)).json(201);
    let mut last_id = None;
    let mut stream = Stream::open(&till, "?after=latest", None);
    // The id that comes first, without an event, is a place to resume from.
    let mut line = String::new();
    stream.0.read_line(&mut line).unwrap();
    let place = line.trim_end().strip_prefix("id: ").unwrap().to_owned();
    let (second, third) = (id(), id());
    till.call("POST", "/v1/tickets", &sale(&second, None)).json(201);
    assert_eq!(stream.next(&mut last_id).unwrap().data["id"], json!(second));
    drop(stream);
    till.call("POST", "/v1/tickets", &sale(&third, None)).json(201);
    let both = Stream::open(&till, "?after=latest", Some(&place)).take(2);
    assert_eq!([&both[0].data["id"], &both[1].data["id"]], [&json!(second), &json!(third)]);
}

/// Sells while a client reads a few events at a time, loses the connection, and comes back.
#[test]
fn a_client_that_is_cut_off_again_and_again_is_told_everything_once() {
    const SALES: usize = 120;
    let till = Till::start();
    let products = [id(), id(), id()];
    let tickets: Vec<String> = (0..SALES).map(|_| id()).collect();
    let began = Instant::now();
    let (events, till) = std::thread::scope(|scope| {
        scope.spawn(|| {
            for (i, ticket) in tickets.iter().enumerate() {
                let mut body = sale(ticket, Some(&products[i % 3]));
                body["lines"].as_array_mut().unwrap().push(json!({
                    "productId": products[(i + 1) % 3], "name": "Thé", "quantity": 1, "unitPrice": 1000,
                }));
                till.call("POST", "/v1/tickets", &body).json(201);
            }
        });
        let mut events: Vec<Event> = Vec::new();
        let mut last_id: Option<String> = None;
        for cut in 0.. {
            let mut stream = Stream::open(&till, "", last_id.as_deref());
            for _ in 0..1 + cut % 5 {
                if events.len() < SALES * 3 {
                    events.push(stream.next(&mut last_id).expect("the stream goes on"));
                }
            }
            assert!(began.elapsed() < DEADLINE, "only {} events", events.len());
            if events.len() == SALES * 3 {
                break;
            }
        }
        (events, &till)
    });
    assert_eq!(events.iter().map(|event| &event.id).collect::<BTreeSet<_>>().len(), SALES * 3, "an id told twice");
    let mut told: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in &events {
        told.entry(event.name.as_str()).or_default().push(event);
    }
    let order: Vec<&Value> = told["ticket"].iter().map(|event| &event.data["id"]).collect();
    assert_eq!(order, tickets.iter().map(|t| json!(t)).collect::<Vec<_>>().iter().collect::<Vec<_>>());
    assert_eq!(told["stock"].len(), SALES * 2);
    for product in &products {
        let times = told["stock"].iter().filter(|event| event.data["id"] == json!(product)).count();
        assert_eq!(times, SALES * 2 / 3, "{product}");
    }
    // Every id is a place: what follows it is what followed it then.
    for at in [0, 1, 2, 3, 100, SALES * 3 - 2] {
        let again = Stream::open(till, &format!("?after={}", events[at].id), None).take(1);
        assert_eq!((&again[0].id, &again[0].data["id"]), (&events[at + 1].id, &events[at + 1].data["id"]));
    }
}

#[test]
fn a_stream_outlives_nothing_and_a_cursor_of_another_database_is_told_apart() {
    let till = Till::start();
    till.call("POST", "/v1/tickets", &sale(&id(), None)).json(201);
    let mut stream = Stream::open(&till, "", None);
    let place = stream.take(1)[0].id.clone();
    let till = till.restart();
    assert!(stream.next(&mut None).is_none(), "the stream ends with the agent");
    let next = id();
    till.call("POST", "/v1/tickets", &sale(&next, None)).json(201);
    assert_eq!(Stream::open(&till, "", Some(&place)).take(1)[0].data["id"], json!(next), "and goes on after a restart");
    let stranger = Till::start();
    stranger.get(&format!("/v1/changes?after={place}")).problem(410);
    let future = format!("{}999", place);
    till.get(&format!("/v1/changes?after={future}")).problem(410);
}
