//! From a TCP connection to a link: WebSocket upgrade, preamble, Noise, Hello.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request as Asked, Response};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config, client_async_with_config};

use super::noise::{Handshake, Opener, Role, Sealer};
use super::refused::Refused;
use super::shared::Shared;
use crate::model::id::TillId;
use crate::wire::frame::{Assembled, Assembler, Bye, Mark, Preamble, SUBPROTOCOL};
use crate::wire::hello::{Hello, HelloError, negotiate};
use crate::wire::limits::NOISE_MESSAGE_BYTES_MAX;

pub(super) type Socket = WebSocketStream<TcpStream>;

/// How much is read from a socket at once. Every link keeps a buffer of this size.
const READ_BUFFER_BYTES: usize = 8 * 1024;

/// How long a refused peer may take to read why.
const LINGER: Duration = Duration::from_millis(500);

/// A connection that has become a link.
pub(super) struct Established {
    pub(super) socket: Socket,
    pub(super) sealer: Sealer,
    pub(super) opener: Opener,
    pub(super) public_key: [u8; 32],
    pub(super) hello: Hello,
    pub(super) proto: u16,
    pub(super) addr: SocketAddr,
    pub(super) dialled_by_us: bool,
}

/// The dialler's half.
pub(super) async fn dial(shared: &Shared, stream: TcpStream, addr: SocketAddr) -> Result<Box<Established>, Refused> {
    let deadline = Instant::now() + shared.config.limits.handshake_deadline;
    let upgrade = async {
        let (socket, _) = client_async_with_config(request()?, stream, Some(websocket_config())).await?;
        Ok::<_, Refused>(socket)
    };
    let socket = timeout_at(deadline, upgrade).await.map_err(|_| Refused::Deadline)??;
    Attempt { shared, socket, sealer: None }.run(Role::Dialler, addr, deadline).await
}

/// What an accepted connection has become.
pub(super) enum Accepted {
    /// A link.
    Link(Box<Established>),
    /// The connection of a POSPlus till, upgraded and nothing more.
    Posplus(TcpStream),
}

/// The listener's half.
pub(super) async fn accept(shared: &Shared, stream: TcpStream, addr: SocketAddr) -> Result<Accepted, Refused> {
    let deadline = Instant::now() + shared.config.limits.handshake_deadline;
    let admitted = shared.config.posplus.admits(addr.ip());
    let mut is_till = true;
    let gate = Gate { posplus: admitted.is_ok(), is_till: &mut is_till };
    let upgrade = accept_hdr_async_with_config(stream, gate, Some(websocket_config()));
    let upgraded = timeout_at(deadline, upgrade).await.map_err(|_| Refused::Deadline)?;
    if !is_till {
        // Without the subprotocol: where this is refused, it is for the reason that POSPlus would be.
        admitted?;
        return Ok(Accepted::Posplus(upgraded?.into_inner()));
    }
    let attempt = Attempt { shared, socket: upgraded?, sealer: None };
    attempt.run(Role::Listener, addr, deadline).await.map(Accepted::Link)
}

/// Every limit of a link's WebSocket: a frame is a Noise message, and nothing is buffered beyond two of them.
fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * NOISE_MESSAGE_BYTES_MAX)
        .max_message_size(Some(NOISE_MESSAGE_BYTES_MAX))
        .max_frame_size(Some(NOISE_MESSAGE_BYTES_MAX))
}

/// The upgrade request. Its host is a fixed word: addresses with a scope have no place in a URI, and nobody looks at it.
fn request() -> Result<Request, Refused> {
    let mut request = "ws://till/".into_client_request()?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(request)
}

/// Answers an upgrade request: those with our subprotocol are tills, those without any may be POSPlus.
struct Gate<'a> {
    posplus: bool,
    is_till: &'a mut bool,
}

impl Callback for Gate<'_> {
    fn on_request(self, request: &Asked, mut response: Response) -> Result<Response, ErrorResponse> {
        if offers_subprotocol(request.headers()) {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
            return Ok(response);
        }
        *self.is_till = request.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL);
        if self.posplus && !*self.is_till {
            return Ok(response);
        }
        let text = format!("this port is for tills: WebSocket subprotocol {SUBPROTOCOL} required\n");
        let length = HeaderValue::from(text.len());
        let mut refusal = ErrorResponse::new(Some(text));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        refusal.headers_mut().insert(header::CONTENT_LENGTH, length);
        refusal.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Err(refusal)
    }
}

fn offers_subprotocol(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|offered| offered.trim() == SUBPROTOCOL)
}

/// A handshake inside an open WebSocket.
struct Attempt<'a> {
    shared: &'a Shared,
    socket: Socket,
    /// Set once Noise has ended: from then on a refusal is told sealed.
    sealer: Option<Sealer>,
}

