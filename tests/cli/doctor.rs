//! The doctor's one cause that no program at hand makes: a till whose protocol is older than any that this one speaks.

use std::sync::Arc;

use serde_json::Value;
use tillmesh::config::{ConfigManager, DataDir};
use tillmesh::mesh::{self, Identity, Limits, MeshConfig, PosplusDoor, StoreKey, Target};
use tillmesh::model::clock::ClockQuality;
use tillmesh::model::id::BootId;
use tillmesh::wire::hello::Hello;
use tokio::sync::mpsc;

use crate::rig::{Till, wait_for};

#[test]
fn doctor_names_a_till_that_is_too_old() {
    let mut till = Till::new();
    till.start();
    let folder = DataDir::resolve(Some(&till.folder()), |_| None).unwrap();
    let config = ConfigManager::peek(&folder).unwrap().unwrap();
    let hello = Hello {
        store: config.store.id,
        currency: *b"TND",
        proto_min: 0,
        proto_max: 0,
        features: 0,
        boot: BootId(7),
        hlc: 1,
        clock: ClockQuality::Trusted,
        port: 0,
        pos_id: "POS-OLD".to_owned(),
        pos_name: "Caisse ancienne".to_owned(),
        version: "0.0.1".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (events, mut heard) = mpsc::channel(64);
    let found = runtime.block_on(async {
        let old = mesh::spawn(
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
        tokio::spawn(async move { while heard.recv().await.is_some() {} });
        let address = format!("127.0.0.1:{}", config.p2p.port);
        old.set_targets(vec![Target { name: address.clone(), addresses: vec![address] }]);
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
