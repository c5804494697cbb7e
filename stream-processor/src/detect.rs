//! The rolling z-score: how unusual is this window, measured by those before it.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, Normal};
use std::collections::VecDeque;

/// How a series is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Method {
    /// [`ZScore`].
    ZScore,
}

/// Which deviations count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Above the band.
    Up,
    /// Below the band.
    Down,
    /// Either.
    Both,
}

/// Settings of [`ZScore`].
#[derive(Clone, Copy, Debug)]
pub struct ZScoreConfig {
    /// Windows learnt from.
    pub window: usize,
    /// Windows seen before the first judgement.
    pub warmup: usize,
    /// Standard deviations that are too many.
    pub threshold: f64,
    /// Which deviations count.
    pub direction: Direction,
}

/// What a detector says about one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What was seen.
    pub observed: f64,
    /// What the windows before let expect.
    pub expected: f64,
    /// Below this it is unusual.
    pub lower: f64,
    /// Above this it is unusual.
    pub upper: f64,
    /// Standard deviations from the expectation, signed.
    pub score: f64,
    /// Chance of a deviation this large or larger when nothing is wrong (normal, two-sided).
    pub tail_probability: f64,
    /// Whether it counts as an anomaly.
    pub unusual: bool,
}

/// A rolling z-score. The deviation never falls below that of a Poisson count of the same mean, so that quiet series
/// do not cry at every event. Unusual values are set aside, so that an outage neither becomes normal nor widens the band;
/// when all of half a window's length were unusual, they are the new normal.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ZScore {
    recent: VecDeque<f64>,
    /// The unusual values since the last usual one.
    set_aside: VecDeque<f64>,
}

impl ZScore {
    /// Judges the next value of the series by those before it, then learns it. None during warm-up.
    pub fn judge(&mut self, observed: f64, config: &ZScoreConfig) -> Option<Reading> {
        if !observed.is_finite() {
            return None;
        }
        let reading = (self.recent.len() >= config.warmup.max(2)).then(|| self.read(observed, config));
        if reading.is_some_and(|r| r.unusual) {
            self.set_aside.push_back(observed);
            if self.set_aside.len() >= (config.window / 2).max(config.warmup).max(2) {
                self.recent = std::mem::take(&mut self.set_aside);
            }
        } else {
            self.set_aside.clear();
            // What lies beyond the band on the side that is not watched is learnt up to the band's edge.
            self.recent.push_back(reading.map_or(observed, |r| observed.clamp(r.lower, r.upper)));
            while self.recent.len() > config.window.max(2) {
                self.recent.pop_front();
            }
        }
        reading
    }

    fn read(&self, observed: f64, config: &ZScoreConfig) -> Reading {
        let n = self.recent.len() as f64;
        let mean = self.recent.iter().sum::<f64>() / n;
        let variance = self.recent.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let deviation = variance.sqrt().max(mean.abs().sqrt()).max(1.0);
        let score = (observed - mean) / deviation;
        let unusual = match config.direction {
            Direction::Up => score >= config.threshold,
            Direction::Down => score <= -config.threshold,
            Direction::Both => score.abs() >= config.threshold,
        };
        let reach = config.threshold * deviation;
        Reading {
            observed,
            expected: mean,
            lower: mean - reach,
            upper: mean + reach,
            score,
            tail_probability: 2.0 * Normal::standard().sf(score.abs()),
            unusual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: ZScoreConfig = ZScoreConfig { window: 60, warmup: 10, threshold: 4.0, direction: Direction::Down };

    #[test]
    fn an_outage_is_unusual_and_stays_so() {
        let mut detector = ZScore::default();
        for i in 0..30 {
            let reading = detector.judge(100.0 + f64::from(i % 7), &CONFIG);
            assert_eq!(reading.is_some(), i >= 10, "warm-up");
            assert!(reading.is_none_or(|r| !r.unusual));
        }
        for _ in 0..29 {
            let reading = detector.judge(0.0, &CONFIG).unwrap();
            assert!(reading.unusual && reading.score < -4.0 && reading.tail_probability < 1e-4, "{reading:?}");
        }
        assert!(!detector.judge(100.0, &CONFIG).unwrap().unusual, "back at once when it is over");
        assert!(!detector.judge(300.0, &CONFIG).unwrap().unusual, "only falls count here");
    }

    #[test]
    fn a_new_level_becomes_normal_after_half_a_window() {
        let mut detector = ZScore::default();
        for _ in 0..60 {
            detector.judge(100.0, &CONFIG);
        }
        let unusual = (0..60).filter(|_| detector.judge(20.0, &CONFIG).is_some_and(|r| r.unusual)).count();
        assert_eq!(unusual, 30);
    }

    #[test]
    fn a_quiet_series_does_not_cry_at_one_event() {
        let mut detector = ZScore::default();
        let both = ZScoreConfig { direction: Direction::Both, ..CONFIG };
        for _ in 0..30 {
            detector.judge(0.0, &both);
        }
        assert!(!detector.judge(1.0, &both).unwrap().unusual);
        assert!(detector.judge(50.0, &both).unwrap().unusual);
    }
}
