//! The local API, as a till application uses it: a real server on a free port, with a real database.
#![allow(clippy::unwrap_used, reason = "the helpers of these tests are tests too: what they unwrap fails them")]

#[path = "api/changes.rs"]
mod changes;
#[path = "api/conflicts.rs"]
mod conflicts;
#[path = "api/refusals.rs"]
mod refusals;
#[path = "api/stuck.rs"]
mod stuck;
#[path = "api/till.rs"]
mod till;
#[path = "api/vendor.rs"]
mod vendor;

use serde_json::{Value, json};
use tracing_subscriber::layer::SubscriberExt as _;

use till::{TOKEN, Till, WAITING, id, sale};

#[test]
fn a_sale_is_answered_once_it_is_stored_and_a_repeated_post_is_the_same_sale() {
    let till = Till::start();
    let (ticket, product) = (id(), id());
    let body = sale(&ticket, Some(&product));
    let made = till.call("POST", "/v1/tickets", &body);
    assert_eq!(made.header("location"), format!("/v1/tickets/{ticket}"));
    let made = made.json(201);
    assert_eq!((&made["id"], &made["posId"], &made["currency"]), (&json!(ticket), &json!("POS-1"), &json!("TND")));
    assert_eq!((&made["total"], &made["due"], &made["status"]), (&json!(10000), &json!(0), &json!("completed")));
    assert!(
        made["number"].as_str().unwrap().starts_with("POS-1-") && made["number"].as_str().unwrap().ends_with("-0001")
    );
    assert_eq!(made["chain"].as_str().unwrap().len(), 64);
    assert_eq!(made["createdAt"].as_str().unwrap().len(), "2026-11-22T09:30:00.000Z".len());

    assert_eq!(till.call("POST", "/v1/tickets", &body).json(200), made);
    let mut other = body.clone();
    other["lines"][0]["quantity"] = json!(3);
    till.call("POST", "/v1/tickets", &other).problem(409);
    assert_eq!(till.get(&format!("/v1/tickets/{ticket}")).json(200), made);
    assert_eq!(till.counts()[0], 1);

    // The product has never been seen here; its stock has moved all the same.
    till.get(&format!("/v1/products/{product}")).problem(404);
    let history = till.get(&format!("/v1/products/{product}/stock")).json(200);
    assert_eq!((&history["items"][0]["delta"], &history["items"][0]["type"]), (&json!(-2), &json!("ticket")));

    let till = till.restart();
    assert_eq!(till.get(&format!("/v1/tickets/{ticket}")).json(200), made, "it survives a restart");
}

#[test]
fn amounts_are_the_agents_and_exact() {
    let till = Till::start();
    let body = json!({
        "id": id(),
        "lines": [
            { "name": "Olives au poids", "quantity": 0.333, "unitPrice": 12345, "discount": 1 },
            { "name": "قهوة", "quantity": 1.5, "unitPrice": 3 },
        ],
        "payments": [],
    });
    let made = till.call("POST", "/v1/tickets", &body).json(201);
    assert_eq!((&made["lines"][0]["total"], &made["lines"][1]["total"]), (&json!(4110), &json!(5)));
    assert_eq!(
        (&made["subtotal"], &made["discount"], &made["total"], &made["due"]),
        (&json!(4116), &json!(1), &json!(4115), &json!(4115))
    );
    assert_eq!(made["lines"][0]["quantity"], json!(0.333));
    let largest = json!({
        "id": id(), "payments": [],
        "lines": [{ "name": "x", "quantity": 1, "unitPrice": 9_007_199_254_740_991_i64 }],
    });
    assert_eq!(till.call("POST", "/v1/tickets", &largest).json(201)["total"], json!(9_007_199_254_740_991_i64));
}

