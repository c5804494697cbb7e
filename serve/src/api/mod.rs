//! The REST API, one file per resource.

mod alert_pages;
mod alerts;
mod error;
mod gold;
mod health;
mod kpis;
mod models;
mod parameters;
mod quality;
mod status;
mod summary;

pub(crate) use alert_pages::{alert_html, alerts_html};
pub(crate) use alerts::{
    __path_acknowledge, __path_alert, __path_alerts, __path_chart, __path_end_snooze, __path_snooze, acknowledge,
    alert, alerts, chart, end_snooze, snooze,
};
pub use alerts::{AlertBody, AlertDetailBody, alert_detail};
pub(crate) use error::{ApiError, ErrorBody, no_such_method, no_such_page};
pub(crate) use gold::{__path_gold_table, __path_gold_tables, __path_runs, gold_table, gold_tables, runs};
pub(crate) use health::{__path_healthz, __path_metrics, __path_readyz, healthz, metrics, readyz};
pub(crate) use kpis::{__path_kpis, kpis};
pub(crate) use models::{__path_models, models, models_html};
pub(crate) use quality::{__path_quality, quality, quality_html};
pub(crate) use status::{__path_status, status};
pub(crate) use summary::{__path_summary, SummaryCache, summary};

/// JSON has no infinity.
fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}
