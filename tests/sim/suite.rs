//! Many seeds on two threads, and what is said of them.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::mutants;
use crate::plan::Mix;
use crate::report::{Recording, Report};
use crate::world::World;

/// Seeds in the short and in the full form.
const SEEDS: u64 = 1_000;
const SEEDS_FULL: u64 = 20_000;

/// Every so many seeds one is run twice, and must come to the same.
const REPEAT_EVERY: u64 = 25;

/// Failures whose steps are printed, and how many of their last steps.
const FAILURES_SHOWN: usize = 3;
const STEPS_SHOWN: usize = 60;

pub(crate) const THREADS: usize = 2;

/// Faults that a suite of any size worth the name has to have met.
const FAULTS: &[&str] = &[
    "power cut",
    "kill",
    "partition",
    "partition one way",
    "link cut",
    "link swallows",
    "link cut in a snapshot",
    "giver of a snapshot dies",
    "slow link",
    "messages swapped",
    "message doubled",
    "disk full",
    "write error",
    "read error",
    "clock back a day",
    "clock ahead ten years",
    "clock ahead an hour",
    "clock ahead an hour for a week",
    "clock at 1970",
    "join",
    "retirement",
    "a week passes",
    "a till lapses",
    "old card put back",
    "backup restored",
    "cloned card",
    "cloned card, noticed",
    "card wiped",
    "box replaced",
    "request repeated",
    "id with other content",
    "ops of a later version",
    "update",
];

/// What is counted like a fault and is none: a run's five are others.
const MILD: &[&str] = &[
    "slow link",
    "messages swapped",
    "message doubled",
    "join",
    "retirement",
    "a week passes",
    "request repeated",
    "id with other content",
    "ops of a later version",
    "update",
];

/// So many faults a run has at the least, operations, and tills when it begins.
pub(crate) const FAULTS_MIN: u64 = 5;
const OPERATIONS_MIN: u64 = 300;
const TILLS_MIN: usize = 3;

/// What tills of such a suite have to have done about them.
const SEEN: &[&str] = &[
    "fork seen",
    "own origin ahead",
    "ops compacted",
    "snapshot taken",
    "snapshot given up",
    "rows adopted",
    "waits for an update",
    "said what came with an update",
    "applied after an update",
];

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Suite {
    from: u64,
    seeds: u64,
    one: bool,
    /// The deliberate bugs whose names hold this.
    mutants: Option<String>,
    until: Option<Duration>,
}

/// What a suite has come to.
#[derive(Default)]
struct Totals {
    passed: u64,
    failed: Vec<(u64, String, Vec<String>)>,
    failures: u64,
    faults: BTreeMap<&'static str, u64>,
    seen: BTreeMap<&'static str, u64>,
    operations: u64,
    acknowledged: u64,
    virtual_ms: u64,
    healed_ms: u64,
    mixes: BTreeMap<Mix, u64>,
    repeated: u64,
}

impl Suite {
    pub(crate) fn from_args(args: impl Iterator<Item = String>) -> Result<Self, String> {
        let full = std::env::var("TILLMESH_FULL").is_ok_and(|value| value == "1");
        let mut suite =
            Self { from: 1, seeds: if full { SEEDS_FULL } else { SEEDS }, one: false, mutants: None, until: None };
        let mut args = args;
        while let Some(flag) = args.next() {
            let mut number = || {
                let value = args.next().ok_or_else(|| format!("{flag} takes a number"))?;
                value.parse::<u64>().map_err(|_| format!("{flag} takes a number, not {value}"))
            };
            match flag.as_str() {
                "--seeds" => suite.seeds = number()?,
                "--from" => suite.from = number()?,
                "--seed" => (suite.from, suite.seeds, suite.one) = (number()?, 1, true),
                "--mutants" => suite.mutants = Some(String::new()),
                "--mutant" => suite.mutants = Some(args.next().ok_or("--mutant takes a name")?),
                "--minutes" => {
                    suite.until = Some(Duration::from_secs(60 * number()?));
                    suite.seeds = u64::MAX / 2;
                }
                other => return Err(format!("no such flag: {other}")),
            }
        }
        Ok(suite)
    }

    pub(crate) fn run(self) -> ExitCode {
        // A panic of the code under test is a failure of its seed, and is told with it.
        std::panic::set_hook(Box::new(|_| {}));
        if self.one {
            return run_one(self.from);
        }
        if let Some(name) = &self.mutants {
            return mutants::run(name, self.from);
        }
        let began = Instant::now();
        let (next, totals) = (AtomicU64::new(self.from), Mutex::new(Totals::default()));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    while self.until.is_none_or(|until| began.elapsed() < until) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.from.saturating_add(self.seeds) {
                            break;
                        }
                        let outcome = judge(seed);
                        let mut totals = totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        totals.add(seed, outcome);
                    }
                });
            }
        });
        let totals = totals.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        totals.print(began.elapsed())
    }
}

