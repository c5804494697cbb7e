//! Exact amounts of money.

use std::fmt;

/// An amount in ten-thousandths of the currency unit: an exact decimal of scale 4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a decimal number.
    #[error("'{0}' is not a decimal number")]
    NotANumber(String),
    /// More than four decimal places: rounding would change the amount.
    #[error("'{0}' has more than 4 decimal places")]
    TooPrecise(String),
    /// Beyond 18 digits.
    #[error("'{0}' does not fit 18 digits")]
    TooLarge(String),
}

impl Money {
    /// Decimal places kept.
    pub const SCALE: u32 = 4;
    /// Total digits kept.
    pub const PRECISION: u8 = 18;

    /// From ten-thousandths.
    pub const fn from_units(units: i64) -> Self {
        Self(units)
    }

    /// In ten-thousandths.
    pub const fn units(self) -> i64 {
        self.0
    }

    /// Reads a decimal such as `12.5`, `-3` or `1.2e3`, exactly.
    ///
    /// # Errors
    /// When the text is no number, needs more than 4 places, or more than 18 digits.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        let not_a_number = || MoneyError::NotANumber(text.to_owned());
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(at) => (&text[..at], text[at + 1..].parse::<i32>().map_err(|_| not_a_number())?),
            None => (text, 0),
        };
        let (negative, digits) = match mantissa.as_bytes().first() {
            Some(b'-') => (true, &mantissa[1..]),
            Some(b'+') => (false, &mantissa[1..]),
            _ => (false, mantissa),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if whole.is_empty() && fraction.is_empty() {
            return Err(not_a_number());
        }
        let mut units: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return Err(not_a_number());
            }
            units = units
                .checked_mul(10)
                .and_then(|u| u.checked_add(i128::from(byte - b'0')))
                .ok_or_else(|| MoneyError::TooLarge(text.to_owned()))?;
        }
        let mut shift = Self::SCALE as i32 + exponent.clamp(-100, 100) - fraction.len() as i32;
        while shift > 0 && units != 0 {
            units = units.checked_mul(10).ok_or_else(|| MoneyError::TooLarge(text.to_owned()))?;
            shift -= 1;
        }
        while shift < 0 && units != 0 {
            if units % 10 != 0 {
                return Err(MoneyError::TooPrecise(text.to_owned()));
            }
            units /= 10;
            shift += 1;
        }
        if units >= 10_i128.pow(u32::from(Self::PRECISION)) {
            return Err(MoneyError::TooLarge(text.to_owned()));
        }
        let units = units as i64;
        Ok(Self(if negative { -units } else { units }))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let units = self.0.unsigned_abs();
        write!(f, "{sign}{}.{:04}", units / 10_000, units % 10_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_exactly() {
        for (text, units) in [
            ("35.79", 357_900),
            ("0", 0),
            ("-1.5", -15_000),
            ("1.2e3", 12_000_000),
            ("12.34500", 123_450),
            (".5", 5_000),
        ] {
            assert_eq!(Money::parse(text), Ok(Money::from_units(units)), "{text}");
        }
        assert!(matches!(Money::parse("1.23456"), Err(MoneyError::TooPrecise(_))));
        assert!(matches!(Money::parse("99999999999999999"), Err(MoneyError::TooLarge(_))));
        for text in ["", "-", "NaN", "1,5", "1e", "0x1"] {
            assert!(matches!(Money::parse(text), Err(MoneyError::NotANumber(_))), "{text}");
        }
        assert_eq!(Money::from_units(-15_000).to_string(), "-1.5000");
    }
}
