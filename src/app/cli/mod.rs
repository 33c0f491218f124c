//! The command line: what each command does, one file a command. Arguments are parsed in `main`.

mod backup;
mod client;
mod demo;
mod doctor;
mod led;
mod log;
mod open;
mod provision;
mod reservations;
mod restore;
mod run;
mod setup;
mod shop;
mod status;
mod store_new;
mod support;
mod token;
mod update;

use std::io::{self, IsTerminal as _, Write as _};

pub use backup::{BackupOptions, backup};
pub use client::{AgentError, Target};
pub use demo::{DemoOptions, TILLS_MAX, demo};
pub use doctor::{Ill, doctor};
pub use led::{LedAction, led};
pub use log::{LogOptions, log};
pub use open::open;
pub use provision::{ShopOptions, TillOptions, provision, provision_list};
pub use reservations::{ReservationFormat, reservations};
pub use restore::restore;
pub use run::{check_config, die_with, run};
pub use setup::{SetupOptions, setup};
pub use status::status;
pub use store_new::{StoreNewOptions, store_new};
pub use support::support;
pub use token::rotate_token;
pub use update::{RestartWanted, UpdateAction, send_update, update};

use crate::config::{ConfigError, Problems};

/// The exit code of a command that failed.
pub const EXIT_FAILED: u8 = 1;
/// The exit code where the arguments or the config must be corrected.
pub const EXIT_WRONG: u8 = 2;
/// The exit code where no agent answers.
pub const EXIT_NO_AGENT: u8 = 3;
/// The exit code of `doctor` where the agent runs and something is to be done.
pub const EXIT_ILL: u8 = 4;
/// The exit code of root's part of an update where the box is to be started again.
pub const EXIT_RESTART: u8 = 10;

/// The exit code that tells a script what kind of error this is.
#[must_use]
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let wrong = matches!(error.downcast_ref(), Some(ConfigError::Invalid { .. })) || error.is::<Problems>();
    let absent = error.downcast_ref().is_some_and(AgentError::is_absence);
    if error.is::<RestartWanted>() {
        return EXIT_RESTART;
    }
    match error.downcast_ref() {
        Some(Ill::Findings(_)) => return EXIT_ILL,
        Some(Ill::NoAgent) => return EXIT_NO_AGENT,
        None => {}
    }
    match (wrong, absent) {
        (true, _) => EXIT_WRONG,
        (_, true) => EXIT_NO_AGENT,
        _ => EXIT_FAILED,
    }
}

/// Whether the error is that nobody reads our output any more (`tillmesh status | head -1`), which is no failure.
#[must_use]
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

/// Writes to standard output, at once.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A line that says how far long work has come; on a terminal alone, gone when the work is done.
struct Progress {
    shown: String,
    terminal: bool,
}

impl Progress {
    fn new() -> Self {
        Self { shown: String::new(), terminal: io::stderr().is_terminal() }
    }

    /// Shows a line in place of the last one. Best effort: a terminal that is gone stops no work.
    fn show(&mut self, line: &str) {
        if self.terminal && self.shown != line {
            let _ = write!(io::stderr().lock(), "\r\x1b[K{line}");
            line.clone_into(&mut self.shown);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if !self.shown.is_empty() {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}
