//! `sluice verify`: does the ledger balance, and does the stream say what a batch over silver says?

use crate::{Config, merge_role, models, query};
use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int64Type},
    util::display::array_value_to_string,
};
use datafusion::{
    common::{
        ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    dataframe::DataFrame,
    execution::context::SessionContext,
    functions_aggregate::percentile_cont::percentile_cont_udaf,
    logical_expr::{self, Expr, LogicalPlan, expr_rewriter::NamePreserver},
    prelude::{col, lit},
};
use serde::Serialize;
use sluice_events::Partition;
use sluice_sinks::lake::CheckpointStore;
use sluice_stream_processor::{LiveModel, Merger, MergerState, decode_checkpoint};
use std::{collections::BTreeMap, sync::Arc};

/// Relative difference that a sketch may have from one pass to another.
const SKETCH_ERROR: f64 = 0.05;
/// Or, of a quantile: by how many of all values it may stand away from the exact place.
const RANK_ERROR: f64 = 0.05;
/// Differences shown of one model.
const SHOWN_MAX: usize = 5;

#[derive(Debug, Default, Serialize)]
struct Report {
    balanced: bool,
    partitions: Vec<PartitionLedger>,
    models: Vec<ModelCheck>,
    problems: Vec<String>,
}

/// One input partition: end − start = bronze + dead letters; bronze = silver + duplicates + invalid.
#[derive(Debug, Default, Serialize)]
struct PartitionLedger {
    partition: i64,
    /// First offset the lake holds.
    first_offset: Option<i64>,
    /// End offset: of the log where it can be read, else of what the lake holds.
    end_offset: i64,
    /// Records of the log that are not committed yet.
    waiting: i64,
    bronze: i64,
    undecodable: i64,
    silver: i64,
    late: i64,
    duplicates: i64,
    invalid: i64,
}

#[derive(Debug, Serialize)]
struct ModelCheck {
    model: String,
    rows: usize,
    /// Rows of windows that are not sealed yet: not compared.
    open: usize,
    different: usize,
    approximate_columns: Vec<String>,
}

/// Prints the report; says whether everything holds.
pub(crate) fn run(config: &Config, json: bool) -> Result<bool> {
    let runtime = crate::roles::runtime()?;
    let context = query::session(config, &runtime)?;
    let mut report = Report::default();
    let has_bronze = runtime.block_on(context.table("bronze.events")).is_ok();
    if has_bronze {
        runtime.block_on(ledger(&context, &mut report))?;
        compare_with_log(config, &mut report);
        let models = models::compile(config)?;
        for model in models.iter() {
            let counts_from = counts_from(config, &runtime, &models, &model.name)?;
            runtime
                .block_on(stream_equals_batch(&context, model, counts_from, &mut report))
                .with_context(|| format!("compare model '{}'", model.name))?;
        }
    } else {
        report.problems.push(format!("there is no lake in {}: nothing has been committed yet", config.dir.display()));
    }
    report.balanced = report.problems.is_empty();
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print(&report);
    }
    Ok(report.balanced)
}

async fn rows(context: &SessionContext, sql: &str) -> Result<Vec<Vec<i64>>> {
    let mut rows = Vec::new();
    for batch in context.sql(sql).await?.collect().await? {
        let columns = batch.columns().iter().map(|c| cast(c, &DataType::Int64)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|c| c.as_primitive::<Int64Type>().value(row)).collect());
        }
    }
    Ok(rows)
}

