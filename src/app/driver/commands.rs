//! What the API asks of the agent, and the roster.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{Answer, Driver, Waiting};
use crate::api::{ApiCommand, CommandError};
use crate::model::id::{TillId, hex};
use crate::store::{Request, RosterEntry};
use crate::sync::Input;
use crate::wire::frame::Bye;

impl Driver {
    pub(super) fn on_command(&mut self, command: ApiCommand) {
        match command {
            ApiCommand::Reconnect(answer) => {
                let _ = answer.send(self.reconnect());
            }
            ApiCommand::SyncNow(answer) => {
                let _ = answer.send(self.sync_now());
            }
            ApiCommand::SetEnabled(enabled, answer) => self.set_enabled(enabled, answer),
            ApiCommand::Admit(till, answer) => self.admit(till, answer),
            ApiCommand::Diagnose(answer) => self.examine(answer),
            ApiCommand::Scrub(answer) => {
                self.scrub_now();
                let _ = answer.send(Ok(()));
            }
        }
        self.changed = true;
    }

    fn needs_p2p(&self) -> Result<(), CommandError> {
        let off = || CommandError::NotNow("P2P is turned off: turn it on first".to_owned());
        self.enabled.then_some(()).ok_or_else(off)
    }

    fn reconnect(&mut self) -> Result<usize, CommandError> {
        self.needs_p2p()?;
        info!("P2P: reconnecting on demand");
        for link in self.links.values() {
            link.handle.close(Bye::Replaced);
        }
        self.mesh.dial_now();
        Ok(self.members.len())
    }

    fn sync_now(&mut self) -> Result<usize, CommandError> {
        self.needs_p2p()?;
        self.feed(Input::SyncNow);
        Ok(self.links.len())
    }

    /// Writes the config first: what is not remembered is not done.
    fn set_enabled(&self, enabled: bool, answer: oneshot::Sender<Result<(), CommandError>>) {
        let (config, answers) = (self.config.clone(), self.answers.clone());
        tokio::task::spawn_blocking(move || {
            let mut config = config.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let outcome = config.set_p2p_enabled(enabled).map_err(|e| CommandError::Failed(e.to_string()));
            if outcome.is_ok() {
                let _ = answers.send(Answer::Enabled { enabled, identity: config.identity_json() });
            }
            let _ = answer.send(outcome);
        });
    }

    pub(super) fn on_enabled(&mut self, enabled: bool) {
        info!("P2P: turned {}", if enabled { "on" } else { "off" });
        self.enabled = enabled;
        self.mesh.set_enabled(enabled);
        self.discovery.set_enabled(enabled && self.discovery_enabled);
        if !enabled {
            self.listening = None;
        }
    }

    fn admit(&mut self, till: TillId, answer: oneshot::Sender<Result<(), CommandError>>) {
        let Some(Waiting { pos_id, pos_name, public_key, .. }) = self.pending.get(&till).cloned() else {
            let _ = answer.send(Err(CommandError::NotFound("waiting till")));
            return;
        };
        let (store, mesh) = (self.store.clone(), self.mesh.clone());
        self.pending.remove(&till);
        self.admitted.insert(till);
        tokio::spawn(async move {
            let outcome = store.submit(Request::Admit { till, public_key, pos_id, pos_name }).await;
            mesh.dial_now();
            let _ = answer.send(outcome.map(|_| ()).map_err(|e| CommandError::Failed(e.to_string())));
        });
    }

    /// Each till enters the roster by its own word: who holds the store key belongs to the store.
    pub(super) fn admit_ourselves(&self, own: Request) {
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.submit(own).await {
                warn!("this till could not enter the roster yet: {error}");
            }
        });
    }

    pub(super) fn read_roster(&self) {
        let (store, answers) = (self.store.clone(), self.answers.clone());
        tokio::spawn(async move {
            match store.read(|reader| reader.roster()).await {
                Ok(roster) => {
                    let _ = answers.send(Answer::Roster(roster));
                }
                Err(error) => warn!("the roster cannot be read: {error}"),
            }
        });
    }

    pub(super) fn on_roster(&mut self, roster: Vec<RosterEntry>) {
        let others = roster.into_iter().filter(|entry| entry.till != self.till);
        let (retired, admitted): (Vec<_>, Vec<_>) = others.partition(|entry| entry.retired_ms.is_some());
        let retired: HashSet<TillId> = retired.into_iter().map(|entry| entry.till).collect();
        for till in &retired {
            self.members.remove(till);
            self.pending.remove(till);
            self.candidates.forget(till);
        }
        self.shop.keep(|till| !retired.contains(&till));
        self.mesh.set_denied(retired);
        let known = admitted.iter().filter_map(|entry| entry.admitted.as_ref());
        self.mesh.set_till_ids(known.map(|admitted| admitted.pos_id.clone()).collect());
        self.admitted = admitted.iter().map(|entry| entry.till).collect();
        for entry in admitted {
            self.pending.remove(&entry.till);
            let member = self.members.entry(entry.till).or_default();
            if let Some(admitted) = entry.admitted {
                member.pos_id = admitted.pos_id;
                member.pos_name = admitted.pos_name;
            }
        }
        self.retarget();
    }

    /// The short code that both tills show, so that an operator admits the right one: the same whoever computes it.
    pub(super) fn pairing_code(&self, other: TillId) -> String {
        let (a, b) = (self.till.min(other), self.till.max(other));
        let digest = Sha256::new().chain_update(a.0).chain_update(b.0).finalize();
        hex(&digest[..3])
    }
}
