//! Hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", 2014): 48 bits of milliseconds, 16 bits of counter. It dates
//! things and breaks ties; causality is the registers' own.

use serde::{Deserialize, Serialize};

/// A remote time further ahead than this of a trusted clock does not advance ours, in milliseconds.
pub const AHEAD_MS_MAX: u64 = 5 * 60 * 1000;

/// The largest time that a [`Hlc`] holds, in milliseconds since 1970 (the year 10889).
pub const TIME_MS_MAX: u64 = (1 << 48) - 1;

/// A hybrid logical time. Ordered as its number is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first instant of a millisecond since 1970; later than [`TIME_MS_MAX`] is taken as that.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        Self(ms.min(TIME_MS_MAX) << 16)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }
}

/// Whether a till's system clock was set by something that knows the time (NTP, a battery clock) since it started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockQuality {
    /// Synchronised.
    Trusted,
    /// Not known to be right: times are at least in order.
    Untrusted,
}

/// What came of folding a remote time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Observed {
    /// Ours is now at least the remote one.
    Folded,
    /// The remote time is over [`AHEAD_MS_MAX`] ahead of our trusted clock: ours stays, and that till should be flagged.
    TooFarAhead,
}

/// Issues times that only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HybridClock {
    last: Hlc,
}

impl HybridClock {
    /// A clock that issues times after `high_water`, the greatest time that the database remembers.
    #[must_use]
    pub fn new(high_water: Hlc) -> Self {
        Self { last: high_water }
    }

    /// The greatest time issued or folded.
    #[must_use]
    pub fn high_water(&self) -> Hlc {
        self.last
    }

    /// A time greater than every one before: the physical one, or one counter step where that has not moved on.
    pub fn tick(&mut self, now_ms: u64) -> Hlc {
        self.last = Hlc::from_ms(now_ms).max(Hlc(self.last.0.saturating_add(1)));
        self.last
    }

    /// Folds the time of an operation made elsewhere.
    pub fn observe(&mut self, remote: Hlc, now_ms: u64, quality: ClockQuality) -> Observed {
        if quality == ClockQuality::Trusted && remote.ms() > now_ms.saturating_add(AHEAD_MS_MAX) {
            return Observed::TooFarAhead;
        }
        self.last = self.last.max(remote);
        Observed::Folded
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_poisoned_time_does_not_advance_a_trusted_clock() {
        let mut clock = HybridClock::new(Hlc::from_ms(1_000));
        let poison = Hlc::from_ms(1_000 + AHEAD_MS_MAX + 1);
        assert_eq!(clock.observe(poison, 1_000, ClockQuality::Trusted), Observed::TooFarAhead);
        assert_eq!(clock.high_water(), Hlc::from_ms(1_000));
        assert_eq!(clock.observe(poison, 1_000, ClockQuality::Untrusted), Observed::Folded);
        assert!(clock.tick(1_000) > poison);
    }

    #[test]
    fn the_counter_carries_into_the_milliseconds() {
        let mut clock = HybridClock::new(Hlc((5 << 16) | 0xffff));
        assert_eq!(clock.tick(5), Hlc::from_ms(6));
    }

    proptest! {
        #[test]
        fn it_only_grows(start in any::<u64>(), steps in prop::collection::vec((any::<u64>(), prop::option::of(any::<u64>()), any::<bool>()), 1..50)) {
            let mut clock = HybridClock::new(Hlc(start >> 1));
            for (now, remote, trusted) in steps {
                let before = clock.high_water();
                match remote {
                    Some(time) => {
                        let quality = if trusted { ClockQuality::Trusted } else { ClockQuality::Untrusted };
                        clock.observe(Hlc(time >> 1), now, quality);
                        prop_assert!(clock.high_water() >= before);
                    }
                    None => prop_assert!(clock.tick(now >> 17) > before),
                }
            }
        }
    }
}
