//! Many tills at once: a price list that changes, a shop that was in pieces, and what each till more costs.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use rusqlite::Connection;
use serde_json::json;

use crate::Bench;
use crate::floor::{self, Counter, Rows};
use crate::report::Figure;
use crate::samples::{median, ms, paired, timed};
use crate::seed::{self, Shop, at_once};
use crate::selling::{ask_all, post_all};

const PEERS: usize = 8;
const FLOOR_GOAL: f64 = 1.5;
/// What may go beside ops: acks of what came, by those that only take.
const BESIDE_GOAL: f64 = 0.1;
const CONVERGE_GOAL_MS: f64 = 2000.0;
const ROWS_EACH: usize = 500;
/// More tills may cost a link so much more a second than two tills do, where they should cost nothing.
const FLAT_GOAL: f64 = 1.5;

/// One till changes the price of every product; the others have them.
pub(crate) fn prices(bench: &mut Bench) -> Result<()> {
    let shop = Shop::start(bench, "prices", PEERS + 1, None)?;
    ask_all(&shop.tills[0], seed::prices(bench, "PUT", 1_000))?;
    shop.agree()?;
    let count = bench.plan.products;
    let (mut times, mut lags, mut floors) = (Vec::new(), Vec::new(), Vec::new());
    let (mut sent, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=bench.plan.rounds {
        bench.say(&format!("{count} prices, round {round}"));
        let wanted = Counter::open(&shop.tills[0].database())?.ops()? + count as u64;
        let before = shop.sent()?;
        let ((), asking) =
            timed(|| ask_all(&shop.tills[0], seed::prices(bench, "PATCH", 1_000 + 10 * round)).map(drop))?;
        let ((), after_that) = timed(|| shop.have_ops(wanted))?;
        times.push(asking + after_that);
        lags.push(after_that);
        let after = shop.sent()?;
        let each: Vec<f64> = after.iter().zip(&before).map(|(after, before)| (after - before) as f64).collect();
        sent.push(each[0] / (PEERS * count) as f64);
        beside.push(each[1..].iter().sum::<f64>() / each[0]);
        let work = |n: usize| price_floor(bench, n, count);
        floors.push(at_once(PEERS + 1, work)?);
    }
    let op = op_bytes(&Connection::open(shop.tills[0].database())?)?;
    shop.end()?;
    let ratio = paired(&times, &floors, |time, floor| time / floor);
    bench.report.goal(
        Figure {
            name: &format!("{count} prices to {PEERS} tills"),
            figure: format!(
                "{ratio:.1} x plain SQLite: {:.2} s, {:.2} s of it after the last request was answered",
                median(&times) / 1000.0,
                median(&lags) / 1000.0
            ),
            against: format!("9 x plain SQLite at once {:.2} s", median(&floors) / 1000.0),
            numbers: json!({ "ratio": ratio, "ms": times, "lagMs": lags, "floorMs": floors }),
        },
        "1.5 x plain SQLite",
        ratio <= FLOOR_GOAL,
    );
    let (each, other) = (median(&sent), median(&beside));
    bench.report.goal(
        Figure {
            name: "the same: bytes over each link",
            figure: format!("{each:.0} a change, and {:.0} % back from the others", other * 100.0),
            against: format!("{op:.0} bytes is the body of a change"),
            numbers: json!({ "bytesEach": sent, "besideShare": beside, "bodyBytes": op }),
        },
        "once: < 2 bodies + 64",
        each < 2.0 * op + 64.0 && other <= BESIDE_GOAL,
    );
    Ok(())
}

/// Mean bytes of the newest ops' bodies.
fn op_bytes(conn: &Connection) -> Result<f64> {
    let sql = "SELECT avg(length(body)) FROM (SELECT body FROM op WHERE body IS NOT NULL ORDER BY seq DESC LIMIT 1000)";
    Ok(conn.query_row(sql, [], |row| row.get(0))?)
}

/// What one till writes for so many prices, by plain SQLite: the op, and the row of the product anew.
fn price_floor(bench: &Bench, n: usize, count: usize) -> Result<()> {
    let path = bench.path(&format!("price{n}.db"));
    let conn = floor::create(&path)?;
    conn.execute_batch(
        "CREATE TABLE entity (idx INTEGER PRIMARY KEY, state BLOB NOT NULL, hash BLOB NOT NULL);
         CREATE TABLE op (idx INTEGER PRIMARY KEY, hlc INTEGER NOT NULL, hash BLOB NOT NULL, body BLOB NOT NULL)",
    )?;
    let (state, body, hash) = ([7_u8; 250], [7_u8; 60], [7_u8; 32]);
    for first in (0..count).step_by(ROWS_EACH) {
        conn.execute_batch("BEGIN IMMEDIATE")?;
        let mut entity = conn.prepare_cached("INSERT OR REPLACE INTO entity VALUES (?1, ?2, ?3)")?;
        let mut op = conn.prepare_cached("INSERT INTO op VALUES (?1, ?1, ?2, ?3)")?;
        for row in first..count.min(first + ROWS_EACH) {
            entity.execute((i64::try_from(row)?, state, hash))?;
            op.execute((i64::try_from(row)?, hash, body))?;
        }
        conn.execute_batch("COMMIT")?;
    }
    floor::remove(conn, &path)
}

/// Tills that were all cut off from one another, and sold.
pub(crate) fn partition(bench: &mut Bench) -> Result<()> {
    let (count, sales) = bench.plan.partition;
    let shop = Shop::start(bench, "part", count, None)?;
    let (mut times, mut floors, mut all) = (Vec::new(), Vec::new(), 0);
    for round in 1..=bench.plan.partition_rounds {
        bench.say(&format!("{count} tills, each alone for {sales} sales, round {round}"));
        shop.tills.iter().try_for_each(|till| till.set_linked(false))?;
        let bodies: Vec<Vec<String>> = (0..count).map(|_| (0..sales).map(|_| bench.sales.next().1).collect()).collect();
        at_once(count, |n| post_all(&shop.tills[n], vec![bodies[n].clone()]).map(drop))?;
        all += (count * sales) as u64;
        let began = Instant::now();
        at_once(count, |n| shop.tills[n].set_linked(true))?;
        shop.have_tickets(all)?;
        times.push(ms(began.elapsed()));
        let rows = Rows::read(&shop.tills[0].database())?;
        // Each till writes what the others sold; those of rounds before are in the rows too.
        let share = (count - 1) as f64 / count as f64 / round as f64;
        let parts = (all as usize).div_ceil(ROWS_EACH);
        let work = |n: usize| rows.insert(&bench.path(&format!("part{n}.db")), parts).map(drop);
        floors.push(at_once(count, work)? * share);
    }
    shop.end()?;
    let beyond = paired(&times, &floors, |time, floor| time - floor);
    bench.report.goal(
        Figure {
            name: &format!("{count} tills, each alone for {sales} sales: equal again"),
            figure: format!("{:.2} s: plain SQLite {:+.2} s", median(&times) / 1000.0, beyond / 1000.0),
            against: format!("{count} x plain SQLite at once {:.2} s", median(&floors) / 1000.0),
            numbers: json!({ "ms": times, "floorMs": floors }),
        },
        "2 s + the writing",
        beyond <= CONVERGE_GOAL_MS,
    );
    Ok(())
}

/// One sale a second in the whole shop, by the number of tills.
pub(crate) fn scale(bench: &mut Bench) -> Result<()> {
    let (mut links, mut busy) = (BTreeMap::new(), BTreeMap::new());
    for count in [2, 4, 8, 16, 32, 64] {
        if count > bench.plan.tills_max {
            continue;
        }
        bench.say(&format!("{count} tills, a sale a second"));
        let shop = Shop::start(bench, "scale", count, None)?;
        thread::sleep(bench.plan.settle);
        let time = bench.plan.scale;
        let before: u64 = shop.sent()?.iter().sum();
        thread::sleep(time);
        let between: u64 = shop.sent()?.iter().sum();
        let sales = usize::try_from(time.as_secs())?;
        for n in 0..sales {
            let due = Instant::now() + Duration::from_secs(1);
            let (_, body) = bench.sales.next();
            shop.tills[n % count].client().post("/v1/tickets", &body)?.ok()?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let after: u64 = shop.sent()?.iter().sum();
        shop.have_tickets(sales as u64)?;
        shop.end()?;
        let idle = (between - before) as f64 / time.as_secs_f64();
        let each = ((after - between) as f64 - idle * time.as_secs_f64()).max(0.0) / sales as f64;
        links.insert(count, each / (count - 1) as f64);
        let directions = (count * (count - 1)) as f64;
        busy.insert(count, (after - between) as f64 / time.as_secs_f64() / directions);
        bench.report.note(Figure {
            name: &format!("{count} tills, 1 sale/s in all: bytes sent a sale"),
            figure: format!(
                "{:.0} a till; {:.0} a link of the seller's",
                each / count as f64,
                each / (count - 1) as f64
            ),
            against: format!("at rest {:.0} bytes/s a till", idle / count as f64),
            numbers: json!({ "tills": count, "bytesASale": each, "idleBytesPerSecond": idle }),
        });
    }
    let two = busy.get(&2).copied().unwrap_or_default();
    let most = busy.values().copied().fold(0.0, f64::max);
    let told: Vec<String> = busy.iter().map(|(count, bytes)| format!("{count}: {bytes:.0}")).collect();
    bench.report.goal(
        Figure {
            name: "scale: bytes a second on a link, each way, by tills",
            figure: told.join(", "),
            against: "bytes, not messages: the agent counts those alone".to_owned(),
            numbers: json!({ "bytesALinkAndSecond": busy, "bytesASaleAndTill": links }),
        },
        "flat: 1.5 x two tills",
        most <= FLAT_GOAL * two,
    );
    Ok(())
}
