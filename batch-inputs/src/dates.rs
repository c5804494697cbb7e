//! Dates and times of rows. What they may look like, [`sluice_events::parse_event_time`] says; here are the common forms
//! read fast, zone offsets that it does not know, and the bounds.

use sluice_events::{EventTime, LogTime, parse_event_time};

const DAY_MILLIS: i64 = 86_400_000;

/// Why a text is no date that can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DateProblem {
    /// It is no date, or one whose month comes first.
    #[error(
        "is no date: ISO 8601, YYYY/MM/DD, DD/MM/YYYY, epoch seconds or milliseconds and Excel day numbers are read"
    )]
    Unreadable,
    /// Before 1980.
    #[error("is before 1980")]
    TooOld,
    /// More than a day after now.
    #[error("is more than a day in the future")]
    Future,
}

/// Reads a date or time between 1980 and a day after now; one without a zone is UTC.
///
/// # Errors
/// With what keeps the text from being such a time.
pub fn read_date(text: &str, now: LogTime) -> Result<EventTime, DateProblem> {
    let text = text.trim();
    let time = read_iso(text.as_bytes())
        .or_else(|| parse_event_time(text).ok().map(EventTime::get))
        .or_else(|| read_with_offset(text))
        .map(EventTime::new)
        .ok_or(DateProblem::Unreadable)?;
    if time < EventTime::EARLIEST {
        return Err(DateProblem::TooOld);
    }
    if time.get() > now.get().saturating_add(DAY_MILLIS) {
        return Err(DateProblem::Future);
    }
    Ok(time)
}

/// `YYYY-MM-DD`, bare or with `THH:MM:SS` or ` HH:MM:SS`, with `Z` or without. Nearly all files have only these.
fn read_iso(text: &[u8]) -> Option<i64> {
    let number = |from: usize, length: usize| {
        text[from..from + length].iter().try_fold(0, |n, b| b.is_ascii_digit().then(|| n * 10 + i64::from(b - b'0')))
    };
    if !matches!(text.len(), 10 | 19 | 20) || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let days = days_since_1970(number(0, 4)?, number(5, 2)?, number(8, 2)?)?;
    if text.len() == 10 {
        return Some(days * DAY_MILLIS);
    }
    let has_marks = matches!(text[10], b'T' | b' ') && text[13] == b':' && text[16] == b':';
    if !has_marks || text.get(19).is_some_and(|b| *b != b'Z') {
        return None;
    }
    let (hour, minute, second) = (number(11, 2)?, number(14, 2)?, number(17, 2)?);
    let millis = ((hour * 60 + minute) * 60 + second) * 1000;
    (hour < 24 && minute < 60 && second < 60).then_some(days * DAY_MILLIS + millis)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; none when there is no such day.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Years are counted from March, so that the leap day is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468)
}

