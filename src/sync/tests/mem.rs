//! A store in memory: logs with their hashes, ends, compaction, snapshots, in the simplest way that keeps the promises of the real one.
//! A row is an op's content, whatever log carried it.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::super::*;
use crate::model::clock::Hlc;
use crate::model::close::branch_name;

/// A log: ops up to the floor are compacted, hashes never are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct MemLog {
    pub(super) base: RunningHash,
    pub(super) hashes: Vec<RunningHash>,
    pub(super) floor: usize,
    pub(super) ops: Vec<Op>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    pub(super) op: Op,
    /// The snapshot that brought it, until its heads are put in.
    pub(super) uncovered: Option<u64>,
}

/// What a peer's snapshot is read from.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub(super) number: u64,
    pub(super) logs: BTreeMap<Origin, MemLog>,
    pub(super) rows: BTreeMap<Key, Row>,
}

#[derive(Clone, Debug)]
pub(super) struct Mem {
    /// Makes fresh origins differ between stores.
    pub(super) id: u64,
    minted: u64,
    pub(super) own: Origin,
    pub(super) logs: BTreeMap<Origin, MemLog>,
    pub(super) closes: Closes,
    pub(super) rows: BTreeMap<Key, Row>,
    pub(super) staged: BTreeMap<(u64, Origin), (RunningHash, usize, Vec<RunningHash>)>,
    pub(super) giving: BTreeMap<LinkId, Given>,
    pub(super) next_snapshot: u64,
    /// It refuses to write, as on a full disk.
    pub(super) broken: bool,
}

impl MemLog {
    pub(super) fn head(&self) -> Head {
        Head { seq: self.hashes.len() as u64, hash: self.at(self.hashes.len()) }
    }

    pub(super) fn at(&self, seq: usize) -> RunningHash {
        if seq == 0 { self.base } else { self.hashes[seq - 1] }
    }

    fn push(&mut self, op: Op) {
        self.hashes.push(self.head().hash.after(&op));
        self.ops.push(op);
    }

    fn split(mut self, seq: usize) -> (Self, Self) {
        let ops = self.ops.split_off(seq.saturating_sub(self.floor).min(self.ops.len()));
        let base = self.at(seq);
        let rest = Self { base, hashes: self.hashes.split_off(seq), floor: self.floor.saturating_sub(seq), ops };
        (Self { floor: self.floor.min(seq), ..self }, rest)
    }

    /// The place after which two logs part; `None` where one continues the other.
    fn parts(&self, other: &Self) -> Option<usize> {
        if self.base != other.base {
            return Some(0);
        }
        self.hashes.iter().zip(&other.hashes).position(|(a, b)| a != b)
    }

    /// Of two logs on one chain the longer one, with the ops of both where they join up.
    fn join(self, other: Self) -> Self {
        let (mut long, short) = if self.hashes.len() >= other.hashes.len() { (self, other) } else { (other, self) };
        if short.floor < long.floor && short.hashes.len() >= long.floor {
            let mut ops = short.ops[..long.floor - short.floor].to_vec();
            ops.append(&mut long.ops);
            long = Self { floor: short.floor, ops, ..long };
        }
        long
    }
}

pub(super) fn index(seq: Seq) -> usize {
    usize::try_from(seq).unwrap()
}

pub(super) fn key_of(body: &[u8]) -> Key {
    Sha256::digest(body).to_vec()
}

impl Mem {
    pub(super) fn new(id: u64, own: Origin) -> Self {
        Self {
            id,
            minted: 0,
            own,
            logs: BTreeMap::new(),
            closes: Closes::default(),
            rows: BTreeMap::new(),
            staged: BTreeMap::new(),
            giving: BTreeMap::new(),
            next_snapshot: 0,
            broken: false,
        }
    }

    pub(super) fn vector(&self) -> VersionVector {
        self.logs.iter().map(|(origin, log)| (*origin, log.head())).collect()
    }

    pub(super) fn head(&self, origin: Origin) -> Head {
        self.logs.get(&origin).map(MemLog::head).unwrap_or_default()
    }

