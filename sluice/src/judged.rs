//! What the lake refused stays refused when its records are read again, whatever the rules are by then.
//!
//! After a crash a worker reads records that the tables cover already. The tables skip them; its own state would take
//! what was refused then and is good now: panes would count an event that silver does not have, and a replay of its dead
//! letter would be a duplicate of it, and be lost.

use crate::{lake_tables::bronze_dead_letters, pipeline::Pipeline};
use anyhow::{Context, Result};
use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch},
    compute::{cast, filter, filter_record_batch},
    datatypes::{DataType, Int64Type},
};
use datafusion::{execution::context::SessionContext, logical_expr::col, prelude::lit};
use futures::StreamExt;
use sluice_events::{DeadLetter, Decoded, Offset, Reason, Records, Stage, Validation};
use sluice_sinks::lake::Bucket;
use std::{collections::BTreeMap, sync::Arc};

const MESSAGE: &str = "it was refused before";

/// The dead letters of one partition from an offset on.
#[derive(Default)]
pub(crate) struct Judged(BTreeMap<i64, (Stage, Reason)>);

impl Judged {
    /// Reads them, where the table has any so far.
    pub fn read(pipeline: &Pipeline, partition: u32, from: Offset, runtime: &tokio::runtime::Handle) -> Result<Self> {
        let app = pipeline.app(&pipeline.config.topics.events, partition);
        let committed = pipeline.lake.table(bronze_dead_letters())?.committed(&app)?;
        if committed.is_none_or(|upto| upto < from.get()) {
            return Ok(Self::default());
        }
        let tables = pipeline.lake.existing(Bucket::Bronze, "")?;
        let (_, table) = tables.into_iter().find(|(name, _)| name == "dead_letters").context("no dead letters")?;
        runtime.block_on(async {
            let context = SessionContext::new();
            table.update_datafusion_session(&context.state())?;
            let mine = col("_partition").eq(lit(partition as i32)).and(col("_offset").gt_eq(lit(from.get())));
            let mut stream = context
                .read_table(Arc::new(table.table_provider().build().await?))?
                .filter(mine)?
                .select_columns(&["_offset", "stage", "reason"])?
                .execute_stream()
                .await?;
            let mut letters = BTreeMap::new();
            while let Some(batch) = stream.next().await {
                let batch: RecordBatch = batch?;
                let column = |i: usize, data_type| -> Result<ArrayRef> { Ok(cast(batch.column(i), &data_type)?) };
                let (offsets, stages) = (column(0, DataType::Int64)?, column(1, DataType::Utf8)?);
                let reasons = column(2, DataType::Utf8)?;
                for row in 0..batch.num_rows() {
                    let text = |array: &ArrayRef| array.as_string::<i32>().value(row).to_owned();
                    if let (Ok(stage), Ok(reason)) = (text(&stages).try_into(), text(&reasons).try_into()) {
                        letters.insert(offsets.as_primitive::<Int64Type>().value(row), (stage, reason));
                    }
                }
            }
            Ok(Self(letters))
        })
    }

    /// Whether validation refused the record at this offset.
    pub fn is_invalid(&self, offset: i64) -> bool {
        self.0.get(&offset).is_some_and(|(stage, _)| *stage == Stage::Validate)
    }

    /// Takes the rows out that could not be decoded then.
    pub fn undecode(&self, topic: &str, partition: i32, records: &Records, decoded: &mut Decoded) -> Result<()> {
        let letter_at = |record: u32| self.0.get(&records.offset(record as usize).get());
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
            let view = records.get(record as usize);
            decoded.dead_letters.push(DeadLetter {
                stage: Stage::Decode,
                reason: letter_at(record).map_or(Reason::Malformed, |(_, reason)| *reason),
                message: MESSAGE.to_owned(),
                key: view.key.map(<[u8]>::to_vec),
                value: view.value.map(<[u8]>::to_vec),
                headers: (!view.headers.is_empty()).then(|| view.headers.to_vec()),
                source: topic.to_owned(),
                partition: Some(partition),
                position: records.offset(record as usize).get(),
                log_time: view.time,
            });
        }
        Ok(())
    }

    /// Refuses the rows that were not valid then.
    pub fn refuse(&self, records: &Records, decoded: &Decoded, validation: &mut Validation) {
        if self.is_over(records) {
            return;
        }
        for (row, record) in decoded.record_of_row.iter().enumerate() {
            let letter = self.0.get(&records.offset(*record as usize).get());
            if let (Some((Stage::Validate, reason)), Err(at)) =
                (letter, validation.refused.binary_search_by_key(&row, |(refused, _, _)| *refused))
            {
                validation.refused.insert(at, (row, *reason, MESSAGE.to_owned()));
            }
        }
    }

    /// Whether these records, and so all that follow, are read for the first time.
    fn is_over(&self, records: &Records) -> bool {
        let last = self.0.last_key_value().map(|(offset, _)| *offset);
        records.is_empty() || last.is_none_or(|last| records.offset(0).get() > last)
    }
}
