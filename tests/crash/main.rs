//! Crash images: a till works on a disk that records every write and sync; then the disk as a power cut would have left it at every
//! operation is rebuilt, and opened. And every single operation of the disk is made to fail, once, or for a while.
//!
//! What must hold after a power cut: the database is whole, and its state is that of the last acknowledged request or of the one that
//! was under way, to the last byte of every table: nothing acknowledged is lost, nothing is there in part. Then the till sells on.
//! What must hold after a failed operation: the request fails with an error that says so, the same request works once the fault is gone, and
//! a restart finds the same.
//!
//! `tests/run crash` runs about 2,000 images, `tests/run --full crash` all of them, several for each operation. A word selects stories.
//! `TILLMESH_SEED` repeats a run.

#![allow(clippy::print_stdout, reason = "this program tells what it has found there")]

mod check;
mod images;
mod points;
#[path = "../vfs/record.rs"]
mod record;
mod stories;
mod till;
#[path = "../vfs/mod.rs"]
mod vfs;

use std::time::{Instant, SystemTime};

use images::Images;
use stories::{Story, stories};
use tillmesh::model::mutant::Mutant;

/// Images of the short form and the least of the full one, over all stories.
const IMAGES_SHORT: usize = 2_000;
const IMAGES_FULL: usize = 20_000;

/// About so many operations of a story are made to fail by each kind of fault, at most.
const POINTS_SHORT: usize = 20;
const POINTS_FULL: usize = 600;

const THREADS: usize = 2;

/// What a run found.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: u32,
    images: usize,
    points: u64,
}

impl Tally {
    fn test(&mut self, name: &str, outcome: Result<String, String>, began: Instant) {
        let seconds = began.elapsed().as_secs_f32();
        match outcome {
            Ok(said) => {
                self.passed += 1;
                println!("ok      {name}: {said} ({seconds:.1} s)");
            }
            Err(why) => {
                self.failed += 1;
                println!("FAILED  {name}: {why} ({seconds:.1} s)");
            }
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let full = std::env::var_os("TILLMESH_FULL").is_some();
    let seed = seed();
    let chosen = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word.as_str()));
    let stories: Vec<Story> = stories().into_iter().filter(|story| chosen(story.name)).collect();
    let recorded: Vec<Images> = stories.iter().map(Images::record).collect();
    let operations: usize = recorded.iter().map(Images::operations).sum();
    println!("seed {seed}; {operations} operations in {} stories", stories.len());
    let mut tally = Tally::default();
    for (story, images) in stories.iter().zip(&recorded) {
        let began = Instant::now();
        // The short form spends as much on a story as on another, the full one on each operation.
        let each = match full {
            true => (IMAGES_FULL as f64 / operations as f64).max(4.0),
            false => IMAGES_SHORT as f64 / stories.len() as f64 / images.operations() as f64,
        };
        let found = images.check(seed, each, THREADS);
        tally.images += found.images;
        tally.test(&format!("{} after a power cut", story.name), found.verdict(images.operations()), began);
        let began = Instant::now();
        let stride = (images.operations() / if full { POINTS_FULL } else { POINTS_SHORT }).max(1) as u64;
        let found = points::check(images, seed, stride, THREADS as u64);
        tally.points += found.points;
        tally.test(&format!("{} with a disk that fails", story.name), found.verdict(), began);
    }
    if chosen("mutant") {
        let began = Instant::now();
        tally.test("mutant: a store that does not wait for the disk is found out", bites(seed), began);
    }
    println!("{} images, {} points", tally.images, tally.points);
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed > 0 {
        println!("repeat with TILLMESH_SEED={seed}");
        std::process::exit(1);
    }
}

/// The check is worth something only if it fails where it should.
fn bites(seed: u64) -> Result<String, String> {
    let story = stories().into_iter().find(|story| story.name == "selling").expect("there is such a story");
    let found = Images::record(&Story { mutant: Some(Mutant::NoSync), ..story }).check(seed, 1.0, THREADS);
    let text = format!("{} of {} images have lost a sale that was acknowledged", found.lost, found.images);
    if found.lost > 0 { Ok(text) } else { Err(text) }
}

fn seed() -> u64 {
    let given = std::env::var("TILLMESH_SEED").ok().and_then(|text| text.parse().ok());
    let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64 % 1_000_000_000);
    given.unwrap_or_else(now)
}
