//! Dead letters: looked at, and sent through the stream again, each once.

use crate::support::{Services, Sluice, interrupt, skipped, wait_for};
use serde_json::Value;
use sluice_event_log::{EventLog, KafkaConfig, KafkaLog};
use sluice_events::{Event, EventTime, EventType, LogTime, Partition, RecordBuffer, encode_event};
use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const EVENTS_SCHEMA: u32 = 1;
const TWO_DAYS: i64 = 2 * 86_400_000;
const FUTURE: &str = "time.max_future_skew=10d";
const DRAIN: [&str; 3] = ["up", "--no-producer", "--until-drained"];

fn now() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

fn purchase(id: &str, event_time: i64, quantity: i32, category: &str) -> Vec<u8> {
    let event = Event {
        event_id: id,
        event_type: EventType::Purchase,
        event_time: EventTime::new(event_time),
        customer_id: Some("c1"),
        session_id: None,
        order_id: None,
        product_id: Some("p1"),
        category: Some(category),
        country: Some("FR"),
        device: None,
        channel: None,
        quantity,
        unit_price: None,
        currency: None,
    };
    let mut out = Vec::new();
    encode_event(&event, EVENTS_SCHEMA, &mut out);
    out
}

/// Puts records into a topic of two partitions: all of them into the second one.
fn put(sluice: &Sluice, values: &[Vec<u8>]) {
    let log = sluice.log();
    log.ensure_topic("events", 2).unwrap();
    let mut records = RecordBuffer::new();
    for value in values {
        records.push(LogTime::new(now()), Some(b"c1"), Some(value), &[("made-by", b"a test")]);
    }
    log.append("events", Partition::new(1), &records).unwrap();
    log.flush().unwrap();
}

fn shop() -> Sluice {
    Sluice::with(&["topics.partitions=2"])
}

/// What `dlq replay --json` says of each letter, and how it ended.
fn outcomes(output: &Output) -> (BTreeMap<String, String>, Option<i32>) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let letters = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).filter_map(|line| {
        let told = |key: &str| line[key].as_str().map(str::to_owned);
        Some((told("letter")?, format!("{} {}", told("outcome")?, told("reason").unwrap_or_default())))
    });
    (letters.map(|(letter, told)| (letter, told.trim().to_owned())).collect(), output.status.code())
}

fn replay(sluice: &Sluice, args: &[&str]) -> (BTreeMap<String, String>, Option<i32>) {
    outcomes(&sluice.output(&[&["dlq", "replay", "--json"], args].concat()))
}

fn expected(told: &[(&str, &str)]) -> BTreeMap<String, String> {
    told.iter().map(|(letter, told)| ((*letter).to_owned(), (*told).to_owned())).collect()
}

