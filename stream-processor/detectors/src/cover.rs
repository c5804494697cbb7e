//! Novelty of one series of any numbers: how far the newest lies from all that were seen.
//!
//! The numbers seen are covered by few prototypes, each standing for what lies within [`RADIUS`] of it; a number that no
//! prototype covers is new, by its distance to the nearest, and becomes one. Hence an alarm is one window: what was new
//! is known from then on. Distances are in standard deviations, and in their logarithm far out, so that scale, offset and
//! the unit do not matter. Three views are looked at, the number itself, its deviation from what its hour of the day and
//! of the week usually brings, and the mean of the last few; a view that finds something new all the time is believed less.
//!
//! Nearest-neighbour distance to what was seen as a measure of novelty, and the summary of a stream by few
//! representatives, are old: Hart's condensed nearest neighbour rule (1968) keeps what the kept do not explain;
//! Knorr and Ng (1998) and Ramaswamy, Rastogi and Shim (2000) call outlying what lies far from its neighbours; Marsland,
//! Shapiro and Nehmzow (2002) grow a set of prototypes where the input is new, and habituate. Here all is in one
//! dimension, where the nearest of sorted prototypes is one of two.
//!
//! The numbers below were chosen on 30 of the 58 files of the Numenta Anomaly Benchmark, where the cover scores 79.5 (low
//! FP 73.6, low FN 83.6). They lie on a plateau: any one a fifth off costs two points at most, and of 120 draws with all
//! of them up to a fifth off the lowest scored 75.9, the median 78.4 and the highest 80.3.

use crate::{Reading, limits::Limits, moments::Moments};
use serde::{Deserialize, Serialize};

/// A number so near to a prototype, in bent standard deviations, is nothing new.
const RADIUS: f64 = 0.15;
/// Up to about so many standard deviations from the mean, distance is linear; further out it is logarithmic.
const BEND: f64 = 3.2;
/// Prototypes of a view at most. Bent as it is, the line seldom needs as many.
const PROTOTYPES_MAX: usize = 64;
/// A gap within what was seen is less new than what lies beyond.
const WITHIN: f64 = 0.75;
/// Numbers a view has to know before one can be new to it: of the first, each is far from all others.
const FEW: u32 = 10;
/// The number itself, beside what its hour brings, which counts in full.
const PLAIN: f64 = 0.8;
/// Numbers of the smoothed view, and what it counts.
const SMOOTHED_OVER: usize = 5;
const SMOOTHED: f64 = 0.35;
/// What is further than this from all that was seen is an alarm to its view, and makes it less believed,
const ALARM: f64 = 1.2;
/// by so much,
const DISBELIEF: f64 = 0.4;
/// for about so many windows.
const REMEMBERED: f64 = 500.0;
/// Half of mean and deviation is of so many windows. Long: a deviation that follows quickly makes the old new again.
const HALF_LIFE: f64 = 1_000.0;
const RATE: f64 = std::f64::consts::LN_2 / HALF_LIFE;
/// Weight of the newest number in the profile of its hour.
const PROFILE_RATE: f64 = 0.04;
/// The deviation of an hour is that of all hours until about so many numbers of it were seen.
const HOUR_SHRINKAGE: f64 = 8.0;
/// A number that stays so near to one that was told of is not told again for its hour.
const STAYS: f64 = 2.0 * RADIUS;
/// Distance that scores a half.
const HALF_SCORE: f64 = 0.18;

/// Settings of the cover: the novelty of a number among all that its series ever showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CoverConfig {
    /// Windows seen before the first judgement.
    pub warmup: usize,
}

impl Default for CoverConfig {
    fn default() -> Self {
        Self { warmup: 20 }
    }
}

/// The cover of one series. Its memory does not grow with the series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cover {
    plain: View,
    by_hour_of_day: View,
    by_hour_of_week: View,
    smoothed: View,
    day: Profile,
    week: Profile,
    /// The newest numbers, oldest first.
    last: Vec<f64>,
    /// Windows until none of these was new.
    unsettled: u8,
    /// The newest number that was new, as long as the series stays near it.
    told: Option<f64>,
    reached: Reached,
}

