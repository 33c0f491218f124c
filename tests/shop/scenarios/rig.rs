//! The rig itself: its faults bite, and heal.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::Scenario;
use crate::lan::{A, B, C, Name};
use crate::lib::eventually;
use crate::shop::Shop;
use crate::step::Step::{self, *};

const PORT: u16 = 9;

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![Scenario {
        name: "the-rig-itself",
        tills: 3,
        shows: "cables, cuts and addresses do what the steps say",
        steps: faults,
    }]
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

/// Whether a connection from the first to the second comes about, for each pair of `yes`, and does not, for each of `no`.
fn hears(shop: &mut Shop, yes: &[(Name, Name)], no: &[(Name, Name)]) -> Result<()> {
    let connect = |from: Name, to: Name| -> Result<bool> {
        let address: SocketAddr = format!("{}:{PORT}", shop.lan.address(to)).parse()?;
        let _listener = shop.lan.inside(to, || Ok(TcpListener::bind(address)?))?;
        shop.lan.inside(from, || Ok(TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()))
    };
    for (from, to) in yes {
        eventually(Duration::from_secs(20), "a fault heals", || {
            ensure!(connect(*from, *to)?, "{from} does not hear {to}");
            Ok(())
        })?;
    }
    for (from, to) in no {
        ensure!(!connect(*from, *to)?, "{from} hears {to}");
    }
    Ok(())
}
