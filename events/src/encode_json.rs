//! An event to its JSON object, written straight into a buffer.

use crate::Event;
use chrono::{DateTime, SecondsFormat};
use std::io::Write;

/// Appends the event as one JSON object on one line, without a line break: what it does not say is left out, the time
/// is ISO 8601 in UTC with milliseconds, the price is a number with its four places, exact as text.
///
/// # Panics
/// Never: a `Vec` takes every byte.
pub fn encode_event_json(event: &Event<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"event_id\":");
    text(event.event_id, out);
    out.extend_from_slice(b",\"event_type\":");
    text(event.event_type.as_str(), out);
    out.extend_from_slice(b",\"event_time\":");
    match DateTime::from_timestamp_millis(event.event_time.get()) {
        Some(time) => text(&time.to_rfc3339_opts(SecondsFormat::Millis, true), out),
        // Hundreds of thousands of years away: no reader takes it, as with Avro, but all can see what it was.
        None => number(event.event_time, out),
    }
    for (name, value) in [
        ("customer_id", event.customer_id),
        ("session_id", event.session_id),
        ("order_id", event.order_id),
        ("product_id", event.product_id),
        ("category", event.category),
        ("country", event.country),
        ("device", event.device),
        ("channel", event.channel),
        ("currency", event.currency),
    ] {
        if let Some(value) = value {
            key(name, out);
            text(value, out);
        }
    }
    key("quantity", out);
    number(event.quantity, out);
    if let Some(price) = event.unit_price {
        key("unit_price", out);
        number(price, out);
    }
    out.push(b'}');
}

fn key(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(value: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a Vec takes every byte");
}

fn number(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    write!(out, "{value}").expect("a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventTime, EventType, Money};

    #[test]
    fn an_event_is_one_line_that_says_no_more_than_it_knows() {
        let event = Event {
            event_id: "e\"1\n",
            event_type: EventType::Purchase,
            event_time: EventTime::new(1_709_287_200_250),
            customer_id: Some("é"),
            session_id: None,
            order_id: None,
            product_id: Some("p"),
            category: None,
            country: None,
            device: None,
            channel: None,
            quantity: 2,
            unit_price: Some(Money::from_units(-5)),
            currency: None,
        };
        let mut out = Vec::new();
        encode_event_json(&event, &mut out);
        let expected = r#"{"event_id":"e\"1\n","event_type":"purchase","event_time":"2024-03-01T10:00:00.250Z","customer_id":"é","product_id":"p","quantity":2,"unit_price":-0.0005}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
