//! The unit: what it allows, and what the agent tells the service manager and the journal.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use super::leds::Root;
use super::lib::eventually;
use super::service::{PATIENCE, Plan, Service, new_store, tool, unit};

/// The most that systemd may say against it.
const EXPOSURE_MAX: f64 = 2.0;
/// A clean stop takes no longer.
const STOP_MAX: Duration = Duration::from_secs(2);

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

/// What `systemd-analyze security` gives a unit: 0 is shut, 10 is open.
fn exposure(unit: &Path) -> f64 {
    let folder = unit.parent().unwrap();
    let table = tool("systemd-analyze", &["security", "--offline=true", "--no-pager", unit.to_str().unwrap()], folder);
    let verdict =
        table.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_else(|| panic!("{table}"));
    verdict.split_whitespace().find_map(|word| word.parse().ok()).unwrap_or_else(|| panic!("{verdict}"))
}

#[test]
fn the_unit_is_shut_tight_with_and_without_its_drop_in() {
    let unit = config().join("systemd/tillmesh.service");
    assert!(exposure(&unit) <= EXPOSURE_MAX, "{}", exposure(&unit));
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("tillmesh.service");
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    let dropped_in = text(&config().join("systemd/tillmesh-gpio.conf")).replace("[Service]\n", "");
    fs::write(&whole, text(&unit).replace("[Install]", &format!("{dropped_in}\n[Install]"))).unwrap();
    assert!(exposure(&whole) <= EXPOSURE_MAX, "{}", exposure(&whole));
    // It would say nothing of a unit that it does not understand.
    fs::write(&whole, "[Service]\nExecStart=/bin/true\n").unwrap();
    assert!(exposure(&whole) > 9.0);
}

#[test]
fn systemd_understands_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("tillmesh.service");
    let text = fs::read_to_string(config().join("systemd/tillmesh.service")).unwrap();
    fs::write(&at, text.replace("/usr/bin/tillmesh", env!("CARGO_BIN_EXE_tillmesh"))).unwrap();
    let output = std::process::Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&at).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && !said.contains("tillmesh.service:"), "{said}");
    let users = config().join("sysusers.d/tillmesh.conf");
    let root = folder.path().to_str().unwrap();
    fs::create_dir(folder.path().join("etc")).unwrap();
    tool("systemd-sysusers", &["--root", root, users.to_str().unwrap()], folder.path());
    let made = fs::read_to_string(folder.path().join("etc/passwd")).unwrap();
    assert!(made.contains("tillmesh:") && !made.contains("/bin/sh"), "{made}");
    assert!(fs::read_to_string(folder.path().join("etc/group")).unwrap().contains("tillapp:"));
    let journal = fs::read_to_string(config().join("journald.conf.d/tillmesh.conf")).unwrap();
    let bounds = ["SystemMaxUse=", "SystemMaxFileSize=", "RuntimeMaxUse="];
    assert!(bounds.iter().all(|bound| journal.contains(bound)), "{journal}");
    // The promise of the LED: silence, the end of a process that does not end, and of what is run after it.
    let seconds = |key: &str| unit(key).parse::<u64>().unwrap();
    assert!(seconds("WatchdogSec") + seconds("TimeoutAbortSec") + seconds("TimeoutStopSec") < 15);
    assert_eq!((unit("Type"), unit("Restart")), ("notify", "always"));
}

#[test]
fn ready_is_said_when_the_api_answers_and_stopping_before_the_end() {
    let root = Root::of("");
    let mut till = Service::start(&root);
    assert_eq!(till.heard, ["READY=1"]);
    drop(TcpStream::connect(&till.api).unwrap());
    till.hears("WATCHDOG=1");
    let took = till.stop();
    assert!(took < STOP_MAX, "{took:?}");
    assert_eq!(till.heard.last().map(String::as_str), Some("STOPPING=1"));
}

/// A clean stop, seen from a till that is linked: it is told, it does not find out.
#[test]
fn a_stop_says_goodbye_on_links() {
    let store = new_store();
    let plan = |config| Plan { config, environment: vec![("TILLMESH_LOG", "debug".to_owned())], ..Plan::default() };
    let root = Root::of("");
    let mut a = Service::start_with(&root, plan(json!({"store": store, "posId": "A"})));
    let peers = json!([format!("127.0.0.1:{}", a.mesh)]);
    let b = Service::start_with(&root, plan(json!({"store": store, "posId": "B", "peers": peers})));
    let linked = |till: &Service, count: u64| {
        eventually(PATIENCE, &format!("{count} linked"), || {
            let status = till.status();
            anyhow::ensure!(status["connectedPeers"] == count, "{status}");
            Ok(())
        })
        .unwrap();
    };
    linked(&a, 1);
    linked(&b, 1);
    let took = a.stop();
    assert!(took < STOP_MAX, "{took:?}; {}", a.log());
    linked(&b, 0);
    assert!(b.log().contains("closed by the other till: the agent stops"), "{}", b.log());
}

/// The journal's socket is where it is: the agent is given a `/run` of its own.
#[test]
fn lines_reach_the_journal_with_their_fields() {
    needs_root!();
    let root = Root::of("");
    let folder = tempfile::tempdir().unwrap();
    let socket = UnixDatagram::bind(folder.path().join("socket")).unwrap();
    let errors = folder.path().join("stderr");
    let about = fs::File::create(&errors).unwrap().metadata().unwrap();
    let script = r#"mount -t tmpfs run /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal &&
        exec "$@" 2>>"$0/stderr""#;
    let wrapper =
        ["unshare", "--mount", "sh", "-c", script, folder.path().to_str().unwrap()].map(str::to_owned).to_vec();
    let environment = vec![("JOURNAL_STREAM", format!("{}:{}", about.dev(), about.ino()))];
    let store = new_store();
    let config = json!({"store": store});
    let till = Service::start_with(&root, Plan { config, wrapper, environment, ..Plan::default() });
    let config = json!({"store": store, "posId": "B", "peers": [format!("127.0.0.1:{}", till.mesh)]});
    let _peer = Service::start_with(&root, Plan { config, ..Plan::default() });
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let (end, mut entries) = (Instant::now() + PATIENCE, Vec::<BTreeMap<String, String>>::new());
    let of_a_peer =
        |entry: &BTreeMap<String, String>| entry["MESSAGE"].starts_with("P2P: ") && entry.contains_key("PEER");
    while !entries.iter().any(of_a_peer) {
        assert!(Instant::now() < end, "{entries:?}");
        let mut buffer = vec![0; 65_536];
        // Nothing at all is how it is tried whether somebody listens.
        if let Ok(length @ 1..) = socket.recv(&mut buffer) {
            entries.push(fields(&buffer[..length]));
        }
    }
    for entry in &entries {
        assert_eq!((entry["SYSLOG_IDENTIFIER"].as_str(), entry["PRIORITY"].as_str()), ("tillmesh", "6"), "{entry:?}");
    }
    assert_eq!(fs::read_to_string(&errors).unwrap(), "", "nothing is said twice");
}

/// The journal's own form: `NAME=value` in a line, or the name in a line, eight bytes of length, and the value.
fn fields(mut bytes: &[u8]) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut fields = BTreeMap::new();
    while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
        let line = &bytes[..end];
        bytes = &bytes[end + 1..];
        if let Some(middle) = line.iter().position(|byte| *byte == b'=') {
            fields.insert(text(&line[..middle]), text(&line[middle + 1..]));
        } else {
            let (length, rest) = bytes.split_first_chunk().unwrap();
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
            fields.insert(text(line), text(&rest[..length]));
            bytes = &rest[length + 1..];
        }
    }
    fields
}
