//! Stock: movements and history.

use serde::{Deserialize, Serialize};

use crate::model::amount::Quantity;
use crate::model::id::Uuid;
use crate::model::movement::MovementKind;
use crate::store::{CODE_CHARS_MAX, Request, StockCause, StockEntry};

use super::super::problem::{Faults, Problem};
use super::{Time, check_id, check_text};

/// A movement as the till application sends it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(in super::super) struct NewMovement {
    id: Uuid,
    /// `in` and `return` add; `out`, `sale` and `loss` take away; `adjustment` is signed; `count` sets.
    r#type: MovementKind,
    quantity: Quantity,
    reference: Option<String>,
}

impl NewMovement {
    pub(in super::super) fn check(self, product: Uuid) -> Result<Request, Problem> {
        let mut faults = Faults::default();
        check_id(&mut faults, "id", self.id);
        if let Err(message) = self.r#type.delta(self.quantity, Quantity::default()) {
            faults.add("quantity", message);
        }
        if let Some(reference) = &self.reference {
            check_text(&mut faults, || "reference".to_owned(), reference, CODE_CHARS_MAX);
        }
        let (kind, quantity) = (self.r#type, self.quantity);
        faults.or(Request::Move { id: self.id, product, kind, quantity, reference: self.reference })
    }
}

/// What is in stock.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Stock"))]
pub(in super::super) struct StockShape {
    pub product_id: Uuid,
    #[cfg_attr(test, schemars(with = "super::QuantitySum"))]
    pub stock: Quantity,
}

/// One line of a product's stock history.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "StockEntry"))]
pub(in super::super) struct StockEntryShape {
    /// What moved it: `ticket`, `refund`, or the type of a movement of its own.
    r#type: String,
    /// The id of the ticket, refund or movement.
    id: Uuid,
    /// The change.
    #[cfg_attr(test, schemars(with = "super::QuantitySum"))]
    delta: Quantity,
    /// A ticket's number; the client's reference of a movement.
    reference: Option<String>,
    /// The ticket, of a sale or refund.
    ticket_id: Option<Uuid>,
    created_at: Time,
    pos_id: String,
}

impl From<StockEntry> for StockEntryShape {
    fn from(entry: StockEntry) -> Self {
        let (r#type, id, reference, ticket_id) = match entry.cause {
            StockCause::Ticket { id, number } => ("ticket".to_owned(), id, Some(number), Some(id)),
            StockCause::Refund { id, ticket } => ("refund".to_owned(), id, None, Some(ticket)),
            StockCause::Movement { id, kind, reference } => (kind_name(kind).to_owned(), id, reference, None),
        };
        let (created_at, pos_id) = (Time(entry.at_ms), entry.pos_id);
        Self { r#type, id, delta: entry.delta, reference, ticket_id, created_at, pos_id }
    }
}

fn kind_name(kind: MovementKind) -> &'static str {
    match kind {
        MovementKind::In => "in",
        MovementKind::Out => "out",
        MovementKind::Adjustment => "adjustment",
        MovementKind::Sale => "sale",
        MovementKind::Return => "return",
        MovementKind::Loss => "loss",
        MovementKind::Count => "count",
    }
}
