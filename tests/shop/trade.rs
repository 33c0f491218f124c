//! What a shop does all day: sales, refunds, edits, stock; and the comparison of what all tills hold with the books.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::lan::{Name, letters};
use crate::lib::eventually;
use crate::rng::Rng;
use crate::shop::{Shop, Write, product_id, thousandths};

/// What is compared between tills, whole.
const COLLECTIONS: [&str; 4] = ["/v1/tickets", "/v1/products", "/v1/categories", "/v1/customers"];

/// The price at which the rig sells, in minor units.
const PRICE: i64 = 5000;

impl Shop {
    pub(crate) fn put_product(&mut self, name: Name, product: &str, price: i64) -> Result<()> {
        let body = json!({ "sku": product, "name": product, "price": price });
        self.send(name, &Write { method: "PUT", path: product_path(product), body })?;
        self.books.stock.entry(product.to_owned()).or_default();
        Ok(())
    }

    pub(crate) fn edit_product(&mut self, name: Name, product: &str, patch: &Value) -> Result<()> {
        self.send(name, &Write { method: "PATCH", path: product_path(product), body: patch.clone() })?;
        Ok(())
    }

    /// The sale of one product, with the ticket's id of the rig's choosing.
    pub(crate) fn sale(&mut self, product: &str, units: i64) -> Write {
        sale(&mut self.rng, product, units)
    }

    /// Enters a sale into the books, as it was acknowledged.
    pub(crate) fn book_sale(&mut self, product: &str, units: i64, ticket: &Value) -> Result<()> {
        let text =
            |field: &str| ticket[field].as_str().map(str::to_owned).with_context(|| format!("no {field}: {ticket}"));
        self.books.tickets.insert(text("id")?, text("number")?);
        *self.books.stock.entry(product.to_owned()).or_default() -= units * 1000;
        Ok(())
    }

    /// Sells, and returns the ticket's id.
    pub(crate) fn sell(&mut self, name: Name, product: &str, units: i64) -> Result<String> {
        let sale = self.sale(product, units);
        let ticket = self.send(name, &sale)?;
        self.book_sale(product, units, &ticket)?;
        ticket["id"].as_str().map(str::to_owned).context("a ticket without id")
    }

    /// Sells many times, several at a time.
    pub(crate) fn sell_many(&mut self, name: Name, product: &str, units: i64, times: usize) -> Result<()> {
        let sales: Vec<Write> = (0..times).map(|_| self.sale(product, units)).collect();
        for ticket in self.send_all(name, &sales)? {
            self.book_sale(product, units, &ticket)?;
        }
        Ok(())
    }

    pub(crate) fn refund(&mut self, name: Name, ticket: &str, product: &str, units: i64) -> Result<()> {
        let id = self.rng.uuid();
        let body = json!({ "id": id, "lines": [{ "line": 0, "quantity": units }], "reason": "retour" });
        self.send(name, &Write { method: "POST", path: format!("/v1/tickets/{ticket}/refunds"), body })?;
        *self.books.stock.entry(product.to_owned()).or_default() += units * 1000;
        Ok(())
    }

    /// A movement of stock that is none of a sale: `in` or `out`.
    pub(crate) fn move_stock(&mut self, name: Name, product: &str, kind: &str, units: i64) -> Result<()> {
        let write = movement(&mut self.rng, product, kind, units);
        self.send(name, &write)?;
        let sign = if kind == "in" { 1000 } else { -1000 };
        *self.books.stock.entry(product.to_owned()).or_default() += sign * units;
        Ok(())
    }

    pub(crate) fn put_customer(&mut self, name: Name, first: &str, last: &str) -> Result<Uuid> {
        let id = self.rng.uuid();
        let body = json!({ "firstName": first, "lastName": last });
        self.send(name, &Write { method: "PUT", path: format!("/v1/customers/{id}"), body })?;
        Ok(id)
    }

