//! `tillmesh doctor`: what is wrong with a till, and what to do. With an agent or without.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::client::{Agent, AgentError, Target};
use super::status::clean;
use crate::api::{Diagnosis, Severity};
use crate::app::doctor::{self, Facts, Place};
use crate::config::{ConfigManager, DataDir, MESH_PORT};

/// The port of the local API where no config says otherwise.
const API_PORT: u16 = 3031;
/// How long the agent may take: it needs some seconds itself. One that takes longer is the finding.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(12);

/// What `doctor` found, as an error: so that a script sees it by the exit code. It has been printed already.
#[derive(Debug, thiserror::Error)]
pub enum Ill {
    /// The agent runs, and something is to be done.
    #[error("{0} to see to")]
    Findings(String),
    /// No agent answers.
    #[error("no agent answers")]
    NoAgent,
}

/// Prints what is wrong.
///
/// # Errors
/// [`Ill`] where something is; as for any command where the agent refuses, or another box's does not answer.
pub async fn doctor(target: &Target, json: bool) -> anyhow::Result<()> {
    let diagnosis = examine(target).await?;
    let no_agent = diagnosis.findings.iter().any(|finding| finding.code == "noAgent");
    let text = if json { serde_json::to_string_pretty(&diagnosis)? + "\n" } else { table(&diagnosis) };
    super::print(&text)?;
    let serious = diagnosis.findings.iter().filter(|finding| finding.severity > Severity::Info).count();
    match (no_agent, serious) {
        (true, _) => Err(Ill::NoAgent.into()),
        (false, 0) => Ok(()),
        (false, 1) => Err(Ill::Findings("1 thing".to_owned()).into()),
        (false, count) => Err(Ill::Findings(format!("{count} things")).into()),
    }
}

/// What the agent found; beside one on this machine, also what only this user sees. Without an agent, what can be seen from outside.
pub(super) async fn examine(target: &Target) -> anyhow::Result<Diagnosis> {
    let asked = match Agent::find(target) {
        Ok(agent) => match timeout(ANSWER_TIME_MAX, agent.get_json("/v1/doctor")).await {
            Ok(answer) => answer.map_err(anyhow::Error::from),
            Err(_) => Err(AgentError::TimedOut(agent.address()).into()),
        },
        Err(error) => Err(error),
    };
    let mut facts = match (asked, target) {
        (Ok(answer), _) => facts_of(&answer)?,
        (Err(error), Target::Folder(folder)) if absent(&error) => {
            let facts = alone(folder, &error)?;
            return Ok(doctor::diagnose(&facts));
        }
        (Err(error), _) => return Err(error),
    };
    if matches!(target, Target::Folder(_)) {
        doctor::look_at_privileged(&mut facts.system);
    }
    Ok(doctor::diagnose(&facts))
}

fn absent(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(AgentError::is_absence)
}

fn facts_of(answer: &Value) -> anyhow::Result<Facts> {
    Ok(serde_json::from_value(answer["facts"].clone())?)
}

/// What can be seen of a till whose agent does not answer.
fn alone(folder: &DataDir, error: &anyhow::Error) -> anyhow::Result<Facts> {
    let config = ConfigManager::peek(folder)?;
    let (mesh_port, api_port) =
        config.map_or((MESH_PORT, API_PORT), |config| (config.p2p.port, config.api.listen.port()));
    let place = Place { mesh_port, api_port, folder: folder.path().to_owned(), dial: Vec::new() };
    Ok(Facts { agent: None, absence: Some(format!("{error:#}")), system: doctor::gather(&place) })
}

fn table(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for finding in &diagnosis.findings {
        let severity = match finding.severity {
            Severity::Info => "INFO",
            Severity::Warning => "WARNING",
            Severity::Critical => "CRITICAL",
        };
        let subject = finding.subject.as_deref().map(|subject| format!(" [{subject}]")).unwrap_or_default();
        let detail = finding.detail.as_deref().map(|detail| format!("\n  Seen: {detail}")).unwrap_or_default();
        let head = clean(&format!("{severity} {}{subject}", finding.code));
        // A string takes all that is written to it.
        let _ = writeln!(
            text,
            "{head}\n  {}{}",
            clean(&finding.message),
            detail.lines().map(clean).collect::<Vec<_>>().join("\n")
        );
    }
    if text.is_empty() { "Nothing is wrong.\n".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Finding, Words};

    #[test]
    fn findings_are_told_with_what_to_do() {
        let words = Words { en: "Set it right.".into(), fr: String::new(), ar: String::new() };
        let finding = Finding {
            code: "portInUse".into(),
            severity: Severity::Critical,
            subject: None,
            message: words.en.clone(),
            messages: words,
            detail: Some("held by ngi\u{1b}nx".into()),
        };
        let shown = table(&Diagnosis { findings: vec![finding], facts: Value::Null });
        assert_eq!(shown, "CRITICAL portInUse\n  Set it right.\n  Seen: held by ngi nx\n");
        assert_eq!(table(&Diagnosis { findings: Vec::new(), facts: Value::Null }), "Nothing is wrong.\n");
    }
}
