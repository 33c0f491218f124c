//! The boxes themselves: power, ports, files.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use crate::Scenario;
use crate::lan::{A, B};
use crate::lib::eventually;
use crate::shop::Shop;
use crate::step::Step::{self, *};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "kill-in-catch-up",
            tills: 2,
            shows: "a till killed twenty times in mid-catch-up loses nothing",
            steps: kill_in_catch_up,
        },
        Scenario {
            name: "damaged-config",
            tills: 2,
            shows: "defect 16: a damaged config gives no till a new identity",
            steps: damaged_config,
        },
        Scenario {
            name: "port-taken",
            tills: 2,
            shows: "port 3030 taken: the till sells, alerts, and meshes once it is free",
            steps: port_taken,
        },
        Scenario {
            name: "off-and-on",
            tills: 2,
            shows: "the mesh is switched off and on without a restart",
            steps: off_and_on,
        },
        Scenario {
            name: "second-agent",
            tills: 1,
            shows: "a second agent on one data folder is refused",
            steps: second_agent,
        },
        Scenario {
            name: "restored-backup",
            tills: 2,
            shows: "a till restored from an old backup loses nothing and repeats nothing",
            steps: restored_backup,
        },
    ]
}

fn kill_in_catch_up() -> Vec<Step> {
    vec![
        Start(&[A]),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 2000),
        Check("B is killed in mid-catch-up, twenty times", |shop| {
            let (mut known, mut cut_short, mut round, mut sales) = (0, 0, 0, CATCH_UP);
            while cut_short < 20 {
                round += 1;
                ensure!(round <= 80, "only {cut_short} of {round} kills came before the end of a catch-up");
                let all = (shop.books.tickets.len() + sales) as u64;
                known = killed_catching_up(shop, round, known, sales)?;
                cut_short += u64::from(known < all);
                // On a machine that does much else the kill comes late: more to catch up with.
                sales = if known < all { CATCH_UP } else { (sales + CATCH_UP).min(CATCH_UP_MAX) };
            }
            shop.say(&format!("   {cut_short} of {round} catch-ups were cut short"));
            Ok(())
        }),
        Start(&[B]),
        Agree(&[A, B], 30),
        Note("the same with the till that it catches up from"),
        Kill(B),
        Sell(A, "Café", 1, 500),
        Start(&[B]),
        Check("A is killed as soon as B begins to catch up", |shop| {
            let all = shop.books.tickets.len() as u64;
            eventually(Duration::from_secs(60), "B begins to catch up", || {
                let count = tickets(shop, B)?;
                ensure!(count > all - 500, "{count} of {all}");
                Ok(())
            })?;
            shop.kill(A)
        }),
        Start(&[A]),
        Agree(&[A, B], 15),
    ]
}

/// How many tickets A sells while B is down, before the first of its catch-ups, and at most before one.
const CATCH_UP: usize = 1000;
const CATCH_UP_MAX: usize = 4 * CATCH_UP;

/// One round: A sells, B is started, seen to gain tickets that it cannot have had, and killed at a moment that the seed chooses. Returns
/// how many it was seen to have; in the next round it must have them still.
fn killed_catching_up(shop: &mut Shop, round: u64, known: u64, sales: usize) -> Result<u64> {
    let before = shop.books.tickets.len() as u64;
    shop.sell_many(A, "Café", 1, sales)?;
    let all = shop.books.tickets.len() as u64;
    shop.start(B)?;
    let at_start = tickets(shop, B)?;
    ensure!(at_start >= known, "round {round}: B had {known} tickets, and has {at_start} after the power cut");
    eventually(Duration::from_secs(60), "B gains tickets", || {
        let count = tickets(shop, B)?;
        ensure!(count > before, "B has {count} of {all}");
        Ok(())
    })?;
    thread::sleep(Duration::from_millis(shop.rng.below(12)));
    let seen = tickets(shop, B)?;
    shop.kill(B)?;
    shop.say(&format!("   round {round}: killed at {seen} of {all}"));
    Ok(seen)
}

/// How many tickets the till counts.
pub(super) fn tickets(shop: &Shop, till: crate::lan::Name) -> Result<u64> {
    shop.status(till)?["counts"]["tickets"].as_u64().context("no count of tickets")
}

fn damaged_config() -> Vec<Step> {
    vec![
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 3),
        Agree(&[A, B], 5),
        Stop(A),
        Check("the power goes while A's config is written: half of it is left", |shop| {
            let path = shop.folder(A).join("pos-config.json");
            shop.notes.insert("before", shop.config(A)?);
            let text = fs::read(&path)?;
            Ok(fs::write(&path, &text[..text.len() / 2])?)
        }),
        Start(&[A]),
        Check("A is who it was, in the store that it was in", same_identity),
        Alert(A, &["configDamaged"], 5),
        Check("what was left of the file is kept beside it", |shop| {
            let names =
                fs::read_dir(shop.folder(A))?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            let names: Vec<String> = names.collect::<Result<_>>()?;
            let aside = names.iter().any(|name| name.starts_with("pos-config.json") && name != "pos-config.json");
            ensure!(aside, "the folder holds {names:?}");
            Ok(())
        }),
        Linked(&[A, B], 10),
        Sell(A, "Café", 1, 3),
        Agree(&[A, B], 5),
        Note("and a config that is gone altogether"),
        Kill(A),
        Check("A's config is deleted", |shop| Ok(fs::remove_file(shop.folder(A).join("pos-config.json"))?)),
        Check("A is switched on", |shop| shop.start_as_it_is(A)),
        Check("A is who it was, in the store that it was in", same_identity),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
    ]
}

