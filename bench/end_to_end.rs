//! The whole way of an event, and the parts it is made of: events a second, CPU, memory.
//!
//! `cargo bench --workspace --bench end_to_end` simulates 4 million events into an embedded log, runs
//! `sluice up --no-producer --until-drained` over it three times (log to bronze, silver and the shipped live models),
//! then does the parts alone, one after the other on one thread, over the same records: reading the log, decoding,
//! the worker (validate, dedup, windows), and writing bronze and silver. The sum of the CPU of decoding and writing is
//! the limit that the whole can approach. `SLUICE_BENCH_EVENTS` sets another number.

use arrow::array::RecordBatch;
use sluice_event_log::{EmbeddedConfig, EmbeddedLog, EventLog, FsyncPolicy};
use sluice_events::{EventDecoder, EventFormat, Offset, Partition, Records, Schemas, ValidationRules};
use sluice_sinks::lake::{Bucket, DatePartition, Lake, LakeConfig, LakeTable, TableSpec};
use sluice_stream_processor::{LiveModel, PartitionWorker, StateLimits, TimeRules};
use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use wait4::Wait4;

const PARTITIONS: u32 = 4;
const BATCH: usize = 16_384;
const RUNS: usize = 3;

fn main() {
    let events: u64 = match env::var("SLUICE_BENCH_EVENTS") {
        Ok(text) => text.parse().expect("SLUICE_BENCH_EVENTS is a number"),
        Err(_) => 4_000_000,
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let source = dir.path().join("source");
    sluice(
        &source,
        &["produce", "simulate", "--speed", "0"],
        &["--set", &format!("simulate.events={events}"), "--set", "simulate.rate=2000"],
    );

    println!("{:<34} {:>12} {:>14} {:>12}", "", "events/s", "CPU-s/million", "peak RSS");
    let mut whole = Vec::new();
    for run in 0..RUNS {
        let to = dir.path().join(format!("run-{run}"));
        copy(&source.join("log"), &to.join("log"));
        let began = Instant::now();
        let usage = sluice(&to, &["up", "--no-producer", "--until-drained"], &[]);
        whole.push((began.elapsed(), usage));
        std::fs::remove_dir_all(&to).expect("the folder goes");
    }
    whole.sort_by_key(|(took, _)| *took);
    let (took, (cpu, rss)) = whole[RUNS / 2];
    line("sluice up, whole (median of 3)", events, took, cpu, Some(rss));

    let parts = parts(&source.join("log"), &dir.path().join("parts"));
    let mut sum = Duration::ZERO;
    let mut limit = Duration::ZERO;
    for (name, took) in &parts {
        line(name, events, *took, *took, None);
        sum += *took;
        if !matches!(*name, READ | WORK) {
            limit += *took;
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u32;
    line("sum of all parts", events, sum / cores, sum, None);
    line("limit: decode + Parquet", events, limit / cores, limit, None);
    println!(
        "the whole reaches {:.0} % of the limit on {cores} cores",
        limit.as_secs_f64() / f64::from(cores) / took.as_secs_f64() * 100.0
    );
}

fn line(name: &str, events: u64, took: Duration, cpu: Duration, rss: Option<u64>) {
    let rss = rss.map_or(String::new(), |bytes| format!("{} MiB", bytes >> 20));
    println!(
        "{name:<34} {:>12.0} {:>14.3} {rss:>12}",
        events as f64 / took.as_secs_f64(),
        cpu.as_secs_f64() / events as f64 * 1e6
    );
}

/// Runs the program to a good end; its CPU time and peak memory.
fn sluice(dir: &Path, args: &[&str], more: &[&str]) -> (Duration, u64) {
    let child = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(args)
        .args(more)
        .arg("--dir")
        .arg(dir)
        .args(["--set", "serve.listen=", "--set", &format!("topics.partitions={PARTITIONS}")])
        .env("RUST_LOG", "error")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sluice starts");
    let ended = child.wait4().expect("sluice ends");
    assert!(ended.status.success(), "{args:?}: {}", ended.status);
    (ended.rusage.utime + ended.rusage.stime, ended.rusage.maxrss)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

const READ: &str = "  read the log";
const WORK: &str = "  validate, dedup, windows";

fn parts(log: &Path, lake: &Path) -> Vec<(&'static str, Duration)> {
    let log = EmbeddedLog::open(&EmbeddedConfig {
        dir: log.to_owned(),
        fsync: FsyncPolicy::Interval,
        fsync_interval: Duration::from_millis(100),
        retention_age: Duration::ZERO,
        retention_bytes: 0,
    })
    .expect("the log opens");
    let (mut read, mut decode, mut work) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut bronze, mut silver) = (Vec::new(), Vec::new());
    let rules = TimeRules {
        out_of_orderness: Duration::from_secs(10),
        allowed_lateness: Duration::from_secs(600),
        late_grain: Duration::from_secs(60),
        dedup_horizon: Duration::from_secs(86_400),
    };
    let limits = StateLimits { dedup_ids_max: 8_000_000, groups_max: 100_000, state_bytes_max: 1 << 30 };
    let validation = ValidationRules { max_future_skew: Duration::from_secs(86_400) };
    for partition in 0..PARTITIONS {
        let mut reader = log.reader("events", Partition::new(partition), Offset::new(0)).expect("a reader");
        let mut decoder = EventDecoder::new("events", EventFormat::Avro, Arc::new(Schemas::shipped()), 1 << 20);
        let mut worker =
            PartitionWorker::new("events", (partition as i32, PARTITIONS as i32), &rules, &limits, models())
                .expect("a worker");
        let mut since_partials = Instant::now();
        loop {
            let records: Records = timed(&mut read, || reader.next(BATCH, Duration::ZERO)).expect("records");
            if records.is_empty() {
                break;
            }
            let decoded = timed(&mut decode, || decoder.decode(partition as i32, &records)).expect("events");
            let ingested = timed(&mut work, || {
                let checked =
                    validation.check(&decoded.events, |row| records.get(decoded.record_of_row[row] as usize).time);
                let ingested = worker.ingest(&records, decoded, checked).expect("rows");
                if since_partials.elapsed() > Duration::from_secs(1) {
                    since_partials = Instant::now();
                    worker.take_partials().expect("partials");
                }
                ingested
            });
            bronze.push(ingested.bronze);
            silver.push(ingested.silver);
        }
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let lake = Lake::new(config(lake), runtime.handle().clone());
    let write = |bucket, schema, column, from, batches: &[RecordBatch]| {
        let table = lake
            .table(TableSpec {
                bucket,
                path: "events".to_owned(),
                name: "events".to_owned(),
                schema,
                partition: Some(DatePartition { column, from }),
                follows: true,
            })
            .expect("a table");
        written(table, batches)
    };
    let bronze_took = write(Bucket::Bronze, PartitionWorker::bronze_schema(), "ingest_date", "_log_time", &bronze);
    let silver_took = write(Bucket::Silver, PartitionWorker::silver_schema(), "event_date", "event_time", &silver);
    vec![
        (READ, read),
        ("  decode", decode),
        (WORK, work),
        ("  Parquet of bronze", bronze_took),
        ("  Parquet of silver", silver_took),
    ]
}

fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    *sum += began.elapsed();
    result
}

fn written(mut table: LakeTable, batches: &[RecordBatch]) -> Duration {
    let began = Instant::now();
    for batch in batches {
        table.write(batch).expect("rows are taken");
    }
    table.commit().expect("a commit");
    began.elapsed()
}

fn models() -> Arc<[LiveModel]> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/live");
    let texts: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("the shipped models")
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).expect("a shipped model"))
        })
        .collect();
    LiveModel::compile_all(texts.iter().map(|(name, text)| (&**name, &**text))).expect("shipped models compile").into()
}

/// The settings as they ship, in another place.
fn config(lake: &Path) -> LakeConfig {
    let mut shipped: toml::Table = toml::from_str(include_str!("../sluice.toml")).expect("sluice.toml is TOML");
    let mut config: LakeConfig = shipped.remove("lake").expect("a section").try_into().expect("the lake's settings");
    for (bucket, place) in [("bronze", &mut config.bronze), ("silver", &mut config.silver), ("gold", &mut config.gold)]
    {
        *place = lake.join(bucket).display().to_string();
    }
    config
}
