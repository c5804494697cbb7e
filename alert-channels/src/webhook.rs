//! Alerts for a program: one JSON object by POST, signed. `alert-channels/README.md` says it for who receives it.

use crate::{
    Secret,
    links::Links,
    request::Request,
    telling::{Event, Notice},
};
use hmac::{Hmac, Mac};
use serde::Serialize;
use sha2::Sha256;
use sluice_events::{Alert, Severity, alert_text, alert_title, score_meaning};

/// Grows when a field changes its meaning or goes; a new field does not change it.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Body<'a> {
    version: u32,
    event: &'static str,
    delivery: &'a str,
    title: String,
    text: String,
    meaning: String,
    severity: Severity,
    severity_before: Option<Severity>,
    links: BodyLinks,
    alert: &'a Alert,
}

#[derive(Serialize)]
struct BodyLinks {
    page: Option<String>,
    chart: Option<String>,
}

/// Every attempt to tell a notice has the same body and delivery key; timestamp and signature are of the attempt.
pub(crate) fn request(notice: &Notice, links: &Links, secret: Option<&Secret>, now: i64) -> Request {
    let alert = &*notice.alert;
    let delivery = delivery(notice);
    let body = Body {
        version: VERSION,
        event: notice.event.name(),
        delivery: &delivery,
        title: alert_title(alert),
        text: alert_text(alert),
        meaning: score_meaning(alert),
        severity: notice.severity,
        severity_before: notice.was,
        links: BodyLinks { page: links.page(&alert.id), chart: links.chart(&alert.id) },
        alert,
    };
    let body = serde_json::to_vec(&body).expect("all keys are texts, and JSON writes infinite numbers as null");
    let timestamp = now.div_euclid(1000).to_string();
    let signature = secret.map(|secret| ("x-sluice-signature", signature(secret, &timestamp, &body)));
    let mut headers = vec![
        ("x-sluice-event", notice.event.name().to_owned()),
        ("x-sluice-delivery", delivery),
        ("x-sluice-timestamp", timestamp),
    ];
    headers.extend(signature);
    Request { body, headers }
}

/// The same for everything that says the same: alert, what happened, episode, and how severe. Visible ASCII.
fn delivery(notice: &Notice) -> String {
    let alert = &*notice.alert;
    let id: String = alert.id.bytes().map(visible).collect();
    match notice.event {
        Event::Firing | Event::Raised => format!("{id}:firing:{}:{}", alert.episodes, notice.severity.name()),
        Event::Resolved => format!("{id}:resolved:{}", alert.episodes),
    }
}

fn visible(byte: u8) -> String {
    if byte.is_ascii_graphic() && byte != b'%' { char::from(byte).to_string() } else { format!("%{byte:02X}") }
}

/// RFC 2104 over `<timestamp>.<body>`, so that neither can be exchanged without the other.
fn signature(secret: &Secret, timestamp: &str, body: &[u8]) -> String {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.reveal().as_bytes()).expect("a key of HMAC may have any length");
    for part in [timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::alert;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn notice(event: Event) -> Notice {
        Notice { event, alert: Arc::new(alert("a1")), severity: Severity::Warning, was: None }
    }

    fn body(request: &Request) -> Value {
        serde_json::from_slice(&request.body).unwrap()
    }

    #[test]
    fn the_body_has_the_words_the_links_and_every_field_of_the_alert() {
        let links = Links::below("https://sluice.example.com").unwrap();
        let request = request(&notice(Event::Firing), &links, None, 1_709_287_500_999);
        let body = body(&request);
        assert_eq!(body["version"], 1);
        assert_eq!((&body["event"], &body["severity"]), (&json!("firing"), &json!("warning")));
        assert_eq!(body["title"], "revenue of sales (country FR, device unknown) is too low");
        assert!(body["text"].as_str().unwrap().contains("mostly category apparel (62 %)"));
        assert_eq!(body["meaning"], "by chance about once in 100 years");
        assert_eq!(
            body["links"],
            json!({"page": "https://sluice.example.com/alerts/a1", "chart": "https://sluice.example.com/api/v1/alerts/a1/chart.svg"})
        );
        let fields = body["alert"].as_object().unwrap();
        let schema: Value = serde_json::from_str(include_str!("../../schemas/alert-v2.avsc")).unwrap();
        for field in schema["fields"].as_array().unwrap() {
            let name = field["name"].as_str().unwrap();
            assert!(fields.contains_key(name), "{name} is missing");
        }
        assert_eq!(fields["group"], json!({"country": "FR", "device": null}));
        assert_eq!((&fields["upper"], &fields["lower"]), (&Value::Null, &json!(900.0)), "no upper end");
        assert_eq!(request.headers[2], ("x-sluice-timestamp", "1709287500".to_owned()));
        assert_eq!(request.headers.len(), 3, "no secret, no signature");
    }

    #[test]
    fn attempts_at_the_same_notice_share_body_and_key_and_other_notices_have_others() {
        let links = Links::below("").unwrap();
        let of = |notice: &Notice, now| {
            let request = request(notice, &links, None, now);
            (request.headers[1].1.clone(), request.body)
        };
        let firing = notice(Event::Firing);
        assert_eq!(of(&firing, 1), of(&firing, 99_999));
        assert_eq!(of(&firing, 1).0, "a1:firing:1:warning");
        let raised = Notice { severity: Severity::Critical, was: Some(Severity::Warning), ..notice(Event::Raised) };
        assert_eq!(of(&raised, 1).0, "a1:firing:1:critical");
        let again = Alert { episodes: 2, ..alert("a1") };
        assert_eq!(of(&Notice { alert: Arc::new(again), ..firing }, 1).0, "a1:firing:2:warning");
        assert_eq!(of(&notice(Event::Resolved), 1).0, "a1:resolved:1");
        let odd = Notice { alert: Arc::new(alert("é\n%")), ..notice(Event::Resolved) };
        assert_eq!(of(&odd, 1).0, "%C3%A9%0A%25:resolved:1");
    }

    #[test]
    fn the_signature_is_hmac_sha256_of_timestamp_point_and_body() {
        // hmac.new(b"between us", b"1709287500.{}", hashlib.sha256).hexdigest() of Python.
        let expected = "80270cac67ccceeaada1f5a9c3ea1c88d857ba981ce6eec9b590280a0e35359b";
        assert_eq!(signature(&Secret::new("between us"), "1709287500", b"{}"), format!("sha256={expected}"));
    }
}
