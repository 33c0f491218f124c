//! A link that is up: one task that reads and writes, and the bounded queue that feeds it.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::poll_fn;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::handshake::{Established, Socket};
use super::noise::{Opener, Sealer};
use super::refused::Refused;
use super::shared::{Shared, lock};
use super::{LinkUp, MeshEvent};
use crate::model::id::TillId;
use crate::wire::frame::{Assembled, Assembler, Bye, Mark, parts};
use crate::wire::limits::MESSAGE_BYTES_MAX;

/// How long saying goodbye may take, from the wish to close to the closed socket.
pub(super) const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What a queued message costs beside its bytes: a flood of tiny ones is bounded, too.
const MESSAGE_OVERHEAD_BYTES: usize = 64;

/// A link's number, never used again while the agent runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

impl fmt::Display for LinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "link {}", self.0)
    }
}

/// Why a message was not queued. It is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The peer takes less than it is sent. Wait for [`LinkHandle::queued_bytes`] to fall; nothing need be sent again but this.
    #[error("the link's queue is full: the till at the other end is slow")]
    Full,
    /// The link has ended, or is ending.
    #[error("the link is closed")]
    Closed,
    /// No till takes a message that long.
    #[error("a message of more than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
}

/// How a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEnd {
    /// This till closed it, and told the other why.
    Ours(Bye),
    /// The other till closed it, and told why.
    Theirs(Bye),
    /// The connection broke.
    Lost(String),
    /// The other till sent what no till sends.
    Violation(String),
}

impl fmt::Display for LinkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(bye) => write!(f, "closed by this till: {bye}"),
            Self::Theirs(bye) => write!(f, "closed by the other till: {bye}"),
            Self::Lost(why) => write!(f, "connection lost: {why}"),
            Self::Violation(why) => write!(f, "protocol broken by the other till: {why}"),
        }
    }
}

impl From<SocketError> for LinkEnd {
    fn from(error: SocketError) -> Self {
        use tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        match error {
            SocketError::Io(error) => Self::Lost(error.to_string()),
            SocketError::ConnectionClosed
            | SocketError::AlreadyClosed
            | SocketError::Protocol(ResetWithoutClosingHandshake) => Self::Lost("closed by the other end".to_owned()),
            other => Self::Violation(other.to_string()),
        }
    }
}

/// A received message. While it lives, its bytes count against [`Limits::received_bytes`](super::Limits::received_bytes).
pub struct Received {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

/// Sends on a link. Cheap to clone; outlives the link, and then says [`SendError::Closed`].
#[derive(Clone)]
pub struct LinkHandle(Arc<Inner>);

struct Inner {
    id: LinkId,
    till: TillId,
    queue_bytes_max: usize,
    queue: Mutex<Queue>,
    filled: Notify,
    closing: watch::Sender<Option<Bye>>,
    ended: watch::Sender<Option<LinkEnd>>,
    sent: AtomicU64,
    received: AtomicU64,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    /// The bytes of `messages` and of the one that is being written, each with its overhead.
    bytes: usize,
    closed: bool,
}

impl LinkHandle {
    pub(super) fn new(id: LinkId, till: TillId, queue_bytes_max: usize) -> Self {
        Self(Arc::new(Inner {
            id,
            till,
            queue_bytes_max,
            queue: Mutex::default(),
            filled: Notify::new(),
            closing: watch::Sender::default(),
            ended: watch::Sender::default(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }))
    }

    /// Bytes of messages sent and received on the link.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        (self.0.sent.load(Relaxed), self.0.received.load(Relaxed))
    }

    /// The link.
    #[must_use]
    pub fn id(&self) -> LinkId {
        self.0.id
    }

    /// The till at the other end.
    #[must_use]
    pub fn till(&self) -> TillId {
        self.0.till
    }

