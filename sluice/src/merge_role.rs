//! The `merge` role: one loop for each partition of the partials topic. The shell around `Merger`.

use crate::{
    Config,
    alerts::Announcer,
    known_times::Calendars,
    lake_tables::{alert_rows, gold_alerts, live},
    live_models::LiveModels,
    pipeline::{Pipeline, spawn},
    process_role::commit,
};
use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use datafusion::{
    common::ScalarValue,
    prelude::{col, lit},
};
use sluice_event_log::{AssignmentChange, LogKind, Membership, OffsetRange};
use sluice_events::{
    Alert, EventTime, Kpi, KpiKey, LogTime, Offset, PaneState, Partial, Partition, RecordBuffer, Subject, TopicCodec,
    partition_for_key,
};
use sluice_sinks::{
    Metric,
    kpi_store::{KpiQuery, KpiStore},
    lake::{Bucket, CheckpointStore, LakeTable, read_rows},
};
use sluice_stream_processor::{
    AlertUpdate, LiveModel, MergeOutput, Merger, MergerState, decode_checkpoint, encode_checkpoint, root_of,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

const WAIT: Duration = Duration::from_millis(50);
/// Panes written to the KPI store in one call.
const KPIS_A_WRITE: usize = 1_000;
/// How long before what is sealed a pane that is not may have begun: a week.
const OPEN_MILLIS: i64 = 7 * 86_400_000;
/// `until` before anyone asked to stop.
const NO_END: i64 = i64::MAX;
/// `until` of a loop that reads nothing more.
const AT_ONCE: i64 = i64::MIN;

pub(crate) struct MergeRole {
    pipeline: Pipeline,
    models: Arc<LiveModels>,
    store: Arc<dyn KpiStore>,
    calendars: Arc<Calendars>,
    announcer: Arc<Announcer>,
    runtime: tokio::runtime::Handle,
    loops: BTreeMap<u32, RunningLoop>,
    /// None: the partitions are fixed.
    membership: Option<Box<dyn Membership>>,
}

struct RunningLoop {
    orders: Arc<Orders>,
    thread: JoinHandle<()>,
}

/// What a loop is told.
struct Orders {
    stop: AtomicBool,
    /// The offset to read up to before stopping.
    until: AtomicI64,
    /// Stop and commit nothing: the partition is another's.
    abandon: AtomicBool,
}

impl MergeRole {
    /// Starts the loops of the partitions that are this process's. With `whole`, those are all unless the configuration
    /// names some.
    pub fn start(
        pipeline: &Pipeline,
        models: &Arc<LiveModels>,
        store: &Arc<dyn KpiStore>,
        runtime: &tokio::runtime::Handle,
        whole: bool,
    ) -> Result<Self> {
        let config = &pipeline.config;
        let mut role = Self {
            pipeline: pipeline.clone(),
            models: models.clone(),
            store: store.clone(),
            calendars: Calendars::load(config)?,
            announcer: Arc::new(Announcer::start(pipeline, store)?),
            runtime: runtime.clone(),
            loops: BTreeMap::new(),
            membership: None,
        };
        match config.merge.partitions.chosen(pipeline.merge_partitions, "merge.partitions")? {
            Some(chosen) => role.take(&chosen)?,
            None if whole || config.log.kind == LogKind::Embedded => {
                role.take(&(0..pipeline.merge_partitions).collect::<Vec<_>>())?;
            }
            None => {
                let group = format!("{}-merge", config.process.group);
                role.membership = Some(pipeline.log.join(&group, &config.topics.partials)?);
            }
        }
        Ok(role)
    }

    fn take(&mut self, partitions: &[u32]) -> Result<()> {
        for partition in partitions.iter().copied().filter(|p| !self.loops.contains_key(p)).collect::<Vec<_>>() {
            let orders = Arc::new(Orders {
                stop: AtomicBool::new(false),
                until: AtomicI64::new(NO_END),
                abandon: AtomicBool::new(false),
            });
            let merge_loop = MergeLoop {
                pipeline: self.pipeline.clone(),
                partition,
                models: self.models.clone(),
                store: self.store.clone(),
                calendars: self.calendars.clone(),
                announcer: self.announcer.clone(),
                runtime: self.runtime.clone(),
                orders: orders.clone(),
            };
            let name = format!("merge {partition}");
            let thread = spawn(name, &self.pipeline.failure, move || merge_loop.run())?;
            self.loops.insert(partition, RunningLoop { orders, thread });
        }
        Ok(())
    }

    /// Ends loops: each reads up to where `until` says, commits and keeps its state, or abandons what is not committed.
    fn end(&mut self, partitions: &[u32], until: impl Fn(u32) -> Result<i64>, abandon: bool) -> Result<()> {
        let ended: Vec<_> =
            partitions.iter().filter_map(|p| self.loops.remove(p).map(|running| (*p, running))).collect();
        for (partition, running) in &ended {
            running.orders.until.store(until(*partition)?, Ordering::Release);
            running.orders.abandon.store(abandon, Ordering::Release);
            running.orders.stop.store(true, Ordering::Release);
        }
        for (partition, running) in ended {
            let _ = running.thread.join();
            let label = partition.to_string();
            for model in self.models.get().iter() {
                self.pipeline.metrics.remove(Metric::OpenPanes, &[&model.name, "merge", &label]);
            }
            self.pipeline.metrics.remove(Metric::StateBytes, &["merge", &label]);
            self.pipeline.metrics.remove(Metric::CheckpointBytes, &["merge", &label]);
        }
        Ok(())
    }

    /// Follows the group; call it often.
    pub fn tick(&mut self) -> Result<()> {
        let numbers = |partitions: Vec<Partition>| partitions.into_iter().map(Partition::get).collect::<Vec<_>>();
        let Some(mut membership) = self.membership.take() else { return Ok(()) };
        while let Some(change) = membership.next_change(Duration::ZERO)? {
            match change {
                AssignmentChange::Assigned(partitions) => {
                    let partitions = numbers(partitions);
                    tracing::info!(partitions = format!("{partitions:?}"), "partitions of partials assigned");
                    self.take(&partitions)?;
                }
                AssignmentChange::Revoked(partitions) => {
                    let partitions = numbers(partitions);
                    tracing::info!(
                        partitions = format!("{partitions:?}"),
                        "partitions of partials go to another process"
                    );
                    self.end(&partitions, |_| Ok(AT_ONCE), false)?;
                    membership.released();
                }
                AssignmentChange::Lost(partitions) => {
                    let partitions = numbers(partitions);
                    tracing::warn!(
                        partitions = format!("{partitions:?}"),
                        "partitions of partials lost to another process"
                    );
                    self.end(&partitions, |_| Ok(AT_ONCE), true)?;
                }
            }
        }
        self.membership = Some(membership);
        Ok(())
    }

    /// Merges all that has been sent so far, commits and ends.
    pub fn finish(mut self) -> Result<()> {
        self.pipeline.log.flush()?;
        let all: Vec<u32> = self.loops.keys().copied().collect();
        let (log, topic) = (self.pipeline.log.clone(), self.pipeline.config.topics.partials.clone());
        self.end(&all, |partition| Ok(log.offsets(&topic, Partition::new(partition))?.end.get()), false)?;
        self.announcer.finish();
        Ok(())
    }
}

/// Under what a merger's checkpoints are kept.
pub(crate) fn worker_name(config: &Config, partition: u32) -> String {
    format!("{}/{}/{partition}", config.process.group, config.topics.partials)
}

/// The mergers as their newest usable checkpoints left them, of those that have one.
pub(crate) fn newest_states(
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    models: &Arc<[LiveModel]>,
) -> Result<Vec<Merger>> {
    let store = CheckpointStore::open(&config.checkpoints.url, &config.lake, runtime.handle().clone())?;
    let mut mergers = Vec::new();
    for partition in 0..config.topics.merge_partitions {
        let stored = store.newest_first(&worker_name(config, partition))?;
        let newest = stored.iter().find_map(|c| decode_checkpoint::<MergerState>(&c.bytes).ok());
        let Some(state) = newest else { continue };
        let mut merger = Merger::new(&config.time.rules(), models.clone())?;
        merger.restore(state)?;
        mergers.push(merger);
    }
    Ok(mergers)
}

struct MergeLoop {
    pipeline: Pipeline,
    partition: u32,
    models: Arc<LiveModels>,
    store: Arc<dyn KpiStore>,
    calendars: Arc<Calendars>,
    announcer: Arc<Announcer>,
    runtime: tokio::runtime::Handle,
    orders: Arc<Orders>,
}

/// Where results go.
struct Outputs {
    app: String,
    /// Of each model, in the models' order.
    tables: Vec<LakeTable>,
    kpi_codec: TopicCodec<Kpi>,
    alert_codec: TopicCodec<Alert>,
    kpis: Vec<Kpi>,
    alerts: Vec<AlertUpdate>,
    alert_table: LakeTable,
}

impl MergeLoop {
    fn worker_name(&self) -> String {
        worker_name(&self.pipeline.config, self.partition)
    }

    fn recover(&self, range: OffsetRange, models: &Arc<[LiveModel]>, tables: &mut [LakeTable]) -> Result<Merger> {
        let mut merger = Merger::new(&self.pipeline.config.time.rules(), models.clone())?;
        let worker = self.worker_name();
        for stored in self.pipeline.checkpoints.newest_first(&worker)? {
            match decode_checkpoint::<MergerState>(&stored.bytes) {
                Ok(state) if state.position > range.end.get() => bail!(
                    "the checkpoint of {worker} covers offset {}, but the log ends at {}: the log is not the one it was made from",
                    state.position,
                    range.end
                ),
                Ok(state) if state.position >= range.start.get() => {
                    merger.restore(state)?;
                    return Ok(merger);
                }
                Ok(state) => {
                    tracing::warn!(position = state.position, "the log no longer holds what follows this checkpoint");
                }
                Err(error) => tracing::warn!(%error, "checkpoint cannot be used; trying the one before"),
            }
        }
        // What was sealed stands in the tables; what was open is in the log, since partials are absolute.
        let mut sealed_until = BTreeMap::new();
        for (model, table) in models.iter().zip(tables) {
            if let Some(until) = table.committed(&self.sealed_app(&model.name))? {
                sealed_until.insert(model.name.clone(), until);
            }
        }
        if !sealed_until.is_empty() {
            tracing::warn!(
                partition = self.partition,
                "no checkpoint can be used: merging the log again from its start"
            );
            merger.resume_after(&sealed_until);
            self.recount(&mut merger)?;
            self.forget_open_panes(models, &sealed_until)?;
        }
        Ok(merger)
    }

    /// What was said and not sealed may have been wrong, and nobody remembers having said it: it is said again.
    fn forget_open_panes(&self, models: &[LiveModel], sealed_until: &BTreeMap<String, i64>) -> Result<()> {
        for at in (0..models.len()).filter(|at| self.is_mine(&models[root_of(models, *at)].name)) {
            let model = &models[at];
            let from =
                sealed_until.get(&model.name).map(|until| EventTime::new(until - OPEN_MILLIS - model.window_millis()));
            let query = KpiQuery { model: model.name.clone(), from, limit: usize::MAX, ..KpiQuery::default() };
            let keys: Vec<KpiKey> = self
                .store
                .kpis(&query)?
                .into_iter()
                .filter(|kpi| kpi.state != PaneState::Sealed)
                .map(|kpi| KpiKey { id: kpi.id, model: kpi.model, window_start: kpi.window_start })
                .collect();
            self.retract(&keys)?;
        }
        Ok(())
    }

    /// Whether the partials of this model come here.
    fn is_mine(&self, model: &str) -> bool {
        partition_for_key(model.as_bytes(), self.pipeline.merge_partitions).get() == self.partition
    }

    /// Shows models that read another one's rows what that one's table has of windows that are not sealed.
    fn recount(&self, merger: &mut Merger) -> Result<()> {
        for needs in merger.needs_rows() {
            let models = merger.models().clone();
            let (upstream, root) = (&models[needs.upstream], &models[needs.root]);
            if !self.is_mine(&root.name) {
                continue;
            }
            let Some(table) = self.pipeline.lake.find(Bucket::Gold, &format!("live/{}", upstream.name))? else {
                continue;
            };
            let schema = upstream.pane_schema().clone();
            let batches = self.runtime.block_on(async {
                let from = ScalarValue::TimestampMillisecond(Some(needs.from.max(0)), Some("UTC".into()));
                anyhow::Ok(read_rows(&table).await?.filter(col(needs.column).gt_eq(lit(from)))?.collect().await?)
            })?;
            for batch in batches {
                let cast_column = |field: &arrow::datatypes::FieldRef| {
                    let column = batch.column_by_name(field.name()).context("a column is missing")?;
                    Ok(arrow::compute::cast(column, field.data_type())?)
                };
                let columns = schema.fields().iter().map(cast_column).collect::<Result<_>>()?;
                merger.recount(needs.model, &RecordBatch::try_new(schema.clone(), columns)?)?;
            }
        }
        Ok(())
    }

    /// Under what a table keeps until when its model is sealed.
    fn sealed_app(&self, model: &str) -> String {
        format!("{}/sealed/{model}", self.pipeline.config.process.group)
    }

    fn tables(&self, models: &[LiveModel]) -> Result<Vec<LakeTable>> {
        Ok(models.iter().map(|m| self.pipeline.lake.table(live(m))).collect::<Result<_, _>>()?)
    }

    fn run(self) -> Result<()> {
        let config = self.pipeline.config.clone();
        let topic = config.topics.partials.clone();
        let partition = Partition::new(self.partition);
        let range = self.pipeline.log.offsets(&topic, partition)?;
        let mut generation = self.models.generation();
        let models = self.models.get();
        let mut tables = self.tables(&models)?;
        let mut merger = self.recover(range, &models, &mut tables)?;
        let mut calendar = self.calendars.generation();
        merger.know(&self.calendars.get());
        let from = Offset::new(merger.position().max(range.start.get()));
        let mut reader = self.pipeline.log.reader(&topic, partition, from)?;
        let codec = TopicCodec::<Partial>::new(self.pipeline.schemas.subject(Subject::Partials));
        let mut outputs = Outputs {
            app: self.pipeline.app(&topic, self.partition),
            tables,
            kpi_codec: TopicCodec::new(self.pipeline.schemas.subject(Subject::Kpis)),
            alert_codec: TopicCodec::new(self.pipeline.schemas.subject(Subject::Alerts)),
            kpis: Vec::new(),
            alerts: Vec::new(),
            alert_table: self.pipeline.lake.table(gold_alerts())?,
        };
        let mut told = Instant::now();
        let mut epoch_started = Instant::now();
        while !self.pipeline.failure.is_set() {
            let records = reader.next(4096, WAIT)?;
            if self.orders.abandon.load(Ordering::Acquire) {
                return Ok(());
            }
            // After reading: the models that these records speak of were known before they were sent.
            self.models.look(Some(&self.pipeline.lake));
            if self.models.generation() != generation {
                generation = self.models.generation();
                self.end_epoch(&merger, &mut outputs)?;
                merger.change_models(self.models.get())?;
                outputs.tables = self.tables(merger.models())?;
            }
            self.calendars.look();
            if self.calendars.generation() != calendar {
                calendar = self.calendars.generation();
                merger.know(&self.calendars.get());
            }
            for (offset, record) in records.iter() {
                match codec.decode(record.value.unwrap_or_default()) {
                    Ok(partial) => {
                        let output = merger.apply(offset.get(), partial)?;
                        self.take(offset.get(), output, &mut outputs)?;
                    }
                    Err(error) => {
                        tracing::error!(%error, %offset, topic, "a partial cannot be read: its panes may be low")
                    }
                }
                if outputs.kpis.len() >= KPIS_A_WRITE {
                    self.publish(&mut outputs)?;
                }
            }
            if told.elapsed() >= config.process.provisional_interval {
                told = Instant::now();
                outputs.kpis.extend(merger.provisional()?);
                self.report(&merger);
            }
            self.publish(&mut outputs)?;
            let finished = self.orders.stop.load(Ordering::Acquire)
                && reader.position().get() >= self.orders.until.load(Ordering::Acquire);
            if finished || epoch_started.elapsed() >= config.lake.roll_age {
                epoch_started = Instant::now();
                self.end_epoch(&merger, &mut outputs)?;
            }
            if finished {
                outputs.kpis.extend(merger.provisional()?);
                self.publish(&mut outputs)?;
                self.store.flush()?;
                self.report(&merger);
                break;
            }
        }
        Ok(())
    }

    fn take(&self, offset: i64, output: MergeOutput, outputs: &mut Outputs) -> Result<()> {
        let metrics = &self.pipeline.metrics;
        for sealed in output.sealed {
            let table = &mut outputs.tables[sealed.model];
            if table.committed(&outputs.app)?.is_none_or(|committed| offset > committed) {
                table.write(&sealed.rows)?;
                table.cover(&outputs.app, offset);
            }
        }
        for (model, measure, score) in output.scores {
            metrics.set(Metric::AnomalyScore, &[&model, &measure], score);
        }
        for (model, count) in output.after_seal {
            metrics.add(Metric::PartialsDropped, &[&model], count as u64);
        }
        for model in output.unknown {
            metrics.add(Metric::PartialsUnknown, &[&model], 1);
            tracing::warn!(
                model,
                "partials of a model that this process does not know, or knows with another text: give merge and process \
                 the same models.dir. It counts here from the first window after"
            );
        }
        for kpi in &output.kpis {
            let state = format!("{:?}", kpi.state).to_lowercase();
            metrics.add(Metric::PanesPublished, &[&kpi.model, &state], 1);
        }
        outputs.kpis.extend(output.kpis);
        let news: Vec<Alert> = output.alerts.iter().filter(|u| u.is_news).map(|u| u.alert.clone()).collect();
        if !news.is_empty() && outputs.alert_table.committed(&outputs.app)?.is_none_or(|committed| offset > committed) {
            outputs.alert_table.write(&alert_rows(&news)?)?;
            outputs.alert_table.cover(&outputs.app, offset);
        }
        outputs.alerts.extend(output.alerts);
        if !output.retracted.is_empty() {
            // What was written of them must be there before it is removed.
            self.publish(outputs)?;
            self.retract(&output.retracted)?;
        }
        Ok(())
    }

    fn publish(&self, outputs: &mut Outputs) -> Result<()> {
        let topics = &self.pipeline.config.topics;
        if !outputs.kpis.is_empty() {
            for chunk in newest(&outputs.kpis).chunks(KPIS_A_WRITE) {
                retried("write KPIs", &self.pipeline, || self.store.upsert_kpis(chunk))?;
                self.pipeline.metrics.add(Metric::KpiWrites, &[], chunk.len() as u64);
            }
            let mut buffer = RecordBuffer::new();
            for kpi in outputs.kpis.drain(..).filter(|k| k.version > 0) {
                let value = outputs.kpi_codec.encode(&kpi).context("encode KPI")?;
                buffer.push(LogTime::new(0), Some(kpi.id.as_bytes()), Some(&value), &[]);
            }
            if !buffer.is_empty() {
                self.pipeline.log.append(&topics.kpis, Partition::new(0), &buffer)?;
            }
        }
        if !outputs.alerts.is_empty() {
            let alerts: Vec<Alert> = outputs.alerts.iter().map(|update| update.alert.clone()).collect();
            retried("write alerts", &self.pipeline, || self.store.upsert_alerts(&alerts))?;
            let mut buffer = RecordBuffer::new();
            for update in outputs.alerts.drain(..) {
                let value = outputs.alert_codec.encode(&update.alert).context("encode alert")?;
                buffer.push(LogTime::new(0), Some(update.alert.id.as_bytes()), Some(&value), &[]);
                self.announcer.tell(update);
            }
            self.pipeline.log.append(&topics.alerts, Partition::new(0), &buffer)?;
        }
        Ok(())
    }

    /// Removes panes that are none any more from the store, and from the topic by a tombstone.
    fn retract(&self, keys: &[KpiKey]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        for chunk in keys.chunks(KPIS_A_WRITE) {
            retried("remove KPIs", &self.pipeline, || self.store.remove_kpis(chunk))?;
        }
        let mut buffer = RecordBuffer::new();
        keys.iter().for_each(|key| buffer.push(LogTime::new(0), Some(key.id.as_bytes()), None, &[]));
        self.pipeline.log.append(&self.pipeline.config.topics.kpis, Partition::new(0), &buffer)?;
        Ok(())
    }

    fn report(&self, merger: &Merger) {
        let models = merger.models();
        let is_mine = |name: &str| {
            models.iter().position(|m| m.name == name).is_some_and(|at| self.is_mine(&models[root_of(models, at)].name))
        };
        for ((model, severity), count) in merger.firing().into_iter().filter(|((model, _), _)| is_mine(model)) {
            self.pipeline.metrics.set(Metric::AlertsFiring, &[model, severity.name()], count as f64);
        }
        for detection in merger.detection().filter(|detection| is_mine(&detection.model)) {
            let labels = [&*detection.model, detection.detector];
            let health = detection.health;
            for (metric, value) in [
                (Metric::DetectorSeries, health.series),
                (Metric::DetectorWarmingUp, health.warming_up),
                (Metric::DetectorDropped, health.dropped),
                (Metric::DetectorBytes, health.bytes),
            ] {
                self.pipeline.metrics.set(metric, &labels, value as f64);
            }
            if let Some(last) = detection.last_window {
                self.pipeline.metrics.set(Metric::DetectorLastWindow, &labels, last as f64 / 1000.0);
            }
        }
        self.announcer.report();
        let label = self.partition.to_string();
        let mut all = 0;
        for (model, open, bytes) in merger.held() {
            self.pipeline.metrics.set(Metric::OpenPanes, &[model, "merge", &label], open as f64);
            all += bytes;
        }
        self.pipeline.metrics.set(Metric::StateBytes, &["merge", &label], all as f64);
    }

    /// What was merged is committed; then the state is kept.
    fn end_epoch(&self, merger: &Merger, outputs: &mut Outputs) -> Result<()> {
        let sealed_until: BTreeMap<&str, i64> = merger.sealed_until().collect();
        for (model, table) in merger.models().iter().zip(&mut outputs.tables) {
            if let Some(until) = sealed_until.get(&*model.name).filter(|_| table.pending_rows() > 0) {
                table.cover(&self.sealed_app(&model.name), *until);
            }
            commit(table, &self.pipeline.metrics)?;
        }
        commit(&mut outputs.alert_table, &self.pipeline.metrics)?;
        self.store.flush()?;
        self.pipeline.log.flush()?;
        let started = Instant::now();
        let bytes = encode_checkpoint(&merger.snapshot()?)?;
        let labels = ["merge", &self.partition.to_string()];
        self.pipeline.metrics.set(Metric::CheckpointBytes, &labels, bytes.len() as f64);
        self.pipeline.checkpoints.put(&self.worker_name(), merger.position(), bytes)?;
        self.pipeline.metrics.observe(Metric::CheckpointDuration, &["merge"], started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Of each pane the last that is said of it: a store keeps nothing else.
fn newest(kpis: &[Kpi]) -> Vec<Kpi> {
    let mut of_id: BTreeMap<&str, &Kpi> = BTreeMap::new();
    for kpi in kpis {
        let known = of_id.entry(&kpi.id).or_insert(kpi);
        if known.rank() < kpi.rank() {
            *known = kpi;
        }
    }
    of_id.into_values().cloned().collect()
}

/// Tries again while the store is away: writing twice changes nothing, and the stream waits rather than loses.
fn retried<E: std::error::Error + Send + Sync + 'static>(
    deed: &'static str,
    pipeline: &Pipeline,
    mut write: impl FnMut() -> Result<(), E>,
) -> Result<()> {
    let mut pause = Duration::from_millis(100);
    for attempt in 1.. {
        match write() {
            Ok(()) => return Ok(()),
            Err(error) if attempt >= 10 || pipeline.failure.is_set() => return Err(error).context(deed),
            Err(error) => {
                tracing::warn!(%error, attempt, deed, "trying again");
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_secs(10));
            }
        }
    }
    Ok(())
}
