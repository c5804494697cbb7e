//! How the process is doing.

use crate::{
    Status,
    server::{Shared, now},
};
use axum::{Json, extract::State};
use serde::Serialize;
use sluice_events::{EventTime, time_text};
use std::sync::Arc;
use utoipa::ToSchema;

/// How the process is doing, and its clock, so that a page can tell delays without trusting its own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatusBody {
    #[serde(flatten)]
    status: Status,
    /// When it started. RFC 3339.
    started_at: String,
    /// The server's clock, milliseconds since 1970-01-01 UTC.
    server_time_ms: i64,
}

/// How the process is doing: roles, partitions with lag and watermark, and where the records went.
#[utoipa::path(get, path = "/api/v1/status", tag = "Operation", responses((status = 200, body = StatusBody)))]
pub(crate) async fn status(State(shared): State<Arc<Shared>>) -> Json<StatusBody> {
    let status = shared.state.status.status();
    Json(StatusBody {
        started_at: time_text(EventTime::new(status.started_at_ms)),
        server_time_ms: now().get(),
        status,
    })
}
