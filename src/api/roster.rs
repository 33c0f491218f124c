//! The tills of the store: who belongs to it, who waits, who has left.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

use crate::model::id::TillId;
use crate::store::{Request, RosterEntry};

use super::Api;
use super::control::ApiCommand;
use super::extract::{MaybeJson, Nothing, PathTill};
use super::problem::{Kind, Problem};
use super::shape::Time;
use super::status::PendingTill;

/// The roster.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Roster"))]
pub(super) struct RosterShape {
    items: Vec<MemberShape>,
    next: Option<String>,
    /// Tills that wait to be admitted.
    pending: Vec<PendingTill>,
}

/// A till of the store.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Member"))]
pub(super) struct MemberShape {
    till: String,
    pos_id: Option<String>,
    pos_name: Option<String>,
    /// Whether it is this till.
    own: bool,
    /// Null, like its names, where nothing but its retirement has come here yet.
    admitted_at: Option<Time>,
    /// When it left for good.
    retired_at: Option<Time>,
}

impl MemberShape {
    fn new(entry: RosterEntry, own: TillId) -> Self {
        let admitted = entry.admitted;
        Self {
            till: entry.till.to_string(),
            own: entry.till == own,
            admitted_at: admitted.as_ref().map(|a| Time(a.at_ms)),
            retired_at: entry.retired_ms.map(Time),
            pos_name: admitted.as_ref().map(|a| a.pos_name.clone()),
            pos_id: admitted.map(|a| a.pos_id),
        }
    }
}

pub(super) async fn list(State(api): State<Api>) -> Result<Json<RosterShape>, Problem> {
    let members = api.read(|reader| reader.roster()).await?;
    let status = api.context.status.borrow().clone();
    let items = members.into_iter().map(|member| MemberShape::new(member, status.till));
    Ok(Json(RosterShape { items: items.collect(), next: None, pending: status.pending.clone() }))
}

pub(super) async fn admit(
    State(api): State<Api>,
    PathTill(till): PathTill,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<StatusCode, Problem> {
    api.command(|answer| ApiCommand::Admit(till, answer)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn retire(
    State(api): State<Api>,
    PathTill(till): PathTill,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<StatusCode, Problem> {
    if till == api.context.status.borrow().till {
        let detail = "a till is retired from another till: it would not hear that it was done";
        return Err(Problem::new(Kind::NotNow, detail));
    }
    api.submit(Request::Retire { till }).await?;
    Ok(StatusCode::NO_CONTENT)
}
