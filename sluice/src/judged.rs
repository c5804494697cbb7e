//! What the lake refused stays refused, and what it took stays taken, when records are read again, whatever the rules are by
//! then.
//!
//! After a crash a worker reads records that the tables cover already. The tables skip them; its own state would take
//! what was refused then and is good now: panes would count an event that silver does not have, and a replay of its dead
//! letter would be a duplicate of it, and be lost.

use crate::{
    lake_tables::{bronze_dead_letters, silver_events},
    offsets::{OffsetReader, Offsets},
    pipeline::Pipeline,
};
use anyhow::{Context, Result};
use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch},
    compute::{cast, filter, filter_record_batch},
    datatypes::{DataType, Int64Type},
};
use datafusion::{logical_expr::col, prelude::lit};
use sluice_events::{DeadLetter, Decoded, Offset, Reason, Records, Stage, Validation};
use sluice_sinks::lake::{TableSpec, read_rows};
use std::collections::BTreeMap;

const MESSAGE: &str = "it was refused before";

/// What became of the records of one partition from an offset on.
#[derive(Default)]
pub(crate) struct Judged {
    /// Dead letters.
    refused: BTreeMap<i64, (Stage, Reason)>,
    /// Rows of silver.
    accepted: Offsets,
}

impl Judged {
    /// Reads it, where the tables have any so far.
    pub fn read(pipeline: &Pipeline, partition: u32, from: Offset, runtime: &tokio::runtime::Handle) -> Result<Self> {
        let mut refused = BTreeMap::new();
        let letters = read(pipeline, bronze_dead_letters(), &["_offset", "stage", "reason"], partition, from, runtime)?;
        for batch in letters {
            let column = |i: usize, data_type| -> Result<ArrayRef> { Ok(cast(batch.column(i), &data_type)?) };
            let (offsets, stages) = (column(0, DataType::Int64)?, column(1, DataType::Utf8)?);
            let reasons = column(2, DataType::Utf8)?;
            for row in 0..batch.num_rows() {
                let text = |array: &ArrayRef| array.as_string::<i32>().value(row).to_owned();
                if let (Ok(stage), Ok(reason)) = (text(&stages).try_into(), text(&reasons).try_into()) {
                    refused.insert(offsets.as_primitive::<Int64Type>().value(row), (stage, reason));
                }
            }
        }
        let mut accepted = OffsetReader::default();
        for batch in read(pipeline, silver_events(), &["_offset"], partition, from, runtime)? {
            let offsets = cast(batch.column(0), &DataType::Int64)?;
            offsets.as_primitive::<Int64Type>().values().iter().for_each(|offset| accepted.push(*offset));
        }
        Ok(Self { refused, accepted: accepted.finish().0 })
    }

    /// Whether silver has the record at this offset.
    pub fn is_accepted(&self, offset: i64) -> bool {
        self.accepted.contains(offset)
    }

    /// Whether validation refused the record at this offset.
    pub fn is_invalid(&self, offset: i64) -> bool {
        self.refused.get(&offset).is_some_and(|(stage, _)| *stage == Stage::Validate)
    }

    /// Takes the rows out that could not be decoded then.
    pub fn undecode(&self, topic: &str, partition: i32, records: &Records, decoded: &mut Decoded) -> Result<()> {
        let letter_at = |record: u32| self.refused.get(&records.offset(record as usize).get());
        let is_out = |record: &u32| matches!(letter_at(*record), Some((Stage::Decode, _)));
        if self.is_over(records) || !decoded.record_of_row.iter().any(is_out) {
            return Ok(());
        }
        let keep: BooleanArray = decoded.record_of_row.iter().map(|record| Some(!is_out(record))).collect();
        decoded.events = filter_record_batch(&decoded.events, &keep)?;
        decoded.schema_ids = filter(&decoded.schema_ids, &keep)?.as_primitive().clone();
        let (out, kept): (Vec<u32>, Vec<u32>) = decoded.record_of_row.iter().partition(|record| is_out(record));
        decoded.record_of_row = kept;
        for record in out {
            let reason = letter_at(record).map_or(Reason::Malformed, |(_, reason)| *reason);
            let why = (Stage::Decode, reason, MESSAGE.to_owned());
            decoded.dead_letters.push(DeadLetter::of_record(why, (topic, partition), records, record as usize));
        }
        Ok(())
    }

    /// Refuses the rows that were not valid then, and takes those that were.
    pub fn refuse(&self, records: &Records, decoded: &Decoded, validation: &mut Validation) {
        if self.is_over(records) {
            return;
        }
        let offset_of = |row: usize| records.offset(decoded.record_of_row[row] as usize).get();
        validation.refused.retain(|(row, _, _)| !self.is_accepted(offset_of(*row)));
        for (row, record) in decoded.record_of_row.iter().enumerate() {
            let letter = self.refused.get(&records.offset(*record as usize).get());
            if let (Some((Stage::Validate, reason)), Err(at)) =
                (letter, validation.refused.binary_search_by_key(&row, |(refused, _, _)| *refused))
            {
                validation.refused.insert(at, (row, *reason, MESSAGE.to_owned()));
            }
        }
    }

    /// Whether these records, and so all that follow, are read for the first time.
    fn is_over(&self, records: &Records) -> bool {
        let last = self.refused.last_key_value().map(|(offset, _)| *offset).max(self.accepted.last());
        records.is_empty() || last.is_none_or(|last| records.offset(0).get() > last)
    }
}

/// Columns of the rows that a table has of a partition from an offset on.
fn read(
    pipeline: &Pipeline,
    spec: TableSpec,
    columns: &[&str],
    partition: u32,
    from: Offset,
    runtime: &tokio::runtime::Handle,
) -> Result<Vec<RecordBatch>> {
    let app = pipeline.app(&pipeline.config.topics.events, partition);
    let (bucket, path) = (spec.bucket, spec.path.clone());
    let committed = pipeline.lake.table(spec)?.committed(&app)?;
    if committed.is_none_or(|upto| upto < from.get()) {
        return Ok(Vec::new());
    }
    let table = pipeline.lake.find(bucket, &path)?.context("the table is gone")?;
    runtime.block_on(async {
        let mine = col("_partition").eq(lit(partition as i32)).and(col("_offset").gt_eq(lit(from.get())));
        Ok(read_rows(&table).await?.filter(mine)?.select_columns(columns)?.collect().await?)
    })
}
