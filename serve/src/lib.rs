//! Shows what the stream has found: a REST API with its OpenAPI description, health, metrics, and a live dashboard.
//!
//! In: the KPI store, the process's metrics and its own account of itself ([`StatusSource`]).
//! Out: JSON, Prometheus text and one page, over HTTP.
//! Never: writes a KPI, or decides what a number means. Its one write is a person's acknowledgement of an alert.

mod alert_text;
mod api;
mod dashboard;
mod model;
mod server;
mod status;

pub use alert_text::alert_text;
pub use model::{ColumnInfo, ColumnRole, ModelInfo};
pub use server::{ModelSource, ServeState, router, serve};
pub use status::{PartitionStatus, Status, StatusSource};
