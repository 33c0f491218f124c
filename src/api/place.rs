//! Cursors: places in lists and in the stream of changes, as clients keep them.
//!
//! A cursor names the database incarnation that issued it. A restored backup counts on from an older place: with bare numbers a client
//! would be told nothing of what happened in between, and never notice.

use std::fmt;
use std::str::FromStr;

use crate::model::id::Origin;
use crate::store::{Cursor, Reader, StoreError};

use super::problem::{Kind, Problem};

/// A place: after item `n`, or, within it, after the first `parts` of what it is told in (0: all of it).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    origin: Origin,
    /// The item.
    pub n: u64,
    /// How many parts of it have been told; 0 for all.
    pub parts: u32,
}

/// The parameter `after`: nothing and `0` are the beginning.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum After {
    #[default]
    Beginning,
    /// Only what is new.
    Latest,
    Place(Place),
}

impl Place {
    /// After the whole of an item.
    pub(super) fn after(origin: Origin, cursor: Cursor) -> Self {
        Self { origin, n: cursor.0, parts: 0 }
    }

    /// After the first `parts` of an item.
    pub(super) fn within(origin: Origin, cursor: Cursor, parts: u32) -> Self {
        Self { origin, n: cursor.0, parts }
    }
}

impl After {
    /// From a query's text.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            None | Some("" | "0") => Ok(Self::Beginning),
            Some("latest") => Ok(Self::Latest),
            Some(text) => {
                let place = text.parse().map(Self::Place);
                place.map_err(|()| Problem::parameter("after", "a cursor is what a list or the stream has given"))
            }
        }
    }

    /// The place in a list, for the store; `None` in the inner result where the cursor is of another database.
    pub(super) fn cursor(self, reader: &Reader) -> Result<Option<Option<Cursor>>, StoreError> {
        match self {
            Self::Beginning | Self::Latest => Ok(Some(None)),
            Self::Place(place) if place.origin == reader.origin()? => Ok(Some(Some(Cursor(place.n)))),
            Self::Place(_) => Ok(None),
        }
    }
}

/// The answer to a cursor of another database.
pub(super) fn gone() -> Problem {
    Problem::new(Kind::Gone, "this till's database was restored or replaced since: begin again, without a cursor")
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.origin, self.n)?;
        if self.parts > 0 {
            write!(f, ".{}", self.parts)?;
        }
        Ok(())
    }
}

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut fields = text.split('.');
        let mut field = || fields.next();
        let (Some(origin), Some(n), parts, None) = (field(), field(), field(), field()) else { return Err(()) };
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if origin.len() != 16
            || !origin.bytes().all(|b| b.is_ascii_hexdigit())
            || !digits(n)
            || !parts.is_none_or(digits)
        {
            return Err(());
        }
        let origin = u64::from_str_radix(origin, 16).map(Origin).map_err(|_| ())?;
        let n = n.parse().map_err(|_| ())?;
        let parts = parts.map_or(Ok(0), str::parse).map_err(|_| ())?;
        Ok(Self { origin, n, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back() {
        for (n, parts) in [(0, 0), (123, 0), (u64::MAX, 2)] {
            let place = Place { origin: Origin(0xa41c), n, parts };
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert_eq!(Place::within(Origin(1), Cursor(5), 2).to_string(), "0000000000000001.5.2");
    }

    #[test]
    fn what_is_not_a_cursor_is_refused() {
        for text in
            ["1", "x", "0000000000000001", "0000000000000001.", "0000000000000001.-1", "0000000000000001.1.2.3", "1.1"]
        {
            assert!(After::parse(Some(text)).is_err(), "{text}");
        }
        assert_eq!(After::parse(None).unwrap(), After::Beginning);
        assert_eq!(After::parse(Some("0")).unwrap(), After::Beginning);
    }
}
