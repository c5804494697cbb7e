//! Checks an Avro body against its writer's schema without building anything.
//!
//! The Arrow decoder appends column by column and cannot take a half-read row back, so each body is walked first:
//! what passes here decodes, what does not is a dead letter with the reason found.

use crate::{EventTime, EventType, Money, Reason};

const MILLIS_MAX: u64 = EventTime::LATEST.get().unsigned_abs();
/// Types within types of a body, at most: a writer's schema may name itself, and a body must not exhaust the stack.
const DEPTH_MAX: usize = 64;

/// A type of a writer's schema, compiled to what the walk needs.
#[derive(Debug)]
pub(crate) enum Structure {
    /// Takes no bytes.
    Nothing,
    Boolean,
    Int,
    Long,
    Bytes,
    Text,
    Fixed(usize),
    Enum(usize),
    /// The null of a column that every event has.
    Missing,
    Price(Price),
    /// The event's time, in so many units a millisecond.
    EventTime(i64),
    /// The event type's symbols: what each means to us.
    EventType(Vec<Option<EventType>>),
    /// The event type as a text.
    EventTypeName,
    Union(Vec<Structure>),
    Record(Vec<Structure>),
    Array(Box<Structure>),
    Map(Box<Structure>),
    /// A type with a name, by its place in [`EventStructure::named`].
    Named(usize),
}

/// How a decimal is written: two's complement, big-endian.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    /// Digits after the point.
    pub scale: u32,
    /// Bytes of every value; none when each has its own length.
    pub size: Option<usize>,
}

/// A field of the writer's record.
#[derive(Debug)]
pub(crate) struct EventField {
    /// Its name in the writer's schema.
    pub name: String,
    pub structure: Structure,
    /// Whether it is a column of ours.
    pub kept: bool,
}

/// The writer's record, compiled.
#[derive(Debug)]
pub(crate) struct EventStructure {
    /// In the order of the body.
    pub fields: Vec<EventField>,
    /// Types that have a name.
    pub named: Vec<Structure>,
    /// Where event type and quantity stand, when the quantity may be null.
    pub nullable_quantity: Option<(usize, usize)>,
}

/// What is wrong with a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault<'a> {
    pub reason: Reason,
    /// The writer's name of the field.
    pub field: Option<&'a str>,
}

impl EventStructure {
    /// Whether `body` is exactly one value of this structure. The bytes of our columns are appended to `kept`; what is
    /// there after a fault is of no use.
    pub fn check(&self, body: &[u8], mut kept: Option<&mut Vec<u8>>) -> Result<(), Fault<'_>> {
        let mut rest = body;
        let (mut event_type, mut quantity) = (rest, rest);
        for (i, field) in self.fields.iter().enumerate() {
            let before = rest;
            let fault = |reason| Fault { reason, field: Some(&field.name) };
            field.structure.walk(&mut rest, &self.named, DEPTH_MAX).map_err(fault)?;
            if let (Some(kept), true) = (&mut kept, field.kept) {
                kept.extend_from_slice(&before[..before.len() - rest.len()]);
            }
            if let Some((type_at, quantity_at)) = self.nullable_quantity {
                event_type = if i == type_at { before } else { event_type };
                quantity = if i == quantity_at { before } else { quantity };
            }
        }
        if !rest.is_empty() {
            return Err(Fault { reason: Reason::TrailingBytes, field: None });
        }
        let Some((type_at, quantity_at)) = self.nullable_quantity else { return Ok(()) };
        let quantity_field = &self.fields[quantity_at];
        if quantity_field.structure.is_null(quantity)
            && self.fields[type_at].structure.event_type(event_type).is_some_and(EventType::needs_quantity)
        {
            return Err(Fault { reason: Reason::MissingField, field: Some(&quantity_field.name) });
        }
        Ok(())
    }
}

