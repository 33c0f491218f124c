//! Quantities of rows whose product is not known yet. Pure.
//!
//! They wait until the till has told of the product, which it is asked for. What it says then is newer: a quantity that is another by then has
//! been superseded, and is forgotten.

use std::collections::HashMap;

use crate::model::amount::Quantity;
use crate::store::PosStock;

/// At most so many; of rows beyond them the next list tells.
const WAITING_MAX: usize = 1_000;
/// How long they wait: longer than a till takes to answer with its catalogue.
const WAIT_MS: u64 = 30_000;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    rows: HashMap<i64, (u64, PosStock)>,
}

impl Waiting {
    /// It says how many there are of a row that is not known. The last word of each row waits.
    pub(super) fn wait(&mut self, now: u64, row: i64, stock: PosStock) {
        self.rows.retain(|_, (since, _)| now.saturating_sub(*since) < WAIT_MS);
        if self.rows.len() < WAITING_MAX || self.rows.contains_key(&row) {
            self.rows.insert(row, (now, stock));
        }
    }

    /// The product of a row is known, and that till has so many: what has waited for that, where it still says so.
    pub(super) fn take(&mut self, now: u64, row: i64, quantity: Quantity) -> Option<PosStock> {
        let (since, stock) = self.rows.remove(&row)?;
        (stock.quantity == quantity && now.saturating_sub(since) < WAIT_MS).then_some(stock)
    }

    /// The connection is gone: the next list tells what that till has.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(units: i64, message: &str) -> PosStock {
        PosStock { quantity: Quantity::units(units), before: None, told: 0, maybe_told: 0, message: message.into() }
    }

    #[test]
    fn the_last_word_of_a_row_waits_until_its_product_is_known() {
        let mut waiting = Waiting::default();
        waiting.wait(0, 12, stock(5, "a"));
        waiting.wait(1, 12, stock(7, "b"));
        assert_eq!(waiting.take(2, 13, Quantity::units(7)), None);
        assert_eq!(waiting.take(2, 12, Quantity::units(7)), Some(stock(7, "b")));
        assert_eq!(waiting.take(2, 12, Quantity::units(7)), None);
    }

    #[test]
    fn what_its_product_says_otherwise_is_superseded() {
        let mut waiting = Waiting::default();
        waiting.wait(0, 12, stock(5, "a"));
        assert_eq!(waiting.take(1, 12, Quantity::units(4)), None);
        assert_eq!(waiting.take(1, 12, Quantity::units(5)), None, "forgotten");
    }

    #[test]
    fn what_waits_is_bounded_in_time_and_number() {
        let mut waiting = Waiting::default();
        for row in 0..2 * WAITING_MAX as i64 {
            waiting.wait(0, row, stock(1, "a"));
        }
        assert_eq!(waiting.rows.len(), WAITING_MAX);
        // A row that waits already says something new.
        waiting.wait(1, 0, stock(2, "b"));
        assert_eq!(waiting.take(1 + WAIT_MS, 0, Quantity::units(2)), None);
        assert_eq!(waiting.take(WAIT_MS - 1, 1, Quantity::units(1)), Some(stock(1, "a")));
        waiting.wait(WAIT_MS, 1, stock(1, "c"));
        assert_eq!(waiting.rows.len(), 1);
        waiting.clear();
        assert_eq!(waiting.take(WAIT_MS, 1, Quantity::units(1)), None);
    }
}
