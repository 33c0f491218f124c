//! What the till does while its disk is watched. Each story is short, and about one thing that the store does.

use std::path::Path;

use rusqlite::Connection;
use tillmesh::model::amount::Quantity;
use tillmesh::model::clock::{ClockQuality, Hlc};
use tillmesh::model::close::Close;
use tillmesh::model::id::Origin;
use tillmesh::model::movement::MovementKind;
use tillmesh::model::mutant::Mutant;
use tillmesh::model::op::{Body, Op, OpBatch};
use tillmesh::model::register::{EntityKind, Value};
use tillmesh::model::ticket::{Made, Ticket};
use tillmesh::store::{Change, KEEP_MS, Remember, Request, SnapshotGiver, StoreError};
use tillmesh::sync::{LogHeader, MemberAck, SnapshotAnswer, SnapshotAsk, Taking};

use crate::till::{Till, sale, till_id, uuid};
use crate::vfs::Image;

/// One thing that is done, and acknowledged as a whole.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Requests of one commit.
    Do(Vec<Request>),
    /// A peer has an op of our present origin that is not here.
    Lost(Op),
    /// The write-ahead log is moved into the database.
    Checkpoint,
    /// The agent stops and starts again; at first it starts.
    Restart,
}

impl Step {
    /// Does it.
    pub(crate) fn run(&self, till: &mut Till) -> Result<(), StoreError> {
        match self {
            Self::Do(requests) => till.execute(requests.clone()).replies.into_iter().try_for_each(|r| r.map(drop)),
            Self::Lost(op) => {
                let origin = till.db().origin();
                let before = till.reader()?.vector()?.head(origin);
                till.ask(Request::Apply(OpBatch { origin, before, ops: vec![op.clone()] })).map(drop)
            }
            Self::Checkpoint => till.db().checkpoint(),
            Self::Restart => {
                till.close();
                till.open()
            }
        }
    }
}

#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) name: &'static str,
    /// The disk at its beginning.
    pub(crate) base: Image,
    /// Whether the till is on at its beginning.
    pub(crate) started: bool,
    pub(crate) steps: Vec<Step>,
    pub(crate) mutant: Option<Mutant>,
}

/// Writes a story by living it: what is done next may depend on what has become of it so far.
struct Author {
    story: Story,
    till: Till,
}

impl Author {
    fn new(name: &'static str, base: &Image, started: bool) -> Self {
        let mut till = Till::with(base.clone());
        if started {
            till.open().expect("the till starts");
        }
        let story = Story { name, base: base.clone(), started, steps: Vec::new(), mutant: None };
        Self { story, till }
    }

    fn step(&mut self, step: Step) {
        step.run(&mut self.till).unwrap_or_else(|error| panic!("{}: {error}: {step:?}", self.story.name));
        self.story.steps.push(step);
    }

    fn requests(&mut self, requests: Vec<Request>) {
        self.step(Step::Do(requests));
    }

    /// A log's ops from a head on, and where it stands after them.
    fn applies(&mut self, origin: Origin, ops: Vec<Op>) {
        let before = self.till.reader().and_then(|reader| reader.vector()).expect("a vector").head(origin);
        self.requests(vec![Request::Apply(OpBatch { origin, before, ops })]);
    }

    fn done(self) -> Story {
        self.story
    }
}

/// All stories.
pub(crate) fn stories() -> Vec<Story> {
    let old = fixture(1);
    let present = today(&old);
    vec![
        starting(),
        migrating(&old),
        selling(&present),
        applying(&present),
        filling(&present),
        resting(&present),
        ending(&present),
        compacting(&present),
        taking(&present),
        adopting(&present),
    ]
}

/// The disk of a till whose database has this schema.
fn fixture(schema: u32) -> Image {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/schema-{schema}.sql"));
    let sql = std::fs::read_to_string(path).expect("the schema has a fixture");
    let till = Till::with(Image::new());
    Connection::open(till.path()).and_then(|conn| conn.execute_batch(&sql)).expect("a fixture is SQL");
    till.disk.snapshot()
}

/// The same with the database of this version, after a stop in order.
fn today(old: &Image) -> Image {
    let mut till = Till::with(old.clone());
    till.open().expect("it is migrated");
    till.close();
    till.disk.snapshot()
}

