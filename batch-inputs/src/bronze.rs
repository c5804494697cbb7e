//! Rows as received: the columns as text, and where they come from.

use crate::{content::ContentHash, encoding::record_text};
use arrow::{
    array::{ArrayRef, Int64Builder, StringBuilder, TimestampMillisecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
    record_batch::RecordBatch,
};
use sluice_events::LogTime;
use std::sync::Arc;

/// The time type of all tables.
pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Columns of bronze rows: those of the file that the table knows, untrimmed, null where the record has no such columns;
/// `_raw`, the whole record; `_file`, `_line` (1-based, where the record begins), `_file_hash`, `_loaded_at`.
pub fn bronze_schema(columns: &[&str; 5]) -> SchemaRef {
    let known = columns.iter().map(|c| Field::new(*c, DataType::Utf8, true));
    let ours = [
        Field::new("_raw", DataType::Utf8, false),
        Field::new("_file", DataType::Utf8, false),
        Field::new("_line", DataType::Int64, false),
        Field::new("_file_hash", DataType::Utf8, false),
        Field::new("_loaded_at", time_type(), false),
    ];
    Arc::new(Schema::new(known.chain(ours).collect::<Vec<_>>()))
}

/// Builds bronze batches.
pub(crate) struct BronzeRows {
    schema: SchemaRef,
    columns: [StringBuilder; 5],
    raw: StringBuilder,
    lines: Int64Builder,
    rows: usize,
    bytes: usize,
}

impl BronzeRows {
    pub(crate) fn new(columns: &[&str; 5]) -> Self {
        Self {
            schema: bronze_schema(columns),
            columns: Default::default(),
            raw: StringBuilder::new(),
            lines: Int64Builder::new(),
            rows: 0,
            bytes: 0,
        }
    }

    pub(crate) fn append(&mut self, fields: Option<&[&str; 5]>, raw: &[u8], line: i64) {
        for (at, column) in self.columns.iter_mut().enumerate() {
            column.append_option(fields.map(|f| f[at]));
        }
        self.raw.append_value(record_text(raw));
        self.lines.append_value(line);
        self.rows += 1;
        self.bytes += raw.len();
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the records in the batch so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn finish(&mut self, file: &str, hash: ContentHash, now: LogTime) -> RecordBatch {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let mut arrays: Vec<ArrayRef> = self.columns.iter_mut().map(|c| Arc::new(c.finish()) as ArrayRef).collect();
        arrays.extend([
            Arc::new(self.raw.finish()) as ArrayRef,
            same_text(file, rows),
            Arc::new(self.lines.finish()),
            same_text(&hash.to_string(), rows),
            Arc::new(TimestampMillisecondArray::from_value(now.get(), rows).with_timezone("UTC")),
        ]);
        RecordBatch::try_new(self.schema.clone(), arrays).expect("all columns have as many rows")
    }
}

/// One text for all rows.
pub(crate) fn same_text(text: &str, rows: usize) -> ArrayRef {
    let mut texts = StringBuilder::with_capacity(rows, rows * text.len());
    for _ in 0..rows {
        texts.append_value(text);
    }
    Arc::new(texts.finish())
}
