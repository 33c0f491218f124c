//! The typed view of a config, its defaults, and the JSON that it is written as. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use uuid::Builder;

use super::address::{Ipv4Net, MESH_PORT, PeerAddress};
use super::check;
use super::key::StoreKey;
use super::problem::Problems;
use super::system::{SshKey, System, Wifi};
use crate::model::id::StoreId;

/// What a store is called, counted in and dated by where nobody said otherwise.
pub const DEFAULT_STORE_NAME: &str = "Boutique";
/// See [`DEFAULT_STORE_NAME`].
pub const DEFAULT_CURRENCY: &str = "TND";
/// See [`DEFAULT_STORE_NAME`].
pub const DEFAULT_TIME_ZONE: &str = "Africa/Tunis";

/// Longest `posName` in bytes: a label of DNS, since it is the instance name that mDNS announces (RFC 6763, 4.1.1).
pub(super) const POS_NAME_BYTES_MAX: usize = 63;

/// A config whose every value has been checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `posId`: the till's human name, as in `POS-3f2a9c1e`; 1 to 32 letters, digits, `-`, `_`, `.`.
    pub pos_id: String,
    /// `posName`: what the till is called on screens and by mDNS; 1 to 63 bytes.
    pub pos_name: String,
    /// `posType`.
    pub pos_type: PosType,
    /// `p2p`.
    pub p2p: P2p,
    /// `createdAt`: when this till was first set up, to the millisecond.
    pub created_at: Timestamp,
    /// `store`.
    pub store: StoreSection,
    /// `peers`: tills that are dialled whatever mDNS says.
    pub peers: Vec<PeerAddress>,
    /// `api`.
    pub api: Api,
    /// `posplus`.
    pub posplus: PosPlus,
    /// `led`.
    pub led: Led,
    /// `network`: applied by the image when the box boots, not by the agent.
    pub network: Network,
    /// What else the image sets up when the box boots.
    pub system: System,
}

/// What kind of machine the till is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PosType {
    /// A till at its place.
    Desktop,
    /// A portable computer.
    Laptop,
    /// A telephone or tablet.
    Mobile,
}

impl PosType {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Laptop => "laptop",
            Self::Mobile => "mobile",
        }
    }
}

/// The mesh, as POSPlus's `p2p` section says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct P2p {
    /// Whether the till meshes at all.
    pub enabled: bool,
    /// The port that the till listens on, 1 to 65535.
    pub port: u16,
    /// Whether the till announces itself and looks for others by mDNS.
    pub discovery_enabled: bool,
    /// Whether ops are exchanged by themselves, or only when asked.
    pub auto_sync: bool,
    /// `reconnectInterval`, written in milliseconds: 100 ms to one hour.
    pub reconnect_interval: Duration,
}

impl Default for P2p {
    fn default() -> Self {
        Self {
            enabled: true,
            port: MESH_PORT,
            discovery_enabled: true,
            auto_sync: true,
            reconnect_interval: Duration::from_secs(5),
        }
    }
}

/// The store, the same on each of its tills.
#[derive(Debug, Clone, PartialEq)]
pub struct StoreSection {
    /// Minted once, unchanged by key rotation.
    pub id: StoreId,
    /// 1 to 64 characters.
    pub name: String,
    /// An ISO 4217 code that [`currency_decimals`](crate::model::currency::currency_decimals) knows.
    pub currency: String,
    /// By which the store's days are counted. Always one with an IANA name.
    pub time_zone: TimeZone,
    /// What the tills prove to one another that they hold.
    pub key: StoreKey,
    /// How a till with the key comes into the roster.
    pub admission: Admission,
}

/// How a till that holds the store key comes into the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admission {
    /// At once.
    #[default]
    Auto,
    /// Once an operator accepts it.
    Manual,
}

