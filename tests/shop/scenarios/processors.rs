//! One shop of boxes with different processors. `tests/run arm` runs it, with agents that it has built for them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::Scenario;
use crate::lan::{A, B, C, Name};
use crate::shop::{Shop, given_agent};
use crate::step::Step::{self, *};

/// What the rig is given for each till: `TILLMESH_AGENT_A` and so on. Without, all tills have the processor of this machine, and there is
/// nothing here to show.
const GIVEN: [Name; 3] = [A, B, C];

pub(super) fn scenarios() -> Vec<Scenario> {
    if GIVEN.iter().any(|name| given_agent(*name).is_none()) {
        return Vec::new();
    }
    vec![Scenario {
        name: "three-processors",
        tills: 3,
        shows: "a 32-bit ARM, a 64-bit ARM and a PC are one shop: the same bytes, hashes and sums on each",
        steps: three_processors,
    }]
}

fn three_processors() -> Vec<Step> {
    vec![
        Start(&[A, B, C]),
        Linked(&[A, B, C], 20),
        Product(A, "Café", 2500),
        Product(B, "Thé", 1800),
        StockIn(C, "Café", 1000),
        Agree(&[A, B, C], 10),
        Note("all of them trade at once"),
        Trade(&[A, B, C], 60),
        Agree(&[A, B, C], 20),
        Note("each sells and edits alone"),
        Split(&[&[A], &[B], &[C]]),
        Sell(A, "Café", 1, 20),
        Sell(B, "Café", 2, 20),
        Sell(C, "Thé", 1, 20),
        Edit(A, "Café", json!({ "price": 2700 })),
        Edit(B, "Thé", json!({ "name": "شاي" })),
        Heal,
        Linked(&[A, B, C], 20),
        Agree(&[A, B, C], 20),
        Note("a power cut on each ARM box, in turn"),
        Kill(A),
        Sell(C, "Café", 1, 10),
        Start(&[A]),
        Agree(&[A, B, C], 20),
        Kill(B),
        Sell(A, "Thé", 1, 10),
        Start(&[B]),
        Agree(&[A, B, C], 20),
        Check("no till finds another's state or tickets different from its own", no_disagreement),
    ]
}

/// Digests and chains of hashes are compared by the tills themselves; they tell by alert.
fn no_disagreement(shop: &mut Shop) -> Result<()> {
    for name in GIVEN {
        let status = shop.status(name)?;
        let alerts: Vec<&Value> = status["alerts"].as_array().into_iter().flatten().collect();
        let bad = ["divergence", "fork", "clone", "storeDamaged"];
        let told = |alert: &&&Value| alert["code"].as_str().is_some_and(|code| bad.contains(&code));
        ensure!(!alerts.iter().any(|alert| told(&alert)), "{name} alerts: {}", status["alerts"]);
    }
    Ok(())
}
