//! Things as POSPlus tells them, in our units: what its messages and our records have in common, and how ids are made of its own.
//!
//! Its ids are row numbers of its own database, so each is meant with the till that says it. Ids that follow from what it says
//! (version 5 of RFC 9562) are the same on whichever of our tills hears it.

use sha2::{Digest, Sha256};

use super::amount::{Money, Quantity};
use super::id::{TillId, Uuid};
use super::ticket::PaymentMethod;

/// Under which ids are made of POSPlus's words.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0d_3c1a_52f4_4d0e_9a43_7b1c_0a9e_7711);

/// How the ids of POSPlus's tills begin, as the makers of records: no hash of a key does, but by an accident of 1 in 2^64.
const TILL_MARK: &[u8; 8] = b"POSPlus\0";

/// What a row number of POSPlus's is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Thing {
    /// A product.
    Product,
    /// A category.
    Category,
    /// A customer.
    Customer,
}

impl Thing {
    const fn word(self) -> &'static str {
        match self {
            Self::Product => "product",
            Self::Category => "category",
            Self::Customer => "customer",
        }
    }

    /// The id of the entity that says which of our things a row of a POSPlus till is.
    #[must_use]
    pub fn alias(self, pos_id: &str, row: i64) -> Uuid {
        named(&["alias", pos_id, self.word(), &row.to_string()])
    }

    /// The id of a thing that POSPlus made, by the key that its tills share: sku, name of a category, number of a customer.
    #[must_use]
    pub fn of_key(self, key: &str) -> Uuid {
        named(&["thing", self.word(), key])
    }
}

/// The id of a customer whom a sale names by its row before anything else was said of that row.
#[must_use]
pub fn customer_in(pos_id: &str, row: i64) -> Uuid {
    named(&["customer", pos_id, &row.to_string()])
}

/// The id of the entity that keeps what POSPlus has of a customer and ours has not.
#[must_use]
pub fn details_of(customer: Uuid) -> Uuid {
    named(&["details", &customer.to_string()])
}

/// The id of the entity that says whose a customer number is, where the customer's id does not follow from it.
#[must_use]
pub fn number_of(number: &str) -> Uuid {
    named(&["number", number])
}

/// The id of the entity that says which of our tills speaks to a POSPlus till.
#[must_use]
pub fn speaker_of(pos_id: &str) -> Uuid {
    named(&["speaker", pos_id])
}

/// The id of the movement that a message about stock makes.
#[must_use]
pub fn movement_of(pos_id: &str, message: &str, product: Uuid) -> Uuid {
    named(&["stock", pos_id, message, &product.to_string()])
}

/// Parts are told apart by a character that none of them is taken to hold; one that does makes another id, and no two alike.
fn named(parts: &[&str]) -> Uuid {
    let lengths: String = parts.iter().map(|part| format!("{}:{part}", part.len())).collect();
    Uuid::new_v5(&NAMESPACE, lengths.as_bytes())
}

/// What tells two contents of one thing apart, the same on all of our tills: the first bytes of a SHA-256 over the parts.
fn content_of(parts: &[&str]) -> i64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part.as_bytes());
    }
    let hash = hash.finalize();
    hash.iter().take(8).fold(0, |sum, byte| (sum << 8) | i64::from(*byte))
}

/// The maker of what a POSPlus till has made.
#[must_use]
pub fn till_of(pos_id: &str) -> TillId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(TILL_MARK);
    id[8..].copy_from_slice(&Sha256::digest(pos_id.as_bytes())[..8]);
    TillId(id)
}

/// Whether a record was made by a POSPlus till.
#[must_use]
pub fn is_posplus(till: TillId) -> bool {
    till.0.starts_with(TILL_MARK)
}

/// A sale.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PosTicket {
    /// Its row there.
    pub row: i64,
    /// `T<YYYYMMDD>-<NNNN>`, numbered by each till alone.
    pub number: String,
    /// Who sold: a row there.
    pub user: i64,
    /// To whom: a row there.
    pub customer: Option<i64>,
    /// The cash session: a row there.
    pub session: i64,
    /// Lines before discounts.
    pub subtotal: Money,
    /// Taken off the whole.
    pub discount: Money,
    /// What is owed.
    pub total: Money,
    /// What has become of it.
    pub status: PosStatus,
    /// When it was made, as it was written: a part of its identity.
    pub created: String,
    /// The same in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was changed last, in milliseconds since 1970.
    pub updated_ms: u64,
    /// What was sold.
    pub lines: Vec<PosLine>,
    /// What was paid.
    pub payments: Vec<PosPayment>,
}

impl PosTicket {
    /// The id of the record: the same wherever it is heard, and another for another sale of the same number.
    #[must_use]
    pub fn record_id(&self, pos_id: &str) -> Uuid {
        named(&["ticket", pos_id, &self.row.to_string(), &self.number, &self.created])
    }
}

/// What has become of a sale.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PosStatus {
    /// Not paid yet.
    Pending,
    /// Sold.
    Completed,
    /// Taken back before it counted.
    Cancelled,
    /// Taken back whole.
    Refunded,
    /// Taken back in part.
    PartiallyRefunded,
}

