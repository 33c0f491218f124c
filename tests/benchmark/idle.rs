//! Two linked tills with nothing to do.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::process::Usage;
use crate::report::Figure;
use crate::till::Till;
use crate::{Bench, megabytes};

const LINK_MAX: Duration = Duration::from_secs(30);

/// Until what a start allocates is allocated.
const WARM_UP: Duration = Duration::from_secs(3);

/// Until a till has kept what it last heard of the other's log, which it does within 10 s: that write belongs to the work before.
const SETTLE: Duration = Duration::from_secs(15);

const RSS_GOAL: u64 = 10_000_000;
const CPU_GOAL_PERCENT: f64 = 0.5;

/// The memory of two tills that have just been linked.
pub(crate) fn memory(bench: &mut Bench, a: &Till, b: &Till) -> Result<()> {
    link(bench, a, b, "idle, no tickets")?;
    thread::sleep(WARM_UP);
    report_memory(bench, "idle, 1 peer, no tickets: memory A / B", [a.usage()?, b.usage()?]);
    Ok(())
}

/// Watches both tills for a while, after all the work that went before.
pub(crate) fn measure(bench: &mut Bench, a: &Till, b: &Till) -> Result<()> {
    link(bench, a, b, "idle, all tickets")?;
    thread::sleep(SETTLE);
    let before = [a.usage()?, b.usage()?];
    thread::sleep(bench.plan.idle);
    let after = [a.usage()?, b.usage()?];
    let seconds = bench.plan.idle.as_secs_f64();
    let each = |of: fn(&Usage) -> u64| [0, 1].map(|i| of(&after[i]).saturating_sub(of(&before[i])));
    let cpu = each(|usage| usage.cpu_ns).map(|ns| ns as f64 / 1e7 / seconds);
    let wakeups = each(|usage| usage.wakeups).map(|times| times as f64 / seconds);
    let written = each(|usage| usage.written);

    report_memory(bench, "idle, 1 peer, 20,000 tickets: memory A / B", after);
    bench.report.goal(
        Figure {
            name: "idle, 1 peer: CPU A / B",
            figure: format!("{:.3} / {:.3} %", cpu[0], cpu[1]),
            against: format!("{:.1} / {:.1} wake-ups/s", wakeups[0], wakeups[1]),
            numbers: json!({ "percent": cpu, "wakeupsPerSecond": wakeups }),
        },
        "< 0.5 %",
        cpu.iter().all(|percent| *percent < CPU_GOAL_PERCENT),
    );
    bench.report.goal(
        Figure {
            name: "idle, 1 peer: written to disk A / B",
            figure: format!("{} / {} bytes in {seconds:.0} s", written[0], written[1]),
            against: String::new(),
            numbers: json!({ "bytes": written }),
        },
        "0",
        written == [0, 0],
    );
    Ok(())
}

fn link(bench: &Bench, a: &Till, b: &Till, what: &str) -> Result<()> {
    bench.say(what);
    a.wait_for_link(LINK_MAX)?;
    b.wait_for_link(LINK_MAX)
}

fn report_memory(bench: &mut Bench, name: &str, usage: [Usage; 2]) {
    let of = |what: fn(&Usage) -> u64| usage.map(|usage| what(&usage));
    let (rss, anon) = (of(|usage| usage.rss), of(|usage| usage.anon));
    let both = |bytes: [u64; 2]| format!("{:.1} / {:.1} MB", megabytes(bytes[0]), megabytes(bytes[1]));
    bench.report.goal(
        Figure {
            name,
            figure: both(rss),
            against: format!("{} of it not pages of files", both(anon)),
            numbers: json!({ "rssBytes": rss, "anonymousBytes": anon, "threads": of(|usage| usage.threads) }),
        },
        "< 10 MB",
        rss.iter().all(|bytes| *bytes < RSS_GOAL),
    );
}
