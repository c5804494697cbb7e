//! Events a second through deduplication, windows and merging on one core, without decoding and without I/O; beside a
//! DataFusion query that counts the same rows in batch, without deduplication. And the memory of an open pane.
//!
//! `cargo bench --workspace --bench engine` measures; `cargo test --benches` runs the same tiny.

use arrow::{
    array::{
        ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringViewArray,
        TimestampMillisecondArray, UInt32Array,
    },
    compute::take,
    datatypes::DataType,
};
use datafusion::{
    datasource::MemTable,
    prelude::{SessionConfig, SessionContext},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_events::{Decoded, LogTime, Offset, RecordBuffer, Records, Validation, event_schema};
use sluice_stream_processor::{LiveModel, Merger, PartitionWorker, StateLimits, TimeRules, register_batch_functions};
use std::{
    env,
    sync::Arc,
    time::{Duration, Instant},
};

const BATCH: usize = 16_384;
/// Of event time.
const EVENTS_A_SECOND: i64 = 2_000;
const START: i64 = 1_732_881_600_000;
/// Batches between two looks at what has changed, as once a second at full speed.
const BATCHES_A_LOOK: usize = 128;

fn main() {
    let batches = if env::args().any(|a| a == "--bench") { 256 } else { 2 };
    let events: Vec<RecordBatch> = (0..batches).map(|b| batch(b as u64)).collect();
    let count = (batches * BATCH) as f64;
    let shipped = |name: &str| {
        let path = format!("{}/../models/live/{name}.sql", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).expect("a shipped model")
    };

    let batch_took = in_batch(&events, &shipped("activity"));
    println!(
        "DataFusion in batch, activity, no deduplication: {:.2} M events/s",
        count / batch_took.as_secs_f64() / 1e6
    );
    let none = run(&events, &[]);
    println!("deduplication only: {:.2} M events/s", count / none.took.as_secs_f64() / 1e6);
    for names in [
        &["activity"][..],
        &["activity", "sales"],
        &["activity", "funnel", "products", "sales", "sales_rolling", "sessions"],
    ] {
        let texts: Vec<(&str, String)> = names.iter().map(|name| (*name, shipped(name))).collect();
        let done = run(&events, &texts);
        println!(
            "deduplication, windows and merging of {}: {:.2} M events/s on one core, {:.2} of the batch query's time; {} panes sealed",
            names.join(", "),
            count / done.took.as_secs_f64() / 1e6,
            done.took.as_secs_f64() / batch_took.as_secs_f64(),
            done.sealed,
        );
        for (model, groups, bytes) in done.held.iter().filter(|(_, groups, _)| *groups > 0) {
            println!("  {model}: {groups} open panes, {} bytes each", bytes / groups);
        }
    }
}

struct Done {
    took: Duration,
    sealed: usize,
    /// Model, open groups, bytes, when the last event was counted.
    held: Vec<(String, usize, usize)>,
}

fn run(events: &[RecordBatch], texts: &[(&str, String)]) -> Done {
    let models: Arc<[LiveModel]> =
        LiveModel::compile_all(texts.iter().map(|(name, text)| (*name, &**text))).expect("they compile").into();
    let rules = TimeRules {
        out_of_orderness: Duration::from_secs(10),
        allowed_lateness: Duration::from_secs(600),
        late_grain: Duration::from_secs(60),
        dedup_horizon: Duration::from_secs(86_400),
    };
    let limits = StateLimits { dedup_ids_max: 8_000_000, groups_max: 100_000, state_bytes_max: 1 << 30 };
    let mut worker = PartitionWorker::new("events", (0, 1), &rules, &limits, models.clone()).expect("a worker");
    let mut merger = Merger::new(&rules, models).expect("a merger");
    // The records themselves are decoded already.
    let records: Vec<Records> = (0..events.len()).map(|b| empty_records(b * BATCH)).collect();
    let mut sealed = 0;
    let mut offset = 0;
    let mut took = Duration::ZERO;
    for (number, (rows, records)) in events.iter().zip(&records).enumerate() {
        let decoded = Decoded {
            events: fresh(rows),
            record_of_row: (0..BATCH as u32).collect(),
            schema_ids: arrow::array::Int32Array::from(vec![1; BATCH]),
            dead_letters: Vec::new(),
        };
        let began = Instant::now();
        worker.ingest(records, decoded, Validation::default()).expect("rows");
        if number % BATCHES_A_LOOK == BATCHES_A_LOOK - 1 {
            for partial in worker.take_partials().expect("partials") {
                sealed += merged(&mut merger, offset, partial);
                offset += 1;
            }
            merger.provisional().expect("provisional panes");
        }
        took += began.elapsed();
    }
    let held = worker.held().map(|(model, held)| (model.to_owned(), held.groups, held.bytes)).collect();
    let began = Instant::now();
    let until = worker.open_until().unwrap_or(0);
    for partial in worker.drain(until).expect("partials") {
        sealed += merged(&mut merger, offset, partial);
        offset += 1;
    }
    Done { took: took + began.elapsed(), sealed, held }
}

/// The rows in memory of their own, as a decoder has just written them.
fn fresh(rows: &RecordBatch) -> RecordBatch {
    let all = UInt32Array::from_iter_values(0..rows.num_rows() as u32);
    let columns = rows.columns().iter().map(|column| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            _ => take(column, &all, None).expect("a copy"),
        }
    });
    RecordBatch::try_new(rows.schema(), columns.collect()).expect("the same rows")
}

