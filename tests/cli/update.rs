//! An update from the command line to the card of the box: the agent takes it in, root installs it, and the new version stays or goes.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use ed25519_compact::{KeyPair, Seed};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tillmesh::model::id::hex;
use tillmesh::store::{SCHEMA_VERSION, backup};

use super::SALE_1;
use super::rig::{Till, fails, stdout, tillmesh, wait_for};

const SECTOR: u64 = 512;

/// A till whose box has a card, an image file.
struct Boxed {
    till: Till,
    key: KeyPair,
}

impl Boxed {
    fn new() -> Self {
        let boxed = Self { till: Till::new(), key: KeyPair::from_seed(Seed::new([9; 32])) };
        fs::create_dir_all(boxed.path("box")).unwrap();
        fs::write(boxed.path("box/slot"), "a\n").unwrap();
        fs::write(boxed.path("box/disk"), boxed.path("disk").to_str().unwrap()).unwrap();
        let key = hex(boxed.key.pk.as_slice());
        fs::write(boxed.path("update.keys"), format!("# the vendor's\n{key} made for a test\n")).unwrap();
        let disk = File::create(boxed.path("disk")).unwrap();
        disk.set_len(440 << 20).unwrap();
        for (n, (start, sectors)) in
            [(2_048_u32, 196_608_u32), (198_656, 327_680), (526_336, 327_680)].iter().enumerate()
        {
            let entry = 446 + 16 * n as u64;
            disk.write_all_at(&start.to_le_bytes(), entry + 8).unwrap();
            disk.write_all_at(&sectors.to_le_bytes(), entry + 12).unwrap();
        }
        disk.write_all_at(&[0x55, 0xAA], 510).unwrap();
        boxed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.till.home.path().join(name)
    }

    /// An update file of a version whose root is `root`.
    fn update(&self, version: &str, root: &[u8]) -> PathBuf {
        let parts: [(&str, &[u8]); 3] =
            [("kernel.uimg", b"a kernel"), ("initrd.uimg", b"an initrd"), ("root.squashfs", root)];
        let hash = |part: &[u8]| hex(&Sha256::digest(part));
        let listed = parts.map(|(name, part)| json!({"name": name, "size": part.len(), "sha256": hash(part)}));
        let manifest = json!({"format": 1, "product": "tillmesh", "machine": "aarch64", "version": version,
            "commit": "0123456789ab", "database": SCHEMA_VERSION, "parts": listed})
        .to_string();
        let mut bytes = b"TILLUPD1".to_vec();
        bytes.extend((manifest.len() as u32).to_le_bytes());
        bytes.extend(self.key.pk.as_slice());
        bytes.extend(self.key.sk.sign(format!("tillmesh update 1\n{manifest}"), None).as_slice());
        bytes.extend(manifest.as_bytes());
        bytes.extend(parts.iter().flat_map(|(_, part)| *part));
        let path = self.path("shop.update");
        fs::write(&path, bytes).unwrap();
        path
    }

    fn state(&self) -> Value {
        serde_json::from_str(&stdout(self.till.does(&["update", "status", "--json"]))).unwrap()
    }

    /// What the boot loader is told.
    fn boot_state(&self) -> String {
        let mut sector = [0; SECTOR as usize];
        File::open(self.path("disk")).unwrap().read_exact_at(&mut sector, 2046 * SECTOR).unwrap();
        String::from_utf8_lossy(&sector[4..]).trim_end_matches('\0').replace('\0', " ")
    }

    /// Has the boot loader have started the other slot.
    fn boots(&self, slot: &str) {
        fs::write(self.path("box/slot"), slot).unwrap();
        // It counts the try.
        let state = b"good=a\0tries=0\0try=b\0\0";
        let mut sector = [0; SECTOR as usize];
        sector[4..4 + state.len()].copy_from_slice(state);
        let crc = crc32fast::hash(&sector[4..]).to_le_bytes();
        sector[..4].copy_from_slice(&crc);
        File::options().write(true).open(self.path("disk")).unwrap().write_all_at(&sector, 2046 * SECTOR).unwrap();
    }
}

