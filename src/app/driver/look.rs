//! Looking at the whole: alerts, the LED's state, and the status that the API tells.

use std::sync::Arc;

use super::super::alerts::{self, Code};
use super::super::clock;
use super::super::posplus::Posplus;
use super::{Driver, Link};
use crate::api::{Alert, Peer, PeerState, PendingTill, PosplusPeer, Snapshot, Traffic, Words};
use crate::board::led::{Facts, LedState};
use crate::model::clock::ClockQuality;
use crate::model::id::TillId;
use crate::sync::PeerView;

/// Products that an alert names.
const DIFFERING_NAMED: usize = 5;
/// Status is published at most this often, in milliseconds.
const PUBLISH_EVERY_MS: u64 = 200;

impl Driver {
    /// Takes stock of what has changed, and publishes it.
    pub(super) fn look(&mut self, now: u64) {
        let late = [self.alerts.next(self.looked_ms), self.led.next()].into_iter().flatten().any(|at| at <= now);
        if !(self.changed || late) || self.next_publish().is_some_and(|at| at > now) {
            return;
        }
        self.changed = false;
        self.looked_ms = now;
        self.published_ms = Some(now);
        let wall = clock::now();
        let untrusted = (wall.quality == ClockQuality::Untrusted).then(String::new);
        self.alerts.set(now, wall.wall_ms, Code::ClockUntrusted, "", untrusted);
        let views: Vec<PeerView> = self.replica.peers().collect();
        let online = |till: TillId| views.iter().any(|v| v.till == till && v.ready);
        let tills: Vec<TillId> = self.members.keys().copied().collect();
        let alone = self.enabled && !tills.is_empty() && !tills.iter().any(|till| online(*till));
        self.alerts.set(now, wall.wall_ms, Code::Disconnected, "", alone.then(String::new));
        for till in &tills {
            let away = (self.enabled && !online(*till)).then(|| self.name_of(*till));
            self.alerts.set(now, wall.wall_ms, Code::PeerUnreachable, &till.to_string(), away);
        }
        self.alerts.keep(Code::PeerUnreachable, |subject| tills.iter().any(|till| till.to_string() == subject));
        // POSPlus tills count as it counts them: the indicator is green with one of them alone.
        let (mut others, mut linked) = (tills.len(), tills.iter().filter(|till| online(**till)).count());
        if let Some(posplus) = &self.posplus {
            let peers = posplus.peers();
            others += peers.len();
            linked += peers.iter().filter(|peer| peer.online).count();
            for peer in &peers {
                let cause = format!("{} \"{}\" at {}", peer.id, peer.name, peer.address);
                self.alerts.set(now, wall.wall_ms, Code::UnauthenticatedPeer, &peer.id, peer.online.then_some(cause));
                self.alerts.set(now, wall.wall_ms, Code::PosplusStock, &peer.id, differing(peer));
            }
            posplus.linked(tills.iter().copied().filter(|till| online(*till)).collect());
        }
        let is_fault = |code| matches!(code, Code::StoreFault | Code::PortInUse | Code::DiskReadOnly | Code::BoxSetup);
        let raised = self.alerts.raised(now);
        self.history.note(now, wall.wall_ms, &raised);
        let fault = raised.iter().any(|a| is_fault(a.code));
        let behind = views.iter().map(|v| v.behind).max().unwrap_or(0);
        // A snapshot counts as lacking something, even where its rows are not known to be many.
        let behind = behind.max(u64::from(self.snapshot.is_some()));
        let facts = Facts { started: true, fault, enabled: self.enabled, others, linked, behind };
        let shown = self.led.tell(now, LedState::of(facts));
        self.show.send_if_modified(|led| std::mem::replace(led, shown) != shown);
        self.publish(now, wall.quality, &views);
        self.stored.note_change();
    }

    /// When the next status may go out, where something has changed.
    pub(super) fn next_publish(&self) -> Option<u64> {
        let last = self.published_ms.filter(|_| self.changed)?;
        Some(last + PUBLISH_EVERY_MS)
    }

