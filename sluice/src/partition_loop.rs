//! One input partition: read, decode, ingest, hand on. The shell around `PartitionWorker`.

use crate::{
    judged::Judged,
    lake_tables::dead_letter_rows,
    live_models::LiveModels,
    pipeline::{Pipeline, now_millis},
    recovery,
};
use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use sluice_event_log::{EventLog, PartitionReader};
use sluice_events::{
    DeadLetter, DecodeError, Decoded, EventDecoder, IncompatibleSchema, LogTime, Offset, Partial, Partition,
    RecordBuffer, Records, Subject, TopicCodec, partition_for_key,
};
use sluice_serve::PartitionStatus;
use sluice_sinks::Metric;
use sluice_stream_processor::{Counts, PartitionWorker, encode_checkpoint};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

const WAIT: Duration = Duration::from_millis(100);
/// How often the end offset is asked for.
const LAG_INTERVAL: Duration = Duration::from_millis(500);
/// Between two questions to a registry that does not answer.
const REGISTRY_PAUSE: Duration = Duration::from_secs(1);
/// `Signals::drain_until` before a drain.
pub(crate) const NOT_DRAINING: i64 = i64::MIN;

/// Rows on their way to a writer of the lake, or the word that an epoch ends here.
pub(crate) enum ToLake {
    Rows {
        app: String,
        /// The last offset of the source that is covered.
        upto: i64,
        rows: RecordBatch,
        dead_letters: Option<RecordBatch>,
        /// Offsets that are covered and are duplicates, in their order.
        duplicates: Vec<i64>,
    },
    Barrier {
        epoch: u64,
        /// Whose rows end here.
        app: String,
        /// How many loops put this barrier.
        voices: usize,
    },
    /// A partition came, from another owner perhaps.
    Taken { app: String },
    /// What is not committed never was; then the word that it is forgotten.
    Discard { done: mpsc::Sender<()> },
}

/// A worker's state at a barrier.
pub(crate) struct StateAtBarrier {
    pub epoch: u64,
    pub worker: String,
    pub partition: u32,
    pub position: i64,
    pub bytes: Vec<u8>,
}

/// What the coordinator tells all loops.
pub(crate) struct Signals {
    pub epoch: AtomicU64,
    /// How many partition loops there are at that epoch, and loops of dead letters.
    pub loops: AtomicUsize,
    pub letters: AtomicUsize,
    pub drain_until: AtomicI64,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            epoch: AtomicU64::new(0),
            loops: AtomicUsize::new(0),
            letters: AtomicUsize::new(0),
            drain_until: AtomicI64::new(NOT_DRAINING),
        }
    }
}

impl Signals {
    /// The barriers that end an epoch in the queue of bronze; dead letters go there only.
    pub fn voices_in_bronze(&self) -> usize {
        self.loops.load(Ordering::Acquire) + self.letters.load(Ordering::Acquire)
    }
}

/// What the coordinator tells one loop.
#[derive(Default)]
pub(crate) struct LoopSignals {
    pub stop_reading: AtomicBool,
    pub stop: AtomicBool,
}

/// What a partition loop tells everyone.
pub(crate) struct Progress {
    pub status: PartitionStatus,
    pub open_until: Option<i64>,
    pub drained: bool,
}

impl Progress {
    /// Before the first look at the partition.
    pub fn unread(partition: u32) -> Self {
        let status = PartitionStatus { partition, position: -1, ..PartitionStatus::default() };
        Self { status, open_until: None, drained: false }
    }
}

pub(crate) struct PartitionLoop {
    pub pipeline: Pipeline,
    pub partition: u32,
    pub models: Arc<LiveModels>,
    pub runtime: tokio::runtime::Handle,
    pub signals: Arc<Signals>,
    pub mine: Arc<LoopSignals>,
    /// The epoch that had ended when this loop was made.
    pub epoch: u64,
    pub progress: Arc<Mutex<Progress>>,
    pub bronze: mpsc::SyncSender<ToLake>,
    pub silver: mpsc::SyncSender<ToLake>,
    pub states: mpsc::Sender<StateAtBarrier>,
}

/// Sends partials to their partitions of the topic.
struct PartialsOut {
    log: Arc<dyn EventLog>,
    topic: String,
    codec: TopicCodec<Partial>,
    buffers: Vec<RecordBuffer>,
}

impl PartialsOut {
    fn send(&mut self, partials: &[Partial]) -> Result<()> {
        if partials.is_empty() {
            return Ok(());
        }
        let count = self.buffers.len() as u32;
        for partial in partials {
            let value = self.codec.encode(partial).context("encode partial")?;
            match &partial.model {
                // All panes of a model meet in one merge worker: roll-ups and totals need them together.
                Some(model) => {
                    let to = partition_for_key(model.as_bytes(), count).get() as usize;
                    self.buffers[to].push(LogTime::new(0), Some(model.as_bytes()), Some(&value), &[]);
                }
                None => {
                    let key = partial.input_partition.to_string();
                    for buffer in &mut self.buffers {
                        buffer.push(LogTime::new(0), Some(key.as_bytes()), Some(&value), &[]);
                    }
                }
            }
        }
        for (partition, buffer) in self.buffers.iter_mut().enumerate().filter(|(_, b)| !b.is_empty()) {
            self.log.append(&self.topic, Partition::new(partition as u32), buffer).context("send partials")?;
            buffer.clear();
        }
        Ok(())
    }
}

