//! Logs of a snapshot: hashes and heads without ops, joined with what is here.

use super::compaction::compact;
use super::forks::{logs, long, meet};
use super::*;
use crate::model::close::{Close, Closes, branch_name};
use crate::model::op::RunningHash;
use crate::store::{KEEP_MS, OpsRead};
use crate::sync::{LogHeader, Taking};

/// What a giver tells of its logs.
struct Given {
    closes: Vec<Close>,
    logs: Vec<(LogHeader, Vec<RunningHash>)>,
}

fn given(till: &mut Till) -> Given {
    let reader = till.reader();
    let logs = reader.log_headers().unwrap().into_iter().map(|log| {
        let hashes = reader.hashes(log.origin, 1, usize::MAX).unwrap();
        (log, hashes)
    });
    Given { closes: reader.closes().unwrap().iter().collect(), logs: logs.collect() }
}

fn take(till: &mut Till, session: u64, what: Taking) -> Result<Executed, StoreError> {
    let mut done = till.execute(vec![Request::Take { session, what }]);
    done.replies.pop().unwrap().map(|_| done)
}

/// Takes the hashes of a log from an op on, some at a time.
fn stage(till: &mut Till, session: u64, (log, hashes): &(LogHeader, Vec<RunningHash>), from: u64) {
    for (n, piece) in (0..).zip(hashes[from as usize - 1..].chunks(700)) {
        let (origin, base, from) = (log.origin, log.base, from + 700 * n);
        take(till, session, Taking::Hashes { origin, base, from, hashes: piece.to_vec() }).unwrap();
    }
}

/// Takes the hashes of all logs that go beyond ours: where they continue ours, from there.
fn stage_all(till: &mut Till, session: u64, given: &Given) {
    for log in &given.logs {
        let own = till.head(log.0.origin);
        if own.seq < log.0.head.seq {
            let agrees = own.seq > 0 && log.1[own.seq as usize - 1] == own.hash;
            stage(till, session, log, if agrees { own.seq + 1 } else { 1 });
        }
    }
}

fn finish(till: &mut Till, session: u64, given: &Given) -> Result<Executed, StoreError> {
    let logs = given.logs.iter().map(|(log, _)| log.clone()).collect();
    take(till, session, Taking::Logs { closes: given.closes.clone(), logs })
}

/// Takes all logs of another till.
pub(super) fn take_logs(till: &mut Till, session: u64, from: &mut Till) -> Executed {
    let given = given(from);
    stage_all(till, session, &given);
    finish(till, session, &given).unwrap()
}

fn staged(till: &mut Till) -> i64 {
    till.conn().query_row("SELECT count(*) FROM staged", [], |row| row.get(0)).unwrap()
}

/// Two tills with the same log of `ours` and `theirs` ops, parted after some op.
fn two(ours: u64, theirs: u64, parts_after: u64) -> [Till; 2] {
    let mut tills = [Till::new(1), Till::new(2)];
    for (till, n, branch) in [(0, ours, 1), (1, theirs, 2)] {
        tills[till].ask(Request::Apply(long(n, parts_after, branch))).unwrap();
    }
    tills
}

const LOG: Origin = Origin(9);

