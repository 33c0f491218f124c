//! Quantities that a POSPlus till has just said, until it is clear what they mean. Pure.
//!
//! With each sale POSPlus sends the ticket and the quantity that is left, and which of both comes first is not said anywhere. The ticket moves
//! stock here; the quantity beside it explains nothing more, whatever it is: POSPlus tills that are connected with each other overwrite each
//! other's. So a quantity waits for a while. With a sale of the same product before or after, it is that sale's; alone, it is a person who has
//! counted, and what it differs by from what that till had *when it was said* is a movement.

use std::collections::HashMap;

use crate::model::amount::Quantity;

/// How long a quantity waits for its sale, and a sale for its quantity.
const GRACE_MS: u64 = 500;
/// Rows that wait at once. A quantity beyond them is left to the next list.
const ROWS_MAX: usize = 1_000;

#[derive(Debug)]
struct Row {
    until: u64,
    /// What was said last, and in which message.
    said: Option<(Quantity, String)>,
    /// By how much what was said differs from what that till had; nothing where that is not known.
    differs: Option<Quantity>,
    sold: bool,
}

/// A quantity that has waited long enough.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Due {
    pub(super) row: i64,
    pub(super) quantity: Quantity,
    /// What that till had before; the same as `quantity` where a sale explains it, nothing where it is not known.
    pub(super) before: Option<Quantity>,
    pub(super) message: String,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Lately {
    rows: HashMap<i64, Row>,
}

impl Lately {
    fn row(&mut self, now: u64, row: i64) -> Option<&mut Row> {
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&row) {
            return None;
        }
        let fresh = || Row { until: now + GRACE_MS, said: None, differs: Some(Quantity(0)), sold: false };
        Some(self.rows.entry(row).or_insert_with(fresh))
    }

    /// It says how many of a row it has; `has` is what it had by what is known. Whether that was taken.
    pub(super) fn said(
        &mut self,
        now: u64,
        row: i64,
        quantity: Quantity,
        has: Option<Quantity>,
        message: &str,
    ) -> bool {
        let Some(row) = self.row(now, row) else { return false };
        let step = has.map(|has| quantity.0.saturating_sub(has.0));
        row.differs = row.differs.zip(step).map(|(sum, step)| Quantity(sum.0.saturating_add(step)));
        row.said = Some((quantity, message.to_owned()));
        true
    }

    /// It has sold of a row. By how much what it has moves further: not by what a quantity that came first has said already.
    pub(super) fn sold(&mut self, now: u64, row: i64, delta: Quantity) -> Quantity {
        let Some(row) = self.row(now, row) else { return delta };
        row.sold = true;
        if row.said.is_none() {
            return delta;
        }
        let Some(differs) = &mut row.differs else { return Quantity(0) };
        let absorbed = if delta.0 < 0 { differs.0.clamp(delta.0, 0) } else { differs.0.clamp(0, delta.0) };
        differs.0 -= absorbed;
        Quantity(delta.0 - absorbed)
    }

    /// Whether a sale of a row, or a quantity of it, is still fresh.
    pub(super) fn knows(&self, row: i64) -> bool {
        self.rows.contains_key(&row)
    }

    /// What has waited long enough.
    pub(super) fn due(&mut self, now: u64) -> Vec<Due> {
        let ready = |row: &Row| row.until <= now;
        let mut due: Vec<Due> = self
            .rows
            .iter()
            .filter(|(_, row)| ready(row))
            .filter_map(|(n, row)| {
                let (quantity, message) = row.said.clone()?;
                let before = row.differs.map(|differs| Quantity(quantity.0.saturating_sub(differs.0)));
                Some(Due { row: *n, quantity, before: if row.sold { Some(quantity) } else { before }, message })
            })
            .collect();
        self.rows.retain(|_, row| !ready(row));
        due.sort_by_key(|due| due.row);
        due
    }

    /// The connection is gone: the next list tells what that till has.
    pub(super) fn clear(&mut self) {
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(n: i64) -> Quantity {
        Quantity::units(n)
    }

    /// The rows that are due, with what they differ by.
    fn due(lately: &mut Lately, now: u64) -> Vec<(i64, Option<i64>)> {
        let difference = |due: Due| (due.row, due.before.map(|before| (due.quantity.0 - before.0) / 1_000));
        lately.due(now).into_iter().map(difference).collect()
    }

    #[test]
    fn a_sale_explains_its_quantity_whichever_comes_first() {
        let mut lately = Lately::default();
        assert_eq!(lately.sold(0, 1, units(-5)), units(-5));
        lately.said(10, 1, units(95), Some(units(95)), "a");
        lately.said(0, 2, units(95), Some(units(100)), "b");
        assert_eq!(lately.sold(10, 2, units(-5)), units(0));
        assert!(lately.knows(1) && lately.due(GRACE_MS - 1).is_empty());
        assert_eq!(due(&mut lately, GRACE_MS), [(1, Some(0)), (2, Some(0))]);
        assert!(!lately.knows(1));
    }

    #[test]
    fn two_quick_sales_after_their_quantities_move_nothing_twice() {
        let mut lately = Lately::default();
        lately.said(0, 1, units(95), Some(units(100)), "a");
        lately.said(1, 1, units(94), Some(units(95)), "b");
        assert_eq!(lately.sold(2, 1, units(-5)), units(0));
        assert_eq!(lately.sold(3, 1, units(-1)), units(0));
        assert_eq!(lately.sold(4, 1, units(-2)), units(-2));
    }

    #[test]
    fn alone_it_is_a_movement_by_what_that_till_had_when_it_said_it() {
        let mut lately = Lately::default();
        // It is told another quantity while this one waits: of no matter.
        lately.said(0, 1, units(50), Some(units(100)), "a");
        assert_eq!(due(&mut lately, GRACE_MS), [(1, Some(-50))]);
        lately.said(0, 2, units(50), None, "b");
        assert_eq!(due(&mut lately, GRACE_MS), [(2, None)]);
    }

    #[test]
    fn what_another_posplus_till_wrote_over_it_is_no_movement_beside_a_sale() {
        let mut lately = Lately::default();
        lately.sold(0, 1, units(-1));
        lately.said(1, 1, units(74), Some(units(70)), "a");
        assert_eq!(due(&mut lately, GRACE_MS), [(1, Some(0))]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut lately = Lately::default();
        for row in 0..10_000 {
            lately.said(0, row, units(1), None, "");
        }
        assert_eq!(lately.rows.len(), ROWS_MAX);
        lately.clear();
        assert!(lately.due(u64::MAX).is_empty());
    }
}
