//! The tables of gold and the runs that made them.

use super::{ApiError, ErrorBody, parameters::Parameters};
use crate::{GoldSource, GoldTableInfo, RunInfo, RunQuery, server::Shared};
use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use utoipa::ToSchema;

const ROWS: usize = 100;
const ROWS_MAX: usize = 10_000;

/// All tables of gold.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GoldTablesBody {
    tables: Vec<GoldTableInfo>,
}

/// A table of gold with its meaning beside its numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GoldTableBody {
    #[serde(flatten)]
    table: GoldTableInfo,
    /// In the order of the key; null when the table was never made.
    #[schema(value_type = Option<Vec<Object>>)]
    rows: Option<Vec<Map<String, Value>>>,
}

/// Runs, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunsBody {
    runs: Vec<RunInfo>,
}

pub(super) async fn ask<T: Send + 'static>(
    shared: &Arc<Shared>,
    ask: impl FnOnce(&dyn GoldSource) -> Result<T, String> + Send + 'static,
) -> Result<T, ApiError> {
    let source = shared.state.gold.clone();
    let asked = tokio::task::spawn_blocking(move || ask(source.as_ref())).await;
    asked.map_err(|_| ApiError::Unfinished)?.map_err(ApiError::Lake)
}

/// The tables of gold: what they mean, what they are made of, and when they were made.
#[utoipa::path(
    get,
    path = "/api/v1/gold",
    tag = "Gold",
    responses(
        (status = 200, body = GoldTablesBody),
        (status = 503, body = ErrorBody, description = "The lake does not answer"),
    )
)]
pub(crate) async fn gold_tables(State(shared): State<Arc<Shared>>) -> Result<Json<GoldTablesBody>, ApiError> {
    Ok(Json(GoldTablesBody { tables: ask(&shared, |source| source.tables()).await? }))
}

/// A table of gold: its meaning, and its rows in the order of its key.
#[utoipa::path(
    get,
    path = "/api/v1/gold/{table}",
    tag = "Gold",
    params(
        ("table" = String, Path, description = "Its name, such as kpi_overview"),
        ("limit" = Option<u32>, Query, description = "Rows: 1 to 10,000, 100 when not given"),
    ),
    responses(
        (status = 200, body = GoldTableBody),
        (status = 400, body = ErrorBody, description = "A parameter is wrong or unknown"),
        (status = 404, body = ErrorBody, description = "There is no such table"),
        (status = 503, body = ErrorBody, description = "The lake does not answer"),
    )
)]
pub(crate) async fn gold_table(
    State(shared): State<Arc<Shared>>,
    Path(name): Path<String>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<GoldTableBody>, ApiError> {
    let mut parameters = Parameters::new(pairs)?;
    let limit = parameters.number("limit", ROWS, ROWS_MAX)?;
    parameters.finish()?;
    let tables = ask(&shared, |source| source.tables()).await?;
    let Some(table) = tables.into_iter().find(|table| table.name == name) else {
        return Err(ApiError::NotFound { what: "table of gold", name, hint: "/api/v1/gold lists them".to_owned() });
    };
    let of = table.clone();
    let rows = ask(&shared, move |source| source.rows(&of, limit)).await?;
    Ok(Json(GoldTableBody { table, rows }))
}

/// What was made when, of which versions of its inputs, and what failed: newest first. From table `gold.runs`.
#[utoipa::path(
    get,
    path = "/api/v1/runs",
    tag = "Gold",
    params(
        ("model" = Option<String>, Query, description = "Only of this model"),
        ("failed" = Option<bool>, Query, description = "1: only those that failed"),
        ("limit" = Option<u32>, Query, description = "1 to 10,000, 100 when not given"),
    ),
    responses(
        (status = 200, body = RunsBody),
        (status = 400, body = ErrorBody, description = "A parameter is wrong or unknown"),
        (status = 503, body = ErrorBody, description = "The lake does not answer"),
    )
)]
pub(crate) async fn runs(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<RunsBody>, ApiError> {
    let mut parameters = Parameters::new(pairs)?;
    let query = RunQuery {
        model: parameters.text("model"),
        failed: parameters.flag("failed")?,
        limit: parameters.number("limit", ROWS, ROWS_MAX)?,
    };
    parameters.finish()?;
    Ok(Json(RunsBody { runs: ask(&shared, move |source| source.runs(&query)).await? }))
}
