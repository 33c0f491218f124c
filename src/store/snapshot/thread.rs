//! The thread that gives snapshots, and reads what takes long, apart from the writer's and the reader's: a part may take a second, and
//! nobody waits for it.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::super::error::StoreError;
use super::super::reader::Reader;
use super::giver::SnapshotGiver;
use crate::sync::{SnapshotAnswer, SnapshotAsk};

/// How often snapshots are looked at that nobody asks about.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);

/// What the thread is given.
enum Job {
    Answer(u64, SnapshotAsk, oneshot::Sender<SnapshotAnswer>),
    Forget(u64),
    Study(Study),
}

/// Something to read, where the database can be opened.
type Study = Box<dyn FnOnce(Result<&Reader, StoreError>) + Send>;

/// The thread, where it runs: from the first question until nothing has been given for a while.
type Running = Mutex<Option<Sender<Job>>>;

/// Gives snapshots on a thread that is there only while there is something to give.
#[derive(Clone, Debug)]
pub(in crate::store) struct Giving {
    path: Arc<PathBuf>,
    running: Arc<Running>,
}

impl Giving {
    pub(in crate::store) fn new(path: Arc<PathBuf>) -> Self {
        Self { path, running: Arc::default() }
    }

    /// Answers a question; [`SnapshotAnswer::NotNow`] where the thread cannot.
    pub(in crate::store) async fn answer(&self, link: u64, ask: SnapshotAsk) -> SnapshotAnswer {
        let (answer, answered) = oneshot::channel();
        if let Err(error) = self.send(Job::Answer(link, ask, answer)) {
            tracing::warn!(%error, "no snapshot is given");
            return SnapshotAnswer::NotNow;
        }
        answered.await.unwrap_or(SnapshotAnswer::NotNow)
    }

    /// Reads what takes long.
    ///
    /// # Errors
    /// Those of `read`, or the database's where it cannot be opened for reading.
    pub(in crate::store) async fn study<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        // Who asked may have gone.
        let job = Job::Study(Box::new(move |reader| drop(answer.send(reader.and_then(read)))));
        self.send(job)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// A link is gone.
    pub(in crate::store) fn forget(&self, link: u64) {
        if let Some(jobs) = &*lock(&self.running) {
            // A thread that has ended holds nothing.
            drop(jobs.send(Job::Forget(link)));
        }
    }

    /// Ends the thread, and what it holds.
    pub(in crate::store) fn end(&self) {
        *lock(&self.running) = None;
    }

    fn send(&self, job: Job) -> std::io::Result<()> {
        let mut running = lock(&self.running);
        let job = match &*running {
            Some(jobs) => match jobs.send(job) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent.0,
            },
            None => job,
        };
        let (jobs, receive) = channel();
        let (path, slot) = (self.path.clone(), Arc::downgrade(&self.running));
        thread::Builder::new().name("till-give".into()).spawn(move || give(&path, &receive, &slot))?;
        // The thread is there: it holds the other end.
        drop(jobs.send(job));
        *running = Some(jobs);
        Ok(())
    }
}

fn lock(running: &Running) -> MutexGuard<'_, Option<Sender<Job>>> {
    // Nothing is ever half done under this lock.
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn give(path: &Path, jobs: &Receiver<Job>, slot: &Weak<Running>) {
    let mut giver = SnapshotGiver::new(path.to_path_buf());
    let started = Instant::now();
    let now_ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    loop {
        match jobs.recv_timeout(EXPIRE_EVERY) {
            Ok(Job::Answer(link, ask, answer)) => {
                // Who asked may have gone.
                drop(answer.send(giver.answer(link, ask, now_ms())));
            }
            Ok(Job::Forget(link)) => giver.forget(link),
            Ok(Job::Study(study)) => match Reader::open(path) {
                Ok(reader) => study(Ok(&reader)),
                Err(error) => study(Err(error)),
            },
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                giver.expire(now_ms());
                // With the slot empty nobody sends to this thread any more: what was sent before that is still done.
                if !giver.is_giving()
                    && let Some(running) = slot.upgrade()
                {
                    *lock(&running) = None;
                }
            }
        }
    }
}
