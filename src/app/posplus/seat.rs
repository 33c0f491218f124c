//! Who of our tills speaks to a POSPlus till. Pure.
//!
//! Who speaks has said so, in an entity that all of our tills have. Another takes the seat when the speaker is not linked with it any more, or
//! has said that it has lost that till. Two that take it at the same time both say so, and the latest word counts. All others listen, and keep
//! what they hear for a while: who takes over goes through it again. What was taken in already is the same record, and changes nothing.

use std::collections::BTreeSet;

use crate::model::id::TillId;

/// How long the speaker must be unlinked before another takes the seat.
const GONE_MS: u64 = 1_500;
/// Between tills that could take it at the same time: the smallest id first.
const RANK_MS: u64 = 400;
/// A till that has just started gives the speaker this long to link.
const START_MS: u64 = 4_000;
/// Who spoke last knows best what its POSPlus till was told, and has this much more time to meet it again.
const LAST_MS: u64 = 6_000;
/// Who has lost its POSPlus till for this long leaves the seat.
const LOST_MS: u64 = 4_000;

/// What is to be done about the seat.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Move {
    /// Take it.
    Take,
    /// Leave it.
    Leave,
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Seat {
    own: TillId,
    started: u64,
    /// Since when the seat has been empty, or its holder away.
    empty_since: Option<u64>,
    /// Since when the POSPlus till has been away.
    lost_since: Option<u64>,
    speaker: Option<TillId>,
    /// Who spoke last.
    last: Option<TillId>,
}

impl Seat {
    pub(super) fn new(own: TillId, now: u64) -> Self {
        Self { own, started: now, empty_since: None, lost_since: None, speaker: None, last: None }
    }

    /// Whether this till speaks.
    pub(super) fn is_ours(&self) -> bool {
        self.speaker == Some(self.own)
    }

    /// Looks again: who speaks by the latest word, which of our tills are linked with this one, whether the POSPlus till is.
    pub(super) fn look(
        &mut self,
        now: u64,
        speaker: Option<TillId>,
        linked: &BTreeSet<TillId>,
        connected: bool,
    ) -> Option<Move> {
        self.speaker = speaker;
        self.last = speaker.or(self.last);
        if connected {
            self.lost_since = None;
        } else {
            let since = *self.lost_since.get_or_insert(now);
            self.empty_since = None;
            return (self.is_ours() && !linked.is_empty() && now - since >= LOST_MS).then_some(Move::Leave);
        }
        if speaker.is_some_and(|till| till == self.own || linked.contains(&till)) {
            self.empty_since = None;
            return None;
        }
        let since = *self.empty_since.get_or_insert(now);
        let rank = linked.iter().filter(|till| **till < self.own).count() as u64;
        let wait = match (speaker, self.last) {
            (Some(_), _) => GONE_MS + rank * RANK_MS,
            (None, Some(last)) if last == self.own => 0,
            (None, Some(last)) if linked.contains(&last) => LAST_MS + rank * RANK_MS,
            _ => rank * RANK_MS,
        };
        let ready = since + wait;
        let ready = if speaker.is_some() { ready.max(self.started + START_MS) } else { ready };
        (now >= ready).then_some(Move::Take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TillId = TillId([1; 16]);
    const B: TillId = TillId([2; 16]);

    fn linked(tills: &[TillId]) -> BTreeSet<TillId> {
        tills.iter().copied().collect()
    }

    #[test]
    fn the_first_takes_the_seat_and_another_when_it_is_gone() {
        let (mut a, mut b) = (Seat::new(A, 0), Seat::new(B, 0));
        assert_eq!(a.look(0, None, &linked(&[B]), true), Some(Move::Take));
        assert_eq!(b.look(0, None, &linked(&[A]), true), None);
        assert_eq!(b.look(RANK_MS, Some(A), &linked(&[A]), true), None);
        assert!(!b.is_ours());
        let gone = 60_000;
        assert_eq!(b.look(gone, Some(A), &linked(&[]), true), None);
        assert_eq!(b.look(gone + GONE_MS, Some(A), &linked(&[]), true), Some(Move::Take));
        assert_eq!(b.look(gone + GONE_MS, Some(B), &linked(&[]), true), None);
        assert!(b.is_ours());
    }

    #[test]
    fn who_has_lost_the_posplus_till_leaves_the_seat_to_others() {
        let mut a = Seat::new(A, 0);
        assert_eq!(a.look(0, Some(A), &linked(&[B]), false), None);
        assert_eq!(a.look(LOST_MS, Some(A), &linked(&[B]), false), Some(Move::Leave));
        // Alone there is nobody to leave it to, and nothing to write.
        assert_eq!(a.look(LOST_MS, Some(A), &linked(&[]), false), None);
        assert_eq!(a.look(2 * LOST_MS, Some(B), &linked(&[B]), true), None);
    }

    #[test]
    fn who_spoke_last_goes_on_where_it_can() {
        let (mut a, mut b) = (Seat::new(A, 0), Seat::new(B, 0));
        for (seat, other) in [(&mut a, B), (&mut b, A)] {
            assert_eq!(seat.look(0, Some(B), &linked(&[other]), true), None);
            assert_eq!(seat.look(1, None, &linked(&[other]), false), None);
        }
        assert_eq!(a.look(9_000, None, &linked(&[B]), true), None);
        assert_eq!(b.look(9_000, None, &linked(&[A]), true), Some(Move::Take));
        assert_eq!(a.look(9_000 + LAST_MS, None, &linked(&[B]), true), Some(Move::Take));
    }

    #[test]
    fn a_till_that_starts_waits_for_the_speaker_to_link() {
        let mut b = Seat::new(B, 0);
        assert_eq!(b.look(GONE_MS + 1, Some(A), &linked(&[]), true), None);
        assert_eq!(b.look(START_MS + GONE_MS, Some(A), &linked(&[]), true), Some(Move::Take));
    }
}
