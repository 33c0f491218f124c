//! Each rule complains about what breaks it, and about nothing else.

use super::*;

/// How many complaints a rule has about one sample file.
fn count(rule: fn(&[Source]) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&[Source::sample(path, text)]).len()
}

#[test]
fn arrows_bite_in_every_spelling() {
    for text in [
        "use crate::mesh::Link;",
        "use crate::{model::Op, mesh};",
        "use crate::{model::{id, op as o}, mesh::{Link as L}};",
        "fn f() { crate::mesh::dial(); }",
        "use super::super::mesh;",
        "mod inner { use super::super::super::mesh::Link; }",
        "use tillmesh::mesh::Link;",
        "#[cfg(test)] mod tests { use crate::mesh::Link; }",
    ] {
        assert_eq!(count(arrows, "src/store/tickets.rs", text), 1, "{text}");
    }
    for text in [
        "use crate::model::op::Op; use crate::sync::Head;",
        "use super::entity; use super::super::store::Db;",
        "mod tests { use super::*; use super::super::entity::Row; }",
        "// use crate::mesh::Link;",
        "/* crate::mesh /* nested */ crate::mesh */",
        "const A: &str = \"crate::mesh::Link\"; const B: &str = r#\"\"crate::mesh::Link\"#;",
        "fn f<'a>(x: &'a str) -> char { '\"' } // crate::mesh::Link",
    ] {
        assert_eq!(count(arrows, "src/store/tickets.rs", text), 0, "{text}");
    }
    assert_eq!(count(arrows, "src/mesh/mod.rs", "use crate::store::Store;"), 1);
    assert_eq!(count(arrows, "src/wire/mod.rs", "use crate::app;"), 1);
    assert_eq!(count(arrows, "src/model/id.rs", "use super::super::sync;"), 1);
    assert_eq!(count(arrows, "src/app.rs", "use crate::{mesh, store};"), 0);
    assert_eq!(count(arrows, "src/util/mod.rs", ""), 1, "a module without a row");
}

#[test]
fn purity_bites() {
    for text in [
        "use tokio::sync::mpsc;",
        "use std::{fmt, fs};",
        "use std::net::{IpAddr, TcpStream};",
        "fn f() { let t = std::time::Instant::now(); }",
        "use std::time::SystemTime; fn f() -> SystemTime { SystemTime::now() }",
        "fn f() { uuid::Uuid::new_v4(); }",
        "fn f() { getrandom::fill(&mut []); }",
    ] {
        assert_eq!(count(purity, "src/sync/replica.rs", text), 1, "{text}");
        assert_eq!(count(purity, "src/board/pattern.rs", text), 1, "{text}");
        assert_eq!(count(purity, "src/board/gpio.rs", text), 0, "{text}");
    }
    for text in [
        "use std::net::{IpAddr, SocketAddr}; use std::time::Duration;",
        "fn f(now: std::time::Instant) {}",
        "#[cfg(test)] mod tests { use std::fs; use tokio::net; }",
        "#[cfg(test)] use std::fs; use std::fmt::Write;",
    ] {
        assert_eq!(count(purity, "src/sync/replica.rs", text), 0, "{text}");
    }
    let declared = Source::sample("src/model/mod.rs", "#[cfg(test)]\nmod laws;");
    let laws = Source::sample("src/model/laws.rs", "use std::fs;");
    assert_eq!(purity(&[declared, laws.clone()]).len(), 0, "a module for tests alone");
    assert_eq!(purity(&[laws]).len(), 1);
}

#[test]
fn lengths_bite() {
    let body =
        |lines: usize| format!("impl A {{ fn long<T>(a: [u8; 3]) -> T where T: B {{\n{}}} }}", "f();\n".repeat(lines));
    assert_eq!(count(lengths, "src/a.rs", &body(FUNCTION_LINES_MAX)), 0);
    assert_eq!(count(lengths, "src/a.rs", &body(FUNCTION_LINES_MAX + 1)), 1);
    let text = format!("fn text() {{\nlet a = \"{}\";\n}}", "line\n".repeat(FUNCTION_LINES_MAX + 1));
    assert_eq!(count(lengths, "src/a.rs", &text), 1, "a long literal is long");
    let comments = format!("fn talk() {{\n{}}}", "// why\n\n".repeat(FUNCTION_LINES_MAX));
    assert_eq!(count(lengths, "src/a.rs", &comments), 0, "comments are free");
    assert_eq!(count(lengths, "src/a.rs", &"\n".repeat(FILE_LINES_MAX + 1)), 1);
}

#[test]
fn switched_off_bites() {
    for text in ["#[test]\n#[ignore]\nfn f() {}", "#[ignore = \"slow\"] fn f() {}", "#![allow(dead_code)]"] {
        assert_eq!(count(switched_off, "tests/a.rs", text), 1, "{text}");
    }
    assert_eq!(count(switched_off, "tests/a.rs", "// #[ignore]\n#[allow(clippy::ignored_unit_patterns)] fn f() {}"), 0);
}

#[test]
fn leftovers_bite() {
    let paths = ["cd /{}/x", "x=/{}/a", "`/{}/a`"].map(|text| text.replace("{}", "home"));
    for text in paths.iter().map(String::as_str).chain(["// TODO later", "# FIXME: this"]) {
        assert_eq!(count(leftovers, "README.md", text), 1, "{text}");
    }
    for text in ["TODOS", "$slot/root/.ssh", "a/work/b", "../root/"] {
        assert_eq!(count(leftovers, "README.md", text), 0, "{text}");
    }
}

#[test]
fn top_level_bites() {
    assert_eq!(top_level(["src", "Cargo.toml", ".ci", "LICENSE-MIT", "target"]).len(), 0);
    assert_eq!(top_level(["src", "docs", "util"]).len(), 2);
}

#[test]
fn layout_bites() {
    let library = Source::sample("src/lib.rs", "//! model      WHAT is replicated\npub mod model;\npub mod store;");
    let store = Source::sample("src/store/mod.rs", "");
    let model = Source::sample("src/model/mod.rs", "");
    assert_eq!(layout(&[library.clone(), model.clone()]).len(), 0);
    assert_eq!(layout(&[library, model, store]).len(), 1);
}
