//! The data folder of a till: where it is, what is in it, and the secrets that live there.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::file;
use crate::model::id::{hex, unhex};

/// Bytes of the till's private key, and of the API token.
const SECRET_BYTES: usize = 32;
/// The file of a secret holds its hex and perhaps a newline.
const SECRET_FILE_BYTES_MAX: usize = 2 * SECRET_BYTES + 2;

/// Why the data folder cannot be used. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Nothing says where the folder is.
    #[error("no place for the till's data: give --data-dir, or set STATE_DIRECTORY, XDG_STATE_HOME or HOME")]
    NoPlace,
    /// The system refuses something.
    #[error("cannot {doing} {}: {source}; check its owner, its mode and the free space", path.display())]
    Io {
        /// `create`, `read`, `write`, `move`, `lock`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another agent works in this folder.
    #[error("another agent runs in {}: stop it first, or give this one a --data-dir of its own", .0.display())]
    InUse(PathBuf),
    /// The till's private key cannot be made out. It is not replaced by itself: the other tills know this till by it.
    #[error(
        "{} is damaged (it should hold 64 hex digits): put it back from a backup, or delete it, and the till takes a new key \
         that the other tills admit anew", .0.display()
    )]
    KeyDamaged(PathBuf),
    /// A file that should hold an API token holds something else.
    #[error("{} is not an API token (64 hex digits): copy the file api-token of the till's data folder whole", .0.display())]
    NotAToken(PathBuf),
    /// The system gives no randomness to make a secret of.
    #[error("the system gives no randomness: {0}; start the agent again once the system is up")]
    Randomness(#[from] getrandom::Error),
}

/// The data folder: names of what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataDir(PathBuf);

/// Holds the data folder for one agent until dropped; the system lets go of it when the process dies, however it dies.
#[derive(Debug)]
pub struct DataDirLock(File);

impl Drop for DataDirLock {
    fn drop(&mut self) {
        // Closing alone would not do while a child process, between fork and exec, still has the descriptor.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl DataDir {
    /// Where the data is: `given` (`--data-dir`), else `$STATE_DIRECTORY` (the first of its folders, systemd.exec(5)), else
    /// `$XDG_STATE_HOME/tillmesh`, else `$HOME/.local/state/tillmesh`. Empty variables count as unset, and so does a relative
    /// `XDG_STATE_HOME` (XDG Base Directory Specification). Touches nothing.
    ///
    /// # Errors
    /// [`FolderError::NoPlace`] where none of them is set.
    pub fn resolve(given: Option<&Path>, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, FolderError> {
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        if let Some(given) = given {
            return Ok(Self(given.to_owned()));
        }
        if let Some(first) = set("STATE_DIRECTORY").and_then(|list| std::env::split_paths(&list).next()) {
            return Ok(Self(first));
        }
        let state = set("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let state = state.or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/state")));
        state.map(|state| Self(state.join("tillmesh"))).ok_or(FolderError::NoPlace)
    }

