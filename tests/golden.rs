//! The bytes of every message and op kind, per protocol version. A change of them is a change of the protocol: it needs a new schema or
//! protocol number, and the old bytes must still be read. `TILLMESH_BLESS=1` writes lines that are not there yet; it never changes one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use tillmesh::model::amount::{Money, Quantity};
use tillmesh::model::clock::{ClockQuality, Hlc};
use tillmesh::model::close::Close;
use tillmesh::model::id::{Origin, TillId, Uuid, hex, unhex};
use tillmesh::model::movement::{Movement, MovementKind};
use tillmesh::model::op::{Body, Head, Op, OpBatch, RunningHash};
use tillmesh::model::register::{Edit, EntityKind, Registers, Value, Write};
use tillmesh::model::roster::{Admit, Retire};
use tillmesh::model::state::{Admission, Member, State};
use tillmesh::model::ticket::{Line, Made, Payment, PaymentMethod, Refund, RefundLine, Sale, Ticket};
use tillmesh::model::vector::VersionVector;
use tillmesh::sync::{
    KnownPeer, LogHeader, MemberAck, Message, Part, STOCK_SUM, SnapshotAnswer, SnapshotAsk, StateDigest, TillStatus,
};
use tillmesh::wire::message::{decode, encode};

const TILL: TillId = TillId([0xa1; 16]);
const ORIGIN: Origin = Origin(0x0123_4567_89ab_cdef);

fn made() -> Made {
    // After 2038, so that a 32-bit time would show.
    Made { till: TILL, pos_id: "POS-3f2a9c1e".into(), at_ms: 4_102_444_800_123, clock: ClockQuality::Trusted }
}

fn ticket() -> Ticket {
    let line = Line {
        product: Some(Uuid::from_u128(7)),
        sku: Some("CAF".into()),
        name: "Café".into(),
        quantity: Quantity(2_500),
        unit_price: Money(5_000),
        discount: Money(250),
    };
    let payment = Payment { method: PaymentMethod::Transfer, amount: Money(10_000), reference: Some("r".into()) };
    let sale = Sale {
        cashier: Some("Amel".into()),
        customer: Some(Uuid::from_u128(8)),
        notes: None,
        lines: vec![line],
        payments: vec![payment],
    };
    let number = "POS-3f2a9c1e-0123-20991231-0001".to_owned();
    Ticket { id: Uuid::from_u128(1), number, made: made(), currency: *b"TND", sale, previous: [3; 32] }
}

fn edit() -> Edit {
    let value = |id, field: &str, value| Write { field: field.into(), id, replaces: vec![id + 1], value };
    let writes = vec![
        value(10, "name", Value::Text("قهوة".into())),
        value(20, "price", Value::Int(-4_500)),
        value(30, "active", Value::Bool(true)),
        value(40, "barcode", Value::Null),
        value(50, "categoryId", Value::Id(Uuid::from_u128(9))),
        value(60, "extra.colour", Value::Json("{\"a\":1}".into())),
    ];
    let hlc = Hlc((4_102_444_800_123 << 16) | 5);
    Edit { entity: EntityKind::Customer, id: Uuid::from_u128(2), hlc, by: "POS-002".into(), writes }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let refund = Refund {
        id: Uuid::from_u128(3),
        ticket: Uuid::from_u128(1),
        made: made(),
        cancel: true,
        reason: Some("cold".into()),
        lines: vec![RefundLine { line: 0, quantity: Quantity(500), product: None, amount: Money(1_250) }],
    };
    let movement = Movement {
        id: Uuid::from_u128(4),
        product: Uuid::from_u128(7),
        kind: MovementKind::Count,
        quantity: Quantity(95_000),
        delta: Quantity(-5_000),
        replaces: vec![Uuid::from_u128(6)],
        reference: Some("inventory".into()),
        made: made(),
    };
    let admit =
        Admit { till: TILL, public_key: [9; 32], pos_id: "POS-001".into(), pos_name: "Caisse".into(), made: made() };
    vec![
        ("op ticket", Body::Ticket(ticket())),
        ("op refund", Body::Refund(refund)),
        ("op movement", Body::Movement(movement)),
        ("op edit", Body::Edit(edit())),
        ("op admit", Body::Admit(admit)),
        ("op retire", Body::Retire(Retire { till: TILL, made: made() })),
    ]
}

