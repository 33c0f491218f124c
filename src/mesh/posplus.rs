//! Connections with POSPlus: plain WebSocket on the mesh's port, JSON texts, no proof of who is there.
//!
//! # One steady link with a peer that flaps
//!
//! Both sides of POSPlus dial; it keeps one socket for each `posId`, and when either of two closes, it drops the other as well (its defect
//! 9). After a failed re-dial it does not try again (10). So:
//!
//! - Nobody here ever closes one of two connections with a POSPlus till because there are two. Both are read, and what is sent goes to the one
//!   that was opened last: that is the one which POSPlus keeps.
//! - When one of them ends, all of that till are ended: POSPlus has forgotten them.
//! - A till is dialled only where it has not dialled by itself for a while ([`DIAL_AFTER`] after it is found, and again after a link is lost),
//!   so that the usual case is one socket, its own. From then on it is dialled for ever, in growing distances.
//!
//! # Who it says it is
//!
//! A POSPlus till proves nothing, so what it says it is decides only whose words its words are. It is none of ours: one that says that it has
//! the `posId` of this till or of another till of the store is refused, and one that is connected when such a till joins is cut off.
//! Otherwise what that till of ours sells and edits would be taken for its own words, and not be told to it.
//!
//! # Pings
//!
//! POSPlus pings every 30 s and closes a connection without a pong for 40 s; a connection that is silent for as long ends here too, and its
//! pings are answered at once. Ours differ, and POSPlus cannot tell: it answers each as it comes. A ping goes out after each batch of what it
//! is told, because POSPlus answers in order, so the pong says that the batch was read; and without news every 15 s from the till that
//! speaks to it, every 5 s from those that only listen, who must know soon whether it is there should the speaker go. A ping that is not
//! answered within 15 s ends the connection. So a loss is seen after 30 s at the latest, where POSPlus's own target is 35; with its timings
//! it would be 70.
//!
//! # Promises
//!
//! As those of the mesh: what is queued each way is bounded, and a connection whose till does not take or is not taken from waits alone. An
//! address that is not allowed gets a plain HTTP refusal and one line in the log a minute.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::listener::{socket, tune};
use super::refused::Refused;
use super::shared::{Shared, lock};
use super::{MeshEvent, MeshHandle};
use crate::wire::posplus::{Body, Decimals, Envelope, PosMessage, SOCKET_BYTES_MAX, decode, encode};

/// How long a POSPlus till is left to dial by itself, before it is dialled: it does so a second after it has found us, and two connections
/// are no harm.
pub const DIAL_AFTER: Duration = Duration::from_millis(1_200);

/// How long a connection may be without a hello, and a dial without an answer.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may be silent, as POSPlus has it.
const SILENT_MAX: Duration = Duration::from_secs(40);
/// Connections with POSPlus tills at once, and from one address: two are usual, one each way.
const LINKS_MAX: usize = 32;
const LINKS_PER_ADDRESS: usize = 4;
/// Messages that wait on their way in and out of a connection.
const INBOX: usize = 4;
const OUTBOX: usize = 32;
/// How long one message may take to be written.
const WRITE_WITHIN: Duration = Duration::from_secs(20);
/// Bytes read from a socket at once.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// Who may connect without proving anything, and as whom they are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PosplusDoor {
    /// Whether there is such a door at all.
    pub enabled: bool,
    /// The addresses that may come in, and that are dialled.
    pub allow: Vec<IpAddr>,
    /// Our own `posId`.
    pub pos_id: String,
    /// Our own name.
    pub pos_name: String,
    /// How amounts are written.
    pub decimals: Decimals,
}

impl PosplusDoor {
    /// No door.
    #[must_use]
    pub fn shut() -> Self {
        let decimals = Decimals::of_currency("");
        Self { enabled: false, allow: Vec::new(), pos_id: String::new(), pos_name: String::new(), decimals }
    }

    /// Whether an address may come in.
    ///
    /// # Errors
    /// Why it may not.
    pub fn admits(&self, address: IpAddr) -> Result<(), Refused> {
        if !self.enabled {
            return Err(Refused::PosplusOff);
        }
        if !self.allow.contains(&address.to_canonical()) {
            return Err(Refused::PosplusAddress);
        }
        Ok(())
    }
}

