//! What to look at when an alert fires.

use crate::formula::{Formula, Step};
use sluice_events::{Alert, AlertState, EventTime, Resolution, beyond, group_text, score_meaning, time_text};

/// A part with this share of a deviation makes it up.
const MOST: f64 = 0.6;
/// Parts that all have less than this share it evenly.
const FEW: f64 = 0.3;

/// What its score means: how often nothing would look like this. None where that was not stored.
pub(crate) fn meaning(alert: &Alert) -> Option<String> {
    // Alerts stored by older versions have neither threshold nor false alarms.
    (alert.threshold > 0.0).then(|| score_meaning(alert))
}

/// What to look at next, the likeliest first. Sentences for people.
pub(crate) fn next_steps(alert: &Alert) -> Vec<String> {
    let mut steps = Vec::new();
    if alert.state == AlertState::Resolved {
        steps.push(
            match alert.resolution {
                Some(Resolution::Corrected) => {
                    "Late events brought the numbers back: there was nothing. If that happens often, allow more lateness."
                }
                Some(Resolution::Gone) => "The series is silent. Look whether it was meant to end.",
                Some(Resolution::Unwatched) => "Nobody watches this any more: the model or its detect line was taken away.",
                _ => "It is over. Note what it was, for the next time.",
            }
            .to_owned(),
        );
        return steps;
    }
    if let Some(parent) = &alert.parent {
        steps.push(format!("It is part of a larger one. Look at that one first: alert {parent}."));
    }
    where_it_is(alert, &mut steps);
    what_it_is(alert, &mut steps);
    steps.push(
        match is_low(alert) {
            true => {
                "Rule out the measurement: is Consumer lag near 0 on the dashboard, and does Quality show fresh rows?"
            }
            false => "Rule out the measurement: does Quality show repeated ids, and were events replayed or late?",
        }
        .to_owned(),
    );
    steps
}

fn is_low(alert: &Alert) -> bool {
    alert.observed < alert.expected
}

/// One part, or all of them.
fn where_it_is(alert: &Alert, steps: &mut Vec<String>) {
    let Some(first) = alert.parts.first().filter(|part| part.share.is_finite()) else { return };
    let name = group_text(&beyond(&first.group, &alert.group));
    let share = first.share * 100.0;
    if first.share >= MOST {
        steps.push(format!("{} makes up {share:.0} % of it: look at what is particular to it.", capital(&name)));
    } else if first.share < FEW && alert.parts.len() > 2 {
        steps
            .push("It is spread over all parts: look for what they share, such as a release or a provider.".to_owned());
    } else {
        steps.push(format!("{} has the largest share, {share:.0} %: compare it with the other parts.", capital(&name)));
    }
}

fn what_it_is(alert: &Alert, steps: &mut Vec<String>) {
    let formula = Formula::of(alert);
    let low = is_low(alert);
    let says = |text: &str| text.to_owned();
    if let Some((from, to)) = formula.funnel_step() {
        let (from, to) = (from.name(), to);
        steps.push(match (to, low || to == Step::Purchase) {
            (Step::Purchase, _) if from == "checkout" => says(
                "Shoppers begin to check out and do not finish: look at payment providers and errors of the checkout.",
            ),
            (Step::Purchase, _) => {
                says("Carts do not become orders: look at the checkout, payment, delivery costs and stock.")
            }
            (Step::Checkout, true) => {
                says("Carts are filled and left there: look at the cart page, delivery costs, vouchers.")
            }
            (_, true) => {
                format!("Fewer go on after a {from}: look at product pages, prices, stock and the last release.")
            }
            (_, false) => format!("More than usual go on after a {from}: look for a wrong price, a voucher, or bots."),
        });
        return;
    }
    let names = |what: &[&str]| formula.numerator.iter().any(|column| what.contains(&column.as_str()));
    if formula.is_quotient() && names(&["revenue", "amount", "quantity"]) {
        steps.push(match low {
            true => says(
                "Each order is worth less: look for a wrong price or discount, and the cheapest products sold now.",
            ),
            false => says("Each order is worth more: look for a wrong price, bulk orders, or fraud."),
        });
    } else if names(&["purchases", "orders", "revenue", "items"]) {
        steps.push(match low {
            true => says("Sales are missing: place an order yourself, then look at payment and stock."),
            false => {
                says("Sales are more than usual: a campaign, a wrong price, or fraud? Look at the example events.")
            }
        });
    } else if names(&["views", "clicks", "events", "sessions"]) {
        steps.push(match low {
            true => {
                says("Visits are missing: open the shop from there; look at the network, the tracking and campaigns.")
            }
            false => {
                says("Visits are more than usual: bots or a campaign? See whether few customers make up the events.")
            }
        });
    } else if names(&["refunds", "abandons", "abandoned"]) && !low {
        steps.push(says("Customers turn away: look at what they were about to buy, and at the checkout."));
    }
}

