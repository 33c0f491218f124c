//! How often a client may ask. Who brings the token that may do everything, as the till application does, asks as often as it likes: a sale
//! is never turned away for this. All others have a share of requests by address, so that a scraper in a tight loop, or who guesses
//! tokens, takes no more of the processor than that. Time is an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
use super::guard::Ends;
use super::limits::{RATED_ADDRESSES_MAX, REQUESTS_AT_ONCE_MAX, REQUESTS_PER_SECOND_MAX};
use super::problem::{Kind, Problem};
use crate::config::TokenScope;

/// What each address may still ask.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<HashMap<Option<IpAddr>, Share>>);

#[derive(Clone, Copy, Debug)]
struct Share {
    requests: f64,
    at: Instant,
}

impl Share {
    fn grown(self, now: Instant) -> Self {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * REQUESTS_PER_SECOND_MAX;
        Self { requests: (self.requests + grown).min(REQUESTS_AT_ONCE_MAX), at: now }
    }
}

impl Rates {
    /// Takes one request from an address's share; false where nothing is left of it. Addresses beyond [`RATED_ADDRESSES_MAX`] have one
    /// share together.
    fn take(&self, address: IpAddr, now: Instant) -> bool {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Some(address.to_canonical());
        if !shares.contains_key(&key) && shares.len() >= RATED_ADDRESSES_MAX {
            shares.retain(|_, share| share.grown(now).requests < REQUESTS_AT_ONCE_MAX);
            if shares.len() >= RATED_ADDRESSES_MAX {
                key = None;
            }
        }
        let share = shares.entry(key).or_insert(Share { requests: REQUESTS_AT_ONCE_MAX, at: now });
        *share = share.grown(now);
        let is_left = share.requests >= 1.0;
        if is_left {
            share.requests -= 1.0;
        }
        is_left
    }
}

/// Turns away who asks too often.
pub(super) async fn limit(State(api): State<Api>, request: Request, next: Next) -> Response {
    let is_free = api.context.tokens.scope(request.headers()) == Some(TokenScope::Admin);
    let from = request.extensions().get::<Ends>().map(|ends| ends.peer.ip());
    if is_free || from.is_none_or(|from| api.rates.take(from, Instant::now())) {
        return next.run(request).await;
    }
    Problem::new(Kind::TooMany, "this address asks too often: the token of the file api-token has no such limit")
        .retry_after(1)
        .into_response()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn an_address_has_so_many_at_once_and_so_many_a_second() {
        let (rates, start) = (Rates::default(), Instant::now());
        let taken = |address, at: Duration| (0..5_000).take_while(|_| rates.take(address, start + at)).count() as f64;
        assert_eq!(taken(ip(1), Duration::ZERO), REQUESTS_AT_ONCE_MAX);
        assert_eq!(taken(ip(1), Duration::ZERO), 0.0);
        assert_eq!(taken(ip(1), Duration::from_secs(2)), 2.0 * REQUESTS_PER_SECOND_MAX);
        assert_eq!(taken(ip(2), Duration::from_secs(2)), REQUESTS_AT_ONCE_MAX, "another's share is its own");
        assert_eq!(taken(ip(1), Duration::from_secs(3_600)), REQUESTS_AT_ONCE_MAX, "no more than that is saved up");
        let mapped = "::ffff:0.0.0.1".parse().unwrap();
        assert_eq!(taken(mapped, Duration::from_secs(3_600)), 0.0, "the same address, written otherwise");
    }

    #[test]
    fn addresses_cost_no_memory_without_end() {
        let (rates, start) = (Rates::default(), Instant::now());
        let many = 10 * RATED_ADDRESSES_MAX as u32;
        let answered = (0..many).filter(|n| rates.take(ip(*n), start)).count();
        assert_eq!(answered, RATED_ADDRESSES_MAX + REQUESTS_AT_ONCE_MAX as usize, "the rest have one share together");
        assert_eq!(rates.0.lock().unwrap().len(), RATED_ADDRESSES_MAX + 1);
        // Who has been quiet is forgotten for who comes.
        assert!((0..many).all(|n| rates.take(ip(n), start + Duration::from_secs(60 + u64::from(n)))));
    }
}
