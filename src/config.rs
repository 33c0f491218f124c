//! ConfigManager: `pos-config.json`, and the other small files of the data folder.
//!
//! POSPlus's keys exactly as POSPlus writes them, plus sections of our own (`store`, `peers`, `api`, `posplus`, `led`,
//! `network`, and for the box `ssh`, `timezone`, `country`), all optional. Unknown fields are kept. What the manager promises:
//!
//! - **A till never changes its identity by accident.** `posId`, `posName`, `posType`, `createdAt` and `store` are remembered by
//!   the database too ([`ConfigManager::identity_json`]). A file that is missing or damaged (not a JSON object) is written anew
//!   from that memory, the damaged one moved aside; keys of these that are absent are filled in from it. A new identity is made
//!   only where there is no database. With a database that remembers nothing, `open` fails.
//! - **Wrong values do not stop a till that sells.** Each is replaced, in memory alone, by the value that the database
//!   remembers, else by the default; a notice lists them all, and the file keeps them for whoever corrects it. One case is
//!   refused: a till that remembers no identity, with a wrong `posId` or `store`. Its first sales would carry a made-up name or
//!   be in the wrong currency for good, and it has not begun to sell.
//! - **A save changes what it is about and no other byte**, is there whole or not at all, and is 0600: it holds the store key.

mod address;
mod adopt;
mod check;
mod document;
mod file;
mod folder;
mod key;
mod problem;
mod system;
mod view;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

pub use self::address::{Ipv4Net, Ipv4NetError, MESH_PORT, PeerAddress, PeerAddressError};
use self::document::{Document, FILE_BYTES_MAX, Lookup};
pub use self::folder::{ApiToken, DataDir, DataDirLock, FolderError, TillKey, TokenScope};
pub use self::key::{KeyError, StoreKey};
pub use self::problem::{ConfigError, Problem, Problems};
pub use self::system::{Country, Passphrase, SshKey, Ssid, System, SystemError, Wifi};
pub use self::view::{
    Admission, Api, Config, DEFAULT_CURRENCY, DEFAULT_STORE_NAME, DEFAULT_TIME_ZONE, Led, Network, P2p, PosPlus,
    PosType, StoreSection, hostname,
};

/// The config and the folder's secrets are for the agent alone.
const CONFIG_MODE: u32 = 0o600;

/// What the till's database knows of who the till is.
#[derive(Debug)]
pub enum Memory {
    /// There is no database: this till has never sold, and may be given an identity.
    NoDatabase,
    /// There is a database, and it remembers no identity.
    Blank,
    /// What it remembers.
    Identity(Box<RememberedIdentity>),
}

/// What [`ConfigManager::identity_json`] gave the database to remember, read back.
#[derive(Debug, Clone, PartialEq)]
pub struct RememberedIdentity(Config);

impl RememberedIdentity {
    /// Reads back the text that the database kept.
    ///
    /// # Errors
    /// What is wrong with it, where it does not say who the till is. Other values that are wrong are taken for their defaults:
    /// an older or newer version wrote them.
    pub fn from_json(text: &str) -> Result<Self, Problems> {
        let document = Document::parse(text.as_bytes()).map_err(|reason| Problems(vec![whole_file(reason)]))?;
        let missing = |path: &&str| document.get(path) == Lookup::Absent;
        if let Some(path) = ["posId", "store"].iter().find(|path| missing(path)) {
            let allowed = "what the config holds".to_owned();
            return Err(Problems(vec![Problem { path: (*path).to_owned(), value: "missing".to_owned(), allowed }]));
        }
        let (config, problems) = check::read(&document, &Config::first_start("", &[0; 64], Timestamp::UNIX_EPOCH));
        if problems.concern_identity() { Err(problems) } else { Ok(Self(config)) }
    }
}

/// Something that whoever looks after the till should know; none of these keeps it from selling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigNotice {
    /// A first start: the file was made.
    Created,
    /// The till was given a store of its own. To join another, it takes that store's `store` object into its config.
    OwnStore,
    /// The file was no JSON object. A new one was written from what the database remembers.
    Damaged {
        /// Where the damaged file is now; `None` where it could not be moved and is still in its place.
        moved_to: Option<PathBuf>,
        /// What was wrong with it.
        reason: String,
    },
    /// The file was gone. A new one was written from what the database remembers.
    Missing,
    /// Values of the file that are wrong, and were replaced in memory.
    BadValues(Problems),
    /// What had to be written could not be. The till runs on what it remembers.
    NotSaved {
        /// What the system says.
        reason: String,
    },
    /// The store key is that of the published examples, which anybody has.
    ExampleKey,
    /// Others than the agent can read the file, and so the store key, and its mode could not be changed.
    Exposed,
}

