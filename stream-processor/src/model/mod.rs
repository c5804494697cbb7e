//! A live model: one SQL text, planned by DataFusion and cut into the half that runs per partition and window
//! (filter, group keys, accumulators) and the half that runs after merging (final values, HAVING, projection).

mod plan;
mod refusal;

use crate::{
    Header, HeaderError, Window,
    panes::{Aggregated, Evaluated, as_filter, batch},
};
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array, new_null_array},
    compute::{filter, filter_record_batch, or, take},
    datatypes::{DataType, SchemaRef, TimestampMillisecondType, UInt32Type},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{
    common::{DataFusionError, Result},
    physical_expr::{PhysicalExpr, aggregate::AggregateFunctionExpr, expressions::Column},
};
pub use refusal::Place;
use std::{collections::BTreeMap, sync::Arc};

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
    /// Whether it comes from sums of binary floats, so that stream and batch may differ in the last digits.
    pub is_rounded: bool,
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
    /// Hash of the text, and of those it reads from: states of another text are never merged with ours.
    pub fingerprint: String,
    /// Its windows.
    pub window: Window,
    /// The model whose sealed rows it reads, `FROM live.<model>`; none: it reads events.
    pub upstream: Option<String>,
    /// What it gives, besides `window_start` and `window_end`.
    pub columns: Vec<OutputColumn>,
    /// Of another model's rows: whether its windows go by `window_start`; else by `window_end`.
    pub(crate) by_start: bool,
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
    pane_schema: SchemaRef,
}

/// Why a model cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Its header cannot be read.
    #[error("model '{model}', {source}")]
    Header {
        /// The model.
        model: String,
        /// What is wrong.
        source: HeaderError,
    },
    /// DataFusion refuses the SQL.
    #[error("model '{model}'{}: {message}", at(*.place))]
    Sql {
        /// The model.
        model: String,
        /// Where, when it is known.
        place: Option<Place>,
        /// What DataFusion says.
        message: String,
    },
    /// It is valid SQL that cannot run continuously.
    #[error("model '{model}'{} cannot run continuously: {reason}", at(*.place))]
    NotContinuous {
        /// The model.
        model: String,
        /// Where, when it is known.
        place: Option<Place>,
        /// What stands in the way, and what would do instead.
        reason: String,
    },
}

impl ModelError {
    /// The model it is about.
    pub fn model(&self) -> &str {
        let (Self::Header { model, .. } | Self::Sql { model, .. } | Self::NotContinuous { model, .. }) = self;
        model
    }

    /// Place and reason, to stand after the file's name: `:3:14: …`.
    pub fn in_file(&self) -> String {
        let at = |place: &Option<Place>| place.map_or(String::new(), |p| format!(":{}:{}", p.line, p.column));
        match self {
            Self::Header { source, .. } => format!(":{}: {}", source.line, source.message),
            Self::Sql { place, message, .. } => format!("{}: {message}", at(place)),
            Self::NotContinuous { place, reason, .. } => format!("{}: {reason}", at(place)),
        }
    }
}

fn at(place: Option<Place>) -> String {
    place.map_or(String::new(), |place| format!(", {place}"))
}

impl LiveModel {
    /// Compiles the text of `models/live/<name>.sql`, which may read the rows of `others`.
    ///
    /// # Errors
    /// When the header or the SQL is wrong, or the query cannot run continuously.
    pub fn compile(name: &str, text: &str, others: &[Self]) -> Result<Self, ModelError> {
        plan::compile(name, text, others)
    }

