//! `sluice verify`: does the ledger balance, and does the stream say what a batch over silver says?

use crate::{Config, merge_role, models, query};
use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType},
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
    logical_expr::{Expr, LogicalPlan, expr_rewriter::NamePreserver},
    prelude::lit,
};
use serde::Serialize;
use sluice_events::Partition;
use sluice_sinks::lake::CheckpointStore;
use sluice_stream_processor::{LiveModel, Merger, MergerState, OTHER, OutputColumn, Window, decode_checkpoint};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Relative difference that a sketch may have from one pass to another.
const SKETCH_ERROR: f64 = 0.05;
/// Or, of a quantile: by how many of all values it may stand away from the exact place.
const RANK_ERROR: f64 = 0.05;
/// Relative difference that a sum of binary floats may have from one order to another.
const ROUNDING_ERROR: f64 = 1e-9;
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
    /// Windows with more groups than `process.groups_max`: not compared.
    counted_together: usize,
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
        let counts_from = counts_from(config, &runtime, &models)?;
        for model in models.iter() {
            let counts_from = counts_from.get(&model.name).copied();
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

/// The panes of a model as text: measures by window and group.
#[derive(Default)]
struct Panes {
    rows: BTreeMap<String, Pane>,
}

struct Pane {
    start: i64,
    end: i64,
    measures: Vec<Option<String>>,
    /// It holds what was counted together because there were too many groups.
    is_other: bool,
}

impl Panes {
    async fn read(frame: DataFrame, model: &LiveModel) -> Result<Self> {
        let mut panes = Self::default();
        for batch in frame.collect().await? {
            let batch: RecordBatch = batch;
            let column = |name: &str| batch.column_by_name(name).with_context(|| format!("column {name} is missing"));
            let millis = |name: &str| {
                anyhow::Ok(cast(column(name)?, &MILLIS)?.as_primitive::<TimestampMillisecondType>().clone())
            };
            let (starts, ends) = (millis("window_start")?, millis("window_end")?);
            let columns =
                model.columns.iter().map(|c| Ok((c.is_group, column(&c.name)?))).collect::<Result<Vec<_>>>()?;
            for row in 0..batch.num_rows() {
                let (start, end) = (starts.value(row), ends.value(row));
                let mut key = format!("{} to {}", shown(start), shown(end));
                let mut pane = Pane { start, end, measures: Vec::new(), is_other: false };
                for (is_group, column) in &columns {
                    let value = if column.is_null(row) { None } else { Some(array_value_to_string(column, row)?) };
                    match is_group {
                        true => {
                            pane.is_other |= value.as_deref() == Some(OTHER);
                            key.push('|');
                            key.push_str(value.as_deref().unwrap_or("\u{0}"));
                        }
                        false => pane.measures.push(value),
                    }
                }
                while panes.rows.contains_key(&key) {
                    key.push_str(" (again)");
                }
                panes.rows.insert(key, pane);
            }
        }
        Ok(panes)
    }
}

const MILLIS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn shown(millis: i64) -> String {
    chrono::DateTime::from_timestamp_millis(millis)
        .map_or(millis.to_string(), |t| t.format("%Y-%m-%dT%H:%M:%S%.fZ").to_string())
}

/// The first window that each model counts that was new in mid-stream, by the newest checkpoints of the mergers.
fn counts_from(
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    models: &Arc<[LiveModel]>,
) -> Result<BTreeMap<String, i64>> {
    let store = CheckpointStore::open(&config.checkpoints.url, &config.lake, runtime.handle().clone())?;
    let mut counts_from = BTreeMap::new();
    for partition in 0..config.topics.merge_partitions {
        let stored = store.newest_first(&merge_role::worker_name(config, partition))?;
        let newest = stored.iter().find_map(|c| decode_checkpoint::<MergerState>(&c.bytes).ok());
        let Some(state) = newest else { continue };
        let mut merger = Merger::new(&config.time.rules(), models.clone())?;
        merger.restore(state)?;
        for model in models.iter() {
            if let Some(from) = merger.counts_from(&model.name) {
                counts_from.entry(model.name.clone()).or_insert(from);
            }
        }
    }
    Ok(counts_from)
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
    let stream = Panes::read(live, model).await?;
    // The very text of the model: in batch `events` means silver without what came too late. A model that reads
    // another's rows is compared over that one's table, which has been compared itself.
    let plan = context.state().create_logical_plan(&model.sql).await?;
    let plan = LiveModel::with_window_columns(plan)?;
    let batch = Panes::read(DataFrame::new(context.state(), plan.clone()), model).await?;
    let measures: Vec<_> = model.columns.iter().filter(|c| !c.is_group).collect();
    let mut exact = Vec::new();
    if measures.iter().any(|c| c.is_approximate) {
        for shift in [-RANK_ERROR, RANK_ERROR] {
            let plan = with_exact_quantiles(plan.clone(), shift)?;
            exact.push(Panes::read(DataFrame::new(context.state(), plan), model).await?);
        }
    }
    let sealed_until = stream.rows.values().map(|pane| pane.end).max();
    let overflown: BTreeSet<i64> = stream.rows.values().filter(|pane| pane.is_other).map(|pane| pane.start).collect();
    // Sessions that were counted together are missing from where they would have been: one cannot say which windows are whole.
    let none_is_whole = matches!(model.window, Window::Session { .. }) && !overflown.is_empty();
    let is_compared = |pane: &Pane| {
        sealed_until.is_some_and(|sealed| pane.end <= sealed)
            && counts_from.is_none_or(|from| pane.start >= from)
            && !none_is_whole
            && !overflown.contains(&pane.start)
    };
    let compared = batch.rows.values().filter(|pane| is_compared(pane)).count();
    let mut different = Vec::new();
    for (key, pane) in stream.rows.iter().filter(|(_, pane)| is_compared(pane)) {
        let Some(expected) = batch.rows.get(key) else {
            different.push(format!("{key}: in live.{} only", model.name));
            continue;
        };
        for (i, ((column, found), expected)) in measures.iter().zip(&pane.measures).zip(&expected.measures).enumerate()
        {
            let is_between = || match &exact[..] {
                [low, high] => between(
                    found.as_deref(),
                    low.rows.get(key).and_then(|pane| pane.measures[i].as_deref()),
                    high.rows.get(key).and_then(|pane| pane.measures[i].as_deref()),
                ),
                _ => false,
            };
            if !equal(found.as_deref(), expected.as_deref(), column) && !is_between() {
                let name = &column.name;
                different.push(format!("{key}: {name} is {found:?} in the stream and {expected:?} in batch"));
            }
        }
    }
    for (key, _) in batch.rows.iter().filter(|(key, pane)| is_compared(pane) && !stream.rows.contains_key(*key)) {
        different.push(format!("{key}: in the batch only"));
    }
    report.models.push(ModelCheck {
        model: model.name.clone(),
        rows: stream.rows.len(),
        open: batch.rows.len() - compared,
        counted_together: overflown.len(),
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

/// Exact values are equal as numbers; sums of floats within rounding; sketches within their error.
fn equal(a: Option<&str>, b: Option<&str>, column: &OutputColumn) -> bool {
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
    let tolerance = match (column.is_approximate, column.is_rounded) {
        (true, _) => SKETCH_ERROR,
        (false, true) => ROUNDING_ERROR,
        (false, false) => return false,
    };
    (x - y).abs() <= tolerance * x.abs().max(y.abs()).max(f64::MIN_POSITIVE)
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
        let together = match m.counted_together {
            0 => String::new(),
            n => format!("; {n} windows not compared, with groups counted together"),
        };
        println!("live.{}: {} rows, {} open, {verdict}{sketches}{together}", m.model, m.rows, m.open);
    }
    for problem in &report.problems {
        println!("PROBLEM {problem}");
    }
    println!("{}", if report.balanced { "balanced" } else { "NOT balanced" });
}
