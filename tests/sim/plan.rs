//! What kind of run a seed is: how many tills, how long, and which faults how often.

use crate::faults::Kind;
use crate::rng::Rng;

/// A mix of faults and work.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) enum Mix {
    #[default]
    Plain,
    Compact,
    Lapse,
    Held,
    Forks,
    Retry,
    ForkCompact,
    All,
    ForkStorm,
    Long,
}

/// How often each mix comes.
const MIXES: &[(Mix, u64)] = &[
    (Mix::Plain, 10),
    (Mix::Compact, 12),
    (Mix::Lapse, 12),
    (Mix::Held, 10),
    (Mix::Forks, 12),
    (Mix::Retry, 8),
    (Mix::ForkCompact, 14),
    (Mix::All, 14),
    (Mix::ForkStorm, 6),
    (Mix::Long, 2),
];

/// Faults of every run, with their weights.
const ALWAYS: &[(Kind, u64)] = &[
    (Kind::PowerCut, 12),
    (Kind::Kill, 6),
    (Kind::Partition, 8),
    (Kind::OneWay, 6),
    (Kind::Cut, 10),
    (Kind::Swallow, 4),
    (Kind::DiskFull, 4),
    (Kind::WriteErrors, 4),
    (Kind::ReadErrors, 2),
    (Kind::ClockBack, 2),
    (Kind::ClockAhead, 2),
    (Kind::ClockHour, 2),
    (Kind::ClockLost, 2),
    (Kind::Join, 3),
    (Kind::Retire, 1),
    (Kind::Wipe, 2),
    (Kind::Replace, 1),
    (Kind::NoticedClone, 1),
    (Kind::Copy, 4),
    (Kind::Restore, 2),
];

/// Faults that make two contents for one place of a log.
const FORKS: &[(Kind, u64)] = &[(Kind::Clone, 6), (Kind::OldCard, 8), (Kind::Copy, 10)];

/// See the module's page.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) mix: Mix,
    pub(crate) tills: usize,
    pub(crate) operations: u64,
    /// How often in a thousand operations a fault begins.
    pub(crate) trouble: u64,
    pub(crate) kinds: Vec<(Kind, u64)>,
    /// Messages of a link are doubled and swapped.
    pub(crate) scrambles: bool,
    /// So many links in a thousand are slow.
    pub(crate) slow_links: u64,
    pub(crate) slow_cards: bool,
    /// So many operations in a thousand repeat an earlier request.
    pub(crate) retries: u64,
    /// So many operations in a thousand come from a till of a later version.
    pub(crate) foreign: u64,
    /// So many tills in a thousand are not updated yet.
    pub(crate) older: u64,
}

impl Plan {
    pub(crate) fn of(seed: u64, rng: &mut Rng) -> Self {
        let mix = rng.weighted(MIXES).unwrap_or(Mix::Plain);
        // Seeds next to each other differ in size, so that a part of a suite is like the whole.
        let tills = [3, 4, 3, 5, 3, 4, 6, 3, 4, 8][(seed % 10) as usize];
        let mut kinds = ALWAYS.to_vec();
        let forks = match mix {
            Mix::Forks | Mix::ForkCompact | Mix::All => 1,
            Mix::ForkStorm => 4,
            _ => 0,
        };
        let (weeks, lapses) = match mix {
            Mix::Compact | Mix::ForkCompact => (20, 0),
            Mix::Lapse => (14, 8),
            Mix::All => (12, 3),
            _ => (0, 0),
        };
        let older = if rng.odds(400) { 500 } else { 0 };
        kinds.extend([(Kind::Week, weeks), (Kind::Lapse, lapses), (Kind::Update, older / 50)]);
        kinds.extend(FORKS.iter().map(|(kind, weight)| (*kind, weight * forks)));
        Self {
            mix,
            tills,
            operations: if mix == Mix::Long { 1200 } else { 300 + rng.below(60) },
            trouble: rng.within(25..=70),
            kinds,
            scrambles: rng.odds(150),
            slow_links: if rng.odds(250) { 300 } else { 5 },
            slow_cards: rng.odds(200),
            retries: if matches!(mix, Mix::Retry | Mix::All) { 250 } else { 40 },
            foreign: if matches!(mix, Mix::Held | Mix::Lapse | Mix::All) { 60 } else { 4 },
            older,
        }
    }
}
