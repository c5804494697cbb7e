//! The sessions of one input partition, as fragments: what came of one group, none further than the gap from the next.
//!
//! Two fragments that come to touch stay two: the merger, which also sees other partitions', puts together what
//! belongs together. So an event only ever adds to one fragment, and a fragment has its number for life.

use crate::{
    model::{LiveModel, event_millis},
    panes::{Accumulators, Evaluated, Groups, batch},
};
use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, UInt32Array},
    compute::{filter_record_batch, take},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef},
};
use datafusion::common::Result;
use std::sync::Arc;

/// Columns after the state's own: number of the fragment, its first and last event time.
const OWN: [&str; 3] = ["_fragment", "_first", "_last"];
/// Beside them in a checkpoint: the last event time as it was sent last.
const SENT: &str = "_sent";
/// Of a fragment whose newest rows are not sent.
const DIRTY: &str = "_dirty";

/// Columns of the fragments of a model as they are sent: its states, then `_fragment`, `_first`, `_last`.
pub(crate) fn fragment_schema(model: &LiveModel) -> SchemaRef {
    let own = OWN.map(|name| Arc::new(Field::new(name, DataType::Int64, false)));
    Arc::new(Schema::new(model.state_schema.fields().iter().cloned().chain(own).collect::<Vec<_>>()))
}

/// Columns of the fragments of a model as a checkpoint keeps them.
pub(crate) fn saved_schema(model: &LiveModel) -> SchemaRef {
    let more = [Field::new(SENT, DataType::Int64, true), Field::new(DIRTY, DataType::Boolean, false)].map(Arc::new);
    Arc::new(Schema::new(fragment_schema(model).fields().iter().cloned().chain(more).collect::<Vec<_>>()))
}

/// The last event time in fragments of a model that is not known.
pub(crate) fn last_event(bytes: &[u8]) -> Option<i64> {
    let fragments = arrow::ipc::reader::StreamReader::try_new(bytes, None).ok()?.next()?.ok()?;
    let last = fragments.column_by_name(OWN[2])?.as_primitive_opt::<Int64Type>()?.clone();
    arrow::compute::max(&last)
}

struct Fragment {
    group: usize,
    id: i64,
    first: i64,
    last: i64,
    /// Its last event time when it was sent last; none when mergers do not know that it begins so early.
    sent: Option<i64>,
    is_dirty: bool,
    is_gone: bool,
}

/// The open fragments of one model.
pub(crate) struct OpenSessions {
    gap: i64,
    groups: Groups,
    /// For each group the places of its fragments.
    of_group: Vec<Vec<u32>>,
    /// In the order of the accumulators' groups.
    fragments: Vec<Fragment>,
    accumulators: Accumulators,
    next_id: i64,
    gone: usize,
    // Room that is used again.
    group_of_row: Vec<usize>,
}

impl OpenSessions {
    pub fn new(model: &LiveModel, gap: i64) -> Result<Self> {
        Ok(Self {
            gap,
            groups: Groups::new(model)?,
            of_group: Vec::new(),
            fragments: Vec::new(),
            accumulators: Accumulators::new(model)?,
            next_id: 0,
            gone: 0,
            group_of_row: Vec::new(),
        })
    }

    /// Fragments held.
    pub fn len(&self) -> usize {
        self.fragments.len() - self.gone
    }

    /// Bytes held, about.
    pub fn size(&self) -> usize {
        self.groups.size()
            + self.accumulators.size()
            + self.fragments.capacity() * size_of::<Fragment>()
            + self.of_group.capacity() * (size_of::<Vec<u32>>() + 8)
    }

