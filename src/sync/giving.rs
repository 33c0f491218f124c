//! Giving snapshots: questions of peers go to the store, its answers go back.

use std::collections::VecDeque;

use super::message::{Message, SnapshotAnswer, SnapshotAsk};
use super::replica::Replica;
use super::{LinkId, Output};

/// Questions of one peer. The store has at most one, beside the end of an earlier snapshot.
#[derive(Debug, Default)]
pub(super) struct Asks {
    /// What the store is looking up, in order: whether the peer is to be told.
    open: VecDeque<bool>,
    /// The newest question that waits for the store. A peer that asks again does not wait for what it asked before.
    next: Option<SnapshotAsk>,
}

impl Replica {
    pub(super) fn on_ask(&mut self, link: LinkId, ask: SnapshotAsk) {
        let is_end = matches!(ask, SnapshotAsk::End { .. });
        if !self.is_active() && !is_end {
            self.send(link, Message::Answer(SnapshotAnswer::NotNow));
            return;
        }
        let Some(asks) = self.sessions.get_mut(&link).map(|s| &mut s.asks) else { return };
        // Beginning anew ends it too, as does the link: an end may be left out where a peer sends many.
        if asks.open.len() > 1 || (asks.open.front() == Some(&true) && !is_end) {
            asks.next = (!is_end).then_some(ask).or(asks.next.take());
            return;
        }
        asks.open.push_back(!is_end);
        self.out.push(Output::Ask { link, ask });
    }

    pub(super) fn on_store_answer(&mut self, link: LinkId, answer: SnapshotAnswer) {
        let Some(asks) = self.sessions.get_mut(&link).map(|s| &mut s.asks) else { return };
        let Some(is_told) = asks.open.pop_front() else { return };
        let next = asks.next.take();
        // Where a newer question waits, nobody waits for this answer.
        if is_told && next.is_none() {
            self.send(link, Message::Answer(answer));
        }
        if let Some(ask) = next {
            self.on_ask(link, ask);
        }
    }
}
