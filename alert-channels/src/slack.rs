//! Alerts for people in Slack, and in what takes the messages of Slack's incoming webhooks.
//!
//! Limits and escapes: <https://docs.slack.dev/reference/block-kit/blocks> and
//! <https://docs.slack.dev/messaging/formatting-message-text>. A message that breaks a limit is refused as a whole, so every
//! text is cut to it.

use crate::{
    links::Links,
    request::Request,
    telling::{Event, Notice},
};
use serde_json::{Value, json};
use sluice_events::{
    Alert, Resolution, Severity, alert_text, alert_title, duration_text, number_text, part_text, score_meaning,
};

/// Of a header block.
const HEADER_MAX: usize = 150;
/// Of a section's text; and what a message's own text is cut to.
const TEXT_MAX: usize = 3000;
/// Of each field of a section.
const FIELD_MAX: usize = 2000;
/// Of a button's link.
const URL_MAX: usize = 3000;
/// Parts that are listed; the rest is on the alert's page.
const PARTS_MAX: usize = 5;

/// A message: a text for notifications, and blocks for the channel.
pub(crate) fn request(notice: &Notice, links: &Links) -> Request {
    let alert = &*notice.alert;
    let sentence = alert_text(alert);
    let header = format!("{} {}", sign(notice), heading(notice));
    let mut blocks = vec![
        json!({"type": "header", "text": {"type": "plain_text", "text": escaped(&header, HEADER_MAX), "emoji": false}}),
        section(&escaped(&sentence, TEXT_MAX)),
        json!({"type": "section", "fields": fields(notice)}),
    ];
    blocks.extend(parts(alert).map(|list| section(&list)));
    let buttons: Vec<Value> = [("Alert", "page", links.page(&alert.id)), ("Chart", "chart", links.chart(&alert.id))]
        .into_iter()
        .filter_map(|(text, action, url)| Some((text, action, url.filter(|url| url.len() <= URL_MAX)?)))
        .map(|(text, action, url)| {
            json!({"type": "button", "text": {"type": "plain_text", "text": text}, "url": url, "action_id": action})
        })
        .collect();
    if !buttons.is_empty() {
        blocks.push(json!({"type": "actions", "elements": buttons}));
    }
    let message = json!({"text": escaped(&format!("{} {sentence}", sign(notice)), TEXT_MAX), "blocks": blocks});
    Request { body: message.to_string().into_bytes(), headers: Vec::new() }
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

/// `verbatim`: what looks like a link, a channel or a person in a name of a product is not made one.
fn mrkdwn(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

fn sign(notice: &Notice) -> &'static str {
    match (notice.event, notice.severity) {
        (Event::Resolved, _) => "✅",
        (_, Severity::Critical) => "🔴",
        (_, Severity::Warning) => "🟠",
        (_, Severity::Info) => "🔵",
    }
}

fn heading(notice: &Notice) -> String {
    let severity = match notice.severity {
        Severity::Critical => "Critical",
        Severity::Warning => "Warning",
        Severity::Info => "Info",
    };
    let title = alert_title(&notice.alert);
    match notice.event {
        Event::Resolved => format!("Resolved: {title}"),
        Event::Raised => format!("Now {}: {title}", severity.to_lowercase()),
        Event::Firing if notice.alert.episodes > 1 => format!("{severity}, again: {title}"),
        Event::Firing => format!("{severity}: {title}"),
    }
}

/// Two columns; Slack takes ten at most.
fn fields(notice: &Notice) -> Vec<Value> {
    let alert = &*notice.alert;
    let band = match (alert.lower.is_finite(), alert.upper.is_finite()) {
        (true, true) => format!(" ({} to {})", number_text(alert.lower), number_text(alert.upper)),
        (true, false) => format!(" (at least {})", number_text(alert.lower)),
        (false, true) => format!(" (at most {})", number_text(alert.upper)),
        (false, false) => String::new(),
    };
    let over =
        if alert.horizon_millis > 0 { format!(" in {}", duration_text(alert.horizon_millis)) } else { String::new() };
    let mut fields = vec![
        ("Observed", format!("{}{over}", number_text(alert.observed))),
        ("Expected", format!("{}{band}", number_text(alert.expected))),
    ];
    match notice.event {
        Event::Resolved => fields.extend(alert.resolution.map(|resolution| ("Ended", ending(resolution).to_owned()))),
        Event::Firing | Event::Raised => {
            fields.push(("This unusual", score_meaning(alert)));
            fields.extend(
                alert.money_at_stake.clone().map(|money| ("At stake so far", format!("about {}", amount(&money)))),
            );
        }
    }
    if !alert.formula.is_empty() {
        fields.push(("Measured as", alert.formula.clone()));
    }
    let mut fields: Vec<Value> =
        fields.iter().map(|(name, value)| mrkdwn(&format!("*{name}*\n{}", escaped(value, FIELD_MAX - 40)))).collect();
    fields.extend(since(alert).map(|since| mrkdwn(&format!("*Since*\n{since}"))));
    fields
}

const fn ending(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::Recovered => "as expected again",
        Resolution::Corrected => "late events came: there was nothing",
        Resolution::Gone => "nothing is heard of it any more",
        Resolution::Unwatched => "it is not watched any more",
    }
}

