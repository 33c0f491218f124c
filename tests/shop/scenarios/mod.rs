//! The scenarios.

mod boxes;
mod cards;
mod data;
mod faults;
mod network;
mod posplus;
mod processors;
mod rig;
mod snapshots;
mod strangers;
mod versions;

use crate::Scenario;

/// The long ones first, so that two at a time end together.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = Vec::new();
    all.extend(processors::scenarios());
    all.extend(snapshots::scenarios());
    all.extend(boxes::scenarios());
    all.extend(faults::scenarios());
    all.extend(cards::scenarios());
    all.extend(versions::scenarios());
    all.extend(posplus::scenarios());
    all.extend(network::scenarios());
    all.extend(data::scenarios());
    all.extend(strangers::scenarios());
    all.extend(rig::scenarios());
    all
}
