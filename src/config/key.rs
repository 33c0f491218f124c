//! The store key and its text: what a technician copies from one till to the next, by file, by eye or over the telephone.
//!
//! The text is the 32 bytes of the key and 3 bytes of checksum in Crockford's base 32, in 8 groups of 7 characters:
//! `7ZQ4M0K-...`. 35 bytes are exactly 56 characters, so every key has one text only. Reading takes small letters, `O` for
//! `0`, `I` and `L` for `1`, and any hyphens and spaces. Pure.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// Crockford's alphabet: no I, L, O or U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const KEY_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 3;
/// Characters of the text, hyphens left out.
const SYMBOLS: usize = (KEY_BYTES + CHECKSUM_BYTES) * 8 / 5;
const GROUP: usize = 7;
/// What the key in the published examples starts with. Anyone can know such a key.
const EXAMPLE: &str = "EXAMPLE-EXAMPLE";

/// The secret that the tills of a store share. It is never shown by `Debug`; [`StoreKey::to_text`] is the one way to its text.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreKey([u8; KEY_BYTES]);

impl StoreKey {
    /// A key of these bytes, which must come from the system's randomness.
    #[must_use]
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes: the pre-shared key of the Noise handshake.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    /// The text of the key, checksum included. A secret: for the config and the terminal of whoever asked, never for a log.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut bytes = Vec::with_capacity(KEY_BYTES + CHECKSUM_BYTES);
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(&checksum(&self.0));
        let symbols = encode(&bytes);
        let groups: Vec<&str> = (0..SYMBOLS).step_by(GROUP).map(|at| &symbols[at..at + GROUP]).collect();
        groups.join("-")
    }

    /// Whether this is a key of the published examples, which protects nothing.
    #[must_use]
    pub fn is_example(&self) -> bool {
        // `L` is written as the `1` that it is read as.
        self.to_text().starts_with(&EXAMPLE.replace('L', "1"))
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey(hidden)")
    }
}

/// Why a text is not a store key. None of these shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Characters are missing or too many.
    #[error("it has {0} characters, a store key has {SYMBOLS}: copy it whole")]
    Length(usize),
    /// A character that no store key holds; counted from 1, hyphens and spaces left out.
    #[error("its character {0} is not one that a store key holds (digits, and letters but U)")]
    Symbol(usize),
    /// The checksum does not fit the rest.
    #[error("it is mistyped: its checksum does not fit; copy it again")]
    Mistyped,
}

impl FromStr for StoreKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let symbols: Vec<char> = text.chars().filter(|c| !matches!(c, '-' | ' ')).collect();
        if symbols.len() != SYMBOLS {
            return Err(KeyError::Length(symbols.len()));
        }
        let bytes = decode(&symbols)?;
        let (key, sum) = bytes.split_first_chunk::<KEY_BYTES>().ok_or(KeyError::Mistyped)?;
        if checksum(key) == sum { Ok(Self(*key)) } else { Err(KeyError::Mistyped) }
    }
}

/// The first bytes of SHA-256 of the key, under a label of its own so that they say nothing of any other hash of the key.
fn checksum(key: &[u8; KEY_BYTES]) -> [u8; CHECKSUM_BYTES] {
    let hash = Sha256::new().chain_update(b"tillmesh store key\0").chain_update(key).finalize();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(&hash[..CHECKSUM_BYTES]);
    sum
}

/// Base 32 of bytes whose number is a multiple of five, most significant bit first.
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5);
    for five in bytes.as_chunks::<5>().0 {
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for shift in (0..8).rev() {
            text.push(char::from(ALPHABET[(bits >> (shift * 5) & 31) as usize]));
        }
    }
    text
}

fn decode(symbols: &[char]) -> Result<Vec<u8>, KeyError> {
    let mut bytes = Vec::with_capacity(symbols.len() * 5 / 8);
    for (at, eight) in symbols.as_chunks::<8>().0.iter().enumerate() {
        let mut bits = 0_u64;
        for (within, symbol) in eight.iter().enumerate() {
            let value = value_of(*symbol).ok_or(KeyError::Symbol(at * 8 + within + 1))?;
            bits = bits << 5 | value;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[3..]);
    }
    Ok(bytes)
}

fn value_of(symbol: char) -> Option<u64> {
    let plain = match symbol.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET.iter().position(|listed| char::from(*listed) == plain).map(|value| value as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_is_frozen() {
        let key = StoreKey::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()));
        assert_eq!(key.to_text(), FROZEN);
        assert_eq!(FROZEN.parse(), Ok(key));
    }
    const FROZEN: &str = "000G40R-40M30E2-09185GR-38E1W81-24GK2GA-HC5RR34-D1P70X3-RFPD9FZ";

    #[test]
    fn debug_hides_the_key() {
        assert_eq!(format!("{:?}", StoreKey::from_bytes([7; 32])), "StoreKey(hidden)");
    }

    #[test]
    fn the_error_says_what_is_wrong() {
        assert_eq!("".parse::<StoreKey>(), Err(KeyError::Length(0)));
        assert_eq!(FROZEN[..40].parse::<StoreKey>(), Err(KeyError::Length(35)));
        let mut with_u = FROZEN.to_owned();
        with_u.replace_range(8..9, "U");
        assert_eq!(with_u.parse::<StoreKey>(), Err(KeyError::Symbol(8)));
        let accent = FROZEN.replacen('0', "é", 1);
        assert_eq!(accent.parse::<StoreKey>(), Err(KeyError::Symbol(1)));
        assert!(KeyError::Mistyped.to_string().contains("mistyped"));
    }

    #[test]
    fn only_the_examples_key_is_an_example() {
        assert!(!StoreKey::from_bytes([0; 32]).is_example());
    }

    proptest! {
        #[test]
        fn text_round_trips_however_it_is_typed(bytes: [u8; 32]) {
            let key = StoreKey::from_bytes(bytes);
            let text = key.to_text();
            prop_assert_eq!(text.len(), 63);
            prop_assert_eq!(&text.parse::<StoreKey>().unwrap(), &key);
            let typed = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            prop_assert_eq!(typed.parse::<StoreKey>().unwrap(), key);
        }

        #[test]
        fn one_wrong_character_is_noticed(bytes: [u8; 32], at in 0_usize..63, with in 0_usize..32) {
            let text = StoreKey::from_bytes(bytes).to_text();
            let with = char::from(ALPHABET[with]).to_string();
            prop_assume!(&text[at..=at] != "-" && text[at..=at] != with);
            let mut wrong = text;
            wrong.replace_range(at..=at, &with);
            // 24 bits of checksum: a wrong character slips through once in 16 million.
            prop_assert_eq!(wrong.parse::<StoreKey>(), Err(KeyError::Mistyped));
        }
    }
}
