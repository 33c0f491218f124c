//! A till that was away gets everything that another has; plain SQLite inserts the same rows.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::floor::{self, Counter, Rows};
use crate::process;
use crate::report::Figure;
use crate::samples::{Samples, median, ms, paired};
use crate::selling::post_all;
use crate::till::Till;
use crate::{Bench, megabytes};

/// Tickets of a transaction of the floor.
const TICKETS_EACH: usize = 500;
const FILLERS: usize = 48;
const LINK_MAX: Duration = Duration::from_secs(30);
const CATCH_UP_MAX: Duration = Duration::from_secs(180);
const RATE_GOAL: f64 = 5000.0;
const FLOOR_GOAL: f64 = 3.0;

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

/// Gives the last till that caught up.
pub(crate) fn measure(bench: &mut Bench, a: &Till) -> Result<Till> {
    fill(bench, a)?;
    let rows = Rows::read(&a.database())?;
    let bodies: Vec<_> = (0..bench.plan.tickets).map(|_| bench.sales.next()).collect();
    let parts = bodies.len().div_ceil(TICKETS_EACH);
    let mut fsync = Samples::default();
    let (mut runs, mut floors, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for round in 1..=bench.plan.rounds {
        bench.say(&format!("catch-up, round {round}"));
        if let Some(till) = last.take() {
            Till::stop(till)?;
        }
        fsync.add(bench.probe()?);
        let (run, till) = once(bench, a, &format!("B{round}"))?;
        runs.push(run);
        last = Some(till);
        floors.push(rows.insert(&bench.path("floor.db"), parts)?.iter().sum());
        bare.push(floor::bare(&bench.path("bare.db"), &bodies, TICKETS_EACH)?);
    }
    report(bench, &runs, &floors, &bare, &fsync);
    let sizes = [a, last.as_ref().unwrap_or(a)].map(|till| fs::metadata(till.database()).map_or(0, |file| file.len()));
    bench.report.note(Figure {
        name: "database of 20,000 tickets, A / B",
        figure: format!("{:.1} / {:.1} MB", megabytes(sizes[0]), megabytes(sizes[1])),
        against: String::new(),
        numbers: json!({ "bytes": sizes }),
    });
    last.ok_or_else(|| anyhow::anyhow!("no round"))
}

/// Sells until A has as many tickets as the plan says.
fn fill(bench: &mut Bench, a: &Till) -> Result<()> {
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

fn once(bench: &Bench, a: &Till, name: &str) -> Result<(Run, Till)> {
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

fn report(bench: &mut Bench, runs: &[Run], floors: &[f64], bare: &[f64], fsync: &Samples) {
    let tickets = bench.plan.tickets as f64;
    let of = |what: fn(&Run) -> f64| runs.iter().map(what).collect::<Vec<f64>>();
    let times = of(|run| run.ms);
    let (time, floor) = (median(&times), median(floors));
    let rate = tickets / time * 1000.0;
    let beside_floor = paired(&times, floors, |time, floor| time / floor);
    let beside = format!("plain SQLite {:.2} s, one bare row a ticket {:.2} s", floor / 1000.0, median(bare) / 1000.0);
    bench.report.goal(
        Figure {
            name: "catch-up, 20,000 tickets, from the till's start",
            figure: format!("{rate:.0} tickets/s, {:.2} s", time / 1000.0),
            against: format!("fsync {:.2} / {:.2} ms", fsync.p50(), fsync.p99()),
            numbers: json!({ "perSecond": rate, "ms": times, "fromLinkMs": of(|run| run.from_link_ms) }),
        },
        "5,000 tickets/s",
        rate >= RATE_GOAL,
    );
    bench.report.goal(
        Figure {
            name: "catch-up beside plain SQLite, same rows",
            figure: format!("{beside_floor:.1} x"),
            against: beside,
            numbers: json!({ "ratio": beside_floor, "floorMs": floors, "bareMs": bare }),
        },
        "3 x",
        beside_floor <= FLOOR_GOAL,
    );
    let cpu = [median(&of(|run| run.cpu_ms[0])), median(&of(|run| run.cpu_ms[1]))];
    let peak = [median(&of(|run| run.peak[0] as f64)), median(&of(|run| run.peak[1] as f64))];
    let written = median(&of(|run| run.written as f64));
    bench.report.note(Figure {
        name: "catch-up, peak memory A / B",
        figure: format!("{:.1} / {:.1} MB", peak[0] / 1e6, peak[1] / 1e6),
        against: format!("CPU {:.2} / {:.2} s; B wrote {:.0} MB", cpu[0] / 1000.0, cpu[1] / 1000.0, written / 1e6),
        numbers: json!({ "peakBytes": peak, "cpuMs": cpu, "writtenBytes": written }),
    });
}
