//! Following a till's changes, as a till application does (Server-Sent Events).

use std::io::{BufRead, BufReader};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lan::Name;
use crate::shop::{API, Shop};

const WAIT_MAX: Duration = Duration::from_secs(30);

/// What an application keeps of the stream: the tickets it was told of, in order, and where to go on.
pub(crate) struct Followed {
    pub(crate) tickets: Vec<String>,
    pub(crate) cursor: String,
}

impl Shop {
    /// Follows the till's changes after a cursor (none: from the beginning) until it was told of so many tickets.
    pub(crate) fn follow(&self, till: Name, after: Option<&str>, tickets: usize) -> Result<Followed> {
        let query = after.map(|cursor| format!("?after={cursor}")).unwrap_or_default();
        self.lan.inside(till, || {
            let config = ureq::Agent::config_builder().timeout_global(Some(WAIT_MAX)).build();
            let response = ureq::Agent::from(config).get(format!("http://{API}/v1/changes{query}")).call()?;
            let mut lines = BufReader::new(response.into_body().into_reader()).lines();
            let mut followed = Followed { tickets: Vec::new(), cursor: String::new() };
            let (mut event, mut data) = (String::new(), String::new());
            while followed.tickets.len() < tickets {
                let line = lines.next().context("the stream ended")?;
                let line = line.with_context(|| format!("{} of {tickets} tickets", followed.tickets.len()))?;
                match line.split_once(':').map(|(field, value)| (field, value.trim_start())) {
                    Some(("id", value)) => value.clone_into(&mut followed.cursor),
                    Some(("event", value)) => value.clone_into(&mut event),
                    Some(("data", value)) => data.push_str(value),
                    _ if line.is_empty() => {
                        if event == "ticket" {
                            let change: Value = serde_json::from_str(&data)?;
                            let id = change["id"].as_str().with_context(|| format!("no id: {data}"))?;
                            ensure!(change["value"]["number"].is_string(), "a ticket without its value: {data}");
                            followed.tickets.push(id.to_owned());
                        }
                        event.clear();
                        data.clear();
                    }
                    _ => {}
                }
            }
            Ok(followed)
        })
    }
}
