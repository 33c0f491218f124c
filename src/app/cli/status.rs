//! `tillmesh status`: how the till is, for a person or (`--json`) for a program.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use super::client::{Agent, AgentError, Target};
use crate::model::amount::Quantity;

/// Shown where something is not known.
pub(super) const UNKNOWN: &str = "-";

/// Prints how an agent is; `shop`: how all tills of its store are.
///
/// # Errors
/// Where no agent answers.
pub async fn status(target: &Target, json: bool, shop: bool) -> anyhow::Result<()> {
    let agent = Agent::find(target)?;
    let document = agent.get_json("/v1/status").await?;
    let text = if json {
        serde_json::to_string_pretty(&document)? + "\n"
    } else if shop {
        super::shop::table(&document).ok_or_else(|| AgentError::NotAnAgent(agent.address()))?
    } else {
        let view: StatusView = serde_json::from_value(document).map_err(|_| AgentError::NotAnAgent(agent.address()))?;
        view.table()
    };
    super::print(&text)?;
    Ok(())
}

/// What is shown of a status. An agent of another version may tell more, or less.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusView {
    pos_id: String,
    pos_name: String,
    version: String,
    #[serde(deserialize_with = "moment")]
    started_at: Option<Timestamp>,
    #[serde(deserialize_with = "moment")]
    now: Option<Timestamp>,
    store_id: String,
    store_name: String,
    currency: String,
    enabled: bool,
    auto_sync: bool,
    server_running: bool,
    listening: Option<String>,
    connected_peers: u64,
    total_peers: u64,
    led: String,
    board: BoardView,
    counts: Option<CountsView>,
    only_here: Option<u64>,
    store: StoreView,
    snapshot: Option<SnapshotView>,
    alerts: Vec<AlertView>,
    peers: Vec<PeerView>,
    posplus: Vec<PosplusView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BoardView {
    name: String,
    led: Option<String>,
    temperature_celsius: Option<f64>,
    card_used_percent: Option<u8>,
    disk_bytes_free: Option<u64>,
}

