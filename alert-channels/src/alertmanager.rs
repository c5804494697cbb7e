//! Alerts for Prometheus Alertmanager: `POST /api/v2/alerts`, as its `api/v2/openapi.yaml` has it.
//!
//! An Alertmanager knows an alert by its labels, and takes it as over at `endsAt`. What goes on is told again in time, with
//! an end three intervals ahead: two lost requests do no harm, and what nobody speaks for ends by itself. The labels of an
//! alert must stay the same while it lives; severity is the one that may change, and then what had the old one is ended.

use crate::{
    links::Links,
    request::Request,
    telling::{Event, Notice},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use sluice_events::{Alert, Severity, alert_text, alert_title, score_meaning};
use std::{collections::BTreeMap, time::Duration};

/// The name all of them have, in routes and inhibition rules.
const ALERT_NAME: &str = "SluiceAnomaly";
/// An alert that is not told again ends after this many intervals.
const INTERVALS_ALIVE: u32 = 3;
const RUNBOOK: &str = "1. Open the link of this alert, or /api/v1/alerts: what was observed and expected, since when, and \
    which parts make it up. 2. It names its partitions and offsets in bronze: the events behind it are one query away. \
    3. Known and accepted: acknowledge or snooze it there.";

/// `postableAlert` of the specification.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostableAlert {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<String>,
}

/// All of them in one request. `now` is in milliseconds.
pub(crate) fn request(notices: &[Notice], links: &Links, now: i64, resend_interval: Duration) -> Request {
    let alive = i64::try_from((resend_interval * INTERVALS_ALIVE).as_millis()).unwrap_or(i64::MAX);
    let mut alerts = Vec::new();
    for notice in notices {
        alerts.extend(notice.was.map(|was| postable(&notice.alert, was, links, now, now)));
        let ends = if notice.event == Event::Resolved { now } else { now.saturating_add(alive) };
        alerts.push(postable(&notice.alert, notice.severity, links, now, ends));
    }
    let body = serde_json::to_vec(&alerts).expect("all keys are texts");
    Request { body, headers: Vec::new() }
}

fn postable(alert: &Alert, severity: Severity, links: &Links, now: i64, ends: i64) -> PostableAlert {
    // A start after the end is refused: event time may be ahead of ours.
    let since = if alert.since.get() == 0 { alert.first_window } else { alert.since };
    let annotations = [
        ("summary", alert_title(alert)),
        ("description", alert_text(alert)),
        ("score_meaning", score_meaning(alert)),
        ("runbook", RUNBOOK.to_owned()),
    ];
    PostableAlert {
        labels: labels(alert, severity),
        annotations: annotations.into(),
        starts_at: moment(since.get().min(now)),
        ends_at: moment(ends),
        generator_url: links.page(&alert.id),
    }
}

fn labels(alert: &Alert, severity: Severity) -> BTreeMap<String, String> {
    // An empty label is the same as none to an Alertmanager: nothing could be routed by it.
    let known = |value: &str| if value.is_empty() { "unknown".to_owned() } else { value.to_owned() };
    let fingerprint = if alert.fingerprint.is_empty() { &alert.id } else { &alert.fingerprint };
    let mut labels: BTreeMap<String, String> = [
        ("alertname", ALERT_NAME),
        ("model", &alert.model),
        ("measure", &alert.measure),
        ("severity", severity.name()),
        ("detector", &alert.detector),
        ("fingerprint", fingerprint),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), known(value)))
    .collect();
    for (column, value) in &alert.group {
        labels.insert(format!("group_{}", label_name(column)), known(value.as_deref().unwrap_or_default()));
    }
    labels
}

