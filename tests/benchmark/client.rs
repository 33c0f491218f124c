//! The local API over one kept connection, by hand: a client that costs next to nothing, so that what is measured is the agent.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// No answer takes longer, unless something is wrong.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Fresh connections that a request is tried on.
const TRIES_MAX: u32 = 3;

/// One client of an agent. Its connection is opened by the first request and kept.
pub(crate) struct Client {
    address: SocketAddr,
    token: String,
    link: Option<BufReader<TcpStream>>,
}

/// What the agent answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body of an answer of success.
    pub(crate) fn ok(self) -> Result<Vec<u8>> {
        ensure!((200..300).contains(&self.status), "answered {}: {}", self.status, String::from_utf8_lossy(&self.body));
        Ok(self.body)
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.to_owned(), link: None }
    }

    pub(crate) fn get(&mut self, path: &str) -> Result<Answer> {
        let request = self.head("GET", path);
        self.exchange(request.as_bytes()).with_context(|| format!("GET {path}"))
    }

    /// Posts a body of JSON.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> Result<Answer> {
        self.send("POST", path, body)
    }

    /// Sends a body of JSON; again over a fresh connection where a kept one turns out to be closed: ids make that harmless.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        let mut request = self.head(method, path);
        request.truncate(request.len() - 2);
        request += &format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.exchange(request.as_bytes()).with_context(|| format!("{method} {path}"))
    }

    /// Opens a stream of server-sent events; what it tells comes line by line.
    pub(crate) fn events(&mut self, path: &str) -> Result<BufReader<Chunks>> {
        let request = self.head("GET", path);
        let mut link = self.connect()?;
        link.get_mut().write_all(request.as_bytes())?;
        let head = Head::read(&mut link)?;
        ensure!(head.status == 200 && head.chunked, "GET {path}: no stream, answered {}", head.status);
        Ok(BufReader::new(Chunks { link, left: 0 }))
    }

    fn head(&self, method: &str, path: &str) -> String {
        let Self { address, token, .. } = self;
        format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n")
    }

    fn connect(&self) -> io::Result<BufReader<TcpStream>> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(BufReader::new(stream))
    }

    fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        if let Some(mut link) = self.link.take()
            && let Ok(answer) = round_trip(&mut link, request)
        {
            self.link = Some(link);
            return Ok(answer);
        }
        // An agent with all its places taken ends the idlest connection, which may be one that has just been opened.
        let mut tries = 0;
        loop {
            tries += 1;
            let mut link = self.connect()?;
            match round_trip(&mut link, request) {
                Ok(answer) => {
                    self.link = Some(link);
                    return Ok(answer);
                }
                Err(error) if tries == TRIES_MAX => return Err(error.into()),
                Err(_) => {}
            }
        }
    }
}

fn round_trip(link: &mut BufReader<TcpStream>, request: &[u8]) -> io::Result<Answer> {
    link.get_mut().write_all(request)?;
    let head = Head::read(link)?;
    let mut body = vec![0; head.length];
    link.read_exact(&mut body)?;
    Ok(Answer { status: head.status, body })
}

struct Head {
    status: u16,
    length: usize,
    chunked: bool,
}

impl Head {
    fn read(link: &mut impl BufRead) -> io::Result<Self> {
        let mut line = String::new();
        if link.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        let mut head = Self { status, length: 0, chunked: false };
        loop {
            line.clear();
            link.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { return Ok(head) };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => head.length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?,
                "transfer-encoding" => head.chunked = value.trim() == "chunked",
                _ => {}
            }
        }
    }
}

/// A chunked body (RFC 9112, 7.1) as plain bytes.
pub(crate) struct Chunks {
    link: BufReader<TcpStream>,
    left: usize,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.left == 0 {
            let mut line = String::new();
            if self.link.read_line(&mut line)? == 0 {
                return Ok(0);
            }
            // Between two chunks stands an empty line.
            if line.trim().is_empty() {
                continue;
            }
            self.left = usize::from_str_radix(line.trim(), 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let most = into.len().min(self.left);
        let read = self.link.read(&mut into[..most])?;
        self.left -= read;
        Ok(read)
    }
}
