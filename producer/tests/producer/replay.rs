//! Files into the log: every line once, as an event or as a dead letter.

use crate::{decode, memory_log::MemoryLog, topics};
use flate2::{Compression, write::GzEncoder};
use sluice_events::{DeadLetter, Reason, Stage};
use sluice_producer::{
    NoProgress, POSITION_HEADER, ProducerError, ReplayConfig, ReplaySummary, SOURCE_HEADER, SystemClock, replay,
};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

pub(crate) fn replay_all(files: &[PathBuf], log: &MemoryLog) -> Result<ReplaySummary, ProducerError> {
    let config = ReplayConfig { files: files.to_vec(), speed: 0.0 };
    replay(&config, log, &topics(), &SystemClock, &AtomicBool::new(false), &NoProgress)
}

fn write(dir: &Path, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(content).unwrap();
    packed.finish().unwrap()
}

fn letters(log: &MemoryLog) -> Vec<DeadLetter> {
    let codec = topics().dead_letter_codec;
    log.all("dead-letters").iter().map(|(_, r)| codec.decode(r.value.unwrap()).unwrap()).collect()
}

/// Events of many customers, a bad line now and then, a blank one too.
fn mixed_lines(count: usize) -> String {
    let line = |i: usize| match i % 50 {
        13 => format!("{{\"event_id\":\"e{i}\",\"event_type\":\"teleport\",\"event_time\":\"2024-03-01\"}}\n"),
        27 => "\n".to_owned(),
        _ => format!(
            "{{\"event_id\":\"e{i}\",\"event_type\":\"purchase\",\"event_time\":\"2024-03-01T10:00:00Z\",\"customer_id\":\"c{}\",\"product_id\":\"p\",\"quantity\":1,\"unit_price\":9.99}}\n",
            i % 97
        ),
    };
    (0..count).map(line).collect()
}

/// Line numbers that arrived, over all topics and partitions.
fn positions(log: &MemoryLog) -> Vec<u64> {
    let mut all = Vec::new();
    for topic in ["events", "dead-letters"] {
        for records in log.partitions(topic) {
            let of_partition: Vec<u64> = records
                .iter()
                .map(|(_, r)| std::str::from_utf8(r.header(POSITION_HEADER).unwrap()).unwrap().parse().unwrap())
                .collect();
            assert!(of_partition.is_sorted(), "a partition keeps the file's order");
            all.extend(of_partition);
        }
    }
    all.sort_unstable();
    all
}

#[test]
fn bad_lines_become_dead_letters_with_their_reason_and_place() {
    let dir = tempfile::tempdir().unwrap();
    let lines = [
        r#"{"event_id":"e1","event_type":"page_view","event_time":"2024-03-01T10:00:00Z","customer_id":"c1"}"#,
        r#"{"event_type":"page_view","event_time":"2024-03-01T10:00:00Z"}"#,
        "",
        r#"{"event_id":"e4","event_type":"teleport","event_time":"2024-03-01T10:00:00Z"}"#,
        r#"{"event_id":"e5","event_type":"page_view","event_time":"soon"}"#,
        r#"{"event_id":"e6","event_type":"purchase","event_time":"2024-03-01T10:00:00Z","product_id":"p"}"#,
        r#"{"event_id":"e7","event_type":"page_view","event_time":"2024-03-01T10:00:00Z","quantity":1.5}"#,
        "not json",
        r#"{"event_id":"e9","event_type":"purchase","event_time":1709287200,"product_id":"p","quantity":"2","unit_price":"0.10"}"#,
    ];
    let file = write(dir.path(), "day.ndjson", lines.join("\r\n").as_bytes());
    let log = MemoryLog::new(3);
    let summary = replay_all(&[file], &log).unwrap();
    assert_eq!((summary.lines, summary.events, summary.dead_letters, summary.blank_lines), (9, 2, 6, 1));
    let found: Vec<_> = letters(&log).into_iter().map(|l| (l.position, l.reason)).collect();
    let expected = [
        (2, Reason::MissingField),
        (4, Reason::UnknownEventType),
        (5, Reason::BadTime),
        (6, Reason::MissingField),
        (7, Reason::BadField),
        (8, Reason::BadJson),
    ];
    assert_eq!(found, expected);
    for letter in letters(&log) {
        assert_eq!((letter.stage, letter.source.as_str()), (Stage::Replay, "day.ndjson"));
        assert_eq!(letter.value.unwrap(), lines[letter.position as usize - 1].as_bytes(), "the raw line");
    }
    let (rows, _) = decode(&log.all("events"));
    let bought = rows.iter().find(|r| r.event_id == "e9").unwrap();
    assert_eq!((bought.quantity, bought.unit_price, bought.millis), (2, 1_000, 1_709_287_200_000));
    let all = log.all("events");
    let source = std::str::from_utf8(all.get(0).header(SOURCE_HEADER).unwrap()).unwrap();
    assert!(source.starts_with("day.ndjson#") && source.len() == 11 + 16, "{source}");
}

