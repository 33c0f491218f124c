//! A till that was away gets everything that another has; plain SQLite inserts the same rows.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::json;

use crate::floor::{self, Counter, Rows};
use crate::process::{self, Usage};
use crate::report::Figure;
use crate::samples::{Samples, median, ms, paired};
use crate::selling::post_all;
use crate::stacks;
use crate::till::Till;
use crate::{Bench, megabytes};

/// Tickets of a transaction of the floor.
const TICKETS_EACH: usize = 500;
const FILLERS: usize = 48;
const LINK_MAX: Duration = Duration::from_secs(30);
const CATCH_UP_MAX: Duration = Duration::from_secs(180);
const FLOOR_GOAL: f64 = 1.5;
const POSPLUS_GOAL: f64 = 20.0;
const WRITTEN_GOAL: f64 = 2.0;
const CHART: &str = "Catch-up, tickets a second";

/// One catch-up: time, CPU and memory of both ends.
struct Run {
    /// From the start of the process until the last ticket is committed: what whoever switches the till on waits for.
    ms: f64,
    /// From when the status shows the link, up to 0.2 s after the fact.
    from_link_ms: f64,
    cpu_ms: [f64; 2],
    peak: [u64; 2],
    written: u64,
}

/// What the baselines took, round by round, in milliseconds.
struct Beside {
    floors: Vec<f64>,
    bare: Vec<f64>,
    raw: Vec<f64>,
    /// Bytes to the disk.
    written: Vec<f64>,
    /// Tickets a second of POSPlus's stack, or why there are none.
    posplus: Result<Vec<f64>, String>,
}

impl Beside {
    fn new() -> Self {
        let [floors, bare, raw, written] = std::array::from_fn(|_| Vec::new());
        Self { floors, bare, raw, written, posplus: Ok(Vec::new()) }
    }
}

pub(crate) fn measure(bench: &mut Bench, a: &Till) -> anyhow::Result<()> {
    fill(bench, a)?;
    let rows = Rows::read(&a.database())?;
    let bodies: Vec<_> = (0..bench.plan.tickets).map(|_| bench.sales.next()).collect();
    let parts = bodies.len().div_ceil(TICKETS_EACH);
    let mut fsync = Samples::default();
    let (mut runs, mut beside) = (Vec::new(), Beside::new());
    let mut last = None;
    for round in 1..=bench.plan.rounds {
        bench.say(&format!("catch-up, round {round}"));
        if let Some(till) = last.take() {
            Till::stop(till)?;
        }
        fsync.add(bench.probe(Duration::ZERO)?);
        let (run, till) = once(bench, a, &format!("B{round}"))?;
        runs.push(run);
        last = Some(till);
        let before = Usage::of(std::process::id())?.written;
        beside.floors.push(rows.insert(&bench.path("floor.db"), parts)?.iter().sum());
        beside.written.push((Usage::of(std::process::id())?.written - before) as f64);
        beside.bare.push(floor::bare(&bench.path("bare.db"), &bodies, TICKETS_EACH)?);
        beside.raw.push(stacks::stream(bench, &bodies, true)?);
        posplus(bench, &mut beside.posplus)?;
    }
    report(bench, &runs, &beside, &fsync);
    report_posplus(bench, &runs, &beside.posplus);
    let sizes = [a, last.as_ref().unwrap_or(a)].map(|till| fs::metadata(till.database()).map_or(0, |file| file.len()));
    bench.report.note(Figure {
        name: &format!("database of {} tickets, not compacted, A / B", bench.plan.tickets),
        figure: format!("{:.1} / {:.1} MB", megabytes(sizes[0]), megabytes(sizes[1])),
        against: String::new(),
        numbers: json!({ "bytes": sizes }),
    });
    last.map_or(Ok(()), Till::stop)
}

/// One round of POSPlus's stack with fewer tickets: it commits each of them.
fn posplus(bench: &Bench, rates: &mut Result<Vec<f64>, String>) -> anyhow::Result<()> {
    if let Ok(all) = rates {
        let tickets = bench.plan.posplus_tickets;
        match stacks::posplus(bench, tickets)? {
            Ok(told) => all.push(tickets as f64 / told["catchUpMs"].as_f64().unwrap_or(f64::NAN) * 1000.0),
            Err(why) => *rates = Err(why),
        }
    }
    Ok(())
}

/// Sells until A has as many tickets as the plan says.
fn fill(bench: &mut Bench, a: &Till) -> anyhow::Result<()> {
    let counter = Counter::open(&a.database())?;
    let have = counter.tickets()?;
    let missing = bench.plan.tickets.saturating_sub(have);
    bench.say(&format!("filling A: {missing} tickets more"));
    let mut shares = vec![Vec::new(); FILLERS];
    for n in 0..usize::try_from(missing)? {
        shares[n % FILLERS].push(bench.sales.next().1);
    }
    let rate = post_all(a, shares)?;
    ensure!(counter.tickets()? == bench.plan.tickets, "A has not as many tickets as it should");
    bench.report.fact("sales/s while filling A, 48 writers", rate.round());
    Ok(())
}

