//! The database of a shop that has sold for months: made once, then copied. The copy of a till's database is another till's, which writes
//! under an origin of its own, so a shop of many such tills is there at once.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::tz::TimeZone;
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::TillId;
use tillmesh::model::level::LEVEL;
use tillmesh::store::{Author, Db, KEEP_MS, LAPSE_MS, Now, Reply, Request, StoreOptions, SystemEntropy};
use uuid::Uuid;

use crate::Bench;
use crate::floor::Counter;
use crate::samples::timed;
use crate::selling::{Ask, ask_all, post_all, share};
use crate::till::{Ports, Till};

pub(crate) const CLIENTS: usize = 48;
const LINK_MAX: Duration = Duration::from_secs(240);
const AGREE_MAX: Duration = Duration::from_secs(600);
const OPS_AT_ONCE: usize = 5_000;
const DAY_MS: u64 = 24 * 3_600_000;

/// A price of each of the plan's products.
pub(crate) fn prices(bench: &Bench, method: &'static str, price: usize) -> Vec<Vec<Ask>> {
    let ask = |n: usize| Ask {
        method,
        path: format!("/v1/products/{}", Uuid::from_u128(0x0190_0000_0000_7000_9000_0000_0000_0000 + n as u128)),
        body: match method {
            "PUT" => format!(r#"{{"sku":"SKU-{n:05}","name":"Article {n:05}","price":{}}}"#, price + n),
            _ => format!(r#"{{"price":{}}}"#, price + n),
        },
    };
    share((0..bench.plan.products).map(ask), CLIENTS)
}

/// The database of a till that has sold the plan's many tickets and has its products. All its ops are there one by one.
pub(crate) fn database(bench: &mut Bench) -> Result<PathBuf> {
    let path = bench.path("seed").join("till.db");
    if !path.exists() {
        bench.say(&format!("a shop of {} tickets and {} products is made", bench.plan.many, bench.plan.products));
        let ports = Ports::free()?;
        let till = Till::start(&bench.path("seed"), &bench.store, ports, &[ports])?;
        let tickets: Vec<String> = (0..bench.plan.many).map(|_| bench.sales.next().1).collect();
        let rate = post_all(&till, share(tickets, CLIENTS))?;
        bench.report.fact("sales/s on one till, 48 clients, 100,000 tickets", rate.round());
        ask_all(&till, prices(bench, "PUT", 1_000))?;
        till.stop()?;
    }
    Ok(path)
}

/// The same after its ops have been compacted.
pub(crate) fn compacted(bench: &mut Bench) -> Result<PathBuf> {
    let path = bench.path("compacted.db");
    if !path.exists() {
        fs::copy(database(bench)?, &path)?;
        bench.say("its ops are compacted");
        compact(path.clone())?;
    }
    Ok(path)
}

/// Compacts as an agent does whose time has come: no ops are kept for anybody any more.
fn compact(path: PathBuf) -> Result<()> {
    let author = Author {
        till: TillId([7; 16]),
        public_key: [7; 32],
        pos_id: "BENCH".to_owned(),
        pos_name: "BENCH".to_owned(),
        currency: *b"TND",
        time_zone: TimeZone::UTC,
    };
    let wall_ms = u64::try_from(jiff::Timestamp::now().as_millisecond())?;
    let now = Now { wall_ms, quality: ClockQuality::Trusted };
    let mut db = Db::open(&StoreOptions { path: path.clone(), author, level: LEVEL }, now, Box::new(SystemEntropy))?;
    // The agent has noted where its log stood as it began: that is noted once a day.
    for run_ms in [2 * DAY_MS, 3 * DAY_MS + KEEP_MS + LAPSE_MS] {
        let request = Request::Compact { run_ms, ops_max: OPS_AT_ONCE };
        while let Reply::Compacted { more: true, .. } =
            db.execute(vec![request.clone()], now).replies.pop().context("one answer")??
        {}
    }
    db.checkpoint()?;
    let counter = Counter::open(&path)?;
    let (ops, gone) = (counter.ops()?, counter.compacted()?);
    ensure!(ops == gone, "{gone} of {ops} ops are compacted");
    Ok(())
}

/// Tills that all know one another's address.
pub(crate) struct Shop {
    pub(crate) tills: Vec<Till>,
    folders: Vec<PathBuf>,
}

impl Shop {
    /// Starts so many tills, each on a copy of the database, and waits until all are linked and equal.
    pub(crate) fn start(bench: &Bench, name: &str, count: usize, database: Option<PathBuf>) -> Result<Self> {
        let ports = (0..count).map(|_| Ports::free()).collect::<Result<Vec<_>>>()?;
        let mut shop = Self { tills: Vec::new(), folders: Vec::new() };
        for n in 0..count {
            let others: Vec<Ports> = (0..count).filter(|other| *other != n).map(|other| ports[other]).collect();
            let folder = bench.path(&format!("{name}{n}"));
            shop.folders.push(folder.clone());
            shop.tills.push(Till::start_on(&folder, &bench.store, ports[n], &others, database.as_deref())?);
        }
        shop.linked()?;
        shop.agree()?;
        Ok(shop)
    }

    /// Waits until every till is linked with every other.
    pub(crate) fn linked(&self) -> Result<()> {
        let others = self.tills.len() as u64 - 1;
        self.tills.iter().try_for_each(|till| till.wait_for_links(others, LINK_MAX))
    }

    /// Waits until all tills have as many ops, however many that is.
    pub(crate) fn agree(&self) -> Result<()> {
        let counters = self.counters()?;
        let end = Instant::now() + AGREE_MAX;
        loop {
            let ops = counters.iter().map(Counter::ops).collect::<Result<Vec<_>>>()?;
            if ops.windows(2).all(|two| two[0] == two[1]) {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("the tills do not become equal: {ops:?}");
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until each till has so many tickets.
    pub(crate) fn have_tickets(&self, wanted: u64) -> Result<()> {
        self.have(wanted, Counter::tickets)
    }

    /// Waits until each till has so many ops.
    pub(crate) fn have_ops(&self, wanted: u64) -> Result<()> {
        self.have(wanted, Counter::ops)
    }

    fn have(&self, wanted: u64, of: fn(&Counter) -> Result<u64>) -> Result<()> {
        let end = Instant::now() + AGREE_MAX;
        for counter in self.counters()? {
            while of(&counter)? < wanted {
                ensure!(Instant::now() < end, "a till has {} of {wanted}", of(&counter)?);
                thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    fn counters(&self) -> Result<Vec<Counter>> {
        self.tills.iter().map(|till| Counter::open(&till.database())).collect()
    }

    /// Bytes of messages that each has sent to others since it started.
    pub(crate) fn sent(&self) -> Result<Vec<u64>> {
        self.tills.iter().map(Till::sent).collect()
    }

    /// Ends all tills at once; nothing of them is left.
    pub(crate) fn end(self) -> Result<()> {
        let Self { tills, folders } = self;
        drop(tills);
        folders.iter().try_for_each(|folder| Ok(fs::remove_dir_all(folder)?))
    }
}

/// How long one work takes while others do the same at once: the slowest of them, in milliseconds.
pub(crate) fn at_once(count: usize, work: impl Fn(usize) -> Result<()> + Sync) -> Result<f64> {
    let ((), time) = timed(|| {
        thread::scope(|scope| {
            let work = &work;
            let all: Vec<_> = (0..count).map(|n| scope.spawn(move || work(n))).collect();
            all.into_iter().try_for_each(|one| one.join().ok().context("a thread panicked")?)
        })
    })?;
    Ok(time)
}
