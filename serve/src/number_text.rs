//! Numbers, times and lengths of time as people read them.

use chrono::{DateTime, Utc};
use sluice_events::EventTime;

/// A number with this many digits that matter, large ones with k, M or G.
pub(crate) fn digits(value: f64, count: i32) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let (unit, sign) = unit_of(value.abs());
    let value = value / unit;
    let before = value.abs().log10().floor() as i32 + 1;
    let places = (count - before).clamp(0, 6) as usize;
    let text = format!("{value:.places$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{sign}")
}

/// An amount of money, in whole units when it is large: `18 240`.
pub(crate) fn amount(value: f64) -> String {
    if !value.is_finite() || value.abs() >= 1e15 {
        return digits(value, 4);
    }
    if value.abs() < 1000.0 {
        return format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    format!("{sign}{}", grouped(value.abs().round() as u64))
}

/// A whole number with a narrow space between thousands.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// The unit that a number of this size is told in.
pub(crate) fn unit_of(size: f64) -> (f64, &'static str) {
    match size {
        1e9.. => (1e9, "G"),
        1e6.. => (1e6, "M"),
        1e4.. => (1e3, "k"),
        _ => (1.0, ""),
    }
}

/// `1 Mar 2024 10:20`, in UTC; with seconds when there are some.
pub(crate) fn moment_text(time: EventTime) -> String {
    written(time, &format!("{DAY} {}", clock(time)))
}

/// `10:20`, in UTC; with seconds when there are some.
pub(crate) fn clock_text(time: EventTime) -> String {
    written(time, clock(time))
}

/// `1 Mar 2024`, in UTC.
pub(crate) fn day_text(time: EventTime) -> String {
    written(time, DAY)
}

const DAY: &str = "%-d %b %Y";

fn clock(time: EventTime) -> &'static str {
    if time.get().rem_euclid(60_000) == 0 { "%H:%M" } else { "%H:%M:%S" }
}

fn written(time: EventTime, format: &str) -> String {
    let moment: Option<DateTime<Utc>> = DateTime::from_timestamp_millis(time.get());
    // Beyond the calendar: the number is better than nothing.
    moment.map_or_else(|| time.to_string(), |moment| moment.format(format).to_string())
}

/// `45 s`, `12 min`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn length_text(millis: i64) -> String {
    let seconds = millis.max(0) / 1000;
    let two = |large: i64, large_name: &str, small: i64, small_name: &str| match small {
        0 => format!("{large} {large_name}"),
        small => format!("{large} {large_name} {small} {small_name}"),
    };
    match seconds {
        s @ 0..120 if s % 60 != 0 => format!("{s} s"),
        s @ 0..3_600 => format!("{} min", s / 60),
        s @ 3_600..86_400 => two(s / 3_600, "h", s % 3_600 / 60, "min"),
        s => two(s / 86_400, "d", s % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_short() {
        assert_eq!(
            [0.012_341, 131.0, 1_234.56, 98_765.0, 2.5e6, f64::NAN].map(|v| digits(v, 4)),
            ["0.01234", "131", "1235", "98.77k", "2.5M", "–"]
        );
        assert_eq!([7, 1_234, 1_234_567].map(grouped), ["7", "1\u{202f}234", "1\u{202f}234\u{202f}567"]);
        assert_eq!([18_240.5, -1_000.0, 999.9, 12.0].map(amount), ["18\u{202f}241", "-1\u{202f}000", "999.9", "12"]);
        assert_eq!(moment_text(EventTime::new(1_709_287_500_000)), "1 Mar 2024 10:05");
        assert_eq!(moment_text(EventTime::new(1_709_287_501_000)), "1 Mar 2024 10:05:01");
        assert_eq!(
            [0, 45_000, 60_000, 750_000, 7_500_000, 7_200_000, 273_600_000].map(length_text),
            ["0 min", "45 s", "1 min", "12 min", "2 h 5 min", "2 h", "3 d 4 h"]
        );
    }
}
