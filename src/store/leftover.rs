//! What was written by a version that did not stay: taken over from the database that it left.
//!
//! That database has a later form, which [`super::backup::go_back`] put aside. Later forms add to the tables of logs and records and leave
//! what is there as it is, so that a version of before finds its ops in them: what it does not know of them is held, as if a peer had sent it.

use std::fs;
use std::path::{Path, PathBuf};

use tokio::task::spawn_blocking;

use super::backup::{beside, sync_folder};
use super::error::StoreError;
use super::handle::Store;
use super::logs::OpsRead;
use super::reader::Reader;
use super::request::{Reply, Request};
use crate::model::id::Origin;
use crate::model::op::Seq;

/// What is read and applied at once: as much as a link would bring.
const OPS_MAX: usize = 1_000;
const BYTES_MAX: usize = 256 * 1024;
/// Databases that are looked for: more are never there, since each is taken over at the next start.
const LEFT_MAX: u32 = 100;

/// The name of the database number `n` that a version left which did not stay.
fn name(database: &Path, n: u32) -> PathBuf {
    beside(database, &format!(".not-kept-{n}"))
}

/// A free one of these names.
pub(super) fn free_name(database: &Path) -> Result<PathBuf, StoreError> {
    for n in 1..=LEFT_MAX {
        let name = name(database, n);
        if !name.try_exists()? {
            return Ok(name);
        }
    }
    Err(StoreError::Io(format!("{LEFT_MAX} databases of versions that did not stay are there: move them elsewhere")))
}

/// The databases that versions left which did not stay, as far as not all in them has been taken over.
#[must_use]
pub fn left_behind(database: &Path) -> Vec<PathBuf> {
    (1..=LEFT_MAX).map(|n| name(database, n)).filter(|path| path.exists()).collect()
}

impl Store {
    /// Takes over what the database `left` has beyond this one; gives how many ops. After that it is called `<database>.taken`, in the place of
    /// the one before.
    ///
    /// # Errors
    /// Where something in it cannot be read or has no place here. All else is taken over all the same, and it keeps its name.
    pub async fn take_over(&self, database: &Path, left: &Path) -> Result<u64, StoreError> {
        let path = left.to_owned();
        let there = blocking(move || Reader::open(&path)?.vector()).await?;
        let here = self.read(|reader| reader.vector()).await?;
        let (mut taken, mut trouble) = (0, None);
        for (origin, head) in there.0 {
            let mut from = here.seq(origin);
            while from < head.seq {
                match self.take_over_some(left, origin, from).await {
                    Ok(upto) => {
                        taken += upto - from;
                        from = upto;
                    }
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
        fs::rename(left, beside(database, ".taken"))?;
        sync_folder(database)?;
        Ok(taken)
    }

    /// The next ops of a log; gives the last.
    async fn take_over_some(&self, left: &Path, origin: Origin, after: Seq) -> Result<Seq, StoreError> {
        let path = left.to_owned();
        let read = blocking(move || Reader::open(&path)?.ops(origin, after + 1, OPS_MAX, BYTES_MAX)).await?;
        let OpsRead::Batch(batch) = read else {
            return Err(StoreError::Damaged(format!("{} has no op {} of {origin}", left.display(), after + 1)));
        };
        match self.submit(Request::Apply(batch)).await? {
            Reply::Applied { head, .. } if head.seq > after => Ok(head.seq),
            _ => Err(StoreError::Damaged(format!("the log of {origin} in {} is another one", left.display()))),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
}
