//! Writes what every target begins with, beside its corpus: one good input of each sort, made of the golden bytes and today's code. So a
//! new message or op is fuzzed from the day that it has a golden line.
//!
//! No target: it writes them into a folder for each target in `$SEEDS`, and ends. It is built like one since what is instrumented does not
//! link without the fuzzer.
#![no_main]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tillmesh::model::clock::{ClockQuality, Hlc};
use tillmesh::model::id::{BootId, Origin, StoreId, TillId, Uuid, unhex};
use tillmesh::model::op::{Head, Op, OpBatch};
use tillmesh::store::{Code, ConflictId, RecordKind};
use tillmesh::sync::Message;
use tillmesh::wire::frame::{Bye, Mark, Preamble};
use tillmesh::wire::hello::Hello;
use tillmesh::wire::message::{decode, encode};
use tillmesh_fuzz::piece;

libfuzzer_sys::fuzz_target!(
    init: write_all(&PathBuf::from(std::env::var_os("SEEDS").expect("SEEDS says where"))),
    |_data: &[u8]| std::process::exit(0)
);

fn write_all(folder: &Path) {
    let golden = golden();
    let ops = ops(&golden);
    let messages = messages(&golden, &ops);
    for (target, seeds) in [
        ("hello", vec![hello().encode(), preamble().encode()]),
        ("parts", parts(&messages)),
        ("message", messages.clone()),
        ("replica", conversations(&messages)),
        ("store", logs(&ops)),
        ("link", links(&messages)),
        ("config", configs()),
        ("names", names()),
        ("api", requests()),
        ("posplus", posplus()),
    ] {
        let folder = folder.join(target);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        for (n, seed) in seeds.iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{n:03}")), seed).expect("the seed can be written");
        }
    }
}

/// A message of each type.
fn posplus() -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(top().join("tests/golden/posplus.jsonl")).expect("the golden texts are there");
    text.lines().map(|line| line.as_bytes().to_vec()).collect()
}

fn top() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// All golden bytes, of all protocols, by name.
fn golden() -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(top().join("tests/golden")).expect("the golden bytes are there").flatten();
    let text: String = files.map(|file| std::fs::read_to_string(file.path()).expect("text")).collect();
    text.lines().filter_map(|line| line.split_once(": ")).filter_map(|(n, b)| Some((n.into(), unhex(b)?))).collect()
}

/// The bodies of all kinds, by the place of their name among kinds.
fn ops(golden: &BTreeMap<String, Vec<u8>>) -> Vec<Op> {
    let bodies = golden.iter().filter(|(name, _)| name.starts_with("op "));
    bodies
        .flat_map(|(_, body)| (1..=8).map(|kind| Op { hlc: Hlc(1 << 40), kind, schema: 1, body: body.clone() }))
        .collect()
}

fn messages(golden: &BTreeMap<String, Vec<u8>>, ops: &[Op]) -> Vec<Vec<u8>> {
    let batch = OpBatch { origin: Origin(7), before: Head::default(), ops: ops.to_vec() };
    golden.values().filter(|bytes| decode(bytes).is_ok()).cloned().chain([encode(&Message::Ops(batch))]).collect()
}

fn hello() -> Hello {
    Hello {
        store: StoreId(Uuid::from_bytes([5; 16])),
        currency: *b"TND",
        proto_min: 1,
        proto_max: 1,
        features: 0,
        boot: BootId(2),
        hlc: 1,
        clock: ClockQuality::Trusted,
        port: 3030,
        pos_id: "POS-1".into(),
        pos_name: "Caisse".into(),
        version: "0.1.0".into(),
    }
}

fn preamble() -> Preamble {
    Preamble { store: *b"0a1b2c3d", key_epoch: 0 }
}

/// Each message whole, then all of them cut in two, then a goodbye.
fn parts(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let marked = |bytes: &[u8], mark: Mark| piece(&[bytes, &[mark as u8]].concat());
    let whole = messages.iter().flat_map(|m| marked(m, Mark::Last)).collect();
    let halves = |m: &Vec<u8>| {
        let (first, second) = m.split_at(m.len() / 2);
        [marked(first, Mark::More), marked(second, Mark::Last)].concat()
    };
    vec![whole, messages.iter().flat_map(halves).collect(), marked(&[Bye::Shutdown.code()], Mark::Bye)]
}

/// Two links come up, then a message is heard, and the store answers.
fn conversations(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let up = [0, 2, 0, 0, 3, 1];
    let said = |link: u8, m: &Vec<u8>| [&[6, link][..], &piece(m), &[3, 1, 2, 100, 0]].concat();
    let one = messages.iter().map(|m| [&up[..], &said(0, m)].concat());
    let all = messages.iter().enumerate().flat_map(|(n, m)| said(n as u8 & 1, m));
    one.chain([up.into_iter().chain(all).collect()]).collect()
}

