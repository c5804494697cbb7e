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
    /// Explained by another alert, that of a roll-up mostly; not told.
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

/// How an episode ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// The series is as expected again.
    Recovered,
    /// Late events brought the numbers back into the band: there was nothing.
    Corrected,
    /// Nothing is heard of the series any more.
    Gone,
    /// The model, or what watched it, was taken away.
    Unwatched,
}

/// Input offsets in which the events of an alert's windows are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetSpan {
    /// Input partition.
    pub partition: i32,
    /// First offset that may be one of them.
    #[serde(default)]
    pub from: i64,
    /// First offset not covered.
    pub upto: i64,
}

/// What a part of a roll-up has to do with its deviation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertPart {
    /// Group columns of the part.
    pub group: BTreeMap<String, Option<String>>,
    /// What was seen of it.
    pub observed: f64,
    /// What was expected of it.
    pub expected: f64,
    /// Its share of the deviation; 1 is all of it.
    pub share: f64,
}

/// A window of an alert's series.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertPoint {
    /// Start of the window.
    pub window: EventTime,
    /// What was seen, over the horizon that ends with it.
    pub observed: f64,
    /// What was expected.
    pub expected: f64,
    /// Lower end of the band; minus infinity where there is none.
    pub lower: f64,
    /// Upper end of the band; infinity where there is none.
    pub upper: f64,
}

/// One episode of one series, or roll-up of several, leaving its band. Fields: `schemas/alert-v2.avsc`.
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
    #[serde(default)]
    pub z_score: f64,
    #[serde(default)]
    pub threshold: f64,
    #[serde(default)]
    pub false_alarms_per_year: f64,
    #[serde(default)]
    pub formula: String,
    #[serde(default)]
    pub since: EventTime,
    #[serde(default)]
    pub horizon_millis: i64,
    #[serde(default)]
    pub resolution: Option<Resolution>,
    #[serde(default)]
    pub parent: Option<String>,
    #[serde(default)]
    pub money_at_stake: Option<String>,
    #[serde(default)]
    pub parts: Vec<AlertPart>,
    #[serde(default)]
    pub trace: Vec<AlertPoint>,
    #[serde(default)]
    pub fingerprint: String,
    #[serde(default)]
    pub episodes: i32,
    #[serde(default)]
    pub acknowledged_by: Option<String>,
    #[serde(default)]
    pub acknowledged_at: Option<EventTime>,
    #[serde(default)]
    pub snoozed_until: Option<EventTime>,
}

impl AlertState {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
            Self::Suppressed => "suppressed",
        }
    }
}

impl Severity {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Resolution {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Corrected => "corrected",
            Self::Gone => "gone",
            Self::Unwatched => "unwatched",
        }
    }
}
