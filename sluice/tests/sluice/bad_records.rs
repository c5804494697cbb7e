//! Records that cannot be events, in the middle of good ones.

use crate::support::Sluice;
use sluice_event_log::EventLog;
use sluice_events::{Event, EventTime, EventType, LogTime, Partition, RecordBuffer, encode_event};

const EVENTS_SCHEMA: u32 = 1;

fn encoded(id: &str, event_time: i64) -> Vec<u8> {
    let event = Event {
        event_id: id,
        event_type: EventType::PageView,
        event_time: EventTime::new(event_time),
        customer_id: Some("c1"),
        session_id: None,
        order_id: None,
        product_id: Some("p1"),
        category: None,
        country: Some("FR"),
        device: None,
        channel: None,
        quantity: 1,
        unit_price: None,
        currency: None,
    };
    let mut out = Vec::new();
    encode_event(&event, EVENTS_SCHEMA, &mut out);
    out
}

#[test]
fn each_kind_of_bad_record_is_a_dead_letter_with_its_own_reason_and_the_stream_goes_on() {
    let now = chrono::Utc::now().timestamp_millis();
    let good = encoded("good", now);
    let mut unknown_schema = good.clone();
    unknown_schema[1..5].copy_from_slice(&999_u32.to_be_bytes());
    // The schema of another topic.
    let mut incompatible = good.clone();
    incompatible[1..5].copy_from_slice(&(EVENTS_SCHEMA + 1).to_be_bytes());
    // After the magic byte, the id and the event id "odd" with its length stands the symbol's number, zigzag.
    let mut unknown_type = encoded("odd", now);
    unknown_type[5 + 4] = 60 << 1;
    let (in_1970, in_2100) = (86_400_000, 4_102_444_800_000);
    let mut ten_megabytes = good.clone();
    ten_megabytes.resize(10 << 20, b'x');
    // An event id whose length has more than 64 bits.
    let mut long_varint = good[..5].to_vec();
    long_varint.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    let bad: [(&str, Vec<u8>); 10] = [
        ("malformed_body", long_varint),
        ("bad_event_time", encoded("nanoseconds", now * 1_000_000)),
        ("no_magic_byte", b"{\"event\":\"not avro\"}".to_vec()),
        ("unknown_schema_id", unknown_schema),
        ("incompatible_schema", incompatible),
        ("truncated_body", good[..good.len() - 3].to_vec()),
        ("value_too_large", ten_megabytes),
        ("unknown_event_type", unknown_type),
        ("before_1980", encoded("old", in_1970)),
        ("future", encoded("ahead", in_2100)),
    ];

    let sluice = Sluice::with(&["topics.partitions=1"]);
    let log = sluice.log();
    log.ensure_topic("events", 1).unwrap();
    let mut records = RecordBuffer::new();
    let mut push = |value: &[u8]| records.push(LogTime::new(now), Some(b"c1"), Some(value), &[("made-by", b"a test")]);
    for (i, (_, value)) in bad.iter().enumerate() {
        push(&encoded(&format!("before-{i}"), now + i as i64));
        push(value);
    }
    push(&encoded("last", now));
    log.append("events", Partition::new(0), &records).unwrap();
    log.flush().unwrap();
    drop(log);

    sluice.run(&["up", "--no-producer", "--until-drained"]);

    let found = sluice
        .query("SELECT reason, _offset, source, character_length(encode(value, 'hex')) / 2 FROM bronze.dead_letters");
    let mut expected: Vec<String> = bad
        .iter()
        .enumerate()
        .map(|(i, (reason, value))| format!("{reason},{},events,{}", 2 * i + 1, value.len()))
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(sluice.number("SELECT count(*) FROM silver.events"), bad.len() as u64 + 1);
    let report = sluice.verify();
    let ledger = &report["partitions"][0];
    assert_eq!((&ledger["end_offset"], &ledger["undecodable"], &ledger["invalid"]), (&21.into(), &8.into(), &2.into()));
}

#[test]
fn lines_that_cannot_be_events_reach_the_lake_with_file_and_line() {
    let sluice = Sluice::new();
    let good = r#"{"event_id":"a","event_type":"page_view","event_time":"2024-03-01T10:00:00Z","product_id":"p"}"#;
    let text = format!("{good}\nnot json\n{}\n", good.replace("\"a\"", "\"b\"").replace("page_view", "teleported"));
    std::fs::write(sluice.path("mixed.ndjson"), text).unwrap();
    sluice.run(&["up", "--replay", "mixed.ndjson", "--until-drained"]);
    let letters = sluice.query("SELECT stage, reason, source, _offset FROM bronze.dead_letters");
    assert_eq!(letters, ["replay,bad_json,mixed.ndjson,2", "replay,unknown_event_type,mixed.ndjson,3"]);
    assert_eq!(sluice.number("SELECT count(*) FROM silver.events"), 1);
    sluice.verify();
}
