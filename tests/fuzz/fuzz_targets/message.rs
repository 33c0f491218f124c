//! A peer's message, and the bodies of the ops in it. Answers about snapshots are messages too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tillmesh::model::op::{BODY_APPLY_MAX, Body, HoldReason, Op};
use tillmesh::sync::{Message, SnapshotAnswer};
use tillmesh::wire::message::{decode, encode};
use tillmesh_fuzz::Meter;

/// What one byte of a message may cost at most. Room is made for as many items as a list says it has, if there are as many bytes left:
/// the largest item has less than 100 bytes in memory. (Never more than a megabyte at once, whatever is said: serde sees to that.)
const BYTES_PER_BYTE: usize = 128;

fuzz_target!(|data: &[u8]| {
    let meter = Meter::new();
    let message = decode(data);
    assert!(meter.peak() <= 4096 + BYTES_PER_BYTE * data.len(), "{} bytes for {}", meter.peak(), data.len());
    let Ok(message) = message else { return };
    assert_eq!(decode(&encode(&message)).as_ref(), Ok(&message));
    let ops = match &message {
        Message::Ops(batch) => batch.ops.as_slice(),
        Message::Answer(SnapshotAnswer::Rows { rows, .. }) => rows,
        _ => &[],
    };
    ops.iter().for_each(read);
});

/// What is understood has one encoding only; what is not is held, with a reason.
fn read(op: &Op) {
    let meter = Meter::new();
    let body = Body::from_op(op);
    assert!(meter.peak() <= 4096 + BYTES_PER_BYTE * op.body.len(), "{} bytes for {}", meter.peak(), op.body.len());
    match body {
        Ok(body) => {
            assert!(op.body.len() <= BODY_APPLY_MAX);
            assert_eq!(&body.to_op(op.hlc), op);
            let _ = body.till();
        }
        Err(reason) => {
            assert!(!reason.to_string().is_empty());
            assert_eq!(matches!(reason, HoldReason::TooLarge { .. }), op.body.len() > BODY_APPLY_MAX);
        }
    }
}
