//! A live model: one SQL text, planned by DataFusion and cut into the half that runs per partition and window
//! (filter, group keys, accumulators) and the half that runs after merging (final values, HAVING, projection).

use crate::{
    Header, HeaderError, distinct_count,
    panes::{Evaluated, Panes, as_filter, batch},
    tumble,
    tumble::interval_millis,
};
use arrow::{
    array::{ArrayRef, RecordBatch, TimestampMillisecondArray},
    compute::filter_record_batch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    common::{
        DFSchema, DataFusionError, Result,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::empty::EmptyTable,
    execution::SessionState,
    logical_expr::{
        Aggregate as AggregateNode, Expr, LogicalPlan, LogicalPlanBuilder, execution_props::ExecutionProps, lit,
        physical_planning_context::PhysicalPlanningContext,
    },
    optimizer::{Optimizer, simplify_expressions::SimplifyExpressions},
    physical_expr::{
        PhysicalExpr,
        aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder},
        create_physical_expr,
    },
    prelude::SessionContext,
    scalar::ScalarValue,
};
use sluice_events::event_schema;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A column that a model gives.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputColumn {
    /// Its name.
    pub name: String,
    /// Its Arrow type.
    pub data_type: DataType,
    /// Whether it is a group column; else it is a measure.
    pub is_group: bool,
    /// Whether it is a plain count or sum: nothing seen means 0.
    pub is_additive: bool,
    /// Whether it comes from a sketch, so that stream and batch may differ within its error.
    pub is_approximate: bool,
}

/// One aggregate of a model.
pub(crate) struct Aggregate {
    pub function: Arc<AggregateFunctionExpr>,
    pub arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub filter: Option<Arc<dyn PhysicalExpr>>,
    pub state_columns: usize,
}

/// A compiled live model.
pub struct LiveModel {
    /// Its name: that of its file.
    pub name: String,
    /// What its file says about it.
    pub header: Header,
    /// The SQL text as written.
    pub sql: String,
    /// Hash of the text: states of another text are never merged with ours.
    pub fingerprint: String,
    /// Length of its tumbling window.
    pub window_millis: i64,
    /// What it gives, besides `window_start` and `window_end`.
    pub columns: Vec<OutputColumn>,
    filter: Vec<Arc<dyn PhysicalExpr>>,
    groups: Vec<Arc<dyn PhysicalExpr>>,
    time_column: usize,
    pub(crate) group_schema: SchemaRef,
    pub(crate) state_schema: SchemaRef,
    pub(crate) aggregates: Vec<Aggregate>,
    /// Columns of the aggregation, the window's start at `window_at`.
    aggregate_schema: SchemaRef,
    window_at: usize,
    having: Vec<Arc<dyn PhysicalExpr>>,
    projection: Vec<Arc<dyn PhysicalExpr>>,
    output_schema: SchemaRef,
}

/// Why a model cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its header cannot be read.
    #[error("model '{model}': {source}")]
    Header {
        /// The model.
        model: String,
        /// What is wrong.
        source: HeaderError,
    },
    /// DataFusion refuses the SQL.
    #[error("model '{model}': {message}")]
    Sql {
        /// The model.
        model: String,
        /// What DataFusion says, with line and column where it knows them.
        message: String,
    },
    /// It is valid SQL that cannot run continuously.
    #[error("model '{model}' cannot run continuously: {reason}")]
    NotContinuous {
        /// The model.
        model: String,
        /// What stands in the way, and what would do instead.
        reason: String,
    },
}

impl LiveModel {
    /// Compiles the text of `models/live/<name>.sql`.
    ///
    /// # Errors
    /// When the header or the SQL is wrong, or the query cannot run continuously.
    pub fn compile(name: &str, text: &str) -> Result<Self, ModelError> {
        let header = Header::parse(text).map_err(|source| ModelError::Header { model: name.to_owned(), source })?;
        let sql_error = |e: DataFusionError| ModelError::Sql { model: name.to_owned(), message: e.to_string() };
        let refuse = |reason: String| ModelError::NotContinuous { model: name.to_owned(), reason };

        let context = SessionContext::new();
        context.register_udf(tumble());
        context.register_udaf(distinct_count());
        context.register_table("events", Arc::new(EmptyTable::new(event_schema()))).map_err(sql_error)?;
        let state = context.state();
        let plan = plan(&state, text).map_err(sql_error)?;
        let parts = Parts::of(&plan, Events::AreTheTable).map_err(&refuse)?;
        let mut model = parts.compile(name).map_err(|e| match e {
            CompileError::DataFusion(e) => sql_error(e),
            CompileError::Refused(reason) => refuse(reason),
        })?;
        for spec in &header.detect {
            if !model.columns.iter().any(|c| !c.is_group && c.name == spec.measure) {
                let measures: Vec<_> = model.columns.iter().filter(|c| !c.is_group).map(|c| &*c.name).collect();
                return Err(refuse(format!(
                    "detect: '{}' is no measure of it; measures are {}",
                    spec.measure,
                    measures.join(", ")
                )));
            }
        }
        model.header = header;
        text.clone_into(&mut model.sql);
        model.fingerprint = format!("{:016x}", xxh3_64(text.as_bytes()));
        Ok(model)
    }

