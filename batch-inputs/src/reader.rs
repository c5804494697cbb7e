//! Reads a file row by row into batches.
//!
//! Each record goes one way: records = accepted + duplicates + dead letters + blank lines.

use crate::{
    clients::Clients, content::ContentHash, error::LoadError, header::read_header, ids::IdSet, orders::Achats,
    quality::Check, records::Records, rows::Rows, silver::Table,
};
use arrow::record_batch::RecordBatch;
use sluice_events::{DeadLetter, LogTime};
use std::{io::Read, sync::Arc};

/// Rows of a batch.
const BATCH_ROWS: usize = 65_536;
/// A batch is closed early at so many bytes of records.
const BATCH_BYTES: usize = 32 * 1024 * 1024;

/// What is known of a file before it is read.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// Its name, as rows and dead letters tell it.
    pub name: String,
    /// Of its content, by [`crate::content_hash`]. Compared at the end.
    pub hash: ContentHash,
    /// The time now: when rows are loaded, and what future dates are measured against.
    pub now: LogTime,
}

/// What a part of a file became.
#[derive(Debug)]
pub struct Loaded {
    /// Every row as received, in order: accepted ones, duplicates and dead letters. Columns of [`crate::bronze_schema`].
    pub bronze: RecordBatch,
    /// Accepted rows, in order. Columns of [`crate::customers_schema`] or [`crate::orders_schema`].
    pub silver: RecordBatch,
    /// Rows that were refused.
    pub dead_letters: Vec<DeadLetter>,
    /// Good rows whose id came before.
    pub duplicates: u64,
    /// Lines with nothing in them.
    pub blank_lines: u64,
}

/// Counts over what was read so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records of the file, blank lines included, the header not.
    pub records: u64,
    /// Rows in silver.
    pub accepted: u64,
    /// Good rows whose id came before.
    pub duplicates: u64,
    /// Rows that were refused.
    pub dead_letters: u64,
    /// Lines with nothing in them.
    pub blank_lines: u64,
    /// Rows that are not UTF-8 and were read as Windows-1252, and the line of the first. Worth a warning.
    pub windows_1252: Option<(u64, u64)>,
    /// Why the file ended before its end: its gzip stream is cut or damaged. Worth a warning, and a new delivery.
    pub cut: Option<String>,
}

impl Summary {
    /// Whether each record went one way.
    pub fn balances(&self) -> bool {
        self.records == self.accepted + self.duplicates + self.dead_letters + self.blank_lines
    }
}

/// Reads `clients.csv`.
pub type ClientsReader<R> = TableReader<R, Clients>;
/// Reads `achats.csv`.
pub type AchatsReader<R> = TableReader<R, Achats>;

/// Reads a file of one kind.
pub struct TableReader<R, T> {
    records: Records<R>,
    rows: Rows<T>,
    batch_rows: usize,
    at_end: bool,
    /// What [`Summary`] said at the end of the last batch.
    told: Summary,
}

impl<R: Read> ClientsReader<R> {
    /// Reads the header of `clients.csv`.
    ///
    /// # Errors
    /// When the file has no header that serves, or the input fails.
    pub fn new(input: R, file: InputFile) -> Result<Self, LoadError> {
        Self::of(Clients::default(), input, file)
    }
}

impl<R: Read> AchatsReader<R> {
    /// Reads the header of `achats.csv`; purchases of other than the `known` customers are dead letters.
    ///
    /// # Errors
    /// When the file has no header that serves, or the input fails.
    pub fn new(input: R, file: InputFile, known: Arc<IdSet>) -> Result<Self, LoadError> {
        Self::of(Achats::of(known), input, file)
    }
}

impl<R: Read, T: Table> TableReader<R, T> {
    fn of(table: T, input: R, file: InputFile) -> Result<Self, LoadError> {
        let mut records = Records::new(input).map_err(|source| LoadError::Read { file: file.name.clone(), source })?;
        let header = read_header(&mut records, &file.name, &T::COLUMNS)?;
        let rows = Rows::new(table, file, header);
        Ok(Self { records, rows, batch_rows: BATCH_ROWS, at_end: false, told: Summary::default() })
    }

    /// Batches of so many rows, at least 1.
    #[must_use]
    pub fn with_batch_rows(mut self, rows: usize) -> Self {
        self.batch_rows = rows.max(1);
        self
    }

    /// Good rows with an id that other files brought `earlier` are duplicates too.
    #[must_use]
    pub fn with_earlier_ids(mut self, earlier: Arc<IdSet>) -> Self {
        self.rows.earlier = earlier;
        self
    }

    /// The next rows; none at the end. The last part may have no row, when only blank lines were left.
    ///
    /// # Errors
    /// When the input fails, or at the end, when the content is not what its hash was taken of.
    pub fn next_batch(&mut self) -> Result<Option<Loaded>, LoadError> {
        while !self.at_end && self.rows.waiting() < self.batch_rows && self.rows.waiting_bytes() < BATCH_BYTES {
            let read = |source| LoadError::Read { file: self.rows.file.name.clone(), source };
            match self.records.next().map_err(read)? {
                Some(record) => self.rows.take(&record),
                None => self.end()?,
            }
        }
        if self.rows.summary == self.told {
            return Ok(None);
        }
        let now = self.rows.summary.clone();
        let told = std::mem::replace(&mut self.told, now);
        Ok(Some(self.rows.finish(&told)))
    }

    /// Counts over what was read so far; over the whole file once there is no next batch.
    pub fn summary(&self) -> &Summary {
        &self.rows.summary
    }

    /// Quality figures over what was read so far, of all rows as received: completeness of each column, uniqueness of the
    /// key and of whole rows, and the table's own rules.
    pub fn quality(&self) -> Vec<Check> {
        self.rows.quality()
    }

    fn end(&mut self) -> Result<(), LoadError> {
        let content = self.records.content();
        if content.hash() != self.rows.file.hash {
            return Err(LoadError::Changed { file: self.rows.file.name.clone() });
        }
        self.rows.summary.cut = content.cut().map(str::to_owned);
        self.at_end = true;
        Ok(())
    }
}
