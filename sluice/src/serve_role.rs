//! The `serve` role: HTTP on its own runtime.

use crate::{
    Config,
    alerts::SilverEvents,
    gold_reader::GoldReader,
    live_models::LiveModels,
    pipeline::{Failure, now_millis},
    process_role::{ProgressOfPartitions, statuses},
    quality_report::LakeQuality,
};
use anyhow::{Context, Result};
use sluice_serve::{ServeState, Status, StatusSource};
use sluice_sinks::{Metric, Metrics, kpi_store::KpiStore};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// What `/api/v1/status` is made of.
pub(crate) struct ProcessStatus {
    roles: Vec<String>,
    metrics: Arc<Metrics>,
    progress: Mutex<ProgressOfPartitions>,
    started_at_ms: i64,
}

impl ProcessStatus {
    pub fn new(roles: &[&str], metrics: &Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            roles: roles.iter().map(|r| (*r).to_owned()).collect(),
            metrics: metrics.clone(),
            progress: Mutex::default(),
            started_at_ms: now_millis(),
        })
    }

    pub fn watch(&self, progress: ProgressOfPartitions) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

impl StatusSource for ProcessStatus {
    fn status(&self) -> Status {
        Status {
            ready: true,
            live: true,
            not_ready_because: None,
            roles: self.roles.clone(),
            partitions: statuses(&self.progress.lock().unwrap_or_else(PoisonError::into_inner)),
            events_received: self.metrics.total(Metric::RecordsReceived),
            events_processed: self.metrics.total(Metric::EventsProcessed),
            duplicates: self.metrics.total(Metric::EventsDuplicate),
            invalid: self.metrics.total(Metric::EventsInvalid),
            dead_letters: self.metrics.total(Metric::DeadLetters),
            late: self.metrics.total(Metric::EventsLate),
            started_at_ms: self.started_at_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// A server that runs until it is dropped.
pub(crate) struct Server {
    /// Where it listens.
    pub address: std::net::SocketAddr,
    pub _stop: oneshot::Sender<()>,
}

pub(crate) async fn bind(key: &str, listen: &str) -> Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(listen).await.with_context(|| {
        format!("listen on {listen}: choose another address with --set {key}=127.0.0.1:0, or \"\" for none")
    })
}

/// Starts the dashboard and the API, unless `serve.listen` is empty.
pub(crate) fn start(
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    store: &Arc<dyn KpiStore>,
    metrics: &Arc<Metrics>,
    status: &Arc<ProcessStatus>,
    live: &Arc<LiveModels>,
) -> Result<Option<Server>> {
    if config.serve.listen.is_empty() {
        return Ok(None);
    }
    let listener = runtime.block_on(bind("serve.listen", &config.serve.listen))?;
    let address = listener.local_addr().context("listen")?;
    let state = ServeState {
        store: store.clone(),
        metrics: metrics.clone(),
        status: status.clone(),
        models: live.clone(),
        quality: Arc::new(LakeQuality::new(config, runtime.handle().clone())),
        gold: Arc::new(GoldReader::new(config, runtime.handle().clone())),
        evidence: Arc::new(SilverEvents::new(config, runtime.handle().clone(), live)),
    };
    let (stop, stopped) = oneshot::channel::<()>();
    runtime.spawn(async move {
        let shutdown = async move {
            let _ = stopped.await;
        };
        if let Err(error) = sluice_serve::serve(listener, state, shutdown).await {
            tracing::error!(%error, "the HTTP server ended");
        }
    });
    Ok(Some(Server { address, _stop: stop }))
}

/// Starts `/metrics` and `/healthz` of a role without the API, unless `metrics.listen` is empty.
pub(crate) fn start_metrics(
    listen: &str,
    metrics: &Arc<Metrics>,
    failure: Option<&Arc<Failure>>,
    runtime: &tokio::runtime::Runtime,
) -> Result<Option<Server>> {
    if listen.is_empty() {
        return Ok(None);
    }
    let listener = runtime.block_on(bind("metrics.listen", listen))?;
    let address = listener.local_addr().context("listen")?;
    let metrics = metrics.clone();
    let failure = failure.cloned();
    let router =
        axum::Router::new().route("/metrics", axum::routing::get(move || async move { metrics.render() })).route(
            "/healthz",
            axum::routing::get(move || async move {
                match failure.as_ref().is_some_and(|failure| failure.is_set()) {
                    false => (axum::http::StatusCode::OK, "ok"),
                    true => (axum::http::StatusCode::SERVICE_UNAVAILABLE, "failed"),
                }
            }),
        );
    let (stop, stopped) = oneshot::channel::<()>();
    runtime.spawn(async move {
        let shutdown = async move {
            let _ = stopped.await;
        };
        let _ = axum::serve(listener, router).with_graceful_shutdown(shutdown).await;
    });
    Ok(Some(Server { address, _stop: stop }))
}
