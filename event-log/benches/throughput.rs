//! How many records a second the embedded log takes and serves, next to a bare fjall that is given the same blocks.
//!
//! `cargo bench -p sluice-event-log` moves 5 million records of 120 bytes, 1,000 an append, with an fsync each 100 ms;
//! `SLUICE_BENCH_RECORDS` sets another number. Where `SLUICE_TEST_KAFKA` names bootstrap servers, a fifth of it goes
//! through Kafka too. Without `--bench`, as `cargo test` runs it, it moves a few thousand.

use sluice_event_log::{EmbeddedConfig, EmbeddedLog, EventLog, FsyncPolicy, KafkaConfig, KafkaLog};
use sluice_events::{LogTime, Offset, Partition, RecordBuffer};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const RECORDS_AN_APPEND: usize = 1_000;
const KEY_BYTES: usize = 12;
const VALUE_BYTES: usize = 108;
const FSYNC_INTERVAL: Duration = Duration::from_millis(100);
const SEED: u64 = 20_240_601;
const P0: Partition = Partition::new(0);

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let records = match std::env::var("SLUICE_BENCH_RECORDS") {
        Ok(text) => text.parse().expect("SLUICE_BENCH_RECORDS is a number"),
        Err(_) if measured => 5_000_000,
        Err(_) => 20_000,
    };
    let appends = usize::max(records / RECORDS_AN_APPEND, 2);
    let blocks = some_blocks();
    println!(
        "{} records of {} bytes, {RECORDS_AN_APPEND} an append, fsync each {FSYNC_INTERVAL:?}, seed {SEED}",
        appends * RECORDS_AN_APPEND,
        KEY_BYTES + VALUE_BYTES
    );

    bare_fjall(&blocks, appends);
    let dir = tempfile::tempdir().expect("make a folder");
    let log = EmbeddedLog::open(&config(dir.path())).expect("open the log");
    let expected = append_and_read(&log, "embedded", "events", &blocks, appends);
    drop(log);
    let again = EmbeddedLog::open(&config(dir.path())).expect("open the log again");
    assert_eq!(read(&again, "events", "embedded: read, opened again, 1,000 a call", appends, 1_000), expected);
    drop(again);
    two_at_once(&blocks, appends);
    if let Ok(bootstrap) = std::env::var("SLUICE_TEST_KAFKA") {
        let kafka = KafkaConfig { bootstrap, replication: 1, properties: Default::default() };
        let log = KafkaLog::connect(&kafka).expect("connect to Kafka");
        append_and_read(&log, "kafka", &format!("bench-{}", std::process::id()), &blocks, usize::max(appends / 5, 2));
    }
}

/// Blocks whose values are part text, part noise, as events are.
fn some_blocks() -> Vec<RecordBuffer> {
    let mut state = SEED;
    let mut noise = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let one = |_| {
        let mut block = RecordBuffer::new();
        for _ in 0..RECORDS_AN_APPEND {
            let key = format!("customer{:04}", noise() % 10_000);
            let mut value =
                format!("page_view product-{:05} electronics.smartphone FR mobile ", noise() % 60_000).into_bytes();
            while value.len() < VALUE_BYTES {
                value.extend_from_slice(&noise().to_le_bytes());
            }
            value.truncate(VALUE_BYTES);
            block.push(LogTime::new(0), Some(&key.as_bytes()[..KEY_BYTES]), Some(&value), &[]);
        }
        block
    };
    (0..64).map(one).collect()
}

fn config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig {
        dir: dir.to_owned(),
        fsync: FsyncPolicy::Interval,
        fsync_interval: FSYNC_INTERVAL,
        retention_age: Duration::ZERO,
        retention_bytes: 0,
    }
}

fn report(what: &str, records: usize, took: Duration) {
    let seconds = took.as_secs_f64();
    let megabytes = (records * (KEY_BYTES + VALUE_BYTES)) as f64 / 1e6;
    println!("{what:<45} {:>6.2} M records/s {:>7.0} MB/s", records as f64 / 1e6 / seconds, megabytes / seconds);
}

/// Puts a record into the hash of a result, so that two readings can be compared.
fn mix(hash: u64, offset: Offset, value: &[u8]) -> u64 {
    let tail = value.last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    (hash ^ tail ^ offset.get() as u64).wrapping_mul(0x0100_0000_01b3)
}

