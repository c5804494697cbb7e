//! A quotient by hour of day: a conditional rate, or a mean value.

use super::profile::Civil;
use serde::{Deserialize, Serialize};

/// Events above the line that an hour's own quotient must have against that of all hours.
const SHRINK: f64 = 200.0;
/// Events above the line that a series' quotient must have against that of all series.
const SHRINK_NEW: f64 = 20.0;
/// Orders that a series' mean value must have against that of all series.
const SHRINK_NEW_MEAN: f64 = 0.25;

/// What is above and below the line, by hour of day and in all; older ones weigh less.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Hourly {
    above: [f32; 24],
    below: [f32; 24],
    all: (f64, f64),
}

impl Hourly {
    /// The quotient expected at a time; `overall` is that of all hours, `size` what one event has above the line (1 for a
    /// count; for an amount the mean value, so that evidence counts in orders).
    #[inline]
    pub(crate) fn expected(&self, at: Civil, overall: f64, size: f64) -> f64 {
        if overall <= 0.0 {
            return 0.0;
        }
        let prior = SHRINK * size / overall;
        let (first, second, way) = at.between_hours();
        let of = |hour: usize| (f64::from(self.above[hour]) + prior * overall) / (f64::from(self.below[hour]) + prior);
        of(first) * (1.0 - way) + of(second) * way
    }

    /// The rate of all hours; `others` is that of all series together, which a new one is like.
    pub(crate) fn rate(&self, others: f64) -> f64 {
        self.overall(others, if others > 0.0 { SHRINK_NEW / others } else { 0.0 })
    }

    /// The mean value of all hours. Values differ much more between series than rates do, as those of books and of
    /// notebooks: that of all series counts for little.
    pub(crate) fn mean(&self, others: f64) -> f64 {
        self.overall(others, SHRINK_NEW_MEAN)
    }

    fn overall(&self, others: f64, prior: f64) -> f64 {
        if self.all.1 + prior > 0.0 { (self.all.0 + prior * others) / (self.all.1 + prior) } else { 0.0 }
    }

    /// What is above and below the line in memory.
    pub(crate) fn seen(&self) -> (f64, f64) {
        self.all
    }

    /// Learns a window; `keep_hour` and `keep` are what it leaves of the hour's and of the whole memory.
    pub(crate) fn learn(&mut self, at: Civil, above: f64, below: f64, keep_hour: f32, keep: f64) {
        let hour = at.0 as usize % 24;
        self.above[hour] = self.above[hour] * keep_hour + above as f32;
        self.below[hour] = self.below[hour] * keep_hour + below as f32;
        self.all.0 = self.all.0 * keep + above;
        self.all.1 = self.all.1 * keep + below;
    }
}
