//! Amounts of money as people and spreadsheets write them, read exactly or not at all.

use sluice_events::Money;

/// Whole digits that an amount below a thousand million has.
const WHOLE_DIGITS_MAX: usize = 9;

/// Why a text is no amount that can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountProblem {
    /// It is no decimal number, such as `NaN`, `1e3` or `$5`.
    #[error("is no amount")]
    NotANumber,
    /// One comma before three digits, as in `1,234`: thousands or decimals.
    #[error("may mean thousands or decimals")]
    Ambiguous,
    /// Zero or below.
    #[error("is not above 0")]
    NotPositive,
    /// A thousand million or more.
    #[error("is 1,000,000,000 or more")]
    TooLarge,
    /// Does not fit four decimal places; rounding would change the amount.
    #[error("has more than 4 decimal places")]
    TooPrecise,
}

/// Reads an amount above 0 and below 10⁹: decimal point or comma; thousands parted by a space, a no-break space or the
/// other sign; `€` or `EUR` before or after.
///
/// # Errors
/// With what keeps the text from being such an amount.
pub fn read_amount(text: &str) -> Result<Money, AmountProblem> {
    let (negative, number) = bare(text);
    let (whole, separator, fraction) = cut(number)?;
    if !is_grouped(whole, separator) || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(AmountProblem::NotANumber);
    }
    let digits = || whole.bytes().filter(u8::is_ascii_digit);
    if whole.is_empty() && fraction.is_empty() {
        return Err(AmountProblem::NotANumber);
    }
    if negative || digits().chain(fraction.bytes()).all(|b| b == b'0') {
        return Err(AmountProblem::NotPositive);
    }
    if digits().skip_while(|b| *b == b'0').count() > WHOLE_DIGITS_MAX {
        return Err(AmountProblem::TooLarge);
    }
    let fraction = fraction.trim_end_matches('0');
    let missing_places = (Money::SCALE as usize).checked_sub(fraction.len()).ok_or(AmountProblem::TooPrecise)?;
    let zeros = std::iter::repeat_n(b'0', missing_places);
    let units = digits().chain(fraction.bytes()).chain(zeros).fold(0, |units, b| units * 10 + i64::from(b - b'0'));
    Ok(Money::from_units(units))
}

/// Takes off currency and sign; whether the sign is minus.
fn bare(text: &str) -> (bool, &str) {
    let (first_minus, text) = unsigned(text.trim());
    let inner = ["€", "EUR"].iter().find_map(|c| strip_prefix(text, c).or_else(|| strip_suffix(text, c)));
    match inner {
        // A sign may stand on either side of the currency, not on both.
        Some(inner) if first_minus.is_none() => {
            let (minus, inner) = unsigned(inner.trim());
            (minus == Some(true), inner)
        }
        inner => (first_minus == Some(true), inner.unwrap_or(text).trim()),
    }
}

fn unsigned(text: &str) -> (Option<bool>, &str) {
    match text.strip_prefix(['-', '\u{2212}']) {
        Some(rest) => (Some(true), rest.trim_start()),
        None => text.strip_prefix('+').map_or((None, text), |rest| (Some(false), rest.trim_start())),
    }
}

fn strip_prefix<'a>(text: &'a str, currency: &str) -> Option<&'a str> {
    let head = text.get(..currency.len())?;
    head.eq_ignore_ascii_case(currency).then(|| &text[currency.len()..])
}

fn strip_suffix<'a>(text: &'a str, currency: &str) -> Option<&'a str> {
    let at = text.len().checked_sub(currency.len())?;
    text.get(at..)?.eq_ignore_ascii_case(currency).then(|| &text[..at])
}

/// The part before the decimal sign, the sign that parts its thousands, and the part after.
fn cut(number: &str) -> Result<(&str, Option<char>, &str), AmountProblem> {
    let count = |sign| number.bytes().filter(|b| *b == sign).count();
    let last = number.rfind(['.', ',']);
    match (count(b'.'), count(b','), last) {
        (0, 1, Some(at)) if number.len() - at == 4 && number[at + 1..].bytes().all(|b| b.is_ascii_digit()) => {
            Err(AmountProblem::Ambiguous)
        }
        (1, 0, Some(at)) | (0, 1, Some(at)) => Ok((&number[..at], None, &number[at + 1..])),
        // The last sign is the decimal one when it comes once and the other stands before it.
        (_, 1, Some(at)) if number.as_bytes()[at] == b',' => Ok((&number[..at], Some('.'), &number[at + 1..])),
        (1, _, Some(at)) if number.as_bytes()[at] == b'.' => Ok((&number[..at], Some(','), &number[at + 1..])),
        (0, 0, _) => Ok((number, None, "")),
        (_, 0, _) => Ok((number, Some('.'), "")),
        (0, _, _) => Ok((number, Some(','), "")),
        _ => Err(AmountProblem::NotANumber),
    }
}

