//! `tillmesh update`: sends an update to the running agent, and what root's units of the image do with it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::client::{Agent, Target};
use super::print;
use crate::app::update::{self, BoxPlaces, Health, Keys, Outcome, UpdateError, UpdateFile};
use crate::config::DataDir;
use crate::store::SCHEMA_VERSION;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long a card may take for two systems' worth of bytes.
const INSTALL_MAX: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The box is to be started again: root's units do so. Ends the command with exit code 10.
#[derive(Debug, thiserror::Error)]
#[error("the box is to be started again")]
pub struct RestartWanted;

/// What `tillmesh update` does beside sending a file.
#[derive(Debug)]
pub enum UpdateAction {
    /// Shows how updates stand.
    Status {
        /// Of which agent.
        target: Target,
        /// As JSON.
        json: bool,
    },
    /// Looks whether a file would be taken, without an agent.
    Check(PathBuf),
    /// Prints the number of the database's form.
    Database,
    /// Root's unit: installs what the agent of a folder has left there.
    Install(DataDir),
    /// Root's unit: waits for a new version, whose agent has this folder, to prove healthy.
    Confirm(DataDir),
}

/// Sends an update, and waits until it is on the card.
///
/// # Errors
/// Where the agent does not take it, or the card fails.
pub async fn send_update(target: &Target, file: &Path, restart: bool, older: bool) -> anyhow::Result<()> {
    let agent = Agent::find(target)?;
    let opened = std::fs::File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let answer = agent.send_file(&format!("/v1/update?restart={restart}&older={older}"), opened).await?;
    let before = answer["last"]["at"].clone();
    let end = Instant::now() + INSTALL_MAX;
    loop {
        let state = match agent.get_json("/v1/update").await {
            // A restart that was asked for has begun.
            Err(error) if restart && error.is_absence() => {
                print("installed; the box starts again, and tries it\n")?;
                return Ok(());
            }
            state => state?,
        };
        let last = &state["last"];
        if state["installing"] == json!(false) && last["at"] != before {
            let text = |name: &str| last[name].as_str().unwrap_or_default().to_owned();
            anyhow::ensure!(last["stage"] != json!("failed"), "not installed: {}", text("detail"));
            let when =
                if restart { "the box starts again, and tries it" } else { "the next start of the box tries it" };
            print(&format!("{} is installed; {when}\n", text("version")))?;
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < end, "nothing installs it: is tillmesh-update.path active on the box?");
        sleep(LOOK_EVERY).await;
    }
}

/// Everything else that is about updates.
///
/// # Errors
/// What went wrong; [`RestartWanted`] is none.
pub async fn update(action: UpdateAction) -> anyhow::Result<()> {
    let places = BoxPlaces::of_environment();
    match action {
        UpdateAction::Status { target, json } => {
            let state = Agent::find(&target)?.get_json("/v1/update").await?;
            print(&if json { format!("{state:#}\n") } else { told(&state) })?;
        }
        UpdateAction::Check(file) => {
            let mut update = UpdateFile::open(&file, &Keys::of_file(&places.keys)?)?;
            update.verify()?;
            let manifest = update.manifest();
            print(&format!(
                "version {}, of {}, {} bytes: signed and whole\n",
                manifest.version,
                manifest.commit,
                manifest.bytes()
            ))?;
        }
        UpdateAction::Database => print(&format!("{SCHEMA_VERSION}\n"))?,
        UpdateAction::Install(folder) => {
            // No agent that answers is no mesh to come back to.
            let meshed = linked(&folder).await.unwrap_or(false);
            let installed =
                tokio::task::spawn_blocking(move || update::install(&places, folder.path(), VERSION, meshed));
            return end(installed.await?);
        }
        UpdateAction::Confirm(folder) => {
            let confirmed = update::confirm(&places, VERSION, async |meshed| health(&folder, meshed).await);
            return end(confirmed.await);
        }
    }
    Ok(())
}

fn end(outcome: Result<Outcome, UpdateError>) -> anyhow::Result<()> {
    match outcome? {
        Outcome::Done => Ok(()),
        Outcome::RestartWanted => Err(RestartWanted.into()),
    }
}

/// Whether another till is linked.
async fn linked(folder: &DataDir) -> anyhow::Result<bool> {
    let status = Agent::of(folder)?.get_json("/v1/status").await?;
    Ok(is_linked(&status))
}

fn is_linked(status: &Value) -> bool {
    status["peers"].as_array().into_iter().flatten().any(|peer| peer["online"] == json!(true))
}

