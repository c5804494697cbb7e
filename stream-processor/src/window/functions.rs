//! `tumble`, `hop` and `session` as SQL functions.

use super::{Grid, Window, grid::LONGEST};
use arrow::{
    array::{ArrayRef, AsArray, PrimitiveArray},
    datatypes::{
        ArrowTimestampType, DataType, IntervalUnit, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
        TimestampNanosecondType, TimestampSecondType,
    },
};
use chrono_tz::Tz;
use datafusion::{
    common::{Result, ScalarValue, exec_err, plan_err},
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, expr::ScalarFunction,
    },
    prelude::lit,
};
use std::sync::Arc;

/// The three functions as a plan names them. Only `tumble` has a value of its own, the start of the window; the other
/// two are understood where they stand in a GROUP BY.
pub(crate) fn window_functions() -> [ScalarUDF; 3] {
    [Call::Tumble, Call::Hop, Call::Session].map(|call| {
        ScalarUDF::new_from_impl(WindowFunction { call, signature: Signature::variadic_any(Volatility::Immutable) })
    })
}

/// Which of the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Tumble,
    Hop,
    Session,
}

impl Call {
    fn name(self) -> &'static str {
        match self {
            Self::Tumble => "tumble",
            Self::Hop => "hop",
            Self::Session => "session",
        }
    }

    fn usage(self) -> &'static str {
        match self {
            Self::Tumble => "tumble(event_time, INTERVAL '1 minute'[, 'Europe/Paris'])",
            Self::Hop => {
                "hop(event_time, INTERVAL '1 minute', INTERVAL '15 minutes'[, 'Europe/Paris']): slide, then size"
            }
            Self::Session => "session(event_time, INTERVAL '30 minutes')",
        }
    }

    fn intervals(self) -> usize {
        if self == Self::Hop { 2 } else { 1 }
    }

    /// The windows that these arguments after the time say.
    fn window(self, arguments: &[ScalarValue]) -> Result<Window, String> {
        let usage = self.usage();
        let mut millis = Vec::new();
        for argument in &arguments[..self.intervals().min(arguments.len())] {
            millis.push(interval_millis(argument).ok_or_else(|| {
                format!(
                    "{argument} is no constant interval of days or less, in whole milliseconds and above 0: {usage}"
                )
            })?);
        }
        let zone = match &arguments[self.intervals().min(arguments.len())..] {
            [] => None,
            [zone] if self != Self::Session => {
                let name =
                    zone.try_as_str().flatten().ok_or_else(|| format!("{zone} is no name of a time zone: {usage}"))?;
                Some(name.parse::<Tz>().map_err(|_| format!("'{name}' is no time zone, such as Europe/Paris"))?)
            }
            _ => return Err(format!("too many arguments: {usage}")),
        };
        match (self, &millis[..]) {
            (Self::Tumble, [size]) => Grid::new(*size, *size, zone).map(Window::Grid),
            (Self::Hop, [slide, size]) => Grid::new(*size, *slide, zone).map(Window::Grid),
            (Self::Session, [gap]) if *gap > LONGEST => Err("a gap must not be longer than ten years".to_owned()),
            (Self::Session, [gap]) => Ok(Window::Session { gap: *gap }),
            _ => Err(format!("arguments are missing: {usage}")),
        }
    }
}

/// The call of a window function in a GROUP BY: which, over what, and the windows it means.
pub(crate) fn window_call(expr: &Expr) -> Option<(Call, &Expr, Result<Window, String>)> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expr else { return None };
    let call = (func.inner().as_ref() as &dyn std::any::Any).downcast_ref::<WindowFunction>()?.call;
    let (time, rest) = args.split_first()?;
    let constants: Result<Vec<ScalarValue>, String> = rest
        .iter()
        .map(|argument| match unalias(argument) {
            Expr::Literal(value, _) => Ok(value.clone()),
            other => Err(format!("{other} is no constant: {}", call.usage())),
        })
        .collect();
    Some((call, unalias(time), constants.and_then(|c| call.window(&c))))
}