fn merged(merger: &mut Merger, offset: i64, partial: sluice_events::Partial) -> usize {
    let output = merger.apply(offset, partial).expect("it merges");
    output.sealed.iter().map(|sealed| sealed.rows.num_rows()).sum()
}

fn in_batch(events: &[RecordBatch], text: &str) -> Duration {
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
    register_batch_functions(&context);
    let table = MemTable::try_new(event_schema(), vec![events.to_vec()]).expect("a table");
    context.register_table("events", Arc::new(table)).expect("a table");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let began = Instant::now();
    let rows: usize = runtime.block_on(async {
        let frame = context.sql(text).await.expect("it plans");
        frame.collect().await.expect("it runs").iter().map(RecordBatch::num_rows).sum()
    });
    assert!(rows > 0);
    began.elapsed()
}

fn empty_records(from: usize) -> Records {
    let mut buffer = RecordBuffer::new();
    (0..BATCH).for_each(|_| buffer.push(LogTime::new(START), None, None, &[]));
    Records::contiguous(Offset::new(from as i64), buffer)
}

/// Events like those of the simulated shop.
fn batch(number: u64) -> RecordBatch {
    let mut random = ChaCha8Rng::seed_from_u64(number);
    let types =
        ["page_view", "page_view", "page_view", "page_view", "add_to_cart", "checkout_started", "purchase", "refund"];
    let countries = ["DE", "FR", "GB", "US", "NL", "ES", "IT", "PL", "SE", "JP"];
    let text = |values: Vec<Option<String>>| -> ArrayRef { Arc::new(values.into_iter().collect::<StringViewArray>()) };
    let mut some = |prefix: &str, below: u32, share: f64| {
        text(
            (0..BATCH)
                .map(|_| random.random_bool(share).then(|| format!("{prefix}{:06}", random.random_range(0..below))))
                .collect(),
        )
    };
    let (customers, sessions, products) = (some("C", 20_000, 0.8), some("S", 40_000, 1.0), some("P", 2_000, 0.9));
    let mut of = |values: &[&str]| {
        text((0..BATCH).map(|_| Some(values[random.random_range(0..values.len())].to_owned())).collect())
    };
    let (kinds, lands, devices) = (of(&types), of(&countries), of(&["mobile", "desktop", "tablet"]));
    let first = number as i64 * BATCH as i64;
    let times: Int64Array = (0..BATCH as i64)
        .map(|i| Some(START + (first + i) * 1_000 / EVENTS_A_SECOND - random.random_range(0..3_000)))
        .collect();
    let times = TimestampMillisecondArray::from(times.values().to_vec()).with_timezone("UTC");
    let ids = text((0..BATCH).map(|_| Some(format!("{:032x}", random.random::<u128>()))).collect());
    let quantities: Int32Array = (0..BATCH).map(|_| Some(random.random_range(1..4))).collect();
    let prices: Decimal128Array = (0..BATCH).map(|_| Some(random.random_range(10_000..5_000_000))).collect();
    let schema = event_schema();
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match &**field.name() {
            "event_id" => ids.clone(),
            "event_type" => kinds.clone(),
            "event_time" => Arc::new(times.clone()),
            "customer_id" => customers.clone(),
            "session_id" => sessions.clone(),
            "product_id" => products.clone(),
            "country" => lands.clone(),
            "quantity" => Arc::new(quantities.clone()),
            "unit_price" => Arc::new(prices.clone().with_data_type(DataType::Decimal128(18, 4))),
            _ => devices.clone(),
        }
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).expect("a batch of events")
}
