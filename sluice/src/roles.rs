//! One role at a time, in its own process, until a signal.

use crate::{
    Config, WrongUse,
    feed_role::{self, FeedRole},
    live_models::LiveModels,
    merge_role::MergeRole,
    pipeline::Pipeline,
    process_role::{EndOffsets, ProcessRole},
    produce::{self, Source},
    serve_role::{self, ProcessStatus, Server},
    sql_role,
};
use anyhow::{Context, Result};
use sluice_gold::STACK_BYTES;
use sluice_sinks::{Metrics, kpi_store};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const TICK: Duration = Duration::from_millis(50);

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().thread_stack_size(STACK_BYTES).build().context("start the async runtime")
}

/// Becomes true at the first Ctrl-C or SIGTERM; the second one ends the process at once.
pub(crate) fn stop_signal(runtime: &tokio::runtime::Runtime) -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    runtime.spawn(async move {
        let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
            return;
        };
        loop {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            if flag.swap(true, Ordering::AcqRel) {
                eprintln!("stopping at once; the next start goes on from the last commit");
                std::process::exit(130);
            }
            eprintln!("stopping: finishing what is under way (again to stop at once)");
        }
    });
    stop
}

fn wait(pipeline: &Pipeline, stop: &AtomicBool, mut tick: impl FnMut() -> Result<bool>) -> Result<()> {
    while !stop.load(Ordering::Acquire) && !pipeline.failure.is_set() {
        if tick()? {
            break;
        }
        std::thread::sleep(TICK);
    }
    Ok(())
}

fn metrics_of(pipeline: &Pipeline, runtime: &tokio::runtime::Runtime) -> Result<Option<Server>> {
    serve_role::start_metrics(&pipeline.config.metrics.listen, &pipeline.metrics, Some(&pipeline.failure), runtime)
}

/// `sluice process`.
pub(crate) fn process(config: Config, until_drained: bool) -> Result<()> {
    let runtime = runtime()?;
    let stop = stop_signal(&runtime);
    let pipeline = Pipeline::open(config, &runtime)?;
    let models = LiveModels::load(&pipeline.config)?;
    let _metrics = metrics_of(&pipeline, &runtime)?;
    let mut role = ProcessRole::start(&pipeline, &models, runtime.handle(), until_drained)?;
    tracing::info!(partitions = pipeline.event_partitions, "process: running");
    let ends = EndOffsets::now(&pipeline)?;
    wait(&pipeline, &stop, || {
        role.tick()?;
        Ok(until_drained && role.has_read(&ends))
    })?;
    if until_drained && !stop.load(Ordering::Acquire) {
        role.drain()?;
    }
    role.stop()?;
    pipeline.failure.take()
}

/// `sluice merge`.
pub(crate) fn merge(config: Config, until_drained: bool) -> Result<()> {
    let runtime = runtime()?;
    let stop = stop_signal(&runtime);
    let pipeline = Pipeline::open(config, &runtime)?;
    let models = LiveModels::load(&pipeline.config)?;
    let store = kpi_store::open(&pipeline.config.kpi_store)?;
    let _metrics = metrics_of(&pipeline, &runtime)?;
    let mut role = MergeRole::start(&pipeline, &models, &store, runtime.handle(), until_drained)?;
    tracing::info!(partitions = pipeline.merge_partitions, "merge: running");
    if !until_drained {
        wait(&pipeline, &stop, || role.tick().map(|()| false))?;
    }
    role.finish()?;
    pipeline.failure.take()
}

/// `sluice serve`.
pub(crate) fn serve(config: &Config) -> Result<()> {
    let runtime = runtime()?;
    let stop = stop_signal(&runtime);
    let models = LiveModels::load(&Arc::new(config.clone()))?;
    let store = kpi_store::open(&config.kpi_store)?;
    let metrics = Arc::new(Metrics::new());
    let status = ProcessStatus::new(&["serve"], &metrics);
    let server = serve_role::start(config, &runtime, &store, &metrics, &status, &models)?;
    let sql = sql_role::start(config, &runtime)?;
    if server.is_none() && sql.is_none() {
        return Err(WrongUse("serve.listen and sql.listen are empty: nothing to serve".to_owned()).into());
    }
    if let Some(server) = &server {
        eprintln!("dashboard  http://{}/    API  http://{0}/docs", server.address);
    }
    sql_role::say(sql.as_ref(), config);
    while !stop.load(Ordering::Acquire) {
        models.look(None);
        std::thread::sleep(TICK);
    }
    Ok(())
}

/// `sluice produce feed`. Says whether all went well.
pub(crate) fn feed(config: Config, once: bool) -> Result<bool> {
    let runtime = runtime()?;
    let stop = stop_signal(&runtime);
    let pipeline = Pipeline::open(config, &runtime)?;
    let _metrics = metrics_of(&pipeline, &runtime)?;
    if once || pipeline.config.feed.is_empty() {
        return feed_role::once(&pipeline, runtime.handle(), &stop);
    }
    let role = FeedRole::start(&pipeline, runtime.handle(), &stop)?;
    wait(&pipeline, &stop, || Ok(false))?;
    stop.store(true, Ordering::Release);
    role.join();
    pipeline.failure.take().map(|()| true)
}

/// `sluice produce …`.
pub(crate) fn produce(config: Config, source: &Source) -> Result<()> {
    let runtime = runtime()?;
    let stop = stop_signal(&runtime);
    let pipeline = Pipeline::open(config, &runtime)?;
    let _metrics = metrics_of(&pipeline, &runtime)?;
    produce::run(&pipeline, source, &stop, true)
}