#[test]
fn what_was_sold_is_taken_back_line_by_line_and_then_whole() {
    let till = Till::start();
    let (ticket, product, refund) = (id(), id(), id());
    till.call("POST", "/v1/tickets", &sale(&ticket, Some(&product))).json(201);
    let stock = || till.get(&format!("/v1/products/{product}/stock")).json(200)["items"].as_array().unwrap().len();

    let refunds = format!("/v1/tickets/{ticket}/refunds");
    let one = json!({ "id": refund, "lines": [{ "line": 0, "quantity": 0.5 }], "reason": "cassé" });
    let after = till.call("POST", &refunds, &one).json(201);
    assert_eq!((&after["status"], &after["refunds"][0]["amount"]), (&json!("partially_refunded"), &json!(2500)));
    assert_eq!((&after["lines"][0]["refunded"], &after["refunds"][0]["cancel"]), (&json!(0.5), &json!(false)));
    assert_eq!(till.call("POST", &refunds, &one).json(200), after);
    assert_eq!(stock(), 2);

    let too_much = json!({ "id": id(), "lines": [{ "line": 0, "quantity": 2 }] });
    assert_eq!(till.call("POST", &refunds, &too_much).problem(422), ["lines[0]"]);
    let no_line = json!({ "id": id(), "lines": [{ "line": 7, "quantity": 1 }] });
    assert_eq!(till.call("POST", &refunds, &no_line).problem(422), ["lines[0]"]);
    let other = json!({ "id": refund, "lines": [{ "line": 0, "quantity": 1 }] });
    till.call("POST", &refunds, &other).problem(409);

    let cancel = format!("/v1/tickets/{ticket}/cancel");
    let cancelled = till.call("POST", &cancel, &Value::Null).json(201);
    assert_eq!((&cancelled["status"], &cancelled["refunds"][1]["amount"]), (&json!("cancelled"), &json!(7500)));
    assert_eq!(till.call("POST", &cancel, &Value::Null).json(200), cancelled);
    assert_eq!(stock(), 3);
    let ghost = format!("/v1/tickets/{}/cancel", id());
    till.call("POST", &ghost, &json!({ "reason": "erreur" })).problem(404);
}

