//! One row of `silver.quality`.

use crate::{Expectation, Figure, Kind, Severity};
use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
        TimestampMillisecondArray,
    },
    compute::cast,
    datatypes::{DataType, Field, Float64Type, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit},
    error::ArrowError,
};
use std::sync::{Arc, LazyLock};

/// What one check found about the rows of one partition, or of one file.
#[derive(Clone, Debug, PartialEq)]
pub struct QualityResult {
    /// When it was checked: milliseconds since 1970. Rows of one check have the same.
    pub checked_at: i64,
    /// The table whose rows were looked at.
    pub table: String,
    /// The expectation.
    pub expectation: String,
    /// What it is about.
    pub kind: Kind,
    /// What follows when it is not met.
    pub severity: Severity,
    /// It in a few words, or its SQL.
    pub rule: String,
    /// The least share, of kinds that are one.
    pub at_least: Option<f64>,
    /// The input partition, of a stream.
    pub partition: Option<i32>,
    /// The first and last offset of the rows, of a stream that brought some.
    pub offsets: Option<(i64, i64)>,
    /// The file, of a batch input.
    pub file: Option<String>,
    /// What was found.
    pub figure: Figure,
    /// The earliest and latest event time of the rows, milliseconds since 1970.
    pub event_times: Option<(i64, i64)>,
}

fn utc_millis() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

impl QualityResult {
    /// A result without a place: the caller adds partition or file, offsets and times.
    pub fn of(expectation: &Expectation, figure: Figure, checked_at: i64) -> Self {
        Self {
            checked_at,
            table: expectation.table.clone(),
            expectation: expectation.name.clone(),
            kind: expectation.kind,
            severity: expectation.severity,
            rule: expectation.rule.clone(),
            at_least: expectation.at_least,
            partition: None,
            offsets: None,
            file: None,
            figure,
            event_times: None,
        }
    }

