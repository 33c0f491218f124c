//! What the demo's shop sells.

use hyper::Method;
use serde_json::json;

use crate::app::cli::client::{Agent, AgentError};

const DRINKS: &str = "cb000000-0000-4000-8000-000000000001";
const PASTRIES: &str = "cb000000-0000-4000-8000-000000000002";
const BAKERY: &str = "cb000000-0000-4000-8000-000000000003";

/// Id and name, in the order shown.
const CATEGORIES: &[(&str, &str)] = &[(DRINKS, "Boissons"), (PASTRIES, "Pâtisserie"), (BAKERY, "Boulangerie")];

struct Product {
    sku: &'static str,
    name: &'static str,
    category: &'static str,
    /// In thousandths of a dinar, its smallest unit.
    price: u32,
    stock: u32,
}

const fn product(sku: &'static str, name: &'static str, category: &'static str, price: u32, stock: u32) -> Product {
    Product { sku, name, category, price, stock }
}

/// Ids are numbered in this order.
const PRODUCTS: &[Product] = &[
    product("CAFE", "Café", DRINKS, 1_500, 100),
    product("THE", "Thé à la menthe", DRINKS, 1_200, 100),
    product("JUS-ORANGE", "Jus d'Orange", DRINKS, 4_500, 50),
    product("EAU-50", "Eau minérale 50 cl", DRINKS, 700, 200),
    product("CITRONNADE", "Citronnade", DRINKS, 3_000, 40),
    product("CROISSANT", "Croissant", BAKERY, 1_100, 60),
    product("PAIN-CHOC", "Pain au chocolat", BAKERY, 1_300, 60),
    product("BAGUETTE", "Baguette", BAKERY, 250, 120),
    product("MAKROUDH", "Makroudh", PASTRIES, 800, 80),
    product("BAKLAWA", "Baklawa", PASTRIES, 1_800, 80),
    product("TARTE-CITRON", "Tarte au citron", PASTRIES, 5_500, 12),
];

/// Fills an empty catalogue; leaves one that has products as it is.
pub(super) async fn load(agent: &Agent) -> Result<(), AgentError> {
    if agent.get_json("/v1/status").await?["counts"]["products"].as_u64() != Some(0) {
        return Ok(());
    }
    for (order, (id, name)) in CATEGORIES.iter().enumerate() {
        let category = json!({ "name": name, "displayOrder": order });
        agent.send_json(Method::PUT, &format!("/v1/categories/{id}"), &category).await?;
    }
    for (at, product) in PRODUCTS.iter().enumerate() {
        let path = format!("/v1/products/{}", product_id(at));
        let body = json!({
            "sku": product.sku, "name": product.name, "price": product.price, "categoryId": product.category, "unit": "pièce",
        });
        agent.send_json(Method::PUT, &path, &body).await?;
        let delivery = json!({ "id": delivery_id(at), "type": "in", "quantity": product.stock, "reference": "demo" });
        agent.send_json(Method::POST, &format!("{path}/stock"), &delivery).await?;
    }
    Ok(())
}

/// A sale of two of the first product, as a till application would send it.
pub(super) fn sale(id: &str) -> String {
    let Product { name, price, .. } = &PRODUCTS[0];
    format!(
        r#"{{"id": "{id}", "lines": [{{"productId": "{}", "name": "{name}", "quantity": 2, "unitPrice": {price}}}], "payments": [{{"method": "cash", "amount": {}}}]}}"#,
        product_id(0),
        2 * price
    )
}

fn product_id(at: usize) -> String {
    format!("ca000000-0000-4000-8000-{:012}", at + 1)
}

/// The id of the movement that first stocks a product: sent twice, it counts once.
fn delivery_id(at: usize) -> String {
    format!("cd000000-0000-4000-8000-{:012}", at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sale_is_what_a_till_application_sends() {
        let sale: serde_json::Value = serde_json::from_str(&sale("x")).unwrap();
        assert_eq!((&sale["lines"][0]["unitPrice"], &sale["payments"][0]["amount"]), (&json!(1500), &json!(3000)));
    }

    #[test]
    fn what_is_sold_is_told_apart_and_of_a_category() {
        let skus: std::collections::BTreeSet<_> = PRODUCTS.iter().map(|p| p.sku).collect();
        assert_eq!(skus.len(), PRODUCTS.len());
        assert!(PRODUCTS.iter().all(|p| CATEGORIES.iter().any(|(id, _)| *id == p.category)));
    }
}
