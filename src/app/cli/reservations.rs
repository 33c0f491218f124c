//! `tillmesh reservations`: what the shop's router should reserve, so that every till has the same address for ever. A till asks by its
//! hardware address, which stays the same when its card is written anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::client::{Agent, Target};
use super::print;
use crate::config::{MESH_PORT, hostname};

/// What reads the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservationFormat {
    /// Lines of `dnsmasq.conf`.
    Dnsmasq,
    /// `reservations` of a subnet of Kea's `Dhcp4`.
    Kea,
    /// For any other router, and for spreadsheets.
    Csv,
}

/// One till's line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reservation {
    /// `posId`.
    pub(super) pos_id: String,
    /// Six pairs of hex digits with colons; `None` where it is not known.
    pub(super) mac: Option<String>,
    /// What it has, or is to have.
    pub(super) address: Option<Ipv4Addr>,
}

/// Prints the table of all tills that the running agent knows.
///
/// # Errors
/// Where no agent answers.
pub async fn reservations(target: &Target, format: ReservationFormat) -> anyhow::Result<()> {
    let status = Agent::find(target)?.get_json("/v1/status").await?;
    let neighbours = neighbours(&fs::read_to_string("/proc/net/arp").unwrap_or_default());
    let mut tills = of_peers(&status, &neighbours);
    // An agent elsewhere is asked for its tills; this machine is none of them.
    if matches!(target, Target::Folder(_)) {
        let own = status["posId"].as_str().unwrap_or_default();
        tills.insert(0, this_box(own, tills.iter().find_map(|till| till.address)));
    }
    print(&table(&tills, format)?)?;
    Ok(())
}

/// The other tills, by the addresses that their links have.
fn of_peers(status: &Value, neighbours: &BTreeMap<Ipv4Addr, String>) -> Vec<Reservation> {
    let peers = status["peers"].as_array().map(Vec::as_slice).unwrap_or_default();
    peers
        .iter()
        .map(|peer| {
            let address = peer["address"].as_str().and_then(ipv4);
            let mac = address.and_then(|address| neighbours.get(&address).cloned());
            Reservation { pos_id: peer["id"].as_str().unwrap_or_default().to_owned(), mac, address }
        })
        .collect()
}

fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let socket = text.parse().ok().map(|socket: SocketAddr| socket.ip());
    match socket.or_else(|| text.parse().ok()) {
        Some(std::net::IpAddr::V4(address)) => Some(address),
        _ => None,
    }
}

/// The kernel's table of hardware addresses (proc(5), `/proc/net/arp`); entries without an answer have flag 2 unset.
fn neighbours(text: &str) -> BTreeMap<Ipv4Addr, String> {
    let complete =
        |flags: &str| u32::from_str_radix(flags.trim_start_matches("0x"), 16).is_ok_and(|flags| flags & 2 != 0);
    text.lines()
        .skip(1)
        .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [address, _, flags, mac, ..] if complete(flags) => Some((address.parse().ok()?, mac.to_owned())),
            _ => None,
        })
        .collect()
}

/// The address that this box has towards the other tills, and the hardware address of the interface that has it.
fn this_box(pos_id: &str, peer: Option<Ipv4Addr>) -> Reservation {
    let towards = peer.unwrap_or(Ipv4Addr::new(224, 0, 0, 251));
    // A connected UDP socket has sent nothing, and knows its own address.
    let local = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((towards, MESH_PORT))?;
        socket.local_addr()
    });
    let address = local.ok().and_then(|local| ipv4(&local.to_string())).filter(|address| !address.is_loopback());
    let route = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let device = address.and_then(|address| device_of(&route, address));
    let mac = device.and_then(|device| fs::read_to_string(format!("/sys/class/net/{device}/address")).ok());
    Reservation { pos_id: pos_id.to_owned(), mac: mac.map(|mac| mac.trim().to_owned()), address }
}

/// The interface whose network an address is in (proc(5), `/proc/net/route`: words of 32 bits in the machine's order).
fn device_of(route: &str, address: Ipv4Addr) -> Option<String> {
    let word = |text: &str| Some(u32::from_be_bytes(u32::from_str_radix(text, 16).ok()?.to_ne_bytes()));
    route.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (network, mask) = (word(fields.get(1)?)?, word(fields.get(7)?)?);
        (mask != 0 && u32::from(address) & mask == network).then(|| fields[0].to_owned())
    })
}

