//! The partition worker: validate, deduplicate, count. One per input partition, deterministic.
//!
//! Invariants: what it holds is a function of the records it was given, in their order. Records at or below its
//! position are never taken twice. Everything it took is a row of silver, a duplicate, invalid, or a dead letter.

use crate::{
    Dedup, Held, LiveModel, StateLimits, TimeRules, Window,
    dedup::SavedDedup,
    open::{OpenModel, SavedModel},
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

/// Ids whose places are looked up at once.
const LOOK_AHEAD: usize = 32;
/// How far behind what a worker itself would take, in event time, a rebuilt one keeps windows for mergers that are behind.
const REBUILT_MILLIS: i64 = 86_400_000;

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
}

impl ProcessorError {
    pub(crate) fn of(model: &LiveModel, source: DataFusionError) -> Self {
        Self::Model { model: model.name.clone(), source }
    }
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
    /// By model, events counted under [`OTHER`](crate::OTHER) because there were too many groups.
    pub overflow: BTreeMap<String, u64>,
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
    /// Offsets of the duplicates, which are in bronze only, in their order.
    pub duplicates: Vec<i64>,
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
    dedup: SavedDedup,
    models: Vec<SavedModel>,
}

/// Processes the records of one input partition.
pub struct PartitionWorker {
    // Settings.
    partition: i32,
    partitions: i32,
    topic: String,
    rules: ClockRules,
    limits: StateLimits,
    models: Arc<[LiveModel]>,
    // Saved in a checkpoint.
    position: i64,
    clock: Clock,
    dedup: Dedup,
    open: Vec<OpenModel>,
    // Live.
    announced: Option<i64>,
    /// Whether mergers have heard lately which models are counted, and from when on.
    declared: bool,
    /// Whether the open windows take more memory than they should: no new groups then.
    is_full: bool,
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
    ///
    /// # Errors
    /// When DataFusion has no accumulator for a model.
    pub fn new(
        topic: &str,
        (partition, partitions): (i32, i32),
        rules: &TimeRules,
        limits: &StateLimits,
        models: Arc<[LiveModel]>,
    ) -> Result<Self, ProcessorError> {
        Ok(Self {
            partition,
            partitions,
            topic: topic.to_owned(),
            rules: rules.into(),
            limits: *limits,
            position: 0,
            clock: Clock::default(),
            dedup: Dedup::new(millis(rules.dedup_horizon), limits.dedup_ids_max),
            open: models.iter().map(OpenModel::new).collect::<Result<_, _>>()?,
            models,
            announced: None,
            declared: false,
            is_full: false,
        })
    }

    /// Goes on from a checkpoint. A model that is new, or whose text has changed, counts from the first window on that
    /// begins after everything seen so far: a window that it would only see the end of is none of its windows.
    ///
    /// # Errors
    /// When the states in it do not fit the models.
    pub fn restore(&mut self, state: WorkerState) -> Result<(), ProcessorError> {
        self.position = state.position;
        self.clock = state.clock;
        self.dedup.restore(state.dedup);
        let mut saved = state.models;
        for (model, open) in self.models.iter().zip(&mut self.open) {
            let known = saved.iter().position(|s| s.name == model.name && s.fingerprint == model.fingerprint);
            *open = match known {
                Some(at) => OpenModel::restored(model, saved.swap_remove(at))?,
                None => OpenModel::new_after(model, self.clock.newest)?,
            };
        }
        self.declared = false;
        Ok(())
    }

    /// Goes on with other models: those whose text is the same keep what they hold, new ones count as after
    /// [`PartitionWorker::restore`]. Take the partials first: a model that is gone sends no more.
    ///
    /// # Errors
    /// When DataFusion has no accumulator for a model.
    pub fn change_models(&mut self, models: Arc<[LiveModel]>) -> Result<(), ProcessorError> {
        let mut known: Vec<(&LiveModel, OpenModel)> = self.models.iter().zip(std::mem::take(&mut self.open)).collect();
        for model in models.iter() {
            let same = known.iter().position(|(k, _)| k.name == model.name && k.fingerprint == model.fingerprint);
            self.open.push(match same {
                Some(at) => known.swap_remove(at).1,
                None => OpenModel::new_after(model, self.clock.newest)?,
            });
        }
        self.models = models;
        self.declared = false;
        Ok(())
    }

    /// The state to keep in a checkpoint. Take the partials first: slices that changed since are not marked in it.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn snapshot(&mut self) -> Result<WorkerState, ProcessorError> {
        let models = self.models.iter().zip(&mut self.open).map(|(model, open)| open.save(model));
        let models = models.collect::<Result<_, _>>()?;
        // Said again now and then, for a merger that has lost what it heard.
        self.declared = false;
        Ok(WorkerState { position: self.position, clock: self.clock, dedup: self.dedup.save(), models })
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

    /// Bytes that the remembered ids take, about.
    pub fn dedup_bytes(&self) -> usize {
        self.dedup.size()
    }