impl Structure {
    fn walk(&self, rest: &mut &[u8], named: &[Self], depth: usize) -> Result<(), Reason> {
        match self {
            Self::Nothing => Ok(()),
            Self::Missing => Err(Reason::MissingField),
            Self::Boolean => match skip(rest, 1)? {
                [0 | 1] => Ok(()),
                _ => Err(Reason::Malformed),
            },
            Self::Int => match i32::try_from(number(rest)?) {
                Ok(_) => Ok(()),
                Err(_) => Err(Reason::Malformed),
            },
            Self::Long => number(rest).map(drop),
            Self::Fixed(size) => skip(rest, *size).map(drop),
            Self::Bytes => sized(rest).map(drop),
            Self::Text => text(rest).map(drop),
            Self::Price(price) => price.check(match price.size {
                Some(size) => skip(rest, size)?,
                None => sized(rest)?,
            }),
            Self::Enum(symbols) => match usize::try_from(number(rest)?) {
                Ok(symbol) if symbol < *symbols => Ok(()),
                _ => Err(Reason::Malformed),
            },
            Self::EventTime(per_milli) => match number(rest)?.div_euclid(*per_milli).unsigned_abs() {
                0..=MILLIS_MAX => Ok(()),
                _ => Err(Reason::BadTime),
            },
            Self::EventType(known) => match usize::try_from(number(rest)?).ok().and_then(|i| known.get(i)) {
                Some(Some(_)) => Ok(()),
                _ => Err(Reason::UnknownEventType),
            },
            Self::EventTypeName => match EventType::from_name(text(rest)?) {
                Some(_) => Ok(()),
                None => Err(Reason::UnknownEventType),
            },
            Self::Union(branches) => match usize::try_from(number(rest)?).ok().and_then(|i| branches.get(i)) {
                Some(branch) => branch.walk(rest, named, depth),
                None => Err(Reason::Malformed),
            },
            Self::Record(fields) => fields.iter().try_for_each(|field| field.walk(rest, named, depth)),
            Self::Array(items) => blocks(rest, |rest| items.walk(rest, named, depth)),
            Self::Map(values) => blocks(rest, |rest| {
                text(rest)?;
                values.walk(rest, named, depth)
            }),
            Self::Named(i) => match depth.checked_sub(1) {
                Some(depth) => named[*i].walk(rest, named, depth),
                None => Err(Reason::Malformed),
            },
        }
    }

    /// Whether the value at the begin of these bytes, which were walked, is the null of a union.
    fn is_null(&self, mut bytes: &[u8]) -> bool {
        let Self::Union(branches) = self else { return false };
        let branch = number(&mut bytes).ok().and_then(|i| branches.get(usize::try_from(i).ok()?));
        matches!(branch, Some(Self::Nothing))
    }

    /// The event type at the begin of these bytes, which were walked.
    fn event_type(&self, mut bytes: &[u8]) -> Option<EventType> {
        match self {
            Self::EventType(known) => *known.get(usize::try_from(number(&mut bytes).ok()?).ok()?)?,
            Self::EventTypeName => EventType::from_name(text(&mut bytes).ok()?),
            Self::Union(branches) => {
                let branch = usize::try_from(number(&mut bytes).ok()?).ok()?;
                branches.get(branch)?.event_type(bytes)
            }
            _ => None,
        }
    }
}

impl Price {
    /// Whether these bytes are an amount that decimal(18,4) holds exactly.
    fn check(self, bytes: &[u8]) -> Result<(), Reason> {
        if bytes.is_empty() || bytes.len() > size_of::<i128>() {
            return Err(Reason::PriceOutOfRange);
        }
        self.rescaled(Self::units(bytes)).map_or(Err(Reason::PriceOutOfRange), |units| {
            match units.unsigned_abs() < 10_u128.pow(u32::from(Money::PRECISION)) {
                true => Ok(()),
                false => Err(Reason::PriceOutOfRange),
            }
        })
    }

    /// The number that these bytes, at most 16, are.
    pub fn units(bytes: &[u8]) -> i128 {
        let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
        bytes.iter().fold(sign, |units: i128, byte| (units << 8) | i128::from(*byte))
    }

    /// Units of this scale as units of ours. None when that is not exact.
    pub fn rescaled(self, units: i128) -> Option<i128> {
        let ours = Money::SCALE;
        match self.scale.checked_sub(ours) {
            Some(0) => Some(units),
            None => units.checked_mul(10_i128.checked_pow(ours - self.scale)?),
            Some(more) => {
                let factor = 10_i128.checked_pow(more)?;
                (units % factor == 0).then_some(units / factor)
            }
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

fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Reason> {
    std::str::from_utf8(sized(rest)?).map_err(|_| Reason::Malformed)
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
                // Items without bytes, which could be claimed by the billion: the others have none either.
                break;
            }
        }
    }
}
