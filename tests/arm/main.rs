//! What a processor, its C library and its unwinder must do for the agent. Quick everywhere; `tests/run arm` runs it on emulated ARM.
#![allow(clippy::unwrap_used, reason = "the helpers of these tests are tests too: what they unwrap fails them")]

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

/// 2100-01-01, far beyond what 32 bits of seconds can say.
const LATE: Duration = Duration::from_secs(4_102_444_800);

#[test]
fn a_date_after_2038_goes_to_the_disk_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late");
    File::create(&path).unwrap().set_modified(UNIX_EPOCH + LATE).unwrap();
    assert_eq!(path.metadata().unwrap().modified().unwrap(), UNIX_EPOCH + LATE);
    assert!(SystemTime::now() < UNIX_EPOCH + LATE);
}

/// Says that it was dropped.
struct Dropped<'a>(&'a mut u32);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        *self.0 += 1;
    }
}

#[test]
fn a_panic_is_caught_and_what_it_passes_is_dropped() {
    let mut drops = 0;
    for round in 0..100_u32 {
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let _outer = Dropped(&mut drops);
            deep(round % 7);
            panic_any(round);
        }));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&round));
    }
    assert_eq!(drops, 100);
}

/// Some frames, of a size that is not known beforehand.
fn deep(levels: u32) {
    let buffer = vec![levels; levels as usize + 1];
    if levels > 0 {
        deep(levels - 1);
    }
    assert_eq!(buffer.iter().sum::<u32>(), levels * (levels + 1));
}

#[test]
fn panics_of_several_threads_at_once_are_caught_in_each() {
    let threads: Vec<_> = (0..8_u32).map(|n| thread::spawn(move || panic_any(n))).collect();
    for (n, thread) in (0..8_u32).zip(threads) {
        assert_eq!(thread.join().unwrap_err().downcast_ref(), Some(&n));
    }
}

#[test]
fn a_write_ahead_log_is_shared_by_a_writer_and_a_reader() {
    const ROWS: u32 = 500;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wal.db");
    let writer = Connection::open(&path).unwrap();
    let mode: String = writer.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    writer
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 50; CREATE TABLE t (n INTEGER)")
        .unwrap();
    // The index of the log is shared memory: two connections see one another's state through it.
    assert!(path.with_extension("db-shm").exists());
    let (told, heard) = channel();
    let reading = thread::spawn({
        let path = path.clone();
        move || {
            let reader = Connection::open(&path).unwrap();
            for committed in heard {
                let (count, sum): (u32, i64) = reader
                    .query_row("SELECT count(*), coalesce(sum(n), 0) FROM t", [], |row| Ok((row.get(0)?, row.get(1)?)))
                    .unwrap();
                assert!(count >= committed, "{committed} were committed, {count} are seen");
                assert_eq!(sum, i64::from(count) * i64::from(count + 1) / 2, "a state between two commits");
            }
        }
    });
    for n in 1..=ROWS {
        writer.execute("INSERT INTO t VALUES (?1)", [n]).unwrap();
        told.send(n).unwrap();
    }
    drop(told);
    reading.join().unwrap();
    let verdict: String = writer.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
}
