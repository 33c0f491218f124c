//! Where on the card the two slots are, and which of them is started.
//!
//! Offsets are bytes. Between partition table and first partition lie two copies of the boot state, a sector each. A slot is a
//! partition: the root's file system, and from [`SLOT_KERNEL`] on a header, the kernel and the initrd.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{Advice, fadvise};

use super::environment::{self, Environment, SECTOR};

/// Where a slot's header is; the root before it is as large at most.
pub(super) const SLOT_KERNEL: u64 = 128 << 20;
/// Sectors from the header to the kernel.
const KERNEL_AFTER: u64 = 8;
/// Kernel and initrd begin at multiples of so many sectors.
const ALIGN: u64 = 8;
/// The copies of the boot state, in the order in which they are read and written.
const STATE_SECTORS: [u64; 2] = [2046, 2045];
const SECTOR_BYTES: u64 = SECTOR as u64;

/// One of the two places for a system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    A,
    B,
}

impl Slot {
    pub(super) fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::A, Self::B].into_iter().find(|slot| slot.name() == name)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    fn index(self) -> usize {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the boot loader goes by. It counts a try down before it starts it, so that only who proves healthy is started twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BootState {
    /// The slot that is started.
    pub(super) good: Slot,
    /// Another slot, to be tried: it, and how often it still may be.
    pub(super) tried: Option<(Slot, u8)>,
}

impl BootState {
    /// Of a card that was not written to since it was made.
    const NEW: Self = Self { good: Slot::A, tried: None };

    fn of(environment: &Environment) -> Option<Self> {
        let slot = |name: &str| Slot::named(environment.get(name)?);
        let tries = environment.get("tries").and_then(|tries| tries.parse().ok()).unwrap_or(0);
        Some(Self { good: slot("good")?, tried: slot("try").map(|slot| (slot, tries)) })
    }

    fn environment(self) -> Environment {
        let mut environment = Environment::from([("good".to_owned(), self.good.to_string())]);
        if let Some((slot, tries)) = self.tried {
            environment.extend([("try".to_owned(), slot.to_string()), ("tries".to_owned(), tries.to_string())]);
        }
        environment
    }
}

/// What a card is written with and read from.
pub(super) trait Disk {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()>;
    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    /// Waits until all that was written is on the card; what is read then comes from there.
    fn sync(&self) -> io::Result<()>;
}

impl Disk for File {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        self.read_exact_at(bytes, at)
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()?;
        // Otherwise reading back would read the memory that was written from.
        Ok(fadvise(self, 0, None, Advice::DontNeed)?)
    }
}

/// The card of a box.
pub(super) struct Card<D> {
    disk: D,
    slots: [Extent; 2],
}

/// A part of the card.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// What a slot has beside its root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SlotHeader {
    /// From the slot's beginning.
    pub(super) kernel: Extent,
    pub(super) initrd: Extent,
    pub(super) version: String,
}

impl SlotHeader {
    /// Where kernel and initrd of these sizes are.
    pub(super) fn of(kernel_bytes: u64, initrd_bytes: u64, version: &str) -> Self {
        let kernel = Extent { at: SLOT_KERNEL + KERNEL_AFTER * SECTOR_BYTES, bytes: kernel_bytes };
        let at = (kernel.at + kernel_bytes).next_multiple_of(ALIGN * SECTOR_BYTES);
        Self { kernel, initrd: Extent { at, bytes: initrd_bytes }, version: version.to_owned() }
    }

    /// The slot's bytes up to here.
    pub(super) fn end(&self) -> u64 {
        self.initrd.at + self.initrd.bytes.next_multiple_of(SECTOR_BYTES)
    }

    fn environment(&self) -> Environment {
        let sectors = |extent: Extent| (extent.at / SECTOR_BYTES, extent.bytes.div_ceil(SECTOR_BYTES));
        let (kernel, initrd) = (sectors(self.kernel), sectors(self.initrd));
        let numbers =
            [("kernel_at", kernel.0), ("kernel_len", kernel.1), ("initrd_at", initrd.0), ("initrd_len", initrd.1)];
        let mut environment: Environment = numbers.map(|(name, n)| (name.to_owned(), format!("{n:x}"))).into();
        environment.insert("version".to_owned(), self.version.clone());
        environment
    }
}

impl Card<File> {
    /// The card of a device or of an image file.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::new(OpenOptions::new().read(true).write(true).open(path)?)
    }
}

impl<D: Disk> Card<D> {
    /// Reads the partition table: the second and the third partition are the slots.
    pub(super) fn new(disk: D) -> io::Result<Self> {
        const ENTRIES: usize = 446;
        let mut table = [0; SECTOR];
        disk.read(&mut table, 0)?;
        let extent = |n: usize| {
            let entry = &table[ENTRIES + 16 * n..][..16];
            let number = |at: usize| {
                let bytes = entry[at..at + 4].try_into().expect("four bytes");
                u64::from(u32::from_le_bytes(bytes)) * SECTOR_BYTES
            };
            Extent { at: number(8), bytes: number(12) }
        };
        let slots = [extent(1), extent(2)];
        let is_ours =
            table[510..] == [0x55, 0xAA] && slots.iter().all(|slot| slot.bytes > SLOT_KERNEL && slot.at >= 1 << 20);
        if !is_ours {
            return Err(io::Error::other(
                "this card has not the partitions of a till's image: write the image to it anew",
            ));
        }
        Ok(Self { disk, slots })
    }

