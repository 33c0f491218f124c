//! `tillmesh status --shop`: how all tills of the store are, as the running agent has heard.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::status::{UNKNOWN, ago, clean, columns, moment};

/// What is shown of the tills of a status. An agent of another version may tell more, or less.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ShopView {
    #[serde(rename = "storeName")]
    store_name: String,
    #[serde(deserialize_with = "moment")]
    now: Option<Timestamp>,
    tills: Vec<TillView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TillView {
    id: String,
    name: String,
    here: bool,
    online: bool,
    #[serde(deserialize_with = "moment")]
    heard: Option<Timestamp>,
    told: Option<ToldView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ToldView {
    version: String,
    boot_reason: String,
    led: String,
    healthy: bool,
    only_here: Option<u64>,
    counts: Option<CountsView>,
    alerts: Vec<AlertView>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CountsView {
    tickets: u64,
    conflicts: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct AlertView {
    code: String,
    severity: String,
    subject: Option<String>,
}

/// The tills as a table, and what is to be done at each. `None` where the agent tells of none: it is of a version before that.
pub(super) fn table(status: &Value) -> Option<String> {
    let shop: ShopView = serde_json::from_value(status.clone()).ok()?;
    if shop.tills.is_empty() {
        return None;
    }
    let head = ["TILL", "NAME", "LINK", "LED", "SALES", "ONLY THERE", "CONFLICTS", "VERSION", "STARTED BY", "HEARD"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(shop.tills.iter().map(|till| till.row(shop.now)));
    let mut text = format!("Store {}\n\n{}", clean(&shop.store_name), columns(&rows));
    for till in &shop.tills {
        let alerts = till.told.iter().flat_map(|told| &told.alerts);
        for (at, alert) in alerts.enumerate() {
            if at == 0 {
                // Writing to a text cannot fail.
                let _ = writeln!(text, "\nAlerts of {}", clean(&till.name));
            }
            let subject = alert.subject.as_deref().map(|subject| format!(" [{subject}]")).unwrap_or_default();
            let _ =
                writeln!(text, "  {}", clean(&format!("{} {}{subject}", alert.severity.to_uppercase(), alert.code)));
        }
    }
    Some(text)
}

impl TillView {
    fn row(&self, now: Option<Timestamp>) -> Vec<String> {
        let link = match (self.here, self.online) {
            (true, _) => "this till",
            (false, true) => "linked",
            (false, false) => "not linked",
        };
        let mut row = vec![self.id.clone(), self.name.clone(), link.to_owned()];
        let number = |value: Option<u64>| value.map_or_else(|| UNKNOWN.to_owned(), |n| n.to_string());
        match &self.told {
            None => row.extend(["unknown", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN].map(str::to_owned)),
            Some(told) => row.extend([
                if told.healthy { told.led.clone() } else { format!("{}, CANNOT STORE SALES", told.led) },
                number(told.counts.as_ref().map(|counts| counts.tickets)),
                number(told.only_here),
                number(told.counts.as_ref().map(|counts| counts.conflicts)),
                told.version.clone(),
                told.boot_reason.clone(),
            ]),
        }
        row.push(self.heard.map_or_else(|| "never".to_owned(), |at| ago(now, at)));
        row
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shop_is_shown_with_what_is_to_be_done() {
        let told = json!({"version": "0.1.0", "bootReason": "powerCut", "led": "connected", "healthy": true, "onlyHere": 2,
            "counts": {"tickets": 12, "conflicts": 1}, "alerts": [{"code": "undervoltage", "severity": "warning", "subject": null}]});
        let status = json!({"storeName": "Café Central", "now": "2026-11-22T09:03:20.000Z", "tills": [
            {"id": "POS-1", "name": "Caisse 1", "here": true, "online": true, "heard": "2026-11-22T09:03:20.000Z", "told": told},
            {"id": "POS-2", "name": "Caisse \u{1b}[2J", "online": false, "heard": null, "told": null}]});
        let expected = "\
Store Café Central

TILL   NAME         LINK        LED        SALES  ONLY THERE  CONFLICTS  VERSION  STARTED BY  HEARD
POS-1  Caisse 1     this till   connected  12     2           1          0.1.0    powerCut    just now
POS-2  Caisse  [2J  not linked  unknown    -      -           -          -        -           never

Alerts of Caisse 1
  WARNING undervoltage
";
        assert_eq!(table(&status).unwrap(), expected);
        assert_eq!(table(&json!({"posId": "POS-1"})), None);
    }
}
