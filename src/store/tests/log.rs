//! The write-ahead log: when it is moved into the database, and how long it gets.

use std::fs;

use super::*;

/// What SQLite writes to the log for a page.
const FRAME: u64 = 4096 + 24;

fn log_len(till: &Till) -> u64 {
    fs::metadata(till.options.path.with_extension("db-wal")).unwrap().len()
}

/// Sells until the log holds so many pages; gives the id that comes next.
fn sell_until(till: &mut Till, mut id: u128, pages: i64) -> u128 {
    while till.db().log_pages().unwrap() < pages {
        let before = till.db().log_pages().unwrap();
        till.sell(id, sale(&[(7, 1)]));
        assert!(till.db().log_pages().unwrap() > before, "the commit of sale {id} moved the log");
        id += 1;
    }
    id
}

#[test]
fn a_pause_moves_the_log_and_no_commit_has_to() {
    let mut till = Till::new(1);
    let mut id = 1;
    for _ in 0..4 {
        id = sell_until(&mut till, id, 600);
        assert!(till.db().tidy_log().unwrap());
        assert_eq!(till.db().log_pages().unwrap(), 0);
        assert!(!till.db().tidy_log().unwrap(), "there is nothing to move");
        assert!(log_len(&till) < 700 * FRAME, "{} bytes: the log is not used again from its beginning", log_len(&till));
    }
}

#[test]
fn a_short_log_is_left_for_later() {
    let mut till = Till::new(1);
    sell_until(&mut till, 1, 100);
    assert!(!till.db().tidy_log().unwrap());
    assert!(till.db().log_pages().unwrap() >= 100);
}

#[test]
fn without_a_pause_the_log_is_bounded_all_the_same() {
    let mut till = Till::new(1);
    let (mut longest, mut moved) = (0, 0);
    let mut id = 1;
    while moved < 3 {
        let before = till.db().log_pages().unwrap();
        till.sell(id, sale(&[(7, 1)]));
        moved += usize::from(till.db().log_pages().unwrap() < before / 2);
        longest = longest.max(log_len(&till));
        id += 1;
        assert!(id < 2000, "the log is never moved");
    }
    assert!(longest < 1100 * FRAME, "{longest} bytes");
}