    /// Compiles all texts, given by name, each after the model it reads from.
    ///
    /// # Errors
    /// The first one of [`LiveModel::compile`], or when models read from each other in a circle.
    pub fn compile_all<'a>(texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Vec<Self>, ModelError> {
        let mut waiting: BTreeMap<&str, &str> = texts.into_iter().collect();
        let mut compiled: Vec<Self> = Vec::new();
        loop {
            let names: Vec<&str> = waiting.keys().copied().collect();
            let ready: Vec<&str> = names
                .iter()
                .copied()
                .filter(|name| {
                    let upstream = plan::upstream(waiting[name]);
                    upstream.is_none_or(|u| u == **name || !names.contains(&&*u))
                })
                .collect();
            if ready.is_empty() {
                return match names.first() {
                    None => Ok(compiled),
                    Some(name) => Err(ModelError::NotContinuous {
                        model: (*name).to_owned(),
                        place: None,
                        reason: format!("{} read from each other in a circle", names.join(", ")),
                    }),
                };
            }
            for name in ready {
                let text = waiting.remove(name).unwrap_or_default();
                let model = Self::compile(name, text, &compiled)?;
                compiled.push(model);
            }
        }
    }

    /// Columns of its panes: `window_start`, `window_end`, then [`LiveModel::columns`].
    pub fn pane_schema(&self) -> &SchemaRef {
        &self.pane_schema
    }

    /// Whether HAVING leaves groups out.
    pub(crate) fn has_having(&self) -> bool {
        !self.having.is_empty()
    }

    /// The usual length of its windows in milliseconds; of session windows the gap.
    pub fn window_millis(&self) -> i64 {
        match &self.window {
            Window::Grid(grid) => grid.size(),
            Window::Session { gap } => *gap,
        }
    }

    /// When the last window ends that an event at this time is in, or its session may end, of a model over events.
    pub fn open_until(&self, time: i64) -> i64 {
        match &self.window {
            Window::Grid(grid) => grid.end(grid.last_window(time)),
            Window::Session { gap } => time.saturating_add(gap + 1),
        }
    }

    /// The first window that has nothing in it of what came up to `newest`, when all that was not counted.
    pub(crate) fn first_whole_window(&self, newest: i64) -> i64 {
        match &self.window {
            Window::Grid(grid) => grid.next(grid.last_window(newest)),
            // One that begins later than the gap after all that is not counted has nothing uncounted in it.
            Window::Session { gap } => newest.saturating_add(gap + 2),
        }
    }

    /// The chosen rows of a batch, with groups and arguments computed, and their times; none when no row is chosen.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<Option<(Evaluated, ArrayRef)>> {
        let mut rows = rows.clone();
        for predicate in &self.filter {
            let chosen = predicate.evaluate(&rows)?.into_array(rows.num_rows())?;
            rows = filter_record_batch(&rows, &as_filter(&chosen))?;
        }
        if rows.num_rows() == 0 {
            return Ok(None);
        }
        let array = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&rows)?.into_array(rows.num_rows());
        let groups = self.groups.iter().map(array).collect::<Result<Vec<_>>>()?;
        let mut arguments = Vec::with_capacity(self.aggregates.len());
        for aggregate in &self.aggregates {
            let values = aggregate.arguments.iter().map(array).collect::<Result<Vec<_>>>()?;
            let filter = aggregate.filter.as_ref().map(array).transpose()?.map(|f| as_filter(&f));
            arguments.push((values, filter));
        }
        let times = rows.column(self.time_column).clone();
        Ok(Some((Evaluated { groups, arguments, rows: rows.num_rows() }, times)))
    }

    /// The rows that the model counts in a group, or in several when columns are left out: of those, what the named measures
    /// count, where they count with a FILTER. Columns as the input's.
    ///
    /// # Errors
    /// When the rows are not of the model's input.
    pub fn rows_of(
        &self,
        rows: &RecordBatch,
        group: &BTreeMap<String, Option<String>>,
        measures: &[String],
    ) -> Result<RecordBatch> {
        let mut rows = rows.clone();
        for predicate in &self.filter {
            let chosen = predicate.evaluate(&rows)?.into_array(rows.num_rows())?;
            rows = filter_record_batch(&rows, &as_filter(&chosen))?;
        }
        let filters: Vec<_> = measures.iter().filter_map(|measure| self.filter_of(measure)).collect();
        if !filters.is_empty() && filters.len() == measures.len() {
            let mut counted = BooleanArray::from(vec![false; rows.num_rows()]);
            for predicate in filters {
                let chosen = predicate.evaluate(&rows)?.into_array(rows.num_rows())?;
                counted = or(&counted, &as_filter(&chosen))?;
            }
            rows = filter_record_batch(&rows, &counted)?;
        }
        let count = rows.num_rows();
        let mut columns = Vec::new();
        for expr in &self.groups {
            columns.push(expr.evaluate(&rows)?.into_array(count)?);
        }
        columns.insert(self.window_at, rows.column(self.time_column).clone());
        let aggregated = &self.aggregate_schema.fields()[columns.len()..];
        columns.extend(aggregated.iter().map(|field| new_null_array(field.data_type(), count)));
        let panes = batch(self.aggregate_schema.clone(), columns, count)?;
        let mut chosen = BooleanArray::from(vec![true; count]);
        for (column, expr) in self.columns.iter().zip(&self.projection) {
            let Some(wanted) = group.get(&column.name).filter(|_| column.is_group) else { continue };
            let values = expr.evaluate(&panes)?.into_array(count)?;
            let texts = ArrayFormatter::try_new(values.as_ref(), &FormatOptions::default())?;
            let is_it = |row: usize| match wanted {
                None => values.is_null(row),
                Some(wanted) => values.is_valid(row) && texts.value(row).to_string() == *wanted,
            };
            chosen = (0..count).map(|row| Some(chosen.value(row) && is_it(row))).collect();
        }
        Ok(filter_record_batch(&rows, &chosen)?)
    }

    /// The FILTER of the aggregate that a measure is.
    fn filter_of(&self, measure: &str) -> Option<&Arc<dyn PhysicalExpr>> {
        let at = self.columns.iter().position(|column| column.name == measure)?;
        let column = self.projection[at].downcast_ref::<Column>()?;
        let before = self.groups.len() + 1;
        self.aggregates.get(column.index().checked_sub(before)?)?.filter.as_ref()
    }

    /// What [`LiveModel::evaluate`] gives, by the slice that each row's time is in.
    pub(crate) fn evaluate_slices(&self, rows: &RecordBatch) -> Result<Vec<(i64, Evaluated)>> {
        let Window::Grid(grid) = &self.window else {
            return Err(DataFusionError::Internal("sessions have no slices".to_owned()));
        };
        let Some((all, times)) = self.evaluate(rows)? else { return Ok(Vec::new()) };
        let millis = event_millis(&times);
        let (first, last) = millis.iter().fold((i64::MAX, i64::MIN), |(first, last), t| (first.min(*t), last.max(*t)));
        let start = grid.slice_of(first);
        if last < grid.slice_end(start) {
            return Ok(vec![(start, all)]);
        }
        let mut slices: Vec<(i64, i64, Vec<u32>)> = Vec::new();
        let mut current = 0;
        for (row, time) in millis.iter().enumerate() {
            let inside = |slice: &(i64, i64, Vec<u32>)| slice.0 <= *time && *time < slice.1;
            if !slices.get(current).is_some_and(inside) {
                current = slices.iter().position(inside).unwrap_or_else(|| {
                    let start = grid.slice_of(*time);
                    slices.push((start, grid.slice_end(start), Vec::new()));
                    slices.len() - 1
                });
            }
            slices[current].2.push(row as u32);
        }
        slices.sort_unstable_by_key(|slice| slice.0);
        slices.into_iter().map(|(start, _, rows)| Ok((start, all.rows_of(&UInt32Array::from(rows))?))).collect()
    }

    /// The panes after merging, columns as in [`LiveModel::pane_schema`], and the numbers of the rows that HAVING leaves
    /// when there is one; `starts` and `ends` are of the same rows.
    pub(crate) fn finish(
        &self,
        merged: Aggregated,
        starts: ArrayRef,
        ends: ArrayRef,
    ) -> Result<(RecordBatch, Option<UInt32Array>)> {
        let rows = starts.len();
        let mut columns = merged.groups;
        columns.extend(merged.values);
        columns.insert(self.window_at, starts.clone());
        let mut merged = batch(self.aggregate_schema.clone(), columns, rows)?;
        let mut kept = None;
        for predicate in &self.having {
            let chosen = as_filter(&predicate.evaluate(&merged)?.into_array(merged.num_rows())?);
            merged = filter_record_batch(&merged, &chosen)?;
            let rows = kept.unwrap_or_else(|| UInt32Array::from_iter_values(0..rows as u32));
            kept = Some(filter(&rows, &chosen)?.as_primitive::<UInt32Type>().clone());
        }
        let (starts, ends) = match &kept {
            None => (starts, ends),
            Some(rows) => (take(&starts, rows, None)?, take(&ends, rows, None)?),
        };
        let mut columns = vec![starts, ends];
        for expr in &self.projection {
            columns.push(expr.evaluate(&merged)?.into_array(merged.num_rows())?);
        }
        Ok((batch(self.pane_schema.clone(), columns, merged.num_rows())?, kept))
    }
}

impl Evaluated {
    fn rows_of(&self, rows: &UInt32Array) -> Result<Self> {
        let pick = |array: &ArrayRef| take(array, rows, None).map_err(DataFusionError::from);
        let groups = self.groups.iter().map(pick).collect::<Result<Vec<_>>>()?;
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for (values, filter) in &self.arguments {
            let values = values.iter().map(pick).collect::<Result<Vec<_>>>()?;
            let filter = match filter {
                None => None,
                Some(filter) => Some(as_filter(&take(filter, rows, None)?)),
            };
            arguments.push((values, filter));
        }
        Ok(Self { groups, arguments, rows: rows.len() })
    }
}

/// Times in milliseconds.
pub(crate) fn event_millis(times: &ArrayRef) -> &[i64] {
    times.as_primitive::<TimestampMillisecondType>().values()
}

#[cfg(test)]
mod tests;
