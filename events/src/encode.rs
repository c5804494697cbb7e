//! An event to its Avro body, written straight into a buffer: no allocation, no intermediate value.

use crate::Event;

/// Appends the event in the Confluent wire format: magic 0, `schema_id`, the body of `schemas/event-v1.avsc`.
pub fn encode_event(event: &Event<'_>, schema_id: u32, out: &mut Vec<u8>) {
    out.push(0);
    out.extend_from_slice(&schema_id.to_be_bytes());
    text(event.event_id, out);
    long(event.event_type as i64, out);
    long(event.event_time.get(), out);
    for field in [
        event.customer_id,
        event.session_id,
        event.order_id,
        event.product_id,
        event.category,
        event.country,
        event.device,
        event.channel,
    ] {
        optional_text(field, out);
    }
    long(i64::from(event.quantity), out);
    match event.unit_price {
        None => out.push(0),
        Some(price) => {
            out.push(2);
            let bytes = price.units().to_be_bytes();
            let sign = if price.units() < 0 { 0xff } else { 0x00 };
            // The shortest two's complement form: drop leading bytes that only repeat the sign.
            let skip = (0..7).take_while(|i| bytes[*i] == sign && (bytes[i + 1] & 0x80) == (sign & 0x80)).count();
            long((8 - skip) as i64, out);
            out.extend_from_slice(&bytes[skip..]);
        }
    }
    optional_text(event.currency, out);
}

/// Avro's variable-length zig-zag number.
fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn text(value: &str, out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value.as_bytes());
}

fn optional_text(value: Option<&str>, out: &mut Vec<u8>) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            text(value, out);
        }
    }
}
