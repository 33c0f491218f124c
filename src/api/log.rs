//! The last log lines, in memory, for `GET /v1/log`.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::entities::ListShape;
use super::extract::Params;
use super::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX};
use super::problem::Problem;
use super::shape::Time;
use super::{Api, entities};

/// The newest log lines of this start; a clone is the same ring. As a `tracing` layer it fills itself.
#[derive(Clone, Debug, Default)]
pub struct LogRing(Arc<Mutex<VecDeque<LineShape>>>);

/// A log line.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "LogLine"))]
pub(super) struct LineShape {
    time: Time,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    level: &'static str,
    /// The part of the agent that speaks.
    target: String,
    /// The text, and after it fields that have no place of their own.
    message: String,
    /// The peer that it is about.
    peer: Option<String>,
    /// The operation that it is about.
    op: Option<String>,
    #[serde(skip)]
    rank: u8,
}

impl LogRing {
    fn push(&self, line: LineShape) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    /// The newest `limit` lines that are wanted, in order of time.
    fn newest(&self, limit: usize, wanted: impl Fn(&LineShape) -> bool) -> Vec<LineShape> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<_> = lines.iter().rev().filter(|line| wanted(line)).take(limit).cloned().collect();
        found.reverse();
        found
    }
}

impl<S: Subscriber> Layer<S> for LogRing {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut words = Words::default();
        event.record(&mut words);
        let meta = event.metadata();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut message = words.message + &words.rest;
        message.truncate(message.floor_char_boundary(LOG_LINE_BYTES_MAX));
        self.push(LineShape {
            time: Time(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
            level: meta.level().as_str(),
            target: meta.target().to_owned(),
            message,
            peer: words.peer,
            op: words.op,
            rank: rank(*meta.level()),
        });
    }
}

#[derive(Default)]
struct Words {
    message: String,
    rest: String,
    peer: Option<String>,
    op: Option<String>,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, &format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, &value);
    }
}

impl Words {
    fn note(&mut self, field: &Field, value: &dyn fmt::Display) {
        match field.name() {
            "message" => self.message = value.to_string(),
            "peer" => self.peer = Some(value.to_string()),
            "op" => self.op = Some(value.to_string()),
            name => {
                let written = write!(self.rest, " {name}={value}");
                written.expect("writing to a string cannot fail");
            }
        }
    }
}

fn rank(level: Level) -> u8 {
    match level {
        Level::ERROR => 0,
        Level::WARN => 1,
        Level::INFO => 2,
        Level::DEBUG => 3,
        Level::TRACE => 4,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    level: Option<String>,
    limit: Option<usize>,
    q: Option<String>,
    peer: Option<String>,
    entity: Option<String>,
    since: Option<String>,
    until: Option<String>,
}

/// Which lines are wanted; texts are in lower case.
struct Filter {
    rank: u8,
    q: String,
    peer: String,
    entity: String,
    since: Time,
    until: Time,
}

impl Filter {
    fn of(query: Query) -> Result<Self, Problem> {
        let level: Level = match query.level {
            None => Level::TRACE,
            Some(text) => {
                let level = text.parse();
                level.map_err(|_| Problem::parameter("level", "a level is error, warn, info, debug or trace"))?
            }
        };
        let time = |name: &str, text: Option<String>, otherwise: u64| match text {
            None => Ok(Time(otherwise)),
            Some(text) => text.parse().map_err(|message: &str| Problem::parameter(name, message)),
        };
        let text = |text: Option<String>| text.unwrap_or_default().to_lowercase();
        Ok(Self {
            rank: rank(level),
            q: text(query.q),
            peer: text(query.peer),
            entity: text(query.entity),
            since: time("since", query.since, 0)?,
            until: time("until", query.until, u64::MAX)?,
        })
    }

    /// An empty text is in every line.
    fn wants(&self, line: &LineShape) -> bool {
        let has = |text: &str, wanted: &str| wanted.is_empty() || text.to_lowercase().contains(wanted);
        let about = |text: &Option<String>, wanted: &str| text.as_deref().is_some_and(|text| has(text, wanted));
        let found = has(&line.message, &self.q)
            || has(&line.target, &self.q)
            || about(&line.peer, &self.q)
            || about(&line.op, &self.q);
        // Lines name a till by its id or by what people call it, an entity by its id.
        let of_peer = has(&line.message, &self.peer) || about(&line.peer, &self.peer);
        let of_entity = has(&line.message, &self.entity) || about(&line.op, &self.entity);
        line.rank <= self.rank
            && (self.since.0..self.until.0.max(1)).contains(&line.time.0)
            && found
            && of_peer
            && of_entity
    }
}

pub(super) async fn lines(
    State(api): State<Api>,
    Params(query): Params<Query>,
) -> Result<Json<ListShape<LineShape>>, Problem> {
    let limit = entities::limit(query.limit)?;
    let filter = Filter::of(query)?;
    Ok(Json(ListShape::whole(api.context.log.newest(limit, |line| filter.wants(line)))))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn it_keeps_the_newest_lines_and_their_fields() {
        let ring = LogRing::default();
        let subscriber = tracing_subscriber::registry().with(ring.clone());
        tracing::subscriber::with_default(subscriber, || {
            for i in 0..LOG_LINES_MAX + 5 {
                tracing::debug!(i, "filling");
            }
            tracing::warn!(peer = "POS-2", op = 7, port = 3030, "P2P: {}", "é".repeat(LOG_LINE_BYTES_MAX));
        });
        let lines = ring.newest(usize::MAX, |_| true);
        assert_eq!(lines.len(), LOG_LINES_MAX);
        assert_eq!(lines[0].message, "filling i=6");
        let last = &lines[LOG_LINES_MAX - 1];
        assert_eq!((last.level, last.peer.as_deref(), last.op.as_deref()), ("WARN", Some("POS-2"), Some("7")));
        assert!(last.message.starts_with("P2P: é") && last.message.len() <= LOG_LINE_BYTES_MAX);
        assert_eq!(ring.newest(3, |line| line.rank <= 1).len(), 1);
    }

    #[test]
    fn a_filter_wants_what_is_about_a_peer_an_entity_a_time() {
        let line = |time: u64, peer: Option<&str>, message: &str| LineShape {
            time: Time(time),
            level: "INFO",
            target: "tillmesh".to_owned(),
            message: message.to_owned(),
            peer: peer.map(str::to_owned),
            op: None,
            rank: 2,
        };
        let lines = [
            line(1_000, Some("a41c"), "P2P: connected to Caisse 2"),
            line(2_000, None, "ticket 7b0f3c52 is flagged"),
            line(3_000, Some("77aa"), "P2P: connection to Caisse 3 lost"),
        ];
        let count = |query: &str| {
            let uri: axum::http::Uri = format!("/v1/log?{query}").parse().unwrap();
            let axum::extract::Query(query) = axum::extract::Query::<Query>::try_from_uri(&uri).unwrap();
            Filter::of(query).map(|filter| lines.iter().filter(|line| filter.wants(line)).count())
        };
        for (query, wanted) in [
            ("", 3),
            ("peer=A41C", 1),
            ("peer=caisse%203", 1),
            ("entity=7b0f3c52", 1),
            ("level=warn", 0),
            ("since=1970-01-01T00:00:02Z", 2),
            ("since=1970-01-01T00:00:02Z&until=1970-01-01T00:00:03Z", 1),
            ("peer=caisse&q=lost", 1),
        ] {
            assert_eq!(count(query).unwrap(), wanted, "{query}");
        }
        assert!(count("since=yesterday").is_err() && count("level=loud").is_err());
    }
}
