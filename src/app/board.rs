//! The task that looks after the board: it lights the LED, reads the sensors now and then, and tells the driver.

use std::path::Path;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;

use super::clock::Uptime;
use super::update::{self, BoxPlaces};
use crate::board::judge::{Ills, Judge};
use crate::board::lamp::{Keeper, Seen};
use crate::board::led::LedState;
use crate::board::sensors::{Readings, Sensors};
use crate::board::{Board, System};

/// How often the sensors are read, in milliseconds. The LED is looked at as often: one wake-up for both.
const SENSE_EVERY_MS: u64 = 30_000;
/// What is due so soon is done now, in milliseconds.
const TOGETHER_MS: u64 = 2_000;
/// How long an end may wait for the LED: its files answer at once.
const END_MAX: Duration = Duration::from_millis(200);

/// What is known of the board now.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Report {
    pub(super) seen: Seen,
    pub(super) readings: Readings,
    pub(super) ills: Ills,
    /// What went wrong with the last update of the box.
    pub(super) update: Option<String>,
}

/// How the rest of the agent reaches the board.
#[derive(Debug)]
pub(super) struct BoardLink {
    pub(super) board: Board,
    /// What the LED is to show.
    pub(super) show: watch::Sender<LedState>,
    pub(super) reports: watch::Receiver<Report>,
}

/// The task, to be ended.
#[derive(Debug)]
pub(super) struct BoardTask {
    end: oneshot::Sender<bool>,
    task: JoinHandle<()>,
}

/// Finds the board, shows that the agent starts, and looks after it from now on.
pub(super) fn start(uptime: Uptime, choice: &str, folder: &Path, places: BoxPlaces) -> (BoardTask, BoardLink) {
    let system = System::this();
    let board = Board::find(&system, choice);
    for problem in &board.problems {
        warn!("board: {problem}");
    }
    let keeper = Keeper::new(&board.profile, Box::new(system.clone()), uptime.ms(), LedState::Starting);
    let (show, shown) = watch::channel(LedState::Starting);
    let (report, reports) = watch::channel(Report { seen: keeper.seen(), ..Report::default() });
    let sensors = Sensors::new(system, board.profile.clone(), folder);
    let (end, ends) = oneshot::channel();
    let limit = board.profile.temperature.clone();
    let mut caretaker = Caretaker {
        uptime,
        keeper,
        sensors,
        places,
        judge: Judge::default(),
        limit,
        reading: None,
        sense_at: 0,
        report,
        ended: false,
    };
    let task = tokio::spawn(async move {
        tokio::select! {
            well = ends => caretaker.end(well.unwrap_or(false)),
            () = caretaker.work(shown) => {}
        }
    });
    (BoardTask { end, task }, BoardLink { board, show, reports })
}

impl BoardTask {
    /// Puts the LED out after a clean end, else leaves it in Fault.
    pub(super) async fn end(self, well: bool) {
        let _ = self.end.send(well);
        let _ = tokio::time::timeout(END_MAX, self.task).await;
    }
}

struct Caretaker {
    uptime: Uptime,
    keeper: Keeper,
    sensors: Sensors,
    places: BoxPlaces,
    judge: Judge,
    limit: Option<crate::board::profile::Temperature>,
    /// On a thread of its own: the disk may not answer.
    reading: Option<JoinHandle<(Readings, Option<String>)>>,
    sense_at: u64,
    report: watch::Sender<Report>,
    ended: bool,
}

impl Drop for Caretaker {
    /// However the task ends: an LED that nobody looks after must not say that all is well.
    fn drop(&mut self) {
        if !self.ended {
            self.end(false);
        }
    }
}

impl Caretaker {
    async fn work(&mut self, mut shown: watch::Receiver<LedState>) {
        loop {
            self.on_time();
            let wake = self.keeper.next().into_iter().chain(self.reading.is_none().then_some(self.sense_at)).min();
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(self.uptime.at(at).into()).await,
                    None => std::future::pending().await,
                }
            };
            let read = async {
                match &mut self.reading {
                    Some(reading) => reading.await.ok(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Ok(()) = shown.changed() => {
                    let state = *shown.borrow_and_update();
                    self.keeper.show(self.uptime.ms(), state);
                }
                readings = read => self.on_read(readings),
                () = sleep => {}
            }
        }
    }

    fn on_time(&mut self) {
        let now = self.uptime.ms();
        self.keeper.on_time(now);
        if self.reading.is_none() && self.sense_at <= now + TOGETHER_MS {
            self.sense_at = now + SENSE_EVERY_MS;
            let (sensors, record) = (self.sensors.clone(), self.places.record.clone());
            self.reading = Some(spawn_blocking(move || (sensors.read(), update::trouble(&record))));
        }
        let seen = self.keeper.seen();
        self.report.send_if_modified(|report| {
            let changed = report.seen != seen;
            report.seen = seen;
            changed
        });
    }

    fn on_read(&mut self, read: Option<(Readings, Option<String>)>) {
        self.reading = None;
        let Some((readings, update)) = read else { return };
        let ills = self.judge.judge(self.uptime.ms(), self.limit.as_ref(), &readings);
        self.report.send_if_modified(|report| {
            let changed = (report.readings, &report.ills, &report.update) != (readings, &ills, &update);
            (report.readings, report.ills, report.update) = (readings, ills, update);
            changed
        });
    }

    fn end(&mut self, well: bool) {
        self.ended = true;
        let done = if well { self.keeper.dark() } else { self.keeper.leave_in_fault(self.uptime.ms()) };
        if let Err(error) = done {
            warn!("the status LED could not be put out: {error}");
        }
    }
}
