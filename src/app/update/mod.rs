//! Updates of the box: a signed file goes to the spare slot of the card while selling goes on, is started once, and stays only where it
//! proves healthy.
//!
//! ```text
//! environment  a sector that the boot loader reads and writes      card     where on the card the slots and their state are
//! manifest     what an update says of itself                       file     the update file: signature, hashes
//! install      the spare slot is written, read back, named         trial    what became of it
//! desk         the agent's part: takes the file in                 place    root's part: installs, confirms
//! ```
//!
//! The agent is not allowed near the card: it leaves a checked file in its own folder, and a unit of the system that runs as root does
//! the rest, checking again. **Invariant:** at any moment, power may fail, and the box starts with a slot that is whole.

mod card;
mod desk;
mod environment;
mod file;
mod install;
mod manifest;
mod place;
#[cfg(test)]
mod sample;
mod trial;

use std::env;
use std::path::{Path, PathBuf};

pub use desk::Desk;
pub use file::{Keys, UpdateError, UpdateFile};
pub use manifest::Manifest;
pub use place::{Outcome, confirm, install};
pub use trial::{Health, Record, Stage, trouble};

use crate::store::{self, StoreError, SystemEntropy};

/// The folder of the agent's data folder in which an update waits to be installed.
const FOLDER: &str = "update";
/// What is coming in.
const INCOMING: &str = "incoming";
/// What was checked and is to be installed.
const FILE: &str = "file";
/// Tells the system that there is such a file; holds [`RESTART`] or [`LATER`].
const READY: &str = "ready";
const RESTART: &str = "restart";
const LATER: &str = "later";

/// Where the image keeps what it tells of the box.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BoxPlaces {
    /// A folder with the files `slot` and `disk`, made anew at each boot: the slot that runs, and the card's device.
    pub run: PathBuf,
    /// What became of the last update: root's, for all to read.
    pub record: PathBuf,
    /// Who may sign updates.
    pub keys: PathBuf,
}

impl BoxPlaces {
    /// Those of the environment (`TILLMESH_BOX_RUN`, `TILLMESH_BOX_RECORD`, `TILLMESH_UPDATE_KEYS`), else the image's own.
    #[must_use]
    pub fn of_environment() -> Self {
        let place = |name: &str, usual: &str| env::var_os(name).map_or_else(|| PathBuf::from(usual), PathBuf::from);
        Self {
            run: place("TILLMESH_BOX_RUN", "/run/tillmesh-box"),
            record: place("TILLMESH_BOX_RECORD", "/var/lib/tillmesh-box/update.json"),
            keys: place("TILLMESH_UPDATE_KEYS", "/etc/tillmesh/update.keys"),
        }
    }

    /// Whether this is a box that can be updated: made from the image.
    #[must_use]
    pub fn is_box(&self) -> bool {
        self.run.join("slot").is_file()
    }
}

/// Where this version is the one that an update fell back to, and the update has brought the database to a form that this version does not
/// know: goes on from the copy of before. Gives where the later database is now.
///
/// # Errors
/// As [`store::restore`].
pub fn go_back(places: &BoxPlaces, database: &Path) -> Result<Option<PathBuf>, StoreError> {
    let tried = [Stage::Installed, Stage::Trial, Stage::FellBack];
    let fell_back = Record::read(&places.record)
        .is_some_and(|record| record.from == env!("CARGO_PKG_VERSION") && tried.contains(&record.stage));
    if fell_back { store::go_back(database, &mut SystemEntropy) } else { Ok(None) }
}

/// The folder of a data folder in which an update waits.
fn folder_of(data_dir: &Path) -> PathBuf {
    data_dir.join(FOLDER)
}
