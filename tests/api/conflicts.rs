//! What two tills decided at once: the same on both, shown with both sides, settled by a person, refused never.

use serde_json::{Value, json};

use super::till::{Till, id, sale};

#[test]
fn tills_that_disagree_are_settled_by_a_person() {
    let (till, other) = (Till::start(), Till::second());
    let coffee = id();
    let path = format!("/v1/products/{coffee}");
    till.call("PUT", &path, &json!({ "sku": "CAFE", "name": "Café", "price": 2500 })).json(200);
    till.carry_to(&other);
    till.call("PATCH", &path, &json!({ "price": 2600 })).json(200);
    other.call("PATCH", &path, &json!({ "price": 2700 })).json(200);
    other.carry_to(&till);
    till.carry_to(&other);

    let conflicts = till.get("/v1/conflicts").json(200);
    assert_eq!(conflicts["items"][0]["id"], other.get("/v1/conflicts").json(200)["items"][0]["id"]);
    let conflict = &conflicts["items"][0];
    assert_eq!(
        (&conflict["kind"], &conflict["field"], &conflict["settle"]),
        (&json!("field"), &json!("price"), &json!("choose"))
    );
    assert_eq!((&conflict["entity"], &conflict["entityId"]), (&json!("product"), &json!(coffee)));
    let mut prices: Vec<_> =
        conflict["sides"].as_array().unwrap().iter().map(|s| s["value"].as_i64().unwrap()).collect();
    prices.sort_unstable();
    assert_eq!(prices, [2600, 2700]);

    let resolve = format!("/v1/conflicts/{}/resolve", conflict["id"].as_str().unwrap());
    assert_eq!(till.call("POST", &resolve, &json!({ "value": -1 })).problem(422), ["value"]);
    assert_eq!(till.call("POST", &resolve, &json!({ "value": "2650" })).problem(422), ["value"]);
    till.call("POST", &resolve, &json!({ "value": 2650 })).json(204);
    till.call("POST", &resolve, &json!({ "value": 2650 })).json(204);
    till.carry_to(&other);
    for till in [&till, &other] {
        assert_eq!(till.get(&path).json(200)["price"], 2650);
        assert_eq!(till.get("/v1/conflicts").json(200)["items"], json!([]));
    }
    till.call("POST", "/v1/conflicts/nonsense/resolve", &json!({ "value": 1 })).problem(404);
}

#[test]
fn more_taken_back_than_sold_is_shown_until_a_person_has_seen_it() {
    let (till, other) = (Till::start(), Till::second());
    let ticket = id();
    till.call("POST", "/v1/tickets", &sale(&ticket, None)).json(201);
    till.carry_to(&other);
    for till in [&till, &other] {
        till.call("POST", &format!("/v1/tickets/{ticket}/cancel"), &json!({ "id": id() })).json(201);
    }
    other.carry_to(&till);
    let conflict = till.get("/v1/conflicts").json(200)["items"][0].clone();
    assert_eq!((&conflict["kind"], &conflict["settle"]), (&json!("over-refund"), &json!("seen")));
    let resolve = format!("/v1/conflicts/{}/resolve", conflict["id"].as_str().unwrap());
    till.call("POST", &resolve, &json!({ "value": 1 })).problem(422);
    till.call("POST", &resolve, &Value::Null).json(204);
    assert_eq!(till.get("/v1/conflicts").json(200)["items"], json!([]));
}

/// Two tills that share a product, did something each while apart, and then heard of each other.
struct Apart {
    tills: [Till; 2],
    product: String,
}

impl Apart {
    fn new() -> Self {
        let (tills, product) = ([Till::start(), Till::second()], id());
        let body = json!({ "sku": "CAFE", "name": "Café", "price": 2500 });
        tills[0].call("PUT", &format!("/v1/products/{product}"), &body).json(200);
        tills[0].carry_to(&tills[1]);
        Self { tills, product }
    }

