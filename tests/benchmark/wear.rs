//! What sales cost a card: bytes written, the write-ahead log and its moving into the database included.

use std::fs;

use anyhow::Result;
use serde_json::json;

use crate::floor::Rows;
use crate::process::Usage;
use crate::report::Figure;
use crate::till::{self, Till};
use crate::{Bench, megabytes};

/// Enough for the log to be moved into the database several times.
const SALES: usize = 400;
/// The log may hold 1,000 pages and the commit that goes over that.
const LOG_GOAL: u64 = 5 << 20;

const WRITTEN_GOAL: f64 = 2.0;

/// A till in a store of its own, one sale after the other.
pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    bench.say("bytes written by sales");
    let a = Till::start(&bench.path("wear"), &till::new_store()?, bench.b, &[bench.b])?;
    let log = a.database().with_extension("db-wal");
    let bodies: Vec<String> = (0..SALES).map(|_| bench.sales.next().1).collect();
    let asked: usize = bodies.iter().map(String::len).sum();
    let (mut client, mut log_max) = (a.client(), 0);
    let before = a.usage()?.written;
    for body in &bodies {
        client.post("/v1/tickets", body)?.ok()?;
        log_max = log_max.max(fs::metadata(&log).map_or(0, |about| about.len()));
    }
    let each = (a.usage()?.written - before) as f64 / SALES as f64;
    let times = each * SALES as f64 / asked as f64;
    let floor = floor(bench, &a)?;
    bench.report.goal(
        Figure {
            name: "written to disk a sale",
            figure: format!("{:.1} x plain SQLite: {:.1} kB, {times:.0} x its JSON", each / floor, each / 1e3),
            against: format!("plain SQLite {:.1} kB", floor / 1e3),
            numbers: json!({ "bytesEach": each, "jsonBytesEach": asked / SALES, "floorBytesEach": floor }),
        },
        "2 x plain SQLite",
        each <= WRITTEN_GOAL * floor,
    );
    bench.report.goal(
        Figure {
            name: "write-ahead log, at its longest",
            figure: format!("{:.1} MB", megabytes(log_max)),
            against: String::new(),
            numbers: json!({ "bytes": log_max }),
        },
        "< 5.3 MB",
        log_max <= LOG_GOAL,
    );
    Ok(())
}

/// The same rows, one ticket a transaction, by plain SQLite in this process.
fn floor(bench: &Bench, a: &Till) -> Result<f64> {
    let rows = Rows::read(&a.database())?;
    let before = Usage::of(std::process::id())?.written;
    rows.insert(&bench.path("wear.db"), SALES)?;
    Ok((Usage::of(std::process::id())?.written - before) as f64 / SALES as f64)
}
