//! Alerts that were: `GET /v1/alerts/history`.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Api;
use super::entities::ListShape;
use super::status::{Severity, as_time, maybe_time};

/// An alert that was raised, and may have been cleared since. Times are milliseconds since 1970.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PastAlert {
    /// Names the kind, as in `/v1/alerts`.
    pub code: String,
    /// How pressing it was.
    pub severity: Severity,
    /// Which till or file, where there can be several.
    pub subject: Option<String>,
    /// The cause in its own words, as it was last.
    pub detail: Option<String>,
    /// When its cause began.
    #[serde(rename = "since", serialize_with = "as_time")]
    #[cfg_attr(test, schemars(with = "super::shape::Time"))]
    pub since_ms: u64,
    /// When it was raised: some causes must last for a while.
    #[serde(rename = "raisedAt", serialize_with = "as_time")]
    #[cfg_attr(test, schemars(with = "super::shape::Time"))]
    pub raised_ms: u64,
    /// When it was over, or the agent stopped; null while it stands.
    #[serde(rename = "clearedAt", serialize_with = "maybe_time")]
    #[cfg_attr(test, schemars(with = "Option<super::shape::Time>"))]
    pub cleared_ms: Option<u64>,
}

/// The newest first.
pub(super) async fn history(State(api): State<Api>) -> Json<ListShape<PastAlert>> {
    let status = api.context.status.borrow().clone();
    Json(ListShape::whole(status.history.iter().rev().cloned().collect()))
}
