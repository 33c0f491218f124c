//! Hostile peers in a conversation: whatever they say, in whatever order, a replica stays within the protocol and within bounds. The
//! store behind it is an honest one in memory.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use tillmesh::model::clock::Hlc;
use tillmesh::model::close::{Close, Closes};
use tillmesh::model::id::{BootId, Origin, TillId};
use tillmesh::model::op::{Head, Op, OpBatch};
use tillmesh::model::vector::VersionVector;
use tillmesh::sync::{
    Comparison, Input, LinkId, Message, Output, Replica, ReplicaOptions, SnapshotAnswer, SnapshotAsk, Unfinished,
};
use tillmesh::wire::limits::MESSAGE_BYTES_MAX;
use tillmesh::wire::message::{decode, encode};
use tillmesh_fuzz::{Bytes, Meter};

const OWN: Origin = Origin(1);
const LINKS: u8 = 4;

/// The most outputs that one input may cause, links and origins being as few as here.
const OUTPUTS_MAX: usize = 5_000;

fuzz_target!(|data: &[u8]| {
    let mut till = Till::new();
    let meter = Meter::new();
    let mut bytes = Bytes::new(data);
    while !bytes.is_empty() {
        till.step(&mut bytes);
    }
    // What a peer says may be kept (acks, addresses, ops), but no more of it than came.
    assert!(meter.kept() <= 256 * 1024 + 512 * data.len(), "{} bytes kept for {}", meter.kept(), data.len());
});

struct Till {
    replica: Replica,
    now: u64,
    up: BTreeMap<LinkId, TillId>,
    logs: BTreeMap<Origin, Vec<Op>>,
    closes: Closes,
    /// What the store has been asked to apply and has not answered yet.
    waiting: Vec<OpBatch>,
    links_seen: u64,
}

impl Till {
    fn new() -> Self {
        let own: Vec<Op> = (1..=3).map(op).collect();
        let heads = VersionVector::from_iter([(OWN, Head::default().after_all(&own))]);
        let replica = Replica::new(ReplicaOptions {
            till: TillId([1; 16]),
            boot: BootId(1),
            origin: OWN,
            heads,
            auto_sync: true,
            acks: BTreeMap::new(),
            closes: Closes::default(),
            level: 1,
            stamp: 1,
            started: 0,
            unfinished: Unfinished::default(),
        });
        let logs = BTreeMap::from([(OWN, own)]);
        let (up, closes, waiting) = (BTreeMap::new(), Closes::default(), Vec::new());
        Self { replica, now: 0, up, logs, closes, waiting, links_seen: 0 }
    }

    fn step(&mut self, bytes: &mut Bytes<'_>) {
        match bytes.below(8) {
            0 => self.link_up(bytes),
            1 => self.link_down(bytes.below(LINKS)),
            2 => {
                self.now += u64::from(bytes.u16());
                self.input(Input::Tick);
            }
            3 => self.store_answers(bytes.byte()),
            4 => self.sells(),
            5 => self.input(Input::SyncNow),
            _ => self.hears(bytes),
        }
    }

    fn link_up(&mut self, bytes: &mut Bytes<'_>) {
        let (n, boot) = (bytes.below(LINKS), bytes.below(3));
        if self.up.len() >= usize::from(LINKS) {
            return;
        }
        self.links_seen += 1;
        let (link, till) = (LinkId(self.links_seen), TillId([n; 16]));
        self.up.insert(link, till);
        let (boot, dialled_by_us) = (BootId(u64::from(boot)), boot & 1 == 0);
        self.input(Input::LinkUp { link, till, boot, dialled_by_us });
    }

    /// The link of that place among those that are up.
    fn link(&self, n: u8) -> Option<LinkId> {
        let count = u8::try_from(self.up.len()).ok().filter(|count| *count > 0)?;
        self.up.keys().nth(usize::from(n % count)).copied()
    }

    fn link_down(&mut self, n: u8) {
        if let Some(link) = self.link(n) {
            self.up.remove(&link);
            self.input(Input::LinkDown { link });
        }
    }

    fn hears(&mut self, bytes: &mut Bytes<'_>) {
        let (link, message) = (self.link(bytes.byte()), decode(bytes.piece()));
        if let (Some(link), Ok(message)) = (link, message) {
            self.now += 1;
            self.input(Input::Message { link, message });
        }
    }

    fn sells(&mut self) {
        let log = self.logs.entry(OWN).or_default();
        let before = Head::default().after_all(log);
        let made = op(log.len() as u64 + 1);
        log.push(made.clone());
        self.input(Input::Committed(OpBatch { origin: OWN, before, ops: vec![made] }));
    }

