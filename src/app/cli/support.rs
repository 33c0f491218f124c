//! `tillmesh support FILE`: all that the vendor needs to help with a till, in one file and without its secrets.
//!
//! Secrets are kept out twice: by name, in the config; and by value, in everything, whatever brought them in. Sales, products and customers
//! are not in it either: only counts.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;

use super::client::{Agent, AgentError, Target};
use crate::config::{DataDir, TokenScope};
use crate::store;

/// What stands in a secret's place.
const LEFT_OUT: &str = "(left out)";
/// The most of one document that goes in: of a longer one the end.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;
/// Members of the config that are secrets, wherever they stand.
const SECRET_NAMES: [&str; 6] = ["key", "passphrase", "password", "psk", "secret", "token"];
/// Lines of the journal.
const JOURNAL_LINES: &str = "5000";

/// What the agent is asked, and under which name it goes in.
const ASKED: [(&str, &str); 7] = [
    ("alert-history.json", "/v1/alerts/history"),
    ("alerts.json", "/v1/alerts"),
    ("log.json", "/v1/log?limit=500"),
    ("metrics.txt", "/metrics"),
    ("openapi.json", "/openapi.json"),
    ("roster.json", "/v1/roster"),
    ("status.json", "/v1/status"),
];

/// What the system tells of the network, and of itself.
const NETWORK: [&str; 7] = [
    "/proc/net/route",
    "/proc/net/ipv6_route",
    "/proc/net/if_inet6",
    "/proc/net/arp",
    "/proc/net/dev",
    "/proc/net/tcp",
    "/proc/net/igmp",
];
const SYSTEM: [&str; 7] = [
    "/etc/os-release",
    "/proc/version",
    "/proc/device-tree/model",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/mounts",
];

/// Makes the file, readable to its owner alone. What cannot be found out is said in its place: a bundle is most wanted where much fails.
///
/// # Errors
/// Where the file is there already or cannot be written.
pub async fn support(folder: &DataDir, file: &Path) -> anyhow::Result<()> {
    let out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file);
    let mut out = out.with_context(|| format!("cannot make {}", file.display()))?;
    let mut documents = of_agent(folder).await;
    documents.push(("about.txt", about()));
    documents.push(("config.json", config(folder)));
    documents.push(("integrity.txt", integrity(folder)));
    documents.push(("journal.txt", journal()));
    documents.push(("network.txt", files(&NETWORK)));
    documents.push(("system.txt", files(&SYSTEM)));
    documents.sort_by_key(|(name, _)| *name);
    let secrets = secrets(folder);
    let mut bundle = tar::Builder::new(Vec::new());
    for (name, text) in &documents {
        let bytes = without(tail(text.as_bytes()), &secrets);
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(Timestamp::now().as_second()).unwrap_or(0));
        header.set_cksum();
        bundle.append_data(&mut header, format!("tillmesh-support/{name}"), bytes.as_slice())?;
    }
    out.write_all(&bundle.into_inner()?).with_context(|| format!("cannot write {}", file.display()))?;
    out.sync_all()?;
    super::print(&format!("{}: send it to the vendor. It holds no sales and no secrets.\n", file.display()))?;
    Ok(())
}

async fn of_agent(folder: &DataDir) -> Vec<(&'static str, String)> {
    let target = Target::Folder(folder.clone());
    let mut documents = Vec::new();
    for (name, path) in ASKED {
        documents.push((name, ask(&target, path).await.unwrap_or_else(|error| format!("{error:#}\n"))));
    }
    let examined = super::doctor::examine(&target).await;
    let doctor = examined.and_then(|diagnosis| Ok(serde_json::to_string_pretty(&diagnosis)? + "\n"));
    documents.push(("doctor.json", doctor.unwrap_or_else(|error| format!("{error:#}\n"))));
    documents
}

