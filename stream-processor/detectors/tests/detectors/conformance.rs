//! What every detector owes.

use crate::shop::{ORDERS, Row, Shop, config, frame, shuffled};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, de::DeserializeOwned};
use sluice_detectors::{Calendar, Detector, DetectorConfig, Finding, Member, NodeId};

/// Runs the whole suite. `make` sets the thresholds: such that a steady series gives a few findings in two weeks at most,
/// and that an outage or thrice the usual is found at once.
pub fn conformance<D: Detector + Serialize + DeserializeOwned + Clone>(make: impl Fn(&DetectorConfig) -> D) {
    findings_of_a_prefix_are_a_prefix_of_the_findings(&make);
    one_that_was_saved_and_restored_goes_on_as_if_it_had_not_been(&make);
    the_order_of_rows_does_not_matter(&make);
    odd_numbers_do_no_lasting_harm(&make);
    groups_beyond_the_most_are_dropped_and_counted(&make);
    a_steady_series_is_quiet_in_flat_memory_and_what_is_obvious_is_found(&make);
    roll_ups_come_by_themselves(&make);
}

const GROUPS: &[&[&str]] = &[&["FR", "a"], &["FR", "b"], &["DE", "a"]];
/// A day of warm-up, and what follows.
const WARM: usize = 1_440;

/// A day and some hours with a spike, an outage of one group and a broken payment.
fn eventful(seed: u64, minutes: usize) -> Vec<(i64, Vec<Row>)> {
    let mut shop = Shop::new(seed, GROUPS);
    (0..minutes)
        .map(|minute| {
            let (start, mut rows) = shop.next_minute();
            match minute.checked_sub(WARM) {
                Some(40..45) => rows[0].1.iter_mut().for_each(|value| *value *= 3.0),
                Some(100..120) => drop(rows.remove(1)),
                Some(200..210) => (rows[2].1[1], rows[2].1[2]) = (3.0, 150.0),
                _ => {}
            }
            (start, rows)
        })
        .collect()
}

fn observe(detector: &mut impl Detector, minute: &(i64, Vec<Row>)) -> Vec<Finding> {
    let mut findings = Vec::new();
    detector.observe(&frame(minute), &Calendar::default(), &mut findings);
    findings
}

fn findings_of_a_prefix_are_a_prefix_of_the_findings<D: Detector>(make: &impl Fn(&DetectorConfig) -> D) {
    let minutes = eventful(1, WARM + 300);
    let run = |minutes: &[(i64, Vec<Row>)]| {
        let mut detector = make(&config(2));
        minutes.iter().map(|minute| observe(&mut detector, minute)).collect::<Vec<_>>()
    };
    let all = run(&minutes);
    assert!(all.iter().any(|findings| !findings.is_empty()), "nothing was found");
    for end in [WARM + 41, WARM + 101, WARM + 205] {
        assert_eq!(run(&minutes[..end]), all[..end], "of {end} minutes");
    }
}

fn one_that_was_saved_and_restored_goes_on_as_if_it_had_not_been<D>(make: &impl Fn(&DetectorConfig) -> D)
where
    D: Detector + Serialize + DeserializeOwned + Clone,
{
    let seed = 2;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut undisturbed = make(&config(2));
    let mut restored = undisturbed.clone();
    for (at, minute) in eventful(seed, WARM + 300).iter().enumerate() {
        if random.random_bool(0.02) {
            let saved = postcard::to_allocvec(&restored).expect("it can be saved");
            restored = postcard::from_bytes(&saved).expect("it can be restored");
        }
        let (expected, found) = (observe(&mut undisturbed, minute), observe(&mut restored, minute));
        assert_eq!(found, expected, "minute {at}, seed {seed}");
        for node in expected.iter().map(|finding| finding.node) {
            assert_eq!(restored.standing(node, 0), undisturbed.standing(node, 0), "minute {at}, seed {seed}");
        }
    }
    assert_eq!(restored.health().series, undisturbed.health().series);
}

fn the_order_of_rows_does_not_matter<D: Detector>(make: &impl Fn(&DetectorConfig) -> D) {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let (mut straight, mut mixed) = (make(&config(2)), make(&config(2)));
    // Numbers are given in order of coming; what they stand for is to be the same, but for the last digits of sums.
    let told = |detector: &D, findings: Vec<Finding>| {
        let mut told: Vec<_> = findings
            .iter()
            .map(|finding| {
                let reading = finding.reading;
                let numbers = format!("{:.2e} {:.2e} {:.2e}", reading.observed, reading.expected, reading.score);
                (detector.group(finding.node).to_vec(), finding.metric, numbers)
            })
            .collect();
        told.sort();
        told
    };
    for (at, minute) in eventful(3, WARM + 300).iter().enumerate() {
        let (one, other) = (observe(&mut straight, minute), observe(&mut mixed, &shuffled(minute, &mut random)));
        assert_eq!(told(&straight, one), told(&mixed, other), "minute {at}");
    }
}

