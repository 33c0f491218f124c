//! A board's file: where its LED and its sensors are. Pure: text in, profile or reason out. `board/README.md` shows the form.

use toml_span::value::{Table, Value};

use super::led::LedState;
use super::pattern::{Colour, Pattern, Patterns};

/// The longest name in a file, in bytes: names become parts of paths.
const NAME_BYTES_MAX: usize = 64;
/// The most places for the LED, and the most names of a device tree, in a file.
const PLACES_MAX: usize = 16;
/// The highest line of a chip.
const LINE_MAX: i64 = 4_095;
/// What a temperature in a file may be, in °C.
const CELSIUS: std::ops::RangeInclusive<i64> = 1..=150;

/// What a board is made of, as far as the agent has to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// What people call it.
    pub name: String,
    /// What device trees call it.
    pub compatible: Vec<String>,
    /// Where its LED may be, the best place first. None: it has no LED.
    pub places: Vec<Place>,
    /// What the LED shows in each state.
    pub patterns: Patterns,
    /// Where it tells its temperature.
    pub temperature: Option<Temperature>,
    /// Where it tells that its voltage is too low.
    pub undervoltage: Option<Undervoltage>,
    /// The disk that holds the data, as `/sys/class/block` calls it.
    pub card: Option<String>,
    /// Its watchdog, as `/sys/class/watchdog` calls it.
    pub watchdog: Option<String>,
    /// Its battery clock, as `/sys/class/rtc` calls it.
    pub rtc: Option<String>,
}

/// A place where the LED may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// One LED, whatever its colour.
    One(Wire),
    /// A red and a green one.
    Two {
        /// The red one.
        red: Wire,
        /// The green one.
        green: Wire,
    },
}

/// How one LED is reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wire {
    /// By its name in `/sys/class/leds`.
    Sysfs(String),
    /// On a line of a GPIO chip.
    Gpio {
        /// The chip's label.
        chip: String,
        /// The line's number on the chip.
        line: u32,
        /// Whether a low level lights it.
        active_low: bool,
    },
}

impl std::fmt::Display for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sysfs(name) => f.write_str(name),
            Self::Gpio { chip, line, .. } => write!(f, "{chip} line {line}"),
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::One(wire) => wire.fmt(f),
            Self::Two { red, green } => write!(f, "{red} and {green}"),
        }
    }
}

/// A thermal zone, and what is too hot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Temperature {
    /// The zone's type.
    pub zone: String,
    /// Too hot from here on, in °C...
    pub warn: i32,
    /// ...until it is cooler than this.
    pub clear: i32,
}

/// A file of a hwmon device that is 1 while the voltage is too low.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undervoltage {
    /// The device's name.
    pub hwmon: String,
    /// The file's.
    pub alarm: String,
}

/// Why a file is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ProfileError {
    /// Counted from 1.
    pub line: usize,
    /// In words.
    pub reason: String,
}

impl Profile {
    /// Reads a file. `patterns` holds where it says nothing else.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str, patterns: &Patterns) -> Result<Self, ProfileError> {
        let (root, file) = open(text)?;
        let keys = ["name", "compatible", "led", "patterns", "temperature", "undervoltage", "card", "watchdog", "rtc"];
        let all = file.table(&root, &keys)?;
        let mut patterns = patterns.clone();
        if let Some(section) = all.get("patterns") {
            file.patterns(section, &mut patterns)?;
        }
        let device = |section, key| file.section(all, section, &[key], |table, at| file.name(table, key, at));
        Ok(Self {
            name: file.text(all, "name", &root)?.to_owned(),
            compatible: file.compatible(all, &root)?,
            places: all.get("led").map_or(Ok(Vec::new()), |led| file.places(led))?,
            patterns,
            temperature: file
                .section(all, "temperature", &["zone", "warn", "clear"], |table, at| file.temperature(table, at))?,
            undervoltage: file.section(all, "undervoltage", &["hwmon", "alarm"], |table, at| {
                Ok(Undervoltage { hwmon: file.name(table, "hwmon", at)?, alarm: file.name(table, "alarm", at)? })
            })?,
            card: device("card", "block")?,
            watchdog: device("watchdog", "device")?,
            rtc: device("rtc", "device")?,
        })
    }
}

