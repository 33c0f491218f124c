//! Ops that all live members hold are compacted: their hashes stay, and so does all that they did.

use super::catalogue::{edit, product};
use super::forks::{long, parted};
use super::*;
use crate::model::clock::Hlc;
use crate::model::close::{Close, branch_name};
use crate::model::op::{Body, Op};
use crate::model::vector::VersionVector;
use crate::store::{Change, KEEP_MS, LAPSE_MS, LogSizes, OpsRead, Remember};
use crate::sync::{Comparison, MemberAck};

const DAY: u64 = 24 * HOUR;

fn key(n: u8) -> ([u8; 32], TillId) {
    ([n; 32], TillId::of_public_key(&[n; 32]))
}

fn admit(n: u8) -> Request {
    let (public_key, till) = key(n);
    Request::Admit { till, public_key, pos_id: format!("POS-{n}"), pos_name: format!("Caisse {n}") }
}

fn acks(till: &mut Till, n: u8, heads: &[(Origin, Head)], seen_run_ms: u64) {
    let ack = MemberAck { till: key(n).1, stamp: seen_run_ms, level: 1, heads: heads.iter().copied().collect() };
    till.ask(Request::Remember(Remember::Ack { ack, seen_run_ms })).unwrap();
}

pub(super) fn compact(till: &mut Till, run_ms: u64) -> usize {
    match till.ask(Request::Compact { run_ms, ops_max: usize::MAX }) {
        Ok(Reply::Compacted { ops, more: false }) => ops,
        other => panic!("{other:?}"),
    }
}

fn head_at(till: &mut Till, origin: Origin, seq: u64) -> Head {
    Head { seq, hash: till.reader().hashes(origin, seq, 1).unwrap()[0] }
}

/// A till of a store of three, which sold ten times.
fn of_three() -> (Till, Origin) {
    let mut till = Till::new(1);
    for n in [2, 3] {
        till.ask(admit(n)).unwrap();
    }
    (1..=10).for_each(|id| drop(till.sell(id, sale(&[(7, 1)]))));
    let origin = till.origin();
    (till, origin)
}

#[test]
fn the_floor_is_the_smallest_ack_and_seven_days_old() {
    let (mut till, origin) = of_three();
    assert_eq!(compact(&mut till, 1_000), 0);
    let (fifth, eighth) = (head_at(&mut till, origin, 5), head_at(&mut till, origin, 8));
    acks(&mut till, 2, &[(origin, eighth)], 2_000);
    assert_eq!(compact(&mut till, 1_000 + KEEP_MS), 0, "no word of the third till");
    acks(&mut till, 3, &[(origin, fifth)], 3_000);
    let (before, ops) = (digest(&mut till), till.ops(origin, 1).unwrap());
    let hashes = till.reader().hashes(origin, 1, 100).unwrap();
    assert_eq!(compact(&mut till, 999 + KEEP_MS), 0, "too young");
    assert_eq!(compact(&mut till, 1_000 + KEEP_MS), 5);
    assert_eq!(compact(&mut till, 1_000 + KEEP_MS), 0);

    let reader = till.reader();
    assert_eq!(reader.ops(origin, 1, 9, 0).unwrap(), OpsRead::Compacted(5));
    assert_eq!(reader.ops(origin, 5, 9, 0).unwrap(), OpsRead::Compacted(5));
    assert_eq!(till.ops(origin, 6).unwrap(), OpBatch { before: fifth, ops: ops.ops[5..].to_vec(), ..ops.clone() });
    assert_eq!(reader.ops(origin, 13, 9, 0).unwrap(), OpsRead::Nothing);
    assert_eq!(reader.hashes(origin, 1, 100).unwrap(), hashes);
    assert_eq!(reader.hashes(origin, 4, 3).unwrap(), hashes[3..6]);
    assert_eq!(digest(&mut till), before);
    let LogSizes { retained_ops, compacted_ops, file_bytes, free_bytes } = reader.log_sizes().unwrap();
    assert_eq!((retained_ops, compacted_ops), (7, 5));
    assert!(file_bytes > 100_000 && free_bytes < file_bytes);

    // Sales of today are kept though all have them, and selling goes on.
    till.restart();
    till.sell(11, sale(&[(7, 1)]));
    let last = till.head(origin);
    [2, 3].into_iter().for_each(|n| acks(&mut till, n, &[(origin, last)], 1_000 + KEEP_MS));
    assert_eq!(compact(&mut till, 1_000 + KEEP_MS), 7);
    assert_eq!(compact(&mut till, 1_000 + KEEP_MS + 6 * DAY), 0);
    assert_eq!(compact(&mut till, 1_000 + KEEP_MS + 13 * DAY), 1);
    assert_eq!(compact(&mut till, 1_000 + KEEP_MS + 20 * DAY), 0, "all of it");
    till.restart();
    assert_eq!((till.head(origin), till.stock(7)), (last, Quantity::units(-11)));
    till.sell(12, sale(&[(7, 1)]));
    assert_eq!(till.ops(origin, last.seq + 1).unwrap().before, last);
}

