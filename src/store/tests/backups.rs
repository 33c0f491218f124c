//! Backup while selling goes on, and restore.

use super::super::{backup, restore};
use super::*;

#[test]
fn a_copy_taken_while_selling_is_whole() {
    let mut till = Till::new(1);
    (1..=50).for_each(|id| drop(till.sell(id, sale(&[(7, 1)]))));
    let copy = copy_of(&till, "copy.db");
    let path = till.options.path.clone();
    let to = copy.clone();
    let copying = std::thread::spawn(move || backup(&path, &to));
    let mut id = 50;
    while !copying.is_finished() {
        id += 1;
        till.sell(id, sale(&[(7, 1)]));
    }
    copying.join().unwrap().unwrap();
    let conn = Connection::open(&copy).unwrap();
    let (tickets, ops, total): (i64, i64, i64) = conn
        .query_row(
            "SELECT (SELECT count(*) FROM ticket), (SELECT count(*) FROM op), (SELECT total FROM stock)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert!(tickets >= 50);
    assert_eq!((ops, total), (tickets, -1_000 * tickets), "of one moment");
    assert_eq!(till.stock(7), -Quantity::units(id as i64));
}

#[cfg(unix)]
#[test]
fn a_copy_is_one_file_of_its_owner_and_replaces_none() {
    use std::os::unix::fs::PermissionsExt;
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy.db");
    backup(&till.options.path, &copy).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(backup(&till.options.path, &copy), Err(StoreError::Io(_))));
    // No agent needs to run.
    till.db = None;
    backup(&till.options.path, &folder.path().join("second.db")).unwrap();
    assert!(backup(&folder.path().join("missing"), &folder.path().join("third.db")).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half done is left");
}

#[test]
fn a_restored_till_keeps_its_sales_and_writes_under_a_fresh_origin() {
    let mut till = Till::new(1);
    let mut peer = Till::new(2);
    let sold = till.sell(1, sale(&[(7, 1)]));
    let copy = copy_of(&till, "copy.db");
    backup(&till.options.path, &copy).unwrap();
    till.sell(2, sale(&[(7, 1)]));
    peer.pull(&mut till, 10);
    let path = till.options.path.clone();
    assert_eq!(restore(&copy, &path, &mut Seeded(5)), Err(StoreError::Locked), "the agent runs");

    let origin = till.origin();
    till.db = None;
    let aside = restore(&copy, &path, &mut Seeded(5)).unwrap().unwrap();
    till.open();
    assert_ne!(till.origin(), origin);
    assert_eq!(till.reader().ticket(uuid(1)).unwrap().unwrap(), sold);
    assert_eq!(till.reader().ticket(uuid(2)).unwrap(), None);
    let next = till.sell(3, sale(&[(7, 1)]));
    assert_eq!(next.ticket.previous, sold.chain);
    assert_ne!(next.ticket.number, peer.reader().ticket(uuid(2)).unwrap().unwrap().ticket.number);

    peer.pull(&mut till, 10);
    till.pull(&mut peer, 10);
    assert!(till.reader().ticket(uuid(2)).unwrap().is_some(), "what the copy lacked comes back from a peer");
    assert_eq!((till.stock(7), digest(&mut till)), (Quantity::units(-3), digest(&mut peer)));
    let tickets: i64 =
        Connection::open(aside).unwrap().query_row("SELECT count(*) FROM ticket", [], |row| row.get(0)).unwrap();
    assert_eq!(tickets, 2, "the former database is whole");
}

#[test]
fn what_is_no_copy_of_a_till_changes_nothing() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    till.db = None;
    let path = till.options.path.clone();
    let before = std::fs::read(&path).unwrap();
    let text = copy_of(&till, "notes.txt");
    std::fs::write(&text, "not a database, but long enough to look like one".repeat(200)).unwrap();
    let foreign = copy_of(&till, "foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let empty = copy_of(&till, "empty.db");
    std::fs::write(&empty, "").unwrap();
    for wrong in [&text, &foreign, &empty] {
        let refused = restore(wrong, &path, &mut Seeded(5));
        assert!(matches!(refused, Err(StoreError::NotADatabase(_))), "{refused:?}");
    }
    let cut = copy_of(&till, "cut.db");
    std::fs::write(&cut, &before[..before.len() / 2]).unwrap();
    assert!(restore(&cut, &path, &mut Seeded(5)).is_err());
    let later = copy_of(&till, "later.db");
    std::fs::write(&later, &before).unwrap();
    Connection::open(&later).unwrap().pragma_update(None, "user_version", 99).unwrap();
    assert!(matches!(restore(&later, &path, &mut Seeded(5)), Err(StoreError::TooNew { found: 99, .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert!(!copy_of(&till, "till.db.restoring").exists());
    till.open();
    assert_eq!(till.stock(7), Quantity::units(-1));
}

#[test]
fn a_damaged_database_is_moved_aside_by_a_restore() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    let copy = copy_of(&till, "copy.db");
    let path = till.options.path.clone();
    backup(&path, &copy).unwrap();
    till.db = None;
    std::fs::write(&path, vec![9u8; 4_096]).unwrap();
    std::fs::write(copy_of(&till, "till.db-wal"), b"an old log").unwrap();
    let aside = restore(&copy, &path, &mut Seeded(5)).unwrap().unwrap();
    assert_eq!(std::fs::read(aside).unwrap(), vec![9u8; 4_096]);
    till.open();
    assert_eq!(till.stock(7), Quantity::units(-1));
}
