//! A till's API on a real database and a real socket, and a client of it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tempfile::TempDir;
use tillmesh::api::{
    self, AgentStatus, Alert, ApiCommand, ApiContext, BoardStatus, BootReason, CommandError, Diagnosis, Integrity,
    LogRing, PastAlert, Peer, PeerState, PendingTill, Severity, TillSummary, TillView, Tokens, Traffic, Words,
};
use tillmesh::app::update::{BoxPlaces, Desk};
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::{BootId, StoreId, TillId, Uuid};
use tillmesh::store::{Author, Now, Request, Store, StoreOptions};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) const TOKEN: &str = "the-token-of-the-test";
pub(crate) const READ_TOKEN: &str = "the-token-that-reads";

/// How long anything may take on a slow, noisy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// The till that waits to be admitted.
pub(crate) const WAITING: TillId = TillId([9; 16]);

pub(crate) struct Till {
    pub(crate) address: SocketAddr,
    pub(crate) store: Store,
    pub(crate) log: LogRing,
    /// What the agent was told.
    pub(crate) told: Arc<Mutex<Vec<String>>>,
    pub(crate) folder: Arc<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    client: ureq::Agent,
}

impl Till {
    pub(crate) fn start() -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), 1)
    }

    /// Another till of the store.
    pub(crate) fn second() -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), 2)
    }

    /// A till whose ids are made of `n`.
    fn start_in(folder: Arc<TempDir>, n: u8) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let author = Author {
            till: TillId([n; 16]),
            public_key: [n; 32],
            pos_id: format!("POS-{n}"),
            pos_name: format!("Caisse {n}"),
            currency: *b"TND",
            time_zone: jiff::tz::TimeZone::get("Africa/Tunis").unwrap(),
        };
        let options =
            StoreOptions { path: folder.path().join("till.db"), author, level: tillmesh::model::level::LEVEL };
        let (events, mut heard) = mpsc::unbounded_channel();
        let store = Store::spawn(options, Arc::new(now), events).unwrap();
        let (commands, mut wishes) = mpsc::channel(8);
        let (status, status_out) = watch::channel(Arc::new(status(n)));
        let log = LogRing::default();
        let context = ApiContext {
            store: store.clone(),
            tokens: Tokens::new(TOKEN, READ_TOKEN),
            status: status_out,
            commands,
            log: log.clone(),
            data_dir: folder.path().to_owned(),
            updates: Arc::new(Desk::new(BoxPlaces::of_environment(), folder.path())),
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = oneshot::channel::<()>();
        let (ear, closing) = (Arc::clone(&told), store.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::spawn(async move { while heard.recv().await.is_some() {} });
                tokio::spawn(async move {
                    while let Some(wish) = wishes.recv().await {
                        answer(wish, &ear);
                    }
                });
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                api::serve(listener, context, async move { drop(stopped.await) }).await;
                closing.close().await;
                drop(status);
            });
        });
        let client = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(DEADLINE)).build();
        Self { address, store, log, told, folder, stop: Some(stop), thread: Some(thread), client: client.into() }
    }

    /// Stops and starts again on the same database, under another address.
    pub(crate) fn restart(self) -> Self {
        let folder = Arc::clone(&self.folder);
        drop(self);
        Self::start_in(folder, 1)
    }

    /// Runs a request to the store itself: what the mesh would do.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    /// All ops that this till has made go to `other`, as the mesh would carry them.
    pub(crate) fn carry_to(&self, other: &Till) {
        let batch = self.block_on(self.store.read(|reader| {
            let own = reader.origin()?;
            reader.ops(own, 1, 10_000, 64 << 20)
        }));
        let batch = batch.unwrap().batch().expect("there are ops");
        let known = other.block_on(other.store.read(|reader| reader.vector())).unwrap().seq(batch.origin);
        let mut rest = batch;
        let skipped: Vec<_> = rest.ops.drain(..usize::try_from(known).unwrap()).collect();
        rest.before = rest.before.after_all(&skipped);
        other.block_on(other.store.submit(Request::Apply(rest))).unwrap();
    }

    /// A request with the token.
    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = (!body.is_null()).then(|| body.to_string());
        self.send(method, path, &[("authorization", &format!("Bearer {TOKEN}"))], body.as_deref())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None)
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Answer {
        let uri = format!("http://{}{path}", self.address);
        let mut request = ureq::http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match body {
            None => self.client.run(request.body(()).unwrap()),
            Some(body) if headers.iter().any(|(name, _)| *name == "content-type") => {
                self.client.run(request.body(body).unwrap())
            }
            Some(body) => self.client.run(request.header("content-type", "application/json").body(body).unwrap()),
        };
        let mut response = response.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let bytes = response.body_mut().with_config().limit(64 << 20).read_to_vec().unwrap();
        let headers = response.headers().clone();
        Answer { status: response.status().as_u16(), headers, bytes }
    }

    /// Bytes as they are, on a connection of their own; the answer's head and body.
    pub(crate) fn raw(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// What is stored: tickets, refunds, products, categories, customers and ops.
    pub(crate) fn counts(&self) -> [u64; 6] {
        let c = self.block_on(self.store.read(|reader| reader.counts())).unwrap();
        [c.tickets, c.refunds, c.products, c.categories, c.customers, c.ops]
    }
}