    /// Queues a message. Returns at once; messages go out in order.
    ///
    /// # Errors
    /// See [`SendError`]; the message was not queued.
    pub fn try_send(&self, message: Vec<u8>) -> Result<(), SendError> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(SendError::TooLong);
        }
        let mut queue = lock(&self.0.queue);
        if queue.closed {
            return Err(SendError::Closed);
        }
        let bytes = message.len() + MESSAGE_OVERHEAD_BYTES;
        if queue.bytes > 0 && queue.bytes + bytes > self.0.queue_bytes_max {
            return Err(SendError::Full);
        }
        queue.bytes += bytes;
        queue.messages.push_back(message);
        drop(queue);
        self.0.filled.notify_one();
        Ok(())
    }

    /// How many bytes wait to be taken by the network: what tells a slow till.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        lock(&self.0.queue).bytes
    }

    /// Ends the link, telling the other till why; what is queued is dropped. The first reason counts.
    pub fn close(&self, reason: Bye) {
        lock(&self.0.queue).closed = true;
        self.0.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            *closing = closing.or(Some(reason));
            first
        });
    }

    /// The next message to write.
    async fn next(&self) -> Vec<u8> {
        loop {
            if let Some(message) = lock(&self.0.queue).messages.pop_front() {
                return message;
            }
            self.0.filled.notified().await;
        }
    }

    /// Takes note that a message is written.
    fn written(&self, message: &[u8]) {
        let mut queue = lock(&self.0.queue);
        queue.bytes -= message.len() + MESSAGE_OVERHEAD_BYTES;
        if queue.messages.is_empty() {
            queue.messages = VecDeque::new();
        }
    }

    /// Waits for the wish to close.
    async fn closing(&self) -> Bye {
        let mut closing = self.0.closing.subscribe();
        let reason = closing.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
        reason.unwrap_or(Bye::Other(0))
    }

    /// Waits for the end of the link.
    pub(super) async fn ended(&self) -> LinkEnd {
        let mut ended = self.0.ended.subscribe();
        let end = ended.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
        end.unwrap_or(LinkEnd::Ours(Bye::Other(0)))
    }

    /// Takes no more, and drops what is queued.
    fn stop(&self) {
        *lock(&self.0.queue) = Queue { closed: true, ..Queue::default() };
    }
}

impl fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} with till {}, {} bytes queued", self.0.id, self.0.till, self.queued_bytes())
    }
}

type Sink = SplitSink<Socket, Message>;
type Stream = SplitStream<Socket>;

/// Makes a link of a connection: registers it and starts its task.
pub(super) async fn start(shared: &Arc<Shared>, established: Box<Established>) -> Result<LinkHandle, Refused> {
    let till = TillId::of_public_key(&established.public_key);
    match shared.register(till, &established.hello, established.addr) {
        Ok(handle) => {
            shared.spawn(run(Arc::clone(shared), established, handle.clone()));
            Ok(handle)
        }
        Err(bye) => {
            let Established { socket, mut sealer, .. } = *established;
            let (mut sink, mut stream) = socket.split();
            let _ = timeout(FAREWELL_MAX, part_with(&mut sink, &mut stream, &mut sealer, Some(bye))).await;
            Err(match bye {
                Bye::Retired => Refused::Retired,
                Bye::Busy => Refused::Busy,
                off => Refused::Lost(off.to_string()),
            })
        }
    }
}

/// Runs a registered link to its end.
async fn run(shared: Arc<Shared>, established: Box<Established>, handle: LinkHandle) {
    let Established { socket, mut sealer, mut opener, public_key, hello, proto, addr, dialled_by_us } = *established;
    let till = handle.till();
    let link = handle.id();
    tracing::info!(peer = %addr, "P2P: linked with {} ({till}) at {addr}, protocol {proto}", hello.pos_name);
    let up = LinkUp { link, till, public_key, hello, proto, addr, dialled_by_us, handle: handle.clone() };
    // Where nobody takes events, the mesh is at its end: the loops below notice that by themselves.
    let _ = shared.events.send(MeshEvent::LinkUp(Box::new(up))).await;
    let (mut sink, mut stream) = socket.split();
    let end = tokio::select! {
        reason = handle.closing() => LinkEnd::Ours(reason),
        () = shared.events.closed() => LinkEnd::Ours(Bye::Shutdown),
        end = read(&shared, &handle, &mut stream, &mut opener) => end,
        end = write(&shared, &handle, &mut sink, &mut sealer) => end,
    };
    handle.stop();
    let farewell = match end {
        LinkEnd::Ours(reason) => Some(reason),
        LinkEnd::Violation(_) => Some(Bye::Violation),
        LinkEnd::Theirs(_) | LinkEnd::Lost(_) => None,
    };
    let _ = timeout(FAREWELL_MAX, part_with(&mut sink, &mut stream, &mut sealer, farewell)).await;
    shared.deregister(link);
    handle.0.ended.send_replace(Some(end.clone()));
    tracing::info!(peer = %addr, "P2P: link with till {till} at {addr} ended: {end}");
    let _ = shared.events.send(MeshEvent::LinkDown { link, end }).await;
}