impl fmt::Display for ConfigNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("first start: pos-config.json was made"),
            Self::OwnStore => f.write_str(
                "this till was given a store of its own; to join another, put that store's `store` object into pos-config.json",
            ),
            Self::Damaged { moved_to: Some(aside), reason } => {
                write!(f, "pos-config.json was damaged ({reason}) and is now {}; a new one was written", aside.display())
            }
            Self::Damaged { moved_to: None, reason } => {
                write!(f, "pos-config.json is damaged ({reason}) and could not be moved; the till runs on what it remembers")
            }
            Self::Missing => f.write_str("pos-config.json was gone; it was written anew from what the database remembers"),
            Self::BadValues(problems) => write!(f, "pos-config.json must be corrected:\n{problems}"),
            Self::NotSaved { reason } => {
                write!(f, "pos-config.json could not be written ({reason}); the till runs on what it remembers")
            }
            Self::ExampleKey => {
                f.write_str("the store key is the one of the published examples: make one with `tillmesh store new`")
            }
            Self::Exposed => f.write_str("others can read pos-config.json, which holds the store key: `chmod 600` it"),
        }
    }
}

/// Owns `pos-config.json`: its path, its text as it is on disk, and its typed view. Blocking: its calls wait for the disk.
#[derive(Debug)]
pub struct ConfigManager {
    path: PathBuf,
    document: Document,
    config: Config,
}

impl ConfigManager {
    /// Opens the config of a data folder; the module's page says what happens to a file that is missing, damaged or wrong.
    /// The caller holds the folder's lock.
    ///
    /// # Errors
    /// [`ConfigError`], each variant for the case that it names.
    pub fn open(folder: &DataDir, memory: Memory) -> Result<(Self, Vec<ConfigNotice>), ConfigError> {
        let mut entropy = [0; 64];
        getrandom::fill(&mut entropy)?;
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let fresh = Config::first_start(&hostname, &entropy, now_ms());
        let (fallback, known, may_invent) = match memory {
            Memory::Identity(remembered) => (remembered.0, true, false),
            Memory::NoDatabase => (fresh, false, true),
            Memory::Blank => (fresh, false, false),
        };
        Opening { path: folder.config(), fallback, known, may_invent, notices: Vec::new() }.run()
    }

    /// Checks the config of a data folder and changes nothing, for `run --check-config`. A missing file is right: the next
    /// start makes it.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong, or [`ConfigError::Unreadable`].
    pub fn check(folder: &DataDir) -> Result<(), ConfigError> {
        let path = folder.config();
        let problems = match read_document(&path)? {
            OnDisk::Missing => return Ok(()),
            OnDisk::Damaged(reason) => Problems(vec![whole_file(reason)]),
            OnDisk::Document(document) => {
                check::read(&document, &Config::first_start("", &[0; 64], Timestamp::UNIX_EPOCH)).1
            }
        };
        if problems.0.is_empty() { Ok(()) } else { Err(ConfigError::Invalid { path, problems }) }
    }

    /// The config as the file says it, for commands beside a running agent; `None` where there is no file. Changes nothing and
    /// takes no lock. What the file lacks or has wrong is at its default, whatever the database remembers.
    ///
    /// # Errors
    /// [`ConfigError::Unreadable`]; [`ConfigError::Invalid`] where it is no JSON object.
    pub fn peek(folder: &DataDir) -> Result<Option<Config>, ConfigError> {
        let path = folder.config();
        match read_document(&path)? {
            OnDisk::Missing => Ok(None),
            OnDisk::Damaged(reason) => Err(ConfigError::Invalid { path, problems: Problems(vec![whole_file(reason)]) }),
            OnDisk::Document(document) => {
                let defaults = Config::first_start("", &[0; 64], Timestamp::UNIX_EPOCH);
                Ok(Some(check::read(&document, &defaults).0))
            }
        }
    }

    /// The config to run with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the database is to remember, as JSON: the config in force, by which a lost or damaged file is written anew. To be
    /// kept after every `open` and every change. Holds the store key.
    #[must_use]
    pub fn identity_json(&self) -> String {
        Value::Object(self.config.to_json()).to_string()
    }

    /// Turns the mesh on or off, durably: `p2p.enabled` in the file, and nothing else there. What was edited in the file since
    /// it was opened is kept, and comes into force with the next start.
    ///
    /// # Errors
    /// Where the file cannot be written; then neither it nor [`ConfigManager::config`] has changed.
    pub fn set_p2p_enabled(&mut self, enabled: bool) -> Result<(), ConfigError> {
        let mut document = match read_document(&self.path)? {
            OnDisk::Document(document) => document,
            OnDisk::Missing => self.document.clone(),
            OnDisk::Damaged(_) => {
                move_aside(&self.path)?;
                self.document.clone()
            }
        };
        match document.get("p2p") {
            Lookup::Found(text) if text.starts_with('{') => document.set("p2p.enabled", &json!(enabled)),
            _ => document.set("p2p", &P2p { enabled, ..self.config.p2p.clone() }.to_json()),
        }
        save(&self.path, &document)?;
        self.document = document;
        self.config.p2p.enabled = enabled;
        Ok(())
    }
}

