//! `GET /v1/changes`: what changes here, local and remote alike, as Server-Sent Events that resume from any place without loss or double.
//!
//! One change can be several events: a sale is `ticket`, then `stock` for each product that it moved. An event's id says how many of
//! them have been told: `<database>.<change>.<told>` within a change, `<database>.<change>` with its last. Which events a change of a
//! record makes, and in which order, follows from the record, so a client that lost the connection between two of them goes on with
//! the next. Values are those of now, not those of then.

use std::collections::VecDeque;
use std::convert::Infallible;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::model::id::{Origin, Uuid};
use crate::model::register::EntityKind;
use crate::store::{ChangeItem, ChangeValue, Cursor, EntityView, Reader, StoreError};

use super::extract::Params;
use super::limits::{CHANGES_PER_READ, HEARTBEAT};
use super::place::{After, Place, gone};
use super::problem::{Kind, Problem};
use super::shape::entity::{Category, Customer, Entity, Product};
use super::shape::stock::StockShape;
use super::shape::ticket::{RefundShape, TicketShape};
use super::{Api, Stop};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    after: Option<String>,
}

/// The data of an event.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Change"))]
pub(super) struct ChangeShape {
    /// As the event's name: `ticket`, `refund`, `product`, `category`, `customer`, `stock`.
    entity: &'static str,
    /// Its id; of `stock` the product's.
    id: Uuid,
    /// The till that made the change.
    origin: String,
    /// As the API's other answers show it; null where it was deleted.
    value: Json,
}

pub(super) async fn stream(
    State(api): State<Api>,
    Params(query): Params<Query>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let full = || Problem::new(Kind::Busy, "too many streams of changes are open").retry_after(5);
    let slot = api.streams.clone().try_acquire_owned().map_err(|_| full())?;
    // A browser that connects again sends what it has seen last, to the address that it was given first.
    let seen = match headers.get(LAST_EVENT_ID).map(|v| v.to_str()) {
        Some(Ok(id)) => Some(id.to_owned()),
        Some(Err(_)) => return Err(Problem::parameter("Last-Event-ID", "a cursor is what the stream has given")),
        None => query.after,
    };
    let after = After::parse(seen.as_deref())?;
    let seen = api.context.store.changes();
    let place = api.read(move |reader| start(reader, after)).await?.ok_or_else(gone)?;
    let mut feed = Feed { place, queued: VecDeque::new(), seen, stop: api.stop.clone(), api, _slot: slot };
    // An id without data: a client that is cut off before the first event resumes from here all the same.
    feed.queued.push_back(Event::default().id(place.to_string()));
    let events = stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT)).into_response())
}

/// Where a stream begins; `None` where the cursor is of another database.
fn start(reader: &Reader, after: After) -> Result<Option<Place>, StoreError> {
    let origin = reader.origin()?;
    let last = Cursor(reader.last_change()?);
    Ok(match after {
        After::Beginning => Some(Place::after(origin, Cursor(0))),
        After::Latest => Some(Place::after(origin, last)),
        After::Place(place) if after.cursor(reader)?.is_some() && place.n <= last.0 => Some(place),
        After::Place(_) => None,
    })
}

struct Feed {
    api: Api,
    place: Place,
    queued: VecDeque<Event>,
    seen: watch::Receiver<u64>,
    stop: Stop,
    _slot: OwnedSemaphorePermit,
}

impl Feed {
    /// The next event, once there is one; `None` where the stream ends: the agent stops, or the database fails. The client comes back
    /// with the last id.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.queued.pop_front() {
                return Some(event);
            }
            // Noted before the read, so that what is committed after it is not missed.
            self.seen.mark_unchanged();
            let place = self.place;
            let told = tokio::select! {
                told = self.api.read(move |reader| read(reader, place)) => told,
                () = self.stop.stopped() => return None,
            };
            let told = told.inspect_err(|problem| tracing::warn!(?problem, "API: a stream of changes ends")).ok()?;
            if let Some(told) = told {
                self.place = told.place;
                self.queued = told.events.into_iter().map(Told::event).collect();
                continue;
            }
            tokio::select! {
                changed = self.seen.changed() => changed.ok()?,
                () = self.stop.stopped() => return None,
            }
        }
    }
}

