//! From a text to the parts of its plan.

use super::{
    Aggregate, LiveModel, ModelError, OutputColumn, Place,
    refusal::{self, Part, Places},
};
use crate::{
    Header, Window, aggregates, watching,
    window::{unalias, window_call, window_end, window_functions},
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::{
    catalog::MemorySchemaProvider,
    common::{
        DFSchema, DataFusionError, Result, TableReference,
        tree_node::{TreeNode, TreeNodeRecursion},
    },
    datasource::empty::EmptyTable,
    execution::SessionState,
    functions_aggregate::expr_fn::max,
    logical_expr::{
        Aggregate as AggregateNode, Expr, LogicalPlan, LogicalPlanBuilder, execution_props::ExecutionProps, lit,
        physical_planning_context::PhysicalPlanningContext,
    },
    optimizer::{Optimizer, simplify_expressions::SimplifyExpressions},
    physical_expr::{aggregate::LoweredAggregateBuilder, create_physical_expr},
    prelude::{SessionConfig, SessionContext},
    scalar::ScalarValue,
    sql::sqlparser::{
        ast::{SetExpr, Statement, TableFactor},
        dialect::GenericDialect,
        parser::Parser,
    },
};
use sluice_events::event_schema;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The table of the stream, and the schema of other models' rows.
const EVENTS: &str = "events";
const LIVE: &str = "live";

/// The model that a text reads from; none: events, or nothing that can be read.
pub(super) fn upstream(text: &str) -> Option<String> {
    let statements = Parser::parse_sql(&GenericDialect {}, text).ok()?;
    let [Statement::Query(query)] = &statements[..] else { return None };
    let SetExpr::Select(select) = query.body.as_ref() else { return None };
    let TableFactor::Table { name, .. } = &select.from.first()?.relation else { return None };
    match &name.0[..] {
        [schema, table] if schema.as_ident()?.value == LIVE => Some(table.as_ident()?.value.clone()),
        _ => None,
    }
}

pub(super) fn compile(name: &str, text: &str, others: &[LiveModel]) -> Result<LiveModel, ModelError> {
    let model = || name.to_owned();
    let header = Header::parse(text).map_err(|source| ModelError::Header { model: model(), source })?;
    let sql_error = |e: DataFusionError| {
        let place =
            e.diagnostic().and_then(|d| d.span).map(|span| Place { line: span.start.line, column: span.start.column });
        let message = e.strip_backtrace();
        ModelError::Sql { model: model(), place: place.or_else(|| Place::in_message(&message)), message }
    };
    let refuse = |(place, reason)| ModelError::NotContinuous { model: model(), place, reason };

    let places = refusal::read(text).map_err(refuse)?;
    let context = context(others).map_err(sql_error)?;
    if let Some(upstream) = upstream(text).filter(|u| !others.iter().any(|o| o.name == *u)) {
        let known: Vec<&str> = others.iter().map(|o| &*o.name).collect();
        let reason = format!("there is no live model '{upstream}' to read from; there are {}", known.join(", "));
        return Err(refuse((places.of(Part::From), reason)));
    }
    let plan = plan(&context.state(), text).map_err(sql_error)?;
    let parts = Parts::of(&plan, Source::Strict).map_err(|(part, reason)| refuse((places.of(part), reason)))?;
    let mut compiled = parts.compile(name).map_err(|e| match e {
        CompileError::DataFusion(e) => sql_error(e),
        CompileError::Refused(part, reason) => refuse((places.of(part), reason)),
    })?;
    check_detectors(&header, &compiled, &places).map_err(refuse)?;
    let upstream = compiled.upstream.as_ref().and_then(|u| others.iter().find(|o| o.name == *u));
    let lineage = format!("{}{text}", upstream.map_or("", |u| &u.fingerprint));
    compiled.fingerprint = format!("{:016x}", xxh3_64(lineage.as_bytes()));
    compiled.header = header;
    text.clone_into(&mut compiled.sql);
    Ok(compiled)
}

fn check_detectors(header: &Header, model: &LiveModel, places: &Places) -> Result<(), (Option<Place>, String)> {
    if !header.detect.is_empty() && matches!(model.window, Window::Session { .. }) {
        let reason =
            "detect: sessions are no series in time; group them in a model FROM live.<this one>, and watch that";
        return Err((places.of(Part::Window), reason.to_owned()));
    }
    watching::plans(model, header).map(drop).map_err(|error| (None, error.to_string()))
}

/// What a model's text may name.
fn context(others: &[LiveModel]) -> Result<SessionContext> {
    let config = SessionConfig::new().set_bool("datafusion.sql_parser.collect_spans", true);
    let context = SessionContext::new_with_config(config);
    for function in window_functions() {
        context.register_udf(function);
    }
    for function in aggregates() {
        context.register_udaf(function);
    }
    context.register_table(EVENTS, Arc::new(EmptyTable::new(event_schema())))?;
    if let Some(catalog) = context.catalog("datafusion") {
        catalog.register_schema(LIVE, Arc::new(MemorySchemaProvider::new()))?;
    }
    for other in others {
        let table = EmptyTable::new(other.pane_schema().clone());
        context.register_table(TableReference::partial(LIVE, &*other.name), Arc::new(table))?;
    }
    Ok(context)
}

/// Parses, resolves and coerces types; simplifies expressions, and changes nothing else of the plan's shape.
fn plan(state: &SessionState, text: &str) -> Result<LogicalPlan> {
    // Nothing here waits: the tables are empty and in memory.
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
    window: Window,
    time: String,
    upstream: Option<String>,
}

/// What the table of a plan may be: the stream's own, or in batch any view of that name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Strict,
    MayBeAView,
}

