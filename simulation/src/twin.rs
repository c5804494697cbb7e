//! The same answers, counted one event at a time.

use crate::shop::{MINUTE, SECOND, Shop, ShopEvent};
use sluice_events::EventType;
use sluice_stream_processor::TimeRules;
use std::collections::{BTreeMap, BTreeSet, HashSet};

#[derive(Debug, Default)]
pub(crate) struct Expected {
    /// Each sealed row as text: model, window start, groups and measures.
    pub panes: BTreeSet<String>,
    /// Partition and offset of each row of bronze, of dead letters, and of silver with whether it is late.
    pub bronze: BTreeSet<(usize, i64)>,
    pub dead_letters: BTreeSet<(usize, i64)>,
    pub silver: BTreeMap<(usize, i64), bool>,
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

pub(crate) fn expected(shop: &Shop, rules: &TimeRules) -> Expected {
    let mut expected = Expected::default();
    let mut counted = Vec::new();
    for (partition, records) in shop.iter().enumerate() {
        let mut seen = HashSet::new();
        let mut newest: Option<i64> = None;
        for (offset, record) in records.iter().enumerate() {
            let place = (partition, offset as i64);
            let Some(event) = record else {
                expected.dead_letters.insert(place);
                continue;
            };
            expected.bronze.insert(place);
            if !seen.insert(&event.id) {
                continue;
            }
            let is_late = is_late(event, newest, rules);
            expected.silver.insert(place, is_late);
            if !is_late {
                counted.push(event);
            }
            newest = newest.max(Some(event.time));
        }
    }
    activity(&counted, &mut expected.panes);
    baskets(&counted, &mut expected.panes);
    rolling(&counted, &mut expected.panes);
    sessions_and_funnel(&counted, &mut expected.panes);
    expected
}

fn is_late(event: &ShopEvent, newest: Option<i64>, rules: &TimeRules) -> bool {
    let (behind, grain) = (rules.out_of_orderness.as_millis() as i64, rules.late_grain.as_millis() as i64);
    let end_of_grain = event.time - event.time.rem_euclid(grain) + grain;
    newest.is_some_and(|newest| newest - behind >= end_of_grain + rules.allowed_lateness.as_millis() as i64)
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
        let (end, revenue) = (start + MINUTE, decimal(p.revenue));
        let customers = p.customers.len();
        out.insert(format!(
            "activity {start} {end} {event_type} {country} {} {customers} {} {revenue}",
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
        let (end, mean) = (start + 2 * MINUTE, p.items as f64 / p.events as f64);
        out.insert(format!("baskets {start} {end} {device} {} {} {mean:?}", p.items, p.large));
    }
}

fn rolling(events: &[&ShopEvent], out: &mut BTreeSet<String>) {
    let (slide, size) = (40 * SECOND, 100 * SECOND);
    let mut panes: BTreeMap<(i64, &str), (u64, i32)> = BTreeMap::new();
    for event in events {
        let mut start = event.time - event.time.rem_euclid(slide);
        while start + size > event.time {
            let pane = panes.entry((start, shown(event.country))).or_default();
            pane.0 += 1;
            pane.1 = pane.1.max(event.quantity);
            start -= slide;
        }
    }
    for ((start, country), (events, most)) in panes {
        out.insert(format!("rolling {start} {} {country} {events} {most}", start + size));
    }
}

fn sessions_and_funnel(events: &[&ShopEvent], out: &mut BTreeSet<String>) {
    let mut of_customer: BTreeMap<&str, Vec<&ShopEvent>> = BTreeMap::new();
    for event in events {
        if let Some(customer) = &event.customer {
            of_customer.entry(customer).or_default().push(event);
        }
    }
    let mut funnel: BTreeMap<i64, (u64, u64, u64)> = BTreeMap::new();
    for (customer, mut events) in of_customer {
        events.sort_by_key(|e| (e.time, e.event_type.as_str()));
        for session in events.chunk_by(|a, b| b.time - a.time <= MINUTE) {
            let (first, last) = (session[0], session[session.len() - 1]);
            let (start, end) = (first.time, last.time + MINUTE);
            let depth = depth(session);
            let entry = first.event_type.as_str();
            out.insert(format!("sessions {start} {end} {customer} {} {entry} {depth}", session.len()));
            let hour = funnel.entry(end - end.rem_euclid(3 * MINUTE)).or_default();
            hour.0 += 1;
            hour.1 += session.len() as u64;
            hour.2 += u64::from(depth >= 2);
        }
    }
    for (start, (sessions, events, carted)) in funnel {
        out.insert(format!("funnel {start} {} {sessions} {events} {carted}", start + 3 * MINUTE));
    }
}

/// Steps taken in order, each the first of its kind at or after the one before.
fn depth(session: &[&ShopEvent]) -> usize {
    let mut at = i64::MIN;
    let steps = [EventType::PageView, EventType::AddToCart, EventType::Purchase];
    for (step, kind) in steps.into_iter().enumerate() {
        match session.iter().filter(|e| e.event_type == kind && e.time >= at).map(|e| e.time).min() {
            Some(time) => at = time,
            None => return step,
        }
    }
    steps.len()
}