#[test]
fn what_is_good_by_the_rules_of_now_is_accepted_once_and_the_rest_says_why_not() {
    let mut sluice = shop();
    sluice.set("process.value_bytes_max=400");
    let mut unknown_schema = purchase("unknown", now(), 1, "");
    unknown_schema[1..5].copy_from_slice(&999_u32.to_be_bytes());
    let mut truncated = purchase("cut", now(), 1, "");
    truncated.truncate(truncated.len() - 3);
    let ahead = now() + TWO_DAYS;
    put(
        &sluice,
        &[
            purchase("good", now(), 1, ""),
            purchase("ahead", ahead, 1, ""),
            purchase("large", now(), 1, &"x".repeat(1_000)),
            purchase("nothing", now(), 0, ""),
            truncated,
            unknown_schema,
            // The same event again, and one whose id is taken.
            purchase("ahead", ahead, 1, ""),
            purchase("good", ahead, 1, ""),
        ],
    );
    std::fs::write(sluice.path("bad.ndjson"), "not json\n").unwrap();
    std::fs::write(sluice.path("bad.csv"), "event_id,event_type,event_time\ne1,teleported,2024-03-01\n").unwrap();
    sluice.run(&["up", "--replay", "bad.ndjson", "bad.csv", "--until-drained"]);

    let listed = String::from_utf8(sluice.run(&["dlq", "list", "--format", "csv"]).stdout).unwrap();
    let lines: Vec<&str> =
        listed.lines().filter_map(|line| line.split(',').next()).filter(|name| name.starts_with("bad")).collect();
    let line_of = |file: &str| *lines.iter().find(|name| name.starts_with(file)).unwrap();
    let (json_line, csv_line) = (line_of("bad.ndjson:1@"), line_of("bad.csv:2@"));
    assert_eq!(listed.lines().count(), 1 + 9, "{listed}");
    let decode =
        String::from_utf8(sluice.run(&["dlq", "list", "--stage", "decode", "--format", "csv"]).stdout).unwrap();
    assert_eq!(decode.lines().count(), 1 + 3, "{decode}");
    assert!(decode.contains("unknown_schema_id,999,"), "the schema id is told: {decode}");

    sluice.set(FUTURE);
    sluice.set("process.value_bytes_max=4000");
    let before = (sluice.verify(), std::fs::read_dir(sluice.path("shop/lake/bronze")).unwrap().count());
    let (told, code) = replay(&sluice, &["--dry-run"]);
    let mut would = expected(&[
        ("events:1:1", "would_be_replayed"),
        ("events:1:2", "would_be_replayed"),
        ("events:1:3", "refused bad_quantity"),
        ("events:1:4", "refused truncated_body"),
        ("events:1:5", "refused unknown_schema_id"),
        ("events:1:6", "already_accepted"),
        ("events:1:7", "already_accepted"),
        (json_line, "refused bad_json"),
        (csv_line, "cannot"),
    ]);
    assert_eq!((told, code), (would.clone(), Some(1)));
    let after = (sluice.verify(), std::fs::read_dir(sluice.path("shop/lake/bronze")).unwrap().count());
    assert_eq!(after, before, "a dry run changes nothing");

    let (told, code) = replay(&sluice, &["--all"]);
    would.extend(expected(&[("events:1:1", "replayed"), ("events:1:2", "replayed")]));
    assert_eq!((told, code), (would.clone(), Some(1)));
    // Before the stream has seen them, and after.
    would.extend(expected(&[("events:1:1", "already_replayed"), ("events:1:2", "already_replayed")]));
    assert_eq!(replay(&sluice, &["--all"]), (would.clone(), Some(1)));
    sluice.run(&DRAIN);
    assert_eq!(replay(&sluice, &["--all"]), (would, Some(1)));
    assert_eq!(replay(&sluice, &["events:1:1"]), (expected(&[("events:1:1", "already_replayed")]), Some(0)));
    sluice.run(&DRAIN);

    let silver = sluice.query("SELECT event_id, _partition, _offset, character_length(category) FROM silver.events");
    assert_eq!(silver, ["ahead,1,8,0", "good,1,0,0", "large,1,9,1000"]);
    let noted = sluice.query("SELECT letter, event_id, outcome, _partition, _offset FROM bronze.dead_letter_replays");
    assert_eq!(
        noted,
        [
            "events:1:1,ahead,intended,1,8",
            "events:1:1,ahead,replayed,1,8",
            "events:1:2,large,intended,1,8",
            "events:1:2,large,replayed,1,9"
        ]
    );
    let report = sluice.verify();
    assert_eq!(report["partitions"][0]["end_offset"], 10);
    sluice.run(&["verify", "--deep"]);
    let summary = sluice.run(&["dlq", "list", "--summary", "--format", "csv"]);
    let summary = String::from_utf8(summary.stdout).unwrap();
    assert!(summary.contains("validate,future,3,1,") && summary.contains("decode,value_too_large,1,1,"), "{summary}");
}

