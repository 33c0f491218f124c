//! The handle: many askers, one writer.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::super::{Store, StoreEvent};
use super::*;
use crate::model::level::LEVEL;

const DEADLINE: Duration = Duration::from_secs(60);

/// Where the writer passes before each commit, as it asks for the time.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }

    fn pass(&self) {
        drop(self.opened.wait_while(self.shut.lock().unwrap(), |shut| *shut).unwrap());
    }
}

struct Running {
    store: Store,
    gate: Arc<Gate>,
    events: mpsc::UnboundedReceiver<StoreEvent>,
    options: StoreOptions,
    _dir: TempDir,
}

fn start() -> Running {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: dir.path().join("till.db"), author: author(1), level: LEVEL };
    let (send, events) = mpsc::unbounded_channel();
    let gate = Arc::<Gate>::default();
    let passing = gate.clone();
    let clock = move || {
        passing.pass();
        at(NOON)
    };
    let store = Store::spawn(options.clone(), Arc::new(clock), send).unwrap();
    Running { store, gate, events, options, _dir: dir }
}

fn run<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, story).await.expect("the story ends in time") })
}

fn sell(id: u128) -> Request {
    Request::Sell { id: uuid(id), sale: sale(&[(7, 1)]) }
}

/// Hands all requests in, and gives what waits for their answers.
async fn hand_in(store: &Store, requests: Vec<Request>) -> impl Future<Output = Vec<Result<Reply, StoreError>>> {
    let store = store.clone();
    let mut all = Box::pin(join_all(requests.into_iter().map(move |request| {
        let store = store.clone();
        async move { store.submit(request).await }
    })));
    assert!(poll_fn(|context| Poll::Ready(all.as_mut().poll(context).is_pending())).await);
    all
}

async fn commits(mut running: Running) -> usize {
    running.store.clone().close().await;
    let mut commits = 0;
    while let Some(event) = running.events.recv().await {
        commits += usize::from(matches!(event, StoreEvent::Committed(committed) if committed.local.is_some()));
    }
    commits
}

#[test]
fn concurrent_requests_share_a_commit() {
    run(async {
        let running = start();
        running.gate.set(true);
        let answers = hand_in(&running.store, (1..=100).map(sell).collect()).await;
        running.gate.set(false);
        for reply in answers.await {
            assert!(matches!(reply, Ok(Reply::Ticket { created: true, .. })), "{reply:?}");
        }
        assert_eq!(*running.store.changes().borrow(), 100);
        let commits = commits(running).await;
        assert!((1..=3).contains(&commits), "{commits} commits");
    });
}

#[test]
fn a_writer_that_has_nothing_to_do_moves_the_log() {
    run(async {
        let running = start();
        let beside = Connection::open(&running.options.path).unwrap();
        let pages = || {
            let left = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
            beside.query_row("PRAGMA wal_checkpoint(NOOP)", [], left).unwrap()
        };
        let mut id = 1;
        // Should the machine be so slow that there is a pause between two sales, that is what the test is about.
        while pages() < 600 && id < 400 {
            running.store.submit(sell(id)).await.unwrap();
            id += 1;
        }
        while pages() >= 500 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.store.submit(sell(id)).await.unwrap();
    });
}

#[test]
fn what_is_answered_can_be_read_by_who_asked() {
    run(async {
        let running = start();
        for id in 1..=20 {
            running.store.submit(sell(id)).await.unwrap();
            let found = running.store.read(move |reader| reader.ticket(uuid(id))).await.unwrap();
            assert!(found.is_some());
        }
        assert_eq!(commits(running).await, 20);
    });
}

#[test]
fn reading_goes_on_while_the_writer_waits_and_after_a_bug() {
    run(async {
        let running = start();
        running.store.submit(sell(1)).await.unwrap();
        running.gate.set(true);
        let mut waiting = pin!(hand_in(&running.store, vec![sell(2)]).await);
        assert!(running.store.read(|reader| reader.ticket(uuid(1))).await.unwrap().is_some());
        let bug = running.store.read::<()>(|_| panic!("a bug in a reading")).await;
        assert_eq!(bug, Err(StoreError::Closed));
        assert!(running.store.read(|reader| reader.ticket(uuid(2))).await.unwrap().is_none());
        running.gate.set(false);
        assert!(waiting.as_mut().await[0].is_ok());
        running.store.beat().await.unwrap();
    });
}

#[test]
fn a_queue_that_is_full_says_so_at_once() {
    run(async {
        let running = start();
        running.gate.set(true);
        let requests = (0..10_000).map(|_| Request::Retire { till: TillId([1; 16]) }).collect();
        let waiting = hand_in(&running.store, requests).await;
        assert_eq!(running.store.submit(sell(1)).await, Err(StoreError::Overloaded));
        running.gate.set(false);
        assert!(waiting.await.iter().all(Result::is_ok));
        running.store.submit(sell(1)).await.unwrap();
    });
}

#[test]
fn a_failure_is_told_and_so_is_its_end() {
    run(async {
        let mut running = start();
        let mut health = running.store.health();
        // Another program writes, for longer than the till's writer waits.
        let blocker = Connection::open(&running.options.path).unwrap();
        blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert_eq!(running.store.submit(sell(1)).await, Err(StoreError::Locked));
        assert_eq!(health.borrow_and_update().fault, Some(StoreError::Locked));
        blocker.execute_batch("ROLLBACK").unwrap();
        // Without a request: the writer tries by itself.
        health.wait_for(|health| health.fault.is_none()).await.unwrap();
        assert_eq!(running.events.recv().await, Some(StoreEvent::Health(Some(StoreError::Locked))));
        assert_eq!(running.events.recv().await, Some(StoreEvent::Health(None)));
        running.store.submit(sell(1)).await.unwrap();
    });
}

#[test]
fn closing_finishes_what_waits_and_frees_the_lock() {
    run(async {
        let running = start();
        running.gate.set(true);
        let answers = hand_in(&running.store, (1..=10).map(sell).collect()).await;
        let mut closing = pin!(running.store.clone().close());
        assert!(poll_fn(|context| Poll::Ready(closing.as_mut().poll(context).is_pending())).await);
        running.gate.set(false);
        closing.await;
        assert!(answers.await.iter().all(Result::is_ok));
        assert_eq!(running.store.submit(sell(11)).await, Err(StoreError::Closed));
        assert_eq!(running.store.beat().await, Err(StoreError::Closed));
        // Closing does not wait for ever, so on a slow disk the lock may be freed a little later.
        let db = loop {
            match Db::open(&running.options, at(NOON), Box::new(Seeded(1))) {
                Err(StoreError::Locked) => tokio::time::sleep(Duration::from_millis(10)).await,
                opened => break opened.unwrap(),
            }
        };
        assert!(db.reader().unwrap().ticket(uuid(10)).unwrap().is_some());
    });
}

#[test]
fn a_copy_through_the_handle_is_of_a_commit() {
    run(async {
        let running = start();
        running.store.submit(sell(1)).await.unwrap();
        let copy = running.options.path.with_extension("copy");
        running.store.backup(copy.clone()).await.unwrap();
        let tickets: i64 =
            Connection::open(copy).unwrap().query_row("SELECT count(*) FROM ticket", [], |row| row.get(0)).unwrap();
        assert_eq!(tickets, 1);
    });
}
