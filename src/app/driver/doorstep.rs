//! POSPlus tills that are not let in, for the doctor: a POSPlus till that was refused says so nowhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::super::doctor::{PosplusFacts, PosplusRefused};
use crate::discovery::{DiscoveryEvent, Kin};
use crate::mesh::Refused;

/// Services, and addresses, that are remembered.
const ENTRIES_MAX: usize = 32;
/// What was refused longer ago than this, in milliseconds, is not told any more: who still is there announces itself.
const REFUSED_MS: u64 = 3_600_000;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Doorstep {
    /// By the key of the service: its posId, and its addresses.
    found: BTreeMap<String, (String, Vec<SocketAddr>)>,
    /// By address: when it was last refused, and why.
    refused: BTreeMap<IpAddr, (u64, Refused)>,
}

impl Doorstep {
    pub(super) fn on_discovery(&mut self, event: &DiscoveryEvent) {
        match event {
            DiscoveryEvent::Found(found)
                if found.kin == Kin::Posplus
                    && (self.found.len() < ENTRIES_MAX || self.found.contains_key(&found.key)) =>
            {
                let id = found.pos_id.clone().unwrap_or_else(|| found.key.clone());
                self.found.insert(found.key.clone(), (id, found.addresses.clone()));
            }
            DiscoveryEvent::Lost { key } => drop(self.found.remove(key)),
            _ => {}
        }
    }

    /// A connection was refused at `now`.
    pub(super) fn refused(&mut self, now: u64, address: IpAddr, why: &Refused) {
        if !matches!(
            why,
            Refused::PosplusOff | Refused::PosplusAddress | Refused::PosplusOurId | Refused::PosplusTillId(_)
        ) {
            return;
        }
        self.refused.insert(address.to_canonical(), (now, why.clone()));
        if self.refused.len() > ENTRIES_MAX {
            let oldest = self.refused.iter().min_by_key(|(_, (at, _))| *at).map(|(address, _)| *address);
            oldest.map(|address| self.refused.remove(&address));
        }
    }

    /// One of them came in.
    pub(super) fn linked(&mut self, address: IpAddr) {
        self.refused.remove(&address.to_canonical());
    }

    /// Those that announce themselves, none of them connected: for where POSPlus is not let in at all.
    pub(super) fn found(&self) -> Vec<PosplusFacts> {
        let all = self.found.values().map(|(id, addresses)| PosplusFacts {
            id: id.clone(),
            name: id.clone(),
            address: addresses.first().copied(),
            online: false,
            detail: None,
        });
        all.collect()
    }

    /// Who was refused in the last hour.
    pub(super) fn refusals(&self, now: u64) -> Vec<PosplusRefused> {
        let age = |at: u64| now.saturating_sub(at);
        let late = self.refused.iter().filter(|(_, (at, _))| age(*at) < REFUSED_MS);
        late.map(|(address, (at, why))| PosplusRefused {
            address: *address,
            cause: why.label().to_owned(),
            seconds_ago: age(*at) / 1_000,
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_bounded_age_and_end_with_a_link() {
        let mut doorstep = Doorstep::default();
        for n in 0..100u8 {
            doorstep.refused(u64::from(n) * 1_000, [10, 0, 0, n].into(), &Refused::PosplusOff);
        }
        doorstep.refused(200_000, [10, 0, 0, 1].into(), &Refused::Deadline);
        let left = doorstep.refusals(100_000);
        assert_eq!((left.len(), left[0].address), (ENTRIES_MAX, [10, 0, 0, 68].into()), "the oldest go first");
        assert_eq!((left[0].cause.as_str(), left[0].seconds_ago), ("posplus-off", 32));
        doorstep.linked("::ffff:10.0.0.68".parse().unwrap());
        assert_eq!(doorstep.refusals(100_000).len(), ENTRIES_MAX - 1);
        assert_eq!(doorstep.refusals(99_000 + REFUSED_MS), []);
    }
}
