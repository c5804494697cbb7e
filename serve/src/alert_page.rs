//! The pages of alerts: all of them, and one with all that helps to understand it.
//!
//! Made here and not in the browser, so that what a link in a message leads to is there at once, and readable without a script.

use crate::{
    ExampleEvent,
    alert_advice::{evidence_sql, meaning, next_steps},
    alert_story::AlertStory,
    formula::Formula,
    html::{escaped, path_segment},
    number_text::{amount, clock_text, day_text, digits, length_text, moment_text},
};
use sluice_events::{
    Alert, AlertPart, AlertState, EventTime, Resolution, Severity, alert_text, beyond, group_text, time_text,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// Alerts that are over, on the page of all.
const OVER_MAX: usize = 50;
/// Alerts that one explains, under it on the page of all.
const CHILDREN_MAX: usize = 20;

/// What all pages of alerts have around them.
fn page(title: &str, main: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>{} · sluice</title><link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/assets/style.css\">\
         <link rel=\"stylesheet\" href=\"/assets/alerts.css\"><script src=\"/assets/alerts.js\" defer></script></head><body>\
         <a class=\"skip\" href=\"#main\">Skip to the alerts</a>\
         <header><a class=\"brand name\" href=\"/\">sluice</a><nav aria-label=\"More\"><a href=\"/\">Dashboard</a>\
         <a href=\"/alerts\">Alerts</a><a href=\"/quality\">Quality</a><a href=\"/models\">Models</a><a href=\"/docs/\">API</a></nav></header>\
         <p id=\"banner\" class=\"banner\" role=\"alert\" hidden></p>\
         <p id=\"announcer\" class=\"visually-hidden\" aria-live=\"polite\"></p>\
         <main id=\"main\">{main}</main>\
         <noscript><p class=\"banner\">The buttons need JavaScript. Without it: POST /api/v1/alerts/&lt;id&gt;/ack</p></noscript>\
         </body></html>",
        escaped(title)
    )
}

/// A page that says why there is none.
pub(crate) fn no_page(title: &str, hint: &str) -> String {
    page(
        title,
        &format!(
            "<h1>{}</h1><p class=\"empty\">{}</p><p><a href=\"/alerts\">All alerts</a></p>",
            escaped(title),
            escaped(hint)
        ),
    )
}

/// The page of all alerts. `open` fire or are acknowledged; `others` are over or explained by another one.
pub(crate) fn alerts_page(open: &[Alert], others: &[Alert], now: EventTime) -> String {
    let all: BTreeSet<&str> = open.iter().chain(others).map(|alert| alert.id.as_str()).collect();
    let mut children: BTreeMap<&str, Vec<&Alert>> = BTreeMap::new();
    let mut tops = Vec::new();
    for alert in open.iter().chain(others) {
        match alert.parent.as_deref().filter(|parent| all.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(alert),
            None => tops.push(alert),
        }
    }
    let of = |keep: &dyn Fn(&Alert) -> bool| -> Vec<&Alert> {
        let mut kept: Vec<&Alert> = tops.iter().copied().filter(|alert| keep(alert)).collect();
        // What came first is the newest; of these the worst first.
        kept.sort_by_key(|alert| std::cmp::Reverse(alert.severity));
        kept
    };
    let firing = of(&|alert| alert.state == AlertState::Firing && !is_snoozed(alert, now));
    let seen = of(&|alert| {
        alert.state == AlertState::Acknowledged || (alert.state == AlertState::Firing && is_snoozed(alert, now))
    });
    let mut over: Vec<&Alert> = tops.iter().copied().filter(|a| a.state == AlertState::Resolved).collect();
    over.sort_by_key(|alert| std::cmp::Reverse(alert.last_window));
    let more = over.len() > OVER_MAX;
    over.truncate(OVER_MAX);
    let (state, headline) = match (firing.len(), seen.len()) {
        (0, 0) => ("good", "Nothing is off".to_owned()),
        (0, seen) => ("none", format!("Nothing new; {seen} acknowledged or snoozed")),
        (n, _) => {
            let critical = firing.iter().filter(|alert| alert.severity == Severity::Critical).count();
            let state = if critical > 0 { "bad" } else { "warn" };
            let critical = if critical > 0 { format!(", {critical} critical") } else { String::new() };
            (state, format!("{n} firing{critical}"))
        }
    };
    let mut main =
        format!("<h1 tabindex=\"-1\">Alerts</h1><p class=\"verdict {state}\" role=\"status\">{headline}</p>");
    if tops.is_empty() {
        main.push_str("<p class=\"empty\">No alert so far. Detectors warm up over the first windows.</p>");
    }
    for (title, alerts) in [("Firing", firing), ("Acknowledged or snoozed", seen), ("Over", over)] {
        if alerts.is_empty() {
            continue;
        }
        let _ = write!(main, "<section class=\"card\"><h2>{title}</h2><ul class=\"alerts\">");
        for alert in alerts {
            item(&mut main, alert, children.get(alert.id.as_str()).map_or(&[], Vec::as_slice), now);
        }
        main.push_str("</ul></section>");
    }
    if more {
        main.push_str("<p class=\"note\">Older ones: <a href=\"/api/v1/alerts?state=resolved\">/api/v1/alerts</a></p>");
    }
    main.push_str("<p class=\"note\">Times are event times, in UTC.</p>");
    page("Alerts", &main)
}