async fn ledger(context: &SessionContext, report: &mut Report) -> Result<()> {
    // Where no letter was ever written, the table is still there: the writer makes it at start.
    let taken = "SELECT _partition, _offset, 0 AS dead FROM bronze.events
                 UNION ALL SELECT _partition, _offset, 1 FROM bronze.dead_letters WHERE stage = 'decode'";
    let sql = format!(
        "SELECT _partition, count(*), count(DISTINCT _offset), min(_offset), max(_offset), sum(dead)
         FROM ({taken}) GROUP BY _partition ORDER BY _partition"
    );
    for row in rows(context, &sql).await? {
        let [partition, records, distinct, first, last, undecodable] = row[..] else { continue };
        let spread = last + 1 - first;
        if records != distinct {
            report.problems.push(format!("partition {partition}: {} offsets are there twice", records - distinct));
        }
        if distinct != spread {
            report.problems.push(format!("partition {partition}: {} offsets are missing", spread - distinct));
            report.problems.extend(gaps(context, taken, partition).await?);
        }
        report.partitions.push(PartitionLedger {
            partition,
            first_offset: Some(first),
            end_offset: last + 1,
            bronze: records - undecodable,
            undecodable,
            ..PartitionLedger::default()
        });
    }
    let silver = "SELECT _partition, count(*), count(DISTINCT _offset), sum(CAST(is_late AS INT))
                  FROM silver.events GROUP BY _partition";
    for row in rows(context, silver).await? {
        let [partition, events, distinct, late] = row[..] else { continue };
        if events != distinct {
            report
                .problems
                .push(format!("silver, partition {partition}: {} offsets are there twice", events - distinct));
        }
        if let Some(ledger) = report.partitions.iter_mut().find(|l| l.partition == partition) {
            (ledger.silver, ledger.late) = (events, late);
        }
    }
    let invalid = "SELECT _partition, count(*) FROM bronze.dead_letters WHERE stage = 'validate' GROUP BY _partition";
    for row in rows(context, invalid).await? {
        let [partition, count] = row[..] else { continue };
        if let Some(ledger) = report.partitions.iter_mut().find(|l| l.partition == partition) {
            ledger.invalid = count;
        }
    }
    // What is in bronze, and neither in silver nor invalid, must repeat an id that silver has.
    let left_out = "SELECT b._partition AS p, b._offset AS o, b.event_id AS id FROM bronze.events b
         LEFT ANTI JOIN silver.events s ON b._partition = s._partition AND b._offset = s._offset
         LEFT ANTI JOIN (SELECT _partition, _offset FROM bronze.dead_letters WHERE stage = 'validate') d
           ON b._partition = d._partition AND b._offset = d._offset";
    let sql = format!(
        "WITH l AS ({left_out}), n AS (
           SELECT l.p, l.o, min(s._offset) AS first FROM l LEFT JOIN silver.events s
           ON s._partition = l.p AND s.event_id = l.id GROUP BY l.p, l.o)
         SELECT p, sum(CASE WHEN first < o THEN 1 ELSE 0 END), sum(CASE WHEN first < o THEN 0 ELSE 1 END)
         FROM n GROUP BY p"
    );
    for row in rows(context, &sql).await? {
        let [partition, duplicates, unexplained] = row[..] else { continue };
        if let Some(ledger) = report.partitions.iter_mut().find(|l| l.partition == partition) {
            ledger.duplicates = duplicates;
        }
        if unexplained > 0 {
            report.problems.push(format!(
                "partition {partition}: {unexplained} events of bronze are not in silver, and are neither duplicates nor invalid"
            ));
        }
    }
    for l in &report.partitions {
        if l.bronze != l.silver + l.duplicates + l.invalid {
            let sum = l.silver + l.duplicates + l.invalid;
            report.problems.push(format!(
                "partition {}: bronze has {} events, silver + duplicates + invalid are {sum}",
                l.partition, l.bronze
            ));
        }
    }
    Ok(())
}

/// The missing ranges, a few of them.
async fn gaps(context: &SessionContext, taken: &str, partition: i64) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT o, next FROM (SELECT _offset AS o, lead(_offset) OVER (ORDER BY _offset) AS next
         FROM ({taken}) WHERE _partition = {partition}) WHERE next > o + 1 ORDER BY o LIMIT {SHOWN_MAX}"
    );
    let found = rows(context, &sql).await?;
    Ok(found.iter().map(|g| format!("partition {partition}: missing {} to {}", g[0] + 1, g[1] - 1)).collect())
}

/// Compares with the log's end offsets, when the log can be read beside what may be running.
fn compare_with_log(config: &Config, report: &mut Report) {
    let log = match sluice_event_log::open(&config.log) {
        Ok(log) => log,
        Err(error) => {
            tracing::info!(%error, "the event log cannot be read now: checking what is committed");
            return;
        }
    };
    let Ok(partitions) = log.partition_count(&config.topics.events) else { return };
    for partition in 0..partitions {
        let Ok(range) = log.offsets(&config.topics.events, Partition::new(partition)) else { continue };
        let (start, end) = (range.start.get(), range.end.get());
        let known = report.partitions.iter_mut().find(|l| l.partition == i64::from(partition));
        match known {
            Some(ledger) => {
                let committed = ledger.end_offset;
                ledger.end_offset = end;
                ledger.waiting = end - committed;
                if committed > end {
                    report.problems.push(format!(
                        "partition {partition}: the lake has offsets up to {committed}, the log ends at {end}"
                    ));
                }
                let first = ledger.first_offset.unwrap_or(0);
                if first > 0 && start < first {
                    report
                        .problems
                        .push(format!("partition {partition}: the first {first} offsets are not in the lake"));
                }
            }
            None if end > start => report.partitions.push(PartitionLedger {
                partition: i64::from(partition),
                end_offset: end,
                waiting: end - start,
                ..PartitionLedger::default()
            }),
            None => {}
        }
    }
}

type Rows = BTreeMap<String, Vec<Option<String>>>;

