//! Random records: events, partly late, partly twice, after silences and jumps of the clock; and now and then garbage.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use sluice_events::{Event, EventTime, EventType, LogTime, Money, RecordBuffer, encode_event};
use sluice_stream_processor::{StateLimits, TimeRules};
use std::time::Duration;

pub(crate) const SECOND: i64 = 1_000;
pub(crate) const MINUTE: i64 = 60 * SECOND;
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

/// The records of each partition, in their order; none: bytes that are no event.
pub(crate) type Shop = Vec<Vec<Option<ShopEvent>>>;

/// The rules of a seed.
pub(crate) fn rules(random: &mut ChaCha8Rng) -> TimeRules {
    let seconds = |n: u64| Duration::from_secs(n);
    TimeRules {
        out_of_orderness: seconds(*[0, 5, 30].choose(random).unwrap_or(&5)),
        allowed_lateness: seconds(*[0, 90, 300].choose(random).unwrap_or(&90)),
        late_grain: seconds(*[1, 20, 60].choose(random).unwrap_or(&60)),
        dedup_horizon: seconds(86_400),
    }
}

pub(crate) fn limits() -> StateLimits {
    StateLimits { dedup_ids_max: 1_000_000, groups_max: 1_000_000, state_bytes_max: usize::MAX }
}

pub(crate) fn records(random: &mut ChaCha8Rng, partitions: usize) -> Shop {
    let one = |(partition, random): (usize, &mut ChaCha8Rng)| {
        let mut now = START + random.random_range(0..5 * MINUTE);
        let mut events: Vec<Option<ShopEvent>> = Vec::new();
        for i in 0..random.random_range(0..250) {
            now += match random.random_range(0..300) {
                // Now and then the shop is silent for some windows, or its clock jumps.
                0..3 => 4 * MINUTE,
                3 => random.random_range(0..15 * MINUTE),
                4 => -random.random_range(0..10 * MINUTE),
                _ => random.random_range(0..4 * SECOND),
            };
            if random.random_bool(0.01) {
                events.push(None);
                continue;
            }
            if random.random_bool(0.05)
                && let Some(Some(again)) = events.choose(random).cloned()
            {
                events.push(Some(again));
                continue;
            }
            let behind = match random.random_range(0..20) {
                0 => random.random_range(0..6 * MINUTE),
                1..=5 => random.random_range(0..MINUTE),
                _ => random.random_range(0..5 * SECOND),
            };
            // Sums of times fall on the bounds of windows more often than chance would have it.
            let time = if random.random_bool(0.1) { (now - behind) / SECOND * SECOND } else { now - behind };
            events.push(Some(event(random, format!("{partition}-{i}"), time)));
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
        event_type: *types.choose(random).unwrap_or(&EventType::PageView),
        time,
        // A customer's events may be in any partition: sessions are put together all the same.
        customer: random.random_bool(0.8).then(|| format!("c{}", random.random_range(0..12))),
        country: *[Some("FR"), Some("DE"), None].choose(random).unwrap_or(&None),
        device: *[Some("mobile"), Some("desktop"), None].choose(random).unwrap_or(&None),
        quantity: random.random_range(1..5),
        price_units: random.random_bool(0.9).then(|| random.random_range(0..10_000_000)),
    }
}

/// Appends a record to a buffer as the log would hold it.
pub(crate) fn append(record: Option<&ShopEvent>, out: &mut RecordBuffer) {
    let Some(event) = record else {
        out.push(LogTime::new(0), None, Some(b"garbage"), &[]);
        return;
    };
    let mut value = Vec::new();
    let event = Event {
        event_id: &event.id,
        event_type: event.event_type,
        event_time: EventTime::new(event.time),
        customer_id: event.customer.as_deref(),
        session_id: None,
        order_id: None,
        product_id: Some("p"),
        category: None,
        country: event.country,
        device: event.device,
        channel: None,
        quantity: event.quantity,
        unit_price: event.price_units.map(Money::from_units),
        currency: None,
    };
    encode_event(&event, 1, &mut value);
    out.push(LogTime::new(0), None, Some(&value), &[]);
}