fn item(out: &mut String, alert: &Alert, children: &[&Alert], now: EventTime) {
    let (headline, rest) = sentence(alert);
    let over = if is_over(alert) { " class=\"over\"" } else { "" };
    let _ = write!(
        out,
        "<li{over}><div class=\"line\">{}{}<a class=\"headline\" href=\"{}\">{}</a></div>\
         <p class=\"rest\">{}</p><div class=\"line\"><span class=\"note\">{}</span>",
        badge(alert.severity),
        // That it fires stands above all of them.
        if alert.state == AlertState::Firing && !is_snoozed(alert, now) { String::new() } else { state(alert, now) },
        href(&alert.id),
        escaped(&headline),
        escaped(&rest),
        when(alert),
    );
    buttons(out, alert, now, &[("1h", "1 h")]);
    out.push_str("</div>");
    if !children.is_empty() {
        let noun = if children.len() == 1 { "part" } else { "parts" };
        let _ = write!(
            out,
            "<details id=\"of-{}\"><summary>{} {noun} told with it</summary><ul class=\"children\">",
            escaped(&alert.id),
            children.len()
        );
        for child in children.iter().take(CHILDREN_MAX) {
            child_item(out, child);
        }
        if children.len() > CHILDREN_MAX {
            let _ = write!(out, "<li><a href=\"{}\">All of them</a></li>", href(&alert.id));
        }
        out.push_str("</ul></details>");
    }
    out.push_str("</li>");
}

fn child_item(out: &mut String, child: &Alert) {
    let (headline, rest) = sentence(child);
    let _ = write!(
        out,
        "<li>{}<a href=\"{}\">{}</a> <span class=\"note\">{}</span></li>",
        badge(child.severity),
        href(&child.id),
        escaped(&headline),
        escaped(&rest)
    );
}

/// The page of one alert, around its picture, which is made elsewhere.
pub(crate) fn alert_page(story: &AlertStory, chart: &str, now: EventTime) -> String {
    let alert = &story.alert;
    let (headline, rest) = sentence(alert);
    let mut main = String::from("<p class=\"way\"><a href=\"/alerts\">← All alerts</a></p>");
    let _ = write!(
        main,
        "<section class=\"card lead {}\"><div class=\"line\">{}{}</div><h1 tabindex=\"-1\">{}</h1><p class=\"rest\">{}</p>",
        alert.severity.name(),
        badge(alert.severity),
        state(alert, now),
        escaped(&headline),
        escaped(&rest),
    );
    if let Some(parent) = &story.parent {
        let _ = write!(
            main,
            "<p class=\"part-of\">Part of <a href=\"{}\">{}</a></p>",
            href(&parent.id),
            escaped(&sentence(parent).0)
        );
    }
    main.push_str("<div class=\"line\">");
    if alert.state == AlertState::Firing {
        main.push_str(
            "<input id=\"by\" autocomplete=\"name\" maxlength=\"100\" placeholder=\"your name (optional)\" \
             aria-label=\"Your name, optional: who acknowledges\">",
        );
    }
    buttons(&mut main, alert, now, &[("1h", "1 h"), ("8h", "8 h"), ("1day", "1 day")]);
    main.push_str("</div></section>");
    facts(&mut main, alert);
    let _ = write!(main, "<div class=\"look\"><section class=\"card\"><h2>How it went</h2>{chart}</section>");
    main.push_str("<section class=\"card\"><h2>What to look at next</h2><ol class=\"steps\">");
    for step in next_steps(alert) {
        let _ = write!(main, "<li>{}</li>", escaped(&step));
    }
    main.push_str("</ol></section></div>");
    parts(&mut main, alert);
    let (children, more) = &story.children;
    if !children.is_empty() {
        let more = if *more { " and more" } else { "" };
        let noun = if children.len() == 1 { "alert" } else { "alerts" };
        let _ = write!(
            main,
            "<section class=\"card\"><details id=\"children\"><summary>{} {noun}{more} explained by it</summary><ul class=\"children\">",
            children.len()
        );
        children.iter().for_each(|child| child_item(&mut main, child));
        main.push_str("</ul></details></section>");
    }
    events(&mut main, story);
    episodes(&mut main, story);
    details(&mut main, alert);
    page(&headline, &main)
}

