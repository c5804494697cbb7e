//! The event, as the shop means it.

use crate::{EventTime, Money};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::{Arc, LazyLock};

/// What the shopper did. The order is that of the Avro enum: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventType {
    /// A product page was shown.
    PageView,
    /// A product went into the cart.
    AddToCart,
    /// A product was taken out of the cart.
    RemoveFromCart,
    /// A product was put on the wish list.
    AddToWishlist,
    /// The checkout was entered.
    CheckoutStarted,
    /// A product was paid for.
    Purchase,
    /// A cart was left behind.
    CartAbandon,
    /// Money went back.
    Refund,
}

impl EventType {
    /// All types, in the order of the Avro enum.
    pub const ALL: [Self; 8] = [
        Self::PageView,
        Self::AddToCart,
        Self::RemoveFromCart,
        Self::AddToWishlist,
        Self::CheckoutStarted,
        Self::Purchase,
        Self::CartAbandon,
        Self::Refund,
    ];

    /// The name on the wire and in every table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PageView => "page_view",
            Self::AddToCart => "add_to_cart",
            Self::RemoveFromCart => "remove_from_cart",
            Self::AddToWishlist => "add_to_wishlist",
            Self::CheckoutStarted => "checkout_started",
            Self::Purchase => "purchase",
            Self::CartAbandon => "cart_abandon",
            Self::Refund => "refund",
        }
    }

    /// The type of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.as_str() == name)
    }

    /// Only what fills or pays a cart needs a quantity; for the rest it is 1 when none is said.
    pub(crate) const fn needs_quantity(self) -> bool {
        matches!(self, Self::AddToCart | Self::Purchase)
    }
}

/// One event, borrowing its texts. Field meanings: `schemas/event-v1.avsc`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs, reason = "the fields are documented once, in the Avro schema")]
pub struct Event<'a> {
    pub event_id: &'a str,
    pub event_type: EventType,
    pub event_time: EventTime,
    pub customer_id: Option<&'a str>,
    pub session_id: Option<&'a str>,
    pub order_id: Option<&'a str>,
    pub product_id: Option<&'a str>,
    pub category: Option<&'a str>,
    pub country: Option<&'a str>,
    pub device: Option<&'a str>,
    pub channel: Option<&'a str>,
    pub quantity: i32,
    pub unit_price: Option<Money>,
    pub currency: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// The message key: all events of one shopper meet in one partition.
    pub fn key(&self) -> &'a str {
        self.customer_id.or(self.session_id).unwrap_or(self.event_id)
    }
}

/// The Arrow columns of a batch of events: names as in the Avro schema, texts as string views,
/// `event_time` in UTC milliseconds, `unit_price` as decimal(18,4). Nulls as in the Avro schema.
pub fn event_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8View, nullable);
        Arc::new(Schema::new(vec![
            text("event_id", false),
            text("event_type", false),
            Field::new("event_time", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
            text("customer_id", true),
            text("session_id", true),
            text("order_id", true),
            text("product_id", true),
            text("category", true),
            text("country", true),
            text("device", true),
            text("channel", true),
            Field::new("quantity", DataType::Int32, false),
            Field::new("unit_price", DataType::Decimal128(Money::PRECISION, Money::SCALE as i8), true),
            text("currency", true),
        ]))
    });
    SCHEMA.clone()
}
