//! The shop rig: tills as real processes, each in a network namespace with its own address and hostname, on a switch that can be
//! cut; driven through their local APIs, and compared with books that the rig keeps itself.
//!
//! `tests/run shop [WORD...]` runs the scenarios whose name contains one of the words. Every choice comes from a seed, printed
//! with each scenario; `TILLMESH_SEED=... tests/run shop NAME` repeats it. Needs root.

#![allow(clippy::print_stdout, reason = "a story is told on standard output")]

#[path = "../lib/mod.rs"]
mod lib;

mod changes;
mod hub;
mod lan;
mod load;
mod rng;
mod scenarios;
mod shop;
mod step;
mod tap;
mod trade;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, ensure};

use crate::lan::ALL;
use crate::shop::Shop;
use crate::step::Step;

/// How many scenarios run at a time: they wait more than they work.
const JOBS: usize = 2;

/// A story about so many tills, and what it shows.
struct Scenario {
    name: &'static str,
    tills: usize,
    shows: &'static str,
    steps: fn() -> Vec<Step>,
}

struct Verdict {
    name: &'static str,
    seconds: f64,
    failure: Option<String>,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen = scenarios::all().into_iter().filter(|scenario| is_chosen(scenario.name, &words));
    let chosen: VecDeque<(usize, Scenario)> = chosen.enumerate().collect();
    if words.iter().any(|word| word == "--list") {
        for (_, scenario) in &chosen {
            println!("{}: test", scenario.name);
        }
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        return without_root();
    }
    if let Err(error) = lan::sweep() {
        println!("what an earlier rig left cannot be cleared away: {error:#}");
    }
    let verdicts = run_all(chosen);
    report(&verdicts)
}

/// Whether one of the words is in the name, or there are none; flags are those of other test runners.
fn is_chosen(name: &str, words: &[String]) -> bool {
    let mut words = words.iter().filter(|word| !word.starts_with("--")).peekable();
    words.peek().is_none() || words.any(|word| name.contains(word.as_str()))
}

/// Namespaces need root. On a developer's machine that is a reason, in CI a failure.
fn without_root() -> ExitCode {
    println!("the shop rig makes network namespaces: run it as root");
    if std::env::var_os("CI").is_some() {
        println!("0 passed, 1 failed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn seed() -> u64 {
    let given = std::env::var("TILLMESH_SEED").ok().and_then(|text| text.parse().ok());
    given.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        rng::Rng::new(now.as_nanos() as u64).next() >> 32
    })
}

/// More rounds, longer waits: `tests/run --full`.
fn is_full() -> bool {
    std::env::var_os("TILLMESH_FULL").is_some()
}

fn run_all(chosen: VecDeque<(usize, Scenario)>) -> Vec<Verdict> {
    let (queue, verdicts) = (Mutex::new(chosen), Mutex::new(Vec::new()));
    let next = || queue.lock().ok()?.pop_front();
    thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                while let Some((number, scenario)) = next() {
                    let verdict = run_one(number, &scenario);
                    if let Ok(mut verdicts) = verdicts.lock() {
                        verdicts.push(verdict);
                    }
                }
            });
        }
    });
    verdicts.into_inner().unwrap_or_default()
}

fn run_one(number: usize, scenario: &Scenario) -> Verdict {
    let (began, seed) = (Instant::now(), seed());
    println!("[{}] {} (TILLMESH_SEED={seed})", scenario.name, scenario.shows);
    let story = AssertUnwindSafe(|| play(number, scenario, seed));
    let result = catch_unwind(story).unwrap_or_else(|_| Err(anyhow!("the rig itself panicked")));
    let failure = result.err().map(|error| format!("{error:#}"));
    let seconds = began.elapsed().as_secs_f64();
    match &failure {
        None => println!("[{}] passed in {seconds:.1} s", scenario.name),
        Some(reason) => {
            println!(
                "[{}] FAILED after {seconds:.1} s: {reason}\n    TILLMESH_SEED={seed} tests/run shop {0}",
                scenario.name
            );
        }
    }
    Verdict { name: scenario.name, seconds, failure }
}

fn play(number: usize, scenario: &Scenario, seed: u64) -> Result<()> {
    let mut shop = Shop::new(scenario.name, number, &ALL[..scenario.tills], seed)?;
    let result = (scenario.steps)().iter().try_for_each(|step| {
        shop.say(&step.to_string());
        step.run(&mut shop).with_context(|| step.to_string())?;
        let crashed = shop.crashed()?;
        ensure!(crashed.is_empty(), "ended by itself: till {}", lan::letters(&crashed));
        Ok(())
    });
    if result.is_err() {
        shop.print_logs();
    }
    result
}

fn report(verdicts: &[Verdict]) -> ExitCode {
    println!();
    for verdict in verdicts {
        let word = if verdict.failure.is_none() { "passed" } else { "FAILED" };
        println!("{word} {:6.1} s  {}", verdict.seconds, verdict.name);
    }
    for verdict in verdicts {
        if let Some(reason) = &verdict.failure {
            println!("\n{}: {reason}", verdict.name);
        }
    }
    let failed = verdicts.iter().filter(|verdict| verdict.failure.is_some()).count();
    println!("{} passed, {failed} failed", verdicts.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
