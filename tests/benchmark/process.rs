//! What the system knows of a process: memory, CPU time, wake-ups, bytes written.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// What the system calls kB.
const KB: u64 = 1024;

/// Counters of a process since its start, and its memory now. Linux, proc(5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Resident memory, in bytes.
    pub(crate) rss: u64,
    /// The part of it that is not pages of files, in bytes.
    pub(crate) anon: u64,
    /// The most that it has been, in bytes.
    pub(crate) peak: u64,
    /// On a CPU, all threads, in ns.
    pub(crate) cpu_ns: u64,
    /// How often a thread has gone to sleep by itself, and so has been woken.
    pub(crate) wakeups: u64,
    /// Bytes that it caused to be written to disks.
    pub(crate) written: u64,
    pub(crate) threads: u64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let folder = format!("/proc/{pid}");
        let status = read(&format!("{folder}/status"))?;
        let io = read(&format!("{folder}/io"))?;
        let mut usage = Self {
            rss: KB * field(&status, "VmRSS:")?,
            anon: KB * field(&status, "RssAnon:")?,
            peak: KB * field(&status, "VmHWM:")?,
            cpu_ns: 0,
            wakeups: 0,
            written: field(&io, "write_bytes:")?,
            threads: 0,
        };
        for task in fs::read_dir(format!("{folder}/task"))? {
            let task = task?.path();
            // A thread may end while we look.
            let (Ok(times), Ok(status)) = (at(&task, "schedstat"), at(&task, "status")) else { continue };
            usage.cpu_ns += times.split(' ').next().and_then(|word| word.parse::<u64>().ok()).context("schedstat")?;
            usage.wakeups += field(&status, "voluntary_ctxt_switches:")?;
            usage.threads += 1;
        }
        Ok(usage)
    }
}

/// Forgets the most memory that a process has used so far (proc(5), clear_refs).
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    fs::write(&path, "5").context(path)
}

/// How many processes are running or waiting for a disk, averaged over a minute: whether the machine was ours.
pub(crate) fn load() -> Result<f64> {
    let text = read("/proc/loadavg")?;
    text.split(' ').next().and_then(|word| word.parse().ok()).context("/proc/loadavg")
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

fn at(task: &Path, name: &str) -> Result<String> {
    Ok(fs::read_to_string(task.join(name))?)
}

/// The number behind a name that begins a line.
fn field(text: &str, name: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| name.to_owned())?;
    line.split_whitespace().next().and_then(|word| word.parse().ok()).with_context(|| name.to_owned())
}
