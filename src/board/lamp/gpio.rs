//! LEDs on bare lines of a GPIO chip, through its character device.

use std::io;

use gpiocdev::chip::Chip;
use gpiocdev::line::Value;
use gpiocdev::request::Request;

use super::super::system::System;
use super::{Blinks, Bulb};

/// A line that is ours until it is dropped; the kernel takes it back when the process ends.
pub(super) struct Line(Request);

impl Line {
    /// Requests a line of the chip with a label, dark. Chips are numbered as they come: the label is what stays.
    pub(super) fn open(system: &System, label: &str, line: u32, active_low: bool) -> io::Result<Self> {
        let chips = system.names("dev").into_iter().filter(|name| name.starts_with("gpiochip"));
        let labelled = |name: String| {
            let path = system.path("dev").join(name);
            let chip = Chip::from_path(&path).and_then(|chip| chip.info()).ok()?;
            (chip.label == label).then_some(path)
        };
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no GPIO chip labelled {label}"));
        let chip = chips.into_iter().find_map(labelled).ok_or_else(missing)?;
        let mut request = Request::builder();
        request.on_chip(chip).with_consumer("tillmesh").with_line(line).as_output(Value::Inactive);
        if active_low {
            request.as_active_low();
        }
        Ok(Self(request.request().map_err(io::Error::other)?))
    }
}

impl Bulb for Line {
    fn set(&mut self, lit: bool) -> io::Result<()> {
        self.0.set_lone_value(if lit { Value::Active } else { Value::Inactive }).map_err(io::Error::other)
    }

    fn blink(&mut self, _: &[u32]) -> io::Result<Blinks> {
        Ok(Blinks::StepByStep)
    }

    /// As long as it is ours nobody else can set it; that the chip is gone shows in reading.
    fn holds(&self) -> bool {
        self.0.lone_value().is_ok()
    }
}
