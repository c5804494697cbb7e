//! The report of quality as one page that needs nothing else: to look at, to keep, to send.

use crate::{html::escaped, number_text::grouped};
use sluice_events::{EventTime, time_text};
use sluice_quality::{ExpectationReport, Figure, HourReport, Kind, QualityReport, Severity};
use std::fmt::Write;

const STYLE: &str = include_str!("quality_page.css");
const MILLIS_AN_HOUR: i64 = 3_600_000;
/// More bars than a phone has room for would be lines of dust.
const HOURS_SHOWN: usize = 48;

/// The page; `hours` is how far its history goes back. Every text in it is escaped.
pub fn quality_page(report: &QualityReport, hours: usize) -> String {
    let mut body = String::new();
    let failed = [Severity::Hard, Severity::Soft].map(|severity| report.failed(severity).count());
    let unknown = report.expectations.iter().filter(|e| e.latest.ok.is_none()).count();
    let all = report.expectations.len();
    let (state, headline) = match failed {
        _ if all == 0 => ("none", "Nothing has been checked yet".to_owned()),
        [0, 0] if unknown == 0 => ("good", format!("All {all} expectations are met")),
        [0, 0] => ("good", format!("{} of {all} expectations are met, the others wait for rows", all - unknown)),
        [0, soft] => ("warn", format!("{soft} of {all} expectations not met")),
        [hard, soft] => ("bad", format!("{} of {all} expectations not met, {hard} of them hard", hard + soft)),
    };
    let as_of = report.as_of.map_or(String::new(), |at| format!("<p>Checked last at {}</p>", time(at)));
    let _ = write!(
        body,
        "<header><h1>Data quality</h1>{as_of}</header><p class=\"verdict {state}\" role=\"status\">{headline}</p>"
    );
    if all == 0 {
        body.push_str(
            "<p class=\"empty\">Expectations are checked whenever rows are committed to the lake. They stand in the \
             settings, <code>[quality.expectations]</code>.</p>",
        );
    }
    let mut expectations: Vec<&ExpectationReport> = report.expectations.iter().collect();
    // What needs a person comes first.
    expectations.sort_by_key(|e| (e.latest.ok != Some(false), e.severity != Severity::Hard));
    body.push_str("<main>");
    let until = report.as_of.unwrap_or_default().div_euclid(MILLIS_AN_HOUR);
    expectations.iter().for_each(|expectation| card(&mut body, expectation, until, hours));
    body.push_str("</main>");
    let shown = hours.min(HOURS_SHOWN);
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\">\
         <title>sluice · data quality</title><link rel=\"icon\" href=\"data:,\"><style>{STYLE}</style></head>\
         <body>{body}<footer>Figures: the last commit of each partition. Bars: the last {shown} hours, in UTC. The same as \
         rows: table <code>silver.quality</code>.</footer></body></html>"
    )
}

fn card(out: &mut String, e: &ExpectationReport, until: i64, hours: usize) {
    let (state, word) = match (e.latest.ok, e.severity) {
        (None, _) => ("none", "not judged"),
        (Some(true), _) => ("good", "met"),
        (Some(false), Severity::Hard) => ("bad", "not met"),
        (Some(false), _) => ("warn", "not met"),
    };
    let wanted = e.at_least.map_or(String::new(), |at_least| format!(" · at least {}", percent(at_least)));
    let _ = write!(
        out,
        "<article class=\"{state}\"><div class=\"head\"><h2>{}</h2><span class=\"chip\">{word}</span></div>\
         <p class=\"figure\">{}</p><p class=\"detail\">{}</p><code class=\"rule\">{}</code>\
         <p class=\"detail\">{} · {} · {}{wanted}</p>",
        escaped(&e.name),
        figure(e.kind, &e.latest),
        detail(e),
        escaped(&e.rule),
        e.kind.as_str(),
        escaped(&e.table),
        e.severity.as_str(),
    );
    bars(out, e, until, hours);
    out.push_str("</article>");
}

/// The one number that matters.
fn figure(kind: Kind, figure: &Figure) -> String {
    match kind {
        Kind::Freshness => figure.age_seconds.map_or("–".to_owned(), age),
        Kind::Volume => format!("{} rows", grouped(figure.rows)),
        _ => figure.ratio().map_or("–".to_owned(), percent),
    }
}

fn detail(e: &ExpectationReport) -> String {
    let rows = grouped(e.latest.rows);
    match (e.kind, e.latest.passed) {
        (Kind::Freshness, _) => format!("age of the newest row at {}", time(e.checked_at)),
        (Kind::Volume, _) => format!("at {}", time(e.checked_at)),
        (_, Some(passed)) => {
            let broken = e.latest.rows.saturating_sub(passed);
            let kept = if e.severity == Severity::Hard { ", kept out of silver" } else { "" };
            format!("of {rows} rows; {} not{kept}", grouped(broken))
        }
        (_, None) => "what it refers to is not there".to_owned(),
    }
}

/// One bar an hour.
fn bars(out: &mut String, e: &ExpectationReport, until: i64, hours: usize) {
    let shown = hours.min(HOURS_SHOWN) as i64;
    out.push_str("<div class=\"bars\" role=\"img\" aria-label=\"Hour by hour\">");
    for hour in until - shown + 1..=until {
        let of = e.history.iter().find(|h| h.start.div_euclid(MILLIS_AN_HOUR) == hour);
        let (state, says) = match of {
            None => ("none", "no check".to_owned()),
            Some(hour) => bar(e, hour),
        };
        let start = time(hour * MILLIS_AN_HOUR);
        let _ = write!(out, "<i class=\"{state}\" title=\"{start}: {says}\"></i>");
    }
    out.push_str("</div>");
}

fn bar(e: &ExpectationReport, hour: &HourReport) -> (&'static str, String) {
    let met = hour.checks.saturating_sub(hour.failed);
    let state = match hour.figure.ok {
        None => "none",
        Some(true) if hour.failed == 0 => "good",
        Some(false) if e.severity == Severity::Hard => "bad",
        _ => "warn",
    };
    let measured = if e.kind.is_share() { format!("{}, ", figure(e.kind, &hour.figure)) } else { String::new() };
    let says = format!("{measured}{met} of {} checks met", hour.checks);
    (state, says)
}

fn time(millis: i64) -> String {
    // To the second: what is finer is no help to a reader.
    time_text(EventTime::new(millis.div_euclid(1000) * 1000)).replace('T', " ").replace('Z', " UTC")
}

/// Never rounds up to a whole that is not there: 99.9996 % is 99.999 %.
fn percent(share: f64) -> String {
    let text = format!("{:.3}", (share * 100_000.0).floor() / 1000.0);
    format!("{}\u{a0}%", text.trim_end_matches('0').trim_end_matches('.'))
}

fn age(seconds: f64) -> String {
    match seconds as u64 {
        0..60 => format!("{seconds:.1} s"),
        s @ 60..3_600 => format!("{} min {} s", s / 60, s % 60),
        s @ 3_600..86_400 => format!("{} h {} min", s / 3_600, s % 3_600 / 60),
        s => format!("{} d {} h", s / 86_400, s % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well_and_nothing_is_rounded_to_perfection() {
        assert_eq!(
            [1.0, 0.999_999, 0.995, 0.5, 0.0].map(percent),
            ["100\u{a0}%", "99.999\u{a0}%", "99.5\u{a0}%", "50\u{a0}%", "0\u{a0}%"]
        );
        assert_eq!([0.25, 61.0, 7_260.0, 90_000.0].map(age), ["0.2 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]);
    }
}
