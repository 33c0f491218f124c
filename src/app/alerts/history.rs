//! The alerts that were raised, kept over restarts. Pure: time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use super::{Alert, tell_severity};
use crate::api::{PastAlert, Severity};

/// How many are kept: some weeks of a shop with a bad cable, and few enough to be written at once.
const KEPT_MAX: usize = 200;
/// The most of a cause's own words that is kept, in bytes.
const DETAIL_BYTES_MAX: usize = 200;
/// What changed is kept for the next start at most this often, in milliseconds: an alert that flickers wears no card out.
const SAVE_EVERY_MS: u64 = 30_000;

/// See the module's page.
#[derive(Debug, Default)]
pub(in super::super) struct History {
    /// The oldest first.
    past: VecDeque<PastAlert>,
    told: Arc<Vec<PastAlert>>,
    save_at: Option<u64>,
    saved_ms: Option<u64>,
}

impl History {
    /// As it was kept. What stood when the agent ended counts as over at `wall_ms`, the agent's start: if it still is, it is raised again.
    /// What cannot be read is nothing.
    pub(in super::super) fn of_note(note: Option<&str>, wall_ms: u64) -> Self {
        let rows: Option<Vec<Value>> = note.and_then(|note| serde_json::from_str(note).ok());
        let mut past: VecDeque<PastAlert> = rows.unwrap_or_default().iter().filter_map(read).collect();
        for entry in &mut past {
            entry.cleared_ms.get_or_insert(wall_ms.max(entry.raised_ms));
        }
        let told = Arc::new(past.iter().cloned().collect());
        Self { past, told, save_at: None, saved_ms: None }
    }

    /// The text to keep for the next start.
    pub(in super::super) fn to_note(&self) -> String {
        Value::from_iter(self.past.iter().map(write)).to_string()
    }

    /// Takes note of what is raised now. `now` is monotonic, `wall_ms` since 1970.
    pub(in super::super) fn note(&mut self, now: u64, wall_ms: u64, raised: &[Alert]) {
        let is = |entry: &PastAlert, alert: &Alert| {
            entry.code == alert.code.name() && entry.subject.as_deref().unwrap_or_default() == alert.subject
        };
        let mut changed = false;
        for entry in self.past.iter_mut().filter(|entry| entry.cleared_ms.is_none()) {
            if !raised.iter().any(|alert| is(entry, alert)) {
                entry.cleared_ms = Some(wall_ms);
                changed = true;
            }
        }
        for alert in raised {
            if self.past.iter().any(|entry| entry.cleared_ms.is_none() && is(entry, alert)) {
                continue;
            }
            if self.past.len() == KEPT_MAX {
                self.past.pop_front();
            }
            self.past.push_back(past(alert, wall_ms));
            changed = true;
        }
        if changed {
            self.told = Arc::new(self.past.iter().cloned().collect());
            let next = self.saved_ms.map_or(now, |saved| (saved + SAVE_EVERY_MS).max(now));
            self.save_at.get_or_insert(next);
        }
    }

    /// The oldest first.
    pub(in super::super) fn told(&self) -> Arc<Vec<PastAlert>> {
        self.told.clone()
    }

    /// When it is to be kept, where something has changed.
    pub(in super::super) fn due(&self) -> Option<u64> {
        self.save_at
    }

    /// It is being kept.
    pub(in super::super) fn saved(&mut self, now: u64) {
        self.save_at = None;
        self.saved_ms = Some(now);
    }
}

fn past(alert: &Alert, wall_ms: u64) -> PastAlert {
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let detail = &alert.detail[..alert.detail.floor_char_boundary(DETAIL_BYTES_MAX)];
    PastAlert {
        code: alert.code.name().to_owned(),
        severity: tell_severity(alert.code.severity()),
        subject: some(&alert.subject),
        detail: some(detail),
        since_ms: alert.since_ms,
        raised_ms: wall_ms,
        cleared_ms: None,
    }
}

fn write(entry: &PastAlert) -> Value {
    let severity = match entry.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    };
    json!([entry.code, severity, entry.subject, entry.detail, entry.since_ms, entry.raised_ms, entry.cleared_ms])
}

fn read(row: &Value) -> Option<PastAlert> {
    let text = |at: usize| row[at].as_str().map(str::to_owned);
    Some(PastAlert {
        code: text(0)?,
        severity: match row[1].as_str()? {
            "critical" => Severity::Critical,
            "warning" => Severity::Warning,
            _ => Severity::Info,
        },
        subject: text(2),
        detail: text(3),
        since_ms: row[4].as_u64()?,
        raised_ms: row[5].as_u64()?,
        cleared_ms: row[6].as_u64(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;

    fn alert(code: Code, subject: &str) -> Alert {
        Alert { code, subject: subject.to_owned(), since_ms: 5, detail: "é".repeat(300) }
    }

    #[test]
    fn what_was_raised_and_cleared_is_kept_over_a_restart() {
        let mut history = History::default();
        history.note(0, 100, &[alert(Code::Disconnected, ""), alert(Code::PeerUnreachable, "a")]);
        assert_eq!(history.due(), Some(0));
        history.saved(0);
        history.note(1_000, 200, &[alert(Code::Disconnected, ""), alert(Code::PeerUnreachable, "a")]);
        assert_eq!((history.due(), history.told().len()), (None, 2), "nothing new");
        history.note(2_000, 300, &[alert(Code::Disconnected, "")]);
        assert_eq!(history.due(), Some(SAVE_EVERY_MS), "not written at once again");
        let told = history.told();
        assert_eq!((told[0].cleared_ms, told[1].cleared_ms, told[1].since_ms), (None, Some(300), 5));
        assert!(told[0].detail.as_deref().is_some_and(|detail| detail.len() <= DETAIL_BYTES_MAX));

        let mut again = History::of_note(Some(&history.to_note()), 900);
        assert_eq!(again.told()[0].cleared_ms, Some(900), "over with the agent");
        assert_eq!(again.told()[1], told[1]);
        again.note(0, 1_000, &[alert(Code::Disconnected, "")]);
        assert_eq!((again.told().len(), again.told()[2].raised_ms), (3, 1_000));
    }

    #[test]
    fn it_is_bounded_and_what_cannot_be_read_is_nothing() {
        let mut history = History::default();
        for i in 0..3 * KEPT_MAX as u64 {
            history.note(i, i, &[alert(Code::WrongStoreKey, &i.to_string())]);
        }
        assert_eq!(history.told().len(), KEPT_MAX);
        assert_eq!(history.told()[KEPT_MAX - 1].raised_ms, 3 * KEPT_MAX as u64 - 1);
        assert!(history.to_note().len() < 80_000);
        for note in [None, Some("{"), Some("[[1]]"), Some("[[\"a\",\"info\",null,null,1]]")] {
            assert!(History::of_note(note, 0).told().is_empty(), "{note:?}");
        }
    }
}