impl StoreSection {
    /// A new store. The entropy must come from the system's randomness: 16 bytes make the id, 32 the key.
    ///
    /// # Errors
    /// All that is wrong with the name, the currency and the time zone.
    pub fn mint(name: &str, currency: &str, time_zone: &str, entropy: &[u8; 48]) -> Result<Self, Problems> {
        let (id, key) = entropy.split_at(16);
        let mut bytes = ([0; 16], [0; 32]);
        bytes.0.copy_from_slice(id);
        bytes.1.copy_from_slice(key);
        let id = StoreId(Builder::from_random_bytes(bytes.0).into_uuid());
        let (name, currency, time_zone) = check::store_parts(name, currency, time_zone)?;
        Ok(Self { id, name, currency, time_zone, key: StoreKey::from_bytes(bytes.1), admission: Admission::Auto })
    }

    /// The `store` object of a config, key included: a secret.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = object(json!({
            "id": self.id.to_string(), "name": self.name, "currency": self.currency, "timeZone": self.time_zone_name(),
            "key": self.key.to_text(),
        }));
        if self.admission == Admission::Manual {
            object.insert("admission".to_owned(), json!("manual"));
        }
        object
    }

    /// The IANA name of the time zone.
    #[must_use]
    pub fn time_zone_name(&self) -> &str {
        self.time_zone.iana_name().unwrap_or(DEFAULT_TIME_ZONE)
    }
}

/// The local HTTP API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// Where it listens; port 0 lets the system choose one. A loopback address, unless `plaintext` says otherwise.
    pub listen: SocketAddr,
    /// Whether it may listen for other machines although it has no TLS: tokens and all that is asked can be read on the way.
    pub plaintext: bool,
}

impl Default for Api {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 3031)), plaintext: false }
    }
}

impl Api {
    fn to_json(&self) -> Value {
        let listen = json!(self.listen.to_string());
        if self.plaintext { json!({ "listen": listen, "plaintext": true }) } else { json!({ "listen": listen }) }
    }
}

/// Links with POSPlus itself, which are plaintext and unauthenticated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PosPlus {
    /// Off unless said otherwise.
    pub enabled: bool,
    /// The addresses that such a link may come from or go to.
    pub allow: Vec<IpAddr>,
    /// A user id that exists in POSPlus's databases, which refuse a ticket without one.
    pub user_id: Option<i64>,
    /// A session id that exists in POSPlus's databases.
    pub session_id: Option<i64>,
}

/// The status LED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Led {
    /// The name of a board file, or `auto`.
    pub board: String,
}

impl Default for Led {
    fn default() -> Self {
        Self { board: "auto".to_owned() }
    }
}

/// How the box gets its address.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Network {
    /// From the router.
    #[default]
    Dhcp,
    /// As written here.
    Static {
        /// The box's address.
        address: Ipv4Net,
        /// In the same network.
        gateway: Option<Ipv4Addr>,
        /// Name servers, in the order they are asked.
        dns: Vec<IpAddr>,
    },
}

impl Config {
    /// The box's name in the network, by [`hostname`].
    #[must_use]
    pub fn hostname(&self) -> String {
        hostname(&self.pos_id)
    }

    /// What a till that starts for the first time is given: an identity, POSPlus's defaults and a store of its own.
    ///
    /// The entropy must come from the system's randomness.
    pub(super) fn first_start(hostname: &str, entropy: &[u8; 64], now: Timestamp) -> Self {
        let (uuid, store) = entropy.split_first_chunk::<16>().expect("64 bytes hold 16");
        let store = store.first_chunk::<48>().expect("64 bytes less 16 are 48");
        let uuid = Builder::from_random_bytes(*uuid).into_uuid().simple().to_string();
        Self {
            pos_id: format!("POS-{}", &uuid[..8]),
            pos_name: default_name(hostname),
            pos_type: PosType::Desktop,
            p2p: P2p::default(),
            created_at: now,
            store: StoreSection::mint(DEFAULT_STORE_NAME, DEFAULT_CURRENCY, DEFAULT_TIME_ZONE, store)
                .expect("the defaults are right, a test says so"),
            peers: Vec::new(),
            api: Api::default(),
            posplus: PosPlus::default(),
            led: Led::default(),
            network: Network::default(),
            system: System::default(),
        }
    }

