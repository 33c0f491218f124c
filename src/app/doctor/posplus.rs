//! Why a POSPlus till is not connected. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::facts::{AgentFacts, Outcome, PosplusFacts, PosplusRefused, SystemFacts};
use super::judge::{HEARD_WITHIN_MS, finding};
use crate::api::Finding;

/// Where POSPlus listens: its own config cannot change it.
const PORT: u16 = 3030;

/// Where POSPlus tills should be that are not connected.
pub(in super::super) fn posplus_away(agent: &AgentFacts) -> Vec<SocketAddr> {
    if !agent.posplus_enabled {
        return Vec::new();
    }
    let away = agent.posplus.iter().filter(|till| !till.online && is_allowed(agent, till));
    away.filter_map(|till| till.address).map(|at| SocketAddr::new(at.ip(), PORT)).chain(unheard(agent)).collect()
}

/// Addresses that may connect, and from which nobody has, or announces itself.
fn unheard(agent: &AgentFacts) -> impl Iterator<Item = SocketAddr> {
    let known: BTreeSet<IpAddr> = agent.posplus.iter().filter_map(ip_of).collect();
    let refused: BTreeSet<IpAddr> = agent.posplus_refused.iter().map(|refused| refused.address).collect();
    let silent = agent.posplus_allow.iter().map(IpAddr::to_canonical);
    let silent = silent.filter(move |ip| !known.contains(ip) && !refused.contains(ip));
    silent.map(|ip| SocketAddr::new(ip, PORT))
}

/// What is wrong with POSPlus tills.
pub(super) fn posplus(agent: &AgentFacts, system: &SystemFacts) -> Vec<Finding> {
    if !agent.enabled {
        return Vec::new();
    }
    let away: Vec<&PosplusFacts> = agent.posplus.iter().filter(|till| !till.online).collect();
    let mut findings: Vec<Finding> = away.iter().map(|till| absent(agent, till, system)).collect();
    // Who is told of by name is not told of by address again.
    let told: BTreeSet<IpAddr> = away.iter().filter_map(|till| ip_of(till)).collect();
    let refused = agent
        .posplus_refused
        .iter()
        .filter(|refused| cause(refused) == "posplusOurId" || !told.contains(&refused.address));
    findings.extend(refused.map(|refused| {
        let detail = format!("{} was refused {} s ago", refused.address, refused.seconds_ago);
        finding(cause(refused), &refused.address.to_string(), &detail)
    }));
    if agent.posplus_enabled && agent.running_ms >= HEARD_WITHIN_MS {
        findings.extend(unheard(agent).map(|at| {
            let detail =
                format!("{at} is in posplus.allow: {}", answer(system, at).unwrap_or("nothing was heard from there"));
            finding("posplusNotConnected", &at.ip().to_string(), &detail)
        }));
    }
    findings
}

/// Why one that is known is not connected.
fn absent(agent: &AgentFacts, till: &PosplusFacts, system: &SystemFacts) -> Finding {
    let code = match () {
        () if !agent.posplus_enabled => "posplusOff",
        () if !is_allowed(agent, till) => "posplusNotAllowed",
        () => "posplusNotConnected",
    };
    let place = till.address.map(|at| format!(" at {}", at.ip())).unwrap_or_default();
    let answered = till.address.and_then(|at| answer(system, SocketAddr::new(at.ip(), PORT)));
    let why = match code {
        "posplusNotConnected" => answered.map(str::to_owned).into_iter().chain(till.detail.clone()).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
    finding(code, &till.name, &format!("{}{place}{why}", till.id))
}

fn ip_of(till: &PosplusFacts) -> Option<IpAddr> {
    till.address.map(|at| at.ip().to_canonical())
}

fn is_allowed(agent: &AgentFacts, till: &PosplusFacts) -> bool {
    ip_of(till).is_some_and(|ip| agent.posplus_allow.iter().any(|allowed| allowed.to_canonical() == ip))
}

fn cause(refused: &PosplusRefused) -> &'static str {
    match refused.cause.as_str() {
        "posplus-off" => "posplusOff",
        "posplus-address" => "posplusNotAllowed",
        _ => "posplusOurId",
    }
}

/// What dialling it just now came to.
fn answer(system: &SystemFacts, at: SocketAddr) -> Option<&'static str> {
    let probe = system.probes.iter().find(|probe| probe.address == at)?;
    Some(match probe.outcome {
        Outcome::Connected => "its port answers, and nobody has said who it is",
        Outcome::Refused => "the box is there, and POSPlus does not run on it: nothing listens on port 3030",
        Outcome::Prohibited => "a firewall closes its port 3030",
        Outcome::Silent if probe.neighbour == Some(true) => "the box is there, and its firewall closes port 3030",
        Outcome::Silent | Outcome::Unreachable => "nothing answers there: it is off, or not in this network",
    })
}
