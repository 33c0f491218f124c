//! One sector that the boot loader reads and writes: an environment of U-Boot, as its `env import -c` and `env export -c -s 0x200` have
//! it (doc/usage/cmd/env.rst; env/common.c): CRC-32 of the rest, little endian, then `name=value` and a zero byte each, one more zero byte.

use std::collections::BTreeMap;

/// Bytes of a sector: a card writes one whole or not at all.
pub(super) const SECTOR: usize = 512;
const CRC_BYTES: usize = 4;

/// Names and values.
pub(super) type Environment = BTreeMap<String, String>;

/// What a sector says; `None` where its checksum does not hold or it says nothing.
pub(super) fn read(sector: &[u8; SECTOR]) -> Option<Environment> {
    let (crc, rest) = sector.split_at(CRC_BYTES);
    if crc != crc32(rest).to_le_bytes() {
        return None;
    }
    let entries = rest.split(|byte| *byte == 0).take_while(|entry| !entry.is_empty());
    let read: Option<Environment> = entries
        .map(|entry| {
            let (name, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect();
    read.filter(|read| !read.is_empty())
}

/// The sector that says it; `None` where it does not fit.
pub(super) fn write(environment: &Environment) -> Option<[u8; SECTOR]> {
    let mut rest = Vec::with_capacity(SECTOR);
    for (name, value) in environment {
        rest.extend_from_slice(format!("{name}={value}\0").as_bytes());
    }
    rest.push(0);
    if rest.len() > SECTOR - CRC_BYTES {
        return None;
    }
    rest.resize(SECTOR - CRC_BYTES, 0);
    let mut sector = [0; SECTOR];
    sector[..CRC_BYTES].copy_from_slice(&crc32(&rest).to_le_bytes());
    sector[CRC_BYTES..].copy_from_slice(&rest);
    Some(sector)
}

/// CRC-32 as zlib has it (ISO-HDLC), a bit at a time: of a sector now and then, for which a crate would bring a table of 16 kB.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_seen() {
        let environment: Environment = [("good", "a"), ("tries", "1")].map(|(n, v)| (n.into(), v.into())).into();
        let sector = write(&environment).unwrap();
        assert_eq!(read(&sector), Some(environment));
        for byte in [0, 4, 11, 300, 511] {
            let mut damaged = sector;
            damaged[byte] ^= 1;
            assert_eq!(read(&damaged), None, "{byte}");
        }
        assert_eq!((read(&[0; SECTOR]), read(&[0xFF; SECTOR])), (None, None));
        let long: Environment = [("version".to_owned(), "9".repeat(SECTOR))].into();
        assert_eq!(write(&long), None);
    }

    #[test]
    fn the_checksum_is_that_of_zlib() {
        let sector = write(&[("good".to_owned(), "a".to_owned())].into()).unwrap();
        assert_eq!(&sector[4..12], b"good=a\0\0");
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926, "the check value");
        assert_eq!(crc32(&sector[4..]), crc32fast::hash(&sector[4..]));
    }
}
