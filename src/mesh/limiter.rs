//! Two bounded limiters: how often an address may begin a handshake, and how often a thing is logged.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// The most addresses that are told apart. Those beyond share one entry, so that a flood from many addresses costs no
/// memory and limits itself.
const ADDRESSES_MAX: usize = 1024;

/// The most (reason, address) pairs whose log lines are told apart.
const LOG_KEYS_MAX: usize = 256;

/// The least time between two log lines of the same kind.
const LOG_PERIOD: Duration = Duration::from_secs(60);

/// A token bucket for each address.
#[derive(Debug)]
pub(super) struct RateLimiter {
    burst: f64,
    per_second: f64,
    buckets: HashMap<Option<IpAddr>, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl RateLimiter {
    pub(super) fn new(burst: u32, per_second: u32) -> Self {
        Self { burst: f64::from(burst), per_second: f64::from(per_second), buckets: HashMap::new() }
    }

    /// Takes a token of the address; false where it has none left.
    pub(super) fn take(&mut self, address: IpAddr, now: Instant) -> bool {
        let (burst, per_second) = (self.burst, self.per_second);
        let filled = move |bucket: &Bucket| {
            burst.min(bucket.tokens + per_second * now.saturating_duration_since(bucket.filled).as_secs_f64())
        };
        if self.buckets.len() >= ADDRESSES_MAX {
            self.buckets.retain(|_, bucket| filled(bucket) < burst);
        }
        let key = self.key(address);
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: burst, filled: now });
        *bucket = Bucket { tokens: filled(bucket), filled: now };
        let granted = bucket.tokens >= 1.0;
        if granted {
            bucket.tokens -= 1.0;
        }
        granted
    }

    /// Gives a token back: the handshake ended well, so the address is a till and no flood.
    pub(super) fn give_back(&mut self, address: IpAddr) {
        let key = self.key(address);
        if let Some(bucket) = self.buckets.get_mut(&key) {
            bucket.tokens = self.burst.min(bucket.tokens + 1.0);
        }
    }

    fn key(&self, address: IpAddr) -> Option<IpAddr> {
        let told_apart = self.buckets.contains_key(&Some(address)) || self.buckets.len() < ADDRESSES_MAX;
        told_apart.then_some(address)
    }
}

/// Lets one log line of each kind through a minute, and counts the rest.
#[derive(Debug)]
pub(super) struct LogLimiter<K> {
    seen: HashMap<Option<K>, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    since: Instant,
    times: u64,
}

impl<K: Eq + Hash> LogLimiter<K> {
    pub(super) fn new() -> Self {
        Self { seen: HashMap::new() }
    }

    /// Counts an event. Where it is time for a line, says how many events that line stands for.
    pub(super) fn count(&mut self, key: K, now: Instant) -> Option<u64> {
        if self.seen.len() >= LOG_KEYS_MAX {
            self.seen.retain(|_, seen| now.saturating_duration_since(seen.since) < LOG_PERIOD);
        }
        let key = Some(key);
        let key = if self.seen.contains_key(&key) || self.seen.len() < LOG_KEYS_MAX { key } else { None };
        match self.seen.get_mut(&key) {
            Some(seen) if now.saturating_duration_since(seen.since) < LOG_PERIOD => {
                seen.times += 1;
                None
            }
            Some(seen) => {
                let times = seen.times + 1;
                *seen = Seen { since: now, times: 0 };
                Some(times)
            }
            None => {
                self.seen.insert(key, Seen { since: now, times: 0 });
                Some(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn address(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(n))
    }

    #[test]
    fn a_bucket_empties_and_fills() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(3, 2);
        assert_eq!([(); 5].map(|()| limiter.take(address(1), start)), [true, true, true, false, false]);
        assert!(limiter.take(address(2), start), "another address has its own bucket");
        limiter.give_back(address(1));
        assert!(limiter.take(address(1), start));
        let later = start + Duration::from_secs(1);
        assert_eq!([(); 3].map(|()| limiter.take(address(1), later)), [true, true, false]);
    }

    #[test]
    fn the_table_of_addresses_is_bounded() {
        let start = Instant::now();
        let mut limiter = RateLimiter::new(1, 1);
        let granted = (0..10_000).filter(|n| limiter.take(address(*n), start)).count();
        assert_eq!(limiter.buckets.len(), ADDRESSES_MAX + 1);
        assert_eq!(granted, ADDRESSES_MAX + 1);
        assert!(limiter.take(address(20_000), start + Duration::from_secs(9)));
        assert!(limiter.buckets.len() < 3, "full buckets are forgotten");
    }

    #[test]
    fn one_line_a_minute_stands_for_all() {
        let start = Instant::now();
        let mut limiter = LogLimiter::new();
        assert_eq!(limiter.count("a", start), Some(1));
        assert_eq!(limiter.count("b", start), Some(1));
        for second in 1..60 {
            assert_eq!(limiter.count("a", start + Duration::from_secs(second)), None);
        }
        assert_eq!(limiter.count("a", start + Duration::from_secs(60)), Some(60));
    }

    #[test]
    fn the_table_of_log_lines_is_bounded() {
        let start = Instant::now();
        let mut limiter = LogLimiter::new();
        let lines = (0..10_000).filter(|n| limiter.count(*n, start).is_some()).count();
        assert_eq!(lines, LOG_KEYS_MAX + 1);
        assert_eq!(limiter.seen.len(), LOG_KEYS_MAX + 1);
        assert_eq!(limiter.count(20_000, start + LOG_PERIOD), Some(1));
        assert_eq!(limiter.seen.len(), 1);
    }
}
