//! A disk that is full, read-only or taken, and a till that goes on when the cause is gone.

use super::*;

fn sell(id: u128) -> Request {
    Request::Sell { id: uuid(id), sale: Sale { notes: Some("x".repeat(2_000)), ..sale(&[(7, 1)]) } }
}

#[test]
fn a_second_agent_is_refused_and_the_first_is_unharmed() {
    let mut till = Till::new(1);
    let second = Db::open(&till.options, at(NOON), Box::new(Seeded(9)));
    assert_eq!(second.map(|_| ()), Err(StoreError::Locked));
    till.sell(1, sale(&[(7, 1)]));
    till.restart();
    assert_eq!(till.stock(7), Quantity::units(-1));
}

#[test]
fn a_full_disk_stores_nothing_and_selling_resumes() {
    let mut till = Till::new(1);
    let first = till.sell(1, sale(&[(7, 1)]));
    let origin = till.origin();
    let pages: i64 = till.conn().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    till.conn().query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    // The pages that are there have room for some sales.
    let mut id = 2;
    while till.ask(sell(id)).is_ok() {
        id += 1;
        assert!(id < 1_000, "the limit does not bite");
    }
    let head = till.head(origin);
    let before = digest(&mut till);
    // One that fits fails with the others: they share the commit.
    let executed = till.execute(vec![sell(1_000), goods_in(1_001, 7, 1), sell(1_002)]);
    assert_eq!(executed.replies, [Err(StoreError::DiskFull), Err(StoreError::DiskFull), Err(StoreError::DiskFull)]);
    assert_eq!((executed.committed.local, till.head(origin), digest(&mut till)), (None, head, before));

    till.conn().query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
    let Ok(Reply::Ticket { view, created: true }) = till.ask(sell(1_000)) else { panic!("not sold") };
    assert_eq!(
        view.ticket.number,
        format!("{}{:04}", &first.ticket.number[..first.ticket.number.len() - 4], head.seq + 1)
    );
    assert_eq!(till.head(origin).seq, head.seq + 1);
    let ops = till.ops(origin, 1).unwrap();
    assert_eq!(ops.after(), till.head(origin));
    assert!(digest(&mut till).iter().all(|row| !row.contains("unchained")));
}

#[test]
fn an_origin_that_could_not_be_stored_is_not_ours() {
    let mut till = Till::new(1);
    let origin = till.origin();
    till.conn().pragma_update(None, "query_only", true).unwrap();
    assert_eq!(till.ask(Request::LeaveOrigin(origin)), Err(StoreError::ReadOnly));
    assert_eq!(till.origin(), origin);
    // The disk fills up after the fresh origin was minted, and before it is stored.
    till.conn().pragma_update(None, "query_only", false).unwrap();
    let pages: i64 = till.conn().query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    till.conn().query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    let sales = (1..200).map(sell);
    let executed = till.execute([Request::LeaveOrigin(origin)].into_iter().chain(sales).collect());
    assert_eq!(executed.replies[0], Err(StoreError::DiskFull));
    assert_eq!(till.origin(), origin);
    till.conn().query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
    till.ask(Request::LeaveOrigin(origin)).unwrap();
    assert_ne!(till.origin(), origin);
}

#[test]
fn a_write_ahead_log_that_was_left_behind_is_written_once_more() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    // As a kill leaves it, after a sync that failed: what is in the log may be in the system's cache alone.
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions { path: dir.path().join("till.db"), ..till.options.clone() };
    for end in ["", "-wal"] {
        let name = format!("till.db{end}");
        std::fs::copy(till.dir.path().join(&name), dir.path().join(&name)).unwrap();
    }
    let log = dir.path().join("till.db-wal");
    let before = std::fs::read(&log).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    std::fs::File::options().write(true).open(&log).unwrap().set_modified(long_ago).unwrap();
    let db = Db::open(&options, at(NOON), Box::new(Seeded(2))).unwrap();
    assert_ne!(std::fs::metadata(&log).unwrap().modified().unwrap(), long_ago);
    assert!(std::fs::read(&log).unwrap() == before, "as it was");
    assert!(db.reader().unwrap().ticket(uuid(1)).unwrap().is_some());
}

