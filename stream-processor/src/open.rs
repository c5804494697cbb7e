//! What one model holds open in one input partition: slices of its windows, or fragments of sessions.

use crate::{
    LiveModel, ProcessorError, Window, arrow_bytes,
    panes::Panes,
    sessions::{self, OpenSessions},
    time_rules::ClockRules,
};
use arrow::array::RecordBatch;
use datafusion::common::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, btree_map::Entry};

struct Slice {
    panes: Panes,
    is_dirty: bool,
}

enum Open {
    Slices(BTreeMap<i64, Slice>),
    Sessions(Box<OpenSessions>),
    /// The model reads another's rows: mergers count those.
    Elsewhere,
}

/// One model in one input partition.
pub(crate) struct OpenModel {
    open: Open,
    /// Of a model that was new in mid-stream: the first window that it can count whole.
    pub counts_from: Option<i64>,
}

/// What a checkpoint keeps of it.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedModel {
    pub name: String,
    pub fingerprint: String,
    counts_from: Option<i64>,
    /// Start of the slice, its states as Arrow IPC.
    slices: Vec<(i64, Vec<u8>)>,
    /// Fragments as Arrow IPC, number of the next.
    sessions: Option<(Vec<u8>, i64)>,
}

/// States on their way to the merger.
pub(crate) struct Outgoing {
    /// Start of the slice; none: fragments of sessions, each for itself.
    pub slice: Option<i64>,
    /// The parts together are the absolute state.
    pub parts: Vec<Vec<u8>>,
}

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Slices, or fragments of sessions.
    pub open: usize,
    /// Groups in all slices, or fragments.
    pub groups: usize,
    /// Bytes, about.
    pub bytes: usize,
}

impl OpenModel {
    pub fn new(model: &LiveModel) -> Result<Self, ProcessorError> {
        let open = match (&model.window, &model.upstream) {
            (_, Some(_)) => Open::Elsewhere,
            (Window::Grid(_), None) => Open::Slices(BTreeMap::new()),
            (Window::Session { gap }, None) => {
                Open::Sessions(Box::new(OpenSessions::new(model, *gap).map_err(|e| ProcessorError::of(model, e))?))
            }
        };
        Ok(Self { open, counts_from: None })
    }

    /// A model that comes new to a worker that has seen events up to `newest`.
    pub fn new_after(model: &LiveModel, newest: Option<i64>) -> Result<Self, ProcessorError> {
        let counts_from = newest.map(|newest| model.first_whole_window(newest));
        Ok(Self { counts_from, ..Self::new(model)? })
    }

    pub fn save(&mut self, model: &LiveModel) -> Result<SavedModel, ProcessorError> {
        let mut saved = SavedModel {
            name: model.name.clone(),
            fingerprint: model.fingerprint.clone(),
            counts_from: self.counts_from,
            slices: Vec::new(),
            sessions: None,
        };
        match &mut self.open {
            Open::Slices(slices) => {
                for (start, slice) in slices {
                    let states = slice.panes.states(model).map_err(|e| ProcessorError::of(model, e))?;
                    saved.slices.push((*start, arrow_bytes::to_bytes(&states)?));
                }
            }
            Open::Sessions(sessions) => {
                let (fragments, next_id) = sessions.snapshot(model).map_err(|e| ProcessorError::of(model, e))?;
                saved.sessions = Some((arrow_bytes::to_bytes(&fragments)?, next_id));
            }
            Open::Elsewhere => {}
        }
        Ok(saved)
    }

    pub fn restored(model: &LiveModel, saved: SavedModel) -> Result<Self, ProcessorError> {
        let mut restored = Self { counts_from: saved.counts_from, ..Self::new(model)? };
        match (&mut restored.open, &model.window) {
            (Open::Slices(slices), _) => {
                for (start, bytes) in saved.slices {
                    let states = arrow_bytes::from_bytes(&bytes, &model.state_schema)?;
                    let panes = Panes::new(model).and_then(|mut panes| panes.merge(&states, model).map(|()| panes));
                    let panes = panes.map_err(|e| ProcessorError::of(model, e))?;
                    slices.insert(start, Slice { panes, is_dirty: false });
                }
            }
            (Open::Sessions(sessions), Window::Session { gap }) => {
                if let Some((bytes, next_id)) = saved.sessions {
                    let fragments = arrow_bytes::from_bytes(&bytes, &sessions::saved_schema(model))?;
                    **sessions = OpenSessions::restored(model, *gap, &fragments, next_id)
                        .map_err(|e| ProcessorError::of(model, e))?;
                }
            }
            _ => {}
        }
        Ok(restored)
    }

