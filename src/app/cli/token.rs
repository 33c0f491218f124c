//! `tillmesh token rotate`: a new token in the place of one that too many know.

use hyper::Method;
use serde_json::json;

use super::client::{Agent, AgentError, Target};
use crate::config::TokenScope;

/// Has the running agent make a new token, and prints it. Only the agent does so: the file is its own, and so are those who may read it.
/// While none runs, deleting the file does as much: the next start makes a new one.
///
/// # Errors
/// Where no agent answers, or this user may not read its token.
pub async fn rotate_token(target: &Target, scope: TokenScope) -> anyhow::Result<()> {
    let agent = Agent::find(target)?;
    let answer = agent.send_json(Method::POST, &format!("/v1/tokens/{}/rotate", scope.name()), &json!({})).await?;
    let token = answer["token"].as_str().ok_or(AgentError::NotAnAgent(agent.address()))?;
    super::print(&format!("{token}\n"))?;
    Ok(())
}
