//! `tillmesh log`: the newest log lines of the running agent, filtered.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::bail;
use jiff::Timestamp;
use serde_json::Value;

use super::client::{Agent, AgentError, Target};

/// Which lines to show. What is `None` filters nothing.
#[derive(Debug, Default)]
pub struct LogOptions {
    /// This level and graver ones.
    pub level: Option<String>,
    /// About this till.
    pub peer: Option<String>,
    /// About this ticket, product, customer or op.
    pub entity: Option<String>,
    /// With this text.
    pub text: Option<String>,
    /// From this time on: RFC 3339, or how long ago (`90s`, `10m`, `2h`, `1d`).
    pub since: Option<String>,
    /// Before this time, likewise.
    pub until: Option<String>,
    /// At most so many, the newest.
    pub lines: u16,
    /// As JSON.
    pub json: bool,
}

/// Prints them in order of time.
///
/// # Errors
/// Where no agent answers, this user may not read its tokens, or a time makes no sense.
pub async fn log(target: &Target, options: &LogOptions) -> anyhow::Result<()> {
    let agent = Agent::find(target)?;
    let answer = agent.get_json(&path(options, Timestamp::now())?).await?;
    let text = if options.json {
        serde_json::to_string_pretty(&answer["items"])? + "\n"
    } else {
        let lines = answer["items"].as_array().ok_or(AgentError::NotAnAgent(agent.address()))?;
        lines.iter().map(line).collect()
    };
    super::print(&text)?;
    Ok(())
}

fn path(options: &LogOptions, now: Timestamp) -> anyhow::Result<String> {
    let time = |text: &Option<String>| text.as_deref().map(|text| moment(text, now)).transpose();
    let wanted = [
        ("level", options.level.clone()),
        ("peer", options.peer.clone()),
        ("entity", options.entity.clone()),
        ("q", options.text.clone()),
        ("since", time(&options.since)?),
        ("until", time(&options.until)?),
    ];
    let mut path = format!("/v1/log?limit={}", options.lines);
    for (name, value) in wanted {
        if let Some(value) = value {
            write!(path, "&{name}={}", escaped(&value))?;
        }
    }
    Ok(path)
}

/// A time as the API takes it.
fn moment(text: &str, now: Timestamp) -> anyhow::Result<String> {
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    let moment = match number.parse::<u32>() {
        Ok(number) if unit_s > 0 => now - Duration::from_secs(u64::from(number) * unit_s),
        _ => match text.parse() {
            Ok(moment) => moment,
            Err(_) => bail!("{text:?} is no time: give 2026-11-22T09:30:00Z, or how long ago: 90s, 10m, 2h, 1d"),
        },
    };
    Ok(moment.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}

/// Percent-encoded, so that any text is one value of a query.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

fn line(line: &Value) -> String {
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    let named = |name: &str| line[name].as_str().map(|value| format!(" {name}={value}")).unwrap_or_default();
    let line = format!("{} {:<5} {}{}{}", text("time"), text("level"), text("message"), named("peer"), named("op"));
    super::status::clean(&line) + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_query_says_what_was_asked() {
        let now = "2026-11-22T10:00:00Z".parse().unwrap();
        let some = |text: &str| Some(text.to_owned());
        let options = LogOptions {
            peer: some("Caisse 2"),
            level: some("warn"),
            since: some("90m"),
            until: some("2026-11-22T09:45:00+01:00"),
            lines: 7,
            ..LogOptions::default()
        };
        assert_eq!(
            path(&options, now).unwrap(),
            "/v1/log?limit=7&level=warn&peer=Caisse%202&since=2026-11-22T08%3A30%3A00.000Z\
             &until=2026-11-22T08%3A45%3A00.000Z"
        );
        for wrong in ["", "m", "yesterday", "5w", "-5m"] {
            assert!(moment(wrong, now).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_line_is_one_line() {
        let shown = line(&json!({"time": "T", "level": "WARN", "message": "a\nb", "peer": "a41c", "op": null}));
        assert_eq!(shown, "T WARN  a b peer=a41c\n");
    }
}
