//! Facts in, findings out. Pure.
//!
//! What the agent itself has noticed, its alerts, is taken over, made precise by what the system tells. What only a comparison shows (a
//! firewall, another subnet, a network that filters multicast) is found here. A symptom is left out where its cause was found.

use std::net::{IpAddr, SocketAddr};

use super::facts::{AgentFacts, Facts, Firewall, Outcome, PeerFacts, Probe, SystemFacts};
use super::{posplus, texts};
use crate::api::Finding;

/// mDNS has had time to hear the others.
pub(super) const HEARD_WITHIN_MS: u64 = 15_000;
/// With less than this a sale cannot be stored for sure.
const DISK_BYTES_MIN: u64 = 8 << 20;

/// Alerts that only say that tills are not linked.
const SYMPTOMS: [&str; 2] = ["disconnected", "peerUnreachable"];

/// What is wrong, the most pressing first.
pub(in super::super) fn judge(facts: &Facts) -> Vec<Finding> {
    let system = &facts.system;
    let mut findings = Vec::new();
    match &facts.agent {
        Some(agent) => {
            let links = links(agent, system);
            let explained = !links.is_empty();
            findings.extend(links);
            findings.extend(alerts(agent, system, explained));
            findings.extend(posplus::posplus(agent, system));
        }
        None => {
            findings.push(finding("noAgent", "", facts.absence.as_deref().unwrap_or_default()));
            findings.extend(ports_of_others(system));
            if !system.clock_sane {
                findings.push(finding("clockUntrusted", "", "the system's clock is before this version's release"));
            }
        }
    }
    if let Firewall::Closed(chain) = &system.firewall {
        findings.push(finding("firewallClosed", "", &format!("port {} is closed by {chain}", system.mesh_port)));
    }
    if let Some(free) = system.disk_bytes_free.filter(|free| *free < DISK_BYTES_MIN) {
        findings.push(finding("diskFull", "", &format!("{} kB are free", free / 1024)));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

pub(super) fn finding(code: &str, subject: &str, detail: &str) -> Finding {
    let (severity, messages) = texts::of(code);
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    Finding {
        code: code.to_owned(),
        severity,
        subject: some(subject),
        message: messages.en.clone(),
        messages,
        detail: some(detail),
    }
}

/// What the agent has noticed. `explained`: why tills are not linked is known already.
fn alerts(agent: &AgentFacts, system: &SystemFacts, explained: bool) -> Vec<Finding> {
    let shown = agent.alerts.iter().filter(|alert| !(explained && SYMPTOMS.contains(&alert.code.as_str())));
    let told = shown.map(|alert| {
        let detail = match alert.code.as_str() {
            "portInUse" => holder(system, system.mesh_port).unwrap_or_else(|| alert.detail.clone()),
            _ => alert.detail.clone(),
        };
        finding(&alert.code, &alert.subject, &detail)
    });
    told.collect()
}

/// Ports that an agent would need and another program has.
fn ports_of_others(system: &SystemFacts) -> Vec<Finding> {
    let ports = [("portInUse", system.mesh_port), ("apiPortInUse", system.api_port)];
    let held = ports.into_iter().filter_map(|(code, port)| Some((code, holder(system, port)?)));
    held.map(|(code, detail)| finding(code, "", &detail)).collect()
}

fn holder(system: &SystemFacts, port: u16) -> Option<String> {
    let holder =
        system.holders.iter().filter(|holder| holder.port == port).max_by_key(|holder| holder.pid.is_some())?;
    Some(match (&holder.program, holder.pid) {
        (Some(program), Some(pid)) => format!("port {port} is held by {program} (process {pid})"),
        _ => format!("port {port} is held by a program that this user may not see: ask as root"),
    })
}

/// Why tills are not linked, or not found.
fn links(agent: &AgentFacts, system: &SystemFacts) -> Vec<Finding> {
    if !agent.enabled {
        return vec![finding("p2pOff", "", "")];
    }
    let away = agent.peers.iter().filter(|peer| !peer.linked);
    let mut findings: Vec<Finding> = away.filter_map(|peer| unlinked(peer, system)).collect();
    findings.extend(filtered(agent, system));
    findings
}

/// Why a till is not linked; none where the way there is free: then an alert says why it is refused, or the link is about to be made.
fn unlinked(peer: &PeerFacts, system: &SystemFacts) -> Option<Finding> {
    let probes: Vec<&Probe> = system.probes.iter().filter(|probe| peer.addresses.contains(&probe.address)).collect();
    if probes.is_empty() || probes.iter().any(|probe| probe.outcome == Outcome::Connected) {
        return None;
    }
    let near = |probe: &&&Probe| is_near(system, probe.address);
    // The address in one network with us tells most.
    let probe = probes.iter().find(near).or(probes.first())?;
    let (at, near) = (probe.address, is_near(system, probe.address));
    let code = match probe.outcome {
        Outcome::Connected => return None,
        Outcome::Refused => "peerNotListening",
        Outcome::Prohibited => "peerFirewall",
        Outcome::Silent | Outcome::Unreachable if !near => "otherSubnet",
        // It is heard, or answers on the cable, and lets nobody in.
        Outcome::Silent if peer.heard || probe.neighbour == Some(true) => "peerFirewall",
        Outcome::Silent | Outcome::Unreachable => "peerAway",
    };
    let detail = match code {
        "otherSubnet" => format!("{at} is in none of this till's networks: {}", networks(system)),
        "peerFirewall" => format!("the box at {} is there, and its port {} does not answer", at.ip(), at.port()),
        "peerNotListening" => format!("the box at {} says that nothing listens on port {}", at.ip(), at.port()),
        _ => format!("nothing answers at {at}"),
    };
    Some(finding(code, &peer.name, &detail))
}

/// Tills in one network with this one are linked, and mDNS has heard none of all.
fn filtered(agent: &AgentFacts, system: &SystemFacts) -> Option<Finding> {
    let due = agent.discovery_enabled && agent.running_ms >= HEARD_WITHIN_MS;
    if !due || agent.peers.iter().any(|peer| peer.heard) {
        return None;
    }
    let near = |peer: &&PeerFacts| peer.linked && peer.addresses.iter().any(|address| is_near(system, *address));
    let linked: Vec<&str> = agent.peers.iter().filter(near).map(|peer| peer.name.as_str()).collect();
    let names = linked.join(", ");
    (!linked.is_empty()).then(|| finding("multicastFiltered", "", &format!("linked and never heard by mDNS: {names}")))
}

fn is_near(system: &SystemFacts, address: SocketAddr) -> bool {
    let link_local = matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    link_local
        || address.ip().to_canonical().is_loopback()
        || system.networks.iter().any(|network| network.contains(address.ip()))
}

fn networks(system: &SystemFacts) -> String {
    let v4 = system.networks.iter().filter(|network| network.address.is_ipv4());
    let shown: Vec<String> = v4.map(|n| format!("{}/{} on {}", n.address, n.prefix, n.interface)).collect();
    if shown.is_empty() { "none".to_owned() } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::facts::{AlertFact, Holder, Network, PosplusFacts, PosplusRefused};
    use super::*;

    fn system() -> SystemFacts {
        SystemFacts {
            mesh_port: 3030,
            api_port: 3031,
            networks: vec![Network { interface: "eth0".into(), address: "192.168.1.0".parse().unwrap(), prefix: 24 }],
            clock_sane: true,
            ..SystemFacts::default()
        }
    }

    fn peer(address: &str) -> PeerFacts {
        PeerFacts { name: "Caisse 2".into(), addresses: vec![address.parse().unwrap()], ..PeerFacts::default() }
    }

    fn agent(peers: Vec<PeerFacts>) -> AgentFacts {
        AgentFacts { running_ms: 60_000, enabled: true, discovery_enabled: true, peers, ..AgentFacts::default() }
    }

    fn codes(agent: AgentFacts, system: SystemFacts) -> Vec<String> {
        let facts = Facts { agent: Some(agent), absence: None, system };
        judge(&facts).into_iter().map(|finding| finding.code).collect()
    }

    fn dialled(address: &str, outcome: Outcome, neighbour: Option<bool>) -> SystemFacts {
        let probes = vec![Probe { address: address.parse().unwrap(), outcome, neighbour }];
        SystemFacts { probes, ..system() }
    }

    #[test]
    fn a_till_that_is_well_has_no_findings() {
        let other = PeerFacts { linked: true, heard: true, ..peer("192.168.1.22:3030") };
        assert_eq!(codes(agent(vec![other]), system()), [""; 0]);
        assert_eq!(codes(agent(Vec::new()), system()), [""; 0]);
    }

    #[test]
    fn why_a_till_is_not_linked_is_told_apart() {
        let at = "192.168.1.22:3030";
        for (outcome, neighbour, heard, code) in [
            (Outcome::Silent, Some(true), false, "peerFirewall"),
            (Outcome::Silent, None, true, "peerFirewall"),
            (Outcome::Prohibited, Some(true), false, "peerFirewall"),
            (Outcome::Silent, Some(false), false, "peerAway"),
            (Outcome::Unreachable, Some(false), false, "peerAway"),
            (Outcome::Refused, Some(true), true, "peerNotListening"),
        ] {
            let mut agent = agent(vec![PeerFacts { heard, ..peer(at) }]);
            agent.alerts = vec![AlertFact { code: "disconnected".into(), ..AlertFact::default() }];
            assert_eq!(codes(agent, dialled(at, outcome, neighbour)), [code], "{outcome:?} {neighbour:?} {heard}");
        }
        assert_eq!(codes(agent(vec![peer(at)]), dialled(at, Outcome::Connected, Some(true))), [""; 0]);
        let far = "192.168.2.22:3030";
        for outcome in [Outcome::Silent, Outcome::Unreachable] {
            assert_eq!(codes(agent(vec![peer(far)]), dialled(far, outcome, None)), ["otherSubnet"]);
        }
    }

    #[test]
    fn a_symptom_without_a_cause_is_told_and_p2p_that_is_off_is_one() {
        let mut alone = agent(Vec::new());
        alone.alerts = vec![AlertFact { code: "disconnected".into(), ..AlertFact::default() }];
        assert_eq!(codes(alone.clone(), system()), ["disconnected"]);
        alone.enabled = false;
        assert_eq!(codes(alone, system()), ["p2pOff"]);
    }

    #[test]
    fn multicast_is_filtered_where_linked_tills_are_never_heard() {
        let linked = |heard| PeerFacts { linked: true, heard, ..peer("192.168.1.22:3030") };
        assert_eq!(codes(agent(vec![linked(false)]), system()), ["multicastFiltered"]);
        assert_eq!(codes(agent(vec![linked(false), linked(true)]), system()), [""; 0]);
        let far = PeerFacts { linked: true, ..peer("10.0.0.1:3030") };
        assert_eq!(codes(agent(vec![far]), system()), [""; 0], "mDNS goes no further than the network");
        let early = AgentFacts { running_ms: 1_000, ..agent(vec![linked(false)]) };
        assert_eq!(codes(early, system()), [""; 0]);
    }

    #[test]
    fn who_holds_the_port_is_named() {
        let mut agent = agent(Vec::new());
        agent.alerts = vec![AlertFact { code: "portInUse".into(), detail: "in use".into(), ..AlertFact::default() }];
        let holders = vec![Holder { port: 3030, pid: Some(42), program: Some("nginx".into()) }];
        let facts = Facts { agent: Some(agent), system: SystemFacts { holders, ..system() }, absence: None };
        assert_eq!(judge(&facts)[0].detail.as_deref(), Some("port 3030 is held by nginx (process 42)"));
        let hidden = vec![Holder { port: 3031, ..Holder::default() }];
        let facts = Facts { agent: None, absence: None, system: SystemFacts { holders: hidden, ..system() } };
        let found: Vec<String> = judge(&facts).into_iter().map(|finding| finding.code).collect();
        assert_eq!(found, ["noAgent", "apiPortInUse"]);
    }

    #[test]
    fn why_a_posplus_till_is_not_connected_is_told_apart() {
        let at = |ip: &str| format!("{ip}:3030").parse::<SocketAddr>().unwrap();
        let till = |ip: &str| PosplusFacts {
            id: "POS-P1".into(),
            name: "Caisse".into(),
            address: Some(at(ip)),
            ..PosplusFacts::default()
        };
        let refused = |ip: &str, cause: &str| PosplusRefused {
            address: ip.parse().unwrap(),
            cause: cause.into(),
            seconds_ago: 9,
        };
        let mut off = agent(Vec::new());
        assert_eq!(codes(off.clone(), system()), [""; 0]);
        off.posplus = vec![till("192.168.1.30")];
        off.posplus_refused = vec![refused("192.168.1.30", "posplus-off"), refused("192.168.1.31", "posplus-off")];
        assert_eq!(codes(off.clone(), system()), ["posplusOff"; 2], "one by its name, one by its address");

        let mut on = AgentFacts { posplus_enabled: true, posplus_allow: vec!["192.168.1.30".parse().unwrap()], ..off };
        on.posplus_refused =
            vec![refused("192.168.1.31", "posplus-address"), refused("192.168.1.30", "posplus-our-id")];
        assert_eq!(codes(on.clone(), system()), ["posplusNotConnected", "posplusNotAllowed", "posplusOurId"]);
        on.posplus_refused.clear();
        on.posplus[0].online = true;
        assert_eq!(codes(on.clone(), system()), [""; 0]);

        // One that is dialled says why; one of which nothing is heard, after a while.
        on.posplus[0].online = false;
        let silent = dialled("192.168.1.30:3030", Outcome::Refused, None);
        let why = |agent: &AgentFacts| {
            judge(&Facts { agent: Some(agent.clone()), absence: None, system: silent.clone() })[0]
                .detail
                .clone()
                .unwrap()
        };
        assert_eq!(posplus::posplus_away(&on), [at("192.168.1.30")]);
        assert!(why(&on).contains("POSPlus does not run on it"), "{}", why(&on));
        on.posplus.clear();
        assert!(why(&on).starts_with("192.168.1.30:3030 is in posplus.allow: the box is there"), "{}", why(&on));
        on.running_ms = 1_000;
        assert_eq!(codes(on.clone(), system()), [""; 0]);
        on.posplus = vec![till("192.168.1.40")];
        assert_eq!(codes(on, system()), ["posplusNotAllowed"]);
    }

    #[test]
    fn disk_clock_and_own_firewall() {
        let ill = SystemFacts {
            disk_bytes_free: Some(4096),
            clock_sane: false,
            firewall: Firewall::Closed("inet filter input".into()),
            ..system()
        };
        let facts = Facts { agent: None, absence: Some("nobody listens".into()), system: ill };
        let findings = judge(&facts);
        let found: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!(found, ["noAgent", "firewallClosed", "diskFull", "clockUntrusted"]);
        assert!(findings.iter().all(|f| f.messages.fr.len() > 20 && f.messages.ar.len() > 20), "each says what to do");
    }

    #[test]
    fn networks_contain_their_own() {
        let network =
            |address: &str, prefix| Network { interface: "e".into(), address: address.parse().unwrap(), prefix };
        assert!(network("192.168.1.0", 24).contains("192.168.1.255".parse().unwrap()));
        assert!(network("192.168.1.0", 24).contains("::ffff:192.168.1.4".parse().unwrap()));
        assert!(!network("192.168.1.0", 24).contains("192.168.2.1".parse().unwrap()));
        assert!(network("fd00::", 64).contains("fd00::7".parse().unwrap()));
        assert!(!network("fd00::", 64).contains("192.168.1.1".parse().unwrap()));
        assert!(!network("0.0.0.0", 0).contains("8.8.8.8".parse().unwrap()), "a default route is no network");
    }
}