struct Batch {
    place: Place,
    events: Vec<Told>,
}

/// An event before it is framed.
struct Told {
    name: &'static str,
    place: Place,
    data: String,
}

impl Told {
    fn event(self) -> Event {
        Event::default().event(self.name).id(self.place.to_string()).data(self.data)
    }
}

/// The events after a place; `None` where there are none yet.
fn read(reader: &Reader, place: Place) -> Result<Option<Batch>, StoreError> {
    let origin = reader.origin()?;
    // Within a change: that change is read again, and its first events are left out.
    let from = if place.parts > 0 { place.n.saturating_sub(1) } else { place.n };
    let page = reader.changes(Cursor(from), CHANGES_PER_READ)?;
    let Some(end) = page.next.or(page.items.last().map(|last| last.cursor)) else { return Ok(None) };
    let end = Place::after(origin, end);
    let mut events = Vec::with_capacity(page.items.len());
    for item in page.items {
        let skip = if item.cursor.0 == place.n { place.parts } else { 0 };
        tell(reader, origin, item, skip, &mut events)?;
    }
    Ok(Some(Batch { place: end, events }))
}

/// The events of one change, but for its first `skip`.
fn tell(
    reader: &Reader,
    origin: Origin,
    item: ChangeItem,
    skip: u32,
    events: &mut Vec<Told>,
) -> Result<(), StoreError> {
    let ChangeItem { cursor, id, pos_id, value, products, .. } = item;
    let own = shape(value)?;
    let parts = u32::from(own.is_some()).saturating_add(u32::try_from(products.len()).unwrap_or(u32::MAX));
    let stock = |product: Uuid| -> Result<_, StoreError> {
        let stock = StockShape { product_id: product, stock: reader.stock(product)? };
        Ok(("stock", product, json(&stock)?))
    };
    let own = own.map(|(entity, value)| Ok((entity, id, value)));
    let all = own.into_iter().chain(products.into_iter().map(stock));
    for (told, event) in (1u32..).zip(all).skip(skip as usize) {
        let (entity, id, value) = event?;
        let place = if told == parts { Place::after(origin, cursor) } else { Place::within(origin, cursor, told) };
        let shape = ChangeShape { entity, id, origin: pos_id.clone(), value };
        let data = serde_json::to_string(&shape).map_err(|e| StoreError::Io(e.to_string()))?;
        events.push(Told { name: entity, place, data });
    }
    Ok(())
}

/// A change's own event: its name and value. A movement has none: it is told by the stock that it moved.
fn shape(value: ChangeValue) -> Result<Option<(&'static str, Json)>, StoreError> {
    Ok(Some(match value {
        ChangeValue::Ticket(view) => ("ticket", json(&TicketShape::from(*view))?),
        ChangeValue::Refund(refund) => ("refund", json(&RefundShape::from(*refund))?),
        ChangeValue::Entity(view) => return entity(*view),
        ChangeValue::Movement(_) => return Ok(None),
    }))
}

fn entity(view: EntityView) -> Result<Option<(&'static str, Json)>, StoreError> {
    fn value<E: Entity>(view: EntityView) -> Result<Option<(&'static str, Json)>, StoreError> {
        let value = if view.alive { json(&E::shape(view))? } else { Json::Null };
        Ok(Some((E::WHAT, value)))
    }
    match view.kind {
        EntityKind::Product => value::<Product>(view),
        EntityKind::Category => value::<Category>(view),
        EntityKind::Customer => value::<Customer>(view),
        EntityKind::Review | EntityKind::Posplus => Ok(None),
    }
}

fn json(value: &impl Serialize) -> Result<Json, StoreError> {
    serde_json::to_value(value).map_err(|e| StoreError::Io(e.to_string()))
}
