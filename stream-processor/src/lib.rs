//! Turns batches of events into panes and alerts.
//!
//! In: decoded batches of one input partition, in offset order; partial panes of all input partitions, in log order.
//! Out: rows for bronze and silver, dead letters, partial panes; merged panes, sealed rows and alerts.
//! Never: reads a clock, draws a random number, touches a network or a disk.

mod arrow_bytes;
mod checkpoint;
mod dedup;
mod detect;
mod distinct_count;
mod header;
mod merger;
mod model;
mod panes;
mod time_rules;
mod tumble;
mod worker;

pub use checkpoint::{CheckpointError, decode_checkpoint, encode_checkpoint};
pub use dedup::Dedup;
pub use detect::{Direction, Method, Reading, ZScore, ZScoreConfig};
pub use distinct_count::{EXACT_MAX, distinct_count};
pub use header::{DetectSpec, Header, HeaderError};
pub use merger::{MergeOutput, Merger, MergerState, SealedRows};
pub use model::{LiveModel, ModelError, OutputColumn};
pub use time_rules::TimeRules;
pub use tumble::tumble;
pub use worker::{Counts, Ingested, PartitionWorker, ProcessorError, WorkerState};