/// The numbers that matter.
fn facts(out: &mut String, alert: &Alert) {
    let step = Formula::of(alert).funnel_step();
    let value = |value: f64| figure(value, step.is_some());
    let over = match alert.horizon_millis {
        0 => String::new(),
        millis => format!("in {}", length_text(millis)),
    };
    let band = match (alert.lower.is_finite(), alert.upper.is_finite()) {
        (true, true) => format!("usually {} to {}", value(alert.lower), value(alert.upper)),
        (true, false) => format!("usually at least {}", value(alert.lower)),
        (false, true) => format!("usually at most {}", value(alert.upper)),
        (false, false) => String::new(),
    };
    let mut tiles = vec![
        ("Seen", value(alert.observed), over),
        ("Expected", value(alert.expected), band),
        (
            "Since",
            clock_text(alert.since),
            format!("{}, UTC · {}, {}", day_text(alert.since), length_of(alert), ended(alert)),
        ),
    ];
    if let Some(meaning) = meaning(alert) {
        let threshold = format!("score, fires from {}: {meaning}", digits(alert.threshold, 3));
        tiles.push(("How unusual", digits(alert.score, 3), threshold));
    }
    if let Some(money) = alert.money_at_stake.as_deref().and_then(|money| money.parse().ok()) {
        tiles.push(("At stake", format!("≈ {}", amount(money)), "so far, in the shop's currency".to_owned()));
    }
    if let Some((from, to)) = step {
        tiles.push(("Funnel step", format!("{} → {}", from.name(), to.name()), alert.formula.clone()));
    }
    out.push_str("<section class=\"tiles facts\" aria-label=\"Numbers\">");
    for (name, big, note) in tiles {
        let _ = write!(
            out,
            "<article class=\"tile\"><h2>{name}</h2><p class=\"big\">{}</p><p class=\"note\">{}</p></article>",
            escaped(&big),
            escaped(&note)
        );
    }
    out.push_str("</section>");
}

/// Who makes up the deviation, with a bar for each.
fn parts(out: &mut String, alert: &Alert) {
    if alert.parts.is_empty() {
        return;
    }
    let is_share = Formula::of(alert).funnel_step().is_some();
    out.push_str(
        "<section class=\"card\"><h2>Who makes it up</h2><table class=\"parts\"><thead><tr><th scope=\"col\">Part</th>\
         <th scope=\"col\">Seen</th><th scope=\"col\">Expected</th><th scope=\"col\">Share of it</th></tr></thead><tbody>",
    );
    for AlertPart { group, observed, expected, share } in &alert.parts {
        let width = if share.is_finite() { (share * 100.0).clamp(0.0, 100.0) } else { 0.0 };
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"share\"><span>{}\u{a0}%</span>\
             <i style=\"width:{width:.0}%\" aria-hidden=\"true\"></i></td></tr>",
            escaped(&group_text(&beyond(group, &alert.group))),
            figure(*observed, is_share),
            figure(*expected, is_share),
            digits((share * 100.0).round(), 4),
        );
    }
    out.push_str("</tbody></table></section>");
}

