//! The handle that the rest of the agent holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use crate::sync::{SnapshotAnswer, SnapshotAsk};

use super::backup;
use super::db::Db;
use super::error::StoreError;
use super::leftover::take_over;
use super::reader::Reader;
use super::request::{Committed, Entropy, Now, Reply, Request, StoreOptions};
use super::snapshot::Giving;
use super::writer::{BATCH_BYTES_MIN, Job, Jobs, ReadJob, Writer, read_all};

/// The most requests, and the most readings, that wait.
const WAITING_MAX: usize = 10_000;

/// How long closing waits for the threads.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// What the store tells without being asked. Sent when it is on the disk.
#[derive(Clone, PartialEq, Debug)]
pub enum StoreEvent {
    /// A commit changed something.
    Committed(Committed),
    /// Writing has begun to fail, or works again (`None`).
    Health(Option<StoreError>),
}

/// How the store is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StoreHealth {
    /// Why the last commit failed; `None` where it did not. Writing is tried again with every request, and every few seconds.
    pub fault: Option<StoreError>,
}

/// The caller's clock.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// Random numbers of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn u64(&mut self) -> u64 {
        getrandom::u64().expect("the system gives random numbers once it has started")
    }
}

/// A store at work: a writer (`till-store`), a reader (`till-read`), and now and then a giver of snapshots (`till-give`), each on a thread
/// of its own. All clones are the same store.
#[derive(Clone)]
pub struct Store {
    path: Arc<PathBuf>,
    jobs: Queue<Job>,
    reads: Queue<ReadJob>,
    giving: Giving,
    health: watch::Receiver<StoreHealth>,
    changes: watch::Receiver<u64>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

/// A queue to one of the threads, with a count of what waits in it.
struct Queue<T> {
    send: Sender<T>,
    waiting: Arc<AtomicUsize>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self { send: self.send.clone(), waiting: self.waiting.clone() }
    }
}

impl<T> Queue<T> {
    /// Puts in work that its thread counts off again.
    fn push(&self, job: T) -> Result<(), StoreError> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(StoreError::Overloaded);
        }
        self.send.send(job).map_err(|_| StoreError::Closed)
    }
}

impl Store {
    /// Opens the database and starts the threads. They end with [`Store::close`], or when the last clone is dropped.
    ///
    /// # Errors
    /// As [`Db::open`].
    pub fn spawn(
        options: StoreOptions,
        clock: Clock,
        events: mpsc::UnboundedSender<StoreEvent>,
    ) -> Result<Self, StoreError> {
        let mut db = Db::open(&options, clock(), Box::new(SystemEntropy))?;
        take_over(&mut db, &options.path, clock());
        let reader = db.reader()?;
        let (changes, changes_out) = watch::channel(reader.last_change()?);
        let (health, health_out) = watch::channel(StoreHealth::default());
        let (send, receive) = channel();
        let jobs = Queue { send, waiting: Arc::default() };
        let (send, receive_reads) = channel();
        let reads = Queue { send, waiting: Arc::default() };
        let writer = Writer {
            db,
            jobs: Jobs::new(receive),
            waiting: jobs.waiting.clone(),
            clock,
            events,
            changes,
            health,
            batch_bytes: BATCH_BYTES_MIN,
        };
        let reading = reads.waiting.clone();
        thread::Builder::new().name("till-store".into()).spawn(move || writer.run())?;
        thread::Builder::new().name("till-read".into()).spawn(move || read_all(reader, &receive_reads, &reading))?;
        let path = Arc::new(options.path);
        let giving = Giving::new(path.clone());
        Ok(Self { path, jobs, reads, giving, health: health_out, changes: changes_out })
    }

    /// Does a request; answers when it is on the disk. Requests that wait at the same time share a commit. Once this was called, the
    /// request is done even where the caller goes away.
    ///
    /// # Errors
    /// Those of the request; [`StoreError::Overloaded`] at once where the queue is full; [`StoreError::Closed`] where the store was
    /// closed before the request was taken up.
    pub async fn submit(&self, request: Request) -> Result<Reply, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.push(Job::Do(Box::new(request), answer))?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Reads, on the reader's thread, the state after the last commit. It never waits for the writer.
    ///
    /// # Errors
    /// Those of `read`; [`StoreError::Overloaded`] at once where the queue is full; [`StoreError::Closed`].
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        // Who asked may have gone: then nobody wants to know.
        self.reads.push(ReadJob::Read(Box::new(move |reader| drop(answer.send(read(reader))))))?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Answers a question about the snapshot that is given on a link, on a thread of its own (`till-give`), which is there while it has
    /// something to give: reading and writing never wait for it.
    pub async fn answer(&self, link: u64, ask: SnapshotAsk) -> SnapshotAnswer {
        self.giving.answer(link, ask).await
    }

    /// Reads what takes long, on the thread that gives snapshots: neither reading nor writing waits for it.
    ///
    /// # Errors
    /// Those of `read`; the database's; [`StoreError::Closed`].
    pub async fn study<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.giving.study(read).await
    }

    /// A link is gone: what is given on it is given up.
    pub fn forget_link(&self, link: u64) {
        self.giving.forget(link);
    }

    /// The newest change cursor, after every commit.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// How the store is. The channel closes when the writer's thread has ended.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.health.clone()
    }

    /// Waits until the writer has taken note, for a watchdog: the writer is alive where this returns in time.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn beat(&self) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send.send(Job::Beat(answer)).map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)
    }

    /// Writes a consistent copy to a new file while selling goes on, on a thread of its own: see [`backup::backup`].
    ///
    /// # Errors
    /// The database's or the file's.
    pub async fn backup(&self, to: PathBuf) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        let from = self.path.clone();
        thread::Builder::new()
            .name("till-backup".into())
            .spawn(move || drop(answer.send(backup::backup(&from, &to))))?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Does what is waiting, then closes the database and frees its lock. Returns within about 2 s, also where the disk hangs.
    pub async fn close(self) {
        self.giving.end();
        let (read_done, reads_closed) = oneshot::channel();
        let (done, closed) = oneshot::channel();
        // A thread that has ended already drops its sender at once.
        drop(self.reads.send.send(ReadJob::Close(read_done)));
        drop(self.jobs.send.send(Job::Close(done)));
        let both = async {
            let _ = reads_closed.await;
            let _ = closed.await;
        };
        if tokio::time::timeout(CLOSE_WITHIN, both).await.is_err() {
            tracing::warn!("the store did not close in time: what was answered is on the disk");
        }
    }
}
