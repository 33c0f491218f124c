//! What is more than the protocol allows ends the link.

use super::*;

#[test]
fn what_is_over_a_limit_ends_the_link() {
    let head = |seq| Head { seq, hash: RunningHash::default() };
    let ack = |seq| MemberAck {
        till: TillId([9; 16]),
        stamp: 1,
        level: 1,
        heads: [(Origin(1), head(seq))].into_iter().collect(),
    };
    let part = |upto: u8| Part { upto: vec![upto], rows: 1, digest: [0; 16] };
    let parts =
        |parts: Vec<Part>, last| Message::Answer(SnapshotAnswer::Parts { table: 1, after: vec![3], parts, last });
    let close = Close { origin: Origin(1), seq: 1 };
    let allowed = [
        Message::Have(vec![(Origin(1), head(SEQ_MAX)); HAVE_MAX]),
        Message::Want { origin: Origin(1), from: 1, credit: 1 },
        Message::Closes(vec![close; CLOSES_MAX]),
        Message::Acks(vec![ack(1); ACKS_MAX]),
        Message::Probe { origin: Origin(1), marks: (0..MARKS_MAX as u64).map(head).collect() },
        parts(vec![part(4), part(5)], false),
        parts(vec![], true),
    ];
    assert!(allowed.iter().all(Message::is_allowed));
    let forbidden = [
        Message::Have(vec![(Origin(1), head(1)); HAVE_MAX + 1]),
        Message::Have(vec![(Origin(1), head(SEQ_MAX + 1))]),
        Message::Want { origin: Origin(1), from: 0, credit: 1 },
        Message::Ops(OpBatch { origin: Origin(1), before: head(u64::MAX), ops: vec![] }),
        Message::Closes(vec![close; CLOSES_MAX + 1]),
        Message::Closes(vec![Close { seq: u64::MAX, ..close }]),
        Message::Acks(vec![ack(1); ACKS_MAX + 1]),
        Message::Acks(vec![ack(u64::MAX)]),
        Message::Probe { origin: Origin(1), marks: vec![] },
        Message::Probe { origin: Origin(1), marks: vec![head(2), head(1)] },
        Message::Probe { origin: Origin(1), marks: (0..=MARKS_MAX as u64).map(head).collect() },
        Message::Below { origin: Origin(1), floor: u64::MAX },
        parts(vec![], false),
        parts(vec![part(3)], true),
        parts(vec![part(5), part(4)], true),
        parts((4..200).map(part).cycle().take(PARTS_MAX + 1).collect(), true),
        Message::Answer(SnapshotAnswer::Hashes {
            origin: Origin(1),
            from: 1,
            hashes: vec![RunningHash::default(); HASHES_MAX + 1],
        }),
        Message::Digest(StateDigest { vector: [0; 8], sums: vec![(1, 1); SUMS_MAX + 1] }),
        Message::Status(vec![TillStatus { till: TillId([1; 16]), stamp: 1, body: vec![] }; STATUS_MAX + 1]),
        Message::Status(vec![TillStatus { till: TillId([1; 16]), stamp: 1, body: vec![b' '; STATUS_BYTES_MAX + 1] }]),
    ];
    for message in forbidden {
        assert!(!message.is_allowed(), "{message:?}");
        let mut shop = Shop::new(2);
        let link = shop.link(0, 1);
        shop.deliver();
        let outputs = shop.tills[0].replica.handle(0, Input::Message { link, message });
        assert_eq!(outputs[0], Output::Close { link, reason: CloseReason::Violation });
    }
}
