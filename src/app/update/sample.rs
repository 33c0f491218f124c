//! For the tests: an update file, and a card in memory that loses power.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use ed25519_compact::{KeyPair, Seed};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::card::{Card, Disk, Slot, SlotHeader};
use super::environment::SECTOR;
use super::file::{Keys, SIGNED_BEFORE};
use crate::model::id::hex;

fn key() -> KeyPair {
    KeyPair::from_seed(Seed::new([42; 32]))
}

/// The public key of the samples, as a list of keys has it.
pub(super) fn public_key() -> String {
    hex(key().pk.as_slice())
}

/// An update file of a version.
pub(super) struct Sample {
    pub(super) parts: [Vec<u8>; 3],
    bytes: Vec<u8>,
    folder: TempDir,
}

impl Sample {
    pub(super) fn new(version: &str) -> Self {
        // The root ends within a sector, and is longer than what is read at a time.
        let part = |seed: u8, bytes: usize| (0..bytes).map(|n| (n as u8).wrapping_mul(seed)).collect::<Vec<u8>>();
        let parts = [part(3, 4_096), part(5, 1_000), part(7, 70_001)];
        let names = ["kernel.uimg", "initrd.uimg", "root.squashfs"];
        let listed: Vec<_> = names
            .iter()
            .zip(&parts)
            .map(|(name, part)| json!({"name": name, "size": part.len(), "sha256": hex(&Sha256::digest(part))}))
            .collect();
        let manifest = json!({"format": 1, "product": "tillmesh", "machine": "aarch64", "version": version,
            "commit": "0123456789ab", "database": crate::store::SCHEMA_VERSION, "parts": listed})
        .to_string();
        let mut bytes = b"TILLUPD1".to_vec();
        bytes.extend_from_slice(&(manifest.len() as u32).to_le_bytes());
        bytes.extend_from_slice(key().pk.as_slice());
        bytes.extend_from_slice(key().sk.sign([SIGNED_BEFORE, manifest.as_bytes()].concat(), None).as_slice());
        bytes.extend_from_slice(manifest.as_bytes());
        bytes.extend(parts.iter().flatten());
        let sample = Self { parts, bytes, folder: tempfile::tempdir().unwrap() };
        sample.write(&sample.bytes);
        sample
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("sample.update")
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Something else is in the file.
    pub(super) fn write(&self, bytes: &[u8]) {
        fs::write(self.path(), bytes).unwrap();
    }

    pub(super) fn keys(&self) -> Keys {
        Keys::parse(&public_key()).unwrap()
    }
}

/// A card of 512 MiB of which only what was written is in memory. What is written is there at once, a sector at a time.
#[derive(Default)]
pub(super) struct MemoryDisk {
    sectors: RefCell<BTreeMap<u64, [u8; SECTOR]>>,
    /// How many sectors may still be written before power fails.
    left: Cell<Option<u64>>,
    /// Power has failed.
    dark: Cell<bool>,
    /// The sector at this offset keeps what it had.
    deaf: Cell<Option<u64>>,
}

impl MemoryDisk {
    pub(super) fn empty() -> Self {
        Self::default()
    }

    /// With the partitions of the image.
    pub(super) fn card() -> Self {
        let disk = Self::default();
        let mut table = [0; SECTOR];
        for (n, (start, sectors)) in
            [(2_048_u32, 196_608_u32), (198_656, 327_680), (526_336, 327_680)].into_iter().enumerate()
        {
            let entry = &mut table[446 + 16 * n..][..16];
            entry[8..12].copy_from_slice(&start.to_le_bytes());
            entry[12..].copy_from_slice(&sectors.to_le_bytes());
        }
        table[510..].copy_from_slice(&[0x55, 0xAA]);
        disk.write(&table, 0).unwrap();
        disk
    }

    /// With a version in both slots.
    pub(super) fn card_of(version: &str) -> Self {
        let card = Card::new(Self::card()).unwrap();
        for slot in [Slot::A, Slot::B] {
            card.write_header(slot, &SlotHeader::of(512, 512, version)).unwrap();
        }
        card.into_disk()
    }

    pub(super) fn cut_after(&self, sectors: u64) {
        self.left.set(Some(sectors));
    }

    pub(super) fn power_on(&self) {
        self.left.set(None);
        self.dark.set(false);
    }

    /// As an image file.
    pub(super) fn save(&self, path: &Path) {
        let file = File::create(path).unwrap();
        file.set_len(512 << 20).unwrap();
        for (at, sector) in self.sectors.borrow().iter() {
            file.write_all_at(sector, *at).unwrap();
        }
    }

    pub(super) fn lose_write_to(&self, at: u64) {
        self.deaf.set(Some(at));
    }
}

impl Disk for MemoryDisk {
    fn read(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        assert!(at.is_multiple_of(SECTOR as u64));
        let sectors = self.sectors.borrow();
        for (n, piece) in bytes.chunks_mut(SECTOR).enumerate() {
            let sector = sectors.get(&(at + (n * SECTOR) as u64)).copied().unwrap_or([0; SECTOR]);
            piece.copy_from_slice(&sector[..piece.len()]);
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        assert!(at.is_multiple_of(SECTOR as u64) && bytes.len().is_multiple_of(SECTOR), "whole sectors");
        let (sectors, _) = bytes.as_chunks::<SECTOR>();
        for (n, sector) in sectors.iter().enumerate() {
            let at = at + (n * SECTOR) as u64;
            match self.left.get() {
                Some(0) => {
                    self.dark.set(true);
                    return Err(io::Error::other("no power"));
                }
                left => self.left.set(left.map(|left| left - 1)),
            }
            if self.deaf.get() != Some(at) {
                self.sectors.borrow_mut().insert(at, *sector);
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        if self.dark.get() { Err(io::Error::other("no power")) } else { Ok(()) }
    }
}
