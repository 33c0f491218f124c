//! The two threads: one writes, many requests to a commit; the other reads.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use crate::model::op::Op;
use crate::sync::Taking;

use super::db::Db;
use super::error::StoreError;
use super::handle::{Clock, StoreEvent, StoreHealth};
use super::reader::Reader;
use super::request::{Committed, Reply, Request};

/// The most requests of one commit.
const BATCH_REQUESTS_MAX: usize = 256;

/// About the most bytes of one commit, so that no sale waits long behind a catch-up.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// What a commit may hold on the slowest card, and the first ones on any.
pub(super) const BATCH_BYTES_MIN: usize = 256 * 1024;

/// A commit that took longer makes the next ones smaller; one that took a quarter of it makes them larger.
const COMMIT_TIME: Duration = Duration::from_millis(200);

/// How often writing is tried again after a failure when no request does so.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// After so long without work, the pages that the database keeps at hand are given back.
const REST_AFTER: Duration = Duration::from_secs(10);

/// After so long without work, the write-ahead log is moved into the database if it is worth it: nobody waits for that, as a sale would
/// whose commit has to. Longer than between two parts of a catch-up, shorter than between two customers.
const PAUSE: Duration = Duration::from_millis(10);

/// What the writer is given.
pub(super) enum Job {
    /// A request, and where its answer goes.
    Do(Box<Request>, oneshot::Sender<Result<Reply, StoreError>>),
    /// Says that the writer is alive.
    Beat(oneshot::Sender<()>),
    /// Ends the thread; dropped when the database is closed.
    Close(oneshot::Sender<()>),
}

/// What the reader is given.
pub(super) enum ReadJob {
    /// Something to read.
    Read(Box<dyn FnOnce(&Reader) + Send>),
    /// Ends the thread; dropped when the connection is closed.
    Close(oneshot::Sender<()>),
}

/// What waits for the writer. A shop's own requests go before what comes from other tills, however much of that there is: a till that
/// catches up sells all the while. Among themselves both keep their order.
pub(super) struct Jobs {
    coming: Receiver<Job>,
    urgent: VecDeque<Job>,
    patient: VecDeque<Job>,
    /// Nothing behind a close is taken.
    closing: bool,
}

impl Jobs {
    pub(super) fn new(coming: Receiver<Job>) -> Self {
        Self { coming, urgent: VecDeque::new(), patient: VecDeque::new(), closing: false }
    }

    fn sort(&mut self, job: Job) {
        match &job {
            Job::Do(request, _) if is_urgent(request) => self.urgent.push_back(job),
            Job::Beat(_) => self.urgent.push_back(job),
            Job::Do(..) => self.patient.push_back(job),
            Job::Close(_) => {
                self.closing = true;
                self.patient.push_back(job);
            }
        }
    }

    /// Waits until there is a job, at most so long.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), RecvTimeoutError> {
        if self.urgent.is_empty() && self.patient.is_empty() {
            let job = match timeout {
                Some(timeout) => self.coming.recv_timeout(timeout)?,
                None => self.coming.recv().map_err(|_| RecvTimeoutError::Disconnected)?,
            };
            self.sort(job);
        }
        Ok(())
    }

    fn pop(&mut self) -> Option<Job> {
        while !self.closing
            && let Ok(job) = self.coming.try_recv()
        {
            self.sort(job);
        }
        self.urgent.pop_front().or_else(|| self.patient.pop_front())
    }
}

/// Whether somebody stands at the till and waits for it.
fn is_urgent(request: &Request) -> bool {
    matches!(
        request,
        Request::Sell { .. }
            | Request::Refund { .. }
            | Request::Cancel { .. }
            | Request::Move { .. }
            | Request::Edit { .. }
            | Request::Resolve { .. }
    )
}

/// The writer's thread.
pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) jobs: Jobs,
    pub(super) waiting: std::sync::Arc<AtomicUsize>,
    pub(super) clock: Clock,
    pub(super) events: mpsc::UnboundedSender<StoreEvent>,
    pub(super) changes: watch::Sender<u64>,
    pub(super) health: watch::Sender<StoreHealth>,
    /// About the most bytes of the next commit.
    pub(super) batch_bytes: usize,
}

/// Requests that share a commit.
#[derive(Default)]
struct Batch {
    requests: Vec<Request>,
    answers: Vec<oneshot::Sender<Result<Reply, StoreError>>>,
    bytes: usize,
    closing: Option<oneshot::Sender<()>>,
}

impl Batch {
    fn add(&mut self, job: Job) {
        match job {
            Job::Do(request, answer) => {
                self.bytes += weight(&request);
                self.requests.push(*request);
                self.answers.push(answer);
            }
            // Who asked may have gone: nothing to tell then.
            Job::Beat(answer) => drop(answer.send(())),
            Job::Close(done) => self.closing = Some(done),
        }
    }

