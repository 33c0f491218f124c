//! `tillmesh setup`: what the image does once at every boot, before the network is up. It takes over the `pos-config.json` that a
//! technician put on the boot partition, and gives the system what it needs of the till's config.

mod files;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::print;
use crate::config::{Config, ConfigError, ConfigManager, DataDir};

/// What a technician writes.
const GIVEN: &str = "pos-config.json";
/// What is left of it once it is taken over: the same without secrets.
const APPLIED: &str = "pos-config.applied.json";
/// What is wrong with it.
const PROBLEMS: &str = "pos-config.problems.txt";
/// The largest file that is taken for a config; `adopt` has a limit of its own.
const GIVEN_BYTES_MAX: u64 = 1 << 20;

/// Where this till's files are.
#[derive(Debug)]
pub struct SetupOptions {
    /// The till's data folder.
    pub folder: DataDir,
    /// The boot partition, mounted.
    pub boot: PathBuf,
    /// The system's root folder; another one in tests.
    pub root: PathBuf,
}

/// Takes a new config over if there is one, then sets the system up by the till's config, new or old.
///
/// # Errors
/// Where the new config is wrong (the system is set up by the old one then), or there is none at all.
pub fn setup(options: &SetupOptions) -> anyhow::Result<()> {
    let taken = take_over(options);
    if let Err(error) = &taken {
        tell_agent(options, &format!("{error:#}"))?;
    }
    let config = match ConfigManager::peek(&options.folder) {
        Ok(Some(config)) => config,
        Ok(None) if taken.is_err() => return taken,
        Ok(None) => {
            tell_agent(options, &format!("this till has no config yet: put a {GIVEN} on the boot partition"))?;
            bail!("no {GIVEN} was ever taken over: put one on the boot partition");
        }
        // The agent mends it by what its database remembers; until then the box has an address of the router's.
        Err(error) => {
            tell_agent(options, &error.to_string())?;
            return Err(error.into());
        }
    };
    apply(&options.root, &config)?;
    taken
}

fn take_over(options: &SetupOptions) -> anyhow::Result<()> {
    let given = options.boot.join(GIVEN);
    let size = match fs::metadata(&given) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", given.display())),
    };
    if size > GIVEN_BYTES_MAX {
        bail!("{} is too large for a config: {size} bytes", given.display());
    }
    let bytes = fs::read(&given).with_context(|| format!("cannot read {}", given.display()))?;
    options.folder.create()?;
    let _lock = options.folder.lock()?;
    let adopted = ConfigManager::adopt(&options.folder, &given, &bytes);
    make_writable(&options.boot)?;
    match adopted {
        Ok(shown) => {
            write_synced(&options.boot.join(APPLIED), shown.as_bytes())?;
            wipe(&given)?;
            remove_if_there(&options.boot.join(PROBLEMS))?;
            print(&format!("{GIVEN} was taken over from the boot partition\n"))?;
            Ok(())
        }
        Err(error) => {
            // Read on any PC: lines as Windows ends them.
            let text = match &error {
                ConfigError::Invalid { problems, .. } => format!("{GIVEN} must be corrected:\n{problems}\n"),
                other => format!("{other}\n"),
            };
            write_synced(&options.boot.join(PROBLEMS), text.replace('\n', "\r\n").as_bytes())?;
            Err(error.into())
        }
    }
}

/// The boot partition is mounted read-only, so that a power cut does it no harm.
fn make_writable(boot: &Path) -> anyhow::Result<()> {
    let probe = boot.join(".tillmesh");
    if fs::write(&probe, b"").is_ok() {
        return Ok(fs::remove_file(&probe)?);
    }
    let status =
        Command::new("mount").args(["-o", "remount,rw,sync"]).arg(boot).status().context("cannot run mount")?;
    if !status.success() {
        bail!("{} cannot be written: the secrets in {GIVEN} stay on it", boot.display());
    }
    Ok(())
}

/// Overwrites a file before it is removed, so that its sectors hold no secret. (What the card keeps behind its own back is beyond us.)
fn wipe(path: &Path) -> io::Result<()> {
    let length = fs::metadata(path)?.len();
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    io::copy(&mut io::Read::take(io::repeat(b' '), length), &mut file)?;
    file.sync_all()?;
    fs::remove_file(path)
}

