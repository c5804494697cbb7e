//! The commit log: one trait, two implementations.
//!
//! In: records for a topic and partition. Out: the same records, each with its offset, in order, as often as asked;
//! and, when several processes share a topic, which partitions are whose.
//! Never: looks into a record. What a value means is the business of `events`.

mod config;
mod embedded;
mod kafka;
mod log;
mod membership;

pub use config::{EmbeddedConfig, FsyncPolicy, KafkaConfig, LogConfig, LogKind};
pub use embedded::EmbeddedLog;
pub use kafka::KafkaLog;
pub use log::{EventLog, LogError, OffsetRange, PartitionReader, open};
pub use membership::{AssignmentChange, Membership};