impl Default for Cover {
    fn default() -> Self {
        let view = View::default();
        Self {
            plain: view.clone(),
            by_hour_of_day: view.clone(),
            by_hour_of_week: view.clone(),
            smoothed: view,
            day: Profile::new(24),
            week: Profile::new(7 * 24),
            last: Vec::with_capacity(SMOOTHED_OVER),
            unsettled: 0,
            told: None,
            reached: Reached::default(),
        }
    }
}

impl Cover {
    /// Judges the next number by those before it, then learns it. None during warm-up.
    ///
    /// The expectation is what the hour usually brings, and the band spans the deviations from it that were seen.
    /// Within the band, too, a number can be new: for lying where none lay, or together with the ones before.
    pub(crate) fn judge(
        &mut self,
        start_millis: i64,
        observed: f64,
        config: &CoverConfig,
        limits: &Limits,
    ) -> Option<Reading> {
        let is_judged = !self.is_warming_up(config);
        let hour = start_millis.div_euclid(3_600_000).rem_euclid(7 * 24) as usize;
        let (of_day, of_week) = (self.day.usual(hour % 24), self.week.usual(hour));
        let ((expected, scale), band) = [(of_week, &self.by_hour_of_week), (of_day, &self.by_hour_of_day)]
            .into_iter()
            .find_map(|(usual, view)| usual.filter(|_| view.moments.learnt >= FEW).map(|usual| (usual, view)))
            .unwrap_or(((0.0, 1.0), &self.plain));
        let edges = band.span().map(|deviation| expected + scale * deviation);
        let (expected, deviation) = (expected + scale * band.moments.mean, scale * band.deviation());

        // What its hour and the numbers before it bring moves with each number learnt. Who stays is not told of again.
        let stays = self.told.is_some_and(|told| self.plain.between(told, observed) < STAYS);
        let learnt = self.plain.bounded(observed);
        let plain = PLAIN * self.plain.novelty(observed);
        let by_day = of_day.map(|(mean, scale)| self.by_hour_of_day.novelty((observed - mean) / scale));
        let by_week = of_week.map(|(mean, scale)| self.by_hour_of_week.novelty((observed - mean) / scale));
        let by_hour = match (by_day, by_week) {
            (Some(by_day), Some(by_week)) => by_day.min(by_week),
            (by_day, by_week) => by_day.or(by_week).unwrap_or(0.0),
        };
        self.day.learn(hour % 24, learnt);
        self.week.learn(hour, learnt);
        let smoothed = self.smoothed_novelty(observed);
        let mut new = if stays { plain } else { plain.max(by_hour) };
        if new > HALF_SCORE {
            (self.unsettled, self.told) = (SMOOTHED_OVER as u8, Some(observed));
        } else if !stays {
            self.told = None;
        }
        // The mean of numbers of which one was new is new as well, and nothing more to tell.
        if self.unsettled == 0 && !stays {
            new = new.max(SMOOTHED * smoothed);
        }
        self.unsettled = self.unsettled.saturating_sub(1);
        if !is_judged {
            return None;
        }
        let score = new / (new + HALF_SCORE);
        let tail_probability = self.reached.share(score);
        self.reached.count(score);
        let z_score = (observed - expected) / deviation;
        let [lower, upper] = limits.band(edges);
        Some(Reading {
            observed,
            expected,
            lower,
            upper,
            score,
            z_score,
            tail_probability,
            false_alarms_per_year: tail_probability * limits.tests_per_year,
            weight: 1.0,
            horizon: 1,
            unusual: score >= limits.threshold && limits.watches(z_score),
        })
    }

    fn smoothed_novelty(&mut self, observed: f64) -> f64 {
        if self.last.len() == SMOOTHED_OVER {
            self.last.remove(0);
        }
        self.last.push(observed);
        if self.last.len() < SMOOTHED_OVER {
            return 0.0;
        }
        self.smoothed.novelty(self.last.iter().sum::<f64>() / SMOOTHED_OVER as f64)
    }

