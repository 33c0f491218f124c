//! What a user would take instead: the same tickets over a raw WebSocket between two bare tables, and the stack of POSPlus in Node.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket, accept, client};
use uuid::Uuid;

use crate::Bench;
use crate::floor;
use crate::report::Figure;
use crate::samples::{Samples, median, ms};

const GAP: Duration = Duration::from_millis(20);
const LIVE: usize = 100;
const EACH: usize = 500;
const TABLE: &str = "CREATE TABLE ticket (idx INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, body TEXT NOT NULL)";

type Socket = WebSocket<TcpStream>;

fn pair() -> Result<(Socket, Socket)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let server = thread::spawn(move || -> Result<Socket> {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        accept(stream).ok().context("the WebSocket was not accepted")
    });
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let (near, _) = client(format!("ws://{address}/"), stream).ok().context("no WebSocket")?;
    Ok((near, server.join().ok().context("the listener panicked")??))
}

fn insert(conn: &Connection, id: &[u8], body: &str) -> Result<()> {
    conn.prepare_cached("INSERT INTO ticket (id, body) VALUES (?1, ?2)")?.execute((id, body))?;
    Ok(())
}

/// Times of live tickets from before the first commit to after the second: bare tables, nothing of an agent. In milliseconds.
pub(crate) fn live_floor(bench: &mut Bench) -> Result<Vec<f64>> {
    let paths = [bench.path("near.db"), bench.path("far.db")];
    let bodies: Vec<(Uuid, String)> = (0..LIVE).map(|_| bench.sales.next()).collect();
    let (mut near, mut far) = pair()?;
    let [mine, theirs] = [floor::create(&paths[0])?, floor::create(&paths[1])?];
    mine.execute_batch(TABLE)?;
    theirs.execute_batch(TABLE)?;
    let arrivals = thread::spawn(move || -> Result<(Vec<Instant>, Connection)> {
        let mut times = Vec::with_capacity(LIVE);
        while times.len() < LIVE {
            let body = far.read()?.into_text()?;
            insert(&theirs, &times.len().to_le_bytes(), &body)?;
            times.push(Instant::now());
        }
        Ok((times, theirs))
    });
    let (mut posted, began) = (Vec::with_capacity(LIVE), Instant::now());
    for (n, (id, body)) in bodies.into_iter().enumerate() {
        let due = began + GAP * u32::try_from(n)?;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        posted.push(Instant::now());
        insert(&mine, id.as_bytes(), &body)?;
        near.send(Message::text(body))?;
    }
    let (arrived, theirs) = arrivals.join().ok().context("the listener panicked")??;
    floor::remove(mine, &paths[0])?;
    floor::remove(theirs, &paths[1])?;
    Ok(arrived.iter().zip(posted).map(|(at, posted)| ms(*at - posted)).collect())
}

/// Sends all bodies over a raw WebSocket; kept nowhere, or in a bare table, so many a transaction. In milliseconds.
pub(crate) fn stream(bench: &Bench, bodies: &[(Uuid, String)], keep: bool) -> Result<f64> {
    let path = bench.path("stream.db");
    let (mut near, mut far) = pair()?;
    let conn = floor::create(&path)?;
    conn.execute_batch(TABLE)?;
    let count = bodies.len();
    let began = Instant::now();
    let taker = thread::spawn(move || -> Result<Connection> {
        for n in 0..count {
            if keep && n % EACH == 0 {
                conn.execute_batch("BEGIN IMMEDIATE")?;
            }
            let body = far.read()?.into_text()?;
            if keep {
                insert(&conn, &n.to_le_bytes(), &body)?;
                if n % EACH == EACH - 1 || n == count - 1 {
                    conn.execute_batch("COMMIT")?;
                }
            }
        }
        Ok(conn)
    });
    for (_, body) in bodies {
        near.write(Message::text(body.as_str()))?;
    }
    near.flush()?;
    let conn = taker.join().ok().context("the taker panicked")??;
    let time = ms(began.elapsed());
    floor::remove(conn, &path)?;
    Ok(time)
}

/// The raw WebSocket, with and without a bare table behind it.
pub(crate) fn websocket(bench: &mut Bench) -> Result<()> {
    let bodies: Vec<_> = (0..bench.plan.tickets).map(|_| bench.sales.next()).collect();
    let (mut bare, mut kept, mut live) = (Vec::new(), Vec::new(), Samples::default());
    for round in 1..=bench.plan.rounds {
        bench.say(&format!("raw WebSocket, round {round}"));
        bare.push(stream(bench, &bodies, false)?);
        kept.push(stream(bench, &bodies, true)?);
        live.add(live_floor(bench)?);
    }
    bench.report.note(Figure {
        name: &format!("raw WebSocket, {} tickets", bodies.len()),
        figure: format!("{:.2} s; kept in a bare table {:.2} s", median(&bare) / 1000.0, median(&kept) / 1000.0),
        against: String::new(),
        numbers: json!({ "ms": bare, "keptMs": kept }),
    });
    bench.report.note(Figure {
        name: "raw WebSocket between two bare tables, live, p50 / p99",
        figure: format!("{:.2} / {:.2} ms", live.p50(), live.p99()),
        against: String::new(),
        numbers: json!({ "ms": live.p50(), "p99Ms": live.p99() }),
    });
    Ok(())
}

/// One round of POSPlus's stack, as its driver tells; why not, where it cannot run.
pub(crate) fn posplus(bench: &Bench, tickets: u64) -> Result<std::result::Result<Value, String>> {
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/benchmark/posplus");
    if !driver.join("node_modules/better-sqlite3/build/Release/better_sqlite3.node").exists() {
        return Ok(Err("its packages are not there: node, npm and a C++ compiler are needed".to_owned()));
    }
    let folder = bench.path("posplus");
    let output = Command::new("node")
        .arg(driver.join("driver.mjs"))
        .args([folder.as_os_str(), tickets.to_string().as_ref(), LIVE.to_string().as_ref()])
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => return Ok(Err(format!("node: {error}"))),
    };
    ensure!(output.status.success(), "POSPlus's stack: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::remove_dir_all(&folder)?;
    Ok(Ok(serde_json::from_slice(&output.stdout).context("the driver prints no JSON")?))
}