    /// The config as JSON: POSPlus's keys in POSPlus's order, the store, and those other sections that are not at their
    /// defaults. Holds the store key.
    pub(super) fn to_json(&self) -> Map<String, Value> {
        let mut all = object(json!({
            "posId": self.pos_id, "posName": self.pos_name, "posType": self.pos_type.as_str(), "p2p": self.p2p.to_json(),
            "createdAt": format!("{:.3}", self.created_at), "store": self.store.to_json(),
        }));
        let mut section = |name: &str, at_default: bool, value: Value| {
            if !at_default {
                all.insert(name.to_owned(), value);
            }
        };
        section("peers", self.peers.is_empty(), self.peers.iter().map(ToString::to_string).collect());
        section("api", self.api == Api::default(), self.api.to_json());
        section("posplus", self.posplus == PosPlus::default(), self.posplus.to_json());
        section("led", self.led == Led::default(), json!({ "board": self.led.board }));
        let keys: Value = self.system.ssh_keys.iter().map(SshKey::as_str).collect();
        section("ssh", self.system.ssh_keys.is_empty(), json!({ "keys": keys }));
        let zone = self.system.time_zone.as_ref().and_then(TimeZone::iana_name);
        section("timezone", zone.is_none(), json!(zone));
        let mut network = self.network.to_json();
        let wifi = self.system.wifi.as_ref();
        if let Some(wifi) = wifi {
            network["wifi"] = wifi.to_json();
        }
        section("country", wifi.is_none(), json!(wifi.map(|wifi| wifi.country.as_str())));
        section("network", self.network == Network::Dhcp && wifi.is_none(), network);
        all
    }
}

impl P2p {
    pub(super) fn to_json(&self) -> Value {
        let interval_ms = u64::try_from(self.reconnect_interval.as_millis()).unwrap_or(u64::MAX);
        json!({
            "enabled": self.enabled, "port": self.port, "discoveryEnabled": self.discovery_enabled, "autoSync": self.auto_sync,
            "reconnectInterval": interval_ms,
        })
    }
}

impl PosPlus {
    fn to_json(&self) -> Value {
        let mut all = object(json!({ "enabled": self.enabled, "allow": texts(&self.allow) }));
        for (name, id) in [("userId", self.user_id), ("sessionId", self.session_id)] {
            if let Some(id) = id {
                all.insert(name.to_owned(), json!(id));
            }
        }
        Value::Object(all)
    }
}

impl Wifi {
    fn to_json(&self) -> Value {
        let mut all = object(json!({ "ssid": self.ssid.as_str() }));
        if let Some(passphrase) = &self.passphrase {
            all.insert("passphrase".to_owned(), json!(passphrase.as_str()));
        }
        Value::Object(all)
    }
}

impl Network {
    fn to_json(&self) -> Value {
        let Self::Static { address, gateway, dns } = self else { return json!({ "mode": "dhcp" }) };
        let mut all = object(json!({ "mode": "static", "address": address.to_string() }));
        if let Some(gateway) = gateway {
            all.insert("gateway".to_owned(), json!(gateway.to_string()));
        }
        if !dns.is_empty() {
            all.insert("dns".to_owned(), texts(dns));
        }
        Value::Object(all)
    }
}

fn texts(addresses: &[IpAddr]) -> Value {
    addresses.iter().map(ToString::to_string).collect()
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// A till's name in the network: its `posId` in small letters, digits and hyphens (RFC 1123).
#[must_use]
pub fn hostname(pos_id: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let name: String = pos_id.chars().map(allowed).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "till".to_owned() } else { name.to_owned() }
}

/// `POSPlus-<hostname>`, cut to what mDNS can announce.
fn default_name(hostname: &str) -> String {
    let mut name = String::from("POSPlus-");
    for c in hostname.chars().filter(|c| !c.is_control()) {
        if name.len() + c.len_utf8() > POS_NAME_BYTES_MAX {
            break;
        }
        name.push(c);
    }
    name
}
