//! Moments by the clock.

use chrono::{DateTime, Utc};
use croner::Cron;
use serde::Deserialize;
use std::str::FromStr;

/// When something is done by itself: a cron pattern of five fields in UTC, or never.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct Schedule(Option<Box<Cron>>);

impl TryFrom<String> for Schedule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.trim() {
            "" => Ok(Self(None)),
            pattern => Cron::from_str(pattern).map(|cron| Self(Some(Box::new(cron)))).map_err(|e| {
                format!(
                    "'{text}' is no cron pattern such as \"*/15 * * * *\" (minute hour day month weekday, UTC): {e}"
                )
            }),
        }
    }
}

impl Schedule {
    /// The first moment after `millis` (since 1970) at which to run; none: never.
    pub fn next(&self, millis: i64) -> Option<i64> {
        let after = DateTime::<Utc>::from_timestamp_millis(millis)?;
        let next = self.0.as_ref()?.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_says_when() {
        const HOUR: i64 = 3_600_000;
        let schedule = |text: &str| Schedule::try_from(text.to_owned());
        let hourly = schedule("0 * * * *").unwrap();
        assert_eq!(
            (hourly.next(0), hourly.next(HOUR - 1), hourly.next(HOUR)),
            (Some(HOUR), Some(HOUR), Some(2 * HOUR))
        );
        assert_eq!(schedule("30 2 * * 1").unwrap().next(0), Some((4 * 24 + 2) * HOUR + HOUR / 2), "a Monday");
        assert_eq!(schedule(" ").unwrap().next(0), None);
        assert!(schedule("now and then").unwrap_err().contains("'now and then' is no cron pattern"));
    }
}