#[test]
fn acks_of_another_branch_and_tills_that_are_gone_move_nothing_and_hold_nothing() {
    let (mut till, origin) = of_three();
    compact(&mut till, 0);
    let now = 8 * DAY;
    let [third, fourth, last] = [3, 4, 12].map(|seq| head_at(&mut till, origin, seq));
    acks(&mut till, 2, &[(origin, third)], now);
    acks(&mut till, 3, &[(origin, last)], now);
    assert_eq!(compact(&mut till, now), 3);
    for elsewhere in [Head { seq: 8, hash: fourth.hash }, Head { seq: 40, hash: last.hash }, Head::default()] {
        acks(&mut till, 2, &[(origin, elsewhere)], now);
        assert_eq!(compact(&mut till, now), 0, "{elsewhere:?}");
    }
    // The clock jumps ten years: nobody has lapsed. Then the till is not heard of for long.
    till.now_ms += 3_650 * DAY;
    assert_eq!(compact(&mut till, now), 0);
    acks(&mut till, 3, &[(origin, last)], now + LAPSE_MS);
    assert_eq!(compact(&mut till, now + LAPSE_MS), 0);
    assert_eq!(compact(&mut till, now + LAPSE_MS + 1), 9);

    let (mut till, origin) = of_three();
    compact(&mut till, 0);
    let last = head_at(&mut till, origin, 12);
    acks(&mut till, 3, &[(origin, last)], now);
    assert_eq!(compact(&mut till, now), 0);
    till.ask(Request::Retire { till: key(2).1 }).unwrap();
    assert_eq!(compact(&mut till, now), 12, "a retired till needs nothing");
}

#[test]
fn a_till_alone_compacts_and_knows_how_many_sales_nobody_else_has() {
    let mut till = Till::new(1);
    (1..=4).for_each(|id| drop(till.sell(id, sale(&[(7, 1)]))));
    let (origin, reader) = (till.origin(), till.reader());
    assert_eq!(reader.only_here(None).unwrap(), 4);
    assert_eq!(compact(&mut till, 0) + compact(&mut till, KEEP_MS), 4);
    till.sell(5, sale(&[(7, 1)]));
    assert_eq!(reader.only_here(None).unwrap(), 5);
    assert_eq!(till.reader().only_here(None).unwrap(), 5, "as counted afresh");
    // A second till takes a snapshot, and says so.
    till.ask(admit(2)).unwrap();
    let fourth = head_at(&mut till, origin, 4);
    acks(&mut till, 2, &[(origin, fourth)], KEEP_MS);
    assert_eq!(reader.only_here(None).unwrap(), 1);
    let last = till.head(origin);
    acks(&mut till, 2, &[(origin, last)], KEEP_MS);
    till.sell(6, sale(&[(7, 1)]));
    assert_eq!(compact(&mut till, 3 * KEEP_MS) + compact(&mut till, 5 * KEEP_MS), 2);
    for id in 7..=8 {
        till.sell(id, sale(&[(7, 1)]));
        assert_eq!(reader.only_here(None).unwrap(), id as u64 - 5);
        assert_eq!(till.reader().only_here(None).unwrap(), id as u64 - 5);
    }
}

