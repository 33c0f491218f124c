//! Cards cloned and set back, logs cut, compacted and put in from snapshots, in any order: in the end all tills hold the same logs.

use proptest::prelude::*;

use super::forks::{logs, parted};
use super::installs::take_logs;
use super::*;
use crate::model::close::Close;
use crate::store::{KEEP_MS, OpsRead};
use crate::sync::Comparison;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A till writes some ops of its own.
    Write(usize, u64),
    /// A till's card is copied, for later.
    Save(usize),
    /// A till goes on with a copy of some till's card, its own or another's.
    Load(usize, usize),
    /// A till compacts some ops.
    Compact(usize, usize),
    /// Two tills are linked until they hold the same.
    Link(usize, usize),
    /// A till takes the logs of another as from a snapshot.
    Take(usize, usize),
    /// Two tills are linked, and cut off after one batch of each log.
    Glimpse(usize, usize),
}

const TILLS: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let till = 0..TILLS;
    prop_oneof![
        4 => (till.clone(), 1u64..6).prop_map(|(i, n)| Step::Write(i, n)),
        2 => till.clone().prop_map(Step::Save),
        2 => (till.clone(), till.clone()).prop_map(|(i, j)| Step::Load(i, j)),
        2 => (till.clone(), 1usize..9).prop_map(|(i, n)| Step::Compact(i, n)),
        2 => (till.clone(), till.clone()).prop_map(|(i, j)| Step::Link(i, j)),
        2 => (till.clone(), till.clone()).prop_map(|(i, j)| Step::Take(i, j)),
        3 => (till.clone(), till).prop_map(|(i, j)| Step::Glimpse(i, j)),
    ]
}

struct Shop {
    tills: [Till; TILLS],
    saved: [Option<Till>; TILLS],
    seed: u64,
    run_ms: u64,
    session: u64,
}

impl Shop {
    fn new() -> Self {
        let mut tills = [Till::new(1), Till::new(2), Till::new(3)];
        tills.iter_mut().for_each(hasten);
        Self { tills, saved: [None, None, None], seed: 10, run_ms: 0, session: 0 }
    }

    fn clone_of(&mut self, till: usize) -> Till {
        self.seed += 1;
        let mut copy = self.tills[till].clone_card(self.seed);
        hasten(&mut copy);
        copy
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Write(i, ops) => {
                for _ in 0..ops {
                    self.seed += 1;
                    let till = TillId(u128::from(self.seed).to_be_bytes());
                    self.tills[i].ask(Request::Retire { till }).unwrap();
                }
            }
            Step::Save(i) => self.saved[i] = Some(self.clone_of(i)),
            Step::Load(i, j) => {
                if let Some(mut saved) = self.saved[j].take() {
                    // The till's own key is on the box, not on the card.
                    saved.options.author = self.tills[i].options.author.clone();
                    saved.restart();
                    hasten(&mut saved);
                    self.tills[i] = saved;
                }
            }
            Step::Compact(i, ops_max) => {
                for _ in 0..2 {
                    self.run_ms += KEEP_MS;
                    let request = Request::Compact { run_ms: self.run_ms, ops_max };
                    self.tills[i].ask(request).unwrap();
                }
            }
            Step::Link(i, j) if i != j => self.link(i, j),
            Step::Take(i, j) if i != j => {
                self.session += 1;
                let [a, b] = self.tills.get_disjoint_mut([i, j]).unwrap();
                // Where it parts below our head the replica finds that out first, by comparing.
                end_forks(a, b);
                take_logs(a, self.session, b);
            }
            Step::Glimpse(i, j) if i != j => {
                let [a, b] = self.tills.get_disjoint_mut([i, j]).unwrap();
                let theirs = b.reader();
                for (origin, _) in theirs.vector().unwrap().0 {
                    let from = a.head(origin).seq + 1;
                    if let OpsRead::Batch(batch) = theirs.ops(origin, from, 2, usize::MAX).unwrap() {
                        a.ask(Request::Apply(batch)).unwrap();
                    }
                }
            }
            Step::Link(..) | Step::Take(..) | Step::Glimpse(..) => {}
        }
    }

    fn link(&mut self, i: usize, j: usize) {
        let [a, b] = self.tills.get_disjoint_mut([i, j]).unwrap();
        for _ in 0..60 {
            end_forks(a, b);
            if logs(a) == logs(b) {
                return;
            }
            for _ in 0..2 {
                if !pull(a, b) {
                    self.session += 1;
                    take_logs(a, self.session, b);
                    end_forks(a, b);
                }
                std::mem::swap(a, b);
            }
        }
        panic!("they do not become equal: {:?} {:?}", logs(a), logs(b));
    }
}

