//! Turns batches of events into panes and alerts.
//!
//! In: decoded batches of one input partition, in offset order; partial panes of all input partitions, in log order.
//! Out: rows for bronze and silver, dead letters, partial panes; merged panes, sealed rows and alerts.
//! Never: reads a clock, draws a random number, touches a network or a disk.

mod aggregates;
mod arrow_bytes;
mod checkpoint;
mod dedup;
mod hashed;
mod header;
mod merger;
mod model;
mod open;
mod panes;
mod sessions;
mod time_rules;
mod watching;
mod window;
mod worker;

pub use aggregates::{EXACT_MAX, TIMES_MAX, aggregates};
pub use checkpoint::{CheckpointError, decode_checkpoint, encode_checkpoint};
pub use dedup::Dedup;
pub use header::{Header, HeaderError, Publish};
pub use merger::{MergeOutput, Merger, MergerState, NeedsRows, SealedRows, root_of, sealed_panes};
pub use model::{LiveModel, ModelError, OutputColumn, Place};
pub use open::Held;
pub use panes::OTHER;
pub use time_rules::{StateLimits, TimeRules};
pub use watching::{
    AlertUpdate, ColumnKind, DetectSpec, DetectionHealth, HistoryWatch, KnownTimes, MeasureText, Method, WatchColumn,
    WatchError, WatchPlan, Watcher, detector_of,
};
pub use window::{Grid, Window, register_batch_functions};
pub use worker::{Counts, Ingested, PartitionWorker, ProcessorError, WorkerState};
