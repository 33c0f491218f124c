//! Reads a document into the typed view: every value checked, every problem told. Pure.
//!
//! What is used where a value is wrong: the value that the database remembers, else the default. Lists keep their right
//! items. `store` and `network` are used whole or not at all, since half of one and half of another is neither.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::document::{Document, Lookup};
use super::problem::{Problem, Problems};
use super::system::{Country, Passphrase, SshKey, System, Wifi};
use super::view::{Admission, Api, Config, Led, Network, P2p, POS_NAME_BYTES_MAX, PosPlus, PosType, StoreSection};
use crate::model::currency::currency_decimals;
use crate::model::id::StoreId;

/// Characters of a wrong value, or of the name of one, that are shown.
const SHOWN_CHARS_MAX: usize = 60;
const POS_ID_CHARS_MAX: usize = 32;
const STORE_NAME_CHARS_MAX: usize = 64;
const BOARD_CHARS_MAX: usize = 64;
/// Items of `peers` and of `posplus.allow`.
const ADDRESSES_MAX: usize = 256;
const DNS_SERVERS_MAX: usize = 8;
const RECONNECT_MS_MIN: i64 = 100;
const RECONNECT_MS_MAX: i64 = 3_600_000;
/// The largest whole number that JavaScript, and so POSPlus, holds exactly.
const JS_INTEGER_MAX: i64 = (1 << 53) - 1;

const SSH_KEYS_MAX: usize = 16;
/// Where a wrong value is not shown: it may be a secret, or hold one.
const SECRETS: [&str; 4] = ["store", "store.key", "network.wifi", "network.wifi.passphrase"];

/// What a till is told that shall answer others without encryption.
const IN_THE_CLEAR: &str = "an address of this till alone, such as 127.0.0.1:3031, for the API is not encrypted; with \"plaintext\": true \
     beside it any address, where nobody else can listen in on that network";

/// A value that was checked, or what is allowed in its place.
type Checked<T> = Result<T, String>;

/// The typed view of a document and all that is wrong with it.
///
/// `fallback` gives the values of `posId`, `posName`, `posType`, `createdAt` and `store` where the document has none, and of
/// everything where the document's own is wrong.
pub(super) fn read(document: &Document, fallback: &Config) -> (Config, Problems) {
    let mut reader = Reader { document, problems: Vec::new() };
    for (path, times) in document.duplicates() {
        reader.note(&path, format!("given {times} times"), "once".to_owned());
    }
    let config = Config {
        pos_id: reader.own("posId", pos_id, &fallback.pos_id),
        pos_name: reader.own("posName", pos_name, &fallback.pos_name),
        pos_type: reader.own("posType", pos_type, &fallback.pos_type),
        p2p: reader.p2p(&fallback.p2p),
        created_at: reader.own("createdAt", timestamp, &fallback.created_at),
        store: reader.store(&fallback.store),
        peers: reader.list(
            "peers",
            ADDRESSES_MAX,
            parsed("a host or host:port, such as 192.168.1.21:3030"),
            &fallback.peers,
        ),
        api: reader.api(&fallback.api),
        posplus: reader.posplus(&fallback.posplus),
        led: reader.led(&fallback.led),
        network: reader.network(&fallback.network),
        system: reader.system(&fallback.system),
    };
    // Both are kept: the API is bound first, so that selling goes on, and the mesh tells that its port is taken.
    if config.p2p.port == config.api.listen.port() {
        reader.note("p2p.port", config.p2p.port.to_string(), "another port than that of api.listen".to_owned());
    }
    (config, Problems(reader.problems))
}

/// The parts of a store that a person chooses, checked. Paths of problems are those within the `store` object.
pub(super) fn store_parts(name: &str, currency: &str, time_zone: &str) -> Result<(String, String, TimeZone), Problems> {
    let mut problems = Vec::new();
    let mut note = |path: &str, value: &str, allowed| {
        let value = shown(&Value::from(value).to_string());
        problems.push(Problem { path: path.to_owned(), value, allowed });
    };
    let parts = (
        store_name(&name.into()).map_err(|allowed| note("name", name, allowed)),
        self::currency(&currency.into()).map_err(|allowed| note("currency", currency, allowed)),
        self::time_zone(&time_zone.into()).map_err(|allowed| note("timeZone", time_zone, allowed)),
    );
    match parts {
        (Ok(name), Ok(currency), Ok(time_zone)) => Ok((name, currency, time_zone)),
        _ => Err(Problems(problems)),
    }
}

