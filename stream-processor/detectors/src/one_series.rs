//! A series on its own, such as the rows of a file.

use crate::{Direction, Method, limits::Limits, method::Series};
use serde::{Deserialize, Serialize};

/// Judges the numbers of one series, in order of time, of any cadence.
///
/// ```
/// use sluice_detectors::{CoverConfig, Method, OneSeries};
///
/// let mut latency = OneSeries::new(Method::Cover(CoverConfig::default()));
/// for minute in 0..100 {
///     latency.judge(minute * 60_000, [20.0, 21.0, 20.5][minute as usize % 3]);
/// }
/// assert!(latency.judge(100 * 60_000, 21.0) < 0.5);
/// assert!(latency.judge(101 * 60_000, 90.0) > 0.5);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneSeries {
    method: Method,
    series: Series,
}

impl OneSeries {
    /// A series of which nothing was seen.
    pub fn new(method: Method) -> Self {
        Self { method, series: Series::new(&method) }
    }

    /// How unusual the next number is, in [0, 1], judged by those before it: from a half on it is, by the method's
    /// [usual threshold](Method::usual_threshold). 0 during warm-up and for what is no number.
    ///
    /// The score of the cover is its own. A z-score `z` becomes `|z| / (|z| + 3)`, which keeps its order. The number is
    /// taken for a level, not for a count: quiet series have no Poisson floor.
    pub fn judge(&mut self, start_millis: i64, value: f64) -> f64 {
        let threshold = self.method.usual_threshold();
        let limits = Limits { threshold, direction: Direction::Both, is_sum: false, tests_per_year: f64::NAN };
        let score = self.series.judge(start_millis, value, &self.method, &limits).map_or(0.0, |reading| reading.score);
        match self.method {
            Method::Cover(_) => score,
            Method::ZScore(_) | Method::Ewma(_) => score / (score + threshold),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CoverConfig, EwmaConfig, ZScoreConfig};

    #[test]
    fn whatever_comes_the_score_is_between_0_and_1() {
        for method in [
            Method::ZScore(ZScoreConfig::default()),
            Method::Ewma(EwmaConfig::default()),
            Method::Cover(CoverConfig::default()),
        ] {
            let mut series = OneSeries::new(method);
            let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 0.0, -0.0, 5e-324];
            for row in 0..2_000i64 {
                let value = if row % 7 == 3 { odd[row as usize / 7 % odd.len()] } else { (row % 50) as f64 };
                // Time may stand still or go backwards in a file.
                let score = series.judge((row * 37 % 1_000) * 300_000 - 10_000_000, value);
                assert!((0.0..=1.0).contains(&score), "{method:?} row {row}: {value} gives {score}");
            }
        }
    }

    #[test]
    fn a_series_that_never_moved_scores_nothing_until_it_moves() {
        for method in [
            Method::ZScore(ZScoreConfig::default()),
            Method::Ewma(EwmaConfig::default()),
            Method::Cover(CoverConfig::default()),
        ] {
            for level in [0.0, 20.0, -3e12] {
                let mut series = OneSeries::new(method);
                let scores: Vec<f64> = (0..100).map(|row| series.judge(row * 60_000, level)).collect();
                assert!(scores.iter().all(|score| *score < 1e-6), "{method:?} at {level}");
                assert!(series.judge(6_000_000, level + level.abs() * 0.1 + 1.0) > 0.9, "{method:?} at {level}");
            }
        }
    }
}
