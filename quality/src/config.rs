//! Expectations as the settings say them.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};

/// Section `[quality]`. What each key means stands in `sluice.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualityConfig {
    /// By name. A section for each, so that a file, a variable or `--set` may change one key of one of them.
    #[serde(default)]
    pub expectations: BTreeMap<String, ExpectationConfig>,
}

/// One expectation; which of the optional keys it takes depends on its kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "every key is documented once, in sluice.toml")]
pub struct ExpectationConfig {
    pub table: String,
    pub kind: Kind,
    #[serde(default)]
    pub severity: Severity,
    pub column: Option<String>,
    pub rule: Option<String>,
    pub references: Option<String>,
    pub at_least: Option<f64>,
    #[serde(default, with = "humantime_serde")]
    pub within: Option<Duration>,
    pub rows_at_least: Option<u64>,
    pub rows_at_most: Option<u64>,
}

/// What an expectation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The share of rows whose column is neither null nor empty.
    Completeness,
    /// Distinct values of a column over rows, in one partition between two commits.
    Uniqueness,
    /// The share of rows for which a rule is true; false and unknown are not.
    Validity,
    /// How old the newest row is when its batch is committed.
    Freshness,
    /// How many rows one partition brings between two commits.
    Volume,
    /// The share of rows whose column is null or a key of another table.
    Integrity,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Completeness, Self::Uniqueness, Self::Validity, Self::Freshness, Self::Volume, Self::Integrity];

    /// Its name in settings and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completeness => "completeness",
            Self::Uniqueness => "uniqueness",
            Self::Validity => "validity",
            Self::Freshness => "freshness",
            Self::Volume => "volume",
            Self::Integrity => "integrity",
        }
    }

    /// The kind of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether its figure is a share of rows.
    pub const fn is_share(self) -> bool {
        !matches!(self, Self::Freshness | Self::Volume)
    }

    /// Whether each row meets it or not by itself, whatever stands beside it.
    pub const fn is_by_row(self) -> bool {
        matches!(self, Self::Completeness | Self::Validity)
    }
}

/// What follows when an expectation is not met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing: it is not measured.
    Off,
    /// A warning.
    #[default]
    Soft,
    /// The rows that break it stay out of silver.
    Hard,
}

impl Severity {
    /// Its name in settings and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Soft => "soft",
            Self::Hard => "hard",
        }
    }

    /// The severity of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Off, Self::Soft, Self::Hard].into_iter().find(|severity| severity.as_str() == name)
    }
}
