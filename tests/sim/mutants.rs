//! Deliberate bugs, each switched on in turn: a simulator that does not notice one is not worth its runs.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tillmesh::model::mutant::Mutant;

use crate::report::Recording;
use crate::suite::{THREADS, run_seed};

/// A bug that so many seeds do not show counts as not noticed.
const SEEDS_MAX: u64 = 400;

/// Runs seeds from this one on with each bug whose name holds a word, until one fails.
pub(crate) fn run(word: &str, from: u64) -> ExitCode {
    let mutants: Vec<Mutant> = Mutant::ALL.iter().copied().filter(|m| format!("{m:?}").contains(word)).collect();
    let (next, tally) = (AtomicUsize::new(0), Mutex::new((0, 0)));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(mutant) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    Mutant::switch(Some(*mutant));
                    let caught =
                        (from..from + SEEDS_MAX).find_map(|seed| Some((seed, run_seed(seed, Recording::Off).err()?.0)));
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    match caught {
                        Some((seed, how)) => {
                            let how: String = how.lines().next().unwrap_or_default().chars().take(110).collect();
                            println!(
                                "{:<24} caught by seed {:>4}: {}",
                                format!("{mutant:?}"),
                                seed + 1 - from,
                                how.trim()
                            );
                            tally.0 += 1;
                        }
                        None => {
                            println!("{:<24} NOT CAUGHT by {SEEDS_MAX} seeds", format!("{mutant:?}"));
                            tally.1 += 1;
                        }
                    }
                }
            });
        }
    });
    let (passed, failed) = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
