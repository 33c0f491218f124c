//! The locks between the connections of one database, and the memory that they share.

use std::sync::Mutex;

use rusqlite::ffi;

use super::lock;

/// How far a connection has locked a database file: see SQLite's `xLock`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) enum Level {
    #[default]
    None,
    Shared,
    Reserved,
    Pending,
    Exclusive,
}

impl Level {
    pub(super) fn from_code(code: i32) -> Self {
        match code {
            ffi::SQLITE_LOCK_NONE => Self::None,
            ffi::SQLITE_LOCK_SHARED => Self::Shared,
            ffi::SQLITE_LOCK_RESERVED => Self::Reserved,
            ffi::SQLITE_LOCK_PENDING => Self::Pending,
            _ => Self::Exclusive,
        }
    }
}

/// The locks of one database file.
#[derive(Default, Debug)]
pub(super) struct FileLocks {
    /// Connections that hold a shared lock or more.
    holders: u32,
    /// Whether one of them holds more than a shared lock.
    writer: bool,
    /// Whether that one lets no new holders in.
    closed: bool,
}

impl FileLocks {
    /// Raises a connection's level; it may come to less than asked for. Whether it came to what was asked.
    pub(super) fn raise(&mut self, level: &mut Level, wanted: Level) -> bool {
        if *level >= wanted {
            return true;
        }
        if *level == Level::None {
            if self.closed {
                return false;
            }
            self.holders += 1;
            *level = Level::Shared;
        }
        if wanted == Level::Shared {
            return true;
        }
        if *level < Level::Reserved {
            if self.writer {
                return false;
            }
            self.writer = true;
            *level = Level::Reserved;
        }
        if wanted > Level::Reserved {
            self.closed = true;
            *level = if self.holders == 1 { Level::Exclusive } else { Level::Pending };
        }
        *level >= wanted
    }

    /// Lowers a connection's level to shared or none.
    pub(super) fn lower(&mut self, level: &mut Level, wanted: Level) {
        if *level <= wanted {
            return;
        }
        if *level >= Level::Reserved {
            self.writer = false;
            self.closed = false;
        }
        if wanted == Level::None {
            self.holders -= 1;
        }
        *level = wanted;
    }

    pub(super) fn has_writer(&self) -> bool {
        self.writer
    }
}

/// The slots that the connections of a database in WAL mode lock.
pub(super) const SLOTS: usize = ffi::SQLITE_SHM_NLOCK as usize;

/// What the connections of a database in WAL mode share: the index of the write-ahead log, and its locks.
#[derive(Default)]
pub(super) struct Shared {
    /// Regions of the index. They never move: SQLite keeps pointers to them for as long as a connection has them mapped.
    regions: Mutex<Vec<Region>>,
    slots: Mutex<[Slot; SLOTS]>,
}

/// One region's memory, as words: SQLite wants it aligned.
struct Region(Box<[std::sync::atomic::AtomicU64]>);

#[derive(Clone, Copy, Default)]
struct Slot {
    shared: u32,
    exclusive: bool,
}

/// Which slots a connection holds.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Held {
    shared: [bool; SLOTS],
    exclusive: [bool; SLOTS],
}

impl Shared {
    /// The memory of a region, which is made, of zeros, where it is not there and `make` says so.
    pub(super) fn region(&self, number: usize, bytes: usize, make: bool) -> Option<*mut std::ffi::c_void> {
        let mut regions = lock(&self.regions);
        while make && regions.len() <= number {
            regions.push(Region((0..bytes.div_ceil(8)).map(|_| Default::default()).collect()));
        }
        // The words are atomics: they may be written through a shared reference.
        regions.get(number).map(|region| region.0.as_ptr().cast_mut().cast())
    }

    /// Locks slots for a connection. Whether it could.
    pub(super) fn take(&self, held: &mut Held, range: std::ops::Range<usize>, exclusive: bool) -> bool {
        let mut slots = lock(&self.slots);
        let free = range.clone().all(|n| {
            let others = slots[n].shared - u32::from(held.shared[n]);
            held.exclusive[n] || !slots[n].exclusive && (!exclusive || others == 0)
        });
        if !free {
            return false;
        }
        for n in range {
            if exclusive {
                slots[n].exclusive = true;
                held.exclusive[n] = true;
            } else if !held.shared[n] {
                slots[n].shared += 1;
                held.shared[n] = true;
            }
        }
        true
    }

    /// Unlocks slots of a connection.
    pub(super) fn give(&self, held: &mut Held, range: std::ops::Range<usize>) {
        let mut slots = lock(&self.slots);
        for n in range {
            if std::mem::take(&mut held.exclusive[n]) {
                slots[n].exclusive = false;
            }
            if std::mem::take(&mut held.shared[n]) {
                slots[n].shared -= 1;
            }
        }
    }
}
