//! A new till in a shop with a past, and cards that have damaged what they held.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use serde_json::json;

use super::cards::{compacted, grow_older, look};
use crate::lan::{A, B, Name};
use crate::lib::eventually;
use crate::shop::{Shop, Write};
use crate::step::Step::{self, *};
use crate::trade::product_path;
use crate::{Scenario, is_full};

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "divergence",
            tills: 2,
            shows: "a till whose state is not what its changes make of it is told so by the other, and mended",
            steps: divergence,
        },
        Scenario {
            name: "bootstrap",
            tills: 2,
            shows: "a new till takes a large shop's past by snapshot, over a cut, and shows how far it is; both sell meanwhile",
            steps: bootstrap,
        },
        Scenario {
            name: "damaged-rows",
            tills: 2,
            shows: "rows that a card has damaged are found, told, and had again from the other till",
            steps: damaged_rows,
        },
    ]
}

// -------------------------------------------------------------------------------------------------------- bootstrap

/// Tickets and products of the shop that the new till comes to.
fn size() -> (usize, usize) {
    if is_full() { (100_000, 10_000) } else { (5_000, 500) }
}

/// A sale is answered within this, whatever else the till does. The target is a few milliseconds: this is a machine that tests.
const SALE_MAX: Duration = Duration::from_secs(2);

fn bootstrap() -> Vec<Step> {
    vec![
        Start(&[A]),
        Product(A, "Café", 2500),
        Check("A has years of tickets, and products", |shop| {
            let (tickets, products) = size();
            shop.sell_many(A, "Café", 1, tickets)?;
            let more: Vec<Write> = (0..products)
                .map(|n| {
                    let name = format!("Produit {n}");
                    let body = json!({ "sku": name, "name": name, "price": n });
                    Write { method: "PUT", path: product_path(&name), body }
                })
                .collect();
            shop.send_all(A, &more).map(drop)
        }),
        Check("of which no single changes are kept", |shop| {
            let (tickets, products) = size();
            let all = (tickets + products) as i64;
            grow_older(shop, &[A], 1)?;
            eventually(Duration::from_secs(60), "it is noted where the log stands", || {
                let noted: i64 =
                    look(shop, A)?.query_row("SELECT coalesce(max(head), 0) FROM mark", [], |row| row.get(0))?;
                ensure!(noted >= all, "{noted} of {all}");
                Ok(())
            })?;
            grow_older(shop, &[A], 8)?;
            compacted(shop, A, all)
        }),
        Check("sales on A take so long", |shop| {
            let alone = (0..50).map(|_| timed_sale(shop, A)).collect::<Result<Vec<_>>>()?;
            shop.notes.insert("alone", json!(median(alone)));
            Ok(())
        }),
        Note("B is new"),
        Start(&[B]),
        Check("B takes a snapshot over a cut of its cable; both sell, and B shows how far it is", taken_over_a_cut),
        Agree(&[A, B], 60),
        Check("B was not sent its past change by change", |shop| compacted(shop, B, size().0 as i64)),
        Sell(B, "Café", 1, 5),
        Agree(&[A, B], 10),
    ]
}

