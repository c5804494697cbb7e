//! Runs over a lake in a folder: what is made by parts is what is made as a whole.

use crate::{
    GoldConfig, GoldModel, LakeSession, Learners, Lease, Run, Runner, in_turn, register_functions, register_views,
    runs_table,
};
use arrow::{array::RecordBatch, json::ReaderBuilder, util::pretty::pretty_format_batches};
use datafusion::prelude::{SessionContext, col, lit};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use sluice_events::{EventTime, event_schema, time_text};
use sluice_sinks::lake::{Bucket, DatePartition, Day, Lake, LakeConfig, Replaced, TableSpec, read_rows};
use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

const DAY: i64 = 86_400_000;
/// 2024-03-01.
const FIRST: i64 = 19_783 * DAY;
const DAYS: i64 = 400;
/// Of these so many days follow each other ...
const ROUND: i64 = 40;
/// ... those with events.
const BUSY: [i64; 3] = [0, 1, 20];

/// A lake in a folder, and what keeps the two alive.
pub(crate) fn lake() -> (Lake, tempfile::TempDir, tokio::runtime::Runtime) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut shipped: toml::Table = toml::from_str(include_str!("../../sluice.toml")).unwrap();
    let shipped: LakeConfig = shipped.remove("lake").unwrap().try_into().unwrap();
    let place = |name: &str| dir.path().join(name).display().to_string();
    let config = LakeConfig { bronze: place("bronze"), silver: place("silver"), gold: place("gold"), ..shipped };
    (Lake::new(config, runtime.handle().clone()), dir, runtime)
}

fn events() -> TableSpec {
    TableSpec {
        bucket: Bucket::Silver,
        path: "events".to_owned(),
        name: "silver.events".to_owned(),
        schema: event_schema(),
        partition: Some(DatePartition { column: "event_date", from: "event_time" }),
        follows: true,
    }
}

fn models() -> Vec<GoldModel> {
    let state = SessionContext::new().state();
    let texts = [
        ("fact_orders", include_str!("../../models/gold/facts/fact_orders.sql")),
        ("fact_revenue_day", include_str!("../../models/gold/facts/fact_revenue_day.sql")),
        ("fact_revenue_hour", include_str!("../../models/gold/facts/fact_revenue_hour.sql")),
        ("fact_sessions", include_str!("../../models/gold/facts/fact_sessions.sql")),
        ("fact_funnel", include_str!("../../models/gold/facts/fact_funnel.sql")),
    ];
    texts.map(|(name, text)| GoldModel::parse(name, "facts", text, None, &state).unwrap()).into()
}

/// A shop that does what makes parts hard: sessions and orders over midnight, an order's lines months apart, late events.
struct Shop {
    random: StdRng,
    ids: u64,
    /// How often a line is of an order of another day, long before or after.
    far: f64,
}

impl Shop {
    fn events(&mut self, days: &[i64]) -> RecordBatch {
        let random = &mut self.random;
        let mut rows = Vec::new();
        for _ in 0..random.random_range(1..60) {
            let day = days.choose(random).unwrap();
            // Around midnight more often than not.
            let at = if random.random_bool(0.6) { random.random_range(-40..40) } else { random.random_range(0..1440) };
            let mut time = FIRST + day * DAY + at * 60_000;
            let customer = random.random_range(0..6);
            let of_day = if random.random_bool(self.far) { (day + 3 * ROUND) % DAYS } else { *day };
            let order = format!("o{of_day}-{}", random.random_range(0..3));
            for _ in 0..random.random_range(1..6) {
                self.ids += 1;
                let kind = *["page_view", "add_to_cart", "purchase"].choose(random).unwrap();
                rows.push(json!({
                    "event_id": format!("e{}", self.ids), "event_type": kind, "event_time": time_text(EventTime::new(time)),
                    "customer_id": format!("c{customer}"), "order_id": order, "product_id": "p",
                    "country": "FR", "quantity": random.random_range(1..4), "unit_price": "2.5000",
                }));
                time += random.random_range(0..35) * 60_000;
            }
        }
        let mut decoder = ReaderBuilder::new(event_schema()).with_batch_size(rows.len()).build_decoder().unwrap();
        decoder.serialize(&rows).unwrap();
        decoder.flush().unwrap().unwrap()
    }
}

/// A session over the lake as it is.
fn session(lake: &Lake, runtime: &tokio::runtime::Runtime) -> LakeSession {
    let context = SessionContext::new();
    register_functions(&context).unwrap();
    let session = LakeSession::read(lake, context, runtime.handle()).unwrap();
    runtime.block_on(register_views(&session.context)).unwrap();
    session
}

