//! The LED of a real agent, and what is left of it when the agent is no more.

use std::process::Command;
use std::time::Instant;

use rustix::process::{Signal, kill_process};
use serde_json::json;

use super::leds::Root;
use super::lib::eventually;
use super::service::{LIE_MAX, PATIENCE, Plan, Service, new_store, shows, shows_within, tool};

const FAULT: &str = "100 100";

fn pi() -> Root {
    let root = Root::new();
    root.plug("ACT");
    root
}

#[test]
fn two_colours_follow_the_mesh() {
    let root = Root::new();
    root.plug("tillmesh:red:status");
    root.plug("tillmesh:green:status");
    let both = |till: Option<&Service>, red: &str, green: &str| {
        eventually(PATIENCE, &format!("red {red}, green {green}"), || {
            let shown = ["tillmesh:red:status", "tillmesh:green:status"].map(|led| root.shows(led));
            let told = || till.map(|till| format!("{} {}", till.status()["led"], till.log())).unwrap_or_default();
            anyhow::ensure!(shown == [red, green], "{shown:?}; {}", told());
            Ok(())
        })
        .unwrap();
    };
    let store = new_store();
    let mut a = Service::start_with(&root, Plan { config: json!({"store": store}), ..Plan::default() });
    both(Some(&a), "on", "on");
    assert_eq!(a.status()["led"], "solo");
    let peers = json!([format!("127.0.0.1:{}", a.mesh)]);
    let other = Root::of("");
    let config = json!({"store": store, "peers": peers, "posId": "B", "posName": "B"});
    let mut b = Service::start_with(&other, Plan { config, ..Plan::default() });
    both(Some(&a), "off", "on");
    assert_eq!(a.status()["led"], "connected");
    b.agent.kill().unwrap();
    both(Some(&a), "1000 1000", "1000 1000");
    assert_eq!(a.status()["led"], "alone");
    a.http.call("POST", "/v1/p2p/enabled", Some(&json!({"enabled": false}))).unwrap().ok().unwrap();
    both(Some(&a), "60 2940", "off");
    a.stop();
    both(None, "off", "off");
}

#[test]
fn a_clean_stop_leaves_it_dark() {
    let root = pi();
    let mut till = Service::start(&root);
    shows(&root, "ACT", "on");
    assert_eq!(till.status()["board"]["led"], "ACT");
    till.stop();
    assert_eq!(root.shows("ACT"), "off");
}

#[test]
fn a_killed_agent_leaves_it_in_fault() {
    let root = pi();
    let mut till = Service::start(&root);
    shows(&root, "ACT", "on");
    till.kill();
    assert_eq!(root.shows("ACT"), FAULT);
}

/// All its threads stand still, as under a debugger or a kernel that has lost it.
#[test]
fn a_hung_agent_is_ended_and_leaves_it_in_fault() {
    let root = pi();
    let mut till = Service::start(&root);
    shows(&root, "ACT", "on");
    // It has been watched for a while.
    till.hears("WATCHDOG=1");
    kill_process(till.agent.pid().unwrap(), Signal::STOP).unwrap();
    let hung = Instant::now();
    till.watch_until_silent();
    assert_eq!(root.shows("ACT"), FAULT);
    assert!(hung.elapsed() < LIE_MAX, "{:?}", hung.elapsed());
}

/// An agent whose disk does not answer while the file `stall` is there.
fn on_a_disk_that_stalls(root: &Root) -> Service {
    let shim = root.path().join("stall.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/board/stall.c");
    tool("cc", &["-shared", "-fPIC", "-O1", "-o", shim.to_str().unwrap(), source], root.path());
    let stall = root.path().join("stall");
    let environment = vec![("LD_PRELOAD", shim.display().to_string()), ("STALL", stall.display().to_string())];
    let mut till = Service::start_with(root, Plan { environment, ..Plan::default() });
    shows(root, "ACT", "on");
    till.hears("WATCHDOG=1");
    root.put("stall", "");
    till
}

/// Asks for a write; its answer comes when it is on the disk.
fn write_something(till: &Service) -> std::thread::JoinHandle<bool> {
    let (client, path) = (till.client(), format!("/v1/customers/{}", uuid::Uuid::new_v4()));
    let body = json!({"firstName": "A", "lastName": "B"});
    std::thread::spawn(move || client.call("PUT", &path, Some(&body)).is_ok())
}

/// The disk takes a write and says so late, later than the supervisor waits for a sign of life.
#[test]
fn a_card_that_takes_long_is_shown_and_the_agent_lives_on() {
    let root = pi();
    let mut till = on_a_disk_that_stalls(&root);
    let began = Instant::now();
    let writer = write_something(&till);
    shows_within(LIE_MAX, &root, "ACT", FAULT);
    while began.elapsed() < LIE_MAX {
        till.lives();
    }
    let status = till.status();
    let mut alerts = status["alerts"].as_array().into_iter().flatten();
    assert!(alerts.any(|alert| alert["code"] == "storeFault" && alert["subject"] == "disk"), "{status}");
    std::fs::remove_file(root.path().join("stall")).unwrap();
    assert!(writer.join().unwrap());
    shows(&root, "ACT", "on");
    till.lives();
}