impl Attempt<'_> {
    async fn run(mut self, role: Role, addr: SocketAddr, deadline: Instant) -> Result<Box<Established>, Refused> {
        let outcome = timeout_at(deadline, self.shake(role)).await.unwrap_or(Err(Refused::Deadline));
        let (opener, public_key, hello, proto) = match outcome {
            Ok(outcome) => outcome,
            Err(why) => {
                if let Some(bye) = why.bye() {
                    let _ = timeout(LINGER, self.refuse(bye)).await;
                }
                return Err(why);
            }
        };
        let Self { socket, sealer: Some(sealer), .. } = self else { return Err(Refused::Deadline) };
        let dialled_by_us = role == Role::Dialler;
        Ok(Box::new(Established { socket, sealer, opener, public_key, hello, proto, addr, dialled_by_us }))
    }

    async fn shake(&mut self, role: Role) -> Result<(Opener, [u8; 32], Hello, u16), Refused> {
        let noise = match role {
            Role::Dialler => self.noise_of_dialler().await?,
            Role::Listener => self.noise_of_listener().await?,
        };
        let (sealer, mut opener, public_key) = noise.finish()?;
        self.sealer = Some(sealer);
        if self.shared.is_denied(TillId::of_public_key(&public_key)) {
            return Err(Refused::Retired);
        }
        let ours = self.shared.hello();
        self.send_sealed(&ours.encode(), Mark::Last).await?;
        let theirs = self.receive_hello(&mut opener).await?;
        let proto = negotiate(&ours, &theirs)?;
        Ok((opener, public_key, theirs, proto))
    }

    async fn noise_of_dialler(&mut self) -> Result<Handshake, Refused> {
        let preamble = self.preamble();
        let mut noise = self.noise(Role::Dialler)?;
        self.socket.feed(Message::Binary(preamble.encode().into())).await?;
        self.send(noise.write()?).await?;
        noise.read(&self.receive().await?)?;
        self.send(noise.write()?).await?;
        Ok(noise)
    }

    async fn noise_of_listener(&mut self) -> Result<Handshake, Refused> {
        let ours = self.preamble();
        let theirs = Preamble::decode(&self.receive().await?)?;
        if theirs.store != ours.store {
            return Err(Refused::Store);
        }
        if theirs.key_epoch != ours.key_epoch {
            return Err(Refused::KeyEpoch { ours: ours.key_epoch, theirs: theirs.key_epoch });
        }
        let mut noise = self.noise(Role::Listener)?;
        noise.read(&self.receive().await?)?;
        self.send(noise.write()?).await?;
        noise.read(&self.receive().await?)?;
        Ok(noise)
    }

    fn noise(&self, role: Role) -> Result<Handshake, Refused> {
        let config = &self.shared.config;
        Ok(Handshake::new(role, &config.identity, self.shared.hello().store, &config.key)?)
    }

    fn preamble(&self) -> Preamble {
        let mut store = [0; 8];
        store.copy_from_slice(self.shared.hello().store.short_hash().as_bytes());
        Preamble { store, key_epoch: self.shared.config.key.epoch }
    }

    async fn receive_hello(&mut self, opener: &mut Opener) -> Result<Hello, Refused> {
        let part = opener.open(&self.receive().await?)?;
        match Assembler::default().push(part)? {
            Assembled::Message(bytes) => Ok(Hello::decode(&bytes)?),
            Assembled::Partial => Err(HelloError::TooLong.into()),
            Assembled::Bye(bye) => Err(Refused::Told(bye)),
        }
    }

    async fn receive(&mut self) -> Result<Bytes, Refused> {
        match self.socket.next().await {
            Some(Ok(Message::Binary(frame))) => Ok(frame),
            Some(Ok(Message::Close(frame))) => {
                let told = frame.and_then(|frame| Bye::from_close_code(frame.code.into()));
                Err(told.map_or_else(|| Refused::Lost("closed by the other end".to_owned()), Refused::Told))
            }
            Some(Ok(_)) => Err(Refused::NotTillmesh("a frame that is not binary".to_owned())),
            Some(Err(error)) => Err(error.into()),
            None => Err(Refused::Lost("closed by the other end".to_owned())),
        }
    }

    async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Refused> {
        Ok(self.socket.send(Message::Binary(bytes.into())).await?)
    }

    async fn send_sealed(&mut self, bytes: &[u8], mark: Mark) -> Result<(), Refused> {
        match &mut self.sealer {
            Some(sealer) => {
                let frame = sealer.seal(bytes, mark)?;
                self.send(frame).await
            }
            None => Ok(()),
        }
    }

    /// Tells the other end why, sealed if Noise has ended, and waits until it has read that.
    async fn refuse(&mut self, bye: Bye) -> Result<(), Refused> {
        self.send_sealed(&[bye.code()], Mark::Bye).await?;
        let in_clear = CloseFrame { code: bye.close_code().into(), reason: "".into() };
        self.socket.close(self.sealer.is_none().then_some(in_clear)).await?;
        // Closing a socket with unread bytes resets it, and the other end may then never read why: read to the end.
        while let Some(Ok(_)) = self.socket.next().await {}
        Ok(())
    }
}
