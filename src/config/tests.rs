use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// A till's data folder that is gone after the test.
struct TillBox {
    _temporary: tempfile::TempDir,
    folder: DataDir,
}

impl TillBox {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataDir::resolve(Some(temporary.path()), |_| None).unwrap();
        Self { _temporary: temporary, folder }
    }

    fn with(file: &str) -> Self {
        let made = Self::new();
        fs::write(made.folder.config(), file).unwrap();
        made
    }

    fn open(&self, memory: Memory) -> Result<(ConfigManager, Vec<ConfigNotice>), ConfigError> {
        ConfigManager::open(&self.folder, memory)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.folder.config()).unwrap()
    }

    fn mode(&self) -> u32 {
        fs::metadata(self.folder.config()).unwrap().permissions().mode() & 0o777
    }

    /// The names in the folder, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn first(hostname: &str) -> Config {
    Config::first_start(
        hostname,
        &std::array::from_fn(|i| u8::try_from(i * 3).unwrap()),
        "2025-11-20T00:00:00.000Z".parse().unwrap(),
    )
}

/// A memory of a till other than the one that `first` makes.
fn remembered() -> Config {
    let mut config = first("remembered");
    config.pos_id = "POS-007".to_owned();
    config.p2p = P2p { enabled: false, port: 4000, reconnect_interval: Duration::from_secs(9), ..P2p::default() };
    config.peers = vec!["192.168.1.21".parse().unwrap()];
    config.network = Network::Static { address: "192.168.1.20/24".parse().unwrap(), gateway: None, dns: Vec::new() };
    config
}

fn memory() -> Memory {
    let text = Value::Object(remembered().to_json()).to_string();
    Memory::Identity(Box::new(RememberedIdentity::from_json(&text).unwrap()))
}

/// The document of `first`, with a value put under a path (JSON text, or nothing to take the member out).
fn file_with(path: &str, json: Option<&str>) -> String {
    let mut value = Value::Object(first("a").to_json());
    let (section, name) = path.rsplit_once('.').unwrap_or(("", path));
    let target = match section {
        "" => value.as_object_mut().unwrap(),
        _ => value.as_object_mut().unwrap().entry(section).or_insert(json!({})).as_object_mut().unwrap(),
    };
    // A mark, so that what serde_json could not carry (1e400) gets into the text all the same.
    match json {
        Some(_) => target.insert(name.to_owned(), json!("@here@")),
        None => target.remove(name),
    };
    value.to_string().replace("\"@here@\"", json.unwrap_or_default())
}

fn problems(text: &str) -> Vec<Problem> {
    check::read(&Document::parse(text.as_bytes()).unwrap(), &remembered()).1.0
}

