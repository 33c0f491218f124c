//! The spare slot is written, read back, and named to the boot loader.
//!
//! The order is what makes a power cut harmless: the slot is spoilt before anything of it is written, and whole again only by its header,
//! which is written when all else has been read back; the boot loader hears of it last.

use sha2::{Digest as _, Sha256};

use super::card::{BootState, Card, Disk, Slot, SlotHeader};
use super::environment::SECTOR;
use super::file::{CHUNK_BYTES, UpdateError, UpdateFile, is_hash};
use super::manifest::Part;

/// So much is written at once before the card is waited for: a sale of the running till waits for no more than that.
const SYNC_EVERY_BYTES: u64 = 1 << 20;

/// Writes the update to the slot that does not run, to be tried once at the next start. Gives the slot.
pub(super) fn install<D: Disk>(card: &Card<D>, running: Slot, update: &mut UpdateFile) -> Result<Slot, UpdateError> {
    let state = card.state()?;
    if state.good != running {
        return Err(UpdateError::NotNow(
            "the version that runs is itself on trial: wait three minutes, then try again",
        ));
    }
    let spare = running.other();
    let parts = update.manifest().parts.clone();
    let header = SlotHeader::of(parts[0].size, parts[1].size, &update.manifest().version);
    let place = card.slot(spare);
    if header.end() > place.bytes {
        return Err(UpdateError::Manifest(
            "it is larger than a slot of this card: write the new image to the card".to_owned(),
        ));
    }
    // A try of what is overwritten now would fail.
    card.set_state(BootState { good: running, tried: None })?;
    card.spoil(spare)?;
    let starts = [place.at + header.kernel.at, place.at + header.initrd.at, place.at];
    for (n, start) in starts.into_iter().enumerate() {
        write_part(card.disk(), update, n, start)?;
    }
    for (part, start) in parts.iter().zip(starts) {
        read_back(card.disk(), part, start)?;
    }
    card.write_header(spare, &header)?;
    card.set_state(BootState { good: running, tried: Some((spare, 1)) })?;
    Ok(spare)
}

fn write_part<D: Disk>(disk: &D, update: &mut UpdateFile, n: usize, start: u64) -> Result<(), UpdateError> {
    update.read_part(n, |piece, at| {
        let mut whole = piece.to_vec();
        whole.resize(piece.len().next_multiple_of(SECTOR), 0);
        disk.write(&whole, start + at)?;
        if (at + piece.len() as u64).is_multiple_of(SYNC_EVERY_BYTES) { disk.sync() } else { Ok(()) }
    })?;
    Ok(disk.sync()?)
}

fn read_back<D: Disk>(disk: &D, part: &Part, start: u64) -> Result<(), UpdateError> {
    let (mut hash, mut chunk, mut done) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
    while done < part.size {
        let bytes = (part.size - done).min(CHUNK_BYTES as u64) as usize;
        disk.read(&mut chunk[..bytes], start + done)?;
        hash.update(&chunk[..bytes]);
        done += bytes as u64;
    }
    if is_hash(part, hash) { Ok(()) } else { Err(UpdateError::CardFails(part.name.clone())) }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{MemoryDisk, Sample};
    use super::*;

    fn open(sample: &Sample) -> UpdateFile {
        UpdateFile::open(&sample.path(), &sample.keys()).unwrap()
    }

    /// What the boot loader would start, and whether that is whole.
    fn starts(card: &Card<MemoryDisk>) -> (Slot, Option<String>) {
        let state = card.state().unwrap();
        let slot = state.tried.filter(|(_, tries)| *tries > 0).map_or(state.good, |(slot, _)| slot);
        (slot, card.version(slot).unwrap())
    }

    #[test]
    fn an_update_is_in_the_spare_slot_as_it_was_signed_and_is_tried_once() {
        let sample = Sample::new("0.2.0");
        let card = Card::new(MemoryDisk::card_of("0.1.0")).unwrap();
        assert_eq!(install(&card, Slot::A, &mut open(&sample)).unwrap(), Slot::B);
        assert_eq!(card.state().unwrap(), BootState { good: Slot::A, tried: Some((Slot::B, 1)) });
        assert_eq!(starts(&card), (Slot::B, Some("0.2.0".to_owned())));
        let place = card.slot(Slot::B);
        let header = SlotHeader::of(sample.parts[0].len() as u64, sample.parts[1].len() as u64, "0.2.0");
        for (part, at) in sample.parts.iter().zip([header.kernel.at, header.initrd.at, 0]) {
            let mut read = vec![0; part.len()];
            card.disk().read(&mut read, place.at + at).unwrap();
            assert!(&read == part);
        }
    }

    #[test]
    fn power_may_fail_at_any_sector() {
        let sample = Sample::new("0.2.0");
        let mut cuts = 0;
        for writes in 0.. {
            let card = Card::new(MemoryDisk::card_of("0.1.0")).unwrap();
            card.disk().cut_after(writes);
            let done = install(&card, Slot::A, &mut open(&sample)).is_ok();
            card.disk().power_on();
            match starts(&card) {
                (Slot::A, Some(version)) => assert_eq!(version, "0.1.0"),
                (Slot::B, Some(version)) => assert_eq!(version, "0.2.0"),
                (slot, None) => panic!("after {writes} sectors, slot {slot} is started and is not whole"),
            }
            // What was cut off is installed at the next try.
            install(&card, Slot::A, &mut open(&sample)).unwrap();
            assert_eq!(starts(&card), (Slot::B, Some("0.2.0".to_owned())));
            if done {
                break;
            }
            cuts += 1;
        }
        assert!(cuts > 20, "{cuts} cuts");
    }

    #[test]
    fn a_card_that_keeps_something_else_is_noticed_and_not_started() {
        let sample = Sample::new("0.2.0");
        let card = Card::new(MemoryDisk::card_of("0.1.0")).unwrap();
        card.disk().lose_write_to(card.slot(Slot::B).at + 512);
        let error = install(&card, Slot::A, &mut open(&sample)).unwrap_err().to_string();
        assert!(error.contains("root.squashfs") && error.contains("card"), "{error}");
        assert_eq!(starts(&card), (Slot::A, Some("0.1.0".to_owned())));
    }

    #[test]
    fn what_is_on_trial_is_not_updated() {
        let sample = Sample::new("0.2.0");
        let card = Card::new(MemoryDisk::card_of("0.1.0")).unwrap();
        card.set_state(BootState { good: Slot::A, tried: Some((Slot::B, 0)) }).unwrap();
        let error = install(&card, Slot::B, &mut open(&sample)).unwrap_err();
        assert!(matches!(error, UpdateError::NotNow(_)), "{error}");
    }
}
