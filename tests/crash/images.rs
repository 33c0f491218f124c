//! The disk as a power cut leaves it, at every operation of a story.

use std::thread;

use crate::check::{State, is_sound, is_whole, meaning, sells_on, state};
use crate::record::{Recording, Replay, Step as Recorded};
use crate::stories::Story;
use crate::till::{Seeded, Till};
use crate::vfs::Image;

/// One in so many images loses its power a second time, after a sale.
const SECOND_CUT: usize = 8;

/// The most faults that are told of a story.
const TOLD_MAX: usize = 5;

/// A story, recorded.
pub(crate) struct Images {
    story: Story,
    recording: Recording,
    operations: usize,
    /// The state after each step, the first before all of them; `None` where nothing had been acknowledged.
    states: Vec<Option<State>>,
    /// What a person sees in the end.
    pub(crate) meaning: Vec<String>,
}

/// What came of many images.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) images: usize,
    /// Those that lack something that was acknowledged.
    pub(crate) lost: usize,
    /// Those with any other fault.
    faults: usize,
    told: Vec<String>,
}

/// What is wrong with an image.
enum Fault {
    Lost(String),
    Other(String),
}

impl Found {
    pub(crate) fn verdict(&self, operations: usize) -> Result<String, String> {
        let text = format!(
            "{} images of {operations} operations, {} lost something, {} were damaged",
            self.images, self.lost, self.faults
        );
        let sound = self.images > 0 && self.lost + self.faults == 0;
        if sound { Ok(text) } else { Err(format!("{text}\n    {}", self.told.join("\n    "))) }
    }

    fn add(&mut self, place: &str, outcome: Result<(), Fault>) {
        self.images += 1;
        let why = match outcome {
            Ok(()) => return,
            Err(Fault::Lost(why)) => {
                self.lost += 1;
                why
            }
            Err(Fault::Other(why)) => {
                self.faults += 1;
                why
            }
        };
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("{place}: {why}"));
        }
    }

    fn join(&mut self, other: Self) {
        self.images += other.images;
        self.lost += other.lost;
        self.faults += other.faults;
        self.told.extend(other.told);
        self.told.truncate(TOLD_MAX);
    }
}

impl Images {
    /// Lives a story and records it.
    pub(crate) fn record(story: &Story) -> Self {
        Till::switch(story.mutant);
        let mut till = Till::with(story.base.clone());
        let mut states = vec![None];
        if story.started {
            till.open().expect("the till starts");
            states = vec![Some(state(&till.path()).expect("it can be read"))];
        }
        let recording = Recording::start(&till.disk);
        for (n, step) in (0..).zip(&story.steps) {
            step.run(&mut till).unwrap_or_else(|error| panic!("{}: {error}: {step:?}", story.name));
            recording.mark(n);
            if let Err(why) = is_sound(&till) {
                panic!("{}, after {step:?}: {why}", story.name);
            }
            states.push(Some(state(&till.path()).expect("it can be read")));
        }
        // A migration is acknowledged by nobody, and comes to one thing only, however often it begins.
        if !story.base.is_empty() && !story.started {
            states[0] = states[1];
        }
        Till::switch(None);
        let operations = recording.steps().iter().filter(|step| matches!(step, Recorded::Op(..))).count();
        let meaning = meaning(&till).expect("it can be read");
        Self { story: story.clone(), recording, operations, states, meaning }
    }

    /// How many operations change the disk.
    pub(crate) fn operations(&self) -> usize {
        self.operations
    }

    /// Checks about so many images for each operation: all threads go through the recording, each looks at its share.
    pub(crate) fn check(&self, seed: u64, per_operation: f64, threads: usize) -> Found {
        let share = |thread: usize| {
            let (mut replay, mut till) = (self.recording.replay(), Till::with(Image::new()));
            let mut found = Found::default();
            let (mut acknowledged, mut operation, mut image) = (0, 0usize, 0usize);
            // Where the first image falls is left to chance.
            let offset = (Seeded(seed ^ self.operations as u64).next() % 1_000) as f64 / 1_000.0;
            while let Some(step) = replay.step() {
                if let Recorded::Mark(n) = step {
                    acknowledged = *n as usize + 1;
                    continue;
                }
                operation += 1;
                let upto = (operation as f64 * per_operation + offset) as usize;
                while image < upto {
                    image += 1;
                    if image % threads == thread {
                        let mut random = Seeded(seed ^ ((operation as u64) << 32) ^ image as u64);
                        let outcome = self.check_one(&mut till, &replay, acknowledged, image, &mut random);
                        found.add(&format!("operation {operation}, image {image}"), outcome);
                    }
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

    fn check_one(
        &self,
        till: &mut Till,
        replay: &Replay,
        acknowledged: usize,
        image: usize,
        random: &mut Seeded,
    ) -> Result<(), Fault> {
        let other = |why: String| Fault::Other(why);
        till.replace(replay.cut(&mut || random.next()));
        till.open().map_err(|error| other(format!("it does not open: {error}")))?;
        is_whole(&till.path()).map_err(|why| other(format!("it is damaged: {why}")))?;
        self.is_expected(till, acknowledged)?;
        let sold = sells_on(till).map_err(other)?;
        if image.is_multiple_of(SECOND_CUT) {
            till.disk.crash(&mut || random.next());
            till.open().map_err(|error| other(format!("it does not open after a second cut: {error}")))?;
            is_whole(&till.path()).map_err(|why| other(format!("it is damaged after a second cut: {why}")))?;
            let there =
                till.reader().and_then(|reader| reader.ticket(sold)).map_err(|error| other(error.to_string()))?;
            if there.is_none() {
                return Err(Fault::Lost("a sale after the first cut is gone after the second".into()));
            }
        }
        Ok(())
    }

    /// The state is that of the last acknowledged step, or of the one under way.
    fn is_expected(&self, till: &Till, acknowledged: usize) -> Result<(), Fault> {
        let found = state(&till.path()).map_err(|error| Fault::Other(error.to_string()))?;
        let place = self.states.iter().rposition(|state| *state == Some(found));
        let allowed = [Some(acknowledged), Some(acknowledged + 1)];
        // A state that comes twice (a restart changes nothing) is as good as the later one.
        if place.is_some_and(|place| place >= acknowledged && self.states[acknowledged..=place].len() <= 2)
            || allowed.iter().flatten().any(|n| self.states.get(*n) == Some(&Some(found)))
        {
            return Ok(());
        }
        match place {
            _ if self.states[acknowledged].is_none() => is_sound(till).map_err(Fault::Other),
            Some(place) if place < acknowledged => {
                Err(Fault::Lost(format!("step {acknowledged} was acknowledged, and it is as after step {place}")))
            }
            _ => Err(Fault::Other(format!("it is as after no step; the last acknowledged was {acknowledged}"))),
        }
    }

    /// The story that was recorded.
    pub(crate) fn story(&self) -> &Story {
        &self.story
    }
}
