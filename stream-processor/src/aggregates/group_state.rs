//! What an aggregate of our own has to say; the rest, towards DataFusion, is the same for all.

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Int64Array};
use datafusion::{
    common::{Result, ScalarValue},
    logical_expr::{Accumulator, EmitTo, GroupsAccumulator},
};
use std::{fmt::Debug, sync::Arc};

/// The state of one group. Merging must not depend on the order.
pub(super) trait GroupState: Default + Debug + Send + Sync + 'static {
    /// Takes the chosen rows in, each into its group.
    fn feed(
        values: &[ArrayRef],
        groups: &mut [Self],
        group_of_row: &[usize],
        is_chosen: impl Fn(usize) -> bool,
    ) -> Result<()>;

    /// The result.
    fn value(&self) -> i64;

    /// The state as bytes.
    fn write(&self, out: &mut Vec<u8>);

    /// Takes in what [`GroupState::write`] wrote.
    fn merge(&mut self, state: &[u8]) -> Result<()>;

    /// Bytes held, about.
    fn size(&self) -> usize;
}

/// The state of a query without groups.
#[derive(Debug, Default)]
pub(super) struct OneState<S>(S);

impl<S: GroupState> Accumulator for OneState<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let all = vec![0; values[0].len()];
        S::feed(values, std::slice::from_mut(&mut self.0), &all, |_| true)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.0.value())))
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = Vec::new();
        self.0.write(&mut state);
        Ok(vec![ScalarValue::Binary(Some(state))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_binary::<i32>().iter().flatten().try_for_each(|state| self.0.merge(state))
    }
}

/// The states of all groups.
#[derive(Debug, Default)]
pub(super) struct GroupStates<S> {
    groups: Vec<S>,
}

impl<S: GroupState> GroupStates<S> {
    fn grow(&mut self, total: usize) {
        if self.groups.len() < total {
            self.groups.resize_with(total, S::default);
        }
    }
}

impl<S: GroupState> GroupsAccumulator for GroupStates<S> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        match filter {
            None => S::feed(values, &mut self.groups, group_indices, |_| true),
            Some(f) => S::feed(values, &mut self.groups, group_indices, |row| f.is_valid(row) && f.value(row)),
        }
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = emit_to.take_needed(&mut self.groups);
        Ok(Arc::new(groups.iter().map(S::value).collect::<Int64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut states = BinaryBuilder::new();
        let mut state = Vec::new();
        for group in emit_to.take_needed(&mut self.groups) {
            state.clear();
            group.write(&mut state);
            states.append_value(&state);
        }
        Ok(vec![Arc::new(states.finish())])
    }

    fn merge_batch(&mut self, states: &[ArrayRef], group_indices: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let states = states[0].as_binary::<i32>();
        for (row, group) in group_indices.iter().enumerate() {
            if states.is_valid(row) {
                self.groups[*group].merge(states.value(row))?;
            }
        }
        Ok(())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut rows = Self { groups: Vec::new() };
        let each_its_own: Vec<usize> = (0..values[0].len()).collect();
        rows.update_batch(values, &each_its_own, filter, each_its_own.len())?;
        rows.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        self.groups.iter().map(S::size).sum()
    }
}
