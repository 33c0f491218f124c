//! `GET /openapi.json`: the API, for programs (OpenAPI 3.1). The file is part of the source; the tests below hold it to the code: the
//! paths to the table of routes, the schemas to the types.

use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::packed;

/// Packed by `src/build.rs`.
static DOCUMENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/openapi.json"));

pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], packed::text(DOCUMENT)).into_response()
}

#[cfg(test)]
mod tests;
