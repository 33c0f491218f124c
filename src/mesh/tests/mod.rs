//! Meshes on the loopback interface, with short waits, and what strangers do to them.

mod dialling;
mod hostile;
mod links;
mod posplus;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{Identity, Limits, LinkUp, MeshConfig, MeshEvent, MeshHandle, MeshStats, StoreKey, Target, spawn};
use crate::model::clock::ClockQuality;
use crate::model::id::{BootId, StoreId};
use crate::wire::hello::Hello;

/// Generous: what is waited for happens in milliseconds, unless the machine is very busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a test's till differs from the others.
#[derive(Clone)]
struct Recipe {
    hello: Hello,
    config: MeshConfig,
}

impl Recipe {
    fn new(name: &str) -> Self {
        let hello = Hello {
            store: StoreId(Uuid::from_bytes([5; 16])),
            currency: *b"TND",
            proto_min: 1,
            proto_max: 1,
            features: 0,
            boot: BootId(getrandom::u64().unwrap()),
            hlc: 1,
            clock: ClockQuality::Untrusted,
            port: 0,
            pos_id: format!("POS-{name}"),
            pos_name: name.to_owned(),
            version: "0.1.0".to_owned(),
        };
        let limits = Limits {
            accept_burst: 1000,
            listen_retry: Duration::from_millis(20),
            redial_first: Duration::from_millis(10),
            redial_max: Duration::from_millis(200),
            redial_refused: Duration::from_millis(200),
            ..Limits::default()
        };
        let config = MeshConfig {
            port: 0,
            identity: Identity::generate().unwrap(),
            key: StoreKey { epoch: 0, secret: [9; 32] },
            hello: Arc::new(|| unreachable!("set at the start")),
            enabled: true,
            limits,
            posplus: crate::mesh::PosplusDoor::shut(),
        };
        Self { hello, config }
    }

    fn hello(mut self, change: impl FnOnce(&mut Hello)) -> Self {
        change(&mut self.hello);
        self
    }

    fn config(mut self, change: impl FnOnce(&mut MeshConfig)) -> Self {
        change(&mut self.config);
        self
    }

    fn limits(self, change: impl FnOnce(&mut Limits)) -> Self {
        self.config(|config| change(&mut config.limits))
    }

    /// The whole config.
    fn build(self) -> MeshConfig {
        let Self { hello, config } = self;
        MeshConfig { hello: Arc::new(move || hello.clone()), ..config }
    }

    /// Starts the till, and waits until it listens.
    async fn start(self) -> Till {
        let mut till = self.start_blind();
        till.port = till.wait(|event| if let MeshEvent::Listening { port } = event { Some(port) } else { None }).await;
        till
    }

    fn start_blind(self) -> Till {
        let (sender, events) = mpsc::channel(16);
        Till { mesh: spawn(self.build(), sender), events, port: 0 }
    }
}

async fn till(name: &str) -> Till {
    Recipe::new(name).start().await
}

/// A running mesh.
struct Till {
    mesh: MeshHandle,
    events: mpsc::Receiver<MeshEvent>,
    port: u16,
}

impl Till {
    fn addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn dials(&self, other: &Self) {
        self.targets(&[&other.addr().to_string()]);
    }

    fn targets(&self, addresses: &[&str]) {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        self.mesh.set_targets(vec![Target { name: "other".to_owned(), addresses }]);
    }

    /// The first event, from now on, of which `pick` makes something; others are dropped.
    async fn wait<T>(&mut self, mut pick: impl FnMut(MeshEvent) -> Option<T>) -> T {
        let wait = async {
            loop {
                if let Some(picked) = pick(self.events.recv().await.expect("the mesh runs")) {
                    return picked;
                }
            }
        };
        timeout(PATIENCE, wait).await.expect("the event comes")
    }

    async fn up(&mut self) -> LinkUp {
        self.wait(|event| if let MeshEvent::LinkUp(up) = event { Some(*up) } else { None }).await
    }

    async fn down(&mut self) -> super::LinkEnd {
        self.wait(|event| if let MeshEvent::LinkDown { end, .. } = event { Some(end) } else { None }).await
    }

    async fn message(&mut self) -> Vec<u8> {
        self.wait(|event| if let MeshEvent::Frame { bytes, .. } = event { Some(bytes.to_vec()) } else { None }).await
    }

    async fn refused(&mut self) -> super::Refused {
        self.wait(|event| if let MeshEvent::Refused { why, .. } = event { Some(why) } else { None }).await
    }

    /// Waits until the figures are as wanted, without taking events.
    async fn until(&self, mut wanted: impl FnMut(&MeshStats) -> bool) {
        let wait = async {
            while !wanted(&self.mesh.stats()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("still not: {:?}", self.mesh.stats());
        }
    }

    fn refusals(&self, label: &str) -> u64 {
        self.mesh.stats().refused.get(label).copied().unwrap_or_default()
    }

    /// Takes events until the mesh has ended, and returns how its links ended.
    async fn shut_down(mut self) -> Vec<super::LinkEnd> {
        let mesh = self.mesh.clone();
        let mut ends = Vec::new();
        let take = async {
            while let Some(event) = self.events.recv().await {
                if let MeshEvent::LinkDown { end, .. } = event {
                    ends.push(end);
                }
            }
        };
        tokio::select! {
            () = mesh.shutdown() => {}
            () = take => {}
        }
        ends
    }
}

/// Links two tills, the first dialling.
async fn linked(a: &mut Till, b: &mut Till) -> (LinkUp, LinkUp) {
    a.dials(b);
    tokio::join!(a.up(), b.up())
}