fn same_identity(shop: &mut Shop) -> Result<()> {
    let (before, now) = (&shop.notes["before"], shop.config(A)?);
    for key in ["posId", "posName", "posType", "createdAt", "store"] {
        ensure!(before[key] == now[key], "{key} was {}, is {}", before[key], now[key]);
    }
    ensure!(shop.status(A)?["posId"] == before["posId"], "the status names another till");
    Ok(())
}

fn port_taken() -> Vec<Step> {
    vec![
        Start(&[B]),
        Check("A starts, sells and alerts while another program holds its port; then the port is free", |shop| {
            let holder = shop.lan.inside(A, || Ok(TcpListener::bind("0.0.0.0:3030")?))?;
            shop.start(A)?;
            shop.put_product(A, "Café", 2500)?;
            shop.sell_many(A, "Café", 1, 5)?;
            eventually(Duration::from_secs(20), "A alerts that its port is taken", || {
                let (alerts, status) = (shop.alerts(A)?, shop.status(A)?);
                ensure!(alerts.iter().any(|alert| alert.contains("portInUse")), "alerts: {alerts:?}");
                ensure!(status["serverRunning"] == false, "serverRunning: {}", status["serverRunning"]);
                Ok(())
            })?;
            drop(holder);
            Ok(())
        }),
        NoAlert(A, &["portInUse"], 20),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
        Check("A's server runs", |shop| {
            let running = shop.status(A)?["serverRunning"].clone();
            ensure!(running == true, "serverRunning: {running}");
            Ok(())
        }),
    ]
}

fn off_and_on() -> Vec<Step> {
    vec![
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Agree(&[A, B], 5),
        Check("A's mesh is switched off", |shop| enable(shop, false)),
        Peers(A, 0, 5),
        Peers(B, 0, 10),
        Sell(A, "Café", 1, 5),
        Sell(B, "Café", 1, 5),
        Check("A says so", |shop| {
            let status = shop.status(A)?;
            ensure!(status["enabled"] == false && status["serverRunning"] == false, "{status}");
            ensure!(
                status["led"].as_str().is_some_and(|led| led.eq_ignore_ascii_case("disabled")),
                "LED {}",
                status["led"]
            );
            ensure!(shop.config(A)?["p2p"]["enabled"] == false, "the config does not say so");
            Ok(())
        }),
        Note("it stays off over a restart"),
        Stop(A),
        Start(&[A]),
        Check("A is still off", |shop| {
            ensure!(shop.status(A)?["enabled"] == false, "A is on again");
            Ok(())
        }),
        Check("A's mesh is switched on", |shop| enable(shop, true)),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
        Check("A is asked to connect anew", |shop| {
            shop.call(A, "POST", "/v1/p2p/reconnect", Some(&json!({})))?.ok().map(drop)
        }),
        Linked(&[A, B], 10),
        Sell(A, "Café", 1, 1),
        Agree(&[A, B], 5),
    ]
}

fn enable(shop: &Shop, enabled: bool) -> Result<()> {
    shop.call(A, "POST", "/v1/p2p/enabled", Some(&json!({ "enabled": enabled })))?.ok().map(drop)
}

fn second_agent() -> Vec<Step> {
    vec![
        Start(&[A]),
        Product(A, "Café", 2500),
        Check("a second agent on A's folder ends with an error that says why", |shop| {
            let folder = shop.folder(A);
            let output = shop.command(A, &["run", "--data-dir", &folder.to_string_lossy()]).output()?;
            ensure!(!output.status.success(), "it ended with {}", output.status);
            let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
            ensure!(
                ["another", "second", "already", "in use"].iter().any(|word| said.contains(word)),
                "it said: {said}"
            );
            Ok(())
        }),
        Note("the first sells on, and its database is whole"),
        Sell(A, "Café", 1, 20),
        Stop(A),
        Start(&[A]),
        Agree(&[A], 5),
    ]
}

fn restored_backup() -> Vec<Step> {
    vec![
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 20),
        Agree(&[A, B], 5),
        Check("A is backed up while it sells", backed_up_while_selling),
        Sell(A, "Café", 1, 20),
        Sell(B, "Café", 1, 20),
        Agree(&[A, B], 5),
        Note("A's card dies; a new one is given the backup"),
        Stop(A),
        Check("A's database is restored from the backup", |shop| {
            let (file, folder) = (backup_file(shop), shop.folder(A));
            tillmesh(shop, &["restore", "--data-dir", &folder.to_string_lossy(), &file])
        }),
        Start(&[A]),
        Note("it sells before it has caught up"),
        Sell(A, "Café", 1, 5),
        Linked(&[A, B], 10),
        Agree(&[A, B], 10),
        Sell(A, "Café", 1, 5),
        Sell(B, "Café", 1, 5),
        Agree(&[A, B], 5),
    ]
}

fn backup_file(shop: &Shop) -> String {
    shop.folder(A).with_extension("backup").to_string_lossy().into_owned()
}

fn backed_up_while_selling(shop: &mut Shop) -> Result<()> {
    let sales: Vec<_> = (0..50).map(|_| shop.sale("Café", 1)).collect();
    let (file, folder) = (backup_file(shop), shop.folder(A));
    let (selling, sold) = (&*shop, sales.as_slice());
    let answers = thread::scope(|scope| {
        let application = scope.spawn(move || selling.send_all(A, sold));
        tillmesh(selling, &["backup", "--data-dir", &folder.to_string_lossy(), &file])?;
        application.join().map_err(|_| anyhow!("the till application panicked"))?
    })?;
    answers.iter().try_for_each(|ticket| shop.book_sale("Café", 1, ticket))
}

/// The command line on A's box.
fn tillmesh(shop: &Shop, words: &[&str]) -> Result<()> {
    let output = shop.command(A, words).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "tillmesh {} ended with {}: {said}", words.join(" "), output.status);
    Ok(())
}
