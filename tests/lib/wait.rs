//! Waiting for a condition instead of sleeping a guessed time.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Tries until it holds, or the deadline is over: then the last reason why it did not. Says how long it took.
pub(crate) fn eventually(deadline: Duration, what: &str, mut holds: impl FnMut() -> Result<()>) -> Result<Duration> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(20);
    loop {
        match holds() {
            Ok(()) => return Ok(began.elapsed()),
            Err(reason) if began.elapsed() >= deadline => {
                return Err(reason).with_context(|| format!("not within {:.0?}: {what}", deadline));
            }
            Err(_) => {}
        }
        thread::sleep(pause);
        // What is quick is timed finely, what is slow is not asked a thousand times.
        pause = (pause * 5 / 4).min(Duration::from_millis(500));
    }
}