#[test]
fn a_new_till_has_all_logs_without_their_ops_and_goes_on_from_there() {
    let mut giver = Till::new(1);
    (1..=3).for_each(|id| drop(giver.sell(id, sale(&[(7, 1)]))));
    giver.ask(Request::Apply(long(2_000, 2_000, 1))).unwrap();
    compact(&mut giver, 0);
    giver.ask(Request::Compact { run_ms: KEEP_MS, ops_max: 500 }).unwrap();
    let mut till = Till::new(2);
    let done = take_logs(&mut till, 1, &mut giver);
    let now = done.committed.logs.unwrap();
    assert_eq!((&now.vector, &now.closes), (&logs(&mut giver).0, &Closes::default()));
    assert_eq!(logs(&mut till), logs(&mut giver));
    for (log, hashes) in given(&mut giver).logs {
        assert_eq!(till.reader().hashes(log.origin, 1, usize::MAX).unwrap(), hashes);
        assert_eq!(till.reader().ops(log.origin, 1, 1, 0).unwrap(), OpsRead::Compacted(log.head.seq));
    }
    assert_eq!(till.reader().log_headers().unwrap(), giver.reader().log_headers().unwrap());
    giver.sell(4, sale(&[(7, 1)]));
    till.pull(&mut giver, 10);
    till.sell(5, sale(&[(7, 1)]));
    giver.pull(&mut till, 10);
    till.restart();
    assert_eq!(logs(&mut till), logs(&mut giver));
    // Once more, with nothing new in it: it is told all the same.
    assert!(take_logs(&mut till, 2, &mut giver).committed.logs.is_some());
    assert_eq!(staged(&mut till), 0);
    assert_eq!(till.reader().ops(giver.origin(), 4, 1, 0).unwrap().batch().map(|batch| batch.before.seq), Some(3));
}

#[test]
fn of_one_chain_the_longer_log_stays() {
    // Longer there: our ops would leave a gap.
    let [mut till, mut giver] = two(900, 2_000, 2_000);
    compact(&mut till, 0);
    till.ask(Request::Compact { run_ms: KEEP_MS, ops_max: 130 }).unwrap();
    take_logs(&mut till, 1, &mut giver);
    assert_eq!(logs(&mut till), logs(&mut giver));
    assert_eq!(till.reader().hashes(LOG, 1, 5_000).unwrap(), giver.reader().hashes(LOG, 1, 5_000).unwrap());
    assert_eq!(till.reader().ops(LOG, 131, 1, 0).unwrap(), OpsRead::Compacted(2_000));
    assert_eq!(till.reader().log_sizes().unwrap().compacted_ops, 2_000);
    // Longer here, or as long: ours stays as it is.
    for theirs in [900, 2_000] {
        let [mut till, mut giver] = two(2_000, theirs, 2_000);
        let before = logs(&mut till);
        take_logs(&mut till, 1, &mut giver);
        assert_eq!(logs(&mut till), before);
        assert!(till.ops(LOG, 1).is_some());
    }
    // It grew here while the hashes came.
    for grown in [1_500, 2_000, 2_100] {
        let [mut till, mut giver] = two(900, 2_000, 3_000);
        let given = given(&mut giver);
        stage_all(&mut till, 1, &given);
        let mut more = long(grown, 3_000, 1);
        more.ops.drain(..900);
        more.before = till.head(LOG);
        till.ask(Request::Apply(more)).unwrap();
        finish(&mut till, 1, &given).unwrap();
        assert_eq!(till.head(LOG).seq, grown.max(2_000));
        assert_eq!(till.reader().hashes(LOG, 1, 2_000).unwrap(), given.logs[0].1);
    }
}

#[test]
fn where_a_log_parts_from_ours_its_origin_ends_and_both_branches_are_here() {
    for (ours, theirs, parts_after) in [(900, 2_000, 300), (2_000, 900, 300), (500, 2_000, 0), (900, 2_000, 899)] {
        let [mut till, mut giver] = two(ours, theirs, parts_after);
        let given = given(&mut giver);
        stage_all(&mut till, 1, &given);
        let first = till.reader().hashes(LOG, parts_after + 1, 1).unwrap()[0];
        if theirs < ours {
            let before = logs(&mut till);
            assert!(matches!(finish(&mut till, 1, &given), Err(StoreError::Rejected(_))), "its hashes were not taken");
            assert_eq!(logs(&mut till), before);
            stage(&mut till, 1, &given.logs[0], 1);
        }
        finish(&mut till, 1, &given).unwrap();
        let close = Close { origin: LOG, seq: parts_after };
        assert_eq!(till.reader().closes().unwrap().iter().collect::<Vec<_>>(), [close]);
        let names = [branch_name(close, first), branch_name(close, given.logs[0].1[parts_after as usize])];
        let vector = logs(&mut till).0;
        assert_eq!(names.map(|name| vector.seq(name)), [ours - parts_after, theirs - parts_after]);
        assert_eq!((vector.seq(LOG), vector.0.len()), (parts_after, if parts_after > 0 { 3 } else { 2 }));
        assert_eq!(till.reader().hashes(names[1], 1, 5_000).unwrap(), given.logs[0].1[parts_after as usize..]);
        assert!(till.ops(names[0], 1).is_some(), "the ops of ours stay");
        till.restart();
        // The other does as is told, and so they hold the same.
        giver.ask(Request::End(vec![close])).unwrap();
        giver.pull(&mut till, 5_000);
        assert_eq!(logs(&mut giver), logs(&mut till));
    }
}

