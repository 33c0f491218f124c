//! Connections: how many, how slow. A stuck client never slows a sale.
//!
//! At most [`CONNECTIONS_MAX`] are open. A new one beyond that takes the place of the one that has been idle the longest, those that never
//! brought the token first. Streams and
//! reads have shares of their own (see `routes`), smaller together than the whole, so that a write always finds a place. A client that
//! is slow to send or to read loses its connection.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Sleep, sleep, timeout};

use super::Stop;
use super::guard::Ends;
use super::limits::{CONNECTIONS_MAX, DRAIN_TIME_MAX, HEAD_TIME_MAX, STALL_TIME_MAX};

/// Pause after the system could not give us a connection (too many open files), so as not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until `shutdown`; then requests under way have [`DRAIN_TIME_MAX`]. Sets `stopping` for those that would not end by themselves.
pub(super) async fn run(
    listener: TcpListener,
    router: Router,
    (stopping, stop): (watch::Sender<bool>, Stop),
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut tasks = JoinSet::new();
    let table = Arc::new(Table::default());
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => admit(stream, &router, &table, &stop, &mut tasks),
                Err(error) => {
                    tracing::warn!(%error, "API: cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    stopping.send_replace(true);
    let drained = async { while tasks.join_next().await.is_some() {} };
    if timeout(DRAIN_TIME_MAX, drained).await.is_err() {
        tracing::debug!("API: connections are cut off");
    }
}

fn admit(stream: TcpStream, router: &Router, table: &Arc<Table>, stop: &Stop, tasks: &mut JoinSet<()>) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return };
    if !table.make_room() {
        const FULL: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        if let Err(error) = stream.try_write(FULL) {
            tracing::debug!(%error, "API: a connection too many went away");
        }
        return;
    }
    let ends = Ends { local, peer, trusted: Arc::default() };
    let entry = table.enter(Arc::clone(&ends.trusted));
    let serving = connection(stream, ends, router.clone(), entry.clone(), stop.clone());
    let id = entry.0.id;
    let handle = tasks.spawn(serving);
    table.started(id, handle);
}

async fn connection(stream: TcpStream, ends: Ends, router: Router, entry: Entry, mut stop: Stop) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "API: a connection went away");
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<Incoming>| {
        let busy = entry.busy();
        request.extensions_mut().insert(ends.clone());
        let answer = router.call(request);
        async {
            let response = answer.await?;
            Ok::<Response, Infallible>(response.map(|body| Body::new(Holding::new(body, busy))))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX).max_buf_size(64 * 1024);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(Impatient::new(stream)), service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.stopped() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, peer = %ends.peer, "API: a connection broke off");
    }
}

/// The open connections.
#[derive(Default)]
struct Table(Mutex<Open>);

#[derive(Default)]
struct Open {
    next_id: u64,
    connections: HashMap<u64, Connection>,
}

struct Connection {
    task: Option<AbortHandle>,
    idle_since: Option<Instant>,
    trusted: Arc<AtomicBool>,
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // Each change under the lock is a single step, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is room for one more, if need be after ending the one that has been idle the longest.
    fn make_room(&self) -> bool {
        let mut open = self.lock();
        if open.connections.len() < CONNECTIONS_MAX {
            return true;
        }
        let idle =
            open.connections.iter().filter_map(|(id, c)| Some((c.trusted.load(Ordering::Relaxed), c.idle_since?, *id)));
        let Some(ended) = idle.min().and_then(|(_, _, id)| open.connections.remove(&id)) else { return false };
        if let Some(task) = ended.task {
            task.abort();
        }
        true
    }

    fn enter(self: &Arc<Self>, trusted: Arc<AtomicBool>) -> Entry {
        let mut open = self.lock();
        let id = open.next_id;
        open.next_id += 1;
        open.connections.insert(id, Connection { task: None, idle_since: Some(Instant::now()), trusted });
        Entry(Arc::new(EntryGuard { id, table: Arc::clone(self) }))
    }

    fn started(&self, id: u64, task: AbortHandle) {
        if let Some(connection) = self.lock().connections.get_mut(&id) {
            connection.task = Some(task);
        }
    }

    fn set_idle(&self, id: u64, since: Option<Instant>) {
        if let Some(connection) = self.lock().connections.get_mut(&id) {
            connection.idle_since = since;
        }
    }
}

/// A connection's place in the table, freed with the last clone.
#[derive(Clone)]
struct Entry(Arc<EntryGuard>);

struct EntryGuard {
    id: u64,
    table: Arc<Table>,
}

impl Drop for EntryGuard {
    fn drop(&mut self) {
        self.table.lock().connections.remove(&self.id);
    }
}

impl Entry {
    fn busy(&self) -> Busy {
        self.0.table.set_idle(self.0.id, None);
        Busy(self.clone())
    }
}

/// A request under way: from its head to the last byte of its answer.
struct Busy(Entry);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.0.table.set_idle(self.0.0.id, Some(Instant::now()));
    }
}

/// A body that holds something until it has been sent or given up.
pub(super) struct Holding<G> {
    body: Body,
    _held: G,
}

impl<G> Holding<G> {
    pub(super) fn new(body: Body, held: G) -> Self {
        Self { body, _held: held }
    }
}

impl<G: Unpin> HttpBody for Holding<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that fails where the other end leaves what was written unread for [`STALL_TIME_MAX`].
struct Impatient {
    stream: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    fn new(stream: TcpStream) -> Self {
        Self { stream, stalled: None }
    }

    fn watch(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(STALL_TIME_MAX)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Impatient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
