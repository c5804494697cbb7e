//! Accumulators by group: DataFusion's own, batch by batch.

use crate::model::LiveModel;
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array},
    compute::cast,
    datatypes::{DataType, SchemaRef},
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

/// Under what is counted what comes when there are as many groups as the settings allow.
pub const OTHER: &str = "__other__";

/// What a model computes from a batch before grouping.
pub(crate) struct Evaluated {
    pub groups: Vec<ArrayRef>,
    /// For each aggregate its arguments and its FILTER.
    pub arguments: Vec<(Vec<ArrayRef>, Option<BooleanArray>)>,
    pub rows: usize,
}

/// Group columns and the aggregates' values, a row a group.
pub(crate) struct Aggregated {
    pub groups: Vec<ArrayRef>,
    pub values: Vec<ArrayRef>,
}

/// The accumulators of a model, for as many groups as one likes.
pub(crate) struct Accumulators(Vec<Box<dyn GroupsAccumulator>>);

impl Accumulators {
    pub fn new(model: &LiveModel) -> Result<Self> {
        let one = |function: &Arc<AggregateFunctionExpr>| -> Result<Box<dyn GroupsAccumulator>> {
            if function.groups_accumulator_supported() {
                return function.create_groups_accumulator();
            }
            let function = function.clone();
            Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
        };
        Ok(Self(model.aggregates.iter().map(|a| one(&a.function)).collect::<Result<_>>()?))
    }

    /// Takes rows in, each into its group.
    pub fn update(&mut self, rows: &Evaluated, group_of_row: &[usize], groups: usize) -> Result<()> {
        for (accumulator, (arguments, filter)) in self.0.iter_mut().zip(&rows.arguments) {
            accumulator.update_batch(arguments, group_of_row, filter.as_ref(), groups)?;
        }
        Ok(())
    }

    /// Takes states in, each into its group; `states` are the columns after the groups'.
    pub fn merge(
        &mut self,
        mut states: &[ArrayRef],
        model: &LiveModel,
        group_of_row: &[usize],
        groups: usize,
    ) -> Result<()> {
        for (accumulator, aggregate) in self.0.iter_mut().zip(&model.aggregates) {
            let (mine, rest) = states.split_at(aggregate.state_columns);
            accumulator.merge_batch(mine, group_of_row, groups)?;
            states = rest;
        }
        Ok(())
    }

    /// The states of all groups; nothing is left of them here.
    pub fn emit_states(&mut self) -> Result<Vec<ArrayRef>> {
        let mut columns = Vec::new();
        for accumulator in &mut self.0 {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(columns)
    }

    /// The values of all groups; nothing is left of them here.
    pub fn emit_values(&mut self) -> Result<Vec<ArrayRef>> {
        self.0.iter_mut().map(|accumulator| accumulator.evaluate(EmitTo::All)).collect()
    }

    pub fn size(&self) -> usize {
        self.0.iter().map(|accumulator| accumulator.size()).sum()
    }
}

/// Numbers groups in the order in which they come, up to a number of them.
pub(crate) struct Groups {
    /// None when the model has no group columns: there is one group then.
    values: Option<Box<dyn GroupValues>>,
    schema: SchemaRef,
}

impl Groups {
    pub fn new(model: &LiveModel) -> Result<Self> {
        let schema = model.group_schema.clone();
        let values = match schema.fields().is_empty() {
            true => None,
            false => Some(new_group_values(schema.clone(), &GroupOrdering::None)?),
        };
        Ok(Self { values, schema })
    }

    pub fn len(&self) -> usize {
        self.values.as_ref().map_or(1, |values| values.len())
    }

    /// The group of each row.
    pub fn intern(&mut self, columns: &[ArrayRef], rows: usize, group_of_row: &mut Vec<usize>) -> Result<()> {
        group_of_row.clear();
        match &mut self.values {
            Some(values) => values.intern(columns, group_of_row),
            None => {
                group_of_row.resize(rows, 0);
                Ok(())
            }
        }
    }

