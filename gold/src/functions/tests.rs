//! The functions beside the engine's own, over rows from seeds.

use super::register_functions;
use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    util::pretty::pretty_format_batches,
};
use datafusion::{execution::context::SessionContext, prelude::SessionConfig};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::sync::Arc;

const ROWS: usize = 5_000;

/// A table `t`: a few groups, texts of all lengths and none, times before and after 1970 and none.
fn batch(seed: u64) -> RecordBatch {
    let random = &mut StdRng::seed_from_u64(seed);
    let groups: Int64Array = (0..ROWS).map(|_| random.random_bool(0.95).then(|| random.random_range(0..40))).collect();
    let texts: StringArray = (0..ROWS)
        .map(|_| {
            let text = random.random_range(0..700_u32);
            random.random_bool(0.9).then(|| format!("{text}{}", "-and-so-on".repeat(text as usize % 3)))
        })
        .collect();
    let times: TimestampMicrosecondArray = (0..ROWS)
        .map(|_| {
            random.random_bool(0.95).then(|| random.random_range(-3_000_000_000_000_000_i64..4_000_000_000_000_000))
        })
        .collect();
    let column = |name, values: ArrayRef| (name, values, true);
    RecordBatch::try_from_iter_with_nullable([
        column("g", Arc::new(groups)),
        column("x", Arc::new(texts)),
        column("at", Arc::new(times.clone())),
        column("utc", Arc::new(times.clone().with_timezone("UTC"))),
        column("abroad", Arc::new(times.with_timezone("Europe/Paris"))),
    ])
    .unwrap()
}

/// The rows of a question as text, by the engine alone and with our functions; and the plan with them.
fn both(seed: u64, sql: &str) -> (String, String, String) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let asked = [false, true].map(|ours| {
        // Small batches and several threads, so that states are merged; those of groups with a row each without being grouped before.
        let mut config = SessionConfig::new().with_batch_size(256).with_target_partitions(3);
        config.options_mut().execution.skip_partial_aggregation_probe_rows_threshold = 500;
        let context = SessionContext::new_with_config(config);
        if ours {
            register_functions(&context).unwrap();
        }
        let rows = batch(seed);
        let parts = (0..3).map(|part| vec![rows.slice(part * ROWS / 3, ROWS / 3)]).collect();
        let table = datafusion::datasource::MemTable::try_new(rows.schema(), parts).unwrap();
        context.register_table("t", Arc::new(table)).unwrap();
        runtime.block_on(async {
            let plan = context.sql(&format!("EXPLAIN {sql}")).await.unwrap().collect().await.unwrap();
            let rows = context.sql(sql).await.unwrap().collect().await.unwrap();
            (pretty_format_batches(&rows).unwrap().to_string(), pretty_format_batches(&plan).unwrap().to_string())
        })
    });
    let [(engine, _), (ours, plan)] = asked;
    (engine, ours, plan)
}

#[test]
fn distinct_texts_are_counted_as_the_engine_counts_them() {
    let questions = [
        "SELECT g, count(DISTINCT x) AS n, count(*) AS rows, count(x) AS texts FROM t GROUP BY g ORDER BY g",
        "SELECT count(DISTINCT x) FROM t",
        "SELECT count(DISTINCT x) FROM t WHERE g > 1000",
        "SELECT g, count(DISTINCT x) FROM t WHERE g > 1000 GROUP BY g",
        "SELECT g, count(DISTINCT x) FILTER (WHERE at IS NULL) AS n, count(DISTINCT g) AS one FROM t GROUP BY g ORDER BY g",
        "SELECT g, count(DISTINCT arrow_cast(x, 'Utf8View')) AS n, count(DISTINCT x || 'y') AS m FROM t GROUP BY g ORDER BY g",
        "SELECT g FROM t GROUP BY g HAVING count(DISTINCT x) > 100 ORDER BY count(DISTINCT x), g",
        "SELECT x, count(DISTINCT x) AS one, sum(g) AS all FROM t GROUP BY x ORDER BY x",
        "SELECT sum(n) FROM (SELECT g, at, count(DISTINCT x) AS n FROM t GROUP BY g, at)",
    ];
    for seed in 0..4 {
        for sql in questions {
            let (engine, ours, plan) = both(seed, sql);
            assert_eq!(ours, engine, "seed {seed}: {sql}");
            assert!(plan.contains("count_distinct_texts"), "{sql}:\n{plan}");
        }
    }
}

#[test]
fn dates_are_those_of_the_engine() {
    for column in ["at", "utc", "abroad"] {
        let sql = format!("SELECT CAST({column} AS DATE) AS day, count(*) AS n FROM t GROUP BY day ORDER BY day");
        let (engine, ours, plan) = both(2, &sql);
        assert_eq!(ours, engine, "{sql}");
        assert_eq!(plan.contains("utc_date"), column != "abroad", "{plan}");
    }
    let (engine, ours, _) =
        both(2, "SELECT CAST(arrow_cast('1969-12-31T23:59:59', 'Timestamp(Microsecond, None)') AS DATE) AS day");
    assert_eq!(ours, engine);
}

#[test]
fn times_are_truncated_as_the_engine_truncates_them() {
    for unit in ["second", "minute", "hour", "day", "week", "MONTH", "quarter", "year"] {
        for column in ["at", "utc", "abroad"] {
            let sql = format!("SELECT date_trunc('{unit}', {column}) AS start FROM t ORDER BY utc, g, x");
            let (engine, ours, _) = both(1, &sql);
            assert_eq!(ours, engine, "{sql}");
        }
    }
}
