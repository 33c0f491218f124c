//! Golden texts: one line a message, as POSPlus would send it.

use super::*;

const GOLDEN: &str = include_str!("../../../tests/golden/posplus.jsonl");

fn tnd() -> Decimals {
    Decimals::of_currency("TND")
}

fn golden(kind: &str) -> &'static str {
    let mark = format!("\"type\":\"{kind}\"");
    GOLDEN.lines().find(|line| line.contains(&mark)).expect("a golden line of each type")
}

fn refusal(text: &str) -> String {
    decode(text.as_bytes(), tnd()).unwrap_err().to_string()
}

#[test]
fn golden_texts_are_read_and_written_byte_for_byte() {
    let mut bodies = std::collections::HashSet::new();
    for line in GOLDEN.lines() {
        let message = decode(line.as_bytes(), tnd()).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(message.refused, []);
        let envelope = Envelope { id: &message.id, at_ms: message.at_ms, source: &message.source };
        assert_eq!(encode(&envelope, &message.body, tnd()), line);
        bodies.insert(std::mem::discriminant(&message.body));
    }
    // All but those that are ignored.
    assert_eq!(bodies.len(), 12);
}

#[test]
fn types_that_are_not_known_are_ignored_and_said() {
    for kind in ["user", "payment", "gift-card"] {
        let text = golden("ping").replace("\"ping\"", &format!("\"{kind}\""));
        assert_eq!(decode(text.as_bytes(), tnd()).unwrap().body, Body::Ignored(kind.into()));
    }
}

#[test]
fn each_field_of_each_message_is_missed_where_it_is_of_another_type() {
    for line in GOLDEN.lines() {
        let whole: serde_json::Value = serde_json::from_str(line).unwrap();
        let Some(data) = whole["data"].as_object() else { continue };
        for key in data.keys() {
            // An answer says these for people.
            if ["since", "hasMore", "syncedAt", "sessionId", "initiator", "bidirectional"].contains(&key.as_str()) {
                continue;
            }
            let mut wrong = whole.clone();
            wrong["data"][key] = serde_json::json!({ "no": ["such"] });
            let error = decode(wrong.to_string().as_bytes(), tnd()).unwrap_err();
            assert!(matches!(error, PosError::Field { .. }), "{key}: {error}");
        }
    }
}

#[test]
fn numbers_that_mean_nothing_are_refused_by_name() {
    let stock = golden("stock");
    for wrong in ["-1", "1e300", "null", "\"95\"", "true"] {
        let text = stock.replace("\"quantity\":95.5", &format!("\"quantity\":{wrong}"));
        assert_ne!(text, stock);
        assert!(refusal(&text).starts_with("data.quantity: "), "{wrong}: {}", refusal(&text));
    }
    for wrong in ["1e999", "NaN", "Infinity"] {
        assert!(decode(stock.replace("95.5", wrong).as_bytes(), tnd()).is_err(), "{wrong}");
    }
    let dust = stock.replace("95.5", "95.50000000001");
    let Body::Stock { quantity, .. } = decode(dust.as_bytes(), tnd()).unwrap().body else { panic!() };
    assert_eq!(quantity.0, 95_500);
    let line = golden("ticket").replace("\"quantity\":2,", "\"quantity\":0,");
    assert_eq!(refusal(&line), "data.lines[0].quantity: it must be more than zero");
}

#[test]
fn long_and_deep_texts_are_refused_unparsed() {
    assert_eq!(decode(&vec![b' '; 10 << 20], tnd()), Err(PosError::TooLong(10 << 20)));
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(decode(golden("ping").replace("{}", &deep).as_bytes(), tnd()), Err(PosError::TooDeep));
    let quoted = golden("hello").replace("Caisse", &"[".repeat(30));
    assert!(decode(quoted.as_bytes(), tnd()).is_ok());
    assert!(refusal("nonsense").starts_with("not JSON"));
}

#[test]
fn one_bad_product_does_not_keep_out_the_others() {
    let text = golden("full-sync-response");
    let product = &text[text.find("{\"id\":12").unwrap()..text.find("],\"categories\"").unwrap()];
    let bad = product.replace("\"price\":4.5", "\"price\":-1");
    let text = text.replace(product, &format!("{bad},{product}"));
    let message = decode(text.as_bytes(), tnd()).unwrap();
    assert_eq!(message.refused, [PosError::at("data.products[0].price", "it must not be negative")]);
    let Body::FullResponse { catalogue, .. } = message.body else { panic!() };
    assert_eq!(catalogue.products.len(), 1);
}

#[test]
fn what_sqlite_writes_is_read_too() {
    let text = golden("product").replace("\"isActive\":true", "\"isActive\":1").replace("T10:00:00.000Z", " 10:00:00");
    let Body::Product(Action::Create, product) = decode(text.as_bytes(), tnd()).unwrap().body else { panic!() };
    assert!(product.active);
    assert_eq!(product.created_ms, parse_time("2025-11-23T10:00:00.000Z").unwrap());
}
