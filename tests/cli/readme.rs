//! The README against the program: its tour runs, its tables are whole, its examples are right.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::rig::{Process, Till, stdout, wait_for};

const README: &str = include_str!("../../README.md");

/// The text under a heading.
fn section(heading: &str) -> &'static str {
    let after = README.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no '{heading}'")).1;
    after.split("\n## ").next().unwrap()
}

/// The fenced blocks of a text: what stands after the fence, and the lines.
fn blocks(text: &'static str) -> Vec<(&'static str, &'static str)> {
    let inside = text.split("```").skip(1).step_by(2);
    inside.map(|block| block.split_once('\n').unwrap()).collect()
}

/// The first cells of a table's rows, without their back quotes.
fn first_cells(text: &str) -> Vec<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split_once('`').unwrap().0).collect()
}

/// A shell that finds a `cargo` which runs the program under test.
fn shell(folder: &Path, script: &str) -> Command {
    let tools = folder.join("tools");
    fs::create_dir_all(&tools).unwrap();
    let cargo = tools.join("cargo");
    let run = "#!/bin/sh\n[ \"$1 $2 $3\" = 'run --release --' ] || exit 64\nshift 3\nexec \"$TILLMESH\" \"$@\"\n";
    fs::write(&cargo, run).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell.args(["-euc", script]).current_dir(folder).env("PATH", path).env("HOME", folder);
    shell.env("TILLMESH", env!("CARGO_BIN_EXE_tillmesh")).env_remove("TILLMESH_LOG");
    shell
}

/// Whether all that is shown is so in the answer.
fn shows(answer: &Value, shown: &Value) -> bool {
    let Value::Object(shown) = shown else { return answer == shown };
    shown.iter().all(|(name, value)| answer.get(name).is_some_and(|found| shows(found, value)))
}

/// The last JSON document of an output.
fn last_answer(output: &Output) -> Option<Value> {
    let answers = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
    answers.last()?.ok()
}

#[test]
fn the_tour_works_word_for_word() {
    let folder = tempfile::tempdir().unwrap();
    let tour = blocks(section("A five-minute tour"));
    let [("sh", demo), ("sh", load), ..] = tour[..] else { panic!("the tour begins with two commands") };
    let load = load.lines().next().unwrap();
    let mut demo = Process::start(&mut shell(folder.path(), &format!("exec {demo}")), folder.path().join("demo.out"));
    demo.says("is open");
    for (at, (kind, script)) in tour.iter().enumerate().skip(1) {
        if *kind != "sh" {
            continue;
        }
        let shown = tour.get(at + 1).filter(|(kind, _)| *kind == "json");
        let shown: Option<Value> = shown.map(|(_, text)| serde_json::from_str(text).unwrap());
        let mut last = None;
        // Sales travel while a person reads; every request may be sent again.
        let run = || {
            let output = shell(folder.path(), &format!("{load}\n{script}")).output().unwrap();
            let answer = last_answer(&output);
            let right = match &shown {
                Some(shown) => answer.is_some_and(|answer| shows(&answer, shown)),
                None => true,
            };
            let done = output.status.success() && right;
            last = Some(output);
            done.then_some(())
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for(script, run)));
        assert!(outcome.is_ok(), "{script}\ngave {last:?}\nwhere the README shows {shown:?}");
    }
    assert!(folder.path().join("target/demo.backup").is_file());
    assert!(demo.stop().success(), "{}", demo.said());
}

#[test]
fn the_table_of_the_api_is_whole() {
    let mut till = Till::new();
    till.start();
    let document = till.get("/openapi.json");
    let paths = document["paths"].as_object().unwrap();
    // Beside the methods stands what they have in common.
    let is_method = |name: &&String| ["get", "put", "post", "patch", "delete"].contains(&name.as_str());
    let methods = |path: &Value| -> Vec<String> {
        path.as_object().unwrap().keys().filter(is_method).map(|method| method.to_uppercase()).collect()
    };
    let served: BTreeSet<String> = paths
        .iter()
        .flat_map(|(path, of)| methods(of).into_iter().map(move |method| format!("{method} {path}")))
        .collect();
    let written: BTreeSet<String> = first_cells(section("The local API"))
        .into_iter()
        .flat_map(|cell| {
            let (methods, path) = cell.rsplit_once(' ').unwrap();
            methods.split(", ").map(move |method| format!("{method} {path}")).collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(written, served);
}

#[test]
fn the_example_of_a_sale_is_answered_as_shown() {
    let mut till = Till::new();
    let file = till.folder().join("pos-config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    config["posId"] = "POS-1".into();
    fs::write(&file, config.to_string()).unwrap();
    till.start();
    let examples: Vec<Value> = blocks(section("The local API"))
        .into_iter()
        .filter(|(kind, _)| *kind == "json")
        .map(|(_, text)| serde_json::from_str(text).unwrap())
        .collect();
    let [sale, ticket, problem] = &examples[..] else { panic!("three examples") };
    let answer = till.post("/v1/tickets", sale);
    let mut shown = ticket.clone();
    // Not the same twice: compared by their form.
    for name in ["number", "createdAt"] {
        let form = |text: &Value| -> String {
            let plain = |c: char| if c.is_ascii_hexdigit() { 'x' } else { c };
            text.as_str().unwrap().chars().map(plain).collect()
        };
        assert_eq!(form(&answer[name]), form(&ticket[name]));
        shown[name] = answer[name].clone();
    }
    assert!(shows(&answer, &shown), "{answer} is not as {shown}");
    let mut wrong = sale.clone();
    wrong["id"] = "7b0f3c52-6e0a-4b1e-9d57-0c8e4d1f2a11".into();
    wrong["lines"][0]["quantity"] = 0.into();
    assert_eq!(&till.post("/v1/tickets", &wrong), problem);
}

#[test]
fn the_table_of_the_config_is_whole_and_its_example_right() {
    fn keys(prefix: &str, value: &Value, found: &mut BTreeSet<String>) {
        for (name, value) in value.as_object().unwrap() {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            if value.is_object() { keys(&path, value, found) } else { found.insert(path).then_some(()).unwrap() }
        }
    }
    let text = section("The config");
    let (_, example) = blocks(text).into_iter().find(|(kind, _)| *kind == "json config").unwrap();
    let mut shown = BTreeSet::new();
    keys("", &serde_json::from_str(example).unwrap(), &mut shown);
    let written: BTreeSet<String> = first_cells(text).into_iter().map(str::to_owned).collect();
    assert_eq!(written, shown);
    let till = Till::new();
    fs::write(till.folder().join("pos-config.json"), example).unwrap();
    stdout(till.does(&["run", "--check-config"]));
}

#[test]
fn the_commands_are_those_of_the_program() {
    let home = tempfile::tempdir().unwrap();
    let (_, commands) = blocks(section("A real till")).into_iter().next().unwrap();
    for line in commands.lines() {
        let command = line.split("  ").next().unwrap();
        let is_word = |word: &&str| word.chars().all(char::is_lowercase);
        let words: Vec<&str> = command.split_whitespace().skip(1).take_while(is_word).collect();
        let output = crate::rig::tillmesh(home.path()).args(&words).arg("--help").output().unwrap();
        let help = stdout(output);
        for option in line.split(['[', ']', ' ']).filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "{line}: no {option} in {help}");
        }
    }
}
