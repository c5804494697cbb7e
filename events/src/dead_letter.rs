//! What could not be taken, kept whole.

use crate::{LogTime, Records};
use serde::{Deserialize, Serialize};

/// Where on its way a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Stage {
    /// A line of a replayed file that is no event. It never reached the topic.
    Replay,
    /// The value cannot be decoded. Not in bronze.
    Decode,
    /// It decodes, but breaks a rule. In bronze too, as received.
    Validate,
    /// A row of a batch file that is no customer or order. In bronze too, as received.
    Load,
    /// An answer of a feed that is no row. Its place is one of the topic of feeds, not of the events.
    Feed,
}

impl Stage {
    /// The name in tables and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Decode => "decode",
            Self::Validate => "validate",
            Self::Load => "load",
            Self::Feed => "feed",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal),* $(,)?) => {
        /// Why a record was refused. The codes are stable: queries and alerts use them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub enum Reason { $($(#[$doc])* $name),* }

        impl Reason {
            /// All reasons.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The stable code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }
        }
    };
}

reasons! {
    /// The record has no value (a tombstone has no meaning in an event topic).
    EmptyValue = "empty_value",
    /// The first byte is not the Confluent magic byte 0.
    NoMagicByte = "no_magic_byte",
    /// No registry knows the schema id.
    UnknownSchema = "unknown_schema_id",
    /// The writer's schema cannot be read as ours.
    IncompatibleSchema = "incompatible_schema",
    /// The body ends in the middle of a field.
    Truncated = "truncated_body",
    /// Bytes are left after the last field.
    TrailingBytes = "trailing_bytes",
    /// A field's bytes are not of its type (union branch, text encoding, length).
    Malformed = "malformed_body",
    /// The value is larger than the limit.
    TooLarge = "value_too_large",
    /// The event type is none we know.
    UnknownEventType = "unknown_event_type",
    /// A price that does not fit decimal(18,4).
    PriceOutOfRange = "price_out_of_range",
    /// No event id.
    MissingEventId = "missing_event_id",
    /// Stamped before 1980.
    TooOld = "before_1980",
    /// Stamped too far after its log time.
    Future = "future",
    /// A cart or purchase event without a product.
    MissingProduct = "missing_product_id",
    /// A cart or purchase event whose quantity is not above 0.
    BadQuantity = "bad_quantity",
    /// A price below 0.
    NegativePrice = "negative_price",
    /// It breaks a hard expectation of the settings; the message names it.
    Quarantined = "quarantined",
    /// The line or value is no JSON object.
    BadJson = "bad_json",
    /// The line is no CSV record with the header's columns.
    BadCsv = "bad_csv",
    /// A field that every event has is missing.
    MissingField = "missing_field",
    /// A field's text is not of its type.
    BadField = "bad_field",
    /// The event time cannot be read.
    BadTime = "bad_event_time",
    /// The bytes are not UTF-8.
    BadEncoding = "bad_encoding",
    /// The date of a row cannot be read.
    BadDate = "bad_date",
    /// The amount of a row is no number.
    BadAmount = "bad_amount",
    /// The amount of a row may mean thousands or decimals, as `1,234`.
    AmbiguousAmount = "ambiguous_amount",
    /// The amount of a row is 0 or below.
    AmountNotPositive = "amount_not_positive",
    /// The amount of a row is too large or too precise to be held exactly.
    AmountOutOfRange = "amount_out_of_range",
    /// The row names a customer that nobody knows.
    UnknownCustomer = "unknown_customer",
    /// The file was cut off in the middle of the row.
    TruncatedFile = "truncated_file",
}

impl From<Stage> for String {
    fn from(stage: Stage) -> Self {
        stage.as_str().to_owned()
    }
}

impl TryFrom<String> for Stage {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        [Self::Replay, Self::Decode, Self::Validate, Self::Load, Self::Feed]
            .into_iter()
            .find(|s| s.as_str() == name)
            .ok_or(format!("'{name}' is no stage"))
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.code().to_owned()
    }
}

impl TryFrom<String> for Reason {
    type Error = String;
    fn try_from(code: String) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|r| r.code() == code).ok_or(format!("'{code}' is no reason code"))
    }
}

/// A record that could not be taken. Fields: `schemas/dead-letter-v1.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are documented once, in the Avro schema")]
pub struct DeadLetter {
    pub stage: Stage,
    pub reason: Reason,
    pub message: String,
    #[serde(with = "optional_bytes")]
    pub key: Option<Vec<u8>>,
    #[serde(with = "optional_bytes")]
    pub value: Option<Vec<u8>>,
    #[serde(with = "optional_bytes")]
    pub headers: Option<Vec<u8>>,
    pub source: String,
    pub partition: Option<i32>,
    pub position: i64,
    pub log_time: LogTime,
}

impl DeadLetter {
    /// The letter of a record of a topic: `record` is its place in `records`.
    pub fn of_record(
        (stage, reason, message): (Stage, Reason, String),
        (topic, partition): (&str, i32),
        records: &Records,
        record: usize,
    ) -> Self {
        let view = records.get(record);
        Self {
            stage,
            reason,
            message,
            key: view.key.map(<[u8]>::to_vec),
            value: view.value.map(<[u8]>::to_vec),
            headers: (!view.headers.is_empty()).then(|| view.headers.to_vec()),
            source: topic.to_owned(),
            partition: Some(partition),
            position: records.offset(record).get(),
            log_time: view.time,
        }
    }

    /// The id of the schema that the value says it was written with, in the Confluent wire format; none when it says
    /// none, or never was a record of a topic.
    pub fn schema_id(&self) -> Option<u32> {
        if !matches!(self.stage, Stage::Decode | Stage::Validate) {
            return None;
        }
        match self.value.as_deref()?.first_chunk::<5>()? {
            [0, id @ ..] => Some(u32::from_be_bytes(*id)),
            _ => None,
        }
    }
}

/// Lets serde see bytes where it would see a list of numbers.
pub(crate) mod optional_bytes {
    use serde::{Deserializer, Serializer, de::Visitor};
    use std::fmt;

    pub fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        struct Bytes<'a>(&'a [u8]);
        impl serde::Serialize for Bytes<'_> {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_bytes(self.0)
            }
        }
        match bytes {
            Some(bytes) => to.serialize_some(&Bytes(bytes)),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u8>>, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Option<Vec<u8>>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes or null")
            }
            fn visit_none<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(None)
            }
            fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
                from.deserialize_byte_buf(self)
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Some(bytes.to_vec()))
            }
            fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
                Ok(Some(bytes))
            }
        }
        from.deserialize_option(Bytes)
    }
}