/// A time with an offset of hours, or without seconds, and with a comma before the fraction: ISO 8601 has these too.
fn read_with_offset(text: &str) -> Option<i64> {
    let clock = text.find(['T', 't', ' '])? + 1;
    let comma = text[clock..].find(',').map(|at| clock + at);
    let pointed = comma.map(|at| format!("{}.{}", &text[..at], &text[at + 1..]));
    let text = pointed.as_deref().unwrap_or(text);
    let local = |text: &str| parse_event_time(text).ok().map(EventTime::get);
    let Some(sign) = text[clock..].rfind(['+', '-']).map(|at| clock + at) else { return local(text) };
    let digits = &text.as_bytes()[sign + 1..];
    let (hours, minutes) = match digits {
        [h1, h2] => ([*h1, *h2], *b"00"),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => ([*h1, *h2], [*m1, *m2]),
        _ => return None,
    };
    let number = |[tens, ones]: [u8; 2]| {
        (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let is_ahead = text.as_bytes()[sign] == b'+';
    let head = text[..sign].trim_end();
    // A head with a zone of its own would have two; one without a clock is a date and no time.
    if hours > 23 || minutes > 59 || head.len() <= clock || !head.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let offset = (hours * 60 + minutes) * 60_000;
    local(head)?.checked_sub(if is_ahead { offset } else { -offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::{Days, NaiveDate};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const MIDNIGHT: i64 = 1_709_251_200_000; // 2024-03-01T00:00:00Z
    const TEN: i64 = MIDNIGHT + 36_000_000;
    const NOW: LogTime = LogTime::new(MIDNIGHT + 12 * 3_600_000);

    #[test]
    fn dates_are_read_as_they_are_written() {
        for (text, expected) in [
            ("2024-03-01", MIDNIGHT),
            (" 2024-03-01 ", MIDNIGHT),
            ("2024-03-01T10:00:00Z", TEN),
            ("2024-03-01T10:00:00", TEN),
            ("2024-03-01 10:00:00", TEN),
            ("2024-03-01 10:00:00 UTC", TEN),
            ("2024-03-01T10:00", TEN),
            ("2024-03-01T10:00Z", TEN),
            ("2024-03-01T11:00:00+01:00", TEN),
            ("2024-03-01T11:00:00+0100", TEN),
            ("2024-03-01T11:00:00+01", TEN),
            ("2024-03-01T11:00+01:00", TEN),
            ("2024-03-01 11:00 +01:00", TEN),
            ("2024-03-01T04:30:00-05:30", TEN),
            ("2024-03-01T10:00:00.250Z", TEN + 250),
            ("2024-03-01T10:00:00,250Z", TEN + 250),
            ("2024-03-01T11:00:00,250+01", TEN + 250),
            ("20240301", MIDNIGHT),
            ("20240301T100000Z", TEN),
            ("20240301T1000", TEN),
            ("20240301T110000+0100", TEN),
            ("20240301T110000+01", TEN),
            ("2024/03/01", MIDNIGHT),
            ("2024/03/01 10:00", TEN),
            ("2024/03/01 10:00:00", TEN),
            ("01/03/2024", MIDNIGHT),
            ("1/3/2024", MIDNIGHT),
            ("01/03/2024 10:00", TEN),
            ("01/03/2024 11:00 +0100", TEN),
            ("01-03-2024", MIDNIGHT),
            ("01.03.2024", MIDNIGHT),
            ("1709287200", TEN),
            ("1709287200250", TEN + 250),
            ("45352", MIDNIGHT),
            ("1980-01-01", EventTime::EARLIEST.get()),
            ("29221", EventTime::EARLIEST.get()),
            ("2024-03-02 12:00:00", NOW.get() + DAY_MILLIS),
            ("2024-02-29", MIDNIGHT - DAY_MILLIS),
        ] {
            assert_eq!(read_date(text, NOW).map(EventTime::get), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_date_says_why() {
        use DateProblem::*;
        for (text, problem) in [
            ("1979-12-31", TooOld),
            ("1979-12-31T23:59:59Z", TooOld),
            ("0001-01-01", TooOld),
            ("01/03/24", TooOld),
            ("123456789", TooOld),
            ("20000", TooOld),
            ("2024-03-02T12:00:01", Future),
            ("9999-12-31", Future),
            ("69999", Future),
            ("99999999999", Future),
            ("", Unreadable),
            ("yesterday", Unreadable),
            ("03/31/2024", Unreadable),
            ("31/02/2024", Unreadable),
            ("2024-13-01", Unreadable),
            ("2023-02-29", Unreadable),
            ("2024-00-10", Unreadable),
            ("2024-03-00", Unreadable),
            ("2024-03-01T25:00:00Z", Unreadable),
            ("2024-03-01T10:60:00Z", Unreadable),
            ("2024-03-01T10:00:00+24:00", Unreadable),
            ("2024-03-01T10:00:00Z+01", Unreadable),
            ("2024-03-01T+01:00", Unreadable),
            ("2024-03-01 +01:00", Unreadable),
            ("12", Unreadable),
            ("19999", Unreadable),
            ("70000", Unreadable),
            ("1234567", Unreadable),
            ("12345678901234", Unreadable),
            ("45352.5", Unreadable),
            ("-1709287200", Unreadable),
            ("2024-03-01T10:00:00\0", Unreadable),
        ] {
            assert_eq!(read_date(text, NOW), Err(problem), "{text}");
        }
    }

    #[test]
    fn the_fast_way_reads_every_day_as_the_slow_one_does() {
        let first = NaiveDate::from_ymd_opt(1890, 1, 1).unwrap();
        for day in 0..120_000 {
            let text = (first + Days::new(day)).to_string();
            assert_eq!(read_iso(text.as_bytes()), parse_event_time(&text).ok().map(EventTime::get), "{text}");
        }
    }

    #[test]
    fn what_the_fast_way_reads_the_slow_one_reads_alike() {
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        for _ in 0..100_000 {
            let mut text = format!(
                "{:04}-{:02}-{:02}{}{:02}:{:02}:{:02}{}",
                rng.random_range(0..10_000),
                rng.random_range(0..14),
                rng.random_range(0..33),
                ['T', ' ', '-'][rng.random_range(0..3)],
                rng.random_range(0..26),
                rng.random_range(0..61),
                rng.random_range(0..61),
                ["", "Z", "X"][rng.random_range(0..3)],
            )
            .into_bytes();
            if rng.random_bool(0.3) {
                let at = rng.random_range(0..text.len());
                text[at] = rng.random_range(32..127);
            }
            if rng.random_bool(0.3) {
                text.truncate(10);
            }
            let text = String::from_utf8(text).unwrap();
            if let Some(time) = read_iso(text.as_bytes()) {
                assert_eq!(Ok(time), parse_event_time(&text).map(EventTime::get), "{text}");
            }
        }
    }
}
