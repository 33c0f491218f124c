//! How a state looks on an LED, and when it is shown: patterns of light, and the pause before bad news. Pure.

use std::fmt;
use std::str::FromStr;

use super::led::LedState;

/// How long a state lasts before it takes the place of a better one, in milliseconds.
pub const WORSE_AFTER_MS: u64 = 1_000;

/// The shortest and the longest step of a blinking, in milliseconds: shorter is not seen, longer is not understood.
const STEP_MS: std::ops::RangeInclusive<u32> = 20..=60_000;
/// The most steps of a blinking.
const STEPS_MAX: usize = 16;

/// What an LED of one colour does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pattern {
    /// Dark.
    Off,
    /// Lit.
    On,
    /// Lit and dark by turns: milliseconds of each, light first; as many of light as of dark.
    Blink(Vec<u32>),
}

impl Pattern {
    /// Whether it is lit so long after its begin, and when that changes next; both in milliseconds since the begin.
    #[must_use]
    pub fn at(&self, since_ms: u64) -> (bool, Option<u64>) {
        let Self::Blink(steps) = self else { return (*self == Self::On, None) };
        let cycle: u64 = steps.iter().copied().map(u64::from).sum();
        let began = since_ms - since_ms % cycle.max(1);
        let mut ends = began;
        for (n, step) in steps.iter().enumerate() {
            ends += u64::from(*step);
            if since_ms < ends {
                return (n % 2 == 0, Some(ends));
            }
        }
        (false, None)
    }
}

/// Why a text is no pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a pattern is \"on\", \"off\", or milliseconds of light and dark by turns: 20 to 60000 each, an even number of them, at most 16"
)]
pub struct PatternError;

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        match text {
            "on" => return Ok(Self::On),
            "off" => return Ok(Self::Off),
            _ => {}
        }
        let step = |word: &str| word.parse().ok().filter(|ms| STEP_MS.contains(ms)).ok_or(PatternError);
        let steps: Vec<u32> = text.split(' ').map(step).collect::<Result<_, _>>()?;
        if steps.len().is_multiple_of(2) && steps.len() <= STEPS_MAX {
            Ok(Self::Blink(steps))
        } else {
            Err(PatternError)
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::On => f.write_str("on"),
            Self::Blink(steps) => {
                let words: Vec<String> = steps.iter().map(ToString::to_string).collect();
                f.write_str(&words.join(" "))
            }
        }
    }
}

/// What a lamp of a red and a green LED can look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    /// The red one alone.
    Red,
    /// The green one alone.
    Green,
    /// Both together.
    Yellow,
}

impl Colour {
    /// Whether the red LED takes part, and whether the green one does.
    #[must_use]
    pub fn parts(self) -> (bool, bool) {
        (self != Self::Green, self != Self::Red)
    }

    /// Its name in a board's file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Green => "green",
            Self::Yellow => "yellow",
        }
    }

    /// Reads its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Red, Self::Green, Self::Yellow].into_iter().find(|colour| colour.name() == name)
    }
}

/// The looks of all states, on LEDs of one colour and of two.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Patterns {
    one: [Pattern; LedState::ALL.len()],
    two: [(Colour, Pattern); LedState::ALL.len()],
}

impl Patterns {
    /// All dark, to be filled in.
    #[must_use]
    pub fn dark() -> Self {
        Self { one: [const { Pattern::Off }; 8], two: [const { (Colour::Yellow, Pattern::Off) }; 8] }
    }

    /// Sets the look of a state on one colour.
    pub fn set_one(&mut self, state: LedState, pattern: Pattern) {
        self.one[state as usize] = pattern;
    }

    /// Sets the look of a state on two colours.
    pub fn set_two(&mut self, state: LedState, colour: Colour, pattern: Pattern) {
        self.two[state as usize] = (colour, pattern);
    }

    /// The look of a state on one colour.
    #[must_use]
    pub fn one(&self, state: LedState) -> &Pattern {
        &self.one[state as usize]
    }

    /// The look of a state on two colours.
    #[must_use]
    pub fn two(&self, state: LedState) -> (Colour, &Pattern) {
        let (colour, pattern) = &self.two[state as usize];
        (*colour, pattern)
    }
}

/// What is shown of what is so: improvement at once, worsening once it has lasted [`WORSE_AFTER_MS`]. `now` is monotonic.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    shown: LedState,
    /// The worse state that waits, and since when there has been one.
    worse: Option<(u64, LedState)>,
}