enum CompileError {
    DataFusion(DataFusionError),
    Refused(Part, String),
}

impl<E: Into<DataFusionError>> From<E> for CompileError {
    fn from(error: E) -> Self {
        Self::DataFusion(error.into())
    }
}

const SHAPE: &str =
    "SELECT … FROM events [WHERE …] GROUP BY tumble(event_time, INTERVAL '…') | hop(…) | session(…)[, …] [HAVING …]";

impl<'a> Parts<'a> {
    fn of(plan: &'a LogicalPlan, source: Source) -> Result<Self, (Part, String)> {
        let LogicalPlan::Projection(projection) = plan else {
            return Err((Part::Query, format!("it must be {SHAPE}; {} is not possible at the top", node_name(plan))));
        };
        let mut having = Vec::new();
        let mut node = projection.input.as_ref();
        while let LogicalPlan::Filter(filter) = node {
            having.push(&filter.predicate);
            node = filter.input.as_ref();
        }
        let LogicalPlan::Aggregate(aggregate) = node else {
            return Err((Part::GroupBy, format!("it must be {SHAPE}; found {}", node_name(node))));
        };
        let mut filter = Vec::new();
        let mut node = aggregate.input.as_ref();
        let upstream = loop {
            match node {
                LogicalPlan::Filter(f) => {
                    filter.push((&f.predicate, f.input.schema().as_ref()));
                    node = f.input.as_ref();
                }
                LogicalPlan::SubqueryAlias(alias) if source == Source::MayBeAView && alias.alias.table() == EVENTS => {
                    break None;
                }
                LogicalPlan::SubqueryAlias(alias) => node = alias.input.as_ref(),
                LogicalPlan::TableScan(scan) if scan.table_name.schema() == Some(LIVE) => {
                    break Some(scan.table_name.table().to_owned());
                }
                LogicalPlan::TableScan(scan) if scan.table_name.table() == EVENTS => break None,
                other => {
                    let reason =
                        format!("it must read FROM events or FROM live.<model>; {} is not possible", node_name(other));
                    return Err((Part::From, reason));
                }
            }
        };
        // The innermost filter runs first.
        filter.reverse();
        let windows: Vec<_> = aggregate
            .group_expr
            .iter()
            .enumerate()
            .filter_map(|(i, expr)| Some((i, window_call(unalias(expr))?)))
            .collect();
        let [(window_at, (_, time, window))] = &windows[..] else {
            let reason = "GROUP BY must name one window: tumble(event_time, INTERVAL '1 minute'), hop(…) or session(…)";
            return Err((Part::GroupBy, reason.to_owned()));
        };
        let window = window.clone().map_err(|reason| (Part::Window, reason))?;
        let times: &[&str] = if upstream.is_some() { &["window_end", "window_start"] } else { &["event_time"] };
        let time = match time {
            Expr::Column(column) if times.contains(&&*column.name) => column.name.clone(),
            other => {
                return Err((Part::Window, format!("the window must be over {}, not {other}", times.join(" or "))));
            }
        };
        if upstream.is_some() && matches!(window, Window::Session { .. }) {
            return Err((
                Part::Window,
                "session(…) is over events; another model's rows take tumble(…) or hop(…)".to_owned(),
            ));
        }
        Ok(Self {
            projection: &projection.expr,
            projection_schema: &projection.schema,
            having,
            aggregate,
            filter,
            window_at: *window_at,
            window,
            time,
            upstream,
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
                return Err(CompileError::Refused(Part::Query, format!("{expr} depends on the order of events")));
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
            let column = self.output_column(i, expr, field)?;
            if columns.iter().any(|c: &OutputColumn| c.name == column.name) {
                return Err(CompileError::Refused(
                    Part::Column(i),
                    format!("two columns are called '{}'", column.name),
                ));
            }
            if matches!(&*column.name, "window_start" | "window_end" | "_version" | "_closed_by" | "window_date") {
                let reason = format!("'{}' is the name of a column that sluice adds", column.name);
                return Err(CompileError::Refused(Part::Column(i), reason));
            }
            projection.push(physical(expr, aggregate_schema)?);
            columns.push(column);
        }
        for (i, group) in self.aggregate.group_expr.iter().enumerate().filter(|(i, _)| *i != self.window_at) {
            let shown = self.projection.iter().any(|e| {
                matches!(unalias(e), Expr::Column(column) if aggregate_schema.index_of_column(column).is_ok_and(|at| at == i))
            });
            if !shown {
                let reason = format!(
                    "{} must be a column of SELECT too: rows of two groups would look like one",
                    unalias(group)
                );
                return Err(CompileError::Refused(Part::GroupBy, reason));
            }
        }
        let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false);
        let mut pane_fields = vec![time("window_start"), time("window_end")];
        pane_fields.extend(columns.iter().map(|c| Field::new(&c.name, c.data_type.clone(), true)));
        let relaxed = |schema: &Schema| -> SchemaRef {
            let fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            Arc::new(Schema::new(fields))
        };
        let time_column = physical_input.index_of(&self.time).map_err(DataFusionError::from)?;
        Ok(LiveModel {
            name: name.to_owned(),
            header: Header::default(),
            sql: String::new(),
            fingerprint: String::new(),
            window: self.window.clone(),
            upstream: self.upstream.clone(),
            columns,
            by_start: self.time == "window_start",
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
            pane_schema: Arc::new(Schema::new(pane_fields)),
        })
    }

