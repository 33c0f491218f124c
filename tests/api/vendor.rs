//! What the vendor's programs use: metrics, past alerts, the doctor, tokens.

use serde_json::{Value, json};

use crate::till::{READ_TOKEN, TOKEN, Till, id, sale};

fn bearer(till: &Till, method: &str, path: &str, token: &str) -> crate::till::Answer {
    till.send(method, path, &[("authorization", &format!("Bearer {token}"))], None)
}

#[test]
fn metrics_say_what_the_status_says_and_count() {
    let till = Till::start();
    let body = sale(&id(), None);
    till.call("POST", "/v1/tickets", &body).json(201);
    till.call("POST", "/v1/tickets", &body).json(200);
    till.get("/v1/nowhere").problem(404);
    let answer = till.get("/metrics");
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; version=0.0.4"));
    let text = String::from_utf8(answer.bytes).unwrap();
    for line in [
        "tillmesh_sales_acknowledged_total 1",
        "tillmesh_write_duration_seconds_count 2",
        "tillmesh_api_requests_total{class=\"4xx\"} 1",
        "tillmesh_api_requests_total{class=\"5xx\"} 0",
        "tillmesh_store_records{entity=\"ticket\"} 1",
        "tillmesh_store_healthy 1",
        "tillmesh_peers_connected 1",
        "tillmesh_peer_round_trip_seconds{peer=\"POS-2\",till=\"02020202020202020202020202020202\"} 0.0005",
        "tillmesh_alert{code=\"clockUntrusted\",severity=\"warning\",subject=\"\"} 1",
        "tillmesh_mesh_refused_total{reason=\"wrong-key\"} 2",
        "tillmesh_led_state{state=\"connected\"} 1",
        "tillmesh_led_state{state=\"fault\"} 0",
        "tillmesh_start_reason{reason=\"reboot\"} 1",
        "tillmesh_start_reason{reason=\"powerCut\"} 0",
        "tillmesh_integrity_check_timestamp_seconds 4",
        "tillmesh_integrity_damaged_rows 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn past_alerts_come_newest_first() {
    let till = Till::start();
    let items = till.get("/v1/alerts/history").json(200)["items"].clone();
    assert_eq!((&items[0]["code"], &items[0]["clearedAt"]), (&json!("clockUntrusted"), &Value::Null));
    assert_eq!((&items[1]["code"], &items[1]["clearedAt"]), (&json!("fork"), &json!("1970-01-01T00:00:02.000Z")));
}

#[test]
fn the_read_token_reads_and_does_nothing() {
    let till = Till::start();
    for path in ["/v1/log", "/v1/doctor", "/metrics"] {
        assert_eq!(bearer(&till, "GET", path, READ_TOKEN).status, 200, "{path}");
    }
    bearer(&till, "GET", "/v1/backup", READ_TOKEN).problem(403);
    bearer(&till, "POST", "/v1/p2p/reconnect", READ_TOKEN).problem(403);
    bearer(&till, "POST", "/v1/tokens/admin/rotate", READ_TOKEN).problem(403);
    till.get("/v1/doctor").problem(401);
    assert!(till.told.lock().unwrap().is_empty());
}

#[test]
fn a_rotated_token_is_in_its_file_and_the_former_one_opens_nothing() {
    let till = Till::start();
    let made = bearer(&till, "POST", "/v1/tokens/read/rotate", TOKEN).json(200);
    let token = made["token"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(till.folder.path().join("api-token-read")).unwrap().trim(), token);
    bearer(&till, "GET", "/v1/log", READ_TOKEN).problem(401);
    assert_eq!(bearer(&till, "GET", "/v1/log", token).status, 200);
    let admin = bearer(&till, "POST", "/v1/tokens/admin/rotate", TOKEN).json(200);
    bearer(&till, "POST", "/v1/p2p/reconnect", TOKEN).problem(401);
    assert_eq!(bearer(&till, "POST", "/v1/p2p/reconnect", admin["token"].as_str().unwrap()).status, 202);
    bearer(&till, "POST", "/v1/tokens/all/rotate", admin["token"].as_str().unwrap()).problem(400);
}

#[test]
fn one_address_shows_every_till_and_what_it_sold_today() {
    let till = Till::start();
    till.call("POST", "/v1/tickets", &sale(&id(), None)).json(201);
    let status = till.get("/v1/status").json(200);
    let (here, other) = (&status["tills"][0], &status["tills"][1]);
    assert_eq!((&here["id"], &here["here"], &here["told"]["onlyHere"]), (&json!("POS-1"), &json!(true), &json!(1)));
    assert_eq!(
        (&here["told"]["bootReason"], &here["told"]["alerts"][0]["code"]),
        (&json!("reboot"), &json!("clockUntrusted"))
    );
    assert_eq!((&other["id"], &other["here"], &other["told"]["onlyHere"]), (&json!("POS-2"), &json!(false), &json!(5)));
    assert_eq!((&other["online"], &other["heard"]), (&json!(true), &json!("1970-01-01T00:00:02.000Z")));
    assert_eq!((&status["bootReason"], &status["integrity"]["damaged"]), (&json!("reboot"), &json!(0)));
    assert_eq!(status["peers"][0]["bytesReceived"], 200);
    // What POSPlus's own calls answer, under the same names.
    for name in ["serverRunning", "connectedPeers", "totalPeers", "enabled", "posId", "posName"] {
        assert!(status.get(name).is_some(), "{name}");
    }
    for name in ["id", "name", "address", "online", "lastSeen"] {
        assert!(status["peers"][0].get(name).is_some(), "peers: {name}");
    }
    let today = till.get("/v1/sales/today").json(200);
    assert_eq!((&today["tills"][0]["posId"], &today["tills"][0]["tickets"]), (&json!("POS-1"), &json!(1)));
    assert!(today["tills"][0]["total"].as_i64().unwrap() > 0, "{today}");
}

#[test]
fn updates_want_the_token_and_a_box_of_the_image() {
    let till = Till::start();
    till.get("/v1/update").problem(401);
    let state = bearer(&till, "GET", "/v1/update", READ_TOKEN).json(200);
    assert_eq!((&state["possible"], &state["slot"], &state["last"]), (&json!(false), &Value::Null, &Value::Null));
    bearer(&till, "POST", "/v1/update", READ_TOKEN).problem(403);
    let send = |path: &str| {
        let headers = [("authorization", format!("Bearer {TOKEN}"))];
        till.send("POST", path, &headers.each_ref().map(|(name, value)| (*name, value.as_str())), Some("no update"))
    };
    let refused = send("/v1/update");
    refused.problem(409);
    let told = refused.json(409);
    assert!(told["detail"].as_str().is_some_and(|detail| detail.contains("tillmesh image")), "{told}");
    send("/v1/update?restart=perhaps").problem(400);
    send("/v1/update?when=now").problem(400);
}
