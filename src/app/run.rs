//! One till, from start to stop.

use std::future::Future;

use crate::config::DataDir;

/// What an agent is started with.
#[derive(Debug)]
pub struct RunOptions {
    /// Where the till keeps its files.
    pub folder: DataDir,
}

/// Runs an agent until `stop` completes.
///
/// # Errors
/// What keeps it from starting, with what to do. Once it has started it runs on, whatever fails.
pub async fn run(options: RunOptions, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let _ = options;
    stop.await;
    Ok(())
}