    /// What it holds, whatever carried it.
    pub(super) fn bodies(&self) -> Vec<Vec<u8>> {
        self.rows.values().map(|row| row.op.body.clone()).collect()
    }

    pub(super) fn unfinished(&self) -> Unfinished {
        let staged = self.staged.keys().map(|(session, _)| *session);
        let session = self.rows.values().filter_map(|row| row.uncovered).chain(staged).max().unwrap_or(0);
        Unfinished { rows: self.uncovered(), session }
    }

    pub(super) fn uncovered(&self) -> u64 {
        self.rows.values().filter(|row| row.uncovered.is_some()).count() as u64
    }

    pub(super) fn mint(&mut self) -> Origin {
        self.minted += 1;
        self.own = Origin((self.id + 1) * 1_000_000 + self.minted);
        self.own
    }

    fn fold(&mut self, op: &Op) {
        let row = Row { op: Op { hlc: Hlc(0), ..op.clone() }, uncovered: None };
        self.rows.entry(key_of(&op.body)).or_insert(row);
    }

    /// Appends ops of our own.
    pub(super) fn commit(&mut self, ops: Vec<Op>) -> OpBatch {
        let origin = self.own;
        assert!(self.closes.end(origin).is_none(), "a write under an origin that has ended");
        let before = self.head(origin);
        for op in &ops {
            self.fold(op);
            self.logs.entry(origin).or_default().push(op.clone());
        }
        OpBatch { origin, before, ops }
    }

    pub(super) fn apply(&mut self, mut batch: OpBatch) -> Vec<Input> {
        let origin = batch.origin;
        if self.broken {
            return vec![Input::NotApplied { origin, head: None }];
        }
        let end = self.closes.end(origin).unwrap_or(u64::MAX);
        batch.ops.truncate(index(end.saturating_sub(batch.before.seq).min(1 << 20)));
        let head = self.head(origin);
        let continues = if head.seq == 0 { batch.before.seq == 0 } else { head == batch.before };
        if !continues {
            return vec![Input::NotApplied { origin, head: Some(head) }];
        }
        let mut inputs = vec![];
        if origin == self.own {
            inputs.push(Input::Origin(self.mint()));
        }
        if !batch.ops.is_empty() {
            let new = MemLog { base: batch.before.hash, ..MemLog::default() };
            let mut log = self.logs.remove(&origin).unwrap_or(new);
            for op in batch.ops {
                self.fold(&op);
                log.push(op);
            }
            self.logs.insert(origin, log);
        }
        inputs.push(Input::Applied { origin, head: self.head(origin) });
        inputs
    }

    pub(super) fn read(&self, link: LinkId, origin: Origin, from: Seq, bytes_max: usize) -> Input {
        let Some(log) = self.logs.get(&origin).filter(|log| from <= log.head().seq) else {
            return Input::Read { link, origin, batch: None };
        };
        let before = index(from) - 1;
        if before < log.floor {
            return Input::ReadBelow { link, origin, floor: log.floor as u64 };
        }
        let mut bytes = 0;
        let fits = |op: &&Op| {
            bytes += op.wire_len();
            bytes <= bytes_max || bytes == op.wire_len()
        };
        let ops = log.ops[before - log.floor..].iter().take(BATCH_OPS_MAX).take_while(fits).cloned().collect();
        let before = Head { seq: before as u64, hash: log.at(before) };
        Input::Read { link, origin, batch: Some(OpBatch { origin, before, ops }) }
    }

    /// Does what a replica wants of the store, and answers what it is to be told.
    pub(super) fn work(&mut self, output: Output) -> Vec<Input> {
        match output {
            Output::Apply(batch) => self.apply(batch),
            Output::End(closes) => self.end(&closes),
            Output::LeaveOrigin(origin) => self.leave(origin),
            Output::Read { link, origin, from, bytes_max } => vec![self.read(link, origin, from, bytes_max)],
            Output::Compare { link, origin, marks } => {
                vec![Input::Compared { link, origin, found: self.compare(origin, &marks) }]
            }
            Output::Ask { link, ask } => vec![Input::Answer { link, answer: self.answer(link, ask) }],
            Output::CompareParts { session, after, parts, .. } => {
                vec![Input::PartsCompared { session, differ: self.differing(&after, &parts) }]
            }
            Output::Take { session, what } => self.take(session, what),
            Output::Adopt => self.adopt(),
            Output::Digest => vec![Input::Digest(self.digest())],
            other => panic!("{other:?} is not for the store"),
        }
    }

