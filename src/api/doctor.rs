//! `GET /v1/doctor`: what is wrong with this till, and what to do. The agent looks; this only asks it.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::Api;
use super::control::ApiCommand;
use super::problem::Problem;
use super::status::{Severity, Words};

/// What the agent found when it looked at itself.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Diagnosis {
    /// What is wrong, the most pressing first; nothing where all is well.
    pub findings: Vec<Finding>,
    /// What they were judged by, for the vendor. Its shape changes with the version.
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, serde_json::Value>"))]
    pub facts: serde_json::Value,
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    /// Names the kind; for programs. Where an alert says the same, it has that one's code.
    pub code: String,
    /// How pressing it is.
    pub severity: Severity,
    /// Which till, address or program, where there can be several.
    pub subject: Option<String>,
    /// What it is and what to do, in English.
    pub message: String,
    /// The same in each language.
    pub messages: Words,
    /// What it was seen by.
    pub detail: Option<String>,
}

/// Takes up to some seconds: tills that are not linked are dialled.
pub(super) async fn doctor(State(api): State<Api>) -> Result<Json<Diagnosis>, Problem> {
    Ok(Json(api.command(ApiCommand::Diagnose).await?))
}
