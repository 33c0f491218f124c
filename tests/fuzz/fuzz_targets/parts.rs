//! The parts that a message is cut into, as they come out of the cipher.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tillmesh::wire::frame::{Assembled, Assembler, Bye, parts};
use tillmesh::wire::limits::{MESSAGE_BYTES_MAX, PART_BYTES_MAX};
use tillmesh_fuzz::{Bytes, Meter};

fuzz_target!(|data: &[u8]| {
    hostile(data);
    whole(data);
});

/// Parts as they come: what is put together is what was sent, and never more than a message is kept.
fn hostile(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let mut assembler = Assembler::default();
    let meter = Meter::new();
    let mut partial: Vec<u8> = Vec::new();
    let mut announced = 0;
    while !bytes.is_empty() {
        // A part may be far longer than what a fuzzer likes to write.
        let mut part = bytes.piece().to_vec();
        if let Some(mark) = part.pop() {
            part.resize((part.len() * 64).min(PART_BYTES_MAX), 0x5a);
            part.push(mark);
        }
        announced += part.len();
        let sent = part.clone();
        match assembler.push(part) {
            Ok(Assembled::Partial) => partial.extend_from_slice(&sent[..sent.len() - 1]),
            Ok(Assembled::Message(message)) => {
                partial.extend_from_slice(&sent[..sent.len() - 1]);
                assert!(message.len() <= MESSAGE_BYTES_MAX);
                assert_eq!(message, partial);
                partial.clear();
            }
            Ok(Assembled::Bye(bye)) => assert_eq!(Bye::from_code(bye.code()), bye),
            // The link ends here.
            Err(error) => {
                assert!(!error.to_string().is_empty());
                break;
            }
        }
        assert!(partial.len() <= MESSAGE_BYTES_MAX);
    }
    drop(partial);
    let limit = 3 * MESSAGE_BYTES_MAX + 4 * announced.min(MESSAGE_BYTES_MAX);
    assert!(meter.kept() <= 2 * announced.min(MESSAGE_BYTES_MAX) && meter.peak() <= limit, "{}", meter.peak());
}

/// A message survives being cut into parts.
fn whole(message: &[u8]) {
    let mut assembler = Assembler::default();
    let mut found = None;
    for (bytes, mark) in parts(message) {
        assert_eq!(found, None);
        if let Assembled::Message(whole) = assembler.push([bytes, &[mark as u8]].concat()).expect("our own parts") {
            found = Some(whole);
        }
    }
    assert_eq!(found.as_deref(), Some(message));
}
