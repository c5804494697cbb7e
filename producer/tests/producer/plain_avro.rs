//! Reads an event field by field, as `schemas/event-v1.avsc` says: slow, plain, and apart from the code that wrote it.

use crate::Row;
use sluice_events::EventType;

/// The event of a framed value; none when a byte is wrong, missing or left over.
pub(crate) fn event(value: &[u8], schema_id: u32) -> Option<Row> {
    let body = value.strip_prefix(&[0])?.strip_prefix(&schema_id.to_be_bytes())?;
    let mut rest = body;
    let event_id = text(&mut rest)?;
    let event_type = EventType::ALL.get(usize::try_from(long(&mut rest)?).ok()?)?.as_str().to_owned();
    let millis = long(&mut rest)?;
    let mut optional: Vec<String> = Vec::new();
    for _ in 0..8 {
        optional.push(if is_set(&mut rest)? { text(&mut rest)? } else { String::new() });
    }
    let quantity = i32::try_from(long(&mut rest)?).ok()?;
    let mut unit_price = 0;
    if is_set(&mut rest)? {
        let bytes = bytes(&mut rest)?;
        let sign = if *bytes.first()? >= 0x80 { -1 } else { 0 };
        unit_price = bytes.iter().fold(sign, |units: i128, byte| units << 8 | i128::from(*byte));
    }
    if is_set(&mut rest)? {
        text(&mut rest)?;
    }
    let [customer_id, session_id, order_id, _, category, country, _, _] = <[String; 8]>::try_from(optional).ok()?;
    let row = Row {
        event_id,
        event_type,
        millis,
        customer_id,
        session_id,
        order_id,
        category,
        country,
        quantity,
        unit_price,
    };
    rest.is_empty().then_some(row)
}

fn long(rest: &mut &[u8]) -> Option<i64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, tail) = rest.split_first()?;
        *rest = tail;
        number |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            return Some((number >> 1) as i64 ^ -((number & 1) as i64));
        }
    }
    None
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(long(rest)?).ok()?;
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

fn text(rest: &mut &[u8]) -> Option<String> {
    String::from_utf8(bytes(rest)?.to_vec()).ok()
}

fn is_set(rest: &mut &[u8]) -> Option<bool> {
    match long(rest)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
