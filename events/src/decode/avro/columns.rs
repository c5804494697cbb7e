//! From the columns that arrow-avro decoded to ours.

use crate::{Money, event_schema, structure::Price};
use arrow::{
    array::{
        Array, ArrayRef, AsArray, Decimal128Array, Int32Array, RecordBatch, TimestampMillisecondArray, new_null_array,
    },
    compute::cast,
    datatypes::{DataType, Decimal128Type, Int32Type, Int64Type},
    error::ArrowError,
};
use std::sync::Arc;

/// The quantity of an event that does not say one: the default in our schema.
const QUANTITY: i32 = 1;

/// Where a column of ours comes from.
pub(super) enum Column {
    /// The writer has no such column.
    Default,
    /// From a decoded column, by its place.
    At(usize, Conversion),
}

/// What makes a decoded column ours. Every value was checked before: all are exact.
pub(super) enum Conversion {
    /// It is ours, or Arrow's cast makes it so. Texts are decoded as Utf8 and cast, which copies no bytes: when arrow-avro
    /// 59 makes views itself, it makes empty texts of nulls.
    Cast,
    /// A finer time: what is finer than a millisecond is cut off.
    Time { per_milli: i64 },
    /// An amount of another scale, or in a fixed number of bytes.
    Price(Price),
    /// A quantity that may be null.
    OneForNull,
}

/// The columns of [`event_schema`].
pub(super) fn ours(decoded: &RecordBatch, columns: &[Column]) -> Result<RecordBatch, ArrowError> {
    let schema = event_schema();
    let arrays = schema
        .fields()
        .iter()
        .zip(columns)
        .map(|(field, column)| match column {
            Column::Default if *field.data_type() == DataType::Int32 => {
                Ok(Arc::new(Int32Array::from_value(QUANTITY, decoded.num_rows())) as ArrayRef)
            }
            Column::Default => Ok(new_null_array(field.data_type(), decoded.num_rows())),
            Column::At(at, conversion) => conversion.of(decoded.column(*at), field.data_type()),
        })
        .collect::<Result<Vec<ArrayRef>, _>>()?;
    RecordBatch::try_new(schema, arrays)
}

impl Conversion {
    fn of(&self, decoded: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Cast if decoded.data_type() == wanted => decoded.clone(),
            Self::Cast => cast(decoded, wanted)?,
            Self::Time { per_milli } => {
                let times: TimestampMillisecondArray =
                    decoded.as_primitive::<Int64Type>().unary(|time| time.div_euclid(*per_milli));
                Arc::new(times.with_timezone("UTC"))
            }
            Self::Price(price) => Arc::new(amounts(decoded, *price)?),
            Self::OneForNull => {
                let quantities = decoded.as_primitive::<Int32Type>();
                Arc::new(quantities.iter().map(|quantity| Some(quantity.unwrap_or(QUANTITY))).collect::<Int32Array>())
            }
        })
    }
}

fn amounts(decoded: &ArrayRef, price: Price) -> Result<Decimal128Array, ArrowError> {
    let exact = |units| {
        price.rescaled(units).ok_or_else(|| ArrowError::ComputeError(format!("{units} of scale {}", price.scale)))
    };
    let amounts = match decoded.as_fixed_size_binary_opt() {
        None => decoded.as_primitive::<Decimal128Type>().try_unary(exact)?,
        Some(fixed) => fixed
            .iter()
            .map(|bytes| bytes.map(|bytes| exact(Price::units(bytes))).transpose())
            .collect::<Result<Decimal128Array, _>>()?,
    };
    amounts.with_precision_and_scale(Money::PRECISION, Money::SCALE as i8)
}
