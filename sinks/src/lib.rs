//! Carries results out: Delta tables of the lake, the KPI store, metrics.
//!
//! In: batches with their offsets, panes, alerts. Out: atomic Delta commits, versioned documents, Prometheus series.
//! Never: decides what a number means. A write that is repeated changes nothing.

pub mod kpi_store;
pub mod lake;
mod metrics;
mod mongo;
pub mod publish;

pub use metrics::{Metric, Metrics};
