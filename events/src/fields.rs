//! From the texts of an event to the event, or to the reason why it is none.

use crate::{Event, EventType, Money, MoneyError, Reason, parse_event_time};
use std::borrow::Cow;

/// Columns of an event, as in `schemas/event-v1.avsc`.
pub const EVENT_COLUMNS: [&str; 14] = [
    "event_id",
    "event_type",
    "event_time",
    "customer_id",
    "session_id",
    "order_id",
    "product_id",
    "category",
    "country",
    "device",
    "channel",
    "quantity",
    "unit_price",
    "currency",
];

/// Columns without which there is no event.
pub const REQUIRED_COLUMNS: [&str; 3] = ["event_id", "event_type", "event_time"];

/// The texts of an event as a line of a file or a JSON value has them. An empty text is none.
#[derive(Debug, Default)]
pub struct EventFields<'a>([Option<Cow<'a, str>>; EVENT_COLUMNS.len()]);

/// Why a line or a value is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of mistake.
    pub reason: Reason,
    /// Names the column, where it is one column's fault.
    pub message: String,
}

impl Refusal {
    /// A refusal with its message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    fn missing(column: &str) -> Self {
        Self::new(Reason::MissingField, format!("column '{column}' is missing or empty"))
    }
}

impl<'a> EventFields<'a> {
    /// Sets the text of a column, by its place in [`EVENT_COLUMNS`].
    ///
    /// # Panics
    /// When there is no such column.
    pub fn set(&mut self, column: usize, text: Cow<'a, str>) {
        self.0[column] = Some(text);
    }

    fn get(&self, column: usize) -> Option<&str> {
        self.0[column].as_deref().filter(|text| !text.is_empty())
    }

    fn required(&self, column: usize) -> Result<&str, Refusal> {
        self.get(column).ok_or_else(|| Refusal::missing(EVENT_COLUMNS[column]))
    }

    /// The event. What its fields may hold beyond their type is judged later, by the validation of the stream.
    ///
    /// # Errors
    /// With the first field that is missing or not of its type.
    pub fn event(&self) -> Result<Event<'_>, Refusal> {
        let event_id = self.required(0)?;
        let name = self.required(1)?;
        let event_type = EventType::from_name(name).ok_or_else(|| {
            Refusal::new(Reason::UnknownEventType, format!("column 'event_type': '{}' is no event type", short(name)))
        })?;
        let time = self.required(2)?;
        let event_time = parse_event_time(time)
            .map_err(|e| Refusal::new(Reason::BadTime, format!("column 'event_time': '{}': {e}", short(time))))?;
        Ok(Event {
            event_id,
            event_type,
            event_time,
            customer_id: self.get(3),
            session_id: self.get(4),
            order_id: self.get(5),
            product_id: self.get(6),
            category: self.get(7),
            country: self.get(8),
            device: self.get(9),
            channel: self.get(10),
            quantity: self.quantity(event_type)?,
            unit_price: self.unit_price()?,
            currency: self.get(13),
        })
    }

    fn quantity(&self, event_type: EventType) -> Result<i32, Refusal> {
        let Some(text) = self.get(11) else {
            return if event_type.needs_quantity() { Err(Refusal::missing("quantity")) } else { Ok(1) };
        };
        // Tables with empty cells are often written with all whole numbers as 2.0.
        let text = text.trim();
        let whole = text.split_once('.').filter(|(_, zeros)| zeros.bytes().all(|b| b == b'0')).map_or(text, |(w, _)| w);
        whole.parse().map_err(|_| {
            Refusal::new(Reason::BadField, format!("column 'quantity': '{}' is no whole number", short(text)))
        })
    }

    fn unit_price(&self) -> Result<Option<Money>, Refusal> {
        let Some(text) = self.get(12) else { return Ok(None) };
        Money::parse(text.trim()).map(Some).map_err(|e| {
            let reason = match e {
                MoneyError::NotANumber(_) => Reason::BadField,
                MoneyError::TooPrecise(_) | MoneyError::TooLarge(_) => Reason::PriceOutOfRange,
            };
            Refusal::new(reason, format!("column 'unit_price': {}", short(&e.to_string())))
        })
    }
}

/// At most 80 characters of a text, for a message.
pub(crate) fn short(text: &str) -> &str {
    text.char_indices().nth(80).map_or(text, |(at, _)| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &'static str)]) -> EventFields<'static> {
        let mut fields = EventFields::default();
        let base = [("event_id", "e1"), ("event_type", "page_view"), ("event_time", "2024-03-01T10:00:00Z")];
        for (name, text) in base.iter().chain(pairs) {
            let column = EVENT_COLUMNS.iter().position(|c| c == name).unwrap();
            fields.set(column, Cow::Borrowed(*text));
        }
        fields
    }

    #[test]
    fn a_quantity_is_one_unless_the_cart_is_meant() {
        assert_eq!(fields(&[]).event().unwrap().quantity, 1);
        assert_eq!(fields(&[("quantity", "3")]).event().unwrap().quantity, 3);
        assert_eq!(fields(&[("quantity", "3.0")]).event().unwrap().quantity, 3);
        assert_eq!(fields(&[("quantity", "-2")]).event().unwrap().quantity, -2);
        for (pairs, reason) in [
            (vec![("event_type", "purchase")], Reason::MissingField),
            (vec![("event_type", "add_to_cart"), ("quantity", "")], Reason::MissingField),
            (vec![("quantity", "1.5")], Reason::BadField),
            (vec![("quantity", "many")], Reason::BadField),
            (vec![("quantity", "99999999999")], Reason::BadField),
        ] {
            let refusal = fields(&pairs).event().unwrap_err();
            assert_eq!(refusal.reason, reason, "{pairs:?}");
            assert!(refusal.message.contains("'quantity'"));
        }
    }

    #[test]
    fn each_bad_field_has_its_reason_and_names_its_column() {
        for (column, text, reason) in [
            ("event_id", "", Reason::MissingField),
            ("event_type", "", Reason::MissingField),
            ("event_type", "teleport", Reason::UnknownEventType),
            ("event_time", "", Reason::MissingField),
            ("event_time", "yesterday", Reason::BadTime),
            ("unit_price", "cheap", Reason::BadField),
            ("unit_price", "1.23456", Reason::PriceOutOfRange),
            ("unit_price", "99999999999999999", Reason::PriceOutOfRange),
        ] {
            let refusal = fields(&[(column, text)]).event().unwrap_err();
            assert_eq!(refusal.reason, reason, "{column} {text}");
            assert!(refusal.message.contains(&format!("'{column}'")), "{}", refusal.message);
        }
    }
}
