//! Answers as rows.

use crate::{Column, ColumnKind, FeedConfig};
use arrow::{
    array::{
        ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
    },
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use serde_json::Value;
use sluice_events::{EventTime, LogTime, Offset, Reason, parse_event_time};
use std::sync::Arc;

/// The item that was asked for.
const ITEM: &str = "item";
/// When.
const FETCHED_AT: &str = "fetched_at";
/// When what the answer tells was observed.
pub const OBSERVED_AT: &str = "observed_at";
/// Where the answer stands in the log.
const OFFSET: &str = "_offset";

/// Why an answer is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// For the dead letter.
    pub reason: Reason,
    /// What is wrong, and where.
    pub message: String,
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Null,
    Text(String),
    Integer(i64),
    Number(f64),
    Boolean(bool),
    Time(i64),
}

/// A row of a feed's table.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    item: String,
    fetched_at: LogTime,
    observed_at: EventTime,
    offset: Offset,
    /// In the order of the columns' names.
    cells: Vec<Cell>,
}

impl Row {
    /// Where the answer stands in the log.
    pub fn offset(&self) -> i64 {
        self.offset.get()
    }
}

/// The columns of `silver.<feed>`.
pub fn feed_schema(config: &FeedConfig) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let mut fields = vec![
        Field::new(ITEM, DataType::Utf8, false),
        Field::new(FETCHED_AT, time.clone(), false),
        Field::new(OBSERVED_AT, time.clone(), false),
        Field::new(OFFSET, DataType::Int64, false),
    ];
    fields.extend(config.columns.iter().map(|(name, column)| {
        let kind = match column.kind {
            ColumnKind::Text => DataType::Utf8,
            ColumnKind::Integer => DataType::Int64,
            ColumnKind::Number => DataType::Float64,
            ColumnKind::Boolean => DataType::Boolean,
            ColumnKind::UnixSeconds | ColumnKind::UnixMillis | ColumnKind::Time => time.clone(),
        };
        Field::new(name, kind, true)
    }));
    Arc::new(Schema::new(fields))
}

/// The row of an answer.
///
/// # Errors
/// When it is no JSON object, lacks what every row has, or a value is not what its column is.
pub fn row_of(
    config: &FeedConfig,
    item: &str,
    fetched_at: LogTime,
    offset: Offset,
    body: &[u8],
) -> Result<Row, Refused> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|error| Refused { reason: Reason::BadJson, message: error.to_string() })?;
    let observed_at = match cell(OBSERVED_AT, &config.observed_at, &answer, true)? {
        Cell::Time(millis) => EventTime::new(millis),
        other => return Err(Refused { reason: Reason::BadTime, message: format!("{OBSERVED_AT} is {other:?}") }),
    };
    let cells = config
        .columns
        .iter()
        .map(|(name, column)| cell(name, column, &answer, column.required || config.key.contains(name)));
    Ok(Row { item: item.to_owned(), fetched_at, observed_at, offset, cells: cells.collect::<Result<_, _>>()? })
}

/// What tells each row of a batch from others, as text; of a batch that was read from the table too.
///
/// # Errors
/// When a column of the key is missing.
pub fn keys_of(config: &FeedConfig, rows: &RecordBatch) -> Result<Vec<String>, ArrowError> {
    let mut keys = vec![String::new(); rows.num_rows()];
    for name in config.key.iter().map(String::as_str).chain([OBSERVED_AT]) {
        let column = rows.column_by_name(name);
        let column = column.ok_or_else(|| ArrowError::SchemaError(format!("there is no column {name}")))?;
        // Times may have come back finer than they were written.
        let column = match column.data_type() {
            DataType::Timestamp(..) => {
                cast(&cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?, &DataType::Int64)?
            }
            _ => column.clone(),
        };
        let texts = cast(&column, &DataType::Utf8)?;
        for (key, text) in keys.iter_mut().zip(texts.as_string::<i32>()) {
            key.push_str(text.unwrap_or_default());
            key.push('\u{1f}');
        }
    }
    Ok(keys)
}

fn cell(name: &str, column: &Column, answer: &Value, required: bool) -> Result<Cell, Refused> {
    let path = &column.path;
    let value = match answer.pointer(path) {
        None | Some(Value::Null) if required => {
            return Err(Refused {
                reason: Reason::MissingField,
                message: format!("{name}: there is nothing at {path}"),
            });
        }
        None | Some(Value::Null) => return Ok(Cell::Null),
        Some(value) => value,
    };
    let read = match (column.kind, value) {
        (ColumnKind::Text, Value::String(text)) => Some(Cell::Text(text.clone())),
        (ColumnKind::Text, Value::Number(number)) => Some(Cell::Text(number.to_string())),
        (ColumnKind::Integer, value) => whole(value).map(Cell::Integer),
        (ColumnKind::Number, value) => value.as_f64().map(Cell::Number),
        (ColumnKind::Boolean, value) => value.as_bool().map(Cell::Boolean),
        (ColumnKind::UnixSeconds, value) => whole(value).and_then(|s| s.checked_mul(1000)).map(Cell::Time),
        (ColumnKind::UnixMillis, value) => whole(value).map(Cell::Time),
        (ColumnKind::Time, Value::String(text)) => parse_event_time(text).ok().map(|time| Cell::Time(time.get())),
        _ => None,
    };
    // Years 1 to 9999: beyond them a time is a slip of the unit, and no table holds it.
    let read = read.filter(
        |cell| !matches!(cell, Cell::Time(millis) if !(-62_135_596_800_000..253_402_300_800_000).contains(millis)),
    );
    read.ok_or_else(|| Refused {
        reason: if column.kind.is_time() { Reason::BadTime } else { Reason::BadField },
        message: format!("{name}: {value} at {path} is no {:?}", column.kind).to_lowercase(),
    })
}

