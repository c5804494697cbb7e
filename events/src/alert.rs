//! An anomaly, as it is told.

use crate::EventTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where an alert stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// The anomaly goes on.
    Firing,
    /// A person has seen it.
    Acknowledged,
    /// The series is as expected again.
    Resolved,
    /// Explained by something else; not told.
    Suppressed,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth a look.
    Info,
    /// Needs a look.
    Warning,
    /// Needs a person now.
    Critical,
}

/// Input offsets an alert's numbers cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetSpan {
    /// Input partition.
    pub partition: i32,
    /// First offset not covered.
    pub upto: i64,
}

/// One episode of one series leaving its band. Fields: `schemas/alert-v1.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are documented once, in the Avro schema")]
pub struct Alert {
    pub id: String,
    pub model: String,
    pub measure: String,
    pub group: BTreeMap<String, Option<String>>,
    pub detector: String,
    pub state: AlertState,
    pub severity: Severity,
    pub observed: f64,
    pub expected: f64,
    pub lower: f64,
    pub upper: f64,
    pub score: f64,
    pub tail_probability: f64,
    pub first_window: EventTime,
    pub last_window: EventTime,
    pub window_millis: i64,
    pub origin: Vec<OffsetSpan>,
}
