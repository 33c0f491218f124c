//! Every operation of the disk made to fail: once, a few times, or until a person does something.

use std::collections::BTreeMap;
use std::thread;

use crate::check::{is_sound, is_whole, meaning, sells_on, state};
use crate::images::Images;
use crate::stories::Step;
use crate::till::{Seeded, Till};
use crate::vfs::Fault;

const FAULTS: [Fault; 3] = [Fault::Write, Fault::Read, Fault::Full];

/// The most faults that are told of a story.
const TOLD_MAX: usize = 5;

/// After so many attempts in vain somebody mends the disk.
const ATTEMPTS: u32 = 5;

/// What came of many points.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) points: u64,
    /// Requests that failed with an error, and those that did not mind.
    refused: u64,
    by_fault: BTreeMap<Fault, u64>,
    told: Vec<String>,
}

impl Found {
    pub(crate) fn verdict(&self) -> Result<String, String> {
        let by: Vec<String> = self.by_fault.iter().map(|(fault, n)| format!("{n} {fault:?}")).collect();
        let text = format!("{} points ({}), {} requests refused", self.points, by.join(", "), self.refused);
        if self.told.is_empty() && self.points > 0 && self.refused > 0 {
            return Ok(text);
        }
        Err(format!("{text}\n    {}", self.told.join("\n    ")))
    }

    fn join(&mut self, other: Self) {
        self.points += other.points;
        self.refused += other.refused;
        other.by_fault.into_iter().for_each(|(fault, n)| *self.by_fault.entry(fault).or_default() += n);
        self.told.extend(other.told);
        self.told.truncate(TOLD_MAX);
    }
}

/// Makes one in `stride` operations fail.
pub(crate) fn check(images: &Images, seed: u64, stride: u64, threads: u64) -> Found {
    let share = |thread: u64| {
        let mut found = Found::default();
        for fault in FAULTS {
            let offset = Seeded(seed ^ fault as u64).next() % stride;
            for point in (offset..).step_by(stride as usize).skip(thread as usize).step_by(threads as usize) {
                match one(images, fault, point, seed) {
                    // The story has no so many operations of this kind.
                    Ok(None) => break,
                    Ok(Some(refused)) => found.refused += refused,
                    Err(why) => found.told.push(format!("{fault:?} at operation {point}: {why}")),
                }
                found.points += 1;
                *found.by_fault.entry(fault).or_default() += 1;
            }
        }
        found
    };
    thread::scope(|scope| {
        let share = &share;
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || share(thread))).collect();
        workers.into_iter().fold(Found::default(), |mut all, worker| {
            all.join(worker.join().expect("a worker does not panic"));
            all
        })
    })
}

/// Lives the story with a fault at one operation; how many requests were refused because of it, or `None` where it never came.
fn one(images: &Images, fault: Fault, point: u64, seed: u64) -> Result<Option<u64>, String> {
    let story = images.story();
    let mut till = Till::with(story.base.clone());
    if story.started {
        till.open().map_err(|error| error.to_string())?;
    }
    till.disk.fail(fault, point, [1, 3, u64::MAX][(point % 3) as usize]);
    let (mut refused, mut random) = (0, Seeded(seed ^ point));
    for step in &story.steps {
        let mut attempts = 0;
        loop {
            let fired = till.disk.fired();
            match step.run(&mut till) {
                Ok(()) => break,
                Err(error) if !error.is_fault() || till.disk.fired() == fired => {
                    return Err(format!("{step:?} is refused for another reason: {error}"));
                }
                Err(_) if attempts == ATTEMPTS => {
                    return Err(format!("{step:?} does not work on a disk that was mended"));
                }
                Err(_) => refused += 1,
            }
            // A start that fails is tried again after the power was off. (Without, what the system could not make durable is still in its
            // cache: the store writes it again, to a file that is not on this disk.)
            if matches!(step, Step::Restart) {
                till.disk.crash(&mut || random.next());
            }
            attempts += 1;
            if attempts == ATTEMPTS {
                till.disk.mend();
            }
        }
    }
    if till.disk.fired() == 0 {
        return Ok(None);
    }
    till.disk.mend();
    ends_alike(images, &mut till, &mut random)?;
    Ok(Some(refused))
}

fn is_alike(wanted: &[String], found: &[String]) -> Result<(), String> {
    let missing = wanted.iter().find(|line| !found.contains(line));
    let more = found.iter().find(|line| !wanted.contains(line));
    if missing.is_none() && more.is_none() { Ok(()) } else { Err(format!("without {missing:?}, with {more:?}")) }
}

/// In the end all is as without the fault, and stays so in a power cut.
fn ends_alike(images: &Images, till: &mut Till, random: &mut Seeded) -> Result<(), String> {
    let found = meaning(till).map_err(|error| error.to_string())?;
    is_alike(&images.meaning, &found).map_err(|why| format!("it ends {why}"))?;
    is_sound(till)?;
    let before = state(&till.path()).map_err(|error| error.to_string())?;
    till.disk.crash(&mut || random.next());
    till.open().map_err(|error| format!("it does not open again: {error}"))?;
    is_whole(&till.path())?;
    let cut = meaning(till).map_err(|error| error.to_string())?;
    is_alike(&found, &cut).map_err(|why| format!("after a power cut it is {why}"))?;
    if state(&till.path()).map_err(|error| error.to_string())? != before {
        return Err("a power cut after the fault changes what was acknowledged".into());
    }
    sells_on(till).map(drop)
}
