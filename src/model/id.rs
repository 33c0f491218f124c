//! Identifiers. Each is a type of its own, so that one is never taken for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
pub use uuid::Uuid;

/// A store: the shop, the tills that share a store key. Minted once by `tillmesh store new`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub Uuid);

impl StoreId {
    /// The first four bytes of SHA-256 of the store id, in hex: what mDNS tells of a store.
    #[must_use]
    pub fn short_hash(&self) -> String {
        hex(&Sha256::digest(self.0.as_bytes())[..4])
    }
}

/// A till: the first 16 bytes of SHA-256 of its static public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TillId(pub [u8; 16]);

impl TillId {
    /// The id of the till that holds the private half of this X25519 public key.
    #[must_use]
    pub fn of_public_key(key: &[u8; 32]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&Sha256::digest(key)[..16]);
        Self(id)
    }
}

/// One database incarnation that authors operations. Random; minted when a database is created, restored, cloned or forked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin(pub u64);

impl Origin {
    /// The four hex digits that stand in ticket numbers: the top 16 bits.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{:04x}", self.0 >> 48)
    }
}

/// One start of one agent. Random; tells a restarted or cloned till from itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootId(pub u64);

macro_rules! hex_text {
    ($($name:ident($bytes:expr)),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&$bytes(self))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    )*};
}
hex_text!(
    TillId(|t: &TillId| hex(&t.0)),
    Origin(|o: &Origin| format!("{:016x}", o.0)),
    BootId(|b: &BootId| format!("{:016x}", b.0)),
    StoreId(|s: &StoreId| s.0.to_string())
);

/// A text that is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {wanted}")]
pub struct IdError {
    given: String,
    wanted: &'static str,
}

impl FromStr for TillId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        unhex(text)
            .and_then(|b| b.try_into().ok())
            .map(TillId)
            .ok_or_else(|| IdError { given: text.to_owned(), wanted: "a till id (32 hex digits)" })
    }
}

impl FromStr for StoreId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Uuid::parse_str(text)
            .map(StoreId)
            .map_err(|_| IdError { given: text.to_owned(), wanted: "a store id (a UUID)" })
    }
}

/// Lower-case hex of bytes.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// The bytes of a hex text; `None` where it is not one.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    // Digits only: `from_str_radix` alone would take a sign.
    if !text.bytes().all(|b| b.is_ascii_hexdigit()) || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips() {
        let till = TillId::of_public_key(&[7; 32]);
        assert_eq!(till.to_string().parse::<TillId>().unwrap(), till);
        assert_eq!(hex(&[0x00, 0x9a, 0xbc, 0xff]), "009abcff");
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("+1"), None);
        assert_eq!(unhex("abc"), None);
        assert!("é".repeat(16).parse::<TillId>().is_err());
    }

    #[test]
    fn short_texts_have_their_length() {
        assert_eq!(Origin(0x3f2a_0000_0000_0001).short(), "3f2a");
        assert_eq!(StoreId(Uuid::nil()).short_hash().len(), 8);
    }
}
