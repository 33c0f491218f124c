//! Living on a card: an idle till leaves it alone, and the write-ahead log stays small.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::leds::Root;
use super::service::{PATIENCE, Service};

/// Longer than anything that is done by the clock in an idle till.
const IDLE: Duration = Duration::from_secs(35);
/// What the log may hold until it is moved into the database: 1,000 pages, and the commit that goes over that.
const LOG_MAX: u64 = 5 << 20;

/// Bytes that a process has caused to be written to disks (proc_pid_io(5)).
fn written(till: &Service) -> u64 {
    let pid = till.agent.pid().unwrap().as_raw_nonzero();
    let counters = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    counters.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap()
}

#[test]
fn an_idle_till_writes_nothing() {
    let root = Root::new();
    root.plug("ACT");
    let till = Service::start(&root);
    let end = Instant::now() + PATIENCE + IDLE;
    let (mut since, mut before) = (Instant::now(), written(&till));
    while since.elapsed() < IDLE {
        std::thread::sleep(Duration::from_millis(250));
        let now = written(&till);
        if now != before {
            (since, before) = (Instant::now(), now);
        }
        assert!(Instant::now() < end, "it never rests; {}", till.log());
    }
}

fn sell(till: &Service, count: usize) {
    for _ in 0..count {
        let sale = json!({
            "id": uuid::Uuid::new_v4(), "lines": [{"name": "Café", "quantity": 1, "unitPrice": 1500}],
            "payments": [{"method": "cash", "amount": 1500}],
        });
        till.http.call("POST", "/v1/tickets", Some(&sale)).unwrap().ok().unwrap();
    }
}

fn log_size(database: &Path) -> u64 {
    fs::metadata(database.with_extension("db-wal")).map_or(0, |about| about.len())
}

/// A reader that does not end keeps the log from being moved into the database. Once it is gone, so is what has grown.
#[test]
fn the_write_ahead_log_is_bounded() {
    let till = Service::start(&Root::of(""));
    let database = till.data().join("till.db");
    for _ in 0..8 {
        sell(&till, 40);
        assert!(log_size(&database) <= LOG_MAX, "{}", log_size(&database));
    }
    let reader = Connection::open_with_flags(&database, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM ticket;").unwrap();
    let end = Instant::now() + PATIENCE;
    while log_size(&database) <= LOG_MAX {
        sell(&till, 20);
        assert!(Instant::now() < end, "the reader holds nothing up: {}", log_size(&database));
    }
    reader.close().unwrap();
    while log_size(&database) > LOG_MAX {
        sell(&till, 20);
        assert!(Instant::now() < end, "what has grown stays: {}", log_size(&database));
    }
}
