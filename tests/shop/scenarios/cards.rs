//! Cards: they die, and they are copied.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::json;

use super::boxes::tickets;
use crate::Scenario;
use crate::lan::{A, B, C, D, Name};
use crate::lib::eventually;
use crate::shop::Shop;
use crate::step::Step::{self, *};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "dead-card",
            tills: 3,
            shows: "a till with a new card sells at once, and has its past sales back from its peers",
            steps: dead_card,
        },
        Scenario {
            name: "cloned-card",
            tills: 3,
            shows: "a card copied into another box is another till",
            steps: cloned_card,
        },
        Scenario {
            name: "forked-card",
            tills: 4,
            shows: "two tills of one identity, that nothing tells apart, sell to different peers: all sales are kept, once",
            steps: forked_card,
        },
        Scenario {
            name: "years-later",
            tills: 3,
            shows: "in a shop that has compacted its logs, a new card and a till that was away for weeks come to hold all",
            steps: years_later,
        },
    ]
}

/// The alerts' codes, as the steps look for them: in quotes, for some are words that other alerts use.
const CLONE: &[&str] = &["\"clone\""];
const FORK: &str = "\"fork\"";

fn dead_card() -> Vec<Step> {
    vec![
        Start(&[A, B, C]),
        Linked(&[A, B, C], 10),
        Product(A, "Café", 2500),
        StockIn(B, "Café", 5000),
        Sell(A, "Café", 1, 300),
        Sell(B, "Café", 2, 50),
        Trade(&[A, B, C], 40),
        Agree(&[A, B, C], 10),
        Note("A's card dies; the new one is given A's config, and nothing else"),
        Kill(A),
        Check("all but A's config is gone", wiped),
        Sell(C, "Café", 1, 50),
        Note("with its cable out, it sells what it has never heard of"),
        Unplug(A),
        Start(&[A]),
        Sell(A, "Café", 1, 20),
        Check("it has these sales, and no others", |shop| {
            let count = tickets(shop, A)?;
            ensure!(count == 20, "A has {count} tickets");
            Ok(())
        }),
        Plug(A),
        Agree(&[A, B, C], 20),
        Linked(&[A, B, C], 10),
        Sell(A, "Café", 1, 5),
        Agree(&[A, B, C], 5),
    ]
}

fn wiped(shop: &mut Shop) -> Result<()> {
    let config = shop.config(A)?;
    fs::remove_dir_all(shop.folder(A))?;
    shop.provision(A, &config)
}

fn cloned_card() -> Vec<Step> {
    vec![
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 20),
        Agree(&[A, B], 5),
        Stop(A),
        Check("A's card is copied into C's box", |shop| copy_card(shop, A, C)),
        Start(&[A, C]),
        Alert(C, CLONE, 10),
        Sell(A, "Café", 1, 20),
        Sell(C, "Café", 1, 20),
        Linked(&[A, B, C], 10),
        Agree(&[A, B, C], 10),
        Check("C is another till than A, and nothing was written twice under one name", |shop| {
            ensure!(till_id(shop, A)? != till_id(shop, C)?, "A and C have one key");
            for till in [A, B, C] {
                let alerts = shop.alerts(till)?;
                let found = alerts.iter().any(|alert| alert.starts_with(FORK));
                ensure!(!found, "{till}: {alerts:?}");
            }
            Ok(())
        }),
        Note("and stays it"),
        Check("C's id is noted", |shop| {
            let id = till_id(shop, C)?;
            shop.notes.insert("till", id.into());
            Ok(())
        }),
        Kill(C),
        Start(&[C]),
        Check("C has that id still", |shop| {
            let id = till_id(shop, C)?;
            ensure!(shop.notes["till"] == id, "it is {id}, was {}", shop.notes["till"]);
            Ok(())
        }),
        Linked(&[A, B, C], 10),
        Agree(&[A, B, C], 5),
    ]
}

fn forked_card() -> Vec<Step> {
    vec![
        Start(&[A, B, D]),
        Linked(&[A, B, D], 10),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 20),
        Agree(&[A, B, D], 5),
        Stop(A),
        Check("A's card is copied into C's box, and C's board has no serial number to tell", |shop| {
            copy_card(shop, A, C)?;
            shop.books.has_twins = true;
            shop.set_machine(C, "box-A")
        }),
        Split(&[&[A, B], &[C, D]]),
        Start(&[A, C]),
        Sell(A, "Café", 1, 30),
        Sell(C, "Café", 2, 40),
        Edit(A, "Café", json!({ "price": 2600 })),
        Edit(C, "Café", json!({ "minStock": 7 })),
        Check("B has A's sales, D has C's", |shop| {
            for (till, wanted) in [(B, 50), (D, 60)] {
                eventually(Duration::from_secs(20), "the sales cross", || {
                    let count = tickets(shop, till)?;
                    ensure!(count == wanted, "{till} has {count} tickets, of {wanted}");
                    Ok(())
                })?;
            }
            ensure!(till_id(shop, A)? == till_id(shop, C)?, "A and C have two keys");
            let numbers: BTreeSet<&String> = shop.books.tickets.values().collect();
            let twice = shop.books.tickets.len() - numbers.len();
            ensure!(twice == 30, "{twice} numbers were given twice: the two do not write under one name");
            Ok(())
        }),
        Note("both die before anyone has seen both"),
        Kill(A),
        Kill(C),
        Heal,
        Agree(&[B, D], 15),
        Alert(B, &[FORK], 10),
        Alert(D, &[FORK], 10),
        Note("and live again, and sell on"),
        Start(&[A, C]),
        Sell(A, "Café", 1, 10),
        Sell(C, "Café", 1, 10),
        Agree(&[A, B, C, D], 20),
        Sell(A, "Café", 1, 10),
        Sell(C, "Café", 1, 10),
        Sell(B, "Café", 1, 10),
        Agree(&[A, B, C, D], 10),
    ]
}