fn starting() -> Story {
    let mut author = Author::new("starting", &Image::new(), false);
    author.step(Step::Restart);
    author.requests(vec![sells(1, 1, 2)]);
    author.step(Step::Restart);
    author.requests(vec![sells(2, 1, 2)]);
    author.done()
}

fn migrating(old: &Image) -> Story {
    let mut author = Author::new("migrating", old, false);
    author.step(Step::Restart);
    author.requests(vec![sells(1, 1, 2)]);
    author.done()
}

fn selling(present: &Image) -> Story {
    let mut author = Author::new("selling", present, true);
    for n in 0..8u128 {
        author.requests(vec![sells(100 + n, 1 + n % 4, 1)]);
    }
    // Several clients at once: one commit.
    author.requests((110..116).map(|n| sells(n, 2, 3)).collect());
    let (ticket, id, lines) = (uuid(70_100), uuid(70_200), vec![(0, Quantity::units(1))]);
    author.requests(vec![Request::Refund { id, ticket, lines, reason: None }]);
    author.requests(vec![Request::Cancel { id: None, ticket: uuid(70_101), reason: Some("erreur".into()) }]);
    for (n, kind) in [(70_300, MovementKind::In), (70_301, MovementKind::Count), (70_302, MovementKind::Loss)] {
        let (id, product) = (uuid(n), uuid(2));
        author.requests(vec![Request::Move { id, product, kind, quantity: Quantity::units(5), reference: None }]);
    }
    author.requests(vec![puts(1, "THE", 1_800), puts(60, "JUS", 900), puts(61, "JUS", 950)]);
    author.requests(vec![Request::Edit { kind: EntityKind::Product, id: uuid(60), change: Change::Delete }]);
    let (till, public_key) = (till_id(7), [7; 32]);
    author.requests(vec![Request::Admit { till, public_key, pos_id: "POS-7".into(), pos_name: "Cave".into() }]);
    author.requests(vec![sells(120, 1, 1), remembers(7, &author.till), Request::Retire { till: till_id(2) }]);
    author.requests(vec![Request::Remember(Remember::Note { key: "cursor".into(), value: Some("99".into()) })]);
    author.requests(vec![sells(121, 3, 1)]);
    author.done()
}

/// Logs of others, in batches small and large, with ops that cannot be applied.
fn applying(present: &Image) -> Story {
    let mut author = Author::new("applying", present, true);
    let origin = Origin(9 << 48);
    for (n, count) in [(0u128, 1), (1, 30), (2, 3), (3, 80), (4, 2)] {
        author.applies(origin, (0..count).map(|i| foreign_sale(1_000 * (n + 1) + i)).collect());
        author.requests(vec![sells(400 + n, 1, 1)]);
    }
    let unknown = Op { hlc: Hlc::from_ms(1), kind: 900, schema: 1, body: vec![7; 5_000] };
    author.applies(Origin(10 << 48), vec![unknown, foreign_sale(9_000)]);
    author.requests(vec![sells(410, 1, 1)]);
    author.done()
}

/// So much that the write-ahead log is moved into the database on the way, while nobody asks for it.
fn filling(present: &Image) -> Story {
    let mut author = Author::new("filling", present, true);
    for n in 0..4u8 {
        let long = |i| Op { hlc: Hlc::from_ms(i), kind: 901, schema: 1, body: vec![n; 60_000] };
        author.applies(Origin(11 << 48), (0..18).map(long).collect());
        author.requests(vec![sells(420 + u128::from(n), 1, 1)]);
    }
    author.requests(vec![sells(430, 1, 1)]);
    author.done()
}

fn resting(present: &Image) -> Story {
    let mut author = Author::new("resting", present, true);
    for n in 0..3 {
        author.requests(vec![sells(500 + n, 1, 1)]);
        author.step(Step::Checkpoint);
        author.requests(vec![sells(510 + n, 2, 1)]);
        author.step(Step::Restart);
    }
    author.requests(vec![sells(520, 1, 1)]);
    author.done()
}

