//! The window functions over a table that is all there: `hop` repeats a row for each of its windows, `session` finds
//! the windows by looking at each group's rows in the order of their times.

use super::{
    Grid, Window,
    functions::{interval, unalias, window_call, window_functions},
};
use crate::aggregates;
use arrow::{
    array::{AsArray, ListArray, TimestampMillisecondArray},
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{DataType, Field, TimeUnit, TimestampMillisecondType},
};
use datafusion::{
    common::{
        Column, Result, ScalarValue, config::ConfigOptions, exec_err, plan_datafusion_err, tree_node::Transformed,
    },
    functions_aggregate::min_max::max_udaf,
    functions_window::lead_lag::lag,
    logical_expr::{
        Aggregate, ColumnarValue, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs,
        ScalarUDF, ScalarUDFImpl, Signature, Volatility, WindowFrame, WindowFunctionDefinition, col,
        expr::WindowFunction, expr_fn::when,
    },
    optimizer::AnalyzerRule,
    prelude::{SessionContext, lit},
};
use std::sync::Arc;

/// Names that a query over `events` will not have.
const WINDOW: &str = "__sluice_window";
const BEFORE: &str = "__sluice_before";
const BEGINS: &str = "__sluice_begins";

/// Makes what a live model's text may say mean the same in this session: the window functions and our own aggregates.
pub fn register_batch_functions(context: &SessionContext) {
    for function in window_functions() {
        context.register_udf(function);
    }
    for function in aggregates() {
        context.register_udaf(function);
    }
    context.add_analyzer_rule(Arc::new(WindowsInBatch));
}

#[derive(Debug)]
struct WindowsInBatch;

impl AnalyzerRule for WindowsInBatch {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(rewrite)?.data)
    }

    fn name(&self) -> &str {
        "windows_in_batch"
    }
}

fn rewrite(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let LogicalPlan::Aggregate(aggregate) = &plan else { return Ok(Transformed::no(plan)) };
    let calls = aggregate.group_expr.iter().enumerate().filter_map(|(i, e)| Some((i, window_call(unalias(e))?)));
    let mut rewritten = None;
    for (at, (_, time, window)) in calls {
        let window = window.map_err(|message| plan_datafusion_err!("{message}"))?;
        match window {
            Window::Grid(grid) if grid.is_hopping() => rewritten = Some((at, hopping(aggregate, time, &grid)?)),
            Window::Grid(_) => {}
            Window::Session { gap } => rewritten = Some((at, sessions(aggregate, at, time, gap)?)),
        }
    }
    let Some((at, input)) = rewritten else { return Ok(Transformed::no(plan)) };
    let mut groups = aggregate.group_expr.clone();
    // The column keeps the name by which the rest of the plan knows it.
    let name = groups[at].schema_name().to_string();
    groups[at] = col(WINDOW).alias(name);
    let built = LogicalPlan::Aggregate(Aggregate::try_new(Arc::new(input), groups, aggregate.aggr_expr.clone())?);
    // An alias as a group expression gives an unqualified column, as the function call did.
    Ok(Transformed::yes(built))
}

fn columns(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

/// Each row once for each window it is in, whose start stands in [`WINDOW`].
fn hopping(aggregate: &Aggregate, time: &Expr, grid: &Grid) -> Result<LogicalPlan> {
    let input = aggregate.input.as_ref();
    let starts = ScalarUDF::new_from_impl(WindowStarts {
        grid: grid.clone(),
        signature: Signature::any(1, Volatility::Immutable),
    });
    let mut all = columns(input);
    all.push(starts.call(vec![time.clone()]).alias(WINDOW));
    LogicalPlanBuilder::from(input.clone()).project(all)?.unnest_column(Column::from_name(WINDOW))?.build()
}

/// Each row with the start of its session in [`WINDOW`].
fn sessions(aggregate: &Aggregate, at: usize, time: &Expr, gap: i64) -> Result<LogicalPlan> {
    let input = aggregate.input.as_ref();
    let keys: Vec<Expr> =
        aggregate.group_expr.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, e)| unalias(e).clone()).collect();
    let order = vec![time.clone().sort(true, false)];
    let before = lag(time.clone(), Some(1), None).partition_by(keys.clone()).order_by(order.clone()).build()?;
    let mut all = columns(input);
    let with_before = LogicalPlanBuilder::from(input.clone()).window(vec![before.clone().alias(BEFORE)])?;
    all.push(col(BEFORE));
    let with_before = with_before.project(all)?.build()?;
    let begins = col(BEFORE).is_null().or(time.clone().gt(col(BEFORE) + interval(gap)));
    let none = lit(ScalarValue::Null);
    let mut all = columns(&with_before);
    all.push(when(begins, time.clone()).otherwise(none)?.alias(BEGINS));
    let with_begins = LogicalPlanBuilder::from(with_before).project(all)?.build()?;
    let newest = Expr::from(WindowFunction::new(WindowFunctionDefinition::AggregateUDF(max_udaf()), vec![col(BEGINS)]))
        .partition_by(keys)
        .order_by(order)
        .window_frame(WindowFrame::new(Some(true)))
        .build()?;
    let mut all = columns(&with_begins);
    let with_start = LogicalPlanBuilder::from(with_begins).window(vec![newest.alias(WINDOW)])?;
    all.push(col(WINDOW));
    with_start.project(all)?.build()
}

/// The starts of a row's windows, as a list.
#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowStarts {
    grid: Grid,
    signature: Signature,
}

impl ScalarUDFImpl for WindowStarts {
    fn name(&self) -> &str {
        "window_starts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(DataType::new_list(args[0].clone(), true))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let times = args.args[0].to_array(args.number_rows)?;
        let millis = cast(&times, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        let mut back = Vec::new();
        let mut lengths = Vec::with_capacity(times.len());
        for time in millis.as_primitive::<TimestampMillisecondType>() {
            let starts = time.map_or(Vec::new(), |t| self.grid.windows(t));
            lengths.push(starts.len());
            back.extend(starts);
        }
        let DataType::Timestamp(_, zone) = times.data_type() else { return exec_err!("expected a timestamp") };
        let starts = TimestampMillisecondArray::from(back).with_timezone_opt(zone.clone());
        let starts = cast(&starts, times.data_type())?;
        let field = Arc::new(Field::new_list_field(times.data_type().clone(), true));
        Ok(ColumnarValue::Array(Arc::new(ListArray::try_new(
            field,
            OffsetBuffer::from_lengths(lengths),
            starts,
            None,
        )?)))
    }
}