    /// The store has done what it was asked first, or could not.
    fn store_answers(&mut self, choice: u8) {
        if self.waiting.is_empty() {
            return;
        }
        let batch = self.waiting.remove(0);
        let origin = batch.origin;
        let log = self.logs.entry(origin).or_default();
        let head = Head::default().after_all(log);
        if choice == 0 {
            self.input(Input::NotApplied { origin, head: None });
        } else if head != batch.before {
            self.input(Input::NotApplied { origin, head: Some(head) });
        } else {
            let head = batch.after();
            log.extend(batch.ops);
            self.input(Input::Applied { origin, head });
        }
    }

    fn input(&mut self, input: Input) {
        let mut inputs = vec![input];
        // What is answered at once is answered in turn; a conversation with oneself that does not end would hang here.
        let mut turns = 0;
        while let Some(input) = inputs.pop() {
            turns += 1;
            assert!(turns < OUTPUTS_MAX, "no end of {input:?}");
            let outputs = self.replica.handle(self.now, input);
            assert!(outputs.len() < OUTPUTS_MAX, "{} outputs", outputs.len());
            let next = self.replica.next_tick();
            assert!(next.is_none_or(|tick| tick > self.now), "at {} it wants to be woken at {next:?}", self.now);
            inputs.extend(outputs.into_iter().filter_map(|output| self.carry_out(output)));
        }
    }

    fn carry_out(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Send { link, message } => {
                assert!(self.up.contains_key(&link), "{message:?} to a link that is not up");
                assert!(encode(&message).len() <= MESSAGE_BYTES_MAX, "{message:?}");
                if let Message::Ops(batch) = &message {
                    let log = &self.logs[&batch.origin];
                    let from = usize::try_from(batch.before.seq).expect("small");
                    assert_eq!(batch.ops, log[from..from + batch.ops.len()], "what is sent is durable here");
                }
                None
            }
            Output::Apply(batch) => {
                assert!(!batch.ops.is_empty(), "nothing to apply");
                self.waiting.push(batch);
                None
            }
            Output::Read { link, origin, from, .. } => {
                let log = self.logs.get(&origin).map_or(&[][..], Vec::as_slice);
                let from = usize::try_from(from - 1).expect("small");
                let batch = (from < log.len()).then(|| OpBatch {
                    origin,
                    before: Head::default().after_all(&log[..from]),
                    ops: log[from..].iter().take(3).cloned().collect(),
                });
                Some(Input::Read { link, origin, batch })
            }
            Output::Close { link, .. } => {
                assert!(self.up.remove(&link).is_some(), "a link that is not up is closed");
                Some(Input::LinkDown { link })
            }
            Output::End(closes) => Some(self.end(&closes)),
            Output::LeaveOrigin(_) => Some(Input::Origin(Origin(2))),
            Output::Compare { link, origin, marks } => Some(self.compare(link, origin, &marks)),
            Output::Ask { link, ask } => Some(Input::Answer { link, answer: answer(&ask) }),
            Output::CompareParts { session, parts, .. } => {
                Some(Input::PartsCompared { session, differ: (0..parts.len()).collect() })
            }
            Output::Take { session, .. } => Some(Input::Taken { session, done: true }),
            Output::Adopt => Some(Input::Adopted { left: 0 }),
            Output::Digest => Some(Input::Digest(None)),
            Output::Event(_) => None,
        }
    }

    fn end(&mut self, closes: &[Close]) -> Input {
        for close in closes {
            if self.closes.join(*close)
                && let Some(log) = self.logs.get_mut(&close.origin)
            {
                log.truncate(usize::try_from(close.seq).unwrap_or(usize::MAX));
            }
        }
        let vector = self.logs.iter().map(|(origin, log)| (*origin, Head::default().after_all(log))).collect();
        Input::Logs { vector, closes: self.closes.clone() }
    }

    fn compare(&self, link: LinkId, origin: Origin, marks: &[Head]) -> Input {
        let agrees = |mark: &&Head| {
            let log = self.logs.get(&origin)?;
            let upto = log.get(..usize::try_from(mark.seq).ok()?)?;
            Some(Head::default().after_all(upto) == **mark)
        };
        let found = match marks.iter().find(|mark| agrees(mark) == Some(false)) {
            _ if !self.logs.contains_key(&origin) => Comparison::Unknown,
            Some(mark) => Comparison::Parted(mark.seq.saturating_sub(1)),
            None => Comparison::Same,
        };
        Input::Compared { link, origin, found }
    }
}

fn answer(ask: &SnapshotAsk) -> SnapshotAnswer {
    match ask {
        SnapshotAsk::Begin => {
            SnapshotAnswer::Begun { snapshot: 1, closes: Vec::new(), logs: Vec::new(), tables: vec![(1, 0)] }
        }
        _ => SnapshotAnswer::None,
    }
}

fn op(n: u64) -> Op {
    Op { hlc: Hlc(n), kind: 700, schema: 1, body: n.to_be_bytes().to_vec() }
}
