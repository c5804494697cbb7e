//! Shows what the stream has found: a REST API with its OpenAPI description, health, metrics, and a live dashboard.
//!
//! In: the KPI store, the process's metrics, its own account of itself ([`StatusSource`]), what is known of the quality of
//! rows ([`QualitySource`]), of gold ([`GoldSource`]) and of the events behind an alert ([`AlertEvidence`]).
//! Out: JSON, Prometheus text, pictures and pages, over HTTP; answers to SQL, over the wire protocol of PostgreSQL.
//! Never: writes a KPI, or decides what a number means. Its writes are a person's word on an alert: seen, or not now.

mod alert_advice;
mod alert_chart;
mod alert_page;
#[cfg(test)]
mod alert_sample;
mod alert_story;
mod api;
mod dashboard;
mod evidence;
mod formula;
mod gold;
mod html;
mod model;
mod models_page;
mod number_text;
mod postgres;
mod quality_page;
mod server;
mod status;

pub use alert_chart::{alert_charts, panes_of};
pub use api::{AlertBody, AlertDetailBody, alert_detail};
pub use evidence::{AlertEvidence, ExampleEvent, NoEvidence};
pub use gold::{GoldSource, GoldTableInfo, LearnedInfo, RunInfo, RunQuery};
pub use model::{ColumnInfo, ColumnRole, ModelInfo};
pub use postgres::{Refresh, SqlAccount, Tls, TlsError, TlsFiles, add_pg_catalog, serve_postgres};
pub use quality_page::quality_page;
pub use server::{ModelSource, QualitySource, ServeState, router, serve};
pub use status::{PartitionStatus, Status, StatusSource};
