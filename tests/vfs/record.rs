//! Everything that a disk was told to do, so that the disk as it was at any moment can be rebuilt. For tests that include this module
//! beside `vfs`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::vfs::{Disk, Image, Op, Platter, Random, Watch};

/// One step of a recording.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// An operation on a file.
    Op(String, Op),
    /// Something that the caller noted at this place: what was acknowledged, say.
    Mark(u64),
}

/// A recording of a disk, which goes on while the disk is used.
#[derive(Clone, Default)]
pub(crate) struct Recording {
    base: Image,
    steps: Arc<Mutex<Vec<Step>>>,
}

impl Recording {
    /// Records a disk from now on. What is on it counts as durable.
    pub(crate) fn start(disk: &Disk) -> Self {
        let recording = Self { base: disk.snapshot(), steps: Arc::default() };
        disk.watch(Box::new(recording.clone()));
        recording
    }

    /// Notes something at this place.
    pub(crate) fn mark(&self, note: u64) {
        self.steps().push(Step::Mark(note));
    }

    /// What was recorded so far.
    pub(crate) fn steps(&self) -> MutexGuard<'_, Vec<Step>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plays the recording from its start.
    pub(crate) fn replay(&self) -> Replay {
        Replay { platter: Platter::new(&self.base), steps: self.steps().clone(), done: 0 }
    }
}

impl Watch for Recording {
    fn op(&mut self, name: &str, op: &Op) {
        self.steps().push(Step::Op(name.to_owned(), op.clone()));
    }
}

/// A recording being played.
pub(crate) struct Replay {
    platter: Platter,
    steps: Vec<Step>,
    done: usize,
}

impl Replay {
    /// Does the next step, and says which it was; `None` at the end.
    pub(crate) fn step(&mut self) -> Option<&Step> {
        let step = self.steps.get(self.done)?;
        if let Step::Op(name, op) = step {
            self.platter.apply(name, op);
        }
        self.done += 1;
        Some(step)
    }

    /// The disk had the power been cut now.
    pub(crate) fn cut(&self, random: Random<'_>) -> Image {
        self.platter.cut(random)
    }
}
