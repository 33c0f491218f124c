//! Hashes that two tills compare: of the rows of a snapshot's part, and of a version vector.

use sha2::{Digest, Sha256};

use crate::model::op::{Op, canonical, content_hash};
use crate::model::vector::VersionVector;

/// The hash of a row of a snapshot, from its kind, schema and the hash of its body.
#[must_use]
pub fn row_hash(kind: u16, schema: u16, body: &[u8; 32]) -> [u8; 32] {
    Sha256::new()
        .chain_update(kind.to_be_bytes())
        .chain_update(schema.to_be_bytes())
        .chain_update(body)
        .finalize()
        .into()
}

/// Adds up the rows of a part, in key order: see [`super::Part::digest`].
#[derive(Clone, Debug, Default)]
pub struct PartDigest {
    hash: Sha256,
    rows: u32,
}

impl PartDigest {
    /// Adds a row, by its [`row_hash`].
    pub fn add(&mut self, row: &[u8; 32]) {
        self.hash.update(row);
        self.rows += 1;
    }

    /// How many rows it has, and what they add up to.
    #[must_use]
    pub fn finish(self) -> (u32, [u8; 16]) {
        let mut digest = [0; 16];
        digest.copy_from_slice(&self.hash.finalize()[..16]);
        (self.rows, digest)
    }
}

/// What the rows of a part add up to, as they travel.
#[must_use]
pub fn part_digest(rows: &[Op]) -> [u8; 16] {
    let mut part = PartDigest::default();
    rows.iter().for_each(|row| part.add(&row_hash(row.kind, row.schema, &content_hash(&row.body))));
    part.finish().1
}

/// The first 8 bytes of SHA-256 over a version vector: see [`super::StateDigest::vector`].
#[must_use]
pub fn vector_hash(vector: &VersionVector) -> [u8; 8] {
    let mut hash = [0; 8];
    hash.copy_from_slice(&content_hash(&canonical(vector))[..8]);
    hash
}
