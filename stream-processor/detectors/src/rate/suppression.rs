//! One anomaly, one alarm: who else is told of, what is not learnt meanwhile, and which sums begin anew.

use super::span::Span;
use crate::NodeId;
use serde::{Deserialize, Serialize};

/// A number that is unusual in this window, before it is known whether it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) node: NodeId,
    pub(crate) metric: usize,
    pub(crate) horizon: usize,
    pub(crate) score: f64,
    /// The test as it was before the window was learnt.
    pub(crate) span: Span,
    pub(crate) observed: f64,
}

/// The loudest alarm of the last hour that a series had a part in.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Stamp {
    window: u32,
    score: f32,
    metric: u16,
}

/// A score that no echo of an ordinary alarm has.
const LOUD: f32 = 12.0;
/// Hours after which the echoes of a louder one are half as loud.
const ECHO_HALF_LIFE: f32 = 1.0 / 12.0;

impl Stamp {
    pub(crate) fn new(window: u32, score: f64, metric: usize) -> Self {
        Self { window, score: score as f32, metric: metric as u16 }
    }

    /// Which metric it was of.
    pub(crate) fn metric(&self) -> usize {
        self.metric.into()
    }

    /// Whether it silences a score: within an hour, of `hour` windows, only a louder one is told. Of a very loud alarm the
    /// echoes die away: something else that is loud may follow it, at once where it is of other numbers.
    pub(crate) fn silences(&self, window: u32, hour: u32, score: f64, is_related: bool) -> bool {
        let past = window - self.window;
        let echo = match is_related {
            true => self.score * (-(past as f32) / (hour as f32 * ECHO_HALF_LIFE)).exp2(),
            false => 0.0,
        };
        self.score > 0.0 && past < hour && score as f32 <= echo.max(self.score.min(LOUD))
    }
}

/// When a series is not learnt because something is wrong with it.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Freeze {
    since: u32,
    until: u32,
}

impl Freeze {
    pub(crate) fn holds(&self, window: u32) -> bool {
        window < self.until
    }

    /// Begins it, or makes it longer: an hour from now, `hours_max` in all. What lasts longer is learnt: it is how things
    /// are now, and after it half a day has to pass until it can begin again.
    pub(crate) fn extend(&mut self, window: u32, hour: u32, hours_max: u32) {
        if !self.holds(window) {
            let was_long = self.until - self.since >= hours_max * hour;
            if was_long && window < self.until + 12 * hour {
                return;
            }
            *self = Self { since: window, until: window };
        }
        self.until = self.until.max((window + hour).min(self.since + hours_max * hour) + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_ends_after_its_longest_and_rests() {
        let mut freeze = Freeze::default();
        let frozen = (100..1_500).filter(|window| {
            freeze.extend(*window, 60, 4);
            freeze.holds(window + 1)
        });
        assert_eq!(frozen.count(), 2 * 240, "four hours, half a day of rest, four hours");
    }

    #[test]
    fn only_a_louder_alarm_is_told_within_the_hour() {
        let stamp = Stamp::new(10, 6.0, 0);
        assert!(
            stamp.silences(69, 60, 6.0, true)
                && !stamp.silences(69, 60, 6.1, true)
                && !stamp.silences(70, 60, 5.0, true)
        );
        assert!(!Stamp::default().silences(3, 60, 1.0, true));
        let loud = Stamp::new(10, 160.0, 0);
        assert!(
            loud.silences(12, 60, 100.0, true)
                && loud.silences(25, 60, 19.0, true)
                && !loud.silences(25, 60, 40.0, true)
        );
        assert!(
            loud.silences(69, 60, 12.0, true) && !loud.silences(69, 60, 13.0, true),
            "echoes of nothing much stay silent"
        );
    }
}
