//! `count(DISTINCT text)` by numbers in place of texts.
//!
//! The engine's own way groups the rows a second time by the texts themselves, and so keeps each text once for each group that
//! it is in. Here a text gets a number the first time that it is seen, the same in all threads of the question, and a group keeps a
//! compressed bitmap of numbers (Chambi et al., Better bitmap performance with Roaring bitmaps, 2016).

use super::text_numbers::{NO_TEXT, TextNumbers};
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, LargeBinaryBuilder},
    compute::cast,
    datatypes::{DataType, Field, FieldRef},
};
use datafusion::{
    common::{DFSchema, Result, ScalarValue, config::ConfigOptions, internal_datafusion_err, tree_node::Transformed},
    logical_expr::{
        Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, Expr, ExprSchemable, GroupsAccumulator, Signature,
        Volatility,
        expr::{AggregateFunction, AggregateFunctionParams},
        expr_rewriter::FunctionRewrite,
        function::{AccumulatorArgs, StateFieldsArgs},
        utils::format_state_name,
        when,
    },
};
use roaring::RoaringBitmap;
use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

/// Memory of a number in a bitmap, with its share of what belongs to the bitmap: where they are few and far between.
const SETTLED_BYTES: usize = 12;
/// At least so many numbers of a group go into its bitmap at once ...
const PENDING_MIN: usize = 512;
/// ... and one for so many that are in it already.
const SETTLED_BY_PENDING: usize = 4;

/// Puts [`DistinctTexts`] in the place of `count(DISTINCT text)`.
#[derive(Debug)]
pub(super) struct DistinctTextsRewrite;

impl FunctionRewrite for DistinctTextsRewrite {
    fn name(&self) -> &str {
        "distinct_texts"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = &expr else {
            return Ok(Transformed::no(expr));
        };
        let AggregateFunctionParams { args, distinct: true, filter, order_by, null_treatment: None } = params else {
            return Ok(Transformed::no(expr));
        };
        let is_text = |arg: &Expr| {
            let of = arg.get_type(schema);
            of.is_ok_and(|of| matches!(of, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View))
        };
        match &args[..] {
            [text] if func.name() == "count" && order_by.is_empty() && is_text(text) => {
                let count = Arc::new(AggregateUDF::from(DistinctTexts::new()));
                // Rows that are left out shall get no numbers.
                let text = match filter {
                    Some(filter) => when(*filter.clone(), text.clone()).end()?,
                    None => text.clone(),
                };
                let count = AggregateFunction::new_udf(count, vec![text], false, None, vec![], None);
                Ok(Transformed::yes(Expr::AggregateFunction(count)))
            }
            _ => Ok(Transformed::no(expr)),
        }
    }
}

/// How many texts there are, without those that are the same. It is one place of one question: all of its threads share the
/// numbers.
#[derive(Debug)]
struct DistinctTexts {
    signature: Signature,
    numbers: Arc<TextNumbers>,
}

impl DistinctTexts {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable), numbers: Arc::default() }
    }
}

impl PartialEq for DistinctTexts {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.numbers, &other.numbers)
    }
}

impl Eq for DistinctTexts {}

impl Hash for DistinctTexts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.numbers).hash(state);
    }
}

impl AggregateUDFImpl for DistinctTexts {
    fn name(&self) -> &str {
        "count_distinct_texts"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn is_nullable(&self) -> bool {
        false
    }

    fn default_value(&self, _: &DataType) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(0)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "numbers"), DataType::LargeBinary, false))])
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(DistinctCounts::new(self.numbers.clone())))
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(DistinctCount(DistinctCounts::new(self.numbers.clone()))))
    }
}

/// The texts of one group.
#[derive(Default)]
struct Seen {
    /// Their numbers.
    settled: RoaringBitmap,
    /// Numbers that are yet to go in there, some of them maybe not for the first time.
    pending: Vec<u32>,
}

impl Seen {
    /// Notes a number; true when it is time to settle.
    fn add(&mut self, number: u32) -> bool {
        self.pending.push(number);
        self.pending.len() >= PENDING_MIN && self.pending.len() == self.pending.capacity()
    }

    /// Takes settled numbers of others. Gives how many of them are new.
    fn absorb(&mut self, more: RoaringBitmap) -> u64 {
        let before = self.settled.len();
        self.settled |= more;
        self.settled.len() - before
    }

