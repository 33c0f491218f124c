//! What can be wrong with a config, said so that a technician can put it right.

use std::fmt;
use std::path::PathBuf;

/// One thing wrong in a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where: `p2p.port`, `peers[2]`; empty for the file as a whole.
    pub path: String,
    /// What stands there, as JSON, shortened; secrets are shown as `(hidden)`.
    pub value: String,
    /// What may stand there.
    pub allowed: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path.is_empty() { "the file" } else { &self.path };
        write!(f, "{path}: {}; allowed: {}", self.value, self.allowed)
    }
}

/// Everything wrong in a config file, one line each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Whether what the till is known by is among them: its id or its store.
    #[must_use]
    pub fn concern_identity(&self) -> bool {
        self.0.iter().any(|problem| {
            let section = problem.path.split(['.', '[']).next();
            matches!(section, Some("posId" | "store"))
        })
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            let separator = if at == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Why there is no config to run with. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is there but cannot be read. It is not damage: nothing was moved or replaced.
    #[error("cannot read {}: {source}; check its owner and mode, and the card", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file cannot be written or moved.
    #[error("cannot write {}: {source}; check the free space, owner and mode of its folder", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Values that the agent cannot do with. All of them.
    #[error("{} must be corrected:\n{problems}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything wrong in it.
        problems: Problems,
    },
    /// Neither the file nor the database says who this till is, yet there is a database: a new identity would orphan its sales.
    #[error(
        "{} does not say which till this is ({reason}), and the till's database does not remember it; put back the file from \
         a backup, or move the database away to start as a new till", path.display()
    )]
    IdentityUnknown {
        /// The file.
        path: PathBuf,
        /// What is wrong with the file.
        reason: String,
    },
    /// The system gives no randomness to make an identity of.
    #[error("the system gives no randomness: {0}; start the agent again once the system is up")]
    Randomness(#[from] getrandom::Error),
}
