//! Products, categories, customers; and what lists have in common.

use std::marker::PhantomData;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::model::id::Uuid;
use crate::store::{Change, Cursor, EntityQuery, EntityView, Page, Reader, Reply, Request, StoreError};

use super::Api;
use super::extract::{JsonBody, Params, PathId};
use super::limits::{LIST_BYTES_MAX, LIST_DEFAULT, LIST_MAX, SEARCH_LEN_MAX};
use super::place::{After, Place, gone};
use super::problem::Problem;
use super::shape::entity::{Entity, Fields};

/// JSON that was made on the reader's thread, so that a long list does not hold up the one that serves sales.
pub(super) struct Rendered(Vec<u8>);

/// A part of a list.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "{T}List"))]
pub(super) struct ListShape<T> {
    items: Vec<T>,
    /// Pass it as `after` to go on; null at the end. A part may hold fewer items than asked for, or none, before the end.
    next: Option<String>,
}

impl<T> ListShape<T> {
    /// A list that is short enough to be told whole.
    pub(super) fn whole(items: Vec<T>) -> Self {
        Self { items, next: None }
    }
}

impl Rendered {
    /// A part of a list. Ends early once its items take up [`LIST_BYTES_MAX`].
    pub(super) fn page<T, S: Serialize>(
        reader: &Reader,
        page: Page<T>,
        cursor: impl Fn(&T) -> Cursor,
        shape: impl Fn(T) -> S,
    ) -> Result<Self, StoreError> {
        let mut json = b"{\"items\":[".to_vec();
        let mut next = page.next;
        let mut items = page.items.into_iter().peekable();
        while let Some(item) = items.next() {
            let after = cursor(&item);
            render(&mut json, &shape(item))?;
            if items.peek().is_some() {
                if json.len() >= LIST_BYTES_MAX {
                    next = Some(after);
                    break;
                }
                json.push(b',');
            }
        }
        let origin = reader.origin()?;
        json.extend_from_slice(b"],\"next\":");
        render(&mut json, &next.map(|cursor| Place::after(origin, cursor).to_string()))?;
        json.push(b'}');
        Ok(Self(json))
    }
}

fn render(json: &mut Vec<u8>, value: &impl Serialize) -> Result<(), StoreError> {
    serde_json::to_writer(json, value).map_err(|e| StoreError::Io(e.to_string()))
}

impl IntoResponse for Rendered {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.0).into_response()
    }
}

/// How many items a list shall have.
pub(super) fn limit(given: Option<usize>) -> Result<usize, Problem> {
    let limit = given.unwrap_or(LIST_DEFAULT);
    if (1..=LIST_MAX).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::parameter("limit", format!("a limit is 1 to {LIST_MAX}")))
}

pub(super) async fn one<E: Entity>(State(api): State<Api>, PathId(id): PathId) -> Result<Json<E::Shape>, Problem> {
    Ok(Json(E::shape(present::<E>(&api, id).await?)))
}

async fn present<E: Entity>(api: &Api, id: Uuid) -> Result<EntityView, Problem> {
    let view = api.read(move |reader| reader.entity(E::KIND, id)).await?;
    view.filter(|view| view.alive).ok_or_else(|| Problem::not_found(E::WHAT))
}

pub(super) async fn put<E: Entity>(
    State(api): State<Api>,
    PathId(id): PathId,
    JsonBody(input): JsonBody<E::Input>,
) -> Result<Json<E::Shape>, Problem> {
    let values = Fields::check::<E>(id, None, input)?;
    edit::<E>(&api, id, Change::Put(values)).await
}

pub(super) async fn patch<E: Entity>(
    State(api): State<Api>,
    PathId(id): PathId,
    JsonBody(input): JsonBody<E::Input>,
) -> Result<Json<E::Shape>, Problem> {
    let present = present::<E>(&api, id).await?;
    let values = Fields::check::<E>(id, Some(&present.registers), input)?;
    edit::<E>(&api, id, Change::Patch(values)).await
}

async fn edit<E: Entity>(api: &Api, id: Uuid, change: Change) -> Result<Json<E::Shape>, Problem> {
    match api.submit(Request::Edit { kind: E::KIND, id, change }).await? {
        Reply::Entity(view) => Ok(Json(E::shape(*view))),
        _ => Err(Problem::unexpected_reply()),
    }
}

pub(super) async fn delete<E: Entity>(State(api): State<Api>, PathId(id): PathId) -> Result<StatusCode, Problem> {
    api.submit(Request::Edit { kind: E::KIND, id, change: Change::Delete }).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Query<E> {
    after: Option<String>,
    limit: Option<usize>,
    sku: Option<String>,
    barcode: Option<String>,
    category_id: Option<Uuid>,
    q: Option<String>,
    #[serde(skip)]
    kind: PhantomData<E>,
}

pub(super) async fn list<E: Entity + Sync + Send>(
    State(api): State<Api>,
    Params(query): Params<Query<E>>,
) -> Result<Rendered, Problem> {
    let after = After::parse(query.after.as_deref())?;
    if query.q.as_ref().is_some_and(|q| q.chars().count() > SEARCH_LEN_MAX) {
        return Err(Problem::parameter("q", format!("at most {SEARCH_LEN_MAX} characters")));
    }
    let mut wanted = EntityQuery {
        kind: E::KIND,
        after: None,
        limit: limit(query.limit)?,
        sku: query.sku,
        barcode: query.barcode,
        category: query.category_id,
        q: query.q,
        include_deleted: false,
    };
    let page = api.read(move |reader| {
        let Some(after) = after.cursor(reader)? else { return Ok(None) };
        wanted.after = after;
        let page = reader.entities(&wanted)?;
        Rendered::page(reader, page, |view| view.cursor, E::shape).map(Some)
    });
    page.await?.ok_or_else(gone)
}
