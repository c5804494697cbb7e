//! The groups that a model has seen: silent ones get zeros, so that an outage is a row of zeros and not silence.

use super::rows::{Group, Rows, zeros};
use crate::LiveModel;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Series up to which a silent one gets zero panes. With more of them silence is usual, as of one product among many.
const ZERO_SERIES_MAX: usize = 1_000;
/// The same for models that are watched.
const ZERO_SERIES_MAX_WATCHED: usize = 10_000;
/// A series without events for this many windows is forgotten.
const KNOWN_WINDOWS: i64 = 1_440;

/// The groups of the last windows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct KnownGroups {
    groups: BTreeMap<String, Known>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    group: Group,
    last_window: i64,
}

impl KnownGroups {
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Remembers the groups of a window, and adds zeros for those that are silent in it.
    pub fn fill(&mut self, model: &LiveModel, rows: &mut Rows, start: i64, slide: i64) {
        let most = if model.header.detect.is_empty() { ZERO_SERIES_MAX } else { ZERO_SERIES_MAX_WATCHED };
        for (key, (group, _)) in rows.iter() {
            if let Some(known) = self.groups.get_mut(key) {
                known.last_window = known.last_window.max(start);
            } else if self.groups.len() <= most {
                self.groups.insert(key.clone(), Known { group: group.clone(), last_window: start });
            }
        }
        self.groups.retain(|_, known| known.last_window >= start - KNOWN_WINDOWS * slide);
        // What HAVING leaves out is not nothing.
        if model.has_having() || self.groups.len() > most {
            return;
        }
        for (key, known) in &self.groups {
            rows.entry(key.clone()).or_insert_with(|| (known.group.clone(), zeros(model)));
        }
    }
}