/// Each op alone, then all of them in three logs.
fn logs(ops: &[Op]) -> Vec<Vec<u8>> {
    let written = |log: u8, op: &Op| [&[log, 0, 1, 0, 0, op.kind as u8, 1][..], &piece(&op.body)].concat();
    let all = ops.iter().enumerate().flat_map(|(n, op)| written(2 + n as u8 % 3, op)).collect();
    let sale = vec![0, 1, 1, 25, 0, 0, 1, 1, 21, 1];
    ops.iter().map(|op| written(2, op)).chain([all, sale]).collect()
}

/// A raw request, a stranger's handshake, members that talk.
fn links(messages: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let request = b"\x00GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
    let stranger = [&[1, 0][..], &[2], &piece(&[7; 32]), &[8], &piece(&[0x0f, 0xa0])].concat();
    let talk: Vec<u8> = [vec![2, 1], parts(messages).concat()].concat();
    let greeting = [&[2, 0][..], &piece(&[hello().encode(), vec![0]].concat())].concat();
    vec![request, stranger, talk, greeting]
}

fn configs() -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(top().join("config")).expect("the configs are there").flatten();
    let own = r#"{"posId":"POS-1","store":{"id":"00000000-0000-0000-0000-000000000001","name":"Café","currency":"TND",
        "timeZone":"Africa/Tunis","key":"0000000-0000000-0000000-0000000-0000000-0000000-0000000-0000000"},
        "peers":["192.168.1.21:3030"],"api":{"listen":"127.0.0.1:3031"},"posplus":{"enabled":true,"allow":["10.0.0.0/8"]},
        "led":{"board":"auto"},"network":{"mode":"dhcp"},"p2p":{"port":1,"reconnectInterval":0}}"#;
    let json = files.map(|f| f.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    json.map(|path| std::fs::read(path).expect("a file")).chain([own.into()]).collect()
}

fn names() -> Vec<Vec<u8>> {
    let id = Uuid::from_u128(7);
    let conflicts = [
        ConflictId::Field(tillmesh::model::register::EntityKind::Product, id, "extra.couleur é".into()),
        ConflictId::Duplicate(Code::Barcode, "619/ü".into()),
        ConflictId::Contents(RecordKind::Refund, id),
        ConflictId::OverRefund(id),
        ConflictId::Counts(id),
        ConflictId::Unchained(id),
        ConflictId::NegativeStock(id),
    ];
    let conflicts = conflicts.iter().map(ToString::to_string);
    let key = tillmesh::config::StoreKey::from_bytes([3; 32]).to_text();
    let others =
        [TillId([7; 16]).to_string(), key, "[fe80::1%eth0]:3030".into(), "caisse.local".into(), "10.0.0.0/8".into()];
    conflicts.chain(others).map(String::into_bytes).collect()
}

/// By route (its place in the target's table): an id, a query, a body.
fn requests() -> Vec<Vec<u8>> {
    let id = "00000000-0000-0000-0000-000000000001";
    let sale = format!(
        r#"{{"id":"{id}","cashier":"Amel","lines":[{{"productId":"{id}","name":"Café","quantity":1.5,"unitPrice":5000,"discount":1}}],
            "payments":[{{"method":"cash","amount":10000,"reference":"r"}}]}}"#
    );
    let refund = format!(r#"{{"id":"{id}","lines":[{{"line":0,"quantity":1}}],"reason":"froid"}}"#);
    let product = r#"{"sku":"A","name":"Thé","price":1,"barcode":"619","cost":2,"categoryId":null,"unit":"kg","minStock":0.5,
        "active":true,"extra":{"a":[1,{"b":null}]}}"#;
    let moved = format!(r#"{{"id":"{id}","type":"count","quantity":5.125,"reference":"x"}}"#);
    let customer = r#"{"firstName":"A","lastName":"B","email":"a@b","phone":"1","active":false}"#;
    let category = r#"{"name":"Boissons","displayOrder":1}"#;
    let written = |route: u8, id: &str, query: &str, body: &str| {
        [&[route][..], &piece(id.as_bytes()), &piece(query.as_bytes()), body.as_bytes()].concat()
    };
    let list = "after=1&limit=10&from=2026-11-22T00:00:00.000Z&to=2026-11-23T00:00:00Z&posId=POS-1";
    vec![
        written(0, "", "", &sale),
        written(1, id, "", &refund),
        written(2, id, "", "{}"),
        written(3, id, "", product),
        written(4, id, "", r#"{"price":null}"#),
        written(5, id, "", ""),
        written(6, id, "", &moved),
        written(7, id, "", category),
        written(8, id, "", category),
        written(9, id, "", customer),
        written(10, id, "", customer),
        written(11, "", "", r#"{"enabled":true}"#),
        written(12, &TillId([7; 16]).to_string(), "", ""),
        written(13, &TillId([7; 16]).to_string(), "", ""),
        written(14, &ConflictId::Duplicate(Code::Sku, "A".into()).to_string(), "", r#"{"value":1}"#),
        written(15, "", list, ""),
        written(16, id, "", ""),
        written(17, "", "sku=A&barcode=619&q=th%C3%A9&limit=1", ""),
        written(18, id, "limit=1000&after=9", ""),
        written(19, "", "includeDeleted=true", ""),
        written(21, "", "limit=1", ""),
        written(23, "", "", ""),
    ]
}