/// A line of a sale.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PosLine {
    /// Its row there.
    pub row: i64,
    /// The product's row there.
    pub product: i64,
    /// Its name at the time.
    pub name: String,
    /// Its sku at the time.
    pub sku: String,
    /// How many; more than zero.
    pub quantity: Quantity,
    /// Price of one; zero or more.
    pub unit_price: Money,
    /// In per cent, thousandths of one; 100,000 at most.
    pub discount_rate: i64,
    /// Taken off.
    pub discount: Money,
    /// What the line comes to.
    pub total: Money,
}

/// A payment of a sale.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PosPayment {
    /// Its row there.
    pub row: i64,
    /// How.
    pub method: PaymentMethod,
    /// How much.
    pub amount: Money,
    /// A slip's number.
    pub reference: Option<String>,
}

/// A product.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct PosProduct {
    /// Its row there.
    pub row: i64,
    /// The key that tills share.
    pub sku: String,
    /// Its barcode.
    pub barcode: Option<String>,
    /// Its name.
    pub name: String,
    /// Words about it.
    pub description: Option<String>,
    /// Its category's row there.
    pub category: i64,
    /// The category's name.
    pub category_name: Option<String>,
    /// Price of one, tax included.
    pub price: Money,
    /// What one costs the shop.
    pub cost: Money,
    /// In per cent, thousandths of one; 100,000 at most.
    pub discount_rate: i64,
    /// What that till has of it.
    pub stock: Quantity,
    /// When to order.
    pub min_stock: Quantity,
    /// How many there is room for.
    pub max_stock: Quantity,
    /// What is counted.
    pub unit: String,
    /// Whether it is sold.
    pub active: bool,
    /// Where its picture is.
    pub image: Option<String>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was changed last there, in milliseconds since 1970.
    pub updated_ms: u64,
}

impl PosProduct {
    /// What tells two contents of it apart: of all that a person edits. Neither stock nor times, and no row: those differ between tills that
    /// have the same. `category` is the name of its category, where that is known.
    #[must_use]
    pub fn content(&self, category: Option<&str>) -> i64 {
        let numbers = [self.price.0, self.cost.0, self.discount_rate, self.min_stock.0, self.max_stock.0];
        let numbers = numbers.map(|n| n.to_string()).join(" ");
        let or_nothing = |text: &'_ Option<String>| text.clone().unwrap_or_default();
        let (barcode, words, image) =
            (or_nothing(&self.barcode), or_nothing(&self.description), or_nothing(&self.image));
        let active = if self.active { "1" } else { "0" };
        content_of(&[
            &self.sku,
            &self.name,
            &barcode,
            &words,
            &image,
            &self.unit,
            &numbers,
            active,
            category.unwrap_or_default(),
        ])
    }
}

/// A category.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PosCategory {
    /// Its row there.
    pub row: i64,
    /// The key that tills share.
    pub name: String,
    /// Words about it.
    pub description: Option<String>,
    /// The row there of the one above it.
    pub parent: Option<i64>,
    /// Its place among others.
    pub display_order: Option<i64>,
    /// Whether it is shown.
    pub active: bool,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was changed last there, in milliseconds since 1970.
    pub updated_ms: u64,
}

impl PosCategory {
    /// What tells two contents of it apart: of all that a person edits and that is kept here. The one above it is a row, which differs between
    /// tills, and is left out.
    #[must_use]
    pub fn content(&self) -> i64 {
        let order = self.display_order.unwrap_or(0).to_string();
        content_of(&[&self.name, &order, if self.active { "1" } else { "0" }])
    }
}

/// A customer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PosCustomer {
    /// Its row there.
    pub row: i64,
    /// The key that tills share.
    pub number: String,
    /// First name.
    pub first_name: String,
    /// Last name.
    pub last_name: String,
    /// The company.
    pub company: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// Telephone number.
    pub phone: Option<String>,
    /// Street.
    pub address: Option<String>,
    /// Town.
    pub city: Option<String>,
    /// Postal code.
    pub postal_code: Option<String>,
    /// Country.
    pub country: Option<String>,
    /// Whether they still buy.
    pub active: bool,
    /// Words about them.
    pub notes: Option<String>,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was changed last there, in milliseconds since 1970.
    pub updated_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_follow_from_the_words_and_from_nothing_else() {
        assert_eq!(Thing::Product.of_key("CAF"), Thing::Product.of_key("CAF"));
        assert_ne!(Thing::Product.of_key("CAF"), Thing::Category.of_key("CAF"));
        assert_ne!(Thing::Product.alias("POS-1", 12), Thing::Product.alias("POS-11", 2));
        assert_ne!(Thing::Product.alias("POS-1", 1), Thing::Product.alias("POS-2", 1));
    }

    #[test]
    fn a_posplus_till_is_told_from_ours() {
        assert!(is_posplus(till_of("POS-002")));
        assert_ne!(till_of("POS-002"), till_of("POS-003"));
        assert!(!is_posplus(TillId::of_public_key(&[7; 32])));
    }
}
