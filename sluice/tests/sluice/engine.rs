//! Windows of every kind over a real shop's morning: the reference answers, whatever the order and the partitions.

use crate::support::{Sluice, data, skipped};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The user's own models: files beside those that are shipped.
const MODELS: [(&str, &str); 4] = [
    ("hourly", "GROUP BY tumble(event_time, INTERVAL '1 hour'), event_type, country"),
    ("hopping", "GROUP BY hop(event_time, INTERVAL '15 minutes', INTERVAL '1 hour'), event_type, country"),
    ("days_in_new_york", "GROUP BY tumble(event_time, INTERVAL '1 day', 'America/New_York'), event_type, country"),
    ("hours_by_week", "GROUP BY hop(event_time, INTERVAL '1 day', INTERVAL '7 days'), event_type, country"),
];

const MEASURES: &str = "SELECT event_type, country, count(*) AS events,
  distinct_count(customer_id) AS customers, sum(quantity) AS quantity,
  sum(CASE WHEN event_type = 'purchase' THEN coalesce(quantity * unit_price, 0) ELSE 0 END) AS revenue
FROM events ";

/// Sessions as the shop's own tracker sees them, and a funnel over each kind of session.
const BY_TRACKER: &str = "-- publish: lake
SELECT session_id, count(*) AS events,
  count(*) FILTER (WHERE event_type = 'page_view') AS views,
  count(*) FILTER (WHERE event_type = 'add_to_cart') AS carts,
  count(*) FILTER (WHERE event_type = 'purchase') AS purchases,
  funnel_depth(event_time, event_type = 'page_view', event_type = 'add_to_cart', event_type = 'purchase') AS funnel_depth,
  min(event_time) FILTER (WHERE event_type = 'add_to_cart') IS NOT NULL
    AND coalesce(max(event_time) FILTER (WHERE event_type = 'purchase') < min(event_time) FILTER (WHERE event_type = 'add_to_cart'), true) AS is_abandoned
FROM events WHERE session_id IS NOT NULL
GROUP BY session(event_time, INTERVAL '1 day'), session_id";

const TRACKER_FUNNEL: &str = "SELECT count(*) AS sessions,
  count(*) FILTER (WHERE views > 0) AS viewed, count(*) FILTER (WHERE carts > 0) AS carted,
  count(*) FILTER (WHERE purchases > 0) AS purchased,
  count(*) FILTER (WHERE funnel_depth >= 2) AS view_cart, count(*) FILTER (WHERE funnel_depth >= 3) AS view_cart_purchase,
  count(*) FILTER (WHERE is_abandoned) AS abandoned
FROM live.tracked GROUP BY tumble(window_start, INTERVAL '1 day')";

pub(crate) fn write_models(sluice: &Sluice) {
    let folder = sluice.path("models/live");
    fs::create_dir_all(&folder).unwrap();
    for (name, group_by) in MODELS {
        fs::write(folder.join(format!("{name}.sql")), format!("-- title: {name}\n{MEASURES}{group_by}")).unwrap();
    }
    fs::write(folder.join("tracked.sql"), BY_TRACKER).unwrap();
    fs::write(folder.join("tracker_funnel.sql"), TRACKER_FUNNEL).unwrap();
}

/// The lines of the real events.
pub(crate) fn lines(data: &Path) -> Vec<String> {
    let output = Command::new("zcat").arg(data.join("rees46/events.ndjson.gz")).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn time_of(line: &str) -> i64 {
    let event: Value = serde_json::from_str(line).unwrap();
    chrono::DateTime::parse_from_rfc3339(event["event_time"].as_str().unwrap()).unwrap().timestamp_millis()
}

/// Each event comes up to ten minutes later than it happened.
pub(crate) fn shuffled(lines: &[String], seed: u64) -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut by_arrival: Vec<(i64, &String)> =
        lines.iter().map(|line| (time_of(line) + random.random_range(0..600_000), line)).collect();
    by_arrival.sort_by_key(|(arrival, _)| *arrival);
    by_arrival.into_iter().map(|(_, line)| line.clone()).collect()
}

pub(crate) fn written(sluice: &Sluice, lines: &[String]) -> PathBuf {
    let file = sluice.path("events.ndjson");
    fs::write(&file, lines.join("\n") + "\n").unwrap();
    file
}

/// A table of the reference, with money at scale 4.
pub(crate) fn expected(data: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(data.join("rees46/expected").join(name)).unwrap();
    let mut lines: Vec<String> = text
        .lines()
        .skip(1)
        .map(|line| {
            let (rest, revenue) = line.rsplit_once(',').unwrap();
            let (whole, fraction) = revenue.split_once('.').unwrap_or((revenue, ""));
            format!("{rest},{whole}.{fraction:0<4}")
        })
        .collect();
    lines.sort_unstable();
    lines
}

fn panes(sluice: &Sluice, model: &str) -> Vec<String> {
    sluice.query(&format!(
        "SELECT window_start, event_type, country, events, customers, quantity, revenue FROM live.{model}"
    ))
}

/// The sessions of the reference, as text.
fn expected_sessions(data: &Path, sluice: &Sluice) -> Vec<String> {
    let file = data.join("rees46/expected/sessions_30m.parquet");
    sluice.query(&format!(
        "SELECT customer_id, CAST(session_start AS TIMESTAMP), CAST(session_end AS TIMESTAMP), events, views, carts, purchases
         FROM '{}'",
        file.display()
    ))
}

