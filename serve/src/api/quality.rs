//! What the checks of quality found.

use super::{ApiError, ErrorBody, finite, parameters::Parameters};
use crate::{quality_page, server::Shared};
use axum::{
    Json,
    extract::{Query, State},
    response::Html,
};
use serde::Serialize;
use sluice_events::{EventTime, time_text};
use sluice_quality::{ExpectationReport, Figure, QualityReport, Severity};
use std::sync::Arc;
use utoipa::ToSchema;

const HOURS: usize = 24;
const HOURS_MAX: usize = 24 * 14;

/// All expectations, as they were checked last and hour by hour.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QualityBody {
    /// When anything was checked last, RFC 3339; null when nothing ever was.
    as_of: Option<String>,
    /// Hours covered, before that.
    hours: usize,
    /// Hard expectations that are not met.
    failed_hard: usize,
    /// Soft expectations that are not met.
    failed_soft: usize,
    /// By table and name.
    expectations: Vec<ExpectationBody>,
}

/// One expectation.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExpectationBody {
    #[schema(example = "purchases_have_a_price")]
    name: String,
    /// The table whose rows are looked at; of a hard one, that of the rows as received.
    #[schema(example = "silver.events")]
    table: String,
    /// `completeness`, `uniqueness`, `validity`, `freshness`, `volume` or `integrity`.
    #[schema(example = "validity")]
    kind: &'static str,
    /// `soft`: it warns. `hard`: rows that break it stay out of silver.
    #[schema(example = "soft")]
    severity: &'static str,
    /// It in a few words, or its SQL.
    rule: String,
    /// The least share of rows; null of freshness and volume.
    at_least: Option<f64>,
    /// When it was checked last. RFC 3339.
    checked_at: String,
    /// The last check of every partition, together.
    latest: FigureBody,
    /// Hours in which it was checked, oldest first.
    history: Vec<HourBody>,
}

/// One expectation, measured and judged.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FigureBody {
    rows: u64,
    /// Rows that met it; null of freshness and volume, and when it could not be judged.
    passed: Option<u64>,
    /// passed / rows; null without rows.
    ratio: Option<f64>,
    /// Of freshness: the age of the newest row when it was checked; in an hour, the greatest.
    age_seconds: Option<f64>,
    /// Null: nothing to judge by.
    ok: Option<bool>,
}

/// One hour of checks.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HourBody {
    /// Its start. RFC 3339.
    hour: String,
    /// Checks: of all partitions of a process at one commit, or of a file.
    checks: u64,
    /// Those at which the expectation was not met.
    failed: u64,
    #[serde(flatten)]
    figure: FigureBody,
}

impl From<Figure> for FigureBody {
    fn from(figure: Figure) -> Self {
        Self {
            rows: figure.rows,
            passed: figure.passed,
            ratio: figure.ratio(),
            age_seconds: figure.age_seconds.and_then(finite),
            ok: figure.ok,
        }
    }
}

fn time(millis: i64) -> String {
    time_text(EventTime::new(millis))
}

impl From<&ExpectationReport> for ExpectationBody {
    fn from(report: &ExpectationReport) -> Self {
        Self {
            name: report.name.clone(),
            table: report.table.clone(),
            kind: report.kind.as_str(),
            severity: report.severity.as_str(),
            rule: report.rule.clone(),
            at_least: report.at_least,
            checked_at: time(report.checked_at),
            latest: report.latest.into(),
            history: report
                .history
                .iter()
                .map(|hour| HourBody {
                    hour: time(hour.start),
                    checks: hour.checks,
                    failed: hour.failed,
                    figure: hour.figure.into(),
                })
                .collect(),
        }
    }
}

async fn report(shared: &Arc<Shared>, pairs: Vec<(String, String)>) -> Result<(usize, Arc<QualityReport>), ApiError> {
    let mut parameters = Parameters::new(pairs)?;
    let hours = parameters.number("hours", HOURS, HOURS_MAX)?;
    parameters.finish()?;
    let source = shared.state.quality.clone();
    let asked = tokio::task::spawn_blocking(move || source.quality(hours)).await;
    Ok((hours, asked.map_err(|_| ApiError::Unfinished)?.map_err(ApiError::Lake)?))
}

/// The expectations of the settings: the last figure of each, and hour by hour. From table `silver.quality`.
#[utoipa::path(
    get,
    path = "/api/v1/quality",
    tag = "Quality",
    params(("hours" = Option<u32>, Query, description = "Hours before the last check: 1 to 336, 24 when not given")),
    responses(
        (status = 200, body = QualityBody),
        (status = 400, body = ErrorBody, description = "A parameter is wrong or unknown"),
        (status = 503, body = ErrorBody, description = "The lake does not answer"),
    )
)]
pub(crate) async fn quality(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<QualityBody>, ApiError> {
    let (hours, report) = report(&shared, pairs).await?;
    Ok(Json(QualityBody {
        as_of: report.as_of.map(time),
        hours,
        failed_hard: report.failed(Severity::Hard).count(),
        failed_soft: report.failed(Severity::Soft).count(),
        expectations: report.expectations.iter().map(ExpectationBody::from).collect(),
    }))
}

/// The same as a page.
pub(crate) async fn quality_html(
    State(shared): State<Arc<Shared>>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Html<String>, ApiError> {
    let (hours, report) = report(&shared, pairs).await?;
    Ok(Html(quality_page(&report, hours)))
}
