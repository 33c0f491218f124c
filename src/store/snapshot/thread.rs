//! The thread that gives snapshots, apart from the writer's and the reader's: a part may take a second, and nobody waits for it.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::giver::SnapshotGiver;
use crate::sync::{SnapshotAnswer, SnapshotAsk};

/// How often snapshots are looked at that nobody asks about.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);

/// What the thread is given.
enum Job {
    Answer(u64, SnapshotAsk, oneshot::Sender<SnapshotAnswer>),
    Forget(u64),
}

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
        let giver = SnapshotGiver::new(self.path.to_path_buf());
        let slot = Arc::downgrade(&self.running);
        thread::Builder::new().name("till-give".into()).spawn(move || give(giver, &receive, &slot))?;
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

fn give(mut giver: SnapshotGiver, jobs: &Receiver<Job>, slot: &Weak<Running>) {
    let started = Instant::now();
    let now_ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    loop {
        match jobs.recv_timeout(EXPIRE_EVERY) {
            Ok(Job::Answer(link, ask, answer)) => {
                // Who asked may have gone.
                drop(answer.send(giver.answer(link, ask, now_ms())));
            }
            Ok(Job::Forget(link)) => giver.forget(link),
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
