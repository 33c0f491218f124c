//! Quantities that nobody can explain, as they are written down: a person counts the shelf, though the till was restarted meanwhile.

use crate::api::PosplusDiffers;
use crate::model::amount::Quantity;
use crate::model::id::Uuid;

/// Product, sku, name, theirs, ours, when.
type Line = (Uuid, String, String, i64, i64, u64);

pub(super) fn to_note(differs: &[PosplusDiffers]) -> String {
    let line = |seen: &PosplusDiffers| -> Line {
        (seen.product_id, seen.sku.clone(), seen.name.clone(), seen.theirs.0, seen.ours.0, seen.at_ms)
    };
    serde_json::to_string(&differs.iter().map(line).collect::<Vec<_>>()).unwrap_or_default()
}

/// What was written down; nothing where that cannot be read: it is shown again when it differs again.
pub(super) fn from_note(note: &str) -> Vec<PosplusDiffers> {
    let lines: Vec<Line> = serde_json::from_str(note).unwrap_or_default();
    let shown = |(product_id, sku, name, theirs, ours, at_ms)| PosplusDiffers {
        product_id,
        sku,
        name,
        theirs: Quantity(theirs),
        ours: Quantity(ours),
        at_ms,
    };
    lines.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again() {
        let seen = PosplusDiffers {
            product_id: Uuid::from_u128(7),
            sku: "SEL".into(),
            name: "Sel \"fin\"".into(),
            theirs: Quantity::units(40),
            ours: Quantity(38_500),
            at_ms: 1_790_000_000_000,
        };
        assert_eq!(from_note(&to_note(std::slice::from_ref(&seen))), [seen]);
        assert_eq!(from_note("{"), []);
    }
}