/// Reads a file that holds patterns alone, of each state.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn parse_patterns(text: &str) -> Result<Patterns, ProfileError> {
    let (root, file) = open(text)?;
    let all = file.table(&root, &["one", "two"])?;
    for colours in ["one", "two"] {
        let section = file.need(all, colours, &root)?;
        let names = file.table(section, &LedState::ALL.map(LedState::name))?;
        for state in LedState::ALL {
            file.need(names, state.name(), section)?;
        }
    }
    let mut patterns = Patterns::dark();
    file.patterns(&root, &mut patterns)?;
    Ok(patterns)
}

fn open(text: &str) -> Result<(Value<'_>, File<'_>), ProfileError> {
    let file = File(text);
    let root = toml_span::parse(text).map_err(|error| file.wrong(error.span.start, error.to_string()))?;
    Ok((root, file))
}

/// The text, for the numbers of its lines.
struct File<'t>(&'t str);

impl File<'_> {
    fn wrong(&self, at: usize, reason: impl Into<String>) -> ProfileError {
        let before = self.0.as_bytes().iter().take(at);
        ProfileError { line: 1 + before.filter(|byte| **byte == b'\n').count(), reason: reason.into() }
    }

    fn wrong_value(&self, value: &Value<'_>, reason: impl Into<String>) -> ProfileError {
        self.wrong(value.span.start, reason)
    }

    /// A table with no other keys than these.
    fn table<'v, 'd>(&self, value: &'v Value<'d>, keys: &[&str]) -> Result<&'v Table<'d>, ProfileError> {
        let table = value.as_table().ok_or_else(|| self.wrong_value(value, "a table is wanted here"))?;
        match table.keys().find(|key| !keys.contains(&&*key.name)) {
            None => Ok(table),
            Some(key) => {
                let reason = format!("\"{}\" is none of the keys here: {}", key.name, keys.join(", "));
                Err(self.wrong(key.span.start, reason))
            }
        }
    }

    fn need<'v, 'd>(&self, table: &'v Table<'d>, key: &str, of: &Value<'_>) -> Result<&'v Value<'d>, ProfileError> {
        table.get(key).ok_or_else(|| self.wrong_value(of, format!("\"{key}\" is missing")))
    }

    /// One line of text.
    fn text<'v>(&self, table: &'v Table<'_>, key: &str, of: &Value<'_>) -> Result<&'v str, ProfileError> {
        let value = self.need(table, key, of)?;
        let fits =
            |text: &&str| !text.is_empty() && text.len() <= 2 * NAME_BYTES_MAX && !text.contains(char::is_control);
        let reason = || self.wrong_value(value, format!("\"{key}\" is one line of text, at most 128 bytes"));
        value.as_str().filter(fits).ok_or_else(reason)
    }

    /// A name of the kernel's, which becomes one part of a path.
    fn name(&self, table: &Table<'_>, key: &str, of: &Value<'_>) -> Result<String, ProfileError> {
        let value = self.need(table, key, of)?;
        let fits = |name: &&str| {
            !name.is_empty()
                && name.len() <= NAME_BYTES_MAX
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:,".contains(&b))
        };
        let reason = format!("\"{key}\" is a name of at most 64 letters, digits, - _ . : or commas");
        Ok(value.as_str().filter(fits).ok_or_else(|| self.wrong_value(value, reason))?.to_owned())
    }

    fn compatible(&self, all: &Table<'_>, root: &Value<'_>) -> Result<Vec<String>, ProfileError> {
        let value = self.need(all, "compatible", root)?;
        let wrong = || self.wrong_value(value, "\"compatible\" is a list of at most 16 names of a device tree");
        let names = value.as_array().filter(|names| names.len() <= PLACES_MAX).ok_or_else(wrong)?;
        names.iter().map(|name| Ok(name.as_str().ok_or_else(wrong)?.to_owned())).collect()
    }

    fn section<T>(
        &self,
        all: &Table<'_>,
        name: &str,
        keys: &[&str],
        read: impl Fn(&Table<'_>, &Value<'_>) -> Result<T, ProfileError>,
    ) -> Result<Option<T>, ProfileError> {
        all.get(name).map(|value| read(self.table(value, keys)?, value)).transpose()
    }

    fn temperature(&self, table: &Table<'_>, of: &Value<'_>) -> Result<Temperature, ProfileError> {
        let degrees = |key: &str| {
            let value = self.need(table, key, of)?;
            let whole = value.as_integer().filter(|degrees| CELSIUS.contains(degrees));
            let whole = whole.and_then(|degrees| i32::try_from(degrees).ok());
            whole.ok_or_else(|| {
                self.wrong_value(value, format!("\"{key}\" is a temperature of 1 to 150 °C, without decimals"))
            })
        };
        let (warn, clear) = (degrees("warn")?, degrees("clear")?);
        if clear >= warn {
            return Err(self.wrong_value(of, "\"clear\" is less than \"warn\""));
        }
        Ok(Temperature { zone: self.name(table, "zone", of)?, warn, clear })
    }

    fn places(&self, value: &Value<'_>) -> Result<Vec<Place>, ProfileError> {
        let wrong = || self.wrong_value(value, "\"led\" is written [[led]], at most 16 times");
        let places = value.as_array().filter(|places| places.len() <= PLACES_MAX).ok_or_else(wrong)?;
        places.iter().map(|place| self.place(place)).collect()
    }

    fn place(&self, value: &Value<'_>) -> Result<Place, ProfileError> {
        let table = self.table(value, &["any", "red", "green"])?;
        match (table.get("any"), table.get("red"), table.get("green")) {
            (Some(any), None, None) => Ok(Place::One(self.wire(any)?)),
            (None, Some(red), Some(green)) => Ok(Place::Two { red: self.wire(red)?, green: self.wire(green)? }),
            _ => Err(self.wrong_value(value, "an LED has either \"any\", or \"red\" and \"green\"")),
        }
    }

    fn wire(&self, value: &Value<'_>) -> Result<Wire, ProfileError> {
        let table = self.table(value, &["sysfs", "chip", "line", "active_low"])?;
        if table.contains_key("sysfs") {
            self.table(value, &["sysfs"])?;
            return Ok(Wire::Sysfs(self.name(table, "sysfs", value)?));
        }
        let chip = self.name(table, "chip", value)?;
        let number = self.need(table, "line", value)?;
        let line = number.as_integer().filter(|line| (0..=LINE_MAX).contains(line));
        let line = line.and_then(|line| u32::try_from(line).ok());
        let line = line.ok_or_else(|| self.wrong_value(number, "\"line\" is a number from 0 to 4095"))?;
        let active_low = table.get("active_low").map_or(Ok(false), |low| {
            low.as_bool().ok_or_else(|| self.wrong_value(low, "\"active_low\" is true or false"))
        })?;
        Ok(Wire::Gpio { chip, line, active_low })
    }

    fn patterns(&self, section: &Value<'_>, patterns: &mut Patterns) -> Result<(), ProfileError> {
        for (colours, states) in self.table(section, &["one", "two"])? {
            for (name, value) in self.table(states, &LedState::ALL.map(LedState::name))? {
                let state = LedState::named(&name.name).expect("the table has names of states only");
                let text = value.as_str().ok_or_else(|| self.wrong_value(value, "a pattern is a text"))?;
                if &*colours.name == "one" {
                    patterns.set_one(state, text.parse().map_err(|e| self.wrong_value(value, format!("{e}")))?);
                } else {
                    let (colour, pattern) = self.coloured(value, text)?;
                    patterns.set_two(state, colour, pattern);
                }
            }
        }
        Ok(())
    }

    fn coloured(&self, value: &Value<'_>, text: &str) -> Result<(Colour, Pattern), ProfileError> {
        let colour = text.split_once(' ').and_then(|(name, rest)| Some((Colour::named(name)?, rest)));
        let wanted = "begin with \"red\", \"green\" or \"yellow\", then a pattern";
        let (colour, rest) = colour.ok_or_else(|| self.wrong_value(value, wanted))?;
        Ok((colour, rest.parse().map_err(|e| self.wrong_value(value, format!("{e}")))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"name = "Box"
compatible = ["example,box-2", "example,box"]
[[led]]
red = { sysfs = "tillmesh:red:status" }
green = { chip = "pinctrl-bcm2711", line = 27, active_low = true }
[[led]]
any = { sysfs = "ACT" }
[patterns.one]
alone = "60 940"
[patterns.two]
alone = "yellow 60 940"
[temperature]
zone = "cpu-thermal"
warn = 80
clear = 75
[undervoltage]
hwmon = "rpi_volt"
alarm = "in0_lcrit_alarm"
[card]
block = "mmcblk0"
[watchdog]
device = "watchdog0"
[rtc]
device = "rtc0"
"#;

    fn parse(text: &str) -> Result<Profile, ProfileError> {
        Profile::parse(text, &Patterns::dark())
    }

    #[test]
    fn a_whole_file_is_read() {
        let mut patterns = Patterns::dark();
        patterns.set_one(LedState::Alone, Pattern::Blink(vec![60, 940]));
        patterns.set_two(LedState::Alone, Colour::Yellow, Pattern::Blink(vec![60, 940]));
        let gpio = Wire::Gpio { chip: "pinctrl-bcm2711".into(), line: 27, active_low: true };
        let expected = Profile {
            name: "Box".into(),
            compatible: vec!["example,box-2".into(), "example,box".into()],
            places: vec![
                Place::Two { red: Wire::Sysfs("tillmesh:red:status".into()), green: gpio },
                Place::One(Wire::Sysfs("ACT".into())),
            ],
            patterns,
            temperature: Some(Temperature { zone: "cpu-thermal".into(), warn: 80, clear: 75 }),
            undervoltage: Some(Undervoltage { hwmon: "rpi_volt".into(), alarm: "in0_lcrit_alarm".into() }),
            card: Some("mmcblk0".into()),
            watchdog: Some("watchdog0".into()),
            rtc: Some("rtc0".into()),
        };
        assert_eq!(parse(WHOLE), Ok(expected));
        let least = parse("name = \"x\"\ncompatible = []\n").unwrap();
        assert!(least.places.is_empty() && least.card.is_none());
    }

    /// Each line of the whole file, replaced by a wrong one: refused with that line and a word of the reason.
    #[test]
    fn a_wrong_line_is_named_with_its_reason() {
        let cases = [
            (1, "name = 7", "one line of text"),
            (1, "name = \"a\\nb\"", "one line of text"),
            (1, "names = \"Box\"", "none of the keys"),
            (1, "name = Box", "quoted"),
            (2, "compatible = \"example,box\"", "list"),
            (2, "compatible = [7]", "list"),
            (4, "red = { sysfs = \"../../../etc/shadow\" }", "name of"),
            (4, "red = { sysfs = \"a/b\" }", "name of"),
            (4, "red = { sysfs = \"..\" }", "name of"),
            (4, "red = { sysfs = \"a\", line = 1 }", "none of the keys"),
            (5, "green = { chip = \"pinctrl-bcm2711\", line = -1 }", "0 to 4095"),
            (5, "green = { chip = \"pinctrl-bcm2711\", line = 4096 }", "0 to 4095"),
            (5, "green = { chip = \"pinctrl-bcm2711\" }", "\"line\" is missing"),
            (5, "green = { chip = \"pinctrl-bcm2711\", line = 1, active_low = 1 }", "true or false"),
            (5, "blue = { sysfs = \"ACT\" }", "none of the keys"),
            (9, "alone = \"60\"", "milliseconds"),
            (9, "lonely = \"on\"", "none of the keys"),
            (11, "alone = \"blue 60 940\"", "red"),
            (11, "alone = \"yellow\"", "red"),
            (14, "warn = 151", "1 to 150"),
            (14, "warn = \"hot\"", "1 to 150"),
            (17, "hwmon = \"\"", "name of"),
            (20, "block = \"mmcblk0", ""),
        ];
        for (line, wrong, word) in cases {
            let lines: Vec<&str> =
                WHOLE.lines().enumerate().map(|(n, l)| if n + 1 == line { wrong } else { l }).collect();
            let error = parse(&lines.join("\n")).unwrap_err();
            assert_eq!(error.line, line, "{wrong}: {error}");
            assert!(error.reason.contains(word), "{wrong}: {error}");
        }
    }

    #[test]
    fn what_belongs_together_is_asked_for() {
        let half = WHOLE.replace("green = { chip = \"pinctrl-bcm2711\", line = 27, active_low = true }\n", "");
        assert!(parse(&half).unwrap_err().reason.contains("\"red\" and \"green\""));
        let upside_down = WHOLE.replace("clear = 75", "clear = 80");
        assert_eq!(parse(&upside_down).unwrap_err().line, 12);
        assert!(parse("compatible = []").unwrap_err().reason.contains("\"name\" is missing"));
        assert_eq!(parse("name = \"x\"\nname = \"y\"\ncompatible = []").unwrap_err().line, 2);
    }

    #[test]
    fn patterns_of_a_file_of_their_own_are_complete() {
        let whole = |one: &str| {
            let all = |look: &str| LedState::ALL.map(|s| format!("{} = \"{look}\"\n", s.name())).concat();
            format!("[one]\n{}[two]\n{}", all(one), all("green on"))
        };
        assert_eq!(parse_patterns(&whole("on")).unwrap().one(LedState::Solo), &Pattern::On);
        let gap = whole("on").replacen("solo = \"on\"\n", "", 1);
        assert!(parse_patterns(&gap).unwrap_err().reason.contains("\"solo\" is missing"));
    }
}
