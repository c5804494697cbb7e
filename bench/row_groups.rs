//! What the size of a row group costs and gives: bytes, time to write, time of the questions that people ask.
//!
//! `cargo bench --workspace --bench row_groups` writes the same simulated events as one file of `silver.events` with row
//! groups of several sizes, without and with Bloom filters, and asks each: all (a sum over a column), one customer, and
//! one minute. Times are the fastest of five, and given as a ratio to those of the shipped size. `SLUICE_BENCH_EVENTS` sets
//! another number of events.

use datafusion::prelude::{ParquetReadOptions, SessionContext};
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
use sluice_events::event_schema;
use sluice_sinks::lake::{LakeConfig, writer_properties};
use std::{
    env,
    fs::File,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

const SIZES: [usize; 5] = [1 << 16, 1 << 17, 1 << 18, 1 << 19, 1 << 20];
const ROUNDS: usize = 5;

fn main() {
    let events: u64 = match env::var("SLUICE_BENCH_EVENTS") {
        Ok(text) => text.parse().expect("SLUICE_BENCH_EVENTS is a number"),
        Err(_) => 4_000_000,
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let made = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .current_dir(dir.path())
        .env("RUST_LOG", "error")
        .args(["up", "--speed", "0", "--until-drained", "--dir", "shop", "--set", "serve.listen="])
        .args([
            "--set",
            &format!("simulate.events={events}"),
            "--set",
            "simulate.rate=500",
            "--set",
            "lake.roll_age=1d",
        ])
        .stderr(Stdio::null())
        .status()
        .expect("sluice runs");
    assert!(made.success(), "events are made");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let silver = dir.path().join("shop/lake/silver/events");
    let mut shipped: toml::Table = toml::from_str(include_str!("../sluice.toml")).expect("sluice.toml is TOML");
    let config: LakeConfig = shipped.remove("lake").expect("a section").try_into().expect("the lake's settings");
    println!("{events} events; shipped: {} rows a group", config.row_group_rows);
    println!(
        "{:>10} {:>6} {:>9} {:>9} {:>9} {:>12} {:>12}",
        "rows", "bloom", "MiB", "write s", "all ms", "customer ms", "minute ms"
    );
    for rows in SIZES {
        for bloom in [false, true] {
            let config = LakeConfig { row_group_rows: rows, ..config.clone() };
            let shipped = writer_properties(&config, "silver.events", &event_schema());
            let properties =
                shipped.into_builder().set_column_bloom_filter_enabled("customer_id".into(), bloom).build();
            let file = dir.path().join(format!("{rows}-{bloom}.parquet"));
            let wrote = runtime.block_on(write(&silver, &file, properties));
            let [all, customer, minute] = runtime.block_on(ask(&file));
            let bytes = std::fs::metadata(&file).expect("the file").len();
            println!(
                "{rows:>10} {bloom:>6} {:>9.1} {:>9.2} {:>9.1} {:>12.1} {:>12.1}",
                bytes as f64 / 1_048_576.0,
                wrote.as_secs_f64(),
                millis(all),
                millis(customer),
                millis(minute)
            );
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// All rows of a table's files into one file; the time of encoding alone.
async fn write(from: &Path, to: &Path, properties: WriterProperties) -> Duration {
    let context = SessionContext::new();
    let text = from.to_str().expect("a path");
    context.register_parquet("t", text, ParquetReadOptions::default()).await.expect("the files of the table");
    let batches =
        context.sql("SELECT * FROM t ORDER BY _log_time").await.expect("a plan").collect().await.expect("rows");
    let file = File::create(to).expect("a file");
    let began = Instant::now();
    let mut writer = ArrowWriter::try_new(file, batches[0].schema(), Some(properties)).expect("a writer");
    batches.iter().for_each(|batch| writer.write(batch).expect("rows fit"));
    writer.close().expect("the file ends");
    began.elapsed()
}

async fn ask(file: &Path) -> [Duration; 3] {
    let context = SessionContext::new();
    let path = file.to_str().expect("a path");
    context.register_parquet("t", path, ParquetReadOptions::default()).await.expect("the file");
    let customer = text(&context, "SELECT customer_id FROM t WHERE customer_id IS NOT NULL LIMIT 1").await;
    let middle = "SELECT CAST(to_timestamp_micros((CAST(min(event_time) AS BIGINT) + CAST(max(event_time) AS BIGINT)) / 2) \
                  AS VARCHAR) FROM t";
    let middle = text(&context, middle).await;
    let questions = [
        "SELECT event_type, sum(quantity), sum(unit_price) FROM t GROUP BY 1".to_owned(),
        format!("SELECT * FROM t WHERE customer_id = '{customer}-nobody' OR customer_id = '{customer}'"),
        format!(
            "SELECT * FROM t WHERE event_time >= TIMESTAMP '{middle}' AND event_time < TIMESTAMP '{middle}' + INTERVAL '1 minute'"
        ),
    ];
    let mut fastest = [Duration::MAX; 3];
    for _ in 0..ROUNDS {
        for (question, best) in questions.iter().zip(&mut fastest) {
            let began = Instant::now();
            context.sql(question).await.expect("a plan").collect().await.expect("rows");
            *best = (*best).min(began.elapsed());
        }
    }
    fastest
}

async fn text(context: &SessionContext, sql: &str) -> String {
    let batches = context.sql(sql).await.expect("a plan").collect().await.expect("rows");
    arrow::util::display::array_value_to_string(batches[0].column(0), 0).expect("a value")
}
