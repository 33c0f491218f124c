//! What became of an update: noted by root on the data partition, for the agent and the vendor to read.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::{Value, json};

use super::card::{BootState, Slot};

/// How far an update has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// In the spare slot; the next start of the box tries it.
    Installed,
    /// Runs, and has to prove healthy.
    Trial,
    /// Has proved healthy, and stays.
    Confirmed,
    /// Was tried, and the former version is back.
    FellBack,
    /// Could not be installed.
    Failed,
}

impl Stage {
    /// The name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Trial => "trial",
            Self::Confirmed => "confirmed",
            Self::FellBack => "fellBack",
            Self::Failed => "failed",
        }
    }

    fn named(name: &str) -> Option<Self> {
        let all = [Self::Installed, Self::Trial, Self::Confirmed, Self::FellBack, Self::Failed];
        all.into_iter().find(|stage| stage.name() == name)
    }
}

/// The note of the last update.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// How far it has come.
    pub stage: Stage,
    /// Its version, where that could be read.
    pub version: Option<String>,
    /// What ran before it.
    pub from: String,
    /// What went wrong.
    pub detail: Option<String>,
    /// When it came to this stage, in milliseconds since 1970, by this box's clock.
    pub at_ms: u64,
    /// Whether another till was linked when it was installed: it must be again.
    pub meshed: bool,
}

impl Record {
    /// The note; `None` where there was no update yet, or the note cannot be read: it is no more than a note.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let told: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        let text = |name: &str| told[name].as_str().map(str::to_owned);
        Some(Self {
            stage: Stage::named(told["stage"].as_str()?)?,
            version: text("version"),
            from: text("from")?,
            detail: text("detail"),
            at_ms: told["atMs"].as_u64()?,
            meshed: told["meshed"].as_bool()?,
        })
    }

    /// Replaces the note.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        let Self { stage, version, from, detail, at_ms, meshed } = self;
        let told = json!({"stage": stage.name(), "version": version, "from": from, "detail": detail, "atMs": at_ms, "meshed": meshed});
        file.write_all(told.to_string().as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    }
}

/// What a note tells of that a person should know.
#[must_use]
pub fn trouble(record: &Path) -> Option<String> {
    let record = Record::read(record)?;
    let what = match record.stage {
        Stage::FellBack => "was tried and did not stay",
        Stage::Failed => "was not installed",
        Stage::Installed | Stage::Trial | Stage::Confirmed => return None,
    };
    let version = record.version.unwrap_or_else(|| "the update".to_owned());
    Some(format!("{version} {what}: {}", record.detail.unwrap_or_default()))
}

/// What the boot loader's state says of the slot that runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It is the one that is always started.
    Settled,
    /// It was started to be tried.
    OnTrial,
    /// The boot loader took it because the other one could not be read.
    Substitute,
    /// The other one was tried, and did not prove healthy.
    FellBack,
    /// The other one is to be tried at the next start.
    Waiting,
}

impl Standing {
    pub(super) fn of(state: BootState, running: Slot) -> Self {
        match state.tried {
            Some((slot, _)) if slot == running => Self::OnTrial,
            _ if state.good != running => Self::Substitute,
            Some((_, 0)) => Self::FellBack,
            Some(_) => Self::Waiting,
            None => Self::Settled,
        }
    }
}

/// Whether the agent is as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Health {
    /// It is.
    Well,
    /// It is, and another till that was linked before has not been seen yet: it may be switched off. Good enough once the trial is over.
    WellAlone,
    /// Not yet, and why.
    NotYet(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_and_the_slot_that_runs_tell_what_became_of_it() {
        let state = |tried| BootState { good: Slot::A, tried };
        for (tried, running, standing) in [
            (None, Slot::A, Standing::Settled),
            (Some((Slot::B, 1)), Slot::A, Standing::Waiting),
            (Some((Slot::B, 0)), Slot::B, Standing::OnTrial),
            (Some((Slot::B, 0)), Slot::A, Standing::FellBack),
            (None, Slot::B, Standing::Substitute),
        ] {
            assert_eq!(Standing::of(state(tried), running), standing, "{tried:?} {running}");
        }
    }

    #[test]
    fn a_note_is_replaced_whole_and_a_spoilt_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("box/update.json");
        assert_eq!(Record::read(&path), None);
        let record = Record {
            stage: Stage::FellBack,
            version: Some("0.2.0".into()),
            from: "0.1.0".into(),
            detail: Some("why".into()),
            at_ms: 7,
            meshed: true,
        };
        record.write(&path).unwrap();
        assert_eq!(Record::read(&path), Some(record));
        fs::write(&path, "{").unwrap();
        assert_eq!(Record::read(&path), None);
    }
    #[test]
    fn what_went_wrong_is_told_until_the_next_update() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("update.json");
        assert_eq!(trouble(&path), None);
        for (stage, told) in [
            (Stage::FellBack, Some("0.2.0 was tried and did not stay: why")),
            (Stage::Failed, Some("0.2.0 was not installed: why")),
            (Stage::Confirmed, None),
        ] {
            let (version, from, detail) = (Some("0.2.0".into()), "0.1.0".into(), Some("why".into()));
            Record { stage, version, from, detail, at_ms: 1, meshed: false }.write(&path).unwrap();
            assert_eq!(trouble(&path).as_deref(), told);
        }
    }
}