/// A path, and a value that it must not have.
const WRONG: &[(&str, &str)] = &[
    ("posId", "42"),
    ("posId", "\"\""),
    ("posId", "\"Caisse 1\""),
    ("posId", "\"a/b\""),
    ("posId", "\"123456789012345678901234567890123\""),
    ("posId", "null"),
    ("posName", "\"\""),
    ("posName", "\" \""),
    ("posName", "\"a\\nb\""),
    ("posName", "[]"),
    ("posName", "\"ççççççççççççççççççççççççççççççççç\""),
    ("posType", "\"tablet\""),
    ("posType", "\"Desktop\""),
    ("posType", "1"),
    ("createdAt", "\"yesterday\""),
    ("createdAt", "1732060800000"),
    ("createdAt", "\"2025-11-20\""),
    ("p2p", "true"),
    ("p2p", "null"),
    ("p2p.enabled", "\"yes\""),
    ("p2p.enabled", "1"),
    ("p2p.discoveryEnabled", "0"),
    ("p2p.autoSync", "\"\""),
    ("p2p.port", "70000"),
    ("p2p.port", "0"),
    ("p2p.port", "-1"),
    ("p2p.port", "\"3030\""),
    ("p2p.port", "3030.5"),
    ("p2p.port", "1e400"),
    ("p2p.port", "3031"),
    ("p2p.reconnectInterval", "99"),
    ("p2p.reconnectInterval", "3600001"),
    ("p2p.reconnectInterval", "\"5s\""),
    ("store", "\"7ZQ\""),
    ("store", "null"),
    ("store.id", "\"x\""),
    ("store.name", "\"\""),
    ("store.name", "\"\\u001b[2J\""),
    ("store.currency", "\"TDN\""),
    ("store.currency", "\"tnd\""),
    ("store.timeZone", "\"Tunis\""),
    ("store.timeZone", "\"Etc/Unknown\""),
    ("store.key", "\"7ZQ\""),
    ("store.key", "5"),
    ("store.admission", "\"ask\""),
    ("peers", "\"192.168.1.21\""),
    ("peers", "{}"),
    ("api", "3031"),
    ("api.listen", "\"3031\""),
    ("api.listen", "\"localhost:3031\""),
    ("api.listen", "\"0.0.0.0:3031\""),
    ("api.plaintext", "\"yes\""),
    ("posplus", "true"),
    ("posplus.enabled", "\"no\""),
    ("posplus.allow", "\"192.168.1.30\""),
    ("posplus.userId", "0"),
    ("posplus.sessionId", "\"1\""),
    ("posplus.sessionId", "9007199254740992"),
    ("led", "\"auto\""),
    ("led.board", "\"../../etc/passwd\""),
    ("led.board", "\"\""),
    ("led.board", "false"),
    ("network", "\"dhcp\""),
    ("network.mode", "\"auto\""),
    ("network.address", "\"192.168.1.20/24\""),
];

#[test]
fn every_wrong_value_is_told_with_its_path_and_what_is_allowed() {
    for &(path, json) in WRONG {
        let found = problems(&file_with(path, Some(json)));
        let paths: Vec<&str> = found.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(paths, [path], "for {path} = {json}");
        assert!(!found[0].allowed.is_empty());
        assert_eq!(found[0].to_string().lines().count(), 1);
    }
}

#[test]
fn problems_within_lists_name_the_item() {
    let all = [
        ("peers", "[\"a\", \"b:0\", 5]", vec!["peers[1]", "peers[2]"]),
        ("posplus.allow", "[\"caisse.local\", \"::1\"]", vec!["posplus.allow[0]"]),
    ];
    for (path, json, expected) in all {
        let found = problems(&file_with(path, Some(json)));
        assert_eq!(found.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), expected);
    }
    let many = format!("[{}]", vec!["\"a\""; 257].join(","));
    assert_eq!(problems(&file_with("peers", Some(&many)))[0].allowed, "a list of at most 256");
}

#[test]
fn fields_that_do_not_fit_together_are_told() {
    let fixed = |rest: &str| file_with("network", Some(&format!("{{\"mode\": \"static\"{rest}}}")));
    for (text, path) in [
        (file_with("posplus.enabled", Some("true")), "posplus.allow"),
        (fixed(""), "network.address"),
        (fixed(", \"address\": \"192.168.1.20\""), "network.address"),
        (fixed(", \"address\": \"192.168.1.20/24\", \"gateway\": \"192.168.2.1\""), "network.gateway"),
        (fixed(", \"address\": \"192.168.1.20/24\", \"gateway\": \"192.168.1.20\""), "network.gateway"),
        (fixed(", \"address\": \"192.168.1.20/24\", \"gateway\": 5"), "network.gateway"),
        (fixed(", \"address\": \"192.168.1.20/24\", \"dns\": [\"box\"]"), "network.dns[0]"),
        (file_with("network.dns", Some("[]")), "network.dns"),
        (file_with("api.listen", Some("\"127.0.0.1:3030\"")), "p2p.port"),
    ] {
        let found = problems(&text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].path, path);
    }
}

