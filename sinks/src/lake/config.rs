//! Settings of the lake; defaults stand in `sluice.toml`.

use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    /// How to reach S3.
    pub s3: S3Config,
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
