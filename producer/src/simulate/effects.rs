//! What the anomalies do at a moment.

use super::{
    anomaly::{Anomaly, AnomalyKind},
    countries::country_of,
    products::category_of,
};

/// An anomaly with its place in event time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effect {
    pub(crate) kind: AnomalyKind,
    /// First and one past the last millisecond.
    start: i64,
    end: i64,
    pub(crate) country: Option<u8>,
    pub(crate) category: Option<u8>,
    pub(crate) strength: f64,
}

/// All anomalies, and those going on now. The clock of the crowd moves it forward.
#[derive(Clone, Debug)]
pub(crate) struct Effects {
    all: Vec<Effect>,
    active: Vec<Effect>,
    now: i64,
    next_change: i64,
}

impl Effects {
    /// Of checked anomalies, counted from the stream's start.
    pub(crate) fn new(anomalies: &[Anomaly], stream_start: i64) -> Self {
        let effect = |a: &Anomaly| {
            let start = stream_start.saturating_add(a.start.as_millis() as i64);
            Effect {
                kind: a.kind,
                start,
                end: start.saturating_add(a.duration.as_millis() as i64),
                country: a.country.as_deref().and_then(country_of),
                category: a.category.as_deref().and_then(category_of),
                strength: a.strength(),
            }
        };
        Self { all: anomalies.iter().map(effect).collect(), active: Vec::new(), now: i64::MIN, next_change: i64::MIN }
    }

    /// Moves to a later event time.
    pub(crate) fn advance(&mut self, now: i64) {
        self.now = now;
        if now < self.next_change {
            return;
        }
        self.active = self.all.iter().filter(|e| e.start <= now && now < e.end).copied().collect();
        self.next_change =
            self.all.iter().flat_map(|e| [e.start, e.end]).filter(|t| *t > now).min().unwrap_or(i64::MAX);
    }

    /// When the next anomaly starts or ends.
    pub(crate) fn next_change(&self) -> i64 {
        self.next_change
    }

    fn strength(&self, kind: AnomalyKind, country: u8) -> f32 {
        let here = |e: &&Effect| e.kind == kind && e.country.is_none_or(|c| c == country);
        self.active.iter().filter(here).map(|e| e.strength).fold(0.0, f64::max) as f32
    }

    /// The chance that a payment fails.
    pub(crate) fn payment_fails(&self, country: u8) -> f32 {
        self.strength(AnomalyKind::PaymentOutage, country)
    }

    /// The chance that a full cart is left behind at once.
    pub(crate) fn leaves_cart(&self, country: u8) -> f32 {
        self.strength(AnomalyKind::AbandonedCartSpike, country)
    }

    /// The chance that an event of the country is missing.
    pub(crate) fn missing(&self, country: u8) -> f32 {
        self.strength(AnomalyKind::CountryOutage, country)
    }

    /// Which share of the usual products goes into carts.
    pub(crate) fn cart_factor(&self, country: u8, category: u8) -> f32 {
        let lost = |e: &Effect| e.strength * (self.now - e.start) as f64 / (e.end - e.start) as f64;
        let factor: f64 = self.hitting(AnomalyKind::SlowDrift, country, category).map(|e| 1.0 - lost(e)).product();
        factor as f32
    }

    /// What a price in hundredths becomes.
    pub(crate) fn price_cents(&self, cents: i64, country: u8, category: u8) -> i64 {
        let wrong = |price: i64, e: &Effect| ((price as f64 * e.strength).round() as i64).clamp(1, 1_000_000_000_000);
        self.hitting(AnomalyKind::PriceBug, country, category).fold(cents, wrong)
    }

    /// The robots that click now.
    pub(crate) fn bots(&self) -> impl Iterator<Item = &Effect> {
        self.active.iter().filter(|e| e.kind == AnomalyKind::BotClickFlood)
    }

    fn hitting(&self, kind: AnomalyKind, country: u8, category: u8) -> impl Iterator<Item = &Effect> {
        self.active.iter().filter(move |e| {
            e.kind == kind && e.country.is_none_or(|c| c == country) && e.category.is_none_or(|c| c == category)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_anomaly_acts_from_its_start_up_to_its_end_and_only_where_it_should() {
        let outage = Anomaly {
            kind: AnomalyKind::PaymentOutage,
            start: Duration::from_millis(10),
            duration: Duration::from_millis(5),
            country: Some("FR".into()),
            category: None,
            strength: None,
        };
        let mut effects = Effects::new(&[outage], 1_000);
        let france = country_of("FR").unwrap();
        for (time, fails) in [(1_009, 0.0), (1_010, 1.0), (1_014, 1.0), (1_015, 0.0)] {
            effects.advance(time);
            assert_eq!(effects.payment_fails(france), fails, "at {time}");
            assert_eq!(effects.payment_fails(france + 1), 0.0);
        }
    }
}
