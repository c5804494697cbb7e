//! An event before it has words: numbers only, cheap to keep and to move.

use sluice_events::EventType;

/// No customer, no product.
pub(crate) const NONE: u32 = u32::MAX;

/// Who visits, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visitor {
    /// Customer number, or [`NONE`].
    pub(crate) customer: u32,
    pub(crate) session: u64,
    pub(crate) country: u8,
    pub(crate) segment: u8,
    pub(crate) device: u8,
    pub(crate) channel: u8,
}

/// An event to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draft {
    /// Event time in milliseconds.
    pub(crate) time: i64,
    /// The random part of the event id.
    pub(crate) id: [u8; 10],
    pub(crate) event_type: EventType,
    pub(crate) visitor: Visitor,
    /// 0: none.
    pub(crate) order: u64,
    /// Product number, or [`NONE`].
    pub(crate) product: u32,
    pub(crate) quantity: u8,
    /// Hundredths of the country's currency, when there is a product.
    pub(crate) price_cents: i64,
}
