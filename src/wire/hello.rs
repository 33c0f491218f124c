//! The Hello: the first message each way on a link, the same in every version of tillmesh, for ever.
//!
//! ```text
//!  0  4  magic "TMHI"            27  8  features (bits: FEATURE_STATUS)
//!  4 16  store id                35  8  boot id
//! 20  3  currency (ISO 4217)     43  8  hybrid logical clock
//! 23  2  lowest protocol         51  1  clock quality: 1 trusted, all else untrusted
//! 25  2  highest protocol        52  2  port that the till listens on, 0 for none
//! 54     posId, posName, version: each 1 byte of length and so many bytes of UTF-8
//! ```
//!
//! Integers are big-endian. Bytes after the last field are ignored: later versions put theirs there.

use uuid::Uuid;

use super::frame::Bye;
use super::limits::{HELLO_BYTES_MAX, POS_ID_BYTES_MAX, POS_NAME_BYTES_MAX, VERSION_BYTES_MAX};
use crate::model::clock::ClockQuality;
use crate::model::id::{BootId, StoreId};

const MAGIC: [u8; 4] = *b"TMHI";

/// Bit of [`Hello::features`]: the till takes [`crate::sync::Message::Status`]. One that does not would end the link over it.
pub const FEATURE_STATUS: u64 = 1;

/// Who is at the other end, and what it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The store that the till belongs to.
    pub store: StoreId,
    /// The store's currency, an ISO 4217 code in capitals.
    pub currency: [u8; 3],
    /// The oldest protocol that the till speaks.
    pub proto_min: u16,
    /// The newest protocol that the till speaks.
    pub proto_max: u16,
    /// Abilities that need no new protocol, one bit each.
    pub features: u64,
    /// This start of this agent.
    pub boot: BootId,
    /// The till's hybrid logical clock as it sent this.
    pub hlc: u64,
    /// Whether that clock can be believed.
    pub clock: ClockQuality,
    /// The port that the till listens on for links; 0 where it does not.
    pub port: u16,
    /// The till's human id. At most [`POS_ID_BYTES_MAX`] bytes; what is longer is cut when sent.
    pub pos_id: String,
    /// The till's human name. At most [`POS_NAME_BYTES_MAX`] bytes; what is longer is cut when sent.
    pub pos_name: String,
    /// The agent's version. At most [`VERSION_BYTES_MAX`] bytes; what is longer is cut when sent.
    pub version: String,
}

impl Hello {
    /// The Hello's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(self.store.0.as_bytes());
        bytes.extend_from_slice(&self.currency);
        bytes.extend_from_slice(&self.proto_min.to_be_bytes());
        bytes.extend_from_slice(&self.proto_max.to_be_bytes());
        bytes.extend_from_slice(&self.features.to_be_bytes());
        bytes.extend_from_slice(&self.boot.0.to_be_bytes());
        bytes.extend_from_slice(&self.hlc.to_be_bytes());
        bytes.push(u8::from(self.clock == ClockQuality::Trusted));
        bytes.extend_from_slice(&self.port.to_be_bytes());
        push_text(&mut bytes, &self.pos_id, POS_ID_BYTES_MAX);
        push_text(&mut bytes, &self.pos_name, POS_NAME_BYTES_MAX);
        push_text(&mut bytes, &self.version, VERSION_BYTES_MAX);
        bytes
    }

    /// Reads a Hello; bytes after its last known field are ignored. Control characters in its texts, which end up in logs
    /// and on terminals, are replaced.
    ///
    /// # Errors
    /// [`HelloError`] says which field is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, HelloError> {
        if bytes.len() > HELLO_BYTES_MAX {
            return Err(HelloError::TooLong);
        }
        let mut reader = Reader(bytes);
        if reader.take()? != MAGIC {
            return Err(HelloError::Magic);
        }
        let store = StoreId(Uuid::from_bytes(reader.take()?));
        let currency: [u8; 3] = reader.take()?;
        if !currency.iter().all(u8::is_ascii_uppercase) {
            return Err(HelloError::Currency);
        }
        let proto_min = u16::from_be_bytes(reader.take()?);
        let proto_max = u16::from_be_bytes(reader.take()?);
        if proto_min > proto_max {
            return Err(HelloError::Protocols);
        }
        Ok(Self {
            store,
            currency,
            proto_min,
            proto_max,
            features: u64::from_be_bytes(reader.take()?),
            boot: BootId(u64::from_be_bytes(reader.take()?)),
            hlc: u64::from_be_bytes(reader.take()?),
            clock: if reader.take()? == [1] { ClockQuality::Trusted } else { ClockQuality::Untrusted },
            port: u16::from_be_bytes(reader.take()?),
            pos_id: reader.text("posId", POS_ID_BYTES_MAX)?,
            pos_name: reader.text("posName", POS_NAME_BYTES_MAX)?,
            version: reader.text("version", VERSION_BYTES_MAX)?,
        })
    }
}

