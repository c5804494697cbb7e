//! What a worker does when it starts: which checkpoint it takes, or from what it makes its state anew.

use crate::{
    judged::Judged,
    lake_tables::{bronze_events, silver_events},
    pipeline::Pipeline,
};
use anyhow::{Context, Result, bail};
use arrow::{
    array::{ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType},
};
use datafusion::{logical_expr::col, prelude::lit};
use futures::StreamExt;
use serde::{Serialize, de::DeserializeOwned};
use sluice_event_log::OffsetRange;
use sluice_events::{LogTime, Offset, Partition, event_schema};
use sluice_sinks::lake::{Bucket, DeltaTable, StoredCheckpoint, read_rows};
use sluice_stream_processor::{PartitionWorker, WorkerState, decode_checkpoint};

/// One checkpoint, as it was found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct CheckpointFact {
    /// It covers everything below this offset.
    pub position: i64,
    pub bytes: usize,
    /// Why it cannot be used; none: it is whole.
    pub damage: Option<String>,
}

impl CheckpointFact {
    /// Of a checkpoint that should hold such a state.
    pub fn of<State: DeserializeOwned>(stored: &StoredCheckpoint) -> Self {
        Self {
            position: stored.position,
            bytes: stored.bytes.len(),
            damage: decode_checkpoint::<State>(&stored.bytes).err().map(|e| e.to_string()),
        }
    }
}

/// What there is of one input partition.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Facts {
    pub log_start: i64,
    pub log_end: i64,
    /// The last offset that each table covers.
    pub bronze: Option<i64>,
    pub silver: Option<i64>,
    /// Newest first.
    pub checkpoints: Vec<CheckpointFact>,
}

/// What a partition worker does when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "action")]
pub(crate) enum Recovery {
    /// Nothing was done before: from the log's start.
    StartFresh,
    /// Go on from a checkpoint.
    Resume { position: i64, damaged: usize },
    /// No checkpoint can be used, and the log still holds everything: read it again. What the lake has is skipped.
    ReplayLog,
    /// No checkpoint can be used, and the log has begun to forget: the state is made anew from bronze.
    RebuildFromBronze { upto: i64 },
    /// The log is not the one that was read before.
    Refuse { reason: String },
}

/// Reads nothing itself.
pub(crate) fn decide(facts: &Facts) -> Recovery {
    if let Some(committed) = facts.bronze.max(facts.silver).filter(|committed| *committed >= facts.log_end) {
        let reason = format!("the lake covers offset {committed}, but the log ends at {}", facts.log_end);
        return Recovery::Refuse { reason };
    }
    let whole = facts.checkpoints.iter().filter(|c| c.damage.is_none());
    if let Some(ahead) = whole.clone().find(|c| c.position > facts.log_end) {
        let reason = format!("a checkpoint covers offset {}, but the log ends at {}", ahead.position, facts.log_end);
        return Recovery::Refuse { reason };
    }
    if let Some(at) = facts.checkpoints.iter().position(|c| c.damage.is_none() && c.position >= facts.log_start) {
        return Recovery::Resume { position: facts.checkpoints[at].position, damaged: at };
    }
    match facts.bronze.zip(facts.silver).map(|(bronze, silver)| bronze.min(silver)) {
        _ if facts.log_start == 0 && facts.bronze.is_some() => Recovery::ReplayLog,
        Some(upto) => Recovery::RebuildFromBronze { upto },
        None => Recovery::StartFresh,
    }
}

/// Looks at the log, the tables and the checkpoints of a partition.
pub(crate) fn observe(pipeline: &Pipeline, partition: u32) -> Result<(Facts, Vec<StoredCheckpoint>)> {
    let topic = &pipeline.config.topics.events;
    let app = pipeline.app(topic, partition);
    let OffsetRange { start, end } = pipeline.log.offsets(topic, Partition::new(partition))?;
    let stored = pipeline.checkpoints.newest_first(&app)?;
    let checkpoints = stored.iter().map(CheckpointFact::of::<WorkerState>).collect();
    let facts = Facts {
        log_start: start.get(),
        log_end: end.get(),
        bronze: pipeline.lake.table(bronze_events())?.committed(&app)?,
        silver: pipeline.lake.table(silver_events())?.committed(&app)?,
        checkpoints,
    };
    Ok((facts, stored))
}

