//! `POST /v1/tokens/{scope}/rotate`: a new token in the place of one that too many know.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::config::{DataDir, FolderError};

use super::Api;
use super::extract::{MaybeJson, Nothing, PathScope};
use super::problem::{Kind, Problem};

/// A token that has just been made.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "NewToken"))]
pub(super) struct NewTokenShape {
    /// `read` or `admin`.
    scope: &'static str,
    /// What goes into `Authorization: Bearer`. It is in its file, too.
    token: String,
}

/// The former token opens nothing from the answer on. Streams that it opened go on.
pub(super) async fn rotate(
    State(api): State<Api>,
    PathScope(scope): PathScope,
    MaybeJson(Nothing {}): MaybeJson<Nothing>,
) -> Result<Json<NewTokenShape>, Problem> {
    let (folder, tokens) = (api.context.data_dir.clone(), api.context.tokens.clone());
    let rotated = tokio::task::spawn_blocking(move || {
        let folder = DataDir::resolve(Some(&folder), |_| None)?;
        let token = folder.rotate_api_token(scope)?;
        tokens.replace(scope, token.as_str());
        Ok::<_, FolderError>(token)
    });
    let failed = |detail: String| Problem::new(Kind::Unavailable, detail).retry_after(5);
    let token = rotated.await.map_err(|e| failed(e.to_string()))?.map_err(|e| failed(e.to_string()))?;
    tracing::info!("API: the {} token has been replaced", scope.name());
    Ok(Json(NewTokenShape { scope: scope.name(), token: token.as_str().to_owned() }))
}
