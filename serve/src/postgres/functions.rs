//! Functions that clients of PostgreSQL call to find their way: most say what is so for every table here.

use super::{
    catalog::{SERVER_VERSION, SETTINGS},
    rewrite::{INTERVAL_TIMES, STRFTIME_OF, strftime},
};
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, PrimitiveArray, StringArray},
    compute::cast,
    datatypes::{DataType, Float64Type, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit},
};
use datafusion::{
    common::{ScalarValue, exec_err},
    error::Result,
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SimpleScalarUDF, TypeSignature,
        Volatility, create_udf,
    },
    prelude::SessionContext,
};
use std::sync::Arc;

const DAYS_OF_MONTH: f64 = 30.0;
const NANOSECONDS_OF_DAY: f64 = 86_400e9;
/// In nanoseconds, about 292 years.
const LONGEST: f64 = 9.2e18;
/// In the numbering of PostgreSQL.
const UTF8: i32 = 6;
/// What may be done to everything here.
const GRANTED: [&str; 4] = ["select", "usage", "connect", "execute"];
/// Of a description that nobody gave, or of a thing that there is not.
const UNKNOWN_TEXTS: [&str; 13] = [
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_function_sqlbody",
    "pg_get_functiondef",
    "pg_get_indexdef",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_triggerdef",
    "pg_get_viewdef",
    "pg_tablespace_location",
    "shobj_description",
    "pg_advisory_unlock_all",
];
const UNKNOWN_SIZES: [&str; 5] =
    ["pg_database_size", "pg_indexes_size", "pg_relation_size", "pg_table_size", "pg_total_relation_size"];
const VISIBLE: [&str; 11] = [
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_function_is_visible",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_opfamily_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_type_is_visible",
];

pub(super) fn register(context: &SessionContext, user: &str) {
    let mut constants = vec![
        ("version", text(&format!("PostgreSQL {SERVER_VERSION} (sluice {})", env!("CARGO_PKG_VERSION")))),
        ("session_user", text(user)),
        ("pg_get_userbyid", text(user)),
        ("pg_is_in_recovery", ScalarValue::Boolean(Some(false))),
        ("pg_char_to_encoding", ScalarValue::Int32(Some(UTF8))),
    ];
    constants.extend(UNKNOWN_TEXTS.map(|name| (name, ScalarValue::Utf8(None))));
    constants.extend(UNKNOWN_SIZES.map(|name| (name, ScalarValue::Int64(None))));
    constants.extend(VISIBLE.map(|name| (name, ScalarValue::Boolean(Some(true)))));
    for (name, value) in constants {
        context.register_udf(ScalarUDF::new_from_impl(Constant::new(name, value)));
    }
    for what in ["table", "schema", "database", "any_column", "column", "function"] {
        context.register_udf(ScalarUDF::new_from_impl(Granted::new(format!("has_{what}_privilege"))));
    }
    context.register_udf(ScalarUDF::new_from_impl(Format::default()));
    let current_setting = |arguments: &[ColumnarValue]| {
        let names = first(arguments)?;
        let value_of = |name: &str| SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|s| s.1);
        let values = names.as_string::<i32>().iter().map(|name| name.and_then(value_of));
        Ok(ColumnarValue::Array(Arc::new(values.collect::<StringArray>())))
    };
    let names =
        vec![TypeSignature::Exact(vec![DataType::Utf8]), TypeSignature::Exact(vec![DataType::Utf8, DataType::Boolean])];
    context.register_udf(ScalarUDF::new_from_impl(SimpleScalarUDF::new_with_signature(
        "current_setting",
        Signature::one_of(names, Volatility::Stable),
        DataType::Utf8,
        Arc::new(current_setting),
    )));
    let sizes = |arguments: &[ColumnarValue]| {
        let bytes = first(arguments)?;
        let texts = bytes.as_primitive::<Int64Type>().iter().map(|bytes| bytes.map(size_text));
        Ok(ColumnarValue::Array(Arc::new(texts.collect::<StringArray>())))
    };
    context.register_udf(create_udf(
        "pg_size_pretty",
        vec![DataType::Int64],
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(sizes),
    ));
    let times = |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let intervals = arrays[0].as_primitive::<IntervalMonthDayNanoType>();
        let factors = arrays[1].as_primitive::<Float64Type>();
        let product = |(interval, factor): (Option<_>, Option<_>)| interval.zip(factor).map(interval_times).transpose();
        let products = intervals.iter().zip(factors).map(product);
        Ok(ColumnarValue::Array(Arc::new(products.collect::<Result<PrimitiveArray<IntervalMonthDayNanoType>>>()?)))
    };
    let words = |arguments: &[ColumnarValue]| {
        let templates = first(arguments)?;
        let words = |template: Option<&str>| template.map(strftime).transpose().or_else(|why| exec_err!("{why}"));
        let texts = templates.as_string::<i32>().iter().map(words).collect::<Result<StringArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(texts)))
    };
    context.register_udf(create_udf(
        STRFTIME_OF,
        vec![DataType::Utf8],
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(words),
    ));
    let interval = DataType::Interval(IntervalUnit::MonthDayNano);
    context.register_udf(create_udf(
        INTERVAL_TIMES,
        vec![interval.clone(), DataType::Float64],
        interval,
        Volatility::Immutable,
        Arc::new(times),
    ));
    // What is set so stays as it was; it says what it was asked to set, as clients expect.
    let set_config = |arguments: &[ColumnarValue]| Ok(arguments[1].clone());
    context.register_udf(create_udf(
        "set_config",
        vec![DataType::Utf8, DataType::Utf8, DataType::Boolean],
        DataType::Utf8,
        Volatility::Volatile,
        Arc::new(set_config),
    ));
}

