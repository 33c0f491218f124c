//! Sales, refunds, cancellations.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::store::{Reply, Request, TicketQuery, TicketView};

use super::entities::Rendered;
use super::extract::{JsonBody, MaybeJson, Params, PathId};
use super::place::{After, gone};
use super::problem::Problem;
use super::shape::Time;
use super::shape::ticket::{NewCancel, NewRefund, NewTicket, TicketShape};
use super::{Api, entities};

pub(super) async fn create(State(api): State<Api>, JsonBody(new): JsonBody<NewTicket>) -> Result<Response, Problem> {
    match api.submit(new.check()?).await? {
        Reply::Ticket { view, created } => {
            if created {
                api.counters.sold();
            }
            Ok(stored(*view, created))
        }
        _ => Err(Problem::unexpected_reply()),
    }
}

pub(super) async fn refund(
    State(api): State<Api>,
    PathId(ticket): PathId,
    JsonBody(new): JsonBody<NewRefund>,
) -> Result<Response, Problem> {
    take_back(&api, new.check(ticket)?).await
}

pub(super) async fn cancel(
    State(api): State<Api>,
    PathId(ticket): PathId,
    MaybeJson(new): MaybeJson<NewCancel>,
) -> Result<Response, Problem> {
    take_back(&api, new.check(ticket)?).await
}

async fn take_back(api: &Api, request: Request) -> Result<Response, Problem> {
    match api.submit(request).await? {
        Reply::Refund { view, created, .. } => Ok(stored(*view, created)),
        _ => Err(Problem::unexpected_reply()),
    }
}

fn stored(view: TicketView, created: bool) -> Response {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let path = format!("/v1/tickets/{}", view.ticket.id);
    let mut response = (status, Json(TicketShape::from(view))).into_response();
    if let Ok(location) = HeaderValue::from_str(&path) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

pub(super) async fn one(State(api): State<Api>, PathId(id): PathId) -> Result<Json<TicketShape>, Problem> {
    let view = api.read(move |reader| reader.ticket(id)).await?;
    view.map(|view| Json(view.into())).ok_or_else(|| Problem::not_found("ticket"))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Query {
    after: Option<String>,
    limit: Option<usize>,
    from: Option<String>,
    to: Option<String>,
    pos_id: Option<String>,
}

pub(super) async fn list(State(api): State<Api>, Params(query): Params<Query>) -> Result<Rendered, Problem> {
    let after = After::parse(query.after.as_deref())?;
    let time = |name: &str, text: Option<String>| -> Result<Option<u64>, Problem> {
        let time: Option<Result<Time, _>> = text.map(|t| t.parse());
        time.transpose().map(|t| t.map(|Time(ms)| ms)).map_err(|message| Problem::parameter(name, message))
    };
    let mut wanted = TicketQuery {
        after: None,
        limit: entities::limit(query.limit)?,
        from_ms: time("from", query.from)?,
        to_ms: time("to", query.to)?,
        pos_id: query.pos_id,
    };
    let page = api.read(move |reader| {
        let Some(after) = after.cursor(reader)? else { return Ok(None) };
        wanted.after = after;
        let page = reader.tickets(&wanted)?;
        Rendered::page(reader, page, |view| view.cursor, TicketShape::from).map(Some)
    });
    page.await?.ok_or_else(gone)
}