/// Milliseconds until a sale was acknowledged.
fn timed_sale(shop: &mut Shop, till: Name) -> Result<f64> {
    let began = Instant::now();
    shop.sell(till, "Café", 1)?;
    let took = began.elapsed();
    ensure!(took < SALE_MAX, "a sale on {till} took {took:.1?}");
    Ok(took.as_secs_f64() * 1000.0)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn taken_over_a_cut(shop: &mut Shop) -> Result<()> {
    let (tickets, _) = size();
    let began = Instant::now();
    let (mut on_a, mut on_b, mut lights, mut shown) = (Vec::new(), Vec::new(), BTreeSet::new(), Vec::new());
    let mut cut_at = None;
    loop {
        ensure!(began.elapsed() < Duration::from_secs(600), "no end of it: B shows {shown:?}");
        on_a.push(timed_sale(shop, A)?);
        on_b.push(timed_sale(shop, B)?);
        let status = shop.status(B)?;
        lights.insert(status["led"].as_str().unwrap_or_default().to_owned());
        let rows = status["snapshot"]["rows"].as_u64();
        shown.extend(rows);
        if rows.is_some() && shown.len() == 1 {
            // A quick machine would be done before the LED, which waits for a second, says that there is something to do.
            shop.while_held(A, || {
                eventually(Duration::from_secs(8), "B's LED shows that it syncs", || {
                    let led = shop.status(B)?["led"].clone();
                    lights.insert(led.as_str().unwrap_or_default().to_owned());
                    ensure!(led == "syncing", "it shows {led}");
                    Ok(())
                })
                .map(drop)
            })?;
        }
        if cut_at.is_none() && rows.is_some_and(|rows| rows > tickets as u64 / 10) {
            cut_at = Some(shown.len());
            shop.say("   the cable is pulled, and in again");
            shop.lan.unplug(B)?;
            shop.lan.plug(B)?;
            shop.call(B, "POST", "/v1/p2p/reconnect", None)?.ok()?;
        }
        let here = status["counts"]["tickets"].as_u64().with_context(|| format!("no count of tickets: {status}"))?;
        if rows.is_none() && here >= tickets as u64 {
            break;
        }
    }
    let alone = shop.notes["alone"].as_f64().unwrap_or_default();
    shop.say(&format!(
        "   after {:.1} s, with {} sales on each; a sale took {:.1} ms on A and {:.1} ms on B, {alone:.1} ms before (medians)",
        began.elapsed().as_secs_f64(),
        on_a.len(),
        median(on_a),
        median(on_b),
    ));
    let cut_at = cut_at.with_context(|| format!("it was over before it could be cut: B showed {shown:?}"))?;
    let (before, after) = shown.split_at(cut_at);
    let had = before.last().copied().unwrap_or_default();
    let resumed = after.iter().find(|rows| **rows > 0).is_none_or(|rows| *rows >= had);
    ensure!(before.is_sorted() && resumed, "B began anew: it showed {before:?}, then {after:?}");
    ensure!(lights.contains("syncing"), "the LED showed {lights:?}");
    let log = shop.log(B);
    ensure!(
        log.contains("taking a snapshot from") && log.contains("a snapshot was taken whole"),
        "the log does not tell"
    );
    Ok(())
}

// ------------------------------------------------------------------------------------------------------- damaged rows

fn damaged_rows() -> Vec<Step> {
    vec![
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 30),
        Sell(B, "Café", 2, 30),
        Agree(&[A, B], 10),
        Stop(B),
        Check("the card has damaged a ticket and a product", |shop| {
            spoil(shop, "UPDATE ticket SET body = x'01' || substr(body, 2) WHERE idx = 20")?;
            spoil(shop, "UPDATE entity SET registers = substr(registers, 2) WHERE alive = 1 AND sku = 'Café'")
        }),
        Unplug(B),
        Start(&[B]),
        Check("it is looked for", |shop| shop.call(B, "POST", "/v1/store/scrub", None)?.ok().map(drop)),
        Alert(B, &["storeDamaged"], 20),
        Sell(B, "Café", 1, 5),
        Plug(B),
        Linked(&[A, B], 20),
        NoAlert(B, &["storeDamaged"], 30),
        Agree(&[A, B], 10),
        Check("no row is damaged any more", |shop| {
            shop.stop(B)?;
            let database = Connection::open(shop.folder(B).join("till.db"))?;
            let body: Vec<u8> = database.query_row("SELECT body FROM ticket WHERE idx = 20", [], |row| row.get(0))?;
            ensure!(body.first() != Some(&1), "the ticket is as the card made it");
            shop.start(B)
        }),
    ]
}

/// Changes what B has on its card; it is off.
fn spoil(shop: &Shop, sql: &str) -> Result<()> {
    let changed = Connection::open(shop.folder(B).join("till.db"))?.execute(sql, [])?;
    ensure!(changed == 1, "{changed} rows: {sql}");
    Ok(())
}

// --------------------------------------------------------------------------------------------------------- divergence

fn divergence() -> Vec<Step> {
    vec![
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        StockIn(A, "Café", 100),
        Sell(A, "Café", 1, 10),
        Sell(B, "Café", 2, 10),
        Agree(&[A, B], 10),
        Stop(B),
        Check("the card has damaged B's stock", |shop| spoil(shop, "UPDATE stock SET total = total + 7000")),
        Start(&[B]),
        Linked(&[A, B], 20),
        Check("they find that they differ", |shop| {
            eventually(Duration::from_secs(60), "divergence", || {
                let told =
                    [A, B].iter().any(|till| shop.log(*till).contains("holds the same changes and another state"));
                ensure!(told, "neither log tells of it");
                Ok(())
            })
            .map(drop)
        }),
        Agree(&[A, B], 30),
        NoAlert(A, &["divergence"], 60),
        NoAlert(B, &["divergence", "storeDamaged"], 60),
        Check("it was found and counted again", |shop| {
            ensure!(shop.log(B).contains("it was counted again"), "B's log does not tell");
            Ok(())
        }),
    ]
}
