//! The update file: who signed it, what is in it, and whether that is whole.
//!
//! `TILLUPD1`, the manifest's length (u32, little endian), the public key that signed, the signature, the manifest, the parts. Signed
//! (Ed25519, RFC 8032) is [`SIGNED_BEFORE`] and the manifest, which has the hashes of the parts.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use ed25519_compact::{PublicKey, Signature};
use sha2::{Digest as _, Sha256};

use super::manifest::{Manifest, Part};
use crate::model::id::{hex, unhex};

const MAGIC: &[u8; 8] = b"TILLUPD1";
/// What is signed is nothing but an update, whatever else the key signs.
pub(super) const SIGNED_BEFORE: &[u8] = b"tillmesh update 1\n";
const MANIFEST_BYTES_MAX: u32 = 65_536;
/// What is read at a time.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Why an update is not taken. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Another file, or one that was cut off.
    #[error("this is no update file of tillmesh: copy the .update file again, whole")]
    NotAnUpdate,
    /// Nobody may sign updates for this box.
    #[error("this box takes no updates: its image was built without a key (image/build --update-keys)")]
    NoKeys,
    /// A line of the list of keys is not one.
    #[error("line {0} of the list of update keys is not a key: 64 hex digits, then perhaps a comment")]
    BadKey(usize),
    /// Signed by somebody else.
    #[error("the update is signed by a key that this box does not know ({0}): get it from your vendor")]
    UnknownKey(String),
    /// Changed after it was signed.
    #[error("the update's signature does not hold: it was changed after it was signed; get it from your vendor again")]
    BadSignature,
    /// What it says of itself makes no sense here.
    #[error("the update is not for this box: {0}")]
    Manifest(String),
    /// A part is not what was signed.
    #[error("{0} of the update is damaged: copy the file again")]
    Damaged(String),
    /// The card does not keep what is written.
    #[error(
        "the card does not keep what was written to it ({0}): selling goes on from the old version; replace the card"
    )]
    CardFails(String),
    /// Of an earlier version than what runs.
    #[error("the update is of {offered}, older than {running} which runs here: give --older if you mean it")]
    Older {
        /// Its version.
        offered: String,
        /// That of this box.
        running: String,
    },
    /// Something else is to be done first.
    #[error("{0}")]
    NotNow(&'static str),
    /// This is not a box of the image.
    #[error("this till does not run from the tillmesh image: update its program the way it was installed")]
    NoBox,
    /// The card or the file cannot be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Who may sign updates.
#[derive(Debug)]
pub struct Keys(Vec<PublicKey>);

impl Keys {
    /// The keys of a list: one a line, in hex, then perhaps a comment; lines that begin with `#` are comments.
    ///
    /// # Errors
    /// Where the file cannot be read, a line is no key, or there is none.
    pub fn of_file(path: &Path) -> Result<Self, UpdateError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(UpdateError::NoKeys),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, UpdateError> {
        let mut keys = Vec::new();
        for (n, line) in text.lines().enumerate() {
            let Some(word) = line.split_whitespace().next().filter(|word| !word.starts_with('#')) else { continue };
            let key = unhex(word).and_then(|bytes| PublicKey::from_slice(&bytes).ok());
            keys.push(key.ok_or(UpdateError::BadKey(n + 1))?);
        }
        if keys.is_empty() { Err(UpdateError::NoKeys) } else { Ok(Self(keys)) }
    }
}

/// An update whose signature holds. Its parts have not been looked at.
#[derive(Debug)]
pub struct UpdateFile {
    file: File,
    manifest: Manifest,
    /// Where the first part begins.
    parts_at: u64,
}

impl UpdateFile {
    /// Opens an update and checks who signed it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(path: &Path, keys: &Keys) -> Result<Self, UpdateError> {
        let mut file = File::open(path)?;
        let mut head = [0; MAGIC.len() + 4 + PublicKey::BYTES + Signature::BYTES];
        read_whole(&mut file, &mut head)?;
        let (magic, rest) = head.split_at(MAGIC.len());
        let (length, rest) = rest.split_at(4);
        let (key, signature) = rest.split_at(PublicKey::BYTES);
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        if magic != MAGIC || length > MANIFEST_BYTES_MAX {
            return Err(UpdateError::NotAnUpdate);
        }
        let mut signed = SIGNED_BEFORE.to_vec();
        signed.resize(SIGNED_BEFORE.len() + length as usize, 0);
        read_whole(&mut file, &mut signed[SIGNED_BEFORE.len()..])?;
        let known = keys.0.iter().find(|known| known.as_slice() == key);
        let known = known.ok_or_else(|| UpdateError::UnknownKey(hex(key)))?;
        let signature = Signature::from_slice(signature).map_err(|_| UpdateError::BadSignature)?;
        known.verify(&signed, &signature).map_err(|_| UpdateError::BadSignature)?;
        let manifest = Manifest::parse(&signed[SIGNED_BEFORE.len()..])?;
        let parts_at = (head.len() + length as usize) as u64;
        if file.metadata()?.len() != parts_at + manifest.bytes() {
            return Err(UpdateError::NotAnUpdate);
        }
        Ok(Self { file, manifest, parts_at })
    }

    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads all parts and compares them with what was signed.
    ///
    /// # Errors
    /// [`UpdateError::Damaged`], or where it cannot be read.
    pub fn verify(&mut self) -> Result<(), UpdateError> {
        for n in 0..self.manifest.parts.len() {
            self.read_part(n, |_, _| Ok(()))?;
        }
        Ok(())
    }

    /// Hands out a part, a piece at a time with where in the part it is; fails at the end where it was not what was signed.
    pub(super) fn read_part(
        &mut self,
        n: usize,
        mut each: impl FnMut(&[u8], u64) -> io::Result<()>,
    ) -> Result<(), UpdateError> {
        let before: u64 = self.manifest.parts[..n].iter().map(|part| part.size).sum();
        self.file.seek(SeekFrom::Start(self.parts_at + before))?;
        let (mut hash, mut chunk, mut done) = (Sha256::new(), vec![0; CHUNK_BYTES], 0);
        let part = &self.manifest.parts[n];
        while done < part.size {
            let bytes = (part.size - done).min(CHUNK_BYTES as u64) as usize;
            read_whole(&mut self.file, &mut chunk[..bytes])?;
            hash.update(&chunk[..bytes]);
            each(&chunk[..bytes], done)?;
            done += bytes as u64;
        }
        if is_hash(part, hash) { Ok(()) } else { Err(UpdateError::Damaged(part.name.clone())) }
    }
}