    /// What was in memory alone is gone.
    pub(super) fn stop(&mut self) {
        self.giving.clear();
    }

    /// What [`Input::Logs`] says, after the fresh origin if one was made since `own`.
    pub(super) fn logs_now(&self, own: Origin) -> Vec<Input> {
        let fresh = (own != self.own).then_some(Input::Origin(self.own));
        fresh.into_iter().chain([Input::Logs { vector: self.vector(), closes: self.closes.clone() }]).collect()
    }

    pub(super) fn end(&mut self, closes: &[Close]) -> Vec<Input> {
        if self.broken {
            return vec![];
        }
        let own = self.own;
        closes.iter().for_each(|close| self.close(*close));
        self.logs_now(own)
    }

    pub(super) fn leave(&mut self, origin: Origin) -> Vec<Input> {
        if self.broken || origin != self.own {
            return vec![];
        }
        vec![Input::Origin(self.mint())]
    }

    pub(super) fn close(&mut self, close: Close) {
        if !self.closes.join(close) {
            return;
        }
        if close.origin == self.own {
            self.mint();
        }
        if self.head(close.origin).seq > close.seq {
            let log = self.logs.remove(&close.origin).unwrap();
            self.install(close.origin, log);
        }
    }

    /// Puts a log in: cut where its origin has ended, joined with one of the same name, parted where they differ.
    pub(super) fn install(&mut self, origin: Origin, mut log: MemLog) {
        if let Some(end) = self.closes.end(origin)
            && log.head().seq > end
        {
            let (kept, rest) = log.split(index(end));
            self.install(branch_name(Close { origin, seq: end }, rest.hashes[0]), rest);
            log = kept;
        }
        if log.hashes.is_empty() {
            return;
        }
        let Some(ours) = self.logs.remove(&origin) else {
            self.logs.insert(origin, log);
            return;
        };
        if origin == self.own && log.hashes.len() > ours.hashes.len() {
            self.mint();
        }
        match ours.parts(&log) {
            None => drop(self.logs.insert(origin, ours.join(log))),
            Some(seq) => {
                self.close(Close { origin, seq: seq as u64 });
                self.install(origin, ours);
                self.install(origin, log);
            }
        }
    }

    pub(super) fn compact(&mut self, origin: Origin, upto: Seq) {
        let Some(log) = self.logs.get_mut(&origin) else { return };
        let floor = index(upto).min(log.hashes.len()).max(log.floor);
        log.ops.drain(..floor - log.floor);
        log.floor = floor;
    }

    pub(super) fn compare(&self, origin: Origin, marks: &[Head]) -> Comparison {
        let Some(log) = self.logs.get(&origin) else { return Comparison::Unknown };
        let agrees = |mark: &Head| log.at(index(mark.seq)) == mark.hash;
        let within: Vec<&Head> = marks.iter().filter(|mark| mark.seq <= log.head().seq).collect();
        let Some(differ) = within.iter().position(|mark| !agrees(mark)) else { return Comparison::Same };
        if within[differ].seq == 0 {
            return Comparison::Parted(0);
        }
        let low = differ.checked_sub(1).map(|at| within[at].seq);
        let high = within[differ].seq;
        if low.is_some_and(|low| low + 1 == high) {
            return Comparison::Parted(high - 1);
        }
        // Few marks, so that a comparison takes several rounds.
        let from = low.unwrap_or(0);
        let mut seqs: Vec<Seq> = (0..=4).map(|i| from + (high - from) * i / 4).collect();
        seqs.dedup();
        Comparison::Narrow(seqs.into_iter().map(|seq| Head { seq, hash: log.at(index(seq)) }).collect())
    }
}