/// The disk takes a write and never says that it is there: the store's thread waits for ever, and all others live on.
#[test]
fn a_hung_store_is_noticed_and_leaves_it_in_fault() {
    let root = pi();
    let mut till = on_a_disk_that_stalls(&root);
    let writer = write_something(&till);
    shows_within(LIE_MAX, &root, "ACT", FAULT);
    till.watch_until_silent();
    assert_eq!(root.shows("ACT"), FAULT);
    assert!(!writer.join().unwrap());
}

/// A supervisor is not everywhere: what the agent itself can see to, it does.
#[test]
fn a_start_that_fails_shows_it() {
    let root = pi();
    let first = Service::start(&root);
    let port: u16 = first.api.rsplit(':').next().unwrap().parse().unwrap();
    let data = root.path().join("second");
    std::fs::create_dir(&data).unwrap();
    let config = json!({"api": {"listen": format!("127.0.0.1:{port}")}});
    std::fs::write(data.join("pos-config.json"), config.to_string()).unwrap();
    let other = pi();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillmesh"));
    command.arg("run").env("STATE_DIRECTORY", &data).env("TILLMESH_ROOT", other.path());
    assert!(!command.output().unwrap().status.success());
    let shown = other.shows("ACT");
    assert!(shown == FAULT || shown == "off", "{shown}");
}

#[test]
fn it_comes_late_goes_and_comes_again() {
    let root = Root::new();
    let mut till = Service::start(&root);
    assert_eq!(till.status()["board"]["led"], json!(null));
    root.plug("ACT");
    shows(&root, "ACT", "on");
    // The LED that was meant for it appears: one opinion, not two.
    root.plug("tillmesh::status");
    shows(&root, "tillmesh::status", "on");
    shows(&root, "ACT", "off");
    root.unplug("tillmesh::status");
    till.http.call("POST", "/v1/p2p/enabled", Some(&json!({"enabled": false}))).unwrap().ok().unwrap();
    shows(&root, "ACT", "60 2940");
    till.kill();
    shows_within(LIE_MAX, &root, "ACT", FAULT);
}

#[test]
fn a_till_without_its_led_runs_on_with_an_alert() {
    let root = Root::new();
    let till = Service::start(&root);
    eventually(PATIENCE, "ledMissing", || {
        let alerts = till.alerts();
        anyhow::ensure!(alerts.contains(&"ledMissing".to_owned()), "{alerts:?}");
        Ok(())
    })
    .unwrap();
    till.http.call("GET", "/healthz", None).unwrap().ok().unwrap();
    // A machine that has none misses none.
    let pc = Service::start(&Root::of(""));
    assert_eq!(pc.status()["board"]["profile"], "generic-pc");
    assert_eq!(pc.alerts(), Vec::<String>::new());
}

#[test]
fn led_test_plays_all_states_and_names_each() {
    let root = pi();
    let command = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tillmesh"));
        command.args(words).env("STATE_DIRECTORY", root.path().join("data")).env("TILLMESH_ROOT", root.path());
        command
    };
    let player = std::thread::spawn({
        let mut command = command(&["led", "test", "--seconds", "1"]);
        move || command.output().unwrap()
    });
    for look in [FAULT, "500 500", "60 2940", "on", "1000 1000", "900 100", "250 250", "on", "off"] {
        shows(&root, "ACT", look);
    }
    let output = player.join().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let states = ["fault", "starting", "disabled", "solo", "alone", "partial", "syncing", "connected"];
    let named: Vec<&str> = said.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(named, states);

    assert!(command(&["led", "fault"]).status().unwrap().success());
    assert_eq!(root.shows("ACT"), FAULT);
    assert!(command(&["led", "off"]).status().unwrap().success());
    assert_eq!(root.shows("ACT"), "off");
    root.unplug("ACT");
    let output = command(&["led", "test"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("ACT"), "{said}");
    assert!(command(&["led", "stopped"]).status().unwrap().success(), "nothing to clear is no failure");
}

/// Fault is for what needs somebody at once: sales that cannot be stored, a till that cannot be reached. It goes with its cause.
#[test]
fn a_store_that_cannot_write_and_a_taken_port_are_faults() {
    let root = pi();
    let till = Service::start(&root);
    shows(&root, "ACT", "on");
    let other = pi();
    let config = json!({"p2p": {"port": till.mesh, "discoveryEnabled": false}});
    let _second = Service::start_with(&other, Plan { config, ..Plan::default() });
    shows(&other, "ACT", FAULT);

    let database = rusqlite::Connection::open(till.data().join("till.db")).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let customer = json!({"firstName": "A", "lastName": "B"});
    let path = format!("/v1/customers/{}", uuid::Uuid::new_v4());
    assert_eq!(till.http.call("PUT", &path, Some(&customer)).unwrap().status, 503);
    shows(&root, "ACT", FAULT);
    database.execute_batch("ROLLBACK").unwrap();
    eventually(PATIENCE, "the store writes again", || {
        anyhow::ensure!(root.shows("ACT") == "on", "{}; {}", till.status(), till.log());
        Ok(())
    })
    .unwrap();
}
