//! `pos-config.json` as a technician, another program or a dying card left it. A till that has an identity starts whatever the file
//! holds; what is saved is read back alike.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tillmesh::config::{ConfigError, ConfigManager, DataDir, Memory, RememberedIdentity};
use tillmesh_fuzz::Meter;

static FOLDER: LazyLock<TempDir> = LazyLock::new(tillmesh_fuzz::shop::folder);

/// The identity of a till that has sold.
static IDENTITY: LazyLock<String> = LazyLock::new(|| {
    let folder = empty();
    let (manager, _) = ConfigManager::open(&folder, Memory::NoDatabase).expect("a first start makes a config");
    manager.identity_json()
});

fuzz_target!(|data: &[u8]| {
    let remembered = IDENTITY.as_str();
    checked(data);
    restarted(data, remembered);
    if let Ok(text) = std::str::from_utf8(data)
        && let Err(problems) = RememberedIdentity::from_json(text)
    {
        assert!(!problems.0.is_empty());
    }
});

fn empty() -> DataDir {
    for entry in std::fs::read_dir(FOLDER.path()).expect("the folder is there").flatten() {
        std::fs::remove_file(entry.path()).expect("a file of ours");
    }
    DataDir::resolve(Some(FOLDER.path()), |_| None).expect("a folder is given")
}

fn with_file(data: &[u8]) -> DataDir {
    let folder = empty();
    std::fs::write(folder.config(), data).expect("the file is written");
    folder
}

/// A look at it changes nothing, and takes no more memory than it may.
fn checked(data: &[u8]) {
    let folder = with_file(data);
    let meter = Meter::new();
    let (check, peek) = (ConfigManager::check(&folder), ConfigManager::peek(&folder));
    assert!(meter.peak() <= 64 * 1024 + 64 * data.len(), "{} bytes for {}", meter.peak(), data.len());
    if check.is_ok() {
        assert!(peek.is_ok_and(|config| config.is_some()));
    }
    assert_eq!(std::fs::read(folder.config()).expect("it is there"), data);
    // A first start: the file is taken, or refused with the place.
    match ConfigManager::open(&folder, Memory::NoDatabase) {
        Ok((manager, _)) => assert!(RememberedIdentity::from_json(&manager.identity_json()).is_ok()),
        Err(ConfigError::Invalid { problems, .. }) => assert!(!problems.0.is_empty()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A till that has sold starts with any file, and with the same config the next time.
fn restarted(data: &[u8], remembered: &str) {
    let folder = with_file(data);
    let memory = |text: &str| Memory::Identity(Box::new(RememberedIdentity::from_json(text).expect("it was kept")));
    let (mut manager, notices) = ConfigManager::open(&folder, memory(remembered)).expect("a till that has sold starts");
    notices.iter().for_each(|notice| assert!(!notice.to_string().is_empty()));
    let kept = manager.identity_json();
    let (again, _) = ConfigManager::open(&folder, memory(&kept)).expect("it starts again");
    assert_eq!(again.config(), manager.config());
    let enabled = !manager.config().p2p.enabled;
    manager.set_p2p_enabled(enabled).expect("it is saved");
    let (later, _) = ConfigManager::open(&folder, memory(&kept)).expect("it starts again");
    let mut wanted = again.config().clone();
    wanted.p2p.enabled = enabled;
    assert_eq!(later.config(), &wanted, "the switch changes nothing else");
}