#[test]
fn a_letter_is_shown_with_what_can_be_read_of_it() {
    let sluice = shop();
    let mut truncated = purchase("cut", now(), 1, "");
    truncated.truncate(truncated.len() - 3);
    put(&sluice, &[truncated]);
    std::fs::write(sluice.path("bad.ndjson"), "not json\n").unwrap();
    sluice.run(&["up", "--replay", "bad.ndjson", "--until-drained"]);
    let shown = String::from_utf8(sluice.run(&["dlq", "show", "events:1:0"]).stdout).unwrap();
    for part in [
        "truncated_body",
        "topic events, partition 1, offset 0",
        "schema      1 sluice.commerce.Event",
        "made-by: a test",
        "000000  00 00 00 00 01 06 63 75 74",
        "event_id         \"cut\"",
        "then: quantity",
        "a replay    refused: truncated_body",
    ] {
        assert!(shown.contains(part), "{part} is not in:\n{shown}");
    }
    // Its file's name and its line are enough when there is one.
    let shown = String::from_utf8(sluice.run(&["dlq", "show", "bad.ndjson:1"]).stdout).unwrap();
    assert!(shown.contains("file bad.ndjson, line 1") && shown.contains("  not json"), "{shown}");
    let json: Value = serde_json::from_slice(&sluice.run(&["dlq", "show", "events:1:0", "--json"]).stdout).unwrap();
    assert_eq!(json["readable"]["fields"]["event_id"], "\"cut\"");
    assert_eq!((&json["schema_id"], &json["replay"]["outcome"]), (&1.into(), &"refused".into()));
}

#[test]
fn a_replay_that_dies_at_any_step_is_finished_by_the_next_one() {
    let points = [
        "bronze.dead_letter_replays/before commit",
        "bronze.dead_letter_replays/after commit",
        "dlq/before append",
        "dlq/after append",
        "bronze.dead_letter_replays/before commit#2",
        "bronze.dead_letter_replays/after commit#2",
    ];
    for (point, stream_between) in points.into_iter().flat_map(|point| [(point, false), (point, true)]) {
        let case = format!("{point}, the stream runs between: {stream_between}");
        let mut sluice = shop();
        let ahead = now() + TWO_DAYS;
        put(&sluice, &[purchase("good", now(), 1, ""), purchase("a", ahead, 1, ""), purchase("b", ahead, 1, "")]);
        sluice.run(&DRAIN);
        sluice.set(FUTURE);
        let died = sluice.command(&["dlq", "replay", "--all"]).env("SLUICE_FAULT_POINT", point).output().unwrap();
        let said = String::from_utf8_lossy(&died.stderr).into_owned();
        assert!(!died.status.success() && said.contains("fault point"), "{case}: {said}");
        if stream_between {
            sluice.run(&DRAIN);
        }
        let (told, code) = replay(&sluice, &["--all"]);
        let had_sent = points.iter().position(|p| *p == point).unwrap() >= 3;
        let outcome = match point {
            "bronze.dead_letter_replays/after commit#2" => "already_replayed",
            _ if had_sent => "found",
            _ => "replayed",
        };
        assert_eq!((told, code), (expected(&[("events:1:1", outcome), ("events:1:2", outcome)]), Some(0)), "{case}");
        let (told, _) = replay(&sluice, &["--all"]);
        assert!(told.values().all(|outcome| outcome == "already_replayed"), "{case}: {told:?}");
        sluice.run(&DRAIN);
        // Each is in bronze as it was refused, and once more.
        let rows = |table: &str| sluice.query(&format!("SELECT event_id, _offset FROM {table}"));
        assert_eq!(rows("bronze.events"), ["a,1", "a,3", "b,2", "b,4", "good,0"], "{case}");
        assert_eq!(rows("silver.events"), ["a,3", "b,4", "good,0"], "{case}");
        let done = "SELECT letter, _offset FROM bronze.dead_letter_replays WHERE outcome <> 'intended'";
        assert_eq!(sluice.query(done), ["events:1:1,3", "events:1:2,4"], "{case}");
        sluice.verify();
    }
}

#[test]
fn a_file_that_is_replayed_again_sends_nothing_after_its_letters_were() {
    let mut sluice = Sluice::new();
    let line = |id: u32, time: i64| {
        format!(
            "{{\"event_id\":\"e{id}\",\"event_type\":\"page_view\",\"event_time\":{time},\"customer_id\":\"c1\",\"product_id\":\"p\"}}\n"
        )
    };
    let text: String = (0..6).map(|id| line(id, now() + if id == 1 { TWO_DAYS } else { 0 })).collect();
    std::fs::write(sluice.path("shop.ndjson"), text).unwrap();
    let replay_file = ["up", "--replay", "shop.ndjson", "--until-drained"];
    sluice.run(&replay_file);
    sluice.set(FUTURE);
    let (told, code) = replay(&sluice, &["--reason", "future"]);
    assert_eq!((told.values().map(String::as_str).collect::<Vec<_>>(), code), (vec!["replayed"], Some(0)));
    sluice.run(&replay_file);
    assert_eq!(sluice.number("SELECT count(*) FROM bronze.events"), 6 + 1);
    assert_eq!(sluice.number("SELECT count(*) FROM silver.events"), 6);
    sluice.verify();
}

