//! One agent as a process: started with its output in a file, ended by its own process id, never left behind.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A running agent. Dropped, it is killed.
pub(crate) struct Agent {
    child: Child,
}

impl Agent {
    /// Starts the command, its output appended to `log`.
    pub(crate) fn spawn(command: &mut Command, log: &Path) -> Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let (out, err) = (open()?, open()?);
        let child =
            command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().context("the agent cannot be started")?;
        Ok(Self { child })
    }

    /// For whoever only looks on. It stays this agent's until the agent is dropped.
    pub(crate) fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")
    }

    /// Power cut, as far as a process can have one: SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits.
    pub(crate) fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        kill_process(self.pid()?, Signal::TERM)?;
        match self.exit(deadline)? {
            Some(status) => Ok(status),
            None => bail!("still running {deadline:?} after SIGTERM"),
        }
    }

    /// Waits for it to end by itself; `None` where it still runs at the deadline.
    pub(crate) fn exit(&mut self, deadline: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if Instant::now() >= end {
                return Ok(None);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Nobody is left to tell; a process that has ended already is what we want.
        let _ = self.kill();
    }
}