fn once(bench: &Bench, a: &Till, name: &str) -> anyhow::Result<(Run, Till)> {
    process::reset_peak(a.pid())?;
    let before = a.usage()?;
    let began = Instant::now();
    let b = bench.start_b(name)?;
    b.wait_for_link(LINK_MAX)?;
    let linked = Instant::now();
    let counter = Counter::open(&b.database())?;
    while counter.tickets()? < bench.plan.tickets {
        ensure!(linked.elapsed() < CATCH_UP_MAX, "only {} tickets after {CATCH_UP_MAX:?}", counter.tickets()?);
        thread::sleep(Duration::from_millis(2));
    }
    let done = Instant::now();
    let (at_a, at_b) = (a.usage()?, b.usage()?);
    let run = Run {
        ms: ms(done - began),
        from_link_ms: ms(done - linked),
        cpu_ms: [at_a.cpu_ns - before.cpu_ns, at_b.cpu_ns].map(|ns| ns as f64 / 1e6),
        peak: [at_a.peak, at_b.peak],
        written: at_b.written,
    };
    Ok((run, b))
}

fn report(bench: &mut Bench, runs: &[Run], beside: &Beside, fsync: &Samples) {
    let tickets = bench.plan.tickets as f64;
    let of = |what: fn(&Run) -> f64| runs.iter().map(what).collect::<Vec<f64>>();
    let times = of(|run| run.ms);
    let [time, floor, raw, bare] = [&times, &beside.floors, &beside.raw, &beside.bare].map(|times| median(times));
    let ratio = paired(&times, &beside.floors, |time, floor| time / floor);
    let rate = |ms: f64| tickets / ms * 1000.0;
    bench.report.own(CHART, "tillmesh, from its start", rate(time));
    bench.report.other(CHART, "plain SQLite, the same rows", rate(floor));
    bench.report.other(CHART, "raw WebSocket, bare table", rate(raw));
    bench.report.goal(
        Figure {
            name: &format!("catch-up, {tickets} tickets, from the till's start"),
            figure: format!("{ratio:.1} x plain SQLite: {:.2} s, {:.0} tickets/s", time / 1000.0, rate(time)),
            against: format!(
                "plain SQLite {:.2} s, bare rows {:.2} s, by raw WebSocket {:.2} s; fsync {:.2} / {:.2} ms",
                floor / 1000.0,
                bare / 1000.0,
                raw / 1000.0,
                fsync.p50(),
                fsync.p99()
            ),
            numbers: json!({
                "ratio": ratio, "ms": times, "fromLinkMs": of(|run| run.from_link_ms),
                "floorMs": beside.floors, "bareMs": beside.bare, "rawMs": beside.raw,
            }),
        },
        "1.5 x plain SQLite",
        ratio <= FLOOR_GOAL,
    );
    let written = of(|run| run.written as f64);
    let wear = paired(&written, &beside.written, |ours, floor| ours / floor);
    bench.report.goal(
        Figure {
            name: "written to disk a ticket in catch-up",
            figure: format!("{wear:.1} x plain SQLite: {:.1} kB", median(&written) / tickets / 1e3),
            against: format!("plain SQLite {:.1} kB", median(&beside.written) / tickets / 1e3),
            numbers: json!({ "ratio": wear, "bytes": written, "floorBytes": beside.written }),
        },
        "2 x plain SQLite",
        wear <= WRITTEN_GOAL,
    );
    let cpu = [median(&of(|run| run.cpu_ms[0])), median(&of(|run| run.cpu_ms[1]))];
    let peak = [median(&of(|run| run.peak[0] as f64)), median(&of(|run| run.peak[1] as f64))];
    bench.report.note(Figure {
        name: "catch-up, memory at most A / B",
        figure: format!("{:.1} / {:.1} MB", peak[0] / 1e6, peak[1] / 1e6),
        against: format!("processor {:.2} / {:.2} s", cpu[0] / 1000.0, cpu[1] / 1000.0),
        numbers: json!({ "peakBytes": peak, "cpuMs": cpu }),
    });
}

fn report_posplus(bench: &mut Bench, runs: &[Run], rates: &Result<Vec<f64>, String>) {
    const NAME: &str = "catch-up beside POSPlus's stack, FULL";
    const GOAL: &str = "20 x";
    let rates = match rates {
        Ok(rates) => rates,
        Err(why) => return bench.report.cannot(NAME, GOAL, why),
    };
    let ours: Vec<f64> = runs.iter().map(|run| bench.plan.tickets as f64 / run.ms * 1000.0).collect();
    let ratio = paired(&ours, rates, |ours, theirs| ours / theirs);
    bench.report.other(CHART, "POSPlus's stack, FULL", median(rates));
    bench.report.goal(
        Figure {
            name: NAME,
            figure: format!("{ratio:.0} x"),
            against: format!(
                "POSPlus's stack {:.0} tickets/s, of {} tickets",
                median(rates),
                bench.plan.posplus_tickets
            ),
            numbers: json!({ "ratio": ratio, "perSecond": rates }),
        },
        GOAL,
        ratio >= POSPLUS_GOAL,
    );
}