/// One opening of a config, and what came up in it.
struct Opening {
    path: PathBuf,
    /// What the database remembers, else what a first start is given.
    fallback: Config,
    /// Whether the fallback is remembered.
    known: bool,
    /// Whether the fallback's identity may be taken although it is new.
    may_invent: bool,
    notices: Vec<ConfigNotice>,
}

impl Opening {
    fn run(mut self) -> Result<(ConfigManager, Vec<ConfigNotice>), ConfigError> {
        let (document, changed) = match read_document(&self.path)? {
            OnDisk::Document(document) => self.complete(document)?,
            OnDisk::Missing => {
                self.need_identity("it is missing")?;
                self.notices.push(if self.known { ConfigNotice::Missing } else { ConfigNotice::Created });
                (self.anew(), true)
            }
            OnDisk::Damaged(reason) => {
                self.need_identity(&reason)?;
                let changed = self.set_aside(reason)?;
                (self.anew(), changed)
            }
        };
        let (config, problems) = check::read(&document, &self.fallback);
        if !self.known && problems.concern_identity() {
            return Err(ConfigError::Invalid { path: self.path, problems });
        }
        if changed {
            self.write(&document)?;
        } else if let Err(error) = file::restrict(&self.path, CONFIG_MODE) {
            tracing::debug!(%error, "cannot narrow the mode of the config");
            self.notices.push(ConfigNotice::Exposed);
        }
        if !problems.0.is_empty() {
            self.notices.push(ConfigNotice::BadValues(problems));
        }
        if config.store.key.is_example() {
            self.notices.push(ConfigNotice::ExampleKey);
        }
        Ok((ConfigManager { path: self.path, document, config }, self.notices))
    }

    /// Fails where the identity would have to be invented beside a database.
    fn need_identity(&self, reason: &str) -> Result<(), ConfigError> {
        if self.known || self.may_invent {
            return Ok(());
        }
        Err(ConfigError::IdentityUnknown { path: self.path.clone(), reason: reason.to_owned() })
    }

    /// A whole new document.
    fn anew(&mut self) -> Document {
        if !self.known {
            self.notices.push(ConfigNotice::OwnStore);
        }
        Document::of(&self.fallback.to_json())
    }

    /// Adds the keys that the file lacks; tells whether there were any.
    fn complete(&mut self, mut document: Document) -> Result<(Document, bool), ConfigError> {
        let mut changed = false;
        let whole = Config { p2p: P2p::default(), ..self.fallback.clone() }.to_json();
        for name in ["posId", "posName", "posType", "p2p", "createdAt", "store"] {
            let (Lookup::Absent, Some(value)) = (document.get(name), whole.get(name)) else { continue };
            if matches!(name, "posId" | "store") {
                self.need_identity(&format!("it has no {name}"))?;
            }
            if name == "store" && !self.known {
                self.notices.push(ConfigNotice::OwnStore);
            }
            document.set(name, value);
            changed = true;
        }
        Ok((document, changed))
    }

    /// Moves the damaged file away; tells whether its place is free.
    fn set_aside(&mut self, reason: String) -> Result<bool, ConfigError> {
        let moved_to = match move_aside(&self.path) {
            Ok(aside) => Some(aside),
            // A card that has turned read-only: the till can still be asked what it knows.
            Err(_) if self.known => None,
            Err(error) => return Err(error),
        };
        let free = moved_to.is_some();
        self.notices.push(ConfigNotice::Damaged { moved_to, reason });
        Ok(free)
    }

    fn write(&mut self, document: &Document) -> Result<(), ConfigError> {
        match save(&self.path, document) {
            Err(error) if self.known => self.notices.push(ConfigNotice::NotSaved { reason: error.to_string() }),
            other => other?,
        }
        Ok(())
    }
}

/// The file as it is found.
enum OnDisk {
    Document(Document),
    Missing,
    Damaged(String),
}

fn read_document(path: &Path) -> Result<OnDisk, ConfigError> {
    let bytes = file::read(path, FILE_BYTES_MAX);
    match bytes.map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })? {
        None => Ok(OnDisk::Missing),
        Some(bytes) => Ok(Document::parse(&bytes).map_or_else(OnDisk::Damaged, OnDisk::Document)),
    }
}

fn save(path: &Path, document: &Document) -> Result<(), ConfigError> {
    let unwritable = |source| ConfigError::Unwritable { path: path.to_owned(), source };
    file::replace(path, document.as_text().as_bytes(), CONFIG_MODE).map_err(unwritable)
}

/// Renames a damaged file to `pos-config.json.damaged-<UTC>`, never over another one: a board without a battery clock can be
/// damaged twice at the same time of day.
fn move_aside(path: &Path) -> Result<PathBuf, ConfigError> {
    let stamp = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ");
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{stamp}"));
    let unwritable = |source| ConfigError::Unwritable { path: path.to_owned(), source };
    file::move_aside(path, Path::new(&aside)).map_err(unwritable)
}

fn whole_file(reason: String) -> Problem {
    Problem { path: String::new(), value: reason, allowed: "a JSON object".to_owned() }
}

/// The time by the system's clock, to the millisecond that the file keeps.
fn now_ms() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
}