fn events(out: &mut String, story: &AlertStory) {
    let sql = evidence_sql(&story.alert);
    if story.events.is_empty() && story.events_note.is_none() && sql.is_none() {
        return;
    }
    out.push_str("<section class=\"card\"><h2>Events behind it</h2>");
    if let Some(note) = story.events_note {
        let _ = write!(out, "<p class=\"note\">{}</p>", escaped(note));
    }
    if !story.events.is_empty() {
        out.push_str(
            "<div class=\"wide-table\" tabindex=\"0\" role=\"region\" aria-label=\"Example events\"><table><thead><tr>\
             <th scope=\"col\">Time</th><th scope=\"col\">Event</th><th scope=\"col\">Customer</th><th scope=\"col\">Order</th>\
             <th scope=\"col\">Product</th><th scope=\"col\">Partition, offset</th><th scope=\"col\">Id</th></tr></thead><tbody>",
        );
        story.events.iter().for_each(|event| event_row(out, event));
        out.push_str("</tbody></table></div>");
    }
    if let Some(sql) = sql {
        let _ = write!(
            out,
            "<details id=\"sql\"><summary>All of them, by offset</summary><p class=\"note\">For <code>sluice query</code>:</p>\
             <pre tabindex=\"0\">{}</pre></details>",
            escaped(&sql)
        );
    }
    out.push_str("</section>");
}

fn event_row(out: &mut String, event: &ExampleEvent) {
    let or_none = |text: &Option<String>| text.as_deref().map_or("–".to_owned(), escaped);
    let _ = write!(
        out,
        "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}, {}</td><td>{}</td></tr>",
        time(event.event_time),
        escaped(&event.event_type),
        or_none(&event.customer_id),
        or_none(&event.order_id),
        or_none(&event.product_id),
        event.partition,
        event.offset,
        escaped(&event.event_id),
    );
}

/// What the series did before.
fn episodes(out: &mut String, story: &AlertStory) {
    out.push_str("<section class=\"card\"><h2>Earlier and later, the same series</h2>");
    if story.episodes.is_empty() {
        out.push_str("<p class=\"note\">No other episode in the last 90 days.</p></section>");
        return;
    }
    let is_share = Formula::of(&story.alert).funnel_step().is_some();
    out.push_str(
        "<table class=\"episodes\"><thead><tr><th scope=\"col\">Since</th><th scope=\"col\">Lasted</th><th scope=\"col\">Seen</th>\
         <th scope=\"col\">Expected</th><th scope=\"col\">How it ended</th></tr></thead><tbody>",
    );
    for other in &story.episodes {
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><a href=\"{}\">{}</a></th><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            href(&other.id),
            time(other.since),
            length_of(other),
            figure(other.observed, is_share),
            figure(other.expected, is_share),
            ended(other),
        );
    }
    out.push_str("</tbody></table></section>");
}

/// What a person rarely needs.
fn details(out: &mut String, alert: &Alert) {
    let mut rows = vec![
        ("Model", alert.model.clone()),
        ("Measure", alert.measure.clone()),
        ("Formula", alert.formula.clone()),
        ("Group", group_text(&alert.group)),
        ("Detector", alert.detector.clone()),
        ("Standard deviations", digits(alert.z_score, 3)),
        ("First window off", moment_text(alert.first_window)),
        ("Last window looked at", moment_text(alert.last_window)),
        ("Window", length_text(alert.window_millis)),
    ];
    if alert.episodes > 1 {
        rows.push(("Came back", format!("{} times", alert.episodes - 1)));
    }
    for span in &alert.origin {
        rows.push(("Offsets", format!("partition {}: {} to {}", span.partition, span.from, span.upto)));
    }
    rows.push(("Id", alert.id.clone()));
    rows.push(("Series", alert.fingerprint.clone()));
    out.push_str("<section class=\"card\"><details id=\"details\"><summary>Details</summary><dl class=\"ledger\">");
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        let _ = write!(out, "<div><dt>{name}</dt><dd>{}</dd></div>", escaped(&value));
    }
    let _ = write!(
        out,
        "</dl><p class=\"note\">The same as <a href=\"/api/v1/alerts/{}\">JSON</a></p></details></section>",
        path_segment(&alert.id)
    );
}