fn amount(money: &str) -> String {
    money.parse::<f64>().map_or_else(|_| money.to_owned(), number_text)
}

/// In the time zone of whoever reads it; UTC where that cannot be shown.
fn since(alert: &Alert) -> Option<String> {
    let time = chrono::DateTime::from_timestamp_millis(alert.since.get())?;
    let (seconds, plain) = (time.timestamp(), time.format("%Y-%m-%d %H:%M UTC"));
    Some(format!("<!date^{seconds}^{{date_short_pretty}} {{time}}|{plain}>"))
}

/// Who makes it up, the largest share first.
fn parts(alert: &Alert) -> Option<String> {
    let lines = alert.parts.iter().take(PARTS_MAX).map(|part| {
        let numbers = format!("{}, expected {}", number_text(part.observed), number_text(part.expected));
        // Each line has its share of the limit, so that the list is never cut within a line.
        format!("• {}", escaped(&format!("{}: {numbers}", part_text(alert, part)), TEXT_MAX / PARTS_MAX - 40))
    });
    let mut lines: Vec<String> = lines.collect();
    if alert.parts.len() > PARTS_MAX {
        lines.push(format!("… and {} more", alert.parts.len() - PARTS_MAX));
    }
    (!lines.is_empty()).then(|| format!("*Made up of*\n{}", lines.join("\n")))
}

