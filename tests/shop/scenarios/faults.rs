//! Faults under load: processes killed at random, bad air, flapping cables, boxes that vanish, and a shop as large as they come.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::boxes::tickets;
use crate::hub::Air;
use crate::lan::{A, ALL, B, C, Name};
use crate::lib::eventually;
use crate::shop::Shop;
use crate::step::Step::{self, *};
use crate::{Scenario, is_full};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "sixteen-tills",
            tills: 16,
            shows: "sixteen tills find each other, and a sale on each is on all",
            steps: sixteen_tills,
        },
        Scenario {
            name: "bad-air",
            tills: 3,
            shows: "20 % of frames lost, the rest late, doubled or out of order: the shop meshes and becomes equal",
            steps: bad_air,
        },
        Scenario {
            name: "kill-at-random",
            tills: 3,
            shows: "tills killed at random moments while all sell: every acknowledged sale is everywhere, once",
            steps: kill_at_random,
        },
        Scenario {
            name: "flapping-cable",
            tills: 3,
            shows: "a cable that comes and goes loses no sale, and busies no processor",
            steps: flapping_cable,
        },
        Scenario {
            name: "half-open",
            tills: 2,
            shows: "a box that vanishes without a word is noticed, and linked again when it is back",
            steps: half_open,
        },
    ]
}

// ------------------------------------------------------------------------------------------------------------ kills

fn kill_at_random() -> Vec<Step> {
    vec![
        Start(&[A, B, C]),
        Linked(&[A, B, C], 10),
        Product(A, "Café", 2500),
        Product(B, "Thé", 2000),
        Agree(&[A, B, C], 5),
        Check("all three sell; one after the other is killed and started again", |shop| {
            let load = shop.begin_load(&[A, B, C])?;
            let killed = kill_many(shop, if is_full() { 200 } else { 20 });
            let unanswered = shop.end_load(load)?;
            ensure!(unanswered > 0, "no kill came between a request and its answer");
            killed
        }),
        Linked(&[A, B, C], 10),
        Agree(&[A, B, C], 20),
        Stop(A),
        Stop(B),
        Stop(C),
        Check("each database is whole", |shop| [A, B, C].into_iter().try_for_each(|till| integrity(shop, till))),
    ]
}

/// Kills running tills at moments that the seed chooses, every fourth time the one that has just been started; all run at the end.
fn kill_many(shop: &mut Shop, kills: usize) -> Result<()> {
    let tills = [A, B, C];
    let (mut till, mut again) = (A, 0);
    for kill in 0..kills {
        if kill > 0 && shop.rng.below(4) == 0 {
            again += 1;
            thread::sleep(Duration::from_millis(shop.rng.below(150)));
        } else {
            till = *shop.rng.pick(&tills);
            thread::sleep(Duration::from_millis(shop.rng.below(1200)));
        }
        shop.kill_running(till)?;
        thread::sleep(Duration::from_millis(shop.rng.below(300)));
        shop.spawn(till)?;
    }
    shop.say(&format!("   {kills} killed, {again} of them within 150 ms of their start"));
    tills.into_iter().try_for_each(|till| shop.answering(till))
}

fn integrity(shop: &Shop, till: Name) -> Result<()> {
    let database = rusqlite::Connection::open(shop.folder(till).join("till.db"))?;
    let answer: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(answer == "ok", "{till}: {answer}");
    Ok(())
}

// ---------------------------------------------------------------------------------------------------------- bad air

const BAD: Air = Air { loss_percent: 20, delay_ms: 50, jitter_ms: 20, overtake_percent: 5, double_percent: 5 };

