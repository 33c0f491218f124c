//! Tickets.

use rusqlite::Connection;

use crate::model::id::Uuid;
use crate::model::ticket::{Refund, Ticket, TicketStatus, Totals};

use super::error::StoreError;
use super::view::Cursor;

/// A ticket and what has become of it.
#[derive(Clone, PartialEq, Debug)]
pub struct TicketView {
    /// Its place in order of arrival.
    pub cursor: Cursor,
    /// The ticket.
    pub ticket: Ticket,
    /// Its refunds, in order of arrival.
    pub refunds: Vec<Refund>,
    /// What has become of it.
    pub status: TicketStatus,
    /// What it comes to. `None` where an amount is over the limit, in a ticket that another till sent.
    pub totals: Option<Totals>,
    /// SHA-256 of its canonical bytes: what the till's next ticket names.
    pub chain: [u8; 32],
}

/// Which tickets to list, in order of arrival.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TicketQuery {
    /// Go on after this place.
    pub after: Option<Cursor>,
    /// At most so many.
    pub limit: usize,
    /// Not before this time, in milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Before this time, in milliseconds since 1970.
    pub to_ms: Option<u64>,
    /// Sold on the till of this human id.
    pub pos_id: Option<String>,
}

/// The ticket that counts under an id.
pub(super) fn view(conn: &Connection, id: Uuid) -> Result<Option<TicketView>, StoreError> {
    let _ = (conn, id);
    Ok(None)
}

/// The ticket in a row.
pub(super) fn view_at(conn: &Connection, idx: i64) -> Result<Option<TicketView>, StoreError> {
    let _ = (conn, idx);
    Ok(None)
}
