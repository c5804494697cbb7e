//! What tallies say, with a verdict.

use crate::Kind;
use serde::Serialize;

/// When something is judged.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Milliseconds since 1970.
    pub now: i64,
    /// Whether the time since the last check was as long as it should be. A shorter one, as at a stop, says nothing about
    /// too few rows.
    pub is_whole: bool,
}

/// One expectation, measured and judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// Rows looked at.
    pub rows: u64,
    /// Rows that met it, of kinds that are a share of rows.
    pub passed: Option<u64>,
    /// Of freshness: the age of the newest row.
    pub age_seconds: Option<f64>,
    /// Whether it is met; none: nothing to judge by.
    pub ok: Option<bool>,
}

impl Figure {
    /// Of kinds that are a share of rows: the share.
    pub fn ratio(&self) -> Option<f64> {
        self.passed.filter(|_| self.rows > 0).map(|passed| passed as f64 / self.rows as f64)
    }

    /// The figures of several partitions, or several times, as one. Shares are added up and judged anew; what is newest
    /// speaks for the freshness of all; each partition's volume must be right.
    pub fn of_all(kind: Kind, at_least: Option<f64>, figures: impl IntoIterator<Item = Self>) -> Self {
        let mut all = Self::default();
        for figure in figures {
            all.passed = match (all.passed, figure.passed) {
                (Some(a), Some(b)) => Some(a + b),
                // Rows that were not judged have no share, and nor has the sum.
                (known, None) if figure.rows == 0 => known,
                (None, known) if all.rows == 0 => known,
                _ => None,
            };
            all.rows += figure.rows;
            all.age_seconds = match (all.age_seconds, figure.age_seconds) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            all.ok = match (all.ok, figure.ok) {
                (Some(a), Some(b)) if kind == Kind::Freshness => Some(a || b),
                (Some(a), Some(b)) => Some(a && b),
                (a, b) => a.or(b),
            };
        }
        if kind.is_share() {
            all.ok = all.ratio().map(|ratio| ratio >= at_least.unwrap_or(1.0));
        }
        all
    }
}