impl BoardView {
    fn line(&self) -> String {
        let parts = [
            Some(self.name.clone()).filter(|name| !name.is_empty()),
            self.led.as_ref().map(|place| format!("LED {place}")),
            self.temperature_celsius.map(|celsius| format!("{celsius:.0} °C")),
            self.card_used_percent.map(|percent| format!("{percent} % of the card's life used")),
            self.disk_bytes_free.map(|bytes| format!("{} MB free", bytes / 1_000_000)),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct CountsView {
    tickets: u64,
    refunds: u64,
    products: u64,
    customers: u64,
    held: u64,
    conflicts: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StoreView {
    fault: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AlertView {
    code: String,
    severity: String,
    #[serde(deserialize_with = "moment")]
    since: Option<Timestamp>,
    subject: Option<String>,
    message: String,
    detail: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SnapshotView {
    from: String,
    rows: u64,
    of: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PeerView {
    id: String,
    name: String,
    address: Option<String>,
    state: String,
    detail: Option<String>,
    #[serde(deserialize_with = "moment")]
    last_seen: Option<Timestamp>,
    rtt_ms: Option<f64>,
    behind: u64,
    ahead: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PosplusView {
    id: String,
    name: String,
    address: String,
    online: bool,
    speaker: bool,
    #[serde(deserialize_with = "moment")]
    last_seen: Option<Timestamp>,
    detail: Option<String>,
    counts: PosplusCountsView,
    stock_differs: Vec<DiffersView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DiffersView {
    sku: String,
    name: String,
    theirs: Quantity,
    ours: Quantity,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PosplusCountsView {
    tickets_in: u64,
    tickets_out: u64,
    ignored: u64,
    refused: u64,
}

/// A time; one that is not understood is not known.
pub(super) fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<String> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

impl StatusView {
    fn table(&self) -> String {
        let mut text = String::new();
        let mut row = |name: &str, value: &str| {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{name:<10} {}", clean(value));
        };
        let up = self.started_at.map(|at| format!(", started {}", self.ago(at))).unwrap_or_default();
        row("Till", &format!("{} \"{}\", version {}{up}", self.pos_id, self.pos_name, self.version));
        row("Store", &format!("{} ({}), id {}", self.store_name, self.currency, self.store_id));
        row("Mesh", &self.mesh());
        row("LED", &self.led);
        // An agent of before that has none to tell.
        let board = self.board.line();
        if !board.is_empty() {
            row("Board", &board);
        }
        row("Database", &self.database());
        row("Only here", &self.only_here());
        if let Some(SnapshotView { from, rows, of }) = &self.snapshot {
            row("Snapshot", &format!("being taken from {from}: {rows} of about {of} rows are here"));
        }
        if !self.alerts.is_empty() {
            text.push_str("\nAlerts\n");
        }
        for alert in &self.alerts {
            let _ = writeln!(text, "  {}", clean(&self.alert(alert)));
        }
        if !self.peers.is_empty() {
            text.push('\n');
            text.push_str(&columns(&self.peer_rows()));
        }
        if !self.posplus.is_empty() {
            text.push('\n');
            text.push_str(&columns(&self.posplus_rows()));
            let differs =
                self.posplus.iter().flat_map(|till| till.stock_differs.iter().map(move |differs| (till, differs)));
            for (till, DiffersView { sku, name, theirs, ours }) in differs {
                let line = format!("To count: {sku} {name}; {} had {theirs}, here were {ours}", till.id);
                let _ = writeln!(text, "{}", clean(&line));
            }
        }
        text
    }

    fn mesh(&self) -> String {
        let linked = format!("{} of {} other tills linked", self.connected_peers, self.total_peers);
        let listening = match &self.listening {
            _ if !self.enabled => return "off (turn it on with POST /v1/p2p/enabled)".to_owned(),
            Some(port) if self.server_running && port.parse::<u16>().is_ok() => format!("on, listening on port {port}"),
            Some(address) if self.server_running => format!("on, listening on {address}"),
            _ if self.server_running => "on, listening".to_owned(),
            _ => "on, not listening: other tills cannot reach this one".to_owned(),
        };
        let by_hand = if self.auto_sync { "" } else { "; exchanges only when asked (p2p.autoSync is false)" };
        format!("{listening}; {linked}{by_hand}")
    }

    fn database(&self) -> String {
        let mut parts = Vec::new();
        if let Some(fault) = &self.store.fault {
            parts.push(format!("FAULT: {fault}"));
        }
        if let Some(counts) = &self.counts {
            for (count, one, many) in [
                (counts.tickets, "ticket", "tickets"),
                (counts.refunds, "refund", "refunds"),
                (counts.products, "product", "products"),
                (counts.customers, "customer", "customers"),
            ] {
                parts.push(format!("{count} {}", if count == 1 { one } else { many }));
            }
            if counts.conflicts > 0 {
                parts.push(format!("conflicts to settle: {}", counts.conflicts));
            }
            if counts.held > 0 {
                parts.push(format!("changes held until this till is updated: {}", counts.held));
            }
        }
        if parts.is_empty() { UNKNOWN.to_owned() } else { parts.join(", ") }
    }

    fn only_here(&self) -> String {
        match self.only_here {
            None => UNKNOWN.to_owned(),
            Some(0) => "no sale is on this till alone".to_owned(),
            Some(1) => "1 sale is on this till alone: if its card fails, it is lost".to_owned(),
            Some(sales) => format!("{sales} sales are on this till alone: if its card fails, they are lost"),
        }
    }

    fn alert(&self, alert: &AlertView) -> String {
        let since = alert.since.map(|at| format!(", since {at:.0}")).unwrap_or_default();
        let subject = alert.subject.as_deref().map(|subject| format!(" [{subject}]")).unwrap_or_default();
        let detail = alert.detail.as_deref().filter(|detail| !detail.is_empty());
        let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        format!("{} {}{since}{subject}: {}{detail}", alert.severity.to_uppercase(), alert.code, alert.message)
    }

    fn peer_rows(&self) -> Vec<Vec<String>> {
        let head = ["TILL", "NAME", "ADDRESS", "STATE", "BEHIND", "AHEAD", "RTT", "LAST SEEN"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for peer in &self.peers {
            let detail = peer.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
            rows.push(vec![
                peer.id.clone(),
                peer.name.clone(),
                peer.address.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
                format!("{}{detail}", peer.state),
                peer.behind.to_string(),
                peer.ahead.to_string(),
                peer.rtt_ms.map_or_else(|| UNKNOWN.to_owned(), |ms| format!("{ms:.1} ms")),
                peer.last_seen.map_or_else(|| "never".to_owned(), |at| self.ago(at)),
            ]);
        }
        rows
    }

    fn posplus_rows(&self) -> Vec<Vec<String>> {
        let head = ["POSPLUS TILL", "NAME", "ADDRESS", "STATE", "SALES IN", "OUT", "IGNORED", "REFUSED", "LAST SEEN"];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for till in &self.posplus {
            let state = match (till.online, &till.detail) {
                (true, _) if till.speaker => "connected, unauthenticated; this till speaks to it".to_owned(),
                (true, _) => "connected, unauthenticated".to_owned(),
                (false, Some(why)) => format!("offline ({why})"),
                (false, None) => "offline".to_owned(),
            };
            let counts = &till.counts;
            let figures = [counts.tickets_in, counts.tickets_out, counts.ignored, counts.refused];
            let mut row = vec![till.id.clone(), till.name.clone(), till.address.clone(), state];
            row.extend(figures.map(|n| n.to_string()));
            row.push(till.last_seen.map_or_else(|| "never".to_owned(), |at| self.ago(at)));
            rows.push(row);
        }
        rows
    }

    fn ago(&self, at: Timestamp) -> String {
        ago(self.now, at)
    }
}

/// How long ago, by the agent's own clock.
pub(super) fn ago(now: Option<Timestamp>, at: Timestamp) -> String {
    let Some(now) = now else { return format!("{at:.0}") };
    match now.as_second() - at.as_second() {
        ..2 => "just now".to_owned(),
        s @ 2..120 => format!("{s} s ago"),
        s @ 120..7_200 => format!("{} min ago", s / 60),
        s @ 7_200..172_800 => format!("{} h ago", s / 3_600),
        s => format!("{} days ago", s / 86_400),
    }
}

/// Rows as aligned columns, two spaces apart; the first row is the head.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A text that another machine may have chosen, without what steers a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view(extra: serde_json::Value) -> StatusView {
        let mut status = json!({
            "posId": "POS-1", "posName": "Caisse 1", "version": "0.1.0", "startedAt": "2026-11-22T09:00:00.000Z",
            "now": "2026-11-22T09:03:20.000Z", "storeId": "7e3c", "storeName": "Café Central", "currency": "TND",
            "enabled": true, "autoSync": true, "serverRunning": true, "listening": "0.0.0.0:3030", "connectedPeers": 1,
            "totalPeers": 2, "led": "partial", "counts": {"tickets": 1, "refunds": 0, "products": 11, "customers": 2},
            "onlyHere": 0, "store": {"healthy": true, "fault": null}, "alerts": [], "peers": [], "news": "of a later version",
        });
        let (status_map, extra) = (status.as_object_mut().unwrap(), extra.as_object().unwrap().clone());
        status_map.extend(extra);
        serde_json::from_value(status).unwrap()
    }

    #[test]
    fn posplus_tills_are_shown_with_why_one_does_not_connect() {
        let till = |online: bool, detail: Option<&str>| {
            json!({"id": "POS-P1", "name": "Caisse", "address": "10.0.0.9:3030", "online": online, "speaker": online, "detail": detail,
                "lastSeen": "2026-11-22T09:03:19.500Z", "counts": {"ticketsIn": 3, "ticketsOut": 4, "ignored": 5, "refused": 6},
                "stockDiffers": [{"sku": "CAF", "name": "Café", "theirs": 40, "ours": 38.5}]})
        };
        let table = view(json!({"posplus": [till(true, None), till(false, Some("not allowed"))]})).table();
        assert!(
            table.contains("connected, unauthenticated; this till speaks to it  3         4    5        6"),
            "{table}"
        );
        assert!(table.contains("offline (not allowed)"), "{table}");
        assert!(table.contains("To count: CAF Café; POS-P1 had 40, here were 38.5\n"), "{table}");
    }

    #[test]
    fn a_person_can_read_it() {
        let view = view(json!({
            "board": {"name": "Raspberry Pi 4B", "led": "tillmesh:green", "temperatureCelsius": 48.3, "cardUsedPercent": 10,
                "diskBytesFree": 27_000_000_000u64},
            "alerts": [{"code": "peerUnreachable", "severity": "warning", "since": "2026-11-22T09:01:00.000Z", "subject": "POS-3",
                "message": "Check that it is on.", "detail": "timed out"}],
            "peers": [
                {"id": "POS-2", "name": "Caisse 2", "address": "192.168.1.21:3030", "state": "connected", "rttMs": 0.42,
                    "lastSeen": "2026-11-22T09:03:19.500Z", "behind": 0, "ahead": 12},
                {"id": "POS-3", "name": "Caisse \u{1b}[2J", "address": null, "state": "connecting", "lastSeen": null, "rttMs": null},
            ],
        }));
        let expected = "\
Till       POS-1 \"Caisse 1\", version 0.1.0, started 3 min ago
Store      Café Central (TND), id 7e3c
Mesh       on, listening on 0.0.0.0:3030; 1 of 2 other tills linked
LED        partial
Board      Raspberry Pi 4B, LED tillmesh:green, 48 °C, 10 % of the card's life used, 27000 MB free
Database   1 ticket, 0 refunds, 11 products, 2 customers
Only here  no sale is on this till alone

Alerts
  WARNING peerUnreachable, since 2026-11-22T09:01:00Z [POS-3]: Check that it is on. (timed out)

TILL   NAME         ADDRESS            STATE       BEHIND  AHEAD  RTT     LAST SEEN
POS-2  Caisse 2     192.168.1.21:3030  connected   0       12     0.4 ms  just now
POS-3  Caisse  [2J  -                  connecting  0       0      -       never
";
        assert_eq!(view.table(), expected);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let off =
            view(json!({ "enabled": false, "onlyHere": 3, "store": {"fault": "the disk is full"}, "counts": null }));
        let table = off.table();
        for part in ["off (turn it on", "FAULT: the disk is full", "3 sales are on this till alone"] {
            assert!(table.contains(part), "{part:?} in\n{table}");
        }
        assert!(view(json!({ "serverRunning": false })).mesh().contains("cannot reach this one"));
    }

    #[test]
    fn less_than_expected_is_no_error() {
        let nothing: StatusView = serde_json::from_value(json!({})).unwrap();
        assert!(nothing.table().contains("Only here  -"));
    }
}
