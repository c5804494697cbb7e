//! `date_trunc` and dates of UTC times by arithmetic. The engine's own ways ask the time zone's rules for each row, whatever the zone
//! is.

use arrow::{
    array::{AsArray, Date32Array, PrimitiveArray},
    datatypes::{ArrowPrimitiveType, DataType, Field, FieldRef, TimeUnit, TimestampMicrosecondType},
};
use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime};
use datafusion::{
    common::{DFSchema, Result, ScalarValue, config::ConfigOptions, tree_node::Transformed},
    functions::datetime,
    logical_expr::{
        Cast, ColumnarValue, Documentation, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
        ScalarUDFImpl, Signature, Volatility,
        expr_rewriter::FunctionRewrite,
        interval_arithmetic::Interval,
        preimage::PreimageResult,
        simplify::SimplifyContext,
        sort_properties::{ExprProperties, SortProperties},
    },
};
use std::{cell::Cell, ops::Range, sync::Arc};

type Micros = <TimestampMicrosecondType as ArrowPrimitiveType>::Native;

const HOUR: Micros = 3_600_000_000;
const DAY: Micros = 24 * HOUR;
/// 1970 began on a Thursday, weeks begin on Mondays.
const FIRST_MONDAY: Micros = 4 * DAY;

/// The function, of the engine's name.
pub(crate) fn date_trunc() -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(UtcTrunc { inner: datetime::date_trunc() }))
}

/// Whether it is the type of UTC times.
fn is_utc(of: &DataType) -> bool {
    match of {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            zone.as_ref().is_none_or(|zone| ["UTC", "+00:00"].contains(&&**zone))
        }
        _ => false,
    }
}

/// The engine's function, which does all that is not of UTC or no column.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UtcTrunc {
    inner: Arc<ScalarUDF>,
}

/// What begins at the times that are left.
#[derive(Clone, Copy, Debug)]
enum Span {
    /// So many microseconds, the first of them from an offset on.
    Even { length: Micros, offset: Micros },
    /// So many months, which divide a year.
    Months(u32),
}

impl Span {
    fn of(unit: &str) -> Option<Self> {
        let even = |length| Some(Self::Even { length, offset: 0 });
        match unit.to_ascii_lowercase().as_str() {
            "hour" => even(HOUR),
            "day" => even(DAY),
            "week" => Some(Self::Even { length: 7 * DAY, offset: FIRST_MONDAY }),
            "month" => Some(Self::Months(1)),
            "quarter" => Some(Self::Months(3)),
            "year" => Some(Self::Months(12)),
            _ => None,
        }
    }

    /// From when to when the one lasts that a time is in; none at the ends of time.
    fn around(self, time: Micros) -> Option<Range<Micros>> {
        match self {
            Self::Even { length, offset } => {
                let start = time.checked_sub(offset)?.div_euclid(length).checked_mul(length)?.checked_add(offset)?;
                Some(start..start.checked_add(length)?)
            }
            Self::Months(months) => {
                let date = DateTime::from_timestamp_micros(time)?.date_naive();
                let first = NaiveDate::from_ymd_opt(date.year(), date.month0() / months * months + 1, 1)?;
                let next = first.checked_add_months(Months::new(months))?;
                let micros = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
                Some(micros(first)..micros(next))
            }
        }
    }

    /// When the ones began that times are in; none when one of them is at the ends of time.
    fn starts(
        self,
        times: &PrimitiveArray<TimestampMicrosecondType>,
    ) -> Option<PrimitiveArray<TimestampMicrosecondType>> {
        // Neighbours are mostly of one hour, or month.
        let last = Cell::new((0, 0));
        let start = |time: Micros| {
            let (mut start, end) = last.get();
            if !(start..end).contains(&time) {
                let around = self.around(time).ok_or(())?;
                start = around.start;
                last.set((start, around.end));
            }
            Ok::<_, ()>(start)
        };
        times.try_unary(start).ok()
    }
}

impl UtcTrunc {
    /// The starts, when there is nothing for the engine's own function to do.
    fn starts(args: &ScalarFunctionArgs) -> Option<ColumnarValue> {
        let [ColumnarValue::Scalar(unit), ColumnarValue::Array(times)] = &args.args[..] else { return None };
        let (ScalarValue::Utf8(Some(unit)) | ScalarValue::Utf8View(Some(unit)) | ScalarValue::LargeUtf8(Some(unit))) =
            unit
        else {
            return None;
        };
        let span = Span::of(unit).filter(|_| is_utc(times.data_type()))?;
        let times = times.as_primitive();
        let starts = span.starts(times)?.with_timezone_opt(times.timezone());
        Some(ColumnarValue::Array(Arc::new(starts)))
    }
}

impl ScalarUDFImpl for UtcTrunc {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match Self::starts(&args) {
            Some(starts) => Ok(starts),
            None => self.inner.invoke_with_args(args),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Puts [`UtcDate`] in the place of `CAST(time AS DATE)`.
#[derive(Debug)]
pub(super) struct UtcDateRewrite;

impl FunctionRewrite for UtcDateRewrite {
    fn name(&self) -> &str {
        "utc_date"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::Cast(Cast { expr: time, field })
                if *field.data_type() == DataType::Date32 && time.get_type(schema).is_ok_and(|of| is_utc(&of)) =>
            {
                Ok(Transformed::yes(ScalarUDF::from(UtcDate::new()).call(vec![*time])))
            }
            other => Ok(Transformed::no(other)),
        }
    }
}

/// The UTC dates of times.
#[derive(Debug, PartialEq, Eq, Hash)]
struct UtcDate {
    signature: Signature,
}

impl UtcDate {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for UtcDate {
    fn name(&self) -> &str {
        "utc_date"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), DataType::Date32, args.arg_fields[0].is_nullable())))
    }

    /// A column has the name that it has with the cast: nothing has to be renamed.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args[0].schema_name().to_string())
    }

    /// From when to when a date is, by which files without such times are passed over.
    fn preimage(&self, args: &[Expr], date: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        let Some(ScalarValue::Date32(Some(day))) = date.as_literal() else { return Ok(PreimageResult::None) };
        let DataType::Timestamp(_, zone) = info.get_data_type(&args[0])? else { return Ok(PreimageResult::None) };
        let begins = |day: Micros| ScalarValue::TimestampMicrosecond(Some(day * DAY), zone.clone());
        let (day, next) = (Micros::from(*day), Micros::from(*day) + 1);
        if next > Micros::MAX / DAY || day < Micros::MIN / DAY {
            return Ok(PreimageResult::None);
        }
        let interval = Box::new(Interval::try_new(begins(day), begins(next))?);
        Ok(PreimageResult::Range { expr: args[0].clone(), interval })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(1)?;
        let times: &PrimitiveArray<TimestampMicrosecondType> = times.as_primitive();
        // Of all times that there are, the days since 1970 are few enough.
        let dates: Date32Array = times.unary(|time| time.div_euclid(DAY) as i32);
        match &args.args[0] {
            ColumnarValue::Array(_) => Ok(ColumnarValue::Array(Arc::new(dates))),
            ColumnarValue::Scalar(_) => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&dates, 0)?)),
        }
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        Ok(inputs[0].sort_properties)
    }
}
