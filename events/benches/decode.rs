//! Events a second and bytes a second through the decoder, Avro beside JSON.
//!
//! `cargo bench --workspace --bench decode` measures; `cargo test --benches` runs the same tiny.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_events::{
    Event, EventDecoder, EventEncoder, EventFormat, EventTime, EventType, LogTime, Money, Offset, RecordBuffer,
    Records, Schemas,
};
use std::{env, sync::Arc, time::Instant};

const BATCH: usize = 16_384;

fn main() {
    let batches = if env::args().any(|a| a == "--bench") { 200 } else { 1 };
    for format in [EventFormat::Avro, EventFormat::Json] {
        let schemas = Arc::new(Schemas::shipped());
        let records = records(EventEncoder::new(format, &schemas));
        let mut decoder = EventDecoder::new("events", format, schemas, 1 << 20);
        let began = Instant::now();
        for _ in 0..batches {
            let decoded = decoder.decode(0, &records).expect("the records decode");
            assert_eq!(decoded.events.num_rows(), BATCH, "every record is an event");
        }
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{format:?}: {:.0} events/s, {:.1} MB/s, {} bytes an event",
            (batches * BATCH) as f64 / seconds,
            (batches * records.payload_bytes()) as f64 / seconds / 1e6,
            records.payload_bytes() / BATCH
        );
    }
}

/// Events like those of the simulated shop.
fn records(encoder: EventEncoder) -> Records {
    let mut rng = ChaCha8Rng::seed_from_u64(42);
    let mut buffer = RecordBuffer::new();
    let mut value = Vec::new();
    for i in 0..BATCH {
        let event_id = format!("0192f0c1-7a3b-7{:03x}-8000-{:012x}", i % 4_096, rng.random_range(0..1_u64 << 48));
        let customer = format!("C{:07}", rng.random_range(0..20_000));
        let session = format!("{:032x}", rng.random::<u128>());
        let product = format!("P{:05}", rng.random_range(0..2_000));
        let event = Event {
            event_id: &event_id,
            event_type: EventType::ALL[rng.random_range(0..EventType::ALL.len())],
            event_time: EventTime::new(1_732_881_600_000 + i as i64),
            customer_id: rng.random_bool(0.8).then_some(&customer),
            session_id: Some(&session),
            order_id: None,
            product_id: Some(&product),
            category: Some("Garden & Outdoor"),
            country: Some("FR"),
            device: Some("mobile"),
            channel: Some("organic"),
            quantity: rng.random_range(1..4),
            unit_price: Some(Money::from_units(rng.random_range(10_000..5_000_000))),
            currency: Some("EUR"),
        };
        value.clear();
        encoder.encode(&event, &mut value);
        buffer.push(LogTime::new(event.event_time.get()), None, Some(&value), &[]);
    }
    Records::contiguous(Offset::new(0), buffer)
}
