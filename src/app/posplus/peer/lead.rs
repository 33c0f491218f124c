//! Who of our tills speaks: taking over, and following meanwhile.

use std::collections::BTreeSet;

use tracing::info;

use super::super::seat::Move;
use super::super::told::Mark;
use super::{LOOK_MS, NOTE_EVERY_MS, Peer};
use crate::store::PosSaid;
use crate::wire::posplus::Body;

/// POSPlus tills that meet copy from each other some seconds later: then each is looked at again.
const COPIED_MS: u64 = 6_000;
/// Who is to take over has had an answer to a ping this lately.
const PROVEN_MS: u64 = 6_000;
/// A sale should be here by then, whoever speaks.
const STAND_IN_MS: u64 = 2_500;
/// Who listens takes the speaker to have told, so much before a ping that was answered. More than it takes to see that a speaker is gone whose
/// cable is out: what it has not told, that till must not be taken to know.
const TOLD_LAG_MS: u64 = 10_000;

impl Peer {
    /// Looks who speaks.
    pub(super) async fn look(&mut self, now: u64) {
        let pos_id = self.pos_id.clone();
        let read = self.context.store.read(move |reader| Ok((reader.posplus_speaker(&pos_id)?, reader.posplus_now()?)));
        let Ok((speaker, (cursor, ledger))) = read.await else { return };
        let linked: BTreeSet<_> = self.context.linked.borrow().clone();
        let others = self.context.status.borrow().values().filter(|peer| peer.online).count();
        if others != std::mem::replace(&mut self.others, others) && others > 1 {
            self.ask_by(now + COPIED_MS);
        }
        let was_ours = self.seat.is_ours();
        // A till whose own cable is out takes nobody's seat.
        let connected = self.status.online && (was_ours || now.saturating_sub(self.proven) < PROVEN_MS);
        match self.seat.look(now, speaker, &linked, connected) {
            Some(Move::Take) => {
                info!(peer = %self.pos_id, "P2P: this till speaks to POSPlus till {} from now on", self.pos_id);
                self.ask(PosSaid::Speaker(Some(self.context.till))).await;
                self.look_at = now;
            }
            Some(Move::Leave) => drop(self.ask(PosSaid::Speaker(None)).await),
            None => {}
        }
        match (was_ours, self.seat.is_ours()) {
            (false, true) => self.take_over(now).await,
            (_, true) => {}
            (_, false) => {
                let is_here = speaker.is_some_and(|till| linked.contains(&till));
                self.follow(now, Mark { cursor, ledger }, is_here).await;
            }
        }
    }

    /// Who listens takes the speaker to have told what there was some seconds before this till proved, by answering a ping, that it was there.
    async fn follow(&mut self, now: u64, mark: Mark, speaker_is_here: bool) {
        self.kept.tidy(now);
        self.take_lists().await;
        self.lists.hush();
        self.stand_in(now).await;
        if !(speaker_is_here && self.status.online) {
            return;
        }
        self.trail.push_back((now, mark));
        let told = self.trail.partition_point(|(at, _)| at + TOLD_LAG_MS <= self.proven);
        if let Some((_, mark)) = self.trail.drain(..told).next_back() {
            self.told.follow(mark);
            self.held.clear();
            self.note_at.get_or_insert(now + NOTE_EVERY_MS);
        }
    }

    /// A sale that the speaker has not stored by now is stored by who listens: it is one record, whoever does.
    async fn stand_in(&mut self, now: u64) {
        let late = |at: u64| (STAND_IN_MS..STAND_IN_MS + LOOK_MS).contains(&now.saturating_sub(at));
        let sales = self.kept.iter().filter(|(at, _)| late(*at)).filter_map(|(_, message)| match &message.body {
            Body::Ticket(ticket) => Some(ticket.clone()),
            _ => None,
        });
        for ticket in sales.collect::<Vec<_>>() {
            self.ask(PosSaid::Ticket(ticket)).await;
        }
    }

    async fn take_over(&mut self, now: u64) {
        self.trail.clear();
        if self.seat.begin() {
            self.told.others_may_have_told();
        }
        (self.ask_at, self.asked, self.pump, self.give) = (Some(now), None, true, true);
        self.fresh = true;
        for message in self.kept.take() {
            self.take_in(message).await;
        }
    }
}