    /// Columns of the table.
    pub fn schema() -> SchemaRef {
        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
            let field = |name: &str, data_type, nullable| Field::new(name, data_type, nullable);
            Arc::new(Schema::new(vec![
                field("checked_at", utc_millis(), false),
                // TABLE is a word of SQL.
                field("table_name", DataType::Utf8, false),
                field("expectation", DataType::Utf8, false),
                field("kind", DataType::Utf8, false),
                field("severity", DataType::Utf8, false),
                field("rule", DataType::Utf8, false),
                field("at_least", DataType::Float64, true),
                field("_partition", DataType::Int32, true),
                field("first_offset", DataType::Int64, true),
                field("last_offset", DataType::Int64, true),
                field("_file", DataType::Utf8, true),
                field("rows", DataType::Int64, false),
                field("passed", DataType::Int64, true),
                field("ratio", DataType::Float64, true),
                field("age_seconds", DataType::Float64, true),
                field("ok", DataType::Boolean, true),
                field("first_event_time", utc_millis(), true),
                field("last_event_time", utc_millis(), true),
            ]))
        });
        SCHEMA.clone()
    }

    /// Results as rows of the table.
    ///
    /// # Errors
    /// Never for the columns of [`QualityResult::schema`].
    pub fn rows(results: &[Self]) -> Result<RecordBatch, ArrowError> {
        let texts = |part: fn(&Self) -> Option<&str>| -> ArrayRef {
            Arc::new(results.iter().map(part).collect::<StringArray>())
        };
        let longs =
            |part: fn(&Self) -> Option<i64>| -> ArrayRef { Arc::new(results.iter().map(part).collect::<Int64Array>()) };
        let times = |part: fn(&Self) -> Option<i64>| -> ArrayRef {
            Arc::new(results.iter().map(part).collect::<TimestampMillisecondArray>().with_timezone("UTC"))
        };
        let doubles = |part: fn(&Self) -> Option<f64>| -> ArrayRef {
            Arc::new(results.iter().map(part).collect::<Float64Array>())
        };
        RecordBatch::try_new(
            Self::schema(),
            vec![
                times(|r| Some(r.checked_at)),
                texts(|r| Some(&r.table)),
                texts(|r| Some(&r.expectation)),
                texts(|r| Some(r.kind.as_str())),
                texts(|r| Some(r.severity.as_str())),
                texts(|r| Some(&r.rule)),
                doubles(|r| r.at_least),
                Arc::new(results.iter().map(|r| r.partition).collect::<Int32Array>()),
                longs(|r| r.offsets.map(|(first, _)| first)),
                longs(|r| r.offsets.map(|(_, last)| last)),
                texts(|r| r.file.as_deref()),
                longs(|r| Some(r.figure.rows as i64)),
                longs(|r| r.figure.passed.map(|passed| passed as i64)),
                doubles(|r| r.figure.ratio()),
                doubles(|r| r.figure.age_seconds),
                Arc::new(results.iter().map(|r| r.figure.ok).collect::<BooleanArray>()),
                times(|r| r.event_times.map(|(first, _)| first)),
                times(|r| r.event_times.map(|(_, last)| last)),
            ],
        )
    }

    /// Rows of the table as results; a row of a kind or severity that is not known is left out.
    ///
    /// # Errors
    /// When a column is missing or of another type.
    pub fn read(batch: &RecordBatch) -> Result<Vec<Self>, ArrowError> {
        let column = |name: &str, data_type: &DataType| -> Result<ArrayRef, ArrowError> {
            cast(batch.column(batch.schema().index_of(name)?), data_type)
        };
        let times = |name: &str| cast(&column(name, &utc_millis())?, &DataType::Int64);
        let text = |name: &str| column(name, &DataType::Utf8);
        let (checked_at, table, expectation) = (times("checked_at")?, text("table_name")?, text("expectation")?);
        let (kind, severity, rule, file) = (text("kind")?, text("severity")?, text("rule")?, text("_file")?);
        let (at_least, age) = (column("at_least", &DataType::Float64)?, column("age_seconds", &DataType::Float64)?);
        let partition = column("_partition", &DataType::Int32)?;
        let (first, last) = (column("first_offset", &DataType::Int64)?, column("last_offset", &DataType::Int64)?);
        let (rows, passed) = (column("rows", &DataType::Int64)?, column("passed", &DataType::Int64)?);
        let ok = column("ok", &DataType::Boolean)?;
        let (earliest, latest) = (times("first_event_time")?, times("last_event_time")?);

        let text = |column: &ArrayRef, row: usize| {
            column.is_valid(row).then(|| column.as_string::<i32>().value(row).to_owned())
        };
        let long =
            |column: &ArrayRef, row: usize| column.is_valid(row).then(|| column.as_primitive::<Int64Type>().value(row));
        let double = |column: &ArrayRef, row: usize| {
            column.is_valid(row).then(|| column.as_primitive::<Float64Type>().value(row))
        };
        let mut results = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let known = (
                Kind::from_name(kind.as_string::<i32>().value(row)),
                Severity::from_name(severity.as_string::<i32>().value(row)),
            );
            let (Some(kind), Some(severity)) = known else { continue };
            results.push(Self {
                checked_at: long(&checked_at, row).unwrap_or_default(),
                table: text(&table, row).unwrap_or_default(),
                expectation: text(&expectation, row).unwrap_or_default(),
                kind,
                severity,
                rule: text(&rule, row).unwrap_or_default(),
                at_least: double(&at_least, row),
                partition: partition.is_valid(row).then(|| partition.as_primitive::<Int32Type>().value(row)),
                offsets: long(&first, row).zip(long(&last, row)),
                file: text(&file, row),
                figure: Figure {
                    rows: long(&rows, row).unwrap_or_default().max(0) as u64,
                    passed: long(&passed, row).map(|passed| passed.max(0) as u64),
                    age_seconds: double(&age, row),
                    ok: ok.is_valid(row).then(|| ok.as_boolean().value(row)),
                },
                event_times: long(&earliest, row).zip(long(&latest, row)),
            });
        }
        Ok(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let of_a_stream = QualityResult {
            checked_at: 1_709_287_200_000,
            table: "silver.events".to_owned(),
            expectation: "priced".to_owned(),
            kind: Kind::Validity,
            severity: Severity::Hard,
            rule: "unit_price > 0".to_owned(),
            at_least: Some(0.9),
            partition: Some(3),
            offsets: Some((7, 12)),
            file: None,
            figure: Figure { rows: 6, passed: Some(5), age_seconds: None, ok: Some(false) },
            event_times: Some((-1, 5)),
        };
        let of_a_file = QualityResult {
            kind: Kind::Freshness,
            at_least: None,
            partition: None,
            offsets: None,
            file: Some("clients.csv".to_owned()),
            figure: Figure { rows: 0, passed: None, age_seconds: Some(1.5), ok: None },
            event_times: None,
            ..of_a_stream.clone()
        };
        let results = [of_a_stream, of_a_file];
        let batch = QualityResult::rows(&results).unwrap();
        assert_eq!(batch.schema(), QualityResult::schema());
        assert_eq!(QualityResult::read(&batch).unwrap(), results);
    }
}