/// The expression without the names it goes by.
pub(crate) fn unalias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unalias(&alias.expr),
        other => other,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowFunction {
    call: Call,
    signature: Signature,
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        self.call.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        let intervals = self.call.intervals();
        match args {
            [time @ DataType::Timestamp(_, _), rest @ ..]
                if rest.len() >= intervals
                    && rest[..intervals].iter().all(|a| *a == DataType::Interval(IntervalUnit::MonthDayNano)) =>
            {
                Ok(time.clone())
            }
            _ => {
                let given: Vec<String> = args.iter().map(ToString::to_string).collect();
                plan_err!("the call is {}; got {}({})", self.call.usage(), self.name(), given.join(", "))
            }
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.call != Call::Tumble {
            return exec_err!(
                "{}(…) stands in GROUP BY only: a row may be in several windows, or none alone",
                self.name()
            );
        }
        let (times, rest) = args.args.split_first().expect("the return type asked for two arguments");
        let constants: Option<Vec<ScalarValue>> = rest
            .iter()
            .map(|argument| match argument {
                ColumnarValue::Scalar(value) => Some(value.clone()),
                ColumnarValue::Array(_) => None,
            })
            .collect();
        let window = constants.ok_or_else(|| "the size is no constant".to_owned()).and_then(|c| self.call.window(&c));
        match window {
            Ok(Window::Grid(grid)) => {
                let times = times.to_array(args.number_rows)?;
                Ok(ColumnarValue::Array(in_unit(&times, |millis| grid.last_window(millis))?))
            }
            Ok(Window::Session { .. }) => exec_err!("tumble has no sessions"),
            Err(message) => exec_err!("{message}"),
        }
    }
}

/// Where the window that starts at `start` ends: for batch plans that show it beside the start.
pub(crate) fn window_end(grid: &Grid, start: Expr) -> Expr {
    let end = WindowEnd { grid: grid.clone(), signature: Signature::any(1, Volatility::Immutable) };
    ScalarUDF::new_from_impl(end).call(vec![start])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowEnd {
    grid: Grid,
    signature: Signature,
}

impl ScalarUDFImpl for WindowEnd {
    fn name(&self) -> &str {
        "window_end"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(args[0].clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let starts = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(in_unit(&starts, |millis| self.grid.end(millis))?))
    }
}

/// Applies a function of milliseconds to timestamps of any unit.
pub(super) fn in_unit(times: &ArrayRef, function: impl Fn(i64) -> i64) -> Result<ArrayRef> {
    fn apply<T: ArrowTimestampType>(
        times: &ArrayRef,
        zone: Option<Arc<str>>,
        function: impl Fn(i64) -> i64,
    ) -> ArrayRef {
        let done: PrimitiveArray<T> = times.as_primitive::<T>().unary(function);
        Arc::new(done.with_timezone_opt(zone))
    }
    let DataType::Timestamp(unit, zone) = times.data_type() else {
        return exec_err!("expected a timestamp, got {}", times.data_type());
    };
    let zone = zone.clone();
    Ok(match unit {
        TimeUnit::Second => apply::<TimestampSecondType>(times, zone, |t| function(t * 1_000).div_euclid(1_000)),
        TimeUnit::Millisecond => apply::<TimestampMillisecondType>(times, zone, function),
        TimeUnit::Microsecond => {
            apply::<TimestampMicrosecondType>(times, zone, |t| function(t.div_euclid(1_000)).saturating_mul(1_000))
        }
        TimeUnit::Nanosecond => apply::<TimestampNanosecondType>(times, zone, |t| {
            function(t.div_euclid(1_000_000)).saturating_mul(1_000_000)
        }),
    })
}

/// An interval literal of so many milliseconds.
pub(super) fn interval(millis: i64) -> Expr {
    lit(ScalarValue::new_interval_mdn(0, 0, millis.saturating_mul(1_000_000)))
}

/// The length of a constant interval; none when it is not positive, not whole milliseconds, or counts months.
fn interval_millis(size: &ScalarValue) -> Option<i64> {
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = size else { return None };
    if interval.months != 0 || interval.nanoseconds % 1_000_000 != 0 {
        return None;
    }
    let millis = i64::from(interval.days) * 86_400_000 + interval.nanoseconds / 1_000_000;
    (millis > 0).then_some(millis)
}