    /// A busy hour at these tills: so many things, each at a till and of a kind that the seed chooses.
    pub(crate) fn trade(&mut self, names: &[Name], things: usize) -> Result<()> {
        let products: Vec<String> = self.books.stock.keys().cloned().collect();
        ensure!(!products.is_empty(), "a shop without products cannot trade");
        // What has not arrived at a till cannot be edited there.
        eventually(Duration::from_secs(10), &format!("{} know what is to be traded", letters(names)), || {
            for (name, product) in names.iter().flat_map(|name| products.iter().map(move |product| (*name, product))) {
                let answer = self.call(name, "GET", &product_path(product), None)?;
                ensure!(answer.status == 200, "{name} has no {product}: {}", answer.status);
            }
            Ok(())
        })?;
        let mut sold: Vec<(String, String)> = Vec::new();
        for n in 0..things {
            let name = *self.rng.pick(names);
            let product = self.rng.pick(&products).clone();
            let units = 1 + i64::try_from(self.rng.below(5))?;
            match self.rng.below(10) {
                0..=4 => sold.push((self.sell(name, &product, units)?, product)),
                5 => self.edit_product(name, &product, &json!({ "price": 100 * units }))?,
                6 => {
                    self.edit_product(name, &product, &json!({ "name": format!("{product} {n}"), "minStock": units }))?
                }
                7 => self.move_stock(name, &product, "in", 10 * units)?,
                8 => self.put_customer(name, "Client", &format!("{n}")).map(drop)?,
                _ => {
                    // The refund is made where the ticket may not have arrived yet; then there is nothing to refund.
                    if let Some((ticket, product)) = sold.pop()
                        && self.call(name, "GET", &format!("/v1/tickets/{ticket}"), None)?.status == 200
                    {
                        self.refund(name, &ticket, &product, 1)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Waits until these tills hold the same, all of it, and it is what the books say.
    pub(crate) fn agree(&self, names: &[Name], deadline: Duration) -> Result<Duration> {
        let tickets = self.books.tickets.len() as u64;
        eventually(deadline, &format!("{} agree with each other and with the books", letters(names)), || {
            for name in names {
                // Counts are cheap to ask; all is compared when they are right.
                let count = self.status(*name)?["counts"]["tickets"].as_u64();
                ensure!(count == Some(tickets), "{name} counts {count:?} tickets, of {tickets} acknowledged");
            }
            let copies = self.copies(names)?;
            self.compare_with_books(names[0], &copies[0])?;
            let mut others = names.iter().zip(&copies).skip(1);
            others.try_for_each(|(name, copy)| compare(names[0], &copies[0], *name, copy))
        })
    }

    /// What each of these holds, asked all at once.
    fn copies(&self, names: &[Name]) -> Result<Vec<Copy>> {
        thread::scope(|scope| {
            let threads: Vec<_> = names.iter().map(|name| scope.spawn(|| self.copy(*name))).collect();
            let results = threads.into_iter().map(|thread| thread.join());
            results.map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        })
    }

    /// Everything that a till holds, by collection and id.
    fn copy(&self, name: Name) -> Result<Copy> {
        let mut all = BTreeMap::new();
        for path in COLLECTIONS {
            for item in self.list(name, path)? {
                let id = item["id"].as_str().with_context(|| format!("{path}: no id: {item}"))?.to_owned();
                if let Some(first) = all.insert((path, id), item.clone()) {
                    bail!("{name} lists twice in {path}: {first} and {item}");
                }
            }
        }
        Ok(all)
    }

    fn compare_with_books(&self, name: Name, copy: &Copy) -> Result<()> {
        let mut numbers = BTreeMap::new();
        for (id, number) in &self.books.tickets {
            let ticket =
                copy.get(&("/v1/tickets", id.clone())).with_context(|| format!("{name} has lost ticket {number}"))?;
            ensure!(ticket["number"] == json!(number), "{name} renumbered {number}: {ticket}");
            if let Some(other) = numbers.insert(number, id)
                && !self.books.has_twins
            {
                bail!("{name} has two tickets {number}: {id} and {other}");
            }
        }
        let tickets = copy.keys().filter(|(path, _)| *path == "/v1/tickets").count();
        ensure!(
            tickets == self.books.tickets.len(),
            "{name} holds {tickets} tickets, of {} sold",
            self.books.tickets.len()
        );
        for (product, booked) in &self.books.stock {
            let Some(item) = copy.get(&("/v1/products", product_id(product).to_string())) else { continue };
            let stock = thousandths(&item["stock"])?;
            ensure!(stock == *booked, "{name} has {stock} thousandths of {product}, the books say {booked}");
        }
        Ok(())
    }
}

type Copy = BTreeMap<(&'static str, String), Value>;

fn compare(left: Name, a: &Copy, right: Name, b: &Copy) -> Result<()> {
    for (key, item) in a {
        match b.get(key) {
            None => bail!("{right} lacks {} {}, which {left} has: {item}", key.0, key.1),
            Some(other) => ensure!(item == other, "{} {} differs:\n  {left}: {item}\n  {right}: {other}", key.0, key.1),
        }
    }
    match b.iter().find(|(key, _)| !a.contains_key(*key)) {
        None => Ok(()),
        Some((key, item)) => bail!("{left} lacks {} {}, which {right} has: {item}", key.0, key.1),
    }
}

/// The sale of one product.
pub(crate) fn sale(rng: &mut Rng, product: &str, units: i64) -> Write {
    let body = json!({
        "id": rng.uuid(),
        "cashier": "Amel",
        "lines": [{ "productId": product_id(product), "sku": product, "name": product, "quantity": units, "unitPrice": PRICE }],
        "payments": [{ "method": "cash", "amount": units * PRICE }],
    });
    Write { method: "POST", path: "/v1/tickets".to_owned(), body }
}

/// A movement of stock that is none of a sale.
pub(crate) fn movement(rng: &mut Rng, product: &str, kind: &str, units: i64) -> Write {
    let body = json!({ "id": rng.uuid(), "type": kind, "quantity": units, "reference": "livraison" });
    Write { method: "POST", path: format!("{}/stock", product_path(product)), body }
}

pub(crate) fn product_path(product: &str) -> String {
    format!("/v1/products/{}", product_id(product))
}
