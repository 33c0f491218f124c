//! A message of POSPlus: anybody on the shop's network may send one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tillmesh::wire::posplus::{Decimals, Envelope, decode, encode};
use tillmesh_fuzz::Meter;

/// What one byte of a message may cost at most: an empty object of a list, `{},`, is one error's text, of which 16 are kept; a product of
/// the shortest texts is more than a hundred bytes on the wire.
const BYTES_PER_BYTE: usize = 64;

fuzz_target!(|data: &[u8]| {
    let decimals = Decimals::of_currency("TND");
    let meter = Meter::new();
    let message = decode(data, decimals);
    assert!(meter.peak() <= 16_384 + BYTES_PER_BYTE * data.len(), "{} bytes for {}", meter.peak(), data.len());
    match message {
        Ok(message) => {
            let envelope = Envelope { id: &message.id, at_ms: message.at_ms, source: &message.source };
            let text = encode(&envelope, &message.body, decimals);
            let again = decode(text.as_bytes(), decimals).expect("what is written is read");
            // Of a time only what it means is written back, so a ticket's own words for it are not.
            assert_eq!(std::mem::discriminant(&again.body), std::mem::discriminant(&message.body));
            let envelope = Envelope { id: &again.id, at_ms: again.at_ms, source: &again.source };
            assert_eq!(encode(&envelope, &again.body, decimals), text);
        }
        Err(error) => assert!(!error.to_string().is_empty() && error.to_string().len() < 4096),
    }
});
