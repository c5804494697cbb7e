//! When people shop: by the hour and weekday of their own civil time.

use super::countries::COUNTRIES;
use chrono::{DateTime, Datelike, Timelike};

/// Shop visits by local hour, mean 1 after scaling: quiet before dawn, a bump at noon, most after dinner.
const HOURS: [f64; 24] = [
    0.45, 0.25, 0.15, 0.10, 0.10, 0.15, 0.30, 0.60, 0.90, 1.10, 1.20, 1.25, 1.35, 1.25, 1.15, 1.10, 1.15, 1.25, 1.40,
    1.65, 1.85, 1.80, 1.40, 0.85,
];

/// Shop visits by local weekday from Monday, mean 1 after scaling.
const WEEKDAYS: [f64; 7] = [1.00, 0.95, 0.95, 0.97, 0.98, 1.02, 1.18];

/// How busy each country is at a moment; the mean over a week is 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rhythm {
    scale: f64,
}

impl Rhythm {
    pub(crate) fn new() -> Self {
        let mean = |weights: &[f64]| weights.iter().sum::<f64>() / weights.len() as f64;
        Self { scale: 1.0 / (mean(&HOURS) * mean(&WEEKDAYS)) }
    }

    /// How busy the country of this number is at a UTC time in milliseconds.
    pub(crate) fn at(&self, country: usize, utc_millis: i64) -> f64 {
        let country = &COUNTRIES[country];
        let shifted = utc_millis - (country.late_hours * 3_600_000.0) as i64;
        let Some(utc) = DateTime::from_timestamp_millis(shifted) else { return 1.0 };
        let local = utc.with_timezone(&country.zone);
        let hour = local.hour() as usize;
        let into = f64::from(local.minute()) / 60.0;
        let by_hour = HOURS[hour] * (1.0 - into) + HOURS[(hour + 1) % 24] * into;
        by_hour * WEEKDAYS[local.weekday().num_days_from_monday() as usize] * self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evening_is_evening_where_the_customer_lives() {
        let rhythm = Rhythm::new();
        let noon_utc = 1_732_708_800_000; // Wednesday 2024-11-27 12:00 UTC
        let busy = |code: &str, hours: i64| {
            let country = COUNTRIES.iter().position(|c| c.code == code).unwrap();
            rhythm.at(country, noon_utc + hours * 3_600_000)
        };
        assert!(busy("FR", 8) > 1.5, "21:00 in Paris");
        assert!(busy("FR", 15) < 0.2, "04:00 in Paris");
        assert!(busy("US", 15) > 1.4, "21:00 in Chicago");
        assert!(busy("AU", 8) < 0.7, "07:00 in Sydney");
    }

    #[test]
    fn a_week_is_one_on_average_everywhere() {
        let rhythm = Rhythm::new();
        for (number, country) in COUNTRIES.iter().enumerate() {
            let minutes = 7 * 24 * 60;
            let sum: f64 = (0..minutes).map(|m| rhythm.at(number, 1_731_888_000_000 + m * 60_000)).sum();
            let mean = sum / minutes as f64;
            assert!((mean - 1.0).abs() < 0.005, "{} {mean}", country.code);
        }
    }
}