    /// Adds `window_start` and `window_end` to a plan of the model's SQL: the same columns as `live.<model>`, in batch.
    ///
    /// # Errors
    /// When the plan is not one of a live model.
    pub fn with_window_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
        let parts = Parts::of(&plan, Events::MayBeAView).map_err(DataFusionError::Plan)?;
        let (qualifier, field) = parts.aggregate.schema.qualified_field(parts.window_at);
        let start = Expr::Column((qualifier, field).into());
        let size = ScalarValue::new_interval_mdn(0, 0, parts.window_millis * 1_000_000);
        let mut columns = vec![start.clone().alias("window_start"), (start + lit(size)).alias("window_end")];
        columns.extend(parts.projection.iter().cloned());
        let LogicalPlan::Projection(projection) = &plan else { return Ok(plan) };
        LogicalPlanBuilder::from(projection.input.as_ref().clone()).project(columns)?.build()
    }

    /// Splits a batch of events by window and computes groups and arguments for each.
    pub(crate) fn evaluate(&self, events: &RecordBatch) -> Result<Vec<(i64, Evaluated)>> {
        let mut events = events.clone();
        for predicate in &self.filter {
            let chosen = predicate.evaluate(&events)?.into_array(events.num_rows())?;
            events = filter_record_batch(&events, &as_filter(&chosen))?;
        }
        if events.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let array = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&events)?.into_array(events.num_rows());
        let groups = self.groups.iter().map(array).collect::<Result<Vec<_>>>()?;
        let mut arguments = Vec::with_capacity(self.aggregates.len());
        for aggregate in &self.aggregates {
            let values = aggregate.arguments.iter().map(array).collect::<Result<Vec<_>>>()?;
            let filter = aggregate.filter.as_ref().map(array).transpose()?.map(|f| as_filter(&f));
            arguments.push((values, filter));
        }
        let all = Evaluated { groups, arguments, rows: events.num_rows() };
        let times = event_millis(events.column(self.time_column));
        split_by_window(all, times, self.window_millis)
    }

    /// The panes of one window after merging: columns of [`LiveModel::columns`].
    pub(crate) fn finish(&self, panes: Panes, window_start: i64) -> Result<RecordBatch> {
        let rows = panes.len();
        let mut columns = panes.evaluate()?;
        let start = TimestampMillisecondArray::from_value(window_start, rows).with_timezone("UTC");
        columns.insert(self.window_at, Arc::new(start));
        let mut merged = batch(self.aggregate_schema.clone(), columns, rows)?;
        for predicate in &self.having {
            let chosen = predicate.evaluate(&merged)?.into_array(merged.num_rows())?;
            merged = filter_record_batch(&merged, &as_filter(&chosen))?;
        }
        let columns = self
            .projection
            .iter()
            .map(|expr| expr.evaluate(&merged)?.into_array(merged.num_rows()))
            .collect::<Result<Vec<_>>>()?;
        batch(self.output_schema.clone(), columns, merged.num_rows())
    }

    /// Arrow columns of [`LiveModel::columns`].
    pub fn output_schema(&self) -> &SchemaRef {
        &self.output_schema
    }
}

/// Event times in milliseconds.
fn event_millis(times: &ArrayRef) -> &[i64] {
    use arrow::{array::AsArray, datatypes::TimestampMillisecondType};
    times.as_primitive::<TimestampMillisecondType>().values()
}

fn split_by_window(all: Evaluated, times: &[i64], size: i64) -> Result<Vec<(i64, Evaluated)>> {
    use arrow::{array::UInt32Array, compute::take};
    let window = |time: i64| time.div_euclid(size) * size;
    let (min, max) = times.iter().fold((i64::MAX, i64::MIN), |(min, max), t| (min.min(*t), max.max(*t)));
    if window(min) == window(max) {
        return Ok(vec![(window(min), all)]);
    }
    let mut rows_of: std::collections::BTreeMap<i64, Vec<u32>> = std::collections::BTreeMap::new();
    for (row, time) in times.iter().enumerate() {
        rows_of.entry(window(*time)).or_default().push(row as u32);
    }
    rows_of
        .into_iter()
        .map(|(start, rows)| {
            let rows = UInt32Array::from(rows);
            let pick = |array: &ArrayRef| take(array, &rows, None).map_err(DataFusionError::from);
            let groups = all.groups.iter().map(pick).collect::<Result<Vec<_>>>()?;
            let mut arguments = Vec::with_capacity(all.arguments.len());
            for (values, filter) in &all.arguments {
                let values = values.iter().map(pick).collect::<Result<Vec<_>>>()?;
                let filter = match filter {
                    None => None,
                    Some(filter) => Some(as_filter(&take(filter, &rows, None)?)),
                };
                arguments.push((values, filter));
            }
            Ok((start, Evaluated { groups, arguments, rows: rows.len() }))
        })
        .collect()
}

