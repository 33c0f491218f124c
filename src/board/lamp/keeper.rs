//! Keeps the LED right: opens it as soon as it is there, shows what is to be shown, sees that it stays so.

use std::io;

use tracing::{debug, info};

use super::super::led::LedState;
use super::super::pattern::{Pattern, Patterns};
use super::super::profile::{Place, Profile};
use super::{Lamp, Wiring};

/// While a box starts, LEDs appear late: how long that may take, and how often it is looked then; in milliseconds.
const EARLY_MS: u64 = 120_000;
const LOOK_EARLY_MS: u64 = 2_000;
/// How often it is looked later.
const LOOK_EVERY_MS: u64 = 30_000;

/// Where the LED is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Where it is lit; `None` where there is none.
    pub place: Option<String>,
    /// Why there is none, where there should be.
    pub missing: Option<String>,
}

/// See the module's page. Times are monotonic, in milliseconds.
pub struct Keeper {
    places: Vec<Place>,
    patterns: Patterns,
    wiring: Box<dyn Wiring>,
    /// The lamp, and which of the places it is.
    lamp: Option<(usize, Lamp)>,
    missing: Option<String>,
    state: LedState,
    began: u64,
    look_at: u64,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Keeper {
    /// Shows a state at once, where the LED is there already.
    #[must_use]
    pub fn new(profile: &Profile, wiring: Box<dyn Wiring>, now: u64, state: LedState) -> Self {
        let mut keeper = Self {
            places: profile.places.clone(),
            patterns: profile.patterns.clone(),
            wiring,
            lamp: None,
            missing: None,
            state,
            began: now,
            look_at: now,
        };
        keeper.look(now);
        keeper
    }

    /// From now on it shows this.
    pub fn show(&mut self, now: u64, state: LedState) {
        self.state = state;
        self.draw(now);
    }

    /// Does what is due by now.
    pub fn on_time(&mut self, now: u64) {
        if let Some((_, lamp)) = &mut self.lamp
            && let Err(error) = lamp.step(now)
        {
            self.lose(now, &error);
        }
        if now >= self.look_at {
            self.look(now);
        }
    }

    /// When to be called again, if nothing changes.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        let look = (!self.places.is_empty()).then_some(self.look_at);
        let step = self.lamp.as_ref().and_then(|(_, lamp)| lamp.next());
        [look, step].into_iter().flatten().min()
    }

    /// Where the LED is now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let place = self.lamp.as_ref().map(|(index, _)| self.places[*index].to_string());
        Seen { missing: self.missing.clone().filter(|_| place.is_none()), place }
    }

    /// How a state looks on it, in words.
    #[must_use]
    pub fn look_of(&self, state: LedState) -> String {
        let (colour, pattern) = match &self.lamp {
            Some((_, lamp)) if lamp.bulbs.len() > 1 => {
                let (colour, pattern) = self.patterns.two(state);
                (format!("{} ", colour.name()), pattern)
            }
            _ => (String::new(), self.patterns.one(state)),
        };
        match pattern {
            Pattern::Off => format!("{colour}off"),
            Pattern::On => format!("{colour}on"),
            Pattern::Blink(_) => format!("{colour}{pattern} (ms of light and dark by turns)"),
        }
    }

    /// Puts it out, for a clean end.
    ///
    /// # Errors
    /// The system's.
    pub fn dark(&mut self) -> io::Result<()> {
        self.lamp.as_mut().map_or(Ok(()), |(_, lamp)| lamp.dark())
    }

    /// Leaves it in Fault for whoever comes by, or dark where that needed a living process.
    ///
    /// # Errors
    /// The system's.
    pub fn leave_in_fault(&mut self, now: u64) -> io::Result<()> {
        self.show(now, LedState::Fault);
        match &mut self.lamp {
            Some((_, lamp)) if lamp.needs_us() => lamp.dark(),
            _ => Ok(()),
        }
    }

    /// Looks whether it is there, still shows what it was told, and whether a better place has come up.
    fn look(&mut self, now: u64) {
        self.find(now);
        let best_is_lit = self.lamp.as_ref().is_some_and(|(place, _)| *place == 0);
        let early = !best_is_lit && now < self.began + EARLY_MS;
        self.look_at = now + if early { LOOK_EARLY_MS } else { LOOK_EVERY_MS };
    }

    fn find(&mut self, now: u64) {
        let places = self.lamp.as_ref().map_or(self.places.len(), |(place, _)| *place);
        let open = |place: usize| Lamp::open(&self.places[place], &*self.wiring).map(|lamp| (place, lamp));
        let mut reasons = Vec::new();
        let better = (0..places).find_map(|place| {
            open(place).inspect_err(|error| reasons.push(format!("{}: {error}", self.places[place]))).ok()
        });
        if let Some((place, lamp)) = better {
            if let Some((_, mut former)) = self.lamp.take() {
                // What it lit would be a second opinion.
                let _ = former.dark();
            }
            info!("the status LED is {}", self.places[place]);
            self.lamp = Some((place, lamp));
            self.draw(now);
        } else if let Some((_, lamp)) = &self.lamp {
            if !lamp.holds() {
                debug!("the status LED was changed by somebody else: shown again");
                self.draw(now);
            }
        } else {
            self.missing = Some(reasons.join("; ")).filter(|reasons| !reasons.is_empty());
        }
    }

    fn draw(&mut self, now: u64) {
        if let Some((_, lamp)) = &mut self.lamp
            && let Err(error) = lamp.show(now, self.state, &self.patterns)
        {
            self.lose(now, &error);
        }
    }

    fn lose(&mut self, now: u64, error: &io::Error) {
        info!("the status LED is gone: {error}");
        self.missing = Some(error.to_string());
        self.lamp = None;
        self.look_at = now + LOOK_EARLY_MS;
    }
}
