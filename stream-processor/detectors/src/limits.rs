//! How far off is too far.

use crate::{Direction, Formula, Metric, Reading};
use statrs::distribution::{ContinuousCDF, Normal};

/// What the judgement of a series takes from its metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// The score that is too much, in the detector's measure.
    pub(crate) threshold: f64,
    pub(crate) direction: Direction,
    /// Whether the number adds up events, and so cannot deviate by less than a Poisson count does.
    pub(crate) is_sum: bool,
    /// How often a year the series is judged.
    pub(crate) tests_per_year: f64,
}

impl Limits {
    pub(crate) fn of(metric: &Metric, slide_millis: i64) -> Self {
        const YEAR_MILLIS: f64 = 365.25 * 86_400_000.0;
        Self {
            threshold: metric.threshold,
            direction: metric.direction,
            is_sum: matches!(metric.formula, Formula::Sum(_)),
            tests_per_year: YEAR_MILLIS / slide_millis.max(1) as f64,
        }
    }

    /// Whether a deviation to this side is watched.
    pub(crate) fn watches(&self, deviation: f64) -> bool {
        match self.direction {
            Direction::Up => deviation > 0.0,
            Direction::Down => deviation < 0.0,
            Direction::Both => true,
        }
    }

    /// A band with the side that is not watched left open.
    pub(crate) fn band(&self, [lower, upper]: [f64; 2]) -> [f64; 2] {
        [
            if self.direction == Direction::Up { f64::NEG_INFINITY } else { lower },
            if self.direction == Direction::Down { f64::INFINITY } else { upper },
        ]
    }

    /// Reads a number by the mean and deviation of others. With it come the edges of its band, watched or not.
    pub(crate) fn read(&self, observed: f64, mean: f64, deviation: f64) -> (Reading, [f64; 2]) {
        let poisson = if self.is_sum { mean.abs().sqrt().max(1.0) } else { 0.0 };
        // A series that never moved would have none at all, and any score infinite.
        let deviation = deviation.max(poisson).max(mean.abs() * 1e-9).max(1e-30);
        let z_score = (observed - mean) / deviation;
        let tail_probability = 2.0 * Normal::standard().sf(z_score.abs());
        let edges = [mean - self.threshold * deviation, mean + self.threshold * deviation];
        let [lower, upper] = self.band(edges);
        let reading = Reading {
            observed,
            expected: mean,
            lower,
            upper,
            score: z_score.abs(),
            z_score,
            tail_probability,
            false_alarms_per_year: tail_probability * self.tests_per_year,
            weight: 1.0,
            horizon: 1,
            unusual: z_score.abs() >= self.threshold && self.watches(z_score),
        };
        (reading, edges)
    }
}