    pub(crate) fn is_warming_up(&self, config: &CoverConfig) -> bool {
        (self.plain.moments.learnt as usize) < config.warmup
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let views = [&self.plain, &self.by_hour_of_day, &self.by_hour_of_week, &self.smoothed];
        let numbers = views.iter().map(|view| view.prototypes.capacity()).sum::<usize>() + self.last.capacity();
        let hours = self.day.hours.capacity() + self.week.hours.capacity();
        numbers * size_of::<f64>() + hours * size_of::<Hour>()
    }
}

/// One way to look at a series.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct View {
    moments: Moments,
    /// What was seen, in order of size.
    prototypes: Vec<f64>,
    /// The alarms of late, the older the less.
    alarms: f64,
}

impl View {
    /// How new a number is, the view's credit reckoned in; then it is known.
    fn novelty(&mut self, value: f64) -> f64 {
        let at = self.prototypes.partition_point(|known| *known < value);
        let distance = self.distance(value, at);
        let weight = if at == 0 || at == self.prototypes.len() { 1.0 } else { WITHIN };
        let new = if self.moments.learnt < FEW { 0.0 } else { weight * distance };
        if distance > RADIUS {
            self.prototypes.insert(at, value);
            if self.prototypes.len() > PROTOTYPES_MAX {
                self.merge_nearest();
            }
        }
        self.moments.learn(self.bounded(value), RATE);
        let believed = new / (1.0 + DISBELIEF * self.alarms);
        self.alarms *= 1.0 - 1.0 / REMEMBERED;
        if new > ALARM {
            self.alarms += (new / ALARM).sqrt();
        }
        believed
    }

    /// To the nearest prototype of those on either side of `at`: order is kept on the bent line, so it is one of them.
    fn distance(&self, value: f64, at: usize) -> f64 {
        let neighbours = &self.prototypes[at.saturating_sub(1)..(at + 1).min(self.prototypes.len())];
        neighbours.iter().map(|known| self.between(*known, value)).fold(f64::INFINITY, f64::min)
    }

    /// How far two numbers lie apart on the bent line, `c asinh((v - mean) / (c sd))`. As one logarithm: `asinh` of
    /// each takes three times as long.
    fn between(&self, one: f64, other: f64) -> f64 {
        let unit = 1.0 / (BEND * self.deviation());
        let (one, other) = ((one - self.moments.mean) * unit, (other - self.moments.mean) * unit);
        let grown = |place: f64| place.abs() + (place * place + 1.0).sqrt();
        let ratio = if (one < 0.0) == (other < 0.0) { grown(one) / grown(other) } else { grown(one) * grown(other) };
        BEND * ratio.ln().abs()
    }

    fn deviation(&self) -> f64 {
        self.moments.deviation().max(self.moments.mean.abs() * 1e-9).max(1e-12)
    }

    /// A number as it is learnt: so far out at most that the variance doubles, for one absurd number must not blind.
    fn bounded(&self, value: f64) -> f64 {
        if self.moments.learnt <= 20 || self.moments.variance == 0.0 {
            return value;
        }
        let weight = (1.0 / f64::from(self.moments.learnt.saturating_add(1))).max(RATE);
        let reach = self.deviation() / weight.sqrt();
        value.clamp(self.moments.mean - reach, self.moments.mean + reach)
    }

    /// Of the two prototypes nearest to each other one is enough; the smallest and the largest stay.
    fn merge_nearest(&mut self) {
        let gap = |at: &usize| self.between(self.prototypes[*at], self.prototypes[*at + 1]);
        let nearest = (0..self.prototypes.len() - 1).min_by(|a, b| gap(a).total_cmp(&gap(b))).unwrap_or(0);
        self.prototypes.remove(nearest.max(1));
    }

