//! Tickets and refunds: insert-once records. A ticket is never edited; what happens to it later is a record of its own.

use serde::{Deserialize, Serialize};

use super::amount::{MONEY_MAX, Money, Quantity, extend, share};
use super::clock::ClockQuality;
use super::id::{TillId, Uuid};
use super::op::{canonical, content_hash};

/// The most lines a ticket has.
pub const LINES_MAX: usize = 1000;

/// The most payments a ticket has.
pub const PAYMENTS_MAX: usize = 100;

/// Who made a record, and when.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Made {
    /// The till.
    pub till: TillId,
    /// Its human id at that time.
    pub pos_id: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// What that time is worth.
    pub clock: ClockQuality,
}

/// A sale.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// Made by the client; a repeated post is the same sale.
    pub id: Uuid,
    /// `<posId>-<4 hex of origin>-<YYYYMMDD>-<NNNN>`.
    pub number: String,
    /// By whom and when.
    pub made: Made,
    /// The store's currency, ISO 4217.
    pub currency: [u8; 3],
    /// What the client said.
    pub sale: Sale,
    /// SHA-256 of the canonical bytes of this till's ticket before this one; zero for its first.
    pub previous: [u8; 32],
}

/// The part of a ticket that the client determines: what a repeated post is compared by.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sale {
    /// Who sold.
    pub cashier: Option<String>,
    /// To whom.
    pub customer: Option<Uuid>,
    /// Anything else.
    pub notes: Option<String>,
    /// What was sold; at least one, at most [`LINES_MAX`].
    pub lines: Vec<Line>,
    /// What was paid; may differ from the total. At most [`PAYMENTS_MAX`].
    pub payments: Vec<Payment>,
}

/// One line of a ticket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The product whose stock it takes from, if any.
    pub product: Option<Uuid>,
    /// Its stock-keeping unit at the time.
    pub sku: Option<String>,
    /// Its name at the time.
    pub name: String,
    /// How many; more than zero.
    pub quantity: Quantity,
    /// Price of one; zero or more.
    pub unit_price: Money,
    /// Taken off the line; zero or more, at most the line.
    pub discount: Money,
}

/// One payment of a ticket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payment {
    /// How.
    pub method: PaymentMethod,
    /// How much.
    pub amount: Money,
    /// A card slip's or cheque's number.
    pub reference: Option<String>,
}

/// How a customer paid.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaymentMethod {
    /// Coins and notes.
    Cash,
    /// A bank card.
    Card,
    /// A bank transfer.
    Transfer,
    /// A cheque.
    Check,
    /// Anything else.
    Other,
}

/// What a ticket comes to, in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Lines before discounts.
    pub subtotal: Money,
    /// Discounts.
    pub discount: Money,
    /// What is owed.
    pub total: Money,
    /// Total less payments: negative where change was given.
    pub due: Money,
}

impl Line {
    /// Before the discount. `None` where it is over the limit of an amount.
    #[must_use]
    pub fn gross(&self) -> Option<Money> {
        extend(self.quantity, self.unit_price)
    }

    /// After the discount. `None` where it is over the limit of an amount.
    #[must_use]
    pub fn total(&self) -> Option<Money> {
        self.gross().map(|g| Money(g.0 - self.discount.0))
    }
}

impl Sale {
    /// What it comes to. `None` where an amount is over the limit.
    #[must_use]
    pub fn totals(&self) -> Option<Totals> {
        let subtotal = sum(self.lines.iter().map(Line::gross))?;
        let discount = sum(self.lines.iter().map(|l| Some(l.discount)))?;
        let paid = sum(self.payments.iter().map(|p| Some(p.amount)))?;
        let total = Money(subtotal.0 - discount.0);
        Some(Totals { subtotal, discount, total, due: Money(total.0 - paid.0) })
    }
}

fn sum(mut amounts: impl Iterator<Item = Option<Money>>) -> Option<Money> {
    let total = amounts.try_fold(0i64, |sum, amount| sum.checked_add(amount?.0))?;
    (total.unsigned_abs() <= MONEY_MAX as u64).then_some(Money(total))
}