/// As PostgreSQL multiplies: what is left of a month becomes days, 30 to a month, and what is left of a day its time.
fn interval_times((interval, factor): (IntervalMonthDayNano, f64)) -> Result<IntervalMonthDayNano> {
    let months = f64::from(interval.months) * factor;
    let days = f64::from(interval.days) * factor + months.fract() * DAYS_OF_MONTH;
    let nanoseconds = interval.nanoseconds as f64 * factor + days.fract() * NANOSECONDS_OF_DAY;
    let is_in_range = |value: f64, limit: f64| value.is_finite() && value.abs() < limit;
    if !is_in_range(months, f64::from(i32::MAX))
        || !is_in_range(days, f64::from(i32::MAX))
        || !is_in_range(nanoseconds, LONGEST)
    {
        return exec_err!("interval out of range: {factor} times what it is");
    }
    Ok(IntervalMonthDayNano::new(months.trunc() as i32, days.trunc() as i32, nanoseconds.round() as i64))
}

/// In the largest unit of which there are ten.
fn size_text(bytes: i64) -> String {
    let mut units = ["bytes", "kB", "MB", "GB", "TB"].into_iter();
    let (mut size, mut unit) = (bytes, units.next().unwrap_or_default());
    for larger in units {
        if size.abs() < 10 * 1024 {
            break;
        }
        (size, unit) = ((size + 512) / 1024, larger);
    }
    format!("{size} {unit}")
}

fn text(value: &str) -> ScalarValue {
    ScalarValue::Utf8(Some(value.to_owned()))
}

fn first(arguments: &[ColumnarValue]) -> Result<ArrayRef> {
    Ok(ColumnarValue::values_to_arrays(arguments)?.swap_remove(0))
}

fn any_arguments() -> Signature {
    Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Stable)
}

/// Says the same, whatever it is asked.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: &'static str,
    value: ScalarValue,
    signature: Signature,
}