/// `[a-zA-Z0-9_]*`: what follows a prefix that is a valid name.
fn label_name(column: &str) -> String {
    column.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

fn moment(millis: i64) -> String {
    let time: DateTime<Utc> = DateTime::from_timestamp_millis(millis).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::alert;
    use serde_json::{Value, json};
    use sluice_events::EventTime;
    use std::sync::Arc;

    /// 2024-03-01T10:10:00Z.
    const NOW: i64 = 1_709_287_800_000;

    fn sent(notice: Notice) -> Vec<Value> {
        let links = Links::below("https://sluice.example.com").unwrap();
        let request = request(&[notice], &links, NOW, Duration::from_secs(60));
        let alerts: Vec<Value> = serde_json::from_slice(&request.body).unwrap();
        alerts.iter().for_each(assert_is_postable);
        alerts
    }

    fn notice(event: Event, alert: Alert) -> Notice {
        let severity = alert.severity;
        Notice { event, alert: Arc::new(alert), severity, was: None }
    }

    /// What `postableAlert` of `api/v2/openapi.yaml` asks for, and what the Alertmanager checks beyond it.
    fn assert_is_postable(alert: &Value) {
        let alert = alert.as_object().unwrap();
        for key in alert.keys() {
            assert!(["labels", "annotations", "startsAt", "endsAt", "generatorURL"].contains(&key.as_str()), "{key}");
        }
        for set in ["labels", "annotations"] {
            for (name, value) in alert[set].as_object().unwrap() {
                let mut letters = name.chars();
                assert!(letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_'), "{name}");
                assert!(letters.all(|c| c.is_ascii_alphanumeric() || c == '_'), "{name}");
                assert!(value.as_str().is_some_and(|text| !text.is_empty()), "{name}");
            }
        }
        assert!(alert["labels"]["alertname"].is_string());
        let time = |key: &str| DateTime::parse_from_rfc3339(alert[key].as_str().unwrap()).unwrap();
        assert!(time("startsAt") <= time("endsAt"));
    }

    #[test]
    fn labels_say_which_series_it_is_and_annotations_what_is_wrong() {
        let alert = &sent(notice(Event::Firing, alert("a1")))[0];
        assert_eq!(
            alert["labels"],
            json!({
                "alertname": "SluiceAnomaly", "model": "sales", "measure": "revenue", "severity": "warning",
                "detector": "rate", "fingerprint": "f1", "group_country": "FR", "group_device": "unknown",
            })
        );
        let annotations = &alert["annotations"];
        assert_eq!(annotations["summary"], "revenue of sales (country FR, device unknown) is too low");
        assert!(annotations["description"].as_str().unwrap().contains("expected 1203.5"));
        assert_eq!(annotations["score_meaning"], "by chance about once in 100 years");
        assert!(annotations["runbook"].as_str().unwrap().starts_with("1. "));
        assert_eq!(
            (&alert["startsAt"], &alert["endsAt"]),
            (&json!("2024-03-01T10:05:00.000Z"), &json!("2024-03-01T10:13:00.000Z"))
        );
        assert_eq!(alert["generatorURL"], "https://sluice.example.com/alerts/a1");
    }

    #[test]
    fn an_end_is_now() {
        assert_eq!(sent(notice(Event::Resolved, alert("a1")))[0]["endsAt"], "2024-03-01T10:10:00.000Z");
    }

    #[test]
    fn a_new_severity_ends_what_had_the_old_one() {
        let raised =
            Notice { severity: Severity::Critical, was: Some(Severity::Warning), ..notice(Event::Raised, alert("a1")) };
        let alerts = sent(raised);
        let said: Vec<(&Value, &Value)> = alerts.iter().map(|a| (&a["labels"]["severity"], &a["endsAt"])).collect();
        let (ended, goes_on) = (json!("2024-03-01T10:10:00.000Z"), json!("2024-03-01T10:13:00.000Z"));
        assert_eq!(said, [(&json!("warning"), &ended), (&json!("critical"), &goes_on)]);
    }

    #[test]
    fn names_are_made_valid_and_a_time_ahead_of_ours_is_now() {
        let mut odd = alert("a1");
        odd.group = [("pays-de é".to_owned(), Some(String::new()))].into();
        odd.since = EventTime::new(NOW + 86_400_000);
        (odd.model, odd.fingerprint) = (String::new(), String::new());
        let alert = &sent(notice(Event::Resolved, odd))[0];
        assert_eq!(alert["labels"]["group_pays_de__"], "unknown");
        assert_eq!((&alert["labels"]["model"], &alert["labels"]["fingerprint"]), (&json!("unknown"), &json!("a1")));
        assert_eq!(alert["startsAt"], "2024-03-01T10:10:00.000Z");
        let old = Alert { since: EventTime::default(), ..self::alert("a1") };
        assert_eq!(sent(notice(Event::Firing, old))[0]["startsAt"], "2024-03-01T10:06:00.000Z");
    }
}