    fn is_full(&self, bytes_max: usize) -> bool {
        self.requests.len() >= BATCH_REQUESTS_MAX || self.bytes >= bytes_max || self.closing.is_some()
    }

    /// What waits, as far as it fits one commit.
    fn gather(jobs: &mut Jobs, bytes_max: usize) -> Self {
        let mut batch = Self::default();
        while !batch.is_full(bytes_max)
            && let Some(job) = jobs.pop()
        {
            batch.add(job);
        }
        batch
    }
}

/// What a part of a snapshot costs that is here already: each of its rows is looked at, and noted again where it is uncovered.
const PART_BYTES: usize = 128 * 1024;

/// About how many bytes a request writes.
fn weight(request: &Request) -> usize {
    match request {
        Request::Sell { sale, .. } => 512 + 128 * sale.lines.len(),
        Request::Apply(ops) => ops.wire_len(),
        Request::Take { what: Taking::Rows { rows, .. }, .. } => rows.iter().map(Op::wire_len).sum(),
        Request::Take { what: Taking::Same { .. }, .. } => PART_BYTES,
        Request::Take { what: Taking::Hashes { hashes, .. }, .. } => 64 * hashes.len(),
        _ => 512,
    }
}

/// About the most bytes of the next commit, after one of so many that took so long.
fn next_batch(limit: usize, bytes: usize, took: Duration) -> usize {
    if took > COMMIT_TIME {
        // Halved from what was too much, which may have been far below the limit.
        (bytes.min(limit) / 2).max(BATCH_BYTES_MIN)
    } else if took < COMMIT_TIME / 4 && bytes >= limit / 2 {
        // A lone sale is quick whatever the card: it tells nothing of large commits.
        (limit * 2).min(BATCH_BYTES_MAX)
    } else {
        limit
    }
}

