//! What a POSPlus till has by our knowledge. Pure.
//!
//! Quantities go both ways as absolute ones, and each overwrites the other's. So for each product it is kept how many that till has: by what it
//! said last, less what it has sold since, or by what it was told last. What it was told counts from the moment that it must have read it:
//! each batch ends with a ping, and POSPlus answers pings in their order, so what it says before the pong of a batch it said without knowing
//! of that batch.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::model::posplus::Thing;

/// Pings on their way at once: more batches wait.
pub(super) const FENCES_MAX: usize = 4;
/// A till that does not answer a ping for this long is gone, whatever its socket says. What it was sent meanwhile is told again.
pub(super) const FENCE_MS: u64 = 15_000;
/// Products whose quantity is kept; forgotten all at once when there are more. What is not kept follows from the ledger.
const PRODUCTS_MAX: usize = 20_000;

/// How far our changes and ledger were told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Mark {
    pub(super) cursor: u64,
    pub(super) ledger: i64,
}

/// What goes out before a ping.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Up to where it tells; nothing for a mere heartbeat.
    pub(super) mark: Option<Mark>,
    /// Of which things it tells, by that till's rows, and what.
    pub(super) words: Vec<(Thing, i64, i64)>,
    /// Changes that were held back until now.
    pub(super) released: Vec<u64>,
}

/// A batch that was sent.
#[derive(Debug)]
struct Fence {
    at: u64,
    batch: Batch,
    stock: Vec<(Uuid, Quantity)>,
}

/// What follows from a pong.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Ponged {
    /// When its ping was sent.
    pub(super) sent_at: u64,
    /// Whether that till is known to have read more than before.
    pub(super) news: bool,
    /// What it has read of which things.
    pub(super) words: Vec<(Thing, i64, i64)>,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Told {
    has: HashMap<Uuid, Quantity>,
    /// Quantities that were sent since the last ping, alone or with all else of a product.
    unfenced: Vec<(Uuid, Quantity)>,
    fences: VecDeque<Fence>,
    /// What it has read for sure.
    pub(super) read: Mark,
    /// What it was sent.
    pub(super) sent: Mark,
    /// Changes that were passed over, to be told later.
    held: BTreeSet<u64>,
    /// Another of our tills may have told it more, or this one before it started.
    others: bool,
}

impl Told {
    pub(super) fn new(read: Mark) -> Self {
        Self { read, sent: read, ..Self::default() }
    }

    /// The connection is gone: what was not read for sure is told again.
    pub(super) fn disconnected(&mut self) {
        self.has.clear();
        self.unfenced.clear();
        self.fences.clear();
        self.read = self.safe();
        self.held.clear();
        self.sent = self.read;
    }

    /// Up to where it was told of everything: what is held back is not.
    pub(super) fn safe(&self) -> Mark {
        let before = self.held.first().map(|first| first.saturating_sub(1));
        Mark { cursor: before.map_or(self.read.cursor, |before| before.min(self.read.cursor)), ..self.read }
    }

    /// A change is passed over, to be told later.
    pub(super) fn hold(&mut self, cursor: u64) {
        self.held.insert(cursor);
    }

    /// A change that was held back is not to be told any more.
    pub(super) fn drop_held(&mut self, cursor: u64) {
        self.held.remove(&cursor);
    }

    /// Another of our tills has told it so much.
    pub(super) fn follow(&mut self, mark: Mark) {
        self.has.clear();
        self.held.clear();
        (self.read, self.sent) = (mark, mark);
    }

    /// Others may have told it more, until its own list says what it has.
    pub(super) fn others_may_have_told(&mut self) {
        self.others = true;
    }

    /// Its own list is here.
    pub(super) fn has_said_all(&mut self) {
        self.others = false;
    }

    /// Up to where in our ledger it was told for sure, and up to where it may have been.
    pub(super) fn ledger(&self) -> (i64, i64) {
        (self.read.ledger, if self.others { i64::MAX } else { self.sent.ledger.max(self.read.ledger) })
    }

    /// How many it has of a product, where that is known.
    pub(super) fn has(&self, product: Uuid) -> Option<Quantity> {
        self.has.get(&product).copied()
    }

    /// How many it will have once it has read all that it was sent. What it sells meanwhile is overwritten by that.
    pub(super) fn will_have(&self, product: Uuid) -> Option<Quantity> {
        let sent = self.fences.iter().flat_map(|fence| &fence.stock).chain(&self.unfenced);
        sent.rev().find(|(of, _)| *of == product).map(|(_, quantity)| *quantity).or_else(|| self.has(product))
    }

    /// It is sent how many there are of a product.
    pub(super) fn sends(&mut self, product: Uuid, quantity: Quantity) {
        self.unfenced.push((product, quantity));
    }

    /// It has so many.
    pub(super) fn said(&mut self, product: Uuid, quantity: Quantity) {
        if self.has.len() >= PRODUCTS_MAX {
            self.has.clear();
        }
        self.has.insert(product, quantity);
    }

    /// It has sold, or taken back: what it has follows.
    pub(super) fn moved(&mut self, product: Uuid, delta: Quantity) {
        if let Some(has) = self.has.get_mut(&product) {
            has.0 = has.0.saturating_add(delta.0);
        }
    }

    /// A ping goes out, after a batch or alone.
    pub(super) fn pinged(&mut self, now: u64, batch: Batch) {
        self.sent = batch.mark.unwrap_or(self.sent);
        let stock = std::mem::take(&mut self.unfenced);
        self.fences.push_back(Fence { at: now, batch, stock });
    }