/// Brings a new worker to where it has to go on, and says from which offset it reads.
pub(crate) fn recover(
    pipeline: &Pipeline,
    partition: u32,
    runtime: &tokio::runtime::Handle,
    mut worker: PartitionWorker,
) -> Result<(PartitionWorker, Offset)> {
    let (facts, stored) = observe(pipeline, partition)?;
    for damaged in facts.checkpoints.iter().filter_map(|c| c.damage.as_ref()) {
        tracing::warn!(partition, damage = damaged, "a checkpoint cannot be used");
    }
    let from = match decide(&facts) {
        Recovery::StartFresh => {
            if facts.log_start > 0 {
                tracing::info!(partition, from = facts.log_start, "the log's first records are gone; the rest is read");
            }
            facts.log_start
        }
        Recovery::Resume { position, damaged } => {
            if damaged > 0 {
                tracing::warn!(partition, position, damaged, "going on from an older checkpoint");
            }
            let stored = stored.get(damaged).context("the checkpoint is there")?;
            worker.restore(decode_checkpoint(&stored.bytes)?)?;
            tracing::info!(partition, from = position, end = facts.log_end, "partition resumes");
            position
        }
        Recovery::ReplayLog => {
            tracing::warn!(
                partition,
                "no checkpoint can be used: reading the log from its start; what the lake has is skipped"
            );
            facts.log_start
        }
        Recovery::RebuildFromBronze { upto } => {
            tracing::warn!(
                partition,
                upto,
                "no checkpoint can be used, and the log has begun to forget: rebuilding from bronze"
            );
            let bronze = pipeline.lake.find(Bucket::Bronze, "events")?.context("bronze.events is gone")?;
            let judged = Judged::read(pipeline, partition, Offset::new(0), runtime)?;
            let rows = runtime.block_on(rebuild(pipeline, bronze, (partition, upto), &judged, &mut worker))?;
            if upto + 1 < facts.log_start {
                tracing::error!(
                    partition,
                    from = upto + 1,
                    to = facts.log_start - 1,
                    "these records are gone from the log, and the lake never had them"
                );
            }
            tracing::info!(partition, rows, "rebuilt");
            (upto + 1).max(facts.log_start)
        }
        Recovery::Refuse { reason } => bail!(
            "partition {partition} of '{}': {reason}: the log is not the one it was made from. Point log.* at the right log, \
             or begin anew with an empty --dir (or lake and checkpoints, or another process.group)",
            pipeline.config.topics.events
        ),
    };
    Ok((worker, Offset::new(from)))
}

/// Shows the worker what bronze has of its partition, in the order of offsets.
async fn rebuild(
    pipeline: &Pipeline,
    bronze: DeltaTable,
    (partition, upto): (u32, i64),
    judged: &Judged,
    worker: &mut PartitionWorker,
) -> Result<u64> {
    let frame = read_rows(&bronze)
        .await?
        .filter(col("_partition").eq(lit(partition as i32)).and(col("_offset").lt_eq(lit(upto))))?
        .sort(vec![col("_offset").sort(true, false)])?;
    let mut stream = frame.execute_stream().await?;
    let mut rows = 0;
    while let Some(batch) = stream.next().await {
        let batch: RecordBatch = batch?;
        let column = |name: &str, data_type: &DataType| -> Result<ArrayRef> {
            let column = batch.column_by_name(name).with_context(|| format!("bronze.events has no column {name}"))?;
            Ok(cast(column, data_type)?)
        };
        let columns = event_schema().fields().iter().map(|f| column(f.name(), f.data_type())).collect::<Result<_>>()?;
        let events = RecordBatch::try_new(event_schema(), columns)?;
        let log_times = column("_log_time", &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))?;
        let log_times = log_times.as_primitive::<TimestampMillisecondType>();
        let checked = pipeline.admission.check(&events, |row| LogTime::new(log_times.value(row)));
        let offsets = column("_offset", &DataType::Int64)?;
        let offsets = offsets.as_primitive::<Int64Type>().values();
        let mut refused: Vec<usize> = checked.validation.refused.iter().map(|(row, _, _)| *row).collect();
        refused.retain(|row| !judged.is_accepted(offsets[*row]));
        refused.extend((0..offsets.len()).filter(|row| judged.is_invalid(offsets[*row])));
        let last = offsets.last().copied().unwrap_or(-1);
        worker.rebuild(&events, &refused, Offset::new(last))?;
        rows += events.num_rows() as u64;
    }
    worker.rebuilt_upto(Offset::new(upto));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(log: (i64, i64), lake: Option<i64>, checkpoints: &[(i64, bool)]) -> Facts {
        let checkpoints = checkpoints.iter().map(|(position, whole)| CheckpointFact {
            position: *position,
            bytes: 1,
            damage: (!whole).then(|| "cut".to_owned()),
        });
        Facts { log_start: log.0, log_end: log.1, bronze: lake, silver: lake, checkpoints: checkpoints.collect() }
    }

    #[test]
    fn the_newest_whole_checkpoint_is_taken_and_without_one_the_log_or_bronze() {
        assert_eq!(decide(&facts((0, 9), None, &[])), Recovery::StartFresh);
        assert_eq!(decide(&facts((5, 9), None, &[])), Recovery::StartFresh, "a new pipeline on an old log");
        let whole = [(8, true), (6, true), (4, true)];
        assert_eq!(decide(&facts((0, 9), Some(7), &whole)), Recovery::Resume { position: 8, damaged: 0 });
        let newest_damaged = [(8, false), (6, true), (4, true)];
        assert_eq!(decide(&facts((0, 9), Some(7), &newest_damaged)), Recovery::Resume { position: 6, damaged: 1 });
        assert_eq!(decide(&facts((0, 9), Some(7), &[(8, false)])), Recovery::ReplayLog);
        assert_eq!(decide(&facts((3, 9), Some(7), &[(8, false)])), Recovery::RebuildFromBronze { upto: 7 });
        assert_eq!(decide(&facts((7, 9), Some(7), &[(6, true)])), Recovery::RebuildFromBronze { upto: 7 });
        assert!(matches!(decide(&facts((0, 5), Some(7), &[])), Recovery::Refuse { .. }));
        assert!(matches!(decide(&facts((0, 5), Some(3), &[(8, true)])), Recovery::Refuse { .. }));
        let ahead = Facts { silver: Some(4), ..facts((3, 9), Some(7), &[]) };
        assert_eq!(decide(&ahead), Recovery::RebuildFromBronze { upto: 4 }, "the rest of silver comes from the log");
    }
}