/// The events of its windows in the lake, as SQL for `sluice query`. None without offsets.
pub(crate) fn evidence_sql(alert: &Alert) -> Option<String> {
    let spans: Vec<String> = alert
        .origin
        .iter()
        .filter(|span| span.from < span.upto)
        .map(|s| format!("(_partition = {} AND _offset >= {} AND _offset < {})", s.partition, s.from, s.upto))
        .collect();
    if spans.is_empty() {
        return None;
    }
    let (start, end) = (alert.since, EventTime::new(alert.last_window.get().saturating_add(alert.window_millis)));
    Some(format!(
        "SELECT * FROM silver.events\nWHERE event_time >= '{}' AND event_time < '{}'\n  AND ({})\nORDER BY event_time",
        time_text(start),
        time_text(end),
        spans.join("\n    OR "),
    ))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert_sample::alert;
    use sluice_events::{AlertPart, OffsetSpan};

    fn told(change: impl Fn(&mut Alert)) -> String {
        let mut alert = alert();
        change(&mut alert);
        next_steps(&alert).join(" | ")
    }

    #[test]
    fn advice_follows_what_is_off_and_where() {
        assert!(told(|_| ()).starts_with("Sales are missing"));
        let pay_rate = told(|a| a.formula = "purchases / checkouts".to_owned());
        assert!(pay_rate.contains("payment providers"), "{pay_rate}");
        let abandonment = told(|a| {
            (a.formula, a.observed, a.expected) = ("abandons / (abandons + purchases)".to_owned(), 0.9, 0.6);
        });
        assert!(abandonment.contains("Carts do not become orders"), "{abandonment}");
        let bots = told(|a| (a.measure, a.observed) = ("views".to_owned(), 1e6));
        assert!(bots.contains("bots") && bots.contains("repeated ids"), "{bots}");
        let price = told(|a| a.formula = "revenue / purchases".to_owned());
        assert!(price.contains("worth less"), "{price}");
        assert!(told(|a| a.state = AlertState::Resolved).starts_with("It is over"));
        assert!(told(|a| a.measure = "p95".to_owned()).starts_with("Rule out the measurement"));
    }

    #[test]
    fn one_part_that_makes_it_up_is_named_and_many_are_not() {
        let part = |category: &str, share| AlertPart {
            group: [("country", "FR"), ("category", category)].map(|(k, v)| (k.to_owned(), Some(v.to_owned()))).into(),
            observed: 0.0,
            expected: 1.0,
            share,
        };
        let with = |shares: &[f64]| {
            let parts: Vec<AlertPart> = shares.iter().map(|share| part("toys", *share)).collect();
            told(|a| a.parts.clone_from(&parts))
        };
        assert!(with(&[0.9, 0.1]).starts_with("Category toys makes up 90 % of it"));
        assert!(with(&[0.26, 0.25, 0.25, 0.24]).starts_with("It is spread over all parts"));
        assert!(with(&[0.5, 0.3]).starts_with("Category toys has the largest share, 50 %"));
    }

    #[test]
    fn the_events_are_found_by_time_and_offset() {
        let mut alert = alert();
        assert_eq!(evidence_sql(&alert), None);
        alert.origin = vec![
            OffsetSpan { partition: 0, from: 3, upto: 7 },
            OffsetSpan { partition: 1, from: 5, upto: 5 },
            OffsetSpan { partition: 2, from: 0, upto: 9 },
        ];
        assert_eq!(
            evidence_sql(&alert).unwrap(),
            "SELECT * FROM silver.events\n\
             WHERE event_time >= '2024-03-01T10:00:00Z' AND event_time < '2024-03-01T10:10:00Z'\n  \
             AND ((_partition = 0 AND _offset >= 3 AND _offset < 7)\n    OR (_partition = 2 AND _offset >= 0 AND _offset < 9))\n\
             ORDER BY event_time"
        );
    }
}
