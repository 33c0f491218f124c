//! What a person should settle: `GET /v1/conflicts` and `POST /v1/conflicts/{id}/resolve`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value as AnyValue, json};

use crate::model::id::Uuid;
use crate::model::register::{ALIVE, EntityKind, Registers, Value};
use crate::store::{ConflictId, ConflictView, EXTRA, RecordKind, Request, Says, Settle, Side, StockCause, StockEntry};

use super::Api;
use super::entities::ListShape;
use super::extract::{AnyJson, MaybeJson, PathText, parse};
use super::limits::LIST_MAX;
use super::problem::{Faults, Kind, Problem};
use super::shape::Time;
use super::shape::entity::{self, Category, Customer, Entity, Fields, Product};
use super::shape::stock::StockEntryShape;
use super::shape::ticket::{RefundShape, TicketShape};

/// A conflict as clients read it. Its id is the same on all tills.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Conflict"))]
pub(super) struct ConflictShape {
    id: String,
    /// `field` (tills wrote other values at once), `sku` and `barcode` (several products have it), `over-refund` (more taken back than
    /// sold), `contents` (two records under one id), `counts` (tills counted at once), `unchained` (a ticket's predecessor is
    /// missing), `negative-stock`.
    kind: &'static str,
    /// What it is about: `product`, `category`, `customer`, `ticket`, `refund`, `movement`; null for a code of several products.
    entity: Option<&'static str>,
    /// Its id.
    entity_id: Option<Uuid>,
    /// The field, where it is one that disagrees.
    field: Option<String>,
    settle: SettleShape,
    /// What disagrees; the first is what is shown elsewhere, or counts.
    sides: Vec<SideShape>,
}

/// How a conflict is settled: `choose` by resolving it with a value; `seen` by resolving it without one; `edit` by editing or deleting one
/// of the products; `count` by counting the product's stock.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Settle"))]
pub(super) enum SettleShape {
    Choose,
    Seen,
    Edit,
    Count,
}

/// A side of a conflict.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Side"))]
pub(super) struct SideShape {
    /// The till that made it; null where it is a sum of many.
    pos_id: Option<String>,
    at: Option<Time>,
    /// The field's value; the product's id; the ticket, refund or movement; what is in stock.
    value: AnyValue,
}

/// How a person settles a conflict.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct NewResolution {
    /// What the field shall be; left out where there is nothing to choose.
    #[cfg_attr(test, schemars(with = "AnyValue"))]
    value: Option<AnyJson>,
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<ListShape<ConflictShape>>, Problem> {
    let conflicts = api.read(|reader| reader.conflicts(LIST_MAX)).await?;
    Ok(Json(ListShape::whole(conflicts.into_iter().map(ConflictShape::from).collect())))
}