    /// Takes rows in; gives the number of those that went to the group of all others.
    pub fn update(&mut self, rows: &Evaluated, times: &ArrayRef, groups_max: usize) -> Result<usize> {
        let moved = self.groups.intern_some(&rows.groups, rows.rows, groups_max, &mut self.group_of_row)?;
        self.of_group.resize_with(self.groups.len(), Vec::new);
        for (place, time) in self.group_of_row.iter_mut().zip(event_millis(times)) {
            let group = *place;
            let near = |at: &&u32| {
                let fragment = &self.fragments[**at as usize];
                fragment.first.saturating_sub(self.gap) <= *time && *time <= fragment.last.saturating_add(self.gap)
            };
            *place = match self.of_group[group].iter().find(near) {
                Some(at) => {
                    let fragment = &mut self.fragments[*at as usize];
                    if *time < fragment.first {
                        // It may join to what ended before: mergers must hear of it before they close that.
                        fragment.first = *time;
                        fragment.sent = None;
                    }
                    fragment.last = fragment.last.max(*time);
                    fragment.is_dirty = true;
                    *at as usize
                }
                None => {
                    let at = self.fragments.len();
                    let (id, first, last) = (self.next_id, *time, *time);
                    self.fragments.push(Fragment {
                        group,
                        id,
                        first,
                        last,
                        sent: None,
                        is_dirty: true,
                        is_gone: false,
                    });
                    self.of_group[group].push(at as u32);
                    self.next_id += 1;
                    at
                }
            };
        }
        self.accumulators.update(rows, &self.group_of_row, self.fragments.len())?;
        Ok(moved)
    }

    /// Where the last session ends; none when there is none.
    pub fn open_until(&self) -> Option<i64> {
        let open = self.fragments.iter().filter(|f| !f.is_gone);
        open.map(|f| f.last.saturating_add(self.gap + 1)).max()
    }

    /// Forgets the fragments that no event to come can touch: those that `is_over` says so of the end of their session,
    /// and that have been sent.
    pub fn drop_over(&mut self, is_over: impl Fn(i64) -> bool) {
        self.forget(|fragment, end| !fragment.is_dirty && is_over(end));
    }

    /// Forgets the fragments that `is_over` says so of the end of their session, sent or not.
    pub fn forget_over(&mut self, is_over: impl Fn(i64) -> bool) {
        self.forget(|_, end| is_over(end));
    }

    fn forget(&mut self, is_over: impl Fn(&Fragment, i64) -> bool) {
        for (at, fragment) in self.fragments.iter_mut().enumerate() {
            if !fragment.is_gone && is_over(fragment, fragment.last.saturating_add(self.gap + 1)) {
                fragment.is_gone = true;
                self.gone += 1;
                self.of_group[fragment.group].retain(|other| *other != at as u32);
            }
        }
    }

    /// What the merger needs before it hears of this watermark: fragments that it does not know of and might join to
    /// others, and those that it would close without knowing their latest events. Without a watermark, all that is new.
    /// Columns as [`fragment_schema`].
    pub fn take_due(&mut self, model: &LiveModel, watermark: Option<i64>) -> Result<Option<RecordBatch>> {
        let gap = self.gap;
        let is_due = |fragment: &Fragment| {
            !fragment.is_gone
                && fragment.is_dirty
                && watermark.is_none_or(|watermark| match fragment.sent {
                    None => fragment.first <= watermark,
                    Some(sent) => sent.saturating_add(gap) < watermark,
                })
        };
        if !self.fragments.iter().any(is_due) {
            return Ok(None);
        }
        let due: BooleanArray = self.fragments.iter().map(|fragment| Some(is_due(fragment))).collect();
        let all = self.all(model)?;
        for (fragment, due) in self.fragments.iter_mut().zip(due.values().iter()) {
            if due {
                fragment.sent = Some(fragment.last);
                fragment.is_dirty = false;
            }
        }
        Ok(Some(filter_record_batch(&all, &due)?))
    }

