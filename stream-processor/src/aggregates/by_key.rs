//! `min_by(value, key)` and `max_by(value, key)`: the value at the smallest or largest key, such as the page of the
//! first event. Of equal keys the smaller, or larger, value counts, so that the result does not depend on the order.
//!
//! A pair of key and value is kept as one row of bytes that compares as the pair does (arrow's row format), so a group
//! holds one small allocation, and a row that changes nothing allocates nothing. Rows without a key do not count.

use arrow::{
    array::{Array, ArrayRef, BooleanArray, new_empty_array},
    datatypes::{DataType, Field, FieldRef},
    row::{OwnedRow, Row, RowConverter, SortField},
};
use datafusion::{
    common::{Result, ScalarValue, plan_err},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};
use std::sync::Arc;

/// `min_by(value, key)`.
pub fn min_by() -> AggregateUDF {
    AggregateUDF::new_from_impl(ByKey { is_min: true, signature: Signature::any(2, Volatility::Immutable) })
}

/// `max_by(value, key)`.
pub fn max_by() -> AggregateUDF {
    AggregateUDF::new_from_impl(ByKey { is_min: false, signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ByKey {
    is_min: bool,
    signature: Signature,
}

impl ByKey {
    fn groups(&self, args: &AccumulatorArgs) -> Result<Groups> {
        let types = args.exprs.iter().map(|e| e.data_type(args.schema)).collect::<Result<Vec<_>>>()?;
        let [value, key] = &types[..] else { return plan_err!("{} takes a value and a key", self.name()) };
        let rows = RowConverter::new(vec![SortField::new(key.clone()), SortField::new(value.clone())])?;
        Ok(Groups { is_min: self.is_min, types: [value.clone(), key.clone()], rows, groups: Vec::new() })
    }
}

impl AggregateUDFImpl for ByKey {
    fn name(&self) -> &str {
        if self.is_min { "min_by" } else { "max_by" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [value, key] if !value.is_nested() && !key.is_nested() => Ok(value.clone()),
            _ => plan_err!("{} takes a value and a key, such as {0}(channel, event_time)", self.name()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |of: &str, field: &FieldRef| {
            Arc::new(Field::new(format!("{}[{of}]", args.name), field.data_type().clone(), true))
        };
        match args.input_fields {
            [value, key] => Ok(vec![field("value", value), field("key", key)]),
            _ => plan_err!("{} takes a value and a key", self.name()),
        }
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(One(self.groups(&args)?)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(self.groups(&args)?))
    }
}

#[derive(Debug)]
struct Groups {
    is_min: bool,
    types: [DataType; 2],
    rows: RowConverter,
    groups: Vec<Option<OwnedRow>>,
}

impl Groups {
    /// Values and keys of these groups.
    fn columns(&self, groups: &[Option<OwnedRow>]) -> Result<[ArrayRef; 2]> {
        let known: Vec<Row<'_>> = groups.iter().flatten().map(OwnedRow::row).collect();
        let (keys, values) = match known.is_empty() {
            true => (new_empty_array(&self.types[1]), new_empty_array(&self.types[0])),
            false => {
                let mut columns = self.rows.convert_rows(known)?.into_iter();
                let none = || datafusion::common::internal_datafusion_err!("a row of two columns has two");
                (columns.next().ok_or_else(none)?, columns.next().ok_or_else(none)?)
            }
        };
        let mut next = 0;
        let places: arrow::array::UInt32Array = groups
            .iter()
            .map(|group| {
                group.as_ref().map(|_| {
                    next += 1;
                    next - 1
                })
            })
            .collect();
        let place = |column: &ArrayRef| arrow::compute::take(column, &places, None);
        Ok([place(&values)?, place(&keys)?])
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        if self.groups.len() < total {
            self.groups.resize(total, None);
        }
        let rows = self.rows.convert_columns(&[values[1].clone(), values[0].clone()])?;
        for (at, (row, group)) in rows.iter().zip(group_indices).enumerate() {
            if values[1].is_null(at) || filter.is_some_and(|f| !f.is_valid(at) || !f.value(at)) {
                continue;
            }
            let known = &mut self.groups[*group];
            let is_better = known.as_ref().is_none_or(|known| match self.is_min {
                true => row < known.row(),
                false => row > known.row(),
            });
            if is_better {
                *known = Some(row.owned());
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        let [values, _] = self.columns(&groups)?;
        Ok(values)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(self.columns(&groups)?.to_vec())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total: usize) -> Result<()> {
        self.update_batch(states, group_indices, None, total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let Some(filter) = filter else { return Ok(values.to_vec()) };
        let left_out = arrow::compute::not(&arrow::compute::prep_null_mask_filter(filter))?;
        values.iter().map(|column| Ok(arrow::compute::nullif(column, &left_out)?)).collect()
    }

    fn size(&self) -> usize {
        let rows = self.groups.iter().flatten().map(|row| row.row().as_ref().len() + 48);
        rows.sum::<usize>() + self.groups.capacity() * size_of::<Option<OwnedRow>>()
    }
}

/// A query without groups.
#[derive(Debug)]
struct One(Groups);

impl Accumulator for One {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values, &vec![0; values[0].len()], None, 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let first = self.0.groups.first().cloned().flatten();
        let [value, _] = self.0.columns(&[first])?;
        ScalarValue::try_from_array(&value, 0)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let first = self.0.groups.first().cloned().flatten();
        self.0.columns(&[first])?.iter().map(|column| ScalarValue::try_from_array(column, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}
