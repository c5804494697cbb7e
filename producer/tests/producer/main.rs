//! The producer against a log: what arrives, in which order, and what a killed run leaves behind.

mod anomalies;
mod embedded;
mod memory_log;
mod pace;
mod plain_avro;
mod replay;
mod shop_files;
mod simulate;

use sluice_events::{DeadLetter, EventEncoder, Records, Schemas, Subject, TopicCodec};
use sluice_producer::ProducerTopics;
use std::collections::BTreeMap;

/// Topics of the shipped schemas.
fn topics() -> ProducerTopics {
    let schemas = Schemas::shipped();
    ProducerTopics {
        events: "events".into(),
        dead_letters: "dead-letters".into(),
        event_encoder: EventEncoder::Avro { schema_id: schemas.subject(Subject::Events).id },
        dead_letter_codec: TopicCodec::<DeadLetter>::new(schemas.subject(Subject::DeadLetters)),
    }
}

/// An event as a table would show it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    event_id: String,
    event_type: String,
    millis: i64,
    customer_id: String,
    session_id: String,
    order_id: String,
    category: String,
    country: String,
    quantity: i32,
    /// In ten-thousandths.
    unit_price: i128,
}

/// The events in records, and how many records hold none.
fn decode(records: &Records) -> (Vec<Row>, usize) {
    let id = Schemas::shipped().subject(Subject::Events).id;
    let rows: Vec<Row> = records.iter().filter_map(|(_, r)| plain_avro::event(r.value.unwrap(), id)).collect();
    let undecodable = records.len() - rows.len();
    (rows, undecodable)
}

fn count_by<K: Ord, T>(items: &[T], key: impl Fn(&T) -> K) -> BTreeMap<K, usize> {
    let mut counts = BTreeMap::new();
    items.iter().for_each(|item| *counts.entry(key(item)).or_default() += 1);
    counts
}
