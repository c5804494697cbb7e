//! The slices of a model's tumbling or hopping windows, merged over the input partitions, and how far each window is.

use crate::{
    Grid, LiveModel, ProcessorError, arrow_bytes,
    panes::{Aggregated, Panes},
};
use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray};
use datafusion::common::Result;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// The input partition under which the rows of another model are counted.
pub(super) const UPSTREAM: i32 = -1;

/// What was said last about a pane.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Published {
    pub version: i32,
    /// Hash of the measures: a correction that changes nothing is none.
    pub measures: u64,
}

impl Published {
    /// What is said now, and whether it is something new.
    pub fn next(before: Option<&Self>, measures: u64) -> (Self, bool) {
        match before {
            None => (Self { version: 1, measures }, true),
            Some(known) if known.measures == measures => (*known, false),
            Some(known) => (Self { version: known.version + 1, measures }, true),
        }
    }
}

/// How far a window is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct WindowLife {
    pub is_dirty: bool,
    pub closed_by: Option<String>,
    pub published: BTreeMap<String, Published>,
    /// Its panes when it was closed or corrected last: mostly they are sealed as they are.
    #[serde(skip)]
    pub rows: Option<RecordBatch>,
}

/// The newest state of a slice in one input partition, and those that are not all there yet.
#[derive(Default)]
struct Newest {
    as_of: Option<i64>,
    states: Vec<RecordBatch>,
    coming: BTreeMap<i64, Vec<Option<RecordBatch>>>,
}

/// A part of the state of a slice.
pub(super) struct Part {
    pub input_partition: i32,
    pub as_of: i64,
    pub part: usize,
    pub parts: usize,
    pub states: RecordBatch,
}

/// More parts than a state can have.
const PARTS_MAX: usize = 1 << 16;

impl Newest {
    /// Takes a part; says whether the state is another now.
    fn take(&mut self, part: Part) -> bool {
        if self.as_of.is_some_and(|known| known >= part.as_of) || part.part >= part.parts || part.parts > PARTS_MAX {
            return false;
        }
        let coming = self.coming.entry(part.as_of).or_default();
        coming.resize(part.parts, None);
        coming[part.part] = Some(part.states);
        if coming.iter().any(Option::is_none) {
            return false;
        }
        self.states = self.coming.remove(&part.as_of).unwrap_or_default().into_iter().flatten().collect();
        self.as_of = Some(part.as_of);
        self.coming.retain(|as_of, _| *as_of > part.as_of);
        true
    }
}

/// All windows of a model that are not sealed.
#[derive(Default)]
pub(super) struct Windows {
    slices: BTreeMap<i64, BTreeMap<i32, Newest>>,
    pub lives: BTreeMap<i64, WindowLife>,
}

/// What a checkpoint keeps.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct SavedWindows {
    slices: BTreeMap<i64, BTreeMap<i32, SavedNewest>>,
    lives: BTreeMap<i64, WindowLife>,
}

#[derive(Serialize, Deserialize)]
struct SavedNewest {
    as_of: Option<i64>,
    states: Vec<Vec<u8>>,
    coming: Vec<(i64, Vec<Option<Vec<u8>>>)>,
}

impl Windows {
    /// Takes a part of a slice's state; `open` are the windows it is in that are not sealed. Gives false when all are.
    pub fn take(&mut self, slice: i64, part: Part, open: &[i64]) -> bool {
        if open.is_empty() {
            return false;
        }
        let changed = self.slices.entry(slice).or_default().entry(part.input_partition).or_default().take(part);
        if changed {
            self.touch(open);
        }
        true
    }

    /// Something of these windows is another now.
    pub fn touch(&mut self, starts: &[i64]) {
        for start in starts {
            self.lives.entry(*start).or_default().is_dirty = true;
        }
    }

    /// Counts rows of another model in a slice, besides those that are counted there.
    pub fn add(&mut self, model: &LiveModel, slice: i64, as_of: i64, mut new: Panes) -> Result<()> {
        let newest = self.slices.entry(slice).or_default().entry(UPSTREAM).or_default();
        for states in &newest.states {
            new.merge(states, model)?;
        }
        newest.states = vec![new.states(model)?];
        newest.as_of = Some(as_of);
        Ok(())
    }

