//! What is wrong with a till, and what to do: `tillmesh doctor` and `GET /v1/doctor`.
//!
//! ```text
//! gather   asks the system: sockets, routes, firewall, disk; dials tills that are not linked
//! facts    what is known, as plain data
//! judge    facts in, findings out      pure
//! posplus  the same for POSPlus tills      pure
//! nft      what a firewall's rules mean for a port      pure
//! texts    what each finding says
//! ```
//!
//! The agent gives its own facts and what it may see of the system. The command line adds what only its user may see: root sees which
//! program holds a port and what the firewall lets in.

mod facts;
mod gather;
mod judge;
mod nft;
mod posplus;
mod texts;

pub(super) use facts::{AgentFacts, AlertFact, Facts, PeerFacts, PosplusFacts, PosplusRefused};
pub(super) use gather::{Place, gather, look_at_privileged};
pub(super) use judge::judge;
pub(super) use posplus::posplus_away;

use crate::api::Diagnosis;

/// Judges, and shows what by.
pub(super) fn diagnose(facts: &Facts) -> Diagnosis {
    let shown = serde_json::to_value(facts).expect("plain data serialises");
    Diagnosis { findings: judge(facts), facts: shown }
}