/// Runs a seed; what came of it, or why it failed, with its steps where they were recorded.
pub(crate) fn run_seed(seed: u64, recording: Recording) -> Result<Report, (String, Vec<String>)> {
    let mut world = World::new(seed, recording).map_err(|error| (error, Vec::new()))?;
    let outcome = catch_unwind(AssertUnwindSafe(|| world.run()));
    let report = world.finish();
    let error = match outcome {
        Ok(Ok(())) if report.tills < TILLS_MIN => format!("only {} tills", report.tills),
        Ok(Ok(())) if report.operations < OPERATIONS_MIN => format!("only {} operations", report.operations),
        Ok(Ok(())) if faults_of(&report.faults) < FAULTS_MIN => "fewer than five faults".to_owned(),
        Ok(Ok(())) => {
            if recording != Recording::Off {
                return Err((String::new(), world.take_steps()));
            }
            return Ok(report);
        }
        Ok(Err(error)) => error,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
            format!("panicked: {}", text.unwrap_or("without a word"))
        }
    };
    Err((error, world.take_steps()))
}

/// Runs a seed, some of them twice.
fn judge(seed: u64) -> Result<(Report, bool), (String, Vec<String>)> {
    let report = run_seed(seed, Recording::Off)?;
    let repeat = seed.is_multiple_of(REPEAT_EVERY);
    if repeat && run_seed(seed, Recording::Off)?.tally != report.tally {
        return Err(("two runs of the seed are not alike".to_owned(), Vec::new()));
    }
    Ok((report, repeat))
}

fn run_one(seed: u64) -> ExitCode {
    let (error, steps) = run_seed(seed, Recording::Messages).err().unwrap_or_default();
    steps.iter().for_each(|step| println!("{step}"));
    if error.is_empty() {
        println!("1 passed, 0 failed");
        ExitCode::SUCCESS
    } else {
        println!("seed {seed}: {error}\n0 passed, 1 failed");
        ExitCode::FAILURE
    }
}

impl Totals {
    fn add(&mut self, seed: u64, outcome: Result<(Report, bool), (String, Vec<String>)>) {
        match outcome {
            Ok((report, repeated)) => {
                self.passed += 1;
                self.repeated += u64::from(repeated);
                self.operations += report.operations;
                self.acknowledged += report.acknowledged as u64;
                self.virtual_ms += report.virtual_ms;
                self.healed_ms = self.healed_ms.max(report.healed_ms);
                *self.mixes.entry(report.mix).or_default() += 1;
                sum(&mut self.faults, &report.faults);
                sum(&mut self.seen, &report.seen);
            }
            Err((error, _)) => {
                self.failures += 1;
                println!("seed {seed}: {error}");
                if self.failed.len() < FAILURES_SHOWN {
                    let steps = run_seed(seed, Recording::Steps).err().map(|(_, steps)| steps).unwrap_or_default();
                    self.failed.push((seed, error, steps));
                }
            }
        }
    }

    fn print(mut self, took: Duration) -> ExitCode {
        for (seed, error, steps) in &self.failed {
            println!("---- seed {seed}");
            steps.iter().skip(steps.len().saturating_sub(STEPS_SHOWN)).for_each(|step| println!("{step}"));
            println!("seed {seed} failed: {error}\nrepeat with: cargo test --test sim -- --seed {seed}\n");
        }
        let runs = self.passed + self.failures;
        let hours = self.virtual_ms as f64 / 3_600_000.0;
        println!("{runs} runs ({} twice) in {:.0} s: {hours:.1} virtual hours", self.repeated, took.as_secs_f64());
        println!("{} operations, {} acknowledged records", self.operations, self.acknowledged);
        println!("equal at most {:.1} virtual seconds after the last fault", self.healed_ms as f64 / 1_000.0);
        println!("mixes: {}", listed(&self.mixes));
        println!("faults: {}", listed(&self.faults));
        println!("seen: {}", listed(&self.seen));
        if runs >= SEEDS {
            let never = FAULTS.iter().filter(|fault| !self.faults.contains_key(*fault));
            for what in never.chain(SEEN.iter().filter(|what| !self.seen.contains_key(*what))) {
                println!("never happened: {what}");
                self.failures += 1;
            }
        }
        println!("{} passed, {} failed", self.passed, self.failures);
        if self.failures == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// How many faults that are worth the name.
pub(crate) fn faults_of(counted: &BTreeMap<&'static str, u64>) -> u64 {
    counted.iter().filter(|(name, _)| !MILD.contains(name)).map(|(_, count)| count).sum()
}

fn sum(all: &mut BTreeMap<&'static str, u64>, more: &BTreeMap<&'static str, u64>) {
    for (name, count) in more {
        *all.entry(name).or_default() += count;
    }
}

fn listed<K: std::fmt::Debug>(counts: &BTreeMap<K, u64>) -> String {
    let each: Vec<String> = counts.iter().map(|(name, count)| format!("{name:?} {count}").replace('"', "")).collect();
    each.join(", ")
}
