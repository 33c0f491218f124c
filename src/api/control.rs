//! What the agent is told to do with its links: `POST /v1/p2p/...`. And how any wish gets to the agent.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::model::id::TillId;

use super::doctor::Diagnosis;
use super::extract::{JsonBody, MaybeJson, Nothing};
use super::limits::ANSWER_TIME_MAX;
use super::problem::{Kind, Problem};
use super::{Api, Shared};

/// A wish to the agent. Dropping its answer's sender says that the agent is stopping.
#[derive(Debug)]
pub enum ApiCommand {
    /// Drop all links and dial again at once; answered with how many tills are dialled.
    Reconnect(oneshot::Sender<Result<usize, CommandError>>),
    /// Switch the links on or off, and remember it.
    SetEnabled(bool, oneshot::Sender<Result<(), CommandError>>),
    /// Exchange ops now, also where `autoSync` is off; answered with how many tills are asked.
    SyncNow(oneshot::Sender<Result<usize, CommandError>>),
    /// Admit a till that waits at the door.
    Admit(TillId, oneshot::Sender<Result<(), CommandError>>),
    /// Look at every row of the database for damage.
    Scrub(oneshot::Sender<Result<(), CommandError>>),
    /// Find out what is wrong with this till.
    Diagnose(oneshot::Sender<Result<Diagnosis, CommandError>>),
}

/// Why the agent did not do it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommandError {
    /// It makes no sense in the present state: links are off, say.
    #[error("{0}")]
    NotNow(String),
    /// What it speaks of is not there.
    #[error("no such {0} here")]
    NotFound(&'static str),
    /// It failed: the config cannot be written, say.
    #[error("{0}")]
    Failed(String),
}

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        let detail = error.to_string();
        match error {
            CommandError::NotNow(_) => Self::new(Kind::NotNow, detail),
            CommandError::NotFound(what) => Self::not_found(what),
            CommandError::Failed(_) => Self::new(Kind::Unavailable, detail).retry_after(5),
        }
    }
}

impl Shared {
    /// Tells the agent a wish, and waits for the answer.
    pub(super) async fn command<T>(
        &self,
        wish: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> ApiCommand,
    ) -> Result<T, Problem> {
        let (answer, answered) = oneshot::channel();
        let stopping = || Problem::new(Kind::Unavailable, "the agent is stopping").retry_after(5);
        let asked = async {
            self.context.commands.send(wish(answer)).await.map_err(|_| stopping())?;
            answered.await.map_err(|_| stopping())?.map_err(Problem::from)
        };
        let late = || Problem::new(Kind::Unavailable, "the agent does not answer").retry_after(5);
        timeout(ANSWER_TIME_MAX, asked).await.map_err(|_| late())?
    }
}

/// How many tills a wish concerns.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Asked"))]
pub(super) struct AskedShape {
    peers: usize,
}

pub(super) async fn reconnect(
    State(api): State<Api>,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<(StatusCode, Json<AskedShape>), Problem> {
    let peers = api.command(ApiCommand::Reconnect).await?;
    Ok((StatusCode::ACCEPTED, Json(AskedShape { peers })))
}

pub(super) async fn sync(
    State(api): State<Api>,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<(StatusCode, Json<AskedShape>), Problem> {
    let peers = api.command(ApiCommand::SyncNow).await?;
    Ok((StatusCode::ACCEPTED, Json(AskedShape { peers })))
}

pub(super) async fn scrub(
    State(api): State<Api>,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<StatusCode, Problem> {
    api.command(ApiCommand::Scrub).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Whether the till links with others.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Enabled"))]
pub(super) struct EnabledShape {
    enabled: bool,
}

pub(super) async fn enabled(
    State(api): State<Api>,
    JsonBody(wanted): JsonBody<EnabledShape>,
) -> Result<Json<EnabledShape>, Problem> {
    api.command(|answer| ApiCommand::SetEnabled(wanted.enabled, answer)).await?;
    Ok(Json(wanted))
}
