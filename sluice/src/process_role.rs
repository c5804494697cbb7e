//! The `process` role: a loop for each input partition, two writers of the lake, and the coordinator of epochs.
//!
//! An epoch ends in this order: every loop puts a barrier into the writers' queues and hands over its state; each
//! writer commits when it has met the barriers of all loops; then the states become checkpoints. So a checkpoint never
//! covers what is not committed, and a crash between the two only means that committed rows are skipped on replay.

use crate::{
    lake_tables::{bronze_dead_letters, bronze_events, dead_letter_rows, silver_events},
    partition_loop::{NOT_DRAINING, PartitionLoop, Progress, Signals, StateAtBarrier, ToLake},
    pipeline::{Pipeline, spawn},
};
use anyhow::{Context, Result, bail};
use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::Int64Type,
};
use sluice_events::{DeadLetter, Offset, Partition, Records, Subject, TopicCodec};
use sluice_serve::PartitionStatus;
use sluice_sinks::{Metric, Metrics, lake::LakeTable};
use sluice_stream_processor::LiveModel;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Batches waiting for a writer, at most: the stream waits for the lake, not the memory.
const QUEUE: usize = 6;
const TICK: Duration = Duration::from_millis(20);

pub(crate) struct ProcessRole {
    pipeline: Pipeline,
    signals: Arc<Signals>,
    progress: Vec<Arc<Mutex<Progress>>>,
    dead_letters_position: Arc<AtomicI64>,
    threads: Vec<JoinHandle<()>>,
    coordinator: Coordinator,
}

struct Coordinator {
    states: mpsc::Receiver<StateAtBarrier>,
    committed: mpsc::Receiver<u64>,
    loops: usize,
    epoch_started: Instant,
}

/// Where the input ends.
pub(crate) struct EndOffsets {
    events: Vec<i64>,
    dead_letters: i64,
}

impl EndOffsets {
    pub fn now(pipeline: &Pipeline) -> Result<Self> {
        let topics = &pipeline.config.topics;
        let end = |topic: &str, p| Ok::<_, anyhow::Error>(pipeline.log.offsets(topic, Partition::new(p))?.end.get());
        let events = (0..pipeline.event_partitions).map(|p| end(&topics.events, p)).collect::<Result<_>>()?;
        Ok(Self { events, dead_letters: end(&topics.dead_letters, 0)? })
    }
}

/// What `status` shows of the partitions.
pub(crate) type ProgressOfPartitions = Vec<Arc<Mutex<Progress>>>;

impl ProcessRole {
    pub fn start(pipeline: &Pipeline, models: &Arc<[LiveModel]>) -> Result<Self> {
        let chosen = pipeline.config.process.chosen(pipeline.event_partitions)?;
        let signals = Arc::new(Signals::default());
        let (bronze, bronze_in) = mpsc::sync_channel(QUEUE);
        let (silver, silver_in) = mpsc::sync_channel(QUEUE);
        let (states_out, states) = mpsc::channel();
        let (committed_out, committed) = mpsc::channel();
        let mut threads = Vec::new();
        let mut progress = Vec::new();

        // Of several processes, the one with partition 0 also takes the producers' dead letters: one more voice at
        // the barrier of the bronze writer.
        let takes_letters = chosen.contains(&0);
        let mut bronze_writer = LakeWriter {
            rows: pipeline.lake.table(bronze_events())?,
            dead_letters: Some(pipeline.lake.table(bronze_dead_letters())?),
            voices: chosen.len() + usize::from(takes_letters),
            metrics: pipeline.metrics.clone(),
        };
        let mut silver_writer = LakeWriter {
            rows: pipeline.lake.table(silver_events())?,
            dead_letters: None,
            voices: chosen.len(),
            metrics: pipeline.metrics.clone(),
        };
        for writer in [&mut bronze_writer, &mut silver_writer] {
            writer.rows_are_of(pipeline, &chosen)?;
        }
        for (name, writer, input) in [("bronze", bronze_writer, bronze_in), ("silver", silver_writer, silver_in)] {
            let done = committed_out.clone();
            threads.push(spawn(format!("write {name}"), &pipeline.failure, move || writer.run(&input, &done))?);
        }
        for partition in &chosen {
            let mine = Arc::new(Mutex::new(Progress::unread(*partition)));
            progress.push(mine.clone());
            let partition_loop = PartitionLoop {
                pipeline: pipeline.clone(),
                partition: *partition,
                models: models.clone(),
                signals: signals.clone(),
                progress: mine,
                bronze: bronze.clone(),
                silver: silver.clone(),
                states: states_out.clone(),
            };
            threads.push(spawn(format!("partition {partition}"), &pipeline.failure, move || partition_loop.run())?);
        }
        let dead_letters_position = Arc::new(AtomicI64::new(if takes_letters { 0 } else { i64::MAX }));
        if takes_letters {
            let letters = DeadLetterLoop {
                pipeline: pipeline.clone(),
                signals: signals.clone(),
                position: dead_letters_position.clone(),
                bronze: bronze.clone(),
            };
            threads.push(spawn("dead letters".to_owned(), &pipeline.failure, move || letters.run())?);
        }
        drop(bronze);
        drop(silver);
        let coordinator = Coordinator { states, committed, loops: chosen.len(), epoch_started: Instant::now() };
        Ok(Self { pipeline: pipeline.clone(), signals, progress, dead_letters_position, threads, coordinator })
    }

