//! Checks an Avro body against its writer's schema without building anything.
//!
//! The Arrow decoder appends column by column and cannot take a half-read row back, so each body is walked first:
//! what passes here decodes, what does not is a dead letter with the reason found.

use crate::{EventTime, EventType, Money, Reason};
use apache_avro::Schema;

const MILLIS_MAX: u64 = EventTime::LATEST.get().unsigned_abs();

/// A writer's schema, compiled to what the walk needs.
#[derive(Debug)]
pub(crate) enum Structure {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Price,
    Enum(usize),
    /// The event's time, in so many units a millisecond.
    EventTime(i64),
    /// The event type's symbols: whether each is one we know.
    EventType(Vec<bool>),
    Union(Vec<Structure>),
    Record(Vec<Structure>),
    Array(Box<Structure>),
    Map(Box<Structure>),
}

impl Structure {
    /// Compiles the writer's schema of an event.
    pub fn of_event(schema: &Schema) -> Result<Self, String> {
        let Schema::Record(record) = schema else { return Err("the schema is no record".to_owned()) };
        record
            .fields
            .iter()
            .map(|field| match (&*field.name, &field.schema) {
                ("event_type", Schema::Enum(symbols)) => {
                    Ok(Self::EventType(symbols.symbols.iter().map(|s| EventType::from_name(s).is_some()).collect()))
                }
                ("event_time", Schema::Long | Schema::TimestampMillis) => Ok(Self::EventTime(1)),
                ("event_time", Schema::TimestampMicros) => Ok(Self::EventTime(1_000)),
                _ => Self::of(&field.schema),
            })
            .collect::<Result<_, _>>()
            .map(Self::Record)
    }

    fn of(schema: &Schema) -> Result<Self, String> {
        Ok(match schema {
            Schema::Null => Self::Null,
            Schema::Boolean => Self::Boolean,
            Schema::Int | Schema::Date | Schema::TimeMillis => Self::Int,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Self::Long,
            Schema::Float => Self::Float,
            Schema::Double => Self::Double,
            Schema::Bytes => Self::Bytes,
            Schema::String | Schema::Uuid => Self::Text,
            Schema::Decimal(decimal) if decimal.scale == Money::SCALE as usize => Self::Price,
            Schema::Decimal(decimal) => return Err(format!("a decimal has scale {}, not 4", decimal.scale)),
            Schema::Fixed(fixed) => Self::Fixed(fixed.size),
            Schema::Enum(symbols) => Self::Enum(symbols.symbols.len()),
            Schema::Array(array) => Self::Array(Box::new(Self::of(&array.items)?)),
            Schema::Map(map) => Self::Map(Box::new(Self::of(&map.types)?)),
            Schema::Union(union) => Self::Union(union.variants().iter().map(Self::of).collect::<Result<_, _>>()?),
            Schema::Record(record) => {
                Self::Record(record.fields.iter().map(|f| Self::of(&f.schema)).collect::<Result<_, _>>()?)
            }
            other => return Err(format!("type {other:?} is not supported in an event schema")),
        })
    }

    /// Whether `body` is exactly one value of this structure.
    pub fn check(&self, body: &[u8]) -> Result<(), Reason> {
        let mut rest = body;
        self.walk(&mut rest)?;
        if rest.is_empty() { Ok(()) } else { Err(Reason::TrailingBytes) }
    }

    fn walk(&self, rest: &mut &[u8]) -> Result<(), Reason> {
        match self {
            Self::Null => Ok(()),
            Self::Boolean => match skip(rest, 1)? {
                [0 | 1] => Ok(()),
                _ => Err(Reason::Malformed),
            },
            Self::Int => match i32::try_from(number(rest)?) {
                Ok(_) => Ok(()),
                Err(_) => Err(Reason::Malformed),
            },
            Self::Long => number(rest).map(drop),
            Self::Float => skip(rest, 4).map(drop),
            Self::Double => skip(rest, 8).map(drop),
            Self::Fixed(size) => skip(rest, *size).map(drop),
            Self::Bytes => sized(rest).map(drop),
            Self::Text => match std::str::from_utf8(sized(rest)?) {
                Ok(_) => Ok(()),
                Err(_) => Err(Reason::Malformed),
            },
            Self::Price => price(sized(rest)?),
            Self::Enum(symbols) => match usize::try_from(number(rest)?) {
                Ok(symbol) if symbol < *symbols => Ok(()),
                _ => Err(Reason::Malformed),
            },
            Self::EventTime(per_milli) => match (number(rest)? / per_milli).unsigned_abs() {
                0..=MILLIS_MAX => Ok(()),
                _ => Err(Reason::BadTime),
            },
            Self::EventType(known) => match usize::try_from(number(rest)?).ok().and_then(|i| known.get(i)) {
                Some(true) => Ok(()),
                _ => Err(Reason::UnknownEventType),
            },
            Self::Union(branches) => match usize::try_from(number(rest)?).ok().and_then(|i| branches.get(i)) {
                Some(branch) => branch.walk(rest),
                None => Err(Reason::Malformed),
            },
            Self::Record(fields) => fields.iter().try_for_each(|field| field.walk(rest)),
            Self::Array(items) => blocks(rest, |rest| items.walk(rest)),
            Self::Map(values) => blocks(rest, |rest| {
                Self::Text.walk(rest)?;
                values.walk(rest)
            }),
        }
    }
}

fn skip<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], Reason> {
    let (head, tail) = rest.split_at_checked(n).ok_or(Reason::Truncated)?;
    *rest = tail;
    Ok(head)
}

fn number(rest: &mut &[u8]) -> Result<i64, Reason> {
    let mut value = 0_u64;
    for (i, byte) in rest.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if i == 9 && *byte > 1 {
            // More than 64 bits.
            return Err(Reason::Malformed);
        }
        if byte & 0x80 == 0 {
            *rest = &rest[i + 1..];
            return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    Err(if rest.len() < 10 { Reason::Truncated } else { Reason::Malformed })
}

fn sized<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Reason> {
    let length = usize::try_from(number(rest)?).map_err(|_| Reason::Malformed)?;
    skip(rest, length)
}

/// Two's complement, big-endian; at most 18 digits.
fn price(bytes: &[u8]) -> Result<(), Reason> {
    if bytes.is_empty() || bytes.len() > 8 {
        return Err(Reason::PriceOutOfRange);
    }
    let start = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
    let units = bytes.iter().fold(start, |sum: i64, byte| (sum << 8) | i64::from(*byte));
    if units.unsigned_abs() < 10_u64.pow(u32::from(Money::PRECISION)) { Ok(()) } else { Err(Reason::PriceOutOfRange) }
}

fn blocks(rest: &mut &[u8], mut item: impl FnMut(&mut &[u8]) -> Result<(), Reason>) -> Result<(), Reason> {
    loop {
        let mut count = number(rest)?;
        if count == 0 {
            return Ok(());
        }
        if count < 0 {
            number(rest)?;
            count = count.checked_neg().ok_or(Reason::Malformed)?;
        }
        for _ in 0..count {
            let before = rest.len();
            item(rest)?;
            if rest.len() == before {
                // Items without bytes could be claimed by the billion.
                return Err(Reason::Malformed);
            }
        }
    }
}
