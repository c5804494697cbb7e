//! An alert to try things with.

use sluice_events::{Alert, AlertPart, AlertState, EventTime, Severity};

/// One of an id.
pub(crate) fn alert(id: &str) -> Alert {
    let group = |columns: &[(&str, Option<&str>)]| {
        columns.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
    };
    Alert {
        id: id.to_owned(),
        model: "sales".to_owned(),
        measure: "revenue".to_owned(),
        group: group(&[("country", Some("FR")), ("device", None)]),
        detector: "rate".to_owned(),
        state: AlertState::Firing,
        severity: Severity::Warning,
        observed: 0.0,
        expected: 1203.5,
        lower: 900.0,
        upper: f64::INFINITY,
        score: 8.1,
        tail_probability: 1e-9,
        first_window: EventTime::new(1_709_287_560_000),
        last_window: EventTime::new(1_709_287_560_000),
        window_millis: 60_000,
        origin: Vec::new(),
        z_score: -8.1,
        threshold: 4.0,
        false_alarms_per_year: 0.01,
        formula: String::new(),
        since: EventTime::new(1_709_287_500_000),
        horizon_millis: 120_000,
        resolution: None,
        parent: None,
        money_at_stake: Some("1203.5000".to_owned()),
        parts: vec![AlertPart {
            group: group(&[("country", Some("FR")), ("category", Some("apparel"))]),
            observed: 0.0,
            expected: 746.17,
            share: 0.62,
        }],
        trace: Vec::new(),
        fingerprint: "f1".to_owned(),
        episodes: 1,
        acknowledged_by: None,
        acknowledged_at: None,
        snoozed_until: None,
    }
}
