//! What was learnt of customers, as one page that needs nothing else: a card for each model.

use crate::{LearnedInfo, html::escaped, number_text::grouped};
use serde_json::Value;
use std::fmt::Write;

const STYLE: &str = concat!(include_str!("quality_page.css"), include_str!("models_page.css"));

/// The page. Every text in it is escaped.
pub(crate) fn models_page(learned: &[LearnedInfo]) -> String {
    let mut body = String::from("<header><h1>Learnt models</h1></header>");
    if learned.is_empty() {
        body.push_str(
            "<p class=\"empty\">Nothing has been learnt yet. <code>sluice gold run</code> learns segments of customers from \
             their orders, and churn once there are orders of ten months.</p>",
        );
    }
    body.push_str("<main>");
    for info in learned {
        let (title, inner) = match info.card["model"].as_str() {
            Some("churn") => ("Churn in the next 90 days", churn(&info.card)),
            Some("segments") => ("Segments of customers", segments(&info.card)),
            _ => ("A model", format!("<code class=\"rule\">{}</code>", escaped(&info.card.to_string()))),
        };
        let _ = write!(
            body,
            "<article class=\"good\"><div class=\"head\"><h2>{title}</h2><span class=\"chip\">{}</span></div>{inner}\
             <p class=\"detail\">Table <code>gold.{}</code> · version <code>{}</code> · learnt at {}</p></article>",
            escaped(&info.source),
            escaped(&info.model),
            escaped(&info.version),
            escaped(&info.made_at),
        );
    }
    body.push_str("</main>");
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>sluice · learnt models</title><link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head>\
         <body>{body}<footer>The same as JSON: <a href=\"/api/v1/models\">/api/v1/models</a>; all versions: table \
         <code>gold.ml_models</code>. What the numbers mean: <a href=\"/api/v1/gold/ml_churn_scores?limit=1\">churn</a>, \
         <a href=\"/api/v1/gold/ml_customer_segments?limit=1\">segments</a>.</footer></body></html>"
    )
}

/// Entries of an object, in its order.
fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn words(name: &str) -> String {
    escaped(&name.replace('_', " "))
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or("–".to_owned(), |x| format!("{x:.digits$}"))
}

fn count(value: &Value) -> String {
    value.as_u64().map_or("–".to_owned(), grouped)
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or("–".to_owned(), |x| format!("{:.1} %", x * 100.0))
}

fn text(value: &Value) -> String {
    value.as_str().map_or("–".to_owned(), escaped)
}

fn churn(card: &Value) -> String {
    let chosen = card["chosen"].as_str().unwrap_or_default();
    let best = &card["candidates"][chosen];
    let mut out = format!(
        "<p class=\"figure\">AUC {}</p><p class=\"detail\">{}, judged on customers at {} and what they did in the 90 days \
         after, which nothing was learnt from. Data from {} to {}.</p>",
        number(&best["all"]["auc"], 3),
        words(chosen),
        text(&card["snapshots"]["test"]["cutoff"]),
        text(&card["data"]["first_day"]),
        text(&card["data"]["last_day"]),
    );
    out.push_str(
        "<table><thead><tr><th>On customers</th><th>Method</th><th>AUC</th><th>Brier</th><th>Lift at 10 %</th></tr></thead><tbody>",
    );
    for (which, label) in [("all", "all"), ("active", "still active")] {
        for (method, reached) in entries(&card["candidates"]) {
            let mark = if method == chosen { " (kept)" } else { "" };
            let _ = write!(
                out,
                "<tr><td>{label}</td><td>{}{mark}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                words(method),
                number(&reached[which]["auc"], 3),
                number(&reached[which]["brier"], 3),
                number(&reached[which]["lift_10"], 2),
            );
        }
    }
    out.push_str(
        "</tbody></table><table><thead><tr><th>Customers at</th><th>For</th><th>Customers</th><th>Churned after</th></tr></thead><tbody>",
    );
    for (name, snapshot) in entries(&card["snapshots"]) {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            text(&snapshot["cutoff"]),
            words(name),
            count(&snapshot["rows"]),
            percent(&snapshot["churn_share"]),
        );
    }
    let meaning = match chosen {
        "random_forest" => "Importance, adding up to 1",
        _ => "Log-odds of churn, for a deviation more of ln(1 + feature)",
    };
    let _ = write!(out, "</tbody></table><table><thead><tr><th>Feature</th><th>{meaning}</th></tr></thead><tbody>");
    for (feature, weight) in entries(&card["weights"]) {
        let _ = write!(out, "<tr><td>{}</td><td>{}</td></tr>", words(feature), number(weight, 3));
    }
    out.push_str("</tbody></table>");
    out
}

fn segments(card: &Value) -> String {
    let segments = card["segments"].as_array().map_or(&[][..], Vec::as_slice);
    let best = entries(&card["silhouettes"]).filter_map(|(_, value)| value.as_f64()).fold(f64::MIN, f64::max);
    let mut out = format!(
        "<p class=\"figure\">{} segments</p><p class=\"detail\">of {} customers; mean silhouette {best:.2}, the best of {} \
         numbers of segments.</p><table><thead><tr><th>Id</th><th>Segment</th><th>Customers</th><th>Days since an order</th>\
         <th>Orders</th><th>Revenue</th></tr></thead><tbody>",
        segments.len(),
        count(&card["customers"]),
        entries(&card["silhouettes"]).count(),
    );
    for segment in segments {
        let centre = &segment["centre"];
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            count(&segment["id"]),
            text(&segment["name"]),
            count(&segment["customers"]),
            number(&centre[0], 0),
            number(&centre[1], 1),
            number(&centre[2], 2),
        );
    }
    out.push_str("</tbody></table><p class=\"detail\">Days, orders and revenue are those of a segment's centre.</p>");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_card_is_told_and_escaped() {
        let card = json!({
            "model": "churn", "chosen": "random_forest",
            "candidates": {"random_forest": {"all": {"auc": 0.8387, "brier": 0.09, "lift_10": 1.132}, "active": null}},
            "snapshots": {"test": {"cutoff": "1998-04-02", "rows": 23502, "churn_share": 0.8595}},
            "data": {"first_day": "1997-01-01", "last_day": "<b>"}, "weights": {"recency_days": 0.25},
        });
        let info = LearnedInfo {
            model: "ml_churn_scores".to_owned(),
            source: "files".to_owned(),
            version: "7".to_owned(),
            made_at: "2024-03-01T00:00:00Z".to_owned(),
            card,
        };
        let page = models_page(&[info]);
        for told in
            ["AUC 0.839", "random forest (kept)", "23\u{202f}502", "86.0 %", "recency days", "&lt;b&gt;", "<td>–</td>"]
        {
            assert!(page.contains(told), "{told}: {page}");
        }
        assert!(!page.contains("<b>"));
        assert!(models_page(&[]).contains("Nothing has been learnt yet"));
    }
}
