//! `tillmesh provision`: writes the `pos-config.json` that a technician puts on the boot partition of a card, for one till or for a list.

mod list;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use super::print;
use super::reservations::{Reservation, ReservationFormat, table};
use crate::config::{Config, ConfigManager, DataDir, hostname};

/// What all tills of a shop are given alike.
#[derive(Debug, Default)]
pub struct ShopOptions {
    /// A file with the `store` object: of `tillmesh store new --json`, or the `pos-config.json` of a till of the store. Without one
    /// it is that of the data folder.
    pub store: Option<PathBuf>,
    /// The router, for static addresses.
    pub gateway: Option<String>,
    /// Name servers, for static addresses.
    pub dns: Vec<String>,
    /// Where the local API listens, if not on the till alone.
    pub api: Option<String>,
    /// Whether it may listen there although it is not encrypted.
    pub api_plaintext: bool,
    /// Public keys of those who may log in.
    pub ssh_keys: Vec<String>,
    /// IANA.
    pub time_zone: Option<String>,
    /// Country, network and passphrase of the Wi-Fi.
    pub country: Option<String>,
    /// See `country`.
    pub wifi_ssid: Option<String>,
    /// See `country`.
    pub wifi_passphrase: Option<String>,
}

/// What is one till's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TillOptions {
    /// `posId`.
    pub pos_id: String,
    /// `posName`; without one it is the id.
    pub pos_name: Option<String>,
    /// With a prefix (`192.168.1.21/24`) it is static; without, it is what the router shall reserve.
    pub address: Option<String>,
    /// Of its network interface, for the router.
    pub mac: Option<String>,
}

/// Prints the config of one till.
///
/// # Errors
/// All that is wrong with it.
pub fn provision(folder: &DataDir, shop: &ShopOptions, till: &TillOptions) -> anyhow::Result<()> {
    print(&config(&store(folder, shop)?, shop, till)?)?;
    Ok(())
}

/// Writes `DIR/<posId>/pos-config.json` for every line of a CSV file, and `DIR/reservations.csv` for the router.
///
/// # Errors
/// All that is wrong with the list, by line; nothing is written then.
pub fn provision_list(folder: &DataDir, shop: &ShopOptions, csv: &Path, out: &Path) -> anyhow::Result<()> {
    let text = fs::read_to_string(csv).with_context(|| format!("cannot read {}", csv.display()))?;
    let tills = list::read(&text)?;
    let store = store(folder, shop)?;
    let mut texts = Vec::new();
    let mut wrong = String::new();
    for (line, till) in &tills {
        match config(&store, shop, till) {
            Ok(text) => texts.push((&till.pos_id, text)),
            Err(error) => wrong += &format!("line {line}: {error:#}\n"),
        }
    }
    if !wrong.is_empty() {
        bail!("{} must be corrected:\n{}", csv.display(), wrong.trim_end());
    }
    for (pos_id, text) in &texts {
        let folder = out.join(pos_id);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write_private(&folder.join("pos-config.json"), text)?;
    }
    let reservations: Vec<Reservation> = tills.iter().map(|(_, till)| till.reservation()).collect();
    let table_path = out.join("reservations.csv");
    fs::write(&table_path, table(&reservations, ReservationFormat::Csv)?)
        .with_context(|| format!("cannot write {}", table_path.display()))?;
    print(&format!(
        "{} tills: put DIR/<posId>/pos-config.json of {} on the boot partition of each card; what the router should reserve is in {}\n",
        texts.len(),
        out.display(),
        table_path.display()
    ))?;
    Ok(())
}

impl TillOptions {
    fn reservation(&self) -> Reservation {
        let address =
            self.address.as_deref().and_then(|address| address.split('/').next()).and_then(|text| text.parse().ok());
        Reservation { pos_id: self.pos_id.clone(), mac: self.mac.clone(), address }
    }
}

/// The `store` object that the tills share.
fn store(folder: &DataDir, shop: &ShopOptions) -> anyhow::Result<Value> {
    let path = shop.store.clone().unwrap_or_else(|| folder.config());
    let text = fs::read_to_string(&path).with_context(|| {
        format!(
            "cannot read a store from {}: make one with `tillmesh store new --json`, and give its file with --store",
            path.display()
        )
    })?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    Ok(value.get("store").cloned().unwrap_or(value))
}

/// The text of a config, checked as the box itself will check it.
fn config(store: &Value, shop: &ShopOptions, till: &TillOptions) -> anyhow::Result<String> {
    let name = till.pos_name.as_ref().unwrap_or(&till.pos_id);
    let mut all = object(json!({ "posId": till.pos_id, "posName": name, "store": store }));
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            all.insert(name.to_owned(), value);
        }
    };
    set(
        "api",
        shop.api.as_ref().map(|listen| match shop.api_plaintext {
            true => json!({ "listen": listen, "plaintext": true }),
            false => json!({ "listen": listen }),
        }),
    );
    set("ssh", (!shop.ssh_keys.is_empty()).then(|| json!({ "keys": shop.ssh_keys })));
    set("timezone", shop.time_zone.as_ref().map(|zone| json!(zone)));
    set("country", shop.country.as_ref().map(|country| json!(country)));
    set("network", Some(network(shop, till)));
    let text = serde_json::to_string_pretty(&all).context("the config")? + "\n";
    let _: Config = ConfigManager::verify(text.as_bytes())?;
    Ok(text)
}