    /// The smallest and the largest seen.
    fn span(&self) -> [f64; 2] {
        [
            self.prototypes.first().copied().unwrap_or(f64::NEG_INFINITY),
            self.prototypes.last().copied().unwrap_or(f64::INFINITY),
        ]
    }
}

/// What the hours of a day or a week usually bring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Profile {
    hours: Vec<Hour>,
    /// How far numbers lie from the mean of their hour, over all hours.
    off: f64,
    learnt: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Hour {
    mean: f64,
    /// How far numbers lie from the mean.
    off: f32,
    /// Numbers learnt, up to what makes a difference.
    learnt: u16,
}

impl Profile {
    fn new(hours: usize) -> Self {
        Self { hours: vec![Hour::default(); hours], off: 0.0, learnt: 0 }
    }

    /// The mean of an hour, and how much further numbers lie from it than from those of other hours; none for an hour not
    /// seen.
    fn usual(&self, at: usize) -> Option<(f64, f64)> {
        let hour = &self.hours[at];
        if hour.learnt == 0 {
            return None;
        }
        if self.learnt < 20 || self.off == 0.0 {
            return Some((hour.mean, 1.0));
        }
        let weight = f64::from(hour.learnt).min(1.0 / PROFILE_RATE);
        let off = (weight * f64::from(hour.off) + HOUR_SHRINKAGE * self.off) / (weight + HOUR_SHRINKAGE);
        Some((hour.mean, off / self.off))
    }

    fn learn(&mut self, at: usize, value: f64) {
        let hour = &mut self.hours[at];
        hour.learnt = hour.learnt.saturating_add(1);
        let weight = (1.0 / f64::from(hour.learnt)).max(PROFILE_RATE);
        if hour.learnt > 1 {
            let off = (value - hour.mean).abs();
            self.learnt = self.learnt.saturating_add(1);
            self.off += (1.0 / f64::from(self.learnt)).max(1.0 / 2_000.0) * (off - self.off);
            hour.off += (weight * (off - f64::from(hour.off))) as f32;
        }
        hour.mean += weight * (value - hour.mean);
    }
}

/// How often a series came to which score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Reached {
    /// By sixteenths of the score.
    times: [f32; 16],
    windows: f32,
}

impl Reached {
    /// Old windows count half after so many, a quarter after twice as many.
    const REMEMBERED: f32 = 20_000.0;

    /// Share of windows with a score as high as this, this one counted in.
    fn share(&self, score: f64) -> f64 {
        let higher = self.times[Self::step(score)..].iter().sum::<f32>();
        f64::from(higher + 1.0) / f64::from(self.windows + 1.0)
    }

    fn count(&mut self, score: f64) {
        self.times[Self::step(score)] += 1.0;
        self.windows += 1.0;
        if self.windows >= Self::REMEMBERED {
            self.times.iter_mut().chain([&mut self.windows]).for_each(|times| *times /= 2.0);
        }
    }

