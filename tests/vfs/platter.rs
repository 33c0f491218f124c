//! What a disk holds below the system's cache: bytes that are there after a power cut, and writes that may or may not be.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The files of a disk by name, whole.
pub(crate) type Image = BTreeMap<String, Vec<u8>>;

/// Random numbers, the caller's.
pub(crate) type Random<'a> = &'a mut dyn FnMut() -> u64;

/// A write is done by the disk in sectors of so many bytes: each whole or not at all.
const SECTOR_BYTES: usize = 512;

/// An operation on one file that changes the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Op {
    /// Bytes are written at an offset; the file grows to hold them.
    Write { at: usize, data: Arc<[u8]> },
    /// The file is cut to a length.
    Truncate(usize),
    /// All that was written so far is made durable.
    Sync,
    /// The system reported that it could not sync, and forgot what there was to write: what Linux does.
    SyncFailed,
    /// The file is deleted; durably at once, or by the next sync of any file: file systems with a journal keep the order.
    Delete { durable: bool },
}

/// One file below the cache.
#[derive(Clone, Default, Debug)]
struct Medium {
    /// What is there after a power cut; `None` while the file's name is not durable.
    durable: Option<Vec<u8>>,
    /// Writes and truncations since the last sync, in order.
    unsynced: Vec<Op>,
    /// Deleted, but not durably.
    deleted: bool,
}

/// The files of a disk below the cache.
#[derive(Clone, Default, Debug)]
pub(crate) struct Platter {
    files: BTreeMap<String, Medium>,
}

impl Platter {
    /// A disk that holds these files durably.
    pub(crate) fn new(image: &Image) -> Self {
        let medium = |bytes: &Vec<u8>| Medium { durable: Some(bytes.clone()), ..Medium::default() };
        Self { files: image.iter().map(|(name, bytes)| (name.clone(), medium(bytes))).collect() }
    }

    /// Does an operation.
    pub(crate) fn apply(&mut self, name: &str, op: &Op) {
        if !self.files.contains_key(name) {
            self.files.insert(name.to_owned(), Medium::default());
        }
        let Some(medium) = self.files.get_mut(name) else { return };
        match op {
            Op::Write { .. } | Op::Truncate(_) => medium.unsynced.push(op.clone()),
            Op::Sync => {
                medium.sync();
                self.end_deletions();
            }
            Op::SyncFailed => medium.unsynced.clear(),
            Op::Delete { durable: true } => drop(self.files.remove(name)),
            Op::Delete { durable: false } => {
                medium.unsynced.clear();
                medium.deleted = true;
            }
        }
    }

    fn end_deletions(&mut self) {
        self.files.retain(|_, medium| {
            if std::mem::take(&mut medium.deleted) {
                medium.durable = None;
            }
            medium.durable.is_some() || !medium.unsynced.is_empty()
        });
    }

    /// What a power cut leaves: all that was synced, and of the rest nothing, a beginning, or any sectors of any writes.
    pub(crate) fn cut(&self, random: Random<'_>) -> Image {
        self.files.iter().filter_map(|(name, medium)| Some((name.clone(), medium.cut(random)?))).collect()
    }
}

impl Medium {
    fn sync(&mut self) {
        let mut bytes = if self.deleted { Vec::new() } else { self.durable.take().unwrap_or_default() };
        for op in self.unsynced.drain(..) {
            change(&mut bytes, &op);
        }
        self.durable = Some(bytes);
        self.deleted = false;
    }

    fn cut(&self, random: Random<'_>) -> Option<Vec<u8>> {
        if self.deleted && random().is_multiple_of(2) {
            // The old file, as if it had never been deleted; what was written since went to another file of its name.
            return self.durable.clone();
        }
        let mut bytes = self.durable.clone().filter(|_| !self.deleted);
        let count = self.unsynced.len();
        match random() % 4 {
            0 => {}
            1 => {
                let kept = (random() % (count as u64 + 1)) as usize;
                self.unsynced[..kept].iter().for_each(|op| change(bytes.get_or_insert_default(), op));
            }
            _ => self.unsynced.iter().for_each(|op| tear(&mut bytes, op, random)),
        }
        bytes
    }
}

/// Keeps some sectors of a write, or a truncation or not.
fn tear(bytes: &mut Option<Vec<u8>>, op: &Op, random: Random<'_>) {
    match op {
        Op::Write { at, data } => {
            // Mostly a write is there whole or not at all.
            let odds = [0, 8, 8, 6][(random() % 4) as usize];
            for (n, sector) in data.chunks(SECTOR_BYTES).enumerate() {
                if random() % 8 < odds {
                    put(bytes.get_or_insert_default(), at + n * SECTOR_BYTES, sector);
                }
            }
        }
        other if random().is_multiple_of(2) => change(bytes.get_or_insert_default(), other),
        _ => {}
    }
}

/// Does a write or a truncation to bytes.
pub(crate) fn change(bytes: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write { at, data } => put(bytes, *at, data),
        Op::Truncate(length) => bytes.resize(*length, 0),
        Op::Sync | Op::SyncFailed | Op::Delete { .. } => {}
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, data: &[u8]) {
    let end = at + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(data);
}