fn clock() -> i64 {
    static NOW: AtomicI64 = AtomicI64::new(0);
    NOW.fetch_add(1, Ordering::Relaxed)
}

fn run(lake: &Lake, runtime: &tokio::runtime::Runtime, models: &[GoldModel]) -> Vec<Run> {
    let config = GoldConfig {
        engine: "local".to_owned(),
        schedule: String::new().try_into().unwrap(),
        models_at_once: 2,
        memory_bytes_max: 1 << 30,
        tries: 1,
        pause: Duration::ZERO,
        lease: Duration::from_secs(60),
    };
    let lease = Lease::take(lake.table(runs_table()).unwrap(), config.lease, clock).unwrap().expect("nobody has it");
    let session = session(lake, runtime);
    let runner = Runner::new(lake.clone(), session, runtime.handle().clone(), lease, config, clock).unwrap();
    let runner = runner.knowing(models, Learners::new());
    let (models, mut runs): (Vec<&GoldModel>, _) = (models.iter().collect(), Vec::new());
    let run = |model| (!runner.is_current(model)).then(|| runner.run(model, false).unwrap());
    let flow = in_turn::<_, ()>(&models, 2, run, |_, run| {
        runs.extend(run);
        ControlFlow::Continue(())
    });
    assert!(flow.is_continue());
    runs
}

fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let text = pretty_format_batches(batches).unwrap().to_string();
    let mut lines: Vec<String> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    lines.retain(|line| !line.starts_with("+-"));
    lines.sort();
    lines
}

/// Each table has the rows that its text gives over the lake as it is.
fn check(lake: &Lake, runtime: &tokio::runtime::Runtime, models: &[GoldModel], step: &str) {
    let session = session(lake, runtime);
    for model in models {
        let rows = |sql: String| runtime.block_on(async { session.context.sql(&sql).await?.collect().await }).unwrap();
        let expected = rows(model.sql.clone());
        let names: Vec<String> = expected[0].schema().fields().iter().map(|field| field.name().clone()).collect();
        let found = rows(format!("SELECT {} FROM {}", names.join(", "), model.table()));
        assert_eq!(lines(&found), lines(&expected), "{step}: {}", model.name);
    }
}

#[test]
fn what_is_made_by_parts_is_what_is_made_as_a_whole() {
    let (mut by_parts, mut nothing) = (0, 0);
    for seed in 0..2 {
        let (lake, _dir, runtime) = lake();
        let models = models();
        let mut shop = Shop { random: StdRng::seed_from_u64(seed), ids: 0, far: 0.0 };
        let mut table = lake.table(events()).unwrap();
        let mut write = |batch: &RecordBatch, version: i64| {
            table.write(batch).unwrap();
            table.cover("test/events/0", version);
            table.commit().unwrap();
        };
        let all: Vec<i64> = (0..DAYS).filter(|day| BUSY.contains(&(day % ROUND))).collect();
        for at in 0..6 {
            write(&shop.events(&all), at);
        }
        run(&lake, &runtime, &models);
        check(&lake, &runtime, &models, &format!("seed {seed}, first"));
        shop.far = 0.1;
        for step in 0..6 {
            let day = *all.choose(&mut shop.random).unwrap();
            match step % 3 {
                // Some rows of a day are gone, as after an erasure.
                2 => remove(&lake, &runtime, (FIRST / DAY + day) as Day, &format!("c{}", step % 6)),
                _ => write(&shop.events(&[day, (day + ROUND) % DAYS]), 10 + step),
            }
            let runs = run(&lake, &runtime, &models);
            assert!(runs.iter().all(|run| run.error.is_none()), "{runs:?}");
            by_parts += runs.iter().filter(|run| run.parts.is_some_and(|parts| parts > 0)).count();
            nothing += runs.iter().filter(|run| run.parts == Some(0)).count();
            check(&lake, &runtime, &models, &format!("seed {seed}, step {step}"));
        }
    }
    assert!(by_parts > 10, "parts were made {by_parts} times, and nothing {nothing} times");
}

/// Takes a customer's rows out of a day.
fn remove(lake: &Lake, runtime: &tokio::runtime::Runtime, day: Day, customer: &str) {
    let table = lake.find(Bucket::Silver, "events").unwrap().unwrap();
    let rows = runtime.block_on(read_rows(&table)).unwrap();
    let is_of_day = sluice_sinks::lake::on_dates("event_date", &[day].into());
    let rest = rows.filter(is_of_day.and(col("customer_id").not_eq(lit(customer)))).unwrap();
    let what = Replaced {
        bucket: Bucket::Silver,
        path: "events",
        name: "silver.events",
        partition: Some("event_date"),
        dates: Some(&[day].into()),
    };
    lake.replace(what, rest).unwrap();
}
