//! Random events, partly late, partly twice.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use sluice_events::EventType;
use sluice_stream_processor::{StateLimits, TimeRules};
use std::time::Duration;

pub(crate) const MINUTE: i64 = 60_000;
const START: i64 = 1_700_000_000_000;

#[derive(Clone, Debug)]
pub(crate) struct ShopEvent {
    pub id: String,
    pub event_type: EventType,
    pub time: i64,
    pub customer: Option<String>,
    pub country: Option<&'static str>,
    pub device: Option<&'static str>,
    pub quantity: i32,
    pub price_units: Option<i64>,
}

/// The records of each partition, in their order.
pub(crate) type Shop = Vec<Vec<ShopEvent>>;

pub(crate) fn rules() -> TimeRules {
    TimeRules {
        out_of_orderness: Duration::from_secs(5),
        allowed_lateness: Duration::from_secs(90),
        late_grain: Duration::from_secs(60),
        dedup_horizon: Duration::from_secs(86_400),
    }
}

pub(crate) fn limits() -> StateLimits {
    StateLimits { dedup_ids_max: 1_000_000, groups_max: 1_000_000, state_bytes_max: usize::MAX }
}

pub(crate) fn events(random: &mut ChaCha8Rng, partitions: usize) -> Shop {
    let one = |(partition, random): (usize, &mut ChaCha8Rng)| {
        let mut now = START + random.random_range(0..5 * MINUTE);
        let mut events: Vec<ShopEvent> = Vec::new();
        for i in 0..random.random_range(0..300) {
            // Now and then the shop is silent for some windows.
            now += if random.random_bool(0.01) { 4 * MINUTE } else { random.random_range(0..4_000) };
            if random.random_bool(0.05)
                && let Some(again) = events.choose(random).cloned()
            {
                events.push(again);
                continue;
            }
            let behind = match random.random_range(0..20) {
                0 => random.random_range(0..6 * MINUTE),
                1..=5 => random.random_range(0..MINUTE),
                _ => random.random_range(0..5_000),
            };
            events.push(event(random, format!("{partition}-{i}"), now - behind));
        }
        events
    };
    (0..partitions).map(|partition| one((partition, random))).collect()
}

fn event(random: &mut ChaCha8Rng, id: String, time: i64) -> ShopEvent {
    let types =
        [EventType::PageView, EventType::PageView, EventType::AddToCart, EventType::Purchase, EventType::Refund];
    ShopEvent {
        id,
        event_type: *types.choose(random).unwrap(),
        time,
        customer: random.random_bool(0.8).then(|| format!("c{}", random.random_range(0..30))),
        country: *[Some("FR"), Some("DE"), None].choose(random).unwrap(),
        device: *[Some("mobile"), Some("desktop"), None].choose(random).unwrap(),
        quantity: random.random_range(1..5),
        price_units: random.random_bool(0.9).then(|| random.random_range(0..10_000_000)),
    }
}
