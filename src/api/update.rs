//! `GET /v1/update`, `POST /v1/update`: the box's update, taken in as a file while selling goes on.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::Api;
use super::extract::Params;
use super::problem::{Kind, Problem};
use super::status::as_time;

/// The largest update, in bytes: kernel, initrd and root of a slot.
const UPDATE_BYTES_MAX: u64 = 192 << 20;
/// What an update leaves free on the data partition, in bytes: for sales.
const LEFT_FREE_BYTES: u64 = 64 << 20;
/// How long the next piece may take.
const PIECE_TIME_MAX: Duration = Duration::from_secs(30);
/// So much is written before the card is waited for: a sale waits for no more than that.
const SYNC_EVERY_BYTES: usize = 1 << 20;

/// What an update is to be done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpdateWish {
    /// Start the box again as soon as it is installed, instead of at its next start.
    pub restart: bool,
    /// Take it although it is of an earlier version.
    pub older: bool,
}

/// Why an update is not taken. The texts say what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UpdateRefusal {
    /// Not in the present state, or never on this machine.
    NotNow(String),
    /// The file is not one for this box.
    Wrong(String),
    /// It could not be read or written.
    Failed(String),
}

/// Who takes updates.
pub trait Updates: Send + Sync + fmt::Debug {
    /// Where the file shall be written to.
    ///
    /// # Errors
    /// Where no update is taken now.
    fn begin(&self) -> Result<PathBuf, UpdateRefusal>;

    /// Checks the file and has it installed.
    ///
    /// # Errors
    /// Where it is not one for this box.
    fn take(&self, wish: UpdateWish) -> Result<UpdateState, UpdateRefusal>;

    /// How things stand.
    fn state(&self) -> UpdateState;
}

/// How updates stand.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UpdateState {
    /// The version that runs.
    pub version: String,
    /// The slot of the card that it runs from; null where this is not a box of the image.
    pub slot: Option<String>,
    /// Whether updates are taken here: a box of the image, and a key that may sign them.
    pub possible: bool,
    /// Whether one is being installed.
    pub installing: bool,
    /// What became of the last one.
    pub last: Option<LastUpdate>,
}

/// What became of an update.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastUpdate {
    /// `installed` (the next start tries it), `trial`, `confirmed`, `fellBack` or `failed`.
    pub stage: String,
    /// Its version, where that could be read.
    pub version: Option<String>,
    /// The version before it.
    pub from: String,
    /// What went wrong.
    pub detail: Option<String>,
    /// Since when it is at this stage.
    #[serde(rename = "at", serialize_with = "as_time")]
    #[cfg_attr(test, schemars(with = "super::shape::Time"))]
    pub at_ms: u64,
}

impl From<UpdateRefusal> for Problem {
    fn from(refusal: UpdateRefusal) -> Self {
        match refusal {
            UpdateRefusal::NotNow(detail) => Self::new(Kind::NotNow, detail),
            UpdateRefusal::Wrong(detail) => Self::new(Kind::Refused, detail),
            UpdateRefusal::Failed(detail) => Self::new(Kind::Unavailable, detail).retry_after(5),
        }
    }
}

pub(super) async fn state(State(api): State<Api>) -> Result<Json<UpdateState>, Problem> {
    let updates = api.context.updates.clone();
    let state = spawn_blocking(move || updates.state()).await;
    Ok(Json(state.map_err(|e| Problem::new(Kind::Internal, e.to_string()))?))
}

/// The file as it is, with its length. Answered when it was checked; installing goes on after that.
pub(super) async fn take(
    State(api): State<Api>,
    Params(wish): Params<UpdateWish>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<UpdateState>), Problem> {
    let busy = || Problem::new(Kind::Busy, "another update is being sent").retry_after(30);
    let one = api.updating.clone().try_acquire_owned().map_err(|_| busy())?;
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length =
        length.ok_or_else(|| Problem::new(Kind::BadRequest, "send the file whole, with its Content-Length"))?;
    if length > UPDATE_BYTES_MAX {
        return Err(Problem::new(Kind::TooLarge, format!("an update has at most {UPDATE_BYTES_MAX} bytes")));
    }
    let updates = api.context.updates.clone();
    // One thread does all that waits for the card, from what comes in here.
    let (pieces, arriving) = mpsc::channel(4);
    let taken = spawn_blocking(move || {
        // Also where the client has gone meanwhile.
        let _one = one;
        receive(updates.as_ref(), wish, length, arriving)
    });
    let sent = feed(body, pieces).await;
    let taken = taken.await.map_err(|e| Problem::new(Kind::Internal, e.to_string()))?;
    sent?;
    Ok((StatusCode::ACCEPTED, Json(taken?)))
}

/// Hands on what comes in, until it ends or nobody wants it any more.
async fn feed(mut body: Body, pieces: mpsc::Sender<Bytes>) -> Result<(), Problem> {
    loop {
        let late = || Problem::new(Kind::Timeout, "the rest of the file did not come: send it again");
        let Some(frame) = timeout(PIECE_TIME_MAX, body.frame()).await.map_err(|_| late())? else { return Ok(()) };
        let frame = frame.map_err(|e| Problem::new(Kind::BadRequest, format!("the file did not come whole: {e}")))?;
        if let Ok(data) = frame.into_data()
            && pieces.send(data).await.is_err()
        {
            // It was refused, which its client reads only once it has written all.
            while let Ok(Some(Ok(_))) = timeout(PIECE_TIME_MAX, body.frame()).await {}
            return Ok(());
        }
    }
}

/// Writes what comes, and has it taken; what is refused is removed.
fn receive(
    updates: &dyn Updates,
    wish: UpdateWish,
    length: u64,
    arriving: mpsc::Receiver<Bytes>,
) -> Result<UpdateState, Problem> {
    let path = updates.begin()?;
    let taken = write(&path, length, arriving).and_then(|()| Ok(updates.take(wish)?));
    if taken.is_err() {
        // Gone already where nothing came; kept by a card that fails, and overwritten by the next one.
        let _ = std::fs::remove_file(path);
    }
    taken
}

fn write(path: &Path, length: u64, mut arriving: mpsc::Receiver<Bytes>) -> Result<(), Problem> {
    let mut file = File::create(path).map_err(failed)?;
    let room = rustix::fs::fstatvfs(&file).map_err(|e| failed(e.into()))?;
    let free = room.f_bavail.saturating_mul(room.f_frsize);
    if free < length + LEFT_FREE_BYTES {
        let detail = format!(
            "the update needs {length} bytes and leaves {LEFT_FREE_BYTES} free, and there are {free}: free some space"
        );
        return Err(Problem::new(Kind::NoRoom, detail));
    }
    let mut waiting = 0;
    while let Some(data) = arriving.blocking_recv() {
        file.write_all(&data).map_err(failed)?;
        waiting += data.len();
        if waiting >= SYNC_EVERY_BYTES {
            file.sync_data().map_err(failed)?;
            waiting = 0;
        }
    }
    file.sync_all().map_err(failed)
}

fn failed(error: io::Error) -> Problem {
    Problem::new(Kind::Unavailable, format!("the update cannot be written: {error}")).retry_after(10)
}
