//! The mesh's listener, over real sockets: a stranger's bytes before and during the handshake, and a member's sealed ones after it. The
//! mesh lives through all of it, keeps nothing, and hands on exactly the messages that were sent.
#![no_main]

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use snow::{Builder, HandshakeState, TransportState};
use tillmesh::mesh::{Identity, Limits, MeshConfig, MeshEvent, StoreKey, spawn};
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::{BootId, StoreId, Uuid};
use tillmesh::wire::frame::{Assembled, Assembler, Preamble, SUBPROTOCOL};
use tillmesh::wire::hello::Hello;
use tillmesh::wire::limits::PART_BYTES_MAX;
use tillmesh_fuzz::Bytes;
use tokio::sync::{mpsc, oneshot};

const STORE: StoreId = StoreId(Uuid::from_bytes([5; 16]));
const SECRET: [u8; 32] = [9; 32];
/// The key of a member that says its Hello, and of one that says anything.
const GREETING: [u8; 32] = [2; 32];
const SILENT: [u8; 32] = [3; 32];
const PATTERN: &str = "Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s";

/// Nothing here waits so long, unless the mesh hangs.
const PATIENCE: Duration = Duration::from_secs(20);

static VICTIM: LazyLock<Victim> = LazyLock::new(Victim::start);

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes::new(data);
    match bytes.below(4) {
        0 => raw(&mut bytes),
        1 => stranger(&mut bytes),
        _ => member(&mut bytes),
    }
});

/// A mesh on a thread of its own, and what has arrived at it.
struct Victim {
    port: u16,
    /// The messages of one link of the member that greets, told when it is down.
    links: Mutex<std::sync::mpsc::Receiver<Vec<Vec<u8>>>>,
}

impl Victim {
    fn start() -> Self {
        let (told, links) = std::sync::mpsc::channel();
        let (port, listening) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(listen(port, &told));
        });
        let port = listening.blocking_recv().expect("it listens");
        Self { port, links: Mutex::new(links) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        stream
    }

    fn arrived(&self) -> Vec<Vec<u8>> {
        let links = self.links.lock().expect("one at a time");
        links.recv_timeout(PATIENCE).expect("a link that was up goes down with its socket")
    }
}

async fn listen(port: oneshot::Sender<u16>, told: &std::sync::mpsc::Sender<Vec<Vec<u8>>>) {
    let limits = Limits {
        // Sooner than our patience, and later than a busy machine is late.
        handshake_deadline: PATIENCE - Duration::from_secs(5),
        pending: 1_000,
        pending_per_address: 1_000,
        accept_burst: u32::MAX,
        accept_per_second: u32::MAX,
        ..Limits::default()
    };
    let config = MeshConfig {
        port: 0,
        identity: Identity::from_private([1; 32]).expect("a key"),
        key: StoreKey { epoch: 0, secret: SECRET },
        hello: Arc::new(|| hello(1)),
        enabled: true,
        limits,
        posplus: tillmesh::mesh::PosplusDoor::shut(),
    };
    let (sender, mut events) = mpsc::channel(16);
    let _mesh = spawn(config, sender);
    let greeting = Identity::from_private(GREETING).expect("a key").till();
    let (mut port, mut arrived) = (Some(port), BTreeMap::new());
    while let Some(event) = events.recv().await {
        match event {
            MeshEvent::Listening { port: listening } => {
                port.take().map(|port| port.send(listening));
            }
            MeshEvent::LinkUp(up) => drop(arrived.insert(up.link, (up.till, Vec::new()))),
            MeshEvent::Frame { link, bytes } => arrived.get_mut(&link).expect("it is up").1.push(bytes.to_vec()),
            MeshEvent::LinkDown { link, .. } => {
                let (till, messages) = arrived.remove(&link).expect("it was up");
                if till == greeting {
                    told.send(messages).expect("the fuzzer listens");
                }
            }
            MeshEvent::ListenFailed { error, .. } => panic!("{error}"),
            MeshEvent::Posplus(_) | MeshEvent::Ourselves { .. } | MeshEvent::Refused { .. } => {}
        }
    }
}

fn hello(boot: u64) -> Hello {
    Hello {
        store: STORE,
        currency: *b"TND",
        proto_min: 1,
        proto_max: 1,
        features: 0,
        boot: BootId(boot),
        hlc: 1,
        clock: ClockQuality::Trusted,
        port: 0,
        pos_id: "POS-1".into(),
        pos_name: "Caisse".into(),
        version: "0".into(),
    }
}