    fn step(score: f64) -> usize {
        ((score * 16.0) as usize).min(15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Direction;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Cauchy, Distribution};

    const LIMITS: Limits =
        Limits { threshold: 0.5, direction: Direction::Both, is_sum: false, tests_per_year: 525_960.0 };
    const HOUR_MILLIS: i64 = 3_600_000;

    #[test]
    fn the_nearest_is_that_of_a_plain_search_and_all_that_was_seen_lies_near() {
        let mut random = ChaCha8Rng::seed_from_u64(11);
        let cauchy = Cauchy::new(0.0, 1.0).expect("a width above 0");
        let mut view = View::default();
        for row in 0..5_000 {
            let value: f64 = cauchy.sample(&mut random);
            let at = view.prototypes.partition_point(|known| *known < value);
            let found = view.distance(value, at);
            let bent = |value: f64| BEND * ((value - view.moments.mean) / (BEND * view.deviation())).asinh();
            let plain = view.prototypes.iter().map(|known| (bent(*known) - bent(value)).abs());
            let plain = plain.fold(f64::INFINITY, f64::min);
            assert!(found == plain || (found - plain).abs() < 1e-9, "row {row}: {found} is not {plain}");
            view.novelty(value);
            assert!(view.prototypes.is_sorted() && view.prototypes.len() <= PROTOTYPES_MAX, "row {row}");
        }
        assert!(view.prototypes.len() > 30, "{} prototypes", view.prototypes.len());
    }

    #[test]
    fn a_full_view_keeps_its_ends_and_merges_what_lies_closest() {
        let mut view = View { prototypes: vec![-9.0, -8.9, 0.0, 0.1, 5.0, 9.0], ..View::default() };
        view.moments = Moments { learnt: 100, mean: 0.0, variance: 1.0 };
        view.merge_nearest();
        assert_eq!(view.prototypes, [-9.0, 0.0, 0.1, 5.0, 9.0], "far out the line is bent");
    }

    #[test]
    fn what_is_usual_by_day_is_new_by_night() {
        let (mut cover, mut random) = (Cover::default(), ChaCha8Rng::seed_from_u64(12));
        let mut score = |hour: i64, value: Option<f64>| {
            let day = if (8..20).contains(&(hour % 24)) { 100.0 } else { 10.0 };
            let value = value.unwrap_or_else(|| day + random.random_range(-2.0..2.0));
            cover.judge(hour * HOUR_MILLIS, value, &CoverConfig::default(), &LIMITS).map_or(0.0, |r| r.score)
        };
        for hour in 0..24 * 28 {
            score(hour, None);
        }
        let noon = 24 * 28 + 12;
        assert!(score(noon, Some(100.0)) < 0.5);
        assert!(score(noon + 12, Some(100.0)) > 0.8);
    }

    #[test]
    fn one_absurd_number_does_not_blind() {
        let (mut cover, mut random) = (Cover::default(), ChaCha8Rng::seed_from_u64(13));
        let mut score = |minute: i64, value: f64| {
            cover.judge(minute * 60_000, value, &CoverConfig::default(), &LIMITS).map_or(0.0, |r| r.score)
        };
        for minute in 0..1_000 {
            score(minute, random.random_range(90.0..110.0));
        }
        assert!(score(1_000, 1e30) > 0.9);
        for minute in 1_001..1_010 {
            score(minute, random.random_range(90.0..110.0));
        }
        assert!(score(1_010, 200.0) > 0.5);
    }

    #[test]
    fn scale_offset_and_sign_do_not_matter() {
        let run = |scale: f64, offset: f64| -> Vec<f64> {
            let (mut cover, mut random) = (Cover::default(), ChaCha8Rng::seed_from_u64(14));
            let value = |random: &mut ChaCha8Rng| random.random_range(0..1_000) as f64 / 8.0;
            (0..3_000)
                .map(|minute| {
                    let value = value(&mut random) * scale + offset;
                    cover.judge(minute * 300_000, value, &CoverConfig::default(), &LIMITS).map_or(0.0, |r| r.score)
                })
                .collect()
        };
        let usual = run(1.0, 0.0);
        for (scale, offset) in [(-1.0, 0.0), (1024.0, 0.0), (1.0, 4_096.0)] {
            for (row, (one, other)) in usual.iter().zip(run(scale, offset)).enumerate() {
                assert!((one - other).abs() < 1e-6, "row {row}, {scale} x + {offset}: {other} is not {one}");
            }
        }
    }

    #[test]
    fn how_often_a_score_was_reached_is_counted_and_forgotten_by_half() {
        let mut reached = Reached::default();
        assert_eq!(reached.share(0.9), 1.0, "nothing is known");
        for _ in 0..999 {
            reached.count(0.01);
        }
        assert!((reached.share(0.9) - 0.001).abs() < 1e-9);
        reached.count(0.95);
        assert!((reached.share(0.99) - 2.0 / 1_001.0).abs() < 1e-9, "told by sixteenths");
        for _ in 0..40_000 {
            reached.count(0.01);
        }
        assert!(reached.windows < 20_000.0 && reached.share(0.99) < 1.4 / 10_000.0, "{reached:?}");
    }
}
