//! Detectors over the panes of a window that became final, and the alerts they raise and resolve.

use super::rows::{Rows, group_key};
use crate::{DetectSpec, LiveModel, Reading, ZScore, ZScoreConfig};
use serde::{Deserialize, Serialize};
use sluice_events::{Alert, AlertState, EventTime, Measure, OffsetSpan};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64;

/// Usual windows in a row that end an alert.
const RESOLVED_AFTER: u32 = 2;

/// A watched series.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Series {
    detector: ZScore,
    pub firing: Option<Firing>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Firing {
    first_window: i64,
    usual_windows: u32,
}

/// A window that became final.
pub(super) struct Seen<'a> {
    pub start: i64,
    pub end: i64,
    pub rows: &'a Rows,
    /// How far each input partition had been read.
    pub origin: &'a [OffsetSpan],
}

/// What the detectors say of it.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub alerts: Vec<Alert>,
    /// Model, measure, largest score.
    pub scores: Vec<(String, String, f64)>,
}

pub(super) fn series_prefix(spec: &DetectSpec) -> String {
    format!("{:016x}#", xxh3_64(format!("{spec:?}").as_bytes()))
}

/// Shows a window that became final to the detectors.
pub(super) fn watch(
    model: &LiveModel,
    spec: &DetectSpec,
    seen: &Seen<'_>,
    all: &mut BTreeMap<String, Series>,
    verdict: &mut Verdict,
) {
    let config =
        ZScoreConfig { window: spec.window, warmup: spec.warmup, threshold: spec.threshold, direction: spec.direction };
    let prefix = series_prefix(spec);
    let mut largest = 0.0_f64;
    for (key, (group, measures)) in seen.rows {
        let wanted = |(column, value): (&String, &String)| {
            group.get(column).is_some_and(|v| v.as_deref() == Some(value.as_str()))
        };
        if !spec.only.iter().all(wanted) {
            continue;
        }
        let Some(value) = measures.get(&spec.measure).and_then(Measure::as_f64) else { continue };
        let series = all.entry(format!("{prefix}{key}")).or_default();
        let Some(reading) = series.detector.judge(value, &config) else { continue };
        if reading.score.abs() > largest.abs() {
            largest = reading.score;
        }
        let alert = |firing: &Firing, state| alert(model, spec, group, seen, firing.first_window, &reading, state);
        match (&mut series.firing, reading.unusual) {
            (None, true) => {
                let firing = Firing { first_window: seen.start, usual_windows: 0 };
                verdict.alerts.push(alert(&firing, AlertState::Firing));
                series.firing = Some(firing);
            }
            (Some(firing), true) => {
                firing.usual_windows = 0;
                verdict.alerts.push(alert(firing, AlertState::Firing));
            }
            (Some(firing), false) => {
                firing.usual_windows += 1;
                if firing.usual_windows >= RESOLVED_AFTER {
                    verdict.alerts.push(alert(firing, AlertState::Resolved));
                    series.firing = None;
                }
            }
            (None, false) => {}
        }
    }
    verdict.scores.push((model.name.clone(), spec.measure.clone(), largest));
}

fn alert(
    model: &LiveModel,
    spec: &DetectSpec,
    group: &BTreeMap<String, Option<String>>,
    seen: &Seen<'_>,
    first_window: i64,
    reading: &Reading,
    state: AlertState,
) -> Alert {
    let detector = "zscore";
    let identity = format!("{}|{}|{first_window}|{}", model.name, group_key(group), series_prefix(spec));
    Alert {
        id: format!("{:016x}", xxh3_64(identity.as_bytes())),
        model: model.name.clone(),
        measure: spec.measure.clone(),
        group: group.clone(),
        detector: detector.to_owned(),
        state,
        severity: spec.severity,
        observed: reading.observed,
        expected: reading.expected,
        lower: reading.lower,
        upper: reading.upper,
        score: reading.score,
        tail_probability: reading.tail_probability,
        first_window: EventTime::new(first_window),
        last_window: EventTime::new(seen.start),
        window_millis: seen.end - seen.start,
        origin: seen.origin.to_vec(),
        z_score: reading.score,
        threshold: 0.0,
        false_alarms_per_year: f64::INFINITY,
        formula: String::new(),
        since: EventTime::new(first_window),
        horizon_millis: seen.end - seen.start,
        resolution: None,
        parent: None,
        money_at_stake: None,
        parts: Vec::new(),
        trace: Vec::new(),
        fingerprint: String::new(),
        episodes: 1,
        acknowledged_by: None,
        acknowledged_at: None,
        snoozed_until: None,
    }
}
