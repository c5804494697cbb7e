//! Where customers live.

use chrono_tz::Tz;

/// A country of the simulated world.
pub(crate) struct Country {
    /// ISO 3166-1 alpha-2.
    pub(crate) code: &'static str,
    /// ISO 4217.
    pub(crate) currency: &'static str,
    /// Whose civil time its people live by.
    pub(crate) zone: Tz,
    /// Share of all customers, in percent.
    pub(crate) share: f64,
    /// Thousandths of its currency for one euro: prices are set in euros.
    pub(crate) per_euro_permille: i64,
    /// How many hours later than elsewhere the day goes.
    pub(crate) late_hours: f64,
}

const fn country(
    code: &'static str,
    currency: &'static str,
    zone: Tz,
    share: f64,
    per_euro_permille: i64,
    late_hours: f64,
) -> Country {
    Country { code, currency, zone, share, per_euro_permille, late_hours }
}

/// All of them.
pub(crate) static COUNTRIES: [Country; 10] = [
    country("US", "USD", Tz::America__Chicago, 22.0, 1_080, 0.0),
    country("FR", "EUR", Tz::Europe__Paris, 18.0, 1_000, 0.0),
    country("DE", "EUR", Tz::Europe__Berlin, 15.0, 1_000, -0.5),
    country("GB", "GBP", Tz::Europe__London, 12.0, 850, 0.0),
    country("ES", "EUR", Tz::Europe__Madrid, 8.0, 1_000, 1.5),
    country("IT", "EUR", Tz::Europe__Rome, 8.0, 1_000, 0.5),
    country("CA", "CAD", Tz::America__Toronto, 6.0, 1_480, 0.0),
    country("AU", "AUD", Tz::Australia__Sydney, 5.0, 1_640, 0.0),
    country("CH", "CHF", Tz::Europe__Zurich, 3.0, 950, -0.5),
    country("SG", "SGD", Tz::Asia__Singapore, 3.0, 1_450, 0.5),
];

/// The number of the country of this code.
pub(crate) fn country_of(code: &str) -> Option<u8> {
    COUNTRIES.iter().position(|c| c.code == code).map(|i| i as u8)
}