/// The table as text. A till of which something is not known stands in it as a remark.
pub(super) fn table(tills: &[Reservation], format: ReservationFormat) -> anyhow::Result<String> {
    let known = |till: &Reservation| Some((hostname(&till.pos_id), till.mac.clone()?, till.address?));
    match format {
        ReservationFormat::Dnsmasq => Ok(tills.iter().fold(String::new(), |mut text, till| {
            // Writing to a text cannot fail.
            let _ = match known(till) {
                Some((name, mac, address)) => writeln!(text, "dhcp-host={mac},{address},{name}"),
                None => writeln!(text, "# {}: {}", clean(&till.pos_id), lacking(till)),
            };
            text
        })),
        ReservationFormat::Kea => {
            let entry = |till| {
                known(till)
                    .map(|(name, mac, address)| json!({ "hw-address": mac, "ip-address": address, "hostname": name }))
            };
            let entries: Vec<Value> = tills.iter().filter_map(entry).collect();
            let text = serde_json::to_string_pretty(&json!({ "reservations": entries })).context("the table")?;
            Ok(text + "\n")
        }
        ReservationFormat::Csv => Ok(tills.iter().fold("posId,hostname,mac,address\n".to_owned(), |mut text, till| {
            let address = till.address.map(|address| address.to_string()).unwrap_or_default();
            let mac = till.mac.as_deref().unwrap_or_default();
            let _ = writeln!(text, "{},{},{mac},{address}", clean(&till.pos_id), hostname(&till.pos_id));
            text
        })),
    }
}

fn lacking(till: &Reservation) -> &'static str {
    match (&till.mac, till.address) {
        (_, None) => "its IPv4 address is not known",
        _ => "its hardware address is not known: run this on a till of the same network, while that till is linked",
    }
}

/// A till's name that another till told: without what would begin a new line or field.
fn clean(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARP: &str = "IP address       HW type     Flags       HW address            Mask     Device
192.168.1.22     0x1         0x2         b8:27:eb:00:00:02     *        eth0
192.168.1.23     0x1         0x0         00:00:00:00:00:00     *        eth0
";

    fn tills() -> Vec<Reservation> {
        let status = json!({"posId": "POS-1", "peers": [
            {"id": "POS_2", "address": "192.168.1.22:3030"}, {"id": "POS-3", "address": "192.168.1.23:3030"},
            {"id": "POS-4\ndhcp-host=x", "address": "[fe80::1]:3030"}, {"id": "POS-5", "address": null}]});
        of_peers(&status, &neighbours(ARP))
    }

    #[test]
    fn tills_are_told_as_dnsmasq_reads_them() {
        let text = table(&tills(), ReservationFormat::Dnsmasq).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "dhcp-host=b8:27:eb:00:00:02,192.168.1.22,pos-2");
        assert!(lines[1].starts_with("# POS-3: its hardware address"));
        assert_eq!(lines[2], "# POS-4dhcp-hostx: its IPv4 address is not known");
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn kea_gets_json_and_a_spreadsheet_all_tills() {
        let kea: Value = serde_json::from_str(&table(&tills(), ReservationFormat::Kea).unwrap()).unwrap();
        let entry = json!({"hw-address": "b8:27:eb:00:00:02", "ip-address": "192.168.1.22", "hostname": "pos-2"});
        assert_eq!(kea, json!({ "reservations": [entry] }));
        let csv = table(&tills(), ReservationFormat::Csv).unwrap();
        assert!(csv.starts_with(
            "posId,hostname,mac,address\nPOS_2,pos-2,b8:27:eb:00:00:02,192.168.1.22\nPOS-3,pos-3,,192.168.1.23\n"
        ));
        assert_eq!(csv.lines().count(), 5);
    }

    #[test]
    fn the_interface_is_that_of_the_network() {
        let line = |device: &str, network: [u8; 4], mask: [u8; 4]| {
            let (network, mask) = (u32::from_ne_bytes(network), u32::from_ne_bytes(mask));
            format!("{device}\t{network:08X}\t00000000\t0001\t0\t0\t0\t{mask:08X}\t0\t0\t0\n")
        };
        let route = format!(
            "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n{}{}",
            line("wan0", [0, 0, 0, 0], [0, 0, 0, 0]),
            line("eth0", [192, 168, 1, 0], [255, 255, 255, 0])
        );
        assert_eq!(device_of(&route, Ipv4Addr::new(192, 168, 1, 20)).as_deref(), Some("eth0"));
        assert_eq!(device_of(&route, Ipv4Addr::new(10, 0, 0, 1)), None);
    }
}
