//! Who of our tills speaks to a POSPlus till. Pure.
//!
//! Who speaks has said so, in an entity that all of our tills have. Another takes the seat when the speaker is not linked with it any more, or
//! has said that it has lost that till. Two that take it at the same time both say so, and the latest word counts. All others listen, and keep
//! what they hear for a while: who takes over goes through it again. What was taken in already is the same record, and changes nothing.
//!
//! A speaker that was cut off from its POSPlus till and from another of ours, or has just started, may have been followed by that one and not
//! know it. What its POSPlus till says then may have been counted already. It waits for that other's word before it goes on.

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
    /// Another has spoken since this one last did, or this one has just started.
    others: bool,
    /// Ours that were linked with this one.
    known: BTreeSet<TillId>,
    /// Another may have taken the seat without this one's hearing of it.
    doubt: bool,
    /// Since when the POSPlus till has been there, while that is in doubt.
    doubt_since: Option<u64>,
}

impl Seat {
    pub(super) fn new(own: TillId, now: u64) -> Self {
        Self {
            own,
            started: now,
            empty_since: None,
            lost_since: None,
            speaker: None,
            last: None,
            others: true,
            known: BTreeSet::new(),
            doubt: true,
            doubt_since: None,
        }
    }

    /// Whether this till speaks.
    pub(super) fn is_ours(&self) -> bool {
        self.has_it() && !self.doubt
    }

    /// Begins to speak: whether another may have told that till something since this one last spoke. Who left the seat and took it again itself
    /// knows as before what was told.
    pub(super) fn begin(&mut self) -> bool {
        std::mem::take(&mut self.others)
    }

    fn has_it(&self) -> bool {
        self.speaker == Some(self.own)
    }

    /// Judges whether the seat may have been taken unheard.
    fn weigh(&mut self, now: u64, linked: &BTreeSet<TillId>, connected: bool) {
        self.known.extend(linked);
        if !connected {
            self.doubt |= !self.known.is_subset(linked);
            self.doubt_since = None;
        } else if !self.has_it() {
            // Who takes the seat knows that it does.
            (self.doubt, self.doubt_since) = (false, None);
        } else if self.doubt && now - *self.doubt_since.get_or_insert(now) >= START_MS {
            (self.doubt, self.doubt_since) = (false, None);
        }
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
        self.others |= speaker.is_some_and(|till| till != self.own);
        self.weigh(now, linked, connected);
        if connected {
            self.lost_since = None;
        } else {
            let since = *self.lost_since.get_or_insert(now);
            self.empty_since = None;
            return (self.has_it() && !linked.is_empty() && now - since >= LOST_MS).then_some(Move::Leave);
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

    /// Seen in a shop: A met Q again before B, which had taken over and counted Q's sale; A counted it once more.
    #[test]
    fn who_was_cut_off_waits_for_the_word_of_who_may_have_taken_over() {
        let mut a = Seat::new(A, 0);
        assert_eq!(a.look(0, None, &linked(&[B]), true), Some(Move::Take));
        a.look(1, Some(A), &linked(&[B]), true);
        assert!(a.is_ours());
        // Another that is gone takes nothing from it as long as its POSPlus till is there, nor does a POSPlus till that restarts.
        a.look(2, Some(A), &linked(&[]), true);
        assert!(a.is_ours());
        a.look(3, Some(A), &linked(&[B]), false);
        a.look(4, Some(A), &linked(&[B]), true);
        assert!(a.is_ours());
        // Both are gone, and the POSPlus till is back first.
        a.look(10_000, Some(A), &linked(&[]), false);
        a.look(11_000, Some(A), &linked(&[]), true);
        assert!(!a.is_ours());
        a.look(11_800, Some(A), &linked(&[B]), true);
        assert!(!a.is_ours());
        a.look(12_000, Some(B), &linked(&[B]), true);
        assert!(!a.is_ours());
        // The other is not back: the POSPlus till does not wait for ever.
        a.look(20_000, Some(A), &linked(&[]), false);
        a.look(21_000, Some(A), &linked(&[]), true);
        assert!(!a.is_ours());
        a.look(21_000 + START_MS, Some(A), &linked(&[]), true);
        assert!(a.is_ours());
    }

    #[test]
    fn who_takes_the_seat_again_itself_knows_what_was_told() {
        let mut a = Seat::new(A, 0);
        a.look(0, Some(A), &linked(&[B]), true);
        assert!(a.begin());
        assert_eq!(a.look(1, Some(A), &linked(&[B]), false), None);
        assert_eq!(a.look(1 + LOST_MS, Some(A), &linked(&[B]), false), Some(Move::Leave));
        assert_eq!(a.look(9_000, None, &linked(&[B]), true), Some(Move::Take));
        a.look(9_001, Some(A), &linked(&[B]), true);
        assert!(a.is_ours() && !a.begin());
        a.look(9_002, Some(B), &linked(&[B]), true);
        a.look(9_003, Some(A), &linked(&[B]), true);
        assert!(a.begin());
    }

    #[test]
    fn who_starts_as_the_speaker_waits_for_who_may_have_taken_over() {
        let mut a = Seat::new(A, 0);
        assert_eq!(a.look(1_000, Some(A), &linked(&[]), true), None);
        assert!(!a.is_ours());
        a.look(1_000 + START_MS, Some(A), &linked(&[]), true);
        assert!(a.is_ours());
    }

    #[test]
    fn a_till_that_starts_waits_for_the_speaker_to_link() {
        let mut b = Seat::new(B, 0);
        assert_eq!(b.look(GONE_MS + 1, Some(A), &linked(&[]), true), None);
        assert_eq!(b.look(START_MS + GONE_MS, Some(A), &linked(&[]), true), Some(Move::Take));
    }
}