/// Parses, resolves and coerces types; simplifies expressions, and changes nothing else of the plan's shape.
fn plan(state: &SessionState, text: &str) -> Result<LogicalPlan> {
    // Nothing here waits: the one table is empty and in memory.
    let plan = futures::executor::block_on(state.create_logical_plan(text))?;
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {})?;
    Optimizer::with_rules(vec![Arc::new(SimplifyExpressions::new())]).optimize(plan, state, |_, _| {})
}

/// The nodes of a plan that can run continuously.
struct Parts<'a> {
    projection: &'a [Expr],
    projection_schema: &'a DFSchema,
    having: Vec<&'a Expr>,
    aggregate: &'a AggregateNode,
    filter: Vec<(&'a Expr, &'a DFSchema)>,
    /// Which group expression is the window.
    window_at: usize,
    window_millis: i64,
}

/// What `events` is in a plan: the stream's own table, or in batch any view of that name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Events {
    AreTheTable,
    MayBeAView,
}

enum CompileError {
    DataFusion(DataFusionError),
    Refused(String),
}

impl<E: Into<DataFusionError>> From<E> for CompileError {
    fn from(error: E) -> Self {
        Self::DataFusion(error.into())
    }
}

impl<'a> Parts<'a> {
    fn of(plan: &'a LogicalPlan, events: Events) -> Result<Self, String> {
        let LogicalPlan::Projection(projection) = plan else {
            return Err(format!(
                "it must be SELECT … FROM events [WHERE …] GROUP BY tumble(event_time, INTERVAL '…')[, …] [HAVING …]; {} is not possible at the top",
                node_name(plan)
            ));
        };
        let mut having = Vec::new();
        let mut node = projection.input.as_ref();
        while let LogicalPlan::Filter(filter) = node {
            having.push(&filter.predicate);
            node = filter.input.as_ref();
        }
        let LogicalPlan::Aggregate(aggregate) = node else {
            return Err(format!("it has no GROUP BY tumble(event_time, INTERVAL '…'); found {}", node_name(node)));
        };
        let mut filter = Vec::new();
        let mut node = aggregate.input.as_ref();
        loop {
            match node {
                LogicalPlan::Filter(f) => {
                    filter.push((&f.predicate, f.input.schema().as_ref()));
                    node = f.input.as_ref();
                }
                LogicalPlan::SubqueryAlias(alias)
                    if events == Events::MayBeAView && alias.alias.table() == "events" =>
                {
                    break;
                }
                LogicalPlan::SubqueryAlias(alias) => node = alias.input.as_ref(),
                LogicalPlan::TableScan(scan) if scan.table_name.table() == "events" => break,
                other => {
                    return Err(format!(
                        "it must read FROM events directly; {} is not possible here",
                        node_name(other)
                    ));
                }
            }
        }
        // The innermost filter runs first.
        filter.reverse();
        let windows: Vec<_> = aggregate
            .group_expr
            .iter()
            .enumerate()
            .filter_map(|(i, expr)| match unalias(expr) {
                Expr::ScalarFunction(call) if call.name() == "tumble" => Some((i, call)),
                _ => None,
            })
            .collect();
        let [(window_at, call)] = windows[..] else {
            return Err("GROUP BY must name one window: tumble(event_time, INTERVAL '1 minute')".to_owned());
        };
        if !matches!(unalias(&call.args[0]), Expr::Column(column) if column.name == "event_time") {
            return Err(format!("the window must be over event_time, not {}", call.args[0]));
        }
        let size = match unalias(&call.args[1]) {
            Expr::Literal(value, _) => interval_millis(value),
            _ => None,
        };
        let window_millis = size.ok_or_else(|| {
            format!(
                "the window size {} must be a constant interval of days or less, in whole milliseconds",
                call.args[1]
            )
        })?;
        Ok(Self {
            projection: &projection.expr,
            projection_schema: &projection.schema,
            having,
            aggregate,
            filter,
            window_at,
            window_millis,
        })
    }