struct Reader<'a> {
    document: &'a Document,
    problems: Vec<Problem>,
}

/// What stands under a path, once checked.
enum Given<T> {
    Right(T),
    Absent,
    /// The problem has been noted.
    Wrong,
}

impl Reader<'_> {
    fn note(&mut self, path: &str, value: String, allowed: String) {
        self.problems.push(Problem { path: shown(path), value, allowed });
    }

    fn given<T>(&mut self, path: &str, check: impl Fn(&Value) -> Checked<T>) -> Given<T> {
        let text = match self.document.get(path) {
            Lookup::Found(text) => text,
            Lookup::Absent => return Given::Absent,
            Lookup::Blocked => return Given::Wrong,
        };
        // A well-formed text that makes no value is a number beyond all measure; null is what no check takes.
        let value = serde_json::from_str(text).unwrap_or(Value::Null);
        match check(&value) {
            Ok(right) => Given::Right(right),
            Err(allowed) => {
                let value = if SECRETS.contains(&path) { "(hidden)".to_owned() } else { shown(text) };
                self.note(path, value, allowed);
                Given::Wrong
            }
        }
    }

    /// A field that is the till's own: where there is none, it is the fallback's.
    fn own<T: Clone>(&mut self, path: &str, check: impl Fn(&Value) -> Checked<T>, fallback: &T) -> T {
        self.optional(path, check, fallback.clone(), fallback)
    }

    fn optional<T: Clone>(&mut self, path: &str, check: impl Fn(&Value) -> Checked<T>, absent: T, wrong: &T) -> T {
        match self.given(path, check) {
            Given::Right(right) => right,
            Given::Absent => absent,
            Given::Wrong => wrong.clone(),
        }
    }

    fn required<T>(&mut self, path: &str, check: impl Fn(&Value) -> Checked<T>) -> Option<T> {
        match self.given(path, &check) {
            Given::Right(right) => Some(right),
            Given::Wrong => None,
            Given::Absent => {
                let allowed = check(&Value::Null).err().unwrap_or_default();
                self.note(path, "missing".to_owned(), allowed);
                None
            }
        }
    }

    fn list<T: Clone>(&mut self, path: &str, max: usize, check: impl Fn(&Value) -> Checked<T>, wrong: &[T]) -> Vec<T> {
        let array = |value: &Value| match value {
            Value::Array(items) if items.len() <= max => Ok(items.clone()),
            _ => Err(format!("a list of at most {max}")),
        };
        let items = match self.given(path, array) {
            Given::Right(items) => items,
            Given::Absent => return Vec::new(),
            Given::Wrong => return wrong.to_vec(),
        };
        let mut right = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            match check(item) {
                Ok(item) => right.push(item),
                Err(allowed) => self.note(&format!("{path}[{at}]"), shown(&item.to_string()), allowed),
            }
        }
        right
    }

    /// Whether a section is there; notes one that is no object, and its fields then read as wrong.
    fn section(&mut self, name: &str) -> bool {
        // By its text: one number beyond all measure in it does not make a whole section wrong.
        match self.document.get(name) {
            Lookup::Found(text) if text.starts_with('{') => true,
            Lookup::Found(_) => {
                let _: Given<()> = self.given(name, |_| Err("an object".to_owned()));
                false
            }
            _ => false,
        }
    }

    fn p2p(&mut self, wrong: &P2p) -> P2p {
        self.section("p2p");
        let absent = P2p::default();
        P2p {
            enabled: self.optional("p2p.enabled", boolean, absent.enabled, &wrong.enabled),
            port: self.optional("p2p.port", port, absent.port, &wrong.port),
            discovery_enabled: self.optional(
                "p2p.discoveryEnabled",
                boolean,
                absent.discovery_enabled,
                &wrong.discovery_enabled,
            ),
            auto_sync: self.optional("p2p.autoSync", boolean, absent.auto_sync, &wrong.auto_sync),
            reconnect_interval: self.optional(
                "p2p.reconnectInterval",
                interval,
                absent.reconnect_interval,
                &wrong.reconnect_interval,
            ),
        }
    }

    fn store(&mut self, fallback: &StoreSection) -> StoreSection {
        if !self.section("store") {
            return fallback.clone();
        }
        let id = self.required("store.id", store_id);
        let name = self.required("store.name", store_name);
        let currency = self.required("store.currency", currency);
        let time_zone = self.required("store.timeZone", time_zone);
        let key = self.required("store.key", |value| {
            text(value)
                .unwrap_or_default()
                .parse()
                .map_err(|error| format!("a store key as `tillmesh store new` prints it; {}", key_hint(value, error)))
        });
        let admission = self.given("store.admission", admission);
        let admission = match admission {
            Given::Right(admission) => Some(admission),
            Given::Absent => Some(Admission::default()),
            // Not the default: it would let in tills that the operator meant to look at.
            Given::Wrong => None,
        };
        match (id, name, currency, time_zone, key, admission) {
            (Some(id), Some(name), Some(currency), Some(time_zone), Some(key), Some(admission)) => {
                StoreSection { id, name, currency, time_zone, key, admission }
            }
            _ => fallback.clone(),
        }
    }

    fn api(&mut self, wrong: &Api) -> Api {
        self.section("api");
        let plaintext = self.optional("api.plaintext", boolean, false, &false);
        let is_private = |listen: &SocketAddr| plaintext || listen.ip().to_canonical().is_loopback();
        let listen = |value: &Value| {
            let listen = parsed::<SocketAddr>("an address and port, such as 127.0.0.1:3031")(value)?;
            is_private(&listen).then_some(listen).ok_or_else(|| IN_THE_CLEAR.to_owned())
        };
        let absent = Api::default().listen;
        let wrong = Some(wrong.listen).filter(is_private).unwrap_or(absent);
        Api { listen: self.optional("api.listen", listen, absent, &wrong), plaintext }
    }

    fn posplus(&mut self, wrong: &PosPlus) -> PosPlus {
        self.section("posplus");
        let posplus = PosPlus {
            enabled: self.optional("posplus.enabled", boolean, false, &wrong.enabled),
            allow: self.list(
                "posplus.allow",
                ADDRESSES_MAX,
                parsed("an IP address, such as 192.168.1.30"),
                &wrong.allow,
            ),
            user_id: self.optional("posplus.userId", row_id, None, &wrong.user_id),
            session_id: self.optional("posplus.sessionId", row_id, None, &wrong.session_id),
        };
        let told = self.problems.iter().any(|problem| problem.path.starts_with("posplus"));
        if posplus.enabled && posplus.allow.is_empty() && !told {
            self.note(
                "posplus.allow",
                "[]".to_owned(),
                "at least one address while posplus.enabled is true".to_owned(),
            );
        }
        posplus
    }

    fn led(&mut self, wrong: &Led) -> Led {
        self.section("led");
        Led { board: self.optional("led.board", board, Led::default().board, &wrong.board) }
    }

    fn network(&mut self, fallback: &Network) -> Network {
        let before = self.problems.len();
        self.section("network");
        let modes = one_of([("dhcp", false), ("static", true)]);
        let is_static = self.optional("network.mode", modes, false, &false);
        let network = if is_static { self.static_network() } else { self.dhcp_network() };
        match network {
            Some(network) if self.problems.len() == before => network,
            _ => fallback.clone(),
        }
    }

    fn dhcp_network(&mut self) -> Option<Network> {
        // Told, since whoever wrote one of these believes that the address is fixed.
        for path in ["network.address", "network.gateway", "network.dns"] {
            if let Lookup::Found(text) = self.document.get(path) {
                let text = shown(text);
                self.note(path, text, "nothing, unless network.mode is \"static\"".to_owned());
            }
        }
        Some(Network::Dhcp)
    }

    fn static_network(&mut self) -> Option<Network> {
        let address = parsed::<super::Ipv4Net>("a till's IPv4 address with its prefix, such as 192.168.1.20/24");
        let address = self.required("network.address", address);
        let gateway = parsed::<Ipv4Addr>("an IPv4 address, such as 192.168.1.1");
        let gateway = self.optional("network.gateway", |value| gateway(value).map(Some), None, &None);
        let dns =
            self.list("network.dns", DNS_SERVERS_MAX, parsed::<IpAddr>("an IP address, such as 192.168.1.1"), &[]);
        let address = address?;
        if let Some(gateway) = gateway.filter(|gateway| !address.has_host(*gateway) || *gateway == address.address) {
            self.note("network.gateway", gateway.to_string(), format!("another address of the network of {address}"));
        }
        Some(Network::Static { address, gateway, dns })
    }

    fn system(&mut self, wrong: &System) -> System {
        self.section("ssh");
        let key = parsed::<SshKey>("a public key as ssh-keygen prints it, such as \"ssh-ed25519 AAAA...\"");
        System {
            ssh_keys: self.list("ssh.keys", SSH_KEYS_MAX, key, &wrong.ssh_keys),
            time_zone: self.optional("timezone", |value| time_zone(value).map(Some), None, &wrong.time_zone),
            wifi: self.wifi(wrong.wifi.as_ref()),
        }
    }

    /// The radio is off without a network to join; a country alone is no mistake.
    fn wifi(&mut self, wrong: Option<&Wifi>) -> Option<Wifi> {
        let country = parsed::<Country>("a country in two capital letters (ISO 3166), such as \"TN\"");
        if !self.section("network.wifi") {
            let _: Option<Country> = self.optional("country", |value| country(value).map(Some), None, &None);
            return None;
        }
        let before = self.problems.len();
        let ssid = self.required("network.wifi.ssid", parsed("the name of a Wi-Fi network, 1 to 32 bytes"));
        let words = parsed::<Passphrase>("8 to 63 characters of ASCII, or 64 hex digits");
        let passphrase = self.optional("network.wifi.passphrase", |value| words(value).map(Some), None, &None);
        let country = self.required("country", country);
        match (ssid, country) {
            (Some(ssid), Some(country)) if self.problems.len() == before => Some(Wifi { ssid, passphrase, country }),
            _ => wrong.cloned(),
        }
    }
}