#[test]
fn what_is_held_stays_when_the_op_that_brought_it_is_compacted() {
    let mut till = Till::new(1);
    let mut peer = Till::new(2);
    peer.sell(1, sale(&[(7, 4)]));
    let origin = peer.origin();
    let mut sent = peer.ops(origin, 1).unwrap();
    sent.ops.push(Op { hlc: Hlc(1), kind: 900, schema: 1, body: vec![7; 3] });
    sent.ops[0].kind = 901;
    till.ask(Request::Apply(sent)).unwrap();
    assert_eq!(compact(&mut till, 0) + compact(&mut till, KEEP_MS), 2);
    assert_eq!(till.reader().counts().unwrap().held, 2);
    till.conn().execute("UPDATE held SET kind = 1 WHERE kind = 901", []).unwrap();
    till.restart();
    assert_eq!((till.reader().counts().unwrap().held, till.stock(7)), (1, Quantity::units(-4)));
}

#[test]
fn small_batches_go_on_where_the_last_one_ended() {
    let mut till = Till::new(1);
    till.ask(Request::Apply(long(1_000, 1_000, 1))).unwrap();
    till.sell(1, sale(&[(7, 1)]));
    let hashes = till.reader().hashes(Origin(9), 1, 2_000).unwrap();
    compact(&mut till, 0);
    let mut batches = Vec::new();
    loop {
        match till.ask(Request::Compact { run_ms: KEEP_MS, ops_max: 256 }).unwrap() {
            Reply::Compacted { ops: 0, more: false } => break,
            Reply::Compacted { ops, .. } => batches.push(ops),
            other => panic!("{other:?}"),
        }
        assert_eq!(till.reader().hashes(Origin(9), 1, 2_000).unwrap(), hashes);
    }
    assert_eq!(batches, [256, 256, 256, 233]);
    assert_eq!(compact(&mut till, KEEP_MS), 0);
    assert_eq!(till.reader().log_sizes().unwrap().retained_ops, 0);
}

#[test]
fn running_time_is_kept_hourly_and_only_grows() {
    let mut till = Till::new(1);
    let told = [0, HOUR - 1, HOUR, HOUR + 5, 0, 2 * HOUR].map(|run_ms| {
        compact(&mut till, run_ms);
        till.restart();
        till.reader().running_ms().unwrap()
    });
    assert_eq!(told, [0, 0, HOUR, HOUR, HOUR, 2 * HOUR]);
    acks(&mut till, 2, &[], 5 * HOUR);
    assert_eq!(till.reader().running_ms().unwrap(), 5 * HOUR);
}

#[test]
fn compacted_logs_are_compared_and_cut_like_others() {
    const OPS: u64 = 3_000;
    for (parts_after, compacted) in [(1_234, 2_000), (2_500, 2_000), (0, 1_000), (1_234, OPS as usize), (2_999, 3_000)]
    {
        let mut tills = [Till::new(1), Till::new(2)];
        for (till, branch) in tills.iter_mut().zip(1..) {
            till.ask(Request::Apply(long(OPS, parts_after, branch))).unwrap();
        }
        let [a, b] = &mut tills;
        compact(a, 0);
        a.ask(Request::Compact { run_ms: KEEP_MS, ops_max: compacted }).unwrap();
        let (found, probes) = parted(a, b, Origin(9));
        assert_eq!(found, Comparison::Parted(parts_after));
        assert!(probes <= 4);
        let close = Close { origin: Origin(9), seq: parts_after };
        let hashes = a.reader().hashes(Origin(9), 1, OPS as usize).unwrap();
        let name = branch_name(close, hashes[parts_after as usize]);
        tills.iter_mut().for_each(|till| drop(till.ask(Request::End(vec![close])).unwrap()));
        tills[0].restart();
        let [a, b] = &mut tills;
        let reader = a.reader();
        let (common, beyond) = hashes.split_at(parts_after as usize);
        assert_eq!(reader.hashes(Origin(9), 1, OPS as usize).unwrap(), common);
        assert_eq!(reader.hashes(name, 1, OPS as usize).unwrap(), beyond);
        let floor = (compacted as u64).saturating_sub(parts_after);
        let first = reader.ops(name, 1, 1, 0).unwrap();
        assert!(if floor > 0 { first == OpsRead::Compacted(floor) } else { first.batch().is_some() });
        let sizes = reader.log_sizes().unwrap();
        assert_eq!((sizes.retained_ops, sizes.compacted_ops), (OPS - compacted as u64, compacted as u64));
        // The other branch comes as any log does.
        let theirs: VersionVector = b.reader().vector().unwrap();
        a.pull(b, 5_000);
        assert_eq!(theirs.behind(&a.reader().vector().unwrap()), OPS - parts_after);
        assert_eq!(a.reader().vector().unwrap().behind(&theirs), 0);
    }
}

