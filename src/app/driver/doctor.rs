//! What the agent knows, for the doctor.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::PoisonError;

use tokio::sync::oneshot;

use super::super::doctor::{self, AgentFacts, AlertFact, Facts, PeerFacts, Place, PosplusFacts};
use super::Driver;
use crate::api::{CommandError, Diagnosis};
use crate::discovery::TargetKey;

impl Driver {
    /// Looks, beside everything else: it dials tills that are not linked.
    pub(super) fn examine(&self, answer: oneshot::Sender<Result<Diagnosis, CommandError>>) {
        let agent = self.facts();
        let config = self.config.clone();
        tokio::task::spawn_blocking(move || {
            let place = {
                let config = config.lock().unwrap_or_else(PoisonError::into_inner);
                let away = agent.peers.iter().filter(|peer| !peer.linked);
                let away = away.flat_map(|peer| peer.addresses.iter().copied()).chain(doctor::posplus_away(&agent));
                Place {
                    mesh_port: config.config().p2p.port,
                    api_port: config.config().api.listen.port(),
                    folder: config.path().parent().map(ToOwned::to_owned).unwrap_or_default(),
                    dial: away.collect(),
                }
            };
            let facts = Facts { agent: Some(agent), absence: None, system: doctor::gather(&place) };
            // Who asked may have gone.
            let _ = answer.send(Ok(doctor::diagnose(&facts)));
        });
    }

    fn facts(&self) -> AgentFacts {
        let now = self.uptime.ms();
        let alerts = self.alerts.raised(now).into_iter();
        let told = alerts.map(|alert| AlertFact {
            code: alert.code.name().to_owned(),
            subject: alert.subject,
            detail: alert.detail,
        });
        let door = self.config.lock().unwrap_or_else(PoisonError::into_inner).config().posplus.clone();
        AgentFacts {
            running_ms: now,
            enabled: self.enabled,
            discovery_enabled: self.discovery_enabled,
            listening: self.listening,
            alerts: told.collect(),
            peers: self.peers_known(),
            posplus_enabled: self.posplus.is_some(),
            posplus_allow: door.allow,
            posplus: self.posplus_known(),
            posplus_refused: self.doorstep.refusals(now),
        }
    }

    /// POSPlus tills: those that are let in, or all that announce themselves, where none is.
    fn posplus_known(&self) -> Vec<PosplusFacts> {
        let Some(posplus) = &self.posplus else { return self.doorstep.found() };
        let facts = posplus.peers().into_iter().map(|peer| PosplusFacts {
            address: peer.address.parse().ok(),
            id: peer.id,
            name: peer.name,
            online: peer.online,
            detail: peer.detail,
        });
        facts.collect()
    }

    /// Tills that are linked, and all addresses where one should be.
    fn peers_known(&self) -> Vec<PeerFacts> {
        let address = |text: &str| text.parse::<SocketAddr>().ok();
        let linked_at: HashSet<SocketAddr> = self.links.values().filter_map(|link| address(&link.address)).collect();
        let targets = self.candidates.targets().into_iter();
        let mut known: Vec<PeerFacts> = targets
            .map(|target| match target.key {
                TargetKey::Till(till) => PeerFacts {
                    name: self.name_of(till),
                    till: Some(till.to_string()),
                    linked: self.links.values().any(|link| link.till == till),
                    heard: self.found.contains_key(&till),
                    addresses: target.addresses,
                },
                TargetKey::Address(at) => PeerFacts {
                    name: at.to_string(),
                    till: None,
                    linked: target.addresses.iter().any(|address| linked_at.contains(address)),
                    heard: false,
                    addresses: target.addresses,
                },
            })
            .collect();
        for link in self.links.values() {
            let till = Some(link.till.to_string());
            if !known.iter().any(|peer| peer.till == till) {
                known.push(PeerFacts {
                    name: self.name_of(link.till),
                    till,
                    linked: true,
                    heard: self.found.contains_key(&link.till),
                    addresses: address(&link.address).into_iter().collect(),
                });
            }
        }
        known
    }
}
