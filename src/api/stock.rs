//! Stock of a product: movements and history.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;

use crate::store::Reply;

use super::entities::Rendered;
use super::extract::{JsonBody, Params, PathId};
use super::place::{After, gone};
use super::problem::Problem;
use super::shape::stock::{NewMovement, StockEntryShape, StockShape};
use super::{Api, entities};

pub(super) async fn movement(
    State(api): State<Api>,
    PathId(product): PathId,
    JsonBody(new): JsonBody<NewMovement>,
) -> Result<(StatusCode, Json<StockShape>), Problem> {
    match api.submit(new.check(product)?).await? {
        Reply::Stock { product, stock, created } => {
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            Ok((status, Json(StockShape { product_id: product, stock })))
        }
        _ => Err(Problem::unexpected_reply()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    after: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn history(
    State(api): State<Api>,
    PathId(product): PathId,
    Params(query): Params<Query>,
) -> Result<Rendered, Problem> {
    let after = After::parse(query.after.as_deref())?;
    let limit = entities::limit(query.limit)?;
    let page = api.read(move |reader| {
        let Some(after) = after.cursor(reader)? else { return Ok(None) };
        let page = reader.stock_history(product, after, limit)?;
        Rendered::page(reader, page, |entry| entry.cursor, StockEntryShape::from).map(Some)
    });
    page.await?.ok_or_else(gone)
}
