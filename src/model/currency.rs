//! The currencies that a store can have, and how many decimals each has.

/// ISO 4217 codes whose minor unit is not a hundredth.
const OTHER_THAN_TWO: [(u8, &str); 3] = [
    (0, "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"),
    (3, "BHD IQD JOD KWD LYD OMR TND"),
    (4, "CLF UYW"),
];

/// ISO 4217 codes whose minor unit is a hundredth.
const TWO: &str = "\
    AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CNY COP CRC CUP CVE \
    CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR \
    KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB \
    PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY \
    TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";

/// The decimals of a currency's minor unit (TND 3, EUR 2, JPY 0); `None` where the text is not the code of a currency in use.
///
/// A list rather than "2 unless known": a mistyped code (`TDN`) would otherwise make every price ten times what it is.
/// Codes are ISO 4217, three capital letters; metals, funds and test codes, which have no minor unit, are not currencies here.
#[must_use]
pub fn currency_decimals(code: &str) -> Option<u8> {
    let listed = |codes: &str| codes.split(' ').any(|listed| listed == code);
    if listed(TWO) {
        return Some(2);
    }
    OTHER_THAN_TWO.iter().find(|(_, codes)| listed(codes)).map(|(decimals, _)| *decimals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_those_of_iso_4217() {
        for (code, decimals) in
            [("TND", 3), ("LYD", 3), ("EUR", 2), ("DZD", 2), ("MAD", 2), ("JPY", 0), ("XOF", 0), ("CLF", 4)]
        {
            assert_eq!(currency_decimals(code), Some(decimals), "{code}");
        }
    }

    #[test]
    fn what_is_not_a_currency_has_none() {
        for code in ["TDN", "tnd", "", " ", "EU", "EURO", "EUR USD", "XXX", "XTS", "XAU", "د.ت"] {
            assert_eq!(currency_decimals(code), None, "{code:?}");
        }
    }

    #[test]
    fn every_code_is_three_capital_letters_and_listed_once() {
        let mut codes: Vec<&str> =
            TWO.split(' ').chain(OTHER_THAN_TWO.iter().flat_map(|(_, codes)| codes.split(' '))).collect();
        assert!(codes.iter().all(|code| code.len() == 3 && code.bytes().all(|b| b.is_ascii_uppercase())));
        let listed = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), listed);
    }
}
