//! How a writer writes one of our columns, and which ways of writing we can read.

use super::{columns::Conversion, named_types::NamedTypes};
use crate::{
    EventType, Money,
    fields::short,
    structure::{Price, Structure},
};
use apache_avro::{Schema, schema::DecimalSchema};
use serde_json::{Value, json};

/// Columns that every event has, and that have no default.
pub(super) const REQUIRED: [&str; 3] = crate::REQUIRED_COLUMNS;

/// More digits are no Arrow decimal of 128 bits.
const DIGITS_MAX: usize = 38;

/// How one of our columns is written.
pub(super) struct Source {
    kind: Kind,
    null: Null,
}

enum Kind {
    /// A text, or bytes that have to be one: both are written alike.
    Text,
    Symbols(Vec<String>),
    Int,
    /// So many units a millisecond.
    Time(i64),
    Price(Price),
}

/// Whether and where null stands in the union.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    NoUnion,
    First,
    Second,
    /// A union of one type.
    Absent,
}

impl Source {
    /// How the column is written, none if it is always null.
    ///
    /// # Errors
    /// When a value of the schema could not be read, or could be read as something else than what was meant.
    pub fn of(column: &str, types: &NamedTypes<'_>, schema: &Schema) -> Result<Option<Self>, String> {
        let schema = types.resolved(schema);
        let (value, null) = match schema {
            Schema::Union(union) => match union.variants() {
                [value] => (value, Null::Absent),
                [Schema::Null, value] => (value, Null::First),
                [value, Schema::Null] => (value, Null::Second),
                _ => return Err("a union of several types cannot be read".to_owned()),
            },
            _ => (schema, Null::NoUnion),
        };
        let value = types.resolved(value);
        if *value == Schema::Null && !REQUIRED.contains(&column) && column != "quantity" {
            return Ok(None);
        }
        let kind = match column {
            "event_time" => time(value),
            "quantity" => match value {
                Schema::Int => Ok(Kind::Int),
                other => Err(cannot(other, "an int")),
            },
            "unit_price" => price(types, value),
            _ => match value {
                Schema::String | Schema::Uuid | Schema::Bytes => Ok(Kind::Text),
                Schema::Enum(symbols) => Ok(Kind::Symbols(symbols.symbols.clone())),
                other => Err(cannot(other, "a text")),
            },
        };
        Ok(Some(Self { kind: kind?, null }))
    }

    pub fn may_be_null(&self) -> bool {
        matches!(self.null, Null::First | Null::Second)
    }

    /// What the check of a body needs.
    pub fn structure(&self, column: &str) -> Structure {
        let value = match &self.kind {
            Kind::Text if column == "event_type" => Structure::EventTypeName,
            Kind::Text => Structure::Text,
            Kind::Symbols(symbols) if column == "event_type" => {
                Structure::EventType(symbols.iter().map(|symbol| EventType::from_name(symbol)).collect())
            }
            Kind::Symbols(symbols) => Structure::Enum(symbols.len()),
            Kind::Int => Structure::Int,
            Kind::Time(per_milli) => Structure::EventTime(*per_milli),
            Kind::Price(price) => Structure::Price(*price),
        };
        let null = if REQUIRED.contains(&column) { Structure::Missing } else { Structure::Nothing };
        match self.null {
            Null::NoUnion => value,
            Null::Absent => Structure::Union(vec![value]),
            Null::First => Structure::Union(vec![null, value]),
            Null::Second => Structure::Union(vec![value, null]),
        }
    }

    /// The type that arrow-avro reads the same bytes with.
    pub fn avro_type(&self, column: &str) -> Value {
        let value = match &self.kind {
            Kind::Text => json!("string"),
            Kind::Symbols(symbols) => json!({ "type": "enum", "name": format!("{column}_type"), "symbols": symbols }),
            Kind::Int => json!("int"),
            Kind::Time(1) => json!({ "type": "long", "logicalType": "timestamp-millis" }),
            Kind::Time(_) => json!("long"),
            Kind::Price(Price { scale, size: None }) => {
                let digits = if *scale == Money::SCALE { usize::from(Money::PRECISION) } else { DIGITS_MAX };
                json!({ "type": "bytes", "logicalType": "decimal", "precision": digits, "scale": scale })
            }
            // Read as bytes: the widest type of that size would have another number of digits for each size.
            Kind::Price(Price { size: Some(size), .. }) => {
                json!({ "type": "fixed", "name": format!("{column}_type"), "size": size })
            }
        };
        match self.null {
            Null::NoUnion => value,
            Null::First => json!(["null", value]),
            // A union of one type writes its number, 0, as well.
            Null::Second | Null::Absent => json!([value, "null"]),
        }
    }

    /// What makes the decoded column one of ours.
    pub fn conversion(&self) -> Conversion {
        match &self.kind {
            Kind::Time(per_milli) if *per_milli != 1 => Conversion::Time { per_milli: *per_milli },
            Kind::Price(Price { scale, size: None }) if *scale == Money::SCALE => Conversion::Cast,
            Kind::Price(price) => Conversion::Price(*price),
            Kind::Int if self.may_be_null() => Conversion::OneForNull,
            _ => Conversion::Cast,
        }
    }
}

/// Without a logical type a number is taken as ours: in other units it is a date before 1980 or beyond the year 9999, and
/// refused. A wall clock without a zone, a day, or a time of day is no moment.
fn time(schema: &Schema) -> Result<Kind, String> {
    match schema {
        Schema::Int | Schema::Long | Schema::TimestampMillis => Ok(Kind::Time(1)),
        Schema::TimestampMicros => Ok(Kind::Time(1_000)),
        Schema::TimestampNanos => Ok(Kind::Time(1_000_000)),
        other => Err(cannot(other, "a moment in UTC")),
    }
}

/// A number that does not say where its point is could be of any scale, and a float is not exact.
fn price(types: &NamedTypes<'_>, schema: &Schema) -> Result<Kind, String> {
    let Schema::Decimal(DecimalSchema { scale, inner, .. }) = schema else {
        return Err(cannot(schema, "a decimal"));
    };
    let size = match types.resolved(inner) {
        Schema::Fixed(fixed) if (1..=size_of::<i128>()).contains(&fixed.size) => Some(fixed.size),
        Schema::Bytes => None,
        _ => return Err(cannot(schema, "a decimal of at most 16 bytes")),
    };
    match u32::try_from(*scale) {
        Ok(scale) if scale as usize <= DIGITS_MAX => Ok(Kind::Price(Price { scale, size })),
        _ => Err(cannot(schema, "a decimal of at most 38 digits")),
    }
}

fn cannot(schema: &Schema, wanted: &str) -> String {
    let text = serde_json::to_string(schema).unwrap_or_default();
    format!("{} cannot be read as {wanted}", short(&text))
}
