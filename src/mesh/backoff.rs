//! How long to wait before dialling again.

use std::time::Duration;

/// Exponential backoff with full jitter: the wait is uniform between zero and a ceiling that doubles from `first` to `max`. Many
/// tills that lost the same switch thus do not come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    tries: u32,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration) -> Self {
        Self { first, max: max.max(first), tries: 0 }
    }

    /// The next wait. `random` is uniform over all of `u64`.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let ceiling = self.first.saturating_mul(2u32.saturating_pow(self.tries)).min(self.max);
        self.tries = self.tries.saturating_add(1);
        between(Duration::ZERO, ceiling, random)
    }

    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

/// A time between two, chosen by `random`, which is uniform over all of `u64`.
pub(super) fn between(least: Duration, most: Duration, random: u64) -> Duration {
    // The top 32 bits are as uniform as all, and exact in f64.
    least + most.saturating_sub(least).mul_f64((random >> 32) as f64 / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
        let waits = [(); 6].map(|()| backoff.next(u64::MAX).as_millis());
        assert_eq!(waits, [500, 1000, 2000, 4000, 5000, 5000]);
        for _ in 0..100 {
            assert!(backoff.next(u64::MAX) <= Duration::from_secs(5));
        }
        backoff.reset();
        assert_eq!(backoff.next(u64::MAX), Duration::from_millis(500));
    }

    #[test]
    fn the_jitter_is_full() {
        let second = Duration::from_secs(1);
        assert_eq!(between(Duration::ZERO, second, 0), Duration::ZERO);
        assert_eq!(between(second, 3 * second, u64::MAX), 3 * second);
        let middle = between(second, 3 * second, 1 << 63).as_millis();
        assert!((1999..=2001).contains(&middle), "{middle}");
    }

    #[test]
    fn a_maximum_below_the_first_wait_is_raised_to_it() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_millis(1));
        assert_eq!(backoff.next(u64::MAX), Duration::from_millis(500));
    }
}