    /// Counts events; gives the number of those that were counted under the group of all others.
    pub fn count(&mut self, model: &LiveModel, events: &RecordBatch, groups_max: usize) -> Result<usize> {
        let mut moved = 0;
        match &mut self.open {
            Open::Slices(slices) => {
                for (start, rows) in model.evaluate_slices(events)? {
                    if self.counts_from.is_some_and(|from| start < from) {
                        continue;
                    }
                    let slice = match slices.entry(start) {
                        Entry::Occupied(entry) => entry.into_mut(),
                        Entry::Vacant(entry) => entry.insert(Slice { panes: Panes::new(model)?, is_dirty: false }),
                    };
                    moved += slice.panes.update(&rows, groups_max)?;
                    slice.is_dirty = true;
                }
            }
            Open::Sessions(sessions) => {
                if let Some((rows, times)) = model.evaluate(events)? {
                    moved += sessions.update(&rows, &times, groups_max)?;
                }
            }
            Open::Elsewhere => {}
        }
        Ok(moved)
    }

    /// Gives back the memory of what takes no more events and has been sent.
    pub fn drop_over(&mut self, model: &LiveModel, rules: &ClockRules, watermark: i64) -> Result<()> {
        match (&mut self.open, &model.window) {
            (Open::Slices(slices), Window::Grid(grid)) => {
                slices.retain(|start, slice| slice.is_dirty || rules.sealed_at(grid.slice_end(*start)) > watermark);
            }
            (Open::Sessions(sessions), _) => {
                sessions.drop_over(|end| rules.sealed_at(end) <= watermark);
                sessions.compact_when_sparse(model)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives up what ends at or before `until`, sent or not.
    pub fn forget_until(&mut self, model: &LiveModel, until: i64) -> Result<()> {
        match (&mut self.open, &model.window) {
            (Open::Slices(slices), Window::Grid(grid)) => {
                slices.retain(|start, _| grid.end(grid.last_window(*start)) > until);
            }
            (Open::Sessions(sessions), _) => {
                sessions.forget_over(|end| end <= until);
                sessions.compact_when_sparse(model)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What has changed and the merger must know before it hears of the watermark; without one, all that has changed.
    pub fn take(&mut self, model: &LiveModel, watermark: Option<i64>) -> Result<Vec<Outgoing>, ProcessorError> {
        let mut outgoing = Vec::new();
        match &mut self.open {
            Open::Slices(slices) => {
                for (start, slice) in slices.iter_mut().filter(|(_, slice)| slice.is_dirty) {
                    let states = slice.panes.states(model).map_err(|e| ProcessorError::of(model, e))?;
                    slice.is_dirty = false;
                    outgoing.push(Outgoing { slice: Some(*start), parts: arrow_bytes::to_parts(&states)? });
                }
            }
            Open::Sessions(sessions) => {
                if let Some(due) = sessions.take_due(model, watermark).map_err(|e| ProcessorError::of(model, e))? {
                    outgoing.push(Outgoing { slice: None, parts: arrow_bytes::to_parts(&due)? });
                }
            }
            Open::Elsewhere => {}
        }
        Ok(outgoing)
    }

    /// The end of the last window with events; none when there is none.
    pub fn open_until(&self, model: &LiveModel) -> Option<i64> {
        match (&self.open, &model.window) {
            (Open::Slices(slices), Window::Grid(grid)) => {
                slices.last_key_value().map(|(start, _)| grid.end(grid.last_window(*start)))
            }
            (Open::Sessions(sessions), _) => sessions.open_until(),
            _ => None,
        }
    }

    pub fn held(&self) -> Held {
        match &self.open {
            Open::Slices(slices) => Held {
                open: slices.len(),
                groups: slices.values().map(|slice| slice.panes.len()).sum(),
                bytes: slices.values().map(|slice| slice.panes.size()).sum(),
            },
            Open::Sessions(sessions) => Held { open: sessions.len(), groups: sessions.len(), bytes: sessions.size() },
            Open::Elsewhere => Held::default(),
        }
    }
}
