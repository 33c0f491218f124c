//! LEDs of the kernel's: `/sys/class/leds`.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::PathBuf;

use super::{Blinks, Bulb};

/// A folder of `/sys/class/leds`. Its files are opened at each use: an LED that went and came again is another one under the same name.
pub(super) struct Led {
    folder: PathBuf,
    /// What brightness is light.
    bright: u32,
    told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Set { lit: bool },
    Trigger(&'static str),
}

impl Led {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        let bright = fs::read_to_string(folder.join("max_brightness"))?.trim().parse().unwrap_or(1);
        // Whether it is ours to light is known now, not when it matters.
        OpenOptions::new().write(true).open(folder.join("brightness"))?;
        Ok(Self { folder, bright, told: Told::Nothing })
    }

    fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.folder.join(file))
    }

    /// Writes to a file that is there already, in one go, as the kernel wants it.
    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        OpenOptions::new().write(true).truncate(true).open(self.folder.join(file))?.write_all(text.as_bytes())
    }

    /// The trigger at work, of the list in which it stands in brackets.
    fn trigger(&self) -> io::Result<String> {
        let list = self.read("trigger")?;
        let at_work = list.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
        Ok(at_work.unwrap_or_else(|| list.trim()).to_owned())
    }

    fn has_trigger(&self, name: &str) -> io::Result<bool> {
        Ok(self.read("trigger")?.split_whitespace().any(|word| word.trim_matches(['[', ']']) == name))
    }

    fn start(&self, trigger: &str, parameters: &[(&str, String)]) -> io::Result<()> {
        if self.trigger()? != trigger {
            self.write("trigger", trigger)?;
        }
        parameters.iter().try_for_each(|(file, text)| self.write(file, text))
    }
}

impl Bulb for Led {
    fn set(&mut self, lit: bool) -> io::Result<()> {
        if self.told != (Told::Set { lit: !lit }) && self.trigger()? != "none" {
            self.write("trigger", "none")?;
        }
        self.told = Told::Set { lit };
        self.write("brightness", &if lit { self.bright } else { 0 }.to_string())
    }

    fn blink(&mut self, steps: &[u32]) -> io::Result<Blinks> {
        let (trigger, parameters) = match steps {
            [on, off] if self.has_trigger("timer")? => {
                ("timer", vec![("delay_on", on.to_string()), ("delay_off", off.to_string())])
            }
            _ if self.has_trigger("pattern")? => ("pattern", vec![("pattern", self.pattern(steps))]),
            _ => return Ok(Blinks::StepByStep),
        };
        self.told = Told::Trigger(trigger);
        match self.start(trigger, &parameters) {
            Ok(()) => Ok(Blinks::Kernel),
            // The trigger's files come with it; who may write them is settled after that.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
                if self.folder.join("brightness").exists() { Ok(Blinks::Soon) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    fn holds(&self) -> bool {
        let trigger = self.trigger().ok();
        match self.told {
            Told::Nothing => trigger.is_some(),
            Told::Trigger(name) => trigger.as_deref() == Some(name),
            Told::Set { lit } => {
                let brightness = self.read("brightness").ok().and_then(|text| text.trim().parse::<u32>().ok());
                trigger.as_deref() == Some("none") && brightness.is_some_and(|brightness| (brightness > 0) == lit)
            }
        }
    }
}

impl Led {
    /// What the trigger `pattern` takes: brightness and time by turns. It fades from one to the next but where two that follow each other
    /// are equal; the second one, of no time, is passed over.
    fn pattern(&self, steps: &[u32]) -> String {
        let brightness = [self.bright, 0].into_iter().cycle();
        let step = |(ms, brightness): (&u32, u32)| format!("{brightness} {ms} {brightness} 0");
        steps.iter().zip(brightness).map(step).collect::<Vec<_>>().join(" ")
    }
}
