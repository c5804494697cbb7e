//! What an answer means, and how long to wait before the next attempt. Pure.

use chrono::DateTime;
use std::time::Duration;

/// The longest wait between two attempts that is our own choice.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// The longest wait that a receiver may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What an HTTP status means for a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It was told.
    Accepted,
    /// Trying again cannot help.
    Refused,
    /// It may be told later, and not before that long.
    Later(Duration),
}

/// Success is 2xx. A redirect is refused: followed, a POST would become a GET, or secrets would go elsewhere. Of what is the
/// sender's fault, only time-outs and rate limits are tried again. `now` is in milliseconds, for a `Retry-After` that is a date.
pub(crate) fn verdict(status: u16, retry_after: Option<&str>, now: i64) -> Verdict {
    match status {
        200..=299 => Verdict::Accepted,
        429 | 503 => Verdict::Later(retry_after.and_then(|text| asked(text, now)).unwrap_or_default()),
        408 | 425 | 500..=599 => Verdict::Later(Duration::ZERO),
        _ => Verdict::Refused,
    }
}

/// The wait after so many failed attempts, 1 or more: the first one, doubled with each, up to a minute; longer when the
/// receiver asks for it. No chance in it: one receiver has one sender.
pub(crate) fn wait(first: Duration, failed_attempts: u32, asked: Duration) -> Duration {
    let doublings = failed_attempts.saturating_sub(1).min(31);
    first.saturating_mul(1 << doublings).min(BACKOFF_MAX).max(asked)
}

/// RFC 9110, 10.2.3: seconds, or a date.
fn asked(text: &str, now: i64) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = DateTime::parse_from_rfc2822(text).ok()?.timestamp_millis();
            Duration::from_millis(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_pass_is_tried_again_and_what_is_wrong_is_not() {
        let later = Verdict::Later(Duration::ZERO);
        for (status, expected) in [
            (200, Verdict::Accepted),
            (204, Verdict::Accepted),
            (302, Verdict::Refused),
            (400, Verdict::Refused),
            (404, Verdict::Refused),
            (410, Verdict::Refused),
            (408, later),
            (425, later),
            (429, later),
            (500, later),
            (503, later),
            (504, later),
        ] {
            assert_eq!(verdict(status, None, 0), expected, "{status}");
        }
    }

    #[test]
    fn a_receiver_may_ask_for_a_wait_but_not_for_ever() {
        let seconds = |n| Verdict::Later(Duration::from_secs(n));
        assert_eq!(verdict(429, Some("7"), 0), seconds(7));
        assert_eq!(verdict(503, Some(" 86400 "), 0), seconds(300));
        assert_eq!(verdict(500, Some("7"), 0), seconds(0));
        assert_eq!(verdict(429, Some("soon"), 0), seconds(0));
        // 2024-03-01T10:05:00Z is 1709287500.
        let date = Some("Fri, 01 Mar 2024 10:05:00 GMT");
        assert_eq!(verdict(429, date, 1_709_287_490_000), seconds(10));
        assert_eq!(verdict(429, date, 1_709_287_501_000), seconds(0));
    }

    #[test]
    fn waits_double_up_to_a_minute() {
        let first = Duration::from_secs(1);
        let waits: Vec<u64> = (1..=8).map(|n| wait(first, n, Duration::ZERO).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(wait(first, u32::MAX, Duration::ZERO), BACKOFF_MAX);
        assert_eq!(wait(first, 1, Duration::from_secs(90)), Duration::from_secs(90));
    }
}