#[test]
fn missing_parts_of_a_store_and_names_given_twice_are_told() {
    for part in ["id", "name", "currency", "timeZone", "key"] {
        let path = format!("store.{part}");
        let found = problems(&file_with(&path, None));
        assert_eq!((found.len(), found[0].path.as_str(), found[0].value.as_str()), (1, path.as_str(), "missing"));
    }
    let twice = file_with("p2p.port", Some("4000, \"port\": 4001"));
    let found = problems(&twice);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), "p2p.port: given 2 times; allowed: once");
}

#[test]
fn one_report_holds_every_problem_and_no_secret() {
    let key = first("a").store.key.to_text();
    let mistyped = if key.ends_with('0') { format!("{}1", &key[..62]) } else { format!("{}0", &key[..62]) };
    let text = file_with("store.key", Some(&format!("\"{mistyped}\""))).replace("3030", "70000").replace("5000", "0");
    let till = TillBox::with(&text);
    let error = ConfigManager::check(&till.folder).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().skip(1).collect();
    assert_eq!(lines[0], "p2p.port: 70000; allowed: a whole number from 1 to 65535");
    assert_eq!(lines[1], "p2p.reconnectInterval: 0; allowed: a whole number of milliseconds from 100 to 3600000");
    assert!(lines[2].starts_with("store.key: (hidden); ") && lines[2].contains("mistyped"), "{}", lines[2]);
    assert_eq!(lines.len(), 3);
    assert!(!error.contains(&mistyped[..20]));
    let (whole, _) = check::read(
        &Document::parse(file_with("store", Some(&json!(key).to_string())).as_bytes()).unwrap(),
        &first("a"),
    );
    assert!(!format!("{whole:?}").contains(&key[..20]));
    assert_eq!(problems(&file_with("store", Some(&json!(key).to_string())))[0].value, "(hidden)");
    assert_eq!(till.text(), text, "a check changes nothing");
}

#[test]
fn a_check_tells_what_no_start_could_read() {
    let till = TillBox::with("{\"p2p\": {\"port\": NaN}}");
    let error = ConfigManager::check(&till.folder).unwrap_err().to_string();
    assert!(error.contains("the file: it is not JSON: ") && error.contains("line 1 column"), "{error}");
    assert_eq!(till.names(), ["pos-config.json"]);
    ConfigManager::check(&TillBox::new().folder).unwrap();
    ConfigManager::check(&TillBox::with("{}").folder).unwrap();
}