    /// A bitmap takes numbers in order, and many at once, far sooner than one by one; the larger it is, the more. Gives how many
    /// were new to it.
    fn settle(&mut self) -> Result<u64> {
        self.pending.sort_unstable();
        self.pending.dedup();
        let more = RoaringBitmap::from_sorted_iter(self.pending.drain(..));
        Ok(self.absorb(more.map_err(|e| internal_datafusion_err!("numbers out of order: {e}"))?))
    }

    fn into_settled(mut self) -> Result<RoaringBitmap> {
        self.settle()?;
        Ok(self.settled)
    }
}

/// The texts of each group.
struct DistinctCounts {
    numbers: Arc<TextNumbers>,
    seen: Vec<Seen>,
    /// So many are in all bitmaps together.
    settled: u64,
    /// So many are yet to go in there.
    pending: usize,
    /// Memory of the numbers that were given here: together the threads have that of all.
    given_bytes: usize,
}

impl DistinctCounts {
    fn new(numbers: Arc<TextNumbers>) -> Self {
        Self { numbers, seen: Vec::new(), settled: 0, pending: 0, given_bytes: 0 }
    }

    fn enlarge(&mut self, groups: usize) {
        self.seen.resize_with(groups, Seen::default);
    }

    fn add(&mut self, group: usize, number: u32) -> Result<()> {
        let seen = &mut self.seen[group];
        self.pending += 1;
        if seen.add(number) {
            self.pending -= seen.pending.len();
            self.settled += seen.settle()?;
            seen.pending.reserve_exact(seen.settled.len() as usize / SETTLED_BY_PENDING);
        }
        Ok(())
    }

    fn take(&mut self, emit_to: EmitTo) -> impl Iterator<Item = Result<RoaringBitmap>> + use<> {
        let taken = emit_to.take_needed(&mut self.seen);
        self.settled = self.seen.iter().map(|seen| seen.settled.len()).sum();
        self.pending = self.seen.iter().map(|seen| seen.pending.len()).sum();
        taken.into_iter().map(Seen::into_settled)
    }
}

impl GroupsAccumulator for DistinctCounts {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.enlarge(total_num_groups);
        let texts = match values[0].data_type() {
            DataType::Utf8View => values[0].clone(),
            _ => cast(&values[0], &DataType::Utf8View)?,
        };
        let (numbers, bytes) = self.numbers.of(&texts)?;
        self.given_bytes += bytes;
        for (row, (group, number)) in group_indices.iter().zip(numbers).enumerate() {
            let is_in = opt_filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if number != NO_TEXT && is_in {
                self.add(*group, number)?;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.enlarge(total_num_groups);
        let states = values[0].as_binary::<i64>();
        for (group, state) in group_indices.iter().zip(states.iter().flatten()) {
            self.settled += self.seen[*group].absorb(RoaringBitmap::deserialize_from(state)?);
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let counts = self.take(emit_to).map(|settled| Ok(settled?.len() as i64));
        Ok(Arc::new(Int64Array::from(counts.collect::<Result<Vec<_>>>()?)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let mut states = LargeBinaryBuilder::new();
        for settled in self.take(emit_to) {
            settled?.serialize_into(&mut states)?;
            states.append_value([]);
        }
        Ok(vec![Arc::new(states.finish())])
    }

    /// Of groups that have a row or two each, so that nothing would come of grouping in this thread.
    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows: Vec<usize> = (0..values[0].len()).collect();
        let mut each = Self::new(self.numbers.clone());
        each.update_batch(values, &rows, opt_filter, rows.len())?;
        each.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        let groups = self.seen.capacity() * size_of::<Seen>() + self.settled as usize * SETTLED_BYTES;
        let pending = self.pending * 2 * size_of::<u32>();
        size_of::<Self>() + groups + pending + self.given_bytes
    }
}

/// The texts of all rows.
struct DistinctCount(DistinctCounts);

impl std::fmt::Debug for DistinctCount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DistinctCount").field(&self.0.settled).finish()
    }
}

impl DistinctCount {
    /// The only group.
    fn group(values: &[ArrayRef]) -> Vec<usize> {
        vec![0; values[0].len()]
    }
}

impl Accumulator for DistinctCount {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values, &Self::group(values), None, 1)
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states, &Self::group(states), 1)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.0.enlarge(1);
        ScalarValue::try_from_array(&self.0.evaluate(EmitTo::All)?, 0)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.enlarge(1);
        GroupsAccumulator::state(&mut self.0, EmitTo::All)?
            .iter()
            .map(|state| ScalarValue::try_from_array(state, 0))
            .collect()
    }

    fn size(&self) -> usize {
        GroupsAccumulator::size(&self.0)
    }
}
