//! Settings of the event log; defaults stand in `sluice.toml`.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Which log, and its settings.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// `embedded` or `kafka`.
    pub kind: LogKind,
    /// Settings of the embedded log.
    pub embedded: EmbeddedConfig,
    /// Settings of Kafka.
    pub kafka: KafkaConfig,
}

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// A durable log in a local folder, inside this process.
    Embedded,
    /// Apache Kafka, or what speaks its protocol.
    Kafka,
}

/// When appended records are forced to the disk. Whatever the policy, they survive a killed process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FsyncPolicy {
    /// After each append.
    Always,
    /// Every `fsync_interval`.
    Interval,
    /// When the operating system likes.
    Never,
}

/// Settings of the embedded log.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddedConfig {
    /// Its folder.
    pub dir: PathBuf,
    /// When to force records to the disk.
    pub fsync: FsyncPolicy,
    /// How often, for `fsync = "interval"`.
    #[serde(with = "humantime_serde")]
    pub fsync_interval: Duration,
    /// Records older than this may be dropped. Zero keeps all.
    #[serde(with = "humantime_serde")]
    pub retention_age: Duration,
    /// The oldest records may be dropped when a partition is larger than this. Zero keeps all.
    pub retention_bytes: u64,
}

/// Settings of Kafka.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, several with commas.
    pub bootstrap: String,
    /// Replication factor of topics that sluice makes.
    pub replication: i32,
    /// Any librdkafka property, such as `security.protocol`.
    pub properties: BTreeMap<String, String>,
}