fn bad_air() -> Vec<Step> {
    vec![
        Hub,
        SetAir(BAD),
        Start(&[A, B, C]),
        Linked(&[A, B, C], 30),
        Product(A, "Café", 2500),
        Product(B, "Thé", 2000),
        Agree(&[A, B, C], 15),
        Check("all three sell, in bad air", |shop| worked(shop, &[A, B, C], if is_full() { 60 } else { 5 })),
        Note("and A is cut off for a while, without its cable being pulled"),
        Split(&[&[A], &[B, C]]),
        Trade(&[A, B, C], 30),
        Heal,
        Agree(&[A, B, C], 30),
        Linked(&[A, B, C], 30),
        Check("each kind of fault took place", |shop| {
            let counts = shop.lan.counts()?;
            shop.say(&format!("   {counts}"));
            let kinds = [counts.lost, counts.late, counts.overtaken, counts.doubled, counts.swallowed];
            ensure!(kinds.iter().all(|count| *count > 0), "{counts}");
            let fate = counts.delivered + counts.lost;
            ensure!((15..25).contains(&(100 * counts.lost / fate)), "{} of {fate} frames were lost", counts.lost);
            Ok(())
        }),
    ]
}

/// These tills are worked at for so many seconds.
fn worked(shop: &mut Shop, tills: &[Name], seconds: u64) -> Result<()> {
    let load = shop.begin_load(tills)?;
    thread::sleep(Duration::from_secs(seconds));
    shop.end_load(load).map(drop)
}

// --------------------------------------------------------------------------------------------------------- flapping

/// The share of one processor that a till may need in a debug build, on a machine that is busy with other things.
const BUSY_PERCENT: u64 = 50;
/// The same without anyone working at it.
const IDLE_PERCENT: u64 = 10;

fn flapping_cable() -> Vec<Step> {
    vec![
        Start(&[A, B, C]),
        Linked(&[A, B, C], 10),
        Product(A, "Café", 2500),
        Agree(&[A, B, C], 5),
        Check("all three sell, while B's cable goes out and in every one to three seconds", |shop| {
            let load = shop.begin_load(&[A, B, C])?;
            let flapped = share_of_processor(shop, BUSY_PERCENT, |shop| flap(shop, if is_full() { 40 } else { 4 }));
            shop.end_load(load)?;
            flapped
        }),
        Unplug(B),
        Check("with the cable out for good, B rests", |shop| {
            share_of_processor(shop, IDLE_PERCENT, |_| {
                thread::sleep(Duration::from_secs(if is_full() { 60 } else { 12 }));
                Ok(())
            })
        }),
        Peers(B, 0, 1),
        Plug(B),
        Agree(&[A, B, C], 15),
        Linked(&[A, B, C], 10),
    ]
}

/// Every second time the address goes with the cable, as a box's network service has it, and comes back with it.
fn flap(shop: &mut Shop, times: u64) -> Result<()> {
    let (mut behind, mut linked) = (0, 0);
    for n in 0..times {
        let loses_address = n % 2 == 1;
        shop.lan.unplug(B)?;
        if loses_address {
            shop.lan.unaddress(B)?;
        }
        thread::sleep(Duration::from_millis(1000 + shop.rng.below(2000)));
        behind += u64::from(tickets(shop, A)? != tickets(shop, B)?);
        if loses_address {
            shop.lan.address_again(B)?;
        }
        shop.lan.plug(B)?;
        thread::sleep(Duration::from_millis(1000 + shop.rng.below(2000)));
        linked += u64::from(shop.status(B)?["connectedPeers"] != 0);
    }
    shop.say(&format!("   out and in {times} times: behind at the end of {behind}, linked again after {linked}"));
    ensure!(behind > 0, "no cable was out long enough to be felt");
    Ok(())
}

/// Does something, and says how busy it kept each till.
fn share_of_processor(shop: &mut Shop, percent_max: u64, work: impl FnOnce(&mut Shop) -> Result<()>) -> Result<()> {
    let used = |shop: &Shop| shop.names().iter().map(|till| Ok((*till, shop.cpu(*till)?))).collect::<Result<Vec<_>>>();
    let (began, before) = (Instant::now(), used(shop)?);
    work(shop)?;
    let (elapsed, after) = (began.elapsed(), used(shop)?);
    for ((till, before), (_, after)) in before.iter().zip(after) {
        let percent = 100 * (after - *before).as_millis() / elapsed.as_millis().max(1);
        shop.say(&format!("   {till} used {percent} % of a processor for {:.0} s", elapsed.as_secs_f64()));
        ensure!(percent <= u128::from(percent_max), "{till} used {percent} % of a processor, of {percent_max} allowed");
    }
    Ok(())
}

