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
}

pub(super) async fn lines(
    State(api): State<Api>,
    Params(query): Params<Query>,
) -> Result<Json<ListShape<LineShape>>, Problem> {
    let level: Level = match query.level {
        None => Level::TRACE,
        Some(text) => {
            let level = text.parse();
            level.map_err(|_| Problem::parameter("level", "a level is error, warn, info, debug or trace"))?
        }
    };
    let limit = entities::limit(query.limit)?;
    let q = query.q.unwrap_or_default().to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&q);
    let about = |text: &Option<String>| text.as_deref().is_some_and(has);
    let items = api.context.log.newest(limit, |line| {
        let found = q.is_empty() || has(&line.message) || has(&line.target) || about(&line.peer) || about(&line.op);
        line.rank <= rank(level) && found
    });
    Ok(Json(ListShape::whole(items)))
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
}
