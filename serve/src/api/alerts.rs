//! The alerts, and a person's word that they were seen.

use super::{
    ApiError, ErrorBody, finite,
    parameters::{Parameters, bad},
    time_text,
};
use crate::server::Shared;
use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Serialize;
use sluice_events::{Alert, AlertState, EventTime, Severity, alert_text};
use sluice_sinks::kpi_store::AlertQuery;
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;

const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1_000;

/// Alerts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertsBody {
    alerts: Vec<AlertBody>,
}

/// One series that left its band.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AlertBody {
    id: String,
    /// It in one sentence.
    text: String,
    model: String,
    measure: String,
    /// Group columns; null is a missing value.
    group: BTreeMap<String, Option<String>>,
    detector: String,
    /// `firing`, `acknowledged`, `resolved` or `suppressed`.
    #[schema(value_type = String, example = "firing")]
    state: AlertState,
    /// `info`, `warning` or `critical`.
    #[schema(value_type = String, example = "warning")]
    severity: Severity,
    observed: Option<f64>,
    expected: Option<f64>,
    /// Lower end of the expected band; null when there is none.
    lower: Option<f64>,
    /// Upper end of the expected band; null when there is none.
    upper: Option<f64>,
    /// Standard deviations from the expectation, signed.
    score: Option<f64>,
    tail_probability: Option<f64>,
    /// Start of the first window off its band. RFC 3339.
    first_window: String,
    /// Start of the last window looked at. RFC 3339.
    last_window: String,
    /// End of the last window looked at. RFC 3339.
    last_window_end: String,
    /// Input offsets that the numbers cover.
    origin: Vec<OriginBody>,
}

/// Input offsets that an alert's numbers cover.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OriginBody {
    partition: i32,
    /// First offset not covered.
    upto: i64,
}

impl From<Alert> for AlertBody {
    fn from(alert: Alert) -> Self {
        Self {
            text: alert_text(&alert),
            observed: finite(alert.observed),
            expected: finite(alert.expected),
            lower: finite(alert.lower),
            upper: finite(alert.upper),
            score: finite(alert.score),
            tail_probability: finite(alert.tail_probability),
            first_window: time_text(alert.first_window),
            last_window: time_text(alert.last_window),
            last_window_end: time_text(EventTime::new(alert.last_window.get().saturating_add(alert.window_millis))),
            origin: alert.origin.iter().map(|o| OriginBody { partition: o.partition, upto: o.upto }).collect(),
            id: alert.id,
            model: alert.model,
            measure: alert.measure,
            group: alert.group,
            detector: alert.detector,
            state: alert.state,
            severity: alert.severity,
        }
    }
}

/// Alerts, newest first.
#[utoipa::path(
    get,
    path = "/api/v1/alerts",
    tag = "Alerts",
    params(
        ("state" = Option<String>, Query, description = "Only `firing`, `acknowledged`, `resolved` or `suppressed`"),
        ("model" = Option<String>, Query, description = "Only of this live model"),
        ("limit" = Option<u32>, Query, description = "At most this many: 1 to 1000, 100 when not given"),
    ),
    responses(
        (status = 200, body = AlertsBody),
        (status = 400, body = ErrorBody, description = "A parameter is wrong or unknown"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn alerts(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<AlertsBody>, ApiError> {
    let mut parameters = Parameters::new(pairs)?;
    let state = match parameters.text("state").as_deref() {
        None => None,
        Some("firing") => Some(AlertState::Firing),
        Some("acknowledged") => Some(AlertState::Acknowledged),
        Some("resolved") => Some(AlertState::Resolved),
        Some("suppressed") => Some(AlertState::Suppressed),
        Some(other) => {
            let reason = format!("'{other}' is no state");
            return Err(bad("state", &reason, "use firing, acknowledged, resolved or suppressed"));
        }
    };
    let query =
        AlertQuery { state, model: parameters.text("model"), limit: parameters.number("limit", LIMIT, LIMIT_MAX)? };
    parameters.finish()?;
    let found = shared.ask_store(move |store| store.alerts(&query)).await?;
    Ok(Json(AlertsBody { alerts: found.into_iter().map(AlertBody::from).collect() }))
}

/// Marks a firing alert as seen by a person. It stays so until it resolves; one that does not fire is left as it is.
#[utoipa::path(
    post,
    path = "/api/v1/alerts/{id}/ack",
    tag = "Alerts",
    params(("id" = String, Path, description = "The alert's id")),
    responses(
        (status = 200, body = AlertBody, description = "The alert as it is now"),
        (status = 404, body = ErrorBody, description = "There is no such alert"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn acknowledge(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
) -> Result<Json<AlertBody>, ApiError> {
    let asked = id.clone();
    match shared.ask_store(move |store| store.acknowledge(&asked)).await? {
        Some(alert) => Ok(Json(alert.into())),
        None => Err(ApiError::NotFound {
            what: "alert",
            name: id,
            hint: "/api/v1/alerts lists the alerts with their ids".to_owned(),
        }),
    }
}
