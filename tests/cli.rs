//! The command line, as a technician uses it: real processes, real folders. And the README, word for word.
#![allow(clippy::unwrap_used, reason = "the helpers of these tests are tests too: what they unwrap fails them")]

use std::fs;
use std::process::Command;

use rig::{Process, Till, alive, children, fails, free_ports, sell, signal, stdout, tillmesh, wait_for};
use rustix::process::Signal;
use serde_json::{Value, json};

#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/readme.rs"]
mod readme;
#[path = "cli/rig.rs"]
mod rig;
#[path = "cli/update.rs"]
mod update;

const SALE_1: &str = "00000000-0000-4000-8000-0000000000a1";
const SALE_2: &str = "00000000-0000-4000-8000-0000000000a2";
const SALE_3: &str = "00000000-0000-4000-8000-0000000000a3";

// ----------------------------------------------------------------------------------------------------- store, config

#[test]
fn a_new_store_is_taken_by_a_config() {
    let till = Till::new();
    let words = ["store", "new", "--name", "Café d'Été", "--currency", "EUR", "--time-zone", "Europe/Paris"];
    let new = |json: bool| {
        let output = tillmesh(till.home.path()).args(words).args(json.then_some("--json")).output();
        stdout(output.unwrap())
    };
    let store: Value = serde_json::from_str(&new(true)).unwrap();
    assert_eq!((&store["name"], &store["currency"]), (&json!("Café d'Été"), &json!("EUR")));
    let told = new(false);
    let (object, sentence) = told.split_once("}\n").unwrap();
    let other: Value = serde_json::from_str(&format!("{object}}}")).unwrap();
    assert!(sentence.contains("pos-config.json"), "{sentence}");
    assert!(store["key"] != other["key"] && store["id"] != other["id"]);
    fs::write(till.folder().join("pos-config.json"), json!({ "store": store }).to_string()).unwrap();
    stdout(till.does(&["run", "--check-config"]));
}

#[test]
fn a_wrong_store_is_refused_with_all_its_problems() {
    let till = Till::new();
    let words = ["store", "new", "--name", " ", "--currency", "Dinar", "--time-zone", "Tunis"];
    let told = fails(tillmesh(till.home.path()).args(words).output().unwrap(), 2);
    for path in ["name: ", "currency: ", "timeZone: "] {
        assert!(told.contains(path), "{path:?} in {told}");
    }
}

