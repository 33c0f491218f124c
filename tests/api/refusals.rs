//! What is refused: bad input, and who may not. Nothing of it is stored.

use serde_json::{Value, json};

use super::till::{TOKEN, Till, id, sale};

/// A ticket's body as text, with one of its lines replaced.
fn with_line(line: &str) -> String {
    format!(r#"{{"id": "{}", "lines": [{line}], "payments": []}}"#, id())
}

#[test]
fn bad_tickets_are_refused_with_the_path_of_what_is_wrong() {
    let till = Till::start();
    let before = till.counts();
    let line = |quantity: &str| with_line(&format!(r#"{{"name": "x", "quantity": {quantity}, "unitPrice": 1}}"#));
    let syntax: &[&str] = &["NaN", "1e400", "-1e400", "Infinity", "01", "1.", "'1'", ""];
    for quantity in syntax {
        let answer = till.send("POST", "/v1/tickets", &authorized(), Some(&line(quantity)));
        answer.problem(400);
        assert!(String::from_utf8_lossy(&answer.bytes).contains("line 1 column"), "{quantity}");
    }
    for quantity in ["\"2\"", "null", "true", "[2]", "{}", "1e300", "2.0005", "0", "-1", "1000000000.001"] {
        let answer = till.send("POST", "/v1/tickets", &authorized(), Some(&line(quantity)));
        assert_eq!(answer.problem(422), ["lines[0].quantity"], "{quantity}");
    }
    for (body, path) in [
        (with_line(r#"{"name": "x", "quantity": 1, "unitPrice": 4.5}"#), "lines[0].unitPrice"),
        (with_line(r#"{"name": "x", "quantity": 1, "unitPrice": 9007199254740992}"#), "lines[0].unitPrice"),
        (with_line(r#"{"name": "x", "quantity": 2, "unitPrice": 9007199254740991}"#), "lines[0].unitPrice"),
        (with_line(r#"{"name": "x", "quantity": 1, "unitPrice": -1}"#), "lines[0].unitPrice"),
        (with_line(r#"{"name": "x", "quantity": 1, "unitPrice": 1, "discount": 2}"#), "lines[0].discount"),
        (with_line(r#"{"name": "x", "quantity": 1, "unitPrice": 1, "discout": 0}"#), "lines[0].discout"),
        (with_line(r#"{"name": "x", "name": "y", "quantity": 1, "unitPrice": 1}"#), "lines[0]"),
        (with_line(r#"{"name": "", "quantity": 1, "unitPrice": 1}"#), "lines[0].name"),
        (with_line(r#"{"name": "x\u0000", "quantity": 1, "unitPrice": 1}"#), "lines[0].name"),
        (with_line(r#"{"productId": "7", "name": "x", "quantity": 1, "unitPrice": 1}"#), "lines[0].productId"),
        (with_line(r#"["x", 1, 1]"#), "lines[0]"),
        (with_line(""), "lines"),
        ("[]".to_owned(), ""),
        ("{}".to_owned(), ""),
        (r#"{"id": 7, "lines": [], "payments": []}"#.to_owned(), "id"),
        (json!({ "id": id(), "lines": {}, "payments": [] }).to_string(), "lines"),
        (sale(&uuid::Uuid::nil().to_string(), None).to_string(), "id"),
    ] {
        let paths = till.send("POST", "/v1/tickets", &authorized(), Some(&body)).problem(422);
        assert!(paths.iter().any(|p| p == path), "{body}: {paths:?}");
    }
    assert_eq!(till.counts(), before);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let till = Till::start();
    let mut body = sale(&id(), None);
    body["notes"] = json!("n".repeat(2001));
    body["lines"][0]["quantity"] = json!(0);
    body["lines"][0]["name"] = json!(" ");
    body["payments"][0]["reference"] = json!("r".repeat(101));
    let paths = till.call("POST", "/v1/tickets", &body).problem(422);
    for path in ["notes", "lines[0].quantity", "lines[0].name", "payments[0].reference"] {
        assert!(paths.iter().any(|p| p == path), "{path}: {paths:?}");
    }
    let empty = till.call("PUT", &format!("/v1/products/{}", id()), &json!({})).problem(422);
    assert_eq!(empty, ["sku", "name", "price"]);
}

#[test]
fn what_is_too_much_is_refused_before_it_takes_up_memory() {
    let till = Till::start();
    let before = till.counts();
    let mut long = sale(&id(), None);
    long["notes"] = json!("x".repeat(10_000_000));
    till.call("POST", "/v1/tickets", &long).problem(413);
    let line = json!({ "name": "x", "quantity": 1, "unitPrice": 1 });
    let many = json!({ "id": id(), "lines": vec![line.clone(); 100_000], "payments": [] });
    till.call("POST", "/v1/tickets", &many).problem(413);
    let over = json!({ "id": id(), "lines": vec![line.clone(); 1001], "payments": [] });
    assert_eq!(till.call("POST", "/v1/tickets", &over).problem(422), ["lines"]);
    let wide = json!({ "name": "é".repeat(200), "quantity": 1, "unitPrice": 1 });
    let heavy = json!({ "id": id(), "lines": vec![wide; 1000], "payments": [] });
    till.call("POST", "/v1/tickets", &heavy).problem(422);
    let deep = format!(
        r#"{{"sku": "s", "name": "n", "price": 1, "extra": {{"a": {}1{}}}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    till.send("PUT", &format!("/v1/products/{}", id()), &authorized(), Some(&deep)).problem(400);
    // Without a length, in chunks: cut off at the limit.
    let mut chunked = b"POST /v1/tickets HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n".to_vec();
    chunked.extend(
        format!("authorization: Bearer {TOKEN}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n").bytes(),
    );
    for _ in 0..17 {
        chunked.extend(b"10000\r\n");
        chunked.extend([b' '; 0x10000]);
        chunked.extend(b"\r\n");
    }
    chunked.extend(b"0\r\n\r\n");
    assert!(till.raw(&chunked).starts_with("HTTP/1.1 413 "));
    assert_eq!(till.counts(), before);
    let full = json!({ "id": id(), "lines": vec![line; 1000], "payments": [] });
    till.call("POST", "/v1/tickets", &full).json(201);
}

#[test]
fn bad_entities_are_refused() {
    let till = Till::start();
    let before = till.counts();
    let path = format!("/v1/products/{}", id());
    for (body, wrong) in [
        (r#"{"sku": "a", "sku": "b", "name": "n", "price": 1}"#, ""),
        (r#"{"sku": "a", "name": "n", "price": 1, "extra": {"x": 1, "x": 2}}"#, "extra"),
        (r#"{"sku": "a", "name": "n", "price": 1, "stock": 5}"#, "stock"),
        (r#"{"sku": "a", "name": "n", "price": "1"}"#, "price"),
        (r#"{"sku": "a", "name": null, "price": 1}"#, "name"),
        (r#"{"sku": "a", "name": "n", "price": -1}"#, "price"),
        (r#"{"sku": "a", "name": "n", "price": 1, "barcode": ""}"#, "barcode"),
        (r#"{"sku": "a", "name": "n", "price": 1, "minStock": -1}"#, "minStock"),
        (r#"{"sku": "a", "name": "n", "price": 1, "categoryId": "none"}"#, "categoryId"),
        (r#"{"sku": "a", "name": "n", "price": 1, "active": 1}"#, "active"),
        (r#"{"sku": "a", "name": "n", "price": 1, "extra": []}"#, "extra"),
        (r#"{"sku": "a", "name": "n", "price": 1, "extra": {"": 1}}"#, "extra."),
    ] {
        let paths = till.send("PUT", &path, &authorized(), Some(body)).problem(422);
        assert!(paths.iter().any(|p| p == wrong), "{body}: {paths:?}");
    }
    let stock = format!("{path}/stock");
    for (body, wrong) in [
        (json!({ "id": id(), "type": "steal", "quantity": 1 }), "type"),
        (json!({ "id": id(), "type": "in", "quantity": -1 }), "quantity"),
        (json!({ "id": id(), "type": "count", "quantity": -1 }), "quantity"),
        (json!({ "id": id(), "type": "in", "quantity": 1, "reference": "x".repeat(101) }), "reference"),
    ] {
        assert_eq!(till.call("POST", &stock, &body).problem(422), [wrong]);
    }
    assert_eq!(till.counts(), before);
}

#[test]
fn bad_addresses_methods_and_types_are_problems() {
    let till = Till::start();
    till.get("/v1/nothing").problem(404);
    assert_eq!(till.get("/v1/tickets/7").problem(400), ["id"]);
    till.get(&format!("/v1/tickets/{}", id())).problem(404);
    for query in ["limit=0", "limit=501", "limit=x", "after=x", "from=yesterday", "unknown=1", "limit=1&limit=2"] {
        till.get(&format!("/v1/tickets?{query}")).problem(400);
    }
    till.get("/v1/changes?after=nonsense").problem(400);
    till.get("/v1/tickets?after=0000000000000001.5").problem(410);
    let wrong = till.call("DELETE", "/v1/tickets", &Value::Null);
    wrong.problem(405);
    assert!(wrong.header("allow").contains("POST"), "{:?}", wrong.headers);
    let token = format!("Bearer {TOKEN}");
    let form = [("authorization", token.as_str()), ("content-type", "text/plain")];
    till.send("POST", "/v1/tickets", &form, Some(&sale(&id(), None).to_string())).problem(415);
    let charset = [("authorization", token.as_str()), ("content-type", "application/json; charset=utf-8")];
    till.send("POST", "/v1/tickets", &charset, Some(&sale(&id(), None).to_string())).json(201);
    let latin = [("authorization", token.as_str()), ("content-type", "application/json")];
    till.send("POST", "/v1/tickets", &latin, Some("")).problem(400);
}

#[test]
fn without_the_token_nothing_is_written_and_nothing_secret_read() {
    let till = Till::start();
    let before = till.counts();
    let body = sale(&id(), None).to_string();
    for headers in [
        vec![],
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", "Bearer ")],
        vec![("authorization", TOKEN)],
        vec![("authorization", "Basic dGlsbDp0aWxs")],
    ] {
        let answer = till.send("POST", "/v1/tickets", &headers, Some(&body));
        answer.problem(401);
        assert!(answer.header("www-authenticate").starts_with("Bearer"));
    }
    till.get("/v1/backup").problem(401);
    till.get("/v1/log").problem(401);
    till.send("POST", "/v1/p2p/enabled", &[], Some(r#"{"enabled": false}"#)).problem(401);
    let product = format!("/v1/products/{}", id());
    till.send("DELETE", &product, &[], None).problem(401);
    till.get("/v1/tickets").json(200);
    assert_eq!((till.counts(), till.told.lock().unwrap().len()), (before, 0));
}

#[test]
fn other_sites_get_nowhere() {
    let till = Till::start();
    let before = till.counts();
    let port = till.address.port();
    let ask = |head: &str| {
        let request = format!("GET /v1/status HTTP/1.1\r\n{head}connection: close\r\n\r\n");
        till.raw(request.as_bytes()).split(' ').nth(1).unwrap().to_owned()
    };
    for ours in
        [format!("127.0.0.1:{port}"), format!("localhost:{port}"), "[::1]".to_owned(), "localhost:8080".to_owned()]
    {
        assert_eq!(ask(&format!("host: {ours}\r\n")), "200", "{ours}");
    }
    for foreign in ["evil.example", "till.local", "192.168.1.5", "127.0.0.1.nip.io", "user@localhost"] {
        assert_eq!(ask(&format!("host: {foreign}:{port}\r\n")), "403", "{foreign}");
    }
    assert_eq!(ask(""), "400", "no host");
    assert_eq!(ask("host: localhost\r\nhost: evil.example\r\n"), "400", "two hosts");
    for (origin, status) in [
        (format!("http://localhost:{port}"), "200"),
        ("http://evil.example".to_owned(), "403"),
        (format!("https://localhost:{port}"), "403"),
        ("null".to_owned(), "403"),
    ] {
        assert_eq!(ask(&format!("host: localhost:{port}\r\norigin: {origin}\r\n")), status, "{origin}");
    }
    // With the token, as a page that got hold of it would: the site is checked first.
    let body = sale(&id(), None).to_string();
    let post = format!(
        "POST /v1/tickets HTTP/1.1\r\nhost: localhost:{port}\r\norigin: http://evil.example\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    assert!(till.raw(post.as_bytes()).starts_with("HTTP/1.1 403 "));
    assert_eq!(till.counts(), before);
    let answer = till.get("/v1/status");
    assert_eq!((answer.header("cache-control"), answer.header("x-content-type-options")), ("no-store", "nosniff"));
    assert!(answer.header("content-security-policy").contains("default-src 'none'"));
    assert!(answer.headers.get("access-control-allow-origin").is_none());
}

fn authorized() -> [(&'static str, &'static str); 1] {
    // The token of `TOKEN`, spelt out: header values of this helper live as long as the program.
    [("authorization", "bearer the-token-of-the-test")]
}
