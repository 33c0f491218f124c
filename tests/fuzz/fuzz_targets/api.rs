//! A client's requests, over a real socket: paths, queries and bodies. What is refused says why and has stored nothing; nothing is ever
//! answered with a failure of ours.
#![no_main]

use std::cell::RefCell;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tillmesh::app::update::{BoxPlaces, Desk};
use tillmesh::api::{self, AgentStatus, BoardStatus, ApiCommand, ApiContext, Diagnosis, LogRing, Tokens};
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::{BootId, StoreId, TillId, Uuid};
use tillmesh::model::level::LEVEL;
use tillmesh::store::{Now, Store, StoreOptions};
use tillmesh_fuzz::Bytes;
use tillmesh_fuzz::shop::{NOON, author, folder};
use tokio::sync::{mpsc, oneshot, watch};

/// Method, path before the id, path after it.
const ROUTES: [(&str, &str, &str); 26] = [
    ("POST", "/v1/tickets", ""),
    ("POST", "/v1/tickets/", "/refunds"),
    ("POST", "/v1/tickets/", "/cancel"),
    ("PUT", "/v1/products/", ""),
    ("PATCH", "/v1/products/", ""),
    ("DELETE", "/v1/products/", ""),
    ("POST", "/v1/products/", "/stock"),
    ("PUT", "/v1/categories/", ""),
    ("PATCH", "/v1/categories/", ""),
    ("PUT", "/v1/customers/", ""),
    ("PATCH", "/v1/customers/", ""),
    ("POST", "/v1/p2p/enabled", ""),
    ("POST", "/v1/roster/", "/admit"),
    ("POST", "/v1/roster/", "/retire"),
    ("POST", "/v1/conflicts/", "/resolve"),
    ("GET", "/v1/tickets", ""),
    ("GET", "/v1/tickets/", ""),
    ("GET", "/v1/products", ""),
    ("GET", "/v1/products/", "/stock"),
    ("GET", "/v1/categories", ""),
    ("GET", "/v1/customers", ""),
    ("GET", "/v1/conflicts", ""),
    ("GET", "/v1/log", ""),
    ("GET", "/v1/status", ""),
    ("GET", "/", ""),
    ("POST", "/v1/store/scrub", ""),
];
const TOKEN: &str = "token";

/// Requests to one till before a new one takes its place: a run always starts from little.
const REQUESTS_MAX: u32 = 20_000;

/// Nothing here waits so long, unless the API hangs.
const PATIENCE: Duration = Duration::from_secs(20);

thread_local! {
    static CLIENT: RefCell<Option<Client>> = const { RefCell::new(None) };
}

fuzz_target!(|data: &[u8]| {
    CLIENT.with_borrow_mut(|client| {
        if client.as_ref().is_none_or(|client| client.requests >= REQUESTS_MAX) {
            *client = Some(Client::start());
        }
        let client = client.as_mut().expect("there is one");
        let mut bytes = Bytes::new(data);
        match bytes.byte() {
            u8::MAX => client.raw(bytes.rest()),
            route => {
                let (id, query) = (bytes.piece(), bytes.piece());
                client.request(ROUTES[usize::from(route) % ROUTES.len()], id, query, bytes.rest());
            }
        }
    });
});

/// A till's API, and a connection to it.
struct Client {
    address: SocketAddr,
    changes: watch::Receiver<u64>,
    stream: Option<BufReader<TcpStream>>,
    requests: u32,
    _stop: oneshot::Sender<()>,
    _folder: TempDir,
}

