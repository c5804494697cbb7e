//! The `merge` role: one loop for each partition of the partials topic. The shell around `Merger`.

use crate::{
    Config,
    lake_tables::live,
    pipeline::{Pipeline, spawn},
    process_role::commit,
};
use anyhow::{Context, Result, bail};
use sluice_events::{
    Alert, AlertState, Kpi, KpiKey, LogTime, Offset, Partial, Partition, RecordBuffer, Severity, Subject, TopicCodec,
};
use sluice_serve::alert_text;
use sluice_sinks::{Metric, kpi_store::KpiStore, lake::LakeTable};
use sluice_stream_processor::{LiveModel, MergeOutput, Merger, MergerState, decode_checkpoint, encode_checkpoint};
use std::{
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
/// `until` before anyone asked to stop.
const NO_END: i64 = i64::MAX;

pub(crate) struct MergeRole {
    pipeline: Pipeline,
    stop: Arc<AtomicBool>,
    /// For each partition the offset to read up to before stopping.
    until: Vec<Arc<AtomicI64>>,
    threads: Vec<JoinHandle<()>>,
}

impl MergeRole {
    pub fn start(pipeline: &Pipeline, models: &Arc<[LiveModel]>, store: &Arc<dyn KpiStore>) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut until = Vec::new();
        let mut threads = Vec::new();
        for partition in 0..pipeline.merge_partitions {
            let end = Arc::new(AtomicI64::new(NO_END));
            until.push(end.clone());
            let merge_loop = MergeLoop {
                pipeline: pipeline.clone(),
                partition,
                models: models.clone(),
                store: store.clone(),
                stop: stop.clone(),
                until: end,
            };
            threads.push(spawn(format!("merge {partition}"), &pipeline.failure, move || merge_loop.run())?);
        }
        Ok(Self { pipeline: pipeline.clone(), stop, until, threads })
    }

    /// Merges all that has been sent so far, commits and ends.
    pub fn finish(mut self) -> Result<()> {
        self.pipeline.log.flush()?;
        for (partition, until) in self.until.iter().enumerate() {
            let topic = &self.pipeline.config.topics.partials;
            let end = self.pipeline.log.offsets(topic, Partition::new(partition as u32))?.end;
            until.store(end.get(), Ordering::Release);
        }
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        Ok(())
    }
}

/// Under what a merger's checkpoints are kept.
pub(crate) fn worker_name(config: &Config, partition: u32) -> String {
    format!("{}/{}/{partition}", config.process.group, config.topics.partials)
}

struct MergeLoop {
    pipeline: Pipeline,
    partition: u32,
    models: Arc<[LiveModel]>,
    store: Arc<dyn KpiStore>,
    stop: Arc<AtomicBool>,
    until: Arc<AtomicI64>,
}

/// Where results go.
struct Outputs {
    app: String,
    tables: Vec<LakeTable>,
    kpi_codec: TopicCodec<Kpi>,
    alert_codec: TopicCodec<Alert>,
    kpis: Vec<Kpi>,
    alerts: Vec<Alert>,
}

impl MergeLoop {
    fn worker_name(&self) -> String {
        worker_name(&self.pipeline.config, self.partition)
    }

    fn recover(&self, range: sluice_event_log::OffsetRange) -> Result<Merger> {
        let mut merger = Merger::new(&self.pipeline.config.time.rules(), self.models.clone())?;
        for bytes in self.pipeline.checkpoints.newest_first(&self.worker_name())? {
            match decode_checkpoint::<MergerState>(&bytes) {
                Ok(state) if state.position > range.end.get() => bail!(
                    "the checkpoint of {} covers offset {}, but the log ends at {}: the log is not the one it was made from",
                    self.worker_name(),
                    state.position,
                    range.end
                ),
                Ok(state) if state.position >= range.start.get() => {
                    merger.restore(state)?;
                    break;
                }
                Ok(state) => {
                    tracing::warn!(position = state.position, "the log no longer holds what follows this checkpoint");
                }
                Err(error) => tracing::warn!(%error, "checkpoint cannot be used; trying the one before"),
            }
        }
        Ok(merger)
    }