#[test]
fn a_read_only_database_still_reads_and_sells_again_when_it_is_writable() {
    let mut till = Till::new(1);
    let sold = till.sell(1, sale(&[(7, 1)]));
    till.conn().pragma_update(None, "query_only", true).unwrap();
    assert_eq!(till.ask(sell(2)), Err(StoreError::ReadOnly));
    let now = at(NOON);
    assert_eq!(till.db().probe(now), Err(StoreError::ReadOnly));
    assert_eq!(till.reader().ticket(uuid(1)).unwrap().unwrap(), sold);
    till.conn().pragma_update(None, "query_only", false).unwrap();
    assert_eq!(till.db().probe(now), Ok(()));
    assert!(till.ask(sell(2)).is_ok());
}

#[test]
fn a_reader_never_waits_for_an_open_transaction() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    let reader = till.reader();
    till.conn().execute_batch("BEGIN IMMEDIATE; DELETE FROM ticket").unwrap();
    assert!(reader.ticket(uuid(1)).unwrap().is_some());
    till.conn().execute_batch("COMMIT").unwrap();
    assert!(reader.ticket(uuid(1)).unwrap().is_none());
}

#[test]
fn a_reader_cannot_write() {
    let mut till = Till::new(1);
    let reader = till.reader();
    let error = reader.conn().execute("DELETE FROM origin", []).unwrap_err();
    assert_eq!(StoreError::from(error), StoreError::ReadOnly);
}

#[test]
fn a_damaged_file_is_said_to_be_so_and_left_alone() {
    let mut till = Till::new(1);
    till.db = None;
    let garbage = vec![7u8; 8_192];
    std::fs::write(&till.options.path, &garbage).unwrap();
    let opened = Db::open(&till.options, at(NOON), Box::new(Seeded(1)));
    assert!(matches!(opened, Err(StoreError::Damaged(_))), "{opened:?}");
    assert_eq!(std::fs::read(&till.options.path).unwrap(), garbage);
}

#[test]
fn a_database_of_a_later_version_is_left_alone() {
    let mut till = Till::new(1);
    till.conn().pragma_update(None, "user_version", 99).unwrap();
    till.db = None;
    let opened = Db::open(&till.options, at(NOON), Box::new(Seeded(1)));
    assert!(matches!(opened, Err(StoreError::TooNew { found: 99, .. })), "{opened:?}");
}

#[test]
fn a_card_moved_into_another_till_goes_on_under_a_fresh_origin() {
    let mut till = Till::new(1);
    let sold = till.sell(1, sale(&[(7, 1)]));
    let origin = till.origin();
    till.options.author = author(2);
    till.restart();
    assert_ne!(till.origin(), origin);
    assert_eq!(till.sell(2, sale(&[(7, 1)])).ticket.previous, sold.chain);
    assert_eq!(till.head(origin).seq, 1);
    let fresh = till.origin();
    till.restart();
    assert_eq!(till.origin(), fresh);
}

#[cfg(unix)]
#[test]
fn the_database_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let till = Till::new(1);
    for suffix in ["", "-wal", "-shm"] {
        let file = till.dir.path().join(format!("till.db{suffix}"));
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_damaged_row_is_the_matter_of_those_alone_that_need_it() {
    let mut till = Till::new(1);
    till.sell(1, sale(&[(7, 1)]));
    till.conn().execute("UPDATE ticket SET body = x'ff'", []).unwrap();
    let cancel = Request::Cancel { id: None, ticket: uuid(1), reason: None };
    let replies = till.execute(vec![sell(2), cancel, sell(3)]).replies;
    assert!(replies[0].is_ok() && replies[2].is_ok(), "{replies:?}");
    assert!(matches!(replies[1], Err(StoreError::Damaged(_))), "{replies:?}");
}
