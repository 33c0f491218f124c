//! Steps: a scenario is a list of them, and a failing one reads as a story.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::hub::Air;
use crate::lan::{Name, letters};
use crate::lib::eventually;
use crate::shop::{Shop, thousandths};
use crate::trade::product_path;

/// What the targets are multiplied by before a miss is a failure: the machine that tests may be busy with other things.
const PATIENCE: u64 = 4;

/// Amounts in whole units, money in minor units, times in seconds.
pub(crate) enum Step {
    /// What the next steps are about.
    Note(&'static str),
    /// Merges into the till's config file, as whoever provisions it would.
    Config(Name, Value),
    Hostname(Name, &'static str),
    Start(&'static [Name]),
    /// Asks it to end, as the system does at shutdown.
    Stop(Name),
    /// Ends it as a power cut does.
    Kill(Name),
    Unplug(Name),
    Plug(Name),
    /// Parts of the shop that do not hear each other.
    Split(&'static [&'static [Name]]),
    /// The others hear this one alone.
    Line(Name),
    /// All cables in, one network.
    Heal,
    Readdress(Name, &'static str),
    /// A hub in user space takes the switch's place; for tills that are off.
    Hub,
    /// What the hub does to frames from now on.
    SetAir(Air),
    /// Cuts a box's power, kernel and all, in a shop on the hub; it stays cut off.
    PowerOff(Name),
    Product(Name, &'static str, i64),
    Edit(Name, &'static str, Value),
    Delete(Name, &'static str),
    StockIn(Name, &'static str, i64),
    /// So many tickets of so many units each.
    Sell(Name, &'static str, i64, usize),
    /// Sales, refunds, edits, deliveries, customers: so many, at random.
    Trade(&'static [Name], usize),
    /// Each of these is connected to all others of these, within the target.
    Linked(&'static [Name], u64),
    /// The till says that it has so many peers connected, within the target.
    Peers(Name, u64, u64),
    InStock(&'static [Name], &'static str, i64, u64),
    /// These hold the same, and it is what was acknowledged.
    Agree(&'static [Name], u64),
    /// The till has an alert that says this, in code or message.
    Alert(Name, &'static [&'static str], u64),
    /// It has no such alert, any more.
    NoAlert(Name, &'static [&'static str], u64),
    Check(&'static str, fn(&mut Shop) -> Result<()>),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(text) => write!(f, "-- {text}"),
            Self::Config(till, patch) => write!(f, "{till} is given the config {patch}"),
            Self::Hostname(till, hostname) => write!(f, "{till} is called {hostname}"),
            Self::Start(tills) => write!(f, "switch on {}", letters(tills)),
            Self::Stop(till) => write!(f, "shut down {till}"),
            Self::Kill(till) => write!(f, "kill -9 {till}"),
            Self::Unplug(till) => write!(f, "pull {till}'s cable"),
            Self::Plug(till) => write!(f, "plug {till}'s cable in"),
            Self::Split(parts) => {
                let parts: Vec<String> = parts.iter().map(|part| letters(part)).collect();
                write!(f, "cut the network into {}", parts.join(" | "))
            }
            Self::Line(middle) => write!(f, "all hear {middle} alone"),
            Self::Heal => f.write_str("heal the network"),
            Self::Readdress(till, address) => write!(f, "{till} moves to the address {address}"),
            Self::Hub => f.write_str("a hub in place of the switch"),
            Self::SetAir(air) => write!(f, "the air: {air}"),
            Self::PowerOff(till) => write!(f, "cut the power of {till}'s box"),
            Self::Product(till, product, price) => write!(f, "{till}: product {product} at {price}"),
            Self::Edit(till, product, patch) => write!(f, "{till}: edit {product}: {patch}"),
            Self::Delete(till, product) => write!(f, "{till}: delete {product}"),
            Self::StockIn(till, product, units) => write!(f, "{till}: {units} x {product} come in"),
            Self::Sell(till, product, units, 1) => write!(f, "{till}: sell {units} x {product}"),
            Self::Sell(till, product, units, times) => write!(f, "{till}: {times} tickets of {units} x {product}"),
            Self::Trade(tills, things) => {
                write!(f, "{}: {things} sales, refunds, edits and moves of stock", letters(tills))
            }
            Self::Linked(tills, target) => write!(f, "within {target} s: {} are linked", letters(tills)),
            Self::Peers(till, count, target) => write!(f, "within {target} s: {till} has {count} peers"),
            Self::InStock(tills, product, units, target) => {
                write!(f, "within {target} s: {units} x {product} in stock on {}", letters(tills))
            }
            Self::Agree(tills, target) => {
                write!(f, "within {target} s: {} hold the same, all that was acknowledged", letters(tills))
            }
            Self::Alert(till, words, target) => write!(f, "within {target} s: {till} alerts: {}", words.join(" or ")),
            Self::NoAlert(till, words, target) => {
                write!(f, "within {target} s: {till} has no alert: {}", words.join(" or "))
            }
            Self::Check(text, _) => f.write_str(text),
        }
    }
}

impl Step {
    /// Does it, or waits for it.
    pub(crate) fn run(&self, shop: &mut Shop) -> Result<()> {
        match self {
            Self::Note(_) => Ok(()),
            Self::Check(_, check) => check(shop),
            Self::Config(..) | Self::Hostname(..) | Self::Start(_) | Self::Stop(_) | Self::Kill(_) => {
                self.run_box(shop)
            }
            Self::Unplug(till) => shop.lan.unplug(*till),
            Self::Plug(till) => shop.lan.plug(*till),
            Self::Split(parts) => shop.lan.split(parts),
            Self::Line(middle) => shop.lan.line(*middle),
            Self::Heal => shop.lan.heal(),
            Self::Readdress(till, address) => shop.lan.readdress(*till, address),
            Self::Hub => {
                let seed = shop.rng.next();
                shop.lan.use_hub(seed)
            }
            Self::SetAir(air) => shop.lan.set_air(*air),
            Self::PowerOff(till) => shop.power_off(*till),
            Self::Product(till, product, price) => shop.put_product(*till, product, *price),
            Self::Edit(till, product, patch) => shop.edit_product(*till, product, patch),
            Self::Delete(till, product) => shop.call(*till, "DELETE", &product_path(product), None)?.ok().map(drop),
            Self::StockIn(till, product, units) => shop.move_stock(*till, product, "in", *units),
            Self::Sell(till, product, units, 1) => shop.sell(*till, product, *units).map(drop),
            Self::Sell(till, product, units, times) => shop.sell_many(*till, product, *units, *times),
            Self::Trade(tills, things) => shop.trade(tills, *things),
            _ => self.run_wait(shop),
        }
    }

    fn run_box(&self, shop: &mut Shop) -> Result<()> {
        match self {
            Self::Config(till, patch) => shop.provision(*till, patch),
            Self::Hostname(till, hostname) => shop.set_hostname(*till, hostname),
            Self::Start(tills) => tills.iter().try_for_each(|till| shop.start(*till)),
            Self::Stop(till) => shop.stop(*till),
            Self::Kill(till) => shop.kill(*till),
            _ => Ok(()),
        }
    }

    fn run_wait(&self, shop: &mut Shop) -> Result<()> {
        let text = self.to_string();
        let wait = |target: u64, holds: &dyn Fn() -> Result<()>| eventually(patient(target), &text, holds);
        let took = match self {
            Self::Linked(tills, target) => wait(*target, &|| {
                let others = tills.len() as u64 - 1;
                tills.iter().try_for_each(|till| peers_are(shop, *till, |count| count >= others))
            }),
            Self::Peers(till, wanted, target) => wait(*target, &|| peers_are(shop, *till, |count| count == *wanted)),
            Self::InStock(tills, product, units, target) => wait(*target, &|| {
                tills.iter().try_for_each(|till| {
                    let stock = thousandths(&shop.get(*till, &product_path(product))?["stock"])?;
                    ensure!(stock == units * 1000, "{till} has {stock} thousandths");
                    Ok(())
                })
            }),
            Self::Agree(tills, target) => shop.agree(tills, patient(*target)),
            Self::Alert(till, words, target) => wait(*target, &|| alerts(shop, *till, words, true)),
            Self::NoAlert(till, words, target) => wait(*target, &|| alerts(shop, *till, words, false)),
            _ => return Ok(()),
        }?;
        shop.say(&format!("   after {:.1} s", took.as_secs_f64()));
        Ok(())
    }
}

fn patient(target: u64) -> Duration {
    Duration::from_secs(target * PATIENCE)
}

fn peers_are(shop: &Shop, till: Name, right: impl Fn(u64) -> bool) -> Result<()> {
    let count = shop.status(till)?["connectedPeers"].clone();
    ensure!(count.as_u64().is_some_and(right), "{till} has {count} peers connected");
    Ok(())
}

fn alerts(shop: &Shop, till: Name, words: &[&str], wanted: bool) -> Result<()> {
    let alerts = shop.alerts(till)?;
    let found = alerts.iter().any(|alert| words.iter().any(|word| alert.to_lowercase().contains(&word.to_lowercase())));
    ensure!(found == wanted, "{till} has these alerts: {}", json!(alerts));
    Ok(())
}
