//! Tidiness as a test: the arrows between modules, the purity of the core, and the small rules that reviews forget.
//!
//! Rust's own visibility cannot say "store never knows mesh", so this reads the sources. It works on tokens, not on a full
//! syntax tree: a path that a macro would assemble is beyond it. Each rule is a function from sources to complaints, and has a
//! test that shows it complaining about a sample that breaks it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use tokens::{Token, attributes, item_end, paths, test_ranges, tokens};

#[path = "tidy/bite.rs"]
mod bite;
#[path = "tidy/tokens.rs"]
mod tokens;

/// Who may know whom: module, and the modules that it may name. `None`: all.
const ARROWS: &[(&str, Option<&[&str]>)] = &[
    ("model", Some(&[])),
    ("config", Some(&["model"])),
    ("sync", Some(&["model"])),
    ("wire", Some(&["model", "sync"])),
    ("store", Some(&["model", "sync"])),
    ("mesh", Some(&["model", "wire"])),
    ("discovery", Some(&["model", "config"])),
    ("board", Some(&["model", "config"])),
    ("api", Some(&["model", "config", "store"])),
    ("app", None),
    ("main", None),
    ("build", Some(&[])),
];

/// Modules that hold no runtime, database, socket, file, clock or entropy: prefixes of the path under `src`.
const PURE: &[&str] = &[
    "model",
    "sync",
    "wire",
    "board/judge",
    "board/led",
    "board/pattern",
    "board/profile",
    "app/doctor/judge",
    "app/doctor/nft",
];

/// What a pure module never names, by the beginning of the path, and why.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "a runtime"),
    ("tokio_tungstenite", "sockets"),
    ("mdns_sd", "sockets"),
    ("axum", "sockets"),
    ("hyper", "sockets"),
    ("hyper_util", "sockets"),
    ("rustix", "the operating system"),
    ("rusqlite", "a database"),
    ("getrandom", "entropy"),
    ("rand", "entropy"),
    ("fastrand", "entropy"),
    ("std::fs", "files"),
    ("std::os", "the operating system"),
    ("std::env", "the environment"),
    ("std::process", "processes"),
    ("std::thread", "threads"),
    ("std::io::stdin", "files"),
    ("std::io::stdout", "files"),
    ("std::io::stderr", "files"),
    ("std::net::TcpStream", "sockets"),
    ("std::net::TcpListener", "sockets"),
    ("std::net::UdpSocket", "sockets"),
    ("std::net::ToSocketAddrs", "name resolution"),
];

/// What a pure module never names, by the end of the path.
const IMPURE_CALLS: &[(&str, &str)] = &[
    ("Instant::now", "a clock"),
    ("SystemTime::now", "a clock"),
    ("Timestamp::now", "a clock"),
    ("Zoned::now", "a clock"),
    ("Uuid::new_v4", "entropy"),
    ("Uuid::now_v7", "a clock and entropy"),
    ("RandomState::new", "entropy"),
];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

/// What may lie at the top of the repository, hidden files apart.
const TOP_LEVEL: &[&str] =
    &["Cargo.toml", "Cargo.lock", "Cross.toml", "README.md", "src", "board", "config", "image", "tests"];

/// These files quote what they forbid.
const SELF: &str = "tests/tidy";

// ------------------------------------------------------------------------------------------------------------- sources

/// A file of the repository: its path from the top, with `/`.
#[derive(Clone)]
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn sample(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Module path of a file under `src`: `src/a/b.rs` is `[a, b]`, `src/a/mod.rs` is `[a]`, `src/lib.rs` is empty.
    fn module(&self) -> Option<Vec<String>> {
        let inside = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let mut parts: Vec<String> = inside.split('/').map(str::to_owned).collect();
        if parts.last().is_some_and(|last| last == "mod") || inside == "lib" {
            parts.pop();
        }
        Some(parts)
    }
}

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file of the repository.
fn repository() -> Vec<Source> {
    let mut found = Vec::new();
    walk(&top(), &top(), &mut found).expect("the repository can be read");
    found
}

