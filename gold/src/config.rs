//! Settings of the runs.

use serde::Deserialize;
use sluice_events::Schedule;
use std::time::Duration;

/// Section `[gold]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct GoldConfig {
    pub engine: String,
    pub schedule: Schedule,
    pub models_at_once: usize,
    pub memory_bytes_max: usize,
    pub tries: u32,
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
}