fn write_synced(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> io::Result<()> {
        let mut file = fs::File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Leaves a text where the agent raises an alert by it.
fn tell_agent(options: &SetupOptions, text: &str) -> anyhow::Result<()> {
    let folder = options.root.join("run/tillmesh-box/problems");
    fs::create_dir_all(&folder)?;
    Ok(fs::write(folder.join("setup"), text)?)
}

/// Writes what the system reads: all below `/run`, made anew at every boot.
fn apply(root: &Path, config: &Config) -> anyhow::Result<()> {
    for file in files::of(config) {
        let path = root.join(&file.path);
        let cannot = || format!("cannot write {}", path.display());
        fs::create_dir_all(path.parent().unwrap_or(root)).with_context(cannot)?;
        remove_if_there(&path).with_context(cannot)?;
        let mut open = fs::OpenOptions::new();
        let mut opened = open.write(true).create_new(true).mode(file.mode).open(&path).with_context(cannot)?;
        opened.write_all(file.text.as_bytes()).with_context(cannot)?;
    }
    let zone = config.system.time_zone.as_ref().unwrap_or(&config.store.time_zone).iana_name().unwrap_or("UTC");
    let local = root.join("run/tillmesh-box/localtime");
    remove_if_there(&local)?;
    symlink(Path::new("/usr/share/zoneinfo").join(zone), &local)?;
    let hostname = root.join("proc/sys/kernel/hostname");
    fs::write(&hostname, config.hostname()).with_context(|| format!("cannot write {}", hostname.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: &str = r#"{"posId": "POS_1", "posName": "Caisse 1", "network": {"mode": "static", "address": "192.168.1.23/24"},
        "store": {"id": "00000000-0000-4000-8000-000000000001", "name": "Café", "currency": "TND", "timeZone": "Africa/Tunis",
                  "key": "EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EXAMPLE-EX88F09"}}"#;

    struct Box {
        place: tempfile::TempDir,
        options: SetupOptions,
    }

    impl Box {
        fn new() -> Self {
            let place = tempfile::tempdir().unwrap();
            for folder in ["boot", "root/proc/sys/kernel", "data"] {
                fs::create_dir_all(place.path().join(folder)).unwrap();
            }
            let options = SetupOptions {
                folder: DataDir::resolve(Some(&place.path().join("data")), |_| None).unwrap(),
                boot: place.path().join("boot"),
                root: place.path().join("root"),
            };
            Self { place, options }
        }

        fn give(&self, text: &str) {
            fs::write(self.options.boot.join(GIVEN), text).unwrap();
        }

        fn text(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.place.path().join(path)).ok()
        }
    }

    #[test]
    fn a_right_file_sets_the_till_up_and_its_secrets_are_gone_from_the_card() {
        let till = Box::new();
        fs::write(till.options.boot.join(PROBLEMS), "of an earlier try").unwrap();
        till.give(RIGHT);
        setup(&till.options).unwrap();
        assert_eq!(till.text("root/proc/sys/kernel/hostname").unwrap(), "pos-1");
        assert!(till.text("root/run/systemd/network/70-tillmesh.network").unwrap().contains("Address=192.168.1.23/24"));
        assert!(till.text("root/run/tillmesh-box/problems/setup").is_none());
        let left: Vec<_> = fs::read_dir(&till.options.boot).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [APPLIED]);
        assert!(!till.text("boot/pos-config.applied.json").unwrap().contains("EXAMPLE"));
        // The next boot finds nothing new, and sets the same up again.
        fs::remove_dir_all(till.options.root.join("run")).unwrap();
        setup(&till.options).unwrap();
        assert!(till.text("root/run/tillmesh-box/nftables/till.nft").is_some());
    }

    #[test]
    fn a_wrong_file_is_told_beside_it_and_the_till_stays_as_it_was() {
        let till = Box::new();
        till.give(RIGHT);
        setup(&till.options).unwrap();
        till.give(&RIGHT.replace("192.168.1.23/24", "192.168.1.23").replace("TND", "dinar"));
        let error = setup(&till.options).unwrap_err();
        assert_eq!(crate::app::cli::exit_code(&error), crate::app::cli::EXIT_WRONG);
        let told = till.text("boot/pos-config.problems.txt").unwrap();
        assert!(told.contains("network.address") && told.contains("store.currency") && told.contains("\r\n"), "{told}");
        assert!(till.text("root/run/tillmesh-box/problems/setup").unwrap().contains("store.currency"));
        assert!(till.text("root/run/systemd/network/70-tillmesh.network").unwrap().contains("192.168.1.23/24"));
        // Corrected, it is taken over.
        till.give(&RIGHT.replace(".23/24", ".24/24"));
        fs::remove_dir_all(till.options.root.join("run")).unwrap();
        setup(&till.options).unwrap();
        assert!(till.text("boot/pos-config.problems.txt").is_none());
        assert!(till.text("root/run/systemd/network/70-tillmesh.network").unwrap().contains("192.168.1.24/24"));
    }

    #[test]
    fn a_till_that_was_never_given_a_config_says_so() {
        let till = Box::new();
        assert!(setup(&till.options).is_err());
        assert!(till.text("root/run/tillmesh-box/problems/setup").unwrap().contains("no config yet"));
        till.give("{\"posId\": \"POS-1\"");
        assert!(setup(&till.options).is_err());
        assert!(till.text("boot/pos-config.problems.txt").unwrap().contains("JSON"));
    }
}
