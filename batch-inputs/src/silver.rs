//! What a table must know for [`crate::TableReader`] to read it.

use arrow::record_batch::RecordBatch;
use sluice_events::{LogTime, Refusal};

/// A kind of file: its columns, and what makes one of its rows a silver row. [`crate::Clients`] and [`crate::Achats`].
pub trait Table {
    /// The columns the file must have; the first is the key.
    const COLUMNS: [&'static str; 5];
    /// Names of the quality checks that [`Judged::rules`] answers.
    const RULES: [&'static str; 3];
    /// A row that is good for silver.
    type Row<'a>;

    /// Judges a row by its fields, trimmed, in the order of `COLUMNS`.
    fn judge<'a>(&self, fields: &[&'a str; 5], now: LogTime) -> Judged<Self::Row<'a>>;

    /// Adds a row to the batch being built.
    fn append(&mut self, row: Self::Row<'_>, line: i64);

    /// The rows added since the last call.
    fn finish(&mut self, file: &str) -> RecordBatch;
}

/// What became of a row.
pub struct Judged<Row> {
    /// Which rules it meets, each on its own.
    pub rules: [bool; 3],
    /// The row, or the first thing that refuses it.
    pub row: Result<Row, Refusal>,
}
