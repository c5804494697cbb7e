//! What partition workers tell merge workers.

use serde::{Deserialize, Serialize};

/// What a message of the `partials` topic says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartialKind {
    /// Absolute states of panes.
    Panes,
    /// How far the input partition's event time has come.
    Watermark,
    /// The input partition is quiet: do not wait for it.
    Idle,
    /// The input partition has been read to its end and no more is to come.
    Drained,
}

/// A message of the `partials` topic. Fields: `schemas/partial-v1.avsc`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields are documented once, in the Avro schema")]
pub struct Partial {
    pub kind: PartialKind,
    pub input_partition: i32,
    pub input_partitions: i32,
    pub as_of_offset: i64,
    pub watermark: Option<i64>,
    pub model: Option<String>,
    pub fingerprint: Option<String>,
    pub counts_from: Option<i64>,
    pub part: i32,
    pub parts: i32,
    #[serde(with = "crate::dead_letter::optional_bytes")]
    pub panes: Option<Vec<u8>>,
}
