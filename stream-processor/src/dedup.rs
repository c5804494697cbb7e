//! Remembers event ids for a while, under a budget.

use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};

/// Slices of the horizon: memory is given back one slice at a time.
const SLICES: i64 = 8;

/// The ids seen in one partition, within a horizon of event time and a number of ids.
///
/// Ids are kept as 128-bit hashes (xxh3): of a billion ids, two collide with a chance of 1 in 10²⁰.
/// What is remembered depends on nothing but the events observed, in their order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Dedup {
    slice_millis: i64,
    ids_max: usize,
    #[serde(skip)]
    seen: HashSet<u128, FxBuildHasher>,
    /// The ids of `seen` by slice of event time.
    slices: BTreeMap<i64, Vec<u128>>,
    newest_slice: i64,
}

impl Dedup {
    /// Remembers ids for `horizon_millis` of event time, and `ids_max` of them at most.
    pub fn new(horizon_millis: i64, ids_max: usize) -> Self {
        Self {
            slice_millis: (horizon_millis / SLICES).max(1),
            ids_max: ids_max.max(1),
            seen: HashSet::default(),
            slices: BTreeMap::new(),
            newest_slice: i64::MIN,
        }
    }

    /// Whether the id is new; from now on it is not. A duplicate is one whatever event time it carries.
    pub fn is_new(&mut self, id: u128, event_time: i64) -> bool {
        if !self.seen.insert(id) {
            return false;
        }
        let slice = event_time.div_euclid(self.slice_millis);
        self.slices.entry(slice).or_default().push(id);
        if slice > self.newest_slice {
            self.newest_slice = slice;
            let oldest_kept = slice - SLICES;
            self.forget(|oldest, _| oldest < oldest_kept);
        }
        let ids_max = self.ids_max;
        self.forget(|_, len| len > ids_max);
        true
    }

    /// Drops the oldest slice as long as `gone` says so; the newest stays.
    fn forget(&mut self, gone: impl Fn(i64, usize) -> bool) {
        while self.slices.len() > 1 {
            let len = self.seen.len();
            let Some(oldest) = self.slices.first_entry().filter(|e| gone(*e.key(), len)) else { return };
            for id in oldest.remove() {
                self.seen.remove(&id);
            }
        }
    }

    /// After reading a checkpoint: only the slices are written.
    pub(crate) fn restored(mut self) -> Self {
        self.seen = self.slices.values().flatten().copied().collect();
        self
    }

    /// Ids remembered.
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Bytes held, about.
    pub fn size(&self) -> usize {
        // A slot of the table is an id and a byte; a table doubles when seven eighths are taken.
        self.seen.capacity() * 8 / 7 * 17 + self.slices.values().map(|ids| ids.capacity() * 16).sum::<usize>()
    }

    /// Whether no id is remembered.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_new_once_within_the_horizon() {
        let mut dedup = Dedup::new(8_000, 1_000);
        assert!(dedup.is_new(1, 0));
        assert!(!dedup.is_new(1, 500));
        assert!(!dedup.is_new(1, 7_999));
        assert!(dedup.is_new(2, 9_000));
        assert!(dedup.is_new(1, 9_000), "its slice is past the horizon");
        assert_eq!(dedup.len(), 2);
    }

    #[test]
    fn the_oldest_ids_go_when_the_budget_is_spent() {
        let mut dedup = Dedup::new(8_000, 10);
        for id in 0..100 {
            assert!(dedup.is_new(id, id as i64 * 79));
            assert!(dedup.len() <= 10 + 13, "one slice may be over the budget, no more");
        }
        assert!(!dedup.is_new(99, 99 * 79));
    }
}