/// Bytes as they come, to a port that speaks HTTP first.
fn raw(bytes: &mut Bytes<'_>) {
    let mut stream = VICTIM.connect();
    let _ = stream.write_all(bytes.rest());
    until_closed(stream);
}

/// A WebSocket that carries anything.
fn stranger(bytes: &mut Bytes<'_>) {
    let mut stream = upgraded();
    if bytes.below(2) == 0 {
        let _ = write_frame(&mut stream, 2, &preamble().encode());
    }
    while !bytes.is_empty() {
        let opcode = bytes.byte();
        let _ = write_frame(&mut stream, opcode & 0x8f, bytes.piece());
    }
    until_closed(stream);
}

/// A till of the store, whose parts and messages are anything.
fn member(bytes: &mut Bytes<'_>) {
    let mut stream = upgraded();
    let greeted = bytes.below(8) != 0;
    let mut cipher = handshake(&mut stream, if greeted { &GREETING } else { &SILENT });
    let _ = read_frame(&mut stream).expect("the till's Hello");
    let mut honest = Vec::new();
    let mut assembler = Assembler::default();
    let mut open = true;
    if greeted {
        let _ = send(&mut stream, &mut cipher, &[hello(2).encode(), vec![0]].concat());
    }
    while !bytes.is_empty() {
        let part = bytes.piece();
        let part = &part[..part.len().min(PART_BYTES_MAX + 1)];
        let sent = send(&mut stream, &mut cipher, part);
        // What a receiver must make of it: the till ends the link at the first part that is none.
        match assembler.push(part.to_vec()) {
            _ if !greeted || !open => {}
            Ok(Assembled::Message(message)) => honest.push(message),
            Ok(Assembled::Partial) => {}
            Ok(Assembled::Bye(_)) | Err(_) => open = false,
        }
        if sent.is_err() {
            break;
        }
    }
    until_closed(stream);
    if greeted {
        assert_eq!(VICTIM.arrived(), honest);
    }
}

fn preamble() -> Preamble {
    let store = STORE.short_hash().as_bytes().try_into().expect("eight digits");
    Preamble { store, key_epoch: 0 }
}

/// Nothing more is said; the mesh closes within its own time.
fn until_closed(mut stream: TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let mut rest = [0; 4096];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            // The fuzzer's own clock rings.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("the mesh keeps a connection that was closed: {error}"),
        }
    }
}

fn upgraded() -> TcpStream {
    let mut stream = VICTIM.connect();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: till\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("it answers");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// RFC 6455, section 5.2, with a mask of zeros.
fn write_frame(stream: &mut TcpStream, first: u8, payload: &[u8]) -> std::io::Result<()> {
    let mut frame = vec![first | 0x80];
    match payload.len() {
        short @ ..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(long).expect("a piece is short").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    stream.write_all(&frame)
}

fn read_frame(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut long = [0; 2];
            stream.read_exact(&mut long)?;
            usize::from(u16::from_be_bytes(long))
        }
        short => usize::from(short),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

fn handshake(stream: &mut TcpStream, private: &[u8; 32]) -> TransportState {
    let prologue = [SUBPROTOCOL.as_bytes(), STORE.0.as_bytes(), &0u32.to_be_bytes()].concat();
    let mut noise: HandshakeState = Builder::new(PATTERN.parse().expect("a pattern"))
        .prologue(&prologue)
        .and_then(|builder| builder.local_private_key(private))
        .and_then(|builder| builder.psk(3, &SECRET))
        .and_then(Builder::build_initiator)
        .expect("a handshake");
    let mut message = [0; 1024];
    write_frame(stream, 2, &preamble().encode()).expect("it reads");
    let length = noise.write_message(&[], &mut message).expect("sealed");
    write_frame(stream, 2, &message[..length]).expect("it reads");
    let answer = read_frame(stream).expect("it answers");
    noise.read_message(&answer, &mut message).expect("the same key");
    let length = noise.write_message(&[], &mut message).expect("sealed");
    write_frame(stream, 2, &message[..length]).expect("it reads");
    noise.into_transport_mode().expect("the handshake is over")
}

/// A part, mark included, as a frame.
fn send(stream: &mut TcpStream, cipher: &mut TransportState, part: &[u8]) -> std::io::Result<()> {
    let mut frame = vec![0; part.len() + 16];
    let Ok(length) = cipher.write_message(part, &mut frame) else { return Ok(()) };
    write_frame(stream, 2, &frame[..length])
}
