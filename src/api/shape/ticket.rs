//! Tickets and refunds.

use serde::{Deserialize, Serialize};

use crate::model::amount::{Money, Quantity};
use crate::model::clock::ClockQuality;
use crate::model::id::{Uuid, hex};
use crate::model::op::{BODY_APPLY_MAX, canonical};
use crate::model::ticket::{
    LINES_MAX, Line, PAYMENTS_MAX, Payment, PaymentMethod, Refund, Refunded, Sale, Ticket, TicketStatus,
};
use crate::store::{CODE_CHARS_MAX, NAME_CHARS_MAX, NOTES_CHARS_MAX, Request, TicketView};

use super::super::extract::List;
use super::super::problem::{Faults, Problem};
use super::{Time, check_id, check_name, check_text};

/// The longest sale in the op log's bytes: with what the agent adds to it, it must be one that every till applies.
const SALE_BYTES_MAX: usize = BODY_APPLY_MAX - 4096;

/// A sale as the till application sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct NewTicket {
    id: Uuid,
    cashier: Option<String>,
    customer_id: Option<Uuid>,
    notes: Option<String>,
    lines: List<NewLine, LINES_MAX>,
    payments: List<NewPayment, PAYMENTS_MAX>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct NewLine {
    product_id: Option<Uuid>,
    sku: Option<String>,
    name: String,
    quantity: Quantity,
    unit_price: Money,
    #[serde(default)]
    discount: Money,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct NewPayment {
    method: PaymentMethod,
    amount: Money,
    reference: Option<String>,
}

impl NewTicket {
    /// The request to the store.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(in super::super) fn check(self) -> Result<Request, Problem> {
        let mut faults = Faults::default();
        check_id(&mut faults, "id", self.id);
        if let Some(cashier) = &self.cashier {
            check_text(&mut faults, || "cashier".to_owned(), cashier, NAME_CHARS_MAX);
        }
        if let Some(notes) = &self.notes {
            check_text(&mut faults, || "notes".to_owned(), notes, NOTES_CHARS_MAX);
        }
        faults.require(!self.lines.0.is_empty(), || "lines".to_owned(), "at least one line is needed");
        let lines = self.lines.0.into_iter().enumerate().map(|(i, line)| line.check(i, &mut faults)).collect();
        let payments = self.payments.0.into_iter().enumerate().map(|(i, paid)| paid.check(i, &mut faults)).collect();
        let sale = Sale { cashier: self.cashier, customer: self.customer_id, notes: self.notes, lines, payments };
        let sale = faults.or(sale)?;
        let mut faults = Faults::default();
        faults.require(sale.totals().is_some(), String::new, "the amounts add up to more than 9007199254740991");
        faults.require(
            canonical(&sale).len() <= SALE_BYTES_MAX,
            String::new,
            "the ticket's texts are too long together",
        );
        faults.or(Request::Sell { id: self.id, sale })
    }
}

impl NewLine {
    fn check(self, index: usize, faults: &mut Faults) -> Line {
        let at = |field: &str| format!("lines[{index}].{field}");
        if let Some(sku) = &self.sku {
            check_text(faults, || at("sku"), sku, CODE_CHARS_MAX);
        }
        check_name(faults, || at("name"), &self.name, NAME_CHARS_MAX);
        faults.require(self.quantity.0 > 0, || at("quantity"), "a quantity is more than zero");
        faults.require(self.unit_price.0 >= 0, || at("unitPrice"), "a price is zero or more");
        let line = Line {
            product: self.product_id,
            sku: self.sku,
            name: self.name,
            quantity: self.quantity,
            unit_price: self.unit_price,
            discount: self.discount,
        };
        match line.gross() {
            Some(gross) => {
                let fits = (0..=gross.0.max(0)).contains(&line.discount.0);
                faults.require(fits, || at("discount"), "a discount is zero or more, and at most quantity x unitPrice");
            }
            None => faults.add(at("unitPrice"), "quantity x unitPrice is at most 9007199254740991"),
        }
        line
    }
}

impl NewPayment {
    fn check(self, index: usize, faults: &mut Faults) -> Payment {
        if let Some(reference) = &self.reference {
            check_text(faults, || format!("payments[{index}].reference"), reference, CODE_CHARS_MAX);
        }
        Payment { method: self.method, amount: self.amount, reference: self.reference }
    }
}

/// A refund as the till application sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct NewRefund {
    id: Uuid,
    lines: List<NewRefundLine, LINES_MAX>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct NewRefundLine {
    /// The ticket's line, from 0.
    line: u32,
    quantity: Quantity,
}

impl NewRefund {
    pub(in super::super) fn check(self, ticket: Uuid) -> Result<Request, Problem> {
        let mut faults = Faults::default();
        check_id(&mut faults, "id", self.id);
        check_reason(&mut faults, self.reason.as_deref());
        faults.require(!self.lines.0.is_empty(), || "lines".to_owned(), "at least one line is needed");
        let mut seen = std::collections::BTreeSet::new();
        for (i, line) in self.lines.0.iter().enumerate() {
            faults.require(line.quantity.0 > 0, || format!("lines[{i}].quantity"), "a quantity is more than zero");
            faults.require(seen.insert(line.line), || format!("lines[{i}].line"), "each line stands once");
        }
        let lines = self.lines.0.into_iter().map(|l| (l.line, l.quantity)).collect();
        faults.or(Request::Refund { id: self.id, ticket, lines, reason: self.reason })
    }
}

