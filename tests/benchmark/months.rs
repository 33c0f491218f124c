//! Tills with the tickets of months: their memory, what they do while nothing happens, how soon they start, what a new till costs them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::floor::{Counter, Rows};
use crate::process;
use crate::report::Figure;
use crate::samples::{Samples, median, ms, paired, timed};
use crate::seed::{self, Shop};
use crate::till::{Ports, Till};
use crate::{Bench, megabytes};

/// Until acks have been written, and what is given back after work has been given back.
const SETTLE: Duration = Duration::from_secs(20);
const RSS_GOALS: [(usize, f64); 3] = [(1, 7.0), (8, 9.0), (32, 14.0)];
const PEAK_GOAL: f64 = 16e6;
const CPU_GOAL_PERCENT: f64 = 0.1;
const WAKEUPS_GOAL: f64 = 4.0;
const START_GOAL_MS: f64 = 50.0;
const FLOOR_GOAL: f64 = 1.5;
const DURING_GOAL: f64 = 2.0;
const TICKETS_EACH: u64 = 500;
const WORK_MAX: Duration = Duration::from_secs(600);
/// Between two sales of a till that catches up.
const GAP: Duration = Duration::from_millis(20);
const PEERS_IDLE: usize = 8;

/// Memory at rest, by number of peers.
pub(crate) fn memory(bench: &mut Bench) -> Result<()> {
    let database = seed::database(bench)?;
    for (peers, goal) in RSS_GOALS {
        if peers > bench.plan.peers_max {
            continue;
        }
        bench.say(&format!("memory with {peers} peers"));
        let shop = Shop::start(bench, "rss", peers + 1, Some(database.clone()))?;
        thread::sleep(SETTLE);
        let usage = shop.tills.iter().map(Till::usage).collect::<Result<Vec<_>>>()?;
        shop.end()?;
        let rss: Vec<f64> = usage.iter().map(|usage| usage.rss as f64).collect();
        let own: Vec<f64> = usage.iter().map(|usage| usage.anon as f64).collect();
        bench.report.own("Memory at rest, MB", format!("tillmesh, {peers} peers"), median(&rss) / 1e6);
        bench.report.goal(
            Figure {
                name: &format!("memory idle, {peers} peers, {} tickets", bench.plan.many),
                figure: format!("{:.1} MB", median(&rss) / 1e6),
                against: format!("{:.1} MB of it not pages of files", median(&own) / 1e6),
                numbers: json!({ "rssBytes": rss, "anonymousBytes": own }),
            },
            &format!("{goal} MB"),
            median(&rss) <= goal * 1e6,
        );
    }
    Ok(())
}

/// Processor, wake-ups and writing of tills that have nothing to do.
pub(crate) fn idle(bench: &mut Bench) -> Result<()> {
    let database = seed::database(bench)?;
    let shop = Shop::start(bench, "idle", PEERS_IDLE + 1, Some(database))?;
    thread::sleep(SETTLE);
    bench.say(&format!("idle for {} s", bench.plan.idle.as_secs()));
    let before = shop.tills.iter().map(Till::usage).collect::<Result<Vec<_>>>()?;
    thread::sleep(bench.plan.idle);
    let after = shop.tills.iter().map(Till::usage).collect::<Result<Vec<_>>>()?;
    shop.end()?;
    let seconds = bench.plan.idle.as_secs_f64();
    let each = |of: fn(&process::Usage) -> u64| -> Vec<f64> {
        after.iter().zip(&before).map(|(after, before)| of(after).saturating_sub(of(before)) as f64).collect()
    };
    let cpu: Vec<f64> = each(|usage| usage.cpu_ns).iter().map(|ns| ns / 1e7 / seconds).collect();
    let wakeups: Vec<f64> = each(|usage| usage.wakeups).iter().map(|times| times / seconds).collect();
    let written = each(|usage| usage.written);
    let most = written.iter().copied().fold(0.0, f64::max);
    bench.report.goal(
        Figure {
            name: "idle, 8 peers: processor",
            figure: format!("{:.3} %, {:.1} wake-ups/s", median(&cpu), median(&wakeups)),
            against: String::new(),
            numbers: json!({ "percent": cpu, "wakeupsPerSecond": wakeups }),
        },
        "0.1 %, 4/s",
        median(&cpu) <= CPU_GOAL_PERCENT && median(&wakeups) <= WAKEUPS_GOAL,
    );
    bench.report.goal(
        Figure {
            name: &format!("idle, 8 peers: written in {seconds:.0} s"),
            figure: format!("{most} bytes, the most of 9 tills"),
            against: String::new(),
            numbers: json!({ "bytes": written }),
        },
        "0",
        most == 0.0,
    );
    Ok(())
}

