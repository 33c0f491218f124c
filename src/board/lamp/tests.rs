//! Bulbs that are not there, in virtual time, and LEDs of a folder that stands for `/sys`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::*;
use crate::board::pattern::Colour;
use crate::board::profile::Profile;

/// A board of wires that a test plugs and cuts.
#[derive(Clone, Default)]
struct Bench(Arc<Mutex<Wires>>);

#[derive(Default)]
struct Wires {
    there: BTreeSet<String>,
    /// What each does: "on", "off", or the kernel's steps.
    does: BTreeMap<String, String>,
    /// How often a bulb was set.
    sets: usize,
    /// What the kernel says when it is asked to blink.
    kernel: Option<Blinks>,
}

impl Bench {
    fn plug(&self, wire: &str) {
        self.0.lock().unwrap().there.insert(wire.to_owned());
    }

    fn cut(&self, wire: &str) {
        let mut wires = self.0.lock().unwrap();
        wires.there.remove(wire);
        wires.does.remove(wire);
    }

    fn kernel(&self, blinks: Blinks) {
        self.0.lock().unwrap().kernel = Some(blinks);
    }

    fn does(&self, wire: &str) -> String {
        self.0.lock().unwrap().does.get(wire).cloned().unwrap_or_default()
    }

    fn disturb(&self, wire: &str) {
        self.0.lock().unwrap().does.insert(wire.to_owned(), "heartbeat".to_owned());
    }

    fn sets(&self) -> usize {
        self.0.lock().unwrap().sets
    }

    fn keeper(&self, places: &[Place]) -> Keeper {
        Keeper::new(&profile(places), Box::new(self.clone()), 0, LedState::Starting)
    }
}

impl Wiring for Bench {
    fn open(&self, wire: &Wire) -> io::Result<Box<dyn Bulb>> {
        let name = wire.to_string();
        let there = self.0.lock().unwrap().there.contains(&name);
        if !there {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Box::new(Fake { bench: self.clone(), name, told: String::new() }))
    }
}

struct Fake {
    bench: Bench,
    name: String,
    told: String,
}

impl Fake {
    fn tell(&mut self, what: String) -> io::Result<()> {
        let mut wires = self.bench.0.lock().unwrap();
        if !wires.there.contains(&self.name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        wires.sets += 1;
        wires.does.insert(self.name.clone(), what.clone());
        self.told = what;
        Ok(())
    }
}

impl Bulb for Fake {
    fn set(&mut self, lit: bool) -> io::Result<()> {
        self.tell(if lit { "on" } else { "off" }.to_owned())
    }

    fn blink(&mut self, steps: &[u32]) -> io::Result<Blinks> {
        let blinks = self.bench.0.lock().unwrap().kernel.unwrap_or(Blinks::StepByStep);
        if blinks == Blinks::Kernel {
            self.tell(Pattern::Blink(steps.to_vec()).to_string())?;
        }
        Ok(blinks)
    }