    pub fn progress(&self) -> ProgressOfPartitions {
        self.progress.clone()
    }

    /// Does what is due; call it often. Ends epochs by age.
    pub fn tick(&mut self) -> Result<()> {
        if self.coordinator.epoch_started.elapsed() >= self.pipeline.config.lake.roll_age {
            self.end_epoch()?;
        }
        Ok(())
    }

    /// Ends the epoch: what was taken is committed, and the states of that moment are kept.
    fn end_epoch(&mut self) -> Result<()> {
        // The lake must not cover records that the log could still lose.
        self.pipeline.log.flush().context("flush events")?;
        let epoch = self.signals.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        let mut states = Vec::new();
        let mut writers = 0;
        while states.len() < self.coordinator.loops || writers < 2 {
            if self.pipeline.failure.is_set() {
                return Ok(());
            }
            if let Ok(state) = self.coordinator.states.recv_timeout(TICK)
                && state.epoch == epoch
            {
                states.push(state);
            }
            writers += self.coordinator.committed.try_iter().filter(|e| *e == epoch).count();
        }
        // The partials of what the checkpoints cover must be safe before they are.
        self.pipeline.log.flush().context("flush partials")?;
        let started = Instant::now();
        for state in states {
            let partition = state.worker.rsplit('/').next().unwrap_or_default().to_owned();
            self.pipeline.metrics.set(Metric::CheckpointBytes, &["process", &partition], state.bytes.len() as f64);
            self.pipeline.checkpoints.put(&state.worker, state.position, state.bytes)?;
        }
        self.pipeline.metrics.observe(Metric::CheckpointDuration, &["process"], started.elapsed().as_secs_f64());
        self.coordinator.epoch_started = Instant::now();
        Ok(())
    }

    fn of_all<T>(&self, read: impl Fn(&Progress) -> T) -> Vec<T> {
        self.progress.iter().map(|p| read(&p.lock().unwrap_or_else(PoisonError::into_inner))).collect()
    }

    /// Whether every partition has been read up to the end offset it had when the input ended.
    pub fn has_read(&self, ends: &EndOffsets) -> bool {
        let reached =
            |p: &Progress| ends.events.get(p.status.partition as usize).is_none_or(|end| p.status.position >= *end);
        self.of_all(reached).into_iter().all(|r| r)
            && self.dead_letters_position.load(Ordering::Acquire) >= ends.dead_letters
    }

    /// Records that wait to be read.
    pub fn lag(&self) -> i64 {
        self.of_all(|p| p.status.lag).into_iter().sum()
    }

    /// Closes and seals every window. All input must have been read.
    pub fn drain(&mut self) -> Result<()> {
        let until = self.of_all(|p| p.open_until).into_iter().flatten().max().unwrap_or(NOT_DRAINING + 1);
        self.signals.drain_until.store(until, Ordering::Release);
        while !self.of_all(|p| p.drained).into_iter().all(|d| d) && !self.pipeline.failure.is_set() {
            std::thread::sleep(TICK);
        }
        Ok(())
    }

    /// Commits everything taken and ends. Loses nothing, seals nothing.
    pub fn stop(mut self) -> Result<()> {
        self.signals.stop_reading.store(true, Ordering::Release);
        self.end_epoch()?;
        self.signals.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        Ok(())
    }
}

pub(crate) fn statuses(progress: &ProgressOfPartitions) -> Vec<PartitionStatus> {
    progress.iter().map(|p| p.lock().unwrap_or_else(PoisonError::into_inner).status.clone()).collect()
}

/// Writes one table of events, and the dead letters beside it.
struct LakeWriter {
    rows: LakeTable,
    dead_letters: Option<LakeTable>,
    voices: usize,
    metrics: Arc<Metrics>,
}

impl LakeWriter {
    /// Refuses a log that ends before what the table covers: its next records would pass for known ones.
    fn rows_are_of(&mut self, pipeline: &Pipeline, partitions: &[u32]) -> Result<()> {
        let topic = &pipeline.config.topics.events;
        for partition in partitions {
            let end = pipeline.log.offsets(topic, Partition::new(*partition))?.end.get();
            if let Some(committed) = self.rows.committed(&pipeline.app(topic, *partition))?.filter(|c| *c >= end) {
                bail!(
                    "{} covers partition {partition} of '{topic}' up to offset {committed}, but the log ends at {end}: it \
                     is another log. Point log.* at the right one, or give this one a new process.group or lake",
                    self.rows.name()
                );
            }
        }
        Ok(())
    }

