//! One shop of tills of two versions. `tests/run levels` runs it, with an agent of the next version that it has built.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::Scenario;
use crate::lan::{A, B, C, Name};

use crate::lib::eventually;
use crate::shop::{AGENT, Shop, Write};
use crate::step::Step::{self, *};
use crate::trade::product_path;

/// What only the next version knows.
const LATER: &str = "allergens";

/// The next version's agent, where the rig is given one.
fn next() -> Option<String> {
    std::env::var("TILLMESH_AGENT_NEXT").ok()
}

pub(super) fn scenarios() -> Vec<Scenario> {
    if next().is_none() {
        return Vec::new();
    }
    vec![Scenario {
        name: "two-versions",
        tills: 3,
        shows: "tills of this version and of the next are one shop, and are updated one by one",
        steps: two_versions,
    }]
}

fn two_versions() -> Vec<Step> {
    vec![
        Check("B is of the next version", |shop| give(shop, B, true)),
        Start(&[A, B]),
        Linked(&[A, B], 10),
        Product(A, "Café", 2500),
        Sell(A, "Café", 1, 20),
        Sell(B, "Café", 2, 20),
        Trade(&[A, B], 30),
        Agree(&[A, B], 10),
        Check("B says nothing yet that A cannot read, and names A", |shop| {
            let answer = shop.call(B, "PATCH", &product_path("Café"), Some(&later()))?;
            let name = shop.status(A)?["posId"].as_str().context("no posId")?.to_owned();
            ensure!(
                answer.status == 422 && answer.body.to_string().contains(&name),
                "{}: {}",
                answer.status,
                answer.body
            );
            Ok(())
        }),
        Stop(A),
        Check("A is updated", |shop| give(shop, A, true)),
        Sell(B, "Café", 1, 5),
        Start(&[A]),
        Linked(&[A, B], 10),
        Check("now B says it", |shop| {
            let write = Write { method: "PATCH", path: product_path("Café"), body: later() };
            let told = |shop: &Shop| shop.send(B, &write).map(drop);
            // A tells its version with its next ack.
            eventually(Duration::from_secs(30), "B may say it", || told(shop)).map(drop)
        }),
        Agree(&[A, B], 10),
        Check("a new till is of the earlier version", |shop| give(shop, C, false)),
        Start(&[C]),
        Linked(&[A, B, C], 10),
        Sell(C, "Café", 1, 10),
        Trade(&[A, B, C], 20),
        Check("it has all their sales, and does not know what it cannot know", |shop| {
            eventually(Duration::from_secs(30), "C has them", || {
                let tickets = |till| Ok::<_, anyhow::Error>(shop.status(till)?["counts"]["tickets"].clone());
                let (here, there) = (tickets(C)?, tickets(A)?);
                ensure!(here == there, "C has {here} tickets of {there}");
                Ok(())
            })?;
            ensure!(known(shop, C)?.is_null(), "C knows it");
            Ok(())
        }),
        Stop(C),
        Check("C is updated", |shop| give(shop, C, true)),
        Unplug(C),
        Start(&[C]),
        Check("alone, it knows what it was told before", |shop| {
            ensure!(known(shop, C)? == later()[LATER], "{}", known(shop, C)?);
            Ok(())
        }),
        Plug(C),
        Linked(&[A, B, C], 20),
        Agree(&[A, B, C], 10),
    ]
}

fn give(shop: &mut Shop, till: Name, later: bool) -> Result<()> {
    let program = if later { next().context("no agent of the next version")? } else { AGENT.to_owned() };
    shop.set_program(till, &program)
}

fn later() -> Value {
    json!({ LATER: "lait" })
}

fn known(shop: &Shop, till: Name) -> Result<Value> {
    Ok(shop.get(till, &product_path("Café"))?[LATER].clone())
}