    fn holds(&self) -> bool {
        self.bench.does(&self.name) == self.told
    }
}

fn wire(name: &str) -> Wire {
    Wire::Sysfs(name.to_owned())
}

fn profile(places: &[Place]) -> Profile {
    let mut patterns = Patterns::dark();
    patterns.set_one(LedState::Starting, Pattern::Blink(vec![500, 500]));
    patterns.set_one(LedState::Fault, Pattern::Blink(vec![100, 100]));
    patterns.set_one(LedState::Connected, Pattern::On);
    patterns.set_two(LedState::Starting, Colour::Red, Pattern::Blink(vec![500, 500]));
    patterns.set_two(LedState::Alone, Colour::Yellow, Pattern::Blink(vec![1_000, 1_000]));
    patterns.set_two(LedState::Connected, Colour::Green, Pattern::On);
    let text = "name = \"x\"\ncompatible = []";
    Profile { places: places.to_vec(), ..Profile::parse(text, &patterns).unwrap() }
}

fn two() -> Place {
    Place::Two { red: wire("red"), green: wire("green") }
}

#[test]
fn two_colours_are_shown_together() {
    let bench = Bench::default();
    bench.kernel(Blinks::Kernel);
    bench.plug("red");
    bench.plug("green");
    let mut keeper = bench.keeper(&[two()]);
    let both = || (bench.does("red"), bench.does("green"));
    let shown = |red: &str, green: &str| (red.to_owned(), green.to_owned());
    assert_eq!(both(), shown("500 500", "off"));
    keeper.show(10, LedState::Alone);
    assert_eq!(both(), shown("1000 1000", "1000 1000"));
    keeper.show(20, LedState::Connected);
    assert_eq!(both(), shown("off", "on"));
    keeper.dark().unwrap();
    assert_eq!(both(), shown("off", "off"));
}

#[test]
fn an_led_that_the_kernel_blinks_costs_two_looks_a_minute_and_nothing_else() {
    let bench = Bench::default();
    bench.kernel(Blinks::Kernel);
    bench.plug("a");
    let mut keeper = bench.keeper(&[Place::One(wire("a"))]);
    let (mut now, mut wakes) = (0, 0);
    let sets = bench.sets();
    while let Some(next) = keeper.next().filter(|next| *next <= 600_000) {
        assert!(next > now);
        (now, wakes) = (next, wakes + 1);
        keeper.on_time(now);
    }
    assert_eq!((wakes, bench.sets()), (20, sets));
}

#[test]
fn what_the_kernel_does_not_blink_is_blinked_step_by_step() {
    let bench = Bench::default();
    bench.plug("a");
    let mut keeper = bench.keeper(&[Place::One(wire("a"))]);
    let mut seen = vec![(0, bench.does("a"))];
    while let Some(next) = keeper.next().filter(|next| *next < 2_000) {
        keeper.on_time(next);
        seen.push((next, bench.does("a")));
    }
    let expected = [(0, "on"), (500, "off"), (1_000, "on"), (1_500, "off")].map(|(at, what)| (at, what.to_owned()));
    assert_eq!(seen, expected);
    // Nobody is there to blink it once we are gone: dark, not standing still.
    keeper.on_time(2_000);
    keeper.leave_in_fault(2_100).unwrap();
    assert_eq!(bench.does("a"), "off");
}

#[test]
fn a_kernel_that_is_late_is_asked_again_and_then_done_without() {
    let bench = Bench::default();
    bench.plug("a");
    bench.kernel(Blinks::Soon);
    let mut keeper = bench.keeper(&[Place::One(wire("a"))]);
    assert_eq!(keeper.next(), Some(100));
    keeper.on_time(100);
    bench.kernel(Blinks::Kernel);
    keeper.on_time(200);
    assert_eq!((bench.does("a").as_str(), keeper.next()), ("500 500", Some(30_000)));
    keeper.leave_in_fault(300).unwrap();
    assert_eq!(bench.does("a"), "100 100");

    bench.kernel(Blinks::Soon);
    keeper.show(1_000, LedState::Starting);
    while keeper.next().is_some_and(|next| next <= 4_000) {
        keeper.on_time(keeper.next().unwrap());
    }
    assert_eq!(bench.does("a"), "on");
    keeper.on_time(4_500);
    assert_eq!(bench.does("a"), "off");
}

#[test]
fn an_led_that_comes_late_goes_and_comes_again_shows_what_is_so() {
    let bench = Bench::default();
    bench.kernel(Blinks::Kernel);
    let mut keeper = bench.keeper(&[Place::One(wire("a"))]);
    assert_eq!(keeper.seen().place, None);
    assert!(keeper.seen().missing.is_some_and(|reason| reason.starts_with("a: ")));
    keeper.show(500, LedState::Connected);
    bench.plug("a");
    assert_eq!(keeper.next(), Some(2_000));
    keeper.on_time(2_000);
    assert_eq!((bench.does("a").as_str(), keeper.seen()), ("on", Seen { place: Some("a".into()), missing: None }));

    bench.cut("a");
    keeper.show(3_000, LedState::Starting);
    assert!(keeper.seen().missing.is_some());
    bench.plug("a");
    keeper.on_time(5_000);
    assert_eq!(bench.does("a"), "500 500");

    // Gone and back between two looks, or changed by somebody else: it does not do what it was told.
    bench.disturb("a");
    keeper.on_time(keeper.next().unwrap());
    assert_eq!(bench.does("a"), "500 500");
    bench.cut("a");
    keeper.on_time(keeper.next().unwrap());
    assert!(keeper.seen().missing.is_some());
}

#[test]
fn a_better_place_that_comes_up_is_taken_and_the_other_goes_dark() {
    let bench = Bench::default();
    bench.kernel(Blinks::Kernel);
    bench.plug("spare");
    bench.plug("red");
    let mut keeper = bench.keeper(&[two(), Place::One(wire("spare"))]);
    assert_eq!((keeper.seen().place.as_deref(), bench.does("spare").as_str()), (Some("spare"), "500 500"));
    bench.plug("green");
    keeper.on_time(keeper.next().unwrap());
    assert_eq!((bench.does("red").as_str(), bench.does("spare").as_str()), ("500 500", "off"));
    assert_eq!(keeper.seen().place.as_deref(), Some("red and green"));
}

#[test]
fn a_board_without_an_led_misses_none() {
    let keeper = Bench::default().keeper(&[]);
    assert_eq!((keeper.next(), keeper.seen()), (None, Seen::default()));
}

// ------------------------------------------------------------------------------------------- a folder that stands for /sys

struct Sys(tempfile::TempDir);

impl Sys {
    fn new(triggers: &str) -> Self {
        let sys = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(sys.led()).unwrap();
        sys.put("max_brightness", "255\n");
        sys.put("brightness", "0\n");
        sys.put("trigger", triggers);
        sys
    }