fn walk(top: &Path, folder: &Path, found: &mut Vec<Source>) -> io::Result<()> {
    let mut entries: Vec<DirEntry> = fs::read_dir(folder)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        let skipped = ["target", ".git", "node_modules", "__pycache__"].iter().any(|name| entry.file_name() == *name);
        if kind.is_dir() && !skipped {
            walk(top, &path, found)?;
        } else if kind.is_file()
            && let Ok(text) = fs::read_to_string(&path)
        {
            let path = path.strip_prefix(top).unwrap_or(&path).to_string_lossy().into_owned();
            found.push(Source { path, text });
        }
    }
    Ok(())
}

/// Modules declared as `#[cfg(test)] mod name;`: their files are test code.
fn test_modules(sources: &[Source]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let (Some(module), tokens) = (source.module(), tokens(&source.text)) else { continue };
        for range in test_ranges(&tokens) {
            let item = &tokens[range];
            if let [first, name, end] = item
                && first.word() == Some("mod")
                && end.is(';')
            {
                let mut module = module.clone();
                module.extend(name.word().map(str::to_owned));
                found.insert(module);
            }
        }
    }
    found
}

/// The module of this crate that a path leads to, from inside `module`; nothing if it leads out of the crate.
fn resolve(parts: &[String], module: &[String]) -> Option<String> {
    let mut here = module.to_vec();
    let mut rest = parts.iter().map(String::as_str).peekable();
    match rest.next()? {
        "crate" | "tillmesh" => here.clear(),
        "super" => {
            here.pop();
            while rest.peek() == Some(&"super") {
                rest.next();
                here.pop();
            }
        }
        _ => return None,
    }
    here.first().cloned().or_else(|| rest.next().map(str::to_owned))
}

// --------------------------------------------------------------------------------------------------------------- rules

/// Each module names only those that it may know.
fn arrows(sources: &[Source]) -> Vec<String> {
    let table: BTreeMap<&str, Option<&[&str]>> = ARROWS.iter().copied().collect();
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let Some(module) = source.module() else { continue };
        let Some(own) = module.first() else { continue };
        let Some(known) = table.get(own.as_str()) else {
            complaints.push(format!("{}: module '{own}' has no row in ARROWS: say whom it may know", source.path));
            continue;
        };
        for named in paths(&tokens(&source.text)) {
            let here = [module.clone(), named.inline.clone()].concat();
            let Some(other) = resolve(&named.parts, &here) else { continue };
            let foreign = other != *own && table.contains_key(other.as_str());
            if foreign && known.is_some_and(|known| !known.contains(&other.as_str())) {
                let path = named.parts.join("::");
                complaints.push(format!("{}:{}: '{own}' must not know '{other}' ({path})", source.path, named.line));
            }
        }
    }
    complaints
}

/// Pure modules name nothing of the outside world; their tests may.
fn purity(sources: &[Source]) -> Vec<String> {
    let tests = test_modules(sources);
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let Some(module) = source.module() else { continue };
        let pure = PURE.iter().any(|prefix| source.path["src/".len()..].starts_with(prefix));
        if !pure || tests.iter().any(|test| module.starts_with(test)) {
            continue;
        }
        for named in paths(&tokens(&source.text)).into_iter().filter(|named| !named.test) {
            let path = named.parts.join("::").replacen("core::", "std::", 1);
            let begins = |start: &str| path == start || path.starts_with(&format!("{start}::"));
            let ends = |end: &str| path == end || path.ends_with(&format!("::{end}"));
            let outer = IMPURE.iter().find(|(start, _)| begins(start));
            if let Some((_, why)) = outer.or_else(|| IMPURE_CALLS.iter().find(|(end, _)| ends(end))) {
                complaints.push(format!("{}:{}: pure, yet names {why} ({path})", source.path, named.line));
            }
        }
    }
    complaints
}

/// No file and no function longer than can be held in the head. Lines of a function are those of its body with code on them.
fn lengths(sources: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            complaints.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path));
        }
        for (name, line, lines) in functions(&tokens(&source.text)) {
            if lines > FUNCTION_LINES_MAX {
                let path = &source.path;
                complaints.push(format!("{path}:{line}: fn {name} has {lines} lines, at most {FUNCTION_LINES_MAX}"));
            }
        }
    }
    complaints
}