    fn of_product(&self, rest: &str) -> String {
        format!("/v1/products/{}{rest}", self.product)
    }

    /// The one conflict, which both tills show alike: its sides are as many, and the same.
    fn meet(&self) -> Value {
        let [one, other] = &self.tills;
        other.carry_to(one);
        one.carry_to(other);
        let [here, there] = self.tills.each_ref().map(|till| till.get("/v1/conflicts").json(200)["items"].clone());
        assert_eq!(here, there);
        assert_eq!(here.as_array().unwrap().len(), 1, "{here}");
        for till in &self.tills {
            assert_eq!(till.get("/v1/status").json(200)["counts"]["conflicts"], 1);
        }
        here[0].clone()
    }

    /// The conflict is of a kind, is settled in a way, and says the same of both sides.
    fn met(&self, kind: &str, settle: &str, said: impl Fn(&Value) -> Value, sides: &[Value]) -> Value {
        let conflict = self.meet();
        assert_eq!((&conflict["kind"], &conflict["settle"]), (&json!(kind), &json!(settle)), "{conflict}");
        let mut told: Vec<String> =
            conflict["sides"].as_array().unwrap().iter().map(|side| said(&side["value"]).to_string()).collect();
        let mut wanted: Vec<String> = sides.iter().map(Value::to_string).collect();
        told.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(told, wanted, "{conflict}");
        conflict
    }

    fn settle(&self, conflict: &Value, body: &Value) {
        let resolve = format!("/v1/conflicts/{}/resolve", conflict["id"].as_str().unwrap());
        self.tills[1].call("POST", &resolve, body).json(204);
        self.settled();
    }

    fn settled(&self) {
        let [one, other] = &self.tills;
        other.carry_to(one);
        one.carry_to(other);
        for till in &self.tills {
            assert_eq!(till.get("/v1/conflicts").json(200)["items"], json!([]));
        }
    }
}

#[test]
fn a_product_that_one_deletes_and_one_edits() {
    let shop = Apart::new();
    let path = shop.of_product("");
    shop.tills[0].call("DELETE", &path, &Value::Null).json(204);
    shop.tills[1].call("PATCH", &path, &json!({ "price": 2700 })).json(200);
    let conflict = shop.met("field", "choose", Value::clone, &[json!(false), json!(true)]);
    assert_eq!(conflict["field"], "alive");
    // Nobody's edit is lost while nobody has decided.
    assert_eq!(shop.tills[0].get(&path).json(200)["price"], 2700);
    shop.settle(&conflict, &json!({ "value": false }));
    shop.tills.iter().for_each(|till| drop(till.get(&path).problem(404)));
}

#[test]
fn a_code_that_two_products_were_given() {
    for (field, value) in [("sku", "THE"), ("barcode", "6191234567890")] {
        let shop = Apart::new();
        let made = [id(), id()];
        for (till, product) in shop.tills.iter().zip(&made) {
            let mut body = json!({ "sku": format!("SKU-{product}"), "name": "Thé", "price": 900 });
            body[field] = json!(value);
            till.call("PUT", &format!("/v1/products/{product}"), &body).json(200);
        }
        shop.met(field, "edit", Value::clone, &made.clone().map(Value::from));
        shop.tills[0].call("PATCH", &format!("/v1/products/{}", made[0]), &json!({ field: "OTHER" })).json(200);
        shop.settled();
    }
}

#[test]
fn two_counts_at_once() {
    let shop = Apart::new();
    let path = shop.of_product("/stock");
    for (till, counted) in shop.tills.iter().zip([40, 42]) {
        till.call("POST", &path, &json!({ "id": id(), "type": "count", "quantity": counted })).json(201);
    }
    shop.met("counts", "count", |count| count["delta"].clone(), &[json!(40), json!(42)]);
    shop.tills[0].call("POST", &path, &json!({ "id": id(), "type": "count", "quantity": 41 })).json(201);
    shop.settled();
    shop.tills.iter().for_each(|till| assert_eq!(till.get(&shop.of_product("")).json(200)["stock"], 41));
}

