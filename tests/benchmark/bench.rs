//! Speed, memory and wear of the agent: real processes on loopback, a real disk, driven through the local API.
//!
//! `tests/bench` builds and runs it. Noise of the machine is met in three ways: everything is compared with what the disk and plain
//! SQLite cost within the same second, rounds are interleaved with those baselines, and the median over rounds is shown. Nothing here
//! fails because a figure is bad: the verdict stands in the table.

mod catch_up;
mod chart;
mod client;
mod floor;
mod live;
mod many;
mod months;
mod process;
mod report;
mod sale;
mod samples;
mod seed;
mod selling;
mod shop;
mod stacks;
mod till;
mod wear;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use report::{Figure, Report};
use sale::Sales;
use till::{Ports, Till};

/// How much is measured.
#[derive(Clone, Copy)]
struct Plan {
    rounds: usize,
    idle: Duration,
    /// Tickets of a catch-up.
    tickets: u64,
    /// Tickets of a catch-up of POSPlus's stack, which takes its time.
    posplus_tickets: u64,
    /// Tickets of a shop that has sold for months.
    many: u64,
    products: usize,
    /// The most tills that a till at rest is linked with.
    peers_max: usize,
    /// The most tills of the parts that count up.
    tills_max: usize,
    /// How long each number of tills sells.
    scale: Duration,
    /// Before that, until nothing of the start is under way any more: what tills hold is passed on every 30 s, digests every 60 s.
    settle: Duration,
    /// Tills that are cut off, and what each sells meanwhile: one a second.
    partition: (usize, usize),
    partition_rounds: usize,
    /// The memory of a whole shop instead of all else, over so many hours of work; 0: not.
    hours: u32,
    /// Each of these hours takes one.
    real_time: bool,
}

impl Plan {
    const QUICK: Self = Self {
        rounds: 1,
        idle: Duration::from_secs(10),
        tickets: 2_000,
        posplus_tickets: 200,
        many: 4_000,
        products: 500,
        peers_max: 8,
        tills_max: 8,
        scale: Duration::from_secs(5),
        settle: Duration::from_secs(12),
        partition: (4, 20),
        partition_rounds: 1,
        hours: 2,
        real_time: false,
    };
    const FULL: Self = Self {
        rounds: 5,
        idle: Duration::from_secs(600),
        tickets: 20_000,
        posplus_tickets: 2_000,
        many: 100_000,
        products: 10_000,
        peers_max: 32,
        tills_max: 64,
        scale: Duration::from_secs(10),
        settle: Duration::from_secs(75),
        partition: (16, 300),
        partition_rounds: 3,
        hours: 10,
        real_time: false,
    };
    /// Five rounds of what a minute or two can hold.
    const SHORT: Self = Self { rounds: 5, tickets: 20_000, idle: Duration::from_secs(30), ..Self::QUICK };
}

