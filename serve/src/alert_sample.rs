//! An alert for tests.

use sluice_events::{Alert, AlertState, EventTime, Severity};

/// 2024-03-01T10:00:00Z.
pub(crate) const START: i64 = 1_709_287_200_000;
pub(crate) const MINUTE: i64 = 60_000;

/// Revenue of France gone for ten minutes.
pub(crate) fn alert() -> Alert {
    Alert {
        id: "a".to_owned(),
        model: "sales".to_owned(),
        measure: "revenue".to_owned(),
        group: [("country".to_owned(), Some("FR".to_owned()))].into(),
        detector: "zscore".to_owned(),
        state: AlertState::Firing,
        severity: Severity::Critical,
        observed: 0.0,
        expected: 100.5,
        lower: 60.0,
        upper: f64::INFINITY,
        score: 9.5,
        tail_probability: 1e-20,
        first_window: EventTime::new(START),
        last_window: EventTime::new(START + 9 * MINUTE),
        window_millis: MINUTE,
        origin: Vec::new(),
        z_score: -9.5,
        threshold: 4.0,
        false_alarms_per_year: 0.01,
        formula: String::new(),
        since: EventTime::new(START),
        horizon_millis: MINUTE,
        resolution: None,
        parent: None,
        money_at_stake: None,
        parts: Vec::new(),
        trace: Vec::new(),
        fingerprint: "f".to_owned(),
        episodes: 1,
        acknowledged_by: None,
        acknowledged_at: None,
        snoozed_until: None,
    }
}