#[test]
fn a_cancellation_against_a_refund() {
    let shop = Apart::new();
    let [one, other] = &shop.tills;
    let ticket = id();
    one.call("POST", "/v1/tickets", &sale(&ticket, None)).json(201);
    one.carry_to(other);
    one.call("POST", &format!("/v1/tickets/{ticket}/cancel"), &json!({ "id": id() })).json(201);
    let back = json!({ "id": id(), "lines": [{ "line": 0, "quantity": 1 }] });
    other.call("POST", &format!("/v1/tickets/{ticket}/refunds"), &back).json(201);
    let conflict = shop.meet();
    assert_eq!((&conflict["kind"], &conflict["entityId"]), (&json!("over-refund"), &json!(ticket)), "{conflict}");
    shop.settle(&conflict, &Value::Null);
}

#[test]
fn two_sales_under_one_id() {
    let shop = Apart::new();
    let ticket = id();
    for (till, quantity) in shop.tills.iter().zip([2, 3]) {
        let mut body = sale(&ticket, None);
        body["lines"][0]["quantity"] = json!(quantity);
        till.call("POST", "/v1/tickets", &body).json(201);
    }
    let conflict = shop.met("contents", "seen", |ticket| ticket["lines"][0]["quantity"].clone(), &[json!(2), json!(3)]);
    shop.settle(&conflict, &Value::Null);
}

#[test]
fn more_sold_than_there_is() {
    let shop = Apart::new();
    let stock = shop.of_product("/stock");
    shop.tills[0].call("POST", &stock, &json!({ "id": id(), "type": "in", "quantity": 3 })).json(201);
    shop.tills[0].carry_to(&shop.tills[1]);
    for till in &shop.tills {
        till.call("POST", "/v1/tickets", &sale(&id(), Some(&shop.product))).json(201);
    }
    let conflict = shop.met("negative-stock", "count", Value::clone, &[json!(-1)]);
    assert_eq!((&conflict["entity"], &conflict["entityId"]), (&json!("product"), &json!(shop.product)));
    shop.tills[1].call("POST", &stock, &json!({ "id": id(), "type": "count", "quantity": 0 })).json(201);
    shop.settled();
}

#[test]
fn the_list_is_in_one_order_whoever_heard_of_what_first() {
    let tills = [Till::start(), Till::second()];
    let [one, other] = &tills;
    let (tickets, products) = ([id(), id()], [id(), id()]);
    for (at, till) in tills.iter().enumerate() {
        till.call("POST", "/v1/tickets", &sale(&tickets[at], Some(&products[at]))).json(201);
        let body = json!({ "sku": format!("SKU-{at}"), "name": "Café", "price": 2500 });
        till.call("PUT", &format!("/v1/products/{}", products[at]), &body).json(200);
    }
    other.carry_to(one);
    one.carry_to(other);
    for (at, till) in tills.iter().enumerate() {
        for n in [at, 1 - at] {
            let price = json!({ "price": 2600 + at });
            till.call("PATCH", &format!("/v1/products/{}", products[n]), &price).json(200);
            till.call("POST", &format!("/v1/tickets/{}/cancel", tickets[n]), &json!({ "id": id() })).json(201);
        }
        // More than the cancellations bring back.
        for _ in 0..3 {
            till.call("POST", "/v1/tickets", &sale(&id(), Some(&products[1 - at]))).json(201);
        }
    }
    other.carry_to(one);
    one.carry_to(other);
    let [here, there] = tills.each_ref().map(|till| till.get("/v1/conflicts").json(200)["items"].clone());
    assert_eq!(here, there);
    let of = |kind: &str| here.as_array().unwrap().iter().filter(|conflict| conflict["kind"] == json!(kind)).count();
    assert_eq!((of("field"), of("over-refund"), of("negative-stock")), (2, 2, 2), "{here}");
}
