//! How the process is doing, as it says itself.

use serde::Serialize;
use utoipa::ToSchema;

/// Knows how the process is doing. Asked on every poll of every page: cheap, and it does not block.
pub trait StatusSource: Send + Sync {
    /// How it is doing now.
    fn status(&self) -> Status;
}

/// How the process is doing. Counters start at 0 when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Status {
    /// It has started and can answer for its roles.
    pub ready: bool,
    /// It works at all; when not, restart it.
    pub live: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_ready_because: Option<String>,
    /// What this process does: `produce`, `process`, `merge`, `gold`, `serve`.
    pub roles: Vec<String>,
    /// The input partitions that it reads.
    pub partitions: Vec<PartitionStatus>,
    /// Records read: processed + duplicates + invalid + dead letters of decoding.
    pub events_received: u64,
    /// Events taken into silver, late ones included.
    pub events_processed: u64,
    /// Events whose id was seen before.
    pub duplicates: u64,
    /// Events that decode but break a rule.
    pub invalid: u64,
    /// Records that could not be taken.
    pub dead_letters: u64,
    /// Events in silver that came too late for their panes.
    pub late: u64,
    /// When it started, milliseconds since 1970-01-01 UTC.
    pub started_at_ms: i64,
    /// Its version.
    pub version: String,
}

/// How far one input partition is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: u32,
    /// The next offset to read.
    pub position: i64,
    /// The offset that the next record will get.
    pub end_offset: i64,
    /// Records between the two.
    pub lag: i64,
    /// No earlier event is still expected: milliseconds since 1970-01-01 UTC; none before the first event.
    pub watermark_ms: Option<i64>,
    /// Nothing comes, so it holds no window back.
    pub idle: bool,
}
