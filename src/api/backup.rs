//! `GET /v1/backup`: a consistent copy of the database, made and sent while selling goes on.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;

use crate::model::id::Uuid;
use crate::store::StoreError;

use super::Api;
use super::problem::{Kind, Problem};

const CHUNK_BYTES: usize = 64 * 1024;

/// The start of the names of copies being made.
const PREFIX: &str = ".backup-";

/// Removes copies that an agent left behind when it was killed while making one.
pub(super) fn remove_leftovers(data_dir: &Path) {
    let Ok(entries) = fs::read_dir(data_dir) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(PREFIX)) {
        if let Err(error) = fs::remove_file(entry.path()) {
            tracing::warn!(%error, path = %entry.path().display(), "API: a left-over backup copy cannot be removed");
        }
    }
}

pub(super) async fn download(State(api): State<Api>) -> Result<Response, Problem> {
    let busy = || Problem::new(Kind::Busy, "another backup is under way").retry_after(30);
    let one = api.backups.clone().try_acquire_owned().map_err(|_| busy())?;
    let path = api.context.data_dir.join(format!("{PREFIX}{}", Uuid::new_v4()));
    let copied = api.context.store.backup(path.clone()).await;
    // Opened, then removed at once: the copy lives as long as it is read, and is never left behind.
    let opened = spawn_blocking(move || {
        let file = File::open(&path);
        let removed = fs::remove_file(&path);
        copied?;
        let file = file?;
        removed?;
        let bytes = file.metadata()?.len();
        Ok::<_, StoreError>((file, bytes))
    });
    let (file, bytes) = opened.await.map_err(|e| Problem::new(Kind::Internal, e.to_string()))??;
    let name = format!("attachment; filename=\"tillmesh-{}.db\"", file_name(&api.context.status.borrow().pos_id));
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.sqlite3".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::CONTENT_LENGTH, bytes.to_string()),
    ];
    Ok((headers, Body::from_stream(stream::try_unfold((file, one), chunk))).into_response())
}

type Rest = (File, OwnedSemaphorePermit);

async fn chunk((mut file, one): Rest) -> std::io::Result<Option<(Bytes, Rest)>> {
    let read = spawn_blocking(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        let n = file.read(&mut buffer)?;
        buffer.truncate(n);
        Ok((buffer, file))
    });
    let (buffer, file) = read.await.map_err(std::io::Error::other).flatten()?;
    Ok((!buffer.is_empty()).then(|| (buffer.into(), (file, one))))
}

/// A human id as a part of a file's name.
fn file_name(pos_id: &str) -> String {
    pos_id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(64).collect()
}
