//! Asking the running agent over its local HTTP API.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use hyper::http::{self, request};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::config::{ApiToken, ConfigManager, DataDir, TokenScope};

/// How long the agent has to take a connection.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// How long the agent may keep us waiting for an answer, or for the next part of one: longer than it gives its own disk.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(40);
/// How long a file may take to be sent and checked: on a slow card a minute or two.
const SEND_TIME_MAX: Duration = Duration::from_secs(600);
/// What is sent of a file at a time.
const PIECE_BYTES: usize = 64 * 1024;
/// The largest answer that is read into memory.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How much of a text that is no problem document is shown.
const SHOWN_CHARS_MAX: usize = 200;

/// Which agent a command is about.
#[derive(Debug)]
pub enum Target {
    /// The one that runs in a data folder, at the address of its config and with its token.
    Folder(DataDir),
    /// The one at an address, with the token that a file holds where one is needed.
    Address(SocketAddr, Option<PathBuf>),
}

/// Why the agent did not do what it was asked. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nothing has ever run in the folder.
    #[error("no agent has run in {} yet: start it with `tillmesh run`, or name its folder with --data-dir", .0.display())]
    NeverRan(PathBuf),
    /// The config lets the system choose the API's port, so that it cannot be known.
    #[error(
        "the config lets the system choose the API's port: give the address with --address, or a port in api.listen"
    )]
    UnknownPort,
    /// Nobody listens there.
    #[error("no agent answers at {address} ({source}): start it with `tillmesh run`, or see its log")]
    Unreachable {
        /// Where it should listen.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Somebody listens and does not answer.
    #[error("the agent at {0} takes too long to answer: see its log, and restart it if it stays so")]
    TimedOut(SocketAddr),
    /// The connection broke.
    #[error("the agent at {address} broke off ({source}): see its log")]
    BrokeOff {
        /// Who.
        address: SocketAddr,
        /// What the HTTP library says.
        source: hyper::Error,
    },
    /// It answers, but not as a till's agent does.
    #[error("what answers at {0} is not a till's agent: is its port taken by another program?")]
    NotAnAgent(SocketAddr),
    /// The file to be sent cannot be read.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::Error),
    /// The token is needed and missing or wrong.
    #[error(
        "the agent at {0} needs its token: run this as a user who may read api-token in its data folder (with --address: give --token-file)"
    )]
    Unauthorized(SocketAddr),
    /// It said no.
    #[error("the agent refused ({status}): {detail}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// Its own words.
        detail: String,
    },
}

impl AgentError {
    /// Whether no agent is there, as against one that fails or refuses.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        match self {
            Self::NeverRan(_) | Self::UnknownPort | Self::Unreachable { .. } | Self::NotAnAgent(_) => true,
            Self::TimedOut(_) | Self::BrokeOff { .. } => true,
            Self::Unreadable(_) | Self::Unauthorized(_) | Self::Refused { .. } => false,
        }
    }
}

/// What is sent with a request.
type Sent = UnsyncBoxBody<Bytes, io::Error>;

/// The running agent of a till, as seen from outside.
#[derive(Debug)]
pub(super) struct Agent {
    address: SocketAddr,
    token: Option<ApiToken>,
}

impl Agent {
    /// The agent that a command is about. Asks it nothing yet.
    pub(super) fn find(target: &Target) -> anyhow::Result<Self> {
        match target {
            Target::Folder(folder) => Self::of(folder),
            Target::Address(address, None) => Ok(Self { address: *address, token: None }),
            Target::Address(address, Some(file)) => {
                Ok(Self { address: *address, token: Some(ApiToken::from_file(file)?) })
            }
        }
    }

    /// The agent of a data folder.
    pub(super) fn of(folder: &DataDir) -> anyhow::Result<Self> {
        let config = ConfigManager::peek(folder)?.ok_or_else(|| AgentError::NeverRan(folder.path().to_owned()))?;
        if config.api.listen.port() == 0 {
            return Err(AgentError::UnknownPort.into());
        }
        // A token that may not be read is none: what needs no token can still be asked.
        let token = [TokenScope::Admin, TokenScope::Read].into_iter().find_map(|scope| {
            folder.read_api_token(scope).unwrap_or_else(|error| {
                tracing::debug!(%error, "the token cannot be read");
                None
            })
        });
        Ok(Self { address: reachable(config.api.listen), token })
    }

    /// Where it is asked.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The secret, where this user may read it.
    pub(super) fn token(&self) -> Result<&ApiToken, AgentError> {
        self.token.as_ref().ok_or(AgentError::Unauthorized(self.address))
    }

    /// Where its page and its API are.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The page's address with the token in its fragment, which browsers never send.
    pub(super) fn page(&self) -> Result<String, AgentError> {
        Ok(format!("{}/#token={}", self.url(), self.token()?.as_str()))
    }

    /// Asks for a document.
    pub(super) async fn get_json(&self, path: &str) -> Result<Value, AgentError> {
        self.json(self.exchange(Method::GET, path, None).await?).await
    }

    /// Sends a document; returns the answer.
    pub(super) async fn send_json(&self, method: Method, path: &str, value: &Value) -> Result<Value, AgentError> {
        self.json(self.exchange(method, path, Some(value)).await?).await
    }

