//! Z-scores of one series: rolling, and exponentially weighted.
//!
//! Both judge a number by the mean and the deviation of those before it. Unusual numbers are set aside, so that an
//! outage neither becomes normal nor widens the band; when nothing else came for half a window, they are the new normal.

use crate::{
    Reading,
    limits::Limits,
    moments::{Moments, rate_of_half_life},
};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Settings of the rolling z-score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ZScoreConfig {
    /// Windows learnt from, 2 at least.
    pub window: usize,
    /// Windows seen before the first judgement, 2 at least.
    pub warmup: usize,
}

impl Default for ZScoreConfig {
    fn default() -> Self {
        Self { window: 60, warmup: 10 }
    }
}

/// Settings of the z-score by exponentially weighted mean and deviation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EwmaConfig {
    /// A window so many windows ago weighs half as much as the newest. Above 0.
    pub half_life: f64,
    /// Windows seen before the first judgement, 2 at least.
    pub warmup: usize,
}

impl Default for EwmaConfig {
    fn default() -> Self {
        Self { half_life: 20.0, warmup: 10 }
    }
}

/// A rolling z-score: mean and deviation of the last windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ZScore {
    recent: VecDeque<f64>,
    /// The unusual numbers since the last usual one.
    set_aside: VecDeque<f64>,
}

impl ZScore {
    /// Judges the next number of the series by those before it, then learns it. None during warm-up.
    pub(crate) fn judge(&mut self, observed: f64, config: &ZScoreConfig, limits: &Limits) -> Option<Reading> {
        let judged = (self.recent.len() >= config.warmup.max(2)).then(|| {
            // In two passes: sums carried along would keep a huge number's rounding for ever.
            let n = self.recent.len() as f64;
            let mean = self.recent.iter().sum::<f64>() / n;
            let squares = self.recent.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>();
            limits.read(observed, mean, (squares / (n - 1.0)).sqrt())
        });
        if judged.is_some_and(|(reading, _)| reading.unusual) {
            self.set_aside.push_back(observed);
            if self.set_aside.len() >= (config.window / 2).max(config.warmup).max(2) {
                self.recent = std::mem::take(&mut self.set_aside);
            }
        } else {
            self.set_aside.clear();
            // What lies beyond the band on the side that is not watched is learnt up to the band's edge.
            self.recent.push_back(judged.map_or(observed, |(_, [lower, upper])| observed.clamp(lower, upper)));
            while self.recent.len() > config.window.max(config.warmup).max(2) {
                self.recent.pop_front();
            }
        }
        judged.map(|(reading, _)| reading)
    }

    pub(crate) fn is_warming_up(&self, config: &ZScoreConfig) -> bool {
        self.recent.len() < config.warmup.max(2)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.recent.capacity() + self.set_aside.capacity()) * size_of::<f64>()
    }
}

/// A z-score of exponentially weighted mean and deviation: 40 bytes however long its memory. Otherwise as [`ZScore`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ewma {
    usual: Moments,
    /// Of the unusual numbers since the last usual one.
    set_aside: Moments,
}

impl Ewma {
    /// Judges the next number of the series by those before it, then learns it. None during warm-up.
    pub(crate) fn judge(&mut self, observed: f64, config: &EwmaConfig, limits: &Limits) -> Option<Reading> {
        let rate = rate_of_half_life(config.half_life);
        let judged =
            (!self.is_warming_up(config)).then(|| limits.read(observed, self.usual.mean, self.usual.deviation()));
        if judged.is_some_and(|(reading, _)| reading.unusual) {
            self.set_aside.learn(observed, rate);
            if self.set_aside.learnt as usize >= (config.half_life as usize).max(config.warmup).max(2) {
                self.usual = std::mem::take(&mut self.set_aside);
            }
        } else {
            self.set_aside = Moments::default();
            self.usual.learn(judged.map_or(observed, |(_, [lower, upper])| observed.clamp(lower, upper)), rate);
        }
        judged.map(|(reading, _)| reading)
    }