/// Every table of the reference that windows can answer.
pub(crate) fn check_against_reference(sluice: &Sluice, data: &Path) {
    assert_eq!(panes(sluice, "activity"), expected(data, "tumbling_1m.csv"));
    assert_eq!(panes(sluice, "hourly"), expected(data, "tumbling_1h.csv"));
    assert_eq!(panes(sluice, "hopping"), expected(data, "hopping_1h_15m.csv"));
    let found = sluice.query(
        "SELECT customer_id, CAST(first_event AS TIMESTAMP), CAST(last_event AS TIMESTAMP), events, views, carts, purchases
         FROM live.sessions",
    );
    assert_eq!(found, expected_sessions(data, sluice));
    let summary = sluice.query(
        "SELECT count(*), count(DISTINCT customer_id), round(avg(CAST(events AS DOUBLE)), 10), max(events),
           count(*) FILTER (WHERE events = 1),
           round(avg(CAST(to_unixtime(last_event) - to_unixtime(first_event) AS DOUBLE)), 10),
           max(to_unixtime(last_event) - to_unixtime(first_event)) FROM live.sessions",
    );
    assert_eq!(summary, ["4519,4505,3.8570480195,51,1667,175.5264439035,1881"]);
    let funnel = |table: &str| {
        sluice.query(&format!(
            "SELECT sum(sessions), sum(viewed), sum(carted), sum(purchased), sum(view_cart), sum(view_cart_purchase),
               sum(abandoned) FROM live.{table}"
        ))
    };
    let reference = fs::read_to_string(data.join("rees46/expected/funnel.csv")).unwrap();
    for (row, table) in reference.lines().skip(1).zip(["funnel", "tracker_funnel"]) {
        let row: Vec<&str> = row.split(',').collect();
        assert_eq!(funnel(table), [[&row[1..7], &row[10..11]].concat().join(",")], "{table}");
    }
}

fn settings(out_of_orderness: &str, partitions: u32) -> Vec<String> {
    vec![
        format!("time.out_of_orderness={out_of_orderness}"),
        format!("topics.partitions={partitions}"),
        "models.dir=models".to_owned(),
    ]
}

fn replayed(lines: &[String], settings: &[String]) -> Sluice {
    let sluice = Sluice::with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    write_models(&sluice);
    let file = written(&sluice, lines);
    sluice.run(&["up", "--replay", file.to_str().unwrap(), "--until-drained"]);
    sluice
}

#[test]
fn every_kind_of_window_gives_the_reference_answers_from_any_number_of_partitions() {
    let Some(data) = data() else { return skipped("windows over real input", "no folder in SLUICE_TEST_DATA") };
    let lines = lines(&data);
    for partitions in [1, 3, 8] {
        let sluice = replayed(&lines, &settings("10s", partitions));
        check_against_reference(&sluice, &data);
        sluice.verify();
    }
}

#[test]
fn any_order_within_the_bound_gives_the_same_answers() {
    let Some(data) = data() else { return skipped("shuffled real input", "no folder in SLUICE_TEST_DATA") };
    let lines = lines(&data);
    for partitions in [1, 3, 8] {
        let sluice = replayed(&shuffled(&lines, u64::from(partitions)), &settings("10m", partitions));
        assert_eq!(sluice.number("SELECT count(*) FROM silver.events WHERE is_late"), 0);
        check_against_reference(&sluice, &data);
        sluice.verify();
    }
}

#[test]
fn late_events_are_counted_and_kept_and_enough_lateness_gives_the_batch_result() {
    let Some(data) = data() else { return skipped("late real input", "no folder in SLUICE_TEST_DATA") };
    let lines = shuffled(&lines(&data), 7);
    let mut strict = settings("0s", 3);
    strict.push("time.allowed_lateness=0s".to_owned());
    let sluice = replayed(&lines, &strict);
    let late = sluice.number("SELECT count(*) FROM late_events");
    assert!(late > 1_000, "{late} events are late");
    assert_eq!(sluice.number("SELECT count(*) FROM silver.events WHERE is_late"), late);
    assert_eq!(sluice.number("SELECT count(*) FROM silver.events"), 17_430, "and all are there");
    let told =
        sluice.verify()["partitions"].as_array().unwrap().iter().map(|p| p["late"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(told, late);
    let mut patient = settings("0s", 3);
    patient.push("time.allowed_lateness=20m".to_owned());
    let sluice = replayed(&lines, &patient);
    assert_eq!(sluice.number("SELECT count(*) FROM late_events"), 0);
    check_against_reference(&sluice, &data);
    sluice.verify();
}

#[test]
fn the_text_of_a_model_gives_the_same_rows_as_a_query() {
    let Some(data) = data() else { return skipped("models as queries", "no folder in SLUICE_TEST_DATA") };
    let sluice = replayed(&lines(&data), &settings("10s", 3));
    for (model, group_by) in MODELS {
        let mut live = sluice
            .query(&format!("SELECT event_type, country, events, customers, quantity, revenue FROM live.{model}"));
        let mut batch = sluice.query(&format!("{MEASURES}{group_by}").replace("FROM events", "FROM silver.events"));
        live.sort_unstable();
        batch.sort_unstable();
        assert_eq!(live, batch, "{model}");
    }
    let sessions = "SELECT customer_id, count(*) AS n FROM events WHERE customer_id IS NOT NULL GROUP BY session(event_time, INTERVAL '30 minutes'), customer_id";
    assert_eq!(
        sluice.query(&sessions.replace("FROM events", "FROM silver.events")),
        sluice.query("SELECT customer_id, events FROM live.sessions")
    );
}
