//! A topic of JSON events gives the tables that a topic of Avro events gives.

use crate::support::Sluice;
use sluice_event_log::EventLog;
use sluice_events::{LogTime, Partition, RecordBuffer};
use std::fmt::Write;

const JSON: &str = "topics.events_format=json";
const ACTIVITY: &str =
    "SELECT window_start, event_type, country, events, customers, quantity, revenue FROM live.activity";
const SILVER: &str = "SELECT * EXCEPT (_log_time) FROM silver.events";

/// Half an hour of a small shop, some lines twice, some that are no events.
fn lines() -> String {
    let kinds = ["page_view", "add_to_cart", "purchase", "page_view", "refund", "teleport"];
    let mut text = String::new();
    for i in 0..1_500_u64 {
        let dice = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let id = if i % 100 == 99 { i - 1 } else { i };
        let kind = kinds[if dice % 50 == 0 { 5 } else { dice as usize % 5 }];
        let millis = 1_709_287_200_000 + id * 1_200;
        let customer = if dice % 7 == 0 { "null".to_owned() } else { (dice % 90).to_string() };
        let country = ["FR", "DE", "ZZ"][dice as usize % 3];
        let price = format!("{}.{:02}", dice % 200, dice % 97);
        writeln!(
            text,
            r#"{{"event_id":"e{id}","event_type":"{kind}","event_time":{millis},"customer_id":{customer},"session_id":"s{}","product_id":"a \"p\" {}","country":"{country}","quantity":{},"unit_price":{price},"currency":"EUR"}}"#,
            dice % 300,
            dice % 40,
            1 + dice % 3,
        )
        .unwrap();
    }
    text
}

#[test]
fn a_replay_through_json_gives_the_rows_of_a_replay_through_avro() {
    let run = |settings: &[&str]| {
        let sluice = Sluice::with(settings);
        std::fs::write(sluice.path("shop.ndjson"), lines()).unwrap();
        sluice.run(&["up", "--replay", "shop.ndjson", "--until-drained"]);
        sluice.verify();
        sluice
    };
    let (avro, json) = (run(&[]), run(&[JSON]));
    let activity = json.query(ACTIVITY);
    assert!(activity.len() > 100, "{} rows", activity.len());
    assert_eq!(activity, avro.query(ACTIVITY));
    let silver = json.query(SILVER);
    assert!(silver.len() > 1_400, "{} rows", silver.len());
    assert_eq!(silver, avro.query(SILVER));
    const SCHEMAS: &str = "SELECT DISTINCT _schema_id FROM bronze.events";
    assert_eq!((json.query(SCHEMAS), avro.query(SCHEMAS)), (vec!["0".to_owned()], vec!["1".to_owned()]));
    const LETTERS: &str = "SELECT stage, reason, source, _offset FROM bronze.dead_letters";
    assert_eq!(json.query(LETTERS), avro.query(LETTERS));
}

#[test]
fn a_foreign_producer_s_json_is_taken_and_what_is_wrong_with_it_is_told() {
    let now = chrono::Utc::now();
    let good = |id: &str| {
        format!(
            r#"{{ "event_time": "{}", "event_type": "purchase", "event_id": "{id}", "quantity": "2", "unit_price": "19.90", "product_id": 17, "shop": {{"till": 4}} }}"#,
            now.to_rfc3339()
        )
    };
    let bad = [
        ("bad_json", "<html>502 Bad Gateway</html>".to_owned()),
        ("unknown_event_type", good("t").replace("purchase", "teleport")),
        ("missing_field", good("m").replace("event_id", "id")),
        ("price_out_of_range", good("p").replace("19.90", "0.123456")),
        ("missing_product_id", good("n").replace(r#""product_id": 17"#, r#""product_id": null"#)),
    ];
    let sluice = Sluice::with(&[JSON, "topics.partitions=1"]);
    let log = sluice.log();
    log.ensure_topic("events", 1).unwrap();
    let mut records = RecordBuffer::new();
    for (i, (_, value)) in bad.iter().enumerate() {
        for value in [&good(&format!("e{i}")), value] {
            records.push(LogTime::new(now.timestamp_millis()), None, Some(value.as_bytes()), &[]);
        }
    }
    log.append("events", Partition::new(0), &records).unwrap();
    log.flush().unwrap();
    drop(log);

    sluice.run(&["up", "--no-producer", "--until-drained"]);

    let mut expected: Vec<_> =
        bad.iter().enumerate().map(|(i, (reason, _))| format!("{reason},{}", 2 * i + 1)).collect();
    expected.sort_unstable();
    assert_eq!(sluice.query("SELECT reason, _offset FROM bronze.dead_letters"), expected);
    let silver = sluice.query("SELECT event_id, product_id, quantity, unit_price FROM silver.events");
    assert_eq!(silver, (0..bad.len()).map(|i| format!("e{i},17,2,19.9000")).collect::<Vec<_>>());
    sluice.verify();
}
