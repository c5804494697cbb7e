//! `tumble(event_time, INTERVAL '1 minute')`: the start of the tumbling window an event is in.

use arrow::{
    array::{ArrayRef, AsArray, PrimitiveArray},
    datatypes::{
        ArrowTimestampType, DataType, IntervalUnit, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType,
    },
};
use datafusion::{
    common::{Result, ScalarValue, exec_err, plan_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};
use std::sync::Arc;

/// The SQL function. Over a batch it gives each row's window start, aligned to 1970-01-01 UTC; in a live model's
/// `GROUP BY` it names the window.
pub fn tumble() -> ScalarUDF {
    ScalarUDF::new_from_impl(Tumble { signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Tumble {
    signature: Signature,
}

impl ScalarUDFImpl for Tumble {
    fn name(&self) -> &str {
        "tumble"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [time @ DataType::Timestamp(_, _), DataType::Interval(IntervalUnit::MonthDayNano)] => Ok(time.clone()),
            [time, size] => {
                plan_err!(
                    "tumble takes a timestamp and an interval, as in tumble(event_time, INTERVAL '1 minute'); got {time} and {size}"
                )
            }
            _ => plan_err!("tumble takes two arguments: a timestamp and an interval"),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [times, ColumnarValue::Scalar(size)] = &args.args[..] else {
            return exec_err!("tumble: the window size must be a constant interval");
        };
        let Some(millis) = interval_millis(size) else {
            return exec_err!(
                "tumble: the window size must be a positive interval of days or less, in whole milliseconds"
            );
        };
        let times = times.to_array(args.number_rows)?;
        let DataType::Timestamp(unit, zone) = times.data_type() else {
            return exec_err!("tumble takes a timestamp");
        };
        let starts: ArrayRef = match unit {
            TimeUnit::Second => floor::<TimestampSecondType>(&times, (millis / 1000).max(1), zone.clone()),
            TimeUnit::Millisecond => floor::<TimestampMillisecondType>(&times, millis, zone.clone()),
            TimeUnit::Microsecond => floor::<TimestampMicrosecondType>(&times, millis * 1_000, zone.clone()),
            TimeUnit::Nanosecond => floor::<TimestampNanosecondType>(&times, millis * 1_000_000, zone.clone()),
        };
        Ok(ColumnarValue::Array(starts))
    }
}

fn floor<T: ArrowTimestampType>(times: &ArrayRef, size: i64, zone: Option<Arc<str>>) -> ArrayRef {
    let starts: PrimitiveArray<T> = times.as_primitive::<T>().unary(|time| time.div_euclid(size) * size);
    Arc::new(starts.with_timezone_opt(zone))
}

/// The length of a constant interval; none when it is not positive, not whole milliseconds, or counts months.
pub(crate) fn interval_millis(size: &ScalarValue) -> Option<i64> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = size else { return None };
    if interval.months != 0 || interval.nanoseconds % 1_000_000 != 0 {
        return None;
    }
    let millis = i64::from(interval.days) * 86_400_000 + interval.nanoseconds / 1_000_000;
    (millis > 0).then_some(millis)
}
