//! Where log lines go: to the journal where the agent runs as a service, else to standard error; and to the page's ring.

use std::io;

use rustix::fs::fstat;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The environment variable that sets the level.
pub const LEVEL_VARIABLE: &str = "TILLMESH_LOG";

const SYSLOG_IDENTIFIER: &str = "tillmesh";

/// Sets up logging for the process. The level is that of [`LEVEL_VARIABLE`] (`error`, `warn`, `info`, `debug`, `trace` or `off`),
/// `info` where that is unset or unreadable. `also` gets every line of that level too.
///
/// # Errors
/// Where it has been set up before.
pub fn init(also: impl Layer<Registry> + Send + Sync) -> anyhow::Result<()> {
    let wish = std::env::var(LEVEL_VARIABLE).ok().filter(|wish| !wish.is_empty());
    let level = level(wish.as_deref());
    let journal = if stderr_is_the_journal() { journal() } else { None };
    let stderr = journal.is_none().then(|| {
        // A standard error that is gone is no reason to fail, nor to write about it to standard error.
        tracing_subscriber::fmt::layer().compact().with_target(false).with_writer(io::stderr).log_internal_errors(false)
    });
    let registry = tracing_subscriber::registry().with(also).with(journal).with(stderr);
    registry.with(level.unwrap_or(LevelFilter::INFO)).try_init()?;
    if level.is_none() {
        tracing::warn!("{LEVEL_VARIABLE} is none of error, warn, info, debug, trace, off: info is used");
    }
    Ok(())
}

fn level(wish: Option<&str>) -> Option<LevelFilter> {
    match wish {
        None => Some(LevelFilter::INFO),
        // `parse` alone would take numbers.
        Some(wish) if wish.bytes().all(|b| b.is_ascii_alphabetic()) => wish.parse().ok(),
        Some(_) => None,
    }
}

/// The journal's own protocol, which keeps the fields of a line apart.
fn journal() -> Option<tracing_journald::Layer> {
    let priorities =
        PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() };
    let layer = tracing_journald::layer().ok()?;
    let layer = layer.with_field_prefix(None).with_priority_mappings(priorities);
    Some(layer.with_syslog_identifier(SYSLOG_IDENTIFIER.to_owned()))
}

/// Whether standard error is the very stream that systemd connected to the journal: `$JOURNAL_STREAM` holds its device and inode
/// (systemd.exec(5)), and is inherited by processes whose standard error is something else.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(io::stderr()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_strictly() {
        assert_eq!(level(None), Some(LevelFilter::INFO));
        assert_eq!(level(Some("debug")), Some(LevelFilter::DEBUG));
        assert_eq!(level(Some("off")), Some(LevelFilter::OFF));
        for wrong in ["3", "verbose", "debug,tillmesh=trace"] {
            assert_eq!(level(Some(wrong)), None, "{wrong}");
        }
    }
}
