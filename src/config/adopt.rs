//! A `pos-config.json` that a technician wrote, taken over into the data folder: whole or not at all.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use jiff::Timestamp;
use serde_json::json;

use super::document::{Document, Lookup};
use super::problem::{Problem, Problems};
use super::view::Config;
use super::{CONFIG_MODE, ConfigError, ConfigManager, DataDir, check, file, read_document, save, whole_file};

/// Stands where a secret was, in the copy that stays readable to whoever takes the card out.
const TAKEN_OVER: &str = "(taken over)";
/// What is wiped. `network.wifi.passphrase` opens the shop's network, `store.key` the store.
const SECRETS: [&str; 2] = ["store.key", "network.wifi.passphrase"];

impl ConfigManager {
    /// Reads a config that is to be put onto a card, as [`ConfigManager::adopt`] will read it there.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn verify(bytes: &[u8]) -> Result<Config, Problems> {
        examine(&Document::parse(bytes).map_err(|reason| Problems(vec![whole_file(reason)]))?)
    }

    /// Takes over a config from elsewhere as the folder's own, and gives its text without secrets. Every value of it must be right, and it
    /// must say which till this is and of which store. A secret that was wiped from it is taken from the config that is there, where both
    /// are of one store. The caller holds the folder's lock, and no agent runs.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong, `source` being its name; else where the folder cannot be read or written.
    /// The folder's own config is then as it was.
    pub fn adopt(folder: &DataDir, source: &Path, bytes: &[u8]) -> Result<String, ConfigError> {
        let invalid = |problems| ConfigError::Invalid { path: source.to_owned(), problems };
        let mut document = Document::parse(bytes).map_err(|reason| invalid(Problems(vec![whole_file(reason)])))?;
        let path = folder.config();
        if let super::OnDisk::Document(present) = read_document(&path)? {
            keep_secrets(&mut document, &present);
        }
        examine(&document).map_err(invalid)?;
        save(&path, &document)?;
        give_to_owner(folder, &path)?;
        Ok(without_secrets(&document))
    }
}

/// The typed view of a config that must be right in every value, and say which till it is of.
fn examine(document: &Document) -> Result<Config, Problems> {
    let (config, mut problems) = check::read(document, &Config::first_start("", &[0; 64], Timestamp::UNIX_EPOCH));
    for name in ["posId", "store"] {
        if document.get(name) == Lookup::Absent {
            let allowed = "given: it says which till this is".to_owned();
            problems.0.push(Problem { path: name.to_owned(), value: "missing".to_owned(), allowed });
        }
    }
    if problems.0.is_empty() { Ok(config) } else { Err(problems) }
}

/// Puts the present secrets where the new document has only the mark of one.
fn keep_secrets(document: &mut Document, present: &Document) {
    let mark = json!(TAKEN_OVER).to_string();
    let found = |document: &Document, path: &str| match document.get(path) {
        Lookup::Found(text) => serde_json::from_str(text).ok(),
        _ => None,
    };
    let store: Option<serde_json::Value> = found(document, "store.id");
    if store.is_none() || store != found(present, "store.id") {
        return;
    }
    for path in SECRETS {
        if document.get(path) == Lookup::Found(&mark)
            && let Some(secret) = found(present, path)
        {
            document.set(path, &secret);
        }
    }
}

fn without_secrets(document: &Document) -> String {
    let mut shown = document.clone();
    for path in SECRETS {
        if matches!(document.get(path), Lookup::Found(_)) {
            shown.set(path, &json!(TAKEN_OVER));
        }
    }
    shown.as_text().to_owned()
}

/// At boot this runs as root, and the agent does not.
fn give_to_owner(folder: &DataDir, path: &Path) -> Result<(), ConfigError> {
    let unwritable = |source| ConfigError::Unwritable { path: path.to_owned(), source };
    let owner = fs::metadata(folder.path()).map_err(unwritable)?;
    let own = fs::metadata(path).map_err(unwritable)?;
    if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
        chown(path, Some(owner.uid()), Some(owner.gid())).map_err(unwritable)?;
        file::restrict(path, CONFIG_MODE).map_err(unwritable)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EX88F09";

    fn text(pos_id: &str, key: &str, passphrase: &str) -> String {
        format!(
            r#"{{"posId": "{pos_id}", "country": "TN", "network": {{"mode": "dhcp", "wifi": {{"ssid": "shop", "passphrase": "{passphrase}"}}}},
             "store": {{"id": "00000000-0000-4000-8000-000000000001", "name": "Café", "currency": "TND", "timeZone": "Africa/Tunis", "key": "{key}"}}}}"#
        )
    }

    fn adopt(folder: &DataDir, text: &str) -> Result<String, ConfigError> {
        ConfigManager::adopt(folder, Path::new("/boot/pos-config.json"), text.as_bytes())
    }

    fn folder() -> (tempfile::TempDir, DataDir) {
        let place = tempfile::tempdir().unwrap();
        let folder = DataDir::resolve(Some(place.path()), |_| None).unwrap();
        (place, folder)
    }

    #[test]
    fn a_right_file_is_taken_over_and_given_back_without_its_secrets() {
        let (_place, folder) = folder();
        let shown = adopt(&folder, &text("POS-1", KEY, "open sesame")).unwrap();
        let taken = fs::read_to_string(folder.config()).unwrap();
        assert!(taken.contains(KEY) && taken.contains("open sesame"));
        assert!(!shown.contains(KEY) && !shown.contains("sesame") && shown.contains("POS-1"), "{shown}");
        let config = ConfigManager::peek(&folder).unwrap().unwrap();
        assert_eq!(config.system.wifi.unwrap().passphrase.unwrap().as_str(), "open sesame");
    }

    #[test]
    fn a_wrong_file_is_told_whole_and_changes_nothing() {
        let (_place, folder) = folder();
        adopt(&folder, &text("POS-1", KEY, "open sesame")).unwrap();
        let before = fs::read(folder.config()).unwrap();
        let wrong = text("POS 2", "nonsense", "short").replace("\"TN\"", "\"Tunisia\"");
        let Err(ConfigError::Invalid { problems, .. }) = adopt(&folder, &wrong) else { panic!("taken over") };
        let mut paths: Vec<_> = problems.0.iter().map(|problem| problem.path.as_str()).collect();
        paths.sort_unstable();
        assert_eq!(paths, ["country", "network.wifi.passphrase", "posId", "store.key"]);
        assert!(!problems.to_string().contains("nonsense") && !problems.to_string().contains("short"));
        assert_eq!(fs::read(folder.config()).unwrap(), before);
    }

    #[test]
    fn who_the_till_is_must_be_said() {
        let (_place, folder) = folder();
        let Err(ConfigError::Invalid { problems, .. }) = adopt(&folder, "{}") else { panic!("taken over") };
        assert_eq!(problems.0.iter().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["posId", "store"]);
        assert!(adopt(&folder, "not json").is_err());
        assert!(!folder.config().exists());
    }

    #[test]
    fn a_wiped_secret_is_kept_for_the_same_store_alone() {
        let (_place, folder) = folder();
        let shown = adopt(&folder, &text("POS-1", KEY, "open sesame")).unwrap();
        adopt(&folder, &shown.replace("POS-1", "POS-2")).unwrap();
        let taken = fs::read_to_string(folder.config()).unwrap();
        assert!(taken.contains("POS-2") && taken.contains(KEY) && taken.contains("open sesame"));
        let other = shown.replace("000000000001", "000000000002");
        assert!(matches!(adopt(&folder, &other), Err(ConfigError::Invalid { .. })));
    }
}