#[test]
fn checking_a_config_tells_all_problems_and_changes_nothing() {
    let till = Till::new();
    let file = till.folder().join("pos-config.json");
    let text = r#"{"posId": "", "p2p": {"port": 0, "autoSync": "yes"}, "peers": ["a b"]}"#;
    fs::write(&file, text).unwrap();
    let told = fails(till.does(&["run", "--check-config"]), 2);
    for path in ["posId: ", "p2p.port: ", "p2p.autoSync: ", "peers[0]: "] {
        assert!(told.contains(path), "{path:?} in {told}");
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(fs::read_dir(till.folder()).unwrap().count(), 1);
    fs::remove_file(&file).unwrap();
    stdout(till.does(&["run", "--check-config"]));
}

#[test]
fn an_agent_that_cannot_know_its_store_does_not_start() {
    let till = Till::new();
    fs::write(till.folder().join("pos-config.json"), r#"{"store": {"id": "x"}}"#).unwrap();
    let told = fails(till.does(&["run"]), 2);
    assert!(told.contains("store.id") && told.contains("store.key"), "{told}");
}

#[test]
fn unknown_words_are_named() {
    let home = tempfile::tempdir().unwrap();
    for words in [&["frobnicate"][..], &["run", "--frob"], &["demo", "--tills", "0"], &["status", "--address", "here"]]
    {
        let told = fails(tillmesh(home.path()).args(words).output().unwrap(), 2);
        let wrong = words.last().unwrap();
        assert!(told.contains(wrong), "{wrong:?} in {told}");
    }
    let help = stdout(tillmesh(home.path()).arg("--help").output().unwrap());
    assert!(help.contains("Exit codes"), "{help}");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = tempfile::tempdir().unwrap();
    let script =
        format!("{} --help >/dev/null; {0} store new | true; echo ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_tillmesh"));
    let output = Command::new("bash").args(["-c", &script]).current_dir(home.path()).output().unwrap();
    assert_eq!(stdout(output), "0\n");
}

// ------------------------------------------------------------------------------------------------------------- agent

#[test]
fn a_first_start_says_who_where_and_how_to_join() {
    let mut till = Till::new();
    till.start();
    let status = till.get("/v1/status");
    let said = till.agent().said();
    let pos_id = status["posId"].as_str().unwrap();
    for part in [pos_id, status["storeId"].as_str().unwrap(), &till.api.clone(), "to join another"] {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert!(till.agent().stop().success());
}

#[test]
fn an_acknowledged_sale_survives_a_kill() {
    let mut till = Till::new();
    till.start();
    let sold = till.sell(SALE_1);
    till.agent().kill();
    till.start();
    let found = till.get(&format!("/v1/tickets/{SALE_1}"));
    assert_eq!(found["number"], sold["number"]);
    assert_eq!(till.sell(SALE_1)["number"], sold["number"], "the same sale again is the same ticket");
}

#[test]
fn a_second_agent_in_a_folder_is_refused() {
    let mut till = Till::new();
    till.start();
    let told = fails(till.does(&["run"]), 1);
    assert!(told.contains("another agent runs") && told.contains("--data-dir"), "{told}");
    till.sell(SALE_1);
}

#[test]
fn the_status_is_for_people_and_programs() {
    let mut till = Till::new();
    let told = fails(till.does(&["status"]), 3);
    assert!(told.contains("no agent answers") && told.contains("tillmesh run"), "{told}");
    till.start();
    till.sell(SALE_1);
    let table = stdout(till.does(&["status"]));
    let status = till.get("/v1/status");
    for part in [status["posId"].as_str().unwrap(), status["storeId"].as_str().unwrap(), "1 ticket,", "Only here"] {
        assert!(table.contains(part), "{part:?} in {table}");
    }
    let parsed: Value = serde_json::from_str(&stdout(till.does(&["status", "--json"]))).unwrap();
    assert_eq!((&parsed["posId"], &parsed["onlyHere"]), (&status["posId"], &json!(1)));
    let by_address = tillmesh(till.home.path()).args(["status", "--json", "--address", &till.api]).output().unwrap();
    let parsed: Value = serde_json::from_str(&stdout(by_address)).unwrap();
    assert_eq!(parsed["posId"], status["posId"]);
}

#[test]
fn what_is_no_agent_is_told_apart() {
    let home = tempfile::tempdir().unwrap();
    let [port] = free_ports();
    let ask = |address: &str| tillmesh(home.path()).args(["status", "--address", address]).output().unwrap();
    let told = fails(ask(&format!("127.0.0.1:{port}")), 3);
    assert!(told.contains("no agent answers"), "{told}");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let answering = std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = other.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    });
    let told = fails(ask(&address), 3);
    answering.join().unwrap();
    assert!(told.contains("not a till's agent"), "{told}");
}

#[test]
fn the_page_opens_with_the_token() {
    let mut till = Till::new();
    till.start();
    let page = stdout(till.does(&["open"]));
    let token = fs::read_to_string(till.folder().join("api-token")).unwrap();
    assert_eq!(page, format!("http://{}/#token={}\n", till.api, token.trim()));
}

// ---------------------------------------------------------------------------------------------------- backup, restore

#[test]
fn a_till_goes_on_from_a_backup_as_a_new_origin() {
    let mut till = Till::new();
    till.start();
    let first = till.sell(SALE_1);
    let file = till.path("till.backup");
    let file = file.to_str().unwrap();
    stdout(till.does(&["backup", file]));
    let second = till.sell(SALE_2);
    assert!(second["number"].as_str().unwrap().ends_with("-0002"), "{second}");

    let told = fails(till.does(&["backup", file]), 1);
    assert!(told.contains("--force"), "{told}");
    let told = fails(till.does(&["restore", file]), 1);
    assert!(told.contains("another agent runs"), "{told}");

    assert!(till.agent().stop().success());
    let told = stdout(till.does(&["restore", file]));
    assert!(told.contains("new origin"), "{told}");
    till.start();
    assert_eq!(till.get(&format!("/v1/tickets/{SALE_1}"))["number"], first["number"]);
    assert_eq!(till.status_of(&format!("/v1/tickets/{SALE_2}")), 404);
    // Under the old origin this would be the number that the second sale had.
    let third = till.sell(SALE_3);
    assert!(third["number"].as_str().unwrap().ends_with("-0001"), "{third}");
    assert_ne!(third["number"], first["number"]);
}

