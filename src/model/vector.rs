//! Version vectors: for each origin, how far a log goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::Origin;
use super::op::{Head, Seq};

/// The head of each origin's log. Origins without ops are left out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct VersionVector(pub BTreeMap<Origin, Head>);

impl VersionVector {
    /// The head of an origin; an empty one where nothing is known.
    #[must_use]
    pub fn head(&self, origin: Origin) -> Head {
        self.0.get(&origin).copied().unwrap_or_default()
    }

    /// The last sequence number of an origin; 0 where nothing is known.
    #[must_use]
    pub fn seq(&self, origin: Origin) -> Seq {
        self.head(origin).seq
    }

    /// How many ops `other` has that this has not.
    #[must_use]
    pub fn behind(&self, other: &Self) -> u64 {
        other.0.iter().map(|(origin, head)| head.seq.saturating_sub(self.seq(*origin))).sum()
    }
}

impl FromIterator<(Origin, Head)> for VersionVector {
    fn from_iter<I: IntoIterator<Item = (Origin, Head)>>(heads: I) -> Self {
        Self(heads.into_iter().filter(|(_, head)| head.seq > 0).collect())
    }
}
