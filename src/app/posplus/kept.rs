//! What a till that only listens has heard lately, for when it takes over. Pure.
//!
//! Only what no list says is kept: sales, customers, and what was taken away. A product's quantity is never: when it is gone through again it
//! is old, sales that were made since are here already, and it would be counted as a movement against them. The list, which who takes over asks
//! for first, says how many there are.

use std::collections::VecDeque;

use crate::wire::posplus::{Action, Body, PosMessage};

/// How long it is kept: longer than it takes to see that the speaker is gone.
const KEEP_MS: u64 = 15_000;
/// At most so many; the oldest goes first.
const KEEP_MAX: usize = 300;

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Kept {
    messages: VecDeque<(u64, PosMessage)>,
}

impl Kept {
    /// Keeps a message, where it is of those that are kept.
    pub(super) fn hear(&mut self, now: u64, message: PosMessage) {
        match &message.body {
            Body::Ticket(_) | Body::Customer(..) | Body::Product(Action::Delete, _) => {}
            Body::Product(_, there) => {
                // It is back: that it was away once is of no matter any more.
                let is_gone = |body: &Body| matches!(body, Body::Product(_, gone) if gone.sku == there.sku);
                self.messages.retain(|(_, message)| !is_gone(&message.body));
                return;
            }
            _ => return,
        }
        if self.messages.len() >= KEEP_MAX {
            self.messages.pop_front();
        }
        self.messages.push_back((now, message));
    }

    /// Forgets what is too old.
    pub(super) fn tidy(&mut self, now: u64) {
        self.messages.retain(|(at, _)| now.saturating_sub(*at) < KEEP_MS);
    }

    /// What was heard, with when.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, PosMessage)> {
        self.messages.iter()
    }

    /// All that is kept, in the order in which it was heard; nothing is kept any more.
    pub(super) fn take(&mut self) -> impl Iterator<Item = PosMessage> + use<> {
        std::mem::take(&mut self.messages).into_iter().map(|(_, message)| message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::posplus::{Catalogue, Decimals, decode};

    fn heard(text: &str) -> PosMessage {
        decode(text.as_bytes(), Decimals::of_currency("TND")).unwrap()
    }

    fn product(action: &str, sku: &str) -> PosMessage {
        heard(&format!(
            r#"{{"id":"1","type":"product","action":"{action}","timestamp":"2026-11-23T04:55:28.000Z","sourcePos":"POS-Q1","data":{{"id":500,
            "sku":"{sku}","name":"Café","categoryId":1,"price":5.2,"cost":0,"discountRate":0,"stock":81,"minStock":0,"maxStock":0,
            "unit":"pièce","isActive":true,"createdAt":"2026-11-23 04:55:20","updatedAt":"2026-11-23 04:55:28"}}}}"#
        ))
    }

    /// The skus of the products that are kept: all that these tests tell of.
    fn products(kept: &mut Kept) -> Vec<String> {
        let products = kept.take().map(|message| match message.body {
            Body::Product(_, product) => product.sku,
            other => panic!("{other:?}"),
        });
        products.collect()
    }

    /// Seen in a shop: a price that was changed eleven seconds before the take-over said 81; twenty-seven were sold since, and came back.
    #[test]
    fn an_old_quantity_is_not_kept_and_neither_is_a_list() {
        let mut kept = Kept::default();
        let list = Body::FullResponse { catalogue: Catalogue::default(), synced_ms: 0 };
        for message in [
            product("update", "CAF"),
            product("create", "JUS"),
            PosMessage { body: list, ..product("update", "CAF") },
            heard(
                r#"{"id":"2","type":"stock","action":"update","timestamp":"2026-11-23T04:55:28.000Z","sourcePos":"POS-Q1","data":{"productId":500,"quantity":81}}"#,
            ),
        ] {
            kept.hear(0, message);
        }
        assert!(products(&mut kept).is_empty());
    }

    #[test]
    fn what_was_taken_away_is_kept_until_it_is_back() {
        let mut kept = Kept::default();
        kept.hear(0, product("delete", "CAF"));
        kept.hear(1, product("delete", "JUS"));
        kept.hear(2, product("create", "CAF"));
        assert_eq!(products(&mut kept), ["JUS"]);
    }

    #[test]
    fn what_is_kept_is_bounded_in_time_and_number() {
        let mut kept = Kept::default();
        for now in 0..1_000 {
            kept.hear(now, product("delete", &now.to_string()));
        }
        assert_eq!(kept.iter().count(), KEEP_MAX);
        kept.tidy(999 + KEEP_MS - 1);
        assert_eq!(kept.iter().count(), 1);
        kept.tidy(999 + KEEP_MS);
        assert!(products(&mut kept).is_empty());
    }
}