#[test]
fn csv_plain_or_packed_with_mark_and_crlf_gives_the_same_events() {
    let dir = tempfile::tempdir().unwrap();
    let csv = "\u{feff}color,event_time,event_id,event_type,quantity,unit_price,product_id,category\r\n\
               red,2024-03-01T10:00:00Z,e1,purchase,2,9.99,p1,\"shoes, \"\"left\"\"\"\r\n\
               \r\n\
               blue,01/03/2024,e2,page_view,,,p2,\r\n\
               green,2024-03-01T10:00:00Z,e3,purchase\r\n";
    let plain = write(dir.path(), "shop.csv", csv.as_bytes());
    let packed = write(dir.path(), "other.csv.gz", &gzip(csv.as_bytes()));
    let mut results = Vec::new();
    for file in [plain, packed] {
        let log = MemoryLog::new(1);
        let summary = replay_all(&[file], &log).unwrap();
        assert_eq!((summary.lines, summary.events, summary.dead_letters, summary.blank_lines), (5, 2, 1, 1));
        assert_eq!(letters(&log)[0].reason, Reason::BadCsv);
        assert_eq!(letters(&log)[0].position, 5);
        results.push(decode(&log.all("events")).0);
    }
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0][0].category, "shoes, \"left\"");
    assert_eq!((results[0][1].quantity, results[0][1].millis), (1, 1_709_251_200_000));
}

#[test]
fn a_header_without_the_needed_columns_stops_the_replay_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "bad.csv", b"\nid,type\n1,page_view\n");
    let message = replay_all(&[file], &MemoryLog::new(1)).unwrap_err().to_string();
    assert!(
        message.contains("bad.csv, line 2: the header has no column event_id, event_type, event_time"),
        "{message}"
    );
    assert_eq!(replay_all(&[write(dir.path(), "empty.csv", b"")], &MemoryLog::new(1)).unwrap().lines, 0);
}

#[test]
fn a_replay_killed_at_any_moment_goes_on_without_loss_or_repeat() {
    let dir = tempfile::tempdir().unwrap();
    let content = mixed_lines(20_000);
    let files = [
        write(dir.path(), "a.ndjson", content.as_bytes()),
        write(dir.path(), "b.ndjson.gz", &gzip(mixed_lines(9_000).as_bytes())),
    ];
    let whole = MemoryLog::new(4);
    let undisturbed = replay_all(&files, &whole).unwrap();
    let (mut rows, _) = decode(&whole.all("events"));
    rows.sort();
    for life in [0, 1, 777, 5_000, 13_333, 19_999, 26_000] {
        let log = MemoryLog::new(4);
        log.dies_after(life);
        assert!(replay_all(&files, &log).is_err(), "killed after {life}");
        // The second run is killed too; the third comes through.
        log.dies_after(500);
        assert!(replay_all(&files, &log).is_err());
        log.dies_after(usize::MAX);
        let rest = replay_all(&files, &log).unwrap();
        assert_eq!(rest.skipped, (life + 500) as u64);
        assert_eq!(rest.events + rest.dead_letters + rest.skipped, undisturbed.events + undisturbed.dead_letters);
        let (mut again, _) = decode(&log.all("events"));
        again.sort();
        assert_eq!(again, rows, "killed after {life}");
        assert_eq!(letters(&log).len() as u64, undisturbed.dead_letters);
    }
    let again = replay_all(&files, &whole).unwrap();
    assert_eq!((again.events, again.dead_letters), (0, 0), "a finished replay sends nothing again");
}

#[test]
fn every_line_of_a_file_arrives_once_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "a", mixed_lines(3_000).as_bytes());
    let log = MemoryLog::new(4);
    let summary = replay_all(&[file], &log).unwrap();
    let expected: Vec<u64> = (1..=3_000).filter(|n| (n - 1) % 50 != 27).collect();
    assert_eq!(positions(&log), expected);
    assert_eq!(summary.blank_lines, 60);
}

#[test]
fn other_records_in_the_topic_do_not_hide_where_a_file_stands() {
    let dir = tempfile::tempdir().unwrap();
    let first = write(dir.path(), "first.ndjson", mixed_lines(100).as_bytes());
    let other = write(dir.path(), "other.ndjson", mixed_lines(30_000).as_bytes());
    let log = MemoryLog::new(2);
    let sent = replay_all(std::slice::from_ref(&first), &log).unwrap();
    replay_all(&[other], &log).unwrap();
    let again = replay_all(&[first], &log).unwrap();
    assert_eq!((again.events, again.skipped), (0, sent.events + sent.dead_letters));
}

#[test]
fn damaged_compression_is_named_and_what_stood_before_it_can_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let packed = gzip(mixed_lines(5_000).as_bytes());
    let file = write(dir.path(), "cut.ndjson.gz", &packed[..packed.len() - 100]);
    let message = replay_all(std::slice::from_ref(&file), &MemoryLog::new(2)).unwrap_err().to_string();
    assert!(message.contains("cut.ndjson.gz"), "{message}");
}

#[test]
fn a_line_of_megabytes_becomes_a_dead_letter_with_its_head() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{{\"event_id\":\"{}\"}}\n{}", "x".repeat(10_000_000), mixed_lines(3));
    let file = write(dir.path(), "long.ndjson", long.as_bytes());
    let log = MemoryLog::new(1);
    let summary = replay_all(&[file], &log).unwrap();
    assert_eq!((summary.events, summary.dead_letters), (3, 1));
    let letter = &letters(&log)[0];
    assert_eq!((letter.reason, letter.value.as_ref().unwrap().len()), (Reason::TooLarge, 1_000_000));
    assert!(letter.message.contains("9000015 bytes too long"), "{}", letter.message);
}
