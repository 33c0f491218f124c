//! One till alone: from the post of a sale to its answer, with one writer and with many.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::Bench;
use crate::floor::Rows;
use crate::report::Figure;
use crate::samples::{Samples, median, ms, paired, timed};
use crate::till::Till;

/// Sales of a round, one after the other.
const SALES: usize = 60;
/// Between two customers; real ones take longer.
const GAP: Duration = Duration::from_millis(40);
const WRITERS: usize = 64;
/// Sales of each of many writers in a round.
const SALES_EACH: usize = 15;
/// The most that a sale may cost beyond one fsync, in milliseconds.
const OWN_COST_GOAL_MS: f64 = 0.5;
const P99_GOAL: f64 = 2.0;
const CHART: &str = "Sale, from asked to durable, ms";
const GROUP_GOAL: f64 = 8.0;

pub(crate) fn measure(bench: &mut Bench, a: &Till) -> Result<()> {
    // Its rows are what the floor inserts, one ticket a transaction.
    sell(bench, a, Duration::ZERO)?;
    let rows = Rows::read(&a.database())?;
    let (mut fsync, mut sale, mut floor) = (Samples::default(), Samples::default(), Samples::default());
    let (mut one, mut many) = (Vec::new(), Vec::new());
    for round in 1..=bench.plan.rounds {
        bench.say(&format!("sales on one till, round {round}"));
        fsync.add(bench.probe(GAP)?);
        let in_a_row = sell(bench, a, Duration::ZERO)?;
        one.push(SALES as f64 / in_a_row.iter().sum::<f64>() * 1000.0);
        sale.add(sell(bench, a, GAP)?);
        floor.add(rows.insert_slowly(&bench.path("floor.db"), SALES, GAP)?);
        many.push(sell_together(bench, a)?);
    }
    let (medians, floors) = (sale.medians(), floor.medians());
    let own = paired(&medians, &fsync.medians(), |sale, fsync| sale - fsync);
    let beside = format!(
        "as seldom: fsync {:.2} / {:.2} ms; plain SQLite {:.2} / {:.2} ms",
        fsync.p50(),
        fsync.p99(),
        floor.p50(),
        floor.p99()
    );
    bench.report.goal(
        Figure {
            name: "sale, POST to answer, p50",
            figure: format!(
                "{:.2} ms: fsync {own:+.2} ms, {:.1} x plain SQLite",
                sale.p50(),
                paired(&medians, &floors, |a, b| a / b)
            ),
            against: beside,
            numbers: json!({ "ms": sale.p50(), "beyondFsyncMs": own, "fsyncMs": fsync.p50(), "floorMs": floor.p50() }),
        },
        "fsync + 0.5 ms",
        own <= OWN_COST_GOAL_MS,
    );
    bench.report.goal(
        Figure {
            name: "sale, POST to answer, p99",
            figure: format!("{:.2} ms: {:.1} x plain SQLite", sale.p99(), sale.p99() / floor.p99()),
            against: String::new(),
            numbers: json!({ "ms": sale.p99(), "fsyncMs": fsync.p99(), "floorMs": floor.p99() }),
        },
        "2 x plain SQLite's",
        sale.p99() <= P99_GOAL * floor.p99(),
    );
    bench.report.own(CHART, "tillmesh, p50", sale.p50());
    bench.report.own(CHART, "tillmesh, p99", sale.p99());
    bench.report.other(CHART, "plain SQLite, p50", floor.p50());
    bench.report.other(CHART, "plain SQLite, p99", floor.p99());
    let gain = paired(&many, &one, |many, one| many / one);
    bench.report.goal(
        Figure {
            name: "64 writers at once",
            figure: format!("{gain:.1} x one writer ({:.0} tickets/s)", median(&many)),
            against: format!("one writer {:.0} tickets/s", median(&one)),
            numbers: json!({ "gain": gain, "perSecond": many, "perSecondOne": one }),
        },
        "8 x",
        gain >= GROUP_GOAL,
    );
    Ok(())
}

/// Sells one ticket after the other; gives how long each took, in milliseconds. Its connection is open before and closed after: the
/// agent has places for as many as there are writers.
fn sell(bench: &mut Bench, a: &Till, gap: Duration) -> Result<Vec<f64>> {
    let mut client = a.client();
    client.get("/healthz")?.ok()?;
    let mut times = Vec::with_capacity(SALES);
    for _ in 0..SALES {
        thread::sleep(gap);
        let (_, body) = bench.sales.next();
        let ((), time) = timed(|| client.post("/v1/tickets", &body)?.ok().map(drop))?;
        times.push(time);
    }
    Ok(times)
}

/// Sells from many clients at once; gives the tickets per second.
fn sell_together(bench: &mut Bench, a: &Till) -> Result<f64> {
    let shares = (0..WRITERS).map(|_| (0..SALES_EACH).map(|_| bench.sales.next().1).collect()).collect();
    post_all(a, shares)
}

/// Posts sales, one client for each share; gives the tickets per second.
pub(crate) fn post_all(till: &Till, shares: Vec<Vec<String>>) -> Result<f64> {
    let ask = |body| Ask { method: "POST", path: "/v1/tickets".to_owned(), body };
    ask_all(till, shares.into_iter().map(|bodies| bodies.into_iter().map(ask).collect()).collect())
}

/// A request of the local API that changes something.
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// Deals out work to so many clients.
pub(crate) fn share<T>(work: impl IntoIterator<Item = T>, clients: usize) -> Vec<Vec<T>> {
    let mut shares: Vec<Vec<T>> = (0..clients).map(|_| Vec::new()).collect();
    work.into_iter().enumerate().for_each(|(n, one)| shares[n % clients].push(one));
    shares
}

/// Sends requests, one client for each share; gives how many a second were answered.
pub(crate) fn ask_all(till: &Till, shares: Vec<Vec<Ask>>) -> Result<f64> {
    let count: usize = shares.iter().map(Vec::len).sum();
    let ready = Barrier::new(shares.len() + 1);
    thread::scope(|scope| {
        let post = |asks: Vec<Ask>| -> Result<()> {
            let mut client = till.client();
            // Its connection is open before the start.
            let reached = client.get("/healthz");
            ready.wait();
            reached?;
            asks.iter().try_for_each(|ask| client.send(ask.method, &ask.path, &ask.body)?.ok().map(drop))
        };
        let threads: Vec<_> = shares.into_iter().map(|asks| scope.spawn(move || post(asks))).collect();
        ready.wait();
        let began = Instant::now();
        for thread in threads {
            thread.join().ok().context("a client panicked")??;
        }
        Ok(count as f64 / ms(began.elapsed()) * 1000.0)
    })
}
