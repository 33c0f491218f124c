//! Samples of times, and what is said of them.

use std::time::{Duration, Instant};

use anyhow::Result;

/// Times of one kind, in milliseconds, round by round.
#[derive(Clone, Default)]
pub(crate) struct Samples {
    rounds: Vec<Vec<f64>>,
}

impl Samples {
    pub(crate) fn add(&mut self, round: Vec<f64>) {
        self.rounds.push(round);
    }

    /// The median of each round.
    pub(crate) fn medians(&self) -> Vec<f64> {
        self.rounds.iter().map(|round| percentile(round, 50)).collect()
    }

    /// The median over rounds of their medians.
    pub(crate) fn p50(&self) -> f64 {
        median(&self.medians())
    }

    /// Over all rounds together: one round has too few samples for it.
    pub(crate) fn p99(&self) -> f64 {
        percentile(&self.rounds.concat(), 99)
    }
}

/// The smallest sample that so many in a hundred do not exceed; NaN where there are none.
pub(crate) fn percentile(samples: &[f64], hundredths: usize) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * hundredths).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// The one in the middle.
pub(crate) fn median(samples: &[f64]) -> f64 {
    percentile(samples, 50)
}

/// The median of what two series say of one another, round by round: noise that hits both at once cancels out.
pub(crate) fn paired(left: &[f64], right: &[f64], of: impl Fn(f64, f64) -> f64) -> f64 {
    let each: Vec<f64> = left.iter().zip(right).map(|(left, right)| of(*left, *right)).collect();
    median(&each)
}

/// How long something took, in milliseconds.
pub(crate) fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let began = Instant::now();
    let value = work()?;
    Ok((value, ms(began.elapsed())))
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
