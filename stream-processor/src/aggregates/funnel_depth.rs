//! `funnel_depth(event_time, step 1, step 2, …)`: how many steps of a funnel were taken in their order.
//!
//! The first step counts from the first event of its kind; each further one from the first event of its kind at or
//! after that of the step before (W. Moe, P. Fader, Dynamic conversion behavior at e-commerce sites, Management Science
//! 50(3), 2004). Whether there is such a chain does not depend on the order in which events are counted: a group keeps
//! the times of each step, of the first step only the earliest and of the last only the latest.

use super::group_state::{GroupState, GroupStates, OneState};
use arrow::{
    array::{Array, ArrayRef, AsArray},
    compute::cast,
    datatypes::{DataType, Field, FieldRef, TimeUnit, TimestampMillisecondType},
};
use datafusion::{
    common::{Result, ScalarValue, exec_err, plan_err},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
    },
};
use std::sync::Arc;

/// Times that a group keeps of one step in the middle; of more, the earliest and the latest halves.
pub const TIMES_MAX: usize = 1_024;

/// The SQL aggregate function: a timestamp and, for each step, whether the row is one.
pub fn funnel_depth() -> AggregateUDF {
    AggregateUDF::new_from_impl(FunnelDepth { signature: Signature::variadic_any(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FunnelDepth {
    signature: Signature,
}

impl AggregateUDFImpl for FunnelDepth {
    fn name(&self) -> &str {
        "funnel_depth"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        match args {
            [DataType::Timestamp(_, _), steps @ ..]
                if !steps.is_empty() && steps.iter().all(|step| *step == DataType::Boolean) =>
            {
                Ok(DataType::Int64)
            }
            _ => plan_err!(
                "funnel_depth takes a time and a condition for each step, as in \
                 funnel_depth(event_time, event_type = 'page_view', event_type = 'purchase')"
            ),
        }
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format!("{}[times]", args.name), DataType::Binary, false))])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::<OneState<Times>>::default())
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::<GroupStates<Times>>::default())
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }
}

/// For each step the times at which it was taken, ascending, each once.
#[derive(Debug, Default)]
struct Times {
    steps: Vec<Vec<i64>>,
}

impl Times {
    fn add(&mut self, step: usize, steps: usize, time: i64) {
        if self.steps.len() < steps {
            self.steps.resize_with(steps, Vec::new);
        }
        let times = &mut self.steps[step];
        match times.first().copied() {
            None => times.push(time),
            Some(known) if step == 0 => times[0] = known.min(time),
            Some(known) if step + 1 == steps => times[0] = known.max(time),
            Some(_) => {
                if let Err(at) = times.binary_search(&time) {
                    times.insert(at, time);
                }
                if times.len() > TIMES_MAX {
                    times.remove(TIMES_MAX / 2);
                }
            }
        }
    }

    fn depth(&self) -> i64 {
        let mut reached = i64::MIN;
        let mut depth = 0;
        for times in &self.steps {
            // The last step keeps one time only, its latest: it tells whether there is one late enough.
            let Some(next) = times.iter().find(|time| **time >= reached) else { break };
            reached = *next;
            depth += 1;
        }
        depth
    }
}

impl GroupState for Times {
    fn feed(
        values: &[ArrayRef],
        groups: &mut [Self],
        group_of_row: &[usize],
        is_chosen: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let (times, steps) = values.split_at(1);
        let times = match times[0].data_type() {
            DataType::Timestamp(TimeUnit::Millisecond, _) => times[0].clone(),
            DataType::Timestamp(_, zone) => cast(&times[0], &DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))?,
            other => return exec_err!("funnel_depth takes a timestamp, not {other}"),
        };
        let times = times.as_primitive::<TimestampMillisecondType>();
        for (step, is_taken) in steps.iter().enumerate() {
            let is_taken = is_taken.as_boolean();
            for row in is_taken.values().set_indices() {
                if is_taken.is_valid(row) && times.is_valid(row) && is_chosen(row) {
                    groups[group_of_row[row]].add(step, steps.len(), times.value(row));
                }
            }
        }
        Ok(())
    }

    fn value(&self) -> i64 {
        self.depth()
    }

    /// For each step how many times, then the times.
    fn write(&self, out: &mut Vec<u8>) {
        for times in &self.steps {
            out.extend_from_slice(&(times.len() as u32).to_le_bytes());
            times.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes()));
        }
    }

    fn merge(&mut self, mut state: &[u8]) -> Result<()> {
        let mut steps: Vec<&[[u8; 8]]> = Vec::new();
        while let Some((count, rest)) = state.split_first_chunk::<4>() {
            let Some((times, rest)) = rest.split_at_checked((u32::from_le_bytes(*count) as usize).saturating_mul(8))
            else {
                return exec_err!("funnel_depth: a state is not one of ours");
            };
            steps.push(times.as_chunks::<8>().0);
            state = rest;
        }
        for (step, times) in steps.iter().enumerate() {
            times.iter().for_each(|time| self.add(step, steps.len(), i64::from_le_bytes(*time)));
        }
        Ok(())
    }

    fn size(&self) -> usize {
        size_of::<Self>()
            + self.steps.iter().map(|times| size_of::<Vec<i64>>() + times.capacity() * size_of::<i64>()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, seq::SliceRandom};
    use rand_chacha::ChaCha8Rng;

    /// As the definition says it: the first of each kind at or after the one before.
    fn plain(events: &[(i64, usize)], steps: usize) -> i64 {
        let mut at = i64::MIN;
        for step in 0..steps {
            match events.iter().filter(|(time, kind)| *kind == step && *time >= at).map(|(time, _)| *time).min() {
                Some(time) => at = time,
                None => return step as i64,
            }
        }
        steps as i64
    }

    #[test]
    fn steps_taken_in_order_are_found_however_they_come_and_are_merged() {
        for seed in 0..500 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let steps = random.random_range(1..5);
            let mut events: Vec<(i64, usize)> = (0..random.random_range(0..20))
                .map(|_| (random.random_range(0..15), random.random_range(0..steps)))
                .collect();
            let expected = plain(&events, steps);
            events.shuffle(&mut random);
            let mut parts = [Times::default(), Times::default(), Times::default()];
            for (time, step) in events {
                parts[random.random_range(0..3)].add(step, steps, time);
            }
            let mut merged = Times::default();
            for part in parts {
                let mut bytes = Vec::new();
                part.write(&mut bytes);
                merged.merge(&bytes).unwrap();
            }
            assert_eq!(merged.depth(), expected, "seed {seed}");
        }
    }
}