    /// As [`Groups::intern`]; rows of groups that are new when there are `groups_max` are of the group [`OTHER`].
    /// Gives the number of those rows.
    pub fn intern_some(
        &mut self,
        columns: &[ArrayRef],
        rows: usize,
        groups_max: usize,
        group_of_row: &mut Vec<usize>,
    ) -> Result<usize> {
        let before = self.len();
        self.intern(columns, rows, group_of_row)?;
        let allowed = groups_max.max(1).max(before);
        let Some(values) = self.values.as_mut().filter(|values| values.len() > allowed) else { return Ok(0) };
        // The group numbers of those that stay are as they were.
        let all = values.emit(EmitTo::All)?;
        values.clear_shrink(0);
        let kept: Vec<ArrayRef> = all.iter().map(|column| column.slice(0, allowed)).collect();
        let mut numbers = Vec::new();
        values.intern(&kept, &mut numbers)?;
        let other = self.schema.fields().iter().map(|field| other(field.data_type())).collect::<Result<Vec<_>>>()?;
        values.intern(&other, &mut numbers)?;
        let other = numbers.last().copied().unwrap_or(0);
        let mut moved = 0;
        for group in group_of_row.iter_mut().filter(|group| **group >= allowed) {
            *group = other;
            moved += 1;
        }
        Ok(moved)
    }

    /// The group columns, in the order of the numbers; nothing is left of them here.
    pub fn emit(&mut self) -> Result<Vec<ArrayRef>> {
        let Some(values) = &mut self.values else { return Ok(Vec::new()) };
        let groups = values.emit(EmitTo::All)?;
        // What was emitted is still in its hash table.
        values.clear_shrink(0);
        Ok(groups)
    }

    pub fn size(&self) -> usize {
        self.values.as_ref().map_or(0, |values| values.size())
    }
}

/// [`OTHER`] in a text column; no value in another.
fn other(data_type: &DataType) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => cast(&StringArray::from(vec![OTHER]), data_type)?,
        _ => new_null_array(data_type, 1),
    })
}

/// The groups of one slice or window and their accumulators.
pub(crate) struct Panes {
    groups: Groups,
    accumulators: Accumulators,
    group_of_row: Vec<usize>,
}

impl Panes {
    pub fn new(model: &LiveModel) -> Result<Self> {
        Ok(Self { groups: Groups::new(model)?, accumulators: Accumulators::new(model)?, group_of_row: Vec::new() })
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Bytes held, about.
    pub fn size(&self) -> usize {
        self.groups.size() + self.accumulators.size()
    }

    /// Takes rows in; gives the number of those that went to [`OTHER`].
    pub fn update(&mut self, rows: &Evaluated, groups_max: usize) -> Result<usize> {
        let moved = self.groups.intern_some(&rows.groups, rows.rows, groups_max, &mut self.group_of_row)?;
        self.accumulators.update(rows, &self.group_of_row, self.groups.len())?;
        Ok(moved)
    }

    /// Takes states in: columns as [`LiveModel::state_schema`].
    pub fn merge(&mut self, states: &RecordBatch, model: &LiveModel) -> Result<()> {
        let (groups, states_left) = states.columns().split_at(model.group_schema.fields().len());
        self.groups.intern(groups, states.num_rows(), &mut self.group_of_row)?;
        self.accumulators.merge(states_left, model, &self.group_of_row, self.groups.len())
    }

    /// The absolute state of every group; the panes go on as they were.
    pub fn states(&mut self, model: &LiveModel) -> Result<RecordBatch> {
        let rows = self.len();
        let mut columns = self.groups.emit()?;
        columns.extend(self.accumulators.emit_states()?);
        let states = batch(model.state_schema.clone(), columns, rows)?;
        self.merge(&states, model)?;
        Ok(states)
    }

    /// The group columns and the aggregates' values.
    pub fn evaluate(mut self) -> Result<Aggregated> {
        Ok(Aggregated { groups: self.groups.emit()?, values: self.accumulators.emit_values()? })
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
            false => cast(&column, field.data_type()),
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
