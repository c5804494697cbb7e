//! What machines ask: alive, ready, measured.

use super::ApiError;
use crate::server::Shared;
use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// Whether the process is in order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthBody {
    /// Whether it is.
    ok: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn answer(reason: Option<String>) -> (StatusCode, Json<HealthBody>) {
    let status = if reason.is_none() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(HealthBody { ok: reason.is_none(), reason }))
}

/// Whether the process works at all. When not, restart it.
#[utoipa::path(get, path = "/healthz", tag = "Operation", responses(
    (status = 200, body = HealthBody), (status = 503, body = HealthBody, description = "Restart it")
))]
pub(crate) async fn healthz(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<HealthBody>) {
    let live = shared.state.status.status().live;
    answer((!live).then(|| "a part of the process has stopped".to_owned()))
}

/// Whether the process has started and its KPI store answers. When not, send it no requests yet.
#[utoipa::path(get, path = "/readyz", tag = "Operation", responses(
    (status = 200, body = HealthBody), (status = 503, body = HealthBody, description = "Not yet")
))]
pub(crate) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, Json<HealthBody>) {
    let status = shared.state.status.status();
    if !status.ready {
        return answer(Some(status.not_ready_because.unwrap_or_else(|| "the process is starting".to_owned())));
    }
    match shared.ask_store(|store| store.ping()).await {
        Ok(()) => answer(None),
        Err(ApiError::Store(error)) => {
            tracing::warn!(%error, "ask the KPI store whether it is ready");
            answer(Some("the KPI store does not answer".to_owned()))
        }
        Err(other) => answer(Some(other.to_string())),
    }
}

/// Every series of this process, in the Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "Operation", responses(
    (status = 200, body = String, content_type = "text/plain")
))]
pub(crate) async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.state.metrics.render())
}
