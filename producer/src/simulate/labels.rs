//! The truth about the injected anomalies, for whoever scores detectors.

use super::{AnomalyKind, SimulationPlan, time_text};
use crate::ProducerError;
use serde::Serialize;
use sluice_events::EventTime;
use std::{fs, path::Path};

/// One anomaly in event time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    /// What goes wrong.
    pub kind: AnomalyKind,
    /// First moment, ISO 8601.
    pub start: String,
    /// One past the last moment, ISO 8601.
    pub end: String,
    /// First moment, UTC milliseconds.
    pub start_millis: i64,
    /// One past the last moment, UTC milliseconds.
    pub end_millis: i64,
    /// Where; none is everywhere.
    pub country: Option<String>,
    /// In which category; none is in all.
    pub category: Option<String>,
    /// How bad.
    pub strength: f64,
    /// The measure that shows it best.
    pub measure: &'static str,
    /// Where the measure goes: up, down or changed.
    pub direction: &'static str,
}

impl SimulationPlan {
    /// One label for each anomaly, in the scenario's order.
    pub fn labels(&self) -> Vec<Label> {
        let label = |a: &super::Anomaly| {
            let start = self.start().get().saturating_add(a.start.as_millis() as i64);
            let end = start.saturating_add(a.duration.as_millis() as i64);
            let (measure, direction) = a.kind.affects();
            Label {
                kind: a.kind,
                start: time_text(EventTime::new(start)),
                end: time_text(EventTime::new(end)),
                start_millis: start,
                end_millis: end,
                country: a.country.clone(),
                category: a.category.clone(),
                strength: a.strength(),
                measure,
                direction,
            }
        };
        self.anomalies.iter().map(label).collect()
    }
}

/// Writes labels as a JSON list; the file is whole or not there.
///
/// # Errors
/// [`ProducerError::Write`] when the disk refuses.
pub fn write_labels(path: &Path, labels: &[Label]) -> Result<(), ProducerError> {
    let mut json = serde_json::to_vec_pretty(labels).expect("labels are plain data");
    json.push(b'\n');
    let partial = path.with_extension("partial");
    fs::write(&partial, json)
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|source| ProducerError::Write { path: path.to_owned(), source })
}