/// A whole number, also when it is written `7.0`.
fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0 && x.abs() < 9e15).map(|x| x as i64))
}

/// Rows as a batch with the columns of [`feed_schema`].
///
/// # Errors
/// Never, but for a mistake in here.
pub fn rows_batch(config: &FeedConfig, rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let times =
        |times: Vec<Option<i64>>| -> ArrayRef { Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC")) };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| Some(&row.item)).collect::<StringArray>()),
        times(rows.iter().map(|row| Some(row.fetched_at.get())).collect()),
        times(rows.iter().map(|row| Some(row.observed_at.get())).collect()),
        Arc::new(rows.iter().map(|row| Some(row.offset.get())).collect::<Int64Array>()),
    ];
    for (at, column) in config.columns.values().enumerate() {
        let cells = rows.iter().map(|row| &row.cells[at]);
        columns.push(match column.kind {
            ColumnKind::Text => {
                let texts = cells.map(|cell| if let Cell::Text(text) = cell { Some(text) } else { None });
                Arc::new(texts.collect::<StringArray>())
            }
            ColumnKind::Integer => {
                let numbers = cells.map(|cell| if let Cell::Integer(n) = cell { Some(*n) } else { None });
                Arc::new(numbers.collect::<Int64Array>())
            }
            ColumnKind::Number => {
                let numbers = cells.map(|cell| if let Cell::Number(x) = cell { Some(*x) } else { None });
                Arc::new(numbers.collect::<Float64Array>())
            }
            ColumnKind::Boolean => {
                let truths = cells.map(|cell| if let Cell::Boolean(b) = cell { Some(*b) } else { None });
                Arc::new(truths.collect::<BooleanArray>())
            }
            ColumnKind::UnixSeconds | ColumnKind::UnixMillis | ColumnKind::Time => {
                times(cells.map(|cell| if let Cell::Time(millis) = cell { Some(*millis) } else { None }).collect())
            }
        });
    }
    RecordBatch::try_new(feed_schema(config), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Float64Type;

    fn config() -> FeedConfig {
        toml::from_str(
            "name = 'w'\nurl = 'http://h/{item}'\nitems = ['a']\nschedule = '* * * * *'\nkey = ['city']\n\
             observed_at = { path = '/dt', kind = 'unix_seconds' }\n\
             [columns]\ncity = { path = '/id', kind = 'integer' }\nrain = { path = '/rain/1h', kind = 'number' }\n\
             sky = { path = '/weather/0/main', kind = 'text' }\n",
        )
        .unwrap()
    }

    fn read(body: &str) -> Result<Row, Refused> {
        row_of(&config(), "Paris", LogTime::new(5), Offset::new(3), body.as_bytes())
    }

    #[test]
    fn an_answer_is_a_row() {
        let wet = read(r#"{"id":7.0,"dt":100,"rain":{"1h":3},"weather":[{"main":"Rain"}],"new":[]}"#).unwrap();
        let dry = read(r#"{"id":7,"dt":160,"weather":[]}"#).unwrap();
        assert_eq!(wet.offset(), 3);
        let batch = rows_batch(&config(), &[wet, dry]).unwrap();
        assert_eq!(batch.schema(), feed_schema(&config()));
        let rain = batch.column_by_name("rain").unwrap().as_primitive::<Float64Type>();
        assert_eq!(rain.iter().collect::<Vec<_>>(), [Some(3.0), None]);
        assert_eq!(keys_of(&config(), &batch).unwrap(), ["7\u{1f}100000\u{1f}", "7\u{1f}160000\u{1f}"]);
    }

    #[test]
    fn what_is_no_row_is_refused_with_its_reason() {
        for (body, reason, said) in [
            ("<html>", Reason::BadJson, "expected value"),
            (r#"{"dt":1}"#, Reason::MissingField, "city: there is nothing at /id"),
            (r#"{"id":1}"#, Reason::MissingField, "observed_at"),
            (r#"{"id":"x","dt":1}"#, Reason::BadField, "\"x\" at /id is no integer"),
            (r#"{"id":1,"dt":"soon"}"#, Reason::BadTime, "soon"),
            (r#"{"id":1,"dt":1709286600000000}"#, Reason::BadTime, "1709286600000000 at /dt is no unixseconds"),
            (r#"{"id":1,"dt":1,"rain":{"1h":"much"}}"#, Reason::BadField, "much"),
        ] {
            let refused = read(body).unwrap_err();
            assert!(refused.reason == reason && refused.message.contains(said), "{body}: {refused:?}");
        }
    }
}
