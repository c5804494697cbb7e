//! The producer, started from the command line or by `up`.

use crate::{
    Config,
    pipeline::{Pipeline, now_millis},
};
use anyhow::{Context, Result};
use sluice_events::EventTime;
use sluice_producer::{
    NoProgress, Progress, ReplayConfig, Scenario, Sent, SimulationPlan, StderrProgress, SystemClock, replay,
    replay_bytes, simulate, write_labels,
};
use sluice_sinks::{Metric, Metrics};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicBool},
};

/// Where events come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The built-in shop; by a scenario, things go wrong in it.
    Simulation {
        scenario: Option<PathBuf>,
        /// What the command line says; else the scenario or the settings say it.
        speed: Option<f64>,
    },
    /// Files.
    Replay(ReplayConfig),
    /// Nothing: other producers write the topic.
    None,
}

/// Counts what is sent, and shows it when asked to.
struct Counted {
    shown: Box<dyn Progress>,
    metrics: Arc<Metrics>,
    counted: Mutex<u64>,
}

impl Progress for Counted {
    fn report(&self, sent: Sent) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics.add(Metric::ProducedEvents, &[], sent.records.saturating_sub(*counted));
        *counted = sent.records;
        self.shown.report(sent);
    }

    fn finish(&self) {
        self.shown.finish();
    }
}

/// Where `up` remembers when its shop opened, so that a restart goes on and repeats no id.
fn start_file(config: &Config) -> PathBuf {
    config.dir.join("simulation-start")
}

fn remembered_start(config: &Config) -> Option<EventTime> {
    std::fs::read_to_string(start_file(config)).ok()?.trim().parse().ok().map(EventTime::new)
}

/// A producer in a container may have no folder to write to; it sends all the same.
fn remember_start(config: &Config, start: EventTime) {
    let written =
        std::fs::create_dir_all(&config.dir).and_then(|()| std::fs::write(start_file(config), start.to_string()));
    if let Err(error) = written {
        tracing::warn!(dir = %config.dir.display(), %error, "the next start will open a new shop: cannot remember this one");
    }
}

/// Runs a producer to its end, or until `stop`.
pub(crate) fn run(pipeline: &Pipeline, source: &Source, stop: &AtomicBool, shown: bool) -> Result<()> {
    let topics = pipeline.producer_topics();
    let log = pipeline.log.as_ref();
    let progress = |what: &'static str, bytes: Option<u64>| -> Counted {
        let shown: Box<dyn Progress> =
            if shown { Box::new(StderrProgress::new(what, bytes)) } else { Box::new(NoProgress) };
        Counted { shown, metrics: pipeline.metrics.clone(), counted: Mutex::new(0) }
    };
    match source {
        Source::None => {}
        Source::Replay(config) => {
            let progress = progress("replay", Some(replay_bytes(&config.files)));
            let summary = replay(config, log, &topics, &SystemClock, stop, &progress)?;
            tracing::info!("replay ended: {summary}");
        }
        Source::Simulation { scenario: file, speed } => {
            let base = &pipeline.config.simulate;
            let mut scenario = match file {
                Some(file) => Scenario::read(file, base)?,
                None => Scenario { config: base.clone(), anomalies: Vec::new() },
            };
            scenario.config.speed = speed.unwrap_or(scenario.config.speed);
            let Scenario { mut config, anomalies } = scenario;
            let now = now_millis();
            let remembered = remembered_start(&pipeline.config).filter(|_| config.start.is_none());
            if let Some(start) = remembered {
                config.start = Some(start);
            }
            let mut plan = SimulationPlan::new(config, anomalies, sluice_events::LogTime::new(now))?;
            if remembered.is_some() {
                let from = EventTime::new(now.max(plan.start().get()));
                plan = plan.resumed_at(from);
            } else {
                remember_start(&pipeline.config, plan.start());
            }
            if let Some(file) = file {
                let labels = labels_file(&pipeline.config.dir, file);
                std::fs::create_dir_all(&pipeline.config.dir)
                    .with_context(|| format!("make the folder {}", pipeline.config.dir.display()))?;
                write_labels(&labels, &plan.labels())?;
                tracing::info!(file = %labels.display(), "labels of the scenario's anomalies");
            }
            let summary = simulate(&plan, log, &topics, &SystemClock, stop, &progress("simulate", None))?;
            tracing::info!("simulation ended: {summary}");
        }
    }
    log.flush().context("flush the produced events")
}

fn labels_file(dir: &Path, scenario: &Path) -> PathBuf {
    let name = scenario.file_stem().map_or("scenario".into(), |s| s.to_string_lossy().into_owned());
    dir.join(format!("{name}.labels.json"))
}