#[test]
fn tickets_are_listed_in_parts_and_the_parts_are_the_whole() {
    let till = Till::start();
    let ids: Vec<String> = (0..25).map(|_| id()).collect();
    for ticket in &ids {
        till.call("POST", "/v1/tickets", &sale(ticket, None)).json(201);
    }
    let mut listed = Vec::new();
    let mut after = String::new();
    loop {
        let page = till.get(&format!("/v1/tickets?limit=10{after}")).json(200);
        let items = page["items"].as_array().unwrap();
        listed.extend(items.iter().map(|item| item["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(listed, ids);
    let count = |query: &str| till.get(&format!("/v1/tickets?{query}")).json(200)["items"].as_array().unwrap().len();
    assert_eq!(count("posId=POS-1&from=2020-01-01T00:00:00Z"), 25);
    assert_eq!((count("posId=POS-2"), count("to=2020-01-01T00:00:00Z")), (0, 0));
}

#[test]
fn products_are_written_whole_and_in_part_found_and_deleted() {
    let till = Till::start();
    let (coffee, drinks) = (id(), id());
    let path = format!("/v1/products/{coffee}");
    till.call("PUT", &format!("/v1/categories/{drinks}"), &json!({ "name": "Boissons" })).json(200);
    let whole = json!({
        "sku": "CAFE", "name": "Café", "price": 2500, "barcode": "619123", "cost": 900, "categoryId": drinks, "unit": "tasse",
        "minStock": 1.5, "active": true, "extra": { "couleur": { "b": [1, 2.5], "a": null }, "vide": "" },
    });
    let made = till.call("PUT", &path, &whole).json(200);
    for (field, value) in whole.as_object().unwrap() {
        assert_eq!(&made[field], value, "{field}");
    }
    assert_eq!((&made["id"], &made["stock"], &made["updatedBy"]), (&json!(coffee), &json!(0), &json!("POS-1")));
    assert_eq!(till.call("PUT", &path, &whole).json(200), made, "the same again changes nothing");

    let patched =
        till.call("PATCH", &path, &json!({ "price": 2750, "barcode": null, "extra": { "vide": null, "x": 1 } }));
    let patched = patched.json(200);
    assert_eq!(
        (&patched["price"], &patched["barcode"], &patched["name"]),
        (&json!(2750), &Value::Null, &json!("Café"))
    );
    assert_eq!(patched["extra"], json!({ "couleur": { "b": [1, 2.5], "a": null }, "x": 1 }));
    let cleared = till.call("PATCH", &path, &json!({ "extra": null })).json(200);
    assert_eq!(cleared["extra"], json!({}));
    let thin = till.call("PUT", &path, &json!({ "sku": "CAFE", "name": "Café", "price": 1 })).json(200);
    assert_eq!((&thin["cost"], &thin["minStock"], &thin["active"]), (&Value::Null, &Value::Null, &json!(true)));

    let found = |query: &str| till.get(&format!("/v1/products?{query}")).json(200)["items"].as_array().unwrap().len();
    assert_eq!((found("sku=CAFE"), found("q=cafe"), found("q=th%C3%A9"), found("barcode=619123")), (1, 1, 0, 0));
    till.call("PATCH", &format!("/v1/products/{}", id()), &json!({ "price": 1 })).problem(404);
    till.call("DELETE", &path, &Value::Null).json(204);
    till.call("DELETE", &path, &Value::Null).json(204);
    till.get(&path).problem(404);
    till.call("PATCH", &path, &json!({ "price": 1 })).problem(404);
    assert_eq!(found("sku=CAFE"), 0);
    till.call("PUT", &path, &whole).json(200);
    assert_eq!(found("sku=CAFE"), 1, "a put brings it back");
}

#[test]
fn categories_and_customers() {
    let till = Till::start();
    let (drinks, hot, amel) = (id(), id(), id());
    till.call("PUT", &format!("/v1/categories/{drinks}"), &json!({ "name": "Boissons", "displayOrder": 2 })).json(200);
    let hot_path = format!("/v1/categories/{hot}");
    till.call("PUT", &hot_path, &json!({ "name": "Chaudes", "parentId": drinks, "active": false })).json(200);
    let read = till.get(&hot_path).json(200);
    assert_eq!(
        (&read["parentId"], &read["active"], &read["displayOrder"]),
        (&json!(drinks), &json!(false), &Value::Null)
    );
    assert_eq!(till.call("PATCH", &hot_path, &json!({ "parentId": hot })).problem(422), ["parentId"]);
    assert_eq!(till.get("/v1/categories").json(200)["items"].as_array().unwrap().len(), 2);

    let path = format!("/v1/customers/{amel}");
    let whole =
        json!({ "firstName": "Amel", "lastName": "Ben Salah", "phone": "+216 20 123 456", "notes": "fidèle\nà vie" });
    till.call("PUT", &path, &whole).json(200);
    let read = till.call("PATCH", &path, &json!({ "email": "amel@example.tn", "phone": null })).json(200);
    assert_eq!(
        (&read["email"], &read["phone"], &read["lastName"]),
        (&json!("amel@example.tn"), &Value::Null, &json!("Ben Salah"))
    );
    assert_eq!(till.get("/v1/customers?q=ben%20salah").json(200)["items"][0]["id"], json!(amel));
    till.call("DELETE", &path, &Value::Null).json(204);
    till.get(&path).problem(404);
}

#[test]
fn stock_moves_by_its_types_and_tells_its_history() {
    let till = Till::start();
    let product = id();
    let path = format!("/v1/products/{product}/stock");
    let first = json!({ "id": id(), "type": "in", "quantity": 100, "reference": "BL-7" });
    assert_eq!(till.call("POST", &path, &first).json(201), json!({ "productId": product, "stock": 100 }));
    assert_eq!(till.call("POST", &path, &first).json(200)["stock"], 100, "the same again is the same movement");
    let mut other = first.clone();
    other["quantity"] = json!(50);
    till.call("POST", &path, &other).problem(409);
    for (kind, quantity, stock) in [
        ("out", 5, json!(95)),
        ("sale", 1, json!(94)),
        ("loss", 2, json!(92)),
        ("return", 3, json!(95)),
        ("adjustment", -100, json!(-5)),
        ("count", 40, json!(40)),
    ] {
        let body = json!({ "id": id(), "type": kind, "quantity": quantity });
        assert_eq!(till.call("POST", &path, &body).json(201)["stock"], stock, "{kind}");
    }
    let history = till.get(&path).json(200);
    let deltas: Vec<_> = history["items"].as_array().unwrap().iter().map(|entry| entry["delta"].clone()).collect();
    assert_eq!(deltas, [45, -100, 3, -2, -1, -5, 100].map(Value::from), "the newest first");
    assert_eq!(history["items"][6]["reference"], json!("BL-7"));
    let part = till.get(&format!("{path}?limit=3")).json(200);
    let rest = till.get(&format!("{path}?limit=10&after={}", part["next"].as_str().unwrap())).json(200);
    assert_eq!(rest["items"].as_array().unwrap().len(), 4);
}

/// The bounds of the document are those of one quantity, and a total may go beyond.
#[test]
fn what_is_in_stock_may_be_more_than_one_movement_can_bring() {
    let till = Till::start();
    let product = id();
    let path = format!("/v1/products/{product}/stock");
    let most = 1_000_000_000;
    for stock in [most, 2 * most] {
        let body = json!({ "id": id(), "type": "in", "quantity": most });
        assert_eq!(till.call("POST", &path, &body).json(201)["stock"], stock);
    }
    let document = till.get("/openapi.json").json(200);
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["Stock"]["properties"]["stock"]["$ref"], json!("#/components/schemas/QuantitySum"));
    assert_eq!(schemas["Product"]["properties"]["stock"]["$ref"], json!("#/components/schemas/QuantitySum"));
    assert!(schemas["QuantitySum"]["maximum"].is_null() && schemas["Quantity"]["maximum"] == json!(most));
}

#[test]
fn the_status_is_the_agents_and_the_stores() {
    let till = Till::start();
    till.call("POST", "/v1/tickets", &sale(&id(), None)).json(201);
    let status = till.get("/v1/status").json(200);
    for (field, value) in [
        ("posId", json!("POS-1")),
        ("connectedPeers", json!(1)),
        ("totalPeers", json!(1)),
        ("led", json!("connected")),
        ("storeId", json!("00000000-0000-0000-0000-000000000005")),
        ("startedAt", json!("1970-01-01T00:00:00.000Z")),
        ("onlyHere", json!(1)),
    ] {
        assert_eq!(status[field], value, "{field}");
    }
    assert_eq!((&status["counts"]["tickets"], &status["counts"]["products"]), (&json!(1), &json!(0)));
    assert_eq!(status["store"], json!({ "healthy": true, "fault": null }));
    let peer = &status["peers"][0];
    assert_eq!(
        (&peer["state"], &peer["lastSeen"], &peer["rttMs"]),
        (&json!("connected"), &json!("1970-01-01T00:00:02.000Z"), &json!(0.5))
    );
    assert_eq!(till.get("/v1/alerts").json(200)["items"], status["alerts"]);
    assert_eq!(status["alerts"][0]["messages"]["fr"], "fr");
    assert_eq!(till.get("/healthz").json(200), json!({ "status": "ok" }));
}

#[test]
fn a_till_whose_database_is_gone_says_so() {
    let till = Till::start();
    till.block_on(till.store.clone().close());
    let refused = till.call("POST", "/v1/tickets", &sale(&id(), None));
    refused.problem(503);
    assert!(!refused.header("retry-after").is_empty());
    till.get("/healthz").problem(503);
    let status = till.get("/v1/status").json(200);
    assert_eq!((&status["store"]["healthy"], &status["counts"]), (&json!(false), &Value::Null));
    assert!(status["store"]["fault"].is_string() && status["posId"] == json!("POS-1"), "{status}");
}

#[test]
fn the_agent_is_told_what_to_do() {
    let till = Till::start();
    assert_eq!(till.call("POST", "/v1/p2p/reconnect", &json!({})).json(202), json!({ "peers": 2 }));
    assert_eq!(
        till.call("POST", "/v1/p2p/enabled", &json!({ "enabled": false })).json(200),
        json!({ "enabled": false })
    );
    till.call("POST", "/v1/p2p/sync", &Value::Null).problem(409);
    assert_eq!(till.call("POST", "/v1/p2p/enabled", &json!({ "enabled": "yes" })).problem(422), ["enabled"]);
    till.call("POST", &format!("/v1/roster/{WAITING}/admit"), &Value::Null).json(204);
    till.call("POST", &format!("/v1/roster/{}/admit", "0b".repeat(16)), &Value::Null).problem(404);
    till.call("POST", "/v1/store/scrub", &json!({})).json(202);
    let told = till.told.lock().unwrap().clone();
    let admits = [format!("admit {WAITING}"), format!("admit {}", "0b".repeat(16))];
    assert_eq!(told[..3], ["reconnect", "enabled false", "sync"]);
    assert_eq!(told[3..5], admits);
    assert_eq!(told[5], "scrub");
}

#[test]
fn the_roster_is_shown_and_a_till_retired_from_another() {
    let till = Till::start();
    let roster = till.get("/v1/roster").json(200);
    assert_eq!(roster["pending"][0]["code"], "417-203");
    let gone = "03".repeat(16);
    till.call("POST", &format!("/v1/roster/{gone}/retire"), &Value::Null).json(204);
    let roster = till.get("/v1/roster").json(200);
    let entry = roster["items"].as_array().unwrap().iter().find(|item| item["till"] == json!(gone)).unwrap();
    assert!(entry["retiredAt"].is_string() && entry["own"] == json!(false), "{entry}");
    till.call("POST", &format!("/v1/roster/{}/retire", "01".repeat(16)), &Value::Null).problem(409);
    assert_eq!(till.call("POST", "/v1/roster/xyz/retire", &Value::Null).problem(400), ["till"]);
}

#[test]
fn a_backup_is_a_whole_database_and_leaves_nothing_behind() {
    let till = Till::start();
    for _ in 0..20 {
        till.call("POST", "/v1/tickets", &sale(&id(), None)).json(201);
    }
    let backup = till.call("GET", "/v1/backup", &Value::Null);
    assert_eq!((backup.status, backup.header("content-type")), (200, "application/vnd.sqlite3"));
    assert!(backup.header("content-disposition").contains("tillmesh-POS-1.db"));
    let path = till.folder.path().join("copy.db");
    std::fs::write(&path, &backup.bytes).unwrap();
    let copy = rusqlite::Connection::open(&path).unwrap();
    let count = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM ticket"), 20);
    assert_eq!(copy.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(), "ok");
    let names = std::fs::read_dir(till.folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.contains("backup")));
}

#[test]
fn the_log_is_read_by_level_and_text() {
    let till = Till::start();
    let subscriber = tracing_subscriber::registry().with(till.log.clone());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!(peer = "POS-2", "P2P: connected");
        tracing::warn!(op = 12, "P2P: held");
        tracing::debug!("nothing");
    });
    let lines = |query: &str| till.call("GET", &format!("/v1/log{query}"), &Value::Null).json(200)["items"].clone();
    assert_eq!(lines("").as_array().unwrap().len(), 3);
    assert_eq!(
        (&lines("?level=warn")[0]["message"], &lines("?level=warn")[0]["op"]),
        (&json!("P2P: held"), &json!("12"))
    );
    assert_eq!(lines("?q=pos-2")[0]["peer"], json!("POS-2"));
    assert_eq!(lines("?limit=1")[0]["message"], json!("nothing"));
    till.get("/v1/log").problem(401);
}

#[test]
fn the_page_and_the_document_are_served() {
    let till = Till::start();
    let page = till.get("/");
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(page.header("content-security-policy").contains("connect-src 'self'"));
    assert!(String::from_utf8_lossy(&page.bytes).contains("/v1/status"));
    assert_eq!(till.get("/openapi.json").json(200)["openapi"], "3.1.0");
    assert!(TOKEN.len() > 8 && !String::from_utf8_lossy(&page.bytes).contains(TOKEN));
}
