//! The same answers, counted one event at a time.

use crate::shop::{MINUTE, Shop, ShopEvent, rules};
use sluice_events::EventType;
use std::collections::{BTreeMap, BTreeSet, HashSet};

#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Each sealed row as text: model, window start, groups, measures.
    pub panes: BTreeSet<String>,
    pub late: u64,
    pub duplicates: u64,
}

#[derive(Default)]
struct Activity<'a> {
    events: u64,
    customers: HashSet<&'a str>,
    quantity: i64,
    revenue: i128,
}

#[derive(Default)]
struct Baskets {
    events: u64,
    items: i64,
    large: u64,
}

pub(crate) fn panes(shop: &Shop) -> Expected {
    let mut expected = Expected::default();
    let mut counted = Vec::new();
    for partition in shop {
        let mut seen = HashSet::new();
        let mut newest: Option<i64> = None;
        for event in partition {
            if !seen.insert(&event.id) {
                expected.duplicates += 1;
            } else if is_late(event, newest) {
                expected.late += 1;
            } else {
                counted.push(event);
            }
            newest = newest.max(Some(event.time));
        }
    }
    activity(&counted, &mut expected.panes);
    baskets(&counted, &mut expected.panes);
    expected
}

fn is_late(event: &ShopEvent, newest: Option<i64>) -> bool {
    let rules = rules();
    let behind = rules.out_of_orderness.as_millis() as i64;
    let end_of_minute = event.time - event.time.rem_euclid(MINUTE) + MINUTE;
    newest.is_some_and(|newest| newest - behind >= end_of_minute + rules.allowed_lateness.as_millis() as i64)
}

fn decimal(units: i128) -> String {
    let sign = if units < 0 { "-" } else { "" };
    format!("{sign}{}.{:04}", units.abs() / 10_000, units.abs() % 10_000)
}

fn shown(text: Option<&str>) -> &str {
    text.unwrap_or("null")
}

fn activity(events: &[&ShopEvent], out: &mut BTreeSet<String>) {
    let mut panes: BTreeMap<(i64, &str, &str), Activity<'_>> = BTreeMap::new();
    for event in events {
        let start = event.time - event.time.rem_euclid(MINUTE);
        let pane = panes.entry((start, event.event_type.as_str(), shown(event.country))).or_default();
        pane.events += 1;
        pane.customers.extend(event.customer.as_deref());
        pane.quantity += i64::from(event.quantity);
        let spent = match event.event_type {
            EventType::Purchase => i128::from(event.price_units.unwrap_or(0)) * i128::from(event.quantity),
            _ => 0,
        };
        pane.revenue += spent;
    }
    for ((start, event_type, country), p) in panes {
        let revenue = decimal(p.revenue);
        let customers = p.customers.len();
        out.insert(format!(
            "activity {start} {event_type} {country} {} {customers} {} {revenue}",
            p.events, p.quantity
        ));
    }
}

fn baskets(events: &[&ShopEvent], out: &mut BTreeSet<String>) {
    let mut panes: BTreeMap<(i64, &str), Baskets> = BTreeMap::new();
    for event in events.iter().filter(|e| matches!(e.event_type, EventType::Purchase | EventType::AddToCart)) {
        let start = event.time - event.time.rem_euclid(2 * MINUTE);
        let pane = panes.entry((start, shown(event.device))).or_default();
        pane.events += 1;
        pane.items += i64::from(event.quantity);
        pane.large += u64::from(event.quantity > 2);
    }
    for ((start, device), p) in panes.into_iter().filter(|(_, p)| p.events > 1) {
        let mean = p.items as f64 / p.events as f64;
        out.insert(format!("baskets {start} {device} {} {} {mean:?}", p.items, p.large));
    }
}
