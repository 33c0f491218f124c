//! Signs of life: what the supervisor is told while the agent starts and runs, and whether the disk still answers.
//!
//! A slow card is no hung agent. A write that has waited for [`SILENT_AFTER`] is shown as a fault, and taken back once it is done; only one
//! that has waited for [`HUNG_AFTER`] ends the agent, by silence towards the supervisor. The longest that the store's thread does at once is
//! bounded (a commit of at most some 2 MiB of changes, less on a card that was slow, and a checkpoint of 1,000 pages), which a card that
//! does a hundred small writes a second has done by then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::board::supervisor::Supervisor;
use crate::store::Store;

/// How long the store's thread may be silent before that is shown: with the watchdog's own patience less than the 15 s of the LED.
const SILENT_AFTER: Duration = Duration::from_secs(5);
/// After so long it is taken for hung.
const HUNG_AFTER: Duration = Duration::from_secs(40);
/// How often it is asked where no supervisor wants to know.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// How often a start that takes long is looked at.
const START_LOOK: Duration = Duration::from_secs(10);
/// Processor time that says that a start goes on. Waiting alone uses less in [`START_LOOK`]; one that works for the disk more.
const START_WORK: Duration = Duration::from_millis(5);
/// What a start that goes on is given: one commit of a migration may take that long without any work of ours.
const START_MORE: Duration = Duration::from_secs(300);

/// Tells the supervisor that the agent lives: this runtime, for it does the telling, and the store's thread, for it has answered or is not
/// silent for long. `silent` is for how long, where that is a fault. Ends when the store is closed.
pub(super) async fn show(supervisor: Arc<Supervisor>, store: Store, silent: watch::Sender<Option<Duration>>) {
    let every = supervisor.alive_every().unwrap_or(ASK_EVERY);
    loop {
        let asked = Instant::now();
        let beat = store.beat();
        tokio::pin!(beat);
        loop {
            tokio::select! {
                answer = &mut beat => match answer {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = tokio::time::sleep(every.min(SILENT_AFTER)) => {
                    let since = asked.elapsed();
                    if since < HUNG_AFTER {
                        supervisor.alive();
                    }
                    if since >= SILENT_AFTER {
                        if silent.borrow().is_none() {
                            tracing::warn!("the disk takes long over a write: {} s so far", since.as_secs());
                        }
                        silent.send_replace(Some(since));
                    }
                }
            }
        }
        if silent.send_if_modified(|since| since.take().is_some()) {
            tracing::info!("the disk has answered after {} s", asked.elapsed().as_secs());
        }
        supervisor.alive();
        tokio::time::sleep(every).await;
    }
}

/// Waits for what a start does on a thread of its own, and asks the supervisor for more time for as long as that goes on: a database of an
/// earlier version may be large and its card slow. Where it stands still, the supervisor's patience ends.
///
/// # Panics
/// As the start does.
pub(super) async fn start<T>(supervisor: &Supervisor, work: JoinHandle<T>) -> T {
    start_by(START_LOOK, processor_time, supervisor, work).await
}

async fn start_by<T>(
    look: Duration,
    processor_time: impl Fn() -> Duration,
    supervisor: &Supervisor,
    mut work: JoinHandle<T>,
) -> T {
    let mut before = processor_time();
    loop {
        tokio::select! {
            done = &mut work => match done {
                Ok(done) => return done,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            () = tokio::time::sleep(look) => {
                let now = processor_time();
                if now.saturating_sub(before) >= START_WORK {
                    supervisor.more_time(START_MORE);
                }
                before = now;
            }
        }
    }
}

fn processor_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_start_that_goes_on_is_given_time_and_one_that_hangs_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).expect("a socket");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let supervisor = Supervisor::at(&path).expect("a connection");
        for (busy, step_ms) in [(true, 5), (false, 4)] {
            let (looks, work_ms) = (Arc::new(tokio::sync::Semaphore::new(0)), AtomicU64::new(0));
            let clock = || {
                looks.add_permits(1);
                Duration::from_millis(work_ms.fetch_add(step_ms, Ordering::Relaxed))
            };
            let enough = looks.clone();
            let work = tokio::spawn(async move { drop(enough.acquire_many(4).await) });
            start_by(Duration::from_millis(1), clock, &supervisor, work).await;
            let mut buffer = [0; 64];
            let heard: Vec<_> =
                std::iter::from_fn(|| listener.recv(&mut buffer).ok().map(|n| buffer[..n].to_vec())).collect();
            assert!(heard.iter().all(|words| words == b"EXTEND_TIMEOUT_USEC=300000000"), "{heard:?}");
            assert_eq!(heard.len() >= 3, busy, "{heard:?}");
            assert_eq!(heard.is_empty(), !busy, "{heard:?}");
        }
    }
}