    /// What is held open, by model.
    pub fn held(&self) -> impl Iterator<Item = (&str, Held)> {
        self.models.iter().zip(&self.open).map(|(model, open)| (&*model.name, open.held()))
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
            let why = (Stage::Validate, reason, message);
            let place = (&*self.topic, self.partition);
            dead_letters.push(DeadLetter::of_record(why, place, records, record_of_row[row] as usize));
        }
        let (late, repeated) = self.admit(&events, &mut keep, &mut counts);
        counts.processed = rows as u64 - counts.invalid - counts.duplicate;

        let duplicates = repeated.iter().map(|row| records.offset(record_of_row[*row] as usize).get()).collect();
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
        let silver = with(Self::silver_schema(), [Arc::new(BooleanArray::from(late)), partition, offsets, log_times])?;
        let silver = if counts.processed == rows as u64 {
            silver
        } else {
            filter_record_batch(&silver, &BooleanArray::from(keep))?
        };
        let late = silver.column(events.num_columns()).as_boolean().clone();
        let counted = silver.project(&(0..event_schema().fields().len()).collect::<Vec<_>>())?;
        self.count(counted, &late, &mut counts)?;
        let upto = records.last_offset().unwrap_or(Offset::new(self.position - 1));
        self.position = upto.get() + 1;
        self.drop_over()?;
        Ok(Ingested { bronze, silver, dead_letters, duplicates, counts, upto })
    }

    /// Takes events of the partition that the lake already has, so that the state is as if they had been read from the
    /// log: `refused` are the rows that validation refuses, `upto` is the last offset they cover.
    ///
    /// # Errors
    /// When a model or Arrow fails.
    pub fn rebuild(&mut self, events: &RecordBatch, refused: &[usize], upto: Offset) -> Result<(), ProcessorError> {
        let mut keep = vec![true; events.num_rows()];
        refused.iter().for_each(|row| keep[*row] = false);
        let mut counts = Counts::default();
        let late = BooleanArray::from(self.admit(events, &mut keep, &mut counts).0);
        let keep = BooleanArray::from(keep);
        let late = arrow::compute::filter(&late, &keep)?.as_boolean().clone();
        self.count(filter_record_batch(events, &keep)?, &late, &mut counts)?;
        self.position = upto.get() + 1;
        // What mergers have sealed long ago they need not hear of again, and all of history would not fit.
        if let Some(watermark) = self.watermark() {
            let long_ago = self.rules.sealed_until(watermark).saturating_sub(REBUILT_MILLIS);
            for (model, open) in self.models.iter().zip(&mut self.open) {
                open.forget_until(model, long_ago).map_err(|e| ProcessorError::of(model, e))?;
            }
        }
        Ok(())
    }

    /// Says that everything up to `upto` has been shown to [`PartitionWorker::rebuild`]; offsets without an event too.
    pub fn rebuilt_upto(&mut self, upto: Offset) {
        self.position = upto.get() + 1;
        // Mergers know from before what is open.
        self.declared = false;
    }

    /// Finds duplicates among the rows that are kept, and tells which of the rest are late; then the rows of the duplicates.
    fn admit(&mut self, events: &RecordBatch, keep: &mut [bool], counts: &mut Counts) -> (Vec<bool>, Vec<usize>) {
        let ids = events.column(0).as_string_view();
        let times = events.column(2).as_primitive::<TimestampMillisecondType>().values();
        let mut late = vec![false; keep.len()];
        let mut repeated = Vec::new();
        let mut hashes = [0; LOOK_AHEAD];
        for from in (0..keep.len()).step_by(LOOK_AHEAD) {
            let rows = from..(from + LOOK_AHEAD).min(keep.len());
            for (hash, row) in hashes.iter_mut().zip(rows.clone()) {
                *hash = xxh3_128(ids.value(row).as_bytes());
            }
            std::hint::black_box(self.dedup.expect(&hashes[..rows.len()]));
            for (hash, row) in hashes.into_iter().zip(rows) {
                if !keep[row] {
                    continue;
                }
                if self.dedup.is_new(hash, times[row]) {
                    late[row] = self.clock.observe(times[row], &self.rules);
                } else {
                    keep[row] = false;
                    repeated.push(row);
                    counts.duplicate += 1;
                }
            }
        }
        (late, repeated)
    }

    /// Counts what is not late.
    fn count(
        &mut self,
        mut events: RecordBatch,
        late: &BooleanArray,
        counts: &mut Counts,
    ) -> Result<(), ProcessorError> {
        if late.has_true() {
            for event_type in filter_record_batch(&events, late)?.column(1).as_string_view().iter().flatten() {
                *counts.late.entry(event_type.to_owned()).or_default() += 1;
            }
            events = filter_record_batch(&events, &arrow::compute::not(late)?)?;
        }
        if events.num_rows() == 0 {
            return Ok(());
        }
        let groups_max = if self.is_full { 1 } else { self.limits.groups_max };
        for (model, open) in self.models.iter().zip(&mut self.open) {
            let moved = open.count(model, &events, groups_max).map_err(|e| ProcessorError::of(model, e))?;
            if moved > 0 {
                *counts.overflow.entry(model.name.clone()).or_default() += moved as u64;
            }
        }
        Ok(())
    }

    /// Gives back the memory of what takes no more events and has been told about.
    fn drop_over(&mut self) -> Result<(), ProcessorError> {
        let Some(watermark) = self.watermark() else { return Ok(()) };
        for (model, open) in self.models.iter().zip(&mut self.open) {
            open.drop_over(model, &self.rules, watermark).map_err(|e| ProcessorError::of(model, e))?;
        }
        Ok(())
    }

    /// What changed since the last call: absolute states, then the watermark. Fragments of sessions come when the
    /// watermark makes them matter. Send all of it, in this order: the watermark promises that what stands before it was sent.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn take_partials(&mut self) -> Result<Vec<Partial>, ProcessorError> {
        let watermark = self.watermark();
        // Who says only which models it counts is as quiet as before.
        let mut partials = self.declare();
        let panes = match watermark {
            Some(watermark) => self.take_panes(Some(watermark))?,
            None => Vec::new(),
        };
        if watermark != self.announced || !panes.is_empty() {
            partials.extend(panes);
            self.announced = watermark;
            partials.push(self.message(PartialKind::Watermark));
        }
        self.drop_over()?;
        self.is_full = self.held().map(|(_, held)| held.bytes).sum::<usize>() > self.limits.state_bytes_max;
        Ok(partials)
    }

    /// Whether the open windows take more memory than they should, so that new groups are counted together.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// All that changed, then the word that the partition is quiet: merge workers need not wait for it.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn idle(&mut self) -> Result<Vec<Partial>, ProcessorError> {
        let mut partials = self.declare();
        partials.extend(self.take_panes(None)?);
        self.announced = self.watermark();
        partials.push(self.message(PartialKind::Watermark));
        partials.push(self.message(PartialKind::Idle));
        Ok(partials)
    }

    /// Until when the stream must be taken as ended so that every window with events has ended, those of models over
    /// other models' rows too; none before the first event.
    pub fn open_until(&self) -> Option<i64> {
        let grain = self.rules.grain;
        let windows = self.models.iter().zip(&self.open).filter_map(|(model, open)| open.open_until(model));
        let mut until = windows.chain(self.clock.newest.map(|newest| newest.saturating_add(1))).max()?;
        // Every model comes after the one it reads from.
        for model in self.models.iter().filter(|model| model.upstream.is_some()) {
            if let Window::Grid(grid) = &model.window {
                until = until.max(grid.end(grid.last_window(until)));
            }
        }
        Some(until.saturating_add(grain - 1).div_euclid(grain).saturating_mul(grain))
    }

    /// Ends the input: every window that ends at or before `until` (the largest [`PartitionWorker::open_until`] of all
    /// partitions) is sealed. Events that come for them later are late.
    ///
    /// # Errors
    /// When a state cannot be written.
    pub fn drain(&mut self, until: i64) -> Result<Vec<Partial>, ProcessorError> {
        let mut partials = self.declare();
        partials.extend(self.take_panes(None)?);
        partials.push(self.message(PartialKind::Watermark));
        partials.push(Partial { watermark: Some(until), ..self.message(PartialKind::Drained) });
        self.clock.seal(until);
        for (model, open) in self.models.iter().zip(&mut self.open) {
            open.forget_until(model, until).map_err(|e| ProcessorError::of(model, e))?;
        }
        Ok(partials)
    }

    fn take_panes(&mut self, watermark: Option<i64>) -> Result<Vec<Partial>, ProcessorError> {
        let mut partials = Vec::new();
        for at in 0..self.models.len() {
            for outgoing in self.open[at].take(&self.models[at], watermark)? {
                let parts = outgoing.parts.len() as i32;
                for (part, bytes) in outgoing.parts.into_iter().enumerate() {
                    partials.push(Partial {
                        watermark: outgoing.slice,
                        panes: Some(bytes),
                        part: part as i32,
                        parts,
                        ..self.panes_message(at)
                    });
                }
            }
        }
        Ok(partials)
    }

    fn panes_message(&self, at: usize) -> Partial {
        Partial {
            watermark: None,
            model: Some(self.models[at].name.clone()),
            fingerprint: Some(self.models[at].fingerprint.clone()),
            counts_from: self.open[at].counts_from,
            ..self.message(PartialKind::Panes)
        }
    }

    /// Tells mergers which models are counted here, and from when on, before anything that could close a window of
    /// theirs: a window that not every partition counts is not closed.
    fn declare(&mut self) -> Vec<Partial> {
        if std::mem::replace(&mut self.declared, true) {
            return Vec::new();
        }
        let models = (0..self.models.len()).filter(|at| self.models[*at].upstream.is_none());
        models.map(|at| self.panes_message(at)).collect()
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
            part: 0,
            parts: 1,
            panes: None,
        }
    }
}
