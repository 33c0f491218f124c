//! Floats of POSPlus and exact integers of ours.

use serde_json::Number;

use crate::model::amount::{MONEY_MAX, Money, QUANTITY_MAX, Quantity};
use crate::model::currency::currency_decimals;

/// The largest row number that JavaScript holds exactly.
pub(super) const ROW_MAX: i64 = (1 << 53) - 1;

/// The largest rate: all of it, in thousandths of one per cent.
const RATE_MAX: i64 = 100_000;

/// How many decimals the store's currency has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decimals(u8);

impl Decimals {
    /// Of a currency, ISO 4217; two where it is none.
    #[must_use]
    pub fn of_currency(code: &str) -> Self {
        Self(currency_decimals(code).unwrap_or(2))
    }

    fn scale(self) -> i64 {
        10_i64.pow(u32::from(self.0))
    }

    /// Minor units of a float, rounded half away from zero; never negative.
    ///
    /// # Errors
    /// Why it is not an amount.
    pub fn money(self, number: f64) -> Result<Money, NumberError> {
        rounded(number, self.scale(), MONEY_MAX).map(Money)
    }

    /// The JSON number of an amount, as JavaScript writes it.
    #[must_use]
    pub fn number(self, money: Money) -> Number {
        decimal(money.0, self.scale())
    }
}

/// Why a number is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NumberError {
    /// NaN or an infinity.
    #[error("a finite number is needed")]
    NotFinite,
    /// Below zero.
    #[error("it must not be negative")]
    Negative,
    /// Beyond what any shop has.
    #[error("it is too large")]
    TooLarge,
}

fn rounded(number: f64, scale: i64, most: i64) -> Result<i64, NumberError> {
    if !number.is_finite() {
        return Err(NumberError::NotFinite);
    }
    // POSPlus's sums leave dust such as -1e-17: that is zero.
    let scaled = (number * scale as f64).round();
    if scaled < 0.0 {
        return Err(NumberError::Negative);
    }
    if scaled > most as f64 {
        return Err(NumberError::TooLarge);
    }
    Ok(scaled as i64)
}

/// Thousandths of a float.
pub(super) fn quantity(number: f64) -> Result<Quantity, NumberError> {
    rounded(number, 1000, QUANTITY_MAX).map(Quantity)
}

/// Thousandths of one per cent of a float.
pub(super) fn rate(number: f64) -> Result<i64, NumberError> {
    rounded(number, 1000, RATE_MAX)
}

/// `n / scale`, as JavaScript writes it: whole numbers without a point.
pub(super) fn decimal(n: i64, scale: i64) -> Number {
    if n % scale == 0 {
        return Number::from(n / scale);
    }
    Number::from_f64(n as f64 / scale as f64).unwrap_or_else(|| Number::from(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn floats_are_rounded_to_the_currency_or_refused() {
        let tnd = Decimals::of_currency("TND");
        assert_eq!(tnd.money(4.5), Ok(Money(4500)));
        assert_eq!(tnd.money(0.1 + 0.2), Ok(Money(300)));
        assert_eq!(tnd.money(-1e-17), Ok(Money(0)));
        assert_eq!(tnd.money(-0.001), Err(NumberError::Negative));
        assert_eq!(tnd.money(f64::NAN), Err(NumberError::NotFinite));
        assert_eq!(tnd.money(f64::INFINITY), Err(NumberError::NotFinite));
        assert_eq!(tnd.money(1e300), Err(NumberError::TooLarge));
        assert_eq!(Decimals::of_currency("JPY").money(12.4), Ok(Money(12)));
        assert_eq!(quantity(2.00049), Ok(Quantity(2000)));
        assert_eq!(rate(100.1), Err(NumberError::TooLarge));
    }

    #[test]
    fn numbers_are_written_as_javascript_does() {
        let tnd = Decimals::of_currency("TND");
        for (minor, text) in [(4500, "4.5"), (10_000, "10"), (0, "0"), (1, "0.001"), (123_456, "123.456")] {
            assert_eq!(tnd.number(Money(minor)).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(n in 0..=1_000_000_000_000_i64) {
            for currency in ["TND", "EUR", "JPY"] {
                let decimals = Decimals::of_currency(currency);
                let number = decimals.number(Money(n)).as_f64().unwrap();
                prop_assert_eq!(decimals.money(number), Ok(Money(n)));
            }
        }
    }
}