    fn publish(&self, now: u64, clock: ClockQuality, views: &[PeerView]) {
        let mut status = self.base.clone();
        status.clock = clock;
        status.enabled = self.enabled;
        status.server_running = self.listening.is_some();
        status.listening = self.listening.map(|port| port.to_string());
        status.discovery_running = self.enabled && self.discovery_enabled;
        status.led = self.led.shown().name().to_owned();
        status.held_elsewhere = Some((self.replica.origin(), self.replica.held_elsewhere()));
        status.snapshot = self.snapshot.map(|progress| Snapshot {
            from: self.name_of(progress.from),
            rows: progress.rows,
            of: progress.of,
        });
        status.peers = self.members.keys().map(|till| self.peer(now, *till, views)).collect();
        status.posplus = self.posplus.iter().flat_map(Posplus::peers).collect();
        status.pending = self
            .pending
            .iter()
            .map(|(till, waiting)| PendingTill {
                till: *till,
                pos_id: waiting.pos_id.clone(),
                pos_name: waiting.pos_name.clone(),
                address: waiting.address.clone(),
                code: self.pairing_code(*till),
            })
            .collect();
        status.alerts = self.alerts.raised(now).iter().map(tell).collect();
        status.traffic = self.traffic();
        status.shop = self.shop.views(self.members.keys().copied());
        let told = status.shop.iter_mut().filter_map(|view| view.summary.as_mut()).flat_map(|told| &mut told.alerts);
        told.for_each(|alert| alert.messages = Code::named(&alert.code).map(words));
        status.history = self.history.told();
        self.status.send_replace(Arc::new(status));
    }

    fn traffic(&self) -> Traffic {
        let mesh = self.mesh.stats();
        Traffic {
            accepted: mesh.accepted,
            dials: mesh.dials,
            dials_failed: mesh.dials_failed,
            refused: mesh.refused.iter().map(|(why, times)| ((*why).to_owned(), *times)).collect(),
            bytes_sent: mesh.bytes_sent,
            bytes_received: mesh.bytes_received,
            ..self.traffic.clone()
        }
    }

    fn peer(&self, now: u64, till: TillId, views: &[PeerView]) -> Peer {
        let member = self.members.get(&till).cloned().unwrap_or_default();
        let view = views.iter().filter(|v| v.till == till).max_by_key(|v| v.ready);
        let link: Option<&Link> = view.and_then(|v| self.links.get(&v.link));
        let state = match view {
            None if self.enabled => PeerState::Connecting,
            None => PeerState::Offline,
            Some(v) if !v.ready => PeerState::Handshaking,
            Some(v) if v.behind + v.ahead > 0 => PeerState::Syncing,
            Some(_) => PeerState::Connected,
        };
        let heard = view.map(|v| clock::now().wall_ms.saturating_sub(now.saturating_sub(v.last_heard)));
        Peer {
            id: member.pos_id,
            name: member.pos_name,
            till: Some(till),
            address: member.address,
            version: link.map(|l| l.hello.version.clone()),
            online: view.is_some_and(|v| v.ready),
            state,
            detail: None,
            since_ms: link.map(|l| l.since_ms),
            last_seen_ms: heard.or(member.last_seen_ms),
            rtt_ms: view.and_then(|v| v.round_trip_ms).map(|ms| ms as f64),
            behind: view.map_or(0, |v| v.behind),
            ahead: view.map_or(0, |v| v.ahead),
            bytes_sent: link.map_or(0, |l| l.handle.traffic().0),
            bytes_received: link.map_or(0, |l| l.handle.traffic().1),
        }
    }
}

/// The products of which a POSPlus till had other quantities.
fn differing(peer: &PosplusPeer) -> Option<String> {
    let told = peer.stock_differs.iter().take(DIFFERING_NAMED);
    let told: Vec<String> =
        told.map(|p| format!("{} {}: {} there, {} here", p.sku, p.name, p.theirs, p.ours)).collect();
    let more = peer.stock_differs.len().saturating_sub(DIFFERING_NAMED);
    let rest = if more > 0 { format!("; {more} more") } else { String::new() };
    (!told.is_empty()).then(|| told.join("; ") + &rest)
}

fn tell(alert: &alerts::Alert) -> Alert {
    let texts = alert.code.texts();
    let some = |text: &String| Some(text.clone()).filter(|t| !t.is_empty());
    Alert {
        code: alert.code.name().to_owned(),
        severity: alerts::tell_severity(alert.code.severity()),
        since_ms: alert.since_ms,
        subject: some(&alert.subject),
        message: texts.en.to_owned(),
        messages: words(alert.code),
        detail: some(&alert.detail),
    }
}

fn words(code: Code) -> Words {
    let texts = code.texts();
    Words { en: texts.en.to_owned(), fr: texts.fr.to_owned(), ar: texts.ar.to_owned() }
}
