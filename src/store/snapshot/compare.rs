//! The taker compares a giver's parts with its own rows.

use super::super::error::StoreError;
use super::super::reader::Reader;
use super::rows;
use crate::sync::{Part, PartDigest};

impl Reader {
    /// Which of a peer's parts of a table, beyond a key, differ from what is here: their places in the list. A damaged row differs from
    /// every other; so does all of a table that this version does not know.
    ///
    /// # Errors
    /// The database's.
    pub fn differing_parts(&self, table: u16, after: &[u8], parts: &[Part]) -> Result<Vec<usize>, StoreError> {
        let mut differ = Vec::new();
        let mut ours = Ours::default();
        let mut place = 0;
        self.snapshot(|reader| {
            rows::scan(reader.conn(), table, after, &mut |row| {
                while let Some(part) = parts.get(place).filter(|part| part.upto < row.key) {
                    differ.extend((!ours.take().is(part)).then_some(place));
                    place += 1;
                }
                ours.digest.add(&row.hash());
                ours.damaged |= !row.sound;
                Ok(place < parts.len())
            })
        })?;
        for (place, part) in (place..).zip(&parts[place..]) {
            differ.extend((!ours.take().is(part)).then_some(place));
        }
        Ok(differ)
    }
}

/// Our rows in the range of a part.
#[derive(Default)]
struct Ours {
    digest: PartDigest,
    damaged: bool,
}

impl Ours {
    fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    fn is(self, part: &Part) -> bool {
        !self.damaged && self.digest.finish() == (part.rows, part.digest)
    }
}
