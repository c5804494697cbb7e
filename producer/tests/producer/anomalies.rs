//! Every kind of anomaly is visible in the numbers, and its label says when.

use crate::{
    Row, decode,
    simulate::{START, config, run},
};
use sluice_events::LogTime;
use sluice_producer::{Anomaly, AnomalyKind, Scenario, SimulateConfig, SimulationPlan, write_labels};
use std::{fs, path::Path, time::Duration};

fn anomaly(kind: AnomalyKind, country: Option<&str>, category: Option<&str>) -> Anomaly {
    Anomaly {
        kind,
        start: Duration::from_secs(600),
        duration: Duration::from_secs(600),
        country: country.map(str::to_owned),
        category: category.map(str::to_owned),
        strength: None,
    }
}

/// Rows before and during the anomaly, ten minutes each.
fn halves(anomaly: Anomaly) -> (Vec<Row>, Vec<Row>) {
    let plan = SimulationPlan::new(config(), vec![anomaly], LogTime::new(0)).unwrap();
    let (rows, _) = decode(&run(&plan, 1).0.all("events"));
    rows.into_iter().partition(|r| r.millis < plan.labels()[0].start_millis)
}

fn count(rows: &[Row], event_type: &str) -> f64 {
    rows.iter().filter(|r| r.event_type == event_type).count() as f64
}

#[test]
fn nobody_pays_in_a_payment_outage() {
    let (before, during) = halves(anomaly(AnomalyKind::PaymentOutage, None, None));
    assert!(count(&before, "purchase") > 300.0);
    // The other lines of an order whose first line was paid at the last moment.
    assert!(count(&during, "purchase") < 5.0, "{}", count(&during, "purchase"));
    assert!(count(&during, "page_view") > count(&before, "page_view") * 0.8);
}

#[test]
fn one_country_may_fail_to_pay_while_the_others_do() {
    let (before, during) = halves(anomaly(AnomalyKind::PaymentOutage, Some("FR"), None));
    let france = |rows: &[Row]| rows.iter().filter(|r| r.country == "FR" && r.event_type == "purchase").count();
    assert!(france(&before) > 30 && france(&during) < 3);
    assert!(count(&during, "purchase") > count(&before, "purchase") * 0.5);
}

#[test]
fn carts_are_left_behind_in_a_spike() {
    let (before, during) = halves(anomaly(AnomalyKind::AbandonedCartSpike, None, None));
    assert!(count(&during, "cart_abandon") > count(&before, "cart_abandon") * 1.8);
    assert!(count(&during, "purchase") < count(&before, "purchase") * 0.5);
}

#[test]
fn robots_click_and_buy_nothing() {
    let (before, during) = halves(anomaly(AnomalyKind::BotClickFlood, Some("DE"), Some("books")));
    let clicks = |rows: &[Row]| rows.iter().filter(|r| r.country == "DE" && r.category == "books").count();
    assert!(clicks(&during) > 30 * clicks(&before), "{} {}", clicks(&before), clicks(&during));
    assert!(count(&during, "page_view") > count(&before, "page_view") * 2.0);
    assert!(count(&during, "add_to_cart") < count(&before, "add_to_cart") * 1.5);
}

#[test]
fn a_price_bug_makes_one_category_nearly_free() {
    let (before, during) = halves(anomaly(AnomalyKind::PriceBug, None, Some("electronics.smartphone")));
    let mean = |rows: &[Row], hit: bool| {
        let prices: Vec<_> =
            rows.iter().filter(|r| r.unit_price > 0 && (r.category == "electronics.smartphone") == hit).collect();
        prices.iter().map(|r| r.unit_price as f64).sum::<f64>() / prices.len() as f64
    };
    assert!(mean(&during, true) < mean(&before, true) * 0.02);
    assert!(mean(&during, false) > mean(&before, false) * 0.8);
}

#[test]
fn a_country_that_is_out_sends_nothing() {
    let (before, during) = halves(anomaly(AnomalyKind::CountryOutage, Some("US"), None));
    let america = |rows: &[Row]| rows.iter().filter(|r| r.country == "US").count();
    assert!(america(&before) > 1_000 && america(&during) == 0);
}

#[test]
fn a_slow_drift_grows_to_its_strength() {
    let mut drift = anomaly(AnomalyKind::SlowDrift, None, None);
    drift.strength = Some(1.0);
    let (_, during) = halves(drift);
    let (first, last): (Vec<_>, Vec<_>) = during.into_iter().partition(|r| r.millis < START.get() + 900_000);
    assert!(count(&last, "add_to_cart") < count(&first, "add_to_cart") * 0.6);
    assert!(count(&last, "page_view") > count(&first, "page_view") * 0.8);
}

#[test]
fn labels_stand_beside_the_stream_with_their_times() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("labels.json");
    let outage = anomaly(AnomalyKind::PaymentOutage, Some("FR"), None);
    let plan = SimulationPlan::new(config(), vec![outage], LogTime::new(0)).unwrap();
    write_labels(&path, &plan.labels()).unwrap();
    let labels: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(labels[0]["kind"], "payment_outage");
    assert_eq!(labels[0]["start"], "2024-11-29T18:10:00.000Z");
    assert_eq!(labels[0]["end_millis"], START.get() + 1_200_000);
    assert_eq!((labels[0]["country"].as_str(), labels[0]["category"].as_str()), (Some("FR"), None));
    assert_eq!(labels[0]["measure"], "events where event_type = purchase");
}

#[test]
fn the_shipped_scenarios_can_be_read_and_planned() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut found = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let scenario = Scenario::read(&entry.unwrap().path(), &SimulateConfig::default()).unwrap();
        let length = scenario.config.duration.unwrap();
        assert!(!scenario.anomalies.is_empty());
        assert!(scenario.anomalies.iter().all(|a| a.start + a.duration <= length));
        SimulationPlan::new(scenario.config, scenario.anomalies, LogTime::new(0)).unwrap();
        found += 1;
    }
    assert!(found >= 3);
}