pub(super) async fn resolve(
    State(api): State<Api>,
    PathText(id): PathText,
    MaybeJson(resolution): MaybeJson<NewResolution>,
) -> Result<StatusCode, Problem> {
    let conflict: ConflictId = id.parse().map_err(|_| Problem::not_found("conflict"))?;
    let wanted = resolution.value.map_or(AnyValue::Null, |AnyJson(value)| value);
    let value = match &conflict {
        ConflictId::Field(kind, id, field) => {
            let shown = conflict.clone();
            let view = api.read(move |reader| reader.conflict(&shown)).await?;
            let sides = view.map(|view| view.sides).unwrap_or_default();
            one_of(&sides, *kind, field, &wanted).map_or_else(|| typed((*kind, *id), field, wanted), Ok)?
        }
        // Nothing is chosen: whatever is not null is for the store to refuse.
        _ if wanted.is_null() => Value::Null,
        _ => Value::Json(wanted.to_string()),
    };
    api.submit(Request::Resolve { conflict, value }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A value that stands in the conflict: right whatever its type, also where only a later version knows the field.
fn one_of(sides: &[Side], kind: EntityKind, field: &str, wanted: &AnyValue) -> Option<Value> {
    sides.iter().find_map(|side| match &side.says {
        Says::Value(value) if entity::json(kind, field, value) == *wanted => Some(value.clone()),
        _ => None,
    })
}

/// Any other value that the field takes.
fn typed(target: (EntityKind, Uuid), field: &str, wanted: AnyValue) -> Result<Value, Problem> {
    if field == ALIVE {
        return wanted.as_bool().map(Value::Bool).ok_or_else(|| not_taken("true or false"));
    }
    match target.0 {
        EntityKind::Product => taken::<Product>(target.1, field, wanted),
        EntityKind::Category => taken::<Category>(target.1, field, wanted),
        EntityKind::Customer => taken::<Customer>(target.1, field, wanted),
        EntityKind::Review | EntityKind::Posplus => Err(Problem::new(Kind::NotFound, "there is nothing to choose")),
    }
}

/// The value as if a patch had set it.
fn taken<E: Entity>(id: Uuid, field: &str, wanted: AnyValue) -> Result<Value, Problem> {
    let patch = match field.strip_prefix(EXTRA) {
        Some(key) => json!({ "extra": { key: wanted } }),
        None => json!({ field: wanted }),
    };
    let input = parse::<E::Input>(patch.to_string().as_bytes());
    let present = Registers::default();
    let values = input.and_then(|input| Fields::check::<E>(id, Some(&present), input));
    let message = |problem: Problem| problem.faults().first().map(|fault| fault.message.clone()).unwrap_or_default();
    let mut values = values.map_err(|problem| not_taken(message(problem)))?;
    values.remove(field).ok_or_else(|| not_taken("one of the values in conflict"))
}

fn not_taken(message: impl Into<String>) -> Problem {
    let mut faults = Faults::default();
    faults.add("value", message);
    faults.into_problem()
}

impl From<ConflictView> for ConflictShape {
    fn from(view: ConflictView) -> Self {
        let (entity, entity_id, field) = match &view.id {
            ConflictId::Field(kind, id, field) => (entity_name(*kind), Some(*id), Some(field.clone())),
            ConflictId::Duplicate(..) => (None, None, None),
            ConflictId::OverRefund(id) | ConflictId::Unchained(id) => (Some("ticket"), Some(*id), None),
            ConflictId::Contents(kind, id) => (Some(record_name(*kind)), Some(*id), None),
            ConflictId::Counts(id) | ConflictId::NegativeStock(id) => (Some("product"), Some(*id), None),
        };
        let shown = match &view.id {
            ConflictId::Field(kind, _, field) => (*kind, field.clone()),
            _ => (EntityKind::Product, String::new()),
        };
        Self {
            id: view.id.to_string(),
            kind: view.id.sort(),
            entity,
            entity_id,
            field,
            settle: match view.settle {
                Settle::Choose => SettleShape::Choose,
                Settle::Seen => SettleShape::Seen,
                Settle::Edit => SettleShape::Edit,
                Settle::Count => SettleShape::Count,
            },
            sides: view.sides.into_iter().map(|side| SideShape::new(shown.0, &shown.1, side)).collect(),
        }
    }
}

impl SideShape {
    fn new(kind: EntityKind, field: &str, side: Side) -> Self {
        let value = match side.says {
            Says::Value(value) => entity::json(kind, field, &value),
            Says::Product(id) => json!(id),
            Says::Ticket(ticket) => json!(TicketShape::new(*ticket, Vec::new())),
            Says::Refund(refund) => json!(RefundShape::from(*refund)),
            Says::Movement(movement) => {
                let cause =
                    StockCause::Movement { id: movement.id, kind: movement.kind, reference: movement.reference };
                let (at_ms, pos_id) = (movement.made.at_ms, movement.made.pos_id);
                let entry = StockEntry { cursor: Default::default(), delta: movement.delta, at_ms, pos_id, cause };
                json!(StockEntryShape::from(entry))
            }
            Says::Stock(quantity) => json!(quantity),
        };
        let made = !side.pos_id.is_empty();
        Self { at: made.then_some(Time(side.at_ms)), pos_id: made.then_some(side.pos_id), value }
    }
}

fn entity_name(kind: EntityKind) -> Option<&'static str> {
    match kind {
        EntityKind::Product => Some(Product::WHAT),
        EntityKind::Category => Some(Category::WHAT),
        EntityKind::Customer => Some(Customer::WHAT),
        EntityKind::Review | EntityKind::Posplus => None,
    }
}

fn record_name(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Ticket => "ticket",
        RecordKind::Refund => "refund",
        RecordKind::Movement => "movement",
    }
}
