//! `tillmesh run`: the agent itself, from its start to a signal.

use std::future::Future;
use std::pin::pin;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::sync::oneshot;

use crate::app::{self, RunOptions};
use crate::config::{ConfigManager, DataDir};

/// Runs the agent until SIGTERM or SIGINT. A second signal does not wait for the clean end.
///
/// # Errors
/// As [`app::run`].
pub async fn run(options: RunOptions) -> anyhow::Result<()> {
    let mut stopping = StopSignals::listen(&[SignalKind::interrupt(), SignalKind::terminate()])?;
    let (stop, stopped) = oneshot::channel::<()>();
    let mut agent = pin!(app::run(options, async {
        // Dropped or sent: either way it is the end.
        let _ = stopped.await;
    }));
    tokio::select! {
        ended = agent.as_mut() => return ended,
        () = stopping.next() => {}
    }
    drop(stop);
    tokio::select! {
        ended = agent.as_mut() => ended,
        () = stopping.next() => bail!("a second signal came before the end; what was acknowledged is on the disk"),
    }
}

/// Checks the config and says what is wrong with it, all at once.
///
/// # Errors
/// [`ConfigError::Invalid`](crate::config::ConfigError::Invalid) with every problem.
pub fn check_config(folder: &DataDir) -> anyhow::Result<()> {
    ConfigManager::check(folder)?;
    let path = folder.config();
    let verdict = if path.try_exists()? { "is right" } else { "is not there yet: the first start makes it" };
    super::print(&format!("{} {verdict}\n", path.display()))?;
    Ok(())
}

/// Has the system end this process (SIGTERM) when its parent, whose process id is given, dies, however that dies.
///
/// # Errors
/// Where the parent is dead already, or the system refuses.
pub fn die_with(parent: i32) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::TERM)).context("cannot tie this process to its parent")?;
    // A parent that died before the line above sends nothing: this process has another one by then.
    if Pid::as_raw(getppid()) == parent { Ok(()) } else { bail!("the process that started this one is gone") }
}

/// Signals that ask a program to end.
pub(super) struct StopSignals(Vec<Signals>);

impl StopSignals {
    /// From now on they are ours: they no longer end the process by themselves.
    pub(super) fn listen(kinds: &[SignalKind]) -> anyhow::Result<Self> {
        let signals: std::io::Result<_> = kinds.iter().map(|kind| signal(*kind)).collect();
        Ok(Self(signals.context("cannot listen to signals")?))
    }

    /// Waits for the next of them.
    pub(super) fn next(&mut self) -> impl Future<Output = ()> {
        std::future::poll_fn(|context| {
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if came { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
    }
}
