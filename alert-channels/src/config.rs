//! Receivers as the settings say them.

use crate::Secret;
use serde::{Deserialize, Serialize};
use sluice_events::Severity;
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Section `[alerts]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlertsConfig {
    /// Where people reach sluice, such as `https://sluice.example.com`: links begin with it. Empty: messages have none.
    #[serde(default)]
    pub external_url: String,
    /// By name. A section for each, so that a file, a variable or `--set` may change one key of one of them.
    #[serde(default)]
    pub receivers: BTreeMap<String, ReceiverConfig>,
}

/// Section `[alerts.receivers.<name>]`: who is told, of what, and how patiently.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverConfig {
    /// What it understands.
    pub kind: Kind,
    /// Where it is. Of an Alertmanager its root, such as `http://alertmanager:9093`. Never printed but for scheme and host.
    pub url: Option<Secret>,
    /// File that holds the URL, instead.
    pub url_file: Option<PathBuf>,
    /// Environment variable that holds the URL, instead.
    pub url_env: Option<String>,
    /// What a webhook's requests are signed with; without one they are not. Never printed.
    pub secret: Option<Secret>,
    /// File that holds the secret, instead.
    pub secret_file: Option<PathBuf>,
    /// Environment variable that holds the secret, instead.
    pub secret_env: Option<String>,
    /// Alerts below this are not told; one that rises to it is.
    #[serde(default = "default::min_severity")]
    pub min_severity: Severity,
    /// Only alerts of these models; empty: of all.
    #[serde(default)]
    pub models: Vec<String>,
    /// How long one attempt may take.
    #[serde(default = "default::timeout", with = "humantime_serde")]
    pub timeout: Duration,
    /// How often an attempt is made again, after the first.
    #[serde(default = "default::retries")]
    pub retries: u32,
    /// The wait before the first of them; it doubles with each, up to a minute.
    #[serde(default = "default::backoff", with = "humantime_serde")]
    pub backoff: Duration,
    /// What may wait to be told; beyond it the oldest is dropped.
    #[serde(default = "default::queue")]
    pub queue: usize,
    /// How often an Alertmanager is told that an alert goes on; after three without it the alert ends there \[default: 1m\].
    #[serde(default, with = "humantime_serde")]
    pub resend_interval: Option<Duration>,
}

/// What a receiver understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A JSON object by POST, signed.
    Webhook,
    /// Slack's incoming webhooks, and what speaks like them.
    Slack,
    /// Prometheus Alertmanager, API version 2.
    Alertmanager,
}

impl Kind {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Slack => "slack",
            Self::Alertmanager => "alertmanager",
        }
    }
}

/// Defaults of keys that a receiver's section leaves out: `sluice.toml` has no section to keep them in.
mod default {
    use super::{Duration, Severity};

    pub(super) fn min_severity() -> Severity {
        Severity::Info
    }

    pub(super) fn timeout() -> Duration {
        Duration::from_secs(10)
    }

    /// With waits of 1, 2, 4 … 60 seconds this is about three minutes: a restart of the receiver.
    pub(super) fn retries() -> u32 {
        8
    }

    pub(super) fn backoff() -> Duration {
        Duration::from_secs(1)
    }

    pub(super) fn queue() -> usize {
        1000
    }
}