    pub(crate) fn is_warming_up(&self, config: &EwmaConfig) -> bool {
        (self.usual.learnt as usize) < config.warmup.max(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Direction, Formula, Metric};
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const ROLLING: ZScoreConfig = ZScoreConfig { window: 60, warmup: 10 };
    const WEIGHTED: EwmaConfig = EwmaConfig { half_life: 30.0, warmup: 10 };

    fn limits(direction: Direction, formula: Formula) -> Limits {
        Limits::of(&Metric { name: "m".into(), formula, direction, threshold: 4.0 }, 60_000)
    }

    fn both(detect: impl Fn(&mut dyn FnMut(f64, &Limits) -> Option<Reading>)) {
        let mut rolling = ZScore::default();
        detect(&mut |x, limits| rolling.judge(x, &ROLLING, limits));
        let mut weighted = Ewma::default();
        detect(&mut |x, limits| weighted.judge(x, &WEIGHTED, limits));
    }

    #[test]
    fn an_outage_is_unusual_and_stays_so() {
        let down = limits(Direction::Down, Formula::Sum(0));
        both(|judge| {
            for i in 0..30 {
                let reading = judge(100.0 + f64::from(i % 7), &down);
                assert_eq!(reading.is_some(), i >= 10, "warm-up");
                assert!(reading.is_none_or(|r| !r.unusual && r.upper == f64::INFINITY));
            }
            for _ in 0..29 {
                let reading = judge(0.0, &down).unwrap();
                assert!(reading.unusual && reading.z_score < -4.0 && reading.tail_probability < 1e-4, "{reading:?}");
                assert!(reading.false_alarms_per_year < 60.0, "{reading:?}");
            }
            assert!(!judge(100.0, &down).unwrap().unusual, "back at once when it is over");
            assert!(!judge(300.0, &down).unwrap().unusual, "only falls count here");
        });
    }

    #[test]
    fn a_new_level_becomes_normal_after_half_a_window() {
        let down = limits(Direction::Down, Formula::Sum(0));
        both(|judge| {
            for _ in 0..60 {
                judge(100.0, &down);
            }
            let unusual = (0..60).filter(|_| judge(20.0, &down).is_some_and(|r| r.unusual)).count();
            assert_eq!(unusual, 30);
        });
    }

    #[test]
    fn a_quiet_count_does_not_cry_at_one_event_and_a_level_has_no_such_floor() {
        let (count, level) = (limits(Direction::Both, Formula::Sum(0)), limits(Direction::Both, Formula::Level(0)));
        both(|judge| {
            for _ in 0..30 {
                judge(0.0, &count);
            }
            assert!(!judge(1.0, &count).unwrap().unusual);
            assert!(judge(50.0, &count).unwrap().unusual);
        });
        both(|judge| {
            for i in 0..30 {
                judge(0.5 + 0.001 * f64::from(i % 3), &level);
            }
            assert!(judge(0.6, &level).unwrap().unusual, "a rate that never moved by a hundredth");
        });
    }

    #[test]
    fn the_window_rolls_as_in_a_plain_twin() {
        let (mut random, mut detector, mut seen) = (ChaCha8Rng::seed_from_u64(5), ZScore::default(), Vec::new());
        let never = Limits { threshold: f64::INFINITY, ..limits(Direction::Both, Formula::Level(0)) };
        for _ in 0..500 {
            let value: f64 = random.random_range(-5.0..20.0);
            if let Some(reading) = detector.judge(value, &ROLLING, &never) {
                let last = &seen[seen.len() - seen.len().min(60)..];
                let mean = last.iter().sum::<f64>() / last.len() as f64;
                let variance = last.iter().map(|x: &f64| (x - mean).powi(2)).sum::<f64>() / (last.len() - 1) as f64;
                assert!((reading.expected - mean).abs() < 1e-9);
                assert!((reading.z_score - (value - mean) / variance.sqrt()).abs() < 1e-9);
            }
            seen.push(value);
        }
    }
}