async fn ask(target: &Target, path: &str) -> anyhow::Result<String> {
    let agent = Agent::find(target)?;
    let mut body = agent.get(path).await?.into_body();
    let mut bytes = Vec::new();
    while let Some(part) = agent.part(&mut body).await? {
        bytes.extend_from_slice(&part);
        anyhow::ensure!(bytes.len() <= DOCUMENT_BYTES_MAX, AgentError::NotAnAgent(agent.address()));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn about() -> String {
    format!("tillmesh {}\nmade {}\n", env!("CARGO_PKG_VERSION"), Timestamp::now())
}

/// The config without the members that are secrets. What is no JSON may hold them anywhere: only that is said.
fn config(folder: &DataDir) -> String {
    let read = fs::read_to_string(folder.config());
    match read.as_deref().map(serde_json::from_str::<Value>) {
        Ok(Ok(mut config)) => {
            redact(&mut config);
            format!("{config:#}\n")
        }
        Ok(Err(error)) => format!("it is no JSON, and left out: {error}\n"),
        Err(error) => format!("{error}\n"),
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter_mut() {
                if SECRET_NAMES.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
                    *value = LEFT_OUT.into();
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        _ => {}
    }
}

fn integrity(folder: &DataDir) -> String {
    match store::verify(&folder.database()) {
        Ok(()) => "SQLite's integrity check found nothing wrong.\n".to_owned(),
        Err(error) => format!("{error}\n"),
    }
}

fn journal() -> String {
    let asked = Command::new("journalctl")
        .args(["-u", "tillmesh", "-n", JOURNAL_LINES, "--no-pager", "-o", "short-iso"])
        .stdin(Stdio::null())
        .output();
    match asked {
        Ok(answer) => String::from_utf8_lossy(&answer.stdout).into_owned() + &String::from_utf8_lossy(&answer.stderr),
        Err(error) => format!("no journal: {error}\n"),
    }
}

fn files(paths: &[&str]) -> String {
    let show = |path: &&str| {
        let read = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        format!("==== {path}\n{}\n", read.unwrap_or_else(|error| error.to_string()))
    };
    paths.iter().map(show).collect()
}

/// The end of a long document: the newest lines.
fn tail(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(DOCUMENT_BYTES_MAX)..]
}

/// The texts that must not be in the bundle.
fn secrets(folder: &DataDir) -> Vec<String> {
    let mut found = Vec::new();
    for path in TokenScope::ALL.map(|scope| folder.token(scope)).into_iter().chain([folder.till_key()]) {
        found.extend(fs::read_to_string(path).ok().map(|text| text.trim().to_owned()));
    }
    let config = fs::read_to_string(folder.config()).unwrap_or_default();
    if let Ok(config) = serde_json::from_str::<Value>(&config) {
        collect(&config, &mut found);
    }
    // A short word is nobody's key, and would be cut out of everything.
    found.retain(|secret| secret.len() >= 8);
    found
}

fn collect(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let secret = SECRET_NAMES.iter().any(|secret| name.eq_ignore_ascii_case(secret));
                found.extend(value.as_str().filter(|_| secret).map(str::to_owned));
                collect(value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        _ => {}
    }
}

fn without(bytes: &[u8], secrets: &[String]) -> Vec<u8> {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    for secret in secrets {
        text = text.replace(secret.as_str(), LEFT_OUT);
    }
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_go_by_name_and_by_value() {
        let mut config = json!({"store": {"name": "Café", "key": "AAAA-BBBB-CCCC"}, "network": {"wifi": {"ssid": "s", "passphrase": "words of"}},
            "later": [{"Token": 5}], "ssh": {"keys": ["ssh-ed25519 AAAA"]}});
        let mut found = Vec::new();
        collect(&config, &mut found);
        assert_eq!(found, ["AAAA-BBBB-CCCC", "words of"]);
        redact(&mut config);
        assert_eq!(config["store"], json!({"name": "Café", "key": LEFT_OUT}));
        assert_eq!((&config["later"][0]["Token"], &config["network"]["wifi"]["ssid"]), (&json!(LEFT_OUT), &json!("s")));
        assert_eq!(config["ssh"]["keys"][0], "ssh-ed25519 AAAA", "a public key is none");
        assert_eq!(without(b"x AAAA-BBBB-CCCC y", &found), format!("x {LEFT_OUT} y").into_bytes());
        assert_eq!(tail(&vec![7; DOCUMENT_BYTES_MAX + 9]).len(), DOCUMENT_BYTES_MAX);
    }
}