/// A connection with a POSPlus till that has said who it is. It ends when this is dropped, or `inbox` when it has ended.
#[derive(Debug)]
pub struct PosplusLink {
    /// Its number among such connections, never used again.
    pub id: u64,
    /// Who it says it is.
    pub pos_id: String,
    /// What it calls itself.
    pub pos_name: String,
    /// Its address.
    pub addr: SocketAddr,
    /// Whether this till dialled.
    pub dialled_by_us: bool,
    /// What it says; why it was refused, where it was.
    pub inbox: mpsc::Receiver<Result<PosMessage, String>>,
    /// What it is told.
    pub outbox: mpsc::Sender<Body>,
}

/// Connections by address, the numbers given, and the ids of the store's other tills.
#[derive(Debug, Default)]
pub(super) struct Registry {
    by_address: std::sync::Mutex<HashMap<IpAddr, usize>>,
    last: AtomicU64,
    tills: watch::Sender<BTreeSet<String>>,
}

/// A place among the connections, until it is dropped.
struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Place {
    fn take(shared: &Arc<Shared>, address: IpAddr) -> Result<Self, Refused> {
        let mut taken = lock(&shared.posplus.by_address);
        if taken.values().sum::<usize>() >= LINKS_MAX || taken.get(&address).is_some_and(|n| *n >= LINKS_PER_ADDRESS) {
            return Err(Refused::Busy);
        }
        *taken.entry(address).or_default() += 1;
        Ok(Self { shared: Arc::clone(shared), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.shared.posplus.by_address);
        if let Some(n) = taken.get_mut(&self.address) {
            *n -= 1;
            if *n == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

pub(super) fn socket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(SOCKET_BYTES_MAX))
        .max_frame_size(Some(SOCKET_BYTES_MAX))
}

/// Goes on with a connection that was accepted and upgraded.
pub(super) async fn accept(shared: &Arc<Shared>, stream: TcpStream, addr: SocketAddr) -> Result<(), Refused> {
    let place = Place::take(shared, addr.ip())?;
    // POSPlus says nothing before it has read the answer to its upgrade, so nothing of its words is lost here.
    let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(socket_config())).await;
    greet(shared, place, socket, addr, false).await
}

/// Dials a POSPlus till.
async fn dial(shared: &Arc<Shared>, addr: SocketAddr) -> Result<(), Refused> {
    shared.config.posplus.admits(addr.ip())?;
    let place = Place::take(shared, addr.ip())?;
    let connect = async {
        let stream = socket(addr.ip()).map_err(lost)?.connect(addr).await.map_err(lost)?;
        tune(&stream);
        let (socket, _) = client_async_with_config(format!("ws://{addr}/"), stream, Some(socket_config())).await?;
        Ok::<_, Refused>(socket)
    };
    let socket = timeout(HELLO_WITHIN, connect).await.map_err(|_| Refused::Deadline)??;
    greet(shared, place, socket, addr, true).await
}

fn lost(error: std::io::Error) -> Refused {
    Refused::Lost(error.to_string())
}

/// Exchanges hellos, hands the connection on, and carries its messages in a task of its own.
async fn greet(
    shared: &Arc<Shared>,
    place: Place,
    mut socket: WebSocketStream<TcpStream>,
    addr: SocketAddr,
    dialled_by_us: bool,
) -> Result<(), Refused> {
    let door = &shared.config.posplus;
    let until = Instant::now() + HELLO_WITHIN;
    let ours = |ack| Body::Hello { ack, pos_id: door.pos_id.clone(), pos_name: door.pos_name.clone() };
    if dialled_by_us {
        send(&mut socket, door, &ours(false)).await?;
    }
    let (pos_id, pos_name) = loop {
        let message = timeout_at(until, receive(&mut socket, door)).await.map_err(|_| Refused::Deadline)??;
        if let Ok(Body::Hello { pos_id, pos_name, .. }) = message.map(|message| message.body) {
            break (pos_id, pos_name);
        }
    };
    if pos_id == door.pos_id {
        return Err(Refused::PosplusOurId);
    }
    if shared.posplus.tills.borrow().contains(&pos_id) {
        return Err(Refused::PosplusTillId(pos_id));
    }
    if !dialled_by_us {
        send(&mut socket, door, &ours(true)).await?;
    }
    // What was sent, and not taken, dies with the connection: a quantity that came through later would hide what was sold there meanwhile.
    let _ = socket.get_ref().set_zero_linger();
    let id = shared.posplus.last.fetch_add(1, Relaxed);
    let (said, inbox) = mpsc::channel(INBOX);
    let (outbox, to_say) = mpsc::channel(OUTBOX);
    let claims = pos_id.clone();
    let link = PosplusLink { id, pos_id, pos_name, addr, dialled_by_us, inbox, outbox };
    shared.events.send(MeshEvent::Posplus(Box::new(link))).await.map_err(|_| Refused::Deadline)?;
    let carried = Arc::clone(shared);
    shared.spawn(async move {
        let _place = place;
        let mut tills = carried.posplus.tills.subscribe();
        tokio::select! {
            () = carry(&carried, socket, said, to_say) => {}
            () = carried.until_off() => {}
            Ok(_) = tills.wait_for(|tills| tills.contains(&claims)) => {
                carried.refuse(addr, Refused::PosplusTillId(claims.clone()));
            }
        }
    });
    Ok(())
}

/// Carries messages until either end is gone.
async fn carry(
    shared: &Arc<Shared>,
    socket: WebSocketStream<TcpStream>,
    said: mpsc::Sender<Result<PosMessage, String>>,
    mut to_say: mpsc::Receiver<Body>,
) {
    let door = &shared.config.posplus;
    let (mut sink, mut stream) = socket.split();
    let reading = async {
        while let Ok(Some(Ok(frame))) = timeout(SILENT_MAX, stream.next()).await {
            let message = match &frame {
                Message::Text(text) => decode(text.as_bytes(), door.decimals).map_err(|error| error.to_string()),
                Message::Binary(_) => Err("a binary frame".to_owned()),
                _ => continue,
            };
            drop(frame);
            if said.send(message).await.is_err() {
                return;
            }
        }
    };
    let writing = async {
        while let Some(body) = to_say.recv().await {
            let frame = Message::Text(text(door, &body).into());
            if !matches!(timeout(WRITE_WITHIN, sink.send(frame)).await, Ok(Ok(()))) {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
        // Who handles it has let go.
        () = said.closed() => {}
    }
    let _ = timeout(Duration::from_millis(200), sink.close()).await;
}

fn text(door: &PosplusDoor, body: &Body) -> String {
    let id = uuid::Uuid::new_v4().to_string();
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    encode(&Envelope { id: &id, at_ms, source: &door.pos_id }, body, door.decimals)
}

async fn send(socket: &mut WebSocketStream<TcpStream>, door: &PosplusDoor, body: &Body) -> Result<(), Refused> {
    Ok(socket.send(Message::Text(text(door, body).into())).await?)
}

async fn receive(
    socket: &mut WebSocketStream<TcpStream>,
    door: &PosplusDoor,
) -> Result<Result<PosMessage, String>, Refused> {
    loop {
        let bytes: Bytes = match socket.next().await {
            Some(Ok(Message::Text(text))) => text.into(),
            Some(Ok(Message::Close(_))) | None => return Err(Refused::Lost("closed by the other end".to_owned())),
            Some(Ok(_)) => continue,
            Some(Err(error)) => return Err(error.into()),
        };
        return Ok(decode(&bytes, door.decimals).map_err(|error| error.to_string()));
    }
}

impl MeshHandle {
    /// Sets which `posId`s are those of other tills of the store: no POSPlus till may have one.
    pub fn set_till_ids(&self, ids: BTreeSet<String>) {
        self.0.posplus.tills.send_if_modified(|known| {
            let changed = *known != ids;
            *known = ids;
            changed
        });
    }

    /// Dials a POSPlus till once; what comes of it is a [`MeshEvent::Posplus`].
    ///
    /// # Errors
    /// Why nothing does.
    pub async fn dial_posplus(&self, addr: SocketAddr) -> Result<(), Refused> {
        let shared = &self.0;
        shared.counters.dials.fetch_add(1, Relaxed);
        match dial(shared, addr).await {
            Ok(()) => Ok(()),
            Err(Refused::Lost(why)) => {
                shared.counters.dials_failed.fetch_add(1, Relaxed);
                tracing::debug!("P2P: POSPlus does not answer at {addr}: {why}");
                Err(Refused::Lost(why))
            }
            Err(why) => {
                shared.refuse(addr, why.clone());
                Err(why)
            }
        }
    }
}