    /// Sends a file as it is; returns the answer.
    pub(super) async fn send_file(&self, path: &str, file: File) -> Result<Value, AgentError> {
        let unread = |source| AgentError::Unreadable(source);
        let length = file.metadata().map_err(unread)?.len();
        let pieces = stream::try_unfold(file, |mut file| async move {
            let mut piece = vec![0; PIECE_BYTES];
            let bytes = file.read(&mut piece)?;
            piece.truncate(bytes);
            Ok::<_, io::Error>((bytes > 0).then(|| (Frame::data(Bytes::from(piece)), file)))
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        let request = self.request(Method::POST, path).header(CONTENT_LENGTH, length);
        let request = request.header(CONTENT_TYPE, "application/octet-stream").body(body);
        self.json(self.send(request, SEND_TIME_MAX).await?).await
    }

    /// Asks for something that comes in parts.
    pub(super) async fn get(&self, path: &str) -> Result<Response<Incoming>, AgentError> {
        self.exchange(Method::GET, path, None).await
    }

    /// The next part of what [`Agent::get`] began; `None` at the end.
    pub(super) async fn part(&self, body: &mut Incoming) -> Result<Option<Bytes>, AgentError> {
        loop {
            let frame = timeout(ANSWER_TIME_MAX, body.frame()).await.map_err(|_| AgentError::TimedOut(self.address))?;
            let Some(frame) = frame else { return Ok(None) };
            // Anything but data is trailers, of which we need none.
            if let Ok(data) = frame.map_err(|e| self.broke_off(e))?.into_data() {
                return Ok(Some(data));
            }
        }
    }

    /// One request on a connection of its own.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        value: Option<&Value>,
    ) -> Result<Response<Incoming>, AgentError> {
        let mut request = self.request(method, path);
        if value.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let body = Full::from(value.map(Value::to_string).unwrap_or_default());
        self.send(request.body(body.map_err(|never| match never {}).boxed_unsync()), ANSWER_TIME_MAX).await
    }

    fn request(&self, method: Method, path: &str) -> request::Builder {
        let request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        match &self.token {
            Some(token) => request.header(AUTHORIZATION, format!("Bearer {}", token.as_str())),
            None => request,
        }
    }

    async fn send(
        &self,
        request: http::Result<Request<Sent>>,
        patience: Duration,
    ) -> Result<Response<Incoming>, AgentError> {
        let request = request.expect("paths are ours, and a token is hex");
        let connecting = timeout(CONNECT_TIME_MAX, TcpStream::connect(self.address)).await;
        let stream = connecting.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|source| AgentError::Unreachable { address: self.address, source })?;
        let exchanging = async {
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            // Ends with the answer, or with the error that the sender reports.
            tokio::spawn(connection);
            sender.send_request(request).await
        };
        match timeout(patience, exchanging).await {
            Err(_) => Err(AgentError::TimedOut(self.address)),
            Ok(Err(error)) => Err(self.broke_off(error)),
            Ok(Ok(response)) if response.status().is_success() => Ok(response),
            Ok(Ok(response)) => Err(self.refusal(response).await),
        }
    }

    async fn json(&self, response: Response<Incoming>) -> Result<Value, AgentError> {
        let bytes = self.bytes(response).await?;
        serde_json::from_slice(&bytes).map_err(|_| AgentError::NotAnAgent(self.address))
    }

    async fn refusal(&self, response: Response<Incoming>) -> AgentError {
        let status = response.status();
        if status == StatusCode::UNAUTHORIZED {
            return AgentError::Unauthorized(self.address);
        }
        let bytes = match self.bytes(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        let problem: Option<Value> = serde_json::from_slice(&bytes).ok();
        match problem.as_ref().and_then(|p| p["detail"].as_str().or(p["title"].as_str())) {
            Some(detail) => AgentError::Refused { status, detail: detail.chars().take(SHOWN_CHARS_MAX).collect() },
            None => AgentError::NotAnAgent(self.address),
        }
    }

    async fn bytes(&self, response: Response<Incoming>) -> Result<Bytes, AgentError> {
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        let body = timeout(ANSWER_TIME_MAX, body).await.map_err(|_| AgentError::TimedOut(self.address))?;
        match body {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(AgentError::NotAnAgent(self.address)),
            Err(error) => match error.downcast() {
                Ok(error) => Err(self.broke_off(*error)),
                Err(_) => Err(AgentError::NotAnAgent(self.address)),
            },
        }
    }

    fn broke_off(&self, source: hyper::Error) -> AgentError {
        // An answer that is no HTTP is another program's.
        if source.is_parse() {
            return AgentError::NotAnAgent(self.address);
        }
        AgentError::BrokeOff { address: self.address, source }
    }
}

/// Where to connect to what listens there: an agent on all addresses is on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_on_all_addresses_is_asked_on_loopback() {
        for (listen, asked) in
            [("0.0.0.0:3031", "127.0.0.1:3031"), ("[::]:3031", "[::1]:3031"), ("192.168.1.20:80", "192.168.1.20:80")]
        {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn the_page_needs_the_token() {
        let agent = Agent { address: "127.0.0.1:3031".parse().unwrap(), token: None };
        assert!(matches!(agent.page(), Err(AgentError::Unauthorized(_))));
    }
}
