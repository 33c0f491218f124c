//! Cards: they die, and they are copied.

use std::fs;

use anyhow::{Result, ensure};

use super::boxes::tickets;
use crate::Scenario;
use crate::lan::{A, B, C, Name};
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
    ]
}

/// The alerts' codes, as the steps look for them: in quotes, for some are words that other alerts use.
const CLONE: &[&str] = &["\"clone\""];
const FORK: &[&str] = &["\"fork\""];

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
        Check("all but A's config is gone", |shop| {
            let config = shop.config(A)?;
            fs::remove_dir_all(shop.folder(A))?;
            shop.provision(A, &config)
        }),
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
                let found = alerts.iter().any(|alert| alert.starts_with(FORK[0]));
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
