//! `sluice up`: all roles in one process.

use crate::{
    Config,
    feed_role::FeedRole,
    gold_runs::GoldRuns,
    live_models::LiveModels,
    merge_role::MergeRole,
    pipeline::{Pipeline, spawn},
    process_role::{EndOffsets, ProcessRole},
    produce::{self, Source},
    roles::{runtime, stop_signal},
    serve_role::{self, ProcessStatus},
    sql_role,
};
use anyhow::Result;
use sluice_sinks::{Metric, Metrics, kpi_store};
use std::{
    sync::{Arc, atomic::Ordering},
    thread::JoinHandle,
    time::{Duration, Instant},
};

const TICK: Duration = Duration::from_millis(20);
/// How long the last records of the producer are waited for after a signal.
const LAST_RECORDS: Duration = Duration::from_secs(2);
const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Runs everything until the input is drained, or until a signal.
pub(crate) fn up(config: Config, source: Source, until_drained: bool) -> Result<()> {
    let started = Instant::now();
    let runtime = runtime()?;
    let stop = stop_signal(&runtime);
    let dir = config.dir.clone();
    let pipeline = Pipeline::open(config, &runtime)?;
    let models = LiveModels::load(&pipeline.config)?;
    let store = kpi_store::open(&pipeline.config.kpi_store)?;
    let status = ProcessStatus::new(&["produce", "process", "merge", "gold", "serve"], &pipeline.metrics);
    let server = serve_role::start(&pipeline.config, &runtime, &store, &pipeline.metrics, &status, &models)?;
    let sql = sql_role::start(&pipeline.config, &runtime)?;
    let merge = MergeRole::start(&pipeline, &models, &store, runtime.handle(), true)?;
    let mut process = ProcessRole::start(&pipeline, &models, runtime.handle(), true)?;
    status.watch(process.progress());
    eprintln!("sluice {}: data in {}", env!("CARGO_PKG_VERSION"), dir.display());
    if let Some(server) = &server {
        eprintln!("dashboard  http://{}/    API  http://{0}/docs    metrics  http://{0}/metrics", server.address);
    }
    sql_role::say(sql.as_ref(), &pipeline.config);
    let producer = {
        let (pipeline, stop) = (pipeline.clone(), stop.clone());
        let shown = until_drained || matches!(source, Source::Replay(_));
        let failure = pipeline.failure.clone();
        spawn("producer".to_owned(), &failure, move || produce::run(&pipeline, &source, &stop, shown))?
    };
    let feeds = match until_drained {
        true => None,
        false => Some(FeedRole::start(&pipeline, runtime.handle(), &stop)?),
    };
    let gold = match until_drained {
        true => None,
        false => {
            let runs = GoldRuns::new(pipeline.config.clone(), runtime.handle().clone(), pipeline.metrics.clone());
            let stop = stop.clone();
            let follow = move || {
                runs.follow_schedule(&stop);
                Ok(())
            };
            Some(spawn("gold".to_owned(), &pipeline.failure, follow)?)
        }
    };
    let mut ends = None;
    let mut told = Instant::now();
    while !stop.load(Ordering::Acquire) && !pipeline.failure.is_set() {
        process.tick()?;
        if until_drained && ends.is_none() && producer.is_finished() {
            ends = Some(EndOffsets::now(&pipeline)?);
        }
        if ends.as_ref().is_some_and(|ends| process.has_read(ends)) {
            break;
        }
        if told.elapsed() >= PROGRESS_INTERVAL {
            told = Instant::now();
            let processed = pipeline.metrics.total(Metric::EventsProcessed);
            tracing::info!(processed, lag = process.lag(), "running");
        }
        std::thread::sleep(TICK);
    }
    let signalled = stop.swap(true, Ordering::AcqRel);
    let _ = producer.join();
    if pipeline.failure.is_set() {
        // The log may be what failed: it is asked nothing more.
    } else if until_drained && !signalled {
        process.drain()?;
    } else if let Ok(ends) = EndOffsets::now(&pipeline) {
        // What the producer wrote last is milliseconds old. A backlog is left to the next run.
        let patience = Instant::now() + LAST_RECORDS;
        while !process.has_read(&ends) && !pipeline.failure.is_set() && Instant::now() < patience {
            process.tick()?;
            std::thread::sleep(TICK);
        }
    }
    process.stop()?;
    merge.finish()?;
    let _ = gold.map(JoinHandle::join);
    if let Some(feeds) = feeds {
        feeds.join();
    }
    pipeline.failure.take()?;
    drop((server, sql));
    summary(&pipeline.metrics, started);
    Ok(())
}

fn summary(metrics: &Arc<Metrics>, started: Instant) {
    let received = metrics.total(Metric::RecordsReceived);
    let seconds = started.elapsed().as_secs_f64();
    let dead_letters = metrics.total(Metric::DeadLetters);
    eprintln!(
        "{received} records read: {} processed ({} late), {} duplicates, {} invalid; {dead_letters} dead letters written; \
         {} panes published; {seconds:.1} s, {:.0} records/s",
        metrics.total(Metric::EventsProcessed),
        metrics.total(Metric::EventsLate),
        metrics.total(Metric::EventsDuplicate),
        metrics.total(Metric::EventsInvalid),
        metrics.total(Metric::PanesPublished),
        received as f64 / seconds,
    );
}
