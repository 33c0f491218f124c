//! Two linked tills with nothing to do.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::Bench;
use crate::process::Usage;
use crate::report::Figure;
use crate::till::Till;

const LINK_MAX: Duration = Duration::from_secs(30);

/// After a link is made, acks and digests are still exchanged and the log of the database may be folded in.
const SETTLE: Duration = Duration::from_secs(3);

const RSS_GOAL_KB: u64 = 10_000;
const CPU_GOAL_PERCENT: f64 = 0.5;

/// Watches both tills for a while. `holding` says what is in their databases.
pub(crate) fn measure(bench: &mut Bench, a: &Till, b: &Till, holding: &str) -> Result<()> {
    a.wait_for_link(LINK_MAX)?;
    b.wait_for_link(LINK_MAX)?;
    bench.say(&format!("idle, one peer, {holding}"));
    thread::sleep(SETTLE);
    let before = [a.usage()?, b.usage()?];
    thread::sleep(bench.plan.idle);
    let after = [a.usage()?, b.usage()?];
    let seconds = bench.plan.idle.as_secs_f64();
    let each = |of: fn(&Usage) -> u64| [0, 1].map(|i| of(&after[i]).saturating_sub(of(&before[i])));
    let cpu = each(|usage| usage.cpu_ns).map(|ns| ns as f64 / 1e7 / seconds);
    let wakeups = each(|usage| usage.wakeups).map(|times| times as f64 / seconds);
    let written = each(|usage| usage.written);
    let rss = after.map(|usage| usage.rss_kb);
    let anon = after.map(|usage| usage.anon_kb);

    let figure = |name: &str, figure: String, against: String, numbers| {
        (format!("idle, one peer, {holding}: {name}"), figure, against, numbers)
    };
    let rows = [
        (
            figure(
                "memory A / B",
                pair(rss.map(|kb| kb as f64 / 1000.0), "MB"),
                format!("{} not of files", pair(anon.map(|kb| kb as f64 / 1000.0), "MB")),
                json!({ "rssKb": rss, "anonKb": anon, "threads": after[0].threads }),
            ),
            "< 10 MB",
            rss.iter().all(|kb| *kb < RSS_GOAL_KB),
        ),
        (
            figure(
                "CPU A / B",
                pair(cpu, "%"),
                format!("{} wake-ups/s", pair(wakeups, "").trim()),
                json!({ "percent": cpu, "wakeupsPerSecond": wakeups }),
            ),
            "< 0.5 %",
            cpu.iter().all(|percent| *percent < CPU_GOAL_PERCENT),
        ),
        (
            figure(
                "written to disk A / B",
                format!("{} / {} bytes in {seconds:.0} s", written[0], written[1]),
                String::new(),
                json!({ "bytes": written }),
            ),
            "0",
            written == [0, 0],
        ),
    ];
    for ((name, figure, against, numbers), goal, met) in rows {
        bench.report.goal(Figure { name: &name, figure, against, numbers }, goal, met);
    }
    Ok(())
}

fn pair([a, b]: [f64; 2], unit: &str) -> String {
    format!("{a:.2} / {b:.2} {unit}")
}