/// Whether what was hashed is what was signed.
pub(super) fn is_hash(part: &Part, hash: Sha256) -> bool {
    hex(&hash.finalize()) == part.sha256
}

fn read_whole(file: &mut File, bytes: &mut [u8]) -> Result<(), UpdateError> {
    match file.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(UpdateError::NotAnUpdate),
        read => Ok(read?),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::Sample;
    use super::*;

    #[test]
    fn a_signed_file_is_taken_whole_or_not_at_all() {
        let sample = Sample::new("0.2.0");
        let mut update = UpdateFile::open(&sample.path(), &sample.keys()).unwrap();
        update.verify().unwrap();
        assert_eq!(update.manifest().version, "0.2.0");
        let good = sample.bytes();
        for (at, expected) in [(0, "no update"), (20, "does not know"), (60, "signature"), (150, "signature")] {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            sample.write(&bytes);
            let error = UpdateFile::open(&sample.path(), &sample.keys()).unwrap_err().to_string();
            assert!(error.contains(expected), "{at}: {error}");
        }
        for cut in [0, 7, 100, good.len() - 1] {
            sample.write(&good[..cut]);
            let error = UpdateFile::open(&sample.path(), &sample.keys()).unwrap_err();
            assert!(matches!(error, UpdateError::NotAnUpdate), "{cut}: {error}");
        }
        let mut bytes = good.clone();
        *bytes.last_mut().unwrap() ^= 1;
        sample.write(&bytes);
        let error = UpdateFile::open(&sample.path(), &sample.keys()).unwrap().verify().unwrap_err().to_string();
        assert!(error.contains("root.squashfs"), "{error}");
    }

    #[test]
    fn keys_are_lines_with_comments() {
        let key = super::super::sample::public_key();
        assert_eq!(Keys::parse(&format!("# vendor\n\n{key} made 2026\n{key}\n")).unwrap().0.len(), 2);
        assert!(matches!(Keys::parse("# none\n"), Err(UpdateError::NoKeys)));
        assert!(matches!(Keys::parse(&format!("{key}\nshort\n")), Err(UpdateError::BadKey(2))));
        assert!(matches!(Keys::of_file(Path::new("/nowhere/keys")), Err(UpdateError::NoKeys)));
    }
}
