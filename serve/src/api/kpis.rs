//! The panes of a live model.

use super::{
    ApiError, ErrorBody, finite,
    parameters::{Parameters, listing},
};
use crate::{ColumnRole, server::Shared};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Serialize;
use serde_json::Value;
use sluice_events::{EventTime, Kpi, Measure, PaneState, time_text};
use sluice_sinks::kpi_store::KpiQuery;
use std::{collections::BTreeMap, sync::Arc};
use utoipa::ToSchema;

const LIMIT: usize = 1_000;
const LIMIT_MAX: usize = 10_000;

/// Panes of a model, newest window first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KpisBody {
    /// The live model; `/api/v1/models` says what its numbers mean.
    model: String,
    kpis: Vec<KpiBody>,
    /// Older panes match too. Ask again with `to` = the last `window_start`, or with a higher `limit`.
    more: bool,
}

/// One pane.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KpiBody {
    #[schema(example = "sales|1709287500000|60000|FR")]
    id: String,
    /// Start of the window, inside it. RFC 3339.
    #[schema(example = "2024-03-01T10:05:00Z")]
    window_start: String,
    /// End of the window, outside it. RFC 3339.
    #[schema(example = "2024-03-01T10:06:00Z")]
    window_end: String,
    /// Group columns; null is a missing value.
    group: BTreeMap<String, Option<String>>,
    /// Measures. Counts are numbers; exact decimals are texts; null is no value.
    measures: BTreeMap<String, Value>,
    /// `provisional` (the window is open), `final`, `corrected` or `sealed` (it never changes again).
    #[schema(value_type = String, example = "final")]
    state: PaneState,
    /// 0 while provisional; each correction adds 1.
    version: i32,
    /// What closed the window: `watermark`, `idle` or `drained`; null while it is open.
    closed_by: Option<String>,
    /// Share of input partitions that are past the window's end.
    completeness: Option<f64>,
}

impl From<Kpi> for KpiBody {
    fn from(kpi: Kpi) -> Self {
        let measure = |measure| match measure {
            Measure::Null => Value::Null,
            Measure::Long(n) => Value::from(n),
            Measure::Double(x) => finite(x).map_or(Value::Null, Value::from),
            Measure::Text(text) => Value::from(text),
        };
        Self {
            id: kpi.id,
            window_start: time_text(kpi.window_start),
            window_end: time_text(kpi.window_end),
            group: kpi.group,
            measures: kpi.measures.into_iter().map(|(name, value)| (name, measure(value))).collect(),
            state: kpi.state,
            version: kpi.version,
            closed_by: kpi.closed_by,
            completeness: finite(kpi.completeness),
        }
    }
}

/// Panes of a live model, newest window first, provisional ones included.
///
/// To keep some groups only, add `group.<column>=<value>`, such as `group.country=FR`.
#[utoipa::path(
    get,
    path = "/api/v1/kpis/{model}",
    tag = "KPIs",
    params(
        ("model" = String, Path, description = "A live model, such as `sales`"),
        ("from" = Option<String>, Query, description = "Windows that start at or after this: RFC 3339 or epoch milliseconds"),
        ("to" = Option<String>, Query, description = "Windows that start before this: RFC 3339 or epoch milliseconds"),
        ("latest" = Option<String>, Query, description = "1: only the newest window that matches"),
        ("limit" = Option<u32>, Query, description = "At most this many panes: 1 to 10000, 1000 when not given"),
        ("group.country" = Option<String>, Query, description = "Only this country; the same for every group column of the model"),
    ),
    responses(
        (status = 200, body = KpisBody),
        (status = 400, body = ErrorBody, description = "A parameter is wrong or unknown"),
        (status = 404, body = ErrorBody, description = "There is no such model; the hint lists those that are"),
        (status = 503, body = ErrorBody, description = "The KPI store does not answer"),
    )
)]
pub(crate) async fn kpis(
    State(shared): State<Arc<Shared>>,
    Path(model): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<KpisBody>, ApiError> {
    let models = shared.state.models.models();
    let Some(info) = models.iter().find(|info| info.name == model) else {
        let names: Vec<&str> = models.iter().map(|info| info.name.as_str()).collect();
        return Err(ApiError::NotFound { what: "model", name: model, hint: listing("the models are", &names) });
    };
    let mut parameters = Parameters::new(pairs)?;
    let (from, to) = (parameters.time("from")?, parameters.time("to")?);
    let latest = parameters.flag("latest")?;
    let limit = parameters.number("limit", LIMIT, LIMIT_MAX)?;
    let columns = info.columns.iter().filter(|column| column.role == ColumnRole::Group);
    let group = parameters.groups(&columns.map(|column| column.name.as_str()).collect::<Vec<_>>())?;
    parameters.finish()?;
    let mut query = KpiQuery { model, group, from, to, limit: limit + 1 };
    let (model, mut found) = shared
        .ask_store(move |store| {
            if latest {
                let newest = store.kpis(&KpiQuery { limit: 1, ..query.clone() })?;
                let Some(newest) = newest.first() else { return Ok((query.model, Vec::new())) };
                query.from = Some(newest.window_start);
                query.to = Some(EventTime::new(newest.window_start.get().saturating_add(1)));
            }
            let found = store.kpis(&query)?;
            Ok((query.model, found))
        })
        .await?;
    let more = found.len() > limit;
    found.truncate(limit);
    Ok(Json(KpisBody { model, kpis: found.into_iter().map(KpiBody::from).collect(), more }))
}