/// From the start of the process to the first answer.
pub(crate) fn start(bench: &mut Bench) -> Result<()> {
    let database = seed::database(bench)?;
    let (folder, ports) = (bench.path("start"), Ports::free()?);
    Till::start_on(&folder, &bench.store, ports, &[ports], Some(&database))?.stop()?;
    let mut times = Vec::new();
    for round in 1..=bench.plan.rounds {
        bench.say(&format!("start, round {round}"));
        let (till, time) = timed(|| Till::start(&folder, &bench.store, ports, &[ports]))?;
        times.push(time);
        till.stop()?;
    }
    bench.report.goal(
        Figure {
            name: &format!("start to /healthz, {} tickets", bench.plan.many),
            figure: format!("{:.0} ms", median(&times)),
            against: String::new(),
            numbers: json!({ "ms": times }),
        },
        "50 ms",
        median(&times) <= START_GOAL_MS,
    );
    Ok(())
}

/// A new till takes the snapshot of one whose ops are compacted.
pub(crate) fn bootstrap(bench: &mut Bench) -> Result<()> {
    let database = seed::compacted(bench)?;
    let rows = Rows::read(&database)?;
    let a = Till::start_on(&bench.path("giver"), &bench.store, bench.a, &[bench.b], Some(&database))?;
    let ops = Counter::open(&a.database())?.compacted()?;
    let parts = usize::try_from(bench.plan.many / TICKETS_EACH)?.max(1);
    let (mut times, mut floors, mut peaks, mut size) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()], 0);
    for round in 1..=bench.plan.rounds {
        bench.say(&format!("bootstrap, round {round}"));
        process::reset_peak(a.pid())?;
        let began = Instant::now();
        let b = bench.start_b(&format!("new{round}"))?;
        let counter = Counter::open(&b.database())?;
        while counter.compacted()? < ops {
            ensure!(began.elapsed() < WORK_MAX, "the snapshot is not taken within {WORK_MAX:?}");
            thread::sleep(Duration::from_millis(2));
        }
        times.push(ms(began.elapsed()));
        ensure!(counter.tickets()? == bench.plan.many, "the new till has {} tickets", counter.tickets()?);
        peaks[0].push(a.usage()?.peak as f64);
        peaks[1].push(b.usage()?.peak as f64);
        b.stop()?;
        size = fs::metadata(bench.path(&format!("new{round}")).join("till.db"))?.len();
        floors.push(rows.insert(&bench.path("floor.db"), parts)?.iter().sum());
        fs::remove_dir_all(bench.path(&format!("new{round}")))?;
    }
    a.stop()?;
    let ratio = paired(&times, &floors, |time, floor| time / floor);
    bench.report.goal(
        Figure {
            name: &format!("bootstrap, {} tickets, {} products", bench.plan.many, bench.plan.products),
            figure: format!("{ratio:.1} x plain SQLite: {:.2} s", median(&times) / 1000.0),
            against: format!("plain SQLite {:.2} s; new database {:.1} MB", median(&floors) / 1000.0, megabytes(size)),
            numbers: json!({ "ratio": ratio, "ms": times, "floorMs": floors, "bytes": size }),
        },
        "1.5 x plain SQLite",
        ratio <= FLOOR_GOAL,
    );
    peak(bench, "bootstrap", &peaks);
    compact_size(bench)
}

