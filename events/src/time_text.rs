//! Event times as people and programs write them.

use crate::EventTime;
use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat};

/// The text is no time we read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is no time: ISO 8601, YYYY/MM/DD, DD/MM/YYYY, epoch seconds (9-11 digits) or milliseconds (12-13) are read"
)]
pub struct TimeTextError(pub String);

/// Reads ISO 8601 (extended and basic), `YYYY/MM/DD[ HH:MM[:SS]]`, day-first dates with `/`, `-` or `.`,
/// epoch seconds and milliseconds, and Excel's day numbers of the 1900 system. Without a zone: UTC.
///
/// # Errors
/// When the text is none of these, or beyond [`EventTime::LATEST`]. Month-first dates are not read: they cannot be told
/// from day-first ones.
pub fn parse_event_time(text: &str) -> Result<EventTime, TimeTextError> {
    let text = text.trim();
    let held = |millis: &i64| millis.unsigned_abs() <= EventTime::LATEST.get().unsigned_abs();
    read(text).filter(held).map(EventTime::new).ok_or_else(|| TimeTextError(text.to_owned()))
}

/// RFC 3339 in UTC; milliseconds only when there are some. A time beyond the calendar is its number of milliseconds.
pub fn time_text(time: EventTime) -> String {
    DateTime::from_timestamp_millis(time.get())
        .map_or_else(|| time.to_string(), |date| date.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn read(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return number(text);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_millis());
    }
    let bare =
        text.strip_suffix("UTC").or(text.strip_suffix("GMT")).or(text.strip_suffix('Z')).unwrap_or(text).trim_end();
    for zoned in ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f %z", "%Y%m%dT%H%M%S%.f%z"] {
        if let Ok(time) = DateTime::parse_from_str(text, zoned) {
            return Some(time.timestamp_millis());
        }
    }
    const DATES: [&str; 6] = ["%Y-%m-%d", "%Y%m%d", "%Y/%m/%d", "%d/%m/%Y", "%d-%m-%Y", "%d.%m.%Y"];
    const TIMES: [&str; 4] = ["%H:%M:%S%.f", "%H:%M", "%H%M%S%.f", "%H%M"];
    let (date, time) = bare.split_once(['T', ' ']).unwrap_or((bare, ""));
    let starts_with_year = date.bytes().take(4).all(|b| b.is_ascii_digit());
    let date = DATES
        .iter()
        .filter(|f| f.starts_with("%Y") == starts_with_year)
        .find_map(|format| NaiveDate::parse_from_str(date, format).ok())?;
    let time = match time.trim() {
        "" => NaiveTime::MIN,
        time => TIMES.iter().find_map(|format| NaiveTime::parse_from_str(time, format).ok())?,
    };
    Some(NaiveDateTime::new(date, time).and_utc().timestamp_millis())
}

fn number(text: &str) -> Option<i64> {
    let value: i64 = text.parse().ok()?;
    match text.len() {
        5 if (20_000..=69_999).contains(&value) => Some((value - 25_569) * 86_400_000),
        8 => {
            let date = NaiveDate::parse_from_str(text, "%Y%m%d").ok()?;
            Some(date.and_time(NaiveTime::MIN).and_utc().timestamp_millis())
        }
        9..=11 => value.checked_mul(1000),
        12..=13 => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ways_to_write_a_time_are_read() {
        let midnight = 1_709_251_200_000; // 2024-03-01T00:00:00Z
        let ten = midnight + 36_000_000;
        for (text, expected) in [
            ("2024-03-01T10:00:00Z", ten),
            ("2024-03-01T11:00:00+01:00", ten),
            ("2024-03-01T11:00:00+0100", ten),
            ("2024-03-01 10:00:00 UTC", ten),
            ("2024-03-01 10:00:00", ten),
            ("2024-03-01T10:00", ten),
            ("20240301T100000Z", ten),
            ("2024-03-01T10:00:00.250Z", ten + 250),
            ("2024-03-01", midnight),
            ("20240301", midnight),
            ("2024/03/01 10:00", ten),
            ("01/03/2024", midnight),
            ("01-03-2024 10:00", ten),
            ("01.03.2024", midnight),
            ("1709287200", ten),
            ("1709287200250", ten + 250),
            ("45352", midnight),
        ] {
            assert_eq!(parse_event_time(text).map(EventTime::get), Ok(expected), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2024-13-01",
            "03/31/2024",
            "31/02/2024",
            "12",
            "2024-03-01T25:00:00Z",
            "+10000-01-01T00:00:00+0000",
        ] {
            assert!(parse_event_time(text).is_err(), "{text}");
        }
    }
}
