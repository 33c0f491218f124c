//! The LED itself: found, lit, blinked, looked after.
//!
//! Where the kernel can blink by itself it is left to it: an LED that does not change state costs no wake-up. So what is shown outlives the
//! agent; who ends the agent's life clears it (`tillmesh led stopped`, by the unit).

mod gpio;
mod keeper;
mod sysfs;

#[cfg(test)]
mod tests;

use std::io;

pub use keeper::{Keeper, Seen};

use super::led::LedState;
use super::pattern::{Pattern, Patterns};
use super::profile::{Place, Wire};
use super::system::System;

/// How often a bulb is asked again whether the kernel blinks it now, in milliseconds.
const BLINK_RETRY_MS: u64 = 100;
/// How long, until it is blinked step by step. The files for it come with the trigger, and their owner by udev a moment later.
const BLINK_WAIT_MS: u64 = 3_000;

/// One LED of one colour.
pub trait Bulb: Send {
    /// Lit or dark, for good.
    ///
    /// # Errors
    /// The system's; the bulb may be gone.
    fn set(&mut self, lit: bool) -> io::Result<()>;

    /// Has the kernel blink it for good: milliseconds of light and dark by turns.
    ///
    /// # Errors
    /// The system's; the bulb may be gone.
    fn blink(&mut self, steps: &[u32]) -> io::Result<Blinks>;

    /// Whether it still does what it was last told.
    fn holds(&self) -> bool;
}

/// Who blinks a bulb.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blinks {
    /// The kernel.
    Kernel,
    /// The kernel, once it is asked again: it is not ready.
    Soon,
    /// Whoever sets it, step by step.
    StepByStep,
}

/// Opens bulbs: the system, or what stands for it in a test.
pub trait Wiring: Send {
    /// Opens the bulb on a wire, dark or as it was.
    ///
    /// # Errors
    /// Where it is not there or not ours.
    fn open(&self, wire: &Wire) -> io::Result<Box<dyn Bulb>>;
}

impl Wiring for System {
    fn open(&self, wire: &Wire) -> io::Result<Box<dyn Bulb>> {
        Ok(match wire {
            Wire::Sysfs(name) => Box::new(sysfs::Led::open(self.path("sys/class/leds").join(name))?),
            Wire::Gpio { chip, line, active_low } => Box::new(gpio::Line::open(self, chip, *line, *active_low)?),
        })
    }
}

/// The bulbs of one place, and what each does.
struct Lamp {
    /// One of any colour, or red and green.
    bulbs: Vec<Part>,
}

struct Part {
    bulb: Box<dyn Bulb>,
    pattern: Pattern,
    /// When the pattern began; `now` of the keeper.
    since: u64,
    drive: Drive,
}

/// What a bulb needs of us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Drive {
    Nothing,
    AskAgain { at: u64 },
    Step { at: u64 },
}

impl Lamp {
    fn open(place: &Place, wiring: &dyn Wiring) -> io::Result<Self> {
        let wires = match place {
            Place::One(wire) => vec![wire],
            Place::Two { red, green } => vec![red, green],
        };
        let part = |wire| {
            let bulb = wiring.open(wire)?;
            Ok(Part { bulb, pattern: Pattern::Off, since: 0, drive: Drive::Nothing })
        };
        Ok(Self { bulbs: wires.into_iter().map(part).collect::<io::Result<_>>()? })
    }

    /// Begins to show a state.
    fn show(&mut self, now: u64, state: LedState, patterns: &Patterns) -> io::Result<()> {
        match &mut self.bulbs[..] {
            [red, green] => {
                let (colour, pattern) = patterns.two(state);
                for (part, lit) in [(red, colour.parts().0), (green, colour.parts().1)] {
                    part.show(now, if lit { pattern } else { &Pattern::Off })?;
                }
            }
            bulbs => bulbs.iter_mut().try_for_each(|part| part.show(now, patterns.one(state)))?,
        }
        Ok(())
    }

    fn dark(&mut self) -> io::Result<()> {
        self.bulbs.iter_mut().try_for_each(|part| part.show(0, &Pattern::Off))
    }

    /// Does what is due.
    fn step(&mut self, now: u64) -> io::Result<()> {
        self.bulbs.iter_mut().filter(|part| part.next().is_some_and(|at| at <= now)).try_for_each(|part| part.step(now))
    }

    fn next(&self) -> Option<u64> {
        self.bulbs.iter().filter_map(Part::next).min()
    }

    /// Whether some of it is blinked step by step, and so would stand still without us.
    fn needs_us(&self) -> bool {
        self.bulbs.iter().any(|part| part.drive != Drive::Nothing)
    }

    fn holds(&self) -> bool {
        self.bulbs.iter().all(|part| part.bulb.holds())
    }
}

impl Part {
    fn show(&mut self, now: u64, pattern: &Pattern) -> io::Result<()> {
        self.pattern = pattern.clone();
        self.since = now;
        self.drive = Drive::Nothing;
        match pattern {
            Pattern::Off => self.bulb.set(false),
            Pattern::On => self.bulb.set(true),
            Pattern::Blink(_) => self.ask(now),
        }
    }

    /// Asks the kernel to blink it.
    fn ask(&mut self, now: u64) -> io::Result<()> {
        let Pattern::Blink(steps) = &self.pattern else { return Ok(()) };
        match self.bulb.blink(steps)? {
            Blinks::Kernel => self.drive = Drive::Nothing,
            Blinks::Soon if now < self.since + BLINK_WAIT_MS => {
                self.drive = Drive::AskAgain { at: now + BLINK_RETRY_MS }
            }
            Blinks::Soon | Blinks::StepByStep => {
                self.drive = Drive::Step { at: now };
                self.step(now)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, now: u64) -> io::Result<()> {
        match self.drive {
            Drive::Nothing => Ok(()),
            Drive::AskAgain { .. } => self.ask(now),
            Drive::Step { .. } => {
                let (lit, next) = self.pattern.at(now - self.since);
                self.bulb.set(lit)?;
                self.drive = next.map_or(Drive::Nothing, |next| Drive::Step { at: self.since + next });
                Ok(())
            }
        }
    }

    fn next(&self) -> Option<u64> {
        match self.drive {
            Drive::Nothing => None,
            Drive::AskAgain { at } | Drive::Step { at } => Some(at),
        }
    }
}