#[test]
fn a_record_comes_again_under_another_origin_after_its_op_was_compacted() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    let origin = till.origin();
    let ticket = till.ops(origin, 1).unwrap().ops.remove(0);
    assert!(matches!(Body::from_op(&ticket), Ok(Body::Ticket(_))));
    compact(&mut till, 0);
    compact(&mut till, KEEP_MS);
    let again = OpBatch { origin: Origin(9), before: Head::default(), ops: vec![ticket] };
    till.ask(Request::Apply(again.clone())).unwrap();
    assert_eq!(till.stock(7), Quantity::units(-1));
    assert_eq!(till.ops(Origin(9), 1).unwrap(), again);
}

#[test]
fn a_sale_waits_for_one_batch_of_compaction_at_most() {
    const BATCH: usize = 128;
    let mut till = Till::new(1);
    (1..=500).for_each(|id| drop(till.sell(id, sale(&[(7, 1)]))));
    let (origin, sold) = (till.origin(), 500);
    compact(&mut till, 0);
    let (mut batches, mut total) = (0, 0);
    loop {
        let Ok(Reply::Compacted { ops, more }) = till.ask(Request::Compact { run_ms: KEEP_MS, ops_max: BATCH }) else {
            panic!("not compacted");
        };
        assert!(ops <= BATCH, "{ops} ops while a sale may wait");
        (batches, total) = (batches + 1, total + ops);
        if !more {
            break;
        }
        // What was asked for meanwhile is next, and is in whole.
        till.sell(1_000 + batches as u128, sale(&[(7, 1)]));
        assert_eq!(till.reader().log_sizes().unwrap().compacted_ops, total as u64);
    }
    assert_eq!((batches, total), (sold / BATCH + 1, till.head(origin).seq as usize - (batches - 1)));
    assert_eq!(till.stock(7), Quantity::units(-(sold as i64) - batches as i64 + 1));
}

/// Bytes of the file that hold something.
fn used(till: &mut Till) -> (u64, LogSizes) {
    let sizes = till.reader().log_sizes().unwrap();
    (sizes.file_bytes - sizes.free_bytes, sizes)
}

/// A price list that is written again every day is no more to keep after a year than after two weeks, but for the hashes of its ops.
#[test]
fn a_file_is_bounded_by_what_is_alive_and_a_week_of_ops() {
    const PRODUCTS: u128 = 200;
    const HASH_ROW: u64 = 64;
    let mut till = Till::new(1);
    let day_of_prices = |till: &mut Till, day: u64, compacting: bool| {
        let requests = (0..PRODUCTS).map(|id| {
            let fields = product(&format!("SKU-{id}"), &format!("Produit {id}, prix du jour {day}"));
            edit(id, Change::Put(fields))
        });
        till.execute(requests.collect()).replies.into_iter().for_each(|reply| drop(reply.unwrap()));
        if compacting {
            compact(till, day * DAY);
        }
        used(till)
    };
    let (_, first) = day_of_prices(&mut till, 0, true);
    let ops_a_day = first.retained_ops;
    let after: Vec<(u64, LogSizes)> = (1..=60).map(|day| day_of_prices(&mut till, day, true)).collect();
    let (early, late) = (after[19], after[59]);
    assert_eq!((early.1.retained_ops, late.1.retained_ops), (7 * ops_a_day, 7 * ops_a_day), "a week of them");
    let grown = late.0.saturating_sub(early.0);
    assert!(grown <= 40 * ops_a_day * HASH_ROW, "{grown} bytes in 40 days");
    // Pages that became free are written again.
    let file = late.1.file_bytes - early.1.file_bytes;
    assert!(file <= 40 * ops_a_day * HASH_ROW + early.1.free_bytes, "the file grew by {file} bytes");

    // Where nothing is compacted it does grow: the same again, many times over.
    let before = used(&mut till).0;
    for day in 61..=100 {
        day_of_prices(&mut till, day, false);
    }
    let kept = used(&mut till).0 - before;
    assert!(kept > 3 * grown.max(40 * ops_a_day * HASH_ROW / 4), "{kept} bytes kept, {grown} where compacted");
}