/// Makes commits cheap: nothing here loses power.
fn hasten(till: &mut Till) {
    till.conn().execute_batch("PRAGMA synchronous = OFF").unwrap();
}

/// Both know the ends of both, and no log of theirs parts.
fn end_forks(a: &mut Till, b: &mut Till) {
    loop {
        for _ in 0..2 {
            let closes: Vec<Close> = a.reader().closes().unwrap().iter().collect();
            b.ask(Request::End(closes)).unwrap();
            std::mem::swap(a, b);
        }
        let fork = logs(a).0.0.into_keys().find_map(|origin| match parted(a, b, origin).0 {
            Comparison::Parted(seq) => Some(Close { origin, seq }),
            _ => None,
        });
        let Some(fork) = fork else { return };
        a.ask(Request::End(vec![fork])).unwrap();
    }
}

/// Whether all that another till has more could be had as ops.
fn pull(a: &mut Till, b: &mut Till) -> bool {
    let theirs = b.reader();
    let mut whole = true;
    for (origin, head) in theirs.vector().unwrap().0 {
        let own = a.head(origin);
        if own.seq < head.seq {
            match theirs.ops(origin, own.seq + 1, usize::MAX, usize::MAX).unwrap() {
                OpsRead::Batch(batch) => assert!(matches!(a.ask(Request::Apply(batch)), Ok(Reply::Applied { .. }))),
                OpsRead::Compacted(_) => whole = false,
                OpsRead::Nothing => panic!("no ops of {origin} after {own:?}"),
            }
        }
    }
    whole
}

/// What holds of a till's logs at any time.
fn check(till: &mut Till) {
    let reader = till.reader();
    let closes = reader.closes().unwrap();
    let own = till.origin();
    assert_eq!(closes.end(own), None, "a closed origin is written under");
    for log in reader.log_headers().unwrap() {
        assert!(closes.end(log.origin).is_none_or(|end| log.head.seq <= end), "{log:?} goes beyond its end");
        let hashes = reader.hashes(log.origin, 1, usize::MAX).unwrap();
        assert_eq!((hashes.len() as u64, hashes.last()), (log.head.seq, Some(&log.head.hash)));
        let first = match reader.ops(log.origin, 1, 1, 0).unwrap() {
            OpsRead::Compacted(floor) => floor + 1,
            _ => 1,
        };
        match reader.ops(log.origin, first, usize::MAX, usize::MAX).unwrap() {
            OpsRead::Batch(batch) => {
                let mut at = batch.before;
                assert!(at.seq == 0 || hashes[at.seq as usize - 1] == at.hash);
                for op in &batch.ops {
                    at = at.after_all(std::slice::from_ref(op));
                    assert_eq!(hashes[at.seq as usize - 1], at.hash);
                }
                assert_eq!(at, log.head);
            }
            other => assert_eq!((other, first), (OpsRead::Nothing, log.head.seq + 1)),
        }
    }
    for sql in [
        "SELECT count(*) FROM op WHERE origin_idx NOT IN (SELECT idx FROM origin)",
        "SELECT count(*) FROM hashes WHERE origin_idx NOT IN (SELECT idx FROM origin)",
        "SELECT count(*) FROM staged",
    ] {
        assert_eq!(till.conn().query_row(sql, [], |row| row.get::<_, i64>(0)), Ok(0), "{sql}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn logs_become_equal_whatever_was_cloned_cut_compacted_or_put_in(steps in prop::collection::vec(step(), 10..50)) {
        let mut shop = Shop::new();
        for step in steps {
            shop.step(step);
            shop.tills.iter_mut().for_each(check);
        }
        for _ in 0..3 {
            for (i, j) in [(0, 1), (1, 2), (2, 0)] {
                shop.link(i, j);
            }
        }
        shop.tills.iter_mut().for_each(check);
        let wanted = logs(&mut shop.tills[0]);
        for till in &mut shop.tills {
            till.restart();
            prop_assert_eq!(logs(till), wanted.clone());
        }
    }
}