impl Ticket {
    /// What the next ticket of the till names as its previous.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        content_hash(&canonical(self))
    }

    /// The stock movements of its lines: product and change.
    pub fn movements(&self) -> impl Iterator<Item = (Uuid, Quantity)> + '_ {
        self.sale.lines.iter().filter_map(|l| l.product.map(|p| (p, -l.quantity)))
    }
}

/// A refund of some lines of a ticket, or, with `cancel`, of all that was left. It carries all that it moves, so that it can be applied
/// before its ticket has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refund {
    /// Made by the client; a repeated post is the same refund.
    pub id: Uuid,
    /// The ticket.
    pub ticket: Uuid,
    /// By whom and when.
    pub made: Made,
    /// Whether the sale was cancelled.
    pub cancel: bool,
    /// Why.
    pub reason: Option<String>,
    /// What is taken back.
    pub lines: Vec<RefundLine>,
}

/// One line of a refund.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RefundLine {
    /// The ticket's line, from 0.
    pub line: u32,
    /// How many; more than zero.
    pub quantity: Quantity,
    /// The product that goes back to stock, if any.
    pub product: Option<Uuid>,
    /// What is paid back.
    pub amount: Money,
}

impl Refund {
    /// The stock movements of its lines: product and change.
    pub fn movements(&self) -> impl Iterator<Item = (Uuid, Quantity)> + '_ {
        self.lines.iter().filter_map(|l| l.product.map(|p| (p, l.quantity)))
    }

    /// What is paid back in all.
    #[must_use]
    pub fn amount(&self) -> Money {
        Money(self.lines.iter().map(|l| l.amount.0).sum())
    }
}

/// What has become of a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TicketStatus {
    /// Sold.
    Completed,
    /// Taken back whole by a cancellation.
    Cancelled,
    /// Taken back whole by refunds.
    Refunded,
    /// Taken back in part.
    PartiallyRefunded,
}

/// How much of each line of a ticket has been taken back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refunded {
    /// Per line: quantity and amount.
    pub lines: Vec<(Quantity, Money)>,
    cancelled: bool,
}

