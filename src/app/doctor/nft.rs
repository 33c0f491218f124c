//! What a firewall's rules (`nft -j list ruleset`, libnftables-json(5)) mean for a TCP port. Pure.
//!
//! An estimate on the safe side: closed is said only where packets for the port are dropped by a chain's policy or by its last rule, and no
//! rule of that table that accepts may be about the port; or where a rule drops exactly this port.

use serde_json::Value;

use super::facts::Firewall;

/// What the rules do with new TCP connections to `port` from the network.
pub(super) fn judge(ruleset: &str, port: u16) -> Firewall {
    let Ok(ruleset) = serde_json::from_str::<Value>(ruleset) else { return Firewall::Unknown };
    let Some(items) = ruleset["nftables"].as_array() else { return Firewall::Unknown };
    let rules: Vec<&Value> = items.iter().map(|item| &item["rule"]).filter(|rule| rule.is_object()).collect();
    let chains = items.iter().map(|item| &item["chain"]);
    for chain in chains.filter(|chain| chain["type"] == "filter" && chain["hook"] == "input") {
        let name = || {
            format!(
                "nftables: table {} {}, chain {}",
                text(&chain["family"]),
                text(&chain["table"]),
                text(&chain["name"])
            )
        };
        let of_table = |rule: &&&Value| rule["family"] == chain["family"] && rule["table"] == chain["table"];
        let own: Vec<&&Value> = rules.iter().filter(of_table).filter(|rule| rule["chain"] == chain["name"]).collect();
        let accepted = rules.iter().filter(of_table).any(|rule| verdict(rule) == Some(true) && may_concern(rule, port));
        let refused = own.iter().any(|rule| verdict(rule) == Some(false) && names(rule, port));
        let last_drops = own.iter().any(|rule| verdict(rule) == Some(false) && matches(rule).next().is_none());
        if refused || ((chain["policy"] == "drop" || last_drops) && !accepted) {
            return Firewall::Closed(name());
        }
    }
    Firewall::Open
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn expressions(rule: &Value) -> impl Iterator<Item = &Value> {
    rule["expr"].as_array().into_iter().flatten()
}

fn matches(rule: &Value) -> impl Iterator<Item = &Value> {
    expressions(rule).map(|expression| &expression["match"]).filter(|found| found.is_object())
}

/// Whether a rule accepts (true) or drops and rejects (false); none where it does neither.
fn verdict(rule: &Value) -> Option<bool> {
    expressions(rule).find_map(|expression| {
        let has = |name: &str| expression.get(name).is_some();
        if has("accept") {
            Some(true)
        } else if has("drop") || has("reject") {
            Some(false)
        } else {
            None
        }
    })
}

/// The destination ports that a rule asks for, where it does.
fn ports(rule: &Value) -> Option<&Value> {
    matches(rule).find(|found| found["left"]["payload"]["field"] == "dport").map(|found| &found["right"])
}

fn names(rule: &Value, port: u16) -> bool {
    ports(rule).is_some_and(|right| holds(right, port))
}

/// Whether a rule that accepts may let the port in: it names it, or asks for neither a port, nor loopback, nor what only answers are.
fn may_concern(rule: &Value, port: u16) -> bool {
    if ports(rule).is_some() {
        return names(rule, port);
    }
    let narrow = |found: &Value| {
        let left = &found["left"];
        let key = [&left["meta"]["key"], &left["ct"]["key"], &left["payload"]["protocol"]].map(text);
        match key {
            ["iif" | "iifname", _, _] => text(&found["right"]) == "lo",
            ["l4proto" | "nfproto", _, _] => found["right"] != "tcp" && found["right"] != 6,
            [_, "state", _] => !found["right"].to_string().contains("new"),
            [_, _, "icmp" | "icmpv6" | "udp"] => true,
            _ => text(&left["payload"]["field"]) == "protocol" && found["right"] != "tcp",
        }
    };
    !matches(rule).any(narrow)
}

fn holds(right: &Value, port: u16) -> bool {
    if let Some(set) = right["set"].as_array() {
        return set.iter().any(|member| holds(member, port));
    }
    if let Some([from, to]) = right["range"].as_array().map(Vec::as_slice) {
        return from.as_u64().zip(to.as_u64()).is_some_and(|(from, to)| (from..=to).contains(&u64::from(port)));
    }
    // A named set: what is in it is not looked up.
    right.as_u64() == Some(u64::from(port)) || right.as_str().is_some_and(|name| name.starts_with('@'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chain(policy: &str) -> Value {
        json!({"chain": {"family": "inet", "table": "filter", "name": "input", "type": "filter", "hook": "input", "policy": policy}})
    }

    fn rule(expressions: Value) -> Value {
        json!({"rule": {"family": "inet", "table": "filter", "chain": "input", "expr": expressions}})
    }

    fn dport(right: Value) -> Value {
        json!({"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": right}})
    }

    fn judged(items: &[Value]) -> bool {
        matches!(judge(&json!({ "nftables": items }).to_string(), 3030), Firewall::Closed(_))
    }

    #[test]
    fn a_policy_that_drops_closes_what_no_rule_lets_in() {
        let answers = rule(
            json!([{"match": {"left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}, {"accept": null}]),
        );
        let loopback =
            rule(json!([{"match": {"left": {"meta": {"key": "iifname"}}, "right": "lo"}}, {"accept": null}]));
        let ping = rule(
            json!([{"match": {"left": {"payload": {"protocol": "icmp", "field": "type"}}, "right": "echo-request"}}, {"accept": null}]),
        );
        let ssh = rule(json!([dport(json!(22)), {"accept": null}]));
        let usual = [chain("drop"), answers, loopback, ping, ssh];
        assert!(judged(&usual));
        for right in [json!(3030), json!({"set": [22, 3030]}), json!({"range": [3000, 3100]}), json!("@tills")] {
            let open = [&usual[..], &[rule(json!([dport(right.clone()), {"accept": null}]))]].concat();
            assert!(!judged(&open), "{right}");
        }
        let from_the_network =
            json!({"match": {"left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": "192.168.1.0/24"}});
        let trusting = [&usual[..], &[rule(json!([from_the_network, {"accept": null}]))]].concat();
        assert!(!judged(&trusting), "it may let the port in");
    }

    #[test]
    fn a_rule_that_drops_the_port_closes_it_and_no_rules_leave_it_open() {
        assert!(judged(&[chain("accept"), rule(json!([dport(json!(3030)), {"counter": {}}, {"drop": null}]))]));
        assert!(judged(&[chain("accept"), rule(json!([{"reject": null}]))]));
        assert!(!judged(&[chain("accept"), rule(json!([dport(json!(80)), {"drop": null}]))]));
        assert!(!judged(&[]));
        assert_eq!(judge("Operation not permitted", 3030), Firewall::Unknown);
    }
}