fn years_later() -> Vec<Step> {
    vec![
        Start(&[A, B, C]),
        Linked(&[A, B, C], 10),
        Product(A, "Café", 2500),
        Product(B, "Thé", 2000),
        Sell(A, "Café", 1, 300),
        Sell(B, "Thé", 2, 100),
        Trade(&[A, B, C], 40),
        Agree(&[A, B, C], 10),
        Check("a day of work goes by", |shop| grow_older(shop, &[A, B, C], 1)),
        Linked(&[A, B, C], 10),
        Check("each keeps what the others hold", |shop| acks_kept(shop, &[A, B, C])),
        Check("eight more, and the logs are compacted", |shop| {
            grow_older(shop, &[A, B, C], 8)?;
            [A, B, C].into_iter().try_for_each(|till| compacted(shop, till, 400))
        }),
        Note("A's card dies; the new one is given A's config, and nothing else"),
        Kill(A),
        Check("all but A's config is gone", wiped),
        Unplug(A),
        Start(&[A]),
        Sell(A, "Café", 1, 20),
        Plug(A),
        Agree(&[A, B, C], 20),
        Check("what A has was not sent op by op", |shop| compacted(shop, A, 400)),
        Linked(&[A, B, C], 10),
        Note("C is cut off, sells, and is switched off for two months"),
        Unplug(C),
        Sell(C, "Thé", 1, 15),
        Stop(C),
        Check("sixteen days", |shop| grow_older(shop, &[A, B], 16)),
        Linked(&[A, B], 10),
        Sell(A, "Café", 1, 100),
        Sell(B, "Thé", 1, 100),
        Check("sixteen more", |shop| grow_older(shop, &[A, B], 16)),
        Linked(&[A, B], 10),
        Check("each keeps what the other holds", |shop| acks_kept(shop, &[A, B])),
        Check("and a month: C keeps nothing from being compacted", |shop| {
            grow_older(shop, &[A, B], 31)?;
            [A, B].into_iter().try_for_each(|till| compacted(shop, till, 620))
        }),
        Plug(C),
        Start(&[C]),
        Sell(C, "Thé", 1, 5),
        Agree(&[A, B, C], 20),
        Check("C was not sent op by op what it missed", |shop| compacted(shop, C, 620)),
        Linked(&[A, B, C], 10),
        Sell(A, "Café", 1, 5),
        Sell(C, "Thé", 1, 5),
        Agree(&[A, B, C], 5),
    ]
}

/// Switches tills off and on; in between, their databases are told that their agents have run for so many days.
pub(super) fn grow_older(shop: &mut Shop, tills: &[Name], days: u64) -> Result<()> {
    const RUNNING: &str = "running_ms";
    for till in tills {
        shop.stop(*till)?;
        let database = Connection::open(shop.folder(*till).join("till.db"))?;
        let run: String = database
            .query_row("SELECT value FROM memory WHERE key = ?1", [RUNNING], |row| row.get(0))
            .with_context(|| format!("{till} does not know how long it has run"))?;
        let run = run.parse::<u64>()? + days * 24 * 3_600_000;
        database.execute("UPDATE memory SET value = ?2 WHERE key = ?1", (RUNNING, run.to_string()))?;
    }
    tills.iter().try_for_each(|till| shop.start(*till))
}

/// Waits until each of the tills has it on its disk that the others hold all that it holds itself.
fn acks_kept(shop: &Shop, tills: &[Name]) -> Result<()> {
    let others = tills.len() as i64 - 1;
    tills.iter().try_for_each(|till| {
        let took = eventually(Duration::from_secs(60), "acks are kept", || {
            let full: i64 = look(shop, *till)?.query_row(
                "SELECT count(*) FROM (SELECT 1 FROM ack JOIN origin USING (origin) WHERE ack.seq = origin.head
                 GROUP BY ack.till HAVING count(*) = (SELECT count(*) FROM origin WHERE head > 0))",
                [],
                |row| row.get(0),
            )?;
            ensure!(full >= others, "{till} knows that {full} others hold all, of {others}");
            Ok(())
        })?;
        shop.say(&format!("   {till}: after {:.1} s", took.as_secs_f64()));
        Ok(())
    })
}

/// The till's database, for reading beside its agent.
pub(super) fn look(shop: &Shop, till: Name) -> Result<Connection> {
    Ok(Connection::open_with_flags(shop.folder(till).join("till.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?)
}

/// Waits until so many ops and more are gone from the till's database, of which it has the running hashes.
pub(super) fn compacted(shop: &Shop, till: Name, ops: i64) -> Result<()> {
    // Upkeep takes its time, so that nobody notices: some 500 a second.
    let deadline = Duration::from_secs(60 + ops.unsigned_abs() / 100);
    let took = eventually(deadline, "logs are compacted", || {
        let gone: i64 =
            look(shop, till)?.query_row("SELECT coalesce(sum(floor), 0) FROM origin", [], |row| row.get(0))?;
        ensure!(gone >= ops, "{till}: {gone} ops are gone, of at least {ops}");
        Ok(())
    })?;
    shop.say(&format!("   {till}: after {:.1} s", took.as_secs_f64()));
    Ok(())
}

/// All that is on one box's card onto the other's; both boxes are off.
fn copy_card(shop: &Shop, from: Name, to: Name) -> Result<()> {
    let (from, to) = (shop.folder(from), shop.folder(to));
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

fn till_id(shop: &Shop, till: Name) -> Result<String> {
    Ok(shop.status(till)?["till"].to_string())
}
