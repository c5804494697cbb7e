//! The simulated stream in numbers.

use crate::{count_by, decode, memory_log::MemoryLog, topics};
use sluice_events::{EventDecoder, EventEncoder, EventFormat, EventTime, LogTime, Schemas};
use sluice_producer::{
    NoProgress, ProducerTopics, SimulateConfig, SimulateSummary, SimulationPlan, SystemClock, simulate,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hasher,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// Friday 2024-11-29 18:00 UTC.
pub(crate) const START: EventTime = EventTime::new(1_732_903_200_000);

pub(crate) fn config() -> SimulateConfig {
    SimulateConfig {
        seed: 7,
        start: Some(START),
        rate: 50.0,
        duration: Some(Duration::from_secs(1_200)),
        speed: 0.0,
        customers: 5_000,
        products: 300,
        duplicates: 0.0,
        malformed: 0.0,
        ..SimulateConfig::default()
    }
}

pub(crate) fn run(plan: &SimulationPlan, partitions: u32) -> (MemoryLog, SimulateSummary) {
    run_with(plan, partitions, &topics())
}

fn run_with(plan: &SimulationPlan, partitions: u32, topics: &ProducerTopics) -> (MemoryLog, SimulateSummary) {
    let log = MemoryLog::new(partitions);
    let stop = AtomicBool::new(false);
    let summary = simulate(plan, &log, topics, &SystemClock, &stop, &NoProgress).unwrap();
    (log, summary)
}

fn plan(config: SimulateConfig) -> SimulationPlan {
    SimulationPlan::new(config, Vec::new(), LogTime::new(0)).unwrap()
}

fn hash(log: &MemoryLog) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    for (_, record) in log.all("events").iter() {
        hasher.write(record.key.unwrap());
        hasher.write(record.value.unwrap());
    }
    hasher.finish()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let faulty = SimulateConfig { duplicates: 0.01, malformed: 0.01, future: 0.01, ..config() };
    let first = hash(&run(&plan(faulty.clone()), 3).0);
    assert_eq!(first, hash(&run(&plan(faulty.clone()), 3).0));
    assert_ne!(first, hash(&run(&plan(SimulateConfig { seed: 8, ..faulty }), 3).0));
}

#[test]
fn a_busy_friday_evening_has_the_rate_and_the_mix_of_a_shop() {
    let (log, summary) = run(&plan(config()), 3);
    let (rows, undecodable) = decode(&log.all("events"));
    assert_eq!((rows.len() as u64, undecodable), (summary.events, 0));
    // 50 a second on average over a week; the evening of Europe is busier.
    let rate = rows.len() as f64 / 1_200.0;
    assert!((50.0..110.0).contains(&rate), "{rate}");
    // Steady from the first minute: the shop was open before.
    let minutes = count_by(&rows, |r| (r.millis - START.get()) / 60_000);
    assert!(minutes.len() == 20 && minutes.values().all(|n| *n as f64 / 60.0 > rate * 0.7), "{minutes:?}");
    let share = count_by(&rows, |r| r.event_type.clone());
    let of = |name: &str| share.get(name).copied().unwrap_or(0) as f64 / rows.len() as f64;
    assert!((0.60..0.90).contains(&of("page_view")), "{share:?}");
    assert!((0.04..0.20).contains(&of("add_to_cart")), "{share:?}");
    assert!((0.01..0.10).contains(&of("purchase")), "{share:?}");
    assert!((0.01..0.12).contains(&of("cart_abandon")), "{share:?}");
    assert!(of("refund") < 0.005 && of("remove_from_cart") > 0.0 && of("add_to_wishlist") > 0.0);
    let anonymous = rows.iter().filter(|r| r.customer_id.is_empty()).count() as f64 / rows.len() as f64;
    assert!((0.05..0.25).contains(&anonymous), "{anonymous}");
    let countries = count_by(&rows, |r| r.country.clone());
    assert_eq!(countries.len(), 10, "{countries:?}");
    let ids: BTreeSet<_> = rows.iter().map(|r| &r.event_id).collect();
    assert_eq!(ids.len(), rows.len());
    assert!(ids.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'7'));
}

#[test]
fn an_order_is_paid_once_by_one_visitor_and_only_purchases_and_refunds_have_one() {
    let (log, _) = run(&plan(config()), 3);
    let (rows, _) = decode(&log.all("events"));
    let mut orders: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for row in &rows {
        let paid = matches!(row.event_type.as_str(), "purchase" | "refund");
        assert_eq!(!row.order_id.is_empty(), paid, "{row:?}");
        if row.event_type == "purchase" {
            assert!(row.unit_price > 0 && row.unit_price % 100 == 0 && row.quantity > 0);
            orders.entry(&row.order_id).or_default().insert((&row.session_id, row.millis));
        }
    }
    assert!(orders.len() > 100, "{}", orders.len());
    assert!(orders.values().all(|visits| visits.len() == 1));
    let lines = count_by(&rows, |r| r.order_id.clone());
    assert!(lines.iter().any(|(id, n)| !id.is_empty() && *n > 1), "some orders have several lines");
}