#[test]
fn a_log_that_grew_on_another_branch_while_its_hashes_came_parts_too() {
    // Hashes came from 901 on, for up to there the logs agree.
    let [mut till, mut giver] = two(900, 2_000, 900);
    let given = given(&mut giver);
    stage_all(&mut till, 1, &given);
    let mut more = long(1_000, 900, 3);
    more.ops.drain(..900);
    more.before = till.head(LOG);
    till.ask(Request::Apply(more)).unwrap();
    finish(&mut till, 1, &given).unwrap();
    let (vector, closes) = logs(&mut till);
    assert_eq!((closes.end(LOG), vector.seq(LOG), vector.0.len()), (Some(900), 900, 3));
    let name = branch_name(Close { origin: LOG, seq: 900 }, given.logs[0].1[900]);
    assert_eq!(till.reader().hashes(name, 1, 5_000).unwrap(), given.logs[0].1[900..]);
    assert_eq!(staged(&mut till), 0);
}

#[test]
fn ends_are_applied_to_our_logs_and_to_theirs() {
    // Known to the giver: our log is cut, and its branch joined with the giver's.
    let [mut till, mut giver] = two(700, 1_000, 1_000);
    giver.ask(Request::End(vec![Close { origin: LOG, seq: 400 }])).unwrap();
    take_logs(&mut till, 1, &mut giver);
    assert_eq!(logs(&mut till), logs(&mut giver));
    // Known here: theirs is cut. Whether its hashes came whole, or from our end on.
    for from in [1, 401] {
        let [mut till, mut giver] = two(400, 1_000, 1_000);
        till.ask(Request::End(vec![Close { origin: LOG, seq: 400 }])).unwrap();
        let given = given(&mut giver);
        stage(&mut till, 1, &given.logs[0], from);
        finish(&mut till, 1, &given).unwrap();
        giver.ask(Request::End(vec![Close { origin: LOG, seq: 400 }])).unwrap();
        assert_eq!(logs(&mut till), logs(&mut giver));
        till.restart();
        for (log, hashes) in self::given(&mut giver).logs {
            assert_eq!(till.reader().hashes(log.origin, 1, 5_000).unwrap(), hashes);
        }
    }
    // Told after the hashes came, and below the place from which they came: it is begun anew.
    let [mut till, mut giver] = two(700, 1_000, 1_000);
    let given = given(&mut giver);
    stage_all(&mut till, 1, &given);
    till.ask(Request::End(vec![Close { origin: LOG, seq: 400 }])).unwrap();
    let before = logs(&mut till);
    assert!(matches!(finish(&mut till, 1, &given), Err(StoreError::Rejected(_))));
    assert_eq!(logs(&mut till), before);
    stage(&mut till, 2, &given.logs[0], 401);
    finish(&mut till, 2, &given).unwrap();
    giver.ask(Request::End(vec![Close { origin: LOG, seq: 400 }])).unwrap();
    assert_eq!(logs(&mut till), logs(&mut giver));
}

