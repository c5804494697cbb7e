//! What can go wrong in the simulated shop, on purpose.

use super::{countries::country_of, products::category_of};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A kind of anomaly. `strength` means something else for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnomalyKind {
    /// Payments fail. Strength: share that fails, default 1.
    PaymentOutage,
    /// Full carts are left behind within a minute or two. Strength: share of them, default 0.8.
    AbandonedCartSpike,
    /// Robots click through product pages. Strength: their clicks as a multiple of the mean rate, default 3.
    BotClickFlood,
    /// Prices are wrong. Strength: what the right price is multiplied by, default 0.01.
    PriceBug,
    /// A country is gone. Strength: share of its events that are missing, default 1. Needs `country`.
    CountryOutage,
    /// Fewer and fewer products go into carts. Strength: share lost at the end, default 0.5.
    SlowDrift,
}

/// One `[[anomaly]]` of a scenario.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Anomaly {
    /// What goes wrong.
    pub kind: AnomalyKind,
    /// Event time after the stream's start, such as `"40m"`.
    #[serde(with = "humantime_serde")]
    pub start: Duration,
    /// How long it lasts.
    #[serde(with = "humantime_serde")]
    pub duration: Duration,
    /// Only this country (ISO 3166-1 alpha-2). Not set: everywhere.
    #[serde(default)]
    pub country: Option<String>,
    /// Only products of this category. Not set: all. For `bot_click_flood`, `price_bug` and `slow_drift`.
    #[serde(default)]
    pub category: Option<String>,
    /// How bad it is; see the kinds.
    #[serde(default)]
    pub strength: Option<f64>,
}

impl AnomalyKind {
    /// The strength when none is given.
    pub const fn default_strength(self) -> f64 {
        match self {
            Self::PaymentOutage | Self::CountryOutage => 1.0,
            Self::AbandonedCartSpike => 0.8,
            Self::BotClickFlood => 3.0,
            Self::PriceBug => 0.01,
            Self::SlowDrift => 0.5,
        }
    }

    /// The measure that shows it best, and where that goes.
    pub const fn affects(self) -> (&'static str, &'static str) {
        match self {
            Self::PaymentOutage => ("events where event_type = purchase", "down"),
            Self::AbandonedCartSpike => ("events where event_type = cart_abandon", "up"),
            Self::BotClickFlood => ("events where event_type = page_view", "up"),
            Self::PriceBug => ("aov", "changed"),
            Self::CountryOutage => ("events", "down"),
            Self::SlowDrift => ("events where event_type = add_to_cart", "down"),
        }
    }

    const fn has_category(self) -> bool {
        matches!(self, Self::BotClickFlood | Self::PriceBug | Self::SlowDrift)
    }

    const fn is_share(self) -> bool {
        !matches!(self, Self::BotClickFlood | Self::PriceBug)
    }
}

impl Anomaly {
    /// The strength, given or by default.
    pub fn strength(&self) -> f64 {
        self.strength.unwrap_or(self.kind.default_strength())
    }

    /// What makes no sense about it, naming the key; none when all is well.
    pub fn problem(&self) -> Option<String> {
        if self.duration.is_zero() {
            return Some("duration: is zero".into());
        }
        if let Some(code) = self.country.as_deref().filter(|c| country_of(c).is_none()) {
            let known: Vec<_> = super::COUNTRIES.iter().map(|c| c.code).collect();
            return Some(format!("country: '{code}' is none of the simulated ones: {}", known.join(", ")));
        }
        if let Some(name) = self.category.as_deref() {
            if !self.kind.has_category() {
                return Some("category: this kind of anomaly hits all categories; remove the key".into());
            }
            if category_of(name).is_none() {
                let known: Vec<_> = super::products::CATEGORIES.iter().map(|c| c.0).collect();
                return Some(format!("category: '{name}' is none of the simulated ones: {}", known.join(", ")));
            }
        }
        if self.kind == AnomalyKind::CountryOutage && self.country.is_none() {
            return Some("country: country_outage needs one".into());
        }
        let strength = self.strength();
        if !(strength > 0.0 && strength <= 1e6) || (self.kind.is_share() && strength > 1.0) {
            let range = if self.kind.is_share() { "a share, above 0 and at most 1" } else { "above 0" };
            return Some(format!("strength: {strength}; for this kind it is {range}"));
        }
        None
    }
}