/// Bytes that are no Hello. The other end is not a till, or is broken; there is nothing to do on this till.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The first message is something else.
    #[error("the first message is not a Hello")]
    Magic,
    /// More bytes than any version sends.
    #[error("a Hello of more than {HELLO_BYTES_MAX} bytes")]
    TooLong,
    /// The bytes end before the last field.
    #[error("a Hello that ends too early")]
    Short,
    /// The currency is not three capitals.
    #[error("a Hello whose currency is not three capital letters")]
    Currency,
    /// The lowest protocol is above the highest.
    #[error("a Hello whose lowest protocol is above its highest")]
    Protocols,
    /// A text is over its limit or is not UTF-8.
    #[error("a Hello whose {0} is too long or not UTF-8")]
    Text(&'static str),
}

/// Why two tills that hold the same store key still do not link, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The till that was reached is this one.
    #[error("this address is this till itself; nothing to do")]
    Ourselves,
    /// The till belongs to another store.
    #[error("that till belongs to store {theirs}, this one to {ours}: give both the same \"store\" in pos-config.json")]
    Store {
        /// The store of this till.
        ours: StoreId,
        /// The store of the other.
        theirs: StoreId,
    },
    /// The till counts in another currency.
    #[error(
        "that till counts in {theirs}, this one in {ours}: set the same \"store.currency\" in both tills' pos-config.json"
    )]
    Currency {
        /// The currency of this till.
        ours: String,
        /// The currency of the other.
        theirs: String,
    },
    /// The till's newest protocol is older than our oldest.
    #[error("that till speaks protocols up to {theirs_max}, this one from {ours_min}: update tillmesh on that till")]
    TooOld {
        /// The oldest protocol of this till.
        ours_min: u16,
        /// The newest protocol of the other.
        theirs_max: u16,
    },
    /// The till's oldest protocol is newer than our newest.
    #[error("that till speaks protocols from {theirs_min}, this one up to {ours_max}: update tillmesh on this till")]
    TooNew {
        /// The newest protocol of this till.
        ours_max: u16,
        /// The oldest protocol of the other.
        theirs_min: u16,
    },
}

impl Refusal {
    /// What the other till is told.
    #[must_use]
    pub fn bye(&self) -> Bye {
        match self {
            Self::Ourselves => Bye::Ourselves,
            Self::Store { .. } => Bye::Store,
            Self::Currency { .. } => Bye::Currency,
            Self::TooOld { .. } => Bye::TooOld,
            Self::TooNew { .. } => Bye::TooNew,
        }
    }
}

/// The protocol that two tills speak with each other: the highest that both know.
///
/// # Errors
/// The [`Refusal`], as this till sees it. The other till, given the same two Hellos, sees the mirror image.
pub fn negotiate(ours: &Hello, theirs: &Hello) -> Result<u16, Refusal> {
    if ours.boot == theirs.boot {
        return Err(Refusal::Ourselves);
    }
    if ours.store != theirs.store {
        return Err(Refusal::Store { ours: ours.store, theirs: theirs.store });
    }
    if ours.currency != theirs.currency {
        let text = |code: &[u8; 3]| String::from_utf8_lossy(code).into_owned();
        return Err(Refusal::Currency { ours: text(&ours.currency), theirs: text(&theirs.currency) });
    }
    if theirs.proto_max < ours.proto_min {
        return Err(Refusal::TooOld { ours_min: ours.proto_min, theirs_max: theirs.proto_max });
    }
    if theirs.proto_min > ours.proto_max {
        return Err(Refusal::TooNew { ours_max: ours.proto_max, theirs_min: theirs.proto_min });
    }
    Ok(ours.proto_max.min(theirs.proto_max))
}