    /// All fragments, those that are gone too, in their places; they go on as they were.
    fn all(&mut self, model: &LiveModel) -> Result<RecordBatch> {
        let rows = self.fragments.len();
        let groups = self.groups.emit()?;
        let mut numbers = Vec::new();
        self.groups.intern(&groups, groups.first().map_or(1, Array::len), &mut numbers)?;
        let group_of: UInt32Array = self.fragments.iter().map(|f| Some(f.group as u32)).collect();
        let mut columns = groups.iter().map(|g| take(g, &group_of, None)).collect::<Result<Vec<_>, _>>()?;
        let states = self.accumulators.emit_states()?;
        let places: Vec<usize> = (0..rows).collect();
        self.accumulators.merge(&states, model, &places, rows)?;
        columns.extend(states);
        let own = |value: fn(&Fragment) -> i64| -> ArrayRef {
            Arc::new(self.fragments.iter().map(|f| Some(value(f))).collect::<Int64Array>())
        };
        columns.extend([own(|f| f.id), own(|f| f.first), own(|f| f.last)]);
        batch(fragment_schema(model), columns, rows)
    }

    /// Columns as [`saved_schema`], and the number of the next fragment.
    pub fn snapshot(&mut self, model: &LiveModel) -> Result<(RecordBatch, i64)> {
        self.compact(model)?;
        let all = self.all(model)?;
        let mut columns = all.columns().to_vec();
        columns.push(Arc::new(self.fragments.iter().map(|f| f.sent).collect::<Int64Array>()));
        columns.push(Arc::new(self.fragments.iter().map(|f| Some(f.is_dirty)).collect::<BooleanArray>()));
        Ok((batch(saved_schema(model), columns, all.num_rows())?, self.next_id))
    }

    /// What a snapshot had.
    pub fn restored(model: &LiveModel, gap: i64, saved: &RecordBatch, next_id: i64) -> Result<Self> {
        let mut sessions = Self::new(model, gap)?;
        let rows = saved.num_rows();
        let (groups, rest) = saved.columns().split_at(model.group_schema.fields().len());
        let (states, own) = rest.split_at(rest.len() - 5);
        sessions.groups.intern(groups, rows, &mut sessions.group_of_row)?;
        sessions.of_group.resize_with(sessions.groups.len(), Vec::new);
        let number = |column: &ArrayRef, row: usize| column.as_primitive::<Int64Type>().value(row);
        for (row, group) in sessions.group_of_row.iter().enumerate() {
            sessions.of_group[*group].push(row as u32);
            sessions.fragments.push(Fragment {
                group: *group,
                id: number(&own[0], row),
                first: number(&own[1], row),
                last: number(&own[2], row),
                sent: own[3].is_valid(row).then(|| number(&own[3], row)),
                is_dirty: own[4].as_boolean().value(row),
                is_gone: false,
            });
        }
        let places: Vec<usize> = (0..rows).collect();
        sessions.accumulators.merge(states, model, &places, rows)?;
        sessions.next_id = next_id;
        Ok(sessions)
    }

    /// Gives back the room of fragments that are gone when it is more than half.
    pub fn compact_when_sparse(&mut self, model: &LiveModel) -> Result<()> {
        match self.gone > 1_024 && self.gone * 2 > self.fragments.len() {
            true => self.compact(model),
            false => Ok(()),
        }
    }

    fn compact(&mut self, model: &LiveModel) -> Result<()> {
        if self.gone == 0 {
            return Ok(());
        }
        let live: BooleanArray = self.fragments.iter().map(|f| Some(!f.is_gone)).collect();
        let all = filter_record_batch(&self.all(model)?, &live)?;
        let mut fragments = std::mem::take(&mut self.fragments);
        fragments.retain(|f| !f.is_gone);
        *self = Self { next_id: self.next_id, ..Self::new(model, self.gap)? };
        let (groups, rest) = all.columns().split_at(model.group_schema.fields().len());
        self.groups.intern(groups, all.num_rows(), &mut self.group_of_row)?;
        self.of_group.resize_with(self.groups.len(), Vec::new);
        for (at, (fragment, group)) in fragments.iter_mut().zip(&self.group_of_row).enumerate() {
            fragment.group = *group;
            self.of_group[*group].push(at as u32);
        }
        let places: Vec<usize> = (0..fragments.len()).collect();
        self.accumulators.merge(&rest[..rest.len() - OWN.len()], model, &places, fragments.len())?;
        self.fragments = fragments;
        Ok(())
    }
}