/// A text made fit for a line of a report: no line breaks or terminal codes, and not too long.
fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == SHOWN_CHARS_MAX {
            shown.push('…');
            break;
        }
        shown.push(if c.is_control() { ' ' } else { c });
    }
    shown
}

fn text(value: &Value) -> Option<&str> {
    value.as_str()
}

/// A text that satisfies a condition.
fn text_where(value: &Value, condition: impl Fn(&str) -> bool, allowed: &str) -> Checked<String> {
    text(value).filter(|text| condition(text)).map(str::to_owned).ok_or_else(|| allowed.to_owned())
}

/// A text that parses.
fn parsed<T: FromStr>(allowed: &'static str) -> impl Fn(&Value) -> Checked<T> {
    move |value| text(value).and_then(|text| text.parse().ok()).ok_or_else(|| allowed.to_owned())
}

fn one_of<T: Copy, const N: usize>(choices: [(&'static str, T); N]) -> impl Fn(&Value) -> Checked<T> {
    move |value| {
        let chosen = choices.iter().find(|(name, _)| text(value) == Some(name)).map(|(_, choice)| *choice);
        chosen.ok_or_else(|| choices.map(|(name, _)| format!("{name:?}")).join(" or "))
    }
}

fn whole_number(value: &Value, min: i64, max: i64, unit: &str) -> Checked<i64> {
    let number = value.as_i64().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("a whole number{unit} from {min} to {max}"))
}

fn boolean(value: &Value) -> Checked<bool> {
    value.as_bool().ok_or_else(|| "true or false".to_owned())
}

fn port(value: &Value) -> Checked<u16> {
    let number = whole_number(value, 1, i64::from(u16::MAX), "")?;
    u16::try_from(number).map_err(|error| error.to_string())
}

fn interval(value: &Value) -> Checked<Duration> {
    let ms = whole_number(value, RECONNECT_MS_MIN, RECONNECT_MS_MAX, " of milliseconds")?;
    Ok(Duration::from_millis(ms.unsigned_abs()))
}

fn row_id(value: &Value) -> Checked<Option<i64>> {
    whole_number(value, 1, JS_INTEGER_MAX, "").map(Some)
}

fn pos_id(value: &Value) -> Checked<String> {
    // It stands in ticket numbers and on receipts.
    let fits = |id: &str| {
        (1..=POS_ID_CHARS_MAX).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    text_where(value, fits, &format!("1 to {POS_ID_CHARS_MAX} letters (A to Z), digits, '-', '_' or '.'"))
}

fn pos_name(value: &Value) -> Checked<String> {
    let fits = |name: &str| name.len() <= POS_NAME_BYTES_MAX && is_line(name);
    text_where(value, fits, &format!("one line of 1 to {POS_NAME_BYTES_MAX} bytes (an Arabic or accented letter is 2)"))
}

fn store_name(value: &Value) -> Checked<String> {
    let fits = |name: &str| name.chars().count() <= STORE_NAME_CHARS_MAX && is_line(name);
    text_where(value, fits, &format!("one line of 1 to {STORE_NAME_CHARS_MAX} characters"))
}

/// Not blank, and nothing that breaks a line or steers a terminal.
fn is_line(text: &str) -> bool {
    !text.trim().is_empty() && !text.chars().any(char::is_control)
}

fn board(value: &Value) -> Checked<String> {
    // It names a file: no separators, no hidden files, no parent folder.
    let fits = |name: &str| {
        name.len() <= BOARD_CHARS_MAX
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    text_where(value, fits, "\"auto\" or the name of a board file, such as \"raspberrypi-4b\"")
}

fn pos_type(value: &Value) -> Checked<PosType> {
    one_of([PosType::Desktop, PosType::Laptop, PosType::Mobile].map(|kind| (kind.as_str(), kind)))(value)
}

fn admission(value: &Value) -> Checked<Admission> {
    one_of([("auto", Admission::Auto), ("manual", Admission::Manual)])(value)
}

fn timestamp(value: &Value) -> Checked<Timestamp> {
    parsed("a moment as in 2025-11-20T00:00:00.000Z")(value)
}

fn store_id(value: &Value) -> Checked<StoreId> {
    parsed("a UUID as `tillmesh store new` prints it")(value)
}

fn currency(value: &Value) -> Checked<String> {
    text_where(
        value,
        |code| currency_decimals(code).is_some(),
        "an ISO 4217 currency in capital letters, such as \"TND\"",
    )
}

fn time_zone(value: &Value) -> Checked<TimeZone> {
    let known = text(value).and_then(|name| TimeZone::get(name).ok()).filter(|zone| zone.iana_name().is_some());
    known.ok_or_else(|| "an IANA time zone, such as \"Africa/Tunis\"".to_owned())
}

fn key_hint(value: &Value, error: super::KeyError) -> String {
    match value {
        Value::String(_) => error.to_string(),
        _ => "it is a text in quotes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_answers_other_machines_only_where_the_config_says_that_it_is_in_the_clear() {
        let mut before = Config::first_start("box", &[0; 64], Timestamp::UNIX_EPOCH);
        before.api = Api { listen: "0.0.0.0:3031".parse().unwrap(), plaintext: true };
        for (listen, rest, used) in [
            ("0.0.0.0:3031", r#", "plaintext": true"#, "0.0.0.0:3031"),
            ("[::1]:4000", "", "[::1]:4000"),
            // The till sells on, on loopback, whatever it did before.
            ("0.0.0.0:3031", "", "127.0.0.1:3031"),
            ("192.168.1.21:3031", r#", "plaintext": false"#, "127.0.0.1:3031"),
        ] {
            let text = format!(r#"{{"api": {{"listen": "{listen}"{rest}}}}}"#);
            let (config, problems) = read(&Document::parse(text.as_bytes()).unwrap(), &before);
            let told = problems.0.first().map_or("", |problem| &problem.allowed);
            assert_eq!(
                (config.api.listen.to_string().as_str(), told.contains("not encrypted")),
                (used, listen != used)
            );
        }
    }
}
