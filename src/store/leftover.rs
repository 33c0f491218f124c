//! What was written by a version that did not stay: taken over from the database that it left.
//!
//! That database has a later form, which [`super::backup::go_back`] put aside. Later forms add to the tables of logs and records and leave
//! what is there as it is, so that a version of before finds its ops in them: what it does not know of them is held, as if a peer had sent it.

use std::fs;
use std::path::{Path, PathBuf};

use super::backup::{beside, remove_all, sync_folder};
use super::db::Db;
use super::error::StoreError;
use super::logs::OpsRead;
use super::reader::Reader;
use super::request::{Now, Reply, Request};
use crate::model::id::Origin;
use crate::model::op::Seq;

/// What is read and applied at once: as much as a link would bring.
const OPS_MAX: usize = 1_000;
const BYTES_MAX: usize = 256 * 1024;
/// Behind the database's name, and before a number: one that a version left which did not stay.
pub(super) const NOT_KEPT: &str = ".not-kept-";
/// Databases that are looked for: more are never there, since each is taken over at the next start.
const LEFT_MAX: u32 = 100;

/// The databases that versions left which did not stay, as far as not all in them has been taken over.
#[must_use]
pub fn left_behind(database: &Path) -> Vec<PathBuf> {
    (1..=LEFT_MAX).map(|n| beside(database, &format!("{NOT_KEPT}{n}"))).filter(|path| path.exists()).collect()
}

/// Takes over what versions that did not stay have left: what the databases of that name have beyond this one. After that one is called
/// `<database>.taken`, in the place of the one before. Where something in it cannot be read or has no place here, that is said in the log, all
/// else is taken over all the same, and it keeps its name.
pub fn take_over(db: &mut Db, database: &Path, now: Now) {
    for left in left_behind(database) {
        if let Err(error) = take_over_one(db, database, &left, now) {
            tracing::warn!("not all in {} could be taken over: {error}", left.display());
        }
    }
}

fn take_over_one(db: &mut Db, database: &Path, left: &Path, now: Now) -> Result<(), StoreError> {
    let there = Reader::open(left)?;
    let here = db.reader()?.vector()?;
    let mut trouble = None;
    for (origin, head) in there.vector()?.0 {
        let mut after = here.seq(origin);
        while after < head.seq {
            match take_some(db, &there, origin, after, now) {
                Ok(upto) => after = upto,
                Err(error) => {
                    trouble = Some(error);
                    break;
                }
            }
        }
    }
    if let Some(error) = trouble {
        return Err(error);
    }
    drop(there);
    // A write-ahead log that stayed would be read with the next database of that name.
    let name = beside(database, ".taken");
    remove_all(&name)?;
    for suffix in ["-wal", ""] {
        let from = beside(left, suffix);
        if from.try_exists()? {
            fs::rename(from, beside(&name, suffix))?;
        }
    }
    remove_all(left)?;
    sync_folder(database)
}

/// The next ops of a log; gives the last.
fn take_some(db: &mut Db, there: &Reader, origin: Origin, after: Seq, now: Now) -> Result<Seq, StoreError> {
    let OpsRead::Batch(batch) = there.ops(origin, after + 1, OPS_MAX, BYTES_MAX)? else {
        return Err(StoreError::Damaged(format!("it has no op {} of {origin}", after + 1)));
    };
    match db.execute(vec![Request::Apply(batch)], now).replies.remove(0)? {
        Reply::Applied { head, .. } if head.seq > after => Ok(head.seq),
        _ => Err(StoreError::Damaged(format!("the log of {origin} is another one there"))),
    }
}