#[test]
fn our_own_origin_in_a_snapshot_is_never_written_under_again_where_it_goes_further() {
    let mut till = Till::new(1);
    (1..=3).for_each(|id| drop(till.sell(id, sale(&[(7, 1)]))));
    let origin = till.origin();
    let mut before = till.clone_card(5);
    let mut giver = Till::new(2);
    giver.pull(&mut till, 10);
    take_logs(&mut till, 1, &mut giver);
    assert_eq!(till.origin(), origin, "as far as here");
    till.sell(4, sale(&[(7, 1)]));
    giver.pull(&mut till, 10);
    let done = take_logs(&mut before, 1, &mut giver);
    assert_ne!(before.origin(), origin);
    assert_eq!(done.committed.origin, Some(before.origin()));
    assert_eq!(before.head(origin).seq, 4);
    // On another branch it ends, and nothing of it is lost.
    let mut other = till.clone_card(7);
    [5, 8].into_iter().for_each(|id| drop(till.sell(id, sale(&[(7, 1)]))));
    other.sell(6, sale(&[(7, 1)]));
    giver.pull(&mut till, 10);
    let done = take_logs(&mut other, 1, &mut giver);
    assert_ne!(other.origin(), origin);
    assert_eq!(done.committed.logs.map(|logs| logs.closes.end(origin)), Some(Some(4)));
    let mut heads: Vec<u64> = other.reader().log_headers().unwrap().iter().map(|log| log.head.seq).collect();
    heads.sort_unstable();
    assert_eq!(heads, [1, 2, 4], "both branches, and what they have in common");
    assert!(other.sell(7, sale(&[(7, 1)])).ticket.previous != [0; 32]);
}

#[test]
fn what_was_taken_for_a_snapshot_that_ended_is_dropped_with_the_next() {
    let [mut till, mut giver] = two(10, 2_000, 2_000);
    let first = given(&mut giver);
    stage_all(&mut till, 1, &first);
    assert_eq!((staged(&mut till), till.head(LOG).seq), (1, 10));
    // Others' logs get rows of their own meanwhile.
    till.ask(Request::Apply(OpBatch { origin: Origin(8), ..long(5, 5, 1) })).unwrap();
    let mut other = Till::new(3);
    other.ask(Request::Apply(OpBatch { origin: Origin(7), ..long(300, 300, 1) })).unwrap();
    take_logs(&mut till, 2, &mut other);
    assert_eq!((staged(&mut till), till.head(LOG).seq, till.head(Origin(7)).seq), (0, 10, 300));
    let hashes: i64 =
        till.conn().query_row("SELECT count(DISTINCT origin_idx) FROM hashes", [], |row| row.get(0)).unwrap();
    assert_eq!(hashes, 1, "nothing of the former one is left");
    stage_all(&mut till, 3, &first);
    till.restart();
    assert_eq!(staged(&mut till), 0, "no snapshot goes on after a start");
    take_logs(&mut till, 4, &mut giver);
    assert_eq!(till.head(LOG), giver.head(LOG));
    // Hashes that continue nothing, or are not those of the head.
    let gap = Taking::Hashes { origin: LOG, base: RunningHash::default(), from: 2_002, hashes: vec![] };
    assert!(matches!(take(&mut till, 4, gap), Err(StoreError::Rejected(_))));
    let mut till = Till::new(4);
    let mut wrong = given(&mut giver);
    wrong.logs[0].1[1_999] = RunningHash([9; 8]);
    stage_all(&mut till, 1, &wrong);
    assert!(matches!(finish(&mut till, 1, &wrong), Err(StoreError::Rejected(_))));
    wrong.logs[0].1.truncate(1_000);
    stage_all(&mut till, 2, &wrong);
    assert!(matches!(finish(&mut till, 2, &wrong), Err(StoreError::Rejected(_))));
    assert_eq!(logs(&mut till).0.0.len(), 0);
}

#[test]
fn a_fork_that_a_snapshot_brought_meets_the_ops_of_it() {
    // One till has a branch by its hashes alone, others have the ops: they meet and hold the same.
    let [mut a, mut b] = two(50, 60, 30);
    let mut fresh = Till::new(3);
    take_logs(&mut fresh, 1, &mut a);
    b.ask(Request::End(vec![Close { origin: LOG, seq: 30 }])).unwrap();
    meet(&mut a, &mut b);
    let second = given(&mut b);
    stage_all(&mut fresh, 2, &second);
    finish(&mut fresh, 2, &second).unwrap();
    assert_eq!(logs(&mut fresh), logs(&mut b));
}