fn append_and_read(log: &dyn EventLog, kind: &str, topic: &str, blocks: &[RecordBuffer], appends: usize) -> u64 {
    log.ensure_topic(topic, 1).expect("make the topic");
    let start = Instant::now();
    for i in 0..appends {
        log.append(topic, P0, &blocks[i % blocks.len()]).expect("append");
    }
    log.flush().expect("flush");
    report(&format!("{kind}: append"), appends * RECORDS_AN_APPEND, start.elapsed());
    let expected = read(log, topic, &format!("{kind}: read, 1,000 a call"), appends, 1_000);
    assert_eq!(read(log, topic, &format!("{kind}: read, 16,384 a call"), appends, 16_384), expected);
    assert_eq!(read(log, topic, &format!("{kind}: read, 300 a call"), appends, 300), expected);
    expected
}

fn read(log: &dyn EventLog, topic: &str, what: &str, appends: usize, max_records: usize) -> u64 {
    let start = Instant::now();
    let mut reader = log.reader(topic, P0, Offset::new(0)).expect("make a reader");
    let mut touching = Duration::ZERO;
    let (mut count, mut hash) = (0, 0);
    while count < appends * RECORDS_AN_APPEND {
        let records = reader.next(max_records, Duration::from_secs(30)).expect("read");
        assert!(!records.is_empty(), "the log ends at {count}");
        count += records.len();
        let touch = Instant::now();
        for (offset, record) in records.iter() {
            hash = mix(hash, offset, record.value.unwrap_or_default());
        }
        touching += touch.elapsed();
    }
    let took = start.elapsed();
    report(what, count, took);
    report("    without looking at each record", count, took.saturating_sub(touching));
    println!("    hash {hash:016x}");
    hash
}

/// Two partitions appended at once, each read by a reader that follows.
fn two_at_once(blocks: &[RecordBuffer], appends: usize) {
    let dir = tempfile::tempdir().expect("make a folder");
    let log = EmbeddedLog::open(&config(dir.path())).expect("open the log");
    log.ensure_topic("events", 2).expect("make the topic");
    let log = &log;
    let each = appends / 2;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for partition in [Partition::new(0), Partition::new(1)] {
            scope.spawn(move || {
                for i in 0..each {
                    log.append("events", partition, &blocks[i % blocks.len()]).expect("append");
                }
            });
            scope.spawn(move || {
                let mut reader = log.reader("events", partition, Offset::new(0)).expect("make a reader");
                let mut count = 0;
                while count < each * RECORDS_AN_APPEND {
                    count += reader.next(8_192, Duration::from_secs(1)).expect("read").len();
                }
            });
        }
    });
    report("embedded: 2 partitions appended and followed", 2 * each * RECORDS_AN_APPEND, start.elapsed());
}

/// The limit: the same blocks, encoded once, put into one keyspace as they are.
fn bare_fjall(blocks: &[RecordBuffer], appends: usize) {
    let dir = tempfile::tempdir().expect("make a folder");
    let database = fjall::Database::builder(dir.path()).open().expect("open fjall");
    let keyspace = database.keyspace("events", fjall::KeyspaceCreateOptions::default).expect("make a keyspace");
    let encoded: Vec<Vec<u8>> = blocks
        .iter()
        .map(|block| {
            let mut bytes = Vec::new();
            block.encode(&mut bytes);
            bytes
        })
        .collect();
    let done = AtomicBool::new(false);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                std::thread::sleep(FSYNC_INTERVAL);
                database.persist(fjall::PersistMode::SyncData).expect("fsync");
            }
        });
        for i in 0..appends {
            keyspace.insert((i as u64).to_be_bytes(), &encoded[i % encoded.len()][..]).expect("insert");
        }
        database.persist(fjall::PersistMode::SyncData).expect("fsync");
        report("fjall: insert", appends * RECORDS_AN_APPEND, start.elapsed());
        done.store(true, Ordering::Relaxed);
    });
    let start = Instant::now();
    let mut count = 0;
    let mut bytes = 0;
    for guard in keyspace.iter() {
        bytes += guard.value().expect("read").len();
        count += 1;
    }
    assert_eq!((count, bytes), (appends, (0..appends).map(|i| encoded[i % encoded.len()].len()).sum()));
    report("fjall: read, not decoded", count * RECORDS_AN_APPEND, start.elapsed());
}
