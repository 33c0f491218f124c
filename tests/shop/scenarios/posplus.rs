//! The eight checks that POSPlus's own test guide has for two tills.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::Scenario;
use crate::lan::{A, B};
use crate::shop::{Shop, Write, product_id};
use crate::step::Step::{self, *};
use crate::trade::product_path;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario {
        name: "eight-checks",
        tills: 2,
        shows: "what POSPlus's test guide asks of two tills",
        steps: eight_checks,
    }]
}

fn eight_checks() -> Vec<Step> {
    vec![
        Note("check 8: a first start writes the config"),
        Check("A's first start, without a config, makes one", first_start),
        Note("check 1: two tills find each other"),
        Start(&[A]),
        Check("5 s later", |_| pause(5)),
        Start(&[B]),
        Linked(&[A, B], 5),
        Note("check 2: the indicator is green, with one peer"),
        Check("both say 1 peer connected, LED connected", indicator),
        Note("check 3: a sale on A is in B's history"),
        Product(A, "Café", 5000),
        Sell(A, "Café", 2, 1),
        Agree(&[A, B], 5),
        Check("the ticket on B: 2 x Café, cash 10.000", coffee),
        Note("check 4: stock 100, five sold on A, 95 on both"),
        Product(A, "Eau", 1000),
        StockIn(A, "Eau", 100),
        InStock(&[A, B], "Eau", 100, 2),
        Sell(A, "Eau", 5, 1),
        InStock(&[A, B], "Eau", 95, 2),
        Note("check 5: a product made on B is on A"),
        Check("B: category Boissons, product Jus d'Orange at 4.500", orange_juice),
        StockIn(B, "Jus d'Orange", 50),
        InStock(&[A, B], "Jus d'Orange", 50, 2),
        Check("A has it, in its category", orange_juice_on_a),
        Note("check 6: B's network off for 10 s, then on"),
        Unplug(B),
        Peers(A, 0, 10),
        Peers(B, 0, 10),
        Sell(A, "Eau", 1, 3),
        Sell(B, "Eau", 1, 3),
        Plug(B),
        Linked(&[A, B], 10),
        InStock(&[A, B], "Eau", 89, 5),
        Note("check 7: B killed, restarted 5 s later"),
        Kill(B),
        Check("5 s later", |_| pause(5)),
        Start(&[B]),
        Linked(&[A, B], 10),
        Agree(&[A, B], 5),
        Stop(A),
        Stop(B),
    ]
}

fn pause(seconds: u64) -> Result<()> {
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}

fn first_start(shop: &mut Shop) -> Result<()> {
    shop.start_as_it_is(A)?;
    let config = shop.config(A)?;
    let pos_id = config["posId"].as_str().context("no posId")?;
    let digits = pos_id.strip_prefix("POS-").context("posId does not begin with POS-")?;
    ensure!(digits.len() == 8 && digits.chars().all(|c| c.is_ascii_hexdigit()), "posId {pos_id}");
    ensure!(config["posName"] == "POSPlus-caisse-a", "posName {}", config["posName"]);
    ensure!(config["posType"] == "desktop", "posType {}", config["posType"]);
    let created = config["createdAt"].as_str().context("no createdAt")?;
    ensure!(created.len() == 24 && created.ends_with('Z'), "createdAt {created}");
    let p2p =
        json!({ "enabled": true, "port": 3030, "discoveryEnabled": true, "autoSync": true, "reconnectInterval": 5000 });
    for (key, value) in p2p.as_object().context("an object")? {
        ensure!(&config["p2p"][key] == value, "p2p.{key} is {}", config["p2p"][key]);
    }
    shop.stop(A)?;
    ensure!(shop.config(A)?["posId"] == pos_id, "stopping changed the identity");
    // How the second till joins: it is given the store that the first has made.
    shop.store = config["store"].clone();
    Ok(())
}

fn indicator(shop: &mut Shop) -> Result<()> {
    for till in [A, B] {
        let status = shop.status(till)?;
        ensure!(status["connectedPeers"] == 1 && status["totalPeers"] == 1, "{till}: {status}");
        ensure!(status["serverRunning"] == true && status["enabled"] == true, "{till}: {status}");
        let led = status["led"].as_str().context("no led")?.to_lowercase();
        ensure!(led == "connected" || led == "syncing", "{till}: LED {led}");
    }
    Ok(())
}

fn coffee(shop: &mut Shop) -> Result<()> {
    let id = shop.books.tickets.keys().next().context("no ticket")?.clone();
    let ticket = shop.get(B, &format!("/v1/tickets/{id}"))?;
    let line = &ticket["lines"][0];
    ensure!(line["name"] == "Café" && line["quantity"].as_f64() == Some(2.0) && line["unitPrice"] == 5000, "{ticket}");
    let payment = &ticket["payments"][0];
    ensure!(payment["method"] == "cash" && payment["amount"] == 10_000, "{ticket}");
    ensure!(ticket["total"] == 10_000 && ticket["due"] == 0 && ticket["status"] == "completed", "{ticket}");
    ensure!(ticket["posId"] == shop.config(A)?["posId"], "{ticket}");
    Ok(())
}

fn orange_juice(shop: &mut Shop) -> Result<()> {
    let category = product_id("category Boissons");
    shop.send(
        B,
        &Write { method: "PUT", path: format!("/v1/categories/{category}"), body: json!({ "name": "Boissons" }) },
    )?;
    shop.put_product(B, "Jus d'Orange", 4500)?;
    shop.edit_product(B, "Jus d'Orange", &json!({ "categoryId": category }))
}

fn orange_juice_on_a(shop: &mut Shop) -> Result<()> {
    let product = shop.get(A, &product_path("Jus d'Orange"))?;
    ensure!(product["price"] == 4500, "{product}");
    let category = product["categoryId"].as_str().with_context(|| format!("no category: {product}"))?;
    let category = shop.get(A, &format!("/v1/categories/{category}"))?;
    ensure!(category["name"] == "Boissons", "{category}");
    Ok(())
}
