//! `tillmesh led`: the status LED without an agent, for whoever installs a till and for the unit that runs the agent.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::SignalKind;

use super::run::StopSignals;
use crate::app::clock::Uptime;
use crate::board::lamp::Keeper;
use crate::board::led::LedState;
use crate::board::{Board, System};
use crate::config::{ConfigManager, DataDir, FolderError};

/// How long the kernel may take until it blinks an LED, before that is left alone.
const SETTLE_MAX_MS: u64 = 1_500;

/// What systemd says of a service that has ended as it should (systemd.exec(5), `$SERVICE_RESULT`).
const WELL: &str = "success";

/// What is asked of the LED.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LedAction {
    /// Put it out.
    Off,
    /// Leave it in Fault.
    Fault,
    /// What `$SERVICE_RESULT` calls for: out after a clean end, Fault after any other.
    Stopped,
    /// Play all states, each so long, naming it.
    Test(Duration),
}

/// Does it. What only clears up after an agent says nothing where there is no LED.
///
/// # Errors
/// Where the LED cannot be lit; for [`LedAction::Test`] also where there is none or an agent uses it.
pub async fn led(folder: &DataDir, action: LedAction) -> anyhow::Result<()> {
    // A config that cannot be read has nothing to say of the board.
    let config = ConfigManager::peek(folder).ok().flatten();
    let led = config.map(|config| config.led).unwrap_or_default();
    let board = Board::find(&System::this(), &led.board);
    match action {
        LedAction::Off => off(&board),
        LedAction::Fault => fault(&board).await,
        LedAction::Stopped if std::env::var("SERVICE_RESULT").as_deref() == Ok(WELL) => off(&board),
        LedAction::Stopped => fault(&board).await,
        LedAction::Test(each) => test(folder, &board, each).await,
    }
}

fn off(board: &Board) -> anyhow::Result<()> {
    let mut keeper = keeper(board, Uptime::start(), LedState::Fault);
    keeper.dark().context("the status LED cannot be put out")
}

async fn fault(board: &Board) -> anyhow::Result<()> {
    let uptime = Uptime::start();
    let mut keeper = keeper(board, uptime, LedState::Fault);
    play(&mut keeper, uptime, SETTLE_MAX_MS, true).await;
    keeper.leave_in_fault(uptime.ms()).context("the status LED cannot be lit")
}

fn keeper(board: &Board, uptime: Uptime, state: LedState) -> Keeper {
    Keeper::new(&board.profile, Box::new(System::this()), uptime.ms(), state)
}

/// Does what the LED needs, for so long, or only until the kernel has taken it over.
async fn play(keeper: &mut Keeper, uptime: Uptime, ms: u64, until_settled: bool) {
    let end = uptime.ms() + ms;
    loop {
        let next = keeper.next().filter(|next| *next < end);
        if next.is_none() && until_settled {
            return;
        }
        tokio::time::sleep_until(uptime.at(next.unwrap_or(end)).into()).await;
        if next.is_none() {
            return;
        }
        keeper.on_time(uptime.ms());
    }
}

async fn test(folder: &DataDir, board: &Board, each: Duration) -> anyhow::Result<()> {
    let _lock = match folder.lock() {
        Ok(lock) => Some(lock),
        Err(FolderError::InUse(_)) => bail!("the agent runs and uses the LED: stop it first (systemctl stop tillmesh)"),
        // A till that has never run has no folder.
        Err(_) => None,
    };
    for problem in &board.problems {
        super::print(&format!("{problem}\n"))?;
    }
    let uptime = Uptime::start();
    let mut keeper = keeper(board, uptime, LedState::Fault);
    let seen = keeper.seen();
    let Some(place) = seen.place else {
        match seen.missing {
            Some(missing) => bail!("{}: the status LED is not there or cannot be lit: {missing}", board.profile.name),
            None => bail!("{} ({}.toml) has no status LED", board.profile.name, board.file),
        }
    };
    super::print(&format!("{} ({}.toml), LED {place}\n", board.profile.name, board.file))?;
    let mut stopping = StopSignals::listen(&[SignalKind::interrupt(), SignalKind::terminate()])?;
    let played = tokio::select! {
        played = play_all(&mut keeper, uptime, each) => played,
        () = stopping.next() => Ok(()),
    };
    keeper.dark().context("the status LED cannot be put out")?;
    Ok(played?)
}

async fn play_all(keeper: &mut Keeper, uptime: Uptime, each: Duration) -> io::Result<()> {
    for state in LedState::ALL {
        keeper.show(uptime.ms(), state);
        super::print(&format!("{:<10} {}\n", state.name(), keeper.look_of(state)))?;
        play(keeper, uptime, u64::try_from(each.as_millis()).unwrap_or(u64::MAX), false).await;
    }
    Ok(())
}