impl Refunded {
    /// Sums the refunds of a ticket. Lines that the ticket does not have are left out: nothing is refused.
    pub fn sum<'a>(ticket: &Ticket, refunds: impl IntoIterator<Item = &'a Refund>) -> Self {
        let mut refunded = Self { lines: vec![Default::default(); ticket.sale.lines.len()], cancelled: false };
        for refund in refunds {
            refunded.cancelled |= refund.cancel;
            for taken in &refund.lines {
                if let Some((quantity, amount)) = refunded.lines.get_mut(taken.line as usize) {
                    quantity.0 = quantity.0.saturating_add(taken.quantity.0);
                    amount.0 = amount.0.saturating_add(taken.amount.0);
                }
            }
        }
        refunded
    }

    /// What has become of the ticket.
    #[must_use]
    pub fn status(&self, ticket: &Ticket) -> TicketStatus {
        let whole = ticket.sale.lines.iter().zip(&self.lines).all(|(line, (taken, _))| *taken >= line.quantity);
        match (whole, self.cancelled) {
            (true, true) => TicketStatus::Cancelled,
            (true, false) => TicketStatus::Refunded,
            _ if self.lines.iter().all(|(q, _)| q.0 == 0) => TicketStatus::Completed,
            _ => TicketStatus::PartiallyRefunded,
        }
    }

    /// Whether more was taken back than was sold: two tills at once, a conflict for a person.
    #[must_use]
    pub fn is_over(&self, ticket: &Ticket) -> bool {
        ticket.sale.lines.iter().zip(&self.lines).any(|(line, (taken, _))| *taken > line.quantity)
    }

    /// A refund line for `quantity` more of line `index`. Amounts add up to the line's total exactly when all of it is taken back.
    ///
    /// # Errors
    /// Says what is wrong: no such line, not more than zero, more than is left.
    pub fn take(&self, ticket: &Ticket, index: u32, quantity: Quantity) -> Result<RefundLine, &'static str> {
        let (line, (taken, paid)) = ticket
            .sale
            .lines
            .get(index as usize)
            .zip(self.lines.get(index as usize))
            .ok_or("the ticket has no such line")?;
        if quantity.0 <= 0 {
            return Err("a refunded quantity is more than zero");
        }
        let after = Quantity(taken.0.saturating_add(quantity.0));
        if after > line.quantity {
            return Err("more than is left of this line");
        }
        let total = line.total().ok_or("the line's total is over the limit")?;
        let due = share(total, after, line.quantity).ok_or("the line's total is over the limit")?;
        Ok(RefundLine { line: index, quantity, product: line.product, amount: Money(due.0 - paid.0) })
    }

    /// Refund lines for all that is left.
    #[must_use]
    pub fn rest(&self, ticket: &Ticket) -> Vec<RefundLine> {
        let left = ticket.sale.lines.iter().zip(&self.lines).map(|(line, (taken, _))| line.quantity.0 - taken.0);
        left.enumerate()
            .filter(|(_, q)| *q > 0)
            .filter_map(|(i, q)| self.take(ticket, u32::try_from(i).ok()?, Quantity(q)).ok())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(quantity: i64, price: i64, discount: i64) -> Ticket {
        let made = Made { till: TillId([1; 16]), pos_id: "POS-1".into(), at_ms: 0, clock: ClockQuality::Trusted };
        let line = Line {
            product: Some(Uuid::from_u128(9)),
            sku: None,
            name: "Café".into(),
            quantity: Quantity(quantity),
            unit_price: Money(price),
            discount: Money(discount),
        };
        let paid = Payment { method: PaymentMethod::Cash, amount: Money(10_000), reference: None };
        let sale = Sale { cashier: None, customer: None, notes: None, lines: vec![line], payments: vec![paid] };
        Ticket { id: Uuid::from_u128(1), number: "n".into(), made, currency: *b"TND", sale, previous: [0; 32] }
    }

    fn refund(ticket: &Ticket, lines: Vec<RefundLine>, cancel: bool) -> Refund {
        let id = Uuid::from_u128(2);
        Refund { id, ticket: ticket.id, made: ticket.made.clone(), cancel, reason: None, lines }
    }

    #[test]
    fn totals_are_exact() {
        let totals = ticket(2_500, 4_500, 250).sale.totals().unwrap();
        assert_eq!((totals.subtotal, totals.discount, totals.total), (Money(11_250), Money(250), Money(11_000)));
        assert_eq!(totals.due, Money(1_000));
    }

    #[test]
    fn refunds_add_up_to_the_line() {
        let ticket = ticket(3_000, 33, 0);
        let mut refunds: Vec<Refund> = Vec::new();
        let mut sum = 0;
        for _ in 0..3 {
            let line = Refunded::sum(&ticket, &refunds).take(&ticket, 0, Quantity(1_000)).unwrap();
            sum += line.amount.0;
            refunds.push(refund(&ticket, vec![line], false));
        }
        assert_eq!(sum, 99);
        let refunded = Refunded::sum(&ticket, &refunds);
        assert_eq!(refunded.status(&ticket), TicketStatus::Refunded);
        assert!(refunded.take(&ticket, 0, Quantity(1)).is_err());
        assert!(refunded.rest(&ticket).is_empty());
        assert!(!refunded.is_over(&ticket));
    }

    #[test]
    fn two_tills_at_once_refund_too_much() {
        let ticket = ticket(1_000, 500, 0);
        let none = Refunded::sum(&ticket, []);
        assert_eq!(none.status(&ticket), TicketStatus::Completed);
        let a = refund(&ticket, none.rest(&ticket), true);
        let b = refund(&ticket, vec![none.take(&ticket, 0, Quantity(1_000)).unwrap()], false);
        let both = Refunded::sum(&ticket, [&a, &b]);
        assert!(both.is_over(&ticket));
        assert_eq!(both.status(&ticket), TicketStatus::Cancelled);
        assert_eq!(a.movements().collect::<Vec<_>>(), [(Uuid::from_u128(9), Quantity(1_000))]);
    }

    #[test]
    fn a_line_the_ticket_does_not_have_is_left_out() {
        let ticket = ticket(1_000, 500, 0);
        let odd = RefundLine { line: 7, quantity: Quantity(1), product: None, amount: Money(1) };
        let refunded = Refunded::sum(&ticket, [&refund(&ticket, vec![odd], false)]);
        assert_eq!(refunded.status(&ticket), TicketStatus::Completed);
    }
}