impl Client {
    fn start() -> Self {
        let folder = folder();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a socket");
        let options = StoreOptions { path: folder.path().join("till.db"), author: author(1), level: LEVEL };
        let (events, mut heard) = mpsc::unbounded_channel();
        let clock = Arc::new(|| Now { wall_ms: NOON, quality: ClockQuality::Trusted });
        let store = Store::spawn(options, clock, events).expect("a store");
        let changes = store.changes();
        let (commands, mut wishes) = mpsc::channel(8);
        let (status, status_out) = watch::channel(Arc::new(status()));
        let context = ApiContext {
            store: store.clone(),
            tokens: Tokens::new(TOKEN, ""),
            status: status_out,
            commands,
            log: LogRing::default(),
            data_dir: folder.path().to_owned(),
            updates: Arc::new(Desk::new(BoxPlaces::of_environment(), folder.path())),
        };
        let (stop, stopped) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                tokio::spawn(async move { while heard.recv().await.is_some() {} });
                tokio::spawn(async move {
                    while let Some(wish) = wishes.recv().await {
                        grant(wish);
                    }
                });
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                api::serve(listener, context, async move { drop(stopped.await) }).await;
                store.close().await;
                drop(status);
            });
        });
        Self { address, changes, stream: None, requests: 0, _stop: stop, _folder: folder }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(self.address).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        BufReader::new(stream)
    }

    /// Anything but HTTP, most likely.
    fn raw(&mut self, bytes: &[u8]) {
        let mut stream = self.connect();
        let _ = stream.get_mut().write_all(bytes);
        let _ = stream.get_mut().shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }

    fn request(&mut self, (method, before, after): (&str, &str, &str), id: &[u8], query: &[u8], body: &[u8]) {
        self.requests += 1;
        let id = if before.ends_with('/') { escaped(id, b"") } else { String::new() };
        let query = if query.is_empty() { String::new() } else { format!("?{}", escaped(query, b"=&%+")) };
        let mut request = format!(
            "{method} {before}{id}{after}{query} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {TOKEN}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.address,
            if method == "GET" { 0 } else { body.len() },
        )
        .into_bytes();
        if method != "GET" {
            request.extend_from_slice(body);
        }
        let stored = *self.changes.borrow();
        let answer = self.exchange(&request);
        assert!(
            matches!(answer.status, 200..=299 | 400 | 401 | 404 | 405 | 409 | 411 | 413..=415 | 422 | 431),
            "{} for {}: {}",
            answer.status,
            String::from_utf8_lossy(&request),
            answer.body
        );
        if answer.status >= 400 {
            assert_eq!(*self.changes.borrow(), stored, "what is refused has stored nothing: {}", answer.body);
            assert!(answer.body.contains("\"title\""), "a refusal says why: {}", answer.body);
        }
    }

    /// Over the connection that is open; anew where the till has closed it.
    fn exchange(&mut self, request: &[u8]) -> Answer {
        if let Some(mut stream) = self.stream.take()
            && stream.get_mut().write_all(request).is_ok()
            && let Some(answer) = Answer::read(&mut stream)
        {
            if !answer.closes {
                self.stream = Some(stream);
            }
            return answer;
        }
        let mut stream = self.connect();
        stream.get_mut().write_all(request).expect("it reads");
        let answer = Answer::read(&mut stream).expect("it answers");
        if !answer.closes {
            self.stream = Some(stream);
        }
        answer
    }
}

struct Answer {
    status: u16,
    closes: bool,
    body: String,
}

impl Answer {
    fn read(stream: &mut BufReader<TcpStream>) -> Option<Self> {
        let (mut status, mut closes, mut length, mut chunked) = (None, false, 0, false);
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
            let line = line.trim_end().to_ascii_lowercase();
            match line.split_once(' ') {
                None if line.is_empty() => break,
                Some(("http/1.1", rest)) => status = rest.split(' ').next()?.parse().ok(),
                Some(("content-length:", rest)) => length = rest.parse().ok()?,
                Some(("transfer-encoding:", _)) => chunked = true,
                Some(("connection:", rest)) => closes = rest == "close",
                _ => {}
            }
        }
        assert!(!chunked, "these routes know how long their answers are");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        Some(Self { status: status?, closes, body: String::from_utf8(body).expect("answers are UTF-8") })
    }
}

/// Percent-encoded (RFC 3986), but for these.
fn escaped(bytes: &[u8], plain: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        b if b.is_ascii_alphanumeric() || b"-._~".contains(b) || plain.contains(b) => char::from(*b).to_string(),
        b => format!("%{b:02X}"),
    };
    bytes.iter().map(escape).collect()
}

fn grant(wish: ApiCommand) {
    match wish {
        ApiCommand::Reconnect(answer) | ApiCommand::SyncNow(answer) => drop(answer.send(Ok(1))),
        ApiCommand::SetEnabled(_, answer) => drop(answer.send(Ok(()))),
        ApiCommand::Admit(_, answer) | ApiCommand::Scrub(answer) => drop(answer.send(Ok(()))),
        ApiCommand::Diagnose(answer) => {
            drop(answer.send(Ok(Diagnosis { findings: Vec::new(), facts: Default::default() })));
        }
    }
}

fn status() -> AgentStatus {
    AgentStatus {
        pos_id: "POS-1".into(),
        pos_name: "Caisse".into(),
        version: "0".into(),
        till: TillId([1; 16]),
        boot_id: BootId(1),
        store_id: StoreId(Uuid::from_u128(5)),
        store_name: "Café".into(),
        currency: "TND".into(),
        time_zone: "Africa/Tunis".into(),
        started_at_ms: 0,
        boot_reason: api::BootReason::First,
        clock: ClockQuality::Trusted,
        enabled: true,
        auto_sync: true,
        server_running: true,
        listening: None,
        discovery_running: true,
        held_elsewhere: None,
        led: "solo".into(),
        board: BoardStatus::default(),
        peers: Vec::new(),
        pending: Vec::new(),
        alerts: Vec::new(),
        snapshot: None,
        posplus: Vec::new(),
        traffic: api::Traffic::default(),
        integrity: api::Integrity::default(),
        shop: Vec::new(),
        history: Arc::default(),
    }
}
