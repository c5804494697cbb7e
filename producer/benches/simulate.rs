//! Simulated events a second, made and encoded, and into the embedded log; replayed lines a second.
//!
//! `cargo bench -p sluice-producer` measures; `cargo test --benches` runs the same tiny.

use sluice_event_log::{EmbeddedConfig, EmbeddedLog, EventLog, FsyncPolicy};
use sluice_events::{DeadLetter, EventEncoder, EventFormat, EventTime, LogTime, Schemas, Subject, TopicCodec};
use sluice_producer::{
    NoProgress, ProducerTopics, ReplayConfig, SimulateConfig, Simulation, SimulationPlan, SystemClock, replay, simulate,
};
use std::{
    env,
    fs::File,
    io::{BufWriter, Write},
    path::Path,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};
use xxhash_rust::xxh3::Xxh3;

fn main() {
    let events = if env::args().any(|a| a == "--bench") { 3_000_000 } else { 3_000 };
    let dir = tempfile::tempdir().expect("a temporary folder");
    made_and_encoded(events);
    into_the_log(events, &dir.path().join("simulate"));
    replayed(events, dir.path());
}

fn plan(events: u64) -> SimulationPlan {
    let config = SimulateConfig {
        seed: 42,
        start: Some(EventTime::new(1_732_881_600_000)),
        rate: 2_000.0,
        events: Some(events),
        speed: 0.0,
        ..SimulateConfig::default()
    };
    SimulationPlan::new(config, Vec::new(), LogTime::new(0)).expect("the knobs are good")
}

fn topics() -> ProducerTopics {
    let schemas = Schemas::shipped();
    ProducerTopics {
        events: "events".into(),
        dead_letters: "dead-letters".into(),
        event_encoder: EventEncoder::new(EventFormat::Avro, &schemas),
        dead_letter_codec: TopicCodec::<DeadLetter>::new(schemas.subject(Subject::DeadLetters)),
    }
}

fn open(dir: &Path) -> EmbeddedLog {
    let log = EmbeddedLog::open(&EmbeddedConfig {
        dir: dir.to_owned(),
        fsync: FsyncPolicy::Interval,
        fsync_interval: Duration::from_millis(100),
        retention_age: Duration::ZERO,
        retention_bytes: 0,
    })
    .expect("the log opens");
    log.ensure_topic("events", 4).expect("the topic is made");
    log.ensure_topic("dead-letters", 1).expect("the topic is made");
    log
}

fn made_and_encoded(events: u64) {
    let began = Instant::now();
    let mut simulation = Simulation::new(&plan(events), EventEncoder::Avro { schema_id: 1 });
    let opened = began.elapsed();
    let began = Instant::now();
    let (mut records, mut bytes, mut hash) = (0, 0, Xxh3::new());
    while let Some(parcel) = simulation.next_parcel() {
        records += 1;
        bytes += parcel.value.len() as u64;
        hash.update(parcel.value);
    }
    tell("made and encoded", records, bytes, began.elapsed());
    println!("  hash {:016x}, shop opened in {opened:.2?}", hash.digest());
}

fn into_the_log(events: u64, dir: &Path) {
    let log = open(dir);
    let began = Instant::now();
    let stop = AtomicBool::new(false);
    let summary = simulate(&plan(events), &log, &topics(), &SystemClock, &stop, &NoProgress).expect("the log takes it");
    tell("into the embedded log", summary.records(), summary.bytes, began.elapsed());
}

fn replayed(events: u64, dir: &Path) {
    let file = dir.join("events.ndjson");
    let mut out = BufWriter::new(File::create(&file).expect("a file"));
    for i in 0..events {
        writeln!(
            out,
            "{{\"event_id\":\"red{i:019x}\",\"event_type\":\"page_view\",\"event_time\":\"2019-10-01T00:00:{:02}.000Z\",\"customer_id\":\"{}\",\"session_id\":\"72d76fde-8bb3-4e00-8c23-{i:012x}\",\"product_id\":\"44600062\",\"category\":null,\"country\":\"ZZ\",\"quantity\":1,\"unit_price\":35.79,\"currency\":\"USD\"}}",
            i % 60,
            541_312_140 + i % 9_973
        )
        .expect("the disk takes it");
    }
    drop(out);
    let log = open(&dir.join("replay"));
    let config = ReplayConfig { files: vec![file], speed: 0.0 };
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let summary = replay(&config, &log, &topics(), &SystemClock, &stop, &NoProgress).expect("the log takes it");
    tell("NDJSON replayed into the embedded log", summary.events, summary.bytes, began.elapsed());
    let began = Instant::now();
    let again = replay(&config, &log, &topics(), &SystemClock, &stop, &NoProgress).expect("the log answers");
    assert_eq!((again.events, again.skipped), (0, events));
    tell("the same again: found and skipped", again.skipped, again.bytes, began.elapsed());
}

fn tell(what: &str, records: u64, bytes: u64, took: Duration) {
    let seconds = took.as_secs_f64();
    println!(
        "{what}: {records} records in {seconds:.2} s, {:.0} records/s, {:.1} MB/s",
        records as f64 / seconds,
        bytes as f64 / seconds / 1e6
    );
}
