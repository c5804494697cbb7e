//! Looks after the tables of the lake while events flow: merges small files, drops old days, removes what nobody needs;
//! and loads the batch files that are delivered.
//!
//! It runs in the process that has partition 0 of the events, so that there is one; should there be two for a moment, Delta
//! lets one of two clashing commits through. What fails is told, counted, and tried again at the next round.

use crate::{
    load::Deliveries,
    pipeline::{Pipeline, now_millis, spawn},
};
use anyhow::Result;
use sluice_sinks::{
    Metric, Metrics,
    lake::{Compacted, KeptTable, LakeConfig, LakeError, Rules, SIZE_CLASSES, TableShape, merge_for},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// A table with so many times the small files that are merged is looked after by nobody.
const FORGOTTEN: usize = 4;
/// A checkpoint of a table's log is written when there are so many commits since the last one; Delta writes one with every
/// hundredth.
const LOG_TAIL_MAX: usize = 120;

/// The thread that looks after the tables, until it is dropped.
pub(crate) struct Caretaker {
    stop: Arc<AtomicBool>,
    wake: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Caretaker {
    /// Starts it, unless there is nothing to do: `lake.maintain.interval` is nothing, and so are `sources`.
    pub fn start(pipeline: &Pipeline, runtime: &tokio::runtime::Handle) -> Result<Option<Self>> {
        let config = &pipeline.config;
        let watched = if config.sources.url.is_empty() { Duration::ZERO } else { config.sources.interval };
        let deeds = [(Deed::Tables, config.lake.maintain.interval), (Deed::Deliveries, watched)];
        let due: Vec<_> = deeds.into_iter().filter(|(_, every)| !every.is_zero()).collect();
        if due.is_empty() {
            return Ok(None);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, asleep) = mpsc::channel();
        let rounds = Rounds {
            pipeline: pipeline.clone(),
            runtime: runtime.clone(),
            stop: stop.clone(),
            vacuumed: Instant::now(),
            deliveries: Deliveries::default(),
        };
        let thread = spawn("caretaker".to_owned(), &pipeline.failure, move || {
            rounds.run(&due, &asleep);
            Ok(())
        })?;
        Ok(Some(Self { stop, wake: Some(wake), thread: Some(thread) }))
    }
}

impl Drop for Caretaker {
    /// Waits for the commit under way, if there is one.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is done from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Tables,
    Deliveries,
}

struct Rounds {
    pipeline: Pipeline,
    runtime: tokio::runtime::Handle,
    stop: Arc<AtomicBool>,
    vacuumed: Instant,
    deliveries: Deliveries,
}

impl Rounds {
    fn run(mut self, deeds: &[(Deed, Duration)], asleep: &mpsc::Receiver<()>) {
        // Tables after their interval; deliveries at once.
        let first =
            |deed| if deed == Deed::Deliveries { Duration::ZERO } else { self.pipeline.config.lake.maintain.interval };
        let mut next: Vec<Instant> = deeds.iter().map(|(deed, _)| Instant::now() + first(*deed)).collect();
        loop {
            let soonest = next.iter().min().copied().unwrap_or_else(Instant::now);
            let wait = soonest.saturating_duration_since(Instant::now());
            if asleep.recv_timeout(wait) != Err(mpsc::RecvTimeoutError::Timeout) {
                return;
            }
            for ((deed, every), next) in deeds.iter().zip(&mut next).filter(|(_, next)| **next <= Instant::now()) {
                match deed {
                    Deed::Tables => self.look_at_tables(),
                    Deed::Deliveries => self.look_at_deliveries(),
                }
                *next = Instant::now() + *every;
            }
        }
    }

    fn look_at_deliveries(&mut self) {
        if let Err(error) = self.deliveries.look(&self.pipeline, &self.runtime, &self.stop) {
            tracing::warn!(error = crate::causes(&error), "deliveries cannot be looked at now");
        }
    }

    fn look_at_tables(&mut self) {
        let metrics = self.pipeline.metrics.clone();
        let config = self.pipeline.config.lake.clone();
        let every = config.maintain.vacuum_interval;
        let vacuums = !every.is_zero() && self.vacuumed.elapsed() >= every;
        if vacuums {
            self.vacuumed = Instant::now();
        }
        let tables = match self.pipeline.lake.kept_tables() {
            Ok(tables) => tables,
            Err(error) => return tracing::warn!(%error, "the tables of the lake cannot be looked after now"),
        };
        for mut table in tables {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            if let Err(error) = look_after(&mut table, &config, vacuums, &metrics, &self.stop) {
                metrics.add(Metric::MaintenanceFailures, &[&table.name], 1);
                tracing::warn!(%error, "a table cannot be looked after now; trying again later");
            }
        }
    }
}

/// One table, once: what is due.
fn look_after(
    table: &mut KeptTable,
    config: &LakeConfig,
    vacuums: bool,
    metrics: &Metrics,
    stop: &AtomicBool,
) -> Result<(), LakeError> {
    let name = table.name.clone();
    let retained = table.retain(now_millis(), false)?;
    if !retained.days.is_empty() {
        metrics.add(Metric::RowsRetired, &[&name], retained.rows);
        tracing::info!(table = name, days = retained.days.len(), rows = retained.rows, "dropped what is old enough");
    }
    for (day, done) in merge_due(table, config, metrics, stop)? {
        tracing::info!(table = name, day, files = done.removed, into = done.added, "merged small files");
    }
    if stop.load(Ordering::Acquire) {
        return Ok(());
    }
    if vacuums {
        let vacuumed = table.vacuum(config.maintain.vacuum_after, false)?;
        metrics.add(Metric::FilesVacuumed, &[&name], vacuumed.len() as u64);
    }
    table.refresh()?;
    let mut shape = table.shape()?;
    if vacuums || shape.log_tail >= LOG_TAIL_MAX {
        table.trim_log(LOG_TAIL_MAX, config.maintain.log_retention)?;
        shape = table.shape()?;
    }
    show(&name, &shape, metrics);
    Ok(())
}

/// Merges small files of one table where there are enough of them, and says of which days.
fn merge_due(
    table: &mut KeptTable,
    config: &LakeConfig,
    metrics: &Metrics,
    stop: &AtomicBool,
) -> Result<Vec<(String, Compacted)>, LakeError> {
    let (rules, goes_on) = (Rules::from(config), || !stop.load(Ordering::Acquire));
    let mut merged = Vec::new();
    for (day, shape) in table.days()? {
        let Some(merge) = merge_for(&shape, &rules, now_millis()).filter(|_| goes_on()) else { continue };
        let done = table.compact(&day, merge, goes_on)?;
        metrics.add(Metric::FilesCompacted, &[&table.name], done.removed);
        if done.removed > 0 {
            merged.push((day, done));
        }
    }
    Ok(merged)
}

/// Keeps a table of many small commits quick to read, which nobody looks after where no [`Caretaker`] is: where one is, it comes
/// long before there are so many files.
pub(crate) fn keep_short(
    table: &mut KeptTable,
    config: &LakeConfig,
    metrics: &Metrics,
    stop: &AtomicBool,
) -> Result<(), LakeError> {
    if config.maintain.interval.is_zero() || table.shape()?.files() < FORGOTTEN * config.maintain.compact_files {
        return Ok(());
    }
    let merged = merge_due(table, config, metrics, stop)?;
    tracing::debug!(table = table.name, days = merged.len(), "merged small files");
    table.vacuum(config.maintain.vacuum_after, false)?;
    table.trim_log(LOG_TAIL_MAX, config.maintain.log_retention).map(drop)
}

fn show(table: &str, shape: &TableShape, metrics: &Metrics) {
    let classes: BTreeMap<&str, usize> = SIZE_CLASSES.iter().map(|(_, name)| *name).zip(shape.by_size()).collect();
    for (class, files) in classes {
        metrics.set(Metric::LakeFiles, &[table, class], files as f64);
    }
    metrics.set(Metric::LakeBytes, &[table], shape.bytes() as f64);
    metrics.set(Metric::LakeRows, &[table], shape.rows as f64);
    metrics.set(Metric::LakeLogTail, &[table], shape.log_tail as f64);
    metrics.set(Metric::LakeLogFiles, &[table], shape.log_files as f64);
}
