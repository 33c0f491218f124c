//! The agent's part of an update: it takes the file in, checks it, and leaves it for root.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::file::{Keys, UpdateError, UpdateFile};
use super::trial::Record;
use super::{BoxPlaces, FILE, INCOMING, LATER, READY, RESTART, folder_of};
use crate::api::{LastUpdate, UpdateRefusal, UpdateState, UpdateWish, Updates};
use crate::store;

/// Updates as the API asks for them.
#[derive(Debug)]
pub struct Desk {
    places: BoxPlaces,
    folder: PathBuf,
    /// What runs.
    version: &'static str,
    database: u32,
}

impl Desk {
    /// Of a till's data folder.
    #[must_use]
    pub fn new(places: BoxPlaces, data_dir: &Path) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self { places, folder: folder_of(data_dir), version, database: store::SCHEMA_VERSION }
    }

    fn check(&self, older: bool) -> Result<(), UpdateError> {
        let incoming = self.folder.join(INCOMING);
        let mut update = UpdateFile::open(&incoming, &Keys::of_file(&self.places.keys)?)?;
        let manifest = update.manifest();
        if manifest.is_older_than(self.version, self.database) && !older {
            return Err(UpdateError::Older { offered: manifest.version.clone(), running: self.version.to_owned() });
        }
        update.verify()
    }

    fn leave(&self, wish: UpdateWish) -> io::Result<()> {
        fs::rename(self.folder.join(INCOMING), self.folder.join(FILE))?;
        // The file's name is on the card before the system hears of it...
        fs::File::open(&self.folder)?.sync_all()?;
        let ready = self.folder.join(READY);
        let mut file = fs::File::create(ready.with_extension("new"))?;
        file.write_all(if wish.restart { RESTART } else { LATER }.as_bytes())?;
        file.sync_all()?;
        fs::rename(ready.with_extension("new"), ready)?;
        // ...and that it did, before it is answered: power may fail while it is written.
        fs::File::open(&self.folder)?.sync_all()
    }
}

impl Updates for Desk {
    fn begin(&self) -> Result<PathBuf, UpdateRefusal> {
        if !self.places.is_box() {
            return Err(UpdateRefusal::NotNow(UpdateError::NoBox.to_string()));
        }
        Keys::of_file(&self.places.keys).map_err(|error| UpdateRefusal::NotNow(error.to_string()))?;
        if self.folder.join(READY).exists() {
            return Err(UpdateRefusal::NotNow("an update is being installed: wait until it is done".to_owned()));
        }
        fs::create_dir_all(&self.folder).map_err(|error| UpdateRefusal::Failed(error.to_string()))?;
        Ok(self.folder.join(INCOMING))
    }

    fn take(&self, wish: UpdateWish) -> Result<UpdateState, UpdateRefusal> {
        self.check(wish.older).map_err(|error| match error {
            UpdateError::Io(error) => UpdateRefusal::Failed(error.to_string()),
            wrong => UpdateRefusal::Wrong(wrong.to_string()),
        })?;
        self.leave(wish).map_err(|error| UpdateRefusal::Failed(error.to_string()))?;
        Ok(self.state())
    }

    fn state(&self) -> UpdateState {
        let slot = fs::read_to_string(self.places.run.join("slot")).ok().map(|slot| slot.trim().to_owned());
        let last = Record::read(&self.places.record).map(|record| LastUpdate {
            stage: record.stage.name().to_owned(),
            version: record.version,
            from: record.from,
            detail: record.detail,
            at_ms: record.at_ms,
        });
        let installing = self.folder.join(READY).exists();
        UpdateState { version: self.version.to_owned(), possible: self.is_possible(), slot, installing, last }
    }
}

impl Desk {
    fn is_possible(&self) -> bool {
        self.places.is_box() && Keys::of_file(&self.places.keys).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{Sample, public_key};
    use super::*;

    struct Fixture {
        desk: Desk,
        folder: tempfile::TempDir,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let places = BoxPlaces {
            run: folder.path().join("run"),
            record: folder.path().join("update.json"),
            keys: folder.path().join("keys"),
        };
        fs::create_dir(&places.run).unwrap();
        fs::write(places.run.join("slot"), "a\n").unwrap();
        fs::write(&places.keys, public_key()).unwrap();
        let desk = Desk { version: "0.1.0", ..Desk::new(places, folder.path()) };
        Fixture { desk, folder }
    }

    const NOW: UpdateWish = UpdateWish { restart: true, older: false };

    #[test]
    fn a_good_file_is_left_for_root_and_one_at_a_time() {
        let Fixture { desk, folder } = fixture();
        fs::write(desk.begin().unwrap(), Sample::new("0.2.0").bytes()).unwrap();
        assert!(desk.take(NOW).unwrap().installing);
        assert_eq!(fs::read_to_string(folder.path().join("update/ready")).unwrap(), "restart");
        assert_eq!(fs::read(folder.path().join("update/file")).unwrap(), Sample::new("0.2.0").bytes());
        assert!(matches!(desk.begin(), Err(UpdateRefusal::NotNow(why)) if why.contains("being installed")));
    }

    #[test]
    fn a_wrong_file_an_older_one_and_another_machine_are_refused() {
        let Fixture { desk, folder } = fixture();
        let incoming = desk.begin().unwrap();
        fs::write(&incoming, b"no update").unwrap();
        assert!(matches!(desk.take(NOW), Err(UpdateRefusal::Wrong(_))));
        fs::write(&incoming, Sample::new("0.0.9").bytes()).unwrap();
        assert!(matches!(desk.take(NOW), Err(UpdateRefusal::Wrong(why)) if why.contains("--older")));
        assert!(!folder.path().join("update/ready").exists());
        assert!(desk.take(UpdateWish { older: true, ..NOW }).unwrap().installing);
        fs::remove_file(folder.path().join("update/ready")).unwrap();
        fs::remove_file(folder.path().join("keys")).unwrap();
        assert!(matches!(desk.begin(), Err(UpdateRefusal::NotNow(why)) if why.contains("takes no updates")));
        fs::remove_file(folder.path().join("run/slot")).unwrap();
        assert!(matches!(desk.begin(), Err(UpdateRefusal::NotNow(why)) if why.contains("tillmesh image")));
        assert!(!desk.state().possible);
    }
}
