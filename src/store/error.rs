//! What can go wrong in the store, and what the reader can do about it.

use rusqlite::ErrorCode;

/// A request of the client that is refused: nothing was stored.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Rejection {
    /// Where, as a path into what the client sent: `lines[2].quantity`.
    pub path: String,
    /// What is allowed.
    pub message: String,
}

/// Why the store did not do what it was asked. Nothing of the request was stored.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// The request breaks a rule.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// What the request speaks of is not here.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// The same id is here with other content.
    #[error("a {0} with this id and other content is here already: use a new id for a new {0}")]
    Conflict(&'static str),
    /// The disk is full. Tried again with the next request.
    #[error("the disk is full: nothing was stored; free some space and try again")]
    DiskFull,
    /// The database cannot be written. Tried again with the next request.
    #[error("the database is read-only: nothing was stored; check the mount, the file's mode and the card")]
    ReadOnly,
    /// The system failed to read or write.
    #[error("reading or writing the database failed ({0}): check the card; the earlier data is as it was")]
    Io(String),
    /// A second agent has this database.
    #[error("another agent has this database open: stop it first, or use another data folder")]
    Locked,
    /// The database's pages or rows are not what they should be.
    #[error("the database is damaged ({0}): restore a backup, or start anew and let the other tills fill it")]
    Damaged(String),
    /// The database was written by a later version.
    #[error("the database has schema {found}, this version knows {known}: update this till")]
    TooNew {
        /// The database's schema.
        found: u32,
        /// The latest schema that this version knows.
        known: u32,
    },
    /// A file that should be a till's database is something else.
    #[error("{0} is not a till's database")]
    NotADatabase(String),
    /// The store has been closed.
    #[error("the store is closed: the agent is stopping")]
    Closed,
    /// More requests are waiting than the queue takes.
    #[error("too many requests are waiting: try again in a moment")]
    Overloaded,
}

impl StoreError {
    /// A refusal of a request, naming the place.
    pub fn rejected(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Rejected(Rejection { path: path.into(), message: message.into() })
    }

    /// Whether the database or its disk failed, rather than the request.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        self.ends_commit() || matches!(self, Self::Damaged(_))
    }

    /// Whether all requests of a commit fail with the one that met this. A damaged row is the matter of those alone that need it.
    pub(super) fn ends_commit(&self) -> bool {
        matches!(self, Self::DiskFull | Self::ReadOnly | Self::Io(_) | Self::Locked)
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let text = error.to_string();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull,
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Locked,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) => {
                Self::Damaged(text)
            }
            Some(_) => Self::Io(text),
            None => Self::Damaged(text),
        }
    }
}

impl From<std::io::Error> for StoreError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            std::io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly,
            _ => Self::Io(error.to_string()),
        }
    }
}
