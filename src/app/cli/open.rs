//! `tillmesh open`: the address of the status page.

use super::client::{Agent, Target};

/// Prints the address of the agent's status page, with the token in its fragment.
///
/// # Errors
/// Where no agent answers, or this user may not read the token.
pub async fn open(target: &Target) -> anyhow::Result<()> {
    let agent = Agent::find(target)?;
    let page = agent.page()?;
    agent.get_json("/v1/status").await?;
    super::print(&format!("{page}\n"))?;
    Ok(())
}
