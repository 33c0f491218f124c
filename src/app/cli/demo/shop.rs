//! The folders of a demo's tills: one store, a data folder for each till, ports that nobody uses.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use crate::app::cli::client::Agent;
use crate::app::cli::store_new::mint;
use crate::config::{ConfigManager, DEFAULT_CURRENCY, DEFAULT_TIME_ZONE, DataDir, StoreSection};

const STORE_NAME: &str = "Café Central";
/// The addresses and tokens of the tills, for a shell.
const ENV_FILE: &str = "shop.env";
/// The end of a log is looked for in this many of its last bytes.
const LOG_TAIL_BYTES: usize = 16 << 10;

/// The shop, as it lies on the disk.
pub(super) struct Shop {
    pub(super) name: String,
    pub(super) tills: Vec<Till>,
    folder: PathBuf,
    /// Removed when the shop closes.
    temporary: bool,
}

/// One of its tills.
#[derive(Clone)]
pub(super) struct Till {
    pub(super) pos_id: String,
    pub(super) folder: DataDir,
    log: PathBuf,
}

/// Where a till listens.
struct Ports {
    mesh: u16,
    api: u16,
}

impl Shop {
    /// Makes the folders. In a folder of an earlier demo the tills that are there go on with what they have.
    pub(super) fn prepare(tills: u16, data_dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let temporary = data_dir.is_none();
        let folder = match data_dir {
            Some(folder) => own_folder(folder)?,
            None => temporary_folder()?,
        };
        // From here on the folder is removed whatever fails.
        let mut shop = Self { name: STORE_NAME.to_owned(), tills: Vec::new(), folder, temporary };
        for number in 1..=tills {
            shop.tills.push(Till {
                pos_id: format!("POS-{number}"),
                folder: DataDir::resolve(Some(&shop.folder.join(format!("till{number}"))), |_| None)?,
                log: shop.folder.join(format!("till{number}.log")),
            });
        }
        let store = shop.store()?;
        shop.name.clone_from(&store.name);
        let ports = free_ports(tills)?;
        for (at, till) in shop.tills.iter().enumerate() {
            till.folder.create()?;
            // Not under an agent that runs.
            let _lock = till.folder.lock()?;
            let text = serde_json::to_vec_pretty(&config(at, &ports, &store))?;
            write_private(&till.folder.config(), &text)?;
        }
        Ok(shop)
    }

    /// The store of an earlier demo in this folder, else a new one.
    fn store(&self) -> anyhow::Result<StoreSection> {
        let first = self.tills.first().context("a shop has a till")?;
        match ConfigManager::peek(&first.folder)? {
            Some(config) => Ok(config.store),
            None => mint(STORE_NAME, DEFAULT_CURRENCY, DEFAULT_TIME_ZONE),
        }
    }

    /// Writes the addresses and tokens for a shell; returns the file's name, quoted for one.
    pub(super) fn write_env(&self, agents: &[Agent]) -> anyhow::Result<String> {
        let mut text = String::from("# The tills of this demo, for a shell.\n");
        for (at, agent) in agents.iter().enumerate() {
            let token = agent.token()?.as_str();
            text += &format!("TILL{0}={1}\nTOKEN{0}={token}\n", at + 1, agent.url());
        }
        let path = self.folder.join(ENV_FILE);
        write_private(&path, text.as_bytes())?;
        // A name without a slash is looked for on the search path.
        Ok(quoted(&std::path::absolute(&path)?))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(%error, folder = %self.folder.display(), "cannot remove the demo's folder");
        }
    }
}

impl Till {
    /// The file that the agent's log goes to.
    pub(super) fn open_log(&self) -> anyhow::Result<File> {
        let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log);
        opened.with_context(|| format!("cannot write {}", self.log.display()))
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self, lines: usize) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// A folder that the caller chose: made, empty, or an earlier demo's.
fn own_folder(folder: PathBuf) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let is_demo = folder.join("till1").is_dir();
    if !is_demo && fs::read_dir(&folder)?.next().is_some() {
        bail!("{} holds something else than a demo: give an empty folder", folder.display());
    }
    Ok(folder)
}

fn temporary_folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("tillmesh-demo-{}", std::process::id()));
    let made = DirBuilder::new().mode(0o700).create(&folder);
    made.with_context(|| format!("cannot make {}: remove it, or give --data-dir", folder.display()))?;
    Ok(folder)
}

/// Ports that are free now. All are held until all are known, so that no two are the same.
fn free_ports(tills: u16) -> anyhow::Result<Vec<Ports>> {
    let mut held = Vec::new();
    let mut free = |ip: Ipv4Addr| -> std::io::Result<u16> {
        let listener = TcpListener::bind(SocketAddr::from((ip, 0)))?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok(port)
    };
    let mut pair = || Ok(Ports { mesh: free(Ipv4Addr::UNSPECIFIED)?, api: free(Ipv4Addr::LOCALHOST)? });
    (0..tills).map(|_| pair()).collect::<std::io::Result<_>>().context("no free ports")
}

/// A till's config. The other tills stand in it too, so that the shop also meshes where multicast does not pass.
fn config(at: usize, ports: &[Ports], store: &StoreSection) -> Value {
    let others = ports.iter().enumerate().filter(|(other, _)| *other != at);
    let others: Vec<String> = others.map(|(_, ports)| format!("127.0.0.1:{}", ports.mesh)).collect();
    json!({
        "posId": format!("POS-{}", at + 1),
        "posName": format!("Caisse {}", at + 1),
        "posType": "desktop",
        "p2p": {"enabled": true, "port": ports[at].mesh, "discoveryEnabled": true, "autoSync": true, "reconnectInterval": 5000},
        "store": store.to_json(),
        "peers": others,
        "api": {"listen": format!("127.0.0.1:{}", ports[at].api)},
    })
}

/// Writes a file that holds secrets.
fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_config_is_right_and_names_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let shop = Shop::prepare(3, Some(folder.path().join("shop"))).unwrap();
        let mut ports = Vec::new();
        for till in &shop.tills {
            ConfigManager::check(&till.folder).unwrap();
            let config = ConfigManager::peek(&till.folder).unwrap().unwrap();
            assert_eq!((config.peers.len(), config.pos_id), (2, till.pos_id.clone()));
            ports.extend([config.p2p.port, config.api.listen.port()]);
        }
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }

    #[test]
    fn a_demo_goes_on_with_its_store_and_spares_what_is_no_demo() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("shop");
        let store = |tills| Shop::prepare(tills, Some(place.clone())).unwrap().store().unwrap();
        assert_eq!(store(1), store(4));
        fs::remove_dir_all(place.join("till1")).unwrap();
        assert!(Shop::prepare(1, Some(place.clone())).is_err());
    }

    #[test]
    fn a_temporary_shop_leaves_nothing() {
        let shop = Shop::prepare(2, None).unwrap();
        let folder = shop.folder.clone();
        assert!(folder.join("till2/pos-config.json").is_file());
        drop(shop);
        assert!(!folder.exists());
    }

    #[test]
    fn names_are_quoted_for_a_shell() {
        assert_eq!(quoted(Path::new("/tmp/a-b_1.env")), "/tmp/a-b_1.env");
        assert_eq!(quoted(Path::new("/a b'c")), r"'/a b'\''c'");
    }
}
