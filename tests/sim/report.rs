//! What is kept of a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::plan::Mix;
use crate::rng::Tally;
use crate::vfs::{Op, Watch};

/// What is kept of a run to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Recording {
    Off,
    Steps,
    Messages,
}

/// What came of a run.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) mix: Mix,
    /// How many tills it began with.
    pub(crate) tills: usize,
    pub(crate) operations: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) seen: BTreeMap<&'static str, u64>,
    pub(crate) virtual_ms: u64,
    /// From the end of all faults until all tills held the same.
    pub(crate) healed_ms: u64,
    pub(crate) tally: Tally,
    pub(crate) acknowledged: usize,
    pub(crate) events: u64,
}

/// Adds what a disk is told to do to the run's tally. Contents are left out: SQLite salts its write-ahead log from numbers that all
/// threads of a process draw from.
pub(crate) struct Tallying(pub(crate) Arc<Mutex<Tally>>);

impl Watch for Tallying {
    fn op(&mut self, name: &str, op: &Op) {
        let mut tally = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tally.bytes(name.as_bytes());
        match op {
            Op::Write { at, data } => {
                tally.add(*at as u64);
                tally.add(data.len() as u64);
            }
            Op::Truncate(length) => tally.add(*length as u64 ^ 1 << 40),
            Op::Sync => tally.add(1 << 41),
            Op::SyncFailed => tally.add(1 << 42),
            Op::Delete { durable } => tally.add(1 << 43 | u64::from(*durable)),
        }
    }
}