#[test]
fn an_update_is_installed_while_selling_goes_on_and_stays_once_it_is_healthy() {
    let mut on = Boxed::new();
    on.till.start();
    let root: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let file = on.update("99.0.0", &root);
    let checked = tillmesh(on.till.home.path()).args(["update", "check", file.to_str().unwrap()]).output().unwrap();
    assert!(stdout(checked).contains("99.0.0"));
    let sent = on.till.command(&["update", file.to_str().unwrap(), "--restart"]).spawn().unwrap();
    let ready = on.till.folder().join("update/ready");
    wait_for("the agent leaves it for root", || ready.exists().then_some(()));
    on.till.sell(SALE_1);
    // What the image's unit starts.
    fails(on.till.does(&["update", "install"]), 10);
    assert!(sent.wait_with_output().unwrap().status.success());
    assert_eq!(on.boot_state(), "good=a tries=1 try=b");
    let mut written = vec![0; root.len()];
    File::open(on.path("disk")).unwrap().read_exact_at(&mut written, 526_336 * SECTOR).unwrap();
    assert!(written == root);
    assert_eq!(on.state()["last"]["stage"], json!("installed"));
    // The box starts again; the new version's agent is the one that runs here.
    on.boots("b");
    stdout(on.till.does(&["update", "confirm"]));
    assert_eq!(on.boot_state(), "good=b");
    let state = on.state();
    assert_eq!((&state["last"]["stage"], &state["slot"]), (&json!("confirmed"), &json!("b")));
    assert!(stdout(on.till.does(&["update", "status"])).contains("has proved healthy"));
}

#[test]
fn a_version_that_did_not_start_is_told_by_an_alert() {
    let mut on = Boxed::new();
    on.till.start();
    let file = on.update("99.0.0", b"a root");
    let sent = on.till.command(&["update", file.to_str().unwrap()]).spawn().unwrap();
    let ready = on.till.folder().join("update/ready");
    wait_for("the agent leaves it for root", || ready.exists().then_some(()));
    stdout(on.till.does(&["update", "install"]));
    assert!(sent.wait_with_output().unwrap().status.success());
    // It did not start: the box is back in the former slot.
    on.boots("a");
    stdout(on.till.does(&["update", "confirm"]));
    assert_eq!(on.boot_state(), "good=a");
    on.till.agent().kill();
    on.till.start();
    let alert = wait_for("an alert", || {
        let alerts = on.till.get("/v1/alerts")["items"].as_array().unwrap().clone();
        alerts.into_iter().find(|alert| alert["code"] == json!("updateFailed"))
    });
    assert_eq!(alert["detail"], json!("99.0.0 was tried and did not stay: it did not start"));
    // Had it started, it would have brought the database to its form, and sold.
    let database = on.till.folder().join("till.db");
    backup(&database, &on.till.folder().join("till.db.before-update")).unwrap();
    on.till.sell(SALE_1);
    on.till.agent().stop();
    let later = rusqlite::Connection::open(&database).unwrap();
    later.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    drop(later);
    on.till.start();
    assert_eq!(on.till.get(&format!("/v1/tickets/{SALE_1}"))["id"], json!(SALE_1));
    assert!(on.till.folder().join("till.db.taken").exists());
}

#[test]
fn what_is_no_update_for_this_box_is_refused_with_what_to_do() {
    let mut on = Boxed::new();
    on.till.start();
    let refused = |on: &Boxed, file: &PathBuf, words: &str| {
        let told = fails(on.till.does(&["update", file.to_str().unwrap()]), 1);
        assert!(told.contains(words), "{words:?} is not in {told}");
        assert!(!on.till.folder().join("update/ready").exists());
    };
    let older = on.update("0.0.1", b"a root");
    refused(&on, &older, "--older");
    let other = Boxed { till: Till::new(), key: KeyPair::from_seed(Seed::new([8; 32])) };
    refused(&on, &other.update("99.0.0", b"a root"), "get it from your vendor");
    let cut = on.update("99.0.0", b"a root");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    refused(&on, &cut, "whole");
    refused(&on, &on.path("nowhere"), "cannot read");
    fs::remove_dir_all(on.path("box")).unwrap();
    let whole = on.update("99.0.0", b"a root");
    refused(&on, &whole, "tillmesh image");
    assert_eq!(on.state()["possible"], json!(false));
    let told = fails(tillmesh(on.till.home.path()).args(["update"]).output().unwrap(), 2);
    assert!(told.contains("<FILE>"), "{told}");
}
