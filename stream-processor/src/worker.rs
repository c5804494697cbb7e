//! The partition worker: validate, deduplicate, count. One per input partition, deterministic.
//!
//! Invariants: what it holds is a function of the records it was given, in their order. Records at or below its
//! position are never taken twice. Everything it took is a row of silver, a duplicate, invalid, or a dead letter.

use crate::{
    Dedup, LiveModel, TimeRules, arrow_bytes,
    panes::Panes,
    time_rules::{Clock, ClockRules, millis},
};
use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, Int32Array, Int64Array, RecordBatch, TimestampMillisecondArray},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMillisecondType},
    error::ArrowError,
};
use datafusion::common::DataFusionError;
use serde::{Deserialize, Serialize};
use sluice_events::{DeadLetter, Decoded, Offset, Partial, PartialKind, Records, Stage, Validation, event_schema};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};
use xxhash_rust::xxh3::xxh3_128;

/// Why a batch could not be processed: a mistake in a model or in this program, never in a record.
#[derive(Debug, thiserror::Error)]
pub enum ProcessorError {
    /// An expression or accumulator of a model failed.
    #[error("model '{model}': {source}")]
    Model {
        /// The model.
        model: String,
        /// What DataFusion says.
        source: DataFusionError,
    },
    /// Arrow refused an operation.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// A checkpoint is of another configuration.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
}

/// How many records went which way; received = processed + duplicate + invalid + undecodable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the metrics")]
pub struct Counts {
    pub received: u64,
    pub processed: u64,
    pub duplicate: u64,
    pub invalid: u64,
    pub undecodable: u64,
    pub late: BTreeMap<String, u64>,
}

/// What a batch of records became.
#[derive(Debug)]
pub struct Ingested {
    /// Every decodable record: columns of [`PartitionWorker::bronze_schema`].
    pub bronze: RecordBatch,
    /// What is valid and no duplicate: columns of [`PartitionWorker::silver_schema`].
    pub silver: RecordBatch,
    /// What could not be decoded or is not valid.
    pub dead_letters: Vec<DeadLetter>,
    /// Counts of this batch.
    pub counts: Counts,
    /// The last offset taken.
    pub upto: Offset,
}

/// The state of one worker, as a checkpoint keeps it.
#[derive(Serialize, Deserialize)]
pub struct WorkerState {
    /// First offset not taken yet.
    pub position: i64,
    clock: Clock,
    dedup: Dedup,
    /// Model, fingerprint, the first window it counts.
    models: Vec<(String, String, Option<i64>)>,
    /// Model, fingerprint, window start, states as Arrow IPC.
    panes: Vec<(String, String, i64, Vec<u8>)>,
}

/// Processes the records of one input partition.
pub struct PartitionWorker {
    // Settings.
    partition: i32,
    partitions: i32,
    topic: String,
    rules: ClockRules,
    models: Arc<[LiveModel]>,
    // Saved in a checkpoint.
    position: i64,
    clock: Clock,
    dedup: Dedup,
    windows: Vec<BTreeMap<i64, Window>>,
    /// Of a model that was new in mid-stream: the first window that it can count whole.
    counts_from: Vec<Option<i64>>,
    // Live.
    announced: Option<i64>,
    /// Whether mergers know `counts_from`.
    declared: bool,
}

struct Window {
    panes: Panes,
    is_dirty: bool,
}

fn with_fields(fields: &[(&str, DataType)]) -> SchemaRef {
    let mut all: Vec<Field> = event_schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    all.extend(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), false)));
    Arc::new(Schema::new(all))
}

fn utc_millis() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

