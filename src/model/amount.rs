//! Money and quantities: exact integers. JSON numbers become them without passing through a float's rounding unseen.

use std::fmt;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// The largest magnitude of an amount of money, in minor units: what a JSON number holds exactly in every client (2^53 - 1).
pub const MONEY_MAX: i64 = (1 << 53) - 1;

/// The largest magnitude of a quantity, in thousandths (a thousand million units).
pub const QUANTITY_MAX: i64 = 1_000_000_000_000;

/// Money in minor units of the store's currency: TND 4.500 is 4500.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Money(pub i64);

/// A quantity in thousandths of a unit. In JSON a number with at most three decimals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Quantity(pub i64);

impl Quantity {
    /// So many whole units.
    #[must_use]
    pub const fn units(n: i64) -> Self {
        Self(n * 1000)
    }

    /// From a JSON number.
    ///
    /// # Errors
    /// Says what is allowed, where the number is not finite, has more than three decimals or is over [`QUANTITY_MAX`].
    pub fn from_f64(number: f64) -> Result<Self, &'static str> {
        let scaled = number * 1000.0;
        if !scaled.is_finite() || scaled.abs() > QUANTITY_MAX as f64 {
            return Err("a quantity is at most 1000000000");
        }
        // The shortest text that reads back as this float is what the client wrote, up to about 15 digits.
        let text = number.to_string();
        if text.split_once('.').is_some_and(|(_, decimals)| decimals.len() > 3) {
            return Err("a quantity has at most three decimals");
        }
        Ok(Self(scaled.round() as i64))
    }
}

impl std::ops::Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, (self.0 % 1000).abs());
        let sign = if self.0 < 0 && whole == 0 { "-" } else { "" };
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{sign}{whole}.{}", format!("{rest:03}").trim_end_matches('0'))
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() || self.0 % 1000 == 0 {
            let number = if serializer.is_human_readable() { self.0 / 1000 } else { self.0 };
            return serializer.serialize_i64(number);
        }
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return i64::deserialize(deserializer).map(Self);
        }
        deserializer.deserialize_any(QuantityVisitor)
    }
}

struct QuantityVisitor;

impl Visitor<'_> for QuantityVisitor {
    type Value = Quantity;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number with at most three decimals")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
        Quantity::from_f64(number as f64).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
        Quantity::from_f64(number as f64).map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Quantity, E> {
        Quantity::from_f64(number).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let amount = i64::deserialize(deserializer)?;
        if amount.unsigned_abs() > MONEY_MAX as u64 {
            return Err(de::Error::custom("an amount is at most 9007199254740991 minor units"));
        }
        Ok(Self(amount))
    }
}

/// `quantity x unit price`, rounded half up to a minor unit. `None` where it is over [`MONEY_MAX`].
#[must_use]
pub fn extend(quantity: Quantity, unit_price: Money) -> Option<Money> {
    let thousandths = i128::from(quantity.0) * i128::from(unit_price.0);
    checked((thousandths + 500).div_euclid(1000))
}

/// The share `part / whole` of an amount, rounded half up. `None` where `whole` is zero or the share is over [`MONEY_MAX`].
#[must_use]
pub fn share(amount: Money, part: Quantity, whole: Quantity) -> Option<Money> {
    let (n, d) = (i128::from(amount.0) * i128::from(part.0), i128::from(whole.0));
    if d == 0 {
        return None;
    }
    checked((2 * n + d).div_euclid(2 * d))
}

fn checked(amount: i128) -> Option<Money> {
    i64::try_from(amount).ok().filter(|a| a.unsigned_abs() <= MONEY_MAX as u64).map(Money)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_exact_or_refused() {
        let read = |text: &str| serde_json::from_str::<Quantity>(text).map_err(|e| e.to_string());
        assert_eq!(read("2"), Ok(Quantity(2000)));
        assert_eq!(read("0.001"), Ok(Quantity(1)));
        assert_eq!(read("-1.5"), Ok(Quantity(-1500)));
        assert_eq!(read("1e3"), Ok(Quantity(1_000_000)));
        assert!(read("2.0005").unwrap_err().contains("three decimals"));
        assert!(read("1e12").unwrap_err().contains("at most"));
        assert!(read("1e400").is_err());
        assert!(read("NaN").is_err());
        assert!(read("\"2\"").is_err());
        assert!(read("18446744073709551615").is_err());
    }

    #[test]
    fn money_is_an_integer() {
        assert!(serde_json::from_str::<Money>("4.5").is_err());
        assert!(serde_json::from_str::<Money>("9007199254740992").is_err());
        assert_eq!(serde_json::from_str::<Money>("-4500").unwrap(), Money(-4500));
    }

    #[test]
    fn products_round_half_up() {
        assert_eq!(extend(Quantity(1500), Money(3)), Some(Money(5)));
        assert_eq!(extend(Quantity(333), Money(1000)), Some(Money(333)));
        assert_eq!(extend(Quantity(QUANTITY_MAX), Money(MONEY_MAX)), None);
        assert_eq!(share(Money(100), Quantity(1000), Quantity(3000)), Some(Money(33)));
        assert_eq!(share(Money(100), Quantity(1), Quantity(0)), None);
    }

    proptest! {
        #[test]
        fn a_quantity_reads_back_from_json(n in -QUANTITY_MAX..=QUANTITY_MAX) {
            let text = serde_json::to_string(&Quantity(n)).unwrap();
            prop_assert_eq!(serde_json::from_str::<Quantity>(&text).unwrap(), Quantity(n));
            let shown: f64 = Quantity(n).to_string().parse().unwrap();
            prop_assert_eq!(Quantity::from_f64(shown).unwrap(), Quantity(n));
        }
    }
}