/// What is off, and the numbers to it.
fn sentence(alert: &Alert) -> (String, String) {
    let text = alert_text(alert);
    // The time stands beside it, in a form that is easier to read.
    let text = text.replace(&format!(", since {}", time_text(alert.since)), "");
    match text.split_once(": ") {
        Some((headline, rest)) => (headline.to_owned(), rest.to_owned()),
        None => (text, String::new()),
    }
}

fn badge(severity: Severity) -> String {
    let name = severity.name();
    let sign = match severity {
        Severity::Info => "i",
        Severity::Warning => "▲",
        Severity::Critical => "●",
    };
    format!("<span class=\"badge\" data-severity=\"{name}\"><span aria-hidden=\"true\">{sign}</span>{name}</span>")
}

fn state(alert: &Alert, now: EventTime) -> String {
    let name = alert.state.name();
    let mut text = format!("<span class=\"state\" data-state=\"{name}\">{name}");
    if alert.state == AlertState::Acknowledged {
        if let Some(by) = &alert.acknowledged_by {
            let _ = write!(text, " by {}", escaped(by));
        }
        if let Some(at) = alert.acknowledged_at {
            let _ = write!(text, ", {}", time(at));
        }
    }
    if let Some(until) = alert.snoozed_until.filter(|until| *until > now) {
        let _ = write!(text, " · snoozed until {}", time(until));
    }
    text + "</span>"
}

fn is_snoozed(alert: &Alert, now: EventTime) -> bool {
    alert.snoozed_until.is_some_and(|until| until > now)
}

fn is_over(alert: &Alert) -> bool {
    matches!(alert.state, AlertState::Resolved | AlertState::Suppressed)
}

fn end_of(alert: &Alert) -> i64 {
    alert.last_window.get().saturating_add(alert.window_millis)
}

fn length_of(alert: &Alert) -> String {
    length_text(end_of(alert).saturating_sub(alert.since.get()))
}

fn when(alert: &Alert) -> String {
    format!("since {} · {}, {}", time(alert.since), length_of(alert), ended(alert))
}

fn ended(alert: &Alert) -> &'static str {
    match (alert.state, alert.resolution) {
        (AlertState::Firing | AlertState::Acknowledged, _) => "goes on",
        (AlertState::Suppressed, _) => "told with another",
        (AlertState::Resolved, Some(Resolution::Corrected)) => "corrected by late events",
        (AlertState::Resolved, Some(Resolution::Gone)) => "not heard of any more",
        (AlertState::Resolved, Some(Resolution::Unwatched)) => "not watched any more",
        (AlertState::Resolved, _) => "recovered",
    }
}

fn buttons(out: &mut String, alert: &Alert, now: EventTime, lengths: &[(&str, &str)]) {
    if is_over(alert) && alert.snoozed_until.is_none() {
        return;
    }
    let path = format!("/api/v1/alerts/{}", path_segment(&alert.id));
    let what = escaped(&sentence(alert).0);
    out.push_str("<span class=\"buttons\">");
    let mut button = |method: &str, path: &str, text: &str, says: &str| {
        let _ = write!(
            out,
            "<button type=\"button\" data-method=\"{method}\" data-path=\"{path}\" data-says=\"{says}\" \
             aria-label=\"{text}: {what}\">{text}</button>"
        );
    };
    if alert.state == AlertState::Firing {
        button("POST", &format!("{path}/ack"), "Acknowledge", "Acknowledged");
    }
    if is_snoozed(alert, now) {
        button("DELETE", &format!("{path}/snooze"), "End snooze", "The snooze is over");
    } else if !is_over(alert) {
        for (length, text) in lengths {
            button("POST", &format!("{path}/snooze?for={length}"), &format!("Snooze {text}"), "Snoozed");
        }
    }
    out.push_str("</span>");
}

fn href(id: &str) -> String {
    format!("/alerts/{}", path_segment(id))
}

fn time(time: EventTime) -> String {
    format!("<time datetime=\"{}\">{}</time>", time_text(time), moment_text(time))
}

fn figure(value: f64, is_share: bool) -> String {
    if is_share && value.is_finite() { format!("{}\u{a0}%", digits(value * 100.0, 3)) } else { digits(value, 4) }
}
