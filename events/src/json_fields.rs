//! A JSON object to its fields: numbers keep their exact text.

use crate::{
    EventFields, Reason, Refusal,
    fields::{EVENT_COLUMNS, short},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Known keys as they stand in the object; other keys are passed over.
#[derive(Deserialize)]
struct Row<'a> {
    #[serde(borrow, default)]
    event_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_type: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event_time: Option<&'a RawValue>,
    #[serde(borrow, default)]
    customer_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    order_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    product_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    category: Option<&'a RawValue>,
    #[serde(borrow, default)]
    country: Option<&'a RawValue>,
    #[serde(borrow, default)]
    device: Option<&'a RawValue>,
    #[serde(borrow, default)]
    channel: Option<&'a RawValue>,
    #[serde(borrow, default)]
    quantity: Option<&'a RawValue>,
    #[serde(borrow, default)]
    unit_price: Option<&'a RawValue>,
    #[serde(borrow, default)]
    currency: Option<&'a RawValue>,
}

impl<'a> EventFields<'a> {
    /// The fields of one JSON object, a line of NDJSON or a value of a topic: a text or a number each, null is none,
    /// other keys are passed over.
    ///
    /// # Errors
    /// When the bytes are no JSON object, or a field is neither text nor number.
    pub fn from_json(json: &'a [u8]) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(json)
            .map_err(|e| Refusal::new(Reason::BadEncoding, format!("byte {} is not UTF-8", e.valid_up_to() + 1)))?;
        if !text.trim_ascii_start().starts_with('{') {
            return Err(Refusal::new(Reason::BadJson, "no JSON object"));
        }
        let row: Row<'a> = serde_json::from_str(text).map_err(|e| {
            Refusal::new(Reason::BadJson, format!("no JSON object of an event: {}", short(&e.to_string())))
        })?;
        let raw = [
            row.event_id,
            row.event_type,
            row.event_time,
            row.customer_id,
            row.session_id,
            row.order_id,
            row.product_id,
            row.category,
            row.country,
            row.device,
            row.channel,
            row.quantity,
            row.unit_price,
            row.currency,
        ];
        let mut fields = Self::default();
        for (column, value) in raw.into_iter().enumerate() {
            if let Some(text) = value.map(|value| text_of(value.get(), column)).transpose()?.flatten() {
                fields.set(column, text);
            }
        }
        Ok(fields)
    }
}

/// The text of a JSON string or number.
fn text_of(raw: &str, column: usize) -> Result<Option<Cow<'_, str>>, Refusal> {
    match raw.as_bytes() {
        b"null" => Ok(None),
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Ok(Some(Cow::Borrowed(&raw[1..raw.len() - 1]))),
        [b'"', ..] => serde_json::from_str(raw).map(|text| Some(Cow::Owned(text))).map_err(|e| {
            Refusal::new(Reason::BadEncoding, format!("column '{}': {}", EVENT_COLUMNS[column], short(&e.to_string())))
        }),
        [b'-' | b'0'..=b'9', ..] => Ok(Some(Cow::Borrowed(raw))),
        _ => {
            let message = format!("column '{}': '{}' is neither text nor a number", EVENT_COLUMNS[column], short(raw));
            Err(Refusal::new(Reason::BadField, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventTime, EventType, Money};

    #[test]
    fn numbers_and_texts_are_both_taken_and_prices_stay_exact() {
        let line = br#" {"event_id":17,"event_type":"purchase","event_time":"2019-10-01T00:00:01.000Z","customer_id":541312140,"quantity":"2","unit_price":0.1,"category":null,"country":"","product_id":"a\"b","extra":{"deep":[1]}}"#;
        let fields = EventFields::from_json(line).unwrap();
        let event = fields.event().unwrap();
        assert_eq!(event.event_id, "17");
        assert_eq!(event.event_type, EventType::Purchase);
        assert_eq!(event.event_time, EventTime::new(1_569_888_001_000));
        assert_eq!(event.customer_id, Some("541312140"));
        assert_eq!((event.quantity, event.unit_price), (2, Some(Money::from_units(1_000))));
        assert_eq!((event.category, event.country, event.product_id), (None, None, Some("a\"b")));
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_reason() {
        for (line, reason) in [
            (&b"[1,2]"[..], Reason::BadJson),
            (b"nonsense", Reason::BadJson),
            (br#"{"event_id":"1""#, Reason::BadJson),
            (br#"{"event_id":"1"} {}"#, Reason::BadJson),
            (br#"{"event_id":"1","event_id":"2"}"#, Reason::BadJson),
            (br#"{"event_id":["1"]}"#, Reason::BadField),
            (br#"{"event_id":true}"#, Reason::BadField),
            (b"{\"event_id\":\"\xff\"}", Reason::BadEncoding),
            (br#"{"event_id":"\ud800"}"#, Reason::BadEncoding),
        ] {
            let refusal = EventFields::from_json(line).unwrap_err();
            assert_eq!(refusal.reason, reason, "{}: {}", String::from_utf8_lossy(line), refusal.message);
        }
    }
}
