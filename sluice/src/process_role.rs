//! The `process` role: a loop for each input partition, two writers of the lake, and the coordinator of epochs.
//!
//! An epoch ends in this order: every loop puts a barrier into the writers' queues and hands over its state; each
//! writer commits when it has met the barriers of all loops; then the states become checkpoints. So a checkpoint never
//! covers what is not committed, and a crash between the two only means that committed rows are skipped on replay.

use crate::{
    caretaker::Caretaker,
    lake_tables::{BRONZE_EVENTS, SILVER_EVENTS, bronze_dead_letters, bronze_events, dead_letter_rows, silver_events},
    live_models::LiveModels,
    partition_loop::{LoopSignals, NOT_DRAINING, PartitionLoop, Progress, Signals, StateAtBarrier, ToLake},
    pipeline::{Pipeline, spawn},
    quality_role::QualityWriter,
};
use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::Int64Type,
};
use sluice_event_log::{AssignmentChange, LogKind, Membership};
use sluice_events::{DeadLetter, Offset, Partition, Records, Subject, TopicCodec};
use sluice_serve::PartitionStatus;
use sluice_sinks::{
    Metric, Metrics,
    lake::{LakeTable, fault_point},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Batches waiting for a writer, at most: the stream waits for the lake, not the memory.
const QUEUE: usize = 6;
const TICK: Duration = Duration::from_millis(20);
const MILLIS_A_DAY: i64 = 86_400_000;
/// A backfill passes many days a second: its files are not cut for each.
const DAY_ROLL_MIN: Duration = Duration::from_secs(5);

pub(crate) struct ProcessRole {
    pipeline: Pipeline,
    models: Arc<LiveModels>,
    runtime: tokio::runtime::Handle,
    signals: Arc<Signals>,
    loops: BTreeMap<u32, RunningLoop>,
    letters: Option<RunningLetters>,
    progress: ProgressOfPartitions,
    /// None: the partitions are fixed.
    membership: Option<Box<dyn Membership>>,
    bronze: mpsc::SyncSender<ToLake>,
    silver: mpsc::SyncSender<ToLake>,
    states_out: mpsc::Sender<StateAtBarrier>,
    states: mpsc::Receiver<StateAtBarrier>,
    committed: mpsc::Receiver<u64>,
    writers: Vec<JoinHandle<()>>,
    epoch_started: Instant,
    /// The newest day, since 1970, that all partitions' watermarks have reached.
    day: Option<i64>,
    /// Whoever has partition 0 looks after the tables: so there is one at a time.
    caretaker: Option<Caretaker>,
}

struct RunningLoop {
    signals: Arc<LoopSignals>,
    thread: JoinHandle<()>,
}

/// The loop of the producers' dead letters; it goes with partition 0.
struct RunningLetters {
    signals: Arc<LoopSignals>,
    position: Arc<AtomicI64>,
    thread: JoinHandle<()>,
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

/// What `status` shows of the partitions that this process has.
pub(crate) type ProgressOfPartitions = Arc<Mutex<BTreeMap<u32, Arc<Mutex<Progress>>>>>;

impl ProcessRole {
    /// Starts the writers, and the loops of the partitions that are this process's. With `whole`, those are all unless
    /// the configuration names some: for a process that must see the end of the input.
    pub fn start(
        pipeline: &Pipeline,
        models: &Arc<LiveModels>,
        runtime: &tokio::runtime::Handle,
        whole: bool,
    ) -> Result<Self> {
        let config = &pipeline.config;
        let (bronze, bronze_in) = mpsc::sync_channel(QUEUE);
        let (silver, silver_in) = mpsc::sync_channel(QUEUE);
        let (states_out, states) = mpsc::channel();
        let (committed_out, committed) = mpsc::channel();
        let bronze_writer = LakeWriter {
            rows: pipeline.lake.table(bronze_events())?,
            dead_letters: Some(pipeline.lake.table(bronze_dead_letters())?),
            quality: QualityWriter::open(pipeline, runtime, BRONZE_EVENTS)?,
            metrics: pipeline.metrics.clone(),
        };
        let silver_writer = LakeWriter {
            rows: pipeline.lake.table(silver_events())?,
            dead_letters: None,
            quality: QualityWriter::open(pipeline, runtime, SILVER_EVENTS)?,
            metrics: pipeline.metrics.clone(),
        };
        let mut writers = Vec::new();
        for (name, writer, input) in [("bronze", bronze_writer, bronze_in), ("silver", silver_writer, silver_in)] {
            let done = committed_out.clone();
            writers.push(spawn(format!("write {name}"), &pipeline.failure, move || writer.run(&input, &done))?);
        }
        let mut role = Self {
            pipeline: pipeline.clone(),
            models: models.clone(),
            runtime: runtime.clone(),
            signals: Arc::new(Signals::default()),
            loops: BTreeMap::new(),
            letters: None,
            progress: ProgressOfPartitions::default(),
            membership: None,
            bronze,
            silver,
            states_out,
            states,
            committed,
            writers,
            epoch_started: Instant::now(),
            day: None,
            caretaker: None,
        };
        match config.process.partitions.chosen(pipeline.event_partitions, "process.partitions")? {
            Some(chosen) => role.take(&chosen)?,
            None if whole || config.log.kind == LogKind::Embedded => {
                role.take(&(0..pipeline.event_partitions).collect::<Vec<_>>())?;
            }
            None => role.membership = Some(pipeline.log.join(&config.process.group, &config.topics.events)?),
        }
        Ok(role)
    }

    /// Starts the loops of these partitions.
    fn take(&mut self, partitions: &[u32]) -> Result<()> {
        let epoch = self.signals.epoch.load(Ordering::Acquire);
        for partition in partitions.iter().copied().filter(|p| !self.loops.contains_key(p)).collect::<Vec<_>>() {
            let progress = Arc::new(Mutex::new(Progress::unread(partition)));
            let signals = Arc::new(LoopSignals::default());
            let partition_loop = PartitionLoop {
                pipeline: self.pipeline.clone(),
                partition,
                models: self.models.clone(),
                runtime: self.runtime.clone(),
                signals: self.signals.clone(),
                mine: signals.clone(),
                epoch,
                progress: progress.clone(),
                bronze: self.bronze.clone(),
                silver: self.silver.clone(),
                states: self.states_out.clone(),
            };
            let name = format!("partition {partition}");
            let thread = spawn(name, &self.pipeline.failure, move || partition_loop.run())?;
            self.loops.insert(partition, RunningLoop { signals, thread });
            self.all_progress().insert(partition, progress);
        }
        if self.loops.contains_key(&0) && self.letters.is_none() {
            let signals = Arc::new(LoopSignals::default());
            let position = Arc::new(AtomicI64::new(0));
            let letters = DeadLetterLoop {
                pipeline: self.pipeline.clone(),
                signals: self.signals.clone(),
                mine: signals.clone(),
                epoch,
                position: position.clone(),
                bronze: self.bronze.clone(),
            };
            let thread = spawn("dead letters".to_owned(), &self.pipeline.failure, move || letters.run())?;
            self.letters = Some(RunningLetters { signals, position, thread });
        }
        if self.loops.contains_key(&0) && self.caretaker.is_none() {
            self.caretaker = Caretaker::start(&self.pipeline, &self.runtime)?;
        }
        Ok(())
    }

    /// Lets these partitions go: what was read of them is committed, and their state is kept for whoever comes next.
    fn release(&mut self, partitions: &[u32]) -> Result<()> {
        let going: Vec<u32> = partitions.iter().copied().filter(|p| self.loops.contains_key(p)).collect();
        if going.is_empty() {
            return Ok(());
        }
        let letters_go = going.contains(&0);
        going.iter().for_each(|p| self.loops[p].signals.stop_reading.store(true, Ordering::Release));
        if let Some(letters) = self.letters.as_ref().filter(|_| letters_go) {
            letters.signals.stop_reading.store(true, Ordering::Release);
        }
        self.end_epoch()?;
        self.stop_loops(&going);
        Ok(())
    }

    /// Ends loops as they stand.
    fn stop_loops(&mut self, partitions: &[u32]) {
        let mut threads = Vec::new();
        if partitions.contains(&0) {
            self.caretaker = None;
        }
        if partitions.contains(&0)
            && let Some(letters) = self.letters.take()
        {
            letters.signals.stop.store(true, Ordering::Release);
            threads.push(letters.thread);
        }
        for partition in partitions {
            if let Some(running) = self.loops.remove(partition) {
                running.signals.stop.store(true, Ordering::Release);
                threads.push(running.thread);
            }
            self.all_progress().remove(partition);
        }
        for thread in threads {
            let _ = thread.join();
        }
        for partition in partitions {
            self.forget_metrics(&partition.to_string());
        }
        if self.loops.is_empty() {
            for expectation in self.pipeline.expectations.iter() {
                self.pipeline.metrics.remove(Metric::QualityRatio, &[&expectation.name, &expectation.table]);
            }
        }
    }

    /// What is said of a partition that is another's now would be said for ever.
    fn forget_metrics(&self, partition: &str) {
        let metrics = &self.pipeline.metrics;
        metrics.remove(Metric::ConsumerLag, &[&self.pipeline.config.topics.events, partition]);
        for metric in [Metric::DedupEntries, Metric::WatermarkLag] {
            metrics.remove(metric, &[partition]);
        }
        metrics.remove(Metric::CheckpointBytes, &["process", partition]);
        metrics.remove(Metric::StateBytes, &["dedup", partition]);
        for model in self.models.get().iter() {
            metrics.remove(Metric::OpenPanes, &[&model.name, "process", partition]);
            metrics.remove(Metric::StateBytes, &[&model.name, partition]);
        }
    }

    /// Another process has these partitions already: nothing that is not committed may be, so all begin again from
    /// their checkpoints.
    fn lose(&mut self, lost: &[u32]) -> Result<()> {
        tracing::warn!(
            partitions = format!("{lost:?}"),
            "partitions lost to another process; going back to the last commit"
        );
        let all: Vec<u32> = self.loops.keys().copied().collect();
        let (done, is_done) = mpsc::channel();
        all.iter().for_each(|p| self.loops[p].signals.stop.store(true, Ordering::Release));
        for writer in [&self.bronze, &self.silver] {
            // Loops may still wait for room in the queue: the writers go on taking until they are gone.
            let _ = writer.send(ToLake::Discard { done: done.clone() });
        }
        self.stop_loops(&all);
        for writer in [&self.bronze, &self.silver] {
            let _ = writer.send(ToLake::Discard { done: done.clone() });
        }
        drop(done);
        // The first two came while loops were still sending; the last two speak for an empty queue.
        let _ = is_done.iter().take(4).count();
        self.states.try_iter().for_each(drop);
        let kept: Vec<u32> = all.into_iter().filter(|p| !lost.contains(p)).collect();
        self.take(&kept)
    }

    fn all_progress(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Mutex<Progress>>>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn progress(&self) -> ProgressOfPartitions {
        self.progress.clone()
    }

    /// Does what is due; call it often. Ends epochs by age, looks for changed models, follows the group.
    pub fn tick(&mut self) -> Result<()> {
        self.models.look(Some(&self.pipeline.lake));
        self.follow_group()?;
        if self.epoch_started.elapsed() >= self.pipeline.config.lake.roll_age || self.is_new_day() {
            self.end_epoch()?;
        }
        Ok(())
    }

    /// Whether all watermarks have passed the end of a day: its files are complete then, and need not wait for their age.
    fn is_new_day(&mut self) -> bool {
        let watermark = self.of_all(|p| p.status.watermark_ms).into_iter().min().flatten();
        let day = watermark.map(|w| w.div_euclid(MILLIS_A_DAY));
        let is_new = self.day.is_some() && day > self.day && self.epoch_started.elapsed() >= DAY_ROLL_MIN;
        if is_new || self.day.is_none() {
            self.day = day;
        }
        is_new
    }

    fn follow_group(&mut self) -> Result<()> {
        let numbers = |partitions: Vec<Partition>| partitions.into_iter().map(Partition::get).collect::<Vec<_>>();
        let Some(mut membership) = self.membership.take() else { return Ok(()) };
        while let Some(change) = membership.next_change(Duration::ZERO)? {
            match change {
                AssignmentChange::Assigned(partitions) => {
                    let partitions = numbers(partitions);
                    tracing::info!(partitions = format!("{partitions:?}"), "partitions assigned");
                    self.take(&partitions)?;
                }
                AssignmentChange::Revoked(partitions) => {
                    let partitions = numbers(partitions);
                    tracing::info!(partitions = format!("{partitions:?}"), "partitions go to another process");
                    self.release(&partitions)?;
                    membership.released();
                }
                AssignmentChange::Lost(partitions) => self.lose(&numbers(partitions))?,
            }
        }
        self.membership = Some(membership);
        Ok(())
    }

    /// Ends the epoch: what was taken is committed, and the states of that moment are kept.
    fn end_epoch(&mut self) -> Result<()> {
        // The lake must not cover records that the log could still lose.
        self.pipeline.log.flush().context("flush events")?;
        if self.loops.is_empty() {
            self.epoch_started = Instant::now();
            return Ok(());
        }
        self.signals.loops.store(self.loops.len(), Ordering::Release);
        self.signals.letters.store(usize::from(self.letters.is_some()), Ordering::Release);
        let epoch = self.signals.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        let mut states = Vec::new();
        let mut writers = 0;
        while states.len() < self.loops.len() || writers < 2 {
            if self.pipeline.failure.is_set() {
                return Ok(());
            }
            if let Ok(state) = self.states.recv_timeout(TICK)
                && state.epoch == epoch
            {
                states.push(state);
            }
            writers += self.committed.try_iter().filter(|e| *e == epoch).count();
        }
        // The partials of what the checkpoints cover must be safe before they are.
        self.pipeline.log.flush().context("flush partials")?;
        let started = Instant::now();
        let mut positions = Vec::with_capacity(states.len());
        for state in states {
            let label = state.partition.to_string();
            self.pipeline.metrics.set(Metric::CheckpointBytes, &["process", &label], state.bytes.len() as f64);
            self.pipeline.checkpoints.put(&state.worker, state.position, state.bytes)?;
            positions.push((Partition::new(state.partition), Offset::new(state.position)));
        }
        fault_point("offsets", "before");
        if let Some(membership) = &mut self.membership {
            membership.hint(&positions);
        }
        fault_point("offsets", "after");
        self.pipeline.metrics.observe(Metric::CheckpointDuration, &["process"], started.elapsed().as_secs_f64());
        self.epoch_started = Instant::now();
        Ok(())
    }

    fn of_all<T>(&self, read: impl Fn(&Progress) -> T) -> Vec<T> {
        self.all_progress().values().map(|p| read(&p.lock().unwrap_or_else(PoisonError::into_inner))).collect()
    }

    /// Whether every partition has been read up to the end offset it had when the input ended.
    pub fn has_read(&self, ends: &EndOffsets) -> bool {
        let reached =
            |p: &Progress| ends.events.get(p.status.partition as usize).is_none_or(|end| p.status.position >= *end);
        self.of_all(reached).into_iter().all(|r| r)
            && self.letters.as_ref().is_none_or(|l| l.position.load(Ordering::Acquire) >= ends.dead_letters)
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
        let all: Vec<u32> = self.loops.keys().copied().collect();
        self.release(&all)?;
        self.stop_loops(&all);
        let Self { membership, writers, bronze, silver, .. } = self;
        // Others may take over now: everything is committed.
        drop(membership);
        drop((bronze, silver));
        for thread in writers {
            let _ = thread.join();
        }
        Ok(())
    }
}

pub(crate) fn statuses(progress: &ProgressOfPartitions) -> Vec<PartitionStatus> {
    let progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
    progress.values().map(|p| p.lock().unwrap_or_else(PoisonError::into_inner).status.clone()).collect()
}

/// Writes one table of events, and the dead letters beside it.
struct LakeWriter {
    rows: LakeTable,
    dead_letters: Option<LakeTable>,
    quality: Option<QualityWriter>,
    metrics: Arc<Metrics>,
}

impl LakeWriter {
    fn run(mut self, input: &mpsc::Receiver<ToLake>, committed: &mpsc::Sender<u64>) -> Result<()> {
        let mut heard = 0;
        while let Ok(message) = input.recv() {
            match message {
                ToLake::Rows { app, upto, rows, dead_letters, duplicates } => {
                    append(&mut self.rows, &app, upto, &rows)?;
                    count(&mut self.rows, &app, upto, &duplicates)?;
                    if let (Some(table), Some(letters)) = (&mut self.dead_letters, dead_letters) {
                        // A producer's letter has its place in a file: the reader of its topic began after what is committed.
                        append(table, &app, upto, &letters)?;
                    }
                    if let Some(quality) = &mut self.quality {
                        quality.rows(&app, upto, &rows)?;
                    }
                }
                ToLake::Taken { app } => {
                    self.rows.reload(&app)?;
                    if let Some(table) = &mut self.dead_letters {
                        table.reload(&app)?;
                    }
                    if let Some(quality) = &mut self.quality {
                        quality.taken(&app)?;
                    }
                }
                ToLake::Discard { done } => {
                    heard = 0;
                    self.rows.discard();
                    if let Some(table) = &mut self.dead_letters {
                        table.discard();
                    }
                    if let Some(quality) = &mut self.quality {
                        quality.discard();
                    }
                    let _ = done.send(());
                }
                ToLake::Barrier { epoch, app, voices } => {
                    if let Some(quality) = &mut self.quality {
                        quality.heard(&app);
                    }
                    heard += 1;
                    if heard == voices {
                        heard = 0;
                        commit(&mut self.rows, &self.metrics)?;
                        if let Some(table) = &mut self.dead_letters {
                            commit(table, &self.metrics)?;
                        }
                        if let Some(quality) = &mut self.quality {
                            quality.commit()?;
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

/// Counts the duplicates that the table does not cover yet.
fn count(table: &mut LakeTable, app: &str, upto: i64, duplicates: &[i64]) -> Result<()> {
    let committed = table.committed(app)?.unwrap_or(-1);
    let new = duplicates.iter().filter(|offset| **offset > committed).count();
    table.count(app, new as i64);
    if new > 0 {
        table.cover(app, upto);
    }
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
    mine: Arc<LoopSignals>,
    epoch: u64,
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
        let _ = self.bronze.send(ToLake::Taken { app: app.clone() });
        let mut epoch = self.epoch;
        while !self.pipeline.failure.is_set() {
            let records = match self.mine.stop_reading.load(Ordering::Acquire) {
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
                let message = ToLake::Rows {
                    app: app.clone(),
                    upto: upto.get(),
                    rows: none,
                    dead_letters: Some(rows),
                    duplicates: Vec::new(),
                };
                let _ = self.bronze.send(message);
            }
            self.position.store(reader.position().get(), Ordering::Release);
            let wanted = self.signals.epoch.load(Ordering::Acquire);
            if wanted != epoch {
                epoch = wanted;
                let voices = self.signals.voices_in_bronze();
                let _ = self.bronze.send(ToLake::Barrier { epoch, app: app.clone(), voices });
            }
            if self.mine.stop.load(Ordering::Acquire) {
                break;
            }
        }
        Ok(())
    }
}
