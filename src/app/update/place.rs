//! Root's part of an update: `tillmesh update install` and `tillmesh update confirm`, which the image's units start.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::card::{BootState, Card, Disk, Slot};
use super::file::{Keys, UpdateError, UpdateFile};
use super::trial::{Health, Record, Stage, Standing};
use super::{BoxPlaces, FILE, READY, folder_of, install as slots};
use crate::app::clock;

/// How long a new version has to prove healthy.
const TRIAL_MAX: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a trial lasts, and how often it is looked at.
#[derive(Clone, Copy)]
struct Patience {
    max: Duration,
    look: Duration,
}

/// What is to be done next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// The box is to be started again.
    RestartWanted,
}

/// Installs the update that the agent has left in its data folder. `meshed`: whether another till is linked. What goes wrong is noted.
///
/// # Errors
/// Why it was not installed; what runs goes on.
pub fn install(places: &BoxPlaces, data_dir: &Path, running: &str, meshed: bool) -> Result<Outcome, UpdateError> {
    let folder = folder_of(data_dir);
    let wish = fs::read_to_string(folder.join(READY))?;
    let mut record = Record {
        stage: Stage::Failed,
        version: None,
        from: running.to_owned(),
        detail: None,
        at_ms: clock::now().wall_ms,
        meshed,
    };
    let installed = install_file(places, &folder.join(FILE), &mut record);
    match &installed {
        Ok(()) => record.stage = Stage::Installed,
        Err(error) => record.detail = Some(error.to_string()),
    }
    record.at_ms = clock::now().wall_ms;
    record.write(&places.record)?;
    // The wish goes first: without its file it would be one for nothing.
    for name in [READY, FILE] {
        fs::remove_file(folder.join(name))?;
    }
    installed?;
    Ok(if wish.trim() == super::RESTART { Outcome::RestartWanted } else { Outcome::Done })
}

fn install_file(places: &BoxPlaces, file: &Path, record: &mut Record) -> Result<(), UpdateError> {
    let mut update = UpdateFile::open(file, &Keys::of_file(&places.keys)?)?;
    record.version = Some(update.manifest().version.clone());
    update.verify()?;
    let (card, running) = open(places)?;
    slots::install(&card, running, &mut update)?;
    Ok(())
}

/// The card of this box, and the slot that runs.
fn open(places: &BoxPlaces) -> Result<(Card<fs::File>, Slot), UpdateError> {
    let read = |name: &str| match fs::read_to_string(places.run.join(name)) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(UpdateError::NoBox),
        Err(error) => Err(error.into()),
    };
    let slot = Slot::named(&read("slot")?).ok_or(UpdateError::NoBox)?;
    Ok((Card::open(Path::new(&read("disk")?))?, slot))
}

/// After a start of the box: where a new version is on trial, waits until it is healthy, and has it stay; where it is not healthy in time,
/// wishes for a restart, which brings the former one back. Where that has happened, notes it.
///
/// # Errors
/// Where the card cannot be read or written.
pub async fn confirm(
    places: &BoxPlaces,
    running: &str,
    health: impl AsyncFnMut(bool) -> Health,
) -> Result<Outcome, UpdateError> {
    let (card, slot) = open(places)?;
    let patience = Patience { max: TRIAL_MAX, look: LOOK_EVERY };
    confirm_on(&card, slot, (places, running), patience, health).await
}

