//! What of the readings somebody should know. Pure, with hysteresis: a value at its limit is one alert, not a hundred.

use super::profile::Temperature;
use super::sensors::{Readings, Space};

/// How long the voltage must be right again, in milliseconds.
const VOLTAGE_CLEAR_MS: u64 = 5 * 60_000;
/// The disk is nearly full below a twentieth of it...
const SPACE_PART: u64 = 20;
/// ...but not with more free than this, nor only with less than that, in bytes.
const SPACE_MAX: u64 = 512 << 20;
/// See [`SPACE_MAX`]: the write-ahead log and a snapshot must still fit.
const SPACE_MIN: u64 = 16 << 20;
/// It is not so any more with this much more, in percent of the limit.
const SPACE_CLEAR_PERCENT: u64 = 125;
/// A card is to be replaced when this much of its life is used, in percent.
const CARD_USED_PERCENT: u8 = 90;

/// What is wrong with the board, each in words.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ills {
    /// It is too hot.
    pub hot: Option<String>,
    /// Its voltage is or was just too low.
    pub undervoltage: Option<String>,
    /// The data folder's disk is nearly full.
    pub full: Option<String>,
    /// The data folder's disk is read-only.
    pub read_only: Option<String>,
    /// The card is worn out.
    pub worn: Option<String>,
}

/// Remembers what was wrong, so as to know when it is over.
#[derive(Debug, Default)]
pub struct Judge {
    hot: bool,
    full: bool,
    /// When the voltage was last too low.
    low_voltage_at: Option<u64>,
}

impl Judge {
    /// Judges a reading. `now` is monotonic, in milliseconds; `limit` is the board's.
    pub fn judge(&mut self, now: u64, limit: Option<&Temperature>, readings: &Readings) -> Ills {
        let worn = readings.card_worn == Some(true)
            || readings.card_used_percent.is_some_and(|percent| percent >= CARD_USED_PERCENT);
        Ills {
            hot: self.hot(limit, readings.celsius),
            undervoltage: self.undervoltage(now, readings.undervoltage),
            full: self.full(readings.space),
            read_only: (readings.read_only == Some(true)).then(String::new),
            worn: worn.then(|| readings.card_used_percent.map(|used| format!("{used} %")).unwrap_or_default()),
        }
    }

    fn hot(&mut self, limit: Option<&Temperature>, celsius: Option<f64>) -> Option<String> {
        let (limit, celsius) = (limit?, celsius?);
        self.hot = celsius >= f64::from(if self.hot { limit.clear } else { limit.warn });
        self.hot.then(|| format!("{celsius:.0} °C"))
    }

    fn undervoltage(&mut self, now: u64, low: Option<bool>) -> Option<String> {
        if low == Some(true) {
            self.low_voltage_at = Some(now);
        }
        self.low_voltage_at = self.low_voltage_at.filter(|at| now < at + VOLTAGE_CLEAR_MS);
        self.low_voltage_at.map(|_| String::new())
    }

    fn full(&mut self, space: Option<Space>) -> Option<String> {
        let space = space?;
        let limit = (space.total / SPACE_PART).clamp(SPACE_MIN, SPACE_MAX);
        self.full = space.free < if self.full { limit / 100 * SPACE_CLEAR_PERCENT } else { limit };
        self.full.then(|| format!("{} MB", space.free / 1_000_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn limit() -> Temperature {
        Temperature { zone: "cpu-thermal".into(), warn: 80, clear: 75 }
    }

    #[test]
    fn heat_is_told_from_the_limit_on_until_it_is_well_below() {
        let mut judge = Judge::default();
        let story =
            [(79.9, false), (80.0, true), (78.0, true), (75.0, true), (74.9, false), (79.0, false), (81.0, true)];
        for (celsius, told) in story {
            let readings = Readings { celsius: Some(celsius), ..Readings::default() };
            assert_eq!(judge.judge(0, Some(&limit()), &readings).hot.is_some(), told, "{celsius}");
        }
        assert_eq!(judge.judge(0, Some(&limit()), &Readings::default()), Ills::default());
    }

    #[test]
    fn low_voltage_is_told_at_once_and_for_five_minutes() {
        let mut judge = Judge::default();
        let story = [
            (0, Some(false), false),
            (30_000, Some(true), true),
            (60_000, Some(false), true),
            (200_000, Some(true), true),
            (330_000, Some(false), true),
            (499_999, Some(false), true),
            (500_000, Some(false), false),
        ];
        for (now, undervoltage, told) in story {
            let readings = Readings { undervoltage, ..Readings::default() };
            assert_eq!(judge.judge(now, None, &readings).undervoltage.is_some(), told, "{now}");
        }
    }

    #[test]
    fn a_disk_is_nearly_full_below_a_part_of_it_within_bounds() {
        // Total, free and whether it is told, in MiB.
        let stories: [&[(u64, u64, bool)]; 3] = [
            &[(4_000, 201, false), (4_000, 199, true), (4_000, 240, true), (4_000, 251, false), (4_000, 201, false)],
            &[(100, 17, false), (100, 15, true), (100, 18, true), (100, 21, false)],
            &[(64_000, 513, false), (64_000, 511, true)],
        ];
        for story in stories {
            let mut judge = Judge::default();
            for (total, free, told) in story {
                let space = Some(Space { free: free * MIB, total: total * MIB });
                let ills = judge.judge(0, None, &Readings { space, ..Readings::default() });
                assert_eq!(ills.full.is_some(), *told, "{free} of {total}");
            }
        }
    }

    #[test]
    fn a_worn_card_and_a_read_only_disk_are_told() {
        let cases = [
            (Some(80), Some(false), Some(false), false, false),
            (Some(90), Some(false), None, true, false),
            (None, Some(true), Some(true), true, true),
            (None, None, None, false, false),
        ];
        for (card_used_percent, card_worn, read_only, worn, locked) in cases {
            let readings = Readings { card_used_percent, card_worn, read_only, ..Readings::default() };
            let ills = Judge::default().judge(0, None, &readings);
            assert_eq!((ills.worn.is_some(), ills.read_only.is_some()), (worn, locked), "{readings:?}");
        }
    }
}