    fn run(mut self, input: &mpsc::Receiver<ToLake>, committed: &mpsc::Sender<u64>) -> Result<()> {
        let mut voices = 0;
        while let Ok(message) = input.recv() {
            match message {
                ToLake::Rows { app, upto, rows, dead_letters } => {
                    append(&mut self.rows, &app, upto, &rows)?;
                    if let (Some(table), Some(letters)) = (&mut self.dead_letters, dead_letters) {
                        // A producer's letter has its place in a file: the reader of its topic began after what is committed.
                        append(table, &app, upto, &letters)?;
                    }
                }
                ToLake::Barrier { epoch } => {
                    voices += 1;
                    if voices == self.voices {
                        voices = 0;
                        commit(&mut self.rows, &self.metrics)?;
                        if let Some(table) = &mut self.dead_letters {
                            commit(table, &self.metrics)?;
                        }
                        let _ = committed.send(epoch);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Writes the rows that the table does not cover yet.
fn append(table: &mut LakeTable, app: &str, upto: i64, rows: &RecordBatch) -> Result<()> {
    let committed = table.committed(app)?.unwrap_or(-1);
    if upto <= committed || rows.num_rows() == 0 {
        return Ok(());
    }
    let offsets = rows.column(rows.schema().index_of("_offset")?).as_primitive::<Int64Type>();
    let from_the_log = rows.column(rows.schema().index_of("_partition")?).null_count() == 0;
    if from_the_log && offsets.values().iter().any(|offset| *offset <= committed) {
        let new = BooleanArray::from_unary(offsets, |offset| offset > committed);
        table.write(&filter_record_batch(rows, &new)?)?;
    } else {
        table.write(rows)?;
    }
    table.cover(app, upto);
    Ok(())
}

pub(crate) fn commit(table: &mut LakeTable, metrics: &Metrics) -> Result<()> {
    let stats = table.commit()?;
    if stats.rows > 0 {
        let name = table.name();
        metrics.add(Metric::RowsWritten, &[name], stats.rows);
        metrics.add(Metric::FilesWritten, &[name], stats.files);
        metrics.add(Metric::BytesWritten, &[name], stats.bytes);
        metrics.observe(Metric::CommitDuration, &[name], stats.took.as_secs_f64());
        tracing::debug!(table = name, rows = stats.rows, files = stats.files, bytes = stats.bytes, "committed");
    }
    Ok(())
}

/// Brings the dead letters of producers from their topic into the lake.
struct DeadLetterLoop {
    pipeline: Pipeline,
    signals: Arc<Signals>,
    position: Arc<AtomicI64>,
    bronze: mpsc::SyncSender<ToLake>,
}

impl DeadLetterLoop {
    fn run(self) -> Result<()> {
        let topic = self.pipeline.config.topics.dead_letters.clone();
        let codec = TopicCodec::<DeadLetter>::new(self.pipeline.schemas.subject(Subject::DeadLetters));
        let app = self.pipeline.app(&topic, 0);
        let partition = Partition::new(0);
        let committed = self.pipeline.lake.table(bronze_dead_letters())?.committed(&app)?.unwrap_or(-1);
        let range = self.pipeline.log.offsets(&topic, partition)?;
        let from = range.start.get().max(committed + 1).min(range.end.get());
        let mut reader = self.pipeline.log.reader(&topic, partition, Offset::new(from))?;
        let mut epoch = 0;
        while !self.pipeline.failure.is_set() {
            let records = match self.signals.stop_reading.load(Ordering::Acquire) {
                true => {
                    std::thread::sleep(Duration::from_millis(2));
                    Records::new()
                }
                false => reader.next(4096, Duration::from_millis(100))?,
            };
            if let Some(upto) = records.last_offset() {
                let mut letters = Vec::with_capacity(records.len());
                for (offset, record) in records.iter() {
                    match codec.decode(record.value.unwrap_or_default()) {
                        Ok(letter) => letters.push(letter),
                        Err(error) => tracing::warn!(%error, %offset, "a dead letter cannot be read"),
                    }
                }
                for letter in &letters {
                    let labels = [letter.stage.as_str(), letter.reason.code()];
                    self.pipeline.metrics.add(Metric::DeadLetters, &labels, 1);
                }
                let rows = dead_letter_rows(&letters)?;
                let none = RecordBatch::new_empty(bronze_events().schema);
                let message = ToLake::Rows { app: app.clone(), upto: upto.get(), rows: none, dead_letters: Some(rows) };
                let _ = self.bronze.send(message);
            }
            self.position.store(reader.position().get(), Ordering::Release);
            let wanted = self.signals.epoch.load(Ordering::Acquire);
            if wanted != epoch {
                epoch = wanted;
                let _ = self.bronze.send(ToLake::Barrier { epoch });
            }
            if self.signals.stop.load(Ordering::Acquire) {
                break;
            }
        }
        Ok(())
    }
}