/// The rows by window and group: the other columns as text.
async fn keyed(frame: DataFrame, model: &LiveModel) -> Result<(Rows, Vec<i64>)> {
    let mut keyed = Rows::new();
    let mut ends = Vec::new();
    for batch in frame.collect().await? {
        let batch: RecordBatch = batch;
        let text = |name: &str, row: usize| -> Result<Option<String>> {
            let column = batch.column_by_name(name).with_context(|| format!("column {name} is missing"))?;
            Ok(if column.is_null(row) { None } else { Some(array_value_to_string(column, row)?) })
        };
        let end = cast(batch.column_by_name("window_end").context("window_end is missing")?, &DataType::Int64)?;
        for row in 0..batch.num_rows() {
            let mut key = text("window_start", row)?.unwrap_or_default();
            let mut values = Vec::new();
            for column in &model.columns {
                let value = text(&column.name, row)?;
                if column.is_group {
                    key.push('|');
                    key.push_str(value.as_deref().unwrap_or("\u{0}"));
                } else {
                    values.push(value);
                }
            }
            ends.push(end.as_primitive::<Int64Type>().value(row));
            if keyed.insert(key.clone(), values).is_some() {
                keyed.insert(format!("{key} (twice)"), Vec::new());
            }
        }
    }
    Ok((keyed, ends))
}

/// The first window that a model counts, by the newest checkpoint of its merger, when it was new in mid-stream.
fn counts_from(
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    models: &Arc<[LiveModel]>,
    name: &str,
) -> Result<Option<i64>> {
    let store = CheckpointStore::open(&config.checkpoints.url, &config.lake, runtime.handle().clone())?;
    for partition in 0..config.topics.merge_partitions {
        for bytes in store.newest_first(&merge_role::worker_name(config, partition))? {
            let Ok(state) = decode_checkpoint::<MergerState>(&bytes) else { continue };
            let mut merger = Merger::new(&config.time.rules(), models.clone());
            merger.restore(state)?;
            if let Some(from) = merger.counts_from(name) {
                return Ok(Some(from));
            }
            break;
        }
    }
    Ok(None)
}

async fn stream_equals_batch(
    context: &SessionContext,
    model: &LiveModel,
    counts_from: Option<i64>,
    report: &mut Report,
) -> Result<()> {
    let Ok(live) = context.table(format!("live.{}", model.name)).await else {
        return Ok(());
    };
    let counted = |frame: DataFrame| match counts_from {
        Some(from) => {
            let from = ScalarValue::TimestampMillisecond(Some(from), Some("UTC".into()));
            frame.filter(col("window_start").gt_eq(lit(from)))
        }
        None => Ok(frame),
    };
    let (stream, ends) = keyed(counted(live)?, model).await?;
    let sealed_until = ends.into_iter().max();
    // The very text of the model, over silver: `events` means silver without what came too late.
    let batch_context = SessionContext::new_with_state(context.state());
    let events = context.sql("SELECT * FROM silver.events WHERE NOT is_late").await?;
    let _ = batch_context.deregister_table("events");
    batch_context.register_table("events", events.into_view())?;
    let plan = batch_context.state().create_logical_plan(&model.sql).await?;
    let plan = LiveModel::with_window_columns(plan)?;
    let frame = counted(DataFrame::new(batch_context.state(), plan))?;
    let all = frame.clone().collect().await?;
    let total: usize = all.iter().map(RecordBatch::num_rows).sum();
    let sealed = |frame: DataFrame| match sealed_until {
        Some(micros) => {
            frame.filter(logical_expr::cast(col("window_end"), DataType::Int64).lt_eq(lit(to_unit(&all, micros))))
        }
        None => frame.limit(0, Some(0)),
    };
    let measures: Vec<_> = model.columns.iter().filter(|c| !c.is_group).collect();
    let mut exact = Vec::new();
    if measures.iter().any(|c| c.is_approximate) {
        for shift in [-RANK_ERROR, RANK_ERROR] {
            let plan = with_exact_quantiles(frame.logical_plan().clone(), shift)?;
            exact.push(keyed(sealed(DataFrame::new(batch_context.state(), plan))?, model).await?.0);
        }
    }
    let (batch, _) = keyed(sealed(frame)?, model).await?;
    let _ = batch_context.deregister_table("events");
    let mut different = Vec::new();
    for (key, values) in &stream {
        match batch.get(key) {
            None => different.push(format!("{key}: in live.{} only", model.name)),
            Some(expected) => {
                for (i, ((column, found), expected)) in measures.iter().zip(values).zip(expected).enumerate() {
                    let is_between = || match &exact[..] {
                        [low, high] => between(
                            found.as_deref(),
                            low.get(key).and_then(|row| row[i].as_deref()),
                            high.get(key).and_then(|row| row[i].as_deref()),
                        ),
                        _ => false,
                    };
                    if !equal(found.as_deref(), expected.as_deref(), column.is_approximate) && !is_between() {
                        let name = &column.name;
                        different.push(format!("{key}: {name} is {found:?} in the stream and {expected:?} in batch"));
                    }
                }
            }
        }
    }
    for key in batch.keys().filter(|key| !stream.contains_key(*key)) {
        different.push(format!("{key}: in the batch over silver only"));
    }
    report.models.push(ModelCheck {
        model: model.name.clone(),
        rows: stream.len(),
        open: total - batch.len(),
        different: different.len(),
        approximate_columns: measures.iter().filter(|c| c.is_approximate).map(|c| c.name.clone()).collect(),
    });
    if !different.is_empty() {
        report.problems.push(format!("live.{}: {} differences from the batch result", model.name, different.len()));
        report.problems.extend(different.into_iter().take(SHOWN_MAX));
    }
    Ok(())
}