fn network(shop: &ShopOptions, till: &TillOptions) -> Value {
    let fixed = till.address.as_ref().filter(|address| address.contains('/'));
    let mut network = object(match fixed {
        None => json!({ "mode": "dhcp" }),
        Some(address) => json!({ "mode": "static", "address": address }),
    });
    if fixed.is_some() {
        if let Some(gateway) = &shop.gateway {
            network.insert("gateway".to_owned(), json!(gateway));
        }
        if !shop.dns.is_empty() {
            network.insert("dns".to_owned(), json!(shop.dns));
        }
    }
    if let Some(ssid) = &shop.wifi_ssid {
        let mut wifi = object(json!({ "ssid": ssid }));
        if let Some(passphrase) = &shop.wifi_passphrase {
            wifi.insert("passphrase".to_owned(), json!(passphrase));
        }
        network.insert("wifi".to_owned(), Value::Object(wifi));
    }
    Value::Object(network)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// It holds the store key.
fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut open = fs::OpenOptions::new();
    let opened = open.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = r#"{"id": "00000000-0000-4000-8000-000000000001", "name": "Café", "currency": "TND", "timeZone": "Africa/Tunis",
        "key": "EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EX88F09"}"#;

    fn place() -> (tempfile::TempDir, DataDir, ShopOptions) {
        let place = tempfile::tempdir().unwrap();
        let folder = DataDir::resolve(Some(&place.path().join("none")), |_| None).unwrap();
        fs::write(place.path().join("store.json"), STORE).unwrap();
        let shop = ShopOptions { store: Some(place.path().join("store.json")), ..ShopOptions::default() };
        (place, folder, shop)
    }

    #[test]
    fn a_till_of_a_list_gets_a_file_and_the_router_a_table() {
        let (place, folder, shop) = place();
        let (csv, out) = (place.path().join("tills.csv"), place.path().join("out"));
        fs::write(&csv, "posId,posName,mac,address\nPOS-1,\"Caisse 1, entrée\",b8:27:eb:00:00:01,192.168.1.21\nPOS-2,,,192.168.1.22/24\n").unwrap();
        let shop = ShopOptions { gateway: Some("192.168.1.1".into()), ..shop };
        provision_list(&folder, &shop, &csv, &out).unwrap();
        let read = |id: &str| ConfigManager::verify(&fs::read(out.join(id).join("pos-config.json")).unwrap()).unwrap();
        assert_eq!(
            (read("POS-1").pos_name.as_str(), read("POS-1").network),
            ("Caisse 1, entrée", crate::config::Network::Dhcp)
        );
        assert!(matches!(read("POS-2").network, crate::config::Network::Static { gateway: Some(_), .. }));
        let table = fs::read_to_string(out.join("reservations.csv")).unwrap();
        assert_eq!(
            table,
            "posId,hostname,mac,address\nPOS-1,pos-1,b8:27:eb:00:00:01,192.168.1.21\nPOS-2,pos-2,,192.168.1.22\n"
        );
    }

    #[test]
    fn a_list_with_a_mistake_writes_nothing_and_names_the_lines() {
        let (place, folder, shop) = place();
        let (csv, out) = (place.path().join("tills.csv"), place.path().join("out"));
        fs::write(&csv, "posId;address\nPOS-1;192.168.1.21\nPOS 2;\nPOS-3;192.168.1.900/24\n").unwrap();
        let error = provision_list(&folder, &shop, &csv, &out).unwrap_err().to_string();
        assert!(error.contains("line 3: posId") && error.contains("line 4: network.address"), "{error}");
        assert!(!out.exists());
    }

    #[test]
    fn what_is_written_is_what_a_box_takes() {
        let (_place, folder, shop) = place();
        let shop = ShopOptions {
            country: Some("TN".into()),
            wifi_ssid: Some("shop".into()),
            wifi_passphrase: Some("open sesame".into()),
            time_zone: Some("Africa/Tunis".into()),
            api: Some("0.0.0.0:3031".into()),
            api_plaintext: true,
            ..shop
        };
        let till = TillOptions { pos_id: "POS-1".into(), ..TillOptions::default() };
        let text = config(&store(&folder, &shop).unwrap(), &shop, &till).unwrap();
        let config = ConfigManager::verify(text.as_bytes()).unwrap();
        assert_eq!(config.system.wifi.unwrap().ssid.as_str(), "shop");
        assert_eq!(config.api.listen.port(), 3031);
        let unsaid = ShopOptions { api_plaintext: false, ..shop };
        let refused = super::config(&store(&folder, &unsaid).unwrap(), &unsaid, &till).unwrap_err();
        assert!(refused.to_string().contains("not encrypted"), "{refused}");
    }
}
