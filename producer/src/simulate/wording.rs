//! Gives a draft its words. The texts live in buffers that are used again for every event.

use super::{
    countries::COUNTRIES,
    draft::{Draft, NONE},
    products::{CATEGORIES, Catalogue},
};
use sluice_events::{Event, EventTime, Money};
use uuid::Builder;

const DEVICES: [&str; 3] = ["mobile", "desktop", "tablet"];
const CHANNELS: [&str; 6] = ["direct", "organic", "paid_search", "email", "social", "affiliate"];

/// A customer's id as text.
pub(crate) fn customer_text(number: u32) -> String {
    format!("C{number:07}")
}

/// A product's id as text.
pub(crate) fn product_text(number: u32) -> String {
    format!("P{:06}", number + 1)
}

/// Buffers for the texts of one event.
pub(crate) struct Wording {
    products: Vec<(String, &'static str)>,
    event_id: [u8; 36],
    customer: [u8; 11],
    session: [u8; 17],
    order: [u8; 17],
}

impl Wording {
    pub(crate) fn new(catalogue: &Catalogue) -> Self {
        let words = |p| (product_text(p), CATEGORIES[usize::from(catalogue.category(p))].0);
        Self {
            products: (0..catalogue.len()).map(words).collect(),
            event_id: [0; 36],
            customer: [b'C'; 11],
            session: [b'S'; 17],
            order: [b'O'; 17],
        }
    }

    /// The event of a draft, stamped with `event_time`; the id keeps the draft's own time.
    pub(crate) fn event(&mut self, draft: &Draft, event_time: i64) -> Event<'_> {
        let visitor = &draft.visitor;
        let country = &COUNTRIES[usize::from(visitor.country)];
        let id = Builder::from_unix_timestamp_millis(draft.time.max(0) as u64, &draft.id).into_uuid();
        let product = (draft.product != NONE).then(|| &self.products[draft.product as usize]);
        Event {
            event_id: id.hyphenated().encode_lower(&mut self.event_id),
            event_type: draft.event_type,
            event_time: EventTime::new(event_time),
            customer_id: (visitor.customer != NONE).then(|| decimal(visitor.customer, &mut self.customer)),
            session_id: Some(hexadecimal(visitor.session, &mut self.session)),
            order_id: (draft.order != 0).then(|| hexadecimal(draft.order, &mut self.order)),
            product_id: product.map(|(id, _)| id.as_str()),
            category: product.map(|(_, category)| *category),
            country: Some(country.code),
            device: Some(DEVICES[usize::from(visitor.device)]),
            channel: Some(CHANNELS[usize::from(visitor.channel)]),
            quantity: i32::from(draft.quantity),
            unit_price: product.map(|_| Money::from_units(draft.price_cents * 100)),
            currency: Some(country.currency),
        }
    }
}

/// The letter that stands first in `out`, then at least seven digits.
fn decimal(mut number: u32, out: &mut [u8; 11]) -> &str {
    let digits = number.checked_ilog10().map_or(7, |log| (log as usize + 1).max(7));
    for byte in out[1..=digits].iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
    ascii(&out[..=digits])
}

/// The letter that stands first in `out`, then 16 hexadecimal digits.
fn hexadecimal(number: u64, out: &mut [u8; 17]) -> &str {
    for (i, byte) in out[1..].iter_mut().enumerate() {
        *byte = b"0123456789abcdef"[(number >> (60 - 4 * i) & 15) as usize];
    }
    ascii(out)
}

fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("digits and letters are ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_get_words_of_their_own() {
        assert_eq!(decimal(42, &mut [b'C'; 11]), customer_text(42));
        assert_eq!(decimal(9_999_999, &mut [b'C'; 11]), "C9999999");
        assert_eq!(decimal(u32::MAX, &mut [b'C'; 11]), customer_text(u32::MAX));
        assert_eq!(decimal(10_000_000, &mut [b'C'; 11]), "C10000000");
        assert_eq!(hexadecimal(0xabc0_0000_0000_0001, &mut [b'O'; 17]), "Oabc0000000000001");
    }
}
