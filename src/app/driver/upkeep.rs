//! What is done for the database while nobody waits for it: compaction, and the scrub that looks for rows gone bad.
//!
//! Time here is the time that this database's agent has run in all: no clock is asked, so that one that jumps lapses nobody.

use std::collections::BTreeSet;

use tracing::{info, warn};

use super::super::alerts::Code;
use super::super::clock;
use super::{Answer, Driver};
use crate::api::Integrity;
use crate::store::{Damage, Remember, Reply, Request, ScrubPlace, ScrubStep};
use crate::sync::{Input, table};

/// The note under which the database keeps when it was last scrubbed.
pub(in super::super) const SCRUB_NOTE: &str = "scrubbed-run-ms";

/// The note under which the database keeps when that was by the clock, and how many damaged rows were found.
pub(in super::super) const INTEGRITY_NOTE: &str = "integrity";

/// How often it is looked whether ops can be compacted, where the last look found none left.
const COMPACT_EVERY_MS: u64 = 10 * 60_000;
/// Between two batches.
const COMPACT_PAUSE_MS: u64 = 200;
/// Ops in a batch: few enough that a sale that waits behind one does not notice.
const COMPACT_OPS: usize = 128;
/// From the end of one scrub to the next.
const SCRUB_EVERY_MS: u64 = 24 * 3_600_000;
/// Between two looks of a scrub: a year of sales in about an hour, at a negligible load.
const SCRUB_PAUSE_MS: u64 = 5_000;
/// The same where somebody waits for it, or damage is known of.
const SCRUB_SOON_MS: u64 = 50;
/// Rows looked at at once.
const SCRUB_ROWS: usize = 500;
/// Damaged rows that are named.
const NAMED_MAX: usize = 3;

#[derive(Debug)]
pub(in super::super) struct Upkeep {
    /// Running time of earlier starts.
    before_ms: u64,
    compact_at: Option<u64>,
    scrub_at: Option<u64>,
    place: ScrubPlace,
    /// Between two looks of this pass.
    scrub_pause_ms: u64,
    /// Damaged rows that this pass has found.
    damaged: BTreeSet<String>,
}

/// What came of a piece of upkeep.
#[derive(Debug)]
pub(super) enum Done {
    Compacted { more: bool },
    Scrubbed(Option<ScrubStep>),
}

impl Upkeep {
    /// `scrubbed_ms`: when the last scrub ended, in running time.
    pub(in super::super) fn new(before_ms: u64, scrubbed_ms: u64, now: u64) -> Self {
        let due = (scrubbed_ms + SCRUB_EVERY_MS).saturating_sub(before_ms);
        Self {
            before_ms,
            compact_at: Some(now + COMPACT_PAUSE_MS),
            scrub_at: Some(due.max(now + SCRUB_PAUSE_MS)),
            place: ScrubPlace::default(),
            scrub_pause_ms: SCRUB_PAUSE_MS,
            damaged: BTreeSet::new(),
        }
    }

    pub(super) fn due(&self) -> Option<u64> {
        [self.compact_at, self.scrub_at].into_iter().flatten().min()
    }

    /// How long this database's agent has run in all.
    pub(super) fn run_ms(&self, now: u64) -> u64 {
        self.before_ms + now
    }
}

impl Driver {
    pub(super) fn keep_up(&mut self, now: u64) {
        if self.upkeep.compact_at.is_some_and(|at| at <= now) {
            self.upkeep.compact_at = None;
            let (store, answers, run_ms) = (self.store.clone(), self.answers.clone(), self.upkeep.run_ms(now));
            tokio::spawn(async move {
                let request = Request::Compact { run_ms, ops_max: COMPACT_OPS };
                let more = match store.submit(request).await {
                    Ok(Reply::Compacted { more, .. }) => more,
                    Ok(_) => false,
                    Err(error) => {
                        warn!("the log could not be compacted: {error}");
                        false
                    }
                };
                let _ = answers.send(Answer::Upkeep(Done::Compacted { more }));
            });
        }
        if self.upkeep.scrub_at.is_some_and(|at| at <= now) {
            self.upkeep.scrub_at = None;
            let (store, answers, place) = (self.store.clone(), self.answers.clone(), self.upkeep.place);
            tokio::spawn(async move {
                let step = store.read(move |reader| reader.scrub(place, SCRUB_ROWS)).await;
                let step = step.inspect_err(|error| warn!("the database could not be scrubbed: {error}")).ok();
                let _ = answers.send(Answer::Upkeep(Done::Scrubbed(step)));
            });
        }
    }