impl Constant {
    fn new(name: &'static str, value: ScalarValue) -> Self {
        Self { name, value, signature: any_arguments() }
    }
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `has_table_privilege` and its like: the last argument says for what.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Granted {
    name: String,
    signature: Signature,
}

impl Granted {
    fn new(name: String) -> Self {
        Self { name, signature: Signature::variadic_any(Volatility::Stable) }
    }
}

impl ScalarUDFImpl for Granted {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let Some(wanted) = arrays.pop() else { return exec_err!("{}: for what?", self.name) };
        let wanted = cast(&wanted, &DataType::Utf8)?;
        // "SELECT, UPDATE": one of them is enough.
        let is_granted = |wanted: &str| {
            wanted.split(',').any(|one| GRANTED.iter().any(|granted| granted.eq_ignore_ascii_case(one.trim())))
        };
        let granted = wanted.as_string::<i32>().iter().map(|wanted| wanted.map(is_granted));
        Ok(ColumnarValue::Array(Arc::new(granted.collect::<BooleanArray>())))
    }
}

/// `format`: a text with `%s` (as it is), `%I` (as a name) and `%L` (as a text of SQL) in place of what follows.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Format {
    signature: Signature,
}

impl Default for Format {
    fn default() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

fn formatted(pattern: &str, mut values: impl Iterator<Item = Option<String>>) -> Result<String> {
    let (mut out, mut rest) = (String::new(), pattern.chars());
    while let Some(letter) = rest.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let kind = rest.next();
        if kind == Some('%') {
            out.push('%');
            continue;
        }
        let Some(value) = values.next() else { return exec_err!("format('{pattern}', …): too few arguments") };
        match (kind, value) {
            (Some('s'), value) => out.push_str(&value.unwrap_or_default()),
            (Some('I'), Some(name)) => match name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            {
                true => out.push_str(&name),
                false => out.push_str(&format!("\"{}\"", name.replace('"', "\"\""))),
            },
            (Some('L'), Some(value)) => out.push_str(&format!("'{}'", value.replace('\'', "''"))),
            (Some('L'), None) => out.push_str("NULL"),
            _ => return exec_err!("format('{pattern}', …): there are %s, %I and %L here, and no name is null"),
        }
    }
    Ok(out)
}

impl ScalarUDFImpl for Format {
    fn name(&self) -> &str {
        "format"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let texts = arrays.iter().map(|array| cast(array, &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
        let texts: Vec<_> = texts.iter().map(|array| array.as_string::<i32>()).collect();
        let Some((patterns, values)) = texts.split_first() else { return exec_err!("format: of what?") };
        let row_of = |row: usize| {
            let values = values.iter().map(|array| array.is_valid(row).then(|| array.value(row).to_owned()));
            patterns.is_valid(row).then(|| formatted(patterns.value(row), values)).transpose()
        };
        let rows = (0..patterns.len()).map(row_of).collect::<Result<StringArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(pattern: &str, values: &[Option<&str>]) -> Option<String> {
        formatted(pattern, values.iter().map(|value| value.map(str::to_owned))).ok()
    }

    #[test]
    fn a_part_of_an_interval_is_one_of_smaller_units() {
        let of = |months, days, hours: i64| IntervalMonthDayNano::new(months, days, hours * 3_600_000_000_000);
        for (interval, factor, product) in
            [(of(1, 0, 0), 1.5, of(1, 15, 0)), (of(0, 1, 0), 0.5, of(0, 0, 12)), (of(0, 0, 2), -3.0, of(0, 0, -6))]
        {
            assert_eq!(interval_times((interval, factor)).unwrap(), product);
        }
        assert!(interval_times((of(0, 1, 0), f64::INFINITY)).is_err());
        assert!(interval_times((of(0, 1, 0), 1e12)).is_err());
    }

    #[test]
    fn a_size_is_short() {
        let sizes = [0, 10_239, 10_240, 20 << 20].map(size_text);
        assert_eq!(sizes, ["0 bytes", "10239 bytes", "10 kB", "20 MB"]);
    }

    #[test]
    fn a_text_is_put_together() {
        assert_eq!(format("%I.%I", &[Some("gold"), Some("My \"own\"")]).unwrap(), "gold.\"My \"\"own\"\"\"");
        assert_eq!(format("100 %% of %s", &[None]).unwrap(), "100 % of ");
        assert_eq!(format("%L, %L", &[Some("it's"), None]).unwrap(), "'it''s', NULL");
        assert_eq!(format("%s %s", &[Some("one")]), None);
        assert_eq!(format("%I", &[None]), None);
    }
}
