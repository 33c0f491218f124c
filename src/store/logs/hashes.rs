//! Running hashes of compacted ops: eight bytes an op, kept for good, packed into rows of the table `hashes`.

use rusqlite::{Connection, OptionalExtension};

use super::super::error::StoreError;
use crate::model::op::{RunningHash, Seq};

/// Hashes in one row of the table. Four such rows fill a page.
const CHUNK: u64 = 120;

/// Bytes of a hash.
const BYTES: u64 = 8;

/// Hashes that are copied at once.
const COPIED_MAX: u64 = 100 * CHUNK;

/// The row in which a hash is, and its place there.
fn place(seq: Seq) -> (i64, u64) {
    (((seq - 1) / CHUNK).cast_signed(), (seq - 1) % CHUNK)
}

fn row(conn: &Connection, idx: i64, chunk: i64) -> Result<Option<Vec<u8>>, StoreError> {
    let mut statement = conn.prepare_cached("SELECT hashes FROM hashes WHERE origin_idx = ?1 AND chunk = ?2")?;
    Ok(statement.query_row((idx, chunk), |row| row.get(0)).optional()?)
}

/// The hashes of the ops from one to another; none where `upto` is before `from`.
pub(super) fn read(conn: &Connection, idx: i64, from: Seq, upto: Seq) -> Result<Vec<RunningHash>, StoreError> {
    let mut all = Vec::new();
    let mut next = from;
    while next <= upto {
        let (chunk, first) = place(next);
        let count = (CHUNK - first).min(upto - next + 1);
        let bytes = row(conn, idx, chunk)?.unwrap_or_default();
        let wanted = bytes.get((first * BYTES) as usize..((first + count) * BYTES) as usize).ok_or_else(|| {
            StoreError::Damaged(format!("the log in row {idx} lacks packed hashes of ops {next} and beyond"))
        })?;
        all.extend(wanted.as_chunks::<{ BYTES as usize }>().0.iter().map(|hash| RunningHash(*hash)));
        next += count;
    }
    Ok(all)
}

/// Puts hashes in, from that of op `from` on. What stood there and beyond is overwritten.
pub(super) fn write(conn: &Connection, idx: i64, from: Seq, hashes: &[RunningHash]) -> Result<(), StoreError> {
    let (mut next, mut rest) = (from, hashes);
    while !rest.is_empty() {
        let (chunk, first) = place(next);
        let mut bytes = if first > 0 { row(conn, idx, chunk)?.unwrap_or_default() } else { Vec::new() };
        // Of a log that is being taken the places before are empty: its beginning is that of a log that is here.
        bytes.resize((first * BYTES) as usize, 0);
        let (now, later) = rest.split_at(rest.len().min((CHUNK - first) as usize));
        now.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
        conn.prepare_cached("INSERT OR REPLACE INTO hashes (origin_idx, chunk, hashes) VALUES (?1, ?2, ?3)")?
            .execute((idx, chunk, bytes))?;
        (next, rest) = (next + now.len() as u64, later);
    }
    Ok(())
}

/// Takes away the hashes of all ops beyond one.
pub(super) fn truncate(conn: &Connection, idx: i64, upto: Seq) -> Result<(), StoreError> {
    let (chunk, first) = place(upto + 1);
    conn.prepare_cached("DELETE FROM hashes WHERE origin_idx = ?1 AND (chunk > ?2 OR chunk = ?2 AND ?3 = 0)")?
        .execute((idx, chunk, first.cast_signed()))?;
    conn.prepare_cached("UPDATE hashes SET hashes = substr(hashes, 1, ?3) WHERE origin_idx = ?1 AND chunk = ?2")?
        .execute((idx, chunk, (first * BYTES).cast_signed()))?;
    Ok(())
}

/// Copies the hashes of the ops `from` to `upto` of one log into another, there from op `at` on.
pub(super) fn copy(
    conn: &Connection,
    (idx, from, upto): (i64, Seq, Seq),
    (to, at): (i64, Seq),
) -> Result<(), StoreError> {
    let mut next = from;
    while next <= upto {
        let last = upto.min(next + COPIED_MAX - 1);
        write(conn, to, at + (next - from), &read(conn, idx, next, last)?)?;
        next = last + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::schema;

    fn numbered(from: Seq, upto: Seq) -> Vec<RunningHash> {
        (from..=upto).map(|n| RunningHash(n.to_be_bytes())).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn what_is_put_in_in_any_pieces_is_read_in_any_pieces(
            pieces in prop::collection::vec(1u64..300, 1..6), cut in 0u64..1500, shift in 0u64..500
        ) {
            let mut conn = Connection::open_in_memory().unwrap();
            schema::migrate(&mut conn).unwrap();
            let mut end = 0;
            for piece in pieces {
                write(&conn, 1, end + 1, &numbered(end + 1, end + piece)).unwrap();
                end += piece;
            }
            prop_assert_eq!(read(&conn, 1, 1, end).unwrap(), numbered(1, end));
            let shift = shift.min(end);
            copy(&conn, (1, shift + 1, end), (2, 1)).unwrap();
            prop_assert_eq!(read(&conn, 2, 1, end - shift).unwrap(), numbered(shift + 1, end));
            let cut = cut.min(end);
            truncate(&conn, 1, cut).unwrap();
            prop_assert_eq!(read(&conn, 1, 1, cut).unwrap(), numbered(1, cut));
            prop_assert!(read(&conn, 1, 1, cut + 1).is_err());
            write(&conn, 1, cut + 1, &numbered(cut + 1, cut + 7)).unwrap();
            prop_assert_eq!(read(&conn, 1, 1, cut + 7).unwrap(), numbered(1, cut + 7));
        }
    }
}