    pub(super) fn on_upkeep(&mut self, done: Done) {
        let now = self.uptime.ms();
        match done {
            Done::Compacted { more } => {
                self.upkeep.compact_at = Some(now + if more { COMPACT_PAUSE_MS } else { COMPACT_EVERY_MS });
            }
            Done::Scrubbed(None) => self.upkeep.scrub_at = Some(now + COMPACT_EVERY_MS),
            Done::Scrubbed(Some(step)) => self.on_scrubbed(now, step),
        }
    }

    fn on_scrubbed(&mut self, now: u64, step: ScrubStep) {
        self.upkeep.damaged.extend(step.damaged.iter().map(name_of));
        for damage in &step.damaged {
            match *damage {
                Damage::Op { origin, seq } => self.mend(Request::Mend { origin, seq }),
                Damage::Stock { product } => self.mend(Request::Recount { product }),
                Damage::Record { .. } | Damage::Entity { .. } => {}
            }
        }
        if let Some(next) = step.next {
            self.upkeep.place = next;
            self.upkeep.scrub_at = Some(now + self.upkeep.scrub_pause_ms);
            return;
        }
        self.upkeep.place = ScrubPlace::default();
        self.upkeep.scrub_pause_ms = SCRUB_PAUSE_MS;
        self.upkeep.scrub_at = Some(now + SCRUB_EVERY_MS);
        let damaged = std::mem::take(&mut self.upkeep.damaged);
        let found = Integrity { checked_ms: Some(clock::now().wall_ms), damaged: damaged.len() as u64 };
        self.base.integrity = found;
        self.remember(Remember::Note { key: INTEGRITY_NOTE.into(), value: Some(write_integrity(found)) });
        if damaged.is_empty() {
            self.set_alert(Code::StoreDamaged, "", None);
            let value = Some(self.upkeep.run_ms(now).to_string());
            self.remember(Remember::Note { key: SCRUB_NOTE.into(), value });
            return;
        }
        let named: Vec<&str> = damaged.iter().take(NAMED_MAX).map(String::as_str).collect();
        let rest = damaged.len().saturating_sub(NAMED_MAX);
        let cause = match rest {
            0 => named.join(", "),
            rest => format!("{} and {rest} more", named.join(", ")),
        };
        warn!("the scrub found damaged rows: {cause}; they are fetched again from another till");
        self.set_alert(Code::StoreDamaged, "", Some(cause));
        self.feed(Input::Repair);
    }

    /// What needs no other till: a damaged op, whose deed is in the state, is mended or let go as if compacted; stock is counted again.
    fn mend(&self, request: Request) {
        let store = self.store.clone();
        tokio::spawn(async move {
            let what = format!("{request:?}");
            if let Err(error) = store.submit(request).await {
                warn!("what the scrub found could not be mended: {error} ({what})");
            }
        });
    }

    /// Begins a scrub now.
    pub(super) fn scrub_now(&mut self) {
        info!("scrubbing the database");
        self.upkeep.place = ScrubPlace::default();
        self.upkeep.damaged.clear();
        self.upkeep.scrub_pause_ms = SCRUB_SOON_MS;
        self.upkeep.scrub_at = Some(self.uptime.ms());
    }
}

fn write_integrity(found: Integrity) -> String {
    format!("{} {}", found.checked_ms.unwrap_or(0), found.damaged)
}

/// What the note says; nothing where it does not read.
pub(in super::super) fn read_integrity(note: Option<&str>) -> Integrity {
    let read = |note: &str| {
        let (at, damaged) = note.split_once(' ')?;
        Some(Integrity { checked_ms: Some(at.parse().ok()?), damaged: damaged.parse().ok()? })
    };
    note.and_then(read).unwrap_or_default()
}

/// A damaged row, for a person.
fn name_of(damage: &Damage) -> String {
    match damage {
        Damage::Record { table: table::TICKET, id } => format!("ticket {id}"),
        Damage::Record { table: table::REFUND, id } => format!("refund {id}"),
        Damage::Record { id, .. } => format!("stock movement {id}"),
        Damage::Entity { kind, id } => format!("{kind:?} {id}").to_lowercase(),
        Damage::Stock { product } => format!("the stock of product {product}"),
        Damage::Op { origin, seq } => format!("change {seq} of {origin}"),
    }
}
