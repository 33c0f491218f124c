//! The rig itself: its faults bite, and heal.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::Scenario;
use crate::hub::{Air, Counts};
use crate::lan::{A, B, C, Name};
use crate::lib::eventually;
use crate::shop::Shop;
use crate::step::Step::{self, *};

const PORT: u16 = 9;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "the-rig-itself",
            tills: 3,
            shows: "cables, cuts and addresses do what the steps say",
            steps: faults,
        },
        Scenario {
            name: "the-hub-itself",
            tills: 3,
            shows: "the hub loses, delays, doubles and swallows frames as it is told, and puts them out of order",
            steps: hub_faults,
        },
    ]
}

fn faults() -> Vec<Step> {
    vec![
        Check("all hear each other", |shop| hears(shop, &[(A, B), (B, C), (C, A)], &[])),
        Unplug(B),
        Check("A and C only", |shop| hears(shop, &[(A, C), (C, A)], &[(A, B), (B, C)])),
        Plug(B),
        Check("all hear each other", |shop| hears(shop, &[(A, B), (B, C), (C, A)], &[])),
        Split(&[&[A, B], &[C]]),
        Check("A and B only", |shop| hears(shop, &[(A, B), (B, A)], &[(A, C), (C, B)])),
        Heal,
        Check("all hear each other", |shop| hears(shop, &[(A, B), (B, C), (C, A)], &[])),
        Line(B),
        Check("all but A and C", |shop| hears(shop, &[(A, B), (B, C), (C, B)], &[(A, C), (C, A)])),
        Heal,
        Readdress(C, "10.77.0.99"),
        Check("all hear each other, C at its new address", |shop| hears(shop, &[(A, B), (B, C), (C, A)], &[])),
    ]
}

fn hub_faults() -> Vec<Step> {
    vec![
        Hub,
        Check("all hear each other, and nothing happens to a frame", |shop| {
            hears(shop, &[(A, B), (B, C), (C, A)], &[])?;
            let Counts { delivered, lost, late, overtaken, doubled, swallowed } = shop.lan.counts()?;
            ensure!(delivered > 0, "none was delivered");
            ensure!(lost + late + overtaken + doubled + swallowed == 0, "{}", shop.lan.counts()?);
            Ok(())
        }),
        Split(&[&[A, B], &[C]]),
        Check("A and B only", |shop| hears(shop, &[(A, B), (B, A)], &[(A, C), (C, B)])),
        Check("what was for C was swallowed", |shop| happened(shop, |counts| counts.swallowed)),
        Heal,
        Check("all hear each other", |shop| hears(shop, &[(A, B), (B, C), (C, A)], &[])),
        SetAir(Air { loss_percent: 100, ..Air::default() }),
        Check("nobody hears anybody", |shop| hears(shop, &[], &[(A, B), (C, A)])),
        Check("all was lost", |shop| happened(shop, |counts| counts.lost)),
        SetAir(Air { delay_ms: 150, ..Air::default() }),
        Check("a connection takes as long as its frames are late", |shop| {
            let began = Instant::now();
            hears(shop, &[(A, B)], &[])?;
            let took = began.elapsed();
            ensure!(took >= Duration::from_millis(300), "{took:?}");
            happened(shop, |counts| counts.late)
        }),
        SetAir(Air { delay_ms: 20, jitter_ms: 20, overtake_percent: 30, double_percent: 30, ..Air::default() }),
        Check("frames are doubled", |shop| happened(shop, |counts| counts.doubled)),
        Check("and overtaken", |shop| happened(shop, |counts| counts.overtaken)),
    ]
}

/// A talks to B until the hub has counted a fault.
fn happened(shop: &mut Shop, count: fn(&Counts) -> u64) -> Result<()> {
    eventually(Duration::from_secs(20), "the fault is counted", || {
        connects(shop, A, B)?;
        let counts = shop.lan.counts()?;
        ensure!(count(&counts) > 0, "{counts}");
        Ok(())
    })?;
    shop.say(&format!("   {}", shop.lan.counts()?));
    Ok(())
}

fn connects(shop: &Shop, from: Name, to: Name) -> Result<bool> {
    let address: SocketAddr = format!("{}:{PORT}", shop.lan.address(to)).parse()?;
    let _listener = shop.lan.inside(to, || Ok(TcpListener::bind(address)?))?;
    shop.lan.inside(from, || Ok(TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()))
}

/// Whether a connection from the first to the second comes about, for each pair of `yes`, and does not, for each of `no`.
fn hears(shop: &mut Shop, yes: &[(Name, Name)], no: &[(Name, Name)]) -> Result<()> {
    for (from, to) in yes {
        eventually(Duration::from_secs(20), "a fault heals", || {
            ensure!(connects(shop, *from, *to)?, "{from} does not hear {to}");
            Ok(())
        })?;
    }
    for (from, to) in no {
        ensure!(!connects(shop, *from, *to)?, "{from} hears {to}");
    }
    Ok(())
}
