//! Closes: where a forked origin ends, and what its branches are called from there on.
//!
//! A close is not an op. It says that an origin's log ends at a sequence number; of several closes of one origin the smallest counts, so
//! closes join by minimum. What a till holds beyond a close goes on under a name that follows from the branch itself: all tills that
//! hold the branch give it the same one, without asking each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::id::Origin;
use super::op::{RunningHash, Seq};

/// The end of an origin's log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Close {
    /// Whose log.
    pub origin: Origin,
    /// The last sequence number that all its branches have in common; 0 where they share none.
    pub seq: Seq,
}

/// The closes that a till knows: for each origin the smallest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Closes(pub BTreeMap<Origin, Seq>);

impl Close {
    /// Whether it ends its origin before a known end of it.
    pub(crate) fn is_before(self, known: Option<Seq>) -> bool {
        known.is_none_or(|known| self.seq < known)
    }
}

impl Closes {
    /// Where an origin ends, if it does.
    #[must_use]
    pub fn end(&self, origin: Origin) -> Option<Seq> {
        self.0.get(&origin).copied()
    }

    /// Whether a close tells something new.
    #[must_use]
    pub fn is_news(&self, close: Close) -> bool {
        close.is_before(self.end(close.origin))
    }

    /// Takes a close in; whether it was news.
    pub fn join(&mut self, close: Close) -> bool {
        let news = self.is_news(close);
        if news {
            self.0.insert(close.origin, close.seq);
        }
        news
    }

    /// All of them, by origin.
    pub fn iter(&self) -> impl Iterator<Item = Close> + '_ {
        self.0.iter().map(|(origin, seq)| Close { origin: *origin, seq: *seq })
    }
}

impl FromIterator<Close> for Closes {
    fn from_iter<I: IntoIterator<Item = Close>>(closes: I) -> Self {
        let mut all = Self::default();
        for close in closes {
            all.join(close);
        }
        all
    }
}

/// The name of a branch beyond a close: the first 8 bytes of SHA-256 over origin, last common sequence number and the running hash after
/// the branch's first op.
#[must_use]
pub fn branch_name(close: Close, first: RunningHash) -> Origin {
    let digest = Sha256::new()
        .chain_update(close.origin.0.to_be_bytes())
        .chain_update(close.seq.to_be_bytes())
        .chain_update(first.0)
        .finalize();
    let mut name = [0; 8];
    name.copy_from_slice(&digest[..8]);
    Origin(u64::from_be_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_close_counts_in_any_order() {
        let [a, b] = [5, 3].map(|seq| Close { origin: Origin(1), seq });
        let one: Closes = [a, b].into_iter().collect();
        let other: Closes = [b, a].into_iter().collect();
        assert_eq!(one, other);
        assert_eq!(one.end(Origin(1)), Some(3));
        assert!(!one.is_news(a) && !one.is_news(b));
    }

    #[test]
    fn branches_have_names_of_their_own() {
        let close = Close { origin: Origin(1), seq: 3 };
        let names = [branch_name(close, RunningHash([1; 8])), branch_name(close, RunningHash([2; 8]))];
        assert_ne!(names[0], names[1]);
        assert_ne!(names[0], branch_name(Close { seq: 4, ..close }, RunningHash([1; 8])));
    }
}
