//! Accumulators by group, for one window: DataFusion's own, batch by batch.

use crate::model::LiveModel;
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions},
    datatypes::SchemaRef,
};
use datafusion::{
    common::Result,
    logical_expr::{EmitTo, GroupsAccumulator},
    physical_expr::{GroupsAccumulatorAdapter, aggregate::AggregateFunctionExpr},
    physical_plan::aggregates::{
        group_values::{GroupValues, new_group_values},
        order::GroupOrdering,
    },
};
use std::sync::Arc;

/// The groups of one window and their accumulators.
pub(crate) struct Panes {
    /// None when the model has no group columns: there is one group then.
    values: Option<Box<dyn GroupValues>>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    group_of_row: Vec<usize>,
}

/// What a model computes from a batch before grouping.
pub(crate) struct Evaluated {
    pub groups: Vec<ArrayRef>,
    /// For each aggregate its arguments and its FILTER.
    pub arguments: Vec<(Vec<ArrayRef>, Option<BooleanArray>)>,
    pub rows: usize,
}

fn accumulator(aggregate: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if aggregate.groups_accumulator_supported() {
        return aggregate.create_groups_accumulator();
    }
    let aggregate = aggregate.clone();
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
}

impl Panes {
    pub fn new(model: &LiveModel) -> Result<Self> {
        let values = match model.group_schema.fields().is_empty() {
            true => None,
            false => Some(new_group_values(model.group_schema.clone(), &GroupOrdering::None)?),
        };
        let accumulators = model.aggregates.iter().map(|a| accumulator(&a.function)).collect::<Result<_>>()?;
        Ok(Self { values, accumulators, group_of_row: Vec::new() })
    }

    pub fn len(&self) -> usize {
        self.values.as_ref().map_or(1, |values| values.len())
    }

    fn intern(&mut self, groups: &[ArrayRef], rows: usize) -> Result<()> {
        self.group_of_row.clear();
        match &mut self.values {
            Some(values) => values.intern(groups, &mut self.group_of_row),
            None => {
                self.group_of_row.resize(rows, 0);
                Ok(())
            }
        }
    }

    /// Takes rows in.
    pub fn update(&mut self, rows: &Evaluated) -> Result<()> {
        self.intern(&rows.groups, rows.rows)?;
        let total = self.len();
        for (accumulator, (arguments, filter)) in self.accumulators.iter_mut().zip(&rows.arguments) {
            accumulator.update_batch(arguments, &self.group_of_row, filter.as_ref(), total)?;
        }
        Ok(())
    }

    /// Takes states in: columns as [`LiveModel::state_schema`] without the window.
    pub fn merge(&mut self, states: &RecordBatch, model: &LiveModel) -> Result<()> {
        let columns = states.columns();
        let (groups, mut states_left) = columns.split_at(model.group_schema.fields().len());
        self.intern(groups, states.num_rows())?;
        let total = self.len();
        for (accumulator, aggregate) in self.accumulators.iter_mut().zip(&model.aggregates) {
            let (mine, rest) = states_left.split_at(aggregate.state_columns);
            accumulator.merge_batch(mine, &self.group_of_row, total)?;
            states_left = rest;
        }
        Ok(())
    }

    fn emit_groups(&mut self) -> Result<Vec<ArrayRef>> {
        let Some(values) = &mut self.values else { return Ok(Vec::new()) };
        let groups = values.emit(EmitTo::All)?;
        // What was emitted is still in its hash table.
        values.clear_shrink(0);
        Ok(groups)
    }

    /// The absolute state of every group; the panes go on as they were.
    pub fn states(&mut self, model: &LiveModel) -> Result<RecordBatch> {
        let rows = self.len();
        let mut columns = self.emit_groups()?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        let states = batch(model.state_schema.clone(), columns, rows)?;
        self.merge(&states, model)?;
        Ok(states)
    }

    /// The group columns and the aggregates' values. Leaves the panes empty.
    pub fn evaluate(mut self) -> Result<Vec<ArrayRef>> {
        let mut columns = self.emit_groups()?;
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.evaluate(EmitTo::All)?);
        }
        Ok(columns)
    }
}

/// A batch of these columns, cast where an accumulator's type differs from the declared one in layout only.
pub(crate) fn batch(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .zip(columns)
        .map(|(field, column)| match column.data_type() == field.data_type() {
            true => Ok(column),
            false => arrow::compute::cast(&column, field.data_type()),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

/// Null counts as not chosen.
pub(crate) fn as_filter(array: &ArrayRef) -> BooleanArray {
    let chosen = array.as_boolean();
    match chosen.nulls() {
        None => chosen.clone(),
        Some(nulls) => BooleanArray::new(chosen.values() & nulls.inner(), None),
    }
}