/// A cancellation as the till application sends it; the whole body may be left out.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct NewCancel {
    id: Option<Uuid>,
    reason: Option<String>,
}

impl NewCancel {
    pub(in super::super) fn check(self, ticket: Uuid) -> Result<Request, Problem> {
        let mut faults = Faults::default();
        if let Some(id) = self.id {
            check_id(&mut faults, "id", id);
        }
        check_reason(&mut faults, self.reason.as_deref());
        faults.or(Request::Cancel { id: self.id, ticket, reason: self.reason })
    }
}

fn check_reason(faults: &mut Faults, reason: Option<&str>) {
    if let Some(reason) = reason {
        check_text(faults, || "reason".to_owned(), reason, NOTES_CHARS_MAX);
    }
}

/// A ticket as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Ticket"))]
pub(in super::super) struct TicketShape {
    id: Uuid,
    /// `<posId>-<4 hex of origin>-<YYYYMMDD>-<NNNN>`.
    number: String,
    /// The till that sold.
    pos_id: String,
    created_at: Time,
    /// What that time is worth.
    clock: ClockQuality,
    status: TicketStatus,
    /// ISO 4217. Amounts are in its minor units.
    currency: String,
    /// Lines before discounts.
    subtotal: Money,
    discount: Money,
    total: Money,
    /// Total less payments: negative where change was given.
    due: Money,
    cashier: Option<String>,
    customer_id: Option<Uuid>,
    notes: Option<String>,
    lines: Vec<LineShape>,
    payments: Vec<PaymentShape>,
    refunds: Vec<RefundShape>,
    /// SHA-256 that the till's next ticket is chained to.
    chain: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "TicketLine"))]
pub(in super::super) struct LineShape {
    product_id: Option<Uuid>,
    sku: Option<String>,
    name: String,
    quantity: Quantity,
    unit_price: Money,
    discount: Money,
    /// Quantity x unit price, rounded half up, less the discount.
    total: Money,
    /// How much of the quantity has been taken back.
    #[cfg_attr(test, schemars(with = "super::QuantitySum"))]
    refunded: Quantity,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Payment"))]
pub(in super::super) struct PaymentShape {
    method: PaymentMethod,
    amount: Money,
    reference: Option<String>,
}

/// A refund as clients read it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Refund"))]
pub(in super::super) struct RefundShape {
    id: Uuid,
    ticket_id: Uuid,
    /// The till that took back.
    pos_id: String,
    created_at: Time,
    clock: ClockQuality,
    /// Whether it cancelled the sale.
    cancel: bool,
    reason: Option<String>,
    /// What is paid back.
    amount: Money,
    lines: Vec<RefundLineShape>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "RefundLine"))]
pub(in super::super) struct RefundLineShape {
    /// The ticket's line, from 0.
    line: u32,
    quantity: Quantity,
    product_id: Option<Uuid>,
    amount: Money,
}

impl From<TicketView> for TicketShape {
    fn from(view: TicketView) -> Self {
        Self::new(view.ticket, view.refunds)
    }
}

impl TicketShape {
    /// A ticket with what has been taken back of it.
    pub(in super::super) fn new(ticket: Ticket, refunds: Vec<Refund>) -> Self {
        let refunded = Refunded::sum(&ticket, &refunds);
        let status = refunded.status(&ticket);
        let chain = hex(&ticket.hash());
        let sale = ticket.sale;
        // A ticket whose amounts are over the limit is never in the state.
        let totals = sale.totals().unwrap_or_default();
        let lines = sale.lines.into_iter().zip(refunded.lines);
        Self {
            id: ticket.id,
            number: ticket.number,
            pos_id: ticket.made.pos_id,
            created_at: Time(ticket.made.at_ms),
            clock: ticket.made.clock,
            status,
            currency: String::from_utf8_lossy(&ticket.currency).into_owned(),
            subtotal: totals.subtotal,
            discount: totals.discount,
            total: totals.total,
            due: totals.due,
            cashier: sale.cashier,
            customer_id: sale.customer,
            notes: sale.notes,
            lines: lines.map(|(line, (taken, _))| LineShape::new(line, taken)).collect(),
            payments: sale.payments.into_iter().map(PaymentShape::from).collect(),
            refunds: refunds.into_iter().map(RefundShape::from).collect(),
            chain,
        }
    }
}

impl LineShape {
    fn new(line: Line, refunded: Quantity) -> Self {
        let total = line.total().unwrap_or_default();
        Self {
            product_id: line.product,
            sku: line.sku,
            name: line.name,
            quantity: line.quantity,
            unit_price: line.unit_price,
            discount: line.discount,
            total,
            refunded,
        }
    }
}

impl From<Payment> for PaymentShape {
    fn from(payment: Payment) -> Self {
        Self { method: payment.method, amount: payment.amount, reference: payment.reference }
    }
}

impl From<Refund> for RefundShape {
    fn from(refund: Refund) -> Self {
        let amount = refund.amount();
        let lines = refund.lines.into_iter();
        Self {
            id: refund.id,
            ticket_id: refund.ticket,
            pos_id: refund.made.pos_id,
            created_at: Time(refund.made.at_ms),
            clock: refund.made.clock,
            cancel: refund.cancel,
            reason: refund.reason,
            amount,
            lines: lines
                .map(|l| RefundLineShape {
                    line: l.line,
                    quantity: l.quantity,
                    product_id: l.product,
                    amount: l.amount,
                })
                .collect(),
        }
    }
}