// -------------------------------------------------------------------------------------------------------- half-open

/// Within this a peer that is silent must be noticed: 10 s, and what a busy machine adds.
const NOTICED_MAX: Duration = Duration::from_secs(14);

fn half_open() -> Vec<Step> {
    vec![
        Hub,
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Sell(B, "Café", 1, 5),
        Agree(&[A, B], 5),
        PowerOff(B),
        Check("A's kernel has not been told, and A notices within 10 s", noticed),
        Sell(A, "Café", 1, 5),
        Heal,
        Start(&[B]),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
        Note("back before A has noticed, at another address: nothing answers for the old connection"),
        PowerOff(B),
        Readdress(B, "10.77.0.99"),
        Check("A still thinks that it is linked", |shop| {
            let peers = shop.status(A)?["connectedPeers"].clone();
            ensure!(peers == 1, "A has {peers} peers");
            Ok(())
        }),
        Heal,
        Start(&[B]),
        Sell(A, "Café", 1, 5),
        Sell(B, "Café", 1, 5),
        Agree(&[A, B], 10),
        Linked(&[A, B], 10),
        Check("frames were swallowed", |shop| {
            let counts = shop.lan.counts()?;
            shop.say(&format!("   {counts}"));
            ensure!(counts.swallowed > 0, "{counts}");
            Ok(())
        }),
    ]
}

fn noticed(shop: &mut Shop) -> Result<()> {
    let still = shop.status(A)?["connectedPeers"].clone();
    ensure!(still == 1, "A has {still} peers as soon as the power is gone");
    let took = eventually(NOTICED_MAX, "A notices", || {
        let peers = shop.status(A)?["connectedPeers"].clone();
        ensure!(peers == 0, "A has {peers} peers");
        Ok(())
    })?;
    shop.say(&format!("   after {:.1} s", took.as_secs_f64()));
    Ok(())
}

// ---------------------------------------------------------------------------------------------------- sixteen tills

fn sixteen_tills() -> Vec<Step> {
    vec![
        Check("all sixteen are switched on at once", |shop| {
            ALL.iter().try_for_each(|till| shop.provision(*till, &json!({})))?;
            ALL.iter().try_for_each(|till| shop.spawn(*till))?;
            ALL.iter().try_for_each(|till| shop.answering(*till))
        }),
        Linked(&ALL, 15),
        Product(A, "Café", 2500),
        InStock(&ALL, "Café", 0, 5),
        Check("each sells", |shop| {
            let times = if is_full() { 50 } else { 2 };
            ALL.iter().try_for_each(|till| shop.sell_many(*till, "Café", 1, times))
        }),
        Agree(&ALL, 10),
        Linked(&ALL, 10),
        Check("memory", |shop| {
            let memory = ALL.iter().map(|till| shop.memory_kib(*till)).collect::<Result<Vec<_>>>()?;
            let most = memory.iter().max().context("no till")?;
            shop.say(&format!("   resident: {} KiB on average, {most} at most", memory.iter().sum::<u64>() / 16));
            Ok(())
        }),
        Check("all are shut down at once; what arrived twice", |shop| {
            ALL.iter().try_for_each(|till| shop.stop(*till))?;
            let twice = ALL.iter().map(|till| arrived_twice(shop, *till)).collect::<Result<Vec<_>>>()?;
            shop.say(&format!("   batches of ops that arrived twice, by till: {twice:?}"));
            Ok(())
        }),
    ]
}

/// What a till says as it ends, of batches of ops that it was sent though it had them.
fn arrived_twice(shop: &Shop, till: Name) -> Result<u64> {
    let log = shop.log(till);
    let (_, rest) = log.rsplit_once("batches that arrived twice: ").with_context(|| format!("{till} does not say"))?;
    Ok(rest.split_whitespace().next().context("no number")?.parse()?)
}