/// Parts of the state, one of each.
fn states() -> Vec<(&'static str, Body)> {
    let mut registers = Registers::default();
    let mut replaced = BTreeSet::new();
    registers.apply(&edit(), &mut replaced).expect("a set takes all ids");
    let replaced = replaced.into_iter().collect();
    let Edit { entity: kind, id, .. } = edit();
    let admission = Admission {
        public_key: [9; 32],
        pos_id: "POS-001".into(),
        pos_name: "Caisse".into(),
        rank: vec![1, 2, 3],
        first_ms: 1_795_345_200_000,
    };
    let member = Member { till: TILL, admission: Some(admission), retired_ms: Some(1_795_345_200_001) };
    vec![
        ("op state entity", Body::State(State::Entity { kind, id, registers, replaced })),
        ("op state member", Body::State(State::Member(member))),
    ]
}

fn snapshot_messages() -> Vec<(&'static str, Message)> {
    let key = || vec![1, 2, 3];
    let head = Head { seq: 300, hash: RunningHash([1, 2, 3, 4, 5, 6, 7, 8]) };
    let (snapshot, table) = (77, 4);
    let ask = |ask| Message::Ask(ask);
    let answer = |answer| Message::Answer(answer);
    let log = LogHeader { origin: ORIGIN, base: RunningHash([9; 8]), head, hlc: Hlc(1 << 40), tail: [5; 32] };
    let closes = vec![Close { origin: ORIGIN, seq: 12 }];
    let part = Part { upto: key(), rows: 64, digest: [6; 16] };
    let row = Op { hlc: Hlc(0), kind: 7, schema: 1, body: vec![0xee; 3] };
    vec![
        ("ask begin", ask(SnapshotAsk::Begin)),
        ("ask parts", ask(SnapshotAsk::Parts { snapshot, table, after: vec![] })),
        ("ask rows", ask(SnapshotAsk::Rows { snapshot, table, after: vec![], upto: key() })),
        ("ask hashes", ask(SnapshotAsk::Hashes { snapshot, origin: ORIGIN, from: 2 })),
        ("ask end", ask(SnapshotAsk::End { snapshot })),
        (
            "answer begun",
            answer(SnapshotAnswer::Begun { snapshot, closes, logs: vec![log], tables: vec![(4, 10_000)] }),
        ),
        ("answer parts", answer(SnapshotAnswer::Parts { table, after: vec![], parts: vec![part], last: true })),
        ("answer rows", answer(SnapshotAnswer::Rows { table, after: vec![], upto: key(), rows: vec![row] })),
        (
            "answer hashes",
            answer(SnapshotAnswer::Hashes { origin: ORIGIN, from: 2, hashes: vec![RunningHash([7; 8]); 2] }),
        ),
        ("answer none", answer(SnapshotAnswer::None)),
        ("answer not now", answer(SnapshotAnswer::NotNow)),
    ]
}

