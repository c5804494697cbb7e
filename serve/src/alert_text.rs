//! An alert in one sentence.

use crate::api::time_text;
use sluice_events::{Alert, AlertState};

/// The alert as a person says it: what, where, how far off, since when.
///
/// `revenue of sales (country FR) is too low: 0, expected 1203.5 (900 to 1500), since 2024-03-01T10:05:00Z`
pub fn alert_text(alert: &Alert) -> String {
    let group: Vec<String> =
        alert.group.iter().map(|(name, value)| format!("{name} {}", value.as_deref().unwrap_or("unknown"))).collect();
    let group = if group.is_empty() { String::new() } else { format!(" ({})", group.join(", ")) };
    let direction = if alert.state == AlertState::Resolved {
        "back in range"
    } else if alert.observed < alert.expected {
        "too low"
    } else {
        "too high"
    };
    let band = match (alert.lower.is_finite(), alert.upper.is_finite()) {
        (true, true) => format!(" ({} to {})", number(alert.lower), number(alert.upper)),
        (true, false) => format!(" (at least {})", number(alert.lower)),
        (false, true) => format!(" (at most {})", number(alert.upper)),
        (false, false) => String::new(),
    };
    format!(
        "{} of {}{group} is {direction}: {}, expected {}{band}, since {}",
        alert.measure,
        alert.model,
        number(alert.observed),
        number(alert.expected),
        time_text(alert.first_window)
    )
}

/// Two decimal places at most; four significant digits for what is small.
fn number(value: f64) -> String {
    let places = if value == 0.0 || value.abs() >= 1.0 { 2 } else { 4 };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_events::{EventTime, Severity};

    #[test]
    fn the_sentence_names_measure_group_numbers_and_time() {
        let mut alert = Alert {
            id: String::new(),
            model: "sales".to_owned(),
            measure: "revenue".to_owned(),
            group: [("country".to_owned(), Some("FR".to_owned())), ("device".to_owned(), None)].into(),
            detector: "zscore".to_owned(),
            state: AlertState::Firing,
            severity: Severity::Critical,
            observed: 0.0,
            expected: 1203.5,
            lower: 900.0,
            upper: 1500.126,
            score: -8.1,
            tail_probability: 1e-9,
            first_window: EventTime::new(1_709_287_500_000),
            last_window: EventTime::new(1_709_287_500_000),
            window_millis: 60_000,
            origin: Vec::new(),
        };
        assert_eq!(
            alert_text(&alert),
            "revenue of sales (country FR, device unknown) is too low: 0, expected 1203.5 (900 to 1500.13), \
             since 2024-03-01T10:05:00Z"
        );
        (alert.group, alert.lower, alert.upper) = (Default::default(), f64::NEG_INFINITY, 0.25);
        (alert.observed, alert.expected) = (0.5, 0.125);
        assert_eq!(
            alert_text(&alert),
            "revenue of sales is too high: 0.5, expected 0.125 (at most 0.25), since 2024-03-01T10:05:00Z"
        );
        (alert.state, alert.observed) = (AlertState::Resolved, 0.2);
        assert!(alert_text(&alert).starts_with("revenue of sales is back in range: 0.2, expected 0.125"));
    }
}