    fn output_column(&self, i: usize, expr: &Expr, field: &Field) -> Result<OutputColumn, CompileError> {
        let group_count = self.aggregate.group_expr.len();
        let input = self.aggregate.input.schema();
        let mut column = OutputColumn {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            is_group: true,
            is_additive: false,
            is_approximate: false,
            is_rounded: false,
        };
        for reference in expr.column_refs() {
            let at = self.aggregate.schema.index_of_column(reference)?;
            if at == self.window_at {
                let reason = "window_start and window_end are added by sluice: leave the window out of SELECT";
                return Err(CompileError::Refused(Part::Column(i), reason.to_owned()));
            }
            if at >= group_count {
                let aggregate = &self.aggregate.aggr_expr[at - group_count];
                column.is_group = false;
                column.is_approximate |= is_sketch(aggregate)?;
                column.is_rounded |= sums_floats(aggregate, input)?;
            }
        }
        if let Expr::Column(reference) = unalias(expr) {
            let at = self.aggregate.schema.index_of_column(reference)?;
            column.is_additive = at >= group_count
                && matches!(unalias(&self.aggregate.aggr_expr[at - group_count]), Expr::AggregateFunction(f)
                    if matches!(f.func.name(), "count" | "sum" | "distinct_count" | "approx_distinct"));
        }
        Ok(column)
    }
}

impl LiveModel {
    /// Adds `window_start` and `window_end` to a plan of the model's SQL: the same columns as `live.<model>`, in batch.
    ///
    /// # Errors
    /// When the plan is not one of a live model.
    pub fn with_window_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
        let parts = Parts::of(&plan, Source::MayBeAView).map_err(|(_, reason)| DataFusionError::Plan(reason))?;
        let (qualifier, field) = parts.aggregate.schema.qualified_field(parts.window_at);
        let start = Expr::Column((qualifier, field).into());
        let mut aggregate = parts.aggregate.clone();
        let end = match &parts.window {
            Window::Grid(grid) => window_end(grid, start.clone()),
            Window::Session { gap } => {
                let (_, (_, time, _)) = (
                    0,
                    window_call(unalias(&aggregate.group_expr[parts.window_at]))
                        .ok_or_else(|| DataFusionError::Plan("the window is gone".to_owned()))?,
                );
                let last = max(time.clone());
                let name = Expr::Column(last.schema_name().to_string().into());
                if !aggregate.aggr_expr.iter().any(|e| e.schema_name().to_string() == last.schema_name().to_string()) {
                    aggregate.aggr_expr.push(last);
                }
                name + lit(ScalarValue::new_interval_mdn(0, 0, gap * 1_000_000))
            }
        };
        let mut columns = vec![start.alias("window_start"), end.alias("window_end")];
        columns.extend(parts.projection.iter().cloned());
        let mut input =
            LogicalPlan::Aggregate(AggregateNode::try_new(aggregate.input, aggregate.group_expr, aggregate.aggr_expr)?);
        for predicate in parts.having.iter().rev() {
            input = LogicalPlanBuilder::from(input).filter((*predicate).clone())?.build()?;
        }
        LogicalPlanBuilder::from(input).project(columns)?.build()
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

/// Whether an aggregate adds binary floats, so that its last digits depend on the order.
fn sums_floats(aggregate: &Expr, input: &DFSchema) -> Result<bool> {
    use datafusion::logical_expr::ExprSchemable;
    let Expr::AggregateFunction(f) = unalias(aggregate) else { return Ok(false) };
    if matches!(f.func.name(), "min" | "max" | "count" | "median" | "percentile_cont") {
        return Ok(false);
    }
    for argument in &f.params.args {
        if argument.get_type(input)?.is_floating() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn node_name(plan: &LogicalPlan) -> String {
    plan.display().to_string().split([':', ' ']).next().unwrap_or("this").to_owned()
}
