//! The handle that the rest of the agent holds.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::error::StoreError;
use super::reader::Reader;
use super::request::{Committed, Now, Reply, Request, StoreOptions};

/// What the store tells without being asked.
#[derive(Clone, PartialEq, Debug)]
pub enum StoreEvent {
    /// A commit is on the disk.
    Committed(Committed),
    /// Writing failed, or works again (`None`).
    Health(Option<StoreError>),
}

/// How the store is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreHealth {
    /// Why the last commit failed; `None` where it did not.
    pub fault: Option<StoreError>,
}

/// The caller's clock.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// A store at work: a writer and a reader, each on a thread of its own.
#[derive(Clone)]
pub struct Store {
    health: watch::Receiver<StoreHealth>,
    changes: watch::Receiver<u64>,
}

impl Store {
    /// Opens the database and starts the threads.
    ///
    /// # Errors
    /// As [`super::Db::open`].
    pub fn spawn(
        options: StoreOptions,
        clock: Clock,
        events: mpsc::UnboundedSender<StoreEvent>,
    ) -> Result<Self, StoreError> {
        let _ = (options, clock, events);
        Ok(Self { health: watch::channel(StoreHealth::default()).1, changes: watch::channel(0).1 })
    }

    /// Does a request; answers when it is on the disk.
    ///
    /// # Errors
    /// Those of the request; [`StoreError::Overloaded`] at once where the queue is full.
    pub async fn submit(&self, request: Request) -> Result<Reply, StoreError> {
        let _ = request;
        Err(StoreError::Closed)
    }

    /// Reads, on the reader's thread.
    ///
    /// # Errors
    /// Those of `read`; [`StoreError::Overloaded`] at once where the queue is full.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let _ = read;
        Err(StoreError::Closed)
    }

    /// The newest change cursor, after every commit.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// How the store is.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.health.clone()
    }

    /// Waits until the writer has taken note, for a watchdog: writing is alive where this returns in time.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn beat(&self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    /// Writes a consistent copy to a new file while selling goes on.
    ///
    /// # Errors
    /// The database's or the file's.
    pub async fn backup(&self, to: PathBuf) -> Result<(), StoreError> {
        let _ = to;
        Err(StoreError::Closed)
    }

    /// Does what is waiting, then closes the database.
    pub async fn close(self) {}
}