fn odd_numbers_do_no_lasting_harm<D: Detector>(make: &impl Fn(&DetectorConfig) -> D) {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, f64::MAX, f64::MIN, -5.0, 5e-324, 0.0, -0.0];
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut shop = Shop::new(4, GROUPS);
    let mut detector = make(&config(2));
    for minute in 0..3 * WARM {
        let (start, mut rows) = shop.next_minute();
        if minute > WARM && minute <= WARM + 30 && minute % 3 == 0 {
            let row = random.random_range(0..rows.len());
            for value in &mut rows[row].1 {
                *value = odd[random.random_range(0..odd.len())];
            }
        }
        for finding in observe(&mut detector, &(start, rows)) {
            let reading = finding.reading;
            assert!(!reading.score.is_nan() && !reading.z_score.is_nan(), "minute {minute}: {reading:?}");
            assert!(!reading.lower.is_nan() && !reading.upper.is_nan(), "minute {minute}: {reading:?}");
            assert!((0.0..=1.0).contains(&reading.tail_probability), "minute {minute}: {reading:?}");
        }
    }
    let (start, mut rows) = shop.next_minute();
    rows.iter_mut().for_each(|(_, values)| values.iter_mut().for_each(|value| *value *= 3.0));
    let found = observe(&mut detector, &(start, rows));
    assert!(!found.is_empty(), "thrice the usual is not found two days later");
    for finding in found.iter().filter(|finding| finding.metric == 0) {
        let reading = finding.reading;
        let group = detector.group(finding.node);
        let children = GROUPS
            .iter()
            .filter(|values| {
                group.iter().zip(**values).all(|(member, value)| match member {
                    Member::All => true,
                    Member::Value(is) => is.as_deref() == Some(*value),
                })
            })
            .count();
        let usual = ORDERS * children as f64 * f64::from(reading.horizon);
        assert!((reading.expected / usual - 1.0).abs() < 0.5, "expected is far from {usual}: {reading:?}");
    }
}

fn groups_beyond_the_most_are_dropped_and_counted<D: Detector>(make: &impl Fn(&DetectorConfig) -> D) {
    let minutes = eventful(5, 2);
    let mut detector = make(&DetectorConfig { series_max: 2, ..config(2) });
    observe(&mut detector, &(minutes[0].0, minutes[0].1[..2].to_vec()));
    let before = detector.health();
    assert_eq!(before.dropped, 0);
    observe(&mut detector, &minutes[1]);
    assert_eq!(detector.health().dropped, 1);
    assert_eq!(detector.health().series, before.series);
}

fn a_steady_series_is_quiet_in_flat_memory_and_what_is_obvious_is_found<D: Detector + Clone>(
    make: &impl Fn(&DetectorConfig) -> D,
) {
    let mut shop = Shop::new(6, &[&["FR"], &["DE"]]);
    let mut config = config(1);
    config.metrics.truncate(1);
    let mut detector = make(&config);
    let (mut quiet, mut bytes) = (Vec::new(), 0);
    for minute in 0..20_000 {
        quiet.extend(observe(&mut detector, &shop.next_minute()));
        if minute == 5_000 {
            bytes = detector.health().bytes;
        }
    }
    assert!(quiet.len() <= 6, "{} findings in a steady shop: {quiet:?}", quiet.len());
    assert_eq!(detector.health().warming_up, 0);
    let grown = detector.health().bytes as f64 / bytes as f64;
    assert!(grown < 1.25, "{bytes} bytes grew {grown} times");

    for (what, factor) in [("an outage", 0.0), ("a spike", 3.0)] {
        let (mut detector, mut shop) = (detector.clone(), shop.clone());
        let mut found = Vec::new();
        for _ in 0..2 {
            let (start, mut rows) = shop.next_minute();
            rows[0].1.iter_mut().for_each(|value| *value *= factor);
            found.extend(observe(&mut detector, &(start, rows)));
        }
        let fr = [Member::Value(Some("FR".into()))];
        let told = found.iter().find(|finding| detector.group(finding.node) == fr);
        let reading = told.unwrap_or_else(|| panic!("{what} is not found: {found:?}")).reading;
        assert!(reading.unusual && (reading.z_score < 0.0) == (factor < 1.0), "{what}: {reading:?}");
        assert!(reading.observed < reading.lower || reading.observed > reading.upper, "{what}: {reading:?}");
    }
}

fn roll_ups_come_by_themselves<D: Detector>(make: &impl Fn(&DetectorConfig) -> D) {
    let mut shop = Shop::new(7, GROUPS);
    let mut detector = make(&config(2));
    for _ in 0..2 * WARM {
        observe(&mut detector, &shop.next_minute());
    }
    let (start, mut rows) = shop.next_minute();
    rows.iter_mut().for_each(|(_, values)| values.iter_mut().for_each(|value| *value *= 3.0));
    observe(&mut detector, &(start, rows.clone()));
    let value = |value: &str| Member::Value(Some(value.into()));
    let roll_ups = [
        ([Member::All, Member::All], 3),
        ([value("FR"), Member::All], 2),
        ([Member::All, value("a")], 2),
        ([Member::All, value("b")], 1),
    ];
    // Three groups, and five roll-ups.
    let nodes: Vec<NodeId> = (0..8).collect();
    for (group, children) in roll_ups {
        let node = *nodes.iter().find(|node| detector.group(**node) == group).expect("the roll-up is there");
        let reading = detector.standing(node, 0).expect("it is judged");
        let parts = detector.contributions(node, 0, reading.horizon);
        assert_eq!(parts.len(), children, "{group:?}");
        let observed = parts.iter().map(|part| part.observed).sum::<f64>();
        assert_eq!(observed, reading.observed, "{group:?}");
        if reading.horizon == 1 {
            let seen: f64 = rows
                .iter()
                .filter(|(row, _)| {
                    group
                        .iter()
                        .zip(row)
                        .all(|(member, is)| *member == Member::All || *member == Member::Value(is.clone()))
                })
                .map(|(_, values)| values[0])
                .sum();
            assert_eq!(reading.observed, seen, "{group:?}");
        }
        for part in parts {
            assert_eq!(detector.contributions(part.node, 0, 1), [], "a group has no parts");
        }
    }
}