/// Whether the text is digits, bare or in thousands parted by `separator` throughout; by blanks when there is none.
fn is_grouped(whole: &str, separator: Option<char>) -> bool {
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if is_digits(whole) && separator.is_none() {
        return true;
    }
    let is_blank = |c: char| matches!(c, ' ' | '\u{a0}' | '\u{202f}' | '\u{2009}');
    let mut groups = whole.split(|c: char| separator.map_or(is_blank(c), |s| s == c));
    let first = groups.next().unwrap_or_default();
    (1..=3).contains(&first.len()) && is_digits(first) && groups.all(|g| g.len() == 3 && is_digits(g))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn amounts_are_read_as_they_are_written() {
        for (text, units) in [
            ("12.5", 125_000),
            ("12,5", 125_000),
            ("12", 120_000),
            (" 12.34 ", 123_400),
            ("+12.34", 123_400),
            (".5", 5_000),
            (",5", 5_000),
            ("12.", 120_000),
            ("007", 70_000),
            ("1.234", 12_340),
            ("1,2345", 12_345),
            ("1234,56", 12_345_600),
            ("1.234,56", 12_345_600),
            ("1,234.56", 12_345_600),
            ("1,234.567", 12_345_670),
            ("1.234,567", 12_345_670),
            ("1,234,567", 12_345_670_000),
            ("1.234.567", 12_345_670_000),
            ("1.234.567,8", 12_345_678_000),
            ("1 234,56 €", 12_345_600),
            ("1 234 567", 12_345_670_000),
            ("1\u{a0}234,56\u{a0}€", 12_345_600),
            ("1\u{202f}234.56", 12_345_600),
            ("€12.50", 125_000),
            ("€ 12.50", 125_000),
            ("+ € 12.50", 125_000),
            ("12.50€", 125_000),
            ("EUR 12.5", 125_000),
            ("eur12.5", 125_000),
            ("12,5 EUR", 125_000),
            ("999999999.9999", 9_999_999_999_999),
            ("000000000001.0", 10_000),
            ("35.790000000", 357_900),
            ("0.0001", 1),
        ] {
            assert_eq!(read_amount(text), Ok(Money::from_units(units)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_says_why() {
        use AmountProblem::*;
        for (texts, problem) in [
            ("1,234|0,123|1234,567|12 345,678|1,234 €|-1,234|,500", Ambiguous),
            ("0|0.00|-0|-5|- 5,00|€ -5|-€5|−5|0.0000000|-5.123456", NotPositive),
            ("1000000000|1.000.000.000|99999999999999999999999999999999999999", TooLarge),
            ("1.23456|1,23456|0.00001|15.299999999999999", TooPrecise),
            ("| |-|€|.|,|NaN|nan|inf|-inf|Infinity|1e3|1E3|0x1|12a|$5|5 USD|EUR|€ € 5|€5€|-€-5|--5|5-|(5)", NotANumber),
            ("1 23|1  234|12 34,5|1.23.456|1,23,456|1.234.56|1,234,56|1.2,3|1,2.3|1.234,56.7|1.5 6", NotANumber),
            ("1 234.567,8|1'234|１２|1_000|\0|12\0", NotANumber),
        ] {
            for text in texts.split('|') {
                assert_eq!(read_amount(text), Err(problem), "{text:?}");
            }
        }
    }

    #[test]
    fn any_amount_comes_back_from_any_spelling() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        for _ in 0..20_000 {
            let digits_max = rng.random_range(1..=13);
            let units = rng.random_range(1..10_i64.pow(digits_max));
            let whole = (units / 10_000).to_string();
            let mut fraction = format!("{:04}", units % 10_000);
            while fraction.ends_with('0') && rng.random_bool(0.8) {
                fraction.pop();
            }
            let (decimal, thousands) =
                [(".", ""), (",", ""), (".", ","), (",", "."), (",", " "), (".", "\u{a0}"), (",", "\u{202f}")]
                    [rng.random_range(0..7)];
            let mut grouped = String::new();
            for (at, digit) in whole.chars().enumerate() {
                if at > 0 && (whole.len() - at).is_multiple_of(3) {
                    grouped.push_str(thousands);
                }
                grouped.push(digit);
            }
            let number = if fraction.is_empty() { grouped.clone() } else { format!("{grouped}{decimal}{fraction}") };
            let text = match rng.random_range(0..5) {
                0 => format!("€{number}"),
                1 => format!("{number} EUR"),
                2 => format!(" {number}\u{a0}€ "),
                _ => number.clone(),
            };
            // One sign and nothing else: what it means follows from the digits behind it.
            let one_sign = number.matches([',', '.']).count() == 1;
            let alone =
                number.rsplit_once([',', '.']).map_or(0, |(_, tail)| tail.chars().filter(char::is_ascii_digit).count());
            if one_sign && number.contains(',') && alone == 3 {
                assert_eq!(read_amount(&text), Err(AmountProblem::Ambiguous), "{text}");
            } else if one_sign && fraction.is_empty() {
                assert_eq!(read_amount(&text).unwrap().units() * 1000, units, "{text}");
            } else {
                assert_eq!(read_amount(&text), Ok(Money::from_units(units)), "{text}");
            }
        }
    }

    #[test]
    fn plain_decimals_are_read_as_money_reads_them() {
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        for _ in 0..50_000 {
            let length = rng.random_range(0..9);
            let text: String = (0..length).map(|_| b"0123456789.-"[rng.random_range(0..12)] as char).collect();
            if text.matches('.').count() > 1 {
                continue;
            }
            let expected = match Money::parse(&text) {
                Ok(money) if money.units() > 0 => Some(money),
                _ => None,
            };
            assert_eq!(read_amount(&text).ok(), expected, "{text}");
        }
    }
}