    fn run(self) -> Result<()> {
        let config = self.pipeline.config.clone();
        let topic = config.topics.partials.clone();
        let partition = Partition::new(self.partition);
        let range = self.pipeline.log.offsets(&topic, partition)?;
        let mut merger = self.recover(range)?;
        let from = Offset::new(merger.position().max(range.start.get()));
        let mut reader = self.pipeline.log.reader(&topic, partition, from)?;
        let codec = TopicCodec::<Partial>::new(self.pipeline.schemas.subject(Subject::Partials));
        let mut outputs = Outputs {
            app: self.pipeline.app(&topic, self.partition),
            tables: self.models.iter().map(|m| self.pipeline.lake.table(live(m))).collect::<Result<_, _>>()?,
            kpi_codec: TopicCodec::new(self.pipeline.schemas.subject(Subject::Kpis)),
            alert_codec: TopicCodec::new(self.pipeline.schemas.subject(Subject::Alerts)),
            kpis: Vec::new(),
            alerts: Vec::new(),
        };
        let mut told = Instant::now();
        let mut epoch_started = Instant::now();
        while !self.pipeline.failure.is_set() {
            let records = reader.next(4096, WAIT)?;
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
            let finished =
                self.stop.load(Ordering::Acquire) && reader.position().get() >= self.until.load(Ordering::Acquire);
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
        for kpi in &output.kpis {
            let state = format!("{:?}", kpi.state).to_lowercase();
            metrics.add(Metric::PanesPublished, &[&kpi.model, &state], 1);
        }
        outputs.kpis.extend(output.kpis);
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
            for chunk in outputs.kpis.chunks(KPIS_A_WRITE) {
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
            retried("write alerts", &self.pipeline, || self.store.upsert_alerts(&outputs.alerts))?;
            let mut buffer = RecordBuffer::new();
            for alert in outputs.alerts.drain(..) {
                self.tell(&alert);
                let value = outputs.alert_codec.encode(&alert).context("encode alert")?;
                buffer.push(LogTime::new(0), Some(alert.id.as_bytes()), Some(&value), &[]);
            }
            self.pipeline.log.append(&topics.alerts, Partition::new(0), &buffer)?;
        }
        Ok(())
    }

    /// Removes panes that are none any more from the store, and from the topic by a tombstone.
    fn retract(&self, keys: &[KpiKey]) -> Result<()> {
        for chunk in keys.chunks(KPIS_A_WRITE) {
            retried("remove KPIs", &self.pipeline, || self.store.remove_kpis(chunk))?;
        }
        let mut buffer = RecordBuffer::new();
        keys.iter().for_each(|key| buffer.push(LogTime::new(0), Some(key.id.as_bytes()), None, &[]));
        self.pipeline.log.append(&self.pipeline.config.topics.kpis, Partition::new(0), &buffer)?;
        Ok(())
    }

    /// One line when an alert begins and one when it ends.
    fn tell(&self, alert: &Alert) {
        let severity = severity_name(alert.severity);
        let (model, score) = (&alert.model, alert.score);
        match alert.state {
            AlertState::Firing if alert.first_window == alert.last_window => {
                self.pipeline.metrics.add(Metric::Alerts, &[&alert.model, severity], 1);
                tracing::warn!(alert = alert.id, model, severity, score, "ALERT {}", alert_text(alert));
            }
            AlertState::Resolved => tracing::info!(alert = alert.id, model, severity, "RESOLVED {}", alert_text(alert)),
            _ => {}
        }
    }

    fn report(&self, merger: &Merger) {
        for ((model, severity), count) in merger.firing() {
            self.pipeline.metrics.set(Metric::AlertsFiring, &[&model, &severity], count as f64);
        }
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
        for table in &mut outputs.tables {
            commit(table, &self.pipeline.metrics)?;
        }
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

fn severity_name(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Critical => "critical",
    }
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
