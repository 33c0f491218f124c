//! The figures that have something beside them as a picture: SVG that is legible on light and on dark, without anything but itself.

use std::fmt::Write as _;

/// One bar: of which group, whose, how much, in the group's unit.
pub(crate) struct Bar {
    pub(crate) group: &'static str,
    pub(crate) label: String,
    pub(crate) value: f64,
    /// Whether it is the agent's own.
    pub(crate) own: bool,
}

const WIDTH: f64 = 760.0;
const LEFT: f64 = 250.0;
const RIGHT: f64 = 90.0;
const BAR: f64 = 16.0;
const STEP: f64 = 24.0;
const HEAD: f64 = 40.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#1f2933}.h{font-weight:600}.own{fill:#0b7a75}.other{fill:#9aa5b1}\
.paper{fill:#ffffff}@media(prefers-color-scheme:dark){text{fill:#e4e7eb}.own{fill:#2dd4bf}.other{fill:#616e7c}.paper{fill:#12181f}}";

/// Draws the bars by their groups, each group on a scale of its own from 0.
pub(crate) fn svg(bars: &[Bar], title: &str) -> String {
    let mut groups: Vec<&str> = Vec::new();
    for bar in bars {
        if !groups.contains(&bar.group) {
            groups.push(bar.group);
        }
    }
    let mut body = String::new();
    let mut y = 10.0;
    for group in groups {
        y += HEAD - STEP / 2.0;
        text(&mut body, (16.0, y), "start", "h", group);
        y += STEP / 2.0;
        let of: Vec<&Bar> = bars.iter().filter(|bar| bar.group == group).collect();
        let most = of.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        for bar in of {
            let length = ((WIDTH - LEFT - RIGHT) * bar.value / most).max(1.0);
            let class = if bar.own { "own" } else { "other" };
            text(&mut body, (LEFT - 10.0, y + 13.0), "end", "", &bar.label);
            let place = format!(r#"x="{LEFT}" y="{y:.0}" width="{length:.1}" height="{BAR}""#);
            body += &format!("<rect class=\"{class}\" {place} rx=\"2\"/>\n");
            text(&mut body, (LEFT + length + 6.0, y + 13.0), "start", "", &number(bar.value));
            y += STEP;
        }
    }
    y += 14.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" role=\"img\" aria-label=\"{title}\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"paper\" width=\"{WIDTH}\" height=\"{y:.0}\" rx=\"6\"/>\n{body}</svg>\n",
        title = escaped(title),
    )
}

fn text(body: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, words: &str) {
    let words = escaped(words);
    writeln!(body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" class="{class}">{words}</text>"#)
        .expect("a String takes everything");
}

fn number(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}
