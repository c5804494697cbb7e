//! The trait that both logs keep, and the choice between them.

use crate::{EmbeddedLog, KafkaLog, LogConfig, LogKind, Membership};
use sluice_events::{Offset, Partition, RecordBuffer, Records};
use std::{path::PathBuf, sync::Arc, time::Duration};

/// Offsets that a partition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetRange {
    /// The oldest record still kept.
    pub start: Offset,
    /// The offset that the next record will get.
    pub end: Offset,
}

/// Why the log did not do it.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The topic does not exist.
    #[error("topic '{topic}' does not exist in the event log")]
    UnknownTopic {
        /// Its name.
        topic: String,
    },
    /// The topic exists, but not this partition.
    #[error("topic '{topic}' has no partition {partition}")]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
    },
    /// The offset asked for is gone by retention, or was never written.
    #[error("offset {offset} of {topic}/{partition} is outside what the log holds ({start}..{end})")]
    OutOfRange {
        /// The topic.
        topic: String,
        /// The partition.
        partition: Partition,
        /// What was asked for.
        offset: Offset,
        /// The oldest offset kept.
        start: Offset,
        /// The end offset.
        end: Offset,
    },
    /// Another process has the data folder open.
    #[error("event log at {}: another sluice process has it open", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The data folder cannot be used or is damaged.
    #[error("event log at {}: {message}", path.display())]
    Storage {
        /// The folder.
        path: PathBuf,
        /// What the storage said.
        message: String,
    },
    /// The broker refused or cannot be reached. Safe to retry.
    #[error("Kafka at {bootstrap}: {deed}: {message}")]
    Broker {
        /// The servers.
        bootstrap: String,
        /// What was tried.
        deed: String,
        /// What librdkafka said.
        message: String,
    },
}

/// A partitioned, append-only, durable log of records.
pub trait EventLog: Send + Sync {
    /// Makes the topic with that many partitions when it is missing; returns how many it has.
    ///
    /// # Errors
    /// When the storage or the broker fails.
    fn ensure_topic(&self, topic: &str, partitions: u32) -> Result<u32, LogError>;

    /// How many partitions the topic has.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`] when it is missing.
    fn partition_count(&self, topic: &str) -> Result<u32, LogError>;

    /// The offsets the partition holds now.
    ///
    /// # Errors
    /// When the topic or partition is missing, or the storage or the broker fails.
    fn offsets(&self, topic: &str, partition: Partition) -> Result<OffsetRange, LogError>;

    /// Appends the records in order. They are kept after the death of this process at the latest when
    /// [`EventLog::flush`] has returned. The embedded log stamps records with its own clock when their time is 0.
    ///
    /// # Errors
    /// When the topic or partition is missing, or the storage or the broker fails.
    fn append(&self, topic: &str, partition: Partition, records: &RecordBuffer) -> Result<(), LogError>;

    /// Waits until everything appended through this handle is acknowledged.
    ///
    /// # Errors
    /// When a record could not be delivered.
    fn flush(&self) -> Result<(), LogError>;

    /// A reader that starts at `from`, which must lie in what the partition holds (its end included).
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] when it does not.
    fn reader(&self, topic: &str, partition: Partition, from: Offset) -> Result<Box<dyn PartitionReader>, LogError>;

    /// Joins the processes that share the partitions of `topic` under the name `group`. In the embedded log, which
    /// serves one process, every member has all partitions.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`] when it is missing; when the broker fails.
    fn join(&self, group: &str, topic: &str) -> Result<Box<dyn Membership>, LogError>;
}

/// Reads one partition forward.
pub trait PartitionReader: Send {
    /// The next records: whatever is there, at most about `max_records`; waits up to `wait` for the first one.
    /// Empty when nothing came.
    ///
    /// # Errors
    /// When the storage or the broker fails for good; passing trouble is retried inside.
    fn next(&mut self, max_records: usize, wait: Duration) -> Result<Records, LogError>;

    /// The offset that `next` reads from.
    fn position(&self) -> Offset;
}

/// Opens the log that the configuration names.
///
/// # Errors
/// When the folder cannot be opened or the broker does not answer.
pub fn open(config: &LogConfig) -> Result<Arc<dyn EventLog>, LogError> {
    Ok(match config.kind {
        LogKind::Embedded => Arc::new(EmbeddedLog::open(&config.embedded)?),
        LogKind::Kafka => Arc::new(KafkaLog::connect(&config.kafka)?),
    })
}