#[test]
fn faults_come_in_the_shares_asked_for_and_are_what_they_say() {
    let faulty = SimulateConfig { duplicates: 0.02, malformed: 0.03, future: 0.01, ..config() };
    let (log, summary) = run(&plan(faulty), 3);
    let all = summary.records() as f64;
    for (count, share) in [(summary.duplicates, 0.02), (summary.malformed, 0.03), (summary.future, 0.01)] {
        assert!((share * 0.7..share * 1.3).contains(&(count as f64 / all)), "{summary:?}");
    }
    let (rows, undecodable) = decode(&log.all("events"));
    assert_eq!(undecodable as u64, summary.malformed, "every damaged record is seen as one");
    assert_eq!(rows.len() as u64, summary.records() - summary.malformed);
    let copies = count_by(&rows, |r| r.event_id.clone());
    assert_eq!(copies.values().filter(|n| **n == 2).count() as u64, summary.duplicates);
    assert!(copies.values().all(|n| *n <= 2));
    let year_2100 = 4_102_444_800_000;
    assert_eq!(rows.iter().filter(|r| r.millis >= year_2100).count() as u64, summary.future);
}

#[test]
fn no_event_arrives_later_than_the_out_of_orderness_and_some_are_out_of_order() {
    let shuffled = SimulateConfig { out_of_orderness: Duration::from_secs(3), duplicates: 0.01, ..config() };
    let (log, _) = run(&plan(shuffled), 1);
    let (rows, _) = decode(&log.all("events"));
    let (mut latest, mut behind_max) = (i64::MIN, 0);
    for row in &rows {
        latest = latest.max(row.millis);
        behind_max = behind_max.max(latest - row.millis);
    }
    assert!((1_500..=3_000).contains(&behind_max), "{behind_max}");
    let (log, _) = run(&plan(SimulateConfig { out_of_orderness: Duration::ZERO, ..config() }), 1);
    assert!(decode(&log.all("events")).0.is_sorted_by_key(|r| r.millis));
}

#[test]
fn a_resumed_run_goes_on_in_the_same_world_without_an_id_of_before() {
    let first = plan(config());
    let middle = EventTime::new(START.get() + 600_000);
    let resumed = plan(config()).resumed_at(middle);
    let (rows, _) = decode(&run(&first, 1).0.all("events"));
    let (more, _) = decode(&run(&resumed, 1).0.all("events"));
    assert!(more.iter().all(|r| r.millis >= middle.get() && r.millis < START.get() + 1_200_000));
    assert!((0.35..0.65).contains(&(more.len() as f64 / rows.len() as f64)));
    let ids = |rows: &[crate::Row]| rows.iter().map(|r| r.event_id.clone()).collect::<BTreeSet<_>>();
    let sessions = |rows: &[crate::Row]| rows.iter().map(|r| r.session_id.clone()).collect::<BTreeSet<_>>();
    assert!(ids(&rows).is_disjoint(&ids(&more)));
    assert!(sessions(&rows).is_disjoint(&sessions(&more)));
    assert_eq!(resumed.labels(), first.labels());
}

#[test]
fn limits_end_the_stream_exactly() {
    let (log, summary) = run(&plan(SimulateConfig { events: Some(1_234), duration: None, ..config() }), 3);
    assert_eq!((summary.events, log.all("events").len()), (1_234, 1_234));
    let (log, _) = run(&plan(config()), 1);
    let (rows, _) = decode(&log.all("events"));
    let (first, last) = (rows.iter().map(|r| r.millis).min().unwrap(), rows.iter().map(|r| r.millis).max().unwrap());
    assert!(first >= START.get() && first < START.get() + 1_000);
    assert!(last < START.get() + 1_200_000 && last > START.get() + 1_199_000);
}

#[test]
fn a_stream_without_a_start_ends_about_now() {
    let now = LogTime::new(START.get());
    let open = SimulateConfig { start: None, ..config() };
    let made_fast = SimulationPlan::new(open.clone(), Vec::new(), now).unwrap();
    assert_eq!(made_fast.start().get(), now.get() - 1_200_000);
    let paced = SimulationPlan::new(SimulateConfig { speed: 1.0, ..open }, Vec::new(), now).unwrap();
    assert_eq!(paced.start().get(), now.get());
}

#[test]
fn a_json_topic_gets_the_same_events_and_faults_as_an_avro_topic() {
    let faulty = plan(SimulateConfig { duplicates: 0.02, malformed: 0.05, future: 0.01, ..config() });
    let [avro, json] = [EventFormat::Avro, EventFormat::Json].map(|format| {
        let schemas = Arc::new(Schemas::shipped());
        let topics = ProducerTopics { event_encoder: EventEncoder::new(format, &schemas), ..topics() };
        let (log, summary) = run_with(&faulty, 3, &topics);
        let records = log.all("events");
        let decoded = EventDecoder::new("events", format, schemas, 1 << 20).decode(0, &records).unwrap();
        assert_eq!(decoded.dead_letters.len() as u64, summary.malformed, "every damaged record is seen as one");
        (decoded.events, decoded.record_of_row, SimulateSummary { bytes: 0, ..summary })
    });
    assert_eq!(json, avro);
}