impl Writer {
    /// Works until it is told to close or nobody holds the store any more.
    pub(super) fn run(mut self) {
        let (mut closing, mut probe_at, mut worked) = (None, None, None);
        let mut committed = false;
        while closing.is_none() {
            let timeout = if self.health.borrow().fault.is_some() {
                // By the clock, not by silence: a watchdog asks more often than this for a sign of life.
                let at = *probe_at.get_or_insert_with(|| Instant::now() + PROBE_EVERY);
                Some(at.saturating_duration_since(Instant::now()))
            } else {
                probe_at = None;
                None
            };
            let pause = committed.then_some(PAUSE);
            match self.jobs.wait(timeout.into_iter().chain(pause).min()) {
                Ok(()) => {
                    let batch = Batch::gather(&mut self.jobs, self.batch_bytes);
                    // Signs of life are asked for more often than that, so this needs no alarm of its own.
                    if !batch.requests.is_empty() {
                        worked = Some(Instant::now());
                        committed = true;
                    } else if worked.is_some_and(|at: Instant| at.elapsed() >= REST_AFTER) {
                        worked = None;
                        self.db.rest();
                    }
                    closing = self.commit(batch);
                }
                Err(RecvTimeoutError::Timeout) if committed => {
                    committed = false;
                    // A commit that finds it too long tries again, and tells of what ails the disk.
                    if let Err(error) = self.db.tidy_log() {
                        tracing::debug!(%error, "the write-ahead log stays as it is");
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    probe_at = None;
                    let outcome = self.db.probe((self.clock)());
                    self.set_health(outcome.err());
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = self.db.checkpoint() {
            tracing::warn!(%error, "the write-ahead log stays beside the database: it is read at the next start");
        }
        // The lock must be free before anyone is told.
        drop(self.db);
        drop(closing);
    }

    fn commit(&mut self, batch: Batch) -> Option<oneshot::Sender<()>> {
        let Batch { requests, answers, bytes, closing } = batch;
        if requests.is_empty() {
            return closing;
        }
        let began = Instant::now();
        let executed = self.db.execute(requests, (self.clock)());
        self.batch_bytes = next_batch(self.batch_bytes, bytes, began.elapsed());
        self.waiting.fetch_sub(answers.len(), Ordering::Relaxed);
        self.set_health(executed.replies.iter().find_map(|r| r.as_ref().err().filter(|e| e.is_fault())).cloned());
        self.publish(executed.committed);
        for (answer, reply) in answers.into_iter().zip(executed.replies) {
            // Who asked may have gone; what is done stays done.
            drop(answer.send(reply));
        }
        closing
    }

    fn publish(&self, committed: Committed) {
        let last = committed.last_change;
        let news = committed != Committed { last_change: last, ..Committed::default() };
        let changed = last > *self.changes.borrow();
        if changed {
            self.changes.send_replace(last);
        }
        if news || changed {
            // Who listens may have gone: the agent is stopping.
            drop(self.events.send(StoreEvent::Committed(committed)));
        }
    }

    fn set_health(&self, fault: Option<StoreError>) {
        let changed = self.health.send_if_modified(|health| {
            let changed = health.fault != fault;
            health.fault.clone_from(&fault);
            changed
        });
        if changed {
            match &fault {
                Some(fault) => tracing::error!(%fault, "the store cannot write"),
                None => tracing::info!("the store writes again"),
            }
            drop(self.events.send(StoreEvent::Health(fault)));
        }
    }
}

/// The reader's thread.
pub(super) fn read_all(reader: Reader, jobs: &Receiver<ReadJob>, waiting: &AtomicUsize) {
    let mut closing = None;
    while closing.is_none()
        && let Ok(job) = jobs.recv()
    {
        match job {
            ReadJob::Read(read) => {
                waiting.fetch_sub(1, Ordering::Relaxed);
                // A bug in one reading must not end all reading. An open read transaction ends as it unwinds.
                if catch_unwind(AssertUnwindSafe(|| read(&reader))).is_err() {
                    tracing::error!("a reading of the store panicked");
                }
            }
            ReadJob::Close(done) => closing = Some(done),
        }
    }
    drop(reader);
    drop(closing);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::model::id::{TillId, Uuid};

    fn job() -> Job {
        Job::Do(Box::new(Request::Retire { till: TillId([1; 16]) }), oneshot::channel().0)
    }

    fn of(request: Request) -> Job {
        Job::Do(Box::new(request), oneshot::channel().0)
    }

    fn same() -> Request {
        Request::Take { session: 1, what: Taking::Same { table: 1, after: Vec::new(), upto: Vec::new() } }
    }

    fn cancel() -> Request {
        Request::Cancel { id: None, ticket: Uuid::nil(), reason: None }
    }

    #[test]
    fn what_waits_shares_a_commit_up_to_a_limit() {
        let (send, jobs) = channel();
        (0..300).for_each(|_| send.send(job()).unwrap());
        let mut jobs = Jobs::new(jobs);
        let batch = Batch::gather(&mut jobs, BATCH_BYTES_MAX);
        assert_eq!((batch.requests.len(), batch.answers.len()), (BATCH_REQUESTS_MAX, BATCH_REQUESTS_MAX));
        assert_eq!(Batch::gather(&mut jobs, BATCH_BYTES_MAX).requests.len(), 300 - BATCH_REQUESTS_MAX);
    }

    #[test]
    fn a_sale_is_in_the_next_commit_however_much_of_a_snapshot_waits() {
        let (send, jobs) = channel();
        (0..1_000).for_each(|_| send.send(of(same())).unwrap());
        let mut jobs = Jobs::new(jobs);
        let first = Batch::gather(&mut jobs, BATCH_BYTES_MAX).requests.len();
        assert!((1..=BATCH_BYTES_MAX / PART_BYTES).contains(&first), "{first} parts in a commit");
        send.send(of(cancel())).unwrap();
        send.send(Job::Beat(oneshot::channel().0)).unwrap();
        let next = Batch::gather(&mut jobs, BATCH_BYTES_MAX).requests;
        assert!(matches!(next[0], Request::Cancel { .. }) && next.len() > 1, "{} others", next.len() - 1);
    }

    #[test]
    fn a_slow_card_is_given_less_at_once_and_more_again_when_it_is_quick() {
        let (slow, quick) = (COMMIT_TIME * 2, COMMIT_TIME / 8);
        assert_eq!(next_batch(BATCH_BYTES_MAX, BATCH_BYTES_MAX, slow), BATCH_BYTES_MAX / 2);
        assert_eq!(next_batch(BATCH_BYTES_MAX, 1_000_000, slow), 500_000);
        assert_eq!(next_batch(BATCH_BYTES_MAX, 512, slow), BATCH_BYTES_MIN);
        assert_eq!(next_batch(400_000, 512, COMMIT_TIME / 2), 400_000);
        assert_eq!(next_batch(BATCH_BYTES_MIN, BATCH_BYTES_MIN, quick), 2 * BATCH_BYTES_MIN);
        assert_eq!(next_batch(BATCH_BYTES_MAX, BATCH_BYTES_MAX, quick), BATCH_BYTES_MAX);
        assert_eq!(next_batch(BATCH_BYTES_MIN, 512, quick), BATCH_BYTES_MIN, "a sale between two large ones");
    }

    #[test]
    fn nothing_behind_a_close_is_taken() {
        let (send, jobs) = channel();
        let (closed, _) = oneshot::channel();
        send.send(job()).unwrap();
        send.send(Job::Close(closed)).unwrap();
        send.send(of(cancel())).unwrap();
        let batch = Batch::gather(&mut Jobs::new(jobs), BATCH_BYTES_MAX);
        assert_eq!(batch.requests.len(), 1);
        assert!(batch.closing.is_some());
    }
}