#[test]
fn a_stopped_till_can_be_backed_up_and_brought_to_another_folder() {
    let mut till = Till::new();
    till.start();
    let sold = till.sell(SALE_1);
    let pos_id = till.get("/v1/status")["posId"].clone();
    till.agent().kill();
    let file = till.path("till.backup");
    let file = file.to_str().unwrap();
    stdout(till.does(&["backup", file]));
    stdout(till.does(&["backup", "--force", file]));

    let mut other = Till::new();
    stdout(other.does(&["restore", file]));
    other.start();
    assert_eq!(other.get(&format!("/v1/tickets/{SALE_1}"))["number"], sold["number"]);
    assert_eq!(other.get("/v1/status")["posId"], pos_id, "the database remembers who the till is");
}

#[test]
fn what_is_no_backup_changes_nothing() {
    let mut till = Till::new();
    till.start();
    till.sell(SALE_1);
    assert!(till.agent().stop().success());
    let file = till.path("letter.txt");
    fs::write(&file, "Dear vendor, ".repeat(1000)).unwrap();
    let told = fails(till.does(&["restore", file.to_str().unwrap()]), 1);
    assert!(told.contains("not a till's database"), "{told}");
    till.start();
    till.get(&format!("/v1/tickets/{SALE_1}"));
}

// -------------------------------------------------------------------------------------------------------------- demo

/// A demo of three tills in a home of its own, open.
struct Demo {
    process: Process,
    home: tempfile::TempDir,
    /// Address and token of each till.
    tills: Vec<(String, String)>,
}

impl Demo {
    fn open() -> Self {
        Self::open_in(tempfile::tempdir().unwrap(), &[])
    }

    fn open_in(home: tempfile::TempDir, options: &[&str]) -> Self {
        let mut command = tillmesh(home.path());
        command.args(["demo", "--tills", "3"]).args(options).current_dir(home.path());
        let mut process = Process::start(&mut command, home.path().join("output"));
        process.says("Ctrl-C closes");
        let said = process.said();
        let pages = said.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once("/#token="));
        let tills: Vec<_> = pages.map(|(url, token)| (url.to_owned(), format!("Bearer {token}"))).collect();
        assert_eq!(tills.len(), 3, "{said}");
        Self { process, home, tills }
    }

    fn agents_left(&self) -> usize {
        children(self.process.pid()).into_iter().filter(|pid| alive(*pid)).count()
    }

    fn agents(&self) -> Vec<u32> {
        let agents = children(self.process.pid());
        assert_eq!(agents.len(), 3);
        agents
    }
}

fn all_end(processes: &[u32]) {
    wait_for("the end of the agents", || processes.iter().all(|pid| !alive(*pid)).then_some(()));
}

#[test]
fn a_demo_is_a_shop_and_leaves_nothing_behind() {
    let mut demo = Demo::open();
    let [(first, token), _, (third, _)] = &demo.tills[..] else { panic!("three tills") };
    let sold = sell(first, token, SALE_1);
    let found = wait_for("the sale on till 3", || ureq::get(&format!("{third}/v1/tickets/{SALE_1}")).call().ok());
    let found: Value = found.into_body().read_json().unwrap();
    assert_eq!(found["number"], sold["number"]);
    let agents = demo.agents();
    signal(demo.process.pid(), Signal::INT);
    assert!(demo.process.end().success(), "{}", demo.process.said());
    all_end(&agents);
    let left: Vec<_> = fs::read_dir(demo.home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["output"]);
}

#[test]
fn no_till_outlives_a_demo_that_is_killed() {
    let mut demo = Demo::open();
    let agents = demo.agents();
    demo.process.kill();
    all_end(&agents);
}

#[test]
fn a_demo_tells_when_a_till_ends_and_keeps_the_others() {
    let mut demo = Demo::open();
    let agents = demo.agents();
    signal(agents[0], Signal::KILL);
    demo.process.says("tillmesh run --data-dir");
    assert_eq!(demo.agents_left(), 2);
    assert!(demo.process.stop().success());
    all_end(&agents);
}

#[test]
fn a_demo_in_a_folder_of_its_own_goes_on_where_it_was() {
    let mut demo = Demo::open_in(tempfile::tempdir().unwrap(), &["--data-dir", "shop"]);
    let sold = sell(&demo.tills[0].0, &demo.tills[0].1, SALE_1);
    assert!(demo.process.stop().success());
    let demo = Demo::open_in(demo.home, &["--data-dir", "shop"]);
    let found = ureq::get(&format!("{}/v1/tickets/{SALE_1}", demo.tills[0].0)).call().unwrap();
    assert_eq!(found.into_body().read_json::<Value>().unwrap()["number"], sold["number"]);
}
