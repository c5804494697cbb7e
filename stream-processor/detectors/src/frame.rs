//! A closed window of all series of a model.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The panes of one closed window: a row for each group, in any order. Filled and cleared by its owner, window after
/// window, so that nothing is allocated on the way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// First millisecond of the window, UTC.
    pub start: i64,
    /// First millisecond after it.
    pub end: i64,
    groups: Vec<Option<Arc<str>>>,
    values: Vec<f64>,
    group_columns: usize,
    value_columns: usize,
}

impl Frame {
    /// An empty frame of rows with so many group columns and value columns.
    pub fn new(group_columns: usize, value_columns: usize) -> Self {
        Self { group_columns, value_columns, ..Self::default() }
    }

    /// Begins another window.
    pub fn clear(&mut self, start: i64, end: i64) {
        (self.start, self.end) = (start, end);
        self.groups.clear();
        self.values.clear();
    }

    /// Adds a group's row. A null group value is None; a null measure is NaN.
    ///
    /// # Panics
    /// When the row has other columns than the frame.
    pub fn push(&mut self, group: &[Option<Arc<str>>], values: &[f64]) {
        assert_eq!((group.len(), values.len()), (self.group_columns, self.value_columns), "columns of a frame");
        self.groups.extend_from_slice(group);
        self.values.extend_from_slice(values);
    }

    /// Groups in it.
    pub fn len(&self) -> usize {
        self.values.len() / self.value_columns.max(1)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Its rows: group values and measures.
    pub fn rows(&self) -> impl Iterator<Item = (&[Option<Arc<str>>], &[f64])> {
        (0..self.len()).map(|row| {
            let group = &self.groups[row * self.group_columns..(row + 1) * self.group_columns];
            (group, &self.values[row * self.value_columns..(row + 1) * self.value_columns])
        })
    }
}