impl Drop for Till {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the server panicked");
        }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.bytes));
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// A problem of this status; its paths of fields.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Vec<String> {
        let problem = self.json(status);
        assert_eq!(self.header("content-type"), "application/problem+json", "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        assert!(problem["type"].as_str().unwrap().starts_with("urn:tillmesh:problem:"), "{problem}");
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["path"].as_str().unwrap().to_owned()).collect()
    }
}

/// A fresh id, as clients make them.
pub(crate) fn id() -> String {
    Uuid::new_v4().to_string()
}

/// A sale of 2 at 5.000 TND, paid in cash.
pub(crate) fn sale(id: &str, product: Option<&str>) -> Value {
    json!({
        "id": id,
        "cashier": "Amine",
        "lines": [{ "productId": product, "sku": "CAFE", "name": "Café", "quantity": 2, "unitPrice": 5000 }],
        "payments": [{ "method": "cash", "amount": 10000 }],
    })
}

fn now() -> Now {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Now { wall_ms: u64::try_from(since.as_millis()).unwrap(), quality: ClockQuality::Trusted }
}

fn answer(wish: ApiCommand, told: &Mutex<Vec<String>>) {
    let mut told = told.lock().unwrap();
    match wish {
        ApiCommand::Reconnect(answer) => {
            told.push("reconnect".to_owned());
            answer.send(Ok(2)).unwrap();
        }
        ApiCommand::SetEnabled(enabled, answer) => {
            told.push(format!("enabled {enabled}"));
            answer.send(Ok(())).unwrap();
        }
        ApiCommand::SyncNow(answer) => {
            told.push("sync".to_owned());
            answer.send(Err(CommandError::NotNow("links are switched off".to_owned()))).unwrap();
        }
        ApiCommand::Diagnose(answer) => {
            answer.send(Ok(Diagnosis { findings: Vec::new(), facts: json!({}) })).unwrap();
        }
        ApiCommand::Scrub(answer) => {
            told.push("scrub".to_owned());
            answer.send(Ok(())).unwrap();
        }
        ApiCommand::Admit(till, answer) => {
            told.push(format!("admit {till}"));
            answer
                .send(if till == WAITING { Ok(()) } else { Err(CommandError::NotFound("till at the door")) })
                .unwrap();
        }
    }
}

fn peer() -> Peer {
    Peer {
        id: "POS-2".to_owned(),
        name: "Caisse 2".to_owned(),
        till: Some(TillId([2; 16])),
        address: Some("192.168.1.22:3030".to_owned()),
        version: Some("0.1.0".to_owned()),
        online: true,
        state: PeerState::Connected,
        detail: None,
        since_ms: Some(1_000),
        last_seen_ms: Some(2_000),
        rtt_ms: Some(0.5),
        behind: 0,
        ahead: 3,
        bytes_sent: 100,
        bytes_received: 200,
    }
}

fn status(n: u8) -> AgentStatus {
    let words = Words { en: "en".into(), fr: "fr".into(), ar: "ar".into() };
    AgentStatus {
        pos_id: format!("POS-{n}"),
        pos_name: format!("Caisse {n}"),
        version: "0.1.0".to_owned(),
        till: TillId([n; 16]),
        boot_id: BootId(7),
        store_id: StoreId(Uuid::from_u128(5)),
        store_name: "Café Central".to_owned(),
        currency: "TND".to_owned(),
        time_zone: "Africa/Tunis".to_owned(),
        started_at_ms: 0,
        boot_reason: BootReason::Reboot,
        clock: ClockQuality::Trusted,
        enabled: true,
        auto_sync: true,
        server_running: true,
        listening: Some("0.0.0.0:3030".to_owned()),
        discovery_running: true,
        held_elsewhere: None,
        led: "connected".to_owned(),
        board: BoardStatus::default(),
        snapshot: None,
        peers: vec![peer()],
        posplus: Vec::new(),
        pending: vec![PendingTill {
            till: WAITING,
            pos_id: "POS-9".to_owned(),
            pos_name: "Caisse 9".to_owned(),
            address: "192.168.1.29:3030".to_owned(),
            code: "417-203".to_owned(),
        }],
        alerts: vec![Alert {
            code: "clockUntrusted".to_owned(),
            severity: Severity::Warning,
            since_ms: 3_000,
            subject: None,
            message: words.en.clone(),
            messages: words,
            detail: None,
        }],
        traffic: Traffic { links_made: 3, refused: [("wrong-key".to_owned(), 2)].into(), ..Traffic::default() },
        integrity: Integrity { checked_ms: Some(4_000), damaged: 0 },
        shop: vec![TillView {
            till: TillId([2; 16]),
            heard_ms: Some(2_000),
            summary: Some(TillSummary {
                pos_id: "POS-2".to_owned(),
                pos_name: "Caisse 2".to_owned(),
                only_here: Some(5),
                ..TillSummary::default()
            }),
        }],
        history: Arc::new(vec![past("fork", 1_000, Some(2_000)), past("clockUntrusted", 3_000, None)]),
    }
}

fn past(code: &str, raised_ms: u64, cleared_ms: Option<u64>) -> PastAlert {
    let code = code.to_owned();
    PastAlert {
        code,
        severity: Severity::Warning,
        subject: None,
        detail: None,
        since_ms: raised_ms,
        raised_ms,
        cleared_ms,
    }
}