    /// Makes the folder, readable to its owner only, where it is not there yet.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn create(&self) -> Result<(), FolderError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(|e| self.io("create", &self.0, e))
    }

    /// Takes the folder for one agent. Before anything in it is written.
    ///
    /// # Errors
    /// [`FolderError::InUse`] where another agent has it.
    pub fn lock(&self) -> Result<DataDirLock, FolderError> {
        let folder = File::open(&self.0).map_err(|e| self.io("lock", &self.0, e))?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DataDirLock(folder)),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(FolderError::InUse(self.0.clone())),
            Err(error) => Err(self.io("lock", &self.0, error.into())),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `pos-config.json`.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.0.join("pos-config.json")
    }

    /// `till.db`.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.0.join("till.db")
    }

    /// `till.key`: the till's X25519 private key in hex, 0600.
    #[must_use]
    pub fn till_key(&self) -> PathBuf {
        self.0.join("till.key")
    }

    /// `api-token`: the bearer token of the local API that opens everything, in hex, 0640.
    #[must_use]
    pub fn api_token(&self) -> PathBuf {
        self.token(TokenScope::Admin)
    }

    /// The file of a bearer token of the local API.
    #[must_use]
    pub fn token(&self, scope: TokenScope) -> PathBuf {
        self.0.join(scope.file())
    }

    /// The till's private key, made on the first start.
    ///
    /// # Errors
    /// [`FolderError::KeyDamaged`] where the file holds something else: a new key would be a new till to the others.
    pub fn load_or_create_till_key(&self) -> Result<TillKey, FolderError> {
        let path = self.till_key();
        let Some(bytes) = self.read(&path)? else {
            return self.new_secret(&path, 0o600).map(TillKey);
        };
        let key = secret(&bytes).ok_or_else(|| FolderError::KeyDamaged(path.clone()))?;
        // Best effort: a folder brought back from a backup may have lost its modes, and not be ours to change.
        let _ = file::restrict(&path, 0o600);
        Ok(TillKey(key))
    }

    /// Moves the till's private key aside, so that the next [`DataDir::load_or_create_till_key`] makes a new one: for a folder that woke up
    /// in another box. Gives its new name; `None` where there was none.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn set_aside_till_key(&self) -> Result<Option<PathBuf>, FolderError> {
        let path = self.till_key();
        if self.read(&path)?.is_none() {
            return Ok(None);
        }
        let aside = self.0.join("till.key.of-other-box");
        file::move_aside(&path, &aside).map(Some).map_err(|e| self.io("move", &path, e))
    }

    /// A token of the API, made on the first start, and made anew where the file is damaged: whoever uses it reads the file.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn load_or_create_api_token(&self, scope: TokenScope) -> Result<ApiToken, FolderError> {
        match self.read_api_token(scope)? {
            Some(token) => Ok(token),
            None => self.rotate_api_token(scope),
        }
    }

    /// Puts a new token in the place of the former one. For the agent that holds the folder: it alone knows who may read the file.
    ///
    /// # Errors
    /// Where the system refuses; the former one stays then.
    pub fn rotate_api_token(&self, scope: TokenScope) -> Result<ApiToken, FolderError> {
        Ok(ApiToken(hex(&self.new_secret(&self.token(scope), 0o640)?)))
    }

    /// The API token that the agent of this folder takes, for the command line; `None` where it has made none yet.
    ///
    /// # Errors
    /// Where the file is there and may not be read.
    pub fn read_api_token(&self, scope: TokenScope) -> Result<Option<ApiToken>, FolderError> {
        let bytes = self.read(&self.token(scope))?;
        Ok(bytes.as_deref().and_then(secret).map(|token| ApiToken(hex(&token))))
    }

    /// Whether the till has a database, so that it has sold under an identity.
    ///
    /// # Errors
    /// Where the system does not tell.
    pub fn has_database(&self) -> Result<bool, FolderError> {
        let path = self.database();
        fs::exists(&path).map_err(|e| self.io("read", &path, e))
    }

    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FolderError> {
        file::read(path, SECRET_FILE_BYTES_MAX).map_err(|e| self.io("read", path, e))
    }

    fn new_secret(&self, path: &Path, mode: u32) -> Result<[u8; SECRET_BYTES], FolderError> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        let text = format!("{}\n", hex(&secret));
        file::replace(path, text.as_bytes(), mode).map_err(|e| self.io("write", path, e))?;
        Ok(secret)
    }

    fn io(&self, doing: &'static str, path: &Path, source: io::Error) -> FolderError {
        FolderError::Io { doing, path: path.to_owned(), source }
    }
}

/// 64 hex digits and at most a line's end.
fn secret(bytes: &[u8]) -> Option<[u8; SECRET_BYTES]> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end();
    let digits_only = text.bytes().all(|b| b.is_ascii_hexdigit());
    if digits_only { unhex(text)?.try_into().ok() } else { None }
}

/// The till's X25519 private key: what it is known by. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct TillKey([u8; SECRET_BYTES]);

impl TillKey {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SECRET_BYTES] {
        &self.0
    }
}

impl fmt::Debug for TillKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TillKey(hidden)")
    }
}

/// What a token of the local API is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenScope {
    /// Reading what loopback reads without one, and the log: for monitoring.
    Read,
    /// Everything: for the till application and the technician.
    Admin,
}

impl TokenScope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Read, Self::Admin];

    /// Its name in the API and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }

    /// The one of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// The name of its file in the data folder.
    fn file(self) -> &'static str {
        match self {
            Self::Read => "api-token-read",
            Self::Admin => "api-token",
        }
    }
}

/// A bearer token of the local API: 64 hex digits. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken(String);

impl ApiToken {
    /// A token that was copied from the till that takes it.
    ///
    /// # Errors
    /// Where the file cannot be read or holds something else.
    pub fn from_file(path: &Path) -> Result<Self, FolderError> {
        let io = |source| FolderError::Io { doing: "read", path: path.to_owned(), source };
        let bytes =
            file::read(path, SECRET_FILE_BYTES_MAX).map_err(io)?.ok_or_else(|| io(io::ErrorKind::NotFound.into()))?;
        secret(&bytes).map(|token| Self(hex(&token))).ok_or_else(|| FolderError::NotAToken(path.to_owned()))
    }

