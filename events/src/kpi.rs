//! A merged pane, as it is published.

use crate::EventTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a merged pane stands in its life; the order is the order of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PaneState {
    /// The window is open; the numbers still grow.
    Provisional,
    /// The watermark passed the window's end.
    Final,
    /// An event within the allowed lateness changed a final pane.
    Corrected,
    /// The lateness is over: immutable.
    Sealed,
}

/// A number of a pane. Exact decimals travel as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Measure {
    /// No value, such as an average over nothing.
    Null,
    /// A count or another whole number.
    Long(i64),
    /// A ratio or a sketch's estimate.
    Double(f64),
    /// An exact decimal or a text.
    Text(String),
}

impl Measure {
    /// The number as a float, for detectors and charts; none for null and for text that is no number.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Null => None,
            Self::Long(n) => Some(*n as f64),
            Self::Double(x) => Some(*x),
            Self::Text(text) => text.parse().ok(),
        }
    }
}

/// One pane of a live model over all input partitions. Fields: `schemas/kpi-v1.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are documented once, in the Avro schema")]
pub struct Kpi {
    pub id: String,
    pub model: String,
    pub window_start: EventTime,
    pub window_end: EventTime,
    pub group: BTreeMap<String, Option<String>>,
    pub measures: BTreeMap<String, Measure>,
    pub state: PaneState,
    pub version: i32,
    pub sequence: i64,
    pub closed_by: Option<String>,
    pub completeness: f64,
}

/// What finds one pane in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are those of a pane")]
pub struct KpiKey {
    pub id: String,
    pub model: String,
    pub window_start: EventTime,
}

impl Kpi {
    /// `model|window start|window length|group`: the same pane always has the same id.
    pub fn id_of(model: &str, start: EventTime, end: EventTime, group: &BTreeMap<String, Option<String>>) -> String {
        let mut id = format!("{model}|{start}|{}", end.get() - start.get());
        for value in group.values() {
            id.push('|');
            match value {
                // A missing value must differ from the empty text, and from every other.
                None => id.push('\0'),
                Some(value) => id.extend(value.chars().flat_map(|c| {
                    let needs_escape = matches!(c, '|' | '\\' | '\0');
                    needs_escape.then_some('\\').into_iter().chain([c])
                })),
            }
        }
        id
    }

    /// What orders two updates of one pane: the higher one is stored. What is sealed stands over what is not, then the
    /// higher version, then the later message. (Without its checkpoints a merger counts versions anew.)
    pub fn rank(&self) -> i64 {
        Self::rank_of(self.state, self.version, self.sequence)
    }

    /// [`Kpi::rank`] of a pane with these fields: 1 bit, 22 bits, 40 bits.
    pub fn rank_of(state: PaneState, version: i32, sequence: i64) -> i64 {
        let sealed = i64::from(state == PaneState::Sealed) << 62;
        sealed | i64::from(version.clamp(0, (1 << 22) - 1)) << 40 | sequence.clamp(0, (1 << 40) - 1)
    }
}
