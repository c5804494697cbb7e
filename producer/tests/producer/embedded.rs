//! The same against the log that `sluice up` uses.

use crate::{decode, simulate::config, topics};
use sluice_event_log::{EmbeddedConfig, EmbeddedLog, EventLog, FsyncPolicy};
use sluice_events::{LogTime, Offset, Partition};
use sluice_producer::{NoProgress, ReplayConfig, SimulationPlan, SystemClock, replay, simulate};
use std::{fs, path::Path, sync::atomic::AtomicBool, time::Duration};

fn open(dir: &Path) -> EmbeddedLog {
    let log = EmbeddedLog::open(&EmbeddedConfig {
        dir: dir.join("log"),
        fsync: FsyncPolicy::Interval,
        fsync_interval: Duration::from_millis(100),
        retention_age: Duration::ZERO,
        retention_bytes: 0,
    })
    .unwrap();
    log.ensure_topic("events", 4).unwrap();
    log.ensure_topic("dead-letters", 2).unwrap();
    log
}

fn count(log: &EmbeddedLog, topic: &str) -> i64 {
    let partitions = log.partition_count(topic).unwrap();
    (0..partitions).map(|p| log.offsets(topic, Partition::new(p)).unwrap().end.get()).sum()
}

#[test]
fn a_simulated_stream_reads_back_whole_and_is_stamped_by_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let plan = SimulationPlan::new(config(), Vec::new(), LogTime::new(0)).unwrap();
    let summary = simulate(&plan, &log, &topics(), &SystemClock, &AtomicBool::new(false), &NoProgress).unwrap();
    assert_eq!(count(&log, "events") as u64, summary.records());
    let mut reader = log.reader("events", Partition::new(0), Offset::new(0)).unwrap();
    let records = reader.next(1_000, Duration::from_secs(5)).unwrap();
    let (rows, undecodable) = decode(&records);
    assert!(rows.len() >= 1_000 && undecodable == 0);
    assert!(records.get(0).time.get() > 1_700_000_000_000);
}

#[test]
fn a_replay_into_a_reopened_log_sends_only_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("events.csv");
    let rows: String = (0..30_000).map(|i| format!("e{i},page_view,1709287200,c{}\n", i % 61)).collect();
    fs::write(&file, format!("event_id,event_type,event_time,customer_id\n{rows}broken\n")).unwrap();
    let config = ReplayConfig { files: vec![file], speed: 0.0 };
    for expected in [(30_000, 1, 0), (0, 0, 30_001)] {
        let log = open(dir.path());
        let summary = replay(&config, &log, &topics(), &SystemClock, &AtomicBool::new(false), &NoProgress).unwrap();
        assert_eq!((summary.events, summary.dead_letters, summary.skipped), expected);
        assert_eq!((count(&log, "events"), count(&log, "dead-letters")), (30_000, 1));
    }
}
