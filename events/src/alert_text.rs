//! An alert in words.

use crate::{Alert, AlertPart, AlertState, Resolution, time_text};
use std::collections::BTreeMap;

/// Parts that are named in a sentence.
const PARTS_TOLD: usize = 2;
/// Shares of the deviation below this are not worth a word.
const SHARE_TOLD: f64 = 0.2;

/// The alert as a person says it: what, where, how far off, over what time, since when, and who makes it up.
///
/// `purchases of pulse (country FR) is too low: 0 in 2 minutes, expected 31.5 (at least 14), since 2024-03-01T10:05:00Z;
/// mostly category apparel (62 %)`
pub fn alert_text(alert: &Alert) -> String {
    let is_over = alert.state == AlertState::Resolved;
    let band = match (alert.lower.is_finite(), alert.upper.is_finite()) {
        (true, true) => format!(" ({} to {})", number_text(alert.lower), number_text(alert.upper)),
        (true, false) => format!(" (at least {})", number_text(alert.lower)),
        (false, true) => format!(" (at most {})", number_text(alert.upper)),
        (false, false) => String::new(),
    };
    let horizon = match alert.horizon_millis {
        0 => String::new(),
        millis => format!(" in {}", duration_text(millis)),
    };
    let mut text = format!(
        "{}: {}{horizon}, expected {}{band}, since {}",
        alert_title(alert),
        number_text(alert.observed),
        number_text(alert.expected),
        time_text(alert.since),
    );
    let parts = alert.parts.iter().filter(|part| part.share >= SHARE_TOLD).take(PARTS_TOLD);
    let parts: Vec<String> = parts.map(|part| part_text(alert, part)).collect();
    if !parts.is_empty() && !is_over {
        text.push_str("; mostly ");
        text.push_str(&parts.join(" and "));
    }
    if let Some(money) = alert.money_at_stake.as_deref().and_then(|m| m.parse::<f64>().ok()).filter(|_| !is_over) {
        text.push_str(&format!("; about {} at stake so far", number_text(money)));
    }
    text
}

/// What and where, and how it stands, without numbers: `purchases of pulse (country FR) is too low`.
pub fn alert_title(alert: &Alert) -> String {
    let is_over = alert.state == AlertState::Resolved;
    let direction = match alert.resolution {
        Some(Resolution::Corrected) if is_over => "in range after all, late events came",
        Some(Resolution::Gone) if is_over => "no longer heard of",
        Some(Resolution::Unwatched) if is_over => "no longer watched",
        _ if is_over => "back in range",
        _ if alert.observed < alert.expected => "too low",
        _ => "too high",
    };
    format!("{}{} is {direction}", alert.measure, place(alert))
}

/// A part of an alert's roll-up and its share: `category apparel (62 %)`.
pub fn part_text(alert: &Alert, part: &AlertPart) -> String {
    format!("{} ({:.0} %)", group_text(&beyond(&part.group, &alert.group)), part.share * 100.0)
}

/// What its score means: how often nothing would look like this.
pub fn score_meaning(alert: &Alert) -> String {
    let a_year = alert.false_alarms_per_year;
    if !a_year.is_finite() {
        return "how often this happens by chance is not known yet".to_owned();
    }
    if a_year <= 1e-6 {
        "by chance less than once in a million years".to_owned()
    } else if a_year < 0.5 {
        format!("by chance about once in {} years", number_text((1.0 / a_year).round()))
    } else {
        format!("by chance about {} times a year", number_text(a_year.round().max(1.0)))
    }
}

/// Where: the model, and the group when it is not all of it.
fn place(alert: &Alert) -> String {
    if alert.group.is_empty() {
        return format!(" of {}", alert.model);
    }
    format!(" of {} ({})", alert.model, group_text(&alert.group))
}

/// A group as people say it: `country FR, device unknown`.
pub fn group_text(group: &BTreeMap<String, Option<String>>) -> String {
    let values: Vec<String> =
        group.iter().map(|(name, value)| format!("{name} {}", value.as_deref().unwrap_or("unknown"))).collect();
    values.join(", ")
}

/// What a part's group says beyond the roll-up's.
pub fn beyond(
    part: &BTreeMap<String, Option<String>>,
    whole: &BTreeMap<String, Option<String>>,
) -> BTreeMap<String, Option<String>> {
    part.iter()
        .filter(|(name, _)| !whole.contains_key(*name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// `1 minute`, `90 seconds`, `4 hours`.
pub fn duration_text(millis: i64) -> String {
    let (count, unit) = [(86_400_000, "day"), (3_600_000, "hour"), (60_000, "minute"), (1_000, "second")]
        .into_iter()
        .find(|(length, _)| millis % length == 0)
        .map_or((millis, "millisecond"), |(length, unit)| (millis / length, unit));
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// Two decimal places at most; four for what is smaller than one.
pub fn number_text(value: f64) -> String {
    let places = if value == 0.0 || value.abs() >= 1.0 { 2 } else { 4 };
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AlertPart, EventTime, Severity};

    fn alert() -> Alert {
        Alert {
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
            score: 8.1,
            tail_probability: 1e-9,
            first_window: EventTime::new(1_709_287_500_000),
            last_window: EventTime::new(1_709_287_500_000),
            window_millis: 60_000,
            origin: Vec::new(),
            z_score: -8.1,
            threshold: 4.0,
            false_alarms_per_year: 0.01,
            formula: String::new(),
            since: EventTime::new(1_709_287_500_000),
            horizon_millis: 60_000,
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

    #[test]
    fn the_sentence_names_measure_group_numbers_and_time() {
        let mut alert = alert();
        assert_eq!(
            alert_text(&alert),
            "revenue of sales (country FR, device unknown) is too low: 0 in 1 minute, expected 1203.5 (900 to 1500.13), \
             since 2024-03-01T10:05:00Z"
        );
        assert_eq!(score_meaning(&alert), "by chance about once in 100 years");
        alert.group.remove("device");
        let part = |category: &str, share| AlertPart {
            group: [("country", "FR"), ("category", category)].map(|(k, v)| (k.to_owned(), Some(v.to_owned()))).into(),
            observed: 0.0,
            expected: 1.0,
            share,
        };
        alert.parts = vec![part("apparel", 0.62), part("toys", 0.1)];
        alert.money_at_stake = Some("1203.5000".to_owned());
        assert!(alert_text(&alert).ends_with("; mostly category apparel (62 %); about 1203.5 at stake so far"));
        (alert.group, alert.lower, alert.upper) = (Default::default(), f64::NEG_INFINITY, 0.25);
        (alert.observed, alert.expected, alert.horizon_millis) = (0.5, 0.125, 300_000);
        alert.money_at_stake = None;
        alert.parts.clear();
        assert_eq!(
            alert_text(&alert),
            "revenue of sales is too high: 0.5 in 5 minutes, expected 0.125 (at most 0.25), since 2024-03-01T10:05:00Z"
        );
        (alert.state, alert.observed) = (AlertState::Resolved, 0.2);
        assert!(alert_text(&alert).starts_with("revenue of sales is back in range: 0.2 in 5 minutes, expected 0.125"));
        alert.resolution = Some(Resolution::Corrected);
        assert!(alert_text(&alert).contains("is in range after all"));
    }
}
