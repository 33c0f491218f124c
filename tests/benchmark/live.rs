//! Two linked tills, 50 tickets a second on one: how long until each is in the other's database.

use std::collections::HashMap;
use std::io::BufRead;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::Bench;
use crate::client::Client;
use crate::report::Figure;
use crate::samples::{Samples, ms, paired};
use crate::stacks;
use crate::till::Till;

const GAP: Duration = Duration::from_millis(20);
const TICKETS: usize = 100;
const LINK_MAX: Duration = Duration::from_secs(30);
const ARRIVAL_MAX: Duration = Duration::from_secs(30);
/// The most that a ticket may take beyond one fsync on each side, in milliseconds.
const OWN_COST_GOAL_MS: f64 = 1.0;
const P99_GOAL: f64 = 3.0;
const CHART: &str = "Live, one till's commit to another's, p50, ms";

pub(crate) fn measure(bench: &mut Bench, a: &Till, b: &Till) -> Result<()> {
    b.wait_for_link(LINK_MAX)?;
    wait_until_equal(a, b)?;
    let (mut fsync, mut whole, mut behind) = (Samples::default(), Samples::default(), Samples::default());
    let mut floor = Samples::default();
    for round in 1..=bench.plan.rounds {
        bench.say(&format!("live, round {round}"));
        let mut probe = bench.probe(GAP)?;
        let (from_post, from_answer) = one_round(bench, a, b)?;
        probe.extend(bench.probe(GAP)?);
        fsync.add(probe);
        whole.add(from_post);
        behind.add(from_answer);
        floor.add(stacks::live_floor(bench)?);
    }
    let own = paired(&whole.medians(), &fsync.medians(), |whole, fsync| whole - 2.0 * fsync);
    bench.report.goal(
        Figure {
            name: "live, POST on A to B's event, p50",
            figure: format!("{:.2} ms: 2 fsync {own:+.2} ms", whole.p50()),
            against: format!("fsync {:.2} / {:.2} ms", fsync.p50(), fsync.p99()),
            numbers: json!({ "ms": whole.p50(), "p99Ms": whole.p99(), "beyondFsyncsMs": own, "fsyncMs": fsync.p50() }),
        },
        "2 fsync + 1 ms",
        own <= OWN_COST_GOAL_MS,
    );
    bench.report.own(CHART, "tillmesh, POST to event", whole.p50());
    bench.report.other(CHART, "bare tables, raw WebSocket", floor.p50());
    bench.report.goal(
        Figure {
            name: "live, POST on A to B's event, p99",
            figure: format!("{:.2} ms: {:.1} x the floor", whole.p99(), whole.p99() / floor.p99()),
            against: format!("bare tables, raw WebSocket {:.2} / {:.2} ms", floor.p50(), floor.p99()),
            numbers: json!({ "p99Ms": whole.p99(), "floorMs": floor.p50(), "floorP99Ms": floor.p99() }),
        },
        "3 x the floor",
        whole.p99() <= P99_GOAL * floor.p99(),
    );
    bench.report.note(Figure {
        name: "live, A's answer to B's event, p50 / p99",
        figure: format!("{:.2} / {:.2} ms", behind.p50(), behind.p99()),
        against: format!("POST to event p99 {:.2} ms", whole.p99()),
        numbers: json!({ "ms": behind.p50(), "p99Ms": behind.p99() }),
    });
    Ok(())
}

/// Sells at an even pace; gives how long each ticket took until B told of it: from its post, and from A's answer.
fn one_round(bench: &mut Bench, a: &Till, b: &Till) -> Result<(Vec<f64>, Vec<f64>)> {
    let events = b.client().events("/v1/changes?after=latest")?;
    let mut client = a.client();
    thread::scope(|scope| {
        let arrivals = scope.spawn(|| collect(events, TICKETS));
        let mut sent = Vec::with_capacity(TICKETS);
        let began = Instant::now();
        for n in 0..TICKETS {
            let due = began + GAP * u32::try_from(n)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (id, body) = bench.sales.next();
            let posted = Instant::now();
            client.post("/v1/tickets", &body)?.ok()?;
            sent.push((id.to_string(), posted, Instant::now()));
        }
        let arrivals = arrivals.join().ok().context("the listener panicked")??;
        let mut times = (Vec::new(), Vec::new());
        for (id, posted, answered) in sent {
            let at = arrivals.get(&id).with_context(|| format!("B did not tell of ticket {id}"))?;
            times.0.push(ms(at.saturating_duration_since(posted)));
            times.1.push(ms(at.saturating_duration_since(answered)));
        }
        Ok(times)
    })
}

/// When each ticket was told of, until so many have been.
fn collect(mut events: impl BufRead, count: usize) -> Result<HashMap<String, Instant>> {
    let end = Instant::now() + ARRIVAL_MAX;
    let mut arrivals = HashMap::new();
    let mut line = String::new();
    while arrivals.len() < count {
        line.clear();
        ensure!(events.read_line(&mut line)? > 0, "B's stream of changes ended");
        let now = Instant::now();
        ensure!(now < end, "{} of {count} tickets arrived on B within {ARRIVAL_MAX:?}", arrivals.len());
        if let Some(data) = line.strip_prefix("data:").map(str::trim_start)
            && data.starts_with(r#"{"entity":"ticket""#)
        {
            let (_, id) = data.split_once(r#""id":""#).context("an event without an id")?;
            arrivals.insert(id.chars().take(36).collect(), now);
        }
    }
    Ok(arrivals)
}

/// Waits until B has what A sold while it was away.
fn wait_until_equal(a: &Till, b: &Till) -> Result<()> {
    let end = Instant::now() + 2 * ARRIVAL_MAX;
    let tickets = |client: &mut Client| -> Result<Option<u64>> {
        let status: serde_json::Value = serde_json::from_slice(&client.get("/v1/status")?.ok()?)?;
        Ok(status["counts"]["tickets"].as_u64())
    };
    let (mut a, mut b) = (a.client(), b.client());
    while tickets(&mut a)? != tickets(&mut b)? {
        if Instant::now() > end {
            bail!("B does not catch up");
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
