//! Telling other tills how this one is.

use tracing::debug;

use super::super::alerts::Code;
use super::super::clock;
use super::super::shop::EVERY_MS;
use super::{Answer, Driver};
use crate::api::TillSummary;
use crate::store::Counts;
use crate::wire::message;

/// What the database held when it was last asked for other tills.
#[derive(Debug, Default)]
pub(super) struct Stored {
    seen: Option<(Counts, u64)>,
    /// Something has been stored, or told to be elsewhere, since.
    pub(super) is_old: bool,
    /// It is being asked.
    asking: bool,
    asked_ms: Option<u64>,
    /// Something that the status shows has changed since this till's last word.
    changed: bool,
}

impl Stored {
    pub(super) fn note_change(&mut self) {
        self.changed = true;
    }
}

impl Driver {
    /// Renews this till's word where it is time, and says what is due. An idle till asks its database nothing for this: what that held
    /// still holds.
    pub(super) fn speak(&mut self, now: u64) {
        let is_new = self.stored.changed || self.stored.is_old;
        if self.next_question().is_some_and(|at| at <= now) {
            self.ask_stored();
        } else if !self.links.is_empty() && !self.stored.asking && self.shop.wants_own(now, is_new) {
            self.renew_word(now);
        }
        for (link, message) in self.shop.take(now) {
            self.send(link, &message::encode(&message));
        }
    }

    /// When the database is to be asked again what it holds: soon after something was stored.
    pub(super) fn next_question(&self) -> Option<u64> {
        let wanted = (self.stored.is_old || self.stored.seen.is_none()) && !self.stored.asking;
        wanted.then(|| self.stored.asked_ms.map_or(0, |asked| asked + EVERY_MS))
    }

    fn ask_stored(&mut self) {
        self.stored.asked_ms = Some(self.uptime.ms());
        (self.stored.asking, self.stored.is_old) = (true, false);
        let (store, answers) = (self.store.clone(), self.answers.clone());
        let told = Some((self.replica.origin(), self.replica.held_elsewhere()));
        tokio::spawn(async move {
            let read = store.read(move |reader| Ok((reader.counts()?, reader.only_here(told)?))).await;
            let read = read.inspect_err(|error| debug!("what is stored cannot be told to other tills: {error}"));
            // The driver may have ended.
            let _ = answers.send(Answer::Stored(read.ok()));
        });
    }

    pub(super) fn on_stored(&mut self, stored: Option<(Counts, u64)>) {
        self.stored.asking = false;
        self.stored.seen = stored;
        if let Some((counts, _)) = stored {
            for (code, number, what) in [
                (Code::OpsHeld, counts.held, "changes"),
                (Code::OverRefund, counts.over_refunds, "sales"),
                (Code::NegativeStock, counts.negative_stocks, "products"),
            ] {
                self.set_alert(code, "", (number > 0).then(|| format!("{what}: {number}")));
            }
        }
        self.renew_word(self.uptime.ms());
    }

    fn renew_word(&mut self, now: u64) {
        self.stored.changed = false;
        let agent = self.status.borrow().clone();
        let stored = self.stored.seen.as_ref().map(|(counts, only_here)| (counts, *only_here));
        let healthy = self.store.health().borrow().fault.is_none();
        self.shop.set_own(now, clock::now().wall_ms, TillSummary::of(&agent, stored, healthy));
    }
}