/// Ends of origins: another's log is cut and its rest renamed, then one of our own.
fn ending(present: &Image) -> Story {
    let mut author = Author::new("ending", present, true);
    let origin = Origin(9 << 48);
    author.applies(origin, (0..12).map(|i| foreign_sale(1_000 + i)).collect());
    for seq in [8, 5, 5, 0] {
        author.requests(vec![Request::End(vec![Close { origin, seq }])]);
        author.requests(vec![sells(600 + u128::from(seq) * 2 + author.story.steps.len() as u128, 1, 1)]);
    }
    for n in 0..2 {
        let own = author.till.db().origin();
        let head = author.till.reader().and_then(|reader| reader.vector()).expect("a vector").head(own);
        author.requests(vec![Request::End(vec![Close { origin: own, seq: head.seq - 1 }])]);
        author.requests(vec![sells(640 + n, 1, 1), sells(650 + n, 1, 1)]);
        let own = author.till.db().origin();
        author.requests(vec![Request::LeaveOrigin(own)]);
        author.requests(vec![sells(660 + n, 1, 1)]);
    }
    // Ops of our own that we do not have: what we wrote must never be written again.
    author.step(Step::Lost(foreign_sale(7_000)));
    author.requests(vec![sells(670, 1, 1)]);
    author.done()
}

/// Ops that all other tills have are compacted, a few at a time.
fn compacting(present: &Image) -> Story {
    let mut author = Author::new("compacting", present, true);
    for week in 0..3 {
        let run_ms = week * (KEEP_MS + 1);
        let heard = remembers(2, &author.till);
        author.requests(vec![heard, sells(700 + u128::from(week), 1, 1)]);
        for n in 0..6 {
            author.requests(vec![Request::Compact { run_ms, ops_max: 17 }]);
            author.requests(vec![sells(710 + u128::from(week * 10 + n), 1, 1)]);
        }
        author.step(Step::Restart);
    }
    author.requests(vec![Request::Compact { run_ms: 4 * KEEP_MS, ops_max: usize::MAX }]);
    let sizes = author.till.reader().and_then(|reader| reader.log_sizes()).expect("sizes");
    assert!(sizes.compacted_ops > 50, "{sizes:?}");
    author.done()
}

/// A till that has all that we have, and as much again.
fn giver(present: &Image) -> Till {
    let (mut giver, mut till) = (Till::numbered(9, Image::new()), Till::with(present.clone()));
    giver.open().and_then(|()| till.open()).expect("they start");
    let ours = till.reader().expect("a reader");
    let ask = |giver: &mut Till, request| giver.ask(request).map(drop).expect("it is done");
    for origin in ours.vector().expect("a vector").0.into_keys() {
        let log = ours.ops(origin, 1, usize::MAX, usize::MAX).expect("ops").batch().expect("some");
        ask(&mut giver, Request::Apply(log));
    }
    for n in 0..40 {
        ask(&mut giver, sells(800 + n, 1 + n % 5, 1));
    }
    for n in 0..12u8 {
        ask(&mut giver, puts(1 + u128::from(n) * 7, &format!("SKU{n}"), 500 + i64::from(n)));
    }
    let (till, public_key) = (till_id(6), [6; 32]);
    ask(&mut giver, Request::Admit { till, public_key, pos_id: "POS-6".into(), pos_name: "Six".into() });
    ask(&mut giver, Request::Cancel { id: None, ticket: uuid(70_801), reason: None });
    let unknown = Op { hlc: Hlc::from_ms(1), kind: 903, schema: 1, body: vec![3; 300] };
    let batch = OpBatch { origin: Origin(12 << 48), before: Default::default(), ops: vec![unknown] };
    ask(&mut giver, Request::Apply(batch));
    giver
}