#[test]
fn what_was_refused_stays_refused_when_it_is_read_again_by_other_rules() {
    let mut sluice = shop();
    sluice.set("process.value_bytes_max=400");
    let ahead = now() + TWO_DAYS;
    let large = purchase("large", now(), 1, &"x".repeat(1_000));
    put(&sluice, &[purchase("good", now(), 1, ""), purchase("ahead", ahead, 1, ""), large]);
    sluice.run(&DRAIN);
    sluice.set(FUTURE);
    sluice.set("process.value_bytes_max=4000");
    assert_eq!(replay(&sluice, &["--all"]).1, Some(0));
    // All of the log is read again, and two of its records are good now where they stand.
    std::fs::remove_dir_all(sluice.path("shop/checkpoints")).unwrap();
    sluice.run(&DRAIN);
    assert_eq!(sluice.query("SELECT event_id, _offset FROM silver.events"), ["ahead,3", "good,0", "large,4"]);
    assert_eq!(sluice.query("SELECT reason, _offset FROM bronze.dead_letters"), ["future,1", "value_too_large,2"]);
    sluice.verify();
}

/// A registry that comes to know the schema 77, which is that of events.
fn registry(knows: Arc<AtomicBool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut lines: Vec<String> = Vec::new();
            while lines.last().is_none_or(|line| !line.is_empty()) {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                lines.push(line.trim().to_lowercase());
            }
            let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
            reader.read_exact(&mut vec![0; length]).unwrap();
            let ids = ["/events-", "/partials-", "/kpis-", "/alerts-", "/dead-letters-"];
            let (status, body) = match ids.iter().position(|subject| lines[0].contains(subject)) {
                Some(id) => (200, format!("{{\"id\": {}}}", id + 1)),
                None if lines[0].contains("/schemas/ids/77 ") && knows.load(Ordering::Acquire) => {
                    let schema = include_str!("../../../schemas/event-v1.avsc");
                    (200, serde_json::json!({ "schema": schema }).to_string())
                }
                None => (404, "{}".to_owned()),
            };
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            reader.get_mut().write_all((head + &body).as_bytes()).unwrap();
        }
    });
    url
}

#[test]
fn a_schema_that_is_registered_later_makes_its_letters_good() {
    let knows = Arc::new(AtomicBool::new(false));
    let url = format!("registry.url={}", registry(knows.clone()));
    let sluice = Sluice::with(&["topics.partitions=2", &url]);
    let mut value = purchase("early", now(), 1, "");
    value[1..5].copy_from_slice(&77_u32.to_be_bytes());
    put(&sluice, &[value]);
    sluice.run(&DRAIN);
    let name = "events:1:0";
    assert_eq!(replay(&sluice, &[name]), (expected(&[(name, "refused unknown_schema_id")]), Some(1)));
    knows.store(true, Ordering::Release);
    assert_eq!(replay(&sluice, &[name]), (expected(&[(name, "replayed")]), Some(0)));
    sluice.run(&DRAIN);
    assert_eq!(sluice.query("SELECT event_id, _offset FROM silver.events"), ["early,1"]);
    sluice.verify();
}

