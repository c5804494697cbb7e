//! The rules of event time, in one place.

use std::time::Duration;

/// Settings of event time. All in whole milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct TimeRules {
    /// The partition watermark stays this far behind the newest accepted event.
    pub out_of_orderness: Duration,
    /// How long past its end a window still takes events.
    pub allowed_lateness: Duration,
    /// Lateness is judged by windows of this size, for every model alike, so that one flag in silver
    /// says which events are in the panes. A window whose size is a multiple of it is judged exactly.
    pub late_grain: Duration,
    /// How far back in event time an id is remembered.
    pub dedup_horizon: Duration,
}

/// How much may be held in one input partition.
#[derive(Clone, Copy, Debug)]
pub struct StateLimits {
    /// Event ids remembered at most; the oldest go first.
    pub dedup_ids_max: usize,
    /// Groups of one model in one window, or groups with open sessions, at most; further ones are counted together.
    pub groups_max: usize,
    /// Bytes of open windows from which on new groups are counted together.
    pub state_bytes_max: usize,
}

pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

/// How far event time has come in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Clock {
    /// The newest accepted event time.
    pub newest: Option<i64>,
    /// Windows that end at or before this have been sealed by a drain.
    pub sealed_until: Option<i64>,
    /// Events before the first time are late, as long as the newest event is before the second one.
    #[serde(skip)]
    late_before: Option<(i64, i64)>,
}

impl Clock {
    /// Takes an accepted event; says whether it came too late for the panes.
    pub fn observe(&mut self, time: i64, rules: &ClockRules) -> bool {
        let late_before = match self.late_before {
            Some((late_before, until)) if self.newest.is_none_or(|newest| newest < until) => late_before,
            _ => self.judge(rules),
        };
        self.newest = Some(self.newest.map_or(time, |newest| newest.max(time)));
        time < late_before
    }

    /// An event is late when the window of the grain that it lies in, and the lateness after it, ended at or before the
    /// watermark, or when that window was sealed by a drain: so when it lies before a bound, which moves with the grain.
    fn judge(&mut self, rules: &ClockRules) -> i64 {
        let drained = self.sealed_until.map_or(i64::MIN, |sealed| rules.grain_start(sealed));
        let (late_before, until) = match self.watermark(rules) {
            None => (drained, i64::MIN),
            Some(watermark) => {
                let bound = rules.sealed_until(watermark);
                let next = bound.saturating_add(rules.grain).saturating_add(rules.lateness);
                (drained.max(bound), next.saturating_add(rules.out_of_orderness))
            }
        };
        self.late_before = Some((late_before, until));
        late_before
    }

    /// No window that ends at or before `until` takes events any more.
    pub fn seal(&mut self, until: i64) {
        self.sealed_until = self.sealed_until.max(Some(until));
        self.late_before = None;
    }

    pub fn watermark(&self, rules: &ClockRules) -> Option<i64> {
        self.newest.map(|newest| newest.saturating_sub(rules.out_of_orderness))
    }
}

/// [`TimeRules`] in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockRules {
    pub out_of_orderness: i64,
    pub lateness: i64,
    pub grain: i64,
}

impl From<&TimeRules> for ClockRules {
    fn from(rules: &TimeRules) -> Self {
        Self {
            out_of_orderness: millis(rules.out_of_orderness),
            lateness: millis(rules.allowed_lateness),
            grain: millis(rules.late_grain).max(1),
        }
    }
}

impl ClockRules {
    /// When a window that ends at `end` takes no more events.
    pub fn sealed_at(&self, end: i64) -> i64 {
        let end = end.saturating_add(self.grain - 1).div_euclid(self.grain).saturating_mul(self.grain);
        end.saturating_add(self.lateness)
    }

    /// Windows that end at or before this take no more events when the watermark stands here: the inverse of
    /// [`ClockRules::sealed_at`].
    pub fn sealed_until(&self, watermark: i64) -> i64 {
        self.grain_start(watermark.saturating_sub(self.lateness))
    }

    /// Start of the window of the grain that the time lies in.
    fn grain_start(&self, time: i64) -> i64 {
        time.div_euclid(self.grain).saturating_mul(self.grain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const RULES: ClockRules = ClockRules { out_of_orderness: 0, lateness: 0, grain: 60_000 };

    #[test]
    fn an_event_is_late_when_its_window_ended_at_or_before_the_watermark() {
        let mut clock = Clock::default();
        assert!(!clock.observe(59_999, &RULES));
        assert!(!clock.observe(120_000, &RULES));
        assert!(clock.observe(59_999, &RULES), "its minute ended at 60 s and the watermark is at 120 s");
        assert!(clock.observe(119_999, &RULES), "its minute ended exactly at the watermark");
        assert!(!clock.observe(120_000, &RULES));
        let patient = ClockRules { lateness: 1, ..RULES };
        let mut clock = Clock { newest: Some(120_000), ..Clock::default() };
        assert!(!clock.observe(119_999, &patient), "the allowed lateness is not over");
    }

    #[test]
    fn no_event_that_is_not_late_belongs_to_a_sealed_window() {
        for size in [1_000, 60_000, 90_000, 300_000] {
            for watermark in (0..700_000).step_by(7_000) {
                for time in (0..700_000).step_by(3_001) {
                    let mut clock = Clock { newest: Some(watermark), ..Clock::default() };
                    let end = (time / size + 1) * size;
                    if !clock.observe(time, &RULES) {
                        assert!(RULES.sealed_at(end) > watermark, "size {size} watermark {watermark} time {time}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_bound_that_is_remembered_is_the_one_of_the_rule() {
        for seed in 0..50 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let rules = ClockRules {
                out_of_orderness: random.random_range(0..20),
                lateness: random.random_range(0..50),
                grain: random.random_range(1..40),
            };
            let mut clock = Clock::default();
            for step in 0..2_000 {
                let time = i64::from(step) / 3 + random.random_range(-150..30);
                let end = (time.div_euclid(rules.grain) + 1) * rules.grain;
                let late = clock.watermark(&rules).is_some_and(|w| end + rules.lateness <= w)
                    || clock.sealed_until.is_some_and(|sealed| end <= sealed);
                assert_eq!(clock.observe(time, &rules), late, "seed {seed}, step {step}: {clock:?}, {rules:?}");
                if random.random_bool(0.002) {
                    clock.seal(time);
                }
            }
        }
    }
}