/// Reads messages and hands them on, as fast as they are taken.
async fn read(shared: &Shared, handle: &LinkHandle, stream: &mut Stream, opener: &mut Opener) -> LinkEnd {
    let mut assembler = Assembler::default();
    loop {
        let frame = match stream.next().await {
            Some(Ok(Message::Binary(frame))) => frame,
            // The WebSocket answers pings by itself.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Close(_))) | None => return LinkEnd::Lost("closed by the other end".to_owned()),
            Some(Ok(Message::Text(_) | Message::Frame(_))) => {
                return LinkEnd::Violation("a frame that is not binary".to_owned());
            }
            Some(Err(error)) => return error.into(),
        };
        let part = match opener.open(&frame) {
            Ok(part) => part,
            Err(error) => return LinkEnd::Violation(error.to_string()),
        };
        drop(frame);
        let bytes = match assembler.push(part) {
            Ok(Assembled::Message(bytes)) => bytes,
            Ok(Assembled::Partial) => continue,
            Ok(Assembled::Bye(bye)) => return LinkEnd::Theirs(bye),
            Err(error) => return LinkEnd::Violation(error.to_string()),
        };
        handle.0.received.fetch_add(bytes.len() as u64, Relaxed);
        shared.counters.bytes_received.fetch_add(bytes.len() as u64, Relaxed);
        let Some(room) = shared.room_for(bytes.len()).await else { return LinkEnd::Ours(Bye::Shutdown) };
        let event = MeshEvent::Frame { link: handle.id(), bytes: Received { bytes, _room: room } };
        if shared.events.send(event).await.is_err() {
            return LinkEnd::Ours(Bye::Shutdown);
        }
    }
}

/// Writes what is queued, as fast as the peer takes it.
async fn write(shared: &Shared, handle: &LinkHandle, sink: &mut Sink, sealer: &mut Sealer) -> LinkEnd {
    loop {
        let message = handle.next().await;
        for (bytes, mark) in parts(&message) {
            if let Err(end) = write_part(sink, sealer, bytes, mark).await {
                return end;
            }
        }
        if let Err(error) = sink.flush().await {
            return error.into();
        }
        handle.written(&message);
        handle.0.sent.fetch_add(message.len() as u64, Relaxed);
        shared.counters.bytes_sent.fetch_add(message.len() as u64, Relaxed);
    }
}

/// Writes a part. Sealing and handing over happen without a pause between them, so that dropping this future never loses a
/// frame whose nonce is spent.
async fn write_part(sink: &mut Sink, sealer: &mut Sealer, bytes: &[u8], mark: Mark) -> Result<(), LinkEnd> {
    poll_fn(|context| sink.poll_ready_unpin(context)).await?;
    let frame = sealer.seal(bytes, mark).map_err(|error| LinkEnd::Lost(error.to_string()))?;
    sink.start_send_unpin(Message::Binary(frame.into()))?;
    Ok(())
}

/// Says goodbye, if there is one to say, and closes the socket once the other end has read it.
async fn part_with(sink: &mut Sink, stream: &mut Stream, sealer: &mut Sealer, farewell: Option<Bye>) {
    if let Some(bye) = farewell
        && write_part(sink, sealer, &[bye.code()], Mark::Bye).await.is_err()
    {
        return;
    }
    // Closing a socket with unread bytes resets it, and the other end may then never read the goodbye: read to the end.
    if sink.close().await.is_ok() && farewell.is_some() {
        while let Some(Ok(_)) = stream.next().await {}
    }
}
