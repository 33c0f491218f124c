//! The memory of a whole shop's tills: nine of them, with the tickets of months.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use crate::floor::Counter;
use crate::process::Usage;
use crate::report::Figure;
use crate::samples::median;
use crate::selling::post_all;
use crate::till::{Ports, Till};
use crate::{Bench, megabytes};

const PEERS: usize = 8;
const TICKETS: u64 = 100_000;
const FILLERS: usize = 48;
/// A till that is busy sells a ticket every so often.
const BETWEEN_SALES: Duration = Duration::from_secs(5);
/// What each till sells in such an hour.
const SALES_OF_AN_HOUR: usize = 720;
/// How often memory is looked at within an hour that is not done at once.
const LOOKS: u32 = 6;
const LINK_MAX: Duration = Duration::from_secs(120);
const CATCH_UP_MAX: Duration = Duration::from_secs(900);
/// Until acks have been written, and what is given back after work has been given back.
const SETTLE: Duration = Duration::from_secs(20);
const RSS_GOAL: u64 = 10_000_000;
/// What differs between two looks at a process that does not grow.
const NOISE: u64 = 500_000;

/// A till that sold all the tickets, and its peers that fetched them.
struct Shop {
    ports: Vec<Ports>,
    tills: Vec<Till>,
}

pub(crate) fn measure(bench: &mut Bench) -> Result<()> {
    let ports = (0..=PEERS).map(|_| Ports::free()).collect::<Result<Vec<_>>>()?;
    let mut shop = Shop { ports, tills: Vec::new() };
    let first = shop.start(bench, 0)?;
    bench.say("filling the first till");
    let mut shares = vec![Vec::new(); FILLERS];
    for n in 0..TICKETS as usize {
        shares[n % FILLERS].push(bench.sales.next().1);
    }
    let rate = post_all(&first, shares)?;
    bench.report.fact("sales/s on one till, 48 writers", rate.round());
    shop.tills.push(first);
    bench.say("its peers catch up");
    let began = Instant::now();
    for n in 1..=PEERS {
        let till = shop.start(bench, n)?;
        shop.tills.push(till);
    }
    shop.wait_for_tickets(TICKETS)?;
    bench.report.fact("8 tills at once catch up, s", (began.elapsed().as_secs_f64() * 10.0).round() / 10.0);
    shop.settle()?;
    shop.report(bench, "idle, 8 peers, 100,000 tickets: till that sold them / peer", true)?;

    bench.say("all are switched on anew");
    for till in std::mem::take(&mut shop.tills) {
        till.stop()?;
    }
    for n in 0..=PEERS {
        let till = shop.start(bench, n)?;
        shop.tills.push(till);
    }
    shop.settle()?;
    shop.report(bench, "the same after a restart", true)?;
    load(bench, &mut shop)
}

/// Hours of work, as fast as the machine does them; or each in an hour, and looked at every ten minutes.
fn load(bench: &mut Bench, shop: &mut Shop) -> Result<()> {
    let mut all = TICKETS;
    let mut after = Vec::new();
    let (looks, pace) = if bench.plan.real_time { (LOOKS, BETWEEN_SALES) } else { (1, Duration::ZERO) };
    let sales = SALES_OF_AN_HOUR / looks as usize;
    for look in 1..=bench.plan.hours * looks {
        let worked = format!("{} min of work", 60 / looks * look);
        bench.say(&worked);
        let bodies: Vec<Vec<String>> =
            shop.tills.iter().map(|_| (0..sales).map(|_| bench.sales.next().1).collect()).collect();
        thread::scope(|scope| {
            let sells: Vec<_> = shop
                .tills
                .iter()
                .zip(bodies)
                .map(|(till, bodies)| scope.spawn(move || sell(till, &bodies, pace)))
                .collect();
            sells
                .into_iter()
                .try_for_each(|sell| sell.join().map_err(|_| anyhow::anyhow!("a till application panicked"))?)
        })?;
        all += (shop.tills.len() * sales) as u64;
        shop.wait_for_tickets(all)?;
        shop.settle()?;
        after.push(shop.report(bench, &format!("idle after {worked}, 9 x 720 sales an hour"), false)?);
    }
    let (first, last) = (after[0], after[after.len() - 1]);
    bench.report.goal(
        Figure {
            name: "growth of the peers' median since the first of these",
            figure: format!("{:+.2} MB", (last as f64 - first as f64) / 1e6),
            against: String::new(),
            numbers: json!({ "medianRssBytes": after }),
        },
        "none",
        last <= first + NOISE,
    );
    Ok(())
}

/// Sells tickets one after the other, each so long after the one before.
fn sell(till: &Till, bodies: &[String], pace: Duration) -> Result<()> {
    let mut client = till.client();
    bodies.iter().try_for_each(|body| {
        let due = Instant::now() + pace;
        client.post("/v1/tickets", body)?.ok()?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        Ok(())
    })
}

impl Shop {
    fn start(&self, bench: &Bench, n: usize) -> Result<Till> {
        let others: Vec<Ports> = (0..self.ports.len()).filter(|other| *other != n).map(|n| self.ports[n]).collect();
        Till::start(&bench.path(&format!("till{n}")), &bench.store, self.ports[n], &others)
    }

    fn wait_for_tickets(&self, wanted: u64) -> Result<()> {
        let end = Instant::now() + CATCH_UP_MAX;
        for (n, till) in self.tills.iter().enumerate() {
            let counter = Counter::open(&till.database())?;
            while counter.tickets()? < wanted {
                ensure!(Instant::now() < end, "till {n} has {} of {wanted} tickets", counter.tickets()?);
                thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Every till is linked with every other, and has nothing left to do.
    fn settle(&self) -> Result<()> {
        for till in &self.tills {
            till.wait_for_links(PEERS as u64, LINK_MAX)?;
        }
        thread::sleep(SETTLE);
        Ok(())
    }

    /// Gives the median over all tills.
    fn report(&self, bench: &mut Bench, name: &str, has_goal: bool) -> Result<u64> {
        let usage = self.tills.iter().map(Till::usage).collect::<Result<Vec<Usage>>>()?;
        let of = |what: fn(&Usage) -> u64| usage.iter().map(what).collect::<Vec<u64>>();
        let (rss, anon, peak) = (of(|usage| usage.rss), of(|usage| usage.anon), of(|usage| usage.peak));
        let middle = |all: &[u64]| median(&all.iter().map(|bytes| *bytes as f64).collect::<Vec<_>>()) as u64;
        let both = |all: &[u64]| format!("{:.1} / {:.1} MB", megabytes(all[0]), megabytes(middle(&all[1..])));
        let figure = Figure {
            name,
            figure: both(&rss),
            against: format!("{} of it not pages of files; at most so far {}", both(&anon), both(&peak)),
            numbers: json!({ "rssBytes": rss, "anonymousBytes": anon, "peakBytes": peak }),
        };
        if has_goal {
            bench.report.goal(figure, "< 10 MB", rss.iter().all(|bytes| *bytes <= RSS_GOAL));
        } else {
            bench.report.note(figure);
        }
        Ok(middle(&rss))
    }
}
