//! Loads a whole file and looks at what came of it.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{DataType, Date32Type, Decimal128Type, Int64Type, TimestampMillisecondType},
};
use sluice_batch_inputs::{
    AchatsReader, Check, ClientsReader, IdSet, InputFile, LoadError, Summary, Table, TableReader, content_hash,
};
use sluice_events::{DeadLetter, LogTime};
use std::{io::Read, sync::Arc};

/// 2024-03-01T12:00:00Z.
pub(crate) const NOW: LogTime = LogTime::new(1_709_294_400_000);

/// All that a file became.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) bronze: Vec<String>,
    pub(crate) silver: Vec<String>,
    pub(crate) silver_batch: Option<RecordBatch>,
    pub(crate) dead_letters: Vec<DeadLetter>,
    pub(crate) summary: Summary,
    pub(crate) quality: Vec<Check>,
}

impl Whole {
    /// Line and reason of each dead letter.
    pub(crate) fn refused(&self) -> Vec<(i64, &'static str)> {
        self.dead_letters.iter().map(|l| (l.position, l.reason.code())).collect()
    }

    pub(crate) fn check(&self, name: &str) -> (u64, u64) {
        let check = self.quality.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no check {name}"));
        (check.passed, check.total)
    }
}

pub(crate) fn input(name: &str, bytes: &[u8]) -> InputFile {
    InputFile { name: name.to_owned(), hash: content_hash(bytes).unwrap(), now: NOW }
}

pub(crate) fn clients(bytes: &[u8]) -> Result<Whole, LoadError> {
    whole(ClientsReader::new(bytes, input("clients.csv", bytes))?, usize::MAX)
}

/// Purchases of customers c1 to c9.
pub(crate) fn achats(bytes: &[u8]) -> Result<Whole, LoadError> {
    achats_in_batches(bytes, usize::MAX)
}

pub(crate) fn achats_in_batches(bytes: &[u8], rows: usize) -> Result<Whole, LoadError> {
    let known: IdSet = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"].into_iter().collect();
    whole(AchatsReader::new(bytes, input("achats.csv", bytes), Arc::new(known))?, rows)
}

/// Reads to the end, and checks on the way what holds of every file.
pub(crate) fn whole<R: Read, T: Table>(reader: TableReader<R, T>, rows: usize) -> Result<Whole, LoadError> {
    let mut reader = reader.with_batch_rows(rows);
    let (mut bronze, mut silver, mut dead_letters) = (Vec::new(), Vec::new(), Vec::new());
    let (mut duplicates, mut blank_lines) = (0, 0);
    while let Some(loaded) = reader.next_batch()? {
        assert!(loaded.bronze.num_rows() <= rows);
        bronze.push(loaded.bronze);
        silver.push(loaded.silver);
        dead_letters.extend(loaded.dead_letters);
        duplicates += loaded.duplicates;
        blank_lines += loaded.blank_lines;
    }
    assert!(reader.next_batch()?.is_none(), "the end is the end");
    let summary = reader.summary().clone();
    let count = |batches: &[RecordBatch]| batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
    assert!(summary.balances(), "{summary:?}");
    let counted = (count(&silver), duplicates, dead_letters.len() as u64, blank_lines);
    assert_eq!(counted, (summary.accepted, summary.duplicates, summary.dead_letters, summary.blank_lines));
    assert_eq!(count(&bronze), summary.records - summary.blank_lines, "bronze has every row");
    let quality = reader.quality();
    assert_eq!(quality.len(), 10);
    assert!(quality.iter().all(|c| c.total == count(&bronze) && c.passed <= c.total), "{quality:?}");
    let joined = |batches: &[RecordBatch]| batches.first().map(|b| concat_batches(&b.schema(), batches).unwrap());
    let silver_batch = joined(&silver);
    let texts = |batch: &Option<RecordBatch>| batch.as_ref().map(rows_of).unwrap_or_default();
    Ok(Whole {
        bronze: texts(&joined(&bronze)),
        silver: texts(&silver_batch),
        silver_batch,
        dead_letters,
        summary,
        quality,
    })
}

/// Each row as its values, parted by `|`; null is `∅`.
pub(crate) fn rows_of(batch: &RecordBatch) -> Vec<String> {
    let value = |column: &dyn Array, row: usize| match column.data_type() {
        _ if column.is_null(row) => "∅".to_owned(),
        DataType::Utf8 => column.as_string::<i32>().value(row).to_owned(),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).to_string(),
        DataType::Date32 => column.as_primitive::<Date32Type>().value_as_date(row).unwrap().to_string(),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value_as_string(row),
        DataType::Timestamp(..) => {
            column.as_primitive::<TimestampMillisecondType>().value_as_datetime(row).unwrap().to_string()
        }
        other => panic!("no such column: {other}"),
    };
    (0..batch.num_rows())
        .map(|row| batch.columns().iter().map(|c| value(c, row)).collect::<Vec<_>>().join("|"))
        .collect()
}