/// Healthy is an agent that has opened its database, whose disk answers, and that is linked where it was before. Where no other till has been
/// met at all (they are switched off), the links say nothing about the new version.
async fn health(folder: &DataDir, meshed: bool) -> Health {
    match ask(folder, meshed).await {
        Ok(health) => health,
        Err(error) => Health::NotYet(error.to_string()),
    }
}

async fn ask(folder: &DataDir, meshed: bool) -> anyhow::Result<Health> {
    let agent = Agent::of(folder)?;
    agent.get_json("/healthz").await?;
    let status = agent.get_json("/v1/status").await?;
    Ok(judge(&status, meshed))
}

fn judge(status: &Value, meshed: bool) -> Health {
    if status["version"] != json!(VERSION) {
        return Health::NotYet(format!("version {} runs, not {VERSION}", status["version"]));
    }
    let refused = status["traffic"]["refused"].as_object().is_some_and(|refused| !refused.is_empty());
    let dialled = status["traffic"]["dials"].as_u64() > status["traffic"]["dialsFailed"].as_u64();
    let accepted = status["traffic"]["accepted"].as_u64() > Some(0);
    match meshed && !is_linked(status) {
        false => Health::Well,
        true if refused || dialled || accepted => {
            Health::NotYet("other tills are there, and none is linked".to_owned())
        }
        true => Health::WellAlone,
    }
}

fn told(state: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let slot = state["slot"].as_str().map_or(String::new(), |slot| format!(", slot {slot}"));
    let mut lines = format!("version {}{slot}\n", text(&state["version"]));
    if state["possible"] != json!(true) {
        lines.push_str("this till takes no updates: it is no box of the image, or its image has no update key\n");
    }
    if state["installing"] == json!(true) {
        lines.push_str("an update is being installed\n");
    }
    let last = &state["last"];
    if last.is_object() {
        let version = last["version"].as_str().unwrap_or("an update");
        let detail = last["detail"].as_str().map_or(String::new(), |detail| format!(": {detail}"));
        let stage = match last["stage"].as_str() {
            Some("installed") => "is installed, and tried at the next start",
            Some("trial") => "is on trial",
            Some("confirmed") => "has proved healthy",
            Some("fellBack") => "was tried and did not stay",
            _ => "was not installed",
        };
        lines.push_str(&format!("{version} {stage} ({}){detail}\n", text(&last["at"])));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Peer, PeerState, Traffic};

    /// By the types that the API answers with.
    fn status(online: bool, accepted: u64) -> Value {
        let peer = Peer {
            id: "POS-2".into(),
            name: "Caisse 2".into(),
            till: None,
            address: None,
            version: None,
            online,
            state: if online { PeerState::Syncing } else { PeerState::Connecting },
            detail: None,
            since_ms: None,
            last_seen_ms: None,
            rtt_ms: None,
            behind: 0,
            ahead: 0,
            bytes_sent: 0,
            bytes_received: 0,
        };
        let traffic = Traffic { dials: 3, dials_failed: 3, accepted, ..Traffic::default() };
        json!({"version": VERSION, "peers": [peer], "traffic": traffic})
    }

    #[test]
    fn links_count_where_there_were_any() {
        assert_eq!(judge(&status(true, 1), true), Health::Well);
        assert_eq!(judge(&status(false, 0), false), Health::Well);
        assert_eq!(judge(&status(false, 1), false), Health::Well);
        assert_eq!(judge(&status(false, 0), true), Health::WellAlone, "the others may be switched off");
        assert!(matches!(judge(&status(false, 1), true), Health::NotYet(_)));
        let mut dialled = status(false, 0);
        dialled["traffic"]["dialsFailed"] = json!(2);
        assert!(matches!(judge(&dialled, true), Health::NotYet(_)));
        let mut other = status(true, 1);
        other["version"] = json!("0.0.1");
        assert!(matches!(judge(&other, false), Health::NotYet(_)));
    }

    #[test]
    fn how_things_stand_is_told_in_words() {
        let state = json!({"version": "0.2.0", "slot": "b", "possible": true, "installing": false,
            "last": {"stage": "fellBack", "version": "0.3.0", "from": "0.2.0", "detail": "it did not start", "at": "2026-11-23T10:00:00.000Z"}});
        assert_eq!(
            told(&state),
            "version 0.2.0, slot b\n0.3.0 was tried and did not stay (2026-11-23T10:00:00.000Z): it did not start\n"
        );
        let state = json!({"version": "0.2.0", "slot": null, "possible": false, "installing": false, "last": null});
        assert!(told(&state).contains("takes no updates"));
    }
}
