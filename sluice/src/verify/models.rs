//! Stream = batch: each model's own SQL over silver, against what the stream sealed.

use super::{ModelCheck, Report};
use crate::{Config, merge_role};
use anyhow::{Context, Result};
use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, TimeUnit, TimestampMillisecondType},
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
    prelude::{col, lit},
};
use sluice_stream_processor::{LiveModel, OTHER, OutputColumn, Window};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Relative difference that a sketch may have from one pass to another.
pub(super) const SKETCH_ERROR: f64 = 0.05;
/// Or, of a quantile: by how many of all values it may stand away from the exact place.
const RANK_ERROR: f64 = 0.05;
/// Relative difference that a sum of binary floats may have from one order to another.
const ROUNDING_ERROR: f64 = 1e-9;
/// Differences shown of one model.
const SHOWN_MAX: usize = 5;

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
pub(super) fn counts_from(
    config: &Config,
    runtime: &tokio::runtime::Runtime,
    models: &Arc<[LiveModel]>,
) -> Result<BTreeMap<String, i64>> {
    let mut counts_from = BTreeMap::new();
    for merger in merge_role::newest_states(config, runtime, models)? {
        for model in models.iter() {
            if let Some(from) = merger.counts_from(&model.name) {
                counts_from.entry(model.name.clone()).or_insert(from);
            }
        }
    }
    Ok(counts_from)
}

/// Compares a model's windows that begin at `counts_from` or later. With `events_from` the session's `events` are only
/// those from that time on.
pub(super) async fn stream_equals_batch(
    context: &SessionContext,
    model: &LiveModel,
    counts_from: Option<i64>,
    events_from: Option<i64>,
    report: &mut Report,
) -> Result<()> {
    let Ok(mut live) = context.table(format!("live.{}", model.name)).await else {
        return Ok(());
    };
    // Rows of another model are all there. A session that is cut off begins within a gap of the cut.
    let whole_from = events_from.filter(|_| model.upstream.is_none()).map(|from| match model.window {
        Window::Session { gap } => from.saturating_add(gap + 1),
        Window::Grid(_) => from,
    });
    if let Some(from) = whole_from {
        let from = lit(ScalarValue::TimestampMillisecond(Some(from), Some("UTC".into())));
        live = live.filter(col("window_start").gt_eq(from))?;
    }
    let counts_from = counts_from.max(whole_from);
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
