//! Disks in memory below SQLite: one for each till of a test, which loses power, fails and fills up when it is told to.
//!
//! [`Disk::insert`] puts a disk in the place of a folder: SQLite, whose default file system this then is, finds databases of that
//! folder on it, and none anywhere else. What is not SQLite's (the lock file beside a database) stays real, so the folder must exist.
//!
//! A disk keeps what the system sees apart from what is durable ([`platter`]). The memory that connections share in WAL mode is heap
//! memory, which lives as long as a connection uses it. Time stands still and randomness follows from a count, so that one seed is one
//! run. Disks are independent of each other and may be used from several threads.

mod locks;
mod platter;
mod sqlite;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use locks::{FileLocks, Shared};
use platter::change;
pub(crate) use platter::{Image, Op, Platter, Random};

/// What a disk can be told to do wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Fault {
    /// Writes, truncations, syncs and deletions fail. Half of a write that fails is done, and a sync that fails loses what it was to make
    /// durable.
    Write,
    /// Reads fail.
    Read,
    /// Writes that make a file longer fail: the disk is full.
    Full,
}

/// Watches the operations that change a disk, as they are done.
pub(crate) trait Watch: Send {
    /// An operation on the file of this name.
    fn op(&mut self, name: &str, op: &Op);
}

/// A fault to come.
#[derive(Clone, Copy, Debug)]
struct Plan {
    fault: Fault,
    /// So many operations of its kind do well before.
    after: u64,
    /// So many fail; `u64::MAX`: until cleared.
    times: u64,
}

#[derive(Default)]
struct State {
    /// What the system sees.
    files: Image,
    platter: Platter,
    locks: BTreeMap<String, FileLocks>,
    shared: BTreeMap<String, Weak<Shared>>,
    /// Grows when the power is cut or the files are replaced: what was open before is dead.
    power: u64,
    plan: Option<Plan>,
    fired: u64,
    watch: Option<Box<dyn Watch>>,
}

/// A disk. Clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct Disk(Arc<Mutex<State>>);

/// Disks by folder.
static DISKS: Mutex<BTreeMap<PathBuf, Weak<Mutex<State>>>> = Mutex::new(BTreeMap::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Disk {
    /// An empty disk in the place of a folder, until it is dropped.
    pub(crate) fn insert(folder: &Path) -> Self {
        sqlite::register();
        let disk = Self::default();
        let mut disks = lock(&DISKS);
        disks.retain(|_, disk| disk.strong_count() > 0);
        disks.insert(folder.to_owned(), Arc::downgrade(&disk.0));
        disk
    }

    /// The disk that holds a path, and the file's name on it.
    fn find(path: &Path) -> Option<(Self, String)> {
        let disk = lock(&DISKS).get(path.parent()?)?.upgrade()?;
        Some((Self(disk), path.file_name()?.to_str()?.to_owned()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// Cuts the power: unsynced writes are lost but for an arbitrary part of them. Connections that are open are of no use from now on:
    /// drop them.
    pub(crate) fn crash(&self, random: Random<'_>) {
        let image = self.state().platter.cut(random);
        self.replace(image);
    }

    /// The files as the system sees them now.
    pub(crate) fn snapshot(&self) -> Image {
        self.state().files.clone()
    }

    /// Puts other files in the place of all. Connections that are open are of no use from now on: drop them.
    pub(crate) fn replace(&self, image: Image) {
        let mut state = self.state();
        state.platter = Platter::new(&image);
        state.files = image;
        state.power += 1;
        state.locks.clear();
        state.shared.clear();
    }

    /// Plans a fault: `after` operations of its kind do well, then `times` fail (`u64::MAX`: all). Replaces an earlier plan.
    pub(crate) fn fail(&self, fault: Fault, after: u64, times: u64) {
        self.state().plan = Some(Plan { fault, after, times });
    }

    /// Writes what the system sees of a file once more, and makes it durable; whether that could be done.
    pub(crate) fn write_again(&self, name: &str) -> bool {
        let mut state = self.state();
        let Some(data) = state.files.get(name).filter(|bytes| !bytes.is_empty()).map(|bytes| bytes.as_slice().into())
        else {
            return true;
        };
        if state.fails(Fault::Write) {
            return false;
        }
        state.change(name, Op::Write { at: 0, data });
        state.change(name, Op::Sync);
        true
    }

    /// Ends the fault that was planned, whether it came or not.
    pub(crate) fn mend(&self) {
        self.state().plan = None;
    }

    /// How many operations have failed so far because that was planned.
    pub(crate) fn fired(&self) -> u64 {
        self.state().fired
    }

    /// Has every operation that changes the disk watched from now on.
    pub(crate) fn watch(&self, watch: Box<dyn Watch>) {
        self.state().watch = Some(watch);
    }
}

impl State {
    /// Does an operation that changes the disk.
    fn change(&mut self, name: &str, op: Op) {
        match &op {
            Op::Delete { .. } => drop(self.files.remove(name)),
            _ => change(self.files.entry(name.to_owned()).or_default(), &op),
        }
        self.platter.apply(name, &op);
        if let Some(watch) = &mut self.watch {
            watch.op(name, &op);
        }
    }

    /// Whether an operation of this kind shall fail now.
    fn fails(&mut self, fault: Fault) -> bool {
        let Some(plan) = self.plan.as_mut().filter(|plan| plan.fault == fault) else { return false };
        if plan.after > 0 {
            plan.after -= 1;
            return false;
        }
        if plan.times != u64::MAX {
            plan.times -= 1;
            if plan.times == 0 {
                self.plan = None;
            }
        }
        self.fired += 1;
        true
    }
}