    /// The text, as it goes into an `Authorization` header.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text is the token; takes as long whatever they have in common.
    #[must_use]
    pub fn matches(&self, given: &str) -> bool {
        let differing = self.0.bytes().zip(given.bytes()).fold(0, |differing, (a, b)| differing | (a ^ b));
        given.len() == self.0.len() && differing == 0
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn resolve(given: Option<&str>, env: &[(&str, &str)]) -> Option<String> {
        let get = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value));
        let found = DataDir::resolve(given.map(Path::new), get).ok()?;
        Some(found.path().to_str().unwrap().to_owned())
    }

    #[test]
    fn the_folder_is_the_first_that_is_named() {
        let all = [("STATE_DIRECTORY", "/s:/t"), ("XDG_STATE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(resolve(Some("d"), &all).unwrap(), "d");
        assert_eq!(resolve(None, &all).unwrap(), "/s");
        assert_eq!(resolve(None, &all[1..]).unwrap(), "/x/tillmesh");
        assert_eq!(resolve(None, &all[2..]).unwrap(), "/h/.local/state/tillmesh");
        assert_eq!(resolve(None, &[("XDG_STATE_HOME", "x"), ("HOME", "/h")]).unwrap(), "/h/.local/state/tillmesh");
        assert_eq!(resolve(None, &[("STATE_DIRECTORY", ""), ("HOME", "")]), None);
    }

    fn folder() -> (tempfile::TempDir, DataDir) {
        let temporary = tempfile::tempdir().unwrap();
        let folder = DataDir(temporary.path().join("a/b"));
        folder.create().unwrap();
        folder.create().unwrap();
        (temporary, folder)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn secrets_are_made_once_with_their_modes() {
        let (_temporary, folder) = folder();
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(folder.read_api_token(TokenScope::Admin).unwrap(), None);
        let admin = TokenScope::Admin;
        let (key, token) = (folder.load_or_create_till_key().unwrap(), folder.load_or_create_api_token(admin).unwrap());
        assert_eq!((mode(&folder.till_key()), mode(&folder.api_token())), (0o600, 0o640));
        assert_eq!(folder.load_or_create_till_key().unwrap(), key);
        assert_eq!(folder.load_or_create_api_token(admin).unwrap(), token);
        assert_eq!(folder.read_api_token(admin).unwrap(), Some(token.clone()));
        let read = folder.load_or_create_api_token(TokenScope::Read).unwrap();
        assert_eq!(mode(&folder.token(TokenScope::Read)), 0o640);
        let rotated = folder.rotate_api_token(TokenScope::Read).unwrap();
        assert!(rotated != read && rotated != token);
        assert_eq!(folder.load_or_create_api_token(TokenScope::Read).unwrap(), rotated);
        assert_eq!(folder.load_or_create_api_token(admin).unwrap(), token, "each scope is rotated alone");
        assert_ne!(key.as_bytes(), &[0; 32]);
        assert!(token.matches(token.as_str()));
        assert!(
            !token.matches("") && !token.matches(&"0".repeat(64)) && !token.matches(&format!("{}0", token.as_str()))
        );
        assert_eq!(format!("{key:?} {token:?}"), "TillKey(hidden) ApiToken(hidden)");
    }

    #[test]
    fn a_damaged_key_is_an_error_and_kept_a_damaged_token_is_made_anew() {
        let (_temporary, folder) = folder();
        let plus = "+1".repeat(32);
        let long = "a".repeat(66);
        for damaged in ["", "abc", "\0\0", &plus, &long] {
            fs::write(folder.till_key(), damaged).unwrap();
            let error = folder.load_or_create_till_key().unwrap_err();
            assert!(matches!(error, FolderError::KeyDamaged(_)), "{damaged:?}: {error}");
            assert_eq!(fs::read_to_string(folder.till_key()).unwrap(), damaged);
            fs::write(folder.api_token(), damaged).unwrap();
            assert!(ApiToken::from_file(&folder.api_token()).is_err());
            let token = folder.load_or_create_api_token(TokenScope::Admin).unwrap();
            assert_eq!(ApiToken::from_file(&folder.api_token()).unwrap(), token);
        }
    }

    #[test]
    fn a_key_that_others_could_read_is_closed() {
        let (_temporary, folder) = folder();
        fs::write(folder.till_key(), "0A".repeat(32)).unwrap();
        fs::set_permissions(folder.till_key(), fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(folder.load_or_create_till_key().unwrap().as_bytes(), &[10; 32]);
        assert_eq!(mode(&folder.till_key()), 0o600);
    }

    #[test]
    fn one_agent_has_the_folder() {
        let (_temporary, folder) = folder();
        let lock = folder.lock().unwrap();
        assert!(matches!(folder.lock(), Err(FolderError::InUse(_))));
        drop(lock);
        folder.lock().unwrap();
    }

    #[test]
    fn a_database_is_noticed() {
        let (_temporary, folder) = folder();
        assert!(!folder.has_database().unwrap());
        fs::write(folder.database(), b"").unwrap();
        assert!(folder.has_database().unwrap());
    }
}
