//! Tills of other versions, which no program at hand is: the doctor's word of one whose protocol is too old, and what is not told to one
//! that would not understand it, and what one says that this one does not.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tillmesh::config::{Config, ConfigManager, DataDir};
use tillmesh::mesh::{self, Identity, Limits, MeshConfig, MeshEvent, PosplusDoor, StoreKey, Target};
use tillmesh::model::clock::{ClockQuality, Hlc};
use tillmesh::model::id::{BootId, Origin};
use tillmesh::model::op::{Head, Op, OpBatch};
use tillmesh::sync::Message;
use tillmesh::wire::hello::{FEATURE_STATUS, Hello};
use tillmesh::wire::message::{decode, encode};
use tillmesh::wire::{PROTO_MAX, PROTO_MIN};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::rig::{Till, wait_for};

/// A till of the store that is no agent of ours: it speaks some protocols, has some features, dials the till of a config, and says
/// nothing. What it hears.
fn stranger(
    config: &Config,
    (proto_min, proto_max): (u16, u16),
    features: u64,
    name: &str,
) -> mpsc::Receiver<MeshEvent> {
    let hello = Hello {
        store: config.store.id,
        currency: *b"TND",
        proto_min,
        proto_max,
        features,
        boot: BootId(name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte))),
        hlc: 1,
        clock: ClockQuality::Trusted,
        port: 0,
        pos_id: format!("POS-{name}"),
        pos_name: format!("Caisse {name}"),
        version: "0.0.1".to_owned(),
    };
    let (events, heard) = mpsc::channel(64);
    let mesh = mesh::spawn(
        MeshConfig {
            port: 0,
            identity: Identity::generate().unwrap(),
            key: StoreKey { epoch: 0, secret: *config.store.key.as_bytes() },
            hello: Arc::new(move || hello.clone()),
            enabled: true,
            limits: Limits::default(),
            posplus: PosplusDoor::shut(),
        },
        events,
    );
    let address = format!("127.0.0.1:{}", config.p2p.port);
    mesh.set_targets(vec![Target { name: address.clone(), addresses: vec![address] }]);
    heard
}

/// An agent of before would end the link over a message that it does not know.
#[test]
fn only_tills_that_take_it_are_told_how_others_are() {
    let mut till = Till::new();
    till.start();
    let folder = DataDir::resolve(Some(&till.folder()), |_| None).unwrap();
    let config = ConfigManager::peek(&folder).unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let spoken = (PROTO_MIN, PROTO_MAX);
        let mut older = stranger(&config, spoken, 0, "OLD");
        let mut newer = stranger(&config, spoken, FEATURE_STATUS, "NEW");
        let deadline = Duration::from_secs(60);
        let (mut pings, mut told) = (0, None);
        // The older one is linked at least as long as it takes to be pinged, and the newer one has been told.
        while pings < 1 || told.is_none() {
            let message = timeout(deadline, async {
                tokio::select! {
                    event = older.recv() => (false, event.unwrap()),
                    event = newer.recv() => (true, event.unwrap()),
                }
            });
            let (is_newer, event) = message.await.expect("each is told something");
            let MeshEvent::Frame { bytes, .. } = event else { continue };
            match decode(&bytes).unwrap() {
                Message::Ping(_) if !is_newer => pings += 1,
                Message::Status(words) if is_newer => told = Some(words),
                Message::Status(_) => panic!("the older one is told"),
                _ => {}
            }
        }
        let word: Value = serde_json::from_slice(&told.unwrap()[0].body).unwrap();
        assert_eq!(
            (&word["posId"], &word["bootReason"]),
            (&Value::from(config.pos_id.as_str()), &Value::from("first"))
        );
    });
}

/// One op of a kind that only a later version knows, told by a till that is of this one's protocol.
async fn says_what_is_not_understood(mut heard: mpsc::Receiver<MeshEvent>) {
    let op = Op { hlc: Hlc(1), kind: 60_000, schema: 1, body: b"later".to_vec() };
    let batch = OpBatch { origin: Origin(7), before: Head::default(), ops: vec![op] };
    let mut link = None;
    while let Some(event) = heard.recv().await {
        match event {
            MeshEvent::LinkUp(up) => {
                up.handle.try_send(encode(&Message::Have(vec![(batch.origin, batch.after())]))).unwrap();
                link = Some(up.handle);
            }
            MeshEvent::Frame { bytes, .. } => {
                if let (Message::Want { .. }, Some(link)) = (decode(&bytes).unwrap(), &link) {
                    link.try_send(encode(&Message::Ops(batch.clone()))).unwrap();
                }
            }
            _ => {}
        }
    }
}

#[test]
fn what_is_not_understood_is_an_alert_until_it_is() {
    let mut till = Till::new();
    till.start();
    let folder = DataDir::resolve(Some(&till.folder()), |_| None).unwrap();
    let config = ConfigManager::peek(&folder).unwrap().unwrap();
    let is_told = |till: &Till| {
        let alert = wait_for("the alert", || {
            let alerts = till.get("/v1/status")["alerts"].as_array().unwrap().clone();
            alerts.into_iter().find(|alert| alert["code"] == "opsHeld")
        });
        assert_eq!(alert["detail"], "changes: 1");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut till = runtime.block_on(async {
        let heard = stranger(&config, (PROTO_MIN, PROTO_MAX), 0, "NEW");
        tokio::spawn(says_what_is_not_understood(heard));
        let told = tokio::task::spawn_blocking(move || {
            is_told(&till);
            till
        });
        told.await.unwrap()
    });
    // It is held still: another start does not forget it.
    assert!(till.agent().stop().success());
    till.start();
    is_told(&till);
}

#[test]
fn doctor_names_a_till_that_is_too_old() {
    let mut till = Till::new();
    till.start();
    let folder = DataDir::resolve(Some(&till.folder()), |_| None).unwrap();
    let config = ConfigManager::peek(&folder).unwrap().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = runtime.block_on(async {
        let mut heard = stranger(&config, (0, 0), 0, "OLD");
        tokio::spawn(async move { while heard.recv().await.is_some() {} });
        tokio::task::spawn_blocking(move || {
            wait_for("the doctor's word", || {
                let output = till.does(&["doctor", "--json"]);
                let diagnosis: Value = serde_json::from_slice(&output.stdout).unwrap();
                let findings = diagnosis["findings"].as_array().unwrap();
                let found = findings.iter().find(|finding| finding["code"] == "versionTooOld")?.clone();
                assert_eq!(output.status.code(), Some(4));
                Some(found)
            })
        })
        .await
        .unwrap()
    });
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.contains("127.0.0.1"), "{found}");
    assert!(found["messages"]["fr"].as_str().is_some_and(|text| !text.is_empty()), "it says what to do");
}