fn messages() -> Vec<(&'static str, Message)> {
    let head = Head { seq: 300, hash: RunningHash([1, 2, 3, 4, 5, 6, 7, 8]) };
    let op = Op { hlc: Hlc(1 << 40), kind: 700, schema: 2, body: vec![0xff; 3] };
    let heads = VersionVector::from_iter([(ORIGIN, head)]);
    vec![
        ("have", Message::Have(vec![(ORIGIN, head)])),
        ("want", Message::Want { origin: ORIGIN, from: 301, credit: 262_144 }),
        ("credit", Message::Credit { origin: ORIGIN, bytes: 65_536 }),
        ("ops", Message::Ops(OpBatch { origin: ORIGIN, before: head, ops: vec![op] })),
        ("ping", Message::Ping(5)),
        ("pong", Message::Pong(u64::MAX)),
        ("peers", Message::Peers(vec![KnownPeer { till: TILL, address: "192.168.1.21:3030".into() }])),
        ("closes", Message::Closes(vec![Close { origin: ORIGIN, seq: 12 }])),
        ("acks", Message::Acks(vec![MemberAck { till: TILL, stamp: 1_795_345_200_000, level: 1, heads }])),
        ("probe", Message::Probe { origin: ORIGIN, marks: vec![head] }),
        ("below", Message::Below { origin: ORIGIN, floor: 200 }),
        ("digest", Message::Digest(StateDigest { vector: [3; 8], sums: vec![(1, 5), (STOCK_SUM, u128::MAX)] })),
        ("status", Message::Status(vec![TillStatus { till: TILL, stamp: 1_795_345_200_000, body: b"{}".to_vec() }])),
    ]
}

fn all_messages() -> Vec<(&'static str, Message)> {
    messages().into_iter().chain(snapshot_messages()).collect()
}

fn golden_file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/protocol-1.txt")
}

fn golden() -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read_to_string(golden_file()).unwrap_or_default();
    let line =
        |l: &str| l.split_once(": ").map(|(name, bytes)| (name.to_owned(), unhex(bytes).expect("the file holds hex")));
    text.lines().filter_map(line).collect()
}

/// Tests share the file.
static FILE: Mutex<()> = Mutex::new(());

fn check(made_now: &[(&str, Vec<u8>)]) {
    let _one_at_a_time = FILE.lock().unwrap_or_else(|e| e.into_inner());
    let mut known = golden();
    if std::env::var_os("TILLMESH_BLESS").is_some() {
        made_now.iter().for_each(|(name, bytes)| {
            known.entry((*name).to_owned()).or_insert_with(|| bytes.clone());
        });
        let text = known.iter().fold(String::new(), |mut text, (name, bytes)| {
            let _ = writeln!(text, "{name}: {}", hex(bytes));
            text
        });
        std::fs::write(golden_file(), text).expect("the golden file is writable");
    }
    for (name, bytes) in made_now {
        assert_eq!(known.get(*name).map(|b| hex(b)), Some(hex(bytes)), "the bytes of {name} have changed");
    }
}

#[test]
fn op_bodies_keep_their_bytes() {
    let all = || bodies().into_iter().chain(states());
    let made_now: Vec<(&str, Vec<u8>)> = all().map(|(n, b)| (n, b.to_op(Hlc(1)).body)).collect();
    check(&made_now);
    for (name, body) in all() {
        let op = body.to_op(Hlc(1));
        assert_eq!(Body::from_op(&Op { body: golden()[name].clone(), ..op }), Ok(body), "{name} is still read");
    }
}

#[test]
fn messages_keep_their_bytes() {
    let made_now: Vec<(&str, Vec<u8>)> = all_messages().into_iter().map(|(n, m)| (n, encode(&m))).collect();
    check(&made_now);
    for (name, message) in all_messages() {
        assert_eq!(decode(&golden()[name]), Ok(message), "{name} is still read");
    }
}

#[test]
fn the_running_hash_keeps_its_value() {
    let ops: Vec<Op> = bodies().into_iter().map(|(_, body)| body.to_op(Hlc(77))).collect();
    check(&[("running hash of all op kinds", RunningHash::default().after_all(&ops).0.to_vec())]);
    check(&[("ticket chain hash", ticket().hash().to_vec())]);
}

#[test]
fn every_variant_has_golden_bytes() {
    let tags: BTreeSet<u8> = all_messages().iter().map(|(_, m)| encode(m)[0]).collect();
    assert_eq!(tags, (0..=14).collect(), "a message without a golden line");
    assert!(decode(&[15]).is_err(), "a message that no golden line covers");
    let kinds: BTreeSet<u16> = bodies().iter().chain(&states()).map(|(_, b)| b.to_op(Hlc(1)).kind).collect();
    assert_eq!(kinds, (1..=7).collect(), "an op kind without a golden line");
}
