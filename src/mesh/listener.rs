//! Accepts connections: binds for ever, caps and rate-limits, and hands what becomes a link to its task.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use rustix::net::sockopt::{set_ipv6_v6only, set_tcp_user_timeout};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep};

use super::handshake::Accepted;
use super::limiter::{LogLimiter, RateLimiter};
use super::refused::Refused;
use super::shared::Shared;
use super::{MeshEvent, handshake, link, posplus};

/// How many connections the kernel may hold for us.
const BACKLOG: u32 = 64;

/// How long to leave the kernel alone when it cannot give us a connection (no file descriptors, no memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// The kernel's send buffer of a link. Left to itself it grows to megabytes for a till that does not read.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;

/// How long sent bytes may stay unacknowledged before the kernel gives a connection up, in milliseconds (RFC 5482). The heartbeat
/// is faster; this ends what the heartbeat does not watch.
const USER_TIMEOUT_MS: u32 = 20_000;

/// Listens while the mesh is on.
pub(super) async fn run(shared: Arc<Shared>) {
    // A port that was chosen for us stays the same when the mesh is switched off and on.
    let mut port = shared.config.port;
    let mut told = None;
    while shared.until_on().await {
        match bind(port).and_then(|listener| Ok((listener.local_addr()?.port(), listener))) {
            Ok((bound, listener)) => {
                (port, told) = (bound, None);
                serve(&shared, &listener, bound).await;
            }
            Err(error) => {
                let error = explain(&error);
                if told.as_ref() != Some(&error) {
                    tracing::error!("P2P: cannot listen on port {port}: {error}; trying again");
                    let _ = shared.events.send(MeshEvent::ListenFailed { port, error: error.clone() }).await;
                    told = Some(error);
                }
                tokio::select! {
                    () = sleep(shared.config.limits.listen_retry) => {}
                    () = shared.until_off() => {}
                }
            }
        }
    }
}

/// Sets what every socket of a link has: no delay for small messages, and an end for connections that nobody acknowledges.
pub(super) fn tune(stream: &TcpStream) {
    // A socket that refuses an option still carries messages.
    if let Err(error) = stream.set_nodelay(true).and_then(|()| Ok(set_tcp_user_timeout(stream, USER_TIMEOUT_MS)?)) {
        tracing::debug!("P2P: socket options: {error}");
    }
}

/// A socket of the right family, with a bounded send buffer.
pub(super) fn socket(family: IpAddr) -> io::Result<TcpSocket> {
    let socket = if family.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    Ok(socket)
}

/// Listens on all addresses; on IPv4 alone where the kernel has no IPv6.
fn bind(port: u16) -> io::Result<TcpListener> {
    bind_to(Ipv6Addr::UNSPECIFIED.into(), port).or_else(|error| match error.kind() {
        io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(error),
        _ => bind_to(Ipv4Addr::UNSPECIFIED.into(), port),
    })
}

fn bind_to(address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, false)?;
    }
    // Or a restart would wait for the last run's connections to time out.
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::new(address, port))?;
    socket.listen(BACKLOG)
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "another program uses the port: end it, or set another \"p2p.port\" in pos-config.json".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 are for the system: set another \"p2p.port\" in pos-config.json".to_owned()
        }
        _ => error.to_string(),
    }
}

async fn serve(shared: &Arc<Shared>, listener: &TcpListener, port: u16) {
    tracing::info!("P2P: listening on port {port}");
    shared.counters.port.store(port, Relaxed);
    let _ = shared.events.send(MeshEvent::Listening { port }).await;
    tokio::select! {
        () = accept_all(shared, listener) => {}
        () = shared.until_off() => {}
    }
    shared.counters.port.store(0, Relaxed);
    shared.counters.pending.store(0, Relaxed);
}

/// Accepts for ever. Dropping the future ends the handshakes under way.
async fn accept_all(shared: &Arc<Shared>, listener: &TcpListener) {
    let limits = &shared.config.limits;
    let mut rates = RateLimiter::new(limits.accept_burst, limits.accept_per_second);
    let mut failures = LogLimiter::new();
    let mut pending = Pending::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, addr)) => {
                    shared.counters.accepted.fetch_add(1, Relaxed);
                    let addr = canonical(addr);
                    match pending.admit(shared, &mut rates, addr) {
                        Ok(()) => pending.start(shared, stream, addr),
                        Err(why) => shared.refuse(addr, why),
                    }
                }
                Err(error) => {
                    if failures.count(error.kind(), Instant::now()).is_some() {
                        tracing::warn!("P2P: cannot accept connections: {error}");
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = pending.tasks.join_next_with_id() => pending.end(ended, &mut rates),
        }
        shared.counters.pending.store(pending.tasks.len(), Relaxed);
    }
}

/// An IPv4 address as such, where the socket takes both families. A link-local IPv6 one keeps its scope: nobody can dial it without.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// The handshakes under way of accepted connections. A task's value is whether a link came of it.
#[derive(Default)]
struct Pending {
    tasks: JoinSet<bool>,
    addresses: HashMap<Id, IpAddr>,
}

impl Pending {
    fn admit(&self, shared: &Shared, rates: &mut RateLimiter, addr: SocketAddr) -> Result<(), Refused> {
        let limits = &shared.config.limits;
        if !rates.take(addr.ip(), Instant::now()) {
            return Err(Refused::RateLimited);
        }
        let from_there = self.addresses.values().filter(|pending| **pending == addr.ip()).count();
        if self.tasks.len() >= limits.pending || from_there >= limits.pending_per_address {
            return Err(Refused::Busy);
        }
        Ok(())
    }

    fn start(&mut self, shared: &Arc<Shared>, stream: TcpStream, addr: SocketAddr) {
        let shared = Arc::clone(shared);
        let task = self.tasks.spawn(async move {
            tune(&stream);
            let outcome = match handshake::accept(&shared, stream, addr).await {
                Ok(Accepted::Link(established)) => link::start(&shared, established).await.map(drop),
                Ok(Accepted::Posplus(stream)) => posplus::accept(&shared, stream, addr).await,
                Err(why) => Err(why),
            };
            outcome.map_err(|why| shared.refuse(addr, why)).is_ok()
        });
        self.addresses.insert(task.id(), addr.ip());
    }

    fn end(&mut self, ended: Result<(Id, bool), tokio::task::JoinError>, rates: &mut RateLimiter) {
        let (id, linked) = ended.unwrap_or_else(|error| (error.id(), false));
        if let Some(address) = self.addresses.remove(&id)
            && linked
        {
            rates.give_back(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, SocketAddrV6};

    use super::*;

    #[test]
    fn an_accepted_address_can_be_dialled() {
        let mapped: SocketAddr = "[::ffff:192.168.1.21]:40000".parse().unwrap();
        assert_eq!(canonical(mapped), "192.168.1.21:40000".parse().unwrap());
        let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x21);
        let scoped = SocketAddr::V6(SocketAddrV6::new(link_local, 40_000, 0, 2));
        assert_eq!(canonical(scoped), scoped);
    }
}