impl PartitionWorker {
    /// Columns of bronze: the event's, then `_partition`, `_offset`, `_log_time`, `_schema_id`.
    pub fn bronze_schema() -> SchemaRef {
        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
            with_fields(&[
                ("_partition", DataType::Int32),
                ("_offset", DataType::Int64),
                ("_log_time", utc_millis()),
                ("_schema_id", DataType::Int32),
            ])
        });
        SCHEMA.clone()
    }

    /// Columns of silver: the event's, then `is_late`, `_partition`, `_offset`, `_log_time`.
    pub fn silver_schema() -> SchemaRef {
        static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
            with_fields(&[
                ("is_late", DataType::Boolean),
                ("_partition", DataType::Int32),
                ("_offset", DataType::Int64),
                ("_log_time", utc_millis()),
            ])
        });
        SCHEMA.clone()
    }

    /// A worker that has seen nothing, of partition `partition` of `partitions`.
    pub fn new(topic: &str, partition: i32, partitions: i32, rules: &TimeRules, models: Arc<[LiveModel]>) -> Self {
        Self {
            partition,
            partitions,
            topic: topic.to_owned(),
            rules: rules.into(),
            position: 0,
            clock: Clock::default(),
            dedup: Dedup::new(millis(rules.dedup_horizon), rules.dedup_ids_max),
            windows: models.iter().map(|_| BTreeMap::new()).collect(),
            counts_from: vec![None; models.len()],
            models,
            announced: None,
            declared: true,
        }
    }

    /// Goes on from a checkpoint. A model that is new, or whose text has changed, counts from the first window on that
    /// begins after everything seen so far: a window that it would only see the end of is none of its windows.
    ///
    /// # Errors
    /// When the states in it do not fit the models.
    pub fn restore(&mut self, state: WorkerState) -> Result<(), ProcessorError> {
        self.position = state.position;
        self.clock = state.clock;
        self.dedup = state.dedup.restored();
        for (model, counts_from) in self.models.iter().zip(&mut self.counts_from) {
            let known = state.models.iter().find(|(name, print, _)| *name == model.name && *print == model.fingerprint);
            *counts_from = match known {
                Some((_, _, from)) => *from,
                None => self.clock.newest.map(|t| (t.div_euclid(model.window_millis) + 1) * model.window_millis),
            };
        }
        self.declared = false;
        for (name, fingerprint, start, bytes) in state.panes {
            let Some(at) = self.models.iter().position(|m| m.name == name && m.fingerprint == fingerprint) else {
                continue;
            };
            let model = &self.models[at];
            let error = |source| ProcessorError::Model { model: name.clone(), source };
            let states = arrow_bytes::from_bytes(&bytes, &model.state_schema)?;
            let mut panes = Panes::new(model).map_err(error)?;
            panes.merge(&states, model).map_err(error)?;
            self.windows[at].insert(start, Window { panes, is_dirty: false });
        }
        Ok(())
    }

    /// The state to keep in a checkpoint. Take the partials first: what is dirty is not part of it.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn snapshot(&mut self) -> Result<WorkerState, ProcessorError> {
        let mut panes = Vec::new();
        for (model, windows) in self.models.iter().zip(&mut self.windows) {
            for (start, window) in windows {
                let states = window
                    .panes
                    .states(model)
                    .map_err(|source| ProcessorError::Model { model: model.name.clone(), source })?;
                panes.push((model.name.clone(), model.fingerprint.clone(), *start, arrow_bytes::to_bytes(&states)?));
            }
        }
        let models = self.models.iter().zip(&self.counts_from);
        let models = models.map(|(m, from)| (m.name.clone(), m.fingerprint.clone(), *from)).collect();
        Ok(WorkerState { position: self.position, clock: self.clock, dedup: self.dedup.clone(), models, panes })
    }

    /// First offset not taken yet.
    pub fn position(&self) -> Offset {
        Offset::new(self.position)
    }

    /// Milliseconds since 1970; none before the first event.
    pub fn watermark(&self) -> Option<i64> {
        self.clock.watermark(&self.rules)
    }

    /// Event ids remembered.
    pub fn dedup_len(&self) -> usize {
        self.dedup.len()
    }

    /// Windows open, by model.
    pub fn open_windows(&self) -> impl Iterator<Item = (&str, usize)> {
        self.models.iter().zip(&self.windows).map(|(model, windows)| (&*model.name, windows.len()))
    }

    /// Takes the records of the partition that follow the last ones; `decoded` and `validation` are of the same records.
    ///
    /// # Errors
    /// When a model or Arrow fails.
    pub fn ingest(
        &mut self,
        records: &Records,
        decoded: Decoded,
        validation: Validation,
    ) -> Result<Ingested, ProcessorError> {
        let Decoded { events, record_of_row, schema_ids, mut dead_letters } = decoded;
        let rows = events.num_rows();
        let mut counts = Counts {
            received: records.len() as u64,
            undecodable: dead_letters.len() as u64,
            invalid: validation.refused.len() as u64,
            ..Counts::default()
        };
        let mut keep = vec![true; rows];
        for (row, reason, message) in validation.refused {
            keep[row] = false;
            let record = record_of_row[row] as usize;
            let view = records.get(record);
            dead_letters.push(DeadLetter {
                stage: Stage::Validate,
                reason,
                message,
                key: view.key.map(<[u8]>::to_vec),
                value: view.value.map(<[u8]>::to_vec),
                headers: (!view.headers.is_empty()).then(|| view.headers.to_vec()),
                source: self.topic.clone(),
                partition: Some(self.partition),
                position: records.offset(record).get(),
                log_time: view.time,
            });
        }
        let ids = events.column(0).as_string_view();
        let times = events.column(2).as_primitive::<TimestampMillisecondType>().values();
        let mut late = vec![false; rows];
        let mut late_rows = 0;
        for row in 0..rows {
            if !keep[row] {
                continue;
            }
            if self.dedup.is_new(xxh3_128(ids.value(row).as_bytes()), times[row]) {
                late[row] = self.clock.observe(times[row], &self.rules);
                late_rows += usize::from(late[row]);
            } else {
                keep[row] = false;
                counts.duplicate += 1;
            }
        }
        counts.processed = rows as u64 - counts.invalid - counts.duplicate;

        let offsets: ArrayRef =
            Arc::new(record_of_row.iter().map(|r| records.offset(*r as usize).get()).collect::<Int64Array>());
        let log_times: TimestampMillisecondArray =
            record_of_row.iter().map(|r| Some(records.get(*r as usize).time.get())).collect();
        let log_times: ArrayRef = Arc::new(log_times.with_timezone("UTC"));
        let partition: ArrayRef = Arc::new(Int32Array::from(vec![self.partition; rows]));
        let with = |schema: SchemaRef, extra: [ArrayRef; 4]| {
            RecordBatch::try_new(schema, events.columns().iter().cloned().chain(extra).collect())
        };
        let bronze =
            with(Self::bronze_schema(), [partition.clone(), offsets.clone(), log_times.clone(), Arc::new(schema_ids)])?;
        let late = BooleanArray::from(late);
        let silver = with(Self::silver_schema(), [Arc::new(late.clone()), partition, offsets, log_times])?;
        let silver = if counts.processed == rows as u64 {
            silver
        } else {
            filter_record_batch(&silver, &BooleanArray::from(keep))?
        };
        let mut counted = silver.project(&(0..event_schema().fields().len()).collect::<Vec<_>>())?;
        if late_rows > 0 {
            let late = silver.column(events.num_columns()).as_boolean();
            let late_events = filter_record_batch(&counted, late)?;
            for event_type in late_events.column(1).as_string_view().iter().flatten() {
                *counts.late.entry(event_type.to_owned()).or_default() += 1;
            }
            counted = filter_record_batch(&counted, &arrow::compute::not(late)?)?;
        }
        self.count(&counted)?;
        let upto = records.last_offset().unwrap_or(Offset::new(self.position - 1));
        self.position = upto.get() + 1;
        self.drop_sealed();
        Ok(Ingested { bronze, silver, dead_letters, counts, upto })
    }

    fn count(&mut self, events: &RecordBatch) -> Result<(), ProcessorError> {
        if events.num_rows() == 0 {
            return Ok(());
        }
        for ((model, windows), counts_from) in self.models.iter().zip(&mut self.windows).zip(&self.counts_from) {
            let error = |source| ProcessorError::Model { model: model.name.clone(), source };
            for (start, rows) in model.evaluate(events).map_err(error)? {
                if counts_from.is_some_and(|from| start < from) {
                    continue;
                }
                let window = match windows.entry(start) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(Window { panes: Panes::new(model).map_err(error)?, is_dirty: false })
                    }
                };
                window.panes.update(&rows).map_err(error)?;
                window.is_dirty = true;
            }
        }
        Ok(())
    }

    /// Gives back the memory of windows that take no more events and have been told about.
    fn drop_sealed(&mut self) {
        let Some(watermark) = self.watermark() else { return };
        for (model, windows) in self.models.iter().zip(&mut self.windows) {
            windows.retain(|start, w| w.is_dirty || self.rules.sealed_at(start + model.window_millis) > watermark);
        }
    }

    /// What changed since the last call: the absolute states of changed windows, then the watermark.
    /// Send all of it, in this order: the watermark promises that what stands before it was sent.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn take_partials(&mut self) -> Result<Vec<Partial>, ProcessorError> {
        let mut partials = self.take_panes()?;
        let watermark = self.watermark();
        if watermark != self.announced || !partials.is_empty() {
            self.announced = watermark;
            partials.push(self.message(PartialKind::Watermark));
        }
        self.drop_sealed();
        Ok(partials)
    }

    /// Says that the partition is quiet: merge workers need not wait for it.
    pub fn idle(&self) -> Partial {
        self.message(PartialKind::Idle)
    }

    /// The end of the last open window; none when there is none.
    pub fn open_until(&self) -> Option<i64> {
        let ends = |(model, windows): (&LiveModel, &BTreeMap<i64, Window>)| {
            windows.last_key_value().map(|(start, _)| start + model.window_millis)
        };
        let open = self.models.iter().zip(&self.windows).filter_map(ends).max();
        let newest = self.clock.newest.map(|t| (t.div_euclid(self.rules.grain) + 1) * self.rules.grain);
        open.max(newest)
    }

    /// Ends the input: every window that ends at or before `until` (the largest [`PartitionWorker::open_until`] of all
    /// partitions) is sealed. Events that come for them later are late.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn drain(&mut self, until: i64) -> Result<Vec<Partial>, ProcessorError> {
        let mut partials = self.take_panes()?;
        partials.push(self.message(PartialKind::Watermark));
        partials.push(Partial { watermark: Some(until), ..self.message(PartialKind::Drained) });
        self.clock.sealed_until = self.clock.sealed_until.max(Some(until));
        for (model, windows) in self.models.iter().zip(&mut self.windows) {
            windows.retain(|start, _| start + model.window_millis > until);
        }
        Ok(partials)
    }

    fn take_panes(&mut self) -> Result<Vec<Partial>, ProcessorError> {
        let mut partials = self.declare();
        for ((model, windows), counts_from) in self.models.iter().zip(&mut self.windows).zip(&self.counts_from) {
            for (start, window) in windows.iter_mut().filter(|(_, w)| w.is_dirty) {
                let states = window
                    .panes
                    .states(model)
                    .map_err(|source| ProcessorError::Model { model: model.name.clone(), source })?;
                window.is_dirty = false;
                partials.push(Partial {
                    kind: PartialKind::Panes,
                    input_partition: self.partition,
                    input_partitions: self.partitions,
                    as_of_offset: self.position,
                    watermark: Some(*start),
                    model: Some(model.name.clone()),
                    fingerprint: Some(model.fingerprint.clone()),
                    counts_from: *counts_from,
                    panes: Some(arrow_bytes::to_bytes(&states)?),
                });
            }
        }
        Ok(partials)
    }

    /// After a restart, tells mergers from when on models count, before anything that could close a window of theirs.
    fn declare(&mut self) -> Vec<Partial> {
        if std::mem::replace(&mut self.declared, true) {
            return Vec::new();
        }
        let declared = |(model, from): (&LiveModel, &Option<i64>)| {
            from.map(|from| Partial {
                watermark: Some(from),
                model: Some(model.name.clone()),
                fingerprint: Some(model.fingerprint.clone()),
                counts_from: Some(from),
                ..self.message(PartialKind::Panes)
            })
        };
        self.models.iter().zip(&self.counts_from).filter_map(declared).collect()
    }

    fn message(&self, kind: PartialKind) -> Partial {
        Partial {
            kind,
            input_partition: self.partition,
            input_partitions: self.partitions,
            as_of_offset: self.position,
            watermark: self.watermark(),
            model: None,
            fingerprint: None,
            counts_from: None,
            panes: None,
        }
    }
}
