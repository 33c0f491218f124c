//! The local HTTP API: what the till application, the shop's page and the command line ask the agent.
//!
//! # Layout
//!
//! ```text
//! server    connections: caps, time limits, shutting down
//! routes    the one table of routes, and what stands before each
//! guard     who may ask what: Host, Origin, token            rate     how often
//! extract   requests -> values, strictly        problem  what is answered otherwise (RFC 9457)
//! shape     values <-> JSON, checked field by field
//! shop      the whole shop, as its tills tell of themselves        firewall  what the box's firewall has counted
//! tickets sales entities stock changes conflicts roster status alerts doctor control backup update log metrics tokens page openapi packed  the routes
//! ```
//!
//! **Invariant:** what a request says reaches the store only as a value that has been checked in full; a request that is refused has
//! stored nothing. **Invariant:** every route is in `openapi.json`, and nothing else is (tested).

mod alerts;
mod backup;
mod changes;
mod conflicts;
mod control;
mod doctor;
mod entities;
mod extract;
mod firewall;
mod guard;
mod limits;
mod log;
mod metrics;
mod openapi;
mod packed;
mod page;
mod place;
mod problem;
mod rate;
mod roster;
mod routes;
mod sales;
mod server;
mod shape;
mod shop;
mod status;
mod stock;
mod tickets;
mod tokens;
mod traffic;
mod update;

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::store::{Reader, Reply, Request, Store, StoreError};

pub use alerts::PastAlert;
pub use control::{ApiCommand, CommandError};
pub use doctor::{Diagnosis, Finding};
pub use guard::Tokens;
pub use log::LogRing;
pub use shop::{TillAlert, TillCounts, TillLink, TillSummary, TillView};
pub use status::{
    AgentStatus, Alert, BoardStatus, BootReason, Integrity, Peer, PeerState, PendingTill, PosplusCounts,
    PosplusDiffers, PosplusPeer, Severity, Snapshot, Words,
};
pub use traffic::Traffic;
pub use update::{LastUpdate, UpdateRefusal, UpdateState, UpdateWish, Updates};

use limits::{ANSWER_TIME_MAX, READS_MAX, STREAMS_MAX};
use problem::{Kind, Problem};

/// What the API works with.
#[derive(Clone)]
pub struct ApiContext {
    /// The database.
    pub store: Store,
    /// The secrets that writes, and others than this machine, need.
    pub tokens: Tokens,
    /// What the agent itself knows of its state; kept up to date by the agent.
    pub status: watch::Receiver<Arc<AgentStatus>>,
    /// Where wishes to the agent go. Each carries the way to answer it.
    pub commands: mpsc::Sender<ApiCommand>,
    /// Recent log lines.
    pub log: LogRing,
    /// Where a backup's copy is made before it is sent, and where the tokens' files are.
    pub data_dir: PathBuf,
    /// Takes updates of the box.
    pub updates: Arc<dyn Updates>,
}

/// Serves the API until `shutdown` resolves; answers under way then have two seconds.
pub async fn serve(listener: TcpListener, context: ApiContext, shutdown: impl Future<Output = ()>) {
    let (stopping, stop) = watch::channel(false);
    let api = Api(Arc::new(Shared {
        context,
        stop: Stop(stop),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        reads: Arc::new(Semaphore::new(READS_MAX)),
        backups: Arc::new(Semaphore::new(1)),
        updating: Arc::new(Semaphore::new(1)),
        counters: metrics::Counters::new(),
        rates: rate::Rates::default(),
    }));
    backup::remove_leftovers(&api.context.data_dir);
    server::run(listener, routes::router(&api), (stopping, api.stop.clone()), shutdown).await;
}

/// Tells that the agent stops.
#[derive(Clone)]
struct Stop(watch::Receiver<bool>);

impl Stop {
    async fn stopped(&mut self) {
        // Without the sender the server is gone: that is a stop as well.
        drop(self.0.wait_for(|stopping| *stopping).await);
    }
}

/// What all routes share.
#[derive(Clone)]
struct Api(Arc<Shared>);

struct Shared {
    context: ApiContext,
    stop: Stop,
    streams: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    updating: Arc<Semaphore>,
    counters: metrics::Counters,
    rates: rate::Rates,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// Has the store do something; answers once it is on the disk.
    async fn submit(&self, request: Request) -> Result<Reply, Problem> {
        let began = Instant::now();
        match timeout(ANSWER_TIME_MAX, self.context.store.submit(request)).await {
            Ok(reply) => {
                let reply = reply?;
                self.counters.wrote(began.elapsed().as_secs_f64());
                Ok(reply)
            }
            Err(_) => {
                Err(slow("the disk does not answer: send the same request with the same id again").retry_after(5))
            }
        }
    }

    /// Reads, all of it on one state of the database.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Problem> {
        match timeout(ANSWER_TIME_MAX, self.context.store.read(move |reader| reader.snapshot(read))).await {
            Ok(value) => Ok(value?),
            Err(_) => Err(slow("the disk does not answer").retry_after(5)),
        }
    }
}

fn slow(detail: &str) -> Problem {
    Problem::new(Kind::StoreUnavailable, detail)
}