    pub(super) fn can_send(&self) -> bool {
        self.fences.len() < FENCES_MAX
    }

    /// Whether it has read everything that it was sent.
    pub(super) fn is_quiet(&self) -> bool {
        self.fences.iter().all(|fence| fence.batch.mark.is_none())
    }

    /// A pong: the oldest batch is read.
    pub(super) fn ponged(&mut self) -> Option<Ponged> {
        let Fence { at, batch, stock } = self.fences.pop_front()?;
        for (product, quantity) in stock {
            self.said(product, quantity);
        }
        let news = batch.mark.is_some_and(|mark| mark != self.read) || !batch.released.is_empty();
        batch.released.iter().for_each(|cursor| self.drop_held(*cursor));
        self.read = batch.mark.unwrap_or(self.read);
        Some(Ponged { sent_at: at, news, words: batch.words })
    }

    /// Whether a ping has waited too long for its pong.
    pub(super) fn is_stalled(&self, now: u64) -> bool {
        self.fences.front().is_some_and(|fence| now.saturating_sub(fence.at) >= FENCE_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JUICE: Uuid = Uuid::from_u128(1);

    fn units(n: i64) -> Quantity {
        Quantity::units(n)
    }

    #[test]
    fn what_it_says_before_the_pong_it_says_without_knowing() {
        let mut told = Told::new(Mark::default());
        told.said(JUICE, units(100));
        // Ours went to 97, and it is told; its own sale of 5 crosses that.
        let mark = Mark { cursor: 7, ledger: 3 };
        told.sends(JUICE, units(97));
        told.pinged(0, Batch { mark: Some(mark), ..Batch::default() });
        told.moved(JUICE, units(-5));
        assert_eq!((told.has(JUICE), told.read), (Some(units(95)), Mark::default()));
        // Now it has read 97, over its own 95: to be told 92.
        assert_eq!(told.ledger(), (0, 3));
        assert_eq!(told.ponged(), Some(Ponged { news: true, ..Ponged::default() }));
        assert_eq!((told.has(JUICE), told.read), (Some(units(97)), mark));
    }

    #[test]
    fn what_it_sells_is_overwritten_by_what_is_on_its_way() {
        let mut told = Told::new(Mark::default());
        told.said(JUICE, units(20));
        told.sends(JUICE, units(20));
        told.moved(JUICE, units(-3));
        assert_eq!((told.has(JUICE), told.will_have(JUICE)), (Some(units(17)), Some(units(20))));
        told.pinged(0, Batch::default());
        assert_eq!(told.will_have(JUICE), Some(units(20)));
        told.sends(JUICE, units(17));
        assert_eq!(told.will_have(JUICE), Some(units(17)));
        told.pinged(1, Batch::default());
        told.ponged();
        assert_eq!((told.has(JUICE), told.will_have(JUICE)), (Some(units(20)), Some(units(17))));
        told.ponged();
        assert_eq!((told.has(JUICE), told.will_have(JUICE)), (Some(units(17)), Some(units(17))));
        told.sends(JUICE, units(1));
        told.disconnected();
        assert_eq!(told.will_have(JUICE), None);
    }

    #[test]
    fn what_was_not_answered_is_told_again() {
        let mut told = Told::new(Mark { cursor: 9, ledger: 9 });
        for n in 1..=FENCES_MAX as u64 {
            assert!(told.can_send());
            let mark = Some(Mark { cursor: 9 + n, ledger: 0 });
            told.pinged(n, Batch { mark, ..Batch::default() });
        }
        assert!(!told.can_send() && !told.is_quiet());
        assert!(!told.is_stalled(FENCE_MS) && told.is_stalled(FENCE_MS + 1));
        told.disconnected();
        assert_eq!((told.sent.cursor, told.is_quiet()), (9, true));
        assert_eq!(told.ponged(), None);
    }

    #[test]
    fn who_takes_over_does_not_know_how_far_it_was_told() {
        let mut told = Told::new(Mark::default());
        told.said(JUICE, units(1));
        told.follow(Mark { cursor: 7, ledger: 3 });
        told.others_may_have_told();
        assert_eq!((told.has(JUICE), told.ledger()), (None, (3, i64::MAX)));
        told.has_said_all();
        assert_eq!(told.ledger(), (3, 3));
    }

    #[test]
    fn what_is_held_back_is_told_again_unless_it_was_read() {
        let mut told = Told::new(Mark { cursor: 9, ledger: 9 });
        let mark = |cursor| Some(Mark { cursor, ledger: 12 });
        told.hold(11);
        told.hold(13);
        told.pinged(0, Batch { mark: mark(20), ..Batch::default() });
        told.ponged();
        assert_eq!((told.read.cursor, told.safe()), (20, Mark { cursor: 10, ledger: 12 }));
        // One is sent at last, and read; another is given up.
        told.pinged(1, Batch { released: vec![11], ..Batch::default() });
        assert_eq!(told.safe().cursor, 10);
        assert!(told.ponged().is_some_and(|ponged| ponged.news));
        assert_eq!(told.safe().cursor, 12);
        told.disconnected();
        assert_eq!((told.read.cursor, told.sent.cursor), (12, 12));
        told.hold(15);
        told.drop_held(15);
        assert_eq!(told.safe().cursor, 12);
    }
}