    /// The panes of a window now, with more rows than are counted where there are some: columns as the pane schema.
    pub fn merged(&self, model: &LiveModel, grid: &Grid, start: i64, more: Option<Panes>) -> Result<RecordBatch> {
        let end = grid.end(start);
        let states = self.slices.range(start..end).flat_map(|(_, newest)| newest.values()).flat_map(|n| &n.states);
        let mut is_empty = more.is_none();
        let mut panes = match more {
            Some(panes) => panes,
            None => Panes::new(model)?,
        };
        for states in states {
            panes.merge(states, model)?;
            is_empty = false;
        }
        if is_empty {
            return Ok(RecordBatch::new_empty(model.pane_schema().clone()));
        }
        let merged = panes.evaluate()?;
        let rows = merged.values.first().or(merged.groups.first()).map_or(1, |column| column.len());
        finish(model, merged, start, end, rows)
    }

    /// Forgets a window that is sealed, and the slices that no window needs any more.
    pub fn seal(&mut self, grid: &Grid, start: i64) {
        self.lives.remove(&start);
        let next = grid.next(start);
        while let Some(slice) = self.slices.first_entry().filter(|slice| *slice.key() < next) {
            slice.remove();
        }
    }

    /// Forgets what begins before: it is not counted whole.
    pub fn forget_before(&mut self, from: i64) {
        self.lives.retain(|start, _| *start >= from);
        self.slices.retain(|start, _| *start >= from);
    }

    pub fn save(&self) -> Result<SavedWindows, ProcessorError> {
        let bytes = |states: &RecordBatch| arrow_bytes::to_bytes(states);
        let mut slices = BTreeMap::new();
        for (start, partitions) in &self.slices {
            let mut saved = BTreeMap::new();
            for (partition, newest) in partitions {
                let coming = newest.coming.iter().map(|(as_of, parts)| {
                    let parts =
                        parts.iter().map(|part| part.as_ref().map(bytes).transpose()).collect::<Result<_, _>>()?;
                    Ok((*as_of, parts))
                });
                let coming = coming.collect::<Result<_, arrow::error::ArrowError>>()?;
                let states = newest.states.iter().map(bytes).collect::<Result<_, _>>()?;
                saved.insert(*partition, SavedNewest { as_of: newest.as_of, states, coming });
            }
            slices.insert(*start, saved);
        }
        Ok(SavedWindows { slices, lives: self.lives.clone() })
    }

    pub fn restored(model: &LiveModel, saved: SavedWindows) -> Result<Self, ProcessorError> {
        let batch = |bytes: &Vec<u8>| arrow_bytes::from_bytes(bytes, &model.state_schema);
        let mut windows = Self { slices: BTreeMap::new(), lives: saved.lives };
        for (start, partitions) in saved.slices {
            for (partition, newest) in partitions {
                let mut coming = BTreeMap::new();
                for (as_of, parts) in newest.coming {
                    let parts =
                        parts.iter().map(|part| part.as_ref().map(batch).transpose()).collect::<Result<_, _>>()?;
                    coming.insert(as_of, parts);
                }
                let states = newest.states.iter().map(batch).collect::<Result<_, _>>()?;
                let newest = Newest { as_of: newest.as_of, states, coming };
                windows.slices.entry(start).or_default().insert(partition, newest);
            }
        }
        Ok(windows)
    }

    /// Start of the newest slice held.
    pub fn newest(&self) -> Option<i64> {
        self.slices.keys().next_back().copied()
    }

    /// Bytes held, about.
    pub fn size(&self) -> usize {
        let newest = self.slices.values().flat_map(BTreeMap::values);
        newest.flat_map(|newest| &newest.states).map(RecordBatch::get_array_memory_size).sum()
    }
}

fn finish(model: &LiveModel, merged: Aggregated, start: i64, end: i64, rows: usize) -> Result<RecordBatch> {
    let time =
        |millis| -> ArrayRef { Arc::new(TimestampMillisecondArray::from_value(millis, rows).with_timezone("UTC")) };
    Ok(model.finish(merged, time(start), time(end))?.0)
}