/// Appends a text, cut at a character's boundary where it is too long: a till must not be shut out for a long name.
fn push_text(bytes: &mut Vec<u8>, text: &str, bytes_max: usize) {
    let text = &text[..text.floor_char_boundary(bytes_max)];
    bytes.push(u8::try_from(text.len()).expect("every limit of a Hello's text is below 256"));
    bytes.extend_from_slice(text.as_bytes());
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HelloError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(HelloError::Short)?;
        self.0 = rest;
        Ok(*head)
    }

    fn text(&mut self, name: &'static str, bytes_max: usize) -> Result<String, HelloError> {
        let [length] = self.take::<1>()?;
        let length = usize::from(length);
        if length > bytes_max {
            return Err(HelloError::Text(name));
        }
        let (head, rest) = self.0.split_at_checked(length).ok_or(HelloError::Short)?;
        self.0 = rest;
        let text = std::str::from_utf8(head).map_err(|_| HelloError::Text(name))?;
        // No longer than what stands for it, so that the text keeps its limit.
        Ok(text.replace(char::is_control, "?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Hello {
        Hello {
            store: StoreId(Uuid::from_bytes([0xa0; 16])),
            currency: *b"TND",
            proto_min: 1,
            proto_max: 2,
            features: 0x0102_0304_0506_0708,
            boot: BootId(0x1112_1314_1516_1718),
            hlc: 0x2122_2324_2526_2728,
            clock: ClockQuality::Trusted,
            port: 3030,
            pos_id: "POS-001".to_owned(),
            pos_name: "Caisse Café".to_owned(),
            version: "0.1.0".to_owned(),
        }
    }

    fn golden() -> Vec<u8> {
        let mut golden = b"TMHI".to_vec();
        golden.extend([0xa0; 16]);
        golden.extend(b"TND\x00\x01\x00\x02\x01\x02\x03\x04\x05\x06\x07\x08");
        golden.extend(b"\x11\x12\x13\x14\x15\x16\x17\x18\x21\x22\x23\x24\x25\x26\x27\x28\x01\x0b\xd6");
        golden.extend(b"\x07POS-001\x0cCaisse Caf\xc3\xa9\x050.1.0");
        golden
    }

    #[test]
    fn the_bytes_are_frozen() {
        assert_eq!(hello().encode(), golden());
        assert_eq!(Hello::decode(&golden()), Ok(hello()));
    }

    #[test]
    fn bytes_of_later_versions_are_ignored() {
        assert_eq!(Hello::decode(&[golden(), vec![0xff; 700]].concat()), Ok(hello()));
        assert_eq!(Hello::decode(&[golden(), vec![0; HELLO_BYTES_MAX]].concat()), Err(HelloError::TooLong));
    }

    #[test]
    fn every_cut_is_named() {
        for cut in 0..golden().len() {
            assert_eq!(Hello::decode(&golden()[..cut]), Err(HelloError::Short), "cut at {cut}");
        }
    }

    #[test]
    fn wrong_fields_are_named() {
        let with = |at: usize, byte: u8| {
            let mut bytes = golden();
            bytes[at] = byte;
            Hello::decode(&bytes)
        };
        assert_eq!(with(0, b'X'), Err(HelloError::Magic));
        assert_eq!(with(20, b't'), Err(HelloError::Currency));
        assert_eq!(with(24, 3), Err(HelloError::Protocols));
        assert_eq!(with(54, 65), Err(HelloError::Text("posId")));
        assert_eq!(with(63, 0xff), Err(HelloError::Text("posName")));
        assert_eq!(with(51, 7).unwrap().clock, ClockQuality::Untrusted);
        assert_eq!(with(55, 0x1b).unwrap().pos_id, "?OS-001");
        let noisy = Hello { pos_id: "\u{7}".repeat(POS_ID_BYTES_MAX), ..hello() };
        assert_eq!(Hello::decode(&noisy.encode()).unwrap().pos_id.len(), POS_ID_BYTES_MAX);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let long = Hello { pos_name: "é".repeat(100), ..hello() };
        assert_eq!(Hello::decode(&long.encode()).unwrap().pos_name, "é".repeat(64));
        let odd = Hello { pos_id: format!("x{}", "é".repeat(100)), ..hello() };
        assert_eq!(Hello::decode(&odd.encode()).unwrap().pos_id.len(), 63);
    }

    #[test]
    fn the_highest_common_protocol_is_spoken() {
        let other = |proto_min, proto_max| Hello { boot: BootId(9), proto_min, proto_max, ..hello() };
        assert_eq!(negotiate(&hello(), &other(1, 1)), Ok(1));
        assert_eq!(negotiate(&hello(), &other(2, 9)), Ok(2));
        assert_eq!(negotiate(&hello(), &other(0, 0)), Err(Refusal::TooOld { ours_min: 1, theirs_max: 0 }));
        assert_eq!(negotiate(&hello(), &other(3, 4)), Err(Refusal::TooNew { ours_max: 2, theirs_min: 3 }));
    }

    #[test]
    fn strangers_are_told_apart() {
        assert_eq!(negotiate(&hello(), &hello()), Err(Refusal::Ourselves));
        let other = Hello { boot: BootId(9), currency: *b"EUR", ..hello() };
        let refusal = negotiate(&hello(), &other).unwrap_err();
        assert_eq!(refusal.bye(), Bye::Currency);
        assert!(refusal.to_string().contains("counts in EUR, this one in TND"), "{refusal}");
        let other = Hello { boot: BootId(9), store: StoreId(Uuid::nil()), ..hello() };
        assert_eq!(negotiate(&hello(), &other).unwrap_err().bye(), Bye::Store);
    }
}
