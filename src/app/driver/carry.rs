//! Carrying out what the replica asks of the store, and telling it what came of that.

use std::future::Future;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, warn};

use super::{Answer, Driver};
use crate::model::close::Close;
use crate::model::id::Origin;
use crate::model::op::{Head, OpBatch, Seq};
use crate::store::{OpsRead, Reply, Request, Store, StoreError};
use crate::sync::{BATCH_OPS_MAX, Comparison, Input, Key, LinkId, Part, SnapshotAsk, Taking};

/// Uncovered rows that are authored in one request: a few milliseconds of the store's time.
const ADOPT_ROWS: usize = 128;

/// What must be done sooner or later is tried again after this.
const RETRY: Duration = Duration::from_secs(2);

impl Driver {
    /// Does `work` with the store, beside everything else, and feeds the replica what it gives.
    fn ask_store<F>(&self, work: impl FnOnce(Store) -> F)
    where
        F: Future<Output = Option<Input>> + Send + 'static,
    {
        let (future, answers) = (work(self.store.clone()), self.answers.clone());
        tokio::spawn(async move { answer(&answers, future.await) });
    }

    pub(super) fn apply(&self, batch: OpBatch) {
        let origin = batch.origin;
        self.ask_store(|store| async move {
            let head = match store.submit(Request::Apply(batch)).await {
                Ok(Reply::NotContinuing { head, .. }) => Some(head),
                // The commit's event tells the replica.
                Ok(_) | Err(StoreError::Closed) => return None,
                Err(_) => None,
            };
            Some(Input::NotApplied { origin, head })
        });
    }

    pub(super) fn read_ops(&self, link: LinkId, origin: Origin, from: Seq, bytes_max: usize) {
        self.ask_store(move |store| async move {
            let read = store.read(move |reader| reader.ops(origin, from, BATCH_OPS_MAX, bytes_max)).await;
            let read = read.unwrap_or_else(|error| {
                warn!("P2P: ops of {origin} from {from} cannot be read: {error}");
                OpsRead::Nothing
            });
            Some(match read {
                OpsRead::Compacted(floor) => Input::ReadBelow { link, origin, floor },
                read => Input::Read { link, origin, batch: read.batch() },
            })
        });
    }

    /// Ends of origins must be durable before anything else is done with them; the commit's event tells the replica.
    pub(super) fn end(&self, closes: Vec<Close>) {
        self.insist(Request::End(closes));
    }

    pub(super) fn leave_origin(&self, origin: Origin) {
        self.insist(Request::LeaveOrigin(origin));
    }

    /// Submits until it is done, or the store is closed: a full disk is emptied some day.
    fn insist(&self, request: Request) {
        let store = self.store.clone();
        tokio::spawn(async move {
            loop {
                match store.submit(request.clone()).await {
                    Ok(_) | Err(StoreError::Closed) => return,
                    Err(error) => warn!("P2P: the end of an origin could not be stored, trying again: {error}"),
                }
                tokio::time::sleep(RETRY).await;
            }
        });
    }

    pub(super) fn compare(&self, link: LinkId, origin: Origin, marks: Vec<Head>) {
        self.ask_store(move |store| async move {
            let found = store.read(move |reader| reader.compare(origin, &marks)).await.unwrap_or_else(|error| {
                warn!("P2P: the log of {origin} cannot be compared: {error}");
                Comparison::Unknown
            });
            Some(Input::Compared { link, origin, found })
        });
    }

    pub(super) fn answer_ask(&self, link: LinkId, ask: SnapshotAsk) {
        self.ask_store(move |store| async move {
            let answer = store.answer(link.0, ask).await;
            Some(Input::Answer { link, answer })
        });
    }

    pub(super) fn compare_parts(&self, session: u64, table: u16, after: Key, parts: Vec<Part>) {
        self.ask_store(move |store| async move {
            let all = parts.len();
            let differ = store.study(move |reader| reader.differing_parts(table, &after, &parts)).await;
            let differ = differ.unwrap_or_else(|error| {
                warn!("P2P: parts of a snapshot cannot be compared, taking them all: {error}");
                (0..all).collect()
            });
            Some(Input::PartsCompared { session, differ })
        });
    }

    pub(super) fn take(&self, session: u64, what: Taking) {
        self.ask_store(move |store| async move {
            let taken = store.submit(Request::Take { session, what }).await;
            if let Err(error) = &taken {
                warn!("P2P: a part of a snapshot could not be stored: {error}");
            }
            Some(Input::Taken { session, done: taken.is_ok() })
        });
    }

    pub(super) fn adopt(&self) {
        self.ask_store(|store| async move {
            match store.submit(Request::Adopt { rows_max: ADOPT_ROWS }).await {
                Ok(Reply::Adopted { left }) => {
                    debug!("P2P: {left} rows of an unfinished snapshot are left to be made this till's own");
                    Some(Input::Adopted { left })
                }
                Ok(_) => Some(Input::Adopted { left: 0 }),
                Err(StoreError::Closed) => None,
                Err(error) => {
                    warn!("P2P: rows of an unfinished snapshot could not be made this till's own: {error}");
                    tokio::time::sleep(RETRY).await;
                    Some(Input::Adopted { left: u64::MAX })
                }
            }
        });
    }

    pub(super) fn digest(&self) {
        self.ask_store(|store| async move {
            let digest = store.read(|reader| reader.digest()).await.unwrap_or_else(|error| {
                warn!("P2P: the state cannot be summed up: {error}");
                None
            });
            Some(Input::Digest(digest))
        });
    }
}

fn answer(answers: &UnboundedSender<Answer>, input: Option<Input>) {
    if let Some(input) = input {
        // Who listens may have gone: the agent is stopping.
        let _ = answers.send(Answer::Input(input));
    }
}
