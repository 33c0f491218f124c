//! Finding where a log parts from a peer's: each side tells its hashes at some places, and the other answers with more of them between
//! the last that agrees and the first that does not, until these are neighbours.

use rusqlite::Connection;

use super::super::error::StoreError;
use super::super::reader::Reader;
use super::row::Row;
use crate::model::id::Origin;
use crate::model::op::{Head, Seq};
use crate::sync::{Comparison, MARKS_MAX};

impl Reader {
    /// Compares a log with the hashes that a peer told of it, ascending; where it told none, gives ours to be told.
    ///
    /// # Errors
    /// The database's.
    pub fn compare(&self, origin: Origin, marks: &[Head]) -> Result<Comparison, StoreError> {
        self.snapshot(|reader| {
            let log = Row::of(reader.conn(), origin)?;
            match log.filter(|log| log.head.seq > 0) {
                Some(log) => compare(reader.conn(), &log, marks),
                None => Ok(Comparison::Unknown),
            }
        })
    }
}

fn compare(conn: &Connection, log: &Row, marks: &[Head]) -> Result<Comparison, StoreError> {
    let end = log.head.seq;
    if marks.is_empty() {
        return Ok(Comparison::Narrow(spread(conn, log, 0, end)?));
    }
    // Before the first op all agree: a log of this name begins as ours does, or parts there.
    let mut same = 0;
    for mark in marks {
        if mark.seq > end {
            return if same == end {
                Ok(Comparison::Same)
            } else {
                Ok(Comparison::Narrow(spread(conn, log, same, end)?))
            };
        }
        if log.hash_at(conn, mark.seq)? == mark.hash {
            same = mark.seq;
        } else if mark.seq <= same + 1 {
            return Ok(Comparison::Parted(same));
        } else {
            return Ok(Comparison::Narrow(spread(conn, log, same, mark.seq)?));
        }
    }
    Ok(Comparison::Same)
}

/// Our hashes at both places and evenly between: all of them, where that is not too many.
fn spread(conn: &Connection, log: &Row, from: Seq, upto: Seq) -> Result<Vec<Head>, StoreError> {
    let steps = (upto - from).clamp(1, MARKS_MAX as u64 - 1);
    let mut places: Vec<Seq> =
        (0..=steps).map(|step| from + ((upto - from) as u128 * step as u128 / steps as u128) as u64).collect();
    places.dedup();
    places.into_iter().map(|seq| Ok(Head { seq, hash: log.hash_at(conn, seq)? })).collect()
}