#[test]
fn shown_values_are_short_and_keep_to_their_line() {
    let found = problems(&file_with("p2p.port", Some(&format!("[\n1,\n\"{}\"]", "é".repeat(200)))));
    assert_eq!(found[0].value.chars().count(), 61);
    assert!(found[0].value.ends_with('…') && !found[0].value.contains('\n'));
    let named = problems(r#"{"a\u001b[2J\nb": 1, "a\u001b[2J\nb": 2}"#);
    assert!(!named[0].path.chars().any(char::is_control));
}

#[test]
fn a_first_start_makes_the_file_that_posplus_would_and_a_store() {
    let till = TillBox::new();
    let (manager, notices) = till.open(Memory::NoDatabase).unwrap();
    assert_eq!(notices, [ConfigNotice::Created, ConfigNotice::OwnStore]);
    assert_eq!((till.mode(), till.names()), (0o600, vec!["pos-config.json".to_owned()]));
    let config = manager.config();
    assert!(
        config
            .pos_id
            .strip_prefix("POS-")
            .is_some_and(|hex| hex.len() == 8 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    );
    let hostname = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    assert!(config.pos_name.starts_with("POSPlus-") && format!("POSPlus-{hostname}").starts_with(&config.pos_name));
    let ids = |config: &Config| (config.pos_id.clone(), config.store.id);
    let (again, notices) = till.open(Memory::NoDatabase).unwrap();
    assert_eq!((again.config(), notices), (config, Vec::new()));
    let (other, _) = TillBox::new().open(Memory::NoDatabase).unwrap();
    assert_ne!(ids(other.config()), ids(config));
    assert_ne!(other.config().store.key, config.store.key);
}

#[test]
fn the_first_files_text_is_frozen() {
    let expected = r#"{
  "posId": "POS-00030609",
  "posName": "POSPlus-caisse",
  "posType": "desktop",
  "p2p": {
    "enabled": true,
    "port": 3030,
    "discoveryEnabled": true,
    "autoSync": true,
    "reconnectInterval": 5000
  },
  "createdAt": "2025-11-20T00:00:00.000Z",
  "store": {
    "id": "30333639-3c3f-4245-884b-4e5154575a5d",
    "name": "Boutique",
    "currency": "TND",
    "timeZone": "Africa/Tunis",
    "key": "KEY"
  }
}
"#;
    let made = first("caisse");
    assert_eq!(Document::of(&made.to_json()).as_text(), expected.replace("KEY", &made.store.key.to_text()));
}

#[test]
fn a_long_hostname_is_cut_to_what_mdns_can_announce() {
    assert_eq!(first(&"é".repeat(60)).pos_name, format!("POSPlus-{}", "é".repeat(27)));
    assert_eq!(first("").pos_name, "POSPlus-");
}

#[test]
fn a_provisioned_file_is_completed_and_its_own_fields_are_kept() {
    let till = TillBox::with("{\n  \"posId\": \"POS-002\",\n  \"note\": 1.10\n}\n");
    let (manager, notices) = till.open(Memory::NoDatabase).unwrap();
    assert_eq!(notices, [ConfigNotice::OwnStore]);
    assert_eq!(manager.config().pos_id, "POS-002");
    assert!(till.text().starts_with("{\n  \"posId\": \"POS-002\",\n  \"note\": 1.10,\n  \"posName\": \"POSPlus-"));
    assert_eq!(till.mode(), 0o600);
    let (again, notices) = till.open(Memory::NoDatabase).unwrap();
    assert_eq!((again.config(), notices), (manager.config(), Vec::new()));
}

#[test]
fn a_damaged_file_is_moved_aside_and_the_till_stays_who_it_is() {
    for (damage, word) in [("", "empty"), ("{\"posId\": \"POS-0", "not JSON"), ("[1]", "object"), ("\0\0\0", "empty")] {
        let till = TillBox::with(damage);
        let (manager, notices) = till.open(memory()).unwrap();
        assert_eq!(manager.config(), &remembered());
        let [ConfigNotice::Damaged { moved_to: Some(aside), reason }] = &notices[..] else { panic!("{notices:?}") };
        assert!(reason.contains(word), "{reason}");
        assert_eq!(fs::read_to_string(aside).unwrap(), damage);
        assert!(aside.file_name().unwrap().to_str().unwrap().starts_with("pos-config.json.damaged-20"));
        assert_eq!((till.names().len(), till.mode()), (2, 0o600));
        let (again, notices) = till.open(Memory::NoDatabase).unwrap();
        assert_eq!((again.config(), notices), (&remembered(), Vec::new()));
    }
}

#[test]
fn a_missing_file_and_missing_keys_come_from_memory() {
    let till = TillBox::new();
    let (manager, notices) = till.open(memory()).unwrap();
    assert_eq!((manager.config(), notices), (&remembered(), vec![ConfigNotice::Missing]));
    let till = TillBox::with("{\"p2p\": {\"port\": 5000}}");
    let (manager, notices) = till.open(memory()).unwrap();
    let expected =
        Config { p2p: P2p { port: 5000, ..P2p::default() }, peers: Vec::new(), network: Network::Dhcp, ..remembered() };
    assert_eq!((manager.config(), notices), (&expected, Vec::new()));
}

#[test]
fn no_identity_is_made_beside_a_database_that_remembers_none() {
    let till = TillBox::new();
    assert!(matches!(till.open(Memory::Blank), Err(ConfigError::IdentityUnknown { .. })));
    assert!(till.names().is_empty());
    for text in ["{", "{}", "{\"posId\": \"POS-1\"}"] {
        let till = TillBox::with(text);
        assert!(matches!(till.open(Memory::Blank), Err(ConfigError::IdentityUnknown { .. })));
        assert_eq!((till.text().as_str(), till.names().len()), (text, 1));
    }
    let (manager, notices) = TillBox::with(&file_with("note", Some("1"))).open(Memory::Blank).unwrap();
    assert_eq!((manager.config(), notices), (&first("a"), Vec::new()));
}

#[test]
fn a_damaged_file_without_a_database_is_a_first_start() {
    let till = TillBox::with("{");
    let (_, notices) = till.open(Memory::NoDatabase).unwrap();
    assert!(matches!(&notices[..], [ConfigNotice::Damaged { .. }, ConfigNotice::OwnStore]), "{notices:?}");
}

#[test]
fn a_till_that_sells_runs_on_with_wrong_values_and_leaves_them_in_the_file() {
    let text = file_with("store.currency", Some("\"TDN\"")).replace("3030", "70000").replace("POS-00030609", "a b");
    let till = TillBox::with(&text);
    fs::set_permissions(till.folder.config(), Permissions::from_mode(0o644)).unwrap();
    let (manager, notices) = till.open(memory()).unwrap();
    let [ConfigNotice::BadValues(problems)] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!(problems.0.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["posId", "p2p.port", "store.currency"]);
    assert_eq!(manager.config().pos_id, "POS-007");
    assert_eq!(manager.config().p2p, P2p { port: 4000, ..P2p::default() });
    assert_eq!(manager.config().store, remembered().store);
    assert_eq!((till.text(), till.mode()), (text, 0o600));
}

#[test]
fn a_till_that_has_never_sold_starts_on_wrong_settings_but_not_on_a_wrong_identity() {
    let till = TillBox::with(&file_with("p2p.port", Some("70000")));
    let (manager, notices) = till.open(Memory::NoDatabase).unwrap();
    assert_eq!(manager.config().p2p.port, MESH_PORT);
    assert!(matches!(&notices[..], [ConfigNotice::BadValues(_)]));
    for (path, json) in
        [("posId", "5"), ("store.currency", "\"TDN\""), ("store", "[]"), ("posId", "\"A\", \"posId\": \"B\"")]
    {
        let text = file_with(path, Some(json));
        let till = TillBox::with(&text);
        for memory in [Memory::NoDatabase, Memory::Blank] {
            assert!(matches!(till.open(memory), Err(ConfigError::Invalid { .. })), "{path} = {json}");
        }
        assert_eq!(till.text(), text);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_no_damage() {
    let till = TillBox::new();
    fs::create_dir(till.folder.config()).unwrap();
    assert!(matches!(till.open(memory()), Err(ConfigError::Unreadable { .. })));
    assert!(till.folder.config().is_dir());
}

#[test]
fn a_till_that_is_known_runs_although_its_file_cannot_be_written() {
    let till = TillBox::new();
    // A folder in the temporary file's place: no write gets through, whoever runs the test.
    fs::create_dir(till.folder.path().join(".pos-config.json.tmp")).unwrap();
    let (mut manager, notices) = till.open(memory()).unwrap();
    assert!(matches!(&notices[..], [ConfigNotice::Missing, ConfigNotice::NotSaved { .. }]), "{notices:?}");
    assert_eq!(manager.config(), &remembered());
    assert!(matches!(manager.set_p2p_enabled(true), Err(ConfigError::Unwritable { .. })));
    assert_eq!(manager.config(), &remembered());
    assert!(matches!(till.open(Memory::NoDatabase), Err(ConfigError::Unwritable { .. })));
}

#[test]
fn turning_the_mesh_off_changes_one_value_of_the_file_as_it_now_is() {
    let till = TillBox::with(&file_with("note", Some("[ 1.10 ]")));
    let (mut manager, _) = till.open(Memory::NoDatabase).unwrap();
    let edited = till.text().replace("3030", " 4000 ");
    fs::write(till.folder.config(), &edited).unwrap();
    manager.set_p2p_enabled(false).unwrap();
    assert_eq!(till.text(), edited.replace("\"enabled\":true", "\"enabled\":false"));
    assert_eq!((manager.config().p2p.enabled, manager.config().p2p.port, till.mode()), (false, 3030, 0o600));
    let (again, _) = till.open(Memory::NoDatabase).unwrap();
    assert_eq!((again.config().p2p.enabled, again.config().p2p.port), (false, 4000));
    manager.set_p2p_enabled(true).unwrap();
    assert_eq!(till.text(), edited);
}

#[test]
fn turning_the_mesh_off_works_on_a_file_that_was_lost_damaged_or_is_wrong_there() {
    for found in [None, Some("{"), Some("{\"p2p\": 5, \"x\": 1}")] {
        let till = TillBox::new();
        let (mut manager, _) = till.open(Memory::NoDatabase).unwrap();
        match found {
            None => fs::remove_file(till.folder.config()).unwrap(),
            Some(text) => fs::write(till.folder.config(), text).unwrap(),
        }
        manager.set_p2p_enabled(false).unwrap();
        let memory = RememberedIdentity::from_json(&manager.identity_json()).unwrap();
        let (again, notices) = till.open(Memory::Identity(Box::new(memory))).unwrap();
        assert_eq!((again.config(), notices), (manager.config(), Vec::new()), "{found:?}");
        assert_eq!(till.names().len(), if found == Some("{") { 2 } else { 1 });
    }
}

#[test]
fn what_is_remembered_says_who_the_till_is_or_is_refused() {
    let text = |config: &Config| Value::Object(config.to_json()).to_string();
    assert_eq!(RememberedIdentity::from_json(&text(&remembered())).unwrap().0, remembered());
    for damaged in
        ["", "{}", "{", &file_with("store", None), &file_with("posId", None), &file_with("store.id", Some("5"))]
    {
        assert!(RememberedIdentity::from_json(damaged).is_err(), "{damaged}");
    }
    let other_version = file_with("network.mode", Some("\"mesh\""));
    assert_eq!(RememberedIdentity::from_json(&other_version).unwrap().0, first("a"));
}

#[test]
fn a_store_is_minted_of_right_parts_only() {
    let store = StoreSection::mint("Café Central", "EUR", "europe/paris", &[7; 48]).unwrap();
    assert_eq!((store.time_zone_name(), store.key.as_bytes()), ("Europe/Paris", &[7; 32]));
    let problems = StoreSection::mint(" ", "DT", "Tunis", &[7; 48]).unwrap_err();
    assert_eq!(problems.0.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["name", "currency", "timeZone"]);
    assert_eq!(problems.to_string().lines().count(), 3);
}

#[test]
fn the_shipped_examples_are_right() {
    let examples = [
        (include_str!("../../config/pos-config.desktop.json"), "POS-001", "Caisse Principale", PosType::Desktop),
        (include_str!("../../config/pos-config.laptop.json"), "POS-002", "PC Portable Manager", PosType::Laptop),
        (include_str!("../../config/pos-config.till.json"), "POS-003", "Caisse 3", PosType::Desktop),
    ];
    for (text, id, name, kind) in examples {
        let till = TillBox::with(text);
        ConfigManager::check(&till.folder).unwrap();
        let (manager, notices) = till.open(Memory::NoDatabase).unwrap();
        let config = manager.config();
        assert_eq!((config.pos_id.as_str(), config.pos_name.as_str(), config.pos_type), (id, name, kind));
        let ours = id == "POS-003";
        assert_eq!(notices, [if ours { ConfigNotice::ExampleKey } else { ConfigNotice::OwnStore }]);
        if ours {
            for section in ["peers", "api", "posplus", "led", "network"] {
                assert!(matches!(manager.document.get(section), Lookup::Found(_)), "{section}");
            }
        }
    }
}

#[test]
fn nothing_that_is_debugged_shows_the_key() {
    let till = TillBox::with(&file_with("note", Some("1")));
    let opened = till.open(memory()).unwrap();
    let key = first("a").store.key.to_text();
    let shown = format!("{opened:?} {:?}", memory());
    assert!(!shown.contains(&key[..14]) && shown.contains("hidden"));
}

fn any_config() -> impl Strategy<Value = Config> {
    let p2p = (any::<bool>(), 1_u16..3000, any::<bool>(), any::<bool>(), 100_u64..=3_600_000);
    let address = |(a, b): (u8, u8)| format!("10.{a}.{b}.7");
    let addresses =
        move || prop::collection::vec(any::<(u8, u8)>().prop_map(move |pair| address(pair).parse().unwrap()), 1..4);
    let peers = prop::collection::vec(
        ("[a-z][a-z0-9]{0,9}(\\.local)?(:[1-9][0-9]{0,3})?").prop_map(|p| p.parse().unwrap()),
        0..4,
    );
    let network = prop_oneof![
        Just(Network::Dhcp),
        (any::<u8>(), any::<bool>(), addresses()).prop_map(|(a, routed, dns)| Network::Static {
            address: format!("10.{a}.0.2/24").parse().unwrap(),
            gateway: routed.then(|| std::net::Ipv4Addr::new(10, a, 0, 1)),
            dns,
        }),
    ];
    let till = ("[A-Za-z0-9._-]{1,32}", "[a-zé]{1,20}( [\"\\\\ع]{1,5})?", 0..253_402_300_799_999_i64, any::<bool>());
    (till, p2p, peers, any::<(bool, u16, Option<u16>)>(), addresses(), network).prop_map(
        |(till, p2p, peers, more, allow, network)| {
            let mut config = first("any");
            (config.pos_id, config.pos_name) = (till.0, till.1);
            config.created_at = Timestamp::from_millisecond(till.2).unwrap();
            config.store.admission = if till.3 { Admission::Manual } else { Admission::Auto };
            config.p2p = P2p {
                enabled: p2p.0,
                port: p2p.1,
                discovery_enabled: p2p.2,
                auto_sync: p2p.3,
                reconnect_interval: Duration::from_millis(p2p.4),
            };
            config.api.plaintext = more.0;
            config.api.listen.set_port(more.1 | 0x8000);
            let id = |n: u16| i64::from(n) + 1;
            config.posplus = PosPlus { enabled: more.0, allow, user_id: more.2.map(id), session_id: Some(id(more.1)) };
            (config.peers, config.network) = (peers, network);
            config
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_config_written_is_read_back_the_same(config in any_config()) {
        let document = Document::of(&config.to_json());
        let (read, problems) = check::read(&Document::parse(document.as_text().as_bytes()).unwrap(), &remembered());
        prop_assert_eq!(problems, Problems::default());
        prop_assert_eq!(read, config);
    }

    #[test]
    fn unknown_fields_survive_saves_and_reopening(
        fields in prop::collection::btree_map("x[a-z]{1,8}", "-?[1-9][0-9]{0,40}|\"[a-z ]{0,9}\"|\\[ \\{ \\} \\]|null", 1..6),
    ) {
        let unknown: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":  {value}")).collect();
        let till = TillBox::with(&format!("{{ {} }}", unknown.join(" , ")));
        let (mut manager, _) = till.open(Memory::NoDatabase).unwrap();
        manager.set_p2p_enabled(false).unwrap();
        let (mut manager, _) = till.open(Memory::NoDatabase).unwrap();
        manager.set_p2p_enabled(true).unwrap();
        prop_assert!(till.text().starts_with(&format!("{{ {},\n", unknown.join(" , "))), "{}", till.text());
    }

    #[test]
    fn no_bytes_make_the_reader_fail_otherwise_than_by_saying_so(
        bytes in prop::collection::vec(any::<u8>(), 0..64), text in "[{}\\[\\]\",:0-9a-z\\\\ ]{0,40}",
    ) {
        for bytes in [&bytes[..], text.as_bytes()] {
            if let Ok(document) = Document::parse(bytes) {
                check::read(&document, &remembered());
            }
        }
    }
}
