//! Times as POSPlus writes them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// The latest time that is taken, in milliseconds since 1970: the latest that the library knows.
const LATEST_MS: i64 = 253_402_207_199_999;

/// As JavaScript's `toISOString` writes it: UTC, with milliseconds.
#[must_use]
pub fn iso(at_ms: u64) -> String {
    let at_ms = i64::try_from(at_ms).unwrap_or(LATEST_MS).min(LATEST_MS);
    let time = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

/// Milliseconds since 1970 of ISO 8601 with an offset or `Z`, or of SQLite's `YYYY-MM-DD HH:MM:SS`, which is UTC. `None` for what is neither,
/// or before 1970 or after 9999.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    // Anything longer is no time; and the parser need not see it.
    if text.len() > 40 {
        return None;
    }
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        Err(_) => text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    let at_ms = time.as_millisecond();
    (0..=LATEST_MS).contains(&at_ms).then(|| at_ms.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_ways_and_written_in_one() {
        assert_eq!(parse("2025-11-23T10:00:00Z"), parse("2025-11-23 10:00:00"));
        assert_eq!(parse("2025-11-23T11:00:00.250+01:00").map(iso).as_deref(), Some("2025-11-23T10:00:00.250Z"));
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        for wrong in ["", "now", "2025-13-01T00:00:00Z", "1960-01-01T00:00:00Z", &"2".repeat(100)] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(iso(u64::MAX), "9999-12-30T21:59:59.999Z");
    }
}
