//! Cards that are copied, put back, cloned and lost.

use std::collections::BTreeSet;

use tillmesh::model::id::TillId;
use tillmesh::model::vector::VersionVector;
use tillmesh::store;

use crate::books::Key;
use crate::dump::Look;
use crate::faults::TILLS_MAX;
use crate::vfs::Image;
use crate::world::{Event, World};

/// The database on a card.
const DATABASE: &str = "till.db";

/// A copy of it, on the same card.
const COPY: &str = "copy.db";

impl World {
    /// What the agent knew to be on the card is still there.
    pub(crate) fn check_card(&mut self, number: usize) -> Result<(), String> {
        let till = &mut self.tills[number];
        if till.failing.is_some() {
            return Ok(());
        }
        let found = Look::open(&till.options().path)?.records()?;
        if let Some((id, _)) = till.card.difference(&found).next() {
            return Err(format!("till {number} has lost {id}, which was on its card"));
        }
        till.card = found;
        Ok(())
    }

    /// The card of a till is copied as it is, while the agent runs.
    pub(crate) fn copy_card(&mut self) {
        let Some(till) = self.running() else { return };
        self.say(|| format!("till {till}: its card is copied"));
        let entry = &mut self.tills[till];
        entry.backup = Some((entry.disk.snapshot(), entry.card.clone()));
    }

    fn copied(&mut self) -> Option<usize> {
        let copied: Vec<usize> = self.present().into_iter().filter(|n| self.tills[*n].backup.is_some()).collect();
        self.rng.pick(&copied).copied()
    }

    /// An earlier copy comes in the place of the card, and nobody is told: the till goes on as it was then.
    pub(crate) fn old_card(&mut self) {
        let Some(till) = self.copied() else { return };
        let Some((image, card)) = self.tills[till].backup.clone() else { return };
        self.count("old card put back");
        self.say(|| format!("till {till}: an old copy of its card is put back"));
        self.books.numbers_may_repeat = true;
        self.change_card(till, image, card);
    }

    /// An earlier copy comes in the place of the card by `restore`, which mints an origin.
    pub(crate) fn restore(&mut self) -> Result<(), String> {
        let Some(till) = self.copied() else { return Ok(()) };
        let Some((image, card)) = self.tills[till].backup.clone() else { return Ok(()) };
        self.count("backup restored");
        self.say(|| format!("till {till}: a backup is restored"));
        self.stop(till, true);
        self.mend(till);
        let entry = &self.tills[till];
        let mut files = entry.disk.snapshot();
        files.extend(image.into_iter().map(|(name, bytes)| (name.replace(DATABASE, COPY), bytes)));
        entry.disk.replace(files);
        let mut entropy = self.rng.fork(self.now);
        store::restore(&entry.folder.join(COPY), &entry.folder.join(DATABASE), &mut entropy)
            .map_err(|error| format!("till {till}: the copy cannot be restored: {error}"))?;
        // What `restore` does with names of files it does on the real disk, where the files are empty.
        let restored = entry.disk.snapshot().remove(&format!("{DATABASE}.restoring"));
        let restored = restored.ok_or("nothing was restored")?;
        self.change_card(till, Image::from([(DATABASE.to_owned(), restored)]), card);
        Ok(())
    }

    /// A card's copy goes into another box.
    pub(crate) fn clone_card(&mut self, noticed: bool) {
        if self.tills.len() >= TILLS_MAX {
            return;
        }
        let Some(till) = self.running() else { return };
        let entry = &self.tills[till];
        let (image, card, heads) = (entry.disk.snapshot(), entry.card.clone(), entry.heads.clone());
        let level = entry.level;
        let mut author = entry.author.clone();
        if noticed {
            author.public_key = self.key();
            author.till = TillId::of_public_key(&author.public_key);
        } else {
            self.books.numbers_may_repeat = true;
            // Two boxes speak for one till: others go by what the one said that spoke last.
            self.tills[till].late = true;
        }
        let other = self.add_box(author, level);
        self.count(if noticed { "cloned card, noticed" } else { "cloned card" });
        self.say(|| format!("till {other} is a box with a copy of the card of till {till}, noticed: {noticed}"));
        let entry = &mut self.tills[other];
        entry.disk.replace(image);
        (entry.card, entry.heads) = (card, heads);
    }

    /// A card dies; the box starts with an empty one.
    pub(crate) fn wipe(&mut self) {
        let Some(till) = self.running() else { return };
        self.count("card wiped");
        self.say(|| format!("till {till}: its card is dead, it gets an empty one"));
        self.change_card(till, Image::new(), BTreeSet::new());
    }

    /// A card dies, and another box takes the place of its own.
    pub(crate) fn replace(&mut self) {
        if self.tills.len() >= TILLS_MAX {
            return;
        }
        let Some(till) = self.running() else { return };
        self.count("box replaced");
        self.say(|| format!("till {till} is dead for good"));
        self.take_away(till);
        self.add_till();
    }

    /// A till is no part of the shop any more.
    pub(crate) fn take_away(&mut self, till: usize) {
        self.stop(till, true);
        self.tills[till].gone = true;
        let card = std::mem::take(&mut self.tills[till].card);
        self.card_is_gone(&card);
    }

    /// Another card is in a till: what was on the former one alone may be lost.
    fn change_card(&mut self, till: usize, image: Image, card: BTreeSet<Key>) {
        self.stop(till, true);
        self.mend(till);
        let entry = &mut self.tills[till];
        entry.disk.replace(image);
        entry.heads = VersionVector::default();
        entry.late = true;
        let former = std::mem::replace(&mut entry.card, card);
        self.card_is_gone(&former);
        let wait = self.rng.within(200..=4_000);
        self.plan_at(wait, Event::Boot { till });
    }

    fn card_is_gone(&mut self, card: &BTreeSet<Key>) {
        let others: Vec<_> = self.tills.iter().filter(|till| !till.gone).map(|till| &till.card).collect();
        self.books.card_is_gone(card, &others);
    }
}
