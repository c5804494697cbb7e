//! Settings of the lake; defaults stand in `sluice.toml`.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Where the lake is and how its files are.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LakeConfig {
    /// Folder or `s3://bucket[/prefix]` of what is as received.
    pub bronze: String,
    /// Folder or `s3://bucket[/prefix]` of what is typed and deduplicated.
    pub silver: String,
    /// Folder or `s3://bucket[/prefix]` of what answers a question.
    pub gold: String,
    /// A commit is made at least this often when there is something to commit.
    #[serde(with = "humantime_serde")]
    pub roll_age: Duration,
    /// A file is closed when it is about this large, compressed.
    pub roll_bytes: u64,
    /// Zstd level of Parquet pages.
    pub zstd_level: i32,
    /// Rows of a row group, at most.
    pub row_group_rows: usize,
    /// How the tables are looked after.
    pub maintain: MaintainConfig,
    /// How long rows are kept, by table; those that are not named are kept for ever.
    pub retain: BTreeMap<String, Retention>,
    /// How to reach S3.
    pub s3: S3Config,
}

/// How long rows of a table are kept, by the day they are filed under; nothing: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Retention(#[serde(with = "humantime_serde")] pub Duration);

/// How the tables are looked after by whoever owns partition 0 of the events.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MaintainConfig {
    /// How often they are looked at; nothing: never.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Files of a day that is still written to are merged when there are this many small ones.
    pub compact_files: usize,
    /// What is a small file of such a day: it is merged with others up to this size.
    pub compact_bytes: u64,
    /// A day that got no file for this long is merged to full size.
    #[serde(with = "humantime_serde")]
    pub settled_after: Duration,
    /// Memory that a compaction or an erasure may take for rows, about.
    pub memory_bytes_max: usize,
    /// How often files are removed that no table needs any more; nothing: never.
    #[serde(with = "humantime_serde")]
    pub vacuum_interval: Duration,
    /// How long such files stay, for readers of older versions.
    #[serde(with = "humantime_serde")]
    pub vacuum_after: Duration,
    /// How long the log of a table's commits reaches back.
    #[serde(with = "humantime_serde")]
    pub log_retention: Duration,
}

/// How to reach S3. Empty keys: the usual AWS environment variables and instance roles.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct S3Config {
    /// Such as `http://127.0.0.1:9000`; empty for AWS.
    pub endpoint: String,
    /// Region.
    pub region: String,
    /// Whether an `http://` endpoint is fine.
    pub allow_http: bool,
    /// Access key.
    pub access_key_id: String,
    /// Secret key. Never printed.
    pub secret_access_key: String,
    /// File that holds the secret key, instead.
    pub secret_access_key_file: String,
}

impl std::fmt::Debug for S3Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}