    fn led(&self) -> PathBuf {
        self.0.path().join("sys/class/leds/ACT")
    }

    fn put(&self, file: &str, text: &str) {
        fs::write(self.led().join(file), text).unwrap();
    }

    fn says(&self, file: &str) -> String {
        fs::read_to_string(self.led().join(file)).unwrap()
    }

    fn open(&self) -> Box<dyn Bulb> {
        System::under(self.0.path()).open(&wire("ACT")).unwrap()
    }
}

#[test]
fn the_timer_trigger_blinks_two_steps_once_its_files_are_there() {
    let sys = Sys::new("none [mmc0] timer pattern\n");
    let mut led = sys.open();
    assert_eq!(led.blink(&[100, 900]).unwrap(), Blinks::Soon);
    assert_eq!(sys.says("trigger"), "timer");
    sys.put("trigger", "none mmc0 [timer] pattern\n");
    sys.put("delay_on", "500\n");
    sys.put("delay_off", "500\n");
    assert_eq!(led.blink(&[100, 900]).unwrap(), Blinks::Kernel);
    assert_eq!((sys.says("delay_on").as_str(), sys.says("delay_off").as_str()), ("100", "900"));
    assert!(led.holds());
    sys.put("trigger", "none [mmc0] timer pattern\n");
    assert!(!led.holds());
}

#[test]
fn more_steps_are_for_the_pattern_trigger_which_must_not_fade() {
    let sys = Sys::new("none timer [pattern]\n");
    sys.put("pattern", "");
    assert_eq!(sys.open().blink(&[100, 50, 20, 1000]).unwrap(), Blinks::Kernel);
    assert_eq!(sys.says("pattern"), "255 100 255 0 0 50 0 0 255 20 255 0 0 1000 0 0");
    assert_eq!(Sys::new("[none] timer\n").open().blink(&[1, 2, 3, 4]).unwrap(), Blinks::StepByStep);
    assert_eq!(Sys::new("[none] mmc0\n").open().blink(&[100, 900]).unwrap(), Blinks::StepByStep);
}

#[test]
fn steady_light_takes_the_led_from_its_trigger() {
    let sys = Sys::new("none [mmc0]\n");
    let mut led = sys.open();
    led.set(true).unwrap();
    assert_eq!((sys.says("trigger").as_str(), sys.says("brightness").as_str()), ("none", "255"));
    assert!(led.holds());
    sys.put("brightness", "0\n");
    assert!(!led.holds());
    led.set(false).unwrap();
    assert!(led.holds());
    fs::remove_dir_all(sys.led()).unwrap();
    assert!(!led.holds());
    assert!(led.set(true).is_err() && led.blink(&[100, 100]).is_err());
    assert!(System::under(sys.0.path()).open(&wire("ACT")).is_err());
    assert!(!sys.led().exists(), "nothing is made in /sys");
}

#[test]
fn a_line_needs_a_chip_of_that_label() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("dev")).unwrap();
    fs::write(root.path().join("dev/gpiochip0"), "").unwrap();
    let line = Wire::Gpio { chip: "pinctrl-bcm2711".into(), line: 17, active_low: false };
    let error = System::under(root.path()).open(&line).err().unwrap();
    assert_eq!(error.to_string(), "no GPIO chip labelled pinctrl-bcm2711");
}