fn peak(bench: &mut Bench, what: &str, peaks: &[Vec<f64>; 2]) {
    let [giver, taker] = [median(&peaks[0]), median(&peaks[1])];
    bench.report.goal(
        Figure {
            name: &format!("memory at most in {what}, {} tickets", bench.plan.many),
            figure: format!("{:.1} / {:.1} MB, giver / taker", giver / 1e6, taker / 1e6),
            against: String::new(),
            numbers: json!({ "peakBytes": peaks }),
        },
        "16 MB",
        giver <= PEAK_GOAL && taker <= PEAK_GOAL,
    );
}

/// The size per ticket of the compacted database, as that of 20,000 tickets.
fn compact_size(bench: &mut Bench) -> Result<()> {
    let path = seed::compacted(bench)?;
    let packed = bench.path("packed.db");
    rusqlite::Connection::open(&path)?.execute("VACUUM INTO ?1", [packed.to_string_lossy()])?;
    let (file, used) = (fs::metadata(&path)?.len(), fs::metadata(&packed)?.len());
    fs::remove_file(&packed)?;
    let of = |bytes: u64| bytes as f64 * 20_000.0 / bench.plan.many as f64;
    let (used_of, file_of) = (of(used), of(file));
    bench.report.goal(
        Figure {
            name: "database after compaction, a 20,000th tickets' share",
            figure: format!("{:.1} MB in use", used_of / 1e6),
            against: format!("{:.1} MB of file, free pages included", file_of / 1e6),
            numbers: json!({ "usedBytes": used, "fileBytes": file, "tickets": bench.plan.many }),
        },
        "20 MB",
        used_of <= 20e6,
    );
    Ok(())
}

/// Sales on a till that fetches all the tickets meanwhile, and on the same till afterwards.
pub(crate) fn during(bench: &mut Bench) -> Result<()> {
    let database = seed::database(bench)?;
    let a = Till::start_on(&bench.path("source"), &bench.store, bench.a, &[bench.b], Some(&database))?;
    let (mut busy, mut calm, mut peaks) = (Samples::default(), Samples::default(), [Vec::new(), Vec::new()]);
    for round in 1..=bench.plan.rounds {
        bench.say(&format!("sales during a catch-up, round {round}"));
        process::reset_peak(a.pid())?;
        let b = bench.start_b(&format!("busy{round}"))?;
        let counter = Counter::open(&b.database())?;
        let began = Instant::now();
        let mut times = Vec::new();
        while counter.tickets()? < bench.plan.many {
            ensure!(began.elapsed() < WORK_MAX, "no catch-up within {WORK_MAX:?}");
            times.extend(sell(bench, &b, 1)?);
        }
        peaks[0].push(a.usage()?.peak as f64);
        peaks[1].push(b.usage()?.peak as f64);
        thread::sleep(Duration::from_secs(2));
        calm.add(sell(bench, &b, times.len().clamp(20, 200))?);
        busy.add(times);
        b.stop()?;
        fs::remove_dir_all(bench.path(&format!("busy{round}")))?;
    }
    a.stop()?;
    bench.report.goal(
        Figure {
            name: &format!("sale during a catch-up of {} tickets, p50 / p99", bench.plan.many),
            figure: format!("{:.2} / {:.2} ms: p99 {:.1} x idle", busy.p50(), busy.p99(), busy.p99() / calm.p99()),
            against: format!("idle {:.2} / {:.2} ms", calm.p50(), calm.p99()),
            numbers: json!({ "ms": busy.p50(), "p99Ms": busy.p99(), "idleMs": calm.p50(), "idleP99Ms": calm.p99() }),
        },
        "p99 2 x idle",
        busy.p99() <= DURING_GOAL * calm.p99(),
    );
    peak(bench, "catch-up", &peaks);
    Ok(())
}

fn sell(bench: &mut Bench, till: &Till, count: usize) -> Result<Vec<f64>> {
    let mut client = till.client();
    client.get("/healthz")?.ok()?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        thread::sleep(GAP);
        let (_, body) = bench.sales.next();
        let ((), time) = timed(|| client.post("/v1/tickets", &body)?.ok().map(drop))?;
        times.push(time);
    }
    Ok(times)
}
