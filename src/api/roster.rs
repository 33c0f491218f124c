//! The tills of the store: who belongs to it, who waits, who has left.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;

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
    admitted_at: Option<Time>,
    /// When it left for good.
    retired_at: Option<Time>,
}
