//! Snapshots and digests of the store in memory.

use std::ops::Bound;

use super::mem::{Given, Mem, MemLog, Row, index, key_of};
use super::*;

const TABLE: u16 = table::TICKET;

/// Rows of one part.
const PART_ROWS: usize = 8;

fn range<'a>(
    rows: &'a BTreeMap<Key, Row>,
    after: &Key,
    upto: Option<&Key>,
) -> impl Iterator<Item = (&'a Key, &'a Row)> {
    let end = upto.map_or(Bound::Unbounded, |key| Bound::Included(key.clone()));
    rows.range((Bound::Excluded(after.clone()), end))
}

fn ops<'a>(rows: impl Iterator<Item = (&'a Key, &'a Row)>) -> Vec<Op> {
    rows.map(|(_, row)| row.op.clone()).collect()
}

impl Mem {
    pub(super) fn answer(&mut self, link: LinkId, ask: SnapshotAsk) -> SnapshotAnswer {
        if ask == SnapshotAsk::Begin {
            if self.uncovered() > 0 {
                return SnapshotAnswer::NotNow;
            }
            self.next_snapshot += 1;
            let number = self.next_snapshot;
            let (logs, closes, rows) = (self.logs.clone(), self.closes.clone(), self.rows.clone());
            let header = |(origin, log): (&Origin, &MemLog)| LogHeader {
                origin: *origin,
                base: log.base,
                head: log.head(),
                hlc: Hlc(1),
                tail: [0; 32],
            };
            let begun = SnapshotAnswer::Begun {
                snapshot: number,
                closes: closes.iter().collect(),
                logs: logs.iter().map(header).collect(),
                tables: vec![(TABLE, rows.len() as u64)],
            };
            self.giving.insert(link, Given { number, logs, rows });
            return begun;
        }
        match self.giving.get(&link) {
            Some(given) => given.answer(ask),
            None => SnapshotAnswer::None,
        }
    }

    pub(super) fn differing(&self, after: &Key, parts: &[Part]) -> Vec<usize> {
        let mut after = after.clone();
        let mut differ = vec![];
        for (place, part) in parts.iter().enumerate() {
            if part_digest(&ops(range(&self.rows, &after, Some(&part.upto)))) != part.digest {
                differ.push(place);
            }
            after = part.upto.clone();
        }
        differ
    }

    pub(super) fn take(&mut self, session: u64, what: Taking) -> Vec<Input> {
        let taken = |done| Input::Taken { session, done };
        if self.broken {
            return vec![taken(false)];
        }
        match what {
            Taking::Rows { rows, .. } => {
                for op in rows {
                    let fresh = Row { op: op.clone(), uncovered: Some(session) };
                    let row = self.rows.entry(key_of(&op.body)).or_insert(fresh);
                    row.op = op;
                    row.uncovered = row.uncovered.map(|_| session);
                }
            }
            Taking::Same { after, upto, .. } => {
                let range = (Bound::Excluded(after), Bound::Included(upto));
                self.rows.range_mut(range).for_each(|(_, row)| row.uncovered = row.uncovered.map(|_| session));
            }
            Taking::Hashes { origin, base, from, mut hashes } => {
                let staged = self.staged.entry((session, origin)).or_insert((base, index(from) - 1, vec![]));
                assert_eq!(staged.1 + staged.2.len() + 1, index(from), "hashes in order");
                staged.2.append(&mut hashes);
            }
            Taking::Logs { closes, logs } => return self.take_logs(session, &closes, &logs, taken(true)),
        }
        vec![taken(true)]
    }

    fn take_logs(&mut self, session: u64, closes: &[Close], logs: &[LogHeader], taken: Input) -> Vec<Input> {
        let own = self.own;
        closes.iter().for_each(|close| self.close(*close));
        for log in logs {
            let Some((base, from, hashes)) = self.staged.remove(&(session, log.origin)) else {
                let ours = self.logs.get(&log.origin).expect("a log that does not go beyond ours");
                assert_eq!(ours.at(index(log.head.seq)), log.head.hash, "a branch was passed over");
                continue;
            };
            let mut all = self.logs.get(&log.origin).map(|ours| ours.hashes[..from].to_vec()).unwrap_or_default();
            assert_eq!(all.len(), from);
            all.extend(hashes);
            assert_eq!(all.last(), Some(&log.head.hash));
            let floor = all.len();
            self.install(log.origin, MemLog { base, hashes: all, floor, ops: vec![] });
        }
        self.rows.values_mut().filter(|row| row.uncovered == Some(session)).for_each(|row| row.uncovered = None);
        let mut inputs = self.logs_now(own);
        inputs.push(taken);
        inputs
    }

    pub(super) fn adopt(&mut self) -> Vec<Input> {
        if self.broken {
            return vec![];
        }
        let rows = self.rows.values_mut().filter(|row| row.uncovered.is_some()).take(20);
        let ops: Vec<Op> = rows
            .map(|row| {
                row.uncovered = None;
                row.op.clone()
            })
            .collect();
        let committed = (!ops.is_empty()).then(|| Input::Committed(self.commit(ops)));
        committed.into_iter().chain([Input::Adopted { left: self.uncovered() }]).collect()
    }

    pub(super) fn digest(&self) -> Option<StateDigest> {
        let open = |(origin, _): &(Origin, Head)| self.closes.end(*origin).is_none();
        let vector = vector_hash(&self.vector().0.into_iter().filter(open).collect());
        let share = |row: &Row| u128::from_be_bytes(key_of(&row.op.body)[..16].try_into().unwrap());
        let sum = self.rows.values().fold(0u128, |sum, row| sum.wrapping_add(share(row)));
        // Tables that only one side knows are not compared.
        (self.uncovered() == 0)
            .then(|| StateDigest { vector, sums: vec![(TABLE, sum), (1_000 + u16::try_from(self.id).unwrap(), 1)] })
    }
}

impl Given {
    fn answer(&self, ask: SnapshotAsk) -> SnapshotAnswer {
        match ask {
            SnapshotAsk::Parts { snapshot, table, after } if snapshot == self.number => {
                let mut parts = vec![];
                let rows: Vec<(&Key, &Row)> = range(&self.rows, &after, None).collect();
                for part in rows.chunks(PART_ROWS).take(3) {
                    parts.push(Part {
                        upto: part[part.len() - 1].0.clone(),
                        rows: u32::try_from(part.len()).unwrap(),
                        digest: part_digest(&ops(part.iter().copied())),
                    });
                }
                SnapshotAnswer::Parts { table, after, parts, last: rows.len() <= 3 * PART_ROWS }
            }
            SnapshotAsk::Rows { snapshot, table, after, upto } if snapshot == self.number => {
                let rows = ops(range(&self.rows, &after, Some(&upto)));
                SnapshotAnswer::Rows { table, after, upto, rows }
            }
            SnapshotAsk::Hashes { snapshot, origin, from } if snapshot == self.number => {
                let hashes = self.logs[&origin].hashes[index(from) - 1..].iter().take(50).copied().collect();
                SnapshotAnswer::Hashes { origin, from, hashes }
            }
            _ => SnapshotAnswer::None,
        }
    }
}

impl Mem {
    /// A row's bytes go bad on the card.
    pub(super) fn damage(&mut self) {
        self.rows.values_mut().next().unwrap().op.body[7] ^= 1;
    }

    /// A bug: a row is gone.
    pub(super) fn lose_a_row(&mut self) {
        drop(self.rows.pop_first());
    }
}