    pub(super) fn disk(&self) -> &D {
        &self.disk
    }

    #[cfg(test)]
    pub(super) fn into_disk(self) -> D {
        self.disk
    }

    pub(super) fn slot(&self, slot: Slot) -> Extent {
        self.slots[slot.index()]
    }

    /// As the boot loader reads it.
    pub(super) fn state(&self) -> io::Result<BootState> {
        for sector in STATE_SECTORS {
            if let Some(state) = self.environment_at(sector * SECTOR_BYTES)?.as_ref().and_then(BootState::of) {
                return Ok(state);
            }
        }
        Ok(BootState::NEW)
    }

    /// The old state or the new one is there, wherever this is cut off.
    pub(super) fn set_state(&self, state: BootState) -> io::Result<()> {
        for sector in STATE_SECTORS {
            self.write_environment(sector * SECTOR_BYTES, &state.environment())?;
            self.disk.sync()?;
        }
        Ok(())
    }

    #[cfg(test)]
    /// Which version is in a slot; `None` where it is not whole.
    pub(super) fn version(&self, slot: Slot) -> io::Result<Option<String>> {
        let environment = self.environment_at(self.slot(slot).at + SLOT_KERNEL)?;
        Ok(environment.and_then(|mut environment| environment.remove("version")))
    }

    /// From now on the slot is not started.
    pub(super) fn spoil(&self, slot: Slot) -> io::Result<()> {
        self.disk.write(&[0; SECTOR], self.slot(slot).at + SLOT_KERNEL)?;
        self.disk.sync()
    }

    /// From now on the slot is whole.
    pub(super) fn write_header(&self, slot: Slot, header: &SlotHeader) -> io::Result<()> {
        self.write_environment(self.slot(slot).at + SLOT_KERNEL, &header.environment())?;
        self.disk.sync()
    }

    fn environment_at(&self, at: u64) -> io::Result<Option<Environment>> {
        let mut sector = [0; SECTOR];
        self.disk.read(&mut sector, at)?;
        Ok(environment::read(&sector))
    }

    fn write_environment(&self, at: u64, environment: &Environment) -> io::Result<()> {
        let sector = environment::write(environment).ok_or_else(|| io::Error::other("a version's name is too long"))?;
        self.disk.write(&sector, at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::MemoryDisk;
    use super::*;

    #[test]
    fn a_new_card_starts_its_first_slot_and_a_lost_copy_is_no_loss() {
        let card = Card::new(MemoryDisk::card()).unwrap();
        assert_eq!(card.state().unwrap(), BootState::NEW);
        let state = BootState { good: Slot::B, tried: Some((Slot::A, 1)) };
        card.set_state(state).unwrap();
        assert_eq!(card.state().unwrap(), state);
        card.disk().write(&[0xFF; SECTOR], STATE_SECTORS[0] * SECTOR_BYTES).unwrap();
        assert_eq!(card.state().unwrap(), state);
    }

    #[test]
    fn a_power_cut_leaves_the_old_state_or_the_new_one() {
        let old = BootState { good: Slot::A, tried: None };
        let new = BootState { good: Slot::A, tried: Some((Slot::B, 1)) };
        for writes in 0..3 {
            let card = Card::new(MemoryDisk::card()).unwrap();
            card.set_state(old).unwrap();
            card.disk().cut_after(writes);
            let done = card.set_state(new).is_ok();
            card.disk().power_on();
            let state = card.state().unwrap();
            assert!(state == new || (!done && state == old), "{writes}: {state:?}");
            assert_eq!(done, writes == 2);
        }
    }

    #[test]
    fn the_boot_loader_is_told_in_its_own_numbers() {
        let header = SlotHeader::of(10_000_000, 1_500_000, "0.1.0");
        let environment = header.environment();
        let number = |name: &str| u64::from_str_radix(&environment[name], 16).unwrap();
        assert_eq!(number("kernel_at"), 0x40008);
        assert_eq!(number("kernel_len"), 10_000_000_u64.div_ceil(512));
        assert!(number("initrd_at") >= number("kernel_at") + number("kernel_len"));
        assert_eq!(number("initrd_at") % ALIGN, 0);
        assert_eq!(number("initrd_len"), 1_500_000_u64.div_ceil(512));
    }

    #[test]
    fn another_disk_is_not_written_to() {
        let Err(error) = Card::new(MemoryDisk::empty()) else { panic!("a disk without a table is taken") };
        assert!(error.to_string().contains("write the image"), "{error}");
    }
}