/// Each function that has a body: its name, its line, and how many lines of its body hold code.
fn functions(tokens: &[Token]) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        let name = tokens.get(at + 1).and_then(Token::word);
        let (Some("fn"), Some(name)) = (tokens[at].word(), name) else { continue };
        let end = item_end(tokens, at);
        let Some(open) = (at..end).find(|place| tokens[*place].is('{')) else { continue };
        let body = tokens.get(open + 1..end - 1).unwrap_or_default();
        let lines: BTreeSet<usize> = body.iter().flat_map(|token| token.line..=token.line_end).collect();
        found.push((name.to_owned(), tokens[at].line, lines.len()));
    }
    found
}

/// No test is switched off, no dead code is allowed to stay.
fn switched_off(sources: &[Source]) -> Vec<String> {
    let forbidden: &[&[&str]] = &[&["ignore"], &["allow", "(", "dead_code"], &["expect", "(", "dead_code"]];
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        let tokens = tokens(&source.text);
        for words in forbidden {
            for at in attributes(&tokens, words) {
                complaints.push(format!("{}:{}: #[{}]", source.path, tokens[at - 1].line, words.concat()));
            }
        }
    }
    complaints
}

/// No note to do something later, and no path of one developer's machine, in any text file.
fn leftovers(sources: &[Source]) -> Vec<String> {
    let notes = ["TODO", "FIXME"];
    let folders = ["home", "root", "work"].map(|name| format!("/{name}/"));
    let word = |c: char| c.is_alphanumeric() || "_-./~}$*".contains(c);
    let mut complaints = Vec::new();
    for source in sources.iter().filter(|source| !source.path.starts_with(SELF) && !source.path.ends_with(".lock")) {
        for (number, line) in (1..).zip(source.text.lines()) {
            let whole = |found: &usize, length: usize| {
                let before = line[..*found].chars().next_back();
                let after = line[found + length..].chars().next();
                !before.is_some_and(word) && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
            };
            for note in notes {
                if line.match_indices(note).any(|(at, _)| whole(&at, note.len())) {
                    complaints.push(format!("{}:{number}: {note}: do it, or open an issue", source.path));
                }
            }
            for folder in &folders {
                if line.match_indices(folder.as_str()).any(|(at, _)| !line[..at].chars().next_back().is_some_and(word))
                {
                    complaints.push(format!("{}:{number}: a path of one machine: {folder}", source.path));
                }
            }
        }
    }
    complaints
}

/// The top of the repository is as prescribed; hidden files, licences and build output apart.
fn top_level<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    names
        .into_iter()
        .filter(|name| !name.starts_with('.') && !name.starts_with("LICENSE") && *name != "target")
        .filter(|name| !TOP_LEVEL.contains(name))
        .map(|name| format!("{name}: not of the top level"))
        .collect()
}

/// Every module of the crate has its line in the layout of `src/lib.rs`.
fn layout(sources: &[Source]) -> Vec<String> {
    let Some(library) = sources.iter().find(|source| source.path == "src/lib.rs") else {
        return vec!["src/lib.rs is missing".to_owned()];
    };
    let documented: BTreeSet<&str> =
        library.text.lines().filter_map(|line| line.strip_prefix("//! ")?.split_whitespace().next()).collect();
    let modules: BTreeSet<String> = sources.iter().filter_map(|s| s.module()?.first().cloned()).collect();
    modules
        .into_iter()
        .filter(|module| module != "main" && !documented.contains(module.as_str()))
        .map(|module| format!("src/lib.rs: the layout does not say what '{module}' is"))
        .collect()
}

// --------------------------------------------------------------------------------------------- the repository is tidy

fn assert_none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaint(s):\n{}", complaints.len(), complaints.join("\n"));
}

#[test]
fn modules_know_only_whom_they_may() {
    assert_none(arrows(&repository()));
}

#[test]
fn pure_modules_are_pure() {
    assert_none(purity(&repository()));
}

#[test]
fn files_and_functions_are_short() {
    assert_none(lengths(&repository()));
}

#[test]
fn nothing_is_switched_off() {
    assert_none(switched_off(&repository()));
}

#[test]
fn nothing_is_left_over() {
    assert_none(leftovers(&repository()));
}

#[test]
fn the_top_level_is_as_prescribed() {
    let names: Vec<String> =
        fs::read_dir(top()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert_none(top_level(names.iter().map(String::as_str)));
}

#[test]
fn the_layout_names_every_module() {
    assert_none(layout(&repository()));
}