impl Author {
    /// Takes the rows of a giver's snapshot, selling in between; gives the snapshot's ends and logs.
    fn takes_rows(&mut self, giver: &mut SnapshotGiver, session: u64) -> (u64, Vec<Close>, Vec<LogHeader>) {
        let SnapshotAnswer::Begun { snapshot, closes, logs, tables } = giver.answer(1, SnapshotAsk::Begin, 0) else {
            panic!("it gives none");
        };
        for (n, (table, _)) in (0..).zip(tables) {
            let mut after = Vec::new();
            loop {
                let ask = SnapshotAsk::Parts { snapshot, table, after: after.clone() };
                let SnapshotAnswer::Parts { parts, last, .. } = giver.answer(1, ask, 0) else { panic!("no parts") };
                let reader = self.till.reader().expect("a reader");
                let differ = reader.differing_parts(table, &after, &parts).expect("they can be compared");
                for (n, part) in parts.into_iter().enumerate() {
                    let upto = part.upto;
                    let ask = SnapshotAsk::Rows { snapshot, table, after: after.clone(), upto: upto.clone() };
                    let what = match giver.answer(1, ask, 0) {
                        _ if !differ.contains(&n) => Taking::Same { table, after, upto: upto.clone() },
                        SnapshotAnswer::Rows { rows, .. } => Taking::Rows { table, rows },
                        other => panic!("no rows: {other:?}"),
                    };
                    self.requests(vec![Request::Take { session, what }]);
                    after = upto;
                }
                if last {
                    break;
                }
            }
            self.requests(vec![sells(900 + 20 * u128::from(session) + n, 1, 1)]);
            if n == 2 {
                self.step(Step::Restart);
            }
        }
        (snapshot, closes, logs)
    }
}

/// A snapshot is taken whole.
fn taking(present: &Image) -> Story {
    let mut author = Author::new("taking", present, true);
    let mut from = giver(present);
    let mut giver = from.db().giver();
    let (snapshot, closes, logs) = author.takes_rows(&mut giver, 1);
    let ours = author.till.reader().and_then(|reader| reader.vector()).expect("a vector");
    for log in logs.iter().filter(|log| log.head.seq > ours.seq(log.origin)) {
        let (origin, base, from) = (log.origin, log.base, ours.seq(log.origin) + 1);
        let answer = giver.answer(1, SnapshotAsk::Hashes { snapshot, origin, from }, 0);
        let SnapshotAnswer::Hashes { hashes, .. } = answer else { panic!("no hashes: {answer:?}") };
        author.requests(vec![Request::Take { session: 1, what: Taking::Hashes { origin, base, from, hashes } }]);
    }
    author.requests(vec![Request::Take { session: 1, what: Taking::Logs { closes, logs } }]);
    let reader = author.till.reader().expect("a reader");
    let theirs = from.reader().and_then(|reader| reader.vector()).expect("a vector");
    assert_eq!(reader.vector().expect("a vector").behind(&theirs), 0, "all of the snapshot is here");
    assert_eq!(reader.uncovered(), Ok(0));
    author.requests(vec![sells(990, 1, 1)]);
    author.done()
}

/// A snapshot whose giver is gone before it was taken whole: what was taken is authored.
fn adopting(present: &Image) -> Story {
    let mut author = Author::new("adopting", present, true);
    let mut from = giver(present);
    author.takes_rows(&mut from.db().giver(), 2);
    let left = |till: &Till| till.reader().and_then(|reader| reader.uncovered()).expect("a count");
    assert!(left(&author.till) > 30);
    while left(&author.till) > 0 {
        author.requests(vec![Request::Adopt { rows_max: 9 }]);
    }
    author.requests(vec![sells(991, 1, 1)]);
    author.done()
}

fn sells(id: u128, product: u128, units: i64) -> Request {
    Request::Sell { id: uuid(70_000 + id), sale: sale(product, units) }
}

fn puts(id: u128, sku: &str, price: i64) -> Request {
    let text = |value: &str| Value::Text(value.to_owned());
    let fields = [("sku", text(sku)), ("name", text("Produit")), ("price", Value::Int(price))];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Request::Edit { kind: EntityKind::Product, id: uuid(id), change: Change::Put(fields) }
}

/// A till says that it has all that we have.
fn remembers(n: u8, till: &Till) -> Request {
    let heads = till.reader().and_then(|reader| reader.vector()).expect("a vector");
    let ack = MemberAck { till: till_id(n), stamp: 1, level: 1, heads };
    Request::Remember(Remember::Ack { ack, seen_run_ms: 1 })
}

/// A ticket of a till whose database is nowhere.
fn foreign_sale(id: u128) -> Op {
    let made =
        Made { till: till_id(9), pos_id: "POS-9".into(), at_ms: 1_795_345_200_000, clock: ClockQuality::Trusted };
    let (number, sale, previous) = (format!("POS-9-{id}"), sale(1 + id % 5, 2), [0; 32]);
    let ticket = Ticket { id: uuid(80_000 + id), number, made, currency: *b"TND", sale, previous };
    Body::Ticket(ticket).to_op(Hlc::from_ms(1_795_345_200_000))
}
