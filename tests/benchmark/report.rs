//! The table, and the same as JSON.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use crate::chart::{self, Bar};

/// How a figure stands to its goal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Met,
    Missed,
    /// It has no goal: it explains others.
    None,
}

impl Verdict {
    pub(crate) fn of(met: bool) -> Self {
        if met { Self::Met } else { Self::Missed }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::None => "",
        }
    }
}

struct Row {
    name: String,
    figure: String,
    against: String,
    goal: String,
    verdict: Verdict,
    numbers: Value,
}

/// What has been measured so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    bars: Vec<Bar>,
    /// What else a reader of the figures should know.
    facts: Map<String, Value>,
}

/// A row to be: what is measured, the figure, what it is compared with.
pub(crate) struct Figure<'a> {
    pub(crate) name: &'a str,
    pub(crate) figure: String,
    /// What the disk or the floor costs at the same time.
    pub(crate) against: String,
    /// The bare numbers, for programs.
    pub(crate) numbers: Value,
}

impl Report {
    /// A figure that has to reach something.
    pub(crate) fn goal(&mut self, figure: Figure<'_>, goal: &str, met: bool) {
        self.push(figure, goal, Verdict::of(met));
    }

    /// A figure that explains others.
    pub(crate) fn note(&mut self, figure: Figure<'_>) {
        self.push(figure, "", Verdict::None);
    }

    /// A goal that cannot be looked at here, and why.
    pub(crate) fn cannot(&mut self, name: &str, goal: &str, why: &str) {
        let (figure, against) = (format!("not measured: {why}"), String::new());
        self.push(Figure { name, figure, against, numbers: Value::Null }, goal, Verdict::None);
    }

    /// The agent's own bar of the picture.
    pub(crate) fn own(&mut self, group: &'static str, label: impl Into<String>, value: f64) {
        self.bars.push(Bar { group, label: label.into(), value, own: true });
    }

    /// Another's bar.
    pub(crate) fn other(&mut self, group: &'static str, label: impl Into<String>, value: f64) {
        self.bars.push(Bar { group, label: label.into(), value, own: false });
    }

    /// The picture; none where nothing was compared.
    pub(crate) fn svg(&self) -> Option<String> {
        (!self.bars.is_empty()).then(|| chart::svg(&self.bars, "tillmesh beside what one would take instead"))
    }

    pub(crate) fn fact(&mut self, name: &str, value: impl Into<Value>) {
        self.facts.insert(name.to_owned(), value.into());
    }

    fn push(&mut self, figure: Figure<'_>, goal: &str, verdict: Verdict) {
        let Figure { name, figure, against, numbers } = figure;
        self.rows.push(Row { name: name.to_owned(), figure, against, goal: goal.to_owned(), verdict, numbers });
    }

    /// The table as Markdown that a person can read as it is.
    pub(crate) fn table(&self) -> String {
        let head = ["figure", "measured", "beside it, same run", "goal", "verdict"].map(str::to_owned);
        let mut lines = vec![head];
        lines.extend(self.rows.iter().map(|row| {
            [row.name.clone(), row.figure.clone(), row.against.clone(), row.goal.clone(), row.verdict.word().to_owned()]
        }));
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 5] = std::array::from_fn(width);
        let mut text = String::new();
        for (n, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(widths) {
                write!(text, "| {cell:width$} ").expect("a String takes everything");
            }
            text.push_str("|\n");
            if n == 0 {
                let rule = widths.map(|width| format!("|{}", "-".repeat(width + 2))).concat();
                text += &format!("{rule}|\n");
            }
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                json!({
                    "figure": row.name, "measured": row.figure, "beside": row.against, "goal": row.goal,
                    "verdict": row.verdict.word(), "numbers": row.numbers,
                })
            })
            .collect();
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        json!({ "at": at, "facts": self.facts, "rows": rows })
    }

    /// The facts, a line each.
    pub(crate) fn facts(&self) -> String {
        self.facts.iter().fold(String::new(), |text, (name, value)| match value {
            Value::String(value) => format!("{text}{name}: {value}\n"),
            value => format!("{text}{name}: {value}\n"),
        })
    }

    /// How many goals were met, and how many there are.
    pub(crate) fn score(&self) -> (usize, usize) {
        let met = self.rows.iter().filter(|row| row.verdict == Verdict::Met).count();
        let missed = self.rows.iter().filter(|row| row.verdict == Verdict::Missed).count();
        (met, met + missed)
    }
}
