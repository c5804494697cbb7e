//! Looks after the tables of the lake while events flow: merges small files, drops old days, removes what nobody needs.
//!
//! It runs in the process that has partition 0 of the events, so that there is one; should there be two for a moment, Delta
//! lets one of two clashing commits through. What fails is told, counted, and tried again at the next round.

use crate::pipeline::{Pipeline, now_millis, spawn};
use anyhow::Result;
use sluice_sinks::{
    Metric, Metrics,
    lake::{KeptTable, LakeError, Rules, SIZE_CLASSES, TableShape, merge_for},
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
    /// Starts it, unless `lake.maintain.interval` is nothing.
    pub fn start(pipeline: &Pipeline) -> Result<Option<Self>> {
        if pipeline.config.lake.maintain.interval.is_zero() {
            return Ok(None);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, asleep) = mpsc::channel();
        let rounds = Rounds { pipeline: pipeline.clone(), stop: stop.clone(), vacuumed: Instant::now() };
        let thread = spawn("caretaker".to_owned(), &pipeline.failure, move || {
            rounds.run(&asleep);
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

struct Rounds {
    pipeline: Pipeline,
    stop: Arc<AtomicBool>,
    vacuumed: Instant,
}

impl Rounds {
    fn run(mut self, asleep: &mpsc::Receiver<()>) {
        let interval = self.pipeline.config.lake.maintain.interval;
        while asleep.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
            self.round();
        }
    }

    fn round(&mut self) {
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
            let after = vacuums.then_some(config.maintain.vacuum_after);
            if let Err(error) = look_after(&mut table, &Rules::from(&config), after, &metrics, &self.stop) {
                metrics.add(Metric::MaintenanceFailures, &[&table.name], 1);
                tracing::warn!(%error, "a table cannot be looked after now; trying again later");
            }
        }
    }
}

/// One table, once: what is due.
fn look_after(
    table: &mut KeptTable,
    rules: &Rules,
    vacuum_after: Option<Duration>,
    metrics: &Metrics,
    stop: &AtomicBool,
) -> Result<(), LakeError> {
    let name = table.name.clone();
    let now = now_millis();
    let retained = table.retain(now, false)?;
    if !retained.days.is_empty() {
        metrics.add(Metric::RowsRetired, &[&name], retained.rows);
        tracing::info!(table = name, days = retained.days.len(), rows = retained.rows, "dropped what is old enough");
    }
    for (day, shape) in table.shape()?.days {
        if stop.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(merge) = merge_for(&shape, rules, now) else { continue };
        let done = table.compact(&day, merge)?;
        metrics.add(Metric::FilesCompacted, &[&name], done.removed);
        if done.removed > 0 {
            tracing::info!(table = name, day, files = done.removed, into = done.added, "merged small files");
        }
    }
    if let Some(after) = vacuum_after {
        let vacuumed = table.vacuum(after, false)?;
        metrics.add(Metric::FilesVacuumed, &[&name], vacuumed.files.len() as u64);
        table.trim_log(LOG_TAIL_MAX)?;
    }
    table.refresh()?;
    show(&name, &table.shape()?, metrics);
    Ok(())
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