    fn compile(&self, name: &str) -> Result<LiveModel, CompileError> {
        let props = ExecutionProps::new();
        let context = PhysicalPlanningContext::default();
        let input = self.aggregate.input.schema();
        let physical_input = input.as_arrow();
        let physical = |expr: &Expr, schema: &DFSchema| create_physical_expr(expr, schema, &props, &context);

        let filter = self.filter.iter().map(|(e, schema)| physical(e, schema)).collect::<Result<_>>()?;
        let mut groups = Vec::new();
        let mut group_fields = Vec::new();
        for (i, expr) in self.aggregate.group_expr.iter().enumerate() {
            if i != self.window_at {
                groups.push(physical(expr, input)?);
                group_fields.push(self.aggregate.schema.field(i).as_ref().clone());
            }
        }
        let mut aggregates = Vec::new();
        let mut state_fields: Vec<Field> = group_fields.clone();
        for expr in &self.aggregate.aggr_expr {
            let lowered = LoweredAggregateBuilder::new(expr, input, physical_input, &props, &context).build()?;
            let (function, filter) = (lowered.aggregate, lowered.filter);
            if !lowered.order_bys.is_empty() || !function.order_bys().is_empty() {
                return Err(CompileError::Refused(format!("{expr} depends on the order of events")));
            }
            let fields = function.state_fields()?;
            let state_columns = fields.len();
            state_fields.extend(fields.iter().map(|f| f.as_ref().clone().with_nullable(true)));
            aggregates.push(Aggregate { arguments: function.expressions(), function, filter, state_columns });
        }
        // Two aggregates of one kind may name their states alike; the columns go by place.
        let state_fields: Vec<Field> =
            state_fields.into_iter().enumerate().map(|(i, f)| f.with_name(format!("c{i}"))).collect();

        let aggregate_schema = self.aggregate.schema.as_ref();
        let having = self.having.iter().map(|e| physical(e, aggregate_schema)).collect::<Result<_>>()?;
        let mut projection = Vec::new();
        let mut columns = Vec::new();
        for (i, expr) in self.projection.iter().enumerate() {
            let field = self.projection_schema.field(i);
            let column = self.output_column(expr, field)?;
            if columns.iter().any(|c: &OutputColumn| c.name == column.name) {
                return Err(CompileError::Refused(format!("two columns are called '{}'", column.name)));
            }
            projection.push(physical(expr, aggregate_schema)?);
            columns.push(column);
        }
        let output: Vec<Field> = columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), true)).collect();
        let relaxed = |schema: &Schema| -> SchemaRef {
            let fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            Arc::new(Schema::new(fields))
        };
        let time_column = physical_input.index_of("event_time").map_err(DataFusionError::from)?;
        Ok(LiveModel {
            name: name.to_owned(),
            header: Header::default(),
            sql: String::new(),
            fingerprint: String::new(),
            window_millis: self.window_millis,
            columns,
            filter,
            groups,
            time_column,
            group_schema: Arc::new(Schema::new(group_fields)),
            state_schema: Arc::new(Schema::new(state_fields)),
            aggregates,
            aggregate_schema: relaxed(aggregate_schema.as_arrow()),
            window_at: self.window_at,
            having,
            projection,
            output_schema: Arc::new(Schema::new(output)),
        })
    }

    fn output_column(&self, expr: &Expr, field: &Field) -> Result<OutputColumn, CompileError> {
        let group_count = self.aggregate.group_expr.len();
        let mut is_group = true;
        let mut is_approximate = false;
        for column in expr.column_refs() {
            let at = self.aggregate.schema.index_of_column(column)?;
            if at == self.window_at {
                let reason = "window_start and window_end are added by sluice: leave tumble(…) out of SELECT";
                return Err(CompileError::Refused(reason.to_owned()));
            }
            if at >= group_count {
                is_group = false;
                is_approximate |= is_sketch(&self.aggregate.aggr_expr[at - group_count])?;
            }
        }
        let is_additive = match unalias(expr) {
            Expr::Column(column) => {
                let at = self.aggregate.schema.index_of_column(column)?;
                at >= group_count
                    && matches!(unalias(&self.aggregate.aggr_expr[at - group_count]), Expr::AggregateFunction(f)
                        if matches!(f.func.name(), "count" | "sum" | "distinct_count" | "approx_distinct"))
            }
            _ => false,
        };
        let data_type = field.data_type().clone();
        Ok(OutputColumn { name: field.name().clone(), data_type, is_group, is_additive, is_approximate })
    }
}

fn is_sketch(aggregate: &Expr) -> Result<bool> {
    let mut found = false;
    aggregate.apply(|expr| {
        if let Expr::AggregateFunction(f) = expr {
            found |= f.func.name().starts_with("approx_") || f.func.name() == "distinct_count";
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(found)
}

fn unalias(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unalias(&alias.expr),
        other => other,
    }
}

fn node_name(plan: &LogicalPlan) -> String {
    plan.display().to_string().split([':', ' ']).next().unwrap_or("this").to_owned()
}
