//! The sales that the benchmark makes: tickets of five lines, about 700 bytes of JSON.

use uuid::Uuid;

/// Products that the shop sells.
const PRODUCTS: u128 = 200;

/// The id of the first of them: a UUID v7, as all.
const FIRST_PRODUCT: u128 = 0x0190_0000_0000_7000_8000_0000_0000_0000;

const LINES: usize = 5;

/// Makes sales, each another.
pub(crate) struct Sales {
    seed: u64,
}

impl Sales {
    /// Of two seeds the sales differ in what is sold.
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// An id and the body of its `POST /v1/tickets`.
    pub(crate) fn next(&mut self) -> (Uuid, String) {
        let id = Uuid::now_v7();
        let mut body = format!(r#"{{"id":"{id}","cashier":"Leila B.","lines":["#);
        let mut total = 0;
        for line in 0..LINES {
            let pick = self.pick();
            let (price, quantity) = (500 + 50 * (pick % 190), 1 + pick / 7 % 3);
            total += price * quantity;
            let product = Uuid::from_u128(FIRST_PRODUCT + u128::from(pick) % PRODUCTS);
            let comma = if line == 0 { "" } else { "," };
            body += &format!(
                r#"{comma}{{"productId":"{product}","name":"Article {:03}","quantity":{quantity},"unitPrice":{price}}}"#,
                u128::from(pick) % PRODUCTS,
            );
        }
        body += &format!(r#"],"payments":[{{"method":"cash","amount":{total}}}]}}"#);
        (id, body)
    }

    /// A number that looks random (splitmix64).
    fn pick(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ self.seed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
    }
}
