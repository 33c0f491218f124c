//! Between JSON and what the store understands: what clients send is checked field by field, all faults told at once; what they read
//! always has the same keys.

pub(super) mod entity;
pub(super) mod stock;
pub(super) mod ticket;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::model::id::Uuid;

use super::problem::Faults;

/// A time in milliseconds since 1970; in JSON RFC 3339, UTC, with milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Time(pub u64);

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Later than a timestamp can be (the year 9999) is shown as the latest.
        let time = i64::try_from(self.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        write!(f, "{}", time.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::str::FromStr for Time {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time: Option<Timestamp> = text.parse().ok();
        let ms = time.and_then(|t| u64::try_from(t.as_millisecond()).ok());
        ms.map(Self).ok_or("a time is RFC 3339, 1970 or later, like 2026-11-22T09:30:00.000Z")
    }
}

/// A text: not too long, no control characters but line breaks and tabs (they would reach receipt printers).
fn check_text(faults: &mut Faults, path: impl Fn() -> String, text: &str, len_max: usize) {
    // Bytes are at least as many as characters: most texts need no counting.
    let short = text.len() <= len_max || text.chars().count() <= len_max;
    faults.require(short, &path, &format!("at most {len_max} characters are allowed"));
    let clean = !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    faults.require(clean, &path, "control characters are not allowed");
}

/// A text that is there.
fn check_name(faults: &mut Faults, path: impl Fn() -> String, text: &str, len_max: usize) {
    faults.require(!text.trim().is_empty(), &path, "a text that is not empty is needed");
    check_text(faults, path, text, len_max);
}

/// An id that a client made: the nil UUID is what a program sends that forgot to make one, and all its sales would be one.
pub(super) fn check_id(faults: &mut Faults, path: &str, id: Uuid) {
    faults.require(!id.is_nil(), || path.to_owned(), "an id is a random UUID, not nil");
}

/// The schema of what quantities add up to.
#[cfg(test)]
pub(super) struct QuantitySum;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        assert_eq!(Time(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Time(1_795_339_800_120).to_string(), "2026-11-22T09:30:00.120Z");
        assert_eq!(Time(u64::MAX).to_string(), "9999-12-30T22:00:00.999Z");
        assert_eq!("2026-11-22T10:30:00.12+01:00".parse(), Ok(Time(1_795_339_800_120)));
        assert!("2026-11-22".parse::<Time>().is_err());
        assert!("1969-12-31T00:00:00Z".parse::<Time>().is_err());
    }

    #[test]
    fn texts_are_counted_in_characters() {
        let faults = |text: &str| {
            let mut faults = Faults::default();
            check_text(&mut faults, || "a".to_owned(), text, 4);
            faults.or(()).is_err()
        };
        assert!(!faults("قهوة"));
        assert!(faults("abcde"));
        assert!(faults("a\u{1b}@"));
        assert!(!faults("a\nb"));
    }
}