impl Steady {
    /// Shows this at once.
    #[must_use]
    pub fn new(state: LedState) -> Self {
        Self { shown: state, worse: None }
    }

    /// Says what is so now, and gives what is to be shown now.
    pub fn tell(&mut self, now: u64, state: LedState) -> LedState {
        let since = self.worse.map_or(now, |(since, _)| since);
        if state.wellness() >= self.shown.wellness() || now >= since + WORSE_AFTER_MS {
            *self = Self::new(state);
        } else {
            self.worse = Some((since, state));
        }
        self.shown
    }

    /// What is shown.
    #[must_use]
    pub fn shown(&self) -> LedState {
        self.shown
    }

    /// When to tell it again, if nothing changes.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.worse.map(|(since, _)| since + WORSE_AFTER_MS)
    }
}

#[cfg(test)]
mod tests {
    use LedState::{Alone, Connected, Disabled, Fault, Partial, Solo, Starting, Syncing};

    use super::*;

    /// What is so from when on, and what is shown right then.
    fn plays(story: &[(u64, LedState, LedState)]) {
        let mut steady = Steady::new(Starting);
        for (now, so, shown) in story {
            assert_eq!(steady.tell(*now, *so), *shown, "at {now}: {so:?}, in {story:?}");
        }
    }

    #[test]
    fn improvement_shows_at_once_and_worsening_after_a_second() {
        plays(&[(0, Starting, Starting), (5, Alone, Alone), (6, Partial, Partial), (7, Connected, Connected)]);
        plays(&[(0, Connected, Connected), (10, Alone, Connected), (1_009, Alone, Connected), (1_010, Alone, Alone)]);
        // What was short is never seen.
        plays(&[
            (0, Connected, Connected),
            (10, Syncing, Connected),
            (900, Connected, Connected),
            (1_200, Connected, Connected),
        ]);
        // A new bad moment begins its own second.
        plays(&[
            (0, Connected, Connected),
            (10, Alone, Connected),
            (500, Connected, Connected),
            (1_100, Alone, Connected),
        ]);
        // It goes down step by step: one second in all, and the last word counts.
        plays(&[(0, Connected, Connected), (10, Partial, Connected), (600, Alone, Connected), (1_010, Alone, Alone)]);
        plays(&[(0, Connected, Connected), (10, Fault, Connected), (600, Alone, Connected), (1_500, Alone, Alone)]);
        // A fault that ends shows at once.
        plays(&[(0, Fault, Starting), (1_000, Fault, Fault), (1_001, Starting, Starting)]);
        // What a person has asked for is no worsening.
        plays(&[(0, Connected, Connected), (1, Disabled, Disabled), (2, Connected, Connected), (3, Solo, Solo)]);
    }

    #[test]
    fn it_says_when_to_look_again_and_only_then() {
        let mut steady = Steady::new(Connected);
        assert_eq!(steady.next(), None);
        steady.tell(40, Alone);
        steady.tell(700, Alone);
        assert_eq!((steady.next(), steady.shown()), (Some(1_040), Connected));
        steady.tell(1_040, Alone);
        assert_eq!((steady.next(), steady.shown()), (None, Alone));
    }

    #[test]
    fn patterns_are_read_strictly_and_written_alike() {
        for text in ["on", "off", "100 100", "60 2940", "20 60000 20 20"] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
        let long = ["100"; 18].join(" ");
        for wrong in ["", "On", "100", "100 100 100", "19 100", "100 60001", "100  100", "100 -1", "1e2 100", &long] {
            assert_eq!(wrong.parse::<Pattern>(), Err(PatternError), "{wrong:?}");
        }
    }

    #[test]
    fn a_blinking_goes_round() {
        let pattern = Pattern::Blink(vec![100, 50, 20, 1_000]);
        let cases = [
            (0, true, 100),
            (99, true, 100),
            (100, false, 150),
            (150, true, 170),
            (170, false, 1_170),
            (1_170, true, 1_270),
            (11_700, true, 11_800),
        ];
        for (at, lit, next) in cases {
            assert_eq!(pattern.at(at), (lit, Some(next)), "{at}");
        }
        assert_eq!(Pattern::On.at(7), (true, None));
        assert_eq!(Pattern::Off.at(7), (false, None));
    }
}