async fn confirm_on<D: Disk>(
    card: &Card<D>,
    slot: Slot,
    (places, running): (&BoxPlaces, &str),
    patience: Patience,
    mut health: impl AsyncFnMut(bool) -> Health,
) -> Result<Outcome, UpdateError> {
    let standing = Standing::of(card.state()?, slot);
    match standing {
        Standing::Settled | Standing::Waiting => return Ok(Outcome::Done),
        // However it is, there is nothing to go back to.
        Standing::Substitute => {
            card.set_state(BootState { good: slot, tried: None })?;
            return Ok(Outcome::Done);
        }
        Standing::OnTrial | Standing::FellBack => {}
    }
    let note = |stage, detail: Option<String>| {
        let before = Record::read(&places.record);
        let record = Record {
            stage,
            version: before.as_ref().and_then(|record| record.version.clone()),
            from: before.as_ref().map_or_else(|| running.to_owned(), |record| record.from.clone()),
            detail,
            at_ms: clock::now().wall_ms,
            meshed: before.is_some_and(|record| record.meshed),
        };
        record.write(&places.record)
    };
    if standing == Standing::FellBack {
        let said = Record::read(&places.record).filter(|record| record.stage == Stage::Trial).and_then(|r| r.detail);
        let said = said.unwrap_or_else(|| "it did not start".to_owned());
        note(Stage::FellBack, Some(said))?;
        card.set_state(BootState { good: slot, tried: None })?;
        return Ok(Outcome::Done);
    }
    note(Stage::Trial, None)?;
    let meshed = Record::read(&places.record).is_some_and(|record| record.meshed);
    let end = Instant::now() + patience.max;
    loop {
        match health(meshed).await {
            Health::WellAlone if Instant::now() < end => sleep(patience.look).await,
            Health::Well | Health::WellAlone => {
                card.set_state(BootState { good: slot, tried: None })?;
                note(Stage::Confirmed, None)?;
                return Ok(Outcome::Done);
            }
            Health::NotYet(why) if Instant::now() >= end => {
                note(Stage::Trial, Some(format!("it was not healthy within {} s: {why}", patience.max.as_secs())))?;
                return Ok(Outcome::RestartWanted);
            }
            Health::NotYet(_) => sleep(patience.look).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{MemoryDisk, Sample, public_key};
    use super::*;

    struct Fixture {
        card: Card<MemoryDisk>,
        places: BoxPlaces,
        max: Duration,
        _folder: tempfile::TempDir,
    }

    impl Fixture {
        /// A card with a state, and a note of an installed update.
        fn new(good: Slot, tried: Option<(Slot, u8)>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let places = BoxPlaces {
                run: folder.path().join("run"),
                record: folder.path().join("box/update.json"),
                keys: folder.path().join("keys"),
            };
            let card = Card::new(MemoryDisk::card_of("0.1.0")).unwrap();
            card.set_state(BootState { good, tried }).unwrap();
            let record = Record {
                stage: Stage::Installed,
                version: Some("0.2.0".into()),
                from: "0.1.0".into(),
                detail: None,
                at_ms: 1,
                meshed: true,
            };
            record.write(&places.record).unwrap();
            Self { card, places, max: TRIAL_MAX, _folder: folder }
        }

        async fn confirm(&self, slot: Slot, health: impl AsyncFnMut(bool) -> Health) -> (Outcome, Stage, BootState) {
            let patience = Patience { max: self.max, look: Duration::ZERO };
            let outcome = confirm_on(&self.card, slot, (&self.places, "0.2.0"), patience, health).await.unwrap();
            (outcome, Record::read(&self.places.record).unwrap().stage, self.card.state().unwrap())
        }
    }

    #[tokio::test]
    async fn what_proves_healthy_stays() {
        let on = Fixture::new(Slot::A, Some((Slot::B, 0)));
        let mut looks = 0;
        let health = async |meshed: bool| {
            assert!(meshed, "another till was linked when it was installed");
            looks += 1;
            if looks < 170 { Health::NotYet("starting".into()) } else { Health::Well }
        };
        let stays = BootState { good: Slot::B, tried: None };
        assert_eq!(on.confirm(Slot::B, health).await, (Outcome::Done, Stage::Confirmed, stays));
    }

    #[tokio::test]
    async fn who_meets_nobody_waits_for_the_end_of_the_trial() {
        let on = Fixture { max: Duration::from_millis(50), ..Fixture::new(Slot::A, Some((Slot::B, 0))) };
        let (began, stays) = (Instant::now(), BootState { good: Slot::B, tried: None });
        assert_eq!(on.confirm(Slot::B, async |_| Health::WellAlone).await, (Outcome::Done, Stage::Confirmed, stays));
        assert!(began.elapsed() >= on.max);
        // Whoever meets others then, and is not linked, is not well.
        let on = Fixture { max: Duration::from_millis(50), ..Fixture::new(Slot::A, Some((Slot::B, 0))) };
        let mut looks = 0;
        let health = async |_| {
            looks += 1;
            if looks == 1 { Health::WellAlone } else { Health::NotYet("none is linked".into()) }
        };
        assert_eq!(on.confirm(Slot::B, health).await.0, Outcome::RestartWanted);
    }

    #[tokio::test]
    async fn what_does_not_goes_and_says_why() {
        let on = Fixture { max: Duration::from_millis(5), ..Fixture::new(Slot::A, Some((Slot::B, 0))) };
        let ill = async |_| Health::NotYet("the database is not open".into());
        let goes = BootState { good: Slot::A, tried: Some((Slot::B, 0)) };
        assert_eq!(on.confirm(Slot::B, ill).await, (Outcome::RestartWanted, Stage::Trial, goes));
        // The former version starts again.
        let never = async |_| -> Health { panic!("what is settled is not asked") };
        let settled = BootState { good: Slot::A, tried: None };
        assert_eq!(on.confirm(Slot::A, never).await, (Outcome::Done, Stage::FellBack, settled));
        let detail = Record::read(&on.places.record).unwrap().detail.unwrap();
        assert!(detail.contains("not healthy within") && detail.contains("database"), "{detail}");
        // And again.
        let never = async |_| -> Health { panic!("what is settled is not asked") };
        assert_eq!(on.confirm(Slot::A, never).await, (Outcome::Done, Stage::FellBack, settled));
    }

    #[tokio::test]
    async fn what_does_not_start_is_told() {
        let on = Fixture::new(Slot::A, Some((Slot::B, 0)));
        let never = async |_| -> Health { panic!("what is settled is not asked") };
        assert_eq!(on.confirm(Slot::A, never).await.1, Stage::FellBack);
        assert_eq!(Record::read(&on.places.record).unwrap().detail.unwrap(), "it did not start");
    }

    #[tokio::test]
    async fn a_slot_that_is_all_that_can_be_read_is_the_good_one() {
        let on = Fixture::new(Slot::A, None);
        let never = async |_| -> Health { panic!("there is nothing to go back to") };
        let good = BootState { good: Slot::B, tried: None };
        assert_eq!(on.confirm(Slot::B, never).await, (Outcome::Done, Stage::Installed, good));
    }

    #[test]
    fn what_the_agent_left_is_installed_and_what_is_wrong_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("update")).unwrap();
        let places = BoxPlaces {
            run: folder.path().join("run"),
            record: folder.path().join("update.json"),
            keys: folder.path().join("keys"),
        };
        fs::create_dir(&places.run).unwrap();
        fs::write(&places.keys, public_key()).unwrap();
        let disk = folder.path().join("disk");
        fs::write(places.run.join("slot"), "a\n").unwrap();
        fs::write(places.run.join("disk"), disk.to_str().unwrap()).unwrap();
        MemoryDisk::card_of("0.1.0").save(&disk);
        let sample = Sample::new("0.2.0");
        let leave = |bytes: &[u8], wish: &str| {
            fs::write(data.join("update/file"), bytes).unwrap();
            fs::write(data.join("update/ready"), wish).unwrap();
        };
        leave(&sample.bytes()[..2_000], "restart");
        assert!(install(&places, &data, "0.1.0", false).is_err());
        let record = Record::read(&places.record).unwrap();
        assert!(record.stage == Stage::Failed && record.detail.unwrap().contains("whole"));
        for (wish, outcome) in [("restart", Outcome::RestartWanted), ("later", Outcome::Done)] {
            leave(&sample.bytes(), wish);
            assert_eq!(install(&places, &data, "0.1.0", true).unwrap(), outcome);
            assert_eq!(fs::read_dir(data.join("update")).unwrap().count(), 0);
            let (card, slot) = open(&places).unwrap();
            assert_eq!((slot, card.version(Slot::B).unwrap().as_deref()), (Slot::A, Some("0.2.0")));
            let record = Record::read(&places.record).unwrap();
            assert_eq!(
                (record.stage, record.version.as_deref(), record.meshed),
                (Stage::Installed, Some("0.2.0"), true)
            );
        }
        fs::remove_dir_all(&places.run).unwrap();
        assert!(matches!(open(&places), Err(UpdateError::NoBox)));
    }
}