/// Without what Slack reads as its own marks, and cut to `max` characters, escapes counted, none cut through. Characters are
/// UTF-16 units here, which is never less than what Slack counts.
fn escaped(text: &str, max: usize) -> String {
    let escape = |c: char| match c {
        '&' => ("&amp;", 5),
        '<' => ("&lt;", 4),
        '>' => ("&gt;", 4),
        c => ("", c.len_utf16()),
    };
    let whole: usize = text.chars().map(|c| escape(c).1).sum();
    let room = if whole <= max { max } else { max - 1 };
    let (mut out, mut length) = (String::new(), 0);
    for c in text.chars() {
        let (mark, size) = escape(c);
        length += size;
        if length > room {
            break;
        }
        if mark.is_empty() { out.push(c) } else { out.push_str(mark) }
    }
    if whole > max {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::alert;
    use sluice_events::AlertState;
    use std::sync::Arc;

    fn message(alert: Alert, event: Event, severity: Severity) -> Value {
        let notice = Notice { event, alert: Arc::new(alert), severity, was: None };
        let links = Links::below("https://sluice.example.com").unwrap();
        serde_json::from_slice(&request(&notice, &links).body).unwrap()
    }

    /// Every text with the limit of its place.
    fn texts(message: &Value) -> Vec<(String, usize)> {
        let text = |value: &Value, max| (value["text"].as_str().unwrap().to_owned(), max);
        let mut all = vec![text(message, TEXT_MAX)];
        for block in message["blocks"].as_array().unwrap() {
            match block["type"].as_str().unwrap() {
                "header" => all.push(text(&block["text"], HEADER_MAX)),
                "section" => {
                    all.extend(block.get("text").map(|t| text(t, TEXT_MAX)));
                    let fields = block.get("fields").and_then(Value::as_array);
                    assert!(fields.is_none_or(|fields| (1..=10).contains(&fields.len())));
                    all.extend(fields.into_iter().flatten().map(|f| text(f, FIELD_MAX)));
                }
                "actions" => {
                    all.extend(block["elements"].as_array().unwrap().iter().map(|button| text(&button["text"], 75)));
                }
                other => panic!("{other} is no block of ours"),
            }
        }
        all
    }

    #[test]
    fn a_message_has_a_sign_the_sentence_numbers_parts_and_links() {
        let message = message(alert("a1"), Event::Firing, Severity::Critical);
        assert!(message["text"].as_str().unwrap().starts_with("🔴 revenue of sales (country FR"));
        let blocks = message["blocks"].as_array().unwrap();
        let kinds: Vec<&str> = blocks.iter().map(|b| b["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["header", "section", "section", "section", "actions"]);
        let header = "🔴 Critical: revenue of sales (country FR, device unknown) is too low";
        assert_eq!(blocks[0]["text"], json!({"type": "plain_text", "text": header, "emoji": false}));
        let fields: Vec<&str> =
            blocks[2]["fields"].as_array().unwrap().iter().map(|f| f["text"].as_str().unwrap()).collect();
        assert_eq!(
            fields,
            [
                "*Observed*\n0 in 2 minutes",
                "*Expected*\n1203.5 (at least 900)",
                "*This unusual*\nby chance about once in 100 years",
                "*At stake so far*\nabout 1203.5",
                "*Since*\n<!date^1709287500^{date_short_pretty} {time}|2024-03-01 10:05 UTC>",
            ]
        );
        assert_eq!(blocks[3]["text"]["text"], "*Made up of*\n• category apparel (62 %): 0, expected 746.17");
        assert_eq!(blocks[4]["elements"][0]["url"], "https://sluice.example.com/alerts/a1");
        assert_eq!(blocks[4]["elements"][1]["url"], "https://sluice.example.com/api/v1/alerts/a1/chart.svg");
    }

    #[test]
    fn an_end_says_how_it_ended_and_asks_for_nothing() {
        let over = Alert { state: AlertState::Resolved, resolution: Some(Resolution::Corrected), ..alert("a1") };
        let message = message(Alert { parts: Vec::new(), ..over }, Event::Resolved, Severity::Critical);
        let blocks = message["blocks"].as_array().unwrap();
        assert!(blocks[0]["text"]["text"].as_str().unwrap().starts_with("✅ Resolved: revenue of sales"));
        assert_eq!(blocks[2]["fields"][2]["text"], "*Ended*\nlate events came: there was nothing");
    }

    #[test]
    fn marks_of_slack_are_escaped_everywhere() {
        let mut odd = alert("a1");
        odd.group.insert("category".to_owned(), Some("<!channel> & <https://x|y>".to_owned()));
        odd.formula = "a < b".to_owned();
        odd.parts[0].group.insert("brand".to_owned(), Some("<b>".to_owned()));
        let message = message(odd, Event::Firing, Severity::Info);
        let texts = texts(&message);
        assert!(texts.iter().any(|(text, _)| text.contains("&lt;!channel&gt; &amp; &lt;https://x|y&gt;")));
        for (text, _) in &texts {
            let bare = text.replace("<!date^", "").replace("UTC>", "");
            assert!(!bare.contains(['<', '>']), "{text}");
            assert!(!bare.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "").contains('&'), "{text}");
        }
    }

    #[test]
    fn the_longest_names_stay_within_the_limits() {
        let mut long = alert("a1");
        for column in ["a", "b", "c"] {
            long.group.insert(column.to_owned(), Some("&🛒<".repeat(3000)));
        }
        long.formula = "<".repeat(9000);
        long.parts = vec![long.parts[0].clone(); 9];
        for part in &mut long.parts {
            part.group.insert("long".to_owned(), Some("&".repeat(9000)));
        }
        for (event, severity) in [(Event::Firing, Severity::Critical), (Event::Resolved, Severity::Info)] {
            let message = message(long.clone(), event, severity);
            for (text, max) in texts(&message) {
                let length = text.encode_utf16().count();
                assert!(length <= max, "{length} of {max}: {text}");
                assert!(!text.ends_with("&am…") && !text.ends_with("&l…"), "an escape is cut");
            }
        }
    }

    #[test]
    fn a_text_is_cut_between_escapes_and_only_when_it_must() {
        assert_eq!(escaped("a&b", 7), "a&amp;b");
        assert_eq!(escaped("a&b", 6), "a…");
        assert_eq!(escaped("abc", 3), "abc");
        assert_eq!(escaped("abcd", 3), "ab…");
    }
}
