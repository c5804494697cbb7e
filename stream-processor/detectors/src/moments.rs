//! Mean and variance of a series, learnt one number at a time.

use serde::{Deserialize, Serialize};

/// Mean and variance, all numbers alike at first and exponentially weighted once `1 / rate` of them were seen, so that
/// the first numbers do not count for more than the later ones (West 1979, with a floor under the weight).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moments {
    pub(crate) learnt: u32,
    pub(crate) mean: f64,
    /// Of the numbers seen, not of the population they may come from.
    pub(crate) variance: f64,
}

impl Moments {
    /// Learns a number that weighs at least `rate`.
    pub(crate) fn learn(&mut self, value: f64, rate: f64) {
        self.learnt = self.learnt.saturating_add(1);
        let weight = (1.0 / f64::from(self.learnt)).max(rate);
        let off = value - self.mean;
        self.mean += weight * off;
        self.variance = (1.0 - weight) * (self.variance + weight * off * off);
    }

    pub(crate) fn deviation(&self) -> f64 {
        self.variance.sqrt()
    }
}

/// The weight of the newest number when one so many numbers old weighs half of it.
pub(crate) fn rate_of_half_life(half_life: f64) -> f64 {
    1.0 - (-std::f64::consts::LN_2 / half_life).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_numbers_weigh_alike_and_the_later_ones_by_half_life() {
        let values = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0];
        let (mut alike, mut weighted) = (Moments::default(), Moments::default());
        for value in values {
            alike.learn(value, 0.0);
            weighted.learn(value, rate_of_half_life(2.0));
        }
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        assert!((alike.mean - mean).abs() < 1e-12 && (alike.variance - variance).abs() < 1e-12, "{alike:?}");

        // With a half-life of 2 the rate is 0.29: the first three numbers weigh alike.
        let keep = 0.5f64.powf(0.5);
        let mean = values[3..].iter().fold(2.0, |mean, value| keep * mean + (1.0 - keep) * value);
        assert!((weighted.mean - mean).abs() < 1e-12, "{weighted:?}");
    }
}