/// The plan with the exact quantile for each quantile sketch, `shift` of all ranks away from the one asked for.
fn with_exact_quantiles(plan: LogicalPlan, shift: f64) -> datafusion::error::Result<LogicalPlan> {
    let exact = |expr: Expr| match expr {
        Expr::AggregateFunction(mut call) if call.func.name() == "approx_percentile_cont" => {
            let rank = match call.params.args.get(1) {
                Some(Expr::Literal(ScalarValue::Float64(Some(rank)), _)) => *rank,
                _ => return Ok(Transformed::no(Expr::AggregateFunction(call))),
            };
            call.func = percentile_cont_udaf();
            call.params.args.truncate(2);
            call.params.args[1] = lit((rank + shift).clamp(0.0, 1.0));
            Ok(Transformed::yes(Expr::AggregateFunction(call)))
        }
        other => Ok(Transformed::no(other)),
    };
    let rewritten = plan.transform_up(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(expr.transform_up(exact)?.update_data(|expr| name.restore(expr)))
        })?
        .map_data(LogicalPlan::recompute_schema)
    })?;
    Ok(rewritten.data)
}

/// Whether a sketch's value lies between two exact ones.
fn between(value: Option<&str>, low: Option<&str>, high: Option<&str>) -> bool {
    let number = |text: Option<&str>| text.and_then(|t| t.parse::<f64>().ok());
    match (number(value), number(low), number(high)) {
        (Some(value), Some(low), Some(high)) => low.min(high) <= value && value <= low.max(high),
        _ => false,
    }
}

/// The live tables count microseconds; the batch result has the unit of silver, which is the same today.
fn to_unit(batches: &[RecordBatch], micros: i64) -> i64 {
    use arrow::datatypes::TimeUnit;
    let unit = batches.first().and_then(|b| b.column_by_name("window_end").map(|c| c.data_type().clone()));
    match unit {
        Some(DataType::Timestamp(TimeUnit::Millisecond, _)) => micros / 1_000,
        Some(DataType::Timestamp(TimeUnit::Nanosecond, _)) => micros * 1_000,
        _ => micros,
    }
}

/// Exact values are equal as numbers; floats within rounding; sketches within their error.
fn equal(a: Option<&str>, b: Option<&str>, approximate: bool) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return a == b };
    if a == b {
        return true;
    }
    let plain = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if plain(a) == plain(b) {
        return true;
    }
    let (Ok(x), Ok(y)) = (a.parse::<f64>(), b.parse::<f64>()) else { return false };
    let is_float = |text: &str| text.contains(['e', 'E']) || text.split_once('.').is_some_and(|(_, f)| f.len() > 6);
    let tolerance = match (approximate, is_float(a) || is_float(b)) {
        (true, _) => SKETCH_ERROR,
        (false, true) => 1e-9,
        (false, false) => return false,
    };
    (x - y).abs() <= tolerance * x.abs().max(y.abs())
}

fn print(report: &Report) {
    println!("partition        end   bronze + undecodable   = silver + duplicates + invalid       late    waiting");
    for l in &report.partitions {
        println!(
            "{:>9} {:>10} {:>8} {:>13} {:>10} {:>12} {:>9} {:>10} {:>10}",
            l.partition, l.end_offset, l.bronze, l.undecodable, l.silver, l.duplicates, l.invalid, l.late, l.waiting
        );
    }
    for m in &report.models {
        let sketches = match m.approximate_columns.is_empty() {
            true => String::new(),
            false => format!(
                " (sketches, equal within {:.0} % of value or rank: {})",
                SKETCH_ERROR * 100.0,
                m.approximate_columns.join(", ")
            ),
        };
        let verdict = if m.different == 0 { "stream = batch" } else { "DIFFERENT" };
        println!("live.{}: {} rows, {} open, {verdict}{sketches}", m.model, m.rows, m.open);
    }
    for problem in &report.problems {
        println!("PROBLEM {problem}");
    }
    println!("{}", if report.balanced { "balanced" } else { "NOT balanced" });
}
