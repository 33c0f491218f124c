//! What the board tells of itself becomes alerts, and goes away with its cause.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::leds::Root;
use super::lib::eventually;
use super::service::{PATIENCE, Plan, Service, shows};

/// A file of the root that is fake for the kernel to fill.
struct Board {
    root: Root,
    data: PathBuf,
}

impl Board {
    /// A Raspberry Pi 4 B with a card that tells how worn it is, and all of it well.
    fn new() -> Self {
        let root = Root::new();
        root.plug("ACT");
        root.put("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
        root.put("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        root.put("sys/class/watchdog/watchdog0/state", "active\n");
        let board = Self { data: root.path().join("data"), root };
        board.is_well();
        board
    }

    fn is_well(&self) {
        self.tells("51000", "0", "0x01 0x01", "rw");
    }

    fn tells(&self, temperature: &str, undervoltage: &str, life: &str, mount: &str) {
        self.root.put("sys/class/thermal/thermal_zone0/temp", &format!("{temperature}\n"));
        self.root.put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", &format!("{undervoltage}\n"));
        self.root.put("sys/class/block/mmcblk0/device/life_time", &format!("{life}\n"));
        self.root.put("proc/self/mountinfo", &format!("29 1 0:26 / / {mount} - ext4 /dev/root {mount}\n"));
    }

    fn start(&self) -> Service {
        Service::start_with(&self.root, Plan { data: Some(self.data.clone()), ..Plan::default() })
    }
}

fn wait_for_alerts(till: &Service, expected: &[&str]) {
    eventually(PATIENCE, &format!("alerts {expected:?}"), || {
        let alerts = till.alerts();
        anyhow::ensure!(alerts == expected, "{alerts:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_board_in_trouble_says_so_and_a_board_that_is_well_again_too() {
    let board = Board::new();
    board.tells("84500", "1", "0x0a 0x02", "ro");
    let till = board.start();
    wait_for_alerts(&till, &["diskReadOnly", "diskFailing", "undervoltage", "overTemperature"]);
    // Sales cannot be stored on a disk that is read-only.
    shows(&board.root, "ACT", "100 100");
    let status = till.status();
    let told = |key: &str| status["board"][key].clone();
    assert_eq!((told("temperatureCelsius"), told("undervoltage")), (json!(84.5), json!(true)));
    assert_eq!((told("cardUsedPercent"), told("diskReadOnly")), (json!(100), json!(true)));
    assert_eq!((told("profile"), told("name")), (json!("raspberrypi-4b"), json!("Raspberry Pi 4 Model B")));
    assert_eq!((told("model"), told("watchdog")), (json!("Raspberry Pi 4 Model B Rev 1.4"), json!(true)));
    let detail =
        status["alerts"].as_array().unwrap().iter().map(|alert| alert["detail"].clone()).collect::<Vec<Value>>();
    assert!(detail.contains(&json!("84 °C")) || detail.contains(&json!("85 °C")), "{detail:?}");
    board.is_well();
    // Low voltage is told for some minutes after it: see the judge's own test.
    wait_for_alerts(&till, &["undervoltage"]);
    shows(&board.root, "ACT", "on");
}

#[test]
fn a_bad_board_file_is_an_alert_with_line_and_reason_and_the_till_runs_on() {
    let board = Board::new();
    board.root.put("etc/tillmesh/board/raspberrypi-4b.toml", "name = \"Ours\"\ncompatible = []\n[[led]]\nany = 7\n");
    let till = board.start();
    wait_for_alerts(&till, &["boardProfile"]);
    let status = till.status();
    let detail = status["alerts"][0]["detail"].as_str().unwrap();
    assert_eq!(detail, "/etc/tillmesh/board/raspberrypi-4b.toml: line 4: a table is wanted here");
    assert_eq!(status["board"]["name"], "Raspberry Pi 4 Model B");
    shows(&board.root, "ACT", "on");
}

/// A disk of 24 MiB that fills up, in a mount namespace of the agent's own.
#[test]
fn a_disk_that_fills_up_is_told_in_time() {
    needs_root!();
    let board = Board::new();
    fs::create_dir_all(&board.data).unwrap();
    let data = board.data.to_str().unwrap();
    let script = r#"cp "$0/pos-config.json" "$0/../config" && mount -t tmpfs -o size=24m till "$0" &&
        mv "$0/../config" "$0/pos-config.json" && exec "$@""#;
    let wrapper = ["unshare", "--mount", "sh", "-c", script, data].map(str::to_owned).to_vec();
    let plan = Plan { wrapper, data: Some(board.data.clone()), ..Plan::default() };
    let till = Service::start_with(&board.root, plan);
    wait_for_alerts(&till, &[]);
    let pid = till.agent.pid().unwrap().as_raw_nonzero();
    let ballast = PathBuf::from(format!("/proc/{pid}/root{data}/ballast"));
    fs::write(&ballast, vec![1; 12 << 20]).unwrap();
    wait_for_alerts(&till, &["diskNearlyFull"]);
    fs::remove_file(&ballast).unwrap();
    wait_for_alerts(&till, &[]);
}
