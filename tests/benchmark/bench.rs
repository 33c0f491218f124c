//! Speed, memory and wear of the agent: real processes on loopback, a real disk, driven through the local API.
//!
//! `tests/bench` builds and runs it. Noise of the machine is met in three ways: everything is compared with what the disk and plain
//! SQLite cost within the same second, rounds are interleaved with those baselines, and the median over rounds is shown. Nothing here
//! fails because a figure is bad: the verdict stands in the table.

mod catch_up;
mod client;
mod floor;
mod idle;
mod live;
mod process;
mod report;
mod sale;
mod samples;
mod selling;
mod shop;
mod till;
mod wear;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
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
    /// The memory of a whole shop instead of all else, over so many hours of work; 0: not.
    hours: u32,
}

impl Plan {
    const SHORT: Self = Self { rounds: 5, idle: Duration::from_secs(10), tickets: 20_000, hours: 2 };
    const FULL: Self = Self { rounds: 11, idle: Duration::from_secs(60), tickets: 20_000, hours: 10 };
}

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

    /// What the disk costs now, in milliseconds.
    fn probe(&self) -> Result<Vec<f64>> {
        floor::fsync(self.folder.path(), 40)
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

fn arguments() -> Result<Plan> {
    let (mut full, mut shop) = (false, false);
    for word in std::env::args().skip(1) {
        match word.as_str() {
            "--full" => full = true,
            "--shop" => shop = true,
            // cargo bench says so.
            "--bench" => {}
            _ => bail!("no such argument: {word} (there are --shop and --full)"),
        }
    }
    let plan = if full { Plan::FULL } else { Plan::SHORT };
    let hours = if shop { plan.hours } else { 0 };
    let plan = Plan { hours, ..plan };
    Ok(plan)
}

fn run(plan: Plan) -> Result<()> {
    let mut bench = Bench::new(plan)?;
    facts(&mut bench)?;
    if plan.hours > 0 {
        shop::measure(&mut bench)?;
        binary(&mut bench)?;
        return finish(&bench);
    }
    let a = bench.start_a()?;
    let b = bench.start_b("B")?;
    idle::memory(&mut bench, &a, &b)?;
    b.stop()?;
    selling::measure(&mut bench, &a)?;
    wear::measure(&mut bench)?;
    let b = bench.start_b("B")?;
    live::measure(&mut bench, &a, &b)?;
    b.stop()?;
    let b = catch_up::measure(&mut bench, &a)?;
    idle::measure(&mut bench, &a, &b)?;
    binary(&mut bench)?;
    drop((a, b));
    finish(&bench)
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
    report.fact("load at the start", process::load()?);
    Ok(())
}

fn finish(bench: &Bench) -> Result<()> {
    let target = disk_folder()?.parent().context("the target folder")?;
    let folder = target.join("bench");
    fs::create_dir_all(&folder)?;
    let json = folder.join(if bench.plan.hours > 0 { "shop.json" } else { "benchmark.json" });
    fs::write(&json, serde_json::to_string_pretty(&bench.report.json())?)?;
    let (met, goals) = bench.report.score();
    let mut out = io::stdout().lock();
    writeln!(out, "{}\n{}", bench.report.facts(), bench.report.table())?;
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
