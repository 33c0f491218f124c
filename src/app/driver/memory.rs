//! What is kept for the next start: what other tills hold, and where they are. Written seldom, and never while nothing changes: an idle
//! till leaves its card alone.

use std::collections::{BTreeMap, BTreeSet};

use tracing::warn;

use super::Driver;
use crate::model::id::TillId;
use crate::store::{Remember, Request, StoreError};

/// The note under which the database keeps what alerts were raised.
pub(in super::super) const HISTORY_NOTE: &str = "alerts";

/// News about what other tills hold are kept at most this often.
const ACKS_EVERY_MS: u64 = 10_000;

#[derive(Debug, Default)]
pub(super) struct Memory {
    acked: BTreeSet<TillId>,
    due: Option<u64>,
    /// The addresses that were last kept.
    addresses: BTreeMap<TillId, Vec<String>>,
}

impl Memory {
    /// A till is known to hold more.
    pub(super) fn note_ack(&mut self, now: u64, till: TillId) {
        self.acked.insert(till);
        self.due.get_or_insert(now + ACKS_EVERY_MS);
    }

    pub(super) fn due(&self) -> Option<u64> {
        self.due
    }
}

impl Driver {
    pub(super) fn keep_acks(&mut self, now: u64) {
        if self.memory.due.is_none_or(|due| due > now) {
            return;
        }
        self.memory.due = None;
        for till in std::mem::take(&mut self.memory.acked) {
            if let Some(ack) = self.replica.held_by(till) {
                self.remember(Remember::Ack { ack, seen_run_ms: self.upkeep.run_ms(now) });
            }
        }
    }

    /// Keeps what alerts were raised, where that changed.
    pub(super) fn keep_history(&mut self, now: u64) {
        if self.history.due().is_some_and(|due| due <= now) {
            self.history.saved(now);
            let value = Some(self.history.to_note());
            self.remember(Remember::Note { key: HISTORY_NOTE.into(), value });
        }
    }

    /// Keeps where tills were reached, where that changed.
    pub(super) fn keep_addresses(&mut self) {
        let mut reached: BTreeMap<TillId, Vec<String>> = BTreeMap::new();
        for (till, address) in self.candidates.remembered() {
            reached.entry(till).or_default().push(address.to_string());
        }
        for (till, addresses) in &reached {
            if self.memory.addresses.get(till) != Some(addresses) {
                let member = self.members.get(till).cloned().unwrap_or_default();
                self.remember(Remember::Peer {
                    till: *till,
                    name: member.pos_name,
                    addresses: addresses.clone(),
                    last_seen_ms: member.last_seen_ms.unwrap_or(0),
                });
            }
        }
        self.memory.addresses = reached;
    }

    /// The addresses that the database has already.
    pub(super) fn addresses_known(&mut self, known: impl IntoIterator<Item = (TillId, Vec<String>)>) {
        self.memory.addresses = known.into_iter().collect();
    }

    pub(super) fn remember(&self, what: Remember) {
        let store = self.store.clone();
        tokio::spawn(async move {
            match store.submit(Request::Remember(what)).await {
                Ok(_) | Err(StoreError::Closed) => {}
                Err(error) => warn!("P2P: what other tills hold could not be kept: {error}"),
            }
        });
    }
}