/// A part of the benchmark, by the word that chooses it.
type Part = (&'static str, fn(&mut Bench) -> Result<()>);

const PARTS: &[Part] = &[
    ("sale", sale),
    ("wear", wear::measure),
    ("websocket", stacks::websocket),
    ("live", live),
    ("catch-up", catch_up),
    ("during", months::during),
    ("bootstrap", months::bootstrap),
    ("prices", many::prices),
    ("start", months::start),
    ("rss", months::memory),
    ("idle", months::idle),
    ("partition", many::partition),
    ("scale", many::scale),
    ("binary", binary),
];

/// What the parts of the benchmark share.
struct Bench {
    plan: Plan,
    folder: TempDir,
    store: Value,
    a: Ports,
    b: Ports,
    sales: Sales,
    report: Report,
    began: Instant,
}

impl Bench {
    fn new(plan: Plan) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("benchmark-").tempdir_in(disk_folder()?)?;
        let sales = Sales::new(1);
        let (store, a, b) = (till::new_store()?, Ports::free()?, Ports::free()?);
        Ok(Self { plan, folder, store, a, b, sales, report: Report::default(), began: Instant::now() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn start_a(&self) -> Result<Till> {
        Till::start(&self.path("A"), &self.store, self.a, &[self.b])
    }

    /// Starts the other till, on a folder of this name: a new name is a new till.
    fn start_b(&self, name: &str) -> Result<Till> {
        Till::start(&self.path(name), &self.store, self.b, &[self.a])
    }

    /// What the disk costs now, in milliseconds, where it rests so long between two pages.
    fn probe(&self, rest: Duration) -> Result<Vec<f64>> {
        floor::fsync(self.folder.path(), 40, rest)
    }

    /// Tells whoever waits what is going on. Where nobody listens, so be it.
    fn say(&self, text: &str) {
        let _ = writeln!(io::stderr(), "{:5.1} s  {text}", self.began.elapsed().as_secs_f64());
    }
}

/// A folder on a disk: a file system in memory would make every figure worthless.
fn disk_folder() -> Result<&'static Path> {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(folder)?;
    let kind = rustix::fs::statfs(folder)?.f_type;
    ensure!(kind.unsigned_abs() != TMPFS_MAGIC, "{} is in memory: build on a disk", folder.display());
    Ok(folder)
}

fn main() -> ExitCode {
    let outcome = arguments().and_then(run);
    if let Err(error) = outcome {
        let _ = writeln!(io::stderr(), "benchmark: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// What is asked for: how much, which parts (none: all), and where else the JSON goes.
struct Wish {
    plan: Plan,
    parts: Vec<Part>,
    json: Option<PathBuf>,
}

fn arguments() -> Result<Wish> {
    let (mut plan, mut shop, mut real_time) = (Plan::SHORT, false, false);
    let (mut parts, mut json) = (Vec::new(), None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--full" => plan = Plan::FULL,
            "--quick" => plan = Plan::QUICK,
            "--shop" => shop = true,
            "--hour" => (shop, real_time) = (true, true),
            "--json" => json = Some(PathBuf::from(words.next().context("--json wants a file")?)),
            // cargo bench says so.
            "--bench" => {}
            word => {
                let part = PARTS.iter().find(|(name, _)| *name == word);
                let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
                parts.push(*part.with_context(|| format!("no such part: {word} (there are {})", names.join(", ")))?);
            }
        }
    }
    let hours = if real_time {
        1
    } else if shop {
        plan.hours
    } else {
        0
    };
    Ok(Wish { plan: Plan { hours, real_time, ..plan }, parts, json })
}

fn run(wish: Wish) -> Result<()> {
    let Wish { plan, mut parts, json } = wish;
    let mut bench = Bench::new(plan)?;
    facts(&mut bench)?;
    if plan.hours > 0 {
        parts = vec![("shop", shop::measure), ("binary", binary)];
    } else if parts.is_empty() {
        parts = PARTS.to_vec();
    }
    for (n, (name, part)) in parts.iter().enumerate() {
        bench.say(&format!("part {} of {}: {name}", n + 1, parts.len()));
        // A part that fails, on a machine that is too small for it say, leaves the others' figures alone.
        if let Err(error) = part(&mut bench) {
            bench.say(&format!("{name}: {error:#}"));
            bench.report.cannot(name, "", &format!("{error:#}").replace('\n', " "));
        }
    }
    finish(&bench, json.as_deref())
}

fn sale(bench: &mut Bench) -> Result<()> {
    let a = bench.start_a()?;
    selling::measure(bench, &a)?;
    a.stop()
}

fn live(bench: &mut Bench) -> Result<()> {
    let (a, b) = (bench.start_a()?, bench.start_b("B")?);
    live::measure(bench, &a, &b)?;
    b.stop()?;
    a.stop()
}

fn catch_up(bench: &mut Bench) -> Result<()> {
    let a = bench.start_a()?;
    catch_up::measure(bench, &a)?;
    a.stop()
}

fn binary(bench: &mut Bench) -> Result<()> {
    let bytes = fs::metadata(till::agent())?.len();
    bench.report.note(Figure {
        name: "size of the binary",
        figure: format!("{:.1} MB", megabytes(bytes)),
        against: String::new(),
        numbers: json!({ "bytes": bytes }),
    });
    Ok(())
}

fn facts(bench: &mut Bench) -> Result<()> {
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    let cores = cpus.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let commit = std::env::var("TILLMESH_COMMIT").unwrap_or_default();
    let Bench { plan, report, .. } = bench;
    report.fact("machine", format!("{cores} x {}, Linux {}", model.trim_matches([' ', '\t', ':']), kernel.trim()));
    report.fact("commit", commit);
    report.fact("SQLite", rusqlite::version());
    report.fact("rounds", plan.rounds);
    let (tills, sales) = plan.partition;
    report.fact(
        "sizes",
        format!(
            "catch-up of {} tickets, months of {} tickets and {} products, idle {} s, up to {} tills, {tills} cut off for {sales} sales",
            plan.tickets,
            plan.many,
            plan.products,
            plan.idle.as_secs(),
            plan.tills_max,
        ),
    );
    report.fact("load at the start", process::load()?);
    Ok(())
}

fn finish(bench: &Bench, also: Option<&Path>) -> Result<()> {
    let target = disk_folder()?.parent().context("the target folder")?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    let json = folder.join(if bench.plan.hours > 0 { "shop.json" } else { "benchmark.json" });
    let text = serde_json::to_string_pretty(&bench.report.json())?;
    [Some(json.as_path()), also].into_iter().flatten().try_for_each(|path| fs::write(path, &text))?;
    let (met, goals) = bench.report.score();
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n{}", bench.report.facts(), bench.report.table())?;
    if let Some(svg) = bench.report.svg() {
        let chart = folder.join("benchmark.svg");
        fs::write(&chart, svg)?;
        writeln!(out, "as a picture: {}", chart.display())?;
    }
    writeln!(
        out,
        "{met} of {goals} goals met, in {:.0} s; as JSON: {}",
        bench.began.elapsed().as_secs_f64(),
        json.display()
    )?;
    Ok(())
}

/// Bytes in the unit that people speak of.
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