impl PartitionLoop {
    /// The worker as its newest usable checkpoint left it, a reader that goes on from there, and what of that is refused
    /// already.
    fn recover(&self) -> Result<(PartitionWorker, Box<dyn PartitionReader>, Judged)> {
        let config = &self.pipeline.config;
        let topic = &config.topics.events;
        let place = (self.partition as i32, self.pipeline.event_partitions as i32);
        let limits = config.time.limits(&config.process);
        let worker = PartitionWorker::new(topic, place, &config.time.rules(), &limits, self.models.get())?;
        let (worker, from) = recovery::recover(&self.pipeline, self.partition, &self.runtime, worker)?;
        let reader = self.pipeline.log.reader(topic, Partition::new(self.partition), from)?;
        let judged = Judged::read(&self.pipeline, self.partition, from, &self.runtime)?;
        Ok((worker, reader, judged))
    }

    pub fn run(self) -> Result<()> {
        let mut generation = self.models.generation();
        let (mut worker, mut reader, judged) = self.recover()?;
        let config = self.pipeline.config.clone();
        let topic = config.topics.events.clone();
        let app = self.pipeline.app(&topic, self.partition);
        let mut decoder = EventDecoder::new(
            &topic,
            config.topics.events_format,
            self.pipeline.schemas.clone(),
            config.process.value_bytes_max,
        );
        let mut partials = PartialsOut {
            log: self.pipeline.log.clone(),
            topic: config.topics.partials.clone(),
            codec: TopicCodec::new(self.pipeline.schemas.subject(Subject::Partials)),
            buffers: vec![RecordBuffer::new(); self.pipeline.merge_partitions as usize],
        };
        let _ = self.bronze.send(ToLake::Taken { app: app.clone() });
        let _ = self.silver.send(ToLake::Taken { app: app.clone() });
        // An epoch that ends while this loop recovers still waits for its barrier.
        let mut epoch = self.epoch;
        let mut told = Instant::now();
        let mut last_record = Instant::now();
        let mut end_asked: Option<Instant> = None;
        let mut end = reader.position();
        let mut idle = false;
        let mut drained = false;
        while !self.pipeline.failure.is_set() {
            let records = if self.mine.stop_reading.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(2));
                Records::new()
            } else {
                reader.next(config.process.batch_records, WAIT)?
            };
            if !records.is_empty() {
                idle = false;
                last_record = Instant::now();
                let mut decoded = self.decode(&mut decoder, &records)?;
                judged.undecode(&topic, self.partition as i32, &records, &mut decoded)?;
                self.tell_incompatible(&decoder.take_incompatible_schemas());
                let log_time = |row: usize| records.get(decoded.record_of_row[row] as usize).time;
                let mut checked = self.pipeline.admission.check(&decoded.events, log_time);
                judged.refuse(&records, &decoded, &mut checked.validation);
                for (expectation, rows) in &checked.quarantined {
                    self.pipeline.metrics.add(Metric::QuarantinedRows, &[expectation], *rows);
                }
                let ingested = worker.ingest(&records, decoded, checked.validation)?;
                self.measure(&ingested.counts, &ingested.dead_letters);
                let letters = &ingested.dead_letters;
                let dead_letters = if letters.is_empty() { None } else { Some(dead_letter_rows(letters)?) };
                let upto = ingested.upto.get();
                // A writer that is gone has failed, and said why.
                let _ = self.bronze.send(ToLake::Rows {
                    app: app.clone(),
                    upto,
                    rows: ingested.bronze,
                    dead_letters,
                    duplicates: Vec::new(),
                });
                let _ = self.silver.send(ToLake::Rows {
                    app: app.clone(),
                    upto,
                    rows: ingested.silver,
                    dead_letters: None,
                    duplicates: ingested.duplicates,
                });
            }
            if end_asked.is_none_or(|at| at.elapsed() > LAG_INTERVAL) || records.is_empty() {
                match self.pipeline.log.offsets(&topic, Partition::new(self.partition)) {
                    Ok(range) => end = range.end,
                    // It only says how far behind we are.
                    Err(error) => tracing::warn!(partition = self.partition, %error, "the log's end is not known now"),
                }
                end_asked = Some(Instant::now());
            }
            if told.elapsed() >= config.process.provisional_interval {
                partials.send(&worker.take_partials()?)?;
                self.report_state(&worker);
                told = Instant::now();
            }
            let lag = (end.get() - reader.position().get()).max(0);
            if !idle && lag == 0 && last_record.elapsed() >= config.time.idle_timeout {
                idle = true;
                partials.send(&worker.idle()?)?;
            }
            if self.models.generation() != generation {
                generation = self.models.generation();
                partials.send(&worker.take_partials()?)?;
                worker.change_models(self.models.get())?;
            }
            let drain_until = self.signals.drain_until.load(Ordering::Acquire);
            if drain_until != NOT_DRAINING && !drained {
                partials.send(&worker.drain(drain_until)?)?;
                drained = true;
            }
            let wanted = self.signals.epoch.load(Ordering::Acquire);
            if wanted != epoch {
                epoch = wanted;
                self.end_epoch(epoch, &mut worker, &mut partials)?;
            }
            self.report(&worker, reader.position(), end, idle, drained);
            if self.mine.stop.load(Ordering::Acquire) {
                break;
            }
        }
        Ok(())
    }

    /// Decodes; while the registry is away, the stream waits.
    fn decode(&self, decoder: &mut EventDecoder, records: &Records) -> Result<Decoded> {
        loop {
            match decoder.decode(self.partition as i32, records) {
                Ok(decoded) => return Ok(decoded),
                Err(DecodeError::Registry(error)) if !self.mine.stop.load(Ordering::Acquire) => {
                    tracing::warn!(partition = self.partition, %error, "waiting for the schema registry");
                    std::thread::sleep(REGISTRY_PAUSE);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Once for each schema: its records are dead letters until its writer is mended, and a person is needed for that.
    fn tell_incompatible(&self, schemas: &[IncompatibleSchema]) {
        let topic = &self.pipeline.config.topics.events;
        for IncompatibleSchema { id, reason } in schemas {
            tracing::error!(%topic, schema_id = id, %reason, "a writer's schema is incompatible, its records are dead letters");
            self.pipeline.metrics.set(Metric::IncompatibleSchemas, &[topic, &id.to_string()], 1.0);
        }
    }

    /// A consistent cut: all partials of what was taken are in the log, the writers know where the cut is, and the
    /// coordinator has the state to keep once they have committed.
    fn end_epoch(&self, epoch: u64, worker: &mut PartitionWorker, partials: &mut PartialsOut) -> Result<()> {
        partials.send(&worker.take_partials()?)?;
        let bytes = encode_checkpoint(&worker.snapshot()?)?;
        let position = worker.position().get();
        let app = self.pipeline.app(&self.pipeline.config.topics.events, self.partition);
        let voices = self.signals.voices_in_bronze();
        let _ = self.bronze.send(ToLake::Barrier { epoch, app: app.clone(), voices });
        let voices = self.signals.loops.load(Ordering::Acquire);
        let _ = self.silver.send(ToLake::Barrier { epoch, app: app.clone(), voices });
        let _ = self.states.send(StateAtBarrier { epoch, worker: app, partition: self.partition, position, bytes });
        Ok(())
    }

    fn measure(&self, counts: &Counts, letters: &[DeadLetter]) {
        let metrics = &self.pipeline.metrics;
        metrics.add(Metric::RecordsReceived, &[&self.pipeline.config.topics.events], counts.received);
        metrics.add(Metric::EventsProcessed, &[], counts.processed);
        metrics.add(Metric::EventsDuplicate, &[], counts.duplicate);
        for (event_type, n) in &counts.late {
            metrics.add(Metric::EventsLate, &[event_type], *n);
        }
        for (model, n) in &counts.overflow {
            metrics.add(Metric::GroupsOverflow, &[model], *n);
        }
        for letter in letters {
            metrics.add(Metric::DeadLetters, &[letter.stage.as_str(), letter.reason.code()], 1);
            if letter.stage == sluice_events::Stage::Validate {
                metrics.add(Metric::EventsInvalid, &[letter.reason.code()], 1);
            }
        }
    }

    /// What the state takes; it looks at every group, and so not with every batch.
    fn report_state(&self, worker: &PartitionWorker) {
        let label = self.partition.to_string();
        let metrics = &self.pipeline.metrics;
        metrics.set(Metric::StateBytes, &["dedup", &label], worker.dedup_bytes() as f64);
        for (model, held) in worker.held() {
            metrics.set(Metric::OpenPanes, &[model, "process", &label], held.groups as f64);
            metrics.set(Metric::StateBytes, &[model, &label], held.bytes as f64);
        }
    }

    fn report(&self, worker: &PartitionWorker, position: Offset, end: Offset, idle: bool, drained: bool) {
        let lag = (end.get() - position.get()).max(0);
        let label = self.partition.to_string();
        let metrics = &self.pipeline.metrics;
        metrics.set(Metric::ConsumerLag, &[&self.pipeline.config.topics.events, &label], lag as f64);
        metrics.set(Metric::DedupEntries, &[&label], worker.dedup_len() as f64);
        if let Some(watermark) = worker.watermark() {
            metrics.set(Metric::WatermarkLag, &[&label], (now_millis() - watermark) as f64 / 1000.0);
        }
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.status = PartitionStatus {
            partition: self.partition,
            position: position.get(),
            end_offset: end.get(),
            lag,
            watermark_ms: worker.watermark(),
            idle,
        };
        progress.open_until = worker.open_until();
        progress.drained = drained;
    }
}
