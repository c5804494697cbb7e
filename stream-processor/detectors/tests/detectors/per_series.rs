//! One method for each series and roll-up.

use crate::{
    conformance::conformance,
    shop::{MINUTE_MILLIS, OPENING},
};
use sluice_detectors::{
    Calendar, CoverConfig, Detector, DetectorConfig, Direction, EwmaConfig, Finding, Formula, Frame, Method, Metric,
    PerSeries, ZScoreConfig,
};
use std::sync::Arc;

fn make(method: Method, threshold: f64) -> impl Fn(&DetectorConfig) -> PerSeries {
    move |config| {
        let mut config = config.clone();
        config.metrics.iter_mut().for_each(|metric| metric.threshold = threshold);
        PerSeries::new(config, method)
    }
}

#[test]
fn the_z_score_conforms() {
    conformance(make(Method::ZScore(ZScoreConfig::default()), 6.0));
}

#[test]
fn the_weighted_z_score_conforms() {
    conformance(make(Method::Ewma(EwmaConfig { half_life: 30.0, warmup: 30 }), 6.0));
}

#[test]
fn the_cover_conforms() {
    conformance(make(Method::Cover(CoverConfig::default()), 0.8));
}

const COVER: Method = Method::Cover(CoverConfig { warmup: 20 });

fn config(formula: Formula) -> DetectorConfig {
    let metric = Metric { name: "m".into(), formula, direction: Direction::Both, threshold: 0.5 };
    DetectorConfig {
        group_columns: 1,
        value_columns: 2,
        slide_millis: MINUTE_MILLIS,
        metrics: vec![metric],
        rolls_up: true,
        series_max: 10,
    }
}

fn observe(detector: &mut PerSeries, minute: i64, rows: &[(&str, [f64; 2])]) -> Vec<Finding> {
    let (mut frame, mut findings) = (Frame::new(1, 2), Vec::new());
    let start = OPENING + minute * MINUTE_MILLIS;
    frame.clear(start, start + MINUTE_MILLIS);
    rows.iter().for_each(|(group, values)| frame.push(&[Some(Arc::from(*group))], values));
    detector.observe(&frame, &Calendar::default(), &mut findings);
    findings
}

#[test]
fn an_alarm_of_the_cover_is_one_window() {
    let mut detector = PerSeries::new(config(Formula::Level(0)), COVER);
    for minute in 0..200 {
        observe(&mut detector, minute, &[("x", [50.0 + (minute % 7) as f64, 0.0])]);
    }
    let found = observe(&mut detector, 200, &[("x", [400.0, 0.0])]);
    assert_eq!(found.len(), 1, "a level has no roll-up: {found:?}");
    let standing = detector.standing(found[0].node, 0).unwrap();
    assert_eq!(standing, found[0].reading);
    assert!(standing.unusual && standing.observed > standing.upper, "{standing:?}");
    assert!(standing.tail_probability < 0.01 && standing.false_alarms_per_year > 0.0, "{standing:?}");
    for minute in 201..260 {
        assert_eq!(observe(&mut detector, minute, &[("x", [400.0, 0.0])]), [], "known by minute {minute}");
        assert!(!detector.standing(found[0].node, 0).unwrap().unusual);
    }
}

#[test]
fn a_null_is_left_out_and_an_absent_group_counts_0() {
    let mut detector = PerSeries::new(config(Formula::Sum(0)), COVER);
    for minute in 0..200 {
        let orders = 50.0 + (minute % 7) as f64;
        observe(&mut detector, minute, &[("x", [orders, 0.0]), ("y", [orders, 0.0])]);
    }
    // Numbered in order of coming: x, the roll-up, y.
    let (x, all, y) = (0, 1, 2);
    assert_eq!(observe(&mut detector, 200, &[("x", [f64::NAN, 0.0]), ("y", [f64::NAN, 0.0])]), []);
    assert_eq!((detector.standing(x, 0), detector.standing(all, 0)), (None, None));
    observe(&mut detector, 201, &[("x", [f64::NAN, 0.0]), ("y", [52.0, 0.0])]);
    assert_eq!(detector.standing(all, 0).unwrap().observed, 52.0);
    let found = observe(&mut detector, 202, &[("x", [55.0, 0.0])]);
    assert!(found.iter().any(|finding| finding.node == y && finding.reading.observed == 0.0), "{found:?}");
    assert_eq!(detector.contributions(all, 0, 1).len(), 2);
}

#[test]
fn a_roll_up_of_a_mean_is_of_the_sums_and_a_mean_of_nothing_is_not_judged() {
    let mut detector = PerSeries::new(config(Formula::Mean { amount: 0, count: 1 }), COVER);
    for minute in 0..100 {
        observe(&mut detector, minute, &[("x", [100.0, 1.0]), ("y", [900.0 + minute as f64, 3.0])]);
    }
    let (x, all) = (0, 1);
    assert_eq!(detector.standing(all, 0).unwrap().observed, 1_099.0 / 4.0);
    observe(&mut detector, 100, &[("x", [0.0, 0.0]), ("y", [900.0, 3.0])]);
    assert_eq!(detector.standing(x, 0), None);
    assert_eq!(detector.standing(all, 0).unwrap().observed, 300.0);
}

#[test]
fn a_group_that_stays_away_for_a_week_is_forgotten() {
    let mut detector = PerSeries::new(config(Formula::Sum(0)), COVER);
    observe(&mut detector, 0, &[("x", [1.0, 0.0]), ("y", [1.0, 0.0])]);
    let held = detector.health();
    assert_eq!(held.series, 3);
    for day in 1..=7 {
        observe(&mut detector, day * 1_440, &[("y", [1.0, 0.0])]);
        assert_eq!(detector.health().series, 3, "day {day}");
    }
    observe(&mut detector, 8 * 1_440, &[("y", [1.0, 0.0])]);
    assert_eq!(detector.health().series, 2);
    assert!(detector.health().bytes < held.bytes);
    assert_eq!(detector.standing(0, 0), None);
    // Its number is given to somebody else, who begins anew.
    observe(&mut detector, 8 * 1_440 + 1, &[("y", [1.0, 0.0]), ("z", [1.0, 0.0])]);
    assert_eq!(detector.health().warming_up, 3);
}