#[test]
fn wrong_use_is_told_before_anything_is_done() {
    let sluice = shop();
    let failed = |args: &[&str], code: i32, part: &str| {
        let output = sluice.output(&[&["dlq"], args].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && text.contains(part), "{args:?} {}: {text}", output.status);
    };
    failed(&["replay"], 2, "say which letters");
    failed(&["show", "events:1:0"], 2, "none was ever written");
    sluice.run(&["dlq", "list"]);
    put(&sluice, &[purchase("nothing", now(), 0, "")]);
    sluice.run(&DRAIN);
    failed(&["replay", "events:1:0", "events:1:9"], 2, "there is no dead letter 'events:1:9'");
    failed(&["replay", "events"], 2, "is no letter's name");
    failed(&["replay", "events:1:0", "--reason", "future"], 2, "not both");
    failed(&["list", "--stage", "nowhere"], 2, "is no stage");

    // While a sluice runs, the log is its own; what would be can still be asked.
    let mut child = sluice.start(&["up", "--no-producer"]);
    wait_for("the sluice that runs", || {
        if child.try_wait().unwrap().is_some() {
            // The replay was quicker, and had the log.
            child = sluice.start(&["up", "--no-producer"]);
        }
        std::thread::sleep(Duration::from_secs(1));
        let output = sluice.output(&["dlq", "replay", "--all"]);
        String::from_utf8_lossy(&output.stderr).contains("stop the running sluice first").then_some(())
    });
    let (told, code) = replay(&sluice, &["--dry-run"]);
    assert_eq!((told, code), (expected(&[("events:1:0", "refused bad_quantity")]), Some(1)));
    sluice.run(&["dlq", "show", "events:1:0"]);
    let doctor = String::from_utf8(sluice.run(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("event log: in use by a running sluice"), "{doctor}");
    interrupt(&child);
    assert!(child.wait_with_output().unwrap().status.success());
}

#[test]
fn on_kafka_a_replay_runs_beside_the_stream_and_one_that_died_is_finished() {
    let Ok(kafka) = std::env::var("SLUICE_TEST_KAFKA") else {
        return skipped("dead letters on Kafka", "needs SLUICE_TEST_KAFKA");
    };
    let run = Services::run_name();
    let topics = ["events", "partials", "kpis", "alerts"].map(|topic| format!("topics.{topic}={run}-{topic}"));
    let mut settings = vec![
        "log.kind=kafka".to_owned(),
        format!("log.kafka.bootstrap={kafka}"),
        format!("process.group={run}"),
        format!("topics.dead_letters={run}-dead-letters"),
        "topics.partitions=2".to_owned(),
        "lake.roll_age=500ms".to_owned(),
        "time.max_future_skew=1s".to_owned(),
    ];
    settings.extend(topics);
    let sluice = Sluice::with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    let topic = format!("{run}-events");
    let log =
        KafkaLog::connect(&KafkaConfig { bootstrap: kafka, replication: 1, properties: BTreeMap::new() }).unwrap();
    log.ensure_topic(&topic, 2).unwrap();
    // Good when the log's clock has come there.
    let mut records = RecordBuffer::new();
    for id in ["a", "b"] {
        records.push(LogTime::new(0), Some(b"c1"), Some(&purchase(id, now() + 8_000, 1, "")), &[]);
    }
    log.append(&topic, Partition::new(1), &records).unwrap();
    log.flush().unwrap();
    let child = sluice.start(&["up", "--no-producer"]);
    let listed = || String::from_utf8(sluice.output(&["dlq", "list", "--format", "csv"]).stdout).unwrap();
    wait_for("the letters", || (listed().lines().count() == 3).then_some(()));
    wait_for("their time", || (replay(&sluice, &["--dry-run"]).1 == Some(0)).then_some(()));
    let [a, b] = [format!("{topic}:1:0"), format!("{topic}:1:1")];
    assert_eq!(replay(&sluice, &[&a]), (expected(&[(&a, "replayed")]), Some(0)));
    let died = sluice.command(&["dlq", "replay", &b]).env("SLUICE_FAULT_POINT", "dlq/after append").output().unwrap();
    assert!(!died.status.success());
    assert_eq!(replay(&sluice, &["--all"]), (expected(&[(&a, "already_replayed"), (&b, "found")]), Some(0)));
    wait_for("the events", || (sluice.number("SELECT count(*) FROM silver.events") == 2).then_some(()));
    interrupt(&child);
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(sluice.query("SELECT event_id, _offset FROM silver.events"), ["a,2", "b,3"]);
    assert_eq!(sluice.number("SELECT count(*) FROM bronze.events"), 4);
    sluice.verify();
}
